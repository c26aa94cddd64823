"""`DELETE /v1/avatars/{id}`."""

from urllib.parse import quote

from tests.contract.bodies import load as documented
from tests.emulator.walk.walk import Walk, check


@check(plan="pro")
async def reply(walk: Walk):
    uploaded = await walk.upload()
    assert await walk.ok("DELETE", f"/v1/avatars/{uploaded['avatar_id']}") == documented("avatar-deleted")


@check(plan="pro")
async def permanent(walk: Walk):
    uploaded = await walk.upload()
    await walk.ok("DELETE", f"/v1/avatars/{uploaded['avatar_id']}")
    assert (await walk.ok("GET", "/v1/avatars"))["my_avatars"] == []
    assert (await walk.refused_create(avatar=uploaded["avatar_id"]))[0] == 404
    assert (await walk.refused("DELETE", f"/v1/avatars/{uploaded['avatar_id']}"))[0] == 404


@check()
async def public_avatar(walk: Walk):
    for avatar in (await walk.ok("GET", "/v1/avatars"))["public_avatars"]:
        path = f"/v1/avatars/{quote(avatar['avatar_id'], safe='')}"
        assert (await walk.refused("DELETE", path))[0] == 404


@check()
async def another_accounts(walk: Walk):
    assert await walk.refused("DELETE", "/v1/avatars/avat_exclusive") == (404, "Avatar not found")
