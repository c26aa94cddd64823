"""The avatar without a network: order, step and interruption."""

import asyncio

import pytest

from agenthuman_plugins.emulator.worker._loop import AvatarLoop
from tests.emulator.worker.fakes import BLOCK, HANG_LIMIT_S, SILENCE, Stage, loop_on, mark, tone


@pytest.fixture
async def stage() -> Stage:
    return Stage()


async def test_idle_avatar_shows_pictures_and_sends_silence(stage: Stage) -> None:
    """An avatar with nothing to say goes on publishing, mouth closed."""
    avatar = loop_on(stage)
    for _ in range(3):
        await avatar.step()
    assert stage.of("sound") == [(SILENCE,)] * 3
    assert stage.of("picture") == [(0, 0.0, 0.0), (40_000, 0.04, 0.0), (80_000, 0.08, 0.0)]
    assert not stage.of("started")


async def test_picture_and_sound_of_a_block_leave_together(stage: Stage) -> None:
    """Picture n is followed by block n, for as long as one listens; the clocks never part."""
    avatar = loop_on(stage)
    for number in range(1, 51):
        avatar.push(mark(number))
    for _ in range(50):
        await avatar.step()
    media = [entry for entry in stage.log if entry[0] in {"picture", "sound"}]
    for number in range(50):
        picture, sound = media[2 * number : 2 * number + 2]
        assert (picture[0], picture[1]) == ("picture", number * 40_000)
        assert sound == ("sound", mark(number + 1))


async def test_mouth_is_drawn_from_the_block_that_is_heard_with_it(stage: Stage) -> None:
    """The mouth opens in the very picture that goes with the first loud block."""
    avatar = loop_on(stage)
    avatar.push(bytes(2 * BLOCK) + tone(2) + bytes(2 * BLOCK))
    for _ in range(4):
        await avatar.step()
    openings = [opening for _, _, opening in stage.of("picture")]
    assert openings[0] == 0
    assert openings[1] > 0.3
    assert openings[3] < openings[2]


async def test_started_comes_before_the_first_sound_and_finished_after_the_last(stage: Stage) -> None:
    """Reports frame the utterance; the position is its whole length."""
    avatar = loop_on(stage)
    avatar.push(mark(1) + mark(2)[:960])
    avatar.end()
    for _ in range(3):
        await avatar.step()
    kinds = [entry[0] for entry in stage.log if entry[0] != "picture"]
    assert kinds == ["started", "sound", "sound", "finished", "sound"]
    assert stage.of("finished") == [((BLOCK + 480) / 16_000, False)]


async def test_clear_silences_and_closes_the_mouth_in_the_next_block(stage: Stage) -> None:
    """After a clear no further sample is heard, the mouth is shut, and the sink's queue is dropped."""
    avatar = loop_on(stage)
    avatar.push(tone(50))
    for _ in range(5):
        await avatar.step()
    assert stage.of("picture")[-1][2] > 0.5
    avatar.clear()
    assert stage.log[-2:] == [("cleared",), ("finished", 0.2, True)]
    await avatar.step()
    assert stage.of("picture")[-1][2] == 0
    assert stage.of("sound")[-1] == (SILENCE,)


async def test_position_of_an_interrupted_utterance_is_what_was_heard(stage: Stage) -> None:
    """What still waits in the sink's queue was not heard."""
    avatar = loop_on(stage)
    avatar.push(tone(50))
    for _ in range(5):
        await avatar.step()
    stage.queued_s = 0.03
    avatar.clear()
    assert stage.of("finished") == [(0.17, True)]


async def test_block_that_is_cleared_while_it_is_drawn_is_never_heard(stage: Stage) -> None:
    """A clear in the middle of a step replaces its block by silence and its picture by a closed mouth."""
    avatar = loop_on(stage)
    avatar.push(tone(50))
    await avatar.step()
    stage.may_draw = asyncio.Event()
    step = asyncio.create_task(avatar.step())
    async with asyncio.timeout(HANG_LIMIT_S):
        await stage.drawing.wait()
        avatar.clear()
        stage.may_draw.set()
        await step
    assert stage.of("sound")[-1] == (SILENCE,)
    assert stage.of("picture")[-1][2] == 0
    assert stage.of("finished") == [(0.04, True)]


async def test_clear_during_the_last_block_is_an_interruption(stage: Stage) -> None:
    """An utterance whose last block is not out yet is reported once, as interrupted."""
    avatar = loop_on(stage)
    avatar.push(tone(2))
    avatar.end()
    await avatar.step()
    stage.may_draw = asyncio.Event()
    step = asyncio.create_task(avatar.step())
    async with asyncio.timeout(HANG_LIMIT_S):
        await stage.drawing.wait()
        avatar.clear()
        stage.may_draw.set()
        await step
    assert stage.of("finished") == [(0.04, True)]


async def test_clear_of_a_silent_avatar_reports_nothing(stage: Stage) -> None:
    """As a stock avatar, this one answers a clear with a report only if it was speaking."""
    avatar = loop_on(stage)
    await avatar.step()
    avatar.clear()
    avatar.push(tone(1)[:100])
    avatar.clear()
    assert not stage.of("finished")


async def test_next_utterance_after_a_clear_plays_from_its_first_sample(stage: Stage) -> None:
    """Ten interruptions in a row leave nothing behind."""
    avatar = loop_on(stage)
    for number in range(1, 11):
        avatar.push(mark(number) * 5)
        await avatar.step()
        assert stage.of("sound")[-1] == (mark(number),)
        avatar.clear()
    assert len(stage.of("started")) == 10
    assert stage.of("finished") == [(0.04, True)] * 10


async def test_run_keeps_the_schedule(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks are due every 40 ms from the start; a short delay is made up for, a long one is not."""
    now, waits = [100.0], []
    stop = asyncio.Event()
    delays = {3: 0.07, 8: 5.0}  # block number: how much its drawing takes too long

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return now[0]

    async def sleep(seconds: float) -> None:
        waits.append(round(seconds, 6))
        now[0] += seconds
        if len(waits) == 12:
            stop.set()
            await asyncio.Event().wait()

    async def play(_: bytes) -> None:
        now[0] += 0.01 + delays.pop(len(waits), 0.0)

    monkeypatch.setattr("agenthuman_plugins.emulator.worker._loop.time", Clock)
    monkeypatch.setattr("agenthuman_plugins.emulator.worker._loop._sleep", sleep)
    monkeypatch.setattr(stage, "play", play)
    running = asyncio.create_task(AvatarLoop(stage, stage, stage, stage).run())
    async with asyncio.timeout(HANG_LIMIT_S):
        await stop.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert waits[:3] == [0.03] * 3
    assert waits[3:7] == [0.0, 0.0, 0.02, 0.03]  # 40 ms late, 10 ms late, 10 ms of it left, in time
    assert waits[8] == 0.0
    assert waits[9:] == [0.03] * 3
