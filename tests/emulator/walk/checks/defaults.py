"""What the environment says, and what is used without a word."""

import httpx
import pytest

from agenthuman_plugins.client import AgentHuman
from tests.contract.bodies import load as documented
from tests.emulator.walk.walk import check, client_of


async def _sent(variable: str | None) -> httpx.Request:
    with pytest.MonkeyPatch.context() as patch:
        if variable is None:
            patch.delenv("AGENTHUMAN_AVATAR", raising=False)
        else:
            patch.setenv("AGENTHUMAN_AVATAR", variable)
        async with client_of(httpx.Response(200, json=documented("session-created-own-room"))) as (
            client,
            asked,
        ):
            await client.sessions.create()
    return asked[0]


@check()
def key_variable():
    def handle(request: httpx.Request) -> httpx.Response:
        assert request.headers["x-api-key"] == "ah_test_of-the-environment"
        return httpx.Response(200, json=documented("session-get-managed"))

    with pytest.MonkeyPatch.context() as patch, httpx.Client(transport=httpx.MockTransport(handle)) as http:
        patch.setenv("AGENTHUMAN_API_KEY", "ah_test_of-the-environment")
        assert AgentHuman(http_client=http).sessions.get("sess_1").has_ended


@check()
async def avatar_variable():
    assert b'"avat_of-the-environment"' in (await _sent("avat_of-the-environment")).content


@check()
async def default_avatar():
    assert b'"avat_01KMZJ4WE5QCD9G3EK21QW8NJK"' in (await _sent(None)).content
