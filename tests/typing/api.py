"""How users' type checkers see the public API: read by mypy and pyright, never run."""

from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import assert_type

import httpx
from pydantic import SecretStr

from agenthuman_plugins import AgentHuman, AgentHumanError, AsyncAgentHuman, DailyRoom, LiveKitRoom
from agenthuman_plugins.client import (
    Agent,
    APIStatusError,
    Avatar,
    AvatarList,
    Link,
    LinkSession,
    Session,
    SessionOutcomeUnknownError,
    Usage,
)


def rooms() -> None:
    assert_type(LiveKitRoom.mint("wss://rooms.example.com", "key", "secret", "lobby"), LiveKitRoom)
    assert_type(DailyRoom("https://example.daily.co/lobby", "token").url, str)


def sync_client(client: AgentHuman, room: LiveKitRoom | DailyRoom) -> None:
    assert_type(client.sessions.create(avatar="avat_1", room=room, metadata={"user": 1}), Session)
    assert_type(client.sessions.list("started"), list[Session])
    assert_type(client.sessions.reap(dry_run=True), list[Session])
    assert_type(client.sessions.open(room=room), AbstractContextManager[Session])
    with client.sessions.open() as session:
        assert_type(session, Session)
    assert_type(client.avatars.upload_face(Path("face.jpg"), on_progress=print), Avatar)
    assert_type(client.avatars.list(), AvatarList)
    assert_type(client.usage.get(), Usage)
    voice = client.agents.create(
        name="Ada", voice_agent={"provider": "ElevenLabs", "agent_id": "el_1", "auth_method": "public"}
    )
    assert_type(voice, Agent)
    assert_type(client.links.update("lnk_1", expires_at=None), Link)
    assert_type(client.links.start_session("lnk_1", aspect_ratio="3:4"), LinkSession)


async def async_client(client: AsyncAgentHuman, room: LiveKitRoom) -> None:
    assert_type(await client.sessions.create(room=room), Session)
    assert_type(await client.sessions.list(), list[Session])
    assert_type(client.sessions.open(room=room), AbstractAsyncContextManager[Session])
    async with client.sessions.open() as session:
        assert_type(session, Session)
    assert_type(await client.avatars.upload_face(b"..."), Avatar)
    assert_type(await client.usage.get(), Usage)


def own_http_clients() -> None:
    assert_type(AgentHuman(http_client=httpx.Client()), AgentHuman)
    assert_type(AsyncAgentHuman(http_client=httpx.AsyncClient()), AsyncAgentHuman)


def models(session: Session) -> None:
    assert_type(session.session_id, str)
    assert_type(session.session_token, SecretStr | None)
    assert_type(session.expiration, datetime | None)
    assert_type(session.duration, float | None)
    assert_type(session.has_ended, bool)
    if session.usage is not None and session.usage.concurrency is not None:
        assert_type(session.usage.concurrency.available, int | None)


def errors(error: AgentHumanError) -> None:
    assert_type(error.retryable, bool)
    assert_type(error.request_id, str | None)
    if isinstance(error, APIStatusError):
        assert_type(error.status_code, int)
        assert_type(error.suggestion, str | None)
    if isinstance(error, SessionOutcomeUnknownError):
        assert_type(error.client_ref, str | None)


def refused(client: AgentHuman) -> None:
    # Each of these is an error for a checker; an ignore that is not needed is one, too.
    client.sessions.create("avat_1")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.sessions.create(aspect_ratio="16:9")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.sessions.list("running")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.sessions.create(room="lobby")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    AgentHuman("key")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    AsyncAgentHuman(http_client=httpx.Client())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
