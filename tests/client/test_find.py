"""`sessions.find` tells whether a create has left a session behind, running or ended."""

from typing import Any

import pytest

from agenthuman_plugins.client import ConfigurationError, ServerError
from agenthuman_plugins.client.adapters import holds_secret
from tests.client.conftest import API_KEY, FakeService, Handle, Reply


def session(service: FakeService, key: str, ref: str | None, status: str = "started", **more: Any) -> None:
    metadata = {} if ref is None else {"client_ref": ref}
    service.sessions[key] = {"session_id": key, "status": status, "metadata": metadata, **more}


def found(client: Handle, ref: str = "wanted") -> str | None:
    session = client(lambda c: c.sessions.find(ref))
    return None if session is None else session.session_id


@pytest.mark.parametrize("omitted", [False, True], ids=["metadata-listed", "metadata-omitted"])
@pytest.mark.parametrize("status", ["started", "ended"])
def test_session_is_found(status: str, omitted: bool, client: Handle, service: FakeService) -> None:
    """Running or ended, with or without metadata in the list, the session of the reference is found."""
    service.list_omits_metadata = omitted
    session(service, "sess_1", "other")
    session(service, "sess_2", "wanted", status)
    assert found(client) == "sess_2"
    assert found(client, "unknown") is None


def test_running_session_comes_before_an_ended_one(client: Handle, service: FakeService) -> None:
    """Of two sessions with one reference the running one is told, since it is billed."""
    session(service, "sess_1", "wanted", "ended", started_at="2024-01-15T11:00:00Z")
    session(service, "sess_2", "wanted", started_at="2024-01-15T10:00:00Z")
    assert found(client) == "sess_2"


def test_single_sessions_are_asked_for_only_if_need_be(client: Handle, service: FakeService) -> None:
    """A list with metadata is believed; without any, at most 20 sessions are asked for one by one."""
    session(service, "sess_0", None)
    session(service, "sess_1", "other")
    assert found(client) is None
    assert service.log == ["GET /v1/sessions"]
    service.list_omits_metadata = True
    for number in range(2, 40):
        session(service, f"sess_{number}", None)
    assert found(client) is None
    assert len(service.log) == 1 + 1 + 20


def test_list_that_fails_is_no_absence(client: Handle, service: FakeService) -> None:
    """If the list cannot be had, that is raised: it must not be taken for "there is none"."""
    service.faults.extend([Reply(500)] * 3)
    with pytest.raises(ServerError):
        found(client)


def test_empty_reference_finds_nobody(client: Handle, service: FakeService) -> None:
    """An empty reference is a mistake of the caller, and nothing is sent."""
    with pytest.raises(ConfigurationError, match="client_ref"):
        found(client, "")
    assert service.requests == []


@pytest.mark.parametrize(
    ("value", "secret"),
    [
        pytest.param(API_KEY.replace("seeded-", ""), True, id="key"),
        pytest.param("see https://a.example/b?access=eyJhbGciOi.eyJzdWIiOi.c2ln", True, id="token-in-query"),
        pytest.param({"session_token": "abc"}, True, id="named"),
        pytest.param("https://a.example/b.png?width=500&height=400", False, id="query"),
        pytest.param({"note": "two words"}, False, id="words"),
    ],
)
def test_secrets_are_known_by_look_and_name(value: Any, secret: bool) -> None:
    """Keys, tokens and what is called so are secrets; the query of a plain URL is none."""
    assert holds_secret(value) is secret
