"""One create against a service that fails in every way, on a clock that costs nothing; made from a seed.

The service opens sessions in its own time, whether or not the caller still listens. What is counted in the end:
sessions that were opened, less those that somebody knows of.
"""

import asyncio
import logging
import random
import selectors
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from agenthuman_plugins.client import AgentHuman, AgentHumanError, AsyncAgentHuman, SessionOutcomeUnknownError
from agenthuman_plugins.client._clock import Clock
from tests.client.conftest import API_KEY, ROOM, FakeService, Reply

REF = "ref-of-the-campaign"
LOGGER = logging.getLogger("agenthuman_plugins.client")

NEVER_CONNECTED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
# Where an answer gets lost, and how httpx tells: the service may have done what was asked, or not.
LOST = {
    "send": (httpx.WriteError, httpx.WriteTimeout),
    "wait": (httpx.ReadTimeout, httpx.RemoteProtocolError),
    "read": (httpx.ReadError, httpx.DecodingError),
    "parse": (
        Reply(200, b'{"success": tr'),
        Reply(200, {"success": True}),
        Reply(204, b""),
        Reply(200, b"<html>"),
    ),
    "answer": (Reply(500), Reply(502, b"<html>"), Reply(503, None, {"Retry-After": "2"}), Reply(408)),
}
TOO_MANY = Reply(429, {"success": False, "error": "Too many requests. Please retry after 1 minute."})
NO_METADATA = Reply(400, {"success": False, "error": {"message": "metadata is not supported"}})
PASSING = (
    httpx.ConnectError,
    httpx.ReadTimeout,
    Reply(503),
    TOO_MANY,
)  # faults of a look-up that a retry cures

Failure = type[Exception] | Reply | None


@dataclass(frozen=True)
class Attempt:
    """What becomes of one create on the wire: it arrives or not, is worked on, and is answered or not."""

    step: str
    failure: Failure
    processed: bool
    work_s: float
    answer_s: float


@dataclass(frozen=True)
class Plan:
    """One scenario."""

    seed: int
    uses_open: bool
    metadata: str
    attempts: tuple[Attempt, ...]
    lookups: tuple[Failure, ...]
    interrupted_at: float | None
    interrupted_again_at: float | None
    time_limit_s: float | None

    @classmethod
    def of(cls, seed: int) -> "Plan":
        chance = random.Random(seed)
        interrupted = chance.choice((None, chance.uniform(0, 6)))
        return cls(
            seed=seed,
            uses_open=chance.random() < 0.3,
            metadata=chance.choice(("kept", "kept", "omitted", "dropped", "refused")),
            attempts=tuple(_attempt(chance) for _ in range(6)),
            # At most two in a row, since a call is sent three times.
            lookups=tuple(
                failure
                for _ in range(20)
                for failure in (*chance.choices(PASSING, k=chance.choice((0, 0, 0, 1, 2))), None)
            ),
            interrupted_at=interrupted,
            interrupted_again_at=None
            if interrupted is None
            else chance.choice((None, interrupted + chance.random())),
            time_limit_s=chance.choice((None, None, chance.uniform(0.1, 6))),
        )


def _attempt(chance: random.Random) -> Attempt:
    step = chance.choice(("done", "connect", "refused", "limited", *LOST))
    work_s, answer_s = chance.uniform(0, 3), chance.uniform(0, 4)
    match step:
        case "done":
            return Attempt(step, None, processed=True, work_s=work_s, answer_s=max(work_s, answer_s))
        case "connect":
            return Attempt(step, chance.choice(NEVER_CONNECTED), processed=False, work_s=0, answer_s=answer_s)
        case "refused":
            failure = Reply(
                chance.choice((400, 401, 403, 409)), {"success": False, "error": {"message": "No"}}
            )
            return Attempt(step, failure, processed=False, work_s=0, answer_s=answer_s)
        case "limited":
            return Attempt(step, TOO_MANY, processed=False, work_s=0, answer_s=answer_s)
        case _:
            # The session may be opened before the answer is lost, or up to 3 s afterwards.
            failure = chance.choice(LOST[step])  # type: ignore[arg-type] - each is a tuple of failures
            return Attempt(step, failure, processed=chance.random() < 0.6, work_s=work_s, answer_s=answer_s)


