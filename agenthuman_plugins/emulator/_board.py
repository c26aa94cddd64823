"""The state of the emulator as one document, for the window, for `/emulator/export` and for `/emulator/health`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from agenthuman_plugins._version import __version__
from agenthuman_plugins.client._owner import CLIENT_OWNER, Owner
from agenthuman_plugins.client.redaction import redact
from agenthuman_plugins.emulator._service import Service
from agenthuman_plugins.emulator._store import Session, timestamp
from agenthuman_plugins.emulator._watch import Watch

_AT_MOST_EVERY_S = 0.1  # messages to one page; what changes in between comes together
# Most changes are events of sessions, which are told at once. Minutes of running sessions, faults and avatars are not.
_LOOK_AGAIN_S = 0.5


class Board:
    """What the emulator's window shows. No secret is in it.

    Args:
        service: Whose state.
        watch: Knows which sessions can be watched.
        room_server: Returns the kind of the room server, `starting`, `failed`, or `none` without media.
    """

    def __init__(self, service: Service, watch: Watch, room_server: Callable[[], str]) -> None:
        self.service = service
        self.watch = watch
        self._room_server = room_server
        self._wakers: set[asyncio.Event] = set()
        self._closed = False
        service.store.on_note = self._wake

    def health(self) -> dict[str, Any]:
        """Return whether rooms can be made, and how many sessions there are."""
        store, rooms = self.service.store, self._room_server()
        return {
            "status": rooms if rooms in ("starting", "failed") else "ok",
            "version": __version__,
            "generation": store.rules.generation,
            "room_server": rooms,
            "sessions": {
                "running": len(store.newest_first("started")),
                "total": len(store.newest_first()),
            },
        }

    def clock(self) -> dict[str, Any]:
        """Return the time, and when the next running session reaches its limit."""
        store = self.service.store
        return {**store.clock.describe(), "next_expiry": store.next_expiry and timestamp(store.next_expiry)}

    def export(self, base_url: str) -> dict[str, Any]:
        """Return the whole state, with the timeline of each session.

        Args:
            base_url: Address that the links begin with.
        """
        service = self.service
        document = {
            "emulator": self.health(),
            "clock": self.clock(),
            "account": self._account(),
            "sessions": [self._session(session) for session in service.store.newest_first()],
            "avatars": self._avatars(),
            "agents": [agent.describe() for agent in service.agents.newest_first()],
            "links": [service.links.describe(link, base_url) for link in service.links.newest_first("all")],
            "faults": service.faults.describe(),
        }
        return _without_secrets(document)

    async def changes(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the state, then what has changed in it, until the board is closed.

        The first message, and the first one after a reset, holds everything and `fresh`. A later one holds the parts
        that have changed, and of the sessions those that have changed, each with its new events only.
        """
        store, awake = self.service.store, asyncio.Event()
        self._wakers.add(awake)
        sent: dict[str, Any] = {}
        noted: dict[str, int] = {}  # events of each session that were sent
        try:
            while not self._closed:
                awake.clear()
                sessions = store.newest_first()
                fresh = not sent or not noted.keys() <= {session.session_id for session in sessions}
                if fresh:
                    sent, noted = {}, {}
                parts = self._parts()
                message = {name: part for name, part in parts.items() if sent.get(name) != _fixed(part)}
                sent = {name: _fixed(part) for name, part in parts.items()}
                # With the room server it changes which sessions can be watched.
                changed = [
                    each
                    for each in sessions
                    if "about" in message or noted.get(each.session_id, -1) != each.noted
                ]
                if changed or fresh:
                    message["sessions"] = [
                        self._session(each, noted.get(each.session_id, 0)) for each in changed
                    ]
                noted |= {each.session_id: each.noted for each in changed}
                if message:
                    yield _without_secrets({"fresh": fresh, **message})
                    await asyncio.sleep(_AT_MOST_EVERY_S)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_AGAIN_S):
                        await awake.wait()
        finally:
            self._wakers.discard(awake)

    def close(self) -> None:
        """Let every page go."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        for waker in self._wakers:
            waker.set()

    def _parts(self) -> dict[str, Any]:
        return {
            "about": {**self.health(), "sessions": None},
            "clock": self.clock(),
            "account": self._account(),
            "avatars": self._avatars(),
            "faults": self.service.faults.describe(),
        }

    def _account(self) -> dict[str, Any]:
        store, plan = self.service.store, self.service.store.rules.plan
        bills = [session.billing for session in store.newest_first("ended") if session.billing]
        return {
            "plan": plan.name,
            "session_limit_s": plan.max_session_duration.total_seconds() if store.rules.expiry else None,
            "minutes": store.minutes(),
            "minutes_running": store.active_minutes,
            "minutes_ended": sum(bill["minutes_consumed"] for bill in bills),
            "minutes_billed": sum(bill["minutes_billed"] for bill in bills),
            "slots": store.concurrency,
            "avatars": {"limit": plan.max_avatars, "used": self.service.catalogue.made_this_period},
        }

    def _avatars(self) -> list[dict[str, Any]]:
        catalogue = self.service.catalogue
        public = {avatar.avatar_id for avatar in catalogue.public}
        return [
            {
                "avatar_id": avatar.avatar_id,
                "own": avatar.avatar_id not in public,
                "tags": list(avatar.tags),
                **avatar.urls(""),
            }
            for avatar in (*catalogue.own, *catalogue.public)
        ]

    def _session(self, session: Session, events_sent: int = 0) -> dict[str, Any]:
        record = self.service.store.record(session)
        state, text = self.watch.describe(session)
        owner = Owner.parse(session.metadata.get(CLIENT_OWNER))
        timeline = record["timeline"]
        return {
            **record,
            "created_at": timestamp(session.created_at),
            "owner": owner and {"host": owner.host, "pid": owner.pid},
            "view": {"state": state, "text": text},
            "timeline": timeline[max(0, len(timeline) - (session.noted - events_sent)) :],
        }


def _fixed(part: Any) -> Any:
    """A part without what changes by itself, and which a page counts on its own."""
    if isinstance(part, dict) and "offset_s" in part:
        return {
            name: value for name, value in part.items() if name != ("offset_s" if part["paused"] else "now")
        }
    return part


def _without_secrets(document: dict[str, Any]) -> dict[str, Any]:
    redacted: dict[str, Any] = redact(document)
    return redacted
