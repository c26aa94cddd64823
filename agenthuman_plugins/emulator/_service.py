"""What the service does on each call: the rules of the store, joined with rooms and avatars."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from agenthuman_plugins.client.rooms import AVATAR_IDENTITY
from agenthuman_plugins.emulator._agents import Agents
from agenthuman_plugins.emulator._avatars import Avatar, AvatarJob, AvatarStarter
from agenthuman_plugins.emulator._catalogue import Catalogue
from agenthuman_plugins.emulator._errors import bad_request
from agenthuman_plugins.emulator._faults import AVATAR_FAULTS, Fault, FaultBoard
from agenthuman_plugins.emulator._ids import ulid
from agenthuman_plugins.emulator._links import Links
from agenthuman_plugins.emulator._pictures import decode_base64, fetch
from agenthuman_plugins.emulator._proxy_rooms import ProxyRoom, ProxyRooms
from agenthuman_plugins.emulator._rate_limit import RateLimit
from agenthuman_plugins.emulator._requests import ASPECT_RATIOS, CreateRequest, RoomRequest, parse_openclaw
from agenthuman_plugins.emulator._store import EndedBy, Session, SessionStore, timestamp, utc_now

_TICK_S = 0.25  # how often the service looks for sessions that it has to end itself
_REASONS: dict[EndedBy, str] = {
    "caller": "session_ended",
    "expiry": "session_expired",
    "sweep": "session_swept",
    "room_empty": "room_empty",
    "gateway_closed": "gateway_closed",
    "reset": "service_reset",
}
TRY_AGAIN = "try_again"  # what the start call tells in place of an address while the avatar boots

_logger = logging.getLogger(__name__)


class Service:
    """Sessions with their avatars.

    Args:
        store: The sessions.
        rooms: Makes the rooms of platform `proxy`.
        start_avatar: Sends avatars into rooms.
        video_size: Width and height of the picture at 4:3; the other ratios follow from it.
        rate_limit: Limit on the requests to `/v1`; by default there is none.

    Attributes:
        on_end: Is told of each session that has ended.
    """

    def __init__(
        self,
        store: SessionStore,
        rooms: ProxyRooms,
        start_avatar: AvatarStarter,
        video_size: tuple[int, int],
        rate_limit: RateLimit | None = None,
    ) -> None:
        self.store = store
        self.rate_limit = rate_limit
        store.clock.on_move = self.tick
        self.catalogue = Catalogue(store)
        self.agents = Agents(store.clock)
        self.links = Links(self.agents, store.clock)
        self.faults = FaultBoard()
        self._listeners: dict[str, Callable[[dict[str, Any]], None]] = {}
        self._requests: dict[str, CreateRequest] = {}  # of sessions that are created and not started
        self._rooms = rooms
        self._start_avatar = start_avatar
        self._video_size = video_size
        self._avatars: dict[str, Avatar] = {}
        self._jobs: dict[str, AvatarJob] = {}  # of sessions that run
        self.on_end: Callable[[Session], None] = lambda _: None
        self._leaving: set[asyncio.Task[None]] = set()

    async def create(self, request: CreateRequest) -> dict[str, Any]:
        """Open a session and send its avatar off; answers before the avatar is in the room.

        Raises:
            ServiceError: A limit is reached, or no room could be made; no session is left behind.
        """
        self.store.check_limits(request)  # refused at once, not after the room server has started
        if request.image:
            self.catalogue.check_allowance()
            picture = await self.checked_picture(request.image)
        elif self.store.rules.generation == "own-room":
            self.catalogue.check(request.avatar)
        else:
            self.catalogue.check_look(request.avatar)
        room = await self._rooms.open(_new_room()) if request.room.platform == "proxy" else None
        # Nothing is awaited from here on: a create that is cancelled has opened a whole session or none.
        if request.image:
            self.store.check_limits(request)  # or the avatar would stay without a session
            request = replace(request, avatar=self.catalogue.add(*picture).avatar_id)
        session = self.store.create(request)
        if session.status == "created":
            self._requests[session.session_id] = request
        else:
            self._send_avatar(session, request, room)
        return self._created(session, room)

    async def checked_picture(self, image: bytes | str) -> tuple[bytes, bytes]:
        """Run a picture, its data URI or its URL through the checks of upload-face; see `make_avatar_pictures`.

        Raises:
            ServiceError: It makes no avatar.
        """
        if isinstance(image, str):
            is_data = image.startswith("data:")
            allow_private = self.store.rules.allow_private_urls
            image = decode_base64(image) if is_data else await fetch(image, allow_private)
        from agenthuman_plugins.emulator import _faces  # noqa: PLC0415 - OpenCV takes its time

        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(_faces.READER, _faces.make_avatar_pictures, image)

    def start(self, session: Session, ws_uri: str) -> dict[str, Any]:
        """Start a session of the older generation; until its server has booted, the answer is `try_again`.

        The first answer always is, as in the documented example.

        Raises:
            ServiceError: It has ended, or a limit is reached.
        """
        first = self.store.start(session)
        if first:
            self._send_avatar(session, self._requests.pop(session.session_id), None)
        if first or not self.store.booted(session):
            ws_uri = TRY_AGAIN
        return {
            "success": True,
            "ws_uri": ws_uri,
            "expiration": session.expiration and timestamp(session.expiration),
            "message": "Session started successfully",
        }

    async def start_by_link(self, link_id: Any, aspect_ratio: Any) -> dict[str, Any]:
        """Open the session of a link, in a room of the service's own.

        Raises:
            ServiceError: The link cannot be used, a limit is reached, or no room could be made.
        """
        ratio = aspect_ratio if aspect_ratio in ASPECT_RATIOS else "4:3"  # as documented: no refusal here
        link = self.links.usable(link_id)
        avatar = self.catalogue.of_picture(link.agent.avatar_image_url or "")
        request = CreateRequest(avatar, RoomRequest("proxy"), ratio)
        self.store.check_limits(request)
        room = await self._rooms.open(_new_room())
        link = self.links.usable(link_id)  # it may have been used up meanwhile
        session = self.store.create(request)
        link.uses += 1
        self._send_avatar(session, request, room)
        return {
            "success": True,
            "session_id": session.session_id,
            "livekit_url": room.url,
            "participant_token": room.participant_token,
            "agent_identity": AVATAR_IDENTITY,
        }

    async def start_openclaw(self, body: Any) -> dict[str, Any]:
        """Open a session with the service's own agent, in a room of the service's own.

        Only the avatar is played: it comes at once and says nothing. The session is an ordinary one, whose id is not told.

        Raises:
            ServiceError: The body breaks a rule, a limit is reached, or no room could be made.
        """
        request = parse_openclaw(body)
        self.catalogue.check(request.avatar)
        self.store.check_limits(request)
        name = _new_room()
        room = await self._rooms.open(name)
        self._send_avatar(self.store.create(request), request, room)
        return {"success": True, "room": {"name": name, "url": room.url, "token": room.participant_token}}

    def end(self, session: Session, by: EndedBy) -> bool:
        """End a session; its avatar leaves in the background. `False` if it had ended before."""
        if not self.store.end(session, by):
            return False
        by = session.ended_by or by  # a session that is past its limit expired, whoever ends it
        if avatar := self._avatars.pop(session.session_id, None):
            self._dismiss(avatar, _REASONS[by])
        if listener := self._listeners.get(session.session_id):
            listener({"event": "ended"})
        self._jobs.pop(session.session_id, None)
        self.on_end(session)
        return True

    def job(self, session: Session) -> AvatarJob | None:
        """Return what the avatar of a running session does, and where."""
        return self._jobs.get(session.session_id)

    def listen(self, session: Session, listener: Callable[[dict[str, Any]], None]) -> bool:
        """Hear of everything that happens to a session; `False` if somebody does already."""
        if self._listeners.setdefault(session.session_id, listener) is not listener:
            return False
        self.store.note(session, {"event": "gateway_connected"})
        return True

    def unlisten(self, session: Session) -> None:
        """End what `listen` began."""
        self._listeners.pop(session.session_id, None)

    def command(self, session: Session, message: dict[str, Any]) -> None:
        """Send a session's avatar a message, if it has one."""
        if avatar := self._avatars.get(session.session_id):
            avatar.send(message)

    def inject(self, fault: Fault) -> None:
        """Let something go wrong: at once if it names a running session, else when its time comes.

        Raises:
            ServiceError: It names a session that does not run.
        """
        if fault.kind not in AVATAR_FAULTS or fault.session_id is None:
            self.faults.add(fault)
            return
        session = self.store.get(fault.session_id)
        if session.status != "started":
            raise bad_request("Session does not run", f"Its status is {session.status}")
        self.command(session, {"command": "fault", "fault": fault.kind})

    def reset(self) -> None:
        """Forget sessions, avatars, agents, links and faults, and set the clock right; avatars leave in the background."""
        for session in self.store.newest_first("started"):
            self.end(session, "reset")
        self.store.clear()
        self._requests.clear()
        for board in (self.catalogue, self.agents, self.links, self.faults):
            board.clear()
        if self.rate_limit is not None:
            self.rate_limit.clear()
        self.store.clock.reset()
        self.store.on_note()  # what is gone cannot be noted

    def advance_to_expiry(self) -> None:
        """Move the clock to the moment at which the next running session reaches its limit.

        Raises:
            ServiceError: No running session has one.
        """
        clock, limit = self.store.clock, self.store.next_expiry
        if limit is None:
            raise bad_request("No running session has a time limit", "Create a session first")
        clock.advance(seconds=max(0.0, (limit - clock()).total_seconds()))

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
        on_event = partial(self._on_event, session)
        in_room = request.room.platform != "daily"
        if not in_room:
            # Daily needs Daily's cloud: this avatar plays to nobody, and its timeline tells what it played.
            on_event({"event": "without_room", "platform": "daily"})
        width, height = _size_at(request.aspect_ratio, self._video_size)
        job = AvatarJob(
            avatar=request.avatar,
            url=(room.url if room else request.room.url) if in_room else "",
            token=(room.avatar_token if room else request.room.token) if in_room else "",
            width=width,
            height=height,
            faults=self.faults.for_avatar(),
        )
        self._jobs[session.session_id] = job
        self._avatars[session.session_id] = self._start_avatar(job, on_event)

    def _on_event(self, session: Session, event: dict[str, Any]) -> None:
        self.store.note(session, event)
        if session.active and (sentence := _failure(event)):
            _logger.warning("The avatar of %s %s", session.session_id, sentence)
        if listener := self._listeners.get(session.session_id):
            listener(event)

    def _created(self, session: Session, room: ProxyRoom | None) -> dict[str, Any]:
        described = self.store.describe(session)
        token = {"session_token": session.session_token}
        if session.status == "created":
            token = {"access_token": session.session_token}
            # The documented create body has neither of the two.
            del described["duration"], described["daily_room"]
        elif room is None:
            del described["duration"], described["aspect_ratio"]  # as above
        else:
            described["room"] = {"roomURL": room.url, "participantToken": room.participant_token}
        return {
            "success": True,
            "session": {**described, **token},
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


def _failure(event: dict[str, Any]) -> str | None:
    """What a log line says of an event that an avatar did not survive."""
    match event:
        case {"event": "avatar_failed" | "error", "message": str(message)}:
            return f"failed: {message}"
        case {"event": "disconnected", "reason": reason}:
            return f"lost its room: {reason}"
        case {"event": "exit", "code": code} if code not in (0, 1):  # 0: it left; 1: with an error of its own
            return f"died with exit code {code}"
    return None


def _new_room() -> str:
    return f"ah-{ulid(utc_now())}"


def _size_at(aspect_ratio: str, size: tuple[int, int]) -> tuple[int, int]:
    """Return the size of the picture at a ratio, given the one at 4:3."""
    width, height = size
    square = height * 16 // 15  # 512 for 640x480: about as many pixels
    return {"4:3": (width, height), "3:4": (height, width), "1:1": (square, square)}[aspect_ratio]
