"""The faults, and one conversation that each of them strikes.

The bot says three replies. The fault strikes in the first one (or before it); the second one is said while the
fault lasts; the third one when its cause is gone and the avatar is back.
"""

import asyncio
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipecat.frames.frames import EndFrame, ErrorFrame, Frame, StopFrame, TTSAudioRawFrame
from pipecat.utils.errors import ErrorCategory

from tests.pipecat.faults.chain import IMPATIENT_S, PATIENT_S, Chain
from tests.pipecat.faults.odd_avatar import CHANGING_SIZE, MALFORMED_REPORTS
from tests.pipecat.faults.words import WORD_S, heard, spoken

REPLIES = {"struck": 10, "during": 3, "after": 3}  # words of each
_BEGUN_FRAMES = 10  # by then the avatar is in mid-reply
_TIMES_OF_ALL_ATTEMPTS = 3  # the client's default

# How long a word may be, of 0.2 s: the jitter buffer shortens and stretches sound. Where packets stop coming it makes
# up more of the same, and behind that the word goes on, as plain audio, from where it was.
_SHORTEST_S, _LONGEST_S = 0.06, 0.6
SILENCE_LIMIT_S = IMPATIENT_S + 1.0  # the time-out, and a second in which to speak again

Strike = Callable[[Chain], Awaitable[object]]


@dataclass(frozen=True)
class Fault:
    """A row of the matrix.

    Attributes:
        name: What goes wrong.
        strike: Makes it go wrong.
        cure: Takes the cause away; `None` if it is gone at once.
        category: Of the one error; `None` if there is nothing that the bot cannot cope with.
        before: Whether it strikes before the bot is started.
        recovers: Whether the avatar can come back.
        emulator_apart: Whether the emulator has to be a process.
        network_apart: Whether the network has to be one of its own.
        oddity: What is odd about the avatars from the start.
        options: What is set at the emulator.
        ready: What is waited for before the struck reply is said.
        falls_back: Whether plain audio takes over; `None`: if there is an error.
    """

    name: str
    strike: Strike
    cure: Strike | None = None
    category: ErrorCategory | None = ErrorCategory.CONNECTIVITY
    before: bool = False
    recovers: bool = True
    emulator_apart: bool = False
    network_apart: bool = False
    oddity: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    ready: Strike | None = None
    falls_back: bool | None = None

    @property
    def plain(self) -> bool:
        """Whether plain audio takes over."""
        return self.category is not None if self.falls_back is None else self.falls_back


@dataclass
class Outcome:
    """What became of the conversation.

    Attributes:
        said: Words of each reply, with the seconds of each.
        silence_s: For how long the listener waited in the struck reply.
        errors: Categories of the errors.
        fallbacks: How often the application was told that plain audio takes over.
        recovered: Whether the avatar spoke the last reply.
        left_open: Sessions that nobody ended.
    """

    said: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    silence_s: float = 0.0
    errors: list[str] = field(default_factory=list)
    fallbacks: int = 0
    recovered: bool = False
    left_open: int = 0


async def converse(fault: Fault, room_server_kind: str) -> Outcome:
    """Hold the conversation, with the fault in it."""
    outcome = Outcome()
    chain = Chain(
        room_server_kind, own_process=fault.emulator_apart, oddity=fault.oddity, options=fault.options
    )
    async with chain:
        if fault.before:
            await fault.strike(chain)
        async with chain.running_bot() as bot:
            if not fault.before or not fault.plain:
                await bot.until_event("on_avatar_connected")
            if fault.ready is not None:
                await fault.ready(chain)
            chain.ear.listen("struck")
            await _say(chain, "struck")
            if not fault.before:
                await bot.down.until(lambda: len(bot.down.of(TTSAudioRawFrame)) >= _BEGUN_FRAMES)
                if fault.plain:
                    await chain.set_patience(IMPATIENT_S)
                chain.ear.listen("struck")
                await fault.strike(chain)
            if fault.plain:
                await chain.until_event("on_fallback_started")
            await bot.until_stopped("struck")
            outcome.silence_s = chain.ear.gap_s
            await _say(chain, "during")
            await bot.until_stopped("during")
            if fault.cure is not None:
                await fault.cure(chain)
            if fault.category is not None:
                await chain.until(lambda: bot.up.of(ErrorFrame))
            if fault.plain and fault.recovers:
                await chain.until_event("on_fallback_ended")
            await chain.set_patience(PATIENT_S)
            played = len(bot.events.get("on_playback_started", []))
            await _say(chain, "after")
            await bot.until_stopped("after")
            outcome.recovered = len(bot.events.get("on_playback_started", [])) > played
            outcome.errors = [str(error.category) for error in bot.up.of(ErrorFrame)]
            outcome.fallbacks = len(bot.events.get("on_fallback_started", []))
        outcome.said = {reply: heard(chain.ear.voice(reply)) for reply in REPLIES}
        outcome.left_open = len(chain.open_sessions())
    return outcome


