"""Sessions and the rules of their life. No I/O and no waiting: time comes from the clock that is passed in."""

import math
import secrets
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from urllib.parse import quote

from agenthuman_plugins.emulator._clock import EmulatorClock
from agenthuman_plugins.emulator._errors import (
    LIMIT_ERRORS,
    LimitError,
    bad_request,
    image_avatar_denied,
    no_free_session,
    no_minutes,
    session_not_found,
    session_not_started,
)
from agenthuman_plugins.emulator._ids import ulid
from agenthuman_plugins.emulator._plans import Plan
from agenthuman_plugins.emulator._requests import CreateRequest

SWEEP_AFTER_S = 180.0  # "a sweep catches what was missed within 3 minutes"
# "At once" by the pages; but LiveKit's clients, when they reconnect in full, are gone for a moment.
_ROOM_EMPTY_AFTER = timedelta(seconds=5)
_MINUTE = timedelta(minutes=1)
_TIMELINE_LENGTH = 1_000  # events kept of each session

Clock = Callable[[], datetime]
EndedBy = Literal["caller", "expiry", "sweep", "room_empty", "gateway_closed", "reset"]
Generation = Literal["own-room", "managed"]
Metadata = Literal["kept", "dropped", "refused"]
AvatarState = Literal["none", "starting", "ready", "failed", "gone"]
LOST = ("failed", "gone")  # avatars that do not come back


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
        limit_errors: How a call is refused when `minutes`, `sessions` or `avatars` are used up.
        generation: Which of the two documented generations answers.
        boot: How long the server of a started session takes to boot, in the older generation.
        metadata: What becomes of a session's metadata.
        list_metadata: Whether the list of sessions carries it.
        proxy_rooms: Whether a create may leave the room to the service, which is on no public page.
        established_first: Whether `connection.established` comes before the avatar has joined.
        allow_private_urls: Whether pictures are also fetched from this machine and from private networks.
    """

    plan: Plan
    sweep_after: timedelta | None = timedelta(seconds=SWEEP_AFTER_S)
    expiry: bool = True
    limit_errors: Mapping[str, LimitError] = field(default_factory=lambda: LIMIT_ERRORS)
    generation: Generation = "own-room"
    boot: timedelta = timedelta()
    metadata: Metadata = "kept"
    list_metadata: bool = True
    proxy_rooms: bool = True
    established_first: bool = False
    allow_private_urls: bool = False


@dataclass(slots=True, eq=False)
class Session:
    """One session, and what the emulator saw of it."""

    session_id: str
    session_token: str = field(repr=False)
    avatar: str
    platform: str
    aspect_ratio: str
    metadata: dict[str, Any]
    created_at: datetime
    started_at: datetime | None = None  # null only in the older generation, between create and start
    expiration: datetime | None = None
    daily_room: dict[str, str] | None = field(default=None, repr=False)
    ended_at: datetime | None = None
    ended_by: EndedBy | None = None
    billing: dict[str, Any] | None = None
    avatar_state: AvatarState = "none"
    avatar_pid: int | None = None
    participants: int = 0  # the avatar not counted
    had_participants: bool = False
    alone_since: datetime | None = None
    timeline: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=_TIMELINE_LENGTH))
    noted: int = 0  # events so far, those that the timeline has dropped included

    @property
    def active(self) -> bool:
        """Whether it has not ended."""
        return self.ended_at is None

    @property
    def status(self) -> Literal["created", "started", "ended"]:
        """The status as the service tells it; a started session holds one of the plan's concurrent sessions."""
        if self.ended_at is not None:
            return "ended"
        return "created" if self.started_at is None else "started"


