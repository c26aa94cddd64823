"""The gateway link: against the emulator over a real connection, and against a gateway that misbehaves."""

import asyncio
import contextlib
import itertools
import json
import logging
import random
import re
import subprocess
import sys
from http import HTTPStatus

import pytest
from blockbuster import blockbuster_ctx

from agenthuman_plugins.client import (
    AsyncAgentHuman,
    DailyRoom,
    SpeechLinkError,
)
from agenthuman_plugins.emulator import Emulator
from agenthuman_plugins.speech import (
    AvatarConnected,
    GatewaySpeechLink,
    LinkLost,
    PlaybackFinished,
    PlaybackStarted,
    _own_clock,
    gateway,
    speech_link,
)
from tests.emulator.conftest import until
from tests.speech.conftest import TOKEN
from tests.speech.scripted_gateway import LIMIT_S

RATE = 16_000
SECOND = bytes(2 * RATE)
ROOM = DailyRoom("https://x.daily.co/y", "daily-token-0815")


@contextlib.asynccontextmanager
async def emulated(**options):
    """A session of the emulator, and a link to it that is not connected yet."""
    async with (
        Emulator(sweep=False, **options) as emulator,
        AsyncAgentHuman(api_key=emulator.api_key, base_url=emulator.url) as client,
    ):
        session = await client.sessions.create(avatar="avat_1", room=ROOM)
        link = speech_link(session, room=ROOM, gateway_url=emulator.gateway_url)
        try:
            yield emulator, client, session, link
        finally:
            await link.aclose()


async def everything(link) -> list:
    """All events of a link that is closed, or is about to be."""
    async with asyncio.timeout(LIMIT_S):
        return [event async for event in link.events()]


async def next_event(link, kind):
    async with asyncio.timeout(LIMIT_S):
        async for event in link.events():
            if isinstance(event, kind):
                return event
    raise AssertionError(f"closed without {kind.__name__}")


async def first_piece_confirmed(link) -> None:
    """Say a little, so that the link knows that it is heard."""
    await link.send(SECOND[:640])
    async with asyncio.timeout(LIMIT_S):
        await link._changes.until(lambda: link._clock.any_confirmed)


def ends(events) -> list[PlaybackFinished]:
    return [event for event in events if isinstance(event, PlaybackFinished)]


# --- against the emulator


async def test_conversation():
    """Two utterances are told as started and finished, in order; closing ends the session."""
    async with emulated(media=False) as (emulator, _, _, link):
        await link.connect(timeout_s=LIMIT_S)
        for number, half_seconds in ((1, 1), (2, 2)):
            assert await link.send(SECOND[:RATE] * half_seconds) == number
            await link.end_utterance()
        assert await link.wait_playback(timeout_s=LIMIT_S)
        assert emulator.sessions()[0]["ended_by"] is None
        await link.aclose()
        assert await everything(link) == [
            AvatarConnected(),
            PlaybackStarted(1),
            PlaybackFinished(1, pytest.approx(0.5), interrupted=False, estimated=True),
            PlaybackStarted(2),
            PlaybackFinished(2, pytest.approx(1.0), interrupted=False, estimated=True),
        ]
        assert await until(lambda: emulator.sessions()[0]["ended_by"]) == "gateway_closed"


async def test_fifty_interruptions():
    """However early the interruptions come, each utterance ends once, and the link still speaks."""
    chance = random.Random(4711)
    async with emulated(media=False) as (_, _, _, link):
        await link.connect(timeout_s=LIMIT_S)
        for number in range(1, 51):
            assert await link.send(SECOND * chance.choice([1, 3])) == number
            if chance.random() < 0.5:
                await link.end_utterance()
            await link.wait_playback(timeout_s=chance.choice([0, 0.001, 0.01]))
            async with asyncio.timeout(1):
                await link.interrupt()
        assert await link.send(SECOND[:RATE]) == 51
        await link.end_utterance()
        assert await link.wait_playback(timeout_s=LIMIT_S)
        await link.aclose()
        finished = ends(await everything(link))
        assert [(event.utterance, event.interrupted) for event in finished] == [
            *((number, True) for number in range(1, 51)),
            (51, False),
        ]
        assert finished[-1].position_s == pytest.approx(0.5)


