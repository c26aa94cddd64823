"""Avatars of pictures: which are taken, in which forms, and what is said of the others."""

import base64
import os
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from agenthuman_plugins.emulator import _pictures
from agenthuman_plugins.emulator._faces import make_avatar_pictures
from agenthuman_plugins.emulator._pictures import parse_upload
from tests.emulator.fakes import PROXY, World
from tests.emulator.pictures import encoded, face, no_face, portrait, two_faces
from tests.emulator.walk.walk import AGENT

_UPLOAD = "/v1/avatars/upload-face"
_URL = "https://pictures.example/me.png"


@pytest.fixture
def rules() -> dict[str, Any]:
    return {"plan": "pro"}


def as_base64(picture: bytes) -> str:
    return base64.b64encode(picture).decode()


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The pictures of the web, by address."""
    pages: dict[str, bytes] = {}

    async def fetch(url: str, allow_private: bool) -> bytes:
        return pages[url]

    monkeypatch.setattr("agenthuman_plugins.emulator._service.fetch", fetch)
    return pages


@pytest.mark.parametrize("kind", [".png", ".jpg", ".webp"])
@pytest.mark.parametrize(
    "form",
    [
        lambda picture: {"files": {"file": ("a", picture, "image/png")}},
        lambda picture: {"json": {"image_base64": as_base64(picture)}},
        lambda picture: {"json": {"image_base64": f"data:image/png;base64,{as_base64(picture)}"}},
        lambda picture: {"files": {"image_base64": (None, as_base64(picture))}},
    ],
)
async def test_one_face_makes_an_avatar(form: Any, kind: str, world: World):
    """Each form of the call and each format makes an avatar of one's own, whose pictures are served without a key."""
    reply = await world.http.post(_UPLOAD, **form(encoded(face(), kind)))
    assert reply.status_code == 200, reply.text
    del world.http.headers["x-api-key"]
    preview = await world.http.get(reply.json()["preview_url"])
    shown = cv2.imdecode(np.frombuffer(preview.content, np.uint8), cv2.IMREAD_COLOR)
    assert shown.shape == (500, 500, 3)
    assert (await world.http.get(reply.json()["image_url"])).headers["content-type"] == "image/jpeg"


@pytest.mark.parametrize("form", ["json", "files"])
async def test_picture_is_fetched(form: str, web: dict[str, bytes], world: World):
    """An address is fetched, whether it comes as JSON or in a form."""
    web[_URL] = portrait()
    fields = {"json": {"image_url": _URL}, "files": {"image_url": (None, _URL)}}[form]
    reply = await world.http.post(_UPLOAD, **{form: fields})
    assert reply.status_code == 200, reply.text


@pytest.mark.parametrize(
    "rotation", [cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180]
)
def test_face_is_turned_upright(rotation: int):
    """A picture that lies on its side, or its head, is turned."""
    _, image = make_avatar_pictures(encoded(cv2.rotate(face(), rotation)))
    assert cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR).shape == face().shape


def test_large_picture_is_made_smaller():
    """What is served is at most 1200 pixels wide."""
    large = cv2.resize(face(), None, fx=4, fy=4)
    _, image = make_avatar_pictures(encoded(large, ".jpg"))
    assert cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR).shape[1] == 1_200


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"files": {"file": ("a", two_faces(), "image/png")}}, "Multiple faces detected"),
        ({"files": {"file": ("a", no_face(), "image/png")}}, "No face detected"),
        ({"files": {"file": ("a", b"%PDF-1.7", "image/png")}}, "Unsupported image format"),
        ({"files": {"file": ("a", b"\x89PNG\r\n\x1a\n????", "image/png")}}, "The image could not be read"),
        ({"files": {"file": ("a", b"GIF89a" + bytes(10 << 20), "image/gif")}}, "The image is too large"),
        ({"json": {}}, "No file uploaded"),
        ({"json": {"image_base64": "?"}}, "image_base64 is not valid base64"),
        ({"json": {"image_base64": 7}}, "image_base64 must be a string"),
        ({"json": {"image_url": "file:///etc/hostname"}}, "Invalid image_url"),
        ({"json": {"image_url": _URL, "image_base64": "AAAA"}}, "More than one image was sent"),
        ({"content": b"{"}, "The request body is not valid JSON"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, "No file uploaded"),
    ],
)
async def test_picture_that_makes_no_avatar(request_: Any, message: str, world: World):
    """Anything but one picture of exactly one prominent face is HTTP 400 with its reason, and makes nothing."""
    reply = await world.http.post(_UPLOAD, **request_)
    assert (reply.status_code, reply.json()["error"]["message"]) == (400, message)
    assert world.service.catalogue.own == []


async def test_picture_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch):
    """An address without a picture is the caller's mistake, not ours."""
    transport = httpx.MockTransport(lambda _: httpx.Response(404))
    real = httpx.AsyncClient
    monkeypatch.setattr(httpx, "AsyncClient", lambda **options: real(transport=transport, **options))
    with pytest.raises(Exception, match="could not be fetched"):
        await _pictures.fetch("http://192.0.2.1/me.png", allow_private=True)


def test_form_keeps_every_byte():
    """A file comes out of a form as it went in, whatever bytes and line ends it has."""
    content = bytes(range(256)) + b"\r\n--\r\n\n\r" + os.urandom(5_000) + b"\r\n"
    request = httpx.Request("POST", "http://x", files={"file": ("ü.png", content, "image/png")})
    assert parse_upload(request.headers["content-type"], request.read()) == ("file", content)