async def _say(chain: Chain, reply: str) -> None:
    await chain.bot.say(spoken(REPLIES[reply]), context_id=reply)


def complaints(fault: Fault, outcome: Outcome) -> list[str]:
    """What of the promises was not kept; the time is for the report to judge."""
    found = []
    for reply, words in REPLIES.items():
        said = outcome.said[reply]
        if [word for word, _ in said] != list(range(words)):
            found.append(f"reply {reply!r} was heard as words {[word for word, _ in said]}")
        odd = [(word, round(s, 2)) for word, s in said if not _SHORTEST_S <= s <= _LONGEST_S]
        if odd:
            found.append(f"in reply {reply!r} these words of {WORD_S} s are cut or stretched: {odd}")
    expected = [] if fault.category is None else [str(fault.category)]
    if outcome.errors != expected:
        found.append(f"errors: {outcome.errors}, not {expected}")
    if outcome.fallbacks != fault.plain:
        found.append(f"{outcome.fallbacks} fallbacks were told")
    if outcome.recovered is not fault.recovers:
        found.append("the avatar is not back" if fault.recovers else "an avatar speaks where none can be")
    if outcome.left_open:
        found.append(f"{outcome.left_open} sessions are left open")
    return found


# What goes wrong


async def _nothing(_: Chain) -> None:
    """It was odd from the start."""


async def _kill_avatar(chain: Chain) -> None:
    chain.avatar_processes[-1].kill()


async def _kill_room_server(chain: Chain) -> None:
    chain.room_server_process.kill()


async def _kill_emulator(chain: Chain) -> None:
    chain.emulator_process.kill()


def _stop_avatar(seconds: float) -> Strike:
    async def strike(chain: Chain) -> None:
        avatar = chain.avatar_processes[-1]
        avatar.suspend()
        chain.later(seconds, lambda: avatar.resume() if avatar.is_running() else None)

    return strike


def _cut_network(seconds: float) -> Strike:
    async def strike(chain: Chain) -> None:
        await _set_network("down")
        chain.later(seconds, lambda: subprocess.run(_link("up"), check=True))

    return strike


async def _set_network(state: str) -> None:
    process = await asyncio.create_subprocess_exec(*_link(state))
    assert await process.wait() == 0


def _link(state: str) -> tuple[str, ...]:
    # Everything between two addresses of one machine goes through `lo`, whatever the addresses.
    return ("ip", "link", "set", "lo", state)


async def _wait_for_later(chain: Chain) -> None:
    await chain.until(lambda: chain.nothing_pending)


def _at_create(fault: str, **details: object) -> Strike:
    return lambda chain: chain.fail(fault, method="POST", path="/v1/sessions", **details)


def _at_end(fault: str, **details: object) -> Strike:
    async def strike(chain: Chain) -> None:
        await chain.fail(fault, method="POST", path="/v1/sessions/*/end", **details)
        await chain.delete_room()  # so that there is something to end

    return strike


def _until_renewal(chain: Chain) -> Awaitable[object]:
    """Shortly before the next session is opened, so that it is opened in the struck reply."""
    due = chain.avatars_sent[0] + _RENEWED_S * 3 / 4 - 0.4
    return chain.until(lambda: time.monotonic() >= due)


async def _kill_before_the_next(chain: Chain) -> None:
    """Kill the avatar that speaks while the next one is asked for, and longer in coming than anybody waits."""
    await chain.fail("delay", method="POST", path="/v1/sessions", delay_s=_SLOW_S)
    await chain.until(lambda: time.monotonic() >= chain.avatars_sent[0] + _RENEWED_S * 3 / 4 + 0.4)
    chain.avatar_processes[0].kill()


async def _until_renewed(chain: Chain) -> None:
    await chain.until(lambda: len(chain.avatars_sent) >= 2 and len(chain.open_sessions()) == 1)


