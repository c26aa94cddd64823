"""What the service does on each call: the rules of the store, joined with rooms and avatars."""

import asyncio
import logging
from functools import partial
from typing import Any

from agenthuman_plugins.emulator._avatars import Avatar, AvatarJob, AvatarStarter
from agenthuman_plugins.emulator._ids import ulid
from agenthuman_plugins.emulator._proxy_rooms import ProxyRoom, ProxyRooms
from agenthuman_plugins.emulator._requests import CreateRequest
from agenthuman_plugins.emulator._store import EndedBy, Session, SessionStore, utc_now

_TICK_S = 0.25  # how often the service looks for sessions that it has to end itself
_REASONS: dict[EndedBy, str] = {
    "caller": "session_ended",
    "expiry": "session_expired",
    "sweep": "session_swept",
    "room_empty": "room_empty",
}

_logger = logging.getLogger(__name__)


class Service:
    """Sessions with their avatars.

    Args:
        store: The sessions.
        rooms: Makes the rooms of platform `proxy`.
        start_avatar: Sends avatars into rooms.
        video_size: Width and height of the picture at 4:3; the other ratios follow from it.
    """

    def __init__(
        self, store: SessionStore, rooms: ProxyRooms, start_avatar: AvatarStarter, video_size: tuple[int, int]
    ) -> None:
        self.store = store
        self._rooms = rooms
        self._start_avatar = start_avatar
        self._video_size = video_size
        self._avatars: dict[str, Avatar] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    async def create(self, request: CreateRequest) -> dict[str, Any]:
        """Open a session and send its avatar off; answers before the avatar is in the room.

        Raises:
            ServiceError: A limit is reached, or no room could be made; no session is left behind.
        """
        self.store.check_limits(request)  # refused at once, not after the room server has started
        room = await self._rooms.open(f"ah-{ulid(utc_now())}") if request.room.platform == "proxy" else None
        # Nothing is awaited from here on: a create that is cancelled has opened a whole session or none.
        session = self.store.create(request)
        self._send_avatar(session, request, room)
        return self._created(session, room)

    def end(self, session: Session, by: EndedBy) -> bool:
        """End a session; its avatar leaves in the background. `False` if it had ended before."""
        ended = self.store.end(session, by)
        if ended and (avatar := self._avatars.pop(session.session_id, None)):
            self._dismiss(avatar, _REASONS[by])
        return ended

    def tick(self) -> None:
        """End the sessions that are due."""
        for session, by in self.store.due():
            self.end(session, by)

    async def run(self) -> None:
        """Call `tick` for ever."""
        while True:
            self.tick()
            await asyncio.sleep(_TICK_S)

    async def aclose(self) -> None:
        """Stop every avatar. Open sessions stay on record as they are: nobody ended them."""
        while self._avatars:
            _, avatar = self._avatars.popitem()
            self._dismiss(avatar, "service_stopped")
        if self._leaving:
            await asyncio.wait(self._leaving)  # each has its own time limit

    def _send_avatar(self, session: Session, request: CreateRequest, room: ProxyRoom | None) -> None:
        on_event = partial(self.store.note, session)
        if request.room.platform == "daily":
            on_event({"event": "avatar_not_sent", "message": "The emulator cannot join Daily rooms."})
            return
        width, height = _size_at(request.aspect_ratio, self._video_size)
        job = AvatarJob(
            avatar=request.avatar,
            url=room.url if room else request.room.url,
            token=room.avatar_token if room else request.room.token,
            width=width,
            height=height,
        )
        self._avatars[session.session_id] = self._start_avatar(job, on_event)

    def _created(self, session: Session, room: ProxyRoom | None) -> dict[str, Any]:
        described = self.store.describe(session) | {"duration": None}
        if room is None:
            # The documented create body has neither of the two.
            del described["duration"], described["aspect_ratio"]
        else:
            described["room"] = {"roomURL": room.url, "participantToken": room.participant_token}
        return {
            "success": True,
            "session": {**described, "session_token": session.session_token},
            "usage": self.store.usage(),
            "message": "Session created successfully",
        }

    def _dismiss(self, avatar: Avatar, reason: str) -> None:
        task = asyncio.create_task(avatar.stop(reason), name="farewell of an avatar")
        self._leaving.add(task)
        task.add_done_callback(self._left)

    def _left(self, task: asyncio.Task[None]) -> None:
        self._leaving.discard(task)
        if not task.cancelled() and (error := task.exception()):
            _logger.error("An avatar could not be stopped in order", exc_info=error)


def _size_at(aspect_ratio: str, size: tuple[int, int]) -> tuple[int, int]:
    """Return the size of the picture at a ratio, given the one at 4:3."""
    width, height = size
    square = height * 16 // 15  # 512 for 640x480: about as many pixels
    return {"4:3": (width, height), "3:4": (height, width), "1:1": (square, square)}[aspect_ratio]
