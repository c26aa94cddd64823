"""What a model may get wrong: a clear error each time, and no request."""

import json
from typing import Any

import pytest

from agenthuman_plugins.client import AgentHuman, AsyncAgentHuman
from agenthuman_plugins.langchain import AgentHumanToolkit
from tests.client.conftest import FakeService
from tests.langchain.conftest import Caller, Use

CREATE, END = "agent_human_create_session", "agent_human_end_session"
GET, LIST = "agent_human_get_session", "agent_human_list_sessions"
# In pieces, since the search of the repository for secrets would find them.
TOKEN = "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiJhIn0.c2lnbmF0dXJl"
KEY = "ah_" + "live_0123456789abcdef"


@pytest.fixture(params=[{}, {"scope": "account"}], ids=["own", "account"])
def use(
    request: pytest.FixtureRequest, caller: Caller, client: AgentHuman, async_client: AsyncAgentHuman
) -> Use:
    """The tools in both scopes: in the wider one an id is not looked up before it is sent."""
    toolkit = AgentHumanToolkit(client=client, async_client=async_client, **request.param)
    return caller.of(toolkit)


async def refused(use: Use, service: FakeService, tool: str, **arguments: Any) -> str:
    """Call a tool; return what the model is told, once it is sure that it is short, clean and all."""
    told = await use(tool, **arguments)
    assert told.status == "error"
    assert service.requests == []
    assert len(told.content) < 500
    assert "\x1b" not in told.content
    json.dumps(told.content, ensure_ascii=False).encode()  # a lone surrogate would break the next request
    return str(told.content)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        pytest.param({"avatar": "data:image/png;base64,QQ=="}, "not a picture", id="picture"),
        pytest.param({"avatar": " DATA:image/png;base64,QQ=="}, "not a picture", id="picture-in-capitals"),
        pytest.param({"avatar": "a" * 1_000_000}, "not a picture", id="megabyte"),
        pytest.param({"avatar": "http://example.com/a.png"}, "not an https one", id="http"),
        pytest.param({"avatar": "file:///etc/passwd"}, "not an https one", id="file"),
        pytest.param({"avatar": "https://"}, "needs a host", id="no-host"),
        pytest.param({"avatar": "https://[::1/a.png"}, "needs a host", id="half-a-host"),
        pytest.param({"avatar": "https://ada:pass@a.example/a.png"}, "no password", id="password-in-url"),
        pytest.param({"avatar": "https://a.example/b c"}, "without blanks", id="blank-in-url"),
        pytest.param({"avatar": "https://a.example/\nx-api-key: b"}, "without blanks", id="header-in-url"),
        pytest.param({"avatar": "two words"}, "not an avatar id", id="blanks"),
        pytest.param({"avatar": "../../v1/usage"}, "not an avatar id", id="path"),
        pytest.param({"avatar": "\N{GRINNING FACE}"}, "not an avatar id", id="emoji"),
        pytest.param({"avatar": "\x1b[31m"}, "not an avatar id", id="terminal"),
        pytest.param({"avatar": "avat_\ud800"}, "avatar", id="surrogate"),
        pytest.param({"avatar": KEY}, "looks like a key or a token", id="key-as-avatar"),
        pytest.param({"avatar": TOKEN}, "looks like a key or a token", id="token-as-avatar"),
        pytest.param({"avatar": f"https://a.example/?t={TOKEN}"}, "looks like a key", id="token-in-url"),
        pytest.param({"avatar": "null"}, "leave it out for the default one", id="null-as-text"),
        pytest.param({"avatar": "PUBLIC/Avatars/../../v1"}, "not an avatar id", id="path-in-public-id"),
        pytest.param({"avatar": "PUBLIC/Avatars/"}, "not an avatar id", id="public-id-without-name"),
        pytest.param({"avatar": "PUBLIC/Avatars/" + "a" * 200}, "not an avatar id", id="long-public-id"),
        pytest.param({"avatar": 7}, "avatar must be a string, not a number.", id="number"),
        pytest.param({"avatar": True}, "avatar must be a string, not true or false.", id="boolean"),
        pytest.param({"avatar": ["avat_1"]}, "avatar must be a string, not a list.", id="list"),
        pytest.param({"avatar": {"id": "avat_1"}}, "avatar must be a string, not an object.", id="object"),
        pytest.param({"aspect_ratio": "16:9"}, "aspect_ratio must be '4:3', '3:4' or '1:1', or", id="ratio"),
        pytest.param(
            {"aspect_ratio": 1.5}, "aspect_ratio must be '4:3', '3:4' or '1:1', or", id="number-ratio"
        ),
        pytest.param({"metadata": {"a": "b"}}, "Unknown argument: metadata. This tool takes", id="unknown"),
        pytest.param({KEY: "a"}, "Unknown argument. This tool takes", id="key-as-argument"),
        pytest.param({TOKEN: "a"}, "Unknown argument. This tool takes", id="token-as-argument"),
        pytest.param({"b" * 2_000: "a"}, "Unknown argument. This tool takes", id="long-argument"),
        pytest.param({"\udfff": "a"}, "Unknown argument. This tool takes", id="surrogate-as-argument"),
        pytest.param({"room\nsystem": "a"}, "Unknown argument. This tool takes", id="lines-as-argument"),
        pytest.param({"room": "a", "\x1b": "b"}, "arguments: room and 1 more. This", id="some-unknown"),
        pytest.param(
            {f"a{n}": n for n in range(10_000)}, "a0, a1, a2, a3, a4 and 9995 more.", id="many-unknown"
        ),
    ],
)
async def test_bad_argument_of_create(
    arguments: dict[str, Any], sentence: str, use: Use, service: FakeService
) -> None:
    """A model's mistake comes back as an error that says what to change, is short, and makes no request."""
    told = await refused(use, service, CREATE, **arguments)
    assert sentence in told
    assert KEY not in told
    assert TOKEN not in told


