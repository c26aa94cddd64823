"""Avatars, usage, agents and links: what each call sends, and what it makes of the answer."""

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest

from agenthuman_plugins.client import (
    AgentHumanError,
    APIResponseError,
    APITimeoutError,
    ConfigurationError,
    NotFoundError,
    ServerError,
)
from tests.client.conftest import API_KEY, FakeService, Handle, Reply

CONTRACT = Path(__file__).parent.parent / "contract"
AGENT = "agnt_01J8ZK4R2N5M6P7Q8W4T"
AVATAR = "avat_01J8ZK4R2N5M6P7Q8W4T"
LINK = "lnk_01J8ZK4R2N5M6P7Q8W4T"
VOICE = {"provider": "ElevenLabs", "agent_id": "el_agent_xxxxxxxxxxxxxxxx", "auth_method": "public"}
NOON_IN_BERLIN = datetime(2024, 2, 15, 11, 30, tzinfo=timezone(timedelta(hours=1)))

Use = Callable[[Any], Any]


def contract(name: str) -> Any:
    return json.loads((CONTRACT / f"{name}.json").read_text())


AGENTS = {"success": True, "agents": [contract("agent-created")["agent"]]}
LINK_BODY = {"success": True, "link": contract("link-list")["links"][0]}

CALLS = [
    pytest.param(
        lambda c: c.avatars.list(),
        "GET /v1/avatars",
        None,
        contract("avatar-list-own-room"),
        id="avatars-list",
    ),
    pytest.param(
        lambda c: c.avatars.upload_face(image_url="https://example.com/face.png?sig=1"),
        "POST /v1/avatars/upload-face",
        {"image_url": "https://example.com/face.png?sig=1"},
        contract("avatar-uploaded"),
        id="avatars-upload-url",
    ),
    pytest.param(
        lambda c: c.avatars.preview("PUBLIC/Avatars/sara-office"),
        "POST /v1/avatars/preview",
        {"avatar_id": "PUBLIC/Avatars/sara-office"},
        contract("avatar-preview"),
        id="avatars-preview",
    ),
    pytest.param(
        lambda c: c.avatars.delete("PUBLIC/Avatars/sara-office"),
        "DELETE /v1/avatars/PUBLIC%2FAvatars%2Fsara-office",
        None,
        contract("avatar-deleted"),
        id="avatars-delete",
    ),
    pytest.param(lambda c: c.usage.get(), "GET /v1/usage", None, contract("usage-summary"), id="usage-get"),
    pytest.param(
        lambda c: c.agents.create(
            name="Support Agent", voice_agent=VOICE, avatar_image_url="https://e.com/a.jpg"
        ),
        "POST /v1/agents",
        {"name": "Support Agent", "voice_agent": VOICE, "avatar_image_url": "https://e.com/a.jpg"},
        contract("agent-created"),
        id="agents-create",
    ),
    pytest.param(
        lambda c: c.agents.create(name="Support Agent", voice_agent=VOICE),
        "POST /v1/agents",
        {"name": "Support Agent", "voice_agent": VOICE},
        contract("agent-created"),
        id="agents-create-without-picture",
    ),
    pytest.param(
        lambda c: c.agents.get(AGENT),
        f"GET /v1/agents/{AGENT}",
        None,
        contract("agent-created"),
        id="agents-get",
    ),
    pytest.param(lambda c: c.agents.list(), "GET /v1/agents", None, AGENTS, id="agents-list"),
    pytest.param(
        lambda c: c.agents.update(AGENT, voice_agent={"auth_method": "api_key"}),
        f"PUT /v1/agents/{AGENT}",
        {"voice_agent": {"auth_method": "api_key"}},
        contract("agent-updated"),
        id="agents-update-one-field",
    ),
    pytest.param(
        lambda c: c.agents.update(AGENT, name="New", avatar_image_url=None),
        f"PUT /v1/agents/{AGENT}",
        {"name": "New", "avatar_image_url": None},
        contract("agent-updated"),
        id="agents-update-and-remove",
    ),
    pytest.param(
        lambda c: c.agents.delete(AGENT),
        f"DELETE /v1/agents/{AGENT}",
        None,
        {"success": True},
        id="agents-delete",
    ),
    pytest.param(
        lambda c: c.links.create(agent_id=AGENT),
        "POST /v1/links",
        {"agent_id": AGENT},
        LINK_BODY,
        id="links-create",
    ),
    pytest.param(
        lambda c: c.links.create(agent_id=AGENT, name="Demo", expires_at=NOON_IN_BERLIN, use_limit=100),
        "POST /v1/links",
        {"agent_id": AGENT, "name": "Demo", "expires_at": "2024-02-15T10:30:00Z", "use_limit": 100},
        contract("link-created"),
        id="links-create-whole",
    ),
    pytest.param(lambda c: c.links.get(LINK), f"GET /v1/links/{LINK}", None, LINK_BODY, id="links-get"),
    pytest.param(
        lambda c: c.links.list("paused"),
        "GET /v1/links?status=paused",
        None,
        contract("link-list"),
        id="links-list",
    ),
    pytest.param(
        lambda c: c.links.update(LINK, name=None, status="paused", expires_at=None, use_limit=None),
        f"PUT /v1/links/{LINK}",
        {"name": None, "status": "paused", "expires_at": None, "use_limit": None},
        contract("link-updated"),
        id="links-update-and-clear",
    ),
    pytest.param(
        lambda c: c.links.update(LINK, use_limit=7),
        f"PUT /v1/links/{LINK}",
        {"use_limit": 7},
        contract("link-updated"),
        id="links-update-one-field",
    ),
    pytest.param(
        lambda c: c.links.delete(LINK),
        f"DELETE /v1/links/{LINK}",
        None,
        contract("link-deleted"),
        id="links-delete",
    ),
    pytest.param(
        lambda c: c.links.start_session(LINK, aspect_ratio="1:1"),
        "POST /v1/links/start-session",
        {"link_id": LINK, "aspect_ratio": "1:1"},
        contract("link-session-started"),
        id="links-start-session",
    ),
]


