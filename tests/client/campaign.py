"""One billed call against a service that fails in every way, on a clock that costs nothing; made from a seed.

The service takes from 0 to 60 s for a session, lists it only when it is ready (or at once), and opens it whether or
not the caller still listens. Callers give up at any moment, and once more while they close the client. What is counted
in the end: billed requests that left after the caller had gone, sessions opened twice by one call, and sessions that
run and that nobody was told of.

Left out: connections (every request is taken to have left, as one is whose transport does not say), other callers of
the same account, and a service that needs more than 60 s.
"""

import asyncio
import contextlib
import json
import logging
import random
import selectors
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

from agenthuman_plugins.client import AgentHuman, AgentHumanError, AsyncAgentHuman, SessionOutcomeUnknownError
from agenthuman_plugins.client._config import Clock
from tests.client.conftest import API_KEY, ROOM, FakeService, Reply, _ok

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
TOO_MANY_BODY = {"success": False, "error": "Too many requests. Please retry after 1 minute."}
TOO_MANY = Reply(429, TOO_MANY_BODY)
LIMITED = (TOO_MANY, *(Reply(429, TOO_MANY_BODY, {"Retry-After": asked}) for asked in ("1", "7", "40")))
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


Call = Literal["create", "open", "link"]


@dataclass(frozen=True)
class Plan:
    """One scenario.

    Attributes:
        seed: What it is made from.
        call: Which billed call is made.
        metadata: What the service does with the reference: `kept`, `omitted` (in the list), `dropped`, `refused`.
        listed_early: Whether a session is listed before it is ready.
        attempts: What becomes of each request.
        lookups: What becomes of each look-up.
        gives_up_at: When the caller gives up, if it does.
        closes: Whether it then closes the client, or goes on living.
        gives_up_closing_after: When it gives that up, too.
        time_limit_s: Of the call.
    """

    seed: int
    call: Call
    metadata: str
    listed_early: bool
    attempts: tuple[Attempt, ...]
    lookups: tuple[Failure, ...]
    gives_up_at: float | None
    closes: bool
    gives_up_closing_after: float | None
    time_limit_s: float | None

    @classmethod
    def of(cls, seed: int, *, link: bool) -> "Plan":
        chance = random.Random(seed)
        # In the first moments, or at any.
        moments = (None, chance.uniform(0, 3), chance.uniform(0, 70))
        return cls(
            seed=seed,
            call="link" if link else "open" if chance.random() < 0.3 else "create",
            metadata=chance.choice(("kept", "kept", "omitted", "dropped", "refused")),
            listed_early=chance.random() < 0.5,
            attempts=tuple(_attempt(chance) for _ in range(6)),
            # At most two in a row, since a call is sent three times.
            lookups=tuple(
                failure
                for _ in range(40)
                for failure in (*chance.choices(PASSING, k=chance.choice((0, 0, 0, 1, 2))), None)
            ),
            gives_up_at=chance.choice(moments),
            closes=chance.random() < 0.5,
            gives_up_closing_after=chance.choice((None, chance.uniform(0, 10))),
            time_limit_s=chance.choice((None, chance.uniform(0.1, 6), chance.uniform(6, 90))),
        )

    @property
    def lives_on(self) -> bool:
        """Whether the program is there long enough to end whatever comes."""
        return not self.closes

    @property
    def can_be_found(self) -> bool:
        """Whether a session whose answer was lost can be told from others."""
        return self.call != "link" and self.metadata in {"kept", "omitted"}


