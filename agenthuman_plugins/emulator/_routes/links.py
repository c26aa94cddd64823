"""`/v1/links`, and the page that a link opens."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import FileResponse
from starlette.routing import Route

from agenthuman_plugins.emulator._errors import bad_request
from agenthuman_plugins.emulator._routes._replies import base_url, json_body
from agenthuman_plugins.emulator._schemas import LINK, LINK_BODY, LINK_CHANGE, LINK_START, describe, reply
from agenthuman_plugins.emulator._service import Service
from agenthuman_plugins.viewer import web


def links(service: Service) -> APIRouter:
    """Return the routes that need a key."""
    router = APIRouter(prefix="/v1/links", tags=["links"])
    store = service.links

    @router.post("", **describe(reply(link=LINK), body=LINK_BODY, missing=True))
    async def create_link(request: Request) -> dict[str, Any]:
        """Make a link to an agent."""
        link = store.create(await json_body(request))
        return {"success": True, "link": store.describe(link, base_url(request))}

    @router.get("", **describe(reply(links=[LINK])))
    async def list_links(request: Request, status: str = "all") -> dict[str, Any]:
        """List the links with status `active`, `paused`, `expired` or `all`, newest first."""
        listed = [store.describe(link, base_url(request)) for link in store.newest_first(status)]
        return {"success": True, "links": listed}

    @router.get("/{link_id}", **describe(reply(link=LINK), missing=True))
    async def get_link(link_id: str, request: Request) -> dict[str, Any]:
        """Return a link."""
        return {"success": True, "link": store.describe(store.get(link_id), base_url(request))}

    @router.put("/{link_id}", **describe(reply(link=LINK), body=LINK_CHANGE, missing=True))
    async def update_link(link_id: str, request: Request) -> dict[str, Any]:
        """Change a link: what is left out stays, null clears."""
        link = store.update(link_id, await json_body(request))
        return {"success": True, "link": store.describe(link, base_url(request))}

    @router.delete("/{link_id}", **describe(reply(message="string"), missing=True))
    async def delete_link(link_id: str) -> dict[str, Any]:
        """Delete a link for good."""
        store.delete(link_id)
        return {"success": True, "message": "Link deleted successfully"}

    return router


def link_starter(service: Service) -> APIRouter:
    """Return the route that needs no key: the link is the credential."""
    router = APIRouter(prefix="/v1/links", tags=["links"])
    started = reply(
        session_id="string",
        livekit_url="string",
        participant_token="string",  # noqa: S106 - a type
        agent_identity="string",
    )

    @router.post("/start-session", **describe(started, body=LINK_START, missing=True, keyless=True))
    async def start_session_by_link(request: Request) -> dict[str, Any]:
        """Start a session with the agent of a link, in a room that the service makes."""
        body = await json_body(request)
        if not isinstance(body, dict):
            raise bad_request("The request body must be a JSON object")
        return await service.start_by_link(body.get("link_id"), body.get("aspect_ratio"))

    return router


def link_page() -> Route:
    """Return the route of the page that starts a link's session, then shows it at `/watch`."""

    async def page(_: Request) -> FileResponse:
        return FileResponse(web.FILES / "link.html")

    return Route("/s/{link_id}", page, include_in_schema=False)