async def test_allowance(world_of: Any):
    """The free plan includes no avatars; a paid one as many as documented, deleted ones counted."""
    free = world_of(plan="free")
    reply = await free.http.post(_UPLOAD, files={"file": portrait()})
    assert (reply.status_code, reply.json()["error"]["code"]) == (403, "AVATAR_LIMIT_REACHED")
    explorer = world_of(plan="explorer")
    for _ in range(20):
        avatar = explorer.service.catalogue.add(b"", b"")
    explorer.service.catalogue.delete(avatar.avatar_id)
    reply = await explorer.http.post(_UPLOAD, files={"file": portrait()})
    assert reply.json()["error"]["code"] == "AVATAR_LIMIT_REACHED"


@pytest.mark.parametrize("picture", [portrait, no_face])
async def test_picture_of_a_session_is_checked_alike(picture: Any, world: World):
    """A create with a picture runs through the same checks; a refused one opens nothing."""
    data_uri = f"data:image/png;base64,{as_base64(picture())}"
    reply = await world.http.post("/v1/sessions", json=PROXY | {"avatar": data_uri})
    good = picture is portrait
    assert reply.status_code == (200 if good else 400)
    assert len(await world.observed()) == len(world.service.catalogue.own) == good


async def test_picture_of_a_session_becomes_its_avatar(world: World):
    """The avatar that a create makes of a picture is in the list, in the usage and in the room, with its picture."""
    await world.create(avatar=f"data:image/png;base64,{as_base64(portrait())}")
    (avatar,) = (await world.http.get("/v1/avatars")).json()["my_avatars"]
    usage = (await world.http.get("/v1/usage")).json()["usage"]
    assert usage["avatars"]["used"] == 1
    assert usage["active_sessions"][0]["avatar"]["avatar_id"] == avatar["avatar_id"]
    assert world.avatars[0].job.avatar == (await world.observed())[0]["avatar"] == avatar["avatar_id"]
    assert usage["active_sessions"][0]["avatar"]["url"] == avatar["preview_url"]
    assert (await world.http.get(avatar["preview_url"])).content == world.service.catalogue.own[0].preview
    await world.create(avatar=avatar["avatar_id"])


async def test_refused_create_makes_no_avatar(world_of: Any):
    """A create that is refused while its picture is checked leaves no avatar behind."""
    world = world_of(plan="pro", metadata="refused")
    avatar = f"data:image/png;base64,{as_base64(portrait())}"
    reply = await world.http.post("/v1/sessions", json=PROXY | {"avatar": avatar, "metadata": {"a": 1}})
    assert (reply.status_code, world.service.catalogue.own) == (400, [])


@pytest.mark.parametrize("avatar_id", ["avat_exclusive", "avat_unknown", "PUBLIC/Avatars/sara-office"])
async def test_only_own_avatars_can_be_deleted(avatar_id: str, world: World):
    """What is none of one's own is not found, another account's avatar like one that does not exist."""
    assert (await world.http.delete(f"/v1/avatars/{avatar_id}")).status_code == 404


async def test_deleted_avatar_is_gone(world: World):
    """A deleted avatar is in no list and in no session."""
    uploaded = (await world.http.post(_UPLOAD, files={"file": portrait()})).json()
    await world.http.delete(f"/v1/avatars/{uploaded['avatar_id']}")
    assert (await world.http.get("/v1/avatars")).json()["my_avatars"] == []
    reply = await world.http.post("/v1/sessions", json=PROXY | {"avatar": uploaded["avatar_id"]})
    assert reply.status_code == 404
    assert (await world.http.get(uploaded["preview_url"])).status_code == 404


@pytest.mark.parametrize("own", [False, True])
async def test_preview_shows_the_avatar(own: bool, world: World):
    """The session of a preview has the avatar that was asked for."""
    avatar_id = "PUBLIC/Avatars/sara-office"
    if own:
        avatar_id = (await world.http.post(_UPLOAD, files={"file": portrait()})).json()["avatar_id"]
    preview = (await world.http.post("/v1/avatars/preview", json={"avatar_id": avatar_id})).json()["url"]
    start = {"link_id": preview.rpartition("/")[2]}
    assert (await world.http.post("/v1/links/start-session", json=start)).status_code == 200
    assert world.avatars[0].job.avatar == (await world.observed())[0]["avatar"] == avatar_id


async def test_agent_with_a_picture_from_elsewhere(world: World):
    """A picture that is not ours is not fetched: it stands for one avatar, whose picture is there all the same."""
    for _ in range(2):
        agent = AGENT | {"avatar_image_url": _URL}
        agent_id = (await world.http.post("/v1/agents", json=agent)).json()["agent"]["agent_id"]
        link = (await world.http.post("/v1/links", json={"agent_id": agent_id})).json()["link"]
        await world.http.post("/v1/links/start-session", json={"link_id": link["link_id"]})
    assert world.avatars[0].job.avatar == world.avatars[1].job.avatar
    shown = (await world.http.get("/v1/usage")).json()["usage"]["active_sessions"][0]["avatar"]
    assert (await world.http.get(shown["url"])).status_code == 200


async def test_public_avatar_is_drawn(world: World):
    """A public avatar's picture is the face that its sessions have."""
    avatar = (await world.http.get("/v1/avatars")).json()["public_avatars"][0]
    assert avatar["avatar_id"] == "PUBLIC/Avatars/sara-office"
    picture = await world.http.get(avatar["image_url"])
    assert make_avatar_pictures(picture.content)
