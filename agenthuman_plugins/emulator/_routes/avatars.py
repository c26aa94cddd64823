"""`/v1/avatars`, and the pictures that its answers point at."""

import asyncio
from dataclasses import replace
from typing import Any, Literal

from fastapi import APIRouter, Request, Response

from agenthuman_plugins.emulator._catalogue import Catalogue, CatalogueAvatar
from agenthuman_plugins.emulator._errors import bad_request
from agenthuman_plugins.emulator._pictures import decode_base64, parse_upload
from agenthuman_plugins.emulator._routes._replies import base_url, json_body
from agenthuman_plugins.emulator._schemas import AVATAR, PREVIEW_BODY, UPLOAD_BODY, describe, reply
from agenthuman_plugins.emulator._service import Service
from agenthuman_plugins.emulator._store import timestamp


def avatars(service: Service) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1/avatars", tags=["avatars"])
    catalogue = service.catalogue

    @router.post("/upload-face", **describe(reply(**AVATAR), body=UPLOAD_BODY, form=True))
    async def upload_face(request: Request) -> dict[str, Any]:
        """Make an avatar of a picture with exactly one prominent face."""
        content_type = request.headers.get("content-type", "")
        field, value = await asyncio.to_thread(parse_upload, content_type, await request.body())
        catalogue.check_allowance()
        if field == "image_base64" and isinstance(value, str):
            value = decode_base64(value)
        avatar = catalogue.add(*await service.checked_picture(value))
        return {"success": True, "avatar_id": avatar.avatar_id, **avatar.urls(base_url(request))}

    add_lists = _add_lists if service.store.rules.generation == "own-room" else _add_lists_as_before
    add_lists(router, catalogue)

    @router.post("/preview", **describe(reply(url="string"), body=PREVIEW_BODY, missing=True))
    async def preview_avatar(request: Request) -> dict[str, Any]:
        """Make a link for one use within 5 minutes."""
        body = await json_body(request)
        if not isinstance(body, dict) or not body.get("avatar_id"):
            raise bad_request("Avatar ID is required", "Include avatar_id in the request body")
        catalogue.check(body["avatar_id"])
        base = base_url(request)
        avatar = CatalogueAvatar(body["avatar_id"], (), service.store.clock())
        link = service.links.preview(avatar.urls(base)["image_url"])
        return {"success": True, "url": f"{base}/s/{link.link_id}"}

    @router.delete("/{avatar_id:path}", **describe(reply(), missing=True))
    async def delete_avatar(avatar_id: str) -> dict[str, Any]:
        """Delete an avatar of one's own, for good."""
        catalogue.delete(avatar_id)
        return {"success": True}

    return router


def _add_lists(router: APIRouter, catalogue: Catalogue) -> None:
    @router.get("", **describe(reply(public_avatars=[AVATAR], my_avatars=[AVATAR])))
    async def list_avatars(request: Request) -> dict[str, Any]:
        """List the public avatars and the account's own."""
        base = base_url(request)
        return {
            "success": True,
            "public_avatars": [_described(avatar, base) for avatar in catalogue.public],
            "my_avatars": [_described(avatar, base) for avatar in catalogue.own],
        }


def _add_lists_as_before(router: APIRouter, catalogue: Catalogue) -> None:
    @router.get("", **describe(reply(avatars=[{"avatar_id": "string"}])))
    async def list_avatars_as_before(
        request: Request, parent_id: str | None = None, characters_only: str = "true"
    ) -> dict[str, Any]:
        """List characters, or the looks of one, or both."""
        base = base_url(request)
        listed: list[dict[str, Any]] = []
        for avatar in catalogue.every():
            looks = catalogue.looks(avatar)
            if parent_id is None:
                character = _described_as_before(avatar, base)
                listed.append({**character, "parent_id": None, "looks_count": len(looks), "active": 1})
            if parent_id == avatar.avatar_id or (parent_id is None and characters_only == "false"):
                listed += [_look(look, number, avatar, base) for number, look in enumerate(looks, start=1)]
        return {"success": True, "avatars": listed}

    @router.get("/public", **describe(reply(avatars=[{"avatar_id": "string"}])))
    async def list_public_avatars(request: Request) -> dict[str, Any]:
        """List the public avatars."""
        base = base_url(request)
        return {
            "success": True,
            "avatars": [_described_as_before(each, base) for each in catalogue.public],
        }


def pictures(service: Service) -> APIRouter:
    """Return the route of the pictures, which need no key: their addresses stand for the service's signed ones."""
    router = APIRouter(prefix="/emulator/pictures", tags=["emulator"])
    content = {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}

    @router.get("/{avatar_id:path}/{kind}", responses={200: {"content": content}, 404: {}, 400: {}, 403: {}})
    async def picture(avatar_id: str, kind: Literal["preview", "image"]) -> Response:
        """Return an avatar's picture."""
        jpeg = await asyncio.to_thread(service.catalogue.picture, avatar_id, kind)
        return Response(jpeg, media_type="image/jpeg")

    return router


def _described(avatar: CatalogueAvatar, base: str) -> dict[str, Any]:
    return {"avatar_id": avatar.avatar_id, "tags": list(avatar.tags), **avatar.urls(base)}


def _look(avatar_id: str, number: int, character: CatalogueAvatar, base: str) -> dict[str, Any]:
    look = _described_as_before(replace(character, avatar_id=avatar_id), base)
    return {
        **look,
        "name": f"{character.avatar_id} (Look {number})",
        "parent_id": character.avatar_id,
        "video_url": f"{look['preview_img_url']}.mp4",
        "active": 1,
    }


def _described_as_before(avatar: CatalogueAvatar, base: str) -> dict[str, Any]:
    own = "user_exclusive" in avatar.tags
    return {
        "avatar_id": avatar.avatar_id,
        "name": avatar.avatar_id,
        "preview_img_url": avatar.urls(base)["preview_url"],
        "is_favorite": 0,
        "is_public": int(not own),
        "created_at": timestamp(avatar.created_at),
        "updated_at": timestamp(avatar.created_at),
    }
