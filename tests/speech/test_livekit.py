"""The LiveKit link against an avatar that follows a script: every rule of the protocol, and every breach of it."""

import asyncio
import contextlib
import logging

import pytest
from livekit import rtc

from agenthuman_plugins.client.errors import SpeechLinkError
from agenthuman_plugins.speech import (
    AvatarConnected,
    AvatarDisconnected,
    LinkLost,
    LiveKitSpeechLink,
    PlaybackFinished,
    PlaybackStarted,
    Reconnected,
    Reconnecting,
    _presence,
    livekit,
)
from tests.speech.scripted_avatar import HEIGHT, WIDTH, ScriptedAvatar

pytestmark = pytest.mark.media

SECOND = bytes(range(256)) * 125  # 32,000 bytes of 16 kHz speech


@contextlib.asynccontextmanager
async def connected(room, **options):
    link = LiveKitSpeechLink(room.url, room.bot_token(), **options)
    try:
        await link.connect(timeout_s=10)
        yield link
    finally:
        await link.aclose()


async def next_event(link, kind):
    """The next event of a kind; those before it are passed over."""
    async with asyncio.timeout(10):
        async for event in link.events():
            if isinstance(event, kind):
                return event
    raise AssertionError(f"closed without {kind.__name__}")


async def test_utterance_is_one_addressed_stream(room):
    """Name, topic, attributes and body are those of LiveKit's protocol; closing marks the end."""
    async with ScriptedAvatar(room) as avatar:
        await avatar.show()
        async with connected(room) as link:
            assert await link.send(SECOND) == 1
            assert await link.send(SECOND[:640]) == 1
            await avatar.until(lambda: avatar.streams and len(avatar.streams[0].pcm) == len(SECOND) + 640)
            assert not avatar.streams[0].closed
            await link.end_utterance()
            await avatar.until(lambda: avatar.streams[0].closed)
            assert await link.send(SECOND[:640]) == 2
            await link.end_utterance()
            await avatar.until(lambda: len(avatar.streams) == 2 and avatar.streams[1].closed)
    first, second = avatar.streams
    assert (first.topic, first.name, first.sender) == ("lk.audio_stream", "AUDIO_1", "bot")
    assert first.attributes == {"sample_rate": "16000", "num_channels": "1"}
    assert bytes(first.pcm) == SECOND + SECOND[:640]
    assert (second.name, bytes(second.pcm)) == ("AUDIO_2", SECOND[:640])


async def test_reports_of_the_avatar_become_events(room):
    """Start and end of playback come with the number of their utterance."""
    async with ScriptedAvatar(room) as avatar:
        await avatar.show()
        async with connected(room) as link:
            await link.send(SECOND[:32])  # a millisecond, so that it can have been played by now
            await link.end_utterance()
            assert await avatar.report("lk.playback_started") == "ok"
            assert await next_event(link, PlaybackStarted) == PlaybackStarted(1)
            assert not await link.wait_playback(timeout_s=0)
            assert await avatar.report_finished(0.001) == "ok"
            assert await link.wait_playback(timeout_s=5)
            assert await next_event(link, PlaybackFinished) == PlaybackFinished(1, 0.001, interrupted=False)


async def test_report_with_a_strange_payload_still_ends_the_utterance(room):
    """A position that cannot be read is replaced by our own clock's."""
    payloads = "", "{}", "[1]", '{"playback_position": "x"}', '{"playback_position": 1e999}'
    async with ScriptedAvatar(room) as avatar:
        await avatar.show()
        async with connected(room) as link:
            for number, payload in enumerate(payloads, 1):
                await link.send(SECOND[:640])
                await link.end_utterance()
                assert await avatar.report("lk.playback_finished", payload) == "ok"
                finished = await next_event(link, PlaybackFinished)
                assert (finished.utterance, finished.estimated) == (number, True), payload


