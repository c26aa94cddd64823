"""Our service: the real client over HTTP, and the in-process avatar as its speech link."""

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web
from pipecat.frames.frames import Frame
from pipecat.processors.frame_processor import FrameProcessor

from agenthuman_plugins.client import AsyncAgentHuman, Session
from agenthuman_plugins.pipecat import (
    AgentHumanVideoService,
    AgentHumanVideoSettings,
    AgentHumanVideoUpdateSettingsFrame,
)
from benchmarks.peers._avatar import Avatar
from benchmarks.peers._pictures import LiveKitPictures
from benchmarks.peers._vendor import NEW_TINT, Conditions, Vendor

_OLD, _NEW = "avat_01H0000000000000000000OLD0", "avat_01H0000000000000000000NEW0"


class Ours(Vendor):
    name = "AgentHuman"
    boundary = "REST on a socket; the speech link is the in-process avatar"

    def __init__(self, conditions: Conditions) -> None:
        super().__init__(conditions)
        if conditions.still:  # whatever a picture costs counts
            self.avatar_type = LiveKitPictures
        self._sessions: dict[str, dict[str, Any]] = {}
        self._by_session: dict[str, Avatar] = {}

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
                avatar=_OLD,
                link_factory=self._link,
            )

    def change_avatar(self) -> Frame:
        return AgentHumanVideoUpdateSettingsFrame(delta=AgentHumanVideoSettings(avatar=_NEW))

    def avatar_of(self, session_id: str) -> Avatar | None:
        return self._by_session.get(session_id)

    def _link(self, session: Session, rate: int) -> Avatar:
        tint = NEW_TINT if self._sessions[session.session_id]["avatar"] == _NEW else None
        link = self.avatar(rate, join_s=self.conditions.join_s, tint=tint)
        self._by_session[session.session_id] = link
        return link

    async def _create(self, request: web.Request) -> web.Response:
        asked = await request.json()
        session_id = await self.create()
        now = datetime.now(UTC).replace(microsecond=0)
        limit_s = self.conditions.session_s
        session = {
            "session_id": session_id,
            "status": "started",
            "metadata": asked.get("metadata"),
            "started_at": now.isoformat(),
            "expiration": None if limit_s is None else (now + timedelta(seconds=limit_s)).isoformat(),
            "avatar": asked["avatar"],
        }
        self._sessions[session_id] = session
        return web.json_response({"success": True, "session": session})

    async def _list(self, _: web.Request) -> web.Response:
        return web.json_response({"success": True, "sessions": list(self._sessions.values())})

    async def _end(self, request: web.Request) -> web.Response:
        session_id = request.match_info["id"]
        self.ended.append(session_id)
        return web.json_response({"success": True, "session": {"session_id": session_id, "status": "ended"}})
