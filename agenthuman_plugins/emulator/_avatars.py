"""The avatars of running sessions: one worker process each."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from agenthuman_plugins.emulator.process import Child, ChildError

WORKER = "agenthuman_plugins.emulator.worker"
_FPS = 25
_LEAVE_TIMEOUT_S = 3.0  # to say goodbye in the room; then the process is stopped

OnEvent = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class AvatarJob:
    """What an avatar does: look like `avatar`, in a room or without one (`url` is empty), in a size."""

    avatar: str
    url: str
    token: str = field(repr=False)
    width: int
    height: int
    faults: tuple[str, ...] = ()


class Avatar(Protocol):
    """An avatar on its way into a room, or in it."""

    def send(self, message: dict[str, Any]) -> None:
        """Send a command of the gateway, or a fault; before `ready` it waits, and after the end it is dropped."""

    async def stop(self, reason: str) -> None:
        """Tell the room why, leave it, and end; also while the avatar is still on its way."""


class AvatarStarter(Protocol):
    """Sends an avatar into a room, without waiting for it."""

    def __call__(self, job: AvatarJob, on_event: OnEvent) -> Avatar:
        """Start; `on_event` is told `avatar_starting`, then `ready` or `avatar_failed`, then what happens."""


class WorkerAvatar:
    """An avatar in a process of its own."""

    def __init__(self, job: AvatarJob, on_event: OnEvent) -> None:
        self._on_event = on_event
        self._child: Child | None = None
        self._early: list[dict[str, Any]] = []
        on_event({"event": "avatar_starting"})
        self._starting = asyncio.create_task(self._start(job), name="start of an avatar")

    def send(self, message: dict[str, Any]) -> None:
        """Send a command of the gateway, or a fault; before `ready` it waits, and after the end it is dropped."""
        if self._child is not None:
            self._child.send(message)
        elif not self._starting.done():
            self._early.append(message)

    async def stop(self, reason: str) -> None:
        """Tell the room why, leave it, and end; also while the avatar is still on its way."""
        self._starting.cancel()
        await asyncio.wait([self._starting])
        if self._child is not None:
            self._child.send({"command": "leave", "reason": reason})
            await self._child.wait(timeout_s=_LEAVE_TIMEOUT_S)
            await self._child.stop()

    async def _start(self, job: AvatarJob) -> None:
        settings = {
            "url": job.url,
            "token": job.token,
            "avatar": job.avatar,
            "width": job.width,
            "height": job.height,
            "fps": _FPS,
            "sender": None,  # the one that the avatar's token names
            "faults": list(job.faults),
        }
        try:
            self._child = await Child.start(WORKER, settings, on_event=self._on_event)
        except ChildError as error:
            self._on_event({"event": "avatar_failed", "message": str(error)})
        else:
            self._on_event({**self._child.ready, "pid": self._child.pid})
            for message in self._early:
                self._child.send(message)


class NoAvatar:
    """An avatar that joins no room and plays nothing, for tests of REST and gateway alone."""

    def __init__(self, job: AvatarJob, on_event: OnEvent) -> None:
        """Do nothing."""

    def send(self, message: dict[str, Any]) -> None:
        """Do nothing."""

    async def stop(self, reason: str) -> None:
        """Do nothing."""