async def test_stream_is_closed_before_the_clear(room, monkeypatch):
    """An avatar drops the rest of a stream that it cleared, so nothing may follow on it."""
    sent = []  # noted here, since LiveKit's client hands over a stream's end and a call by different ways
    close, call = rtc.ByteStreamWriter.aclose, rtc.LocalParticipant.perform_rpc

    async def note_close(writer, **options):
        await close(writer, **options)
        sent.append("closed")

    async def note_call(participant, **options):
        sent.append(options["method"])
        return await call(participant, **options)

    async with ScriptedAvatar(room) as avatar:
        await avatar.show()
        async with connected(room) as link:
            monkeypatch.setattr(rtc.ByteStreamWriter, "aclose", note_close)
            monkeypatch.setattr(rtc.LocalParticipant, "perform_rpc", note_call)
            await link.send(SECOND)
            await link.interrupt()
            finished = await next_event(link, PlaybackFinished)
            assert (finished.utterance, finished.interrupted, finished.estimated) == (1, True, False)
            assert sent[:2] == ["closed", "lk.clear_buffer"]
            assert await link.send(SECOND) == 2
            await avatar.until(lambda: len(avatar.streams) == 2)


async def test_interruption_of_nothing_sends_nothing(room):
    """Without speech in flight the avatar is left alone."""
    async with ScriptedAvatar(room) as avatar:
        await avatar.show()
        async with connected(room) as link:
            await link.interrupt()
            await link.send(SECOND[:640])
            await avatar.until(lambda: avatar.record)
    assert avatar.record[0] == "open"


async def test_interruption_that_is_never_reported(room):
    """The clear's time-out ends the utterance, and a report that comes later is ignored."""
    async with ScriptedAvatar(room) as avatar:
        avatar.report_clear = False
        await avatar.show()
        async with connected(room) as link:
            await link.send(SECOND)
            async with asyncio.timeout(5):
                await link.interrupt()
            assert (await next_event(link, PlaybackFinished)).estimated
            await link.send(SECOND)
            assert await avatar.report_finished(0.5, interrupted=True) == "ok"
            assert not await link.wait_playback(timeout_s=0)


async def test_clear_that_the_avatar_rejects(room):
    """Then no report will come, and there is nothing to wait for."""
    async with ScriptedAvatar(room) as avatar:
        avatar.clear_answer = "reject"
        await avatar.show()
        async with connected(room) as link:
            await link.send(SECOND)
            await link.interrupt()
            finished = await next_event(link, PlaybackFinished)
            assert (finished.interrupted, finished.estimated) == (True, True)


async def test_interruption_during_a_send(room):
    """Interrupting while another task sends keeps the order on the wire, and each utterance ends once."""
    async with ScriptedAvatar(room) as avatar:
        await avatar.show()
        async with connected(room) as link:
            sending = [asyncio.create_task(link.send(SECOND)) for _ in range(4)]
            await avatar.until(lambda: avatar.streams)
            await link.interrupt()
            last = max(await asyncio.gather(*sending))
            if await link.wait_playback(timeout_s=0) is False:
                await link.interrupt()
            finished = [await next_event(link, PlaybackFinished) for _ in range(last)]
    assert [event.utterance for event in finished] == list(range(1, last + 1))


async def test_cancelled_send_leaves_the_link_in_order(room):
    """A sender that is cancelled, as at every interruption in a pipeline, leaves no half-opened stream."""
    async with ScriptedAvatar(room) as avatar:
        await avatar.show()
        async with connected(room) as link:
            sending = asyncio.create_task(link.send(SECOND))
            await asyncio.sleep(0)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            await link.interrupt()
            await link.send(SECOND[:640])
            await link.end_utterance()
            await avatar.until(
                lambda: avatar.streams and avatar.streams[-1].closed and len(avatar.streams[-1].pcm) == 640
            )
    assert all(stream.closed for stream in avatar.streams)


async def test_reports_of_others_are_rejected(room):
    """Anybody in the room can call; only the avatar is believed."""
    async with ScriptedAvatar(room) as avatar, ScriptedAvatar(room, identity="guest") as guest:
        await avatar.show()
        async with connected(room) as link:
            await link.send(SECOND)
            await link.end_utterance()
            assert await guest.report("lk.playback_started") == "reject"
            assert await guest.report_finished(1.0) == "reject"
            assert not await link.wait_playback(timeout_s=0)