@pytest.mark.parametrize(("use", "request_line", "sent", "answer"), CALLS)
def test_call_sends_the_documented_request_once(
    use: Use, request_line: str, sent: Any, answer: Any, client: Handle, service: FakeService
) -> None:
    """Method, path with its ids as one segment each, and a body of what was given, no more."""
    service.faults.append(Reply(200, answer))
    client(use)
    (request,) = service.requests
    assert f"{request.method} {request.url.raw_path.decode()}" == request_line
    assert (json.loads(request.content) if request.content else None) == sent
    assert request.headers.get("x-api-key") == (None if "start-session" in request_line else API_KEY)


# The service may hold what such a call made, or no longer holds what it removed.
ONCE = ("upload", "preview", "delete", "create", "start-session")


@pytest.mark.parametrize(("use", "request_line", "sent", "answer"), CALLS)
@pytest.mark.parametrize("failure", [httpx.ReadTimeout, Reply(503)], ids=["timeout", "503"])
def test_only_harmless_calls_are_repeated_after_a_lost_answer(
    failure: Any,
    use: Use,
    request_line: str,
    sent: Any,
    answer: Any,
    client: Handle,
    service: FakeService,
    request: pytest.FixtureRequest,
) -> None:
    """A read or a change to fixed values is sent again; what makes or removes something is not."""
    service.faults.extend([failure, Reply(200, answer)])
    once = any(word in request.node.callspec.id for word in ONCE)
    if once:
        with pytest.raises(AgentHumanError):
            client(use)
    else:
        client(use)
    assert len(service.requests) == (1 if once else 2)


@pytest.mark.parametrize(("use", "request_line", "sent", "answer"), CALLS)
@pytest.mark.parametrize("failure", [httpx.ConnectError, Reply(429)], ids=["never-connected", "429"])
def test_every_call_is_repeated_if_it_was_surely_not_processed(
    failure: Any, use: Use, request_line: str, sent: Any, answer: Any, client: Handle, service: FakeService
) -> None:
    """A request that reached nobody, or was refused for its rate, is sent again."""
    service.faults.extend([failure, Reply(200, answer)])
    client(use)
    assert len(service.requests) == 2


