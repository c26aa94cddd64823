"""`/v1/agents`."""

from typing import Any

from fastapi import APIRouter, Request

from agenthuman_plugins.emulator._routes._replies import json_body
from agenthuman_plugins.emulator._schemas import AGENT, AGENT_BODY, AGENT_CHANGE, describe, reply
from agenthuman_plugins.emulator._service import Service


def agents(service: Service) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1/agents", tags=["agents"])

    @router.post("", **describe(reply(agent=AGENT), body=AGENT_BODY))
    async def create_agent(request: Request) -> dict[str, Any]:
        """Make an agent."""
        return {"success": True, "agent": service.agents.create(await json_body(request)).describe()}

    @router.get("", **describe(reply(agents=[AGENT])))
    async def list_agents() -> dict[str, Any]:
        """List the agents."""
        return {"success": True, "agents": [agent.describe() for agent in service.agents.newest_first()]}

    @router.get("/{agent_id}", **describe(reply(agent=AGENT), missing=True))
    async def get_agent(agent_id: str) -> dict[str, Any]:
        """Return an agent."""
        return {"success": True, "agent": service.agents.get(agent_id).describe()}

    @router.put("/{agent_id}", **describe(reply(agent=AGENT), body=AGENT_CHANGE, missing=True))
    async def update_agent(agent_id: str, request: Request) -> dict[str, Any]:
        """Change an agent: what is left out stays."""
        agent = service.agents.update(agent_id, await json_body(request))
        return {"success": True, "agent": agent.describe()}

    @router.delete("/{agent_id}", **describe(reply(message="string"), missing=True))
    async def delete_agent(agent_id: str) -> dict[str, Any]:
        """Delete an agent."""
        service.agents.delete(agent_id)
        return {"success": True, "message": "Agent deleted successfully"}

    return router