async def test_picture_and_voice_come_in_the_form_asked_for(room):
    """Mono at the consumer's rate in pieces of its length; RGB pictures."""
    async with ScriptedAvatar(room) as avatar:
        await avatar.show(grey=200)
        async with connected(room, audio_sample_rate=24_000, audio_frame_ms=20) as link, asyncio.timeout(10):
            voice = await anext(link.audio())
            picture = await anext(link.video())
    assert (voice.sample_rate, voice.num_channels, len(voice.pcm)) == (24_000, 1, 480 * 2)
    assert (picture.width, picture.height, len(picture.rgb)) == (WIDTH, HEIGHT, WIDTH * HEIGHT * 3)
    assert abs(sum(picture.rgb) / len(picture.rgb) - 200) < 20


async def test_only_the_avatar_is_shown(room):
    """Tracks of other participants are not received."""
    async with ScriptedAvatar(room) as avatar, ScriptedAvatar(room, identity="guest") as guest:
        await guest.show(grey=20)
        await avatar.show(grey=200)
        async with connected(room) as link, asyncio.timeout(10):
            pictures = [await anext(link.video()) for _ in range(5)]
    assert all(picture.rgb[0] > 100 for picture in pictures)


async def test_without_media_nothing_is_received(room):
    """Speech and reports alone: no track is subscribed to."""
    async with ScriptedAvatar(room) as avatar:
        await avatar.show()
        async with connected(room, media=False) as link:
            await link.send(SECOND[:640])
            await avatar.until(lambda: avatar.streams)
            publications = link._room.remote_participants["agenthuman-avatar-agent"].track_publications
            assert publications
            assert not any(publication.subscribed for publication in publications.values())
        assert [item async for item in link.audio()] == [item async for item in link.video()] == []


async def test_tracks_that_are_published_again_are_taken_over(room, monkeypatch):
    """The streams go on over a lost picture; losing it for long and showing it again is told."""
    monkeypatch.setattr(_presence, "AWAY_LIMIT_S", 0.2)
    async with ScriptedAvatar(room) as avatar:
        await avatar.show(grey=200)
        async with connected(room) as link:
            assert await next_event(link, AvatarConnected)
            await avatar.hide("video", "audio")
            assert await next_event(link, AvatarDisconnected) == AvatarDisconnected(
                "The avatar lost its video."
            )
            await avatar.show(grey=60)
            assert await next_event(link, AvatarConnected)
            async with asyncio.timeout(10):
                async for picture in link.video():
                    if picture.rgb[0] < 100:
                        break
                assert await anext(link.audio())


async def test_connection_that_is_made_again(room):
    """After a full reconnect the avatar is found again, its tracks are received, and speech reaches it."""
    async with ScriptedAvatar(room) as avatar:
        await avatar.show()
        async with connected(room) as link:
            await link.send(SECOND)
            scenario = rtc.SimulateScenarioKind.SIMULATE_FULL_RECONNECT
            await link._room.simulate_scenario(scenario)
            assert await next_event(link, Reconnecting)
            assert await next_event(link, Reconnected)
            await link.interrupt()
            before = len(avatar.streams)
            await link.send(SECOND[:640])
            await link.end_utterance()
            await avatar.until(lambda: len(avatar.streams) > before and avatar.streams[-1].closed)
            assert bytes(avatar.streams[-1].pcm) == SECOND[:640]
            async with asyncio.timeout(10):
                newest = (await anext(link.video())).timestamp_us
                while (await anext(link.video())).timestamp_us <= newest:
                    pass
                assert await anext(link.audio())


