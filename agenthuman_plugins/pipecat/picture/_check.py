"""Does the bot show what the avatar sends? Says what is wrong with its parameters, and how to fix it."""

from collections.abc import Iterator

from pipecat.pipeline.worker import PipelineWorker
from pipecat.transports.base_transport import TransportParams

AVATAR_FPS = 25  # inferred: the emulator's rate; no page has the service's
_GOOD_FPS = 30  # at the avatar's own rate a picture waits for the next slot, which is 40 ms
_SAME_SHAPE = 0.02  # a distortion that nobody sees


def check_params(params: TransportParams, *, aspect_ratio: str, fps: int = AVATAR_FPS) -> list[str]:
    """Check the parameters of an output transport against what is known before the avatar is there.

    Args:
        params: What the transport was made with.
        aspect_ratio: The avatar's, as `4:3`.
        fps: Frames a second that the avatar is expected to send.

    Returns:
        One sentence for each thing that is wrong, with what to write instead.
    """
    if not params.video_out_enabled:
        return ["The transport shows no video, so the avatar is only heard: set video_out_enabled=True."]
    if params.video_out_width <= 0 or params.video_out_height <= 0:
        size = f"{params.video_out_width}x{params.video_out_height}"
        return [f"The transport's video is {size} pixels: set video_out_width and video_out_height."]
    return [*_pace_problems(params, fps), *_shape_problems(params, aspect_ratio)]


def check_size(params: TransportParams, width: int, height: int, *, scaled_here: bool) -> list[str]:
    """Check the transport's picture against the avatar's, whose size is known when the first one is there.

    Args:
        params: What the transport was made with.
        width: Pixels of the avatar's picture.
        height: Pixels of the avatar's picture.
        scaled_here: Whether the service scales, with OpenCV; else Pipecat does.

    Returns:
        As `check_params`.
    """
    shown = params.video_out_width, params.video_out_height
    if shown == (width, height):
        return []
    cost = "1 ms" if scaled_here else "20 ms (1 ms where opencv-python-headless is installed)"
    problem = (
        f"The avatar's video of {width}x{height} is scaled to the transport's {shown[0]}x{shown[1]}, which takes"
        f" up to {cost} of CPU a frame: set video_out_width={width} and video_out_height={height}."
    )
    return [problem]


def check_capabilities(worker: PipelineWorker) -> list[str]:
    """Check what clients are told about a bot whose avatar publishes by itself.

    Args:
        worker: Tells them, by RTVI, what its transports do.

    Returns:
        As `check_params`.
    """
    capabilities = getattr(worker, "capabilities", None)  # since Pipecat 1.13
    told = getattr(worker, "_rtvi", None) is not None
    if not told or capabilities is None or capabilities.video_out is not False:
        return []
    problem = (
        "Clients read that the bot sends no video, because its transport sends none, and may hide the avatar's:"
        " give the PipelineWorker capabilities=BotCapabilities(video_out=True)."
    )
    return [problem]


def _pace_problems(params: TransportParams, fps: int) -> Iterator[str]:
    if not params.video_out_is_live:
        yield (
            "The transport repeats single frames at its own pace instead of showing each one as it comes, so"
            " the avatar's lips are late: set video_out_is_live=True."
        )
    shown_fps = params.video_out_framerate
    if shown_fps <= fps:
        harm = "each waits for the next slot" if shown_fps == fps else "some are dropped and the others late"
        yield (
            f"The transport shows {shown_fps} frames a second and the avatar is expected to send {fps}, so {harm}: set"
            f" video_out_framerate={max(_GOOD_FPS, fps + 5)}."
        )


def _shape_problems(params: TransportParams, aspect_ratio: str) -> Iterator[str]:
    across, down = map(int, aspect_ratio.split(":"))
    width, height = params.video_out_width, params.video_out_height
    if abs(width / height * down / across - 1) > _SAME_SHAPE:
        yield (
            f"The transport's video of {width}x{height} distorts the avatar's {aspect_ratio}: set"
            f" video_out_width={width} and video_out_height={round(width * down / across)}."
        )
