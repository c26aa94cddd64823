"""The Pipecat service, with a real pipeline and an avatar in this process."""

import asyncio

import numpy as np
import pytest
from pipecat.frames.frames import (
    EndFrame,
    ErrorFrame,
    FunctionCallResultFrame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    OutputImageRawFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.utils.errors import ErrorCategory

from agenthuman_plugins.client import AgentHumanError, AuthenticationError, ConfigurationError, ServerError
from agenthuman_plugins.pipecat import AgentHumanVideoService

from tests.pipecat.bot import RATE, FakeClient, running, speech, tone


def _text(text: str) -> TTSTextFrame:
    return TTSTextFrame(text, text_type="sentence")


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


async def test_speech_at_another_rate_comes_back_whole() -> None:
    """A 24 kHz voice is resampled to the avatar without losing its tail."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        await bot.say(tone(0.5, rate=24_000), rate=24_000)
        await bot.down.until(lambda: bot.down.of(TTSStoppedFrame))
        loud = np.flatnonzero(np.abs(bot.voice().astype(int)) > 4000)
        assert abs((loud[-1] - loud[0] + 1) / RATE - 0.5) < 0.002


async def test_empty_speech_holds_nothing_up() -> None:
    """A TTS frame without a sample does not keep the frames after it waiting."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        await bot.send(TTSStartedFrame(), TTSAudioRawFrame(b"", RATE, 1), _text("text"), TTSStoppedFrame())
        await bot.down.until(lambda: bot.down.of(TTSStoppedFrame))
        assert bot.down.of(TTSTextFrame)


async def test_text_follows_the_speech_that_was_played() -> None:
    """A sentence leaves after the avatar has played it, not when the TTS has made it."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        await bot.say(tone(0.3), _text("one"), tone(0.3), _text("two"))
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


async def test_interruption_drops_what_was_not_played() -> None:
    """Unplayed text never leaves, no old sound follows, and the next reply comes from its first sample."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        await bot.say(tone(0.3), _text("heard"), tone(3.0), _text("unheard"))
        await bot.down.until(lambda: bot.down.of(TTSTextFrame))
        await bot.send(InterruptionFrame())
        await bot.down.until(lambda: bot.down.of(InterruptionFrame))
        after = bot.down.frames.index(bot.down.of(InterruptionFrame)[0])
        pcm = tone(0.3, hz=440)
        await bot.say(pcm, context_id="c2")
        await bot.down.until(lambda: bot.down.of(TTSStoppedFrame))
        assert [f.text for f in bot.down.of(TTSTextFrame)] == ["heard"]
        assert {f.context_id for f in bot.down.frames[after:] if isinstance(f, TTSAudioRawFrame)} == {"c2"}
        assert np.array_equal(bot.voice("c2")[: len(pcm) // 2], np.frombuffer(pcm, np.int16))


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
        await bot.down.until(lambda: any(f.context_id == "new" for f in bot.down.of(TTSStoppedFrame)))
        assert np.array_equal(bot.voice("new")[: len(pcm) // 2], np.frombuffer(pcm, np.int16))


async def test_uninterruptible_frame_survives_the_interruption() -> None:
    """A function's result that waits behind speech is not lost with it."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        await bot.say(tone(2.0))
        await bot.send(FunctionCallResultFrame("f", "call", {}, "result"))
        await bot.down.until(lambda: bot.down.of(TTSAudioRawFrame))
        await bot.send(InterruptionFrame())
        await bot.down.until(lambda: bot.down.of(FunctionCallResultFrame))
        order = [
            type(f) for f in bot.down.frames if isinstance(f, InterruptionFrame | FunctionCallResultFrame)
        ]
        assert order == [InterruptionFrame, FunctionCallResultFrame]


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


async def test_speech_passes_as_plain_audio_when_the_avatar_is_late() -> None:
    """After the wait the held speech and the rest of the reply pass at once; the avatar begins with a new reply."""
    client = FakeClient()
    client.open_now.clear()
    async with running(client, avatar_wait_s=0.05) as bot:
        first, second = tone(0.3), tone(0.3, hz=330)
        await bot.send(TTSStartedFrame(context_id="c1"), *speech(first, "c1"), _text("one"))
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


async def test_lost_avatar_hands_the_rest_of_the_reply_back() -> None:
    """When the link breaks in mid-reply, what was not played goes on as plain audio, then the avatar comes back."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        pcm = tone(1.0)
        await bot.say(pcm, _text("end"))
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


async def test_cleanup_without_setup_is_harmless() -> None:
    """A service whose pipeline never started can be cleaned up."""
    await AgentHumanVideoService(client=FakeClient()).cleanup()


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


async def test_session_options_reach_the_client() -> None:
    """Avatar, metadata and the resolved ratio are what the session is opened with."""
    async with running(avatar="avat_x", metadata={"a": 1}) as bot:
        await bot.until_event("on_session_started")
        assert bot.client.options == [{"avatar": "avat_x", "aspect_ratio": "4:3", "metadata": {"a": 1}}]
        assert bot.service.session_id == "sess_1"
        await asyncio.sleep(0)