def _attempt(chance: random.Random) -> Attempt:
    step = chance.choice(("done", "done", "connect", "refused", "limited", *LOST))
    work_s = chance.choice((chance.uniform(0, 3), chance.uniform(0, 60)))
    answer_s = chance.uniform(0, 4)
    match step:
        case "done":
            return Attempt(step, None, processed=True, work_s=work_s, answer_s=work_s + answer_s / 4)
        case "connect":
            return Attempt(step, chance.choice(NEVER_CONNECTED), processed=False, work_s=0, answer_s=answer_s)
        case "refused":
            failure = Reply(
                chance.choice((400, 401, 403, 409)), {"success": False, "error": {"message": "No"}}
            )
            return Attempt(step, failure, processed=False, work_s=0, answer_s=answer_s)
        case "limited":
            return Attempt(step, chance.choice(LIMITED), processed=False, work_s=0, answer_s=answer_s)
        case _:
            # The session may be opened before the answer is lost, or long afterwards.
            failure = chance.choice(LOST[step])  # type: ignore[arg-type] - each is a tuple of failures
            return Attempt(step, failure, processed=chance.random() < 0.6, work_s=work_s, answer_s=answer_s)


BILLED = {"/v1/sessions", "/v1/links/start-session"}


class Service(FakeService):
    """A service that follows a plan.

    Args:
        plan: The plan.
        now: Its clock.
        later: Runs something after so many seconds, come what may.
    """

    def __init__(
        self, plan: Plan, now: Callable[[], float], later: Callable[[float, Callable[[], None]], object]
    ) -> None:
        super().__init__()
        self.list_omits_metadata = plan.metadata == "omitted"
        self.keeps_metadata = plan.metadata != "dropped"
        self.steps: list[str] = []
        self.billed_at: list[float] = []
        self._refuses_metadata = plan.metadata == "refused"
        self._listed_early = plan.listed_early
        self._attempts = iter(plan.attempts)
        self._lookups = iter(plan.lookups)
        self._now = now
        self._later = later

    def receive(self, request: httpx.Request) -> tuple[float, Callable[[], httpx.Response]]:
        """Take a request; return how long the answer takes, and what makes it (or raises)."""
        if request.method != "POST" or request.url.path not in BILLED:
            failure = next(self._lookups, None)
            return 0.05, lambda: self._answer(request, failure)
        self.billed_at.append(self._now())
        attempt = next(self._attempts)
        self.steps.append(f"{attempt.step} {'after' if attempt.processed else 'before'} processing")
        if self._refuses_metadata and b'"metadata"' in request.content and attempt.step != "connect":
            return attempt.answer_s, NO_METADATA.response
        answers: list[httpx.Response] = []
        if attempt.processed:
            self._later(
                0 if self._listed_early else attempt.work_s, lambda: answers.append(self._process(request))
            )
        return (
            attempt.answer_s,
            lambda: answers[0] if attempt.failure is None else _raise_or_reply(attempt.failure, request),
        )

    def _process(self, request: httpx.Request) -> httpx.Response:
        if request.url.path != "/v1/links/start-session":
            return super()._process(request)
        self._create({"metadata": {}, **json.loads(request.content)})
        return _ok(session_id=next(reversed(self.sessions)), livekit_url="wss://rooms.example.com")

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
    late: int  # billed requests that left after the caller had gone
    log: list[str]
    steps: list[str] = field(default_factory=list)

    @property
    def leaked(self) -> int:
        """Sessions that run and that nobody was told of: not by the result, an error, or a line in the log."""
        return max(0, self.running - self.known)

    @property
    def only_logged(self) -> bool:
        """Whether only the log names a session that runs."""
        return self.running > 0 and self.ending == "gave up"


def _judge(
    plan: Plan, service: Service, ending: BaseException | None, left_at: float, log: list[str]
) -> Outcome:
    returned = ending is None
    named = (
        (returned and plan.call != "open")
        or isinstance(ending, SessionOutcomeUnknownError)
        or (not returned and any(REF in line or "sess_1" in line or "given up" in line for line in log))
    )
    return Outcome(
        plan,
        "returned"
        if returned
        else type(ending).__name__
        if isinstance(ending, AgentHumanError)
        else "gave up",
        opened=len(service.sessions),
        running=len(service.running),
        known=int(named),
        late=sum(at > left_at for at in service.billed_at),
        log=log,
        steps=service.steps,
    )


