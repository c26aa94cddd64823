"""`/v1/agents`."""

from typing import Any

from tests.contract.bodies import load as documented
from tests.emulator.walk import models
from tests.emulator.walk.walk import AGENT, VOICE_AGENT, Walk, check, shape


async def _update(walk: Walk, agent: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return (await walk.ok("PUT", f"/v1/agents/{agent['agent_id']}", changes))["agent"]


@check()
async def create_reply(walk: Walk):
    assert shape(await walk.ok("POST", "/v1/agents", AGENT)) == shape(documented("agent-created"))


@check()
async def schema(walk: Walk):
    models.Agent.model_validate(await walk.agent())


@check()
async def id(walk: Walk):  # noqa: A001 - the name of its fact
    assert (await walk.agent())["agent_id"].startswith("agnt_")


@check()
async def name_is_required(walk: Walk):
    body = {"voice_agent": VOICE_AGENT}
    assert (await walk.refused("POST", "/v1/agents", body))[0] == 400


@check()
async def voice_agent_is_required(walk: Walk):
    parts = [
        {name: VOICE_AGENT[name] for name in VOICE_AGENT if name != left_out} for left_out in VOICE_AGENT
    ]
    for voice_agent in (None, *parts):
        body = {"name": "Support", "voice_agent": voice_agent}
        assert (await walk.refused("POST", "/v1/agents", body))[0] == 400
    assert (await walk.refused("POST", "/v1/agents", {"name": "Support"}))[0] == 400


@check()
async def picture_is_optional(walk: Walk):
    assert (await walk.agent(avatar_image_url=None))["avatar_image_url"] is None
    agent = await walk.ok("POST", "/v1/agents", {"name": "Support", "voice_agent": VOICE_AGENT})
    assert agent["agent"]["avatar_image_url"] is None


@check()
async def auth_methods(walk: Walk):
    for method in ("public", "api_key", "token"):
        assert await walk.agent(voice_agent=VOICE_AGENT | {"auth_method": method})
    body = AGENT | {"voice_agent": VOICE_AGENT | {"auth_method": "password"}}
    assert (await walk.refused("POST", "/v1/agents", body))[0] == 400


@check()
async def update_reply(walk: Walk):
    path = f"/v1/agents/{(await walk.agent())['agent_id']}"
    answer = await walk.ok("PUT", path, {"name": "Updated Agent Name"})
    assert shape(answer) == shape(documented("agent-updated"))


@check()
async def update_keeps(walk: Walk):
    agent = await walk.agent()
    assert await _update(walk, agent, name="New") == agent | {"name": "New"}


@check()
async def name_is_not_empty(walk: Walk):
    path = f"/v1/agents/{(await walk.agent())['agent_id']}"
    assert (await walk.refused("PUT", path, {"name": ""}))[0] == 400


@check()
async def picture_is_removed(walk: Walk):
    assert (await _update(walk, await walk.agent(), avatar_image_url=None))["avatar_image_url"] is None


@check()
async def voice_agent_is_merged(walk: Walk):
    changed = await _update(walk, await walk.agent(), voice_agent={"auth_method": "api_key"})
    assert changed["voice_agent"] == VOICE_AGENT | {"auth_method": "api_key"}


@check()
async def unknown_agent(walk: Walk):
    assert (await walk.http.get("/v1/agents/agnt_none")).json() == documented("error-string")


@check()
async def status_of_unknown_agent(walk: Walk):
    for method, body in (("GET", None), ("PUT", {"name": "New"}), ("DELETE", None)):
        assert (await walk.refused(method, "/v1/agents/agnt_none", body))[0] == 404


@check()
async def get_list_delete(walk: Walk):
    agent = await walk.agent()
    path = f"/v1/agents/{agent['agent_id']}"
    assert await walk.ok("GET", path) == {"success": True, "agent": agent}
    assert await walk.ok("GET", "/v1/agents") == {"success": True, "agents": [agent]}
    await walk.ok("DELETE", path)
    assert await walk.ok("GET", "/v1/agents") == {"success": True, "agents": []}
