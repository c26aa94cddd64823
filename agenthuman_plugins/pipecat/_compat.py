"""What differs between the versions of Pipecat that we support."""

from pipecat.frames import frames
from pipecat.frames.frames import Frame


def is_interruptible(frame: Frame) -> bool:
    """Whether an interruption may drop the frame."""
    flag = getattr(frame, "interruptible", None)  # since 1.12; before, a class told it
    if flag is None:
        return not isinstance(frame, frames.UninterruptibleFrame)
    return bool(flag)
