"""What every row asks of a service and of the vendor behind it."""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass

from aiohttp import web
from pipecat.processors.frame_processor import FrameProcessor

from benchmarks.peers._avatar import Avatar, Wire


class CannotRunError(Exception):
    """Raised when a service cannot be measured here; its text goes into the table."""


@dataclass(frozen=True)
class Conditions:
    """How the vendor behaves.

    Attributes:
        create_s: How long it takes to answer a create.
        join_s: How long its media takes to connect.
        refuses: Whether it refuses the create instead.
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


class Vendor(ABC):
    """A service and its fake vendor.

    Args:
        conditions: How the vendor behaves.

    Attributes:
        name: Column of the table.
        boundary: What is faked, for the table.
        opened: Ids of the sessions that the vendor opened.
        ended: Ids of those that it was told to end.
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
        self.avatars: list[Avatar] = []

    @property
    def left_open(self) -> set[str]:
        return set(self.opened) - set(self.ended)

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

    def avatar(self, rate: int, *, join_s: float = 0.0) -> Avatar:
        given = self.conditions
        size = {} if given.still else {"width": given.width, "height": given.height}
        self.avatars.append(self.avatar_type(rate=rate, join_s=join_s, still=given.still, **size))
        return self.avatars[-1]

    @abstractmethod
    def service(self) -> contextlib.AbstractAsyncContextManager[FrameProcessor]:
        """The service, connected to its fake vendor as long as the context lasts."""

    async def create(self) -> str:
        """Open a session: at once, but the answer may take its time."""
        if self.conditions.refuses:
            raise web.HTTPUnauthorized
        self.opened.append(f"session-{len(self.opened) + 1}")
        session_id = self.opened[-1]
        await asyncio.sleep(self.conditions.create_s)
        return session_id

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
            await runner.cleanup()
            for avatar in self.avatars:
                await avatar.aclose()
