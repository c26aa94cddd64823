"""The avatar's picture on its way to the transport."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest
from livekit import rtc
from loguru import logger
from pipecat.frames.frames import (
    Frame,
    InterruptionFrame,
    OutputAudioRawFrame,
    OutputImageRawFrame,
    OutputTransportReadyFrame,
    StartFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.filters.identity_filter import IdentityFilter
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import TransportParams
from pipecat.transports.livekit.transport import LiveKitParams, LiveKitTransport
from pipecat.workers.runner import WorkerRunner

from agenthuman_plugins.client import SpeechLinkError
from agenthuman_plugins.pipecat.picture._curtain import Curtain
from agenthuman_plugins.pipecat.picture._lipsync import LipSync
from agenthuman_plugins.pipecat.picture._pump import CAN_SCALE, MAX_BACKLOG, PictureCount, PicturePump
from agenthuman_plugins.pipecat.picture._transport import PictureBacklog, VoiceBacklog, output_transport
from agenthuman_plugins.speech import InProcessSpeechLink
from agenthuman_plugins.speech._feed import Feed
from agenthuman_plugins.speech.link import AvatarVideo
from tests.pipecat.bot import running, speech, tone
from tests.virtual_time import in_virtual_time

WAIT_S = 30.0  # hang limit of every wait
FPS = 25


def picture(number: int, size: tuple[int, int] = (4, 2)) -> AvatarVideo:
    """The picture of that number, which is also its grey, at 25 pictures a second."""
    width, height = size
    return AvatarVideo(bytes([number % 256]) * (3 * width * height), width, height, number * 1_000_000 // FPS)


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that counts and does not tell."""
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.001)


class Taker:
    """Stands for the rest of the pipeline: keeps the frames, and counts as backlog what it is told to."""

    def __init__(self) -> None:
        self.frames: list[OutputImageRawFrame] = []
        self.times: list[float] = []
        self.waiting = 0
        self.forgot = 0
        self.first: list[AvatarVideo] = []
        self._news = asyncio.Event()

    def __len__(self) -> int:
        return self.waiting

    def add(self, _: OutputImageRawFrame) -> None:
        pass

    def forget(self) -> None:
        self.forgot += 1
        self.waiting = 0

    async def note_first(self, picture: AvatarVideo) -> None:
        assert not self.frames
        self.first.append(picture)

    async def take(self, frame: OutputImageRawFrame) -> None:
        self.frames.append(frame)
        self.times.append(asyncio.get_running_loop().time())
        self._news.set()

    @property
    def numbers(self) -> list[int]:
        return [frame.image[0] for frame in self.frames]

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():
                self._news.clear()
                await self._news.wait()


def open_curtain() -> Curtain:
    return Curtain(lambda: 0.0, lambda: 0.0)


async def _ignore(_: AvatarVideo) -> None:
    pass


def make_pump(
    taker: Taker,
    count: PictureCount | None = None,
    *,
    delay_s: float = 0.0,
    curtain: Curtain | None = None,
    reconnecting: Callable[[], bool] = lambda: False,
    **options: Any,
) -> PicturePump:
    return PicturePump(
        taker.take,
        on_first=taker.note_first,
        delay_s=lambda: delay_s,
        curtain=curtain or open_curtain(),
        backlog=taker,
        count=count or PictureCount(),
        reconnecting=reconnecting,
        pipeline_ns=lambda: 5_000,
        **options,
    )


@contextlib.asynccontextmanager
async def pumping(**options: Any) -> AsyncIterator[tuple[Feed[AvatarVideo], Taker, PictureCount]]:
    """A pump between a feed and a taker."""
    feed: Feed[AvatarVideo] = Feed()
    taker, count = Taker(), PictureCount()
    pump = make_pump(taker, count, **options)
    task = asyncio.create_task(pump.run(feed))
    try:
        yield feed, taker, count
        feed.close()
        async with asyncio.timeout(WAIT_S):
            await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_picture_is_pushed_as_rgb_with_its_media_time() -> None:
    """Frames carry size, format and the media's own distances on the pipeline's clock; the first is announced."""
    async with pumping() as (feed, taker, _):
        for number in (3, 4):
            feed.put(picture(number))
            await taker.until(lambda: len(taker.frames) == number - 2)  # noqa: B023
    assert len(taker.first) == 1
    assert [(frame.size, frame.format, frame.pts) for frame in taker.frames] == [
        ((4, 2), "RGB", 5_000),
        ((4, 2), "RGB", 5_000 + 40_000_000),
    ]


