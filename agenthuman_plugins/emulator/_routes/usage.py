"""`/v1/usage`."""

from datetime import datetime, timedelta
from typing import Any

from fastapi import APIRouter, Request

from agenthuman_plugins.emulator._catalogue import CatalogueAvatar
from agenthuman_plugins.emulator._routes._replies import base_url
from agenthuman_plugins.emulator._schemas import USAGE, describe, reply
from agenthuman_plugins.emulator._service import Service
from agenthuman_plugins.emulator._store import Session, timestamp

_MINUTE_S = 60


def usage(service: Service) -> APIRouter:
    """Return the route."""
    router = APIRouter(prefix="/v1/usage", tags=["usage"])
    store, plan = service.store, service.store.rules.plan

    @router.get("", **describe(reply(usage=USAGE)))
    async def get_usage(request: Request) -> dict[str, Any]:
        """Return what the account has used of its plan in this period."""
        start, next_start = store.period
        active = store.newest_first("started")
        made = service.catalogue.made_this_period
        return {
            "success": True,
            "usage": {
                "period": {"start": _moment(start), "end": _moment(next_start - timedelta(seconds=1))},
                **store.minutes(),
                "active_sessions": [_active(service, each, base_url(request)) for each in active],
                "active_minutes": store.active_minutes,
                "concurrency": store.concurrency,
                "plan": {
                    "key": plan.key,
                    "name": plan.name,
                    "max_session_duration": int(plan.max_session_duration.total_seconds()) // _MINUTE_S,
                    "will_renew": plan.key != "free",
                },
                # The pages name `limit` alone.
                "avatars": {
                    "limit": plan.max_avatars,
                    "used": made,
                    "remaining": max(0, plan.max_avatars - made),
                },
            },
        }

    return router


def _active(service: Service, session: Session, base: str) -> dict[str, Any]:
    avatar = CatalogueAvatar(session.avatar, (), session.created_at)
    return {
        "session_id": session.session_id,
        "avatar": {
            "avatar_id": session.avatar,
            "url": avatar.urls(base)["preview_url"],
            "face_id": f"face_{session.avatar.removeprefix('avat_')}",
            "face_name": session.avatar,
        },
        "status": "active",
        "started_at": session.started_at and _moment(session.started_at),
        "ended_at": None,
        "expiration": session.expiration and _moment(session.expiration),
        "aspect_ratio": session.aspect_ratio,
        "duration": service.store.duration(session),
        "metadata": session.metadata,
    }


def _moment(moment: datetime) -> str:
    """Return a time in this call's form, with milliseconds."""
    return timestamp(moment, "milliseconds")