class Threads:
    """Time for several threads: it moves only when all of them wait, to where the next of them goes on."""

    def __init__(self) -> None:
        self.now = 0.0
        self._changed = threading.Condition(threading.RLock())
        self._busy = 1
        self._waiting: list[tuple[float, threading.Event | None]] = []
        self._due: list[tuple[float, Callable[[], None]]] = []
        self._caller = threading.current_thread()
        self.strikes: list[float] = []  # when Ctrl-C comes, in the caller's thread

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        with self._changed:
            self._due.append((self.now + seconds, action))

    def event(self) -> threading.Event:
        changed = self._changed

        class Event(threading.Event):
            def set(self) -> None:
                with changed:
                    super().set()
                    changed.notify_all()

        return Event()

    def start(self, work: Callable[[], None], name: str) -> None:
        def run() -> None:
            try:
                work()
            finally:
                with self._changed:
                    self._busy -= 1
                    self._changed.notify_all()

        with self._changed:
            self._busy += 1
        threading.Thread(target=run, name=name, daemon=True).start()

    def sleep(self, seconds: float) -> None:
        self.wait(None, seconds)

    def wait(self, event: threading.Event | None, seconds: float) -> bool:
        with self._changed:
            mine = (self.now + seconds, event)
            self._waiting.append(mine)
            self._busy -= 1
            try:
                while True:
                    if threading.current_thread() is self._caller and self._is_struck():
                        self.strikes.pop(0)
                        raise KeyboardInterrupt
                    if event is not None and event.is_set():
                        return True
                    if self.now >= mine[0]:
                        return False
                    if self._busy == 0 and not any(map(self._can_go_on, self._waiting)):
                        self._move()
                        self._changed.notify_all()
                    else:
                        assert self._changed.wait(HANG_S), "a thread hangs"
            finally:
                self._busy += 1
                self._waiting.remove(mine)

    def _is_struck(self) -> bool:
        return bool(self.strikes) and self.strikes[0] <= self.now

    def _can_go_on(self, waiting: tuple[float, threading.Event | None]) -> bool:
        until, event = waiting
        return until <= self.now or (event is not None and event.is_set()) or self._is_struck()

    def _move(self) -> None:
        moments = [until for until, _ in self._waiting] + [at for at, _ in self._due] + self.strikes[:1]
        self.now = max(self.now, min(moments))
        due = [action for at, action in self._due if at <= self.now]
        self._due = [item for item in self._due if item[0] > self.now]
        for action in due:
            action()


HANG_S = 20.0  # hang limit only, of real time
LONG_S = 1_000.0  # what the service and the client still had to do


def run_sync(seed: int, *, link: bool = False) -> Outcome:
    """Run a scenario with the blocking client; giving up is a KeyboardInterrupt."""
    plan = Plan.of(seed, link=link)
    time = Threads()
    service = Service(plan, lambda: time.now, time.later)

    def handle(request: httpx.Request) -> httpx.Response:
        delay, answer = service.receive(request)
        time.sleep(delay)
        return answer()

    ending: BaseException | None = None
    with _logged() as log, httpx.Client(transport=httpx.MockTransport(handle), trust_env=False) as http:
        clock = Clock(
            monotonic=lambda: time.now,
            wall=lambda: time.now,
            random=random.Random(seed).random,
            sleep=time.sleep,
            event=time.event,
            wait=time.wait,
            start=time.start,
            new_ref=lambda: REF,
            owner=lambda: None,
        )
        client = AgentHuman(api_key=API_KEY, http_client=http, _clock=clock)
        time.strikes = [] if plan.gives_up_at is None else [plan.gives_up_at]
        try:
            if plan.call == "open":
                with client.sessions.open(room=ROOM, timeout=plan.time_limit_s):
                    time.sleep(1)
            elif plan.call == "create":
                client.sessions.create(room=ROOM, timeout=plan.time_limit_s)
            else:
                client.links.start_session("lnk_of_the_campaign", timeout=plan.time_limit_s)
        except (AgentHumanError, KeyboardInterrupt) as error:
            ending = error
        left_at = time.now
        again = plan.gives_up_closing_after
        time.strikes = [] if again is None or not plan.closes else [time.now + again]
        if plan.closes:
            with contextlib.suppress(KeyboardInterrupt):
                client.close()
        time.strikes = []
        time.sleep(LONG_S)
    return _judge(plan, service, ending, left_at, log)


