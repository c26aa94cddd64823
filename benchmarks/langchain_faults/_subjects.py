"""The tools under test, each with the service that it expects and the way it is pointed at our server."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from langchain_core.tools import BaseTool

from benchmarks.langchain_faults._server import Service

KEY = "key-under-test-0123456789"
_BIG = "x" * 1_000_000


@dataclass(frozen=True)
class Subject:
    """A tool under test.

    Attributes:
        name: Column of the table.
        service: Makes the service behind it.
        tools: Makes its tools, pointed at an address.
        tool: Name of the tool under test.
        args: Its arguments; `SESSION` stands for the id of the session that was opened before.
        big: What replaces them when one argument is oversized.
        opens_first: Tool that is called before, while nothing is wrong.
    """

    name: str
    service: Callable[[], Service]
    tools: Callable[[str], AbstractAsyncContextManager[list[BaseTool]]]
    tool: str
    args: dict[str, Any]
    big: dict[str, Any] = field(repr=False)
    opens_first: str | None = None


SESSION = "SESSION"


class AgentHumanService:
    """Sessions, as the service keeps them."""

    def __init__(self) -> None:
        self._sessions: dict[str, dict[str, Any]] = {}

    @property
    def running(self) -> int:
        """Sessions that are billed."""
        return sum(session["status"] == "started" for session in self._sessions.values())

    def answer(self, method: str, path: str, body: bytes) -> Any:
        """Carry out one of the session calls."""
        match method, path.partition("?")[0].strip("/").split("/"):
            case "POST", ["v1", "sessions"]:
                session = {
                    "session_id": f"sess_{len(self._sessions) + 1}",
                    "status": "started",
                    "session_token": "token-of-the-session",
                    "started_at": "2024-01-15T10:30:00Z",
                    "ended_at": None,
                    "aspect_ratio": "4:3",
                    "metadata": json.loads(body).get("metadata", {}),
                }
                self._sessions[session["session_id"]] = session
                return {"success": True, "session": session}
            case "GET", ["v1", "sessions"]:
                return {"success": True, "sessions": list(self._sessions.values())}
            case _, ["v1", "sessions", key, *rest]:
                if rest:
                    self._sessions[key] |= {"status": "ended", "ended_at": "2024-01-15T10:35:00Z"}
                return {"success": True, "session": self._sessions[key]}
        return {"success": False}

    def refusal(self, status: int, text: str) -> Any:
        """An error as the service tells it."""
        del status
        return {"success": False, "error": {"message": text}}


class _TavilyService:
    def answer(self, method: str, path: str, body: bytes) -> Any:
        del method, path, body
        result = {"title": "A title", "url": "https://example.com", "content": "A text", "score": 0.9}
        return {"query": "avatars", "results": [result], "response_time": 0.1}

    def refusal(self, status: int, text: str) -> Any:
        del status
        return {"detail": {"error": text}}


class _ExaService:
    def answer(self, method: str, path: str, body: bytes) -> Any:
        del method, path, body
        result = {"title": "A title", "url": "https://example.com", "id": "1", "text": "A text", "score": 0.9}
        return {"requestId": "1", "resolvedSearchType": "neural", "results": [result]}

    def refusal(self, status: int, text: str) -> Any:
        del status
        return {"error": text}


class _GmailService:
    def answer(self, method: str, path: str, body: bytes) -> Any:
        del method, body
        if path == "/token":
            return {"access_token": KEY, "expires_in": 3600, "token_type": "Bearer"}
        return {"id": "message-1", "threadId": "thread-1", "labelIds": ["SENT"]}

    def refusal(self, status: int, text: str) -> Any:
        return {"error": {"code": status, "message": text, "errors": [{"message": text, "domain": "global"}]}}


# Imported by name, each when it is its turn: the peers are in an environment of their own.
@asynccontextmanager
async def _ours(url: str) -> AsyncIterator[list[BaseTool]]:
    toolkit = import_module("agenthuman_plugins.langchain").AgentHumanToolkit
    # What a call leaves running is counted, so the block closes connections and ends nothing.
    async with toolkit(api_key=KEY, base_url=url, end_on_exit=False) as opened:
        yield opened.get_tools()


@asynccontextmanager
async def _tavily(url: str) -> AsyncIterator[list[BaseTool]]:
    tool = import_module("langchain_tavily").TavilySearch
    yield [tool(tavily_api_key=KEY, api_base_url=url, max_results=3)]


@asynccontextmanager
async def _exa(url: str) -> AsyncIterator[list[BaseTool]]:
    yield [import_module("langchain_exa").ExaSearchResults(exa_api_key=KEY, exa_base_url=url)]


@asynccontextmanager
async def _gmail(url: str) -> AsyncIterator[list[BaseTool]]:
    credentials = import_module("google.oauth2.credentials").Credentials(
        token=KEY, refresh_token=KEY, token_uri=f"{url}/token", client_id="client", client_secret=KEY
    )
    resource = import_module("googleapiclient.discovery").build(
        "gmail", "v1", credentials=credentials, client_options={"api_endpoint": url}
    )
    tool = import_module("langchain_google_community.gmail.send_message").GmailSendMessage
    yield [tool(api_resource=resource)]


_CREATE, _GET, _END = (f"agent_human_{verb}_session" for verb in ("create", "get", "end"))

SUBJECTS = {
    "create": Subject(
        _CREATE,
        AgentHumanService,
        _ours,
        _CREATE,
        args={"aspect_ratio": "1:1"},
        big={"avatar": _BIG},
    ),
    "get": Subject(
        _GET,
        AgentHumanService,
        _ours,
        _GET,
        args={"session_id": SESSION},
        big={"session_id": _BIG},
        opens_first=_CREATE,
    ),
    "end": Subject(
        _END,
        AgentHumanService,
        _ours,
        _END,
        args={"session_id": SESSION},
        big={"session_id": _BIG},
        opens_first=_CREATE,
    ),
    "tavily": Subject(
        "tavily_search",
        _TavilyService,
        _tavily,
        "tavily_search",
        args={"query": "avatars"},
        big={"query": _BIG},
    ),
    "exa": Subject(
        "exa_search_results_json",
        _ExaService,
        _exa,
        "exa_search_results_json",
        args={"query": "avatars"},
        big={"query": _BIG},
    ),
    "gmail": Subject(
        "send_gmail_message",
        _GmailService,
        _gmail,
        "send_gmail_message",
        args={"message": "Hello", "to": "ada@example.com", "subject": "Avatars"},
        big={"message": "Hello", "to": "ada@example.com", "subject": _BIG},
    ),
}
