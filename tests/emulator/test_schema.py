"""The OpenAPI document judged by schemathesis: it sends what the document allows, and more, to a running emulator."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from agenthuman_plugins.client._config import DEFAULT_AVATAR
from agenthuman_plugins.emulator import _service
from agenthuman_plugins.emulator._errors import bad_request
from agenthuman_plugins.testing import RunningEmulator
from agenthuman_plugins.testing._emulator import running
from tests.emulator.fakes import PROXY
from tests.emulator.pictures import portrait
from tests.emulator.walk.walk import AGENT

_CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
_ENDPOINTS = {
    "/v1/sessions": {"get", "post"},
    "/v1/sessions/{session_id}": {"get"},
    "/v1/sessions/{session_id}/end": {"post", "put"},
    "/v1/avatars": {"get"},
    "/v1/avatars/upload-face": {"post"},
    "/v1/avatars/preview": {"post"},
    "/v1/avatars/{avatar_id}": {"delete"},
    "/v1/agents": {"get", "post"},
    "/v1/agents/{agent_id}": {"get", "put", "delete"},
    "/v1/links": {"get", "post"},
    "/v1/links/{link_id}": {"get", "put", "delete"},
    "/v1/links/start-session": {"post"},
    "/v1/openclaw/initiate": {"post"},
    "/v1/usage": {"get"},
    "/emulator/sessions": {"get"},
    "/emulator/faults": {"get", "post", "delete"},
    "/emulator/clock": {"get", "post"},
    "/emulator/reset": {"post"},
    "/emulator/export": {"get"},
    "/emulator/pictures/{avatar_id}/{kind}": {"get"},
}
_OLDER = {
    "/v1/sessions": {"get", "post"},
    "/v1/sessions/{session_id}": {"get"},
    "/v1/sessions/{session_id}/start": {"post", "put"},
    "/v1/sessions/{session_id}/end": {"post", "put"},
    "/v1/avatars": {"get"},
    "/v1/avatars/public": {"get"},
}
_CALLS = [
    pytest.param(generation, path, method, id=f"{generation}-{method}-{path}")
    for generation, endpoints in (("own-room", _ENDPOINTS), ("managed", _OLDER))
    for path, methods in endpoints.items()
    for method in sorted(methods)
]


@pytest.fixture(scope="module")
def emulator(request: pytest.FixtureRequest) -> Iterator[RunningEmulator]:
    generation = getattr(request, "param", "own-room")

    async def fetch(*_: object) -> bytes:
        raise bad_request("No address is fetched in this test")

    with (
        pytest.MonkeyPatch.context() as patch,
        running(media=False, plan="pro", generation=generation) as emulator,
    ):
        patch.setattr(_service, "fetch", fetch)
        for name in (
            "NO_PROXY",
            "no_proxy",
        ):  # Schemathesis asks with requests, which goes by the environment
            patch.setenv(name, "*")
        yield emulator


@pytest.fixture
def known(path: str, emulator: RunningEmulator) -> dict[str, str]:
    """Ids of things that exist; one session runs, so that the plan has room for more."""
    emulator.clear_faults()  # of the test before
    headers = {"x-api-key": emulator.api_key}
    with httpx.Client(base_url=emulator.url, headers=headers, trust_env=False) as http:
        for session in emulator.sessions():
            if session["status"] == "started":
                http.post(f"/v1/sessions/{session['session_id']}/end")
        create = PROXY | {"avatar_id": DEFAULT_AVATAR}  # for both generations
        things = {"session_id": http.post("/v1/sessions", json=create).json()["session"]}
        things["agent_id"] = http.post("/v1/agents", json=AGENT).json()["agent"]
        link = {"agent_id": things["agent_id"]["agent_id"]}
        things["link_id"] = http.post("/v1/links", json=link).json()["link"]
        if "{avatar_id}" in path:
            upload = {"file": portrait()}
            things["avatar_id"] = http.post("/v1/avatars/upload-face", files=upload).json()
    return {name: thing[name] for name, thing in things.items()}


@pytest.fixture(scope="module")
def api(emulator: RunningEmulator) -> Any:
    return schemathesis.openapi.from_url(f"{emulator.url}/openapi.json", timeout=60)


@pytest.mark.parametrize(
    "mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value
)
@pytest.mark.parametrize(("emulator", "path", "method"), _CALLS, indirect=["emulator"])
def test_emulator_keeps_its_document(
    path: str, method: str, mode: GenerationMode, api: Any, known: dict[str, str], emulator: RunningEmulator
):
    """No request makes the emulator fail, and every answer is one that its document describes."""

    @settings(
        max_examples=10,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=api[path][method].as_strategy(generation_mode=mode))
    def send(case: Any) -> None:
        if mode is GenerationMode.POSITIVE:
            case.path_parameters |= {name: known[name] for name in case.path_parameters if name in known}
            if isinstance(
                case.body, dict
            ):  # the link starter and the link maker name something that is there
                case.body |= {name: known[name] for name in ("agent_id", "link_id") if name in case.body}
        case.call_and_validate(headers={"x-api-key": emulator.api_key}, checks=_CHECKS, timeout=20)

    try:
        send()
    except Unsatisfiable:  # a call without arguments has no wrong ones
        assert mode is GenerationMode.NEGATIVE


def test_document_is_complete(emulator: RunningEmulator):
    """Every endpoint is described, those of the newest generation with the schema of its answer and of its body."""
    paths = httpx.get(f"{emulator.url}/openapi.json", trust_env=False).json()["paths"]
    assert {path: set(methods) for path, methods in paths.items()} == _ENDPOINTS
    for path, methods in paths.items():
        for method, operation in methods.items():
            if path.startswith("/v1/"):
                answer = operation["responses"]["200"]["content"]["application/json"]["schema"]
                assert answer["properties"], (path, method)
                bodyless = method in ("get", "delete") or path.endswith("/end")
                assert ("requestBody" in operation) != bodyless, (path, method)


@pytest.mark.parametrize("path", ["/v1/avatars", "/v1/agents", "/v1/links", "/v1/usage", "/emulator/faults"])
def test_every_resource_needs_the_key(path: str, emulator: RunningEmulator):
    """Nothing of the account is told without the key."""
    reply = httpx.get(f"{emulator.url}{path}", trust_env=False)
    assert (reply.status_code, reply.json()) == (401, {"error": "API key required"})
