"""`GET /v1/avatars` of today."""

from urllib.parse import quote

import cv2
import httpx
import numpy as np

from tests.contract.bodies import load as documented
from tests.emulator.walk import models
from tests.emulator.walk.walk import Walk, check, client_of, shape


async def _listed(walk: Walk) -> list[dict[str, str]]:
    await walk.upload()
    answer = await walk.ok("GET", "/v1/avatars")
    return [*answer["public_avatars"], *answer["my_avatars"]]


async def _shape_of(walk: Walk, kind: str) -> set[tuple[int, int]]:
    replies = [await walk.http.get(avatar[kind]) for avatar in await _listed(walk)]
    pictures = [cv2.imdecode(np.frombuffer(each.content, np.uint8), cv2.IMREAD_COLOR) for each in replies]
    return {picture.shape[:2] for picture in pictures}


@check(plan="pro")
async def reply(walk: Walk):
    await walk.upload()
    answer, example = await walk.ok("GET", "/v1/avatars"), documented("avatar-list-own-room")
    for listed in ("public_avatars", "my_avatars"):
        answer[listed] = answer[listed][:1]
    assert shape({**answer, "tags": []}) == shape({**example, "tags": []})


@check(plan="pro")
async def schema(walk: Walk):
    for avatar in await _listed(walk):
        assert models.Avatar.model_validate(avatar).model_fields_set == set(models.Avatar.model_fields)


@check()
async def public_ids(walk: Walk):
    public = (await walk.ok("GET", "/v1/avatars"))["public_avatars"]
    assert public
    assert all(avatar["avatar_id"].startswith("PUBLIC/Avatars/") for avatar in public)


@check()
async def encoded_ids(walk: Walk):
    avatar_id = "PUBLIC/Avatars/sara-office"
    async with client_of(httpx.Response(200, json={"success": True})) as (client, asked):
        await client.avatars.delete(avatar_id)
    path = f"/v1/avatars/{quote(avatar_id, safe='')}"
    assert asked[0].url.raw_path.decode() == path
    assert await walk.refused("DELETE", path) == (404, "Avatar not found")


@check()
async def any_id_is_sent():
    async with client_of(httpx.Response(200, json=documented("session-created-own-room"))) as (client, asked):
        await client.sessions.create(avatar="PUBLIC/Avatars/sara-office")
    assert b"PUBLIC/Avatars/sara-office" in asked[0].content


@check(plan="pro")
async def own_tag(walk: Walk):
    await walk.upload()
    answer = await walk.ok("GET", "/v1/avatars")
    assert all("user_exclusive" in avatar["tags"] for avatar in answer["my_avatars"])
    assert not any("user_exclusive" in avatar["tags"] for avatar in answer["public_avatars"])


@check(plan="pro")
async def own_are_listed(walk: Walk):
    uploaded = await walk.upload()
    (listed,) = (await walk.ok("GET", "/v1/avatars"))["my_avatars"]
    assert {
        name: listed[name] for name in ("avatar_id", "preview_url", "image_url")
    }.items() <= uploaded.items()


@check(plan="pro")
async def preview_size(walk: Walk):
    assert await _shape_of(walk, "preview_url") == {(500, 500)}


@check(plan="pro")
async def image_width(walk: Walk):
    assert max(width for _, width in await _shape_of(walk, "image_url")) <= 1200


@check()
async def older_lists():
    avatar = {"avatar_id": "avat_1"}
    for body in ({"success": True, "avatars": [avatar]}, [avatar]):
        async with client_of(httpx.Response(200, json=body)) as (client, _):
            assert [each.avatar_id for each in (await client.avatars.list()).all] == ["avat_1"]