@pytest.mark.parametrize(
    ("use", "sentence"),
    [
        pytest.param(lambda c: c.avatars.preview(""), "avatar_id must be an id", id="empty-avatar-id"),
        pytest.param(lambda c: c.avatars.delete(".."), "avatar_id must be an id", id="odd-avatar-id"),
        pytest.param(lambda c: c.avatars.delete(None), "avatar_id must be an id", id="no-avatar-id"),
        pytest.param(lambda c: c.agents.get(""), "agent_id must be an id", id="empty-agent-id"),
        pytest.param(lambda c: c.agents.create(name=" ", voice_agent=VOICE), "name must be", id="empty-name"),
        pytest.param(
            lambda c: c.agents.create(name="A", voice_agent={"provider": "P"}),
            "missing: agent_id, auth_method",
            id="part-of-a-voice",
        ),
        pytest.param(
            lambda c: c.agents.create(name="A", voice_agent=VOICE | {"auth_method": "password"}),
            "must be one of public, api_key, token, not 'password'",
            id="auth-method",
        ),
        pytest.param(
            lambda c: c.agents.create(name="A", voice_agent=VOICE | {"voice": "x"}),
            "must be one of provider, agent_id, auth_method, not 'voice'",
            id="unknown-key",
        ),
        pytest.param(
            lambda c: c.agents.create(name="A", voice_agent="ElevenLabs"),
            "must be a dict",
            id="voice-as-text",
        ),
        pytest.param(
            lambda c: c.agents.create(name="A", voice_agent=VOICE, avatar_image_url="face.png"),
            "avatar_image_url is not a complete http",
            id="picture-of-agent",
        ),
        pytest.param(lambda c: c.agents.update(AGENT), "nothing to update", id="empty-change-of-agent"),
        pytest.param(
            lambda c: c.agents.update(AGENT, voice_agent={}), "nothing to update", id="empty-change-of-voice"
        ),
        pytest.param(lambda c: c.agents.update(AGENT, name=""), "name must be", id="name-of-agent"),
        pytest.param(lambda c: c.links.create(agent_id=""), "agent_id must be an id", id="link-to-nobody"),
        pytest.param(
            lambda c: c.links.create(agent_id=AGENT, use_limit=0),
            "use_limit must be a whole number",
            id="no-use",
        ),
        pytest.param(
            lambda c: c.links.create(agent_id=AGENT, use_limit=True), "use_limit must be", id="use-as-truth"
        ),
        pytest.param(
            lambda c: c.links.create(agent_id=AGENT, use_limit=math.inf),
            "use_limit must be",
            id="use-for-ever",
        ),
        pytest.param(
            lambda c: c.links.create(agent_id=AGENT, expires_at=datetime(2030, 1, 1)),  # noqa: DTZ001 - the case
            "with a time zone",
            id="time-without-zone",
        ),
        pytest.param(
            lambda c: c.links.create(agent_id=AGENT, expires_at="2030-01-01"),
            "must be a datetime",
            id="time-as-text",
        ),
        pytest.param(lambda c: c.links.update(LINK), "nothing to update", id="empty-change-of-link"),
        pytest.param(
            lambda c: c.links.update(LINK, status="ended"), "one of active, paused, expired", id="link-status"
        ),
        pytest.param(
            lambda c: c.links.list("started"), "one of active, paused, expired, all", id="link-filter"
        ),
        pytest.param(
            lambda c: c.links.start_session(LINK, aspect_ratio="16:9"),
            "one of 4:3, 3:4, 1:1",
            id="link-ratio",
        ),
        pytest.param(lambda c: c.links.start_session(""), "link_id must be an id", id="start-of-no-link"),
    ],
)
def test_wrong_argument_is_a_sentence_and_nothing_leaves(
    use: Use, sentence: str, client: Handle, service: FakeService
) -> None:
    """The message says what was wrong and what is allowed, and no request is made."""
    with pytest.raises(ConfigurationError, match=sentence) as caught:
        client(use)
    assert len(str(caught.value)) < 250
    assert service.requests == []


def test_avatars_of_both_generations_are_one_list(client: Handle, service: FakeService) -> None:
    """`all` holds every avatar, whichever of the three documented forms the answer has."""
    bare = contract("avatar-list-managed")["avatars"]
    service.faults.extend(
        Reply(200, body) for body in (contract("avatar-list-own-room"), contract("avatar-list-managed"), bare)
    )
    new, old, oldest = (client(lambda c: c.avatars.list()) for _ in range(3))
    assert [avatar.avatar_id for avatar in new.all] == [AVATAR, "PUBLIC/Avatars/sara-office"]
    assert new.my_avatars[0].tags == ["user_exclusive", "user_42"]
    assert old.all == oldest.all
    assert (old.all[0].looks_count, old.all[1].parent_id) == (3, old.all[0].avatar_id)


def test_answer_without_a_list_is_not_an_empty_list(client: Handle, service: FakeService) -> None:
    """A body that has no list of avatars is an answer that we cannot read."""
    service.faults.append(Reply(200, {"success": True, "items": []}))
    with pytest.raises(APIResponseError):
        client(lambda c: c.avatars.list())


def test_usage_tells_what_is_left(client: Handle, service: FakeService) -> None:
    """Minutes, slots, plan and running sessions are typed, times are aware."""
    service.faults.append(Reply(200, contract("usage-summary")))
    usage = client(lambda c: c.usage.get())
    assert (usage.total_remaining, usage.included_minutes.used, usage.concurrency.available) == (145, 75, 19)
    assert usage.period.end == datetime(2024, 1, 31, 23, 59, 59, tzinfo=UTC)
    assert (usage.plan.key, usage.plan.max_session_duration) == ("pro", 180)
    assert [session.status for session in usage.active_sessions] == ["active"]
    assert usage.avatars is None


@pytest.mark.parametrize("answer", [b"", b"gone", b'{"success": true}'])
def test_delete_needs_no_body(answer: bytes, client: Handle, service: FakeService) -> None:
    """Any 2xx says that it is gone."""
    service.faults.append(Reply(204 if not answer else 200, answer))
    assert client(lambda c: c.avatars.delete(AVATAR)) is None


def test_refusal_of_a_call_is_its_error(client: Handle, service: FakeService) -> None:
    """What the service says about an unknown thing reaches the caller."""
    service.faults.append(Reply(404, contract("error-string")))
    with pytest.raises(NotFoundError, match="Agent not found or access denied"):
        client(lambda c: c.agents.get(AGENT))


@pytest.mark.parametrize(
    ("failure", "expected"), [(httpx.ReadTimeout, APITimeoutError), (Reply(500), ServerError)]
)
def test_lost_creation_keeps_its_own_error(
    failure: Any, expected: type[Exception], client: Handle, service: FakeService
) -> None:
    """An agent costs nothing: whoever asked for it decides whether to ask again."""
    service.faults.append(failure)
    with pytest.raises(expected):
        client(lambda c: c.agents.create(name="A", voice_agent=VOICE))
