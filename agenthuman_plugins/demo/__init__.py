"""The demo that needs no key: an avatar to talk to in the browser, or to record into a file."""

from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

__all__ = ["main"]

_NEEDS = ("aiortc", "av", "cv2", "fastapi", "livekit.rtc", "pipecat", "rich", "uvicorn")


def main(args: "argparse.Namespace") -> int:
    """Run `agenthuman demo` and return its exit code.

    Args:
        args: `say` (texts or `None`), `record` (file or `None`), `interrupt_at` (seconds of the recording or `None`),
            `port` (0 takes a free one).

    Raises:
        ImportError: Packages are missing; the text says how to install them.
    """
    if missing := [module for module in _NEEDS if not _installed(module)]:
        raise ImportError(
            f"The demo needs more packages (missing: {', '.join(missing)}): pip install 'agenthuman-plugins[demo]'"
        )
    from agenthuman_plugins.demo._command import run  # noqa: PLC0415 - only now it is known to work

    return run(say=args.say, record=args.record, interrupt_at=args.interrupt_at, port=args.port)


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the parent of a dotted name is missing
        return False