async def test_a_picture_waits_for_its_voice() -> None:
    """The delay line holds every picture for as long as the voice is behind it."""
    async with pumping(delay_s=0.15) as (feed, taker, _):
        began = asyncio.get_running_loop().time()
        feed.put(picture(0))
        await taker.until(lambda: taker.frames)
    assert taker.times[0] - began >= 0.15


async def test_a_picture_that_waits_is_held_until_its_voice_is_played(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A voice that turns out to be later than it was when its picture came still finds it."""
    delays_s = iter([0.01, 0.15])
    newest_s = 0.0

    def delay_s() -> float:
        nonlocal newest_s
        newest_s = next(delays_s, newest_s)
        return newest_s

    taker = Taker()
    pump = make_pump(taker)
    monkeypatch.setattr(pump, "_delay_s", delay_s)
    feed: Feed[AvatarVideo] = Feed()
    task = asyncio.create_task(pump.run(feed))
    began = asyncio.get_running_loop().time()
    feed.put(picture(0))
    await taker.until(lambda: taker.frames)
    assert taker.times[0] - began >= 0.15
    feed.close()
    await asyncio.wait_for(task, WAIT_S)


@in_virtual_time
async def test_the_line_is_never_longer_than_half_a_second() -> None:
    """Whatever is measured, a picture is not held back for longer."""
    async with pumping(delay_s=60.0) as (feed, taker, _):
        began = asyncio.get_running_loop().time()
        feed.put(picture(0))
        await taker.until(lambda: taker.frames)
    assert taker.times[0] - began == pytest.approx(0.5)


def test_pictures_leave_at_the_distance_of_their_time_stamps() -> None:
    """A picture that the network holds up leaves when it would have without that, not together with the next one."""
    pump = make_pump(Taker(), delay_s=0.15)
    arrivals_s = 100.0, 100.0 + 2 / FPS, 100.0 + 2 / FPS
    due_s = [pump._due(pump._take_in(picture(number), at)) for number, at in enumerate(arrivals_s)]
    assert np.allclose(due_s, [100.15, 100.15 + 1 / FPS, 100.15 + 2 / FPS], atol=0.003)


async def test_the_newest_of_those_that_are_due_wins() -> None:
    """After a stall of the loop the old pictures are dropped, not rushed through."""
    async with pumping() as (feed, taker, count):
        for number in range(5):
            feed.put(picture(number))
        await taker.until(lambda: 4 in taker.numbers)
    assert taker.numbers == [4]
    assert (count.shown, count.dropped) == (1, 4)


async def test_a_transport_that_is_behind_gets_no_more_pictures() -> None:
    """While a picture waits in the transport, new ones are dropped; then the newest follows."""
    async with pumping() as (feed, taker, count):
        taker.waiting = MAX_BACKLOG
        for number in range(1, 4):
            feed.put(picture(number))
            await until(lambda: count.dropped == number)  # noqa: B023
        assert taker.frames == []
        taker.waiting = 0
        feed.put(picture(9))
        await taker.until(lambda: taker.frames)
    assert taker.numbers == [9]


async def test_pictures_that_somebody_keeps_do_not_stop_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames that never leave are written off after a while, so that a collector cannot freeze the avatar."""
    monkeypatch.setattr("agenthuman_plugins.pipecat.picture._pump._KEPT_S", 0.0)
    async with pumping() as (feed, taker, _):
        taker.waiting = MAX_BACKLOG
        for number in range(3):
            feed.put(picture(number))
            await asyncio.sleep(0.001)
        await taker.until(lambda: taker.frames)
        assert taker.forgot == 1


async def test_pictures_before_the_links_turn_pass_unseen() -> None:
    """A link on standby shows nothing and counts nothing, and its line is full when its turn comes."""
    asked: list[bool] = []
    ready: list[bool] = []

    def shows() -> bool:
        asked.append(bool(turn))
        return asked[-1]

    turn: list[bool] = []
    async with pumping(shows=shows, on_ready=lambda: ready.append(True)) as (feed, taker, count):
        feed.put(picture(1))
        await until(lambda: asked)
        assert (taker.frames, count.shown, count.dropped) == ([], 0, 0)
        turn.append(True)
        feed.put(picture(2))
        await taker.until(lambda: taker.frames)
    assert taker.numbers == [2]
    assert ready == [True]


def test_curtain_opens_for_another_avatar() -> None:
    """Nothing of the next avatar is hidden, whenever the one before was cut."""
    curtain = Curtain(lambda: 0.1, lambda: 0.0)
    curtain.close()
    curtain.open()
    assert not curtain.hides(0.0)


async def test_pictures_of_a_cut_reply_are_not_shown() -> None:
    """After an interruption: neither those in the delay line, nor what was under way when the avatar stopped."""
    now = asyncio.get_running_loop().time
    curtain = Curtain(lambda: 0.0, now)
    async with pumping(delay_s=0.01, curtain=curtain) as (feed, taker, count):
        feed.put(picture(1))
        await taker.until(lambda: taker.frames)
        feed.put(picture(2))  # waits for its voice
        await asyncio.sleep(0)
        curtain.close()
        await until(lambda: count.dropped == 1)
        feed.put(picture(3))
        await until(lambda: count.dropped == 2)
        curtain.confirm()
        await until(lambda: not curtain.hides(now()))
        feed.put(picture(4))
        await taker.until(lambda: len(taker.frames) == 2)
    assert taker.numbers == [1, 4]


def test_an_interrupted_avatar_is_seen_again_when_its_old_pictures_have_come() -> None:
    """Hidden is what arrives before the avatar's confirmation and the way of a picture, and nothing for long."""
    now = 0.0
    curtain = Curtain(lambda: 0.1, lambda: now)
    assert not curtain.hides(0.0)
    curtain.close()
    assert curtain.hides(0.0)
    assert not curtain.hides(0.6)  # it need not ever confirm
    now = 0.2
    curtain.confirm()
    assert curtain.hides(0.34)
    assert not curtain.hides(0.36)
    now = 5.0
    curtain.confirm()  # once more, for nothing
    assert not curtain.hides(5.0)


async def test_a_picture_that_stands_still_while_the_connection_is_restored_is_not_frozen() -> None:
    """No picture can come then; the link itself says when it is lost."""
    asked = 0

    def reconnecting() -> bool:
        nonlocal asked
        asked += 1
        return True

    async with pumping(reconnecting=reconnecting, frozen_s=0.01) as (feed, taker, _):
        feed.put(picture(1))
        await until(lambda: asked >= 3)
        feed.put(picture(2))
        await taker.until(lambda: len(taker.frames) == 2)


async def test_a_change_of_size_goes_through() -> None:
    """The avatar's layers change the size in mid-stream; each frame has its own."""
    async with pumping() as (feed, taker, _):
        for number, size in enumerate([(4, 2), (8, 6), (2, 2)], start=1):
            feed.put(picture(number, size))
            await taker.until(lambda: len(taker.frames) == number)  # noqa: B023
    assert [frame.size for frame in taker.frames] == [(4, 2), (8, 6), (2, 2)]
    assert [len(frame.image) for frame in taker.frames] == [24, 144, 12]


@pytest.mark.parametrize("size", [(8, 6), (64, 48), (16, 12)])
async def test_pictures_are_scaled_to_the_transports_size(size: tuple[int, int]) -> None:
    """Larger, smaller and fitting pictures leave in the transport's size; without OpenCV they leave as they are."""
    async with pumping(scale_to=(16, 12)) as (feed, taker, _):
        feed.put(picture(77, size))
        await taker.until(lambda: taker.frames)
    width, height = (16, 12) if CAN_SCALE else size
    assert taker.frames[0].size == (width, height)
    assert taker.frames[0].image == bytes([77]) * (3 * width * height)


async def test_a_picture_of_the_right_size_is_not_copied() -> None:
    """What the link delivers is what the transport gets: the one copy is the link's."""
    async with pumping(scale_to=(4, 2)) as (feed, taker, _):
        feed.put(original := picture(1))
        await taker.until(lambda: taker.frames)
    assert taker.frames[0].image is original.rgb


async def test_a_frozen_picture_is_an_error() -> None:
    """When pictures stop coming the avatar counts as lost, with a reason that says so."""
    feed: Feed[AvatarVideo] = Feed()
    taker = Taker()
    pump = make_pump(taker, frozen_s=0.05)
    feed.put(picture(0))
    with pytest.raises(ExceptionGroup) as raised:
        async with asyncio.timeout(WAIT_S):
            await pump.run(feed)
    assert raised.group_contains(SpeechLinkError, match="frozen")
    assert taker.numbers == [0]


class Stalled(BaseOutputTransport):
    """A transport whose peer does not read until it is told to."""

    def __init__(self) -> None:
        params = TransportParams(
            audio_out_enabled=True,
            audio_out_sample_rate=16_000,
            video_out_enabled=True,
            video_out_is_live=True,
            video_out_width=4,
            video_out_height=2,
            video_out_framerate=1_000,
        )
        super().__init__(params)
        self.reading = asyncio.Event()
        self.begun = asyncio.Event()
        self.written: list[int] = []

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        await self.reading.wait()
        return True

    async def write_video_frame(self, frame: OutputImageRawFrame) -> bool:
        self.begun.set()
        await self.reading.wait()
        self.written.append(frame.image[0])
        return True


class Slow(FrameProcessor):
    """A processor that holds pictures until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, OutputImageRawFrame):
            await self.open.wait()
        await self.push_frame(frame, direction)


@contextlib.asynccontextmanager
async def transporting(
    *before: FrameProcessor,
) -> AsyncIterator[tuple[FrameProcessor, Stalled, Feed[AvatarVideo], PictureCount]]:
    """A pump into a real pipeline that ends in a transport."""
    source, transport = IdentityFilter(), Stalled()
    worker = PipelineWorker(
        Pipeline([source, *before, transport]), cancel_on_idle_timeout=False, enable_rtvi=False
    )
    started = asyncio.Event()

    @worker.event_handler("on_pipeline_started")
    async def on_started(*_: object) -> None:
        started.set()

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    feed: Feed[AvatarVideo] = Feed(held=1)
    count = PictureCount()
    pumping: asyncio.Task[None] | None = None
    try:
        async with asyncio.timeout(WAIT_S):
            await started.wait()
        pump = PicturePump(
            source.push_frame,
            on_first=_ignore,
            delay_s=lambda: 0.0,
            curtain=open_curtain(),
            reconnecting=lambda: False,
            backlog=PictureBacklog(transport),
            count=count,
            pipeline_ns=lambda: 0,
        )
        pumping = asyncio.create_task(pump.run(feed))
        yield source, transport, feed, count
    finally:
        if pumping is not None:
            pumping.cancel()
            await asyncio.gather(pumping, return_exceptions=True)
        await worker.cancel()
        ended, _ = await asyncio.wait([running], timeout=WAIT_S)
        assert ended, "the pipeline hangs"


async def test_voice_that_the_transport_has_not_played_is_counted() -> None:
    """What was pushed waits until the transport pushes it on, played; filling silence does not count."""
    async with transporting() as (source, transport, *_):
        backlog = VoiceBacklog(transport)
        for _ in range(4):
            backlog.add(0.03)
            await source.push_frame(TTSAudioRawFrame(bytes(2 * 480), 16_000, 1))
        assert backlog.seconds == pytest.approx(0.12)
        transport.reading.set()
        await until(lambda: backlog.seconds < 0.001)  # three chunks of 40 ms
        backlog.add(0.01)
        await source.push_frame(TTSAudioRawFrame(bytes(2 * 160), 16_000, 1))
        await source.push_frame(TTSStoppedFrame())
        await until(lambda: backlog.seconds == 0.0)
        backlog.add(1.0)
        backlog.forget()
        assert backlog.seconds == 0.0


async def test_voice_in_the_queue_of_a_livekit_source_is_counted() -> None:
    """Pipecat's LiveKit transport pushes on what its source has taken, which is not played yet."""
    params = LiveKitParams(audio_out_enabled=True)
    transport = LiveKitTransport("ws://unused", "unused", "unused", params).output()
    backlog = VoiceBacklog(transport)
    source = rtc.AudioSource(16_000, 1, queue_size_ms=1000)
    transport._client._audio_source = source
    assert backlog.seconds == 0.0
    await source.capture_frame(rtc.AudioFrame(bytes(2 * 8000), 16_000, 1, 8000))
    assert 0.0 < backlog.seconds <= 0.5
    source.clear_queue()
    assert backlog.seconds == 0.0
    await source.aclose()


def test_the_transport_is_found_from_a_pipeline_in_a_pipeline() -> None:
    """However deep the service is nested, its output is the first transport behind it."""
    service, transport = IdentityFilter(), Stalled()
    assert output_transport(service) is None
    Pipeline([IdentityFilter(), Pipeline([Pipeline([service]), IdentityFilter()]), transport])
    assert output_transport(service) is transport


def test_voice_without_a_transport_never_waits() -> None:
    """Nobody would ever tell that it was played."""
    backlog = VoiceBacklog(None)
    backlog.add(1.0)
    assert backlog.seconds == 0.0


@pytest.mark.parametrize("stall", ["peer", "processor"])
async def test_nothing_piles_up_while_nobody_takes_the_pictures(stall: str) -> None:
    """Wherever behind us it stalls, two pictures wait and one is in hand; afterwards the newest follows at once."""
    slow = Slow()
    async with transporting(*([slow] if stall == "processor" else [])) as (_, transport, feed, count):
        if stall == "processor":
            transport.reading.set()
        else:
            slow.open.set()
        for number in range(1, 41):
            feed.put(picture(number))
            await until(lambda: count.shown + count.dropped == number)  # noqa: B023
            if number == 1 and stall == "peer":
                async with asyncio.timeout(WAIT_S):
                    await transport.begun.wait()
        assert count.shown <= MAX_BACKLOG + 1
        slow.open.set()
        transport.reading.set()
        await until(lambda: len(transport.written) == count.shown)
        feed.put(picture(99))
        await until(lambda: 99 in transport.written)
        assert len(transport.written) <= MAX_BACKLOG + 2


async def test_a_picture_that_is_dropped_on_its_way_does_not_count_as_waiting() -> None:
    """A processor that throws pictures away does not starve the transport."""

    class Dropping(FrameProcessor):
        async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
            await super().process_frame(frame, direction)
            if not (isinstance(frame, OutputImageRawFrame) and frame.image[0] < 20):
                await self.push_frame(frame, direction)

    async with transporting(Dropping()) as (_, transport, feed, count):
        transport.reading.set()
        for number in range(1, 30):
            feed.put(picture(number))
            await until(lambda: count.shown + count.dropped == number)  # noqa: B023
            if number == 10:
                assert count.shown == number
        await until(lambda: any(number >= 20 for number in transport.written))


def test_the_voice_is_measured_against_the_report_of_its_start() -> None:
    """The picture waits for as long as the sound comes behind the avatar's report, less the picture's own way."""
    lipsync = LipSync()
    for number in range(1, 6):
        lipsync.reported(number, 10.0 * number)
        lipsync.heard(number, 10.0 * number + 0.175)
    assert lipsync.measured_s == pytest.approx(0.15)
    assert lipsync.delay_s == pytest.approx(0.15)


def test_a_growing_jitter_buffer_delays_the_picture_in_mid_reply() -> None:
    """A long reply has one report; what comes to the sound's delay after it is read from the buffer."""
    lipsync = LipSync()
    lipsync.buffered(0.04)
    lipsync.reported(1, 10.0)
    lipsync.heard(1, 10.125)
    lipsync.buffered(0.1)
    assert lipsync.delay_s == pytest.approx(0.16)


def test_a_report_of_another_utterance_measures_nothing() -> None:
    """Late or foreign reports must not move the picture."""
    lipsync = LipSync()
    before = lipsync.delay_s
    lipsync.heard(1, 10.0)
    lipsync.reported(1, 10.0)
    lipsync.heard(2, 10.2)
    assert (lipsync.delay_s, lipsync.measured_s) == (before, None)


def test_noise_moves_no_picture() -> None:
    """A change of a few milliseconds is not worth a hitch; a large one is bounded."""
    lipsync = LipSync()
    before = lipsync.delay_s
    lipsync.buffered(0.01)
    assert lipsync.delay_s == before
    lipsync.buffered(5.0)
    assert lipsync.delay_s == pytest.approx(0.2)


def test_sound_that_waits_at_the_transport_delays_the_picture() -> None:
    """The picture waits as long, whatever single blocks do; the next reply begins anew."""
    lipsync = LipSync()
    usual = lipsync.delay_s
    for wait_s in (0.1, 0.1, 5.0, 0.1):
        lipsync.waits(wait_s)
    assert lipsync.delay_s == pytest.approx(usual + 0.1)
    lipsync.nothing_waits()
    lipsync.waits(0.0)
    assert lipsync.delay_s == pytest.approx(usual)


def test_sound_that_is_kept_for_a_moment_delays_the_picture_by_that() -> None:
    """After an interruption the picture waits for sound that is kept; once pushed, the sound waits at the transport."""
    lipsync = LipSync()
    usual = lipsync.delay_s
    lipsync.held_back(held=True)
    assert lipsync.delay_s == pytest.approx(usual + 0.1)
    lipsync.waits(0.08)
    lipsync.held_back(held=False)
    assert lipsync.delay_s == pytest.approx(usual + 0.08)
    lipsync.nothing_waits()
    lipsync.held_back(held=False)
    assert lipsync.delay_s == pytest.approx(usual)


@in_virtual_time
async def test_a_reply_after_an_interruption_is_as_far_behind_its_report_as_any_other() -> None:
    """The time for which its first sound is kept counts as a wait at the transport alone, not as its way, too."""
    async with running() as bot:
        lipsync = bot.service._picture.lipsync
        await bot.until_event("on_first_video_frame")
        for number in range(3):
            lipsync._measured_s = None
            await bot.send(TTSStartedFrame(context_id=f"c{number}"), *speech(tone(2.0), f"c{number}"))
            await until(lambda: lipsync.measured_s is not None)
            assert lipsync.measured_s == pytest.approx(0.0, abs=0.04), number  # no network, no way
            await bot.send(InterruptionFrame())
            await until(lambda: bot.service._delivery.idle)


@in_virtual_time
@pytest.mark.parametrize("end", ["played", "interrupted"])
async def test_the_picture_waits_for_voice_at_the_transport_until_the_reply_is_over(end: str) -> None:
    """A transport that is behind delays the picture; one that has played or dropped the reply does not."""
    transport = Stalled()
    async with running(behind=[transport]) as bot:
        await bot.until_event("on_first_video_frame")
        lipsync = bot.service._picture.lipsync
        usual = lipsync.delay_s
        await bot.say(tone(0.5))
        await until(lambda: lipsync.delay_s > usual + 0.1)
        if end == "played":
            transport.reading.set()
        else:
            await bot.send(InterruptionFrame())
        await until(lambda: not lipsync._waits)
        lipsync.waits(0.0)
        assert lipsync.delay_s < usual + 0.1


@in_virtual_time
async def test_nothing_is_converted_before_the_transport_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """The link's picture is asked for, and so converted, only when there is somebody to show it to."""
    asked: list[InProcessSpeechLink] = []
    video = InProcessSpeechLink.video
    monkeypatch.setattr(InProcessSpeechLink, "video", lambda link: asked.append(link) or video(link))
    async with running(transport_ready=False) as bot:
        await bot.until_event("on_avatar_connected")
        await bot.say(tone(0.1))
        await bot.until_event("on_playback_finished")
        assert not asked
        await bot.down.push_frame(OutputTransportReadyFrame(), FrameDirection.UPSTREAM)
        await bot.until_event("on_first_video_frame")
        assert asked == bot.links


@in_virtual_time
async def test_interruption_hides_the_picture_until_the_avatar_has_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between an interruption and the avatar's confirmation no picture is pushed; without speech nothing is hidden."""
    monkeypatch.setattr("agenthuman_plugins.pipecat.picture._curtain._LIMIT_S", 60.0)
    stopped = asyncio.Event()
    interrupt = InProcessSpeechLink.interrupt

    async def slow(link: InProcessSpeechLink) -> None:
        await interrupt(link)
        await stopped.wait()

    monkeypatch.setattr(InProcessSpeechLink, "interrupt", slow)
    async with running() as bot:
        count = bot.service._picture.count
        await bot.until_event("on_first_video_frame")
        await bot.send(InterruptionFrame())
        await bot.down.until(lambda: bot.down.of(InterruptionFrame))
        assert not bot.service._picture.curtain.hides(asyncio.get_running_loop().time())
        await bot.send(TTSStartedFrame(context_id="c1"), *speech(tone(1.0), "c1"))
        await bot.until_event("on_playback_started")
        await bot.send(InterruptionFrame())
        await bot.down.until(lambda: len(bot.down.of(InterruptionFrame)) == 2)
        shown, dropped = count.shown, count.dropped
        await until(lambda: count.dropped >= dropped + 3)
        assert count.shown == shown
        stopped.set()
        await until(lambda: count.shown > shown)


@in_virtual_time
async def test_a_transport_without_video_gets_no_picture_and_one_warning() -> None:
    """Nobody would see the pictures, so none is converted; the log says what to set."""
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(message.record["message"]), level="WARNING")
    transport = BaseOutputTransport(TransportParams(audio_out_enabled=True))
    try:
        async with running(behind=[transport]) as bot:
            await bot.until_event("on_avatar_connected")
            await bot.say(tone(0.1))
            await bot.until_event("on_playback_finished")
            assert not bot.down.of(OutputImageRawFrame)
    finally:
        logger.remove(sink)
    assert len([line for line in lines if "set video_out_enabled=True." in line]) == 1


