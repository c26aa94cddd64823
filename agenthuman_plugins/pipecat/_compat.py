"""What differs between the versions of Pipecat that we support."""

from pipecat.frames import frames
from pipecat.frames.frames import Frame


def is_interruptible(frame: Frame) -> bool:
    """Whether an interruption may drop the frame."""
    flag = getattr(frame, "interruptible", None)  # since 1.12; before, a class told it
    if flag is None:
        return not isinstance(frame, frames.UninterruptibleFrame)
    return bool(flag)


def copy_interruptible(source: Frame, target: Frame) -> None:
    """Let no interruption drop a frame that is made of one which must be kept; before 1.12 only a class can tell."""
    if not is_interruptible(source):
        target.interruptible = False
