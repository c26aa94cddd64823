"""The next reply after an interruption: soon, and without anything of the one before."""

import asyncio

import numpy as np
import pytest
from pipecat.frames.frames import (
    Frame,
    InterruptionFrame,
    OutputImageRawFrame,
    TTSAudioRawFrame,
    TTSTextFrame,
)

from tests.pipecat.bot import RATE, running, sentence, tone
from tests.virtual_time import in_virtual_time

OLD, NEW = 8_000, 20_000
OLD_GREY, NEW_GREY = (32 + loud * 223 // 32_768 for loud in (OLD, NEW))  # of the in-process avatar's picture


@in_virtual_time
@pytest.mark.parametrize("delay_s", [0.05, 0.1, 0.2, 0.3, 0.4])
async def test_next_reply_after_an_avatar_that_reports_nothing(delay_s):
    """It is on the wire within 0.3 s of the answer to the clear, and nothing old is heard or seen, however late."""
    clock = asyncio.get_running_loop().time
    silent = {"reports_starts": False, "reports_per_utterance": 0, "media_delay_s": delay_s, "fps": 50}
    answered_at, sent_at = [], []
    async with running(link_options=silent) as bot:
        await bot.until_event("on_avatar_connected")
        link = bot.links[0]
        clear, send = link._playout.clear, link.send

        def note_clear():
            answered_at.append(clock())
            return clear()

        async def note_send(pcm: bytes) -> int:
            sent_at.append(clock())
            return await send(pcm)

        pushed: list[Frame] = []  # behind the service an interruption overtakes what was pushed before it

        @bot.service.event_handler("on_before_push_frame")
        async def on_push(_: object, frame: Frame) -> None:
            pushed.append(frame)

        await bot.say(tone(6, loud=OLD))
        await bot.down.until(lambda: bot.voice("c1").size > RATE // 4)
        await bot.down.until(lambda: any(f.image[0] == OLD_GREY for f in bot.down.of(OutputImageRawFrame)))
        link._playout.clear, link.send = note_clear, note_send
        await bot.send(InterruptionFrame())
        await bot.say(tone(0.5, loud=NEW, hz=530.0), context_id="c2")
        await bot.until_stopped("c2")
        cut = next(i for i, f in enumerate(pushed) if isinstance(f, InterruptionFrame))
        later = pushed[cut:]
    voice = np.frombuffer(b"".join(f.audio for f in later if isinstance(f, TTSAudioRawFrame)), np.int16)
    greys = [f.image[0] for f in later if isinstance(f, OutputImageRawFrame)]
    assert sent_at[0] - answered_at[0] <= 0.3
    assert np.count_nonzero(np.abs(voice) == OLD) == 0, "stale voice"
    assert greys.count(OLD_GREY) == 0, "stale frames"
    assert np.count_nonzero(np.abs(voice) == NEW) >= 0.99 * RATE / 2
    assert NEW_GREY in greys


@in_virtual_time
async def test_avatar_that_is_back_at_once_keeps_its_session_and_loses_no_word():
    """What it had is heard as plain audio, and the next reply is the avatar's again."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        link = bot.links[0]
        await bot.say(tone(3, loud=OLD), sentence("All of it."))
        await bot.down.until(lambda: bot.voice("c1").size > RATE // 2)
        link.restart()
        await bot.until_stopped("c1")
        assert np.count_nonzero(np.abs(bot.voice("c1")) == OLD) >= 2.9 * RATE
        assert [frame.text for frame in bot.down.of(TTSTextFrame)] == ["All of it."]
        await bot.say(tone(1, loud=NEW, hz=530.0), context_id="c2")
        await bot.until_event("on_playback_finished", 2)
        assert np.count_nonzero(np.abs(bot.voice("c2")) == NEW) >= 0.99 * RATE
        assert bot.client.opened == ["sess_1"]
        assert len(bot.links) == 1
