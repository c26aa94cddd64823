"""Our service: the real client over HTTP, and the in-process avatar as its speech link."""

import contextlib
from collections.abc import AsyncIterator

from aiohttp import web
from pipecat.processors.frame_processor import FrameProcessor

from agenthuman_plugins.client import AsyncAgentHuman
from agenthuman_plugins.pipecat import AgentHumanVideoService
from benchmarks.peers._pictures import LiveKitPictures
from benchmarks.peers._vendor import Conditions, Vendor


class Ours(Vendor):
    name = "AgentHuman"
    boundary = "REST on a socket; the speech link is the in-process avatar"

    def __init__(self, conditions: Conditions) -> None:
        super().__init__(conditions)
        if conditions.still:  # whatever a picture costs counts
            self.avatar_type = LiveKitPictures
        self._sessions: dict[str, dict[str, object]] = {}

    @contextlib.asynccontextmanager
    async def service(self) -> AsyncIterator[FrameProcessor]:
        routes = (
            web.post("/v1/sessions", self._create),
            web.get("/v1/sessions", self._list),
            web.post("/v1/sessions/{id}/end", self._end),
        )
        async with self.serving(*routes) as url, AsyncAgentHuman(api_key="test", base_url=url) as client:
            yield AgentHumanVideoService(
                client=client,
                link_factory=lambda _, rate: self.avatar(rate, join_s=self.conditions.join_s),
            )

    async def _create(self, request: web.Request) -> web.Response:
        metadata = (await request.json()).get("metadata")
        session_id = await self.create()
        session = {"session_id": session_id, "status": "started", "metadata": metadata}
        self._sessions[session_id] = session
        return web.json_response({"success": True, "session": session})

    async def _list(self, _: web.Request) -> web.Response:
        return web.json_response({"success": True, "sessions": list(self._sessions.values())})

    async def _end(self, request: web.Request) -> web.Response:
        session_id = request.match_info["id"]
        self.ended.append(session_id)
        return web.json_response({"success": True, "session": {"session_id": session_id, "status": "ended"}})
