"""The two clients: alike, configured from arguments and environment, and discreet."""

import asyncio
import inspect
import logging
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx
import httpx2
import pytest

from agenthuman_plugins.client import (
    AgentHuman,
    APIConnectionError,
    APITimeoutError,
    AsyncAgentHuman,
    ConfigurationError,
)
from tests.client.conftest import API_KEY, ROOM, FakeService, Handle, Lost, Time

RESOURCES = {
    "sessions": ["create", "get", "list", "find", "start", "end", "open", "reap"],
    "avatars": ["upload_face", "list", "preview", "delete"],
    "usage": ["get"],
    "agents": ["create", "get", "list", "update", "delete"],
    "links": ["create", "get", "list", "update", "delete", "start_session"],
}


def public(thing: object) -> dict[str, Any]:
    return {
        name: member
        for name, member in vars(type(thing)).items()
        if callable(member) and not name.startswith("_")
    }


def parameters(function: Any) -> list[inspect.Parameter]:
    return [item for item in inspect.signature(function).parameters.values() if item.name != "http_client"]


@pytest.fixture
async def both() -> AsyncIterator[tuple[AgentHuman, AsyncAgentHuman]]:
    with AgentHuman(api_key=API_KEY) as sync:
        async with AsyncAgentHuman(api_key=API_KEY) as other:
            yield sync, other


async def test_both_clients_have_the_same_resources(both: tuple[AgentHuman, AsyncAgentHuman]) -> None:
    """What hangs on a client is the same in both, under the same names."""
    for client in both:
        assert [name for name in vars(client) if not name.startswith("_")] == list(RESOURCES)
    # A key may come from a coroutine function in one of them alone.
    sync, other = (
        [item for item in parameters(cls.__init__) if item.name != "api_key"]
        for cls in (AgentHuman, AsyncAgentHuman)
    )
    assert sync == other


def not_awaited(docstring: str | None) -> str:
    """A docstring whose example is one for the sync client."""
    return re.sub(r"await |async (?=with )", "", docstring or "")


@pytest.mark.parametrize("resource", RESOURCES)
async def test_both_clients_have_the_same_methods(
    resource: str, both: tuple[AgentHuman, AsyncAgentHuman]
) -> None:
    """Names, order, parameters, defaults, annotations and docstrings are the same in both, but for what is awaited."""
    resources = [getattr(client, resource) for client in both]
    sync, other = (public(each) for each in resources)
    assert list(sync) == list(other) == RESOURCES[resource]
    assert inspect.getdoc(resources[0]) == inspect.getdoc(resources[1])
    for name, method in sync.items():
        assert parameters(method) == parameters(other[name]), name
        assert inspect.getdoc(method) == not_awaited(inspect.getdoc(other[name])), name
        # `open` returns a context manager: it is the only one that is not awaited.
        assert inspect.iscoroutinefunction(other[name]) is (name != "open")
        if name != "open":
            returned = [inspect.signature(each).return_annotation for each in (method, other[name])]
            assert returned[0] == returned[1], name


def test_settings_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Key and address come from the environment when no argument names them."""
    monkeypatch.setenv("AGENTHUMAN_API_KEY", API_KEY)
    monkeypatch.setenv("AGENTHUMAN_BASE_URL", "http://127.0.0.1:8000/")
    with AgentHuman() as client:
        assert repr(client) == "AgentHuman(host='127.0.0.1')"
        assert client._settings.base_url == "http://127.0.0.1:8000"
        assert client._settings.api_key.get() == API_KEY


@pytest.mark.parametrize(
    ("argument", "variable", "sentence"),
    [
        (None, None, r"pass api_key=\.\.\. or set AGENTHUMAN_API_KEY\.$"),
        (None, "", r"AGENTHUMAN_API_KEY is set but empty"),
        (None, "  ", r"AGENTHUMAN_API_KEY is set but empty"),
        ("", API_KEY, r"api_key is set but empty"),
        ("seeded key", None, r"blanks or characters"),
        ("seeded-schlüssel", None, r"blanks or characters"),
        ("seeded\nkey", None, r"blanks or characters"),
    ],
)
@pytest.mark.parametrize("cls", [AgentHuman, AsyncAgentHuman])
def test_missing_key_is_one_sentence(
    cls: Any, argument: str | None, variable: str | None, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing, empty or impossible key fails at construction, says where to set it, and is not repeated."""
    if variable is not None:
        monkeypatch.setenv("AGENTHUMAN_API_KEY", variable)
    with pytest.raises(ConfigurationError, match=sentence) as caught:
        cls(api_key=argument)
    assert "seeded" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"base_url": "api.agenthuman.com"}, "base_url"),
        ({"base_url": "ftp://api.agenthuman.com"}, "base_url"),
        ({"base_url": "https://user:seeded@api.agenthuman.com"}, "base_url"),
        ({"base_url": "https://api.agenthuman.com?key=seeded"}, "base_url"),
        ({"base_url": "https://api.agenthuman.com:port"}, "base_url"),
        ({"timeout": 0}, "timeout"),
        ({"max_retries": -1}, "max_retries"),
    ],
)
def test_wrong_setting_is_one_sentence(options: dict[str, Any], sentence: str) -> None:
    """A value that makes no sense fails at construction."""
    with pytest.raises(ConfigurationError, match=sentence) as caught:
        AgentHuman(api_key=API_KEY, **options)
    assert "seeded" not in str(caught.value)


