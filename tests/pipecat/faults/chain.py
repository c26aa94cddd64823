"""The whole chain around a bot, with everything about it that can break within reach."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Any, Self
from unittest import mock
from urllib.parse import urlsplit

import httpx
import jwt
import psutil
from pipecat.frames.frames import Frame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.workers.runner import WorkerRunner

from agenthuman_plugins.client import AsyncAgentHuman
from agenthuman_plugins.emulator import Emulator, _avatars
from agenthuman_plugins.emulator._avatars import AvatarJob, WorkerAvatar
from agenthuman_plugins.emulator.process import Child
from agenthuman_plugins.emulator.rooms import RoomServer
from agenthuman_plugins.pipecat import AgentHumanVideoService, AgentHumanVideoUpdateSettingsFrame
from agenthuman_plugins.speech.proxies import direct_to
from tests.emulator.room_server.clients import Client
from tests.pipecat.bot import RATE, Bot, running_service
from tests.pipecat.faults.ear import Ear

_SMALL = (160, 120)  # pixels; the matrix is not about pictures, and the machine is small
_KEY = "ah_key_of_the_fault_matrix"
_CALL_LIMIT_S = 2.0  # of the bot's REST client, so that a time-out takes no minute
# Without the avatar's voice. Short while a fault is on; else a busy machine would make faults of its own.
IMPATIENT_S, PATIENT_S = 0.5, 10.0
_WAIT_S = 45.0  # hang limit: the service's pauses between attempts come on top of what a loaded machine takes


class Chain:
    """A bot, the emulator that it talks to, and what that has started.

    Args:
        room_server_kind: Kind of the room server.
        own_process: Whether the emulator is a process, too.
        oddity: What is odd about the avatars; see `odd_avatar.py`.
        options: Arguments of the emulator, beyond those that all have.
    """

    bot: Bot

    def __init__(
        self,
        room_server_kind: str,
        *,
        own_process: bool = False,
        oddity: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.ear = Ear()
        self._options = {
            "room_server": room_server_kind,
            "sweep": False,
            "expiry": False,
            "video_size": list(_SMALL),
            "api_key": _KEY,
            **(options or {}),
        }
        self._own_process = own_process
        self._oddity = oddity
        self._jobs: list[tuple[float, AvatarJob]] = []
        self._url = ""
        self._pending = 0
        self._emulator: Emulator | None = None
        self._child: Child | None = None
        self._past_sessions: list[dict[str, Any]] = []
        self._second_run: asyncio.Task[None] | None = None
        self._stack = contextlib.AsyncExitStack()

    def later(self, seconds: float, undo: Callable[[], object]) -> None:
        """Undo a fault when it has lasted for so long."""
        self._pending += 1

        def now() -> None:
            self._pending -= 1
            undo()

        asyncio.get_running_loop().call_later(seconds, now)

    @property
    def nothing_pending(self) -> bool:
        """Whether every fault is undone."""
        return not self._pending

    # The emulator

    async def start(self) -> None:
        """Start the emulator, where it was before."""
        port = urlsplit(self._url).port or 0
        if self._own_process:
            self._child = await Child.start("agenthuman_plugins.emulator", {**self._options, "port": port})
            self._url = self._child.ready["url"]
            return
        self._emulator = await Emulator(port=port, **self._options).__aenter__()  # type: ignore[arg-type]
        self._emulator._service._start_avatar = self._start_avatar
        self._url = self._emulator.url
        await self._emulator.wait_ready()

    async def stop(self) -> None:
        """Stop the emulator, if it runs."""
        if self._emulator is not None:
            self._past_sessions += self._emulator.sessions()
            emulator, self._emulator = self._emulator, None
            await emulator.__aexit__()
        if self._child is not None:
            child, self._child = self._child, None
            await child.stop()

    async def restart(self) -> None:
        """Start the emulator anew when the bot has ended what it had there."""
        await self.until(lambda: not self.open_sessions())
        await self.stop()
        await self.start()

    async def fail(self, fault: str, **details: Any) -> None:
        """Let something go wrong; see `Emulator.fail`."""
        assert self._emulator is not None
        self._emulator.fail(fault, **details)

    def open_sessions(self) -> list[str]:
        """Ids of the sessions that nobody has ended, as far as the emulator still knows."""
        sessions = list(self._past_sessions)
        if self._emulator is not None:
            sessions += self._emulator.sessions()
        elif self._child is not None and self._child.running:
            headers = {"x-api-key": _KEY}
            answer = httpx.get(
                f"{self._url}/emulator/sessions", headers=headers, timeout=_CALL_LIMIT_S, trust_env=False
            )
            sessions += answer.json()["sessions"]
        return [session["session_id"] for session in sessions if session["ended_by"] != "caller"]

    @property
    def avatars_sent(self) -> list[float]:
        """When each avatar was sent to its room."""
        return [at for at, _ in self._jobs]

    async def take_slot(self) -> None:
        """Let somebody else have a session of the account."""
        async with self._client() as client:
            self._foreign = await client.sessions.create()

    async def free_slot(self) -> None:
        """Let them end it."""
        async with self._client() as client:
            await client.sessions.end(self._foreign.session_id)

    def _client(self) -> AsyncAgentHuman:
        return AsyncAgentHuman(api_key=_KEY, base_url=self._url, timeout=_CALL_LIMIT_S)

    def _start_avatar(self, job: AvatarJob, on_event: Callable[[dict[str, Any]], None]) -> WorkerAvatar:
        self._jobs.append((time.monotonic(), job))
        oddities = () if self._oddity is None else (self._oddity,)
        return WorkerAvatar(replace(job, faults=(*job.faults, *oddities)), on_event)

    # The processes

    @property
    def emulator_process(self) -> psutil.Process:
        """The emulator."""
        assert self._child is not None
        return psutil.Process(self._child.pid)

    @property
    def avatar_processes(self) -> list[psutil.Process]:
        """The avatars, oldest first."""
        return _children("emulator.worker" if self._oddity is None else "odd_avatar")

    @property
    def room_server_process(self) -> psutil.Process:
        """The room server itself, not the process that owns it."""
        (process,) = _children(
            "emulator.room_server" if self._options["room_server"] == "embedded" else "livekit-server"
        )
        return process

    # The room

    async def _room(self) -> tuple[RoomServer, str]:
        assert self._emulator is not None
        assert self._emulator._rooms is not None
        claims = jwt.decode(self._jobs[-1][1].token, options={"verify_signature": False})
        return await self._emulator._rooms.ready(), claims["video"]["room"]

    async def delete_room(self) -> None:
        """Delete the room as LiveKit's room service does."""
        server, room = await self._room()
        token = server.mint(room=room, identity="admin", grants={"roomCreate": True})
        url = server.url.replace("ws", "http", 1) + "/twirp/livekit.RoomService/DeleteRoom"
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.post(url, json={"room": room}, headers={"Authorization": f"Bearer {token}"})
        answer.raise_for_status()

    async def let_stranger_in(self) -> None:
        """Let somebody into the room who talks and shows pictures all the time."""
        server, room = await self._room()
        stranger = Client()
        with direct_to(server.url):
            await stranger.room.connect(server.url, server.mint(room=room, identity="stranger"))
        self._stack.push_async_callback(stranger.aclose)
        await stranger.publish_audio()
        await stranger.publish_video()

    async def offer_own_room_server(self) -> None:
        """Tell the bot of a room server, as its environment does; it is the emulator's, which serves anybody."""
        assert self._emulator is not None
        assert self._emulator._rooms is not None
        server = await self._emulator._rooms.ready()
        names = "LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"
        values = server.url, server._api_key, server._api_secret
        self._stack.enter_context(mock.patch.dict(os.environ, zip(names, values, strict=True)))

    # The bot

    @contextlib.asynccontextmanager
    async def running_bot(self) -> AsyncIterator[Bot]:
        """Run the bot."""
        settings = AgentHumanVideoService.Settings(avatar_wait_s=IMPATIENT_S, no_audio_timeout_s=PATIENT_S)
        async with self._client() as client:
            service = AgentHumanVideoService(client=client, settings=settings)
            async with running_service(service, client, behind=[self.ear]) as self.bot:
                try:
                    yield self.bot
                finally:
                    await self._stop_second_run()

    async def run_again(self, ends: type[Frame]) -> None:
        """End the bot's run with this frame, and begin another one with the same pipeline."""
        before = self.bot.worker
        await self.bot.send(ends())
        await self.until(before.has_finished)
        (pipeline,) = [each for each in before.pipeline.processors if isinstance(each, Pipeline)]
        self.bot.worker = PipelineWorker(
            pipeline,
            params=PipelineParams(audio_out_sample_rate=RATE),
            cancel_on_idle_timeout=False,
            enable_rtvi=False,
        )
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(self.bot.worker)
        self._second_run = asyncio.create_task(runner.run())

    async def _stop_second_run(self) -> None:
        if self._second_run is not None:
            await self.bot.worker.cancel()
            await asyncio.wait([self._second_run], timeout=_WAIT_S)

    async def change_avatar(self, avatar: str) -> None:
        """Ask the running bot for another avatar."""
        delta = AgentHumanVideoService.Settings(avatar=avatar)
        await self.bot.send(AgentHumanVideoUpdateSettingsFrame(delta=delta))

    async def set_patience(self, no_audio_timeout_s: float) -> None:
        """Change how long the avatar may be mute."""
        delta = AgentHumanVideoService.Settings(no_audio_timeout_s=no_audio_timeout_s)
        await self.bot.send(AgentHumanVideoUpdateSettingsFrame(delta=delta))

    async def until_event(self, name: str, count: int = 1) -> None:
        """Wait until an event was told so often."""
        await self.until(lambda: len(self.bot.events.get(name, [])) >= count)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for what nobody tells."""
        async with asyncio.timeout(_WAIT_S):
            while not condition():  # noqa: ASYNC110 - as said
                await asyncio.sleep(0.05)

    async def __aenter__(self) -> Self:
        if self._oddity is not None:
            self._stack.enter_context(
                mock.patch.object(_avatars, "WORKER", "tests.pipecat.faults.odd_avatar")
            )
        try:
            await self.start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
        await self.stop()


def _children(name: str) -> list[psutil.Process]:
    """Processes below this one by the last word of their program, oldest first."""
    found = [
        child
        for child in psutil.Process().children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE and any(word.endswith(name) for word in child.cmdline()[:4])
    ]
    return sorted(found, key=lambda child: child.create_time())