class Service(FakeService):
    """A service that follows a plan. `later` runs something after so many seconds, come what may."""

    def __init__(self, plan: Plan, later: Callable[[float, Callable[[], None]], object]) -> None:
        super().__init__()
        self.list_omits_metadata = plan.metadata == "omitted"
        self.keeps_metadata = plan.metadata != "dropped"
        self.steps: list[str] = []
        self._refuses_metadata = plan.metadata == "refused"
        self._attempts = iter(plan.attempts)
        self._lookups = iter(plan.lookups)
        self._later = later

    def receive(self, request: httpx.Request) -> tuple[float, Callable[[], httpx.Response]]:
        """Take a request; return how long the answer takes, and what makes it (or raises)."""
        if (request.method, request.url.path) != ("POST", "/v1/sessions"):
            failure = next(self._lookups, None)
            return 0.05, lambda: self._answer(request, failure)
        attempt = next(self._attempts)
        self.steps.append(f"{attempt.step} {'after' if attempt.processed else 'before'} processing")
        if self._refuses_metadata and b'"metadata"' in request.content and attempt.step != "connect":
            return attempt.answer_s, NO_METADATA.response
        answers: list[httpx.Response] = []
        if attempt.processed:
            self._later(attempt.work_s, lambda: answers.append(self._process(request)))
        return (
            attempt.answer_s,
            lambda: answers[0] if attempt.failure is None else _raise_or_reply(attempt.failure, request),
        )

    def _answer(self, request: httpx.Request, failure: Failure) -> httpx.Response:
        return self._process(request) if failure is None else _raise_or_reply(failure, request)


def _raise_or_reply(failure: type[Exception] | Reply, request: httpx.Request) -> httpx.Response:
    if isinstance(failure, Reply):
        return failure.response()
    raise failure("lost", request=request)


@dataclass
class Outcome:
    """What became of a scenario."""

    plan: Plan
    ending: str
    opened: int
    running: int
    known: int
    log: list[str]
    steps: list[str] = field(default_factory=list)

    @property
    def leaked(self) -> int:
        """Sessions that run and that nobody was told of: not by the result, an error, or a line in the log."""
        return max(0, self.running - self.known)

    @property
    def only_logged(self) -> bool:
        """Whether only the log names a session that runs."""
        return self.running > 0 and self.ending == "interrupted"


def _judge(
    plan: Plan, service: Service, ending: BaseException | None, returned: bool, log: list[str]
) -> Outcome:
    running = len(service.running)
    named = (
        (returned and not plan.uses_open)
        or isinstance(ending, SessionOutcomeUnknownError)
        or (ending is not None and any(REF in line for line in log))
    )
    name = "returned" if ending is None else "interrupted"
    if isinstance(ending, AgentHumanError):
        name = type(ending).__name__
    elif isinstance(ending, TimeoutError):
        name = "interrupted"
    return Outcome(plan, name, len(service.sessions), running, int(named), log, service.steps)


class _Ticking:
    """A clock for blocking code, with things to happen at their time and an interruption."""

    def __init__(self, interrupted_at: float | None) -> None:
        self.now = 0.0
        self._due: list[tuple[float, Callable[[], None]]] = []
        self._interrupted_at = interrupted_at

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        self._due.append((self.now + seconds, action))

    def sleep(self, seconds: float) -> None:
        until = self.now + seconds
        stop = self._interrupted_at
        if stop is not None and stop <= until:
            self._interrupted_at = None
            self._move(max(self.now, stop))
            raise KeyboardInterrupt
        self._move(until)

    def _move(self, until: float) -> None:
        self.now = until
        due = [action for at, action in self._due if at <= until]
        self._due = [item for item in self._due if item[0] > until]
        for action in due:
            action()


def run_sync(seed: int) -> Outcome:
    """Run a scenario with the blocking client; an interruption is a KeyboardInterrupt."""
    plan = Plan.of(seed)
    time = _Ticking(plan.interrupted_at)
    service = Service(plan, time.later)

    def handle(request: httpx.Request) -> httpx.Response:
        delay, answer = service.receive(request)
        time.sleep(delay)
        return answer()

    ending: BaseException | None = None
    returned = False
    with _logged() as log, httpx.Client(transport=httpx.MockTransport(handle), trust_env=False) as http:
        client = AgentHuman(
            api_key=API_KEY, http_client=http, _clock=_clock(seed, lambda: time.now, sleep=time.sleep)
        )
        try:
            if plan.uses_open:
                with client.sessions.open(room=ROOM, timeout=plan.time_limit_s):
                    time.sleep(1)
            else:
                client.sessions.create(room=ROOM, timeout=plan.time_limit_s)
            returned = True
        except (AgentHumanError, KeyboardInterrupt) as error:
            ending = error
        time._interrupted_at = None
        time.sleep(1_000)  # what the service still had to do
    return _judge(plan, service, ending, returned, log)


