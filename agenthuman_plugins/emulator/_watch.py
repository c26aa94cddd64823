"""Which session can be watched, and the viewers that show them."""

import asyncio
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agenthuman_plugins.emulator._errors import ServiceError
from agenthuman_plugins.emulator._proxy_rooms import RoomServerRooms
from agenthuman_plugins.emulator._service import Service
from agenthuman_plugins.emulator._store import LOST, EndedBy, Session
from agenthuman_plugins.emulator.rooms import RoomServer
from agenthuman_plugins.speech._wire import origin
from agenthuman_plugins.viewer import ViewerError

if TYPE_CHECKING:
    from agenthuman_plugins.viewer import Viewer

_NONE_RUNS = "No session is running. The next one appears here by itself."
_NO_MEDIA = "This emulator runs without rooms and avatars (media=False), so there is no video."
_DAILY = (
    "This session is in a Daily room, which the emulator does not join: its avatar plays to nobody."
    " GET /emulator/sessions shows what it played."
)
_ENDED: dict[EndedBy, str] = {
    "caller": "the program ended it.",
    "expiry": "it reached the time limit of the plan.",
    "sweep": "the service ended it, since its avatar was alone or had failed.",
    "room_empty": "everybody had left the room.",
    "gateway_closed": "its gateway connection was closed.",
    "reset": "the emulator was reset.",
}
_GRANTS = {"hidden": True, "canPublish": False, "canPublishData": False, "canUpdateOwnMetadata": False}


class Watch:
    """Shows sessions to browsers.

    Args:
        service: Whose sessions.
        rooms: The emulator's own rooms; `None` without media.
    """

    def __init__(self, service: Service, rooms: RoomServerRooms | None) -> None:
        self._service = service
        self._rooms = rooms
        self._viewers: dict[str, Viewer] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._loading: asyncio.Task[type[Viewer]] | None = None
        service.on_end = self._on_end

    def state(self, session_id: str | None = None) -> dict[str, Any]:
        """Return what the page shows.

        Args:
            session_id: The session to watch; `None` for the newest one that runs, else the newest.

        Returns:
            `state` (`waiting` for a session, `running`, `ended`, `unseen`), a `text` for the user, and `session`.
        """
        try:
            session = self._service.store.get(session_id) if session_id else self._newest()
        except ServiceError:
            return {"state": "unseen", "text": f"There is no session {session_id}.", "session": None}
        if session is None:
            state, text = ("unseen", _NO_MEDIA) if self._rooms is None else ("waiting", _NONE_RUNS)
            return {"state": state, "text": text, "session": None}
        state, text = self.describe(session)
        if state == "ended" and not session_id:
            text += " The next session appears here by itself."
        described = {
            "session_id": session.session_id,
            "avatar": session.avatar,
            "duration": self._service.store.duration(session),
        }
        return {"state": state, "text": text, "session": described}

    def describe(self, session: Session) -> tuple[str, str]:
        """Return whether a session can be watched (`state`, as above), and a text about it."""
        if session.ended_by is not None:
            return "ended", f"Ended: {_ENDED[session.ended_by]}"
        job = self._service.job(session)
        if self._rooms is None:
            return "unseen", _NO_MEDIA
        if session.platform == "daily":
            return "unseen", _DAILY
        if session.avatar_state in LOST:
            return (
                "unseen",
                "The avatar of this session has failed. GET /emulator/sessions shows what happened.",
            )
        server = self._server()
        if job is None or server is None:
            return "waiting", "The room server is starting …"
        if server.admits(job.token) is None:
            where = origin(job.url)
            return (
                "unseen",
                f"This session is in a room at {where}, for which the emulator has no key: watch it there.",
            )
        return "running", "The avatar is on its way …"

    def prepare(self) -> None:
        """Load what a viewer needs, since a page is open: half a second for aiortc and LiveKit."""
        if self._loading is None and self._rooms is not None:
            self._loading = asyncio.create_task(asyncio.to_thread(_load_viewer), name="loading the viewer")

    async def answer(self, session_id: str, offer: Mapping[str, Any]) -> dict[str, str]:
        """Let a browser watch a session.

        Raises:
            ViewerError: It cannot; the text says why.
        """
        try:
            session = self._service.store.get(session_id)
        except ServiceError:
            raise ViewerError(f"There is no session {session_id}.") from None
        state, text = self.describe(session)
        server, job = self._server(), self._service.job(session)
        if state != "running" or server is None or job is None:
            raise ViewerError(text)
        self.prepare()
        assert self._loading is not None  # noqa: S101 - there are rooms
        make_viewer = await asyncio.shield(self._loading)
        if not session.active:
            raise ViewerError(self.describe(session)[1])
        if session_id not in self._viewers:
            room, avatar = server.admits(job.token) or ("", "")
            # Under an identity of its own: it evicts nobody.
            token = server.mint(room=room, identity=f"viewer-{secrets.token_hex(6)}", grants=_GRANTS)
            self._viewers[session_id] = make_viewer(job.url, token, avatar_identity=avatar)
        return await self._viewers[session_id].answer(offer)

    async def aclose(self) -> None:
        """Let every browser go, and leave every room."""
        for session_id in list(self._viewers):
            self._close(session_id, "The emulator was stopped.")
        if ending := {*self._closing, *([self._loading] if self._loading else [])}:
            await asyncio.wait(ending)  # each has its own time limits

    def _newest(self) -> Session | None:
        running = self._service.store.newest_first("started")
        every = running or self._service.store.newest_first()
        return next(iter(every), None)

    def _server(self) -> RoomServer | None:
        return self._rooms.started if self._rooms else None

    def _on_end(self, session: Session) -> None:
        if session.session_id in self._viewers:
            self._close(session.session_id, self.describe(session)[1])

    def _close(self, session_id: str, text: str) -> None:
        task = asyncio.create_task(self._viewers.pop(session_id).aclose(text), name="end of a viewer")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _load_viewer() -> "type[Viewer]":
    from agenthuman_plugins.viewer import Viewer  # noqa: PLC0415 - only an emulator that is watched needs it

    return Viewer