@pytest.mark.parametrize("tool", [GET, END])
@pytest.mark.parametrize(
    "session_id",
    [
        pytest.param("../../v1/usage", id="path"),
        pytest.param("sess_x?y=1", id="query"),
        pytest.param("sess_x#y", id="fragment"),
        pytest.param("sess_x/end", id="segment"),
        pytest.param("sess_%2e%2e", id="escaped"),
        pytest.param("https://evil.example/", id="url"),
        pytest.param("", id="empty"),
        pytest.param(" ", id="blank"),
        pytest.param("sess_1\n", id="line-end"),
        pytest.param("sess_1\x00", id="null"),
        pytest.param("sess_\ud800", id="surrogate"),
        pytest.param("sess_\u0661", id="other-digits"),
        pytest.param("\u202esess_1", id="direction"),
        pytest.param("x" * 1_000_000, id="megabyte"),
        pytest.param(TOKEN, id="token"),
        pytest.param(KEY, id="key"),
        pytest.param(None, id="null-value"),
        pytest.param(7, id="number"),
        pytest.param({"id": "sess_1"}, id="object"),
    ],
)
async def test_bad_session_id(tool: str, session_id: Any, use: Use, service: FakeService) -> None:
    """What cannot be the id of a session never becomes part of an address."""
    told = await refused(use, service, tool, session_id=session_id)
    assert "session_id" in told
    assert TOKEN not in told
    assert KEY not in told


async def test_missing_session_id(use: Use, service: FakeService) -> None:
    """A missing argument is named."""
    assert "session_id is missing." in await refused(use, service, END)


async def test_unknown_status(use: Use, service: FakeService) -> None:
    """The words that are allowed are told."""
    assert "'started', 'ended' or 'all'" in await refused(use, service, LIST, status="running")


async def test_all_problems_are_told_at_once(use: Use, service: FakeService) -> None:
    """Each wrong argument has its sentence, so that one more call can be right."""
    told = await refused(
        use, service, CREATE, avatar="two words", aspect_ratio="16:9", room="mine", name="Ada"
    )
    assert "avatar is not" in told
    assert "aspect_ratio must be" in told
    assert "Unknown arguments: room, name." in told
    assert "two words" not in told
    assert "16:9" not in told
