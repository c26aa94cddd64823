"""Speaking through sessions without a toolkit: order, hanging up, and a session that another worker takes over."""

import asyncio
import logging
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from agenthuman_plugins.client import ConfigurationError, SpeechLinkError
from agenthuman_plugins.langchain import _line, _speech
from agenthuman_plugins.langchain._loop import BackgroundLoop
from agenthuman_plugins.langchain._speech import SayError, Speech, Spoken, Wire
from tests.langchain.conftest import own_threads
from tests.langchain.links import LIMIT_S, RATE, Link, tone

ADVICE = "What to do now."
SESSION = "sess_1"
ANOTHER_WORKER = "Another worker of this application speaks through this session now"
ENDED = "The session has been ended"


class Room:
    """Speech over links in this process.

    Attributes:
        links: Every link that was made, in order.
        handed_over: What was reported as handed over, with the thread.
    """

    def __init__(self, tts: Any) -> None:
        self.links: list[Link] = []
        self.failures: list[Exception] = []
        self.hangs = False
        self.handed_over: list[tuple[str, str]] = []
        self.was_handed_over = threading.Event()
        self.loop = BackgroundLoop()
        self.speech = Speech(tts, self.loop, on_handed_over=self._on_handed_over)
        self._made = threading.Condition()

    def wire(self, session_id: str = SESSION, *, one_link: bool = False) -> Wire:
        return Wire(session_id, self._make_link, one_link, ADVICE)

    async def say(self, text: str = "Hello.", *, one_link: bool = False) -> Spoken:
        async with asyncio.timeout(LIMIT_S):
            return await self.speech.aspeak(self.wire(one_link=one_link), text)

    async def refusal(self, text: str = "Hello.") -> str:
        """What a text that is not spoken is refused with."""
        with pytest.raises(SayError) as caught:
            await self.say(text)
        return str(caught.value)

    def saying(self, text: str = "Hello.") -> "asyncio.Task[Spoken]":
        return asyncio.create_task(self.say(text))

    async def link(self, number: int = 0) -> Link:
        """The link with this number, as soon as it connects."""

        def made() -> Link:
            with self._made:
                assert self._made.wait_for(lambda: len(self.links) > number, LIMIT_S)
            assert self.links[number].connecting.wait(LIMIT_S)
            return self.links[number]

        return await asyncio.to_thread(made)

    async def heard(self, number: int = 0) -> Link:
        """The link with this number, as soon as its avatar has something to play."""
        link = await self.link(number)
        assert await asyncio.to_thread(link.heard.wait, LIMIT_S)
        return link

    async def queued(self, calls: int) -> None:
        """Wait until so many calls speak, or wait for their turn."""
        async with asyncio.timeout(LIMIT_S):
            while len(self.speech._lines[SESSION]._calls) < calls:  # noqa: ASYNC110 - a waiting call tells nobody
                await asyncio.sleep(0.01)

    async def hand_over(self, number: int = 0) -> None:
        """Let another participant take the place of a link, and wait until that is known."""
        link = await self.link(number)
        await asyncio.to_thread(lambda: link.lose("The room was lost: duplicate identity.", replaced=True))
        assert await asyncio.to_thread(self.was_handed_over.wait, LIMIT_S)

    def _make_link(self) -> Link:
        with self._made:
            self.links.append(Link(self.failures, hangs=self.hangs))
            self._made.notify_all()
        return self.links[-1]

    def _on_handed_over(self, session_id: str) -> None:
        self.handed_over.append((session_id, threading.current_thread().name))
        self.was_handed_over.set()


def long_or_short(text: str) -> tuple[bytes, int]:
    return tone(30 if text == "long" else 0.1), RATE


Make = Callable[..., Room]


@pytest.fixture
def room() -> Iterator[Make]:
    rooms: list[Room] = []

    def make(tts: Any = long_or_short) -> Room:
        rooms.append(Room(tts))
        return rooms[-1]

    yield make
    for each in rooms:
        each.speech.close()
        each.loop.close()
    assert not own_threads()


class Gated:
    """A voice whose texts are made one by one, when a test lets them."""

    sample_rate = RATE

    def __init__(self) -> None:
        self.gates: dict[str, asyncio.Event] = {}
        self.asked: dict[str, asyncio.Event] = {}

    def _of(self, events: dict[str, asyncio.Event], text: str) -> asyncio.Event:
        return events.setdefault(text, asyncio.Event())

    async def __call__(self, text: str) -> bytes:
        self._of(self.asked, text).set()
        await self._of(self.gates, text).wait()
        return tone(0.1)

    async def until_asked(self, text: str) -> None:
        async with asyncio.timeout(LIMIT_S):
            await self._of(self.asked, text).wait()

    def let(self, text: str) -> None:
        self._of(self.gates, text).set()