def test_own_http_client_stays_open(service: FakeService) -> None:
    """A client that was passed in is closed by whoever made it."""
    with httpx.Client(transport=httpx.MockTransport(service.handle)) as http:
        with AgentHuman(api_key=API_KEY, http_client=http):
            pass
        assert not http.is_closed


async def test_own_async_http_client_stays_open(service: FakeService) -> None:
    """A client that was passed in is closed by whoever made it."""
    async with httpx.AsyncClient(transport=httpx.MockTransport(service.handle)) as http:
        async with AsyncAgentHuman(api_key=API_KEY, http_client=http):
            pass
        assert not http.is_closed


def test_client_of_httpx2_works(time: Time) -> None:
    """A client of the fork, whose exceptions are its own, is retried like any other."""
    answers = iter([httpx2.ReadTimeout("late"), httpx2.Response(200, json={"sessions": []})])

    def handle(_: httpx2.Request) -> httpx2.Response:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with httpx2.Client(transport=httpx2.MockTransport(handle)) as http:
        assert AgentHuman(api_key=API_KEY, http_client=http, _clock=time.clock()).sessions.list() == []
    assert time.waits == [0.5]


async def test_async_call_has_one_limit_for_everything(time: Time) -> None:
    """A request that never ends is given up at the call's limit, whatever httpx's own limits are."""

    async def never(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with httpx.AsyncClient(transport=httpx.MockTransport(never)) as http:
        client = AsyncAgentHuman(api_key=API_KEY, http_client=http, timeout=0.01, max_retries=0)
        with pytest.raises(APITimeoutError, match="time limit of the call"):
            await client.sessions.list()


def test_refused_connection_says_who_and_why() -> None:
    """A wrong address is told by its host and what the system said, not by a library's exception."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with (
        AgentHuman(api_key=API_KEY, base_url=f"http://127.0.0.1:{port}", max_retries=0) as client,
        pytest.raises(
            APIConnectionError, match=r"^No answer from 127\.0\.0\.1 \(ConnectError: .*refused\)\.$"
        ) as caught,
    ):
        client.sessions.get("sess_1")
    assert caught.value.retryable


def test_nothing_secret_is_logged_or_shown(
    client: Handle, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    """Key, session token and room token are in no log line at any level, and in no repr."""
    caplog.set_level(logging.NOTSET)
    service.faults.extend([httpx.ConnectError, Lost(httpx.ReadTimeout)])
    session = client(lambda c: c.sessions.create(room=ROOM))
    shown = caplog.text + repr(session) + client(repr) + client(lambda c: repr(c._settings))
    for secret in (API_KEY, "seeded-session-token", ROOM.avatar_token):
        assert secret not in shown


def test_import_loads_nothing_heavy() -> None:
    """`import agenthuman_plugins` loads neither httpx nor pydantic; the client loads no framework."""
    script = (
        "import sys, agenthuman_plugins; first = set(sys.modules);"
        "agenthuman_plugins.AgentHuman; print(*sorted(first), '|', *sorted(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    light, heavy = (set(part.split()) for part in done.stdout.split("|"))
    assert not light & {"httpx", "pydantic", "asyncio"}
    assert {"httpx", "pydantic"} <= heavy
    assert not heavy & {
        "langchain_core",
        "pipecat",
        "livekit",
        "numpy",
        "fastapi",
        "aiohttp",
        "agenthuman_plugins.speech",
    }