async def test_avatar_drops_what_is_over_when_a_connection_is_made_again(room):
    """Our full reconnect looks as if the avatar had left: what it still has must not be heard before the next words."""
    async with ScriptedAvatar(room) as avatar:
        await avatar.show()
        async with connected(room) as link:
            await link.send(SECOND)
            await avatar.until(lambda: avatar.streams)
            await link._room.simulate_scenario(rtc.SimulateScenarioKind.SIMULATE_FULL_RECONNECT)
            assert await next_event(link, PlaybackFinished)
            assert await link.send(SECOND[:640]) == 2
            await link.end_utterance()
            await avatar.until(lambda: len(avatar.streams) == 2 and avatar.streams[1].closed)
            assert avatar.record.index("clear") < len(avatar.record) - 1 - avatar.record[::-1].index("open")


async def test_room_that_is_lost(room):
    """Speech in flight ends, then the loss is told as the last event, and nothing can be sent."""
    async with ScriptedAvatar(room) as avatar:
        await avatar.show()
        async with connected(room) as link:
            await link.send(SECOND)
            usurper = rtc.Room()  # a second join under our identity evicts us for good
            await usurper.connect(room.url, room.bot_token())
            async with asyncio.timeout(10):
                events = [event async for event in link.events()]
            assert isinstance(events[-2], PlaybackFinished)
            assert events[-1] == LinkLost("The room was lost: duplicate identity.", replaced=True)
            with pytest.raises(SpeechLinkError, match="duplicate identity"):
                await link.send(SECOND)
            await usurper.disconnect()


async def test_second_link_of_one_identity_replaces_the_first(room):
    """The first learns that its place was taken and stays away: the second speaks, undisturbed."""
    async with ScriptedAvatar(room) as avatar:
        avatar.report_end = True
        await avatar.show()
        async with connected(room) as first, connected(room) as second:
            lost = await next_event(first, LinkLost)
            assert lost.replaced
            with pytest.raises(SpeechLinkError, match="duplicate identity"):
                await first.send(SECOND)
            await first.aclose()
            await second.send(SECOND[:640])
            await second.end_utterance()
            await avatar.until(lambda: avatar.streams and avatar.streams[-1].closed)
            assert bytes(avatar.streams[-1].pcm) == SECOND[:640]
            assert await second.wait_playback(timeout_s=10)
            await second.aclose()
            told = [event async for event in second.events()]
    assert LinkLost not in {type(event) for event in told}


async def test_closing_ends_everything(room):
    """Closing finishes what is in flight and ends the streams; a second close is harmless."""
    async with ScriptedAvatar(room) as avatar:
        await avatar.show()
        async with connected(room) as link:
            await link.send(SECOND)
            await link.aclose()
            await link.aclose()
            assert [type(event) for event in [event async for event in link.events()]] == [
                AvatarConnected,
                PlaybackFinished,
            ]
            async with asyncio.timeout(5):
                assert all([item async for item in link.audio()] or [True])
                assert all([item async for item in link.video()] or [True])
            with pytest.raises(SpeechLinkError, match="closed"):
                await link.send(SECOND)


async def test_left_room_is_not_held_by_its_methods(room, monkeypatch):
    """What the link answers in a room it no longer answers when it has left: LiveKit would hold the room for good."""
    open_methods = []
    register, unregister = (
        rtc.LocalParticipant.register_rpc_method,
        rtc.LocalParticipant.unregister_rpc_method,
    )

    def note_registered(local, name, *arguments):
        open_methods.append(name)
        return register(local, name, *arguments)

    def note_unregistered(local, name):
        open_methods.remove(name)
        return unregister(local, name)

    async with ScriptedAvatar(room) as avatar:
        await avatar.show()
        monkeypatch.setattr(rtc.LocalParticipant, "register_rpc_method", note_registered)
        monkeypatch.setattr(rtc.LocalParticipant, "unregister_rpc_method", note_unregistered)
        async with connected(room):
            assert sorted(open_methods) == ["lk.playback_finished", "lk.playback_started"]
        assert not open_methods


@pytest.mark.parametrize("reason", [2, 4711])
async def test_room_that_is_lost_for_any_reason(room, reason):
    """A newer server may have reasons that LiveKit's client has no name for: the loss is told all the same."""
    async with ScriptedAvatar(room) as avatar:
        await avatar.show()
        async with connected(room) as link:
            link._room.emit("disconnected", reason)
            async with asyncio.timeout(10):
                events = [event async for event in link.events()]
    assert events[-1] in {
        LinkLost("The room was lost: duplicate identity.", replaced=True),
        LinkLost("The room was lost: unknown reason 4711."),
    }