# --- handed over


async def test_session_that_was_handed_over_is_left_alone(room: Make) -> None:
    """A link whose place was taken is closed and not made again; that is reported once, on the loop's thread."""
    on = room()
    await on.say()
    await on.hand_over()
    assert on.handed_over == [(SESSION, "agenthuman speech links")]
    assert await asyncio.to_thread(on.links[0].closed.wait, LIMIT_S)
    assert not on.speech.has_link(SESSION)
    assert not on.speech.in_doubt(SESSION)
    assert len(on.links) == 1


async def test_who_speaks_learns_of_the_hand_over(room: Make) -> None:
    """The call that speaks is told how much was heard and who speaks now; a waiting one is told, too; none retries."""
    on = room()
    speaking = on.saying("long")
    await on.heard()
    waiting = on.saying()
    await on.queued(2)
    await on.hand_over()
    for call, told in ((speaking, r"^Only 0\.\d of \d"), (waiting, f"^{ANOTHER_WORKER}")):
        with pytest.raises(SayError, match=told) as caught:
            await call
        assert ANOTHER_WORKER in str(caught.value)
        assert str(caught.value).endswith("Do not retry.")
    assert len(on.links) == 1
    assert len(on.handed_over) == 1


@pytest.mark.parametrize("cut", ["handed over", "hung up"])
async def test_text_that_was_cut_between_two_pieces_was_not_spoken(room: Make, cut: str) -> None:
    """All that a slow voice has made of it so far was heard; the text was cut short all the same."""

    async def slow(text: str) -> AsyncIterator[bytes]:
        yield tone(0.2)
        await asyncio.Event().wait()

    slow.sample_rate = RATE  # type: ignore[attr-defined]
    on = room(slow)
    speaking = on.saying()
    link = await on.heard()
    while link._playout._utterances[0].samples_queued:  # noqa: ASYNC110 - an avatar that waits tells nobody
        await asyncio.sleep(0.01)
    if cut == "handed over":
        await on.hand_over()
        with pytest.raises(SayError, match=ANOTHER_WORKER):
            await speaking
    else:
        await on.speech.ahang_up(SESSION)
        assert (await speaking).interrupted


