"""Sessions and the rules of their life. No I/O and no waiting: time comes from the clock that is passed in."""

import math
import secrets
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from agenthuman_plugins.emulator._errors import (
    image_avatar_denied,
    no_free_session,
    no_minutes,
    session_not_found,
)
from agenthuman_plugins.emulator._ids import ulid
from agenthuman_plugins.emulator._plans import Plan
from agenthuman_plugins.emulator._requests import CreateRequest

SWEEP_AFTER_S = 180.0  # "a sweep catches what was missed within 3 minutes"
_ROOM_EMPTY_AFTER = timedelta(seconds=5)  # a participant that reconnects in full is gone for a moment
_TIMELINE_LENGTH = 1_000  # events kept of each session

Clock = Callable[[], datetime]
EndedBy = Literal["caller", "expiry", "sweep", "room_empty"]
AvatarState = Literal["none", "starting", "ready", "failed", "gone"]


def utc_now() -> datetime:
    """Return the current time."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Rules:
    """What ends a session, and what keeps one from starting.

    Attributes:
        plan: The account's plan.
        sweep_after: Time after which a session whose avatar is alone is ended, which also switches on that an
            emptied room and a dead avatar end theirs; `None` switches all three off.
        expiry: Whether sessions end after the plan's limit; without, their `expiration` is null.
        limit_status: HTTP status when minutes or sessions are used up, which the pages do not tell.
    """

    plan: Plan
    sweep_after: timedelta | None = timedelta(seconds=SWEEP_AFTER_S)
    expiry: bool = True
    limit_status: int = 403


@dataclass(slots=True, eq=False)
class Session:
    """One session, and what the emulator saw of it."""

    session_id: str
    session_token: str = field(repr=False)
    avatar: str
    platform: str
    aspect_ratio: str
    metadata: dict[str, Any]
    started_at: datetime
    expiration: datetime | None
    ended_at: datetime | None = None
    ended_by: EndedBy | None = None
    billing: dict[str, Any] | None = None
    avatar_state: AvatarState = "none"
    avatar_pid: int | None = None
    participants: int = 0  # the avatar not counted
    had_participants: bool = False
    alone_since: datetime | None = None
    timeline: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=_TIMELINE_LENGTH))

    @property
    def active(self) -> bool:
        """Whether it holds one of the plan's concurrent sessions."""
        return self.ended_at is None