class SessionStore:
    """All sessions of one account.

    Attributes:
        on_note: Called after each event of a session.
    """

    def __init__(self, rules: Rules, clock: Clock = utc_now) -> None:
        self.rules = rules
        self.clock = EmulatorClock(clock)
        self.on_note: Callable[[], None] = lambda: None
        self._sessions: dict[str, Session] = {}
        self._subscribed_at = clock()

    def check_limits(self, request: CreateRequest) -> None:
        """Check that the account may open this session now.

        Raises:
            ServiceError: The plan or a rule does not allow it, or minutes or sessions are used up.
        """
        plan = self.rules.plan
        if request.image and not plan.image_avatars:
            raise image_avatar_denied()
        self._check_usage()
        if request.metadata and self.rules.metadata == "refused":
            raise bad_request("metadata is not accepted")

    def create(self, request: CreateRequest) -> Session:
        """Open a session.

        Raises:
            ServiceError: See `check_limits`; no session is left behind.
        """
        self.check_limits(request)
        now = self.clock()
        managed = self.rules.generation == "managed"
        session = Session(
            session_id=f"sess_{ulid(now)}",
            session_token=f"{'access' if managed else 'session'}_token_{secrets.token_hex(16)}",
            avatar=request.avatar,
            platform=request.room.platform,
            aspect_ratio=request.aspect_ratio,
            metadata=request.metadata if self.rules.metadata == "kept" else {},
            created_at=now,
        )
        self._sessions[session.session_id] = session
        self.note(session, {"event": "created"})
        if managed:
            session.daily_room = _daily_room(session.session_id)
        else:
            self._begin(session)
        return session

    def start(self, session: Session) -> bool:
        """Start a session of the older generation; `False` if it had been started before.

        Raises:
            ServiceError: It has ended, or minutes or sessions are used up.
        """
        if not session.active:
            raise bad_request("Session has already ended", "Create a new session")
        if session.started_at is not None:
            return False
        self._check_usage()
        self._begin(session)
        self.note(session, {"event": "started"})
        return True

    def booted(self, session: Session) -> bool:
        """Whether the server of a started session is up."""
        return session.started_at is not None and self.clock() - session.started_at >= self.rules.boot

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
        every = reversed(self._sessions.values())
        return [
            session for session in every if status not in ("started", "ended") or session.status == status
        ]

    def end(self, session: Session, by: EndedBy) -> bool:
        """End a session and bill it; `False` if it had ended before.

        Raises:
            ServiceError: It has not started, in the older generation.
        """
        if not session.active:
            return False
        if session.started_at is None:
            raise session_not_started()
        now = self.clock()
        if session.expiration is not None and now >= session.expiration:
            by = "expiry"  # whoever comes first after the limit
        ended_at = min(now, self._latest_end(session, by) or now)
        session.billing = self._bill(session.started_at, ended_at)
        session.ended_at, session.ended_by = ended_at, by
        self.note(session, {"event": "ended", "by": by}, ended_at)
        return True

    def clear(self) -> None:
        """Forget all sessions and the minutes that they used."""
        self._sessions.clear()

    @property
    def next_expiry(self) -> datetime | None:
        """When the next running session reaches its limit."""
        limits = [session.expiration for session in self._sessions.values() if session.active]
        return min((limit for limit in limits if limit), default=None)

    def due(self) -> Iterator[tuple[Session, EndedBy]]:
        """Yield the sessions that the service itself has to end now, and why."""
        now = self.clock()
        for session in [session for session in self._sessions.values() if session.active]:
            if by := self._verdict(session, now):
                yield session, by

    def note(self, session: Session, event: dict[str, Any], moment: datetime | None = None) -> None:
        """Write down what happened to a session or its avatar, at a moment or now."""
        now = moment or self.clock()
        session.timeline.append({"at": now.isoformat(timespec="milliseconds"), **event})
        session.noted += 1
        self.on_note()
        match event:
            case {"event": "avatar_starting"}:
                session.avatar_state = "starting"
            case {"event": "ready"}:
                session.avatar_state = "ready"
                session.avatar_pid = event.get("pid")
                if session.platform != "daily":  # nobody sees who is in Daily's rooms
                    session.alone_since = session.alone_since or now
            case {"event": "gateway_connected"} if session.platform == "daily":
                session.alone_since = None
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
        if self.rules.generation == "managed":
            return self._describe_managed(session)
        body = {
            "session_id": session.session_id,
            "status": session.status,
            "started_at": session.started_at and timestamp(session.started_at),
            "ended_at": session.ended_at and timestamp(session.ended_at),
            "expiration": session.expiration and timestamp(session.expiration),
            "duration": self.duration(session),
            "aspect_ratio": session.aspect_ratio,
            "metadata": session.metadata,
        }
        return body if session.billing is None else {**body, "billing": session.billing}

    def duration(self, session: Session) -> int:
        """Return the seconds that a session lasts, or lasted."""
        until = session.ended_at or self.clock()
        return int((until - (session.started_at or until)).total_seconds())

    def _describe_managed(self, session: Session) -> dict[str, Any]:
        body = {
            "session_id": session.session_id,
            "avatar": {
                "avatar_id": session.avatar,
                "name": session.avatar,
                "url": f"https://example.com/avatars/{quote(session.avatar, safe='')}.jpg",
            },
            "session_type": "webrtc_video",
            "status": session.status,
            "started_at": session.started_at and timestamp(session.started_at),
            "ended_at": session.ended_at and timestamp(session.ended_at),
            "expiration": session.expiration and timestamp(session.expiration),
            "duration": None if session.active else self.duration(session),
            "created_at": timestamp(session.created_at),
            "metadata": session.metadata,
        }
        return body if session.daily_room is None else {**body, "daily_room": session.daily_room}

    def usage(self) -> dict[str, Any]:
        """Return the snapshot that comes with a create."""
        minutes = {"total_remaining": self.minutes()["total_remaining"]}
        return {"concurrency": self.concurrency, "minutes": minutes}

    def minutes(self) -> dict[str, Any]:
        """Return the minutes as the usage call tells them."""
        plan = self.rules.plan
        included, purchased = self._included_left(self.clock()), self._purchased_left
        # Those of running sessions count, too, from the included ones first.
        active = self.active_minutes
        purchased = max(0, purchased - max(0, active - included))
        included = max(0, included - active)
        return {
            "included_minutes": {
                "total": plan.included_minutes,
                "used": plan.included_minutes - included,
                "remaining": included,
            },
            "purchased_minutes": {"total": plan.purchased_minutes, "remaining": purchased},
            "total_remaining": included + purchased,
        }

    def record(self, session: Session) -> dict[str, Any]:
        """Return what the emulator saw of a session; no secret is in it."""
        described = self.describe(session)
        described.pop("daily_room", None)
        return {
            **described,
            "avatar": session.avatar,
            "platform": session.platform,
            "ended_by": session.ended_by,
            "avatar_state": session.avatar_state,
            "avatar_pid": session.avatar_pid,
            "participants": session.participants,
            "timeline": list(session.timeline),
        }

    @property
    def concurrency(self) -> dict[str, int]:
        """How many sessions run, and how many may."""
        current = sum(session.status == "started" for session in self._sessions.values())
        maximum = self.rules.plan.max_sessions
        return {"current": current, "max": maximum, "available": max(0, maximum - current)}

    @property
    def period(self) -> tuple[datetime, datetime]:
        """The start of the account's current period, and of the next one."""
        return self.rules.plan.period(self._subscribed_at, self.clock())

    @property
    def active_minutes(self) -> int:
        """Minutes of the sessions that run, rounded up for each."""
        now = self.clock()
        return sum(
            math.ceil((now - session.started_at) / _MINUTE)
            for session in self._sessions.values()
            if session.started_at is not None and session.active
        )

    def _check_usage(self) -> None:
        minutes, concurrency = self.minutes(), self.concurrency
        if minutes["total_remaining"] <= 0:
            raise no_minutes(self.rules.limit_errors["minutes"], minutes)
        if concurrency["available"] <= 0:
            raise no_free_session(self.rules.limit_errors["sessions"], concurrency)

    def _begin(self, session: Session) -> None:
        session.started_at = self.clock()
        if self.rules.expiry:
            session.expiration = session.started_at + self.rules.plan.max_session_duration
        if session.platform == "daily":
            session.alone_since = session.started_at  # until a gateway connection comes

    def _included_left(self, moment: datetime) -> int:
        """Included minutes that no bill of the period around a moment has taken."""
        start, next_start = self.rules.plan.period(self._subscribed_at, moment)
        used = sum(
            session.billing["minutes_consumed"] - session.billing["minutes_billed"]
            for session in self._sessions.values()
            if session.billing and session.ended_at and start <= session.ended_at < next_start
        )
        return max(0, self.rules.plan.included_minutes - int(used))

    @property
    def _purchased_left(self) -> int:
        """Purchased minutes that no bill has taken; they do not expire."""
        used = sum(
            session.billing["minutes_billed"] for session in self._sessions.values() if session.billing
        )
        return max(0, self.rules.plan.purchased_minutes - int(used))

    def _bill(self, started_at: datetime, ended_at: datetime) -> dict[str, Any]:
        """Take the minutes of a session, rounded up, from the included ones of the period that it ended in first."""
        consumed = math.ceil((ended_at - started_at) / _MINUTE)
        included = min(consumed, self._included_left(ended_at))
        # `mixed` and `billed` are documented, and that 15 of 45 minutes were then billed; the rest is inferred.
        source = "plan" if included == consumed else "mixed" if included else "purchased"
        return {
            "minutes_consumed": consumed,
            "minutes_source": source,
            "billing_status": "billed",
            "minutes_billed": consumed - included,
        }

    def _latest_end(self, session: Session, by: EndedBy) -> datetime | None:
        """When a session is over for a reason, if that is known beforehand.

        The service looks only now and then, and the clock can be moved far beyond it.
        """
        if by == "expiry":
            return session.expiration
        if session.alone_since is None or session.avatar_state in LOST:
            return None
        if by == "room_empty":
            return session.alone_since + _ROOM_EMPTY_AFTER
        if by == "sweep" and self.rules.sweep_after is not None:
            return session.alone_since + self.rules.sweep_after
        return None

    def _verdict(self, session: Session, now: datetime) -> EndedBy | None:
        if session.expiration is not None and now >= session.expiration:
            return "expiry"
        if self.rules.sweep_after is None:
            return None
        if session.avatar_state in LOST:
            return "sweep"
        if session.alone_since is None:
            return None
        alone = now - session.alone_since
        if session.had_participants and alone >= _ROOM_EMPTY_AFTER:
            return "room_empty"
        return "sweep" if alone >= self.rules.sweep_after else None


def _daily_room(session_id: str) -> dict[str, str]:
    """Make up a room in Daily's form; nobody serves it."""
    name = f"ah-{session_id.removeprefix('sess_').lower()}"
    token = f"daily-token-{secrets.token_hex(16)}"
    return {"url": f"https://agenthuman.daily.co/{name}", "name": name, "token": token}


def timestamp(moment: datetime, timespec: str = "seconds") -> str:
    """Return a time in the form of the documented bodies, `2024-01-15T10:30:00Z`."""
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=timespec)}Z"
