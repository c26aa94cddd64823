"""An account of the service in this process, and its avatars: slots, minutes, limits, and whatever can go wrong.

It stands for the client as well as for the service behind it: `sessions` has the methods that the bot uses, and keeps
the client's promises (a create that is given up is ended in the background; ending is harmless when repeated).

What it leaves out: the client's own retries and time-outs (a failure here is one that no retry cured), answers that
do not fit, rate limits, and the wire. An avatar's sound is exactly what was sent, and reports do not overtake it.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, Literal

from agenthuman_plugins.client import (
    BadRequestError,
    LiveKitRoom,
    NotFoundError,
    ServerError,
    Session,
    SessionOutcomeUnknownError,
    UsageLimitError,
)
from agenthuman_plugins.client._background import to_the_end
from agenthuman_plugins.client.rooms import Room
from agenthuman_plugins.speech import InProcessSpeechLink
from agenthuman_plugins.speech.link import AvatarAudio, AvatarVideo

_WALL = datetime(2027, 1, 1, tzinfo=UTC)  # when the loop's time was 0

EndedBy = Literal["client", "limit"]


@dataclass(eq=False)
class Opened:
    """A session, as the service's books have it.

    Attributes:
        number: From 1, in the order of the creates.
        avatar: What was asked for.
        room: Where the avatar goes; `None` is a room of its own.
        opened_at: Loop's time.
        ended_at: Loop's time; `None` while it runs.
        ended_by: Who ended it.
        link: The avatar, once somebody has joined it.
        stray: Whether nobody knows it, or could end it: its answer was lost, or its end failed.
    """

    number: int
    session: Session
    avatar: str | None
    room: Room | None
    opened_at: float
    ended_at: float | None = None
    ended_by: EndedBy | None = None
    link: "AvatarLink | None" = None
    stray: bool = False

    @property
    def place(self) -> object:
        """What only one avatar can have at a time: an identity in a room; a proxied session has its own."""
        if isinstance(self.room, LiveKitRoom):
            return self.room.url, self.room.avatar_identity
        return self.number if self.room is None else self.room


class AvatarLink(InProcessSpeechLink):
    """A link to an avatar of the account, which remembers what that said aloud.

    Attributes:
        said: Loop's time and sound (16 kHz) of each block in which the avatar spoke.
        left: Whether the avatar went away by itself.
    """

    def __init__(self, **options: Any) -> None:
        clock = asyncio.get_running_loop().time
        super().__init__(clock=clock, **options)
        self.said: list[tuple[float, bytes]] = []
        self.left = False
        self.closed = False
        take = self._playout.take

        def take_and_note(samples: int) -> Any:
            block, reports = take(samples)
            if any(block) and self.present:
                self.said.append((clock(), block))
            return block, reports

        self._playout.take = take_and_note  # type: ignore[method-assign]
        # Its silence is on the way since before it was there, as in a room that it has been in for a moment.
        silence = AvatarAudio(
            bytes(2 * round(self._audio_sample_rate * self._block_s)), self._audio_sample_rate
        )
        picture = AvatarVideo(bytes(3 * self._width * self._height), self._width, self._height, 0)
        self._under_way.extend([(silence, picture)] * self._delay_blocks)

    @property
    def present(self) -> bool:
        """Whether the avatar can be spoken through."""
        return self._avatar_here

    def leave(self, reason: str = "The avatar left the room.", *, crash: bool = False) -> None:
        """Let the avatar go for good, or lose the room with it."""
        self.left = True
        if crash:
            self.crash(reason)
        elif self.present:
            self.disappear(reason)


class Account:
    """What a bot is given as its client, and what its sessions are counted by.

    Args:
        slots: Sessions that may run at the same time.
        session_s: Length of a session; `None` is unlimited, and then no `expiration` is told.
        clock_off_s: By how much the service's clock is ahead of ours.
        crash_at_limit: Whether the room is lost at a session's limit; else the avatar leaves it.
        link_options: Of each avatar, see `InProcessSpeechLink`.

    Attributes:
        slots, session_s, clock_off_s, link_options: As above; they can be changed at any time.
        taken: Slots that somebody else uses.
        failure: What a create raises: minutes used up, a wrong key, a service that is down; `None` for nothing.
        refused_avatars: Avatars that are not ours.
        create_s: Seconds that a create takes; the session opens half-way.
        end_s: Seconds until a session has ended.
        lost_answers: Creates to come that open a session and do not say so.
        failing_ends: Ends to come that fail.
        books: Every session.
        refusals: Loop's time and reason of each create that was refused.
        evictions: Pairs of sessions whose avatars were in one place at the same time: the second evicts the first.
        links: Every avatar that was joined.
    """

    def __init__(
        self,
        *,
        slots: int = 1,
        session_s: float | None = None,
        clock_off_s: float = 0.0,
        crash_at_limit: bool = False,
        link_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.slots = slots
        self.session_s = session_s
        self.clock_off_s = clock_off_s
        self.crash_at_limit = crash_at_limit
        self.link_options = dict(link_options or {})
        self.taken = 0
        self.failure: Exception | None = None
        self.refused_avatars: set[str] = set()
        self.create_s = 0.0
        self.end_s = 0.05
        self.lost_answers = 0
        self.failing_ends = 0
        self.books: list[Opened] = []
        self.refusals: list[tuple[float, Exception]] = []
        self.evictions: list[tuple[Opened, Opened]] = []
        self.links: list[AvatarLink] = []
        self.requests: list[tuple[float, str]] = []
        self.given_up: set[asyncio.Task[None]] = set()
        self.sessions = SimpleNamespace(
            open=self._open, create=self._create, end=self._end, get=self._get, find=self._find
        )

    # What a test asks

    @property
    def running(self) -> list[Opened]:
        """Sessions that are billed at this moment."""
        return [opened for opened in self.books if opened.ended_at is None]

    @property
    def leaked(self) -> set[str]:
        """Sessions that nobody has ended: as `FakeClient` has it."""
        return {opened.session.session_id for opened in self.running}

    @property
    def most_at_once(self) -> int:
        """The most sessions that ever ran at the same time, without strays."""
        return max((self._at_once(opened.opened_at) for opened in self.books), default=0)

    def ended_by(self, who: EndedBy) -> list[Opened]:
        """Sessions that were ended by somebody."""
        return [opened for opened in self.books if opened.ended_by == who]

    def _at_once(self, at: float) -> int:
        known = (opened for opened in self.books if not opened.stray)
        return sum(o.opened_at <= at and (o.ended_at is None or o.ended_at > at) for o in known)

    # What a test does

    def make_link(self, session: Session, rate: int) -> AvatarLink:
        """Join the avatar of a session."""
        opened = self._find_opened(session.session_id)
        opened.link = AvatarLink(audio_sample_rate=rate, **self.link_options)
        self.links.append(opened.link)
        if opened.ended_at is not None:
            opened.link.leave("The session has ended.", crash=True)
        return opened.link

    async def settled(self) -> None:
        """Wait until every create that was given up is over."""
        while self.given_up:
            await asyncio.wait(self.given_up)

    # What the client does

    @contextlib.asynccontextmanager
    async def _open(self, **options: Any) -> AsyncIterator[Session]:
        session = await self._create(**options)
        try:
            yield session
        finally:
            await to_the_end(lambda: self._end(session.session_id))

    async def _create(
        self,
        *,
        avatar: str | None = None,
        room: Room | None = None,
        metadata: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> Session:
        self.requests.append((self._now(), "create"))
        await asyncio.sleep(self.create_s / 2)
        if (refusal := self._refusal(avatar)) is not None:
            self.refusals.append((self._now(), refusal))
            raise refusal
        opened = self._book(avatar, room, metadata or {})
        try:
            await asyncio.sleep(self.create_s / 2)
        except asyncio.CancelledError:
            task = asyncio.create_task(self._end_given_up(opened), name="end a create that was given up")
            self.given_up.add(task)
            task.add_done_callback(self.given_up.discard)
            raise
        if self.lost_answers:
            self.lost_answers -= 1
            opened.stray = True
            raise SessionOutcomeUnknownError("the answer is lost", client_ref=opened.session.client_ref)
        return opened.session

    def _refusal(self, avatar: str | None) -> Exception | None:
        if self.failure is not None:
            return self.failure
        if avatar in self.refused_avatars:
            return BadRequestError(f"no avatar {avatar}", status_code=400, code="INVALID_AVATAR")
        if len(self.running) + self.taken >= self.slots:
            return concurrency_limit()
        return None

    def _book(self, avatar: str | None, room: Room | None, metadata: Mapping[str, Any]) -> Opened:
        number = len(self.books) + 1
        now = self._now()
        started_at = _WALL + timedelta(seconds=now + self.clock_off_s)
        session = Session(
            session_id=f"sess_{number}",
            status="started",
            session_token="token",
            started_at=started_at,
            expiration=None if self.session_s is None else started_at + timedelta(seconds=self.session_s),
            metadata={"client_ref": f"ref_{number}", **metadata},
        )
        opened = Opened(number, session, avatar, room, now)
        for other in self.running:
            if other.place == opened.place and not other.stray:
                self.evictions.append((other, opened))
                if other.link is not None:
                    other.link.leave("Another participant has joined with its identity.")
        self.books.append(opened)
        if self.session_s is not None:
            asyncio.get_running_loop().call_later(self.session_s, self._expire, opened)
        return opened

    def _expire(self, opened: Opened) -> None:
        if opened.ended_at is None:
            self._end_now(opened, "limit")
            if opened.link is not None:
                opened.link.leave("The session has reached its limit.", crash=self.crash_at_limit)

    def _end_now(self, opened: Opened, by: EndedBy) -> None:
        if opened.ended_at is None:
            opened.ended_at, opened.ended_by = self._now(), by

    async def _end_given_up(self, opened: Opened) -> None:
        await asyncio.sleep(self.create_s / 2)
        self._end_now(opened, "client")

    async def _end(self, session_id: str, **_: Any) -> Session:
        self.requests.append((self._now(), "end"))
        opened = self._find_opened(session_id)
        await asyncio.sleep(self.end_s)
        if self.failing_ends:
            self.failing_ends -= 1
            opened.stray = True
            raise ServerError("the service is down", status_code=503, retryable=True)
        self._end_now(opened, "client")
        return self._state(opened)

    async def _get(self, session_id: str, **_: Any) -> Session:
        self.requests.append((self._now(), "get"))
        return self._state(self._find_opened(session_id))

    async def _find(self, client_ref: str, **_: Any) -> Session | None:
        self.requests.append((self._now(), "find"))
        found = (self._state(opened) for opened in self.books if opened.session.client_ref == client_ref)
        return next(found, None)

    def _state(self, opened: Opened) -> Session:
        status = "started" if opened.ended_at is None else "ended"
        return opened.session.model_copy(update={"status": status, "session_token": None})

    def _find_opened(self, session_id: str) -> Opened:
        for opened in self.books:
            if opened.session.session_id == session_id:
                return opened
        raise NotFoundError(f"no session {session_id}", status_code=404)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def concurrency_limit() -> UsageLimitError:
    """All slots are taken: one will be free when a session ends."""
    return _used_up("concurrency")


def minutes_used_up() -> UsageLimitError:
    """There are no minutes left, and waiting brings none."""
    return _used_up("minutes")


def _used_up(limit: Literal["minutes", "concurrency"]) -> UsageLimitError:
    error = UsageLimitError(f"{limit} used up", status_code=429 if limit == "concurrency" else 402)
    error.limit = limit
    return error


@dataclass
class MintedRooms:
    """A function that makes rooms, as a bot is given it: a fresh avatar identity in one room for each session."""

    made: list[LiveKitRoom] = field(default_factory=list)
    _numbers: Callable[[], int] = field(default_factory=lambda: itertools.count(1).__next__)

    def __call__(self, request: Any) -> LiveKitRoom:
        number = self._numbers()
        identity = getattr(request, "avatar_identity", f"avatar-{number}")
        self.made.append(
            LiveKitRoom.mint("wss://example.livekit.cloud", "key", "secret", "room", avatar_identity=identity)
        )
        return self.made[-1]
