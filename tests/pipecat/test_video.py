"""The Pipecat service, with a real pipeline and an avatar in this process."""

import asyncio

import numpy as np
import pytest
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    EndFrame,
    ErrorFrame,
    Frame,
    FunctionCallResultFrame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    OutputImageRawFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.utils.errors import ErrorCategory

from agenthuman_plugins.client import AgentHumanError, AuthenticationError, ConfigurationError, ServerError
from agenthuman_plugins.pipecat import AgentHumanVideoService, _retries, _session, video
from agenthuman_plugins.pipecat.reply import _delivery
from tests.pipecat.bot import RATE, WAIT_S, FakeClient, running, running_service, sentence, speech, tone
from tests.virtual_time import in_virtual_time


@in_virtual_time
async def test_reply_comes_back_whole_through_the_avatar() -> None:
    """Every sample of the speech comes back, between its start and its stop frame."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        pcm = tone(0.5)
        await bot.say(pcm)
        await bot.down.until(lambda: bot.down.of(TTSStoppedFrame))
        voice = bot.voice("c1")
        assert np.array_equal(voice[: len(pcm) // 2], np.frombuffer(pcm, np.int16))
        assert len(voice) / RATE < 0.5 + 0.25  # the tail is short
        kinds = [
            type(f)
            for f in bot.down.frames
            if isinstance(f, TTSStartedFrame | TTSAudioRawFrame | TTSStoppedFrame)
        ]
        assert kinds[0] is TTSStartedFrame
        assert kinds[-1] is TTSStoppedFrame
        assert kinds.count(TTSStoppedFrame) == 1
        await bot.until_event("on_playback_finished")
        assert bot.events["on_playback_started"] == bot.events["on_playback_finished"] == [("c1",)]


@in_virtual_time
async def test_speech_at_another_rate_comes_back_whole() -> None:
    """A 24 kHz voice is resampled to the avatar without losing its tail."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        await bot.say(tone(0.5, rate=24_000), rate=24_000)
        await bot.down.until(lambda: bot.down.of(TTSStoppedFrame))
        loud = np.flatnonzero(np.abs(bot.voice().astype(int)) > 4000)
        assert abs((loud[-1] - loud[0] + 1) / RATE - 0.5) < 0.002


@in_virtual_time
@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
async def test_stereo_speech_comes_back_in_its_own_length(rate: int) -> None:
    """Two channels at any rate are one voice, no slower and no longer."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        mono = np.frombuffer(tone(0.4, rate=rate), np.int16)
        stereo = np.repeat(mono, 2).tobytes()
        await bot.send(TTSStartedFrame(context_id="c1"), TTSAudioRawFrame(stereo, rate, 2, context_id="c1"))
        await bot.send(TTSStoppedFrame(context_id="c1"))
        await bot.until_stopped("c1")
        loud = np.flatnonzero(np.abs(bot.voice().astype(int)) > 4000)
        assert abs((loud[-1] - loud[0] + 1) / RATE - 0.4) < 0.002


@in_virtual_time
async def test_rate_that_changes_in_mid_reply_loses_nothing() -> None:
    """A TTS may go on at another rate: both parts are heard in their own time."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        await bot.send(TTSStartedFrame(context_id="c1"), *speech(tone(0.3, rate=24_000), "c1", 24_000))
        await bot.send(*speech(tone(0.3, rate=48_000), "c1", 48_000), TTSStoppedFrame(context_id="c1"))
        await bot.until_stopped("c1")
        loud = np.flatnonzero(np.abs(bot.voice().astype(int)) > 4000)
        assert abs((loud[-1] - loud[0] + 1) / RATE - 0.6) < 0.003


@in_virtual_time
async def test_speech_in_frames_of_one_sample_is_whole() -> None:
    """However small the TTS cuts it, the voice comes back sample by sample."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        pcm = tone(0.05)
        await bot.send(TTSStartedFrame(context_id="c1"))
        await bot.send(
            *[TTSAudioRawFrame(pcm[i : i + 2], RATE, 1, context_id="c1") for i in range(0, len(pcm), 2)]
        )
        await bot.send(TTSStoppedFrame(context_id="c1"))
        await bot.until_stopped("c1")
        assert bot.voice()[: len(pcm) // 2].tobytes() == pcm


@in_virtual_time
async def test_empty_speech_holds_nothing_up() -> None:
    """A TTS frame without a sample does not keep the frames after it waiting."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        await bot.send(TTSStartedFrame(), TTSAudioRawFrame(b"", RATE, 1), sentence("text"), TTSStoppedFrame())
        await bot.down.until(lambda: bot.down.of(TTSStoppedFrame))
        assert bot.down.of(TTSTextFrame)


