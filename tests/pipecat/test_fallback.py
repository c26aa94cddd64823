"""Never silent: what happens when the avatar is late, mute or gone, and what the settings change about it."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from pipecat.frames.frames import ErrorFrame, InterruptionFrame, TTSAudioRawFrame, TTSStartedFrame
from pipecat.utils.errors import ErrorCategory

from agenthuman_plugins.client import ConfigurationError, ServerError
from agenthuman_plugins.pipecat import AgentHumanVideoService, AgentHumanVideoUpdateSettingsFrame
from agenthuman_plugins.speech.link import AvatarAudio
from agenthuman_plugins.speech.playout import Finished, Started
from tests.pipecat.bot import RATE, FakeClient, running, sentence, speech, tone
from tests.pipecat.faults.words import heard, spoken
from tests.virtual_time import in_virtual_time

Settings = AgentHumanVideoService.Settings


@in_virtual_time
async def test_late_avatar_is_a_fallback_without_an_error() -> None:
    """An avatar that takes too long makes no ErrorFrame, but the application hears of it, and of its end."""
    client = FakeClient()
    client.open_now.clear()
    async with running(client, settings={"avatar_wait_s": 0.05}) as bot:
        await bot.say(tone(0.1))
        await bot.until_event("on_fallback_started")
        assert "0.05 s" in bot.events["on_fallback_started"][0][0]
        client.open_now.set()
        await bot.until_event("on_fallback_ended")
        assert not bot.up.of(ErrorFrame)


@in_virtual_time
async def test_failure_after_a_late_start_is_one_error_and_no_second_fallback() -> None:
    """Each fallback is told once, whatever comes on top of it."""
    client = FakeClient(ServerError("down", status_code=503, retryable=True))
    client.open_now.clear()
    async with running(client, settings={"avatar_wait_s": 0.05}) as bot:
        await bot.say(tone(0.1))
        await bot.until_event("on_fallback_started")
        client.open_now.set()
        await bot.up.until(lambda: bot.up.of(ErrorFrame))
        client.failure = None
        await bot.until_event("on_fallback_ended")
        assert [e.category for e in bot.up.of(ErrorFrame)] == [ErrorCategory.SERVER]
        assert len(bot.events["on_fallback_started"]) == 1


@in_virtual_time
async def test_replies_that_are_cut_before_they_are_heard_are_no_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who interrupts again and again hears nothing for long, and that is not the avatar's fault."""
    monkeypatch.setattr("agenthuman_plugins.pipecat.reply._speaker._GAP_S", 0.0)
    async with running(settings={"no_audio_timeout_s": 1.0}) as bot:
        await bot.until_event("on_avatar_connected")
        bot.links[0]._playout.push = lambda _: None  # type: ignore[method-assign]
        for number in range(14):
            await bot.send(TTSStartedFrame(context_id=f"c{number}"), *speech(tone(1.0), f"c{number}"))
            await asyncio.sleep(0.1)
            await bot.send(InterruptionFrame())
        assert not bot.up.of(ErrorFrame)


