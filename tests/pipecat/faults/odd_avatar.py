"""An avatar worker that keeps to the protocol but for one thing, named among its faults."""

import asyncio
import itertools
from typing import Any

import cv2

from agenthuman_plugins.emulator.process import Emit, Event, run_child
from agenthuman_plugins.emulator.worker._avatar import main
from agenthuman_plugins.emulator.worker._loop import Picture
from agenthuman_plugins.emulator.worker._notifier import FINISHED, PlaybackNotifier
from agenthuman_plugins.emulator.worker._tracks import PictureTrack

MALFORMED_REPORTS = "malformed_reports"
CHANGING_SIZE = "changing_size"
# One after the other; the last one names a position, but none that could be.
_MALFORMED = itertools.cycle(
    (
        '{"playback_position": "soon", "interrupted": 3}',
        '{"playback_position": ',
        '{"playback_position": 1e999}',
    )
)
_SIZES = ((160, 120), (320, 240), (120, 160), (400, 300))
_PICTURES_OF_A_SIZE = 12  # half a second


async def _main(settings: dict[str, Any], emit: Emit, messages: "asyncio.Queue[Event]") -> None:
    if MALFORMED_REPORTS in settings["faults"]:
        PlaybackNotifier.finished = _finished  # type: ignore[method-assign]
    if CHANGING_SIZE in settings["faults"]:
        PictureTrack.show = _Sizes(PictureTrack.show)  # type: ignore[method-assign, assignment]
    await main(settings, emit, messages)


def _finished(self: PlaybackNotifier, to: str, position_s: float, *, interrupted: bool) -> None:
    self._send(to, FINISHED, next(_MALFORMED))


class _Sizes:
    """Shows each half second in another size."""

    def __init__(self, show: Any) -> None:
        self._show = show
        self._shown = 0

    def __get__(self, track: Any, _: Any = None) -> Any:
        return lambda picture, timestamp_us: self(track, picture, timestamp_us)

    def __call__(self, track: PictureTrack, picture: Picture, timestamp_us: int) -> None:
        size = _SIZES[self._shown // _PICTURES_OF_A_SIZE % len(_SIZES)]
        self._shown += 1
        self._show(track, cv2.resize(picture, size), timestamp_us)


if __name__ == "__main__":
    run_child(_main)