async def test_second_link_is_refused():
    """One connection for a session: the second is told so, and the first goes on."""
    async with emulated(media=False) as (emulator, _, session, link):
        await link.connect(timeout_s=LIMIT_S)
        second = speech_link(session, room=ROOM, gateway_url=emulator.gateway_url)
        with pytest.raises(
            SpeechLinkError, match="refused the session: Session is already connected"
        ) as caught:
            await second.connect(timeout_s=LIMIT_S)
        assert not caught.value.retryable
        assert await link.send(SECOND) == 1


async def test_session_that_ends_elsewhere_is_a_loss():
    """When the session is over the link is lost, after the end of what it was saying."""
    async with emulated(media=False) as (_, client, session, link):
        await link.connect(timeout_s=LIMIT_S)
        await link.send(SECOND)
        await client.sessions.end(session.session_id)
        events = await everything(link)
        assert isinstance(events[-1], LinkLost)
        assert "The gateway closed the connection" in events[-1].reason
        assert [event.utterance for event in ends(events)] == [1]
        with pytest.raises(SpeechLinkError, match="closed the connection"):
            await link.send(SECOND)


@pytest.mark.media
async def test_avatar_is_not_done_after_we_say_so():
    """With a real avatar our end comes after its own, and our cut is no later than what it has played."""
    async with emulated(room_server="embedded") as (emulator, _, _, link):

        def played() -> list[dict]:
            timeline = emulator.sessions()[0]["timeline"]
            return [entry for entry in timeline if entry["event"] == "utterance_finished"]

        await link.connect(timeout_s=30)
        await link.send(SECOND)
        await link.end_utterance()
        assert await link.wait_playback(timeout_s=LIMIT_S)
        assert len(played()) == 1  # ending the session now would cut off nothing
        await link.send(SECOND * 5)
        assert await link.wait_playback(timeout_s=1.5) is False
        await link.interrupt()
        await until(lambda: len(played()) == 2)
        await link.aclose()
        whole, cut = ends(await everything(link))
        assert (whole.position_s, cut.interrupted) == (pytest.approx(1.0), True)
        assert 0.5 < cut.position_s <= played()[1]["position_s"] + 0.1


# --- the wire


async def test_first_message(scripted, link):
    """The session and its token are the first message, in the documented form."""
    assert scripted.received == [{"type": "session.init", "session_id": "sess_1", "session_token": TOKEN}]


