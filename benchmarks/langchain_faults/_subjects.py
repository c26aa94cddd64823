"""The tools under test, each with the service that it expects and the way it is pointed at our server."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
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
        boundary: How it is pointed at our server.
        service: Makes the service behind it.
        tools: Makes its tools, for an address.
        tool: Name of the tool under test.
        args: Its arguments; `SESSION` stands for the id of the session that was opened before.
        big: What replaces them when one argument is oversized.
        opens_first: Tool that is called before, while nothing is wrong.
    """

    name: str
    boundary: str
    service: Callable[[], Service]
    tools: Callable[[str], list[BaseTool]]
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


def _ours(url: str) -> list[BaseTool]:
    from agenthuman_plugins.langchain import AgentHumanToolkit  # noqa: PLC0415 - each run loads one subject

    return AgentHumanToolkit(api_key=KEY, base_url=url).get_tools()


def _tavily(url: str) -> list[BaseTool]:
    from langchain_tavily import TavilySearch  # noqa: PLC0415 - as above

    return [TavilySearch(tavily_api_key=KEY, api_base_url=url, max_results=3)]


def _exa(url: str) -> list[BaseTool]:
    from langchain_exa import ExaSearchResults  # noqa: PLC0415 - as above

    return [ExaSearchResults(exa_api_key=KEY, exa_base_url=url)]


def _gmail(url: str) -> list[BaseTool]:
    from google.oauth2.credentials import Credentials  # noqa: PLC0415 - as above
    from googleapiclient.discovery import build  # noqa: PLC0415
    from langchain_google_community.gmail.send_message import GmailSendMessage  # noqa: PLC0415

    credentials = Credentials(
        token=KEY, refresh_token=KEY, token_uri=f"{url}/token", client_id="client", client_secret=KEY
    )
    resource = build("gmail", "v1", credentials=credentials, client_options={"api_endpoint": url})
    return [GmailSendMessage(api_resource=resource)]


_CREATE, _GET, _END = (f"agent_human_{verb}_session" for verb in ("create", "get", "end"))
_OUR_BOUNDARY = "argument base_url"

SUBJECTS = {
    "create": Subject(
        _CREATE,
        _OUR_BOUNDARY,
        AgentHumanService,
        _ours,
        _CREATE,
        args={"metadata": {"user": "Ada"}},
        big={"avatar": _BIG},
    ),
    "get": Subject(
        _GET,
        _OUR_BOUNDARY,
        AgentHumanService,
        _ours,
        _GET,
        args={"session_id": SESSION},
        big={"session_id": _BIG},
        opens_first=_CREATE,
    ),
    "end": Subject(
        _END,
        _OUR_BOUNDARY,
        AgentHumanService,
        _ours,
        _END,
        args={"session_id": SESSION},
        big={"session_id": _BIG},
        opens_first=_CREATE,
    ),
    "tavily": Subject(
        "tavily_search",
        "argument api_base_url",
        _TavilyService,
        _tavily,
        "tavily_search",
        args={"query": "avatars"},
        big={"query": _BIG},
    ),
    "exa": Subject(
        "exa_search_results_json",
        "argument exa_base_url",
        _ExaService,
        _exa,
        "exa_search_results_json",
        args={"query": "avatars"},
        big={"query": _BIG},
    ),
    "gmail": Subject(
        "send_gmail_message",
        "client option api_endpoint of the API resource, token_uri of its credentials",
        _GmailService,
        _gmail,
        "send_gmail_message",
        args={"message": "Hello", "to": "ada@example.com", "subject": "Avatars"},
        big={"message": "Hello", "to": "ada@example.com", "subject": _BIG},
    ),
}
