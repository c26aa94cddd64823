"""What an avatar does with speech, in a room or without one: it plays, tells its parent, and fails on request.

Events for the parent: `utterance_started`, `utterance_finished` with `position_s` and `interrupted`, `clear` and `fault`.
Messages from the parent: `{"command": "speak", "audio": …, "sample_rate": …}`, `{"command": "interrupt"}`,
`{"command": "fault", "fault": …}` and `{"command": "leave", "reason": …}`.
"""

import asyncio
import base64
import logging
import os
from collections.abc import Iterable
from typing import Protocol

from agenthuman_plugins.emulator.process import Emit, Event
from agenthuman_plugins.emulator.worker._gateway_speech import GatewaySpeech
from agenthuman_plugins.emulator.worker._loop import AudioSink, AvatarLoop, Painter, VideoSink

_log = logging.getLogger(__name__)

STOPPED = "worker_stopped"  # the reason in the last state packet when nobody gave another
_CRASH_CODE = 70  # EX_SOFTWARE of sysexits.h


class Surroundings(Protocol):
    """Where an avatar plays: what it has to be told beside the parent."""

    def playback_started(self) -> None:
        """The first sample of an utterance is about to be played."""

    def playback_finished(self, position_s: float, *, interrupted: bool) -> None:
        """The utterance is over."""

    def lose(self) -> None:
        """Lose the room, as if its connection had broken."""


class Player:
    """Plays speech.

    Args:
        surroundings: Where it plays.
        emit: Sends events to the parent.
        faults: What shall go wrong; a crash and a lost room wait for the first utterance.
    """

    def __init__(self, surroundings: Surroundings, emit: Emit, faults: Iterable[str]) -> None:
        self._surroundings = surroundings
        self._emit = emit
        self._faults = set(faults)
        self._gateway = GatewaySpeech(self.push, self.end)
        self._loop: AvatarLoop | None = None

    def show(self, painter: Painter, audio: AudioSink, video: VideoSink, *, fps: int) -> None:
        """Take the means of playing; `run` needs them."""
        self._loop = AvatarLoop(painter, audio, video, self, fps=fps)

    async def run(self) -> None:
        """Play until cancelled."""
        assert self._loop is not None  # noqa: S101 - `show` comes first
        await self._loop.run()

    def push(self, pcm: bytes) -> None:
        """Queue speech (16 kHz, mono, signed 16-bit)."""
        if self._loop is not None and "avatar_silent" not in self._faults:
            self._loop.push(pcm)

    def end(self) -> None:
        """Mark the end of the utterance."""
        if self._loop is not None and "avatar_silent" not in self._faults:
            self._loop.end()

    def clear(self) -> None:
        """Fall silent and close the mouth, now."""
        self._gateway.clear()
        if self._loop is not None:
            self._loop.clear()
        self._emit({"event": "clear"})

    def playback_started(self) -> None:
        """Tell the room and the parent."""
        self._emit({"event": "utterance_started"})
        self._surroundings.playback_started()
        for fault in ("avatar_crash", "room_loss"):
            if fault in self._faults:
                self._fail(fault)

    def playback_finished(self, position_s: float, *, interrupted: bool) -> None:
        """Tell the room and the parent."""
        if "no_playback_finished" not in self._faults:
            self._surroundings.playback_finished(position_s, interrupted=interrupted)
        self._emit(
            {"event": "utterance_finished", "position_s": round(position_s, 3), "interrupted": interrupted}
        )

    async def follow(self, messages: "asyncio.Queue[Event]") -> str:
        """Do what the parent says until it says leave; returns the reason it gives."""
        while True:
            message = await messages.get()
            match message:
                case {"command": "leave"}:
                    return str(message.get("reason") or STOPPED)
                case {"command": "speak", "audio": str(audio), "sample_rate": int(rate)}:
                    self._gateway.speak(base64.b64decode(audio), rate)
                case {"command": "interrupt"}:
                    self.clear()
                case {"command": "fault", "fault": "avatar_crash" | "room_loss" as fault}:
                    self._fail(fault)
                case {"command": "fault", "fault": str(fault)}:
                    self._faults.add(fault)
                    self._emit({"event": "fault", "fault": fault})
                case _:
                    _log.warning("The parent sent an unknown command: %r", message.get("command"))

    def _fail(self, fault: str) -> None:
        self._emit({"event": "fault", "fault": fault})
        if fault == "avatar_crash":
            os._exit(_CRASH_CODE)  # nothing is closed and nobody is told, as in a real crash
        self._surroundings.lose()
