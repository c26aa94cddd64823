"""livekit-agents' own speech output. Runs in `.venv-agents`; commands on standard input, reports on standard output.

Commands, one JSON object a line: settings first, then `{"say": seconds}`, `{"say": seconds, "cut_after": seconds}`.
"""

import asyncio
import json
import math
import struct
import sys

from livekit import rtc
from livekit.agents.voice.avatar import DataStreamAudioOutput

RATE = 16_000
FRAME = RATE // 50


def _tone(index: int) -> rtc.AudioFrame:
    samples = (
        round(8000 * math.sin(2 * math.pi * 440 * n / RATE))
        for n in range(index * FRAME, (index + 1) * FRAME)
    )
    return rtc.AudioFrame(struct.pack(f"<{FRAME}h", *samples), RATE, 1, FRAME)


async def main() -> None:
    settings = json.loads(sys.stdin.readline())
    room = rtc.Room()
    await room.connect(settings["url"], settings["token"])
    output = DataStreamAudioOutput(
        room,
        destination_identity=settings["avatar"],
        sample_rate=RATE,
        wait_remote_track=rtc.TrackKind.KIND_VIDEO,
        wait_playback_start=True,
    )
    starts = []
    output.on("playback_started", lambda _: starts.append(1))
    print(json.dumps({"event": "connected"}), flush=True)  # noqa: T201 - the protocol
    while line := await asyncio.to_thread(sys.stdin.readline):
        command = json.loads(line)
        starts.clear()
        for index in range(round(command["say"] * 50)):
            await output.capture_frame(_tone(index))
        if "cut_after" in command:
            await asyncio.sleep(command["cut_after"])
            output.clear_buffer()
        output.flush()
        played = await asyncio.wait_for(output.wait_for_playout(), 20)
        report = {
            "position": played.playback_position,
            "interrupted": played.interrupted,
            "starts": len(starts),
        }
        print(json.dumps({"event": "played", **report}), flush=True)  # noqa: T201 - the protocol
    await room.disconnect()


asyncio.run(main())
