"""An agent that opens an avatar, speaks through it and ends it, on the whole emulator."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from blockbuster import blockbuster_ctx
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from agenthuman_plugins.client.rooms import AVATAR_IDENTITY, DailyRoom, LiveKitRoom, Room
from agenthuman_plugins.emulator import Emulator
from agenthuman_plugins.emulator.rooms import RoomServer, media_interface
from agenthuman_plugins.langchain import AgentHumanToolkit
from tests.emulator.conftest import until
from tests.langchain.conftest import ScriptedModel, call, opened_id, own_threads
from tests.langchain.test_traces import Recorder

CREATE, SAY, END = "agent_human_create_session", "agent_human_say", "agent_human_end_session"
ASK = {"messages": [HumanMessage("Say hello.")]}
RATE = 24_000
SPEECH_S = 0.6
LIMIT_S = 60.0  # hang limit

pytestmark = [
    pytest.mark.media,
    pytest.mark.skipif(
        media_interface() is None,
        reason="no network interface besides loopback, which LiveKit clients do not use",
    ),
]


async def tts(text: str) -> AsyncIterator[bytes]:
    """Hum, in pieces, as a speech service streams."""
    for _ in range(round(SPEECH_S * 10)):
        yield b"\x00\x20\x00\xe0" * (RATE // 20)


tts.sample_rate = RATE  # type: ignore[attr-defined]


def script() -> ScriptedModel:
    return ScriptedModel(
        script=[
            call(CREATE, "c1"),
            lambda m: call(SAY, "c2", session_id=opened_id(m), text="Hello!"),
            lambda m: call(SAY, "c3", session_id=opened_id(m), text="And goodbye."),
            lambda m: call(END, "c4", session_id=opened_id(m)),
            AIMessage("Done."),
        ]
    )


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(sweep=False, expiry=False) as emulator:
        await emulator.wait_ready()
        yield emulator


def played(emulator: Emulator) -> list[float]:
    """Seconds of each utterance that the avatar has played."""
    [session] = emulator.sessions()
    return [event["position_s"] for event in session["timeline"] if event["event"] == "utterance_finished"]


async def check(
    emulator: Emulator, room: Room | None, caplog: pytest.LogCaptureFixture, *secrets: str
) -> None:
    """Run the agent and look at what it was told, what the avatar played and what is left."""
    caplog.set_level(logging.DEBUG)
    recorder = Recorder()
    toolkit = AgentHumanToolkit(
        api_key=emulator.api_key,
        base_url=emulator.url,
        gateway_url=emulator.gateway_url,
        room=room,
        tts=tts,
    )
    async with toolkit:
        agent = create_agent(script(), toolkit.get_tools())
        with blockbuster_ctx():
            state = await agent.ainvoke(ASK, {"callbacks": [recorder]})
        [session] = toolkit.sessions.values()
    tools = [message for message in state["messages"] if isinstance(message, ToolMessage)]
    assert [message.content for message in tools[1:3]] == [f"Spoken: {SPEECH_S} s."] * 2
    assert tools[3].status == "success"
    assert played(emulator) == pytest.approx([SPEECH_S] * 2, abs=0.15)
    seen = "".join([*recorder.seen, caplog.text, str(state["messages"])])
    token = session.session_token.get_secret_value() if session.session_token else ""
    viewer = session.room.token.get_secret_value() if session.room and session.room.token else ""
    for secret in filter(None, (emulator.api_key, token, viewer, *secrets)):
        assert secret not in seen
    assert not own_threads()


async def test_agent_speaks_in_a_room_of_the_service(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    """Over LiveKit the avatar plays every word before say returns."""
    await check(emulator, None, caplog)
    assert emulator.sessions()[0]["ended_by"] == "caller"


async def test_agent_speaks_in_a_livekit_room_over_the_gateway(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    """Without an agent token speech goes over one gateway connection, which lives until the session is ended."""
    async with await RoomServer.start("embedded") as server:
        token = server.mint(room="own", identity=AVATAR_IDENTITY, kind="agent")
        await check(emulator, LiveKitRoom(server.url, token), caplog, token)


async def test_agent_speaks_in_a_daily_room(emulator: Emulator, caplog: pytest.LogCaptureFixture) -> None:
    """Speech for a Daily room goes over the gateway, too."""
    await check(
        emulator, DailyRoom("https://x.daily.co/y", "seeded-daily-token"), caplog, "seeded-daily-token"
    )


async def test_sync_agent_speaks(emulator: Emulator) -> None:
    """A sync agent speaks as well, its links on a thread that ends with the block."""
    toolkit = AgentHumanToolkit(api_key=emulator.api_key, base_url=emulator.url, tts=tts)

    def run() -> Any:
        with toolkit:
            return create_agent(script(), toolkit.get_tools()).invoke(ASK)

    state = await asyncio.to_thread(run)
    assert f"Spoken: {SPEECH_S} s." in [message.content for message in state["messages"]]
    assert played(emulator) == pytest.approx([SPEECH_S] * 2, abs=0.15)
    assert not own_threads()


async def test_cancelled_agent_falls_silent_in_the_room(emulator: Emulator) -> None:
    """The avatar in its room stops with the call that was cancelled, and speaks again for the next one."""
    toolkit = AgentHumanToolkit(
        api_key=emulator.api_key, base_url=emulator.url, tts=lambda text: (bytes(len(text) * 32_000), 16_000)
    )
    tools = {tool.name: tool for tool in toolkit.get_tools()}

    def events(name: str) -> list[dict[str, Any]]:
        return [event for event in emulator.sessions()[0]["timeline"] if event["event"] == name]

    async with asyncio.timeout(LIMIT_S), toolkit:
        await tools[CREATE].ainvoke({})
        [session_id] = toolkit.sessions
        saying = asyncio.ensure_future(tools[SAY].ainvoke({"session_id": session_id, "text": "x" * 30}))
        await until(lambda: events("utterance_started"))
        saying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saying
        [finished] = await until(lambda: events("utterance_finished"))
        assert finished["interrupted"]
        assert await tools[SAY].ainvoke({"session_id": session_id, "text": "x"}) == "Spoken: 1.0 s."
