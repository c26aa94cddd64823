"""`POST /v1/avatars/upload-face`."""

import base64
import re
from typing import Any

import cv2
import numpy as np
import pytest

from agenthuman_plugins.client.errors import ConfigurationError
from agenthuman_plugins.emulator._faces import make_avatar_pictures
from tests.contract.bodies import load as documented
from tests.emulator import pictures
from tests.emulator.pictures import encoded, face, portrait, two_faces
from tests.emulator.walk.walk import Walk, check, client_of, shape, web_with

_PATH = "/v1/avatars/upload-face"
_URL = "https://pictures.example/me.png"


def _base64(picture: bytes) -> str:
    return base64.b64encode(picture).decode()


def _pixels(jpeg: bytes) -> Any:
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)


async def _refused(walk: Walk, picture: bytes) -> tuple[int, str]:
    return await walk.refused("POST", _PATH, files={"file": ("a", picture, "image/png")})


async def _fetched(walk: Walk, **request: Any) -> list[str]:
    with web_with(portrait()) as asked:
        reply = await walk.http.post(_PATH, **request)
    assert reply.status_code == 200, reply.text
    return asked


@check(plan="pro")
async def file(walk: Walk):
    assert (await walk.upload())["success"] is True


@check(plan="pro")
async def image_url_as_json(walk: Walk):
    assert await _fetched(walk, json={"image_url": _URL}) == [_URL]


@check(plan="pro")
async def image_url_in_a_form(walk: Walk):
    assert await _fetched(walk, files={"image_url": (None, _URL)}) == [_URL]


@check(plan="pro")
async def image_base64_as_json(walk: Walk):
    assert (await walk.ok("POST", _PATH, {"image_base64": _base64(portrait())}))["success"] is True


@check(plan="pro")
async def image_base64_in_a_form(walk: Walk):
    files = {"image_base64": (None, _base64(portrait()))}
    assert (await walk.ok("POST", _PATH, files=files))["success"] is True


@check(plan="pro")
async def data_uri(walk: Walk):
    image = f"data:image/png;base64,{_base64(portrait())}"
    assert (await walk.ok("POST", _PATH, {"image_base64": image}))["success"] is True


@check(plan="pro")
async def exactly_one(walk: Walk):
    for body in ({}, {"image_url": _URL, "image_base64": _base64(portrait())}):
        assert (await walk.refused("POST", _PATH, body))[0] == 400
    files = {"file": ("a.png", portrait(), "image/png"), "image_base64": (None, _base64(portrait()))}
    assert (await walk.refused("POST", _PATH, files=files))[0] == 400


@check()
async def exactly_one_is_sent():
    async with client_of() as (client, asked):
        for forms in ({}, {"file": portrait(), "image_url": _URL}):
            with pytest.raises(ConfigurationError):
                await client.avatars.upload_face(**forms)
    assert asked == []


@check(plan="pro")
async def formats(walk: Walk):
    gif = cv2.imencode(".gif", face())[1].tobytes()
    for picture in (*(encoded(face(), kind) for kind in (".png", ".jpg", ".webp")), gif):
        assert (await walk.upload(picture))["success"] is True


@check(plan="pro")
async def other_format(walk: Walk):
    for picture in (b"%PDF-1.7", encoded(face(), ".bmp"), b"<svg xmlns='http://www.w3.org/2000/svg'/>"):
        assert (await _refused(walk, picture))[0] == 400


@check(plan="pro")
async def size_limit(walk: Walk):
    padded = portrait() + bytes(10 * 1024 * 1024)
    assert (await _refused(walk, padded))[0] >= 400
    assert (await walk.refused("POST", _PATH, {"image_base64": _base64(padded)}))[0] >= 400
    assert (await walk.upload(padded[: 9 * 1024 * 1024]))["success"] is True


@check()
async def size_is_checked():
    async with client_of() as (client, asked):
        with pytest.raises(ConfigurationError):
            await client.avatars.upload_face(portrait() + bytes(10 * 1024 * 1024))
    assert asked == []


@check(plan="pro")
async def no_face(walk: Walk):
    assert (await _refused(walk, pictures.no_face()))[0] == 400


@check(plan="pro")
async def group(walk: Walk):
    assert (await _refused(walk, two_faces()))[0] == 400


@check(plan="pro")
async def full_body(walk: Walk):
    small = cv2.resize(face(), None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    picture = np.full((900, 900, 3), 90, np.uint8)
    picture[50 : 50 + small.shape[0], 400 : 400 + small.shape[1]] = small
    assert (await _refused(walk, encoded(picture)))[0] == 400


@check(plan="pro")
async def illustration(walk: Walk):
    assert (await walk.upload(portrait()))["success"] is True


@check()
async def moderation(walk: Walk):
    paths = (await walk.ok("GET", "/openapi.json"))["paths"]
    assert "415" not in paths[_PATH]["post"]["responses"]


@check()
def orientation():
    for rotation in (cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180):
        _, image = make_avatar_pictures(encoded(cv2.rotate(face(), rotation)))
        assert np.abs(_pixels(image).astype(int) - face()).mean() < 10


@check()
def aligned():
    picture = np.hstack([np.full((face().shape[0], 300, 3), 90, np.uint8), face()])
    middle, left = make_avatar_pictures(encoded(face()))[0], make_avatar_pictures(encoded(picture))[0]
    assert np.abs(_pixels(middle).astype(int) - _pixels(left)).mean() < 25


@check(plan="pro")
async def reply(walk: Walk):
    assert shape(await walk.upload()) == shape(documented("avatar-uploaded"))


@check(plan="pro")
async def preview_size(walk: Walk):
    picture = await walk.http.get((await walk.upload())["preview_url"])
    assert _pixels(picture.content).shape[:2] == (500, 500)


@check(plan="pro")
async def image_size(walk: Walk):
    large = encoded(cv2.resize(face(), None, fx=4, fy=4), ".jpg")
    picture = await walk.http.get((await walk.upload(large))["image_url"])
    assert _pixels(picture.content).shape[1] == 1200


@check(plan="pro")
async def signed_urls(walk: Walk):
    url = (await walk.upload())["preview_url"]
    walk.clock.advance(days=300)
    assert "?" not in url
    assert (await walk.http.get(url, headers={"x-api-key": ""})).status_code == 200


@check(plan="pro")
async def id(walk: Walk):  # noqa: A001 - the name of its fact
    assert re.fullmatch("avat_[0-9A-HJKMNP-TV-Z]{26}", (await walk.upload())["avatar_id"])


@check(plan="pro")
async def id_is_used(walk: Walk):
    avatar_id = (await walk.upload())["avatar_id"]
    await walk.create(avatar=avatar_id)
    assert walk.record()["avatar"] == avatar_id


@check(plan="pro")
async def face_in_the_room(walk: Walk):
    uploaded = await walk.upload()
    session = await walk.create(avatar=uploaded["avatar_id"])
    job = walk.service.job(walk.service.store.get(session["session_id"]))
    assert job is not None
    assert {name for name in job.__slots__ if isinstance(getattr(job, name), bytes)} == set()


@check(plan="explorer")
async def allowance(walk: Walk):
    await walk.upload()
    assert (await walk.usage())["avatars"]["used"] == 1


@check(plan="pro")
async def status_of_errors(walk: Walk):
    assert await _refused(walk, pictures.no_face()) == (400, "No face detected")
