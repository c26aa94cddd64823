"""Memory that joining and leaving a LiveKit room costs for good: `python -m benchmarks room_joins --joins 40`.

Each row of the table is a process of its own that joins a room with an avatar in it and leaves it again, many times: with
LiveKit's client alone, and with our link. What bare LiveKit keeps is LiveKit's; what our link keeps beyond that is ours.
Where the system allows, in a network namespace of its own. About eight minutes.

The columns, as slopes over the joins after the first ten:

    memory    resident memory of the process
    in use    what C and Rust code has allocated and not freed (glibc's `mallinfo2`); where it grows as the memory does,
              that is a leak, not fragmentation
    objects   Python's objects

and in the end, how much the allocator gives back when it is asked to (`malloc_trim`).

LiveKit (1.2.1) keeps the engine of each room that is left while somebody else's track is published there, because that
participant and its publications hold each other: github.com/livekit/rust-sdks/issues/1378, pull requests 1382 and 1435.
It does so, too, for each room whose local participant still has a method registered, which our link prevents.
"""

import argparse
import asyncio
import ctypes
import gc
import json
import math
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import psutil
from livekit import rtc
from rich.console import Console
from rich.table import Table

from agenthuman_plugins.emulator.process import Child
from agenthuman_plugins.emulator.rooms import RoomServer
from agenthuman_plugins.speech import AVATAR_IDENTITY, AvatarDisconnected, LiveKitSpeechLink, SpeechLink
from benchmarks._own_network import apart, why_not

_LIMIT_S = 30.0
_SETTLE_S = 0.1  # for LiveKit's threads, after a room was left
_WARM_UP = 10  # joins, after which all is there that is made once
_ROOM, _IDENTITY = "joins", "bot"
_RATE = 16_000
_IN_NAMESPACE = "AGENTHUMAN_JOINS_IN_NAMESPACE"
_SETTINGS = "AGENTHUMAN_JOINS"  # for a process that is measured: its tokens are nobody else's business