def run_async(seed: int, *, link: bool = False) -> Outcome:
    """Run a scenario with the async client; giving up is a cancellation or a time limit around the call."""
    plan = Plan.of(seed, link=link)
    selector = _Instant()
    with closing(asyncio.SelectorEventLoop(selector)) as loop:
        loop.time = lambda: selector.now  # type: ignore[method-assign]
        return loop.run_until_complete(_run_async(plan, loop))


async def _run_async(plan: Plan, loop: asyncio.AbstractEventLoop) -> Outcome:
    service = Service(plan, loop.time, loop.call_later)

    async def handle(request: httpx.Request) -> httpx.Response:
        delay, answer = service.receive(request)
        await asyncio.sleep(delay)
        await asyncio.sleep(0)  # what is due at the same moment comes first
        return answer()

    ending: BaseException | None = None
    with _logged() as log:
        async with httpx.AsyncClient(transport=httpx.MockTransport(handle), trust_env=False) as http:
            clock = Clock(
                monotonic=loop.time,
                wall=loop.time,
                random=random.Random(plan.seed).random,
                new_ref=lambda: REF,
                owner=lambda: None,
            )
            client = AsyncAgentHuman(api_key=API_KEY, http_client=http, _clock=clock)
            task = asyncio.ensure_future(_use(client, plan))
            # An even seed cancels the task; an odd one puts a time limit around the call.
            if plan.gives_up_at is not None and plan.seed % 2 == 0:
                loop.call_later(plan.gives_up_at, task.cancel)
            try:
                await task
            except (AgentHumanError, asyncio.CancelledError, TimeoutError) as error:
                ending = error
            left_at = loop.time()
            if plan.closes:
                closes = asyncio.ensure_future(client.aclose())
                if plan.gives_up_closing_after is not None:
                    loop.call_later(plan.gives_up_closing_after, closes.cancel)
                await asyncio.wait([closes])
            await asyncio.sleep(LONG_S)
    return _judge(plan, service, ending, left_at, log)


async def _use(client: AsyncAgentHuman, plan: Plan) -> None:
    async with asyncio.timeout(plan.gives_up_at if plan.seed % 2 else None):
        if plan.call == "open":
            async with client.sessions.open(room=ROOM, timeout=plan.time_limit_s):
                await asyncio.sleep(1)
        elif plan.call == "create":
            await client.sessions.create(room=ROOM, timeout=plan.time_limit_s)
        else:
            await client.links.start_session("lnk_of_the_campaign", timeout=plan.time_limit_s)


class _Instant(selectors.SelectSelector):
    """A selector for loops that have nothing to wait for but their own timers: time jumps to the next one."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "everything waits, and nothing will ever happen"
        ready = super().select(0)
        if not ready:
            self.now += timeout
        return ready


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
        f"billed requests after the caller gave up   {sum(outcome.late for outcome in outcomes):>6}",
        f"sessions opened                            {sum(outcome.opened for outcome in outcomes):>6}",
        f"  opened twice by one call                 {sum(outcome.opened > 1 for outcome in outcomes):>6}",
        f"  ended by the client                      {sum(outcome.opened - outcome.running for outcome in outcomes):>6}",
        f"  running, known to the caller             {sum(min(o.running, o.known) for o in outcomes):>6}",
        f"    named in the log only                  {sum(outcome.only_logged for outcome in outcomes):>6}",
        f"  running, unknown to everybody            {sum(outcome.leaked for outcome in outcomes):>6}",
        "faults, by where they struck:",
        *(f"  {step:<40} {count:>6}" for step, count in sorted(steps.items())),
        "how the calls ended:",
        *(f"  {ending:<40} {count:>6}" for ending, count in sorted(endings.items())),
    ]
