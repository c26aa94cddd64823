"""Stand-ins for everything that needs a key, so that a Pipecat bot runs on this machine alone.

The example bots use them for `--local`. The model and the ears are real ones where `OPENAI_API_KEY` is set.
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Literal

import httpx
from loguru import logger
from pipecat.processors.filters.identity_filter import IdentityFilter
from pipecat.processors.frame_processor import FrameProcessor
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from agenthuman_plugins.client import LiveKitRoom
from agenthuman_plugins.client.rooms import AVATAR_IDENTITY, ON_BEHALF_OF
from agenthuman_plugins.demo._assistant import make_assistant, make_ears
from agenthuman_plugins.demo._services import running_services
from agenthuman_plugins.demo._tts import OfflineTTSService
from agenthuman_plugins.emulator.rooms import RoomServer
from agenthuman_plugins.emulator.voice import Voice
from agenthuman_plugins.pipecat import AgentHumanVideoService
from agenthuman_plugins.speech.proxies import direct_to
from agenthuman_plugins.viewer import web

__all__ = ["LocalRoom", "LocalServices", "livekit_room", "local_services", "serve_page"]

_PAGE = Path(__file__).parent / "page"


@dataclass(frozen=True, slots=True)
class LocalServices:
    """What a pipeline is made of.

    Attributes:
        stt: Understands speech if there is a key for it, else lets everything pass.
        llm: The model of `OPENAI_API_KEY`, else a small script.
        tts: Speaks with eSpeak NG.
        avatar: Talks to the emulator.
    """

    stt: FrameProcessor
    llm: FrameProcessor
    tts: FrameProcessor
    avatar: AgentHumanVideoService


@contextlib.asynccontextmanager
async def local_services(
    *, room: LiveKitRoom | None = None, connect: Literal["start", "first_speech"] = "start"
) -> AsyncIterator[LocalServices]:
    """Run an emulator for one conversation, and log at its end what happened to the avatar's sessions.

    The emulator ends no session by itself: that is the service's duty. Ctrl-C cancels the conversation, for which
    the server of Pipecat's runner would wait.

    Args:
        room: Room for the avatar to join; `None` brings it through the pipeline.
        connect: When the avatar's session is opened; see `AgentHumanVideoService`.

    Raises:
        DemoError: The emulator could not be started.
    """
    async with running_services() as emulator:
        try:
            with _cancelled_by_sigint():
                yield LocalServices(
                    stt=make_ears() or IdentityFilter(),  # type: ignore[no-untyped-call]
                    llm=make_assistant(),
                    tts=OfflineTTSService(Voice()),
                    avatar=emulator.make_avatar(room=room, connect=connect),
                )
        finally:
            with contextlib.suppress(httpx.HTTPError):  # the emulator is gone: nothing to tell
                sessions = await emulator.sessions()
                if left_open := sessions["nobody"]:
                    logger.error(f"{left_open} of {sessions.total()} sessions were left open")
                else:
                    logger.info(f"Sessions opened: {sessions.total()}, all ended")


@dataclass(frozen=True, slots=True)
class LocalRoom:
    """A room on a LiveKit server of this machine.

    Attributes:
        url: Address of the server.
        name: Name of the room.
        bot_token: For the bot's transport.
        guest_token: For whoever talks to the bot.
        avatar: For the avatar.
    """

    url: str
    name: str
    bot_token: str = field(repr=False)
    guest_token: str = field(repr=False)
    avatar: LiveKitRoom


@contextlib.asynccontextmanager
async def livekit_room(name: str, *, agent_identity: str) -> AsyncIterator[LocalRoom]:
    """Run a LiveKit server, or use the one of `LIVEKIT_URL`, and make the tokens for one room.

    Args:
        name: Name of the room.
        agent_identity: Whom the avatar listens to.
    """
    async with await RoomServer.start() as server:
        avatar_token = server.mint(
            room=name, identity=AVATAR_IDENTITY, kind="agent", attributes={ON_BEHALF_OF: agent_identity}
        )
        agent_token = server.mint(room=name, identity=agent_identity, kind="agent")
        with direct_to(server.url):
            yield LocalRoom(
                url=server.url,
                name=name,
                bot_token=server.mint(room=name, identity="bot", kind="agent"),
                guest_token=server.mint(room=name, identity="guest"),
                avatar=LiveKitRoom(server.url, avatar_token=avatar_token, agent_token=agent_token),
            )


def serve_page() -> None:
    """Make Pipecat's runner serve the demo's page, which loads nothing from elsewhere, in place of its own.

    Call it before the runner's `main`, which adds its own page at the same path: the first one is served.
    """
    from pipecat.runner.run import app  # noqa: PLC0415 - reads the .env file when it is imported

    page = Starlette(
        routes=[Mount("/viewer", web.files()), Mount("/", StaticFiles(directory=_PAGE, html=True))]
    )
    app.mount("/client", web.OwnPages(page))
    app.add_route("/", _to_page)


async def _to_page(_: Request) -> RedirectResponse:
    return RedirectResponse("/client/")


@contextlib.contextmanager
def _cancelled_by_sigint() -> Iterator[None]:
    """Let SIGINT cancel the current task, and then do what it did before."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    before = signal.getsignal(signal.SIGINT)

    def cancel(number: int, frame: FrameType | None) -> None:
        if task is not None:
            loop.call_soon_threadsafe(task.cancel)
        if callable(before):
            before(number, frame)

    signal.signal(signal.SIGINT, cancel)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