def run_async(seed: int) -> Outcome:
    """Run a scenario with the async client; an interruption is a cancellation or a time limit around the call."""
    plan = Plan.of(seed)
    selector = _Instant()
    with closing(asyncio.SelectorEventLoop(selector)) as loop:
        loop.time = lambda: selector.now  # type: ignore[method-assign]
        return loop.run_until_complete(_run_async(plan, loop))


async def _run_async(plan: Plan, loop: asyncio.AbstractEventLoop) -> Outcome:
    service = Service(plan, loop.call_later)

    async def handle(request: httpx.Request) -> httpx.Response:
        delay, answer = service.receive(request)
        await asyncio.sleep(delay)
        await asyncio.sleep(0)  # what is due at the same moment comes first
        return answer()

    ending: BaseException | None = None
    returned = False
    with _logged() as log:
        async with httpx.AsyncClient(transport=httpx.MockTransport(handle), trust_env=False) as http:
            clock = _clock(plan.seed, loop.time, asleep=asyncio.sleep)
            task = asyncio.ensure_future(
                _use(AsyncAgentHuman(api_key=API_KEY, http_client=http, _clock=clock), plan)
            )
            for moment in (plan.interrupted_at, plan.interrupted_again_at):
                # An even seed cancels the task; an odd one puts a time limit around the call.
                if moment is not None and (plan.seed % 2 == 0 or moment == plan.interrupted_again_at):
                    loop.call_later(moment, task.cancel)
            try:
                await task
                returned = True
            except (AgentHumanError, asyncio.CancelledError, TimeoutError) as error:
                ending = error
            await asyncio.sleep(1_000)  # what the service still had to do
    return _judge(plan, service, ending, returned, log)


async def _use(client: AsyncAgentHuman, plan: Plan) -> None:
    async with asyncio.timeout(plan.interrupted_at if plan.seed % 2 else None):
        if plan.uses_open:
            async with client.sessions.open(room=ROOM, timeout=plan.time_limit_s):
                await asyncio.sleep(1)
        else:
            await client.sessions.create(room=ROOM, timeout=plan.time_limit_s)


class _Instant(selectors.SelectSelector):
    """A selector for loops that have nothing to wait for but their own timers: time jumps to the next one."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "everything waits, and nothing will ever happen"
        ready = super().select(0)
        if not ready:
            self.now += timeout
        return ready


def _clock(
    seed: int,
    now: Callable[[], float],
    *,
    sleep: Callable[[float], None] = lambda _: None,
    asleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Clock:
    return Clock(
        monotonic=now,
        wall=now,
        random=random.Random(seed).random,
        sleep=sleep,
        asleep=asleep,
        new_ref=lambda: REF,
        owner=lambda: None,
    )


@contextmanager
def _logged() -> Iterator[list[str]]:
    """Warnings of the client; nobody else sees them meanwhile."""
    lines: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    LOGGER.addHandler(handler)
    before, LOGGER.propagate = LOGGER.propagate, False
    try:
        yield lines
    finally:
        LOGGER.propagate = before
        LOGGER.removeHandler(handler)


def table(outcomes: list[Outcome]) -> list[str]:
    """What happened, for people."""
    steps = Counter(step for outcome in outcomes for step in outcome.steps)
    endings = Counter(outcome.ending for outcome in outcomes)
    return [
        f"scenarios                                  {len(outcomes):>6}",
        f"sessions opened                            {sum(outcome.opened for outcome in outcomes):>6}",
        f"  opened twice by one call                 {sum(outcome.opened > 1 for outcome in outcomes):>6}",
        f"  ended by the client                      {sum(outcome.opened - outcome.running for outcome in outcomes):>6}",
        f"  running, known to the caller             {sum(min(o.running, o.known) for o in outcomes):>6}",
        f"    without kept metadata, in the log only {sum(outcome.only_logged for outcome in outcomes):>6}",
        f"  running, unknown to everybody            {sum(outcome.leaked for outcome in outcomes):>6}",
        "faults of creates, by where they struck:",
        *(f"  {step:<40} {count:>6}" for step, count in sorted(steps.items())),
        "how the calls ended:",
        *(f"  {ending:<40} {count:>6}" for ending, count in sorted(endings.items())),
    ]