class _Allocator(ctypes.Structure):
    """`struct mallinfo2` of glibc: bytes, and how many blocks."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


_libc = ctypes.CDLL(None)
_HAS_GLIBC = hasattr(_libc, "mallinfo2")
if _HAS_GLIBC:
    _libc.mallinfo2.restype = _Allocator


@dataclass(frozen=True)
class _Memory:
    """What a process has at one moment, in MB."""

    resident: float
    in_use: float
    objects: int

    @classmethod
    def now(cls) -> "_Memory":
        gc.collect()
        in_use = math.nan
        if _HAS_GLIBC:
            allocator = _libc.mallinfo2()
            in_use = (allocator.uordblks + allocator.hblkhd) / 2**20
        return cls(psutil.Process().memory_info().rss / 2**20, in_use, len(gc.get_objects()))


class _Place:
    """A room, and the avatar in it, which is a process.

    Args:
        url: Of the room server.
        token: To join the room.
        worker: Settings of the avatar.
        stay_s: Seconds to stay in the room when media is received.
    """

    def __init__(self, url: str, token: str, worker: dict[str, Any], stay_s: float) -> None:
        self.url = url
        self.token = token
        self.stay_s = stay_s
        self._worker = worker
        self._avatar: Child | None = None

    async def fill(self) -> None:
        """Let the avatar be there."""
        if self._avatar is None:
            self._avatar = await Child.start("agenthuman_plugins.emulator.worker", self._worker)

    async def empty(self) -> None:
        """Let the avatar leave."""
        if self._avatar is not None:
            avatar, self._avatar = self._avatar, None
            await avatar.stop()


# One join each


async def _bare(place: _Place) -> None:
    room = rtc.Room()
    await room.connect(place.url, place.token, rtc.RoomOptions(auto_subscribe=False))
    await room.disconnect()


async def _bare_media(place: _Place, *, close: bool = True, last: bool = False) -> None:
    room, left = rtc.Room(), asyncio.Event()
    streams: list[rtc.AudioStream | rtc.VideoStream] = []
    reading: list[asyncio.Task[None]] = []

    @room.on("track_subscribed")
    def on_track(track: rtc.Track, *_: object) -> None:
        is_video = isinstance(track, rtc.RemoteVideoTrack)
        streams.append(rtc.VideoStream(track, capacity=1) if is_video else rtc.AudioStream(track))
        reading.append(asyncio.create_task(_read(streams[-1])))

    @room.on("participant_disconnected")
    def on_left(_: object) -> None:
        left.set()

    await room.connect(place.url, place.token)
    await asyncio.sleep(place.stay_s)
    if len(streams) != 2:  # voice and picture
        raise RuntimeError(f"{len(streams)} of the avatar's two tracks came in {place.stay_s:g} s")
    if last:
        await place.empty()
        await asyncio.wait_for(left.wait(), _LIMIT_S)
    for task in reading:
        task.cancel()
    if close:
        for stream in streams:
            await stream.aclose()
    await room.disconnect()


async def _bare_media_left_open(place: _Place) -> None:
    await _bare_media(place, close=False)


async def _bare_media_last(place: _Place) -> None:
    await _bare_media(place, last=True)


async def _link_without_media(place: _Place) -> None:
    link = LiveKitSpeechLink(place.url, place.token, media=False)
    await link.connect(timeout_s=_LIMIT_S)
    await link.aclose()


async def _link_media(place: _Place, *, last: bool = False) -> None:
    link = LiveKitSpeechLink(place.url, place.token)
    await link.connect(timeout_s=_LIMIT_S)
    reading = [asyncio.create_task(_read(link.audio())), asyncio.create_task(_read(link.video()))]
    await link.send(_tone(place.stay_s / 2))
    await link.end_utterance()
    await asyncio.sleep(place.stay_s)
    if last:
        await place.empty()
        await _until_avatar_left(link)
    await link.aclose()
    await asyncio.gather(*reading)


async def _link_media_last(place: _Place) -> None:
    await _link_media(place, last=True)


async def _read(stream: Any) -> None:
    async for _ in stream:
        pass


async def _until_avatar_left(link: SpeechLink) -> None:
    async with asyncio.timeout(_LIMIT_S):
        async for event in link.events():
            if isinstance(event, AvatarDisconnected):
                return


def _tone(seconds: float) -> bytes:
    return (8000 * np.sin(np.arange(round(_RATE * seconds)) * 0.17)).astype(np.int16).tobytes()


_ROWS: dict[str, tuple[str, Callable[[_Place], Awaitable[None]]]] = {
    "bare": ("LiveKit alone, nothing subscribed", _bare),
    "link": ("our link, nothing subscribed", _link_without_media),
    "bare-media": ("LiveKit alone, voice and video", _bare_media),
    "bare-media-left-open": ("LiveKit alone, voice and video, streams not closed", _bare_media_left_open),
    "link-media": ("our link, voice and video, and speech", _link_media),
    "bare-media-last": ("LiveKit alone, voice and video, the avatar leaves first", _bare_media_last),
    "link-media-last": ("our link, voice and video, the avatar leaves first", _link_media_last),
}


# The process that is measured


async def _join_and_leave(row: str, joins: int) -> None:
    """Print the memory after each join."""
    place, (_, once) = _Place(**json.loads(os.environ[_SETTINGS])), _ROWS[row]
    course = []
    try:
        for _ in range(joins):
            await place.fill()
            await once(place)
            await asyncio.sleep(_SETTLE_S)
            course.append(_Memory.now())
    finally:
        await place.empty()
    if _HAS_GLIBC:
        _libc.malloc_trim(0)
    trimmed = course[-1].resident - _Memory.now().resident
    print(json.dumps({"course": [asdict(memory) for memory in course], "trimmed": trimmed}), flush=True)


# The process that measures


async def _measure(rows: list[str], joins: int, stay_s: float) -> None:
    async with await RoomServer.start() as server:
        table = Table(
            *("for each join", "memory", "in use", "objects", "given back at the end"),
            title=f"{joins} joins, {stay_s:g} s each with media, room server: {server.kind}",
        )
        for row in rows:
            told = await _run(row, server, joins, stay_s)
            warm = [_Memory(**memory) for memory in told["course"]][min(_WARM_UP, joins // 2) :]
            table.add_row(
                _ROWS[row][0],
                f"{_slope([memory.resident for memory in warm]):+.2f} MB",
                f"{_slope([memory.in_use for memory in warm]):+.2f} MB",
                f"{_slope([memory.objects for memory in warm]):+.1f}",
                f"{told['trimmed']:.1f} MB",
            )
    Console(width=130).print(table)


async def _run(row: str, server: RoomServer, joins: int, stay_s: float) -> Any:
    def token(identity: str, **options: Any) -> str:
        return server.mint(room=_ROOM, identity=identity, kind="agent", **options)

    worker = {
        "url": server.url,
        "token": token(AVATAR_IDENTITY, attributes={"lk.publish_on_behalf": _IDENTITY}),
        "avatar": "avat_1",
        "width": 320,
        "height": 240,
        "fps": 25,
        "sender": _IDENTITY,
    }
    settings = {"url": server.url, "token": token(_IDENTITY), "worker": worker, "stay_s": stay_s}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks", "room_joins", "--joins", str(joins), "--process", row),
        env={**os.environ, _SETTINGS: json.dumps(settings)},
        stdout=asyncio.subprocess.PIPE,
    )
    told, _ = await process.communicate()
    if process.returncode:
        raise SystemExit(f"{_ROWS[row][0]}: the process ended with {process.returncode}")
    return json.loads(told.splitlines()[-1])


def _slope(values: list[float]) -> float:
    return float(np.polyfit(np.arange(len(values)), values, 1)[0])


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks room_joins",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--joins", type=int, default=40)
    parser.add_argument("--stay", type=float, default=1.5, help="seconds in the room when media is received")
    parser.add_argument("--rows", nargs="+", choices=_ROWS, default=list(_ROWS))
    parser.add_argument("--process", choices=_ROWS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.process is not None:
        asyncio.run(_join_and_leave(options.process, options.joins))
        os._exit(0)  # LiveKit's native threads sometimes abort while the interpreter ends
    if _IN_NAMESPACE not in os.environ and why_not() is None:
        os.environ[_IN_NAMESPACE] = "1"
        command = apart(sys.executable, "-m", "benchmarks", "room_joins", *arguments)
        os.execvp(command[0], command)
    asyncio.run(_measure(options.rows, options.joins, options.stay))