@pytest.mark.parametrize("first", ["a send fails", "the text is cut"])
async def test_hand_over_that_shows_otherwise_first(
    first: str, room: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call that speaks is told of the hand-over also if it meets a failed send, or the end of its text, before."""
    monkeypatch.setattr(_line, "_REPORT_LIMIT_S", 0.01)
    on = room()

    class Replaced(Link):
        async def send(self, pcm: bytes) -> int:
            if not self.heard.is_set():
                return await super().send(pcm)
            asyncio.get_running_loop().call_later(0.1, self._replace)
            if first == "a send fails":
                raise SpeechLinkError("Speech could not be sent.", retryable=True)
            await super().interrupt()
            return 1

        def _replace(self) -> None:
            self._close("The room was lost: duplicate identity.", lost=True, replaced=True)

    wire = Wire(SESSION, lambda: Replaced([]), one_link=False, advice=ADVICE)
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(SayError, match=ANOTHER_WORKER):
            await on.speech.aspeak(wire, "long")


async def test_hand_over_does_not_wait_for_a_slow_voice(room: Make) -> None:
    """A call that still waits for its voice is told at once, not at its first piece."""
    voice = Gated()
    on = room(voice)
    call = on.saying()
    await voice.until_asked("Hello.")
    await on.hand_over()
    with pytest.raises(SayError, match=f"^{ANOTHER_WORKER}"):
        await call


@pytest.mark.parametrize("fails_at_once", [False, True])
async def test_hand_over_while_connecting(fails_at_once: bool, room: Make) -> None:
    """A link whose place is taken before it is ready is handed over like any other."""
    on = room()

    class Replaced(Link):
        async def connect(self, *, timeout_s: float) -> None:
            self._close("The room was lost: duplicate identity.", lost=True, replaced=True)
            if not fails_at_once:
                await asyncio.Event().wait()
            raise SpeechLinkError("The room was lost: duplicate identity.")

    wire = Wire(SESSION, lambda: Replaced([]), one_link=False, advice=ADVICE)
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(SayError, match=f"^{ANOTHER_WORKER}"):
            await on.speech.aspeak(wire, "Hello.")
    assert [session_id for session_id, _ in on.handed_over] == [SESSION]
    assert not on.speech.has_link(SESSION)


async def test_thread_that_moves_back_speaks_again(room: Make) -> None:
    """A call after a hand-over makes a new link: the conversation is here again."""
    on = room()
    await on.say()
    await on.hand_over()
    assert (await on.say()).complete
    assert len(on.links) == 2
    assert on.speech.has_link(SESSION)


async def test_failing_report_of_a_hand_over(room: Make, caplog: pytest.LogCaptureFixture) -> None:
    """A defect in what follows a hand-over is logged by its type, and the link is closed all the same."""
    on = room()

    def fail(session_id: str) -> None:
        on.was_handed_over.set()
        raise ValueError("seeded")

    on.speech._on_handed_over = fail
    await on.say()
    await on.hand_over()
    assert await asyncio.to_thread(on.links[0].closed.wait, LIMIT_S)
    assert [record.message for record in caplog.records if record.levelno > logging.INFO] == [
        "What follows a hand-over failed: ValueError"
    ]


async def test_other_losses_are_no_hand_over(room: Make) -> None:
    """A connection that was lost for another reason is made again by the next call, after a look at the session."""
    on = room()
    await on.say()
    await asyncio.to_thread(on.links[0].lose, "The room was lost.")
    assert on.speech.in_doubt(SESSION)
    assert (await on.say()).complete
    assert (len(on.links), on.handed_over) == (2, [])
    assert not on.speech.in_doubt(SESSION)


async def test_next_link_is_made_by_the_newest_wire(room: Make) -> None:
    """A token that the program gave anew is the one that the next connection uses."""
    on, other = room(), room()
    await on.say()
    await asyncio.to_thread(on.links[0].lose, "The room was lost.")
    async with asyncio.timeout(LIMIT_S):
        await on.speech.aspeak(other.wire(), "Hello.")
    assert (len(on.links), len(other.links)) == (1, 1)


# --- connecting ahead


async def test_connecting_ahead(room: Make) -> None:
    """A connection that is begun in the background is the one that the first call speaks over."""
    on = room()
    for _ in range(2):
        on.speech.connect(on.wire())
    await on.link()
    assert (await on.say()).complete
    on.speech.connect(on.wire())
    assert (await on.say()).complete
    assert on.links[0].calls == ["connect", "end", "end"]
    assert len(on.links) == 1


async def test_call_waits_for_a_connection_that_is_under_way(room: Make) -> None:
    """While a connection is made nothing is waited for but by a call; hanging up ends both at once."""
    on = room()
    on.hangs = True
    on.speech.connect(on.wire())
    await on.link()
    async with asyncio.timeout(LIMIT_S / 2):  # a connection may take LIMIT_S
        await on.speech.afinish(SESSION)
        call = on.saying()
        await asyncio.sleep(0)
        await on.speech.ahang_up(SESSION)
        with pytest.raises(SayError, match=ENDED):
            await call
    assert on.links[0].calls == ["connect", "close"]
    assert len(on.links) == 1


async def test_failed_connection_ahead_is_forgotten(room: Make, caplog: pytest.LogCaptureFixture) -> None:
    """A connection in the background that fails is tried again by the next call, and no error is logged."""
    on = room()
    on.failures.append(SpeechLinkError("The avatar did not appear.", retryable=True))
    on.speech.connect(on.wire())
    link = await on.link()
    assert await asyncio.to_thread(link.closed.wait, LIMIT_S)
    assert (await on.say()).complete
    assert len(on.links) == 2
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_wrong_address_is_raised_by_a_call(room: Make, caplog: pytest.LogCaptureFixture) -> None:
    """What makes no sense in the configuration is raised where somebody waits, not logged in the background."""
    on = room()

    def fail() -> Link:
        raise ConfigurationError("The gateway's address makes no sense.")

    wire = Wire(SESSION, fail, one_link=True, advice=ADVICE)
    on.speech.connect(wire)
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(ConfigurationError):
            await on.speech.aspeak(wire, "Hello.")
    assert not caplog.records


async def test_connection_that_ends_its_session_is_not_made_twice(room: Make) -> None:
    """Over the gateway a failed connection ends the session: no call tries again, each is told why."""
    on = room()
    on.failures.append(SpeechLinkError("The gateway closed the connection."))
    on.speech.connect(on.wire(one_link=True))
    link = await on.link()
    assert await asyncio.to_thread(link.closed.wait, LIMIT_S)
    for _ in range(2):
        with pytest.raises(SayError, match=r"closed the connection\. What to do now"):
            await on.say(one_link=True)
    assert len(on.links) == 1


# --- order


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
async def test_finish_waits_for_what_came_before(
    native: bool, room: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was to be said before has been said when `finish` returns; what comes later is not waited for."""
    begun = threading.Event()
    finish = _line.Line.finish

    async def noted(line: _line.Line) -> None:
        finishing = asyncio.ensure_future(finish(line))
        await asyncio.sleep(0)
        begun.set()
        await finishing

    monkeypatch.setattr(_line.Line, "finish", noted)
    voice = Gated()
    on = room(voice)
    before = [on.saying("first"), on.saying("second")]
    await voice.until_asked("first")
    finishing = asyncio.ensure_future(
        on.speech.afinish(SESSION) if native else asyncio.to_thread(on.speech.finish, SESSION)
    )
    assert await asyncio.to_thread(begun.wait, LIMIT_S)
    later = on.saying("later")
    voice.let("first")
    await voice.until_asked("second")
    assert not finishing.done()
    voice.let("second")
    await asyncio.wait_for(finishing, LIMIT_S)
    assert [(await call).complete for call in before] == [True, True]
    assert not later.done()
    voice.let("later")
    assert (await later).complete


async def test_finish_has_a_limit(room: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that takes too long does not keep a session from being ended."""
    on = room()
    call = on.saying("long")
    await on.heard()
    monkeypatch.setattr(_line, "_TURN_LIMIT_S", 0.05)
    await asyncio.wait_for(on.speech.afinish(SESSION), LIMIT_S)
    assert not call.done()
    await on.speech.ahang_up(SESSION)
    assert (await call).interrupted


@pytest.mark.parametrize("what", ["finish", "hang_up", "close"])
async def test_nothing_to_do_starts_no_thread(what: str, room: Make) -> None:
    """Where nothing was said there is nothing to wait for, and no thread."""
    on = room()
    arguments = [] if what == "close" else [SESSION]
    getattr(on.speech, what)(*arguments)
    await getattr(on.speech, f"a{what}")(*arguments)
    assert not on.loop.running


async def test_call_that_gives_up_while_it_waits_lets_nobody_pass(room: Make) -> None:
    """Whoever waits behind a cancelled call still waits for the one that speaks."""
    voice = Gated()
    on = room(voice)
    first, second, third = (on.saying(text) for text in ("first", "second", "third"))
    await voice.until_asked("first")
    await _on_the_loop(on)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    await _on_the_loop(on)
    assert "third" not in voice.asked
    for text in ("first", "third"):
        voice.let(text)
    assert (await first).complete
    assert (await third).complete
    assert "second" not in voice.asked


# --- hanging up


async def test_wave_of_calls_is_answered_at_once(room: Make) -> None:
    """Calls before, during and after `hang_up` are refused at once, though the connection would take for ever."""
    on = room()
    on.hangs = True
    async with asyncio.timeout(LIMIT_S / 2):  # a connection may take LIMIT_S
        before = [on.saying() for _ in range(5)]
        await on.link()
        hanging_up = asyncio.ensure_future(on.speech.ahang_up(SESSION))
        during = [on.saying() for _ in range(5)]
        for call in [*before, *during]:
            with pytest.raises(SayError, match=ENDED):
                await call
        await hanging_up
        for _ in range(5):
            assert await on.refusal() == "The session has been ended. Do not retry."
    assert len(on.links) == 1
    assert not on.speech.has_link(SESSION)


async def test_waiting_calls_do_not_wait_for_silence(room: Make) -> None:
    """Calls that wait are refused while the one that speaks is still being silenced."""
    silenced = threading.Event()

    class Stubborn(Link):
        async def interrupt(self) -> None:
            await asyncio.to_thread(silenced.wait, LIMIT_S)
            await super().interrupt()

    on = room()
    links = [Stubborn([])]
    wire = Wire(SESSION, lambda: links[0], one_link=False, advice=ADVICE)
    async with asyncio.timeout(LIMIT_S):
        speaking = asyncio.create_task(on.speech.aspeak(wire, "long"))
        assert await asyncio.to_thread(links[0].heard.wait, LIMIT_S)
        waiting = asyncio.create_task(on.speech.aspeak(wire, "Hello."))
        await _on_the_loop(on)
        hanging_up = asyncio.create_task(on.speech.ahang_up(SESSION))
        with pytest.raises(SayError, match=ENDED):
            await waiting
        assert not speaking.done()
        silenced.set()
        assert (await speaking).interrupted
        await hanging_up


async def test_session_that_was_hung_up_unheard_is_not_connected_to(room: Make) -> None:
    """A call after the end of a session that nobody spoke through costs no connection, no voice and no thread."""
    on = room(lambda _: pytest.fail("the voice was asked"))
    await on.speech.ahang_up(SESSION)
    assert ENDED in await on.refusal()
    with pytest.raises(SayError, match=ENDED):
        on.speech.speak(on.wire(), "Hello.")
    on.speech.connect(on.wire())
    await _on_the_loop(on)
    assert on.links == []


async def test_session_that_could_not_be_ended_is_spoken_through_again(room: Make) -> None:
    """Hanging up before an end that fails is taken back by `reopen`."""
    on = room()
    await on.say()
    await on.speech.ahang_up(SESSION)
    on.speech.reopen(SESSION)
    assert (await on.say()).complete
    assert len(on.links) == 2


async def test_closing_keeps_no_session_from_being_spoken_through_later(room: Make) -> None:
    """A session that outlives a block of the toolkit can be spoken through in the next one."""
    on = room()
    await on.say()
    await on.speech.aclose()
    assert on.links[0].calls[-1] == "close"
    assert (await on.say()).complete


async def test_closing_refuses_what_waits(room: Make) -> None:
    """When everything is hung up the one that speaks is cut short, and those that wait read that the run is over."""
    on = room()
    speaking = on.saying("long")
    await on.heard()
    waiting = on.saying()
    await _on_the_loop(on)
    async with asyncio.timeout(LIMIT_S):
        await on.speech.aclose()
    assert (await speaking).interrupted
    with pytest.raises(SayError, match=r"^The run is over"):
        await waiting


async def test_ended_sessions_do_not_pile_up(room: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that serves for months remembers a limited number of ended sessions: the last ones."""
    monkeypatch.setattr(_speech, "_KEPT_ENDED", 3)
    on = room()
    for number in range(10):
        on.speech.hang_up(f"sess_{number}")
    assert list(on.speech._hung_up) == ["sess_7", "sess_8", "sess_9"]


# --- forks


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_forked_process_leaves_the_links_to_its_parent() -> None:
    """A child that hangs up closes no link of its parent, which speaks on; the child speaks over a link of its own."""
    script = (
        "import os, signal\n"
        "from tests.langchain.test_speech import Room, SESSION, long_or_short\n"
        "room = Room(long_or_short)\n"
        "def speak():\n"
        "    room.speech.speak(room.wire(), 'Hello.')\n"
        "    print(room.links[0].calls, len(room.links), flush=True)\n"
        "speak()\n"
        "if not (child := os.fork()):\n"
        "    signal.alarm(20)\n"  # ends a child that would wait for ever
        "    room.speech.hang_up('sess_1')\n"
        "    room.speech.reopen('sess_1')\n"
        "    speak()\n"
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "speak()\n"
        "room.speech.close()\n"
        "room.loop.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "['connect', 'end'] 1",
        "['connect', 'end'] 2",
        "['connect', 'end', 'end'] 1",
    ]


# --- what a caller and a link may get wrong


async def test_refusal_to_make_a_link_comes_out(room: Make) -> None:
    """A caller that cannot make a link says why in its own words."""
    on = room()

    def refuse() -> Link:
        raise SayError("This session cannot be spoken through.")

    with pytest.raises(SayError, match=r"^This session cannot be spoken through\.$"):
        await on.speech.aspeak(Wire(SESSION, refuse, one_link=False, advice=ADVICE), "Hello.")


async def test_link_whose_events_fail(room: Make, caplog: pytest.LogCaptureFixture) -> None:
    """A link that fails to say what happens is a lost one, and its defect is logged by its type."""

    class Failing(Link):
        def events(self) -> Any:
            async def fail() -> AsyncIterator[Any]:
                raise ValueError("seeded")
                yield

            return fail()

    on = room()
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(SayError, match="The connection was closed"):
            await on.speech.aspeak(
                Wire(SESSION, lambda: Failing([]), one_link=False, advice=ADVICE), "Hello."
            )
    assert (await on.say()).complete
    assert "ValueError" in caplog.text
    assert "seeded" not in caplog.text


async def _on_the_loop(on: Room) -> None:
    """Let everything that was handed to the loop before begin."""

    async def turn() -> None:
        await asyncio.sleep(0)

    async with asyncio.timeout(LIMIT_S):
        await asyncio.sleep(0)
        await on.loop.arun(turn)