async def test_speech_arrives_whole_in_pieces_of_a_second(scripted, link):
    """Every sample comes once and in order, whatever the lengths that are sent, and none is cut in half."""
    speech = random.Random(1).randbytes(2 * RATE * 7 // 2 + 1)
    cuts = [0, 1, 2, 5, 1_285, 1_288, 100_000, len(speech)]
    for start, end in itertools.pairwise(cuts):
        assert await link.send(speech[start:end]) == 1
    await link.end_utterance()
    await link.send(b"\x01\x02")  # not behind the half sample that the other utterance ended with
    await scripted.until(lambda: len(scripted.speech()) >= len(speech) + 1)
    assert scripted.speech() == speech[:-1] + b"\x01\x02"
    pieces = scripted.of_type("agent.speak")
    assert {piece["sample_rate"] for piece in pieces} == {RATE}
    assert max(len(piece["audio"]) for piece in pieces) <= 4 * (2 * RATE) / 3 + 4


async def test_nothing_is_sent_when_nothing_is_in_flight(scripted, link):
    """An interruption of silence, and the end of no utterance, are no messages."""
    await link.interrupt()
    await link.end_utterance()
    await link.send(b"\0\0")
    await scripted.until(lambda: len(scripted.received) == 2)
    assert scripted.received[1]["type"] == "agent.speak"


async def test_interruption_drops_what_waits(scripted, link):
    """With ten seconds unconfirmed a sender waits; an interruption lets it go, and the rest is never sent."""
    await first_piece_confirmed(link)
    scripted.confirms_speech = False
    sending = asyncio.create_task(link.send(SECOND * 60))
    await scripted.until(lambda: len(scripted.of_type("agent.speak")) == 11)
    assert not sending.done()
    await link.interrupt()
    async with asyncio.timeout(LIMIT_S):
        assert await sending == 1
    scripted.confirms_speech = True
    assert await link.send(SECOND) == 2
    await scripted.until(lambda: len(scripted.received) == 14)
    assert [message["type"] for message in scripted.received[-2:]] == ["agent.interrupt", "agent.speak"]


async def test_interruption_overtakes_speech_that_waits_for_the_network(scripted, link, quick, monkeypatch):
    """Over a network that stalls, the interruption comes right behind what is already on its way."""
    monkeypatch.setattr(gateway, "_MAX_UNCONFIRMED_S", 10_000)
    await first_piece_confirmed(link)
    stalled = asyncio.Event()

    async def stall(socket, message):
        await stalled.wait()

    scripted.on_message = stall
    await link.send(SECOND * 600)
    await scripted.until(lambda: scripted.of_type("agent.speak"))
    await link.interrupt()
    stalled.set()
    await scripted.until(lambda: scripted.of_type("agent.interrupt"))
    assert len(scripted.of_type("agent.speak")) < 600


async def test_confirmations_let_a_long_reply_through(scripted, link):
    """Two minutes of speech are sent as fast as they are confirmed."""
    async with asyncio.timeout(LIMIT_S):
        await link.send(SECOND * 120)
    await scripted.until(lambda: len(scripted.of_type("agent.speak")) == 120)


async def test_cancelled_send_leaves_the_link_whole(scripted, link, quick):
    """A sender that is cancelled while it waits has sent whole pieces; the utterance ends as usual."""
    await first_piece_confirmed(link)
    scripted.confirms_speech = False
    sending = asyncio.create_task(link.send(SECOND * 60))
    await scripted.until(lambda: len(scripted.of_type("agent.speak")) == 11)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    await link.end_utterance()
    assert await link.wait_playback(timeout_s=LIMIT_S)
    assert await link.send(SECOND) == 2


async def test_interruption_without_a_confirmation(scripted, link, quick):
    """It is over all the same, and the next utterance is spoken."""
    scripted.confirms_interrupts = False
    for number in (1, 2):
        assert await link.send(SECOND * 9) == number
        async with asyncio.timeout(LIMIT_S):
            await link.interrupt()
    assert await link.send(SECOND[:320]) == 3
    await link.end_utterance()
    assert await link.wait_playback(timeout_s=LIMIT_S)
    await link.aclose()
    assert [event.interrupted for event in ends(await everything(link))] == [True, True, False]


async def test_interruption_takes_two_seconds_at_most(scripted, link):
    """A cancelled interruption, too, ends what it cut."""
    scripted.confirms_interrupts = False
    await link.send(SECOND * 5)
    interrupting = asyncio.create_task(link.interrupt())
    await scripted.until(lambda: scripted.of_type("agent.interrupt"))
    interrupting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await interrupting
    assert await link.wait_playback(timeout_s=_own_clock.CLEAR_TIMEOUT_S + 1)


async def test_speech_that_is_never_confirmed_was_not_played(scripted, link, quick, monkeypatch):
    """The utterance ends after the time-out with nothing played."""
    monkeypatch.setattr(gateway, "_JOIN_LIMIT_S", 0.1)
    scripted.confirms_speech = False
    await link.send(SECOND)
    await link.end_utterance()
    assert await link.wait_playback(timeout_s=LIMIT_S)
    finished = await next_event(link, PlaybackFinished)
    assert finished == PlaybackFinished(1, 0.0, interrupted=False, estimated=True)


@pytest.mark.parametrize(
    "noise",
    [
        "{",
        "[1]",
        "null",
        b"\xff\x00",
        "[" * 100_000,
        {"type": 7},
        {"type": "agent.smile"},
        {"type": "connection.established"},
        {"type": "agent.speak.confirmed"},
        {"type": "agent.speak.confirmed", "audio_samples": "many"},
        {"type": "agent.interrupt.confirmed"},
        {"type": "error"},
        {"type": "error", "error": {"message": "deep"}},
    ],
    ids=lambda noise: repr(noise)[:40],
)
async def test_message_without_a_meaning(noise, scripted, link, quick):
    """What does not fit, or fits to nothing, changes nothing."""
    await scripted.tell(noise)
    await link.send(SECOND[:320])
    await scripted.tell(noise)
    await link.end_utterance()
    assert await link.wait_playback(timeout_s=LIMIT_S)
    await link.aclose()
    assert await everything(link) == [
        AvatarConnected(),
        PlaybackStarted(1),
        PlaybackFinished(1, pytest.approx(0.01), interrupted=False, estimated=True),
    ]


async def test_error_in_between_is_a_warning(scripted, link, caplog):
    """The gateway's complaint is logged, without secrets and on one line; the link stands."""
    await scripted.tell({"type": "error", "error": f"bad\nthing {TOKEN}" + "x" * 1_000})
    await link.send(b"\0\0")
    await scripted.until(lambda: scripted.of_type("agent.speak"))
    await until(lambda: "reports an error: bad thing **********" in caplog.text)
    assert max(len(record.getMessage()) for record in caplog.records) < 300


async def test_loss_tells_the_last_error(scripted, link):
    """What the gateway said before it closed is part of why the link is lost."""
    await scripted.tell({"type": "error", "error": "Avatar crashed"})
    await scripted.sockets[0].close(1011, "bye")
    reason = (await everything(link))[-1].reason
    assert re.fullmatch(
        r"The gateway closed the connection: .*1011.* bye.* Its last error: Avatar crashed", reason
    )


async def test_connection_cut_in_mid_reply(scripted, link):
    """A loss ends what was being said, wakes whoever waits, and is the last event; nothing connects again."""
    await link.send(SECOND * 5)
    waiting = asyncio.create_task(link.wait_playback(timeout_s=LIMIT_S))
    await scripted.until(lambda: len(scripted.of_type("agent.speak")) == 5)
    scripted.sockets[0].transport.abort()
    events = await everything(link)
    assert isinstance(events[-1], LinkLost)
    assert [event.utterance for event in ends(events)] == [1]
    assert await waiting is True
    async with asyncio.timeout(LIMIT_S):
        assert [[piece async for piece in feed] for feed in (link.audio(), link.video())] == [[], []]
    with pytest.raises(SpeechLinkError):
        await link.send(SECOND)
    with pytest.raises(SpeechLinkError, match="connects once"):
        await link.connect(timeout_s=1)
    assert len(scripted.sockets) == 1


async def test_loss_wakes_a_sender_that_waits(scripted, link):
    """A sender that waits for confirmations learns of the loss."""
    await first_piece_confirmed(link)
    scripted.confirms_speech = False
    sending = asyncio.create_task(link.send(SECOND * 60))
    await scripted.until(lambda: len(scripted.of_type("agent.speak")) == 11)
    scripted.sockets[0].transport.abort()
    with pytest.raises(SpeechLinkError, match="closed the connection"):
        async with asyncio.timeout(LIMIT_S):
            await sending


async def test_gateway_that_stops_reading_is_a_loss(scripted, link, monkeypatch):
    """A connection that takes no more is given up, not waited for."""
    monkeypatch.setattr(gateway, "_WRITE_TIMEOUT_S", 0.2)
    monkeypatch.setattr(gateway, "_MAX_UNCONFIRMED_S", 10_000)
    await first_piece_confirmed(link)
    stalled = asyncio.Event()

    async def stall(socket, message):
        socket.transport.pause_reading()
        await stalled.wait()

    scripted.on_message = stall
    await link.send(SECOND * 600)
    assert (await everything(link))[-1] == LinkLost("The gateway connection is stuck.")
    await link.aclose()
    assert link._socket.transport.is_closing()
    stalled.set()


async def test_unforeseen_failure_is_a_loss(scripted, link, monkeypatch):
    """A defect of our own loses the link in the open; it does not just go quiet."""
    monkeypatch.setattr(gateway, "_samples", lambda value: 1 / 0)
    await link.send(SECOND)
    reason = "The gateway connection failed: ZeroDivisionError('division by zero')"
    assert (await everything(link))[-1] == LinkLost(reason)


async def test_dead_connection_is_found_by_pings(scripted, monkeypatch):
    """A gateway that answers no ping is lost, even while nothing is said."""
    monkeypatch.setattr(gateway, "_PING_INTERVAL_S", 0.05)
    monkeypatch.setattr(gateway, "_PING_TIMEOUT_S", 0.05)
    link = GatewaySpeechLink("sess_1", TOKEN, url=scripted.url)
    await link.connect(timeout_s=LIMIT_S)
    scripted.sockets[0].transport.pause_reading()
    events = await everything(link)
    assert isinstance(events[-1], LinkLost)
    assert "ping timeout" in events[-1].reason
    await link.aclose()


# --- connecting and closing


async def test_refused_session(scripted):
    """The gateway's refusal is the error, without the token that it repeats."""

    async def refuse(socket, message):
        await socket.send(json.dumps({"type": "error", "error": f"Unknown token {message['session_token']}"}))
        await socket.close(1008)

    scripted.established = False
    scripted.on_message = refuse
    link = GatewaySpeechLink("sess_1", TOKEN, url=scripted.url)
    with pytest.raises(SpeechLinkError, match="refused the session: Unknown token") as caught:
        await link.connect(timeout_s=LIMIT_S)
    assert TOKEN not in str(caught.value)
    assert not caught.value.retryable


async def test_connection_closed_before_it_is_established(scripted):
    """A gateway that just closes is an error with its reason, without the token that it repeats."""

    async def close(socket, message):
        await socket.close(1008, f"no {message['session_token']}")

    scripted.established = False
    scripted.on_message = close
    link = GatewaySpeechLink("sess_1", TOKEN, url=scripted.url)
    with pytest.raises(SpeechLinkError, match="closed the connection") as caught:
        await link.connect(timeout_s=LIMIT_S)
    assert TOKEN not in str(caught.value)


async def test_silence_at_connect(scripted):
    """Without `connection.established` in time the avatar did not appear, and the connection is closed."""
    scripted.established = False
    link = GatewaySpeechLink("sess_1", TOKEN, url=scripted.url)
    with pytest.raises(SpeechLinkError, match=r"did not appear within 0.2 s") as caught:
        await link.connect(timeout_s=0.2)
    assert caught.value.retryable
    async with asyncio.timeout(LIMIT_S):
        await scripted.sockets[0].wait_closed()


async def test_server_without_an_answer():
    """A server that accepts and says nothing is given up in time."""

    async def say_nothing(reader, writer):
        await reader.read()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        link = GatewaySpeechLink("sess_1", TOKEN, url=f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        with pytest.raises(SpeechLinkError, match=r"No answer from the gateway within 0.2 s") as caught:
            await link.connect(timeout_s=0.2)
    assert caught.value.retryable


async def test_no_server(unused_tcp_port):
    """An address where nobody listens is an error that may pass."""
    link = GatewaySpeechLink("sess_1", TOKEN, url=f"ws://127.0.0.1:{unused_tcp_port}/?token=abc")
    with pytest.raises(SpeechLinkError, match=f"gateway at ws://127.0.0.1:{unused_tcp_port}: ") as caught:
        await link.connect(timeout_s=LIMIT_S)
    assert (caught.value.retryable, "abc" in str(caught.value)) == (True, False)


@pytest.mark.parametrize(("status", "retryable"), [(401, False), (404, False), (429, True), (503, True)])
async def test_http_refusal(status, retryable, scripted):
    """HTTP 4xx is a wrong address and stays so; a limit on the rate and 5xx may pass."""
    scripted.on_request = lambda socket, request: socket.respond(HTTPStatus(status), "no")
    link = GatewaySpeechLink("sess_1", TOKEN, url=scripted.url)
    with pytest.raises(SpeechLinkError, match=f"HTTP {status}") as caught:
        await link.connect(timeout_s=LIMIT_S)
    assert caught.value.retryable is retryable


async def test_not_connected():
    """Before it is connected the link refuses speech, and everything else is harmless."""
    link = GatewaySpeechLink("sess_1", TOKEN, url="ws://127.0.0.1:1")
    with pytest.raises(SpeechLinkError, match="not connected"):
        await link.send(SECOND)
    await link.end_utterance()
    await link.interrupt()
    assert await link.wait_playback(timeout_s=0)
    await link.aclose()
    assert await everything(link) == []
    with pytest.raises(SpeechLinkError, match="connects once"):
        await link.connect(timeout_s=1)


async def test_closing_while_it_connects(scripted):
    """Whoever connects is told that the link was closed."""
    scripted.established = False
    link = GatewaySpeechLink("sess_1", TOKEN, url=scripted.url)
    connecting = asyncio.create_task(link.connect(timeout_s=LIMIT_S))
    await scripted.until(lambda: scripted.received)
    await link.aclose()
    with pytest.raises(SpeechLinkError, match="is closed"):
        await connecting


async def test_cancelled_connect_closes(scripted):
    """A cancelled connect leaves no connection behind."""
    scripted.established = False
    link = GatewaySpeechLink("sess_1", TOKEN, url=scripted.url)
    connecting = asyncio.create_task(link.connect(timeout_s=LIMIT_S))
    await scripted.until(lambda: scripted.received)
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    async with asyncio.timeout(LIMIT_S):
        await scripted.sockets[0].wait_closed()


async def test_closing_at_once_from_everywhere(scripted, link):
    """Any number of closings, cancelled ones too, is one: in order, after the end of what was being said."""
    before = {task for task in asyncio.all_tasks() if task.get_name().endswith("avatar gateway")}
    assert len(before) == 2
    await link.send(SECOND)
    closings = [asyncio.create_task(link.aclose()) for _ in range(5)]
    await asyncio.sleep(0)
    closings[0].cancel()
    async with asyncio.timeout(LIMIT_S):
        await asyncio.gather(*closings, return_exceptions=True)
        await link.aclose()
        await scripted.sockets[0].wait_closed()
    assert scripted.sockets[0].close_code == 1000
    assert not [task for task in asyncio.all_tasks() if task.get_name().endswith("avatar gateway")]
    events = await everything(link)
    assert [type(event) for event in events] == [AvatarConnected, PlaybackFinished]


async def test_event_loop_is_not_blocked(scripted):
    """Connecting, speaking, interrupting and closing make no call that blocks."""
    with blockbuster_ctx("agenthuman_plugins"):
        link = GatewaySpeechLink("sess_1", TOKEN, url=scripted.url)
        await link.connect(timeout_s=LIMIT_S)
        await link.send(SECOND)
        await link.interrupt()
        await link.aclose()


# --- settings and secrets


async def test_token_is_in_no_log(scripted, caplog):
    """With everything logged that can be, from a good connection to a refused one, no token is to be seen."""
    asyncio.get_running_loop().set_debug(True)
    loud = [logging.getLogger(name) for name in ("", "websockets", "websockets.client", "asyncio")]
    before = [logger.level for logger in loud]
    for logger in loud:
        logger.setLevel(1)
    try:
        link = GatewaySpeechLink("sess_1", TOKEN, url=scripted.url)
        await link.connect(timeout_s=LIMIT_S)
        await link.send(SECOND)
        await scripted.tell({"type": "error", "error": TOKEN})
        await scripted.sockets[0].close(1011, TOKEN)
        told = [repr(event) for event in await everything(link)]
        scripted.on_request = lambda socket, request: socket.respond(HTTPStatus.UNAUTHORIZED, TOKEN)
        second = GatewaySpeechLink("sess_1", TOKEN, url=f"{scripted.url}/?token={TOKEN}")
        with pytest.raises(SpeechLinkError) as caught:
            await second.connect(timeout_s=LIMIT_S)
    finally:
        for logger, level in zip(loud, before, strict=True):
            logger.setLevel(level)
    assert "reports an error" in caplog.text  # the capture works
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    told += [caplog.text, str(caught.value), repr(link), repr(second)]
    assert not [text for text in told if TOKEN in text]
    assert not re.search("session-tok|c2Vzc2lvbi10b2tlbi", "".join(told))  # nor a part, nor encoded


def test_missing_websockets_names_the_extra():
    """Without websockets the error says what to install."""
    code = (
        "import sys; sys.modules['websockets'] = None\n"
        "try:\n    from agenthuman_plugins.speech import GatewaySpeechLink\n"
        "except ImportError as error:\n    print(error)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert 'pip install "agenthuman-plugins[speech]"' in result.stdout