def _run_again(ends: type[Frame]) -> Strike:
    async def strike(chain: Chain) -> None:
        await chain.run_again(ends)
        await chain.until_event("on_avatar_connected", 2)

    return strike


def _change_to_nobody(chain: Chain) -> Awaitable[None]:
    return chain.change_avatar("avat_unknown")


async def _until_refused(chain: Chain) -> None:
    await chain.until(lambda: chain.bot.up.of(ErrorFrame))


_SLOW_S = 4.0  # longer than an avatar that has left is waited for
_RENEWED_S = 16  # a quarter of it is the time for the next avatar to come
_TWO_SLOTS = {"slots": 2}
_HURRY = {"headers": {"Retry-After": "0"}, "times": _TIMES_OF_ALL_ATTEMPTS}
_TOO_LATE_S = 6.0  # beyond the bot's own limit

FAULTS = [
    Fault("avatar killed", _kill_avatar),  # a real server misses it later than we do
    Fault("avatar stopped for 5 s", _stop_avatar(5.0), _wait_for_later),
    Fault("room server killed", _kill_room_server, Chain.restart),
    Fault("emulator killed", _kill_emulator, Chain.restart, emulator_apart=True),
    Fault("room deleted", Chain.delete_room),
    Fault("network cut for 3 s", _cut_network(3.0), _wait_for_later, network_apart=True),
    Fault("network cut for 30 s", _cut_network(30.0), _wait_for_later, network_apart=True),
    Fault(
        "create answered with 401",
        _at_create("status", status=401),
        category=ErrorCategory.AUTHENTICATION,
        before=True,
        recovers=False,
    ),
    Fault(
        "create answered with 403",
        _at_create("status", status=403),
        category=ErrorCategory.AUTHORIZATION,
        before=True,
        recovers=False,
    ),
    Fault(
        "create answered with 429",
        _at_create("status", status=429, **_HURRY),
        category=ErrorCategory.RATE_LIMIT,
        before=True,
    ),
    Fault(
        "create answered with 500",
        _at_create("status", status=500),
        category=ErrorCategory.SERVER,
        before=True,
    ),
    Fault(
        "create answered with 500, and processed",
        _at_create("status", status=500, processed=True),
        before=True,
    ),
    Fault(
        "create answered late",
        _at_create("delay", delay_s=_TOO_LATE_S, processed=True),
        category=None,
        before=True,
        falls_back=True,
    ),
    Fault(
        "create answered late, and processed late",
        _at_create("delay", delay_s=_TOO_LATE_S),
        category=None,
        before=True,
        falls_back=True,
    ),
    Fault("end answered with 401", _at_end("status", status=401)),
    Fault("end answered with 403", _at_end("status", status=403)),
    Fault("end answered with 429", _at_end("status", status=429, **_HURRY)),
    Fault("end answered with 500", _at_end("status", status=500, times=_TIMES_OF_ALL_ATTEMPTS)),
    Fault("end not answered in time", _at_end("delay", delay_s=_TOO_LATE_S)),
    Fault("malformed playback reports", _nothing, category=None, oddity=MALFORMED_REPORTS),
    Fault("stranger in the room with tracks", Chain.let_stranger_in, category=None),
    Fault("picture of changing size", _nothing, category=None, oddity=CHANGING_SIZE),
    # One state of the avatar gives way to the next
    Fault(
        "account full, then a slot freed",
        Chain.take_slot,
        Chain.free_slot,
        category=ErrorCategory.QUOTA,
        before=True,
    ),
    Fault(
        "avatar killed while the next one is on its way",
        _kill_before_the_next,
        _until_renewed,
        ready=_until_renewal,
        options={**_TWO_SLOTS, "expiry": True, "session_limit_s": _RENEWED_S},
    ),
    Fault(
        "create of the next session answered with 500",
        _at_create("status", status=500),
        _until_renewed,
        category=None,
        options={**_TWO_SLOTS, "expiry": True, "session_limit_s": 2 * _RENEWED_S},
    ),
    Fault("ended, and run again", _run_again(EndFrame), category=None),
    Fault("stopped, and run again", _run_again(StopFrame), category=None),
    Fault(
        "platform refused, room server in the environment",
        Chain.offer_own_room_server,
        category=None,
        before=True,
        options={"proxy_rooms": False},
    ),
    Fault(
        "another avatar refused",
        _change_to_nobody,
        _until_refused,
        category=ErrorCategory.INVALID_REQUEST,
        falls_back=False,
        options=_TWO_SLOTS,
    ),
]