@in_virtual_time
async def test_text_follows_the_speech_that_was_played() -> None:
    """A sentence leaves after the avatar has played it, not when the TTS has made it."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        await bot.say(tone(0.3), sentence("one"), tone(0.3), sentence("two"))
        await bot.send(LLMFullResponseEndFrame())
        await bot.down.until(lambda: bot.down.of(LLMFullResponseEndFrame))
        order, played = [], 0.0
        for frame in bot.down.frames:
            if isinstance(frame, TTSAudioRawFrame):
                played += len(frame.audio) / 2 / RATE
            elif isinstance(frame, TTSTextFrame | TTSStoppedFrame | LLMFullResponseEndFrame):
                order.append((type(frame).__name__, getattr(frame, "text", None), played))
        assert [(kind, text) for kind, text, _ in order] == [
            ("TTSTextFrame", "one"),
            ("TTSTextFrame", "two"),
            ("TTSStoppedFrame", None),
            ("LLMFullResponseEndFrame", None),
        ]
        assert 0.3 <= order[0][2] < 0.4
        assert order[1][2] >= 0.6


@in_virtual_time
async def test_interruption_drops_what_was_not_played() -> None:
    """Unplayed text never leaves, no old sound follows, and the next reply comes from its first sample."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        await bot.say(tone(0.3), sentence("heard"), tone(3.0), sentence("unheard"))
        await bot.down.until(lambda: bot.down.of(TTSTextFrame))
        await bot.send(InterruptionFrame())
        await bot.down.until(lambda: bot.down.of(InterruptionFrame))
        after = bot.down.frames.index(bot.down.of(InterruptionFrame)[0])
        pcm = tone(0.3, hz=440)
        await bot.say(pcm, context_id="c2")
        await bot.until_stopped("c2")
        assert [f.text for f in bot.down.of(TTSTextFrame)] == ["heard"]
        assert {f.context_id for f in bot.down.frames[after:] if isinstance(f, TTSAudioRawFrame)} == {"c2"}
        assert np.array_equal(bot.voice("c2")[: len(pcm) // 2], np.frombuffer(pcm, np.int16))


@in_virtual_time
async def test_rapid_interruptions_leave_nothing_stuck() -> None:
    """After ten interruptions in a row the next reply plays whole."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        for number in range(10):
            await bot.say(tone(2.0), context_id=f"old{number}")
            await bot.send(InterruptionFrame())
            await bot.down.until(lambda count=number + 1: len(bot.down.of(InterruptionFrame)) == count)
        pcm = tone(0.2)
        await bot.say(pcm, context_id="new")
        await bot.until_stopped("new")
        assert np.array_equal(bot.voice("new")[: len(pcm) // 2], np.frombuffer(pcm, np.int16))


@in_virtual_time
async def test_uninterruptible_frame_survives_the_interruption() -> None:
    """A function's result that waits behind speech is not lost with it."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        await bot.say(tone(2.0))
        await bot.send(FunctionCallResultFrame("f", "call", {}, "result"))
        await bot.down.until(lambda: bot.down.of(TTSAudioRawFrame))
        await bot.send(InterruptionFrame())
        await bot.down.until(lambda: bot.down.of(FunctionCallResultFrame))
        kinds = InterruptionFrame | TTSStoppedFrame | FunctionCallResultFrame
        order = [type(f) for f in bot.down.frames if isinstance(f, kinds)]
        assert order == [InterruptionFrame, TTSStoppedFrame, FunctionCallResultFrame]


@in_virtual_time
async def test_uninterruptible_speech_survives_the_interruption() -> None:
    """A sentence that must be heard goes on as plain audio from where the avatar was stopped."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        frames = [*speech(tone(1.0), "c1"), sentence("notice"), TTSStoppedFrame(context_id="c1")]
        for frame in frames:
            frame.interruptible = False
        await bot.send(TTSStartedFrame(context_id="c1"), *frames)
        await bot.down.until(lambda: len(bot.down.of(TTSAudioRawFrame)) >= 3)
        await bot.send(InterruptionFrame())
        await bot.down.until(lambda: bot.down.of(TTSStoppedFrame))
        assert 1.0 <= len(bot.voice()) / RATE < 1.2
        assert [f.text for f in bot.down.of(TTSTextFrame)] == ["notice"]


@in_virtual_time
async def test_interruption_from_behind_brings_no_ghost_of_the_reply() -> None:
    """What the TTS still makes of a reply before it hears of the interruption is neither spoken nor told."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        await bot.send(TTSStartedFrame(context_id="c1"), *speech(tone(2.0), "c1"))
        await bot.down.until(lambda: bot.down.of(TTSAudioRawFrame))
        await bot.down.push_frame(InterruptionFrame(), FrameDirection.UPSTREAM)
        await bot.up.until(lambda: bot.up.of(InterruptionFrame))
        cut = len(bot.down.frames)
        ghost = sentence("unheard")
        ghost.context_id = "c1"
        await bot.send(*speech(tone(0.3), "c1"), ghost)
        await bot.say(tone(0.2), context_id="c2")
        await bot.until_stopped("c2")
        later = bot.down.frames[cut:]
        assert {f.context_id for f in later if isinstance(f, TTSAudioRawFrame)} == {"c2"}
        assert not bot.down.of(TTSTextFrame)


@in_virtual_time
async def test_interrupted_context_can_be_begun_anew() -> None:
    """A TTS that names every reply alike is heard again after an interruption."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        await bot.send(TTSStartedFrame(context_id="c1"), *speech(tone(2.0), "c1"))
        await bot.down.until(lambda: bot.down.of(TTSAudioRawFrame))
        await bot.send(InterruptionFrame())
        await bot.down.until(lambda: bot.down.of(InterruptionFrame))
        await bot.say(tone(0.2), context_id="c1")
        await bot.down.until(lambda: bot.down.of(TTSStoppedFrame))


@in_virtual_time
async def test_interrupted_playback_is_finished() -> None:
    """Every start of a playback that is told has its end told, too."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        await bot.say(tone(3.0))
        await bot.until_event("on_playback_started")
        await bot.send(InterruptionFrame(), InterruptionFrame())
        await bot.until_event("on_playback_finished")
        await bot.say(tone(0.2), context_id="c2")
        await bot.until_event("on_playback_finished", 2)
        assert bot.events["on_playback_finished"] == [("c1",), ("c2",)]


@in_virtual_time
async def test_reply_without_an_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A TTS that sends no stop frame does not keep the bot speaking, nor what follows the speech waiting."""
    monkeypatch.setattr(_delivery, "_REST_S", 0.4)
    monkeypatch.setattr(_delivery, "_STARVED_END_S", 0.5)
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        await bot.send(TTSStartedFrame(context_id="c1"), *speech(tone(0.3), "c1"), sentence("said"))
        await bot.down.until(lambda: bot.down.of(TTSTextFrame))
        await bot.until_event("on_playback_finished")
        await bot.until_stopped("c1")


@in_virtual_time
async def test_speech_waits_for_an_avatar_that_comes_in_time() -> None:
    """Speech that is early is held and then played by the avatar, from its first sample."""
    client = FakeClient()
    client.open_now.clear()
    async with running(client) as bot:
        pcm = tone(0.3)
        await bot.say(pcm)
        assert not bot.down.of(TTSAudioRawFrame)
        client.open_now.set()
        await bot.down.until(lambda: bot.down.of(TTSStoppedFrame))
        assert np.array_equal(bot.voice()[: len(pcm) // 2], np.frombuffer(pcm, np.int16))
        await bot.until_event("on_playback_finished")


@in_virtual_time
async def test_speech_passes_as_plain_audio_when_the_avatar_is_late() -> None:
    """After the wait the held speech and the rest of the reply pass at once; the avatar begins with a new reply."""
    client = FakeClient()
    client.open_now.clear()
    async with running(client, settings={"avatar_wait_s": 0.05}) as bot:
        first, second = tone(0.3), tone(0.3, hz=330)
        await bot.send(TTSStartedFrame(context_id="c1"), *speech(first, "c1"), sentence("one"))
        await bot.down.until(lambda: bot.down.of(TTSTextFrame))
        client.open_now.set()
        await bot.until_event("on_avatar_connected")
        await bot.send(*speech(second, "c1"), TTSStoppedFrame(context_id="c1"))
        await bot.down.until(lambda: bot.down.of(TTSStoppedFrame))
        assert bot.voice("c1").tobytes() == first + second
        assert not bot.events.get("on_playback_started")
        await bot.say(first, context_id="c2")
        await bot.until_event("on_playback_finished")
        assert bot.events["on_playback_started"] == [("c2",)]


@in_virtual_time
async def test_avatar_takes_over_when_the_plain_audio_was_heard() -> None:
    """A reply behind plain audio that is still playing is plain, too; the avatar begins in the silence after it."""
    client = FakeClient()
    client.open_now.clear()
    async with running(client, settings={"avatar_wait_s": 0.05}) as bot:
        await bot.say(tone(0.3), context_id="c1")
        await bot.down.until(lambda: bot.down.of(TTSStoppedFrame))
        await bot.down.push_frame(BotStartedSpeakingFrame(), FrameDirection.UPSTREAM)
        await bot.up.until(lambda: bot.up.of(BotStartedSpeakingFrame))
        client.open_now.set()
        await bot.until_event("on_avatar_connected")
        pcm = tone(0.3)
        await bot.say(pcm, context_id="c2")
        await bot.down.until(lambda: len(bot.down.of(TTSStoppedFrame)) == 2)
        assert bot.voice("c2").tobytes() == pcm
        await bot.down.push_frame(BotStoppedSpeakingFrame(), FrameDirection.UPSTREAM)
        await bot.up.until(lambda: bot.up.of(BotStoppedSpeakingFrame))
        await bot.say(pcm, context_id="c3")
        await bot.until_event("on_playback_finished")
        assert bot.events["on_playback_started"] == [("c3",)]


@in_virtual_time
async def test_failure_gives_one_error_and_the_bot_keeps_its_voice() -> None:
    """A session that cannot be opened is one categorised error; speech passes unchanged."""
    refused = AuthenticationError("API key required", status_code=401)
    async with running(FakeClient(refused)) as bot:
        await bot.until_event("on_fallback_started")
        pcm = tone(0.3)
        await bot.say(pcm)
        await bot.down.until(lambda: bot.down.of(TTSStoppedFrame))
        assert bot.voice().tobytes() == pcm
        assert [e.category for e in bot.up.of(ErrorFrame)] == [ErrorCategory.AUTHENTICATION]


@in_virtual_time
async def test_lost_avatar_hands_the_rest_of_the_reply_back() -> None:
    """When the link breaks in mid-reply, what was not played goes on as plain audio, then the avatar comes back."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        pcm = tone(1.0)
        await bot.say(pcm, sentence("end"))
        await bot.down.until(lambda: len(bot.down.of(TTSAudioRawFrame)) >= 5)
        bot.links[0].crash("test")
        await bot.down.until(lambda: bot.down.of(TTSStoppedFrame))
        played = len(bot.voice()) / RATE
        assert 1.0 <= played < 1.2  # at most what was under way is said twice
        assert len(bot.up.of(ErrorFrame)) == 1
        await bot.until_event("on_fallback_ended")
        await bot.say(tone(0.2), context_id="c2")
        await bot.until_event("on_playback_finished")
        assert bot.client.opened == ["sess_1", "sess_2"]
        assert bot.client.ended == ["sess_1"]


@in_virtual_time
async def test_lost_avatar_is_missed_before_its_session_has_ended() -> None:
    """The bot has its voice back at once, however long the farewell from the lost session takes."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        bot.client.end_now.clear()
        await bot.say(tone(1.0))
        await bot.down.until(lambda: bot.down.of(TTSAudioRawFrame))
        bot.links[0].crash("test")
        await bot.down.until(lambda: bot.down.of(TTSStoppedFrame))
        await bot.until_event("on_fallback_started")
        assert not bot.client.ended
        assert len(bot.up.of(ErrorFrame)) == 1
        bot.client.end_now.set()


@in_virtual_time
async def test_avatar_without_a_voice_is_given_up() -> None:
    """When no sound comes back, the speech is heard as plain audio and the failure is told."""
    async with running(link_options={"voice": False}, settings={"no_audio_timeout_s": 0.2}) as bot:
        await bot.until_event("on_avatar_connected")
        pcm = tone(0.2)
        await bot.say(pcm)
        await bot.down.until(lambda: bot.down.of(TTSStoppedFrame))
        assert bot.voice().tobytes() == pcm
        await bot.until_event("on_fallback_started")
        assert [e.category for e in bot.up.of(ErrorFrame)] == [ErrorCategory.CONNECTIVITY]


@in_virtual_time
async def test_nothing_is_lost_when_the_avatar_goes_while_frames_are_handed_on() -> None:
    """A failure in the middle of a push loses none of the frames that were due with the one on its way."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        pushing, forever = asyncio.Event(), asyncio.Event()

        @bot.service.event_handler("on_before_push_frame")
        async def on_push(_: object, frame: Frame) -> None:
            if isinstance(frame, TTSTextFrame) and frame.text == "first" and not pushing.is_set():
                pushing.set()
                await forever.wait()

        await bot.say(tone(0.2), sentence("first"), sentence("second"))
        async with asyncio.timeout(WAIT_S):
            await pushing.wait()
        bot.links[0].crash("test")
        await bot.down.until(lambda: bot.down.of(TTSStoppedFrame))
        assert "second" in [f.text for f in bot.down.of(TTSTextFrame)]


@in_virtual_time
async def test_end_waits_for_the_avatar_to_finish() -> None:
    """An EndFrame follows the last word; then the session is over."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        pcm = tone(0.5)
        await bot.say(pcm)
        await bot.send(EndFrame())
        await bot.down.until(lambda: bot.down.of(EndFrame))
        assert np.array_equal(bot.voice()[: len(pcm) // 2], np.frombuffer(pcm, np.int16))
        assert bot.client.ended == bot.client.opened == ["sess_1"]


@in_virtual_time
@pytest.mark.parametrize("moment", ["connecting", "falling back"])
async def test_end_without_an_avatar_passes_the_speech(moment: str) -> None:
    """An EndFrame that comes while there is no avatar follows the last word, spoken as plain audio."""
    client = FakeClient()
    client.open_now.clear()
    if moment == "falling back":
        client.failure = ServerError("down", status_code=503, retryable=True)
    async with running(client, settings={"avatar_wait_s": 0.2}) as bot:
        pcm = tone(0.3)
        await bot.say(pcm, sentence("end"))
        await bot.send(EndFrame())
        if moment == "falling back":
            client.open_now.set()
        await bot.down.until(lambda: bot.down.of(EndFrame))
        assert bot.voice().tobytes() == pcm
        assert [f.text for f in bot.down.of(TTSTextFrame)] == ["end"]


@in_virtual_time
async def test_interruption_while_connecting_drops_what_was_held() -> None:
    """The avatar's first words are the next reply's, not those that were held for it before."""
    client = FakeClient()
    client.open_now.clear()
    async with running(client) as bot:
        await bot.send(TTSStartedFrame(context_id="c1"))
        await bot.send(*speech(tone(1.0), "c1"), FunctionCallResultFrame("f", "call", {}, "result"))
        await bot.until_processed(FunctionCallResultFrame)
        await bot.send(InterruptionFrame())
        await bot.down.until(lambda: bot.down.of(FunctionCallResultFrame))
        client.open_now.set()
        pcm = tone(0.2)
        await bot.say(pcm, context_id="c2")
        await bot.until_stopped("c2")
        assert np.array_equal(bot.voice("c2")[: len(pcm) // 2], np.frombuffer(pcm, np.int16))
        assert not len(bot.voice("c1"))


@in_virtual_time
@pytest.mark.parametrize("moment", ["creating", "joining", "idle", "speaking"])
async def test_cancel_leaves_no_session(moment: str) -> None:
    """A bot that is cancelled at any moment has ended its session."""
    client = FakeClient()
    if moment == "creating":
        client.open_now.clear()
    async with running(client, link_options={"connect_delay_s": 60 if moment == "joining" else 0}) as bot:
        if moment in ("idle", "speaking"):
            await bot.until_event("on_avatar_connected")
        if moment == "joining":
            await bot.until_event("on_session_started")
        if moment == "speaking":
            await bot.say(tone(3.0))
            await bot.down.until(lambda: bot.down.of(TTSAudioRawFrame))
    assert len(client.opened) == (moment != "creating")
    assert not client.leaked


@in_virtual_time
async def test_cancel_does_not_wait_for_the_avatar(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bot that is cancelled while speech waits for the avatar is gone at once."""
    monkeypatch.setattr(video, "_END_TIMEOUT_S", 2 * WAIT_S)
    client = FakeClient()
    client.open_now.clear()
    async with running(client, settings={"avatar_wait_s": 2 * WAIT_S}) as bot:
        await bot.say(tone(0.2))
        await bot.until_processed(TTSStoppedFrame)


@in_virtual_time
async def test_cleanup_without_setup_is_harmless() -> None:
    """A service whose pipeline never started can be cleaned up."""
    await AgentHumanVideoService(client=FakeClient()).cleanup()


@in_virtual_time
async def test_picture_waits_for_the_transport() -> None:
    """No picture leaves before the transport can show it; then RGB pictures of the avatar's size do."""
    async with running(transport_ready=False) as bot:
        await bot.until_event("on_avatar_connected")
        await bot.say(tone(0.2))
        await bot.down.until(lambda: bot.down.of(TTSStoppedFrame))
        assert not bot.down.of(OutputImageRawFrame)
    async with running() as bot:
        await bot.down.until(lambda: len(bot.down.of(OutputImageRawFrame)) >= 3)
        picture = bot.down.of(OutputImageRawFrame)[0]
        assert picture.format == "RGB"
        assert len(picture.image) == picture.size[0] * picture.size[1] * 3
        await bot.until_event("on_first_video_frame")


@in_virtual_time
async def test_session_without_a_room_is_not_opened_again() -> None:
    """An answer that names no room is an error; sessions are billed, so the next one is not tried."""
    client = FakeClient()
    async with running_service(AgentHumanVideoService(client=client), client) as bot:
        await bot.until_event("on_fallback_started")
        await bot.until_event("on_gave_up")
        await bot.until_event("on_session_ended")
        assert client.opened == client.ended == ["sess_1"]


@in_virtual_time
async def test_passing_failure_is_tried_again_and_reported_once() -> None:
    """A service that is down is asked again; the user hears of it once."""
    client = FakeClient(ServerError("down", status_code=503, retryable=True))
    async with running(client) as bot:
        await bot.until_event("on_fallback_started")
        client.failure = None
        await bot.until_event("on_avatar_connected")
        await bot.until_event("on_fallback_ended")
        assert [e.category for e in bot.up.of(ErrorFrame)] == [ErrorCategory.SERVER]


def test_missing_key_fails_at_construction(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key nothing is started, and the message says what to set."""
    monkeypatch.delenv("AGENTHUMAN_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="AGENTHUMAN_API_KEY"):
        AgentHumanVideoService()


def test_wrong_ratio_fails_at_construction() -> None:
    """The message names the allowed ratios."""
    with pytest.raises(AgentHumanError, match="4:3, 3:4, 1:1"):
        AgentHumanVideoService(client=FakeClient(), aspect_ratio="16:9")


@in_virtual_time
async def test_session_options_reach_the_client() -> None:
    """Avatar, metadata and the resolved ratio are what the session is opened with."""
    async with running(avatar="avat_x", metadata={"a": 1}) as bot:
        await bot.until_event("on_session_started")
        (options,) = bot.client.options
        assert options["timeout"] > 60  # a slow create is worth waiting for
        del options["timeout"]
        assert options == {"avatar": "avat_x", "aspect_ratio": "4:3", "metadata": {"a": 1}, "room": None}
        assert bot.service.session_id == "sess_1"


@in_virtual_time
async def test_avatar_that_stayed_is_brought_back_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only avatars that never came or left at once count towards giving up: a bad network is not their end."""
    monkeypatch.setattr(_retries, "BACKOFF_S", (0.0, 60.0))
    async with running() as bot:
        for number in range(1, _retries.MAX_USELESS_SESSIONS + 3):
            await bot.until_event("on_avatar_connected", number)
            await asyncio.sleep(_retries._STAYED_S + 1.0)
            bot.links[-1].crash()


@in_virtual_time
async def test_sessions_without_an_avatar_come_to_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """When no avatar ever appears, no more sessions are opened, and billed, after five."""
    monkeypatch.setattr(_retries, "BACKOFF_S", (0.0, 0.0))
    monkeypatch.setattr(_session, "_JOIN_TIMEOUT_S", 0.01)
    async with running(link_options={"connect_delay_s": 60}) as bot:
        await bot.until_event("on_gave_up")
        await bot.say(tone(0.1))
        await bot.down.until(lambda: bot.down.of(TTSStoppedFrame))
        assert len(bot.client.opened) == 5
        assert "5 sessions" in bot.up.of(ErrorFrame)[1].error