class SessionStore:
    """All sessions of one account."""

    def __init__(self, rules: Rules, clock: Clock = utc_now) -> None:
        self._rules = rules
        self._clock = clock
        self._sessions: dict[str, Session] = {}
        self._minutes_used = 0

    def check_limits(self, request: CreateRequest) -> None:
        """Check that the account may open this session now.

        Raises:
            ServiceError: The plan does not allow it, or minutes or sessions are used up.
        """
        plan = self._rules.plan
        if request.avatar_is_image and not plan.image_avatars:
            raise image_avatar_denied()
        if self._minutes_left <= 0:
            raise no_minutes(self._rules.limit_status)
        if self._concurrency["available"] <= 0:
            raise no_free_session(self._rules.limit_status, self._concurrency)

    def create(self, request: CreateRequest) -> Session:
        """Open a session.

        Raises:
            ServiceError: See `check_limits`; no session is left behind.
        """
        self.check_limits(request)
        now = self._clock()
        session = Session(
            session_id=f"sess_{ulid(now)}",
            session_token=f"session_token_{secrets.token_hex(16)}",
            avatar=request.avatar,
            platform=request.room.platform,
            aspect_ratio=request.aspect_ratio,
            metadata=request.metadata,
            started_at=now,
            expiration=now + self._rules.plan.max_session_duration if self._rules.expiry else None,
        )
        self._sessions[session.session_id] = session
        self.note(session, {"event": "created"})
        return session

    def get(self, session_id: str) -> Session:
        """Return a session.

        Raises:
            ServiceError: There is none with this id.
        """
        try:
            return self._sessions[session_id]
        except KeyError:
            raise session_not_found() from None

    def newest_first(self, status: str = "all") -> list[Session]:
        """Return the sessions with status `started` or `ended`; any other word means all of them."""
        wanted = {"started": (True,), "ended": (False,)}.get(status, (True, False))
        return [session for session in reversed(self._sessions.values()) if session.active in wanted]

    def end(self, session: Session, by: EndedBy) -> bool:
        """End a session and bill it; `False` if it had ended before."""
        if not session.active:
            return False
        session.ended_at = self._clock()
        session.ended_by = by
        session.billing = self._bill(session.ended_at - session.started_at)
        self.note(session, {"event": "ended", "by": by})
        return True

    def due(self) -> Iterator[tuple[Session, EndedBy]]:
        """Yield the sessions that the service itself has to end now, and why."""
        now = self._clock()
        for session in [session for session in self._sessions.values() if session.active]:
            if by := self._verdict(session, now):
                yield session, by

    def note(self, session: Session, event: dict[str, Any]) -> None:
        """Write an event of a session, or of its avatar, down."""
        now = self._clock()
        session.timeline.append({"at": now.isoformat(timespec="milliseconds"), **event})
        match event:
            case {"event": "avatar_starting"}:
                session.avatar_state = "starting"
            case {"event": "ready"}:
                session.avatar_state = "ready"
                session.avatar_pid = event.get("pid")
                session.alone_since = session.alone_since or now
            case {"event": "participants", "count": int(count)}:
                session.participants = count
                session.had_participants |= count > 0
                session.alone_since = (session.alone_since or now) if count == 0 else None
            case {"event": "avatar_failed"}:
                session.avatar_state = "failed"
            case {"event": "exit"} if session.avatar_state != "failed":
                session.avatar_state = "gone"

    def describe(self, session: Session) -> dict[str, Any]:
        """Return a session as get and list show it."""
        until = session.ended_at or self._clock()
        body = {
            "session_id": session.session_id,
            "status": "started" if session.active else "ended",
            "started_at": timestamp(session.started_at),
            "ended_at": session.ended_at and timestamp(session.ended_at),
            "expiration": session.expiration and timestamp(session.expiration),
            "duration": int((until - session.started_at).total_seconds()),
            "aspect_ratio": session.aspect_ratio,
            "metadata": session.metadata,
        }
        return body if session.billing is None else {**body, "billing": session.billing}

    def usage(self) -> dict[str, Any]:
        """Return the snapshot that comes with a create."""
        return {"concurrency": self._concurrency, "minutes": {"total_remaining": self._minutes_left}}

    def record(self, session: Session) -> dict[str, Any]:
        """Return what the emulator saw of a session; no secret is in it."""
        return {
            **self.describe(session),
            "avatar": session.avatar,
            "platform": session.platform,
            "ended_by": session.ended_by,
            "avatar_state": session.avatar_state,
            "avatar_pid": session.avatar_pid,
            "participants": session.participants,
            "timeline": list(session.timeline),
        }

    @property
    def _concurrency(self) -> dict[str, int]:
        current = sum(session.active for session in self._sessions.values())
        maximum = self._rules.plan.max_sessions
        return {"current": current, "max": maximum, "available": max(0, maximum - current)}

    @property
    def _minutes_left(self) -> int:
        plan = self._rules.plan
        return max(0, plan.included_minutes + plan.purchased_minutes - self._minutes_used)

    def _bill(self, duration: timedelta) -> dict[str, Any]:
        """Take the minutes of an ended session, rounded up, from the included ones first."""
        consumed = math.ceil(duration / timedelta(minutes=1))
        included = min(consumed, max(0, self._rules.plan.included_minutes - self._minutes_used))
        self._minutes_used += consumed
        # `mixed` and `billed` are documented, and that 15 of 45 minutes were then billed; the rest is inferred.
        source = "plan" if included == consumed else "mixed" if included else "purchased"
        return {
            "minutes_consumed": consumed,
            "minutes_source": source,
            "billing_status": "billed",
            "minutes_billed": consumed - included,
        }

    def _verdict(self, session: Session, now: datetime) -> EndedBy | None:
        if session.expiration is not None and now >= session.expiration:
            return "expiry"
        if self._rules.sweep_after is None:
            return None
        if session.avatar_state in ("failed", "gone"):
            return "sweep"
        if session.alone_since is None:
            return None
        alone = now - session.alone_since
        if session.had_participants and alone >= _ROOM_EMPTY_AFTER:
            return "room_empty"
        return "sweep" if alone >= self._rules.sweep_after else None


def timestamp(moment: datetime) -> str:
    """Return a time in the form of the documented bodies, `2024-01-15T10:30:00Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
