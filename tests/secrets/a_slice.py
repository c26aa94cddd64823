"""The whole slice in one program, as talkative as it can be: emulator, client, LangChain tools, Pipecat service.

Usage: `python a_slice.py SECRETS_FILE ROOM_SERVER_KIND [leak]`. Writes every secret that it meets to SECRETS_FILE; with `leak` it
logs one of them on purpose, so that the search for leaks is known to find some.
"""

import asyncio
import json
import logging
import secrets
import sys
from pathlib import Path
from typing import Any

import jwt
import numpy as np
from loguru import logger
from pipecat.frames.frames import EndFrame, TTSAudioRawFrame, TTSStartedFrame, TTSStoppedFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.workers.runner import WorkerRunner

from agenthuman_plugins.client import AgentHumanError, AsyncAgentHuman, Session
from agenthuman_plugins.emulator import Emulator
from agenthuman_plugins.emulator.rooms import RoomServer
from agenthuman_plugins.langchain import AgentHumanToolkit
from agenthuman_plugins.pipecat import AgentHumanVideoService
from agenthuman_plugins.speech.livekit import LiveKitSpeechLink

logging.basicConfig(level=1, stream=sys.stderr)
logger.remove()
logger.add(sys.stderr, level="TRACE", backtrace=True, diagnose=True)

_log = logging.getLogger("slice")
_met: dict[str, str] = {}


def _record_minted_tokens() -> None:
    mint = RoomServer.mint

    def recording(self: RoomServer, **claims: Any) -> str:
        token = mint(self, **claims)
        _met[f"room token {len(_met)}"] = token
        _met["room secret"] = self._api_secret
        return token

    RoomServer.mint = recording  # type: ignore[method-assign]


async def _speak(service: AgentHumanVideoService) -> None:
    """A bot says half a second of tone and ends."""
    worker = PipelineWorker(Pipeline([service]), cancel_on_idle_timeout=False, enable_rtvi=False)
    connected = asyncio.Event()

    @service.event_handler("on_avatar_connected")
    async def on_connected(*_: object) -> None:
        connected.set()

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    async with asyncio.timeout(60):
        await connected.wait()
        pcm = (8000 * np.sin(np.arange(8_000) * 0.2)).astype(np.int16).tobytes()
        await worker.queue_frames(
            [TTSStartedFrame(), TTSAudioRawFrame(pcm, 16_000, 1), TTSStoppedFrame(), EndFrame()]
        )
        await running


async def _use_tools(emulator: Emulator) -> None:
    """An agent's tools open a session, say what they see, and end it."""
    async with (
        AsyncAgentHuman(api_key=emulator.api_key, base_url=emulator.url) as client,
        AgentHumanToolkit(async_client=client) as toolkit,
    ):
        tools = {tool.name: tool for tool in toolkit.get_tools()}
        create = tools["agent_human_create_session"]
        opened = await create.ainvoke({"type": "tool_call", "id": "call_1", "name": create.name, "args": {}})
        _log.info("%r %r %r", toolkit, opened, client)
        named = {"session_id": opened.artifact["session_id"]}
        _log.info("%r", await tools["agent_human_get_session"].ainvoke(named))
        _log.info("%r", await tools["agent_human_list_sessions"].ainvoke({}))
        await tools["agent_human_end_session"].ainvoke(named)


async def _be_refused(emulator: Emulator, room: Session) -> None:
    """Wrong key and wrong room token: the errors are logged with their tracebacks."""
    wrong_key = _met["wrong key"] = f"ah_test_{secrets.token_hex(16)}"
    try:
        async with AsyncAgentHuman(api_key=wrong_key, base_url=emulator.url) as client:
            await client.sessions.list()
    except AgentHumanError:
        _log.exception("refused, as it should be")
    claims = {"iss": "nobody", "sub": "x", "video": {"roomJoin": True, "room": "r"}}
    wrong_token = _met["wrong room token"] = jwt.encode(claims, secrets.token_hex(32), "HS256")
    assert room.room is not None
    try:
        await LiveKitSpeechLink(room.room.url, wrong_token).connect(timeout_s=20)
    except AgentHumanError:
        _log.exception("refused, as it should be")


async def main(*, leak: bool, room_server: str) -> None:
    key = _met["key"] = f"ah_test_{secrets.token_hex(16)}"
    _record_minted_tokens()
    async with Emulator(api_key=key, room_server=room_server) as emulator:
        async with AsyncAgentHuman(api_key=key, base_url=emulator.url) as client:
            async with client.sessions.open() as session:
                assert session.session_token is not None
                _met["session token"] = session.session_token.get_secret_value()
                logger.trace(f"{client!r} {session!r} {session} {session.model_dump()}")
                await _be_refused(emulator, session)
                if leak:
                    logger.debug(f"token {_met['session token']}")
            await _speak(
                AgentHumanVideoService(
                    client=client, settings=AgentHumanVideoService.Settings(avatar_wait_s=30)
                )
            )
        await _use_tools(emulator)


asyncio.run(main(leak="leak" in sys.argv, room_server=sys.argv[2]))
Path(sys.argv[1]).write_text(json.dumps(_met))