@in_virtual_time
async def test_transport_without_a_size_gets_the_avatars_own() -> None:
    """Where nobody says how large the video shall be, the usual ratio is asked for and no picture is scaled."""
    params = TransportParams(video_out_enabled=True, video_out_width=0, video_out_height=0)
    async with running(behind=[BaseOutputTransport(params)]) as bot:
        await bot.until_event("on_first_video_frame")
        await bot.down.until(lambda: bot.down.of(OutputImageRawFrame))
        assert bot.client.options[0]["aspect_ratio"] == "4:3"
        assert bot.down.of(OutputImageRawFrame)[0].size == (64, 48)


@in_virtual_time
@pytest.mark.parametrize("known", [True, False])
async def test_video_goes_where_the_speech_goes(known: bool) -> None:
    """The frames name the destination of the speech that is heard, unless the transport has none of that name for video."""
    params = TransportParams(
        video_out_enabled=True,
        video_out_width=64,
        video_out_height=48,
        video_out_destinations=["stage"] if known else [],
    )
    async with running(behind=[BaseOutputTransport(params)]) as bot:
        await bot.until_event("on_first_video_frame")
        pieces = speech(tone(0.6), "c1")
        for piece in pieces:
            piece.transport_destination = "stage"
        await bot.send(*pieces)
        await bot.until_event("on_playback_started")
        shown = len(bot.down.of(OutputImageRawFrame))
        await bot.down.until(lambda: len(bot.down.of(OutputImageRawFrame)) >= shown + 4)
        assert bot.down.of(OutputImageRawFrame)[-1].transport_destination == ("stage" if known else None)
