"""What every row asks of a service and of the vendor behind it."""

import asyncio
import contextlib
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass

from aiohttp import web
from pipecat.frames.frames import Frame
from pipecat.processors.frame_processor import FrameProcessor

from agenthuman_plugins.emulator._errors import LIMIT_ERRORS, no_free_session
from benchmarks.peers._avatar import Avatar, Wire

NEW_TINT = 200  # of an avatar that has taken the place of another one; no grey is like it


class CannotRunError(Exception):
    """Raised when a service cannot be measured here; its text goes into the table."""


@dataclass(frozen=True)
class Conditions:
    """How the vendor behaves.

    Attributes:
        create_s: How long it takes to answer a create.
        join_s: How long its media takes to connect.
        refuses: Whether it refuses the create instead.
        session_s: How long a session lasts before the vendor ends it; `None`: as long as the caller wants.
        transit_s: How long the avatar's voice and picture are under way.
        width: Pixels of the picture.
        height: Pixels of the picture.
        output_rate: Hz of the pipeline's output.
        still: The avatar sends no picture by itself, only what it is given to show.
    """

    create_s: float = 0.0
    refuses: bool = False
    join_s: float = 0.0
    width: int = 64
    height: int = 48
    output_rate: int = 24_000
    still: bool = False
    session_s: int | None = None
    transit_s: float = 0.4


class Vendor(ABC):
    """A service and its fake vendor.

    Args:
        conditions: How the vendor behaves.

    Attributes:
        name: Column of the table.
        boundary: What is faked, for the table.
        opened: Ids of the sessions that the vendor opened.
        ended: Ids of those that it was told to end.
        expired: Ids of those that reached their limit.
        full: Whether it has no session to give: a create is refused for that.
    """

    name = ""
    boundary = ""
    # A vendor whose session is nothing but its connection has none that could be left open.
    has_sessions = True
    avatar_type = Avatar

    def __init__(self, conditions: Conditions) -> None:
        self.conditions = conditions
        self.opened: list[str] = []
        self.ended: list[str] = []
        self.expired: list[str] = []
        self.full = False
        self._limits: list[asyncio.TimerHandle] = []
        self.avatars: list[Avatar] = []

    @property
    def left_open(self) -> set[str]:
        return set(self.opened) - set(self.ended) - set(self.expired)

    @property
    def wire(self) -> Wire:
        return self.avatars[-1].wire if self.avatars else Wire()

    @property
    def heard(self) -> list[tuple[float, bool]]:
        return self.avatars[-1].heard if self.avatars else []

    @property
    def is_there(self) -> bool:
        """Whether the avatar is connected."""
        return bool(self.avatars) and self.avatars[-1].is_there

    @property
    def unread_pictures(self) -> int:
        """Pictures that the service has not taken from the boundary."""
        return self.avatars[-1].unread_pictures if self.avatars else 0

    def avatar(self, rate: int, *, join_s: float = 0.0, tint: int | None = None) -> Avatar:
        given = self.conditions
        size = {} if given.still else {"width": given.width, "height": given.height}
        self.avatars.append(
            self.avatar_type(
                rate=rate, join_s=join_s, still=given.still, tint=tint, transit_s=given.transit_s, **size
            )
        )
        return self.avatars[-1]

    def change_avatar(self) -> Frame:
        """The frame that changes the avatar of a running service; its picture then has the blue `NEW_TINT`."""
        raise CannotRunError("no setting for it")

    @abstractmethod
    def service(self) -> contextlib.AbstractAsyncContextManager[FrameProcessor]:
        """The service, connected to its fake vendor as long as the context lasts."""

    async def create(self) -> str:
        """Open a session: at once, but the answer may take its time."""
        if self.conditions.refuses:
            raise web.HTTPUnauthorized
        if self.full:
            body = no_free_session(LIMIT_ERRORS["sessions"], {"current": 1, "max": 1, "available": 0}).body
            raise web.HTTPForbidden(text=json.dumps(body), content_type="application/json")
        session_id = f"session-{len(self.opened) + 1}"
        self.begin(session_id)
        await asyncio.sleep(self.conditions.create_s)
        return session_id

    def begin(self, session_id: str) -> None:
        """A session begins, and with it the time that it may take."""
        self.opened.append(session_id)
        if (limit_s := self.conditions.session_s) is not None:
            loop = asyncio.get_running_loop()
            self._limits.append(loop.call_later(limit_s, self._expire, session_id))

    def avatar_of(self, session_id: str) -> Avatar | None:
        """The avatar of a session; by default there has been one alone."""
        return self.avatars[-1] if self.avatars and session_id == self.opened[-1] else None

    def closed(self) -> None:  # noqa: B027 - not every vendor tells
        """The vendor has ended a session: what its SDK or socket hears of that."""

    def _expire(self, session_id: str) -> None:
        if session_id in self.ended:
            return
        self.expired.append(session_id)
        if avatar := self.avatar_of(session_id):
            avatar.vanish()
            self.closed()

    @contextlib.asynccontextmanager
    async def serving(self, *routes: web.RouteDef) -> AsyncIterator[str]:
        """A web server on loopback; a request goes on when its client has gone, as on real ones."""
        app = web.Application()
        app.add_routes(routes)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            for limit in self._limits:
                limit.cancel()
            await runner.cleanup()
            for avatar in self.avatars:
                await avatar.aclose()
