"""The way out of a branch while the parallel pipeline around it holds everything back.

From an `EndFrame` on, a `ParallelPipeline` (and so a `ServiceSwitcher`) keeps what its branches push until that frame
has left all of them. An avatar holds the `EndFrame` until it has said the goodbye, so the goodbye would be heard, all at
once, when it is over. What the avatar says meanwhile is therefore pushed by the outermost parallel pipeline in front of
the output transport, past its buffer: processors behind it see each frame as ever.
"""

from pipecat.frames.frames import CancelFrame, EndFrame, Frame, InterruptionFrame, StartFrame
from pipecat.pipeline.parallel_pipeline import ParallelPipeline
from pipecat.pipeline.pipeline import Pipeline, PipelineSink, PipelineSource
from pipecat.processors.filters.function_filter import FunctionFilter
from pipecat.processors.filters.identity_filter import IdentityFilter
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from agenthuman_plugins.pipecat.picture._transport import (
    pipeline_around,
    processors_behind,
    transport_within,
)

_PASS_ALL = (Pipeline, PipelineSource, PipelineSink, IdentityFilter)


class BranchExit:
    """Pushes past the parallel pipelines around a processor while they hold back an end.

    Between the processor and the end of its branch nothing may stand that could change sound or pictures, or needs to
    see them: only pipelines, `IdentityFilter`, and a `FunctionFilter` for frames that go upstream, as a
    `ServiceSwitcher` has one. Only these exact classes count, since a subclass can do anything. Behind the parallel
    pipeline everything is allowed.

    Args:
        processor: Pushes the frames. It is given interruptions that come while an end is held, too: the pipeline around
            it delivers none before that end has left.

    Attributes:
        holding: Whether an end is held back right now.
        in_the_way: What stands between, so that nothing can leave before the end does.
    """

    def __init__(self, processor: FrameProcessor) -> None:
        self._processor = processor
        self._outermost: ParallelPipeline | None = None
        self.holding = False
        self.in_the_way: FrameProcessor | None = None

    def find(self) -> None:
        """Look at the pipelines around the processor. A run begins, so they are complete."""
        found, self.in_the_way = self._look()
        self.holding = False
        if found is None or found is self._outermost:
            return
        self._outermost = found
        found.add_event_handler("on_before_process_frame", self._before_process)
        found.add_event_handler("on_before_push_frame", self._before_push)
        if found.previous is not None:
            found.previous.add_event_handler("on_before_push_frame", self._before_arrival)

    def _look(self) -> tuple[ParallelPipeline | None, FrameProcessor | None]:
        outermost: ParallelPipeline | None = None
        in_the_way: FrameProcessor | None = None
        candidate: FrameProcessor | None = None
        for following in processors_behind(self._processor):
            if transport_within(following) is not None:
                break
            if candidate is None and not _passes_all(following):
                candidate = following
            around = pipeline_around(following)
            if isinstance(around, ParallelPipeline):
                outermost, in_the_way = around, candidate
        return outermost, in_the_way

    async def push(self, frame: Frame, direction: FrameDirection) -> bool:
        """Push past what holds back an end; `False` if nothing does, or if the frame has to wait as well."""
        outermost = self._outermost
        if not self.holding or self.in_the_way is not None or outermost is None:
            return False
        if direction is FrameDirection.UPSTREAM or isinstance(frame, StartFrame | EndFrame | CancelFrame):
            return False
        # A frame that comes out of several branches leaves once; Pipecat has no public way to ask.
        seen: set[int] = getattr(outermost, "_seen_ids", set())
        if frame.id not in seen:
            seen.add(frame.id)
            await outermost.push_frame(frame, direction)
        return True

    async def _before_process(self, _: object, frame: Frame) -> None:
        self.holding = self.holding or isinstance(frame, EndFrame)

    async def _before_push(self, _: object, frame: Frame) -> None:
        if isinstance(frame, EndFrame):
            self.holding = False

    async def _before_arrival(self, _: object, frame: Frame) -> None:
        if self.holding and isinstance(frame, InterruptionFrame):
            await self._processor.queue_frame(frame)


def _passes_all(processor: FrameProcessor) -> bool:
    if type(processor) is FunctionFilter:
        return processor._direction is FrameDirection.UPSTREAM  # noqa: SLF001 - as above
    return type(processor) in _PASS_ALL and all(_passes_all(part) for part in processor.processors)
