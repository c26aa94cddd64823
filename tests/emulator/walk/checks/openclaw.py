"""`POST /v1/openclaw/initiate`."""

from tests.contract.bodies import load as documented
from tests.emulator.walk.walk import Walk, check, shape

_PATH = "/v1/openclaw/initiate"


@check()
async def reply(walk: Walk):
    assert shape(await walk.ok("POST", _PATH, {})) == shape(documented("openclaw-initiated"))


@check(plan="pro")
async def all_optional(walk: Walk):
    assert await walk.ok("POST", _PATH, {})


@check(plan="pro")
async def avatar_id(walk: Walk):
    room = (await walk.ok("POST", _PATH, {"avatar": "avat_1"}))["room"]
    job = walk.service.job(walk.service.store.get(walk.record()["session_id"]))
    assert job is not None
    assert (job.avatar, job.url) == ("avat_1", room["url"])
    for avatar in ("avat_unknown", "https://a.example/b.jpg", "PUBLIC/Avatars/sara-office", 7):
        assert (await walk.refused("POST", _PATH, {"avatar": avatar}))[0] >= 400


@check(plan="pro")
async def ratios(walk: Walk):
    for ratio in ("1:1", "4:3", "3:4"):
        assert await walk.ok("POST", _PATH, {"aspect_ratio": ratio})
    assert (await walk.refused("POST", _PATH, {"aspect_ratio": "16:9"}))[0] == 400


@check()
async def other_fields(walk: Walk):
    for body in ({"voice_id": 7}, {"enable_transcription": "yes"}):
        assert (await walk.refused("POST", _PATH, body))[0] == 400
    assert await walk.ok("POST", _PATH, {"voice_id": "v1", "enable_transcription": False})


@check()
async def no_session_id(walk: Walk):
    assert set(await walk.ok("POST", _PATH, {})) == {"success", "room"}


@check()
async def starts_with_the_client(walk: Walk):
    await walk.ok("POST", _PATH, {})
    assert walk.record()["status"] == "started"
    assert (await walk.usage())["concurrency"]["current"] == 1


@check()
async def default_ratio(walk: Walk):
    await walk.ok("POST", _PATH, {})
    assert walk.record()["aspect_ratio"] == "1:1"


@check()
async def reached_by_request(walk: Walk):
    answer = await walk.client.request("POST", _PATH, json={})
    assert answer["room"]["url"]