async def test_avatar_that_never_comes(room):
    """Connecting fails in one sentence, and our own participant leaves the room again."""
    async with ScriptedAvatar(room, identity="guest") as guest:
        link = LiveKitSpeechLink(room.url, room.bot_token())
        with pytest.raises(SpeechLinkError, match=r"^The avatar did not appear in the room within 1\.5 s\.$"):
            await link.connect(timeout_s=1.5)
        await guest.until(lambda: True)
        left = asyncio.Event()
        guest._room.on("participant_disconnected", lambda _: left.set())
        if guest._room.remote_participants:
            await asyncio.wait_for(left.wait(), timeout=10)


async def test_avatar_without_a_picture_is_not_ready(room):
    """Being in the room is not enough."""
    async with ScriptedAvatar(room):
        link = LiveKitSpeechLink(room.url, room.bot_token())
        with pytest.raises(SpeechLinkError, match="did not appear"):
            await link.connect(timeout_s=1.5)


async def test_wrong_token(room):
    """A refused token is one sentence, without the token."""
    token = room.bot_token(ttl_s=-60)
    link = LiveKitSpeechLink(room.url, token)
    with pytest.raises(
        SpeechLinkError, match=r"^Could not join the LiveKit room at ws://127\.0\.0\.1:\d+: .*401"
    ) as caught:
        await link.connect(timeout_s=10)
    assert token not in str(caught.value)
    assert not caught.value.retryable
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


async def test_token_is_in_no_log(room, caplog, monkeypatch):
    """Whatever LiveKit and we log, at any level, when it works and when it does not."""
    monkeypatch.setenv("LIVEKIT_RTC_DEBUG", "1")
    caplog.set_level(logging.DEBUG)
    good, bad = room.bot_token(), room.bot_token(ttl_s=-60)
    async with ScriptedAvatar(room) as avatar:
        await avatar.show()
        for token in (bad, good):
            link = LiveKitSpeechLink(room.url, token)
            with contextlib.suppress(SpeechLinkError):
                await link.connect(timeout_s=10)
                await link.send(SECOND)
                await link.interrupt()
            await link.aclose()
            assert token not in repr(link)
    logged = " ".join(f"{record.getMessage()} {record.args!r}" for record in caplog.records)
    assert "livekit" in caplog.text
    assert good not in logged
    assert bad not in logged


@pytest.mark.parametrize("how", ["cancelled", "closed"])
async def test_connecting_that_is_given_up_leaves_nothing(room, how):
    """A join cannot be stopped half-way; it is left again as soon as it is through."""
    link = LiveKitSpeechLink(room.url, room.bot_token())
    connecting = asyncio.create_task(link.connect(timeout_s=10))
    while link._room is None:  # noqa: ASYNC110 - a matter of a few turns of the loop
        await asyncio.sleep(0)
    if how == "cancelled":
        connecting.cancel()
    else:
        await link.aclose()
    with pytest.raises(asyncio.CancelledError if how == "cancelled" else SpeechLinkError):
        await connecting
    await asyncio.wait_for(asyncio.gather(*livekit._abandoned), timeout=20)
    assert link._room.local_participant, "it was never joined, so there was nothing to leave"
    assert not link._room.isconnected()


async def test_link_connects_once(room):
    """A second connect is refused."""
    async with ScriptedAvatar(room) as avatar:
        await avatar.show()
        async with connected(room) as link:
            with pytest.raises(SpeechLinkError, match="connects once"):
                await link.connect(timeout_s=5)


async def test_no_server():
    """An address where nothing listens is named, without what follows it in the URL."""
    link = LiveKitSpeechLink("ws://127.0.0.1:9/?access_token=secret", "a token")
    with pytest.raises(SpeechLinkError, match=r"ws://127\.0\.0\.1:9[ :]") as caught:
        await link.connect(timeout_s=2)
    assert "secret" not in str(caught.value)