@in_virtual_time
async def test_avatar_that_falls_mute_in_mid_reply_is_given_up() -> None:
    """The reply goes on as plain audio from its last heard sound, though silence still comes from the avatar."""
    async with running(settings={"no_audio_timeout_s": 0.3}) as bot:
        await bot.until_event("on_avatar_connected")
        pcm = tone(1.5)
        await bot.say(pcm, sentence("end"))
        await bot.down.until(lambda: len(bot.down.of(TTSAudioRawFrame)) >= 5)
        link = bot.links[0]
        link._playout.take = lambda samples: (bytes(2 * samples), [])  # type: ignore[method-assign]
        await bot.until_stopped("c1")
        loud = int((abs(bot.voice().astype(int)) > 4000).sum())
        assert abs(loud - len(pcm) // 2) <= 0.02 * RATE
        assert len(bot.up.of(ErrorFrame)) == 1
        await bot.until_event("on_fallback_ended")


def _louder_than_made_up(sound: np.ndarray) -> int:
    return int((np.abs(sound.astype(int)) > 6500).sum())


@in_virtual_time
async def test_sound_that_was_made_up_was_not_said() -> None:
    """The reply goes on from the last sound that really came; what the receiver put in its place is on top."""
    async with running(settings={"no_audio_timeout_s": 0.3}) as bot:
        await bot.until_event("on_avatar_connected")
        pcm = tone(1.5)
        await bot.say(pcm, sentence("end"))
        await bot.down.until(lambda: len(bot.down.of(TTSAudioRawFrame)) >= 5)
        link, made_up = bot.links[0], [tone(0.04, loud=6000)] * 5
        put, blocks = link._audio.put, 0

        def put_measured(audio: AvatarAudio) -> None:
            nonlocal blocks
            blocks += 1
            put(replace(audio, concealed_s=blocks * len(audio.pcm) / 2 / audio.sample_rate))

        link._audio.put = put_measured  # type: ignore[method-assign]
        link._playout.take = lambda samples: ((made_up or [bytes(2 * samples)]).pop(), [])  # type: ignore[method-assign]
        await bot.until_stopped("c1")
        said, heard = (_louder_than_made_up(sound) for sound in (np.frombuffer(pcm, np.int16), bot.voice()))
        assert heard == pytest.approx(said, rel=0.04)
        assert len(bot.up.of(ErrorFrame)) == 1


@in_virtual_time
@pytest.mark.parametrize("beginning_lost", [False, True])
async def test_no_word_is_lost_when_the_voice_was_behind(beginning_lost: bool) -> None:
    """An avatar that is lost after a stall, when its voice is not where the time says, is followed by the next word."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        link, stalled = bot.links[0], 0
        take = link._playout.take

        def take_after_a_stall(samples: int) -> tuple[bytes, list[Started | Finished]]:
            nonlocal stalled
            if beginning_lost and not stalled and link._playout._utterances:
                stalled = 15
                lost, reports = take(stalled * samples)
                assert any(lost)
                return bytes(2 * samples), reports
            if not beginning_lost and len(bot.voice()) > 0.5 * RATE and stalled < 12:
                stalled += 1
                return tone(samples / RATE), []
            return take(samples)

        link._playout.take = take_after_a_stall  # type: ignore[method-assign]
        await bot.say(spoken(20), sentence("end"))
        await bot.down.until(lambda: len(bot.voice()) > 1.1 * RATE)
        link.crash("test")
        await bot.until_stopped("c1")
        words = [word for word, _ in heard(bot.voice().tobytes())]
        assert words == list(range(words[0], 20))


@in_virtual_time
async def test_pause_in_the_speech_is_no_failure() -> None:
    """A reply may be silent for longer than no_audio_timeout_s when that is how it was spoken."""
    async with running(settings={"no_audio_timeout_s": 0.2}) as bot:
        await bot.until_event("on_avatar_connected")
        await bot.say(tone(0.2) + bytes(2 * RATE) + tone(0.2))
        await bot.until_event("on_playback_finished")
        assert not bot.up.of(ErrorFrame)


@in_virtual_time
async def test_slow_tts_is_no_failure() -> None:
    """An avatar that waits for the rest of the speech is not mute."""
    async with running(settings={"no_audio_timeout_s": 0.2}) as bot:
        await bot.until_event("on_avatar_connected")
        await bot.send(*speech(tone(0.2), "c1"))
        await asyncio.sleep(0.8)
        await bot.say(context_id="c2")
        await bot.until_stopped("c2")
        assert not bot.up.of(ErrorFrame)


@in_virtual_time
async def test_policy_fail_gives_up_with_a_permanent_error() -> None:
    """With on_failure="fail" no other session is opened and the service is unusable; the reply is still heard."""
    async with running(settings={"on_failure": "fail"}) as bot:
        await bot.until_event("on_avatar_connected")
        await bot.say(tone(1.0))
        await bot.down.until(lambda: bot.down.of(TTSAudioRawFrame))
        bot.links[0].crash("test")
        await bot.until_stopped("c1")
        assert len(bot.voice()) >= RATE
        await bot.up.until(lambda: bot.up.of(ErrorFrame))
        await bot.until_event("on_gave_up")
        assert not bot.service.is_usable
        assert bot.client.opened == ["sess_1"]
        assert len(bot.up.of(ErrorFrame)) == 1


@in_virtual_time
async def test_settings_change_while_the_bot_runs() -> None:
    """An update counts from the next moment on; a wrong one changes nothing and is told."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        await bot.send(AgentHumanVideoUpdateSettingsFrame(delta=Settings(max_idle_secs=0.2)))
        await bot.until_event("on_session_ended")
        await bot.send(AgentHumanVideoUpdateSettingsFrame(delta=Settings(no_audio_timeout_s=-1.0)))
        await bot.up.until(lambda: bot.up.of(ErrorFrame))
        assert "no_audio_timeout_s" in bot.up.of(ErrorFrame)[0].error
        assert bot.service._settings.no_audio_timeout_s == 3.0
        assert not bot.down.of(AgentHumanVideoUpdateSettingsFrame)


@in_virtual_time
async def test_settings_of_another_service_pass() -> None:
    """An update that names another service is that one's."""
    other = AgentHumanVideoService(client=FakeClient())
    async with running() as bot:
        update = AgentHumanVideoUpdateSettingsFrame(delta=Settings(max_idle_secs=1.0), service=other)
        await bot.send(update)
        await bot.down.until(lambda: update in bot.down.frames)
        assert bot.service._settings.max_idle_secs is None
    await other.cleanup()


@pytest.mark.parametrize(
    "wrong",
    [
        {"on_failure": "panic"},
        {"no_audio_timeout_s": 0},
        {"max_idle_secs": "ten"},
        {"max_idle_secs": float("nan")},
        {"avatar_wait_s": -1},
        {"no_audio_timeout_s": None},
    ],
)
def test_wrong_settings_fail_at_construction(wrong: dict[str, object]) -> None:
    """A value that cannot work is named before anything starts."""
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        AgentHumanVideoService(client=FakeClient(), settings=Settings(**wrong))


def test_wrong_connect_fails_at_construction() -> None:
    """The message names what is allowed."""
    with pytest.raises(ConfigurationError, match="first_speech"):
        AgentHumanVideoService(client=FakeClient(), connect="later")  # type: ignore[arg-type]


def test_empty_key_fails_at_construction() -> None:
    """A key that is given but empty is told at once, not at the first request."""
    with pytest.raises(ConfigurationError, match="API key"):
        AgentHumanVideoService(api_key="")


@in_virtual_time
@pytest.mark.parametrize("cut_at", [1, 319, 641])
async def test_frame_that_ends_in_mid_sample_loses_nothing(cut_at: int) -> None:
    """An odd byte at the end of a frame belongs to the first sample of the next one."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        pcm = tone(0.2)
        for piece in (pcm[:cut_at], pcm[cut_at:]):
            await bot.send(TTSAudioRawFrame(piece, RATE, 1, context_id="c1"))
        await bot.say(context_id="c2")
        await bot.until_stopped("c2")
        assert bot.voice()[: len(pcm) // 2].tobytes() == pcm
