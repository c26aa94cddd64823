"""Pictures on their way to `upload-face`: where they come from, what is refused, and who is told how far it is."""

import base64
import io
import threading
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP
from pathlib import Path
from typing import Any

import httpx
import pytest

from agenthuman_plugins.client import APITimeoutError, ConfigurationError
from tests.client.conftest import FakeService, Handle, Reply

PNG = b"\x89PNG\r\n\x1a\n" + bytes(200_000)
ENCODED = base64.b64encode(PNG).decode()
UPLOADED = Reply(
    200,
    {
        "success": True,
        "preview_url": "https://e.com/p",
        "image_url": "https://e.com/i",
        "avatar_id": "avat_1",
    },
)
MIB = 1024 * 1024


def form(request: httpx.Request) -> dict[str, Message]:
    """Read the parts of a multipart body by their names."""
    head = f"content-type: {request.headers['content-type']}\r\n\r\n".encode()
    whole = BytesParser(policy=HTTP).parsebytes(head + request.content)
    return {str(part.get_param("name", header="content-disposition")): part for part in whole.iter_parts()}


@pytest.mark.parametrize("source", ["path", "path-as-text", "bytes", "bytearray", "file"])
def test_picture_from_everywhere_is_the_field_file(
    source: str, client: Handle, service: FakeService, tmp_path: Path
) -> None:
    """A path, bytes or an open file become one form field, under a name that tells nothing of the machine."""
    path = tmp_path / "my secret name.png"
    path.write_bytes(PNG)
    service.faults.append(UPLOADED)
    with path.open("rb") as opened:
        given = {
            "path": path,
            "path-as-text": str(path),
            "bytes": PNG,
            "bytearray": bytearray(PNG),
            "file": opened,
        }[source]
        assert client(lambda c: c.avatars.upload_face(given)).avatar_id == "avat_1"
        assert not opened.closed
    (part,) = form(service.requests[0]).values()
    assert part.get_param("name", header="content-disposition") == "file"
    assert part.get_filename() == "face.png"
    assert part.get_content_type() == "image/png"
    assert part.get_payload(decode=True) == PNG
    assert b"secret" not in service.requests[0].content


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
def test_base64_is_sent_as_it_is(prefix: str, client: Handle, service: FakeService) -> None:
    """Base64 goes into `image_base64`, with the prefix of a data URI or without."""
    service.faults.append(UPLOADED)
    client(lambda c: c.avatars.upload_face(image_base64=f"{prefix}{ENCODED}\n"))
    assert service.bodies("POST", "/v1/avatars/upload-face") == [{"image_base64": prefix + ENCODED}]


@pytest.mark.parametrize(
    ("first_bytes", "media_type"),
    [
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"GIF87a", "image/gif"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\x0a\x00\x00\x00WEBP", "image/webp"),
    ],
)
def test_type_is_read_from_the_picture(
    first_bytes: bytes, media_type: str, client: Handle, service: FakeService
) -> None:
    """Every documented type is known by its first bytes, whatever the file is called."""
    service.faults.append(UPLOADED)
    client(lambda c: c.avatars.upload_face(first_bytes + bytes(10)))
    assert form(service.requests[0])["file"].get_content_type() == media_type


def test_progress_ends_at_the_whole(client: Handle, service: FakeService) -> None:
    """The callback hears of growing parts of one total, and at last of all of it."""
    heard: list[tuple[int, int]] = []
    service.faults.append(UPLOADED)
    client(lambda c: c.avatars.upload_face(PNG, on_progress=lambda sent, total: heard.append((sent, total))))
    assert heard == sorted(set(heard))
    assert {total for _, total in heard} == {len(PNG)}
    assert heard[-1] == (len(PNG), len(PNG))
    assert len(heard) > 1


def test_upload_that_is_sent_again_starts_anew(client: Handle, service: FakeService) -> None:
    """After a rate limit the whole picture is sent again, and progress starts from the beginning."""
    heard: list[int] = []
    service.faults.extend([Reply(429), UPLOADED])
    client(lambda c: c.avatars.upload_face(io.BytesIO(PNG), on_progress=lambda sent, _: heard.append(sent)))
    assert [form(request)["file"].get_payload(decode=True) for request in service.requests] == [PNG, PNG]
    assert heard == heard[: len(heard) // 2] * 2


def test_lost_upload_is_not_sent_again(client: Handle, service: FakeService) -> None:
    """Each avatar counts against the plan, so an upload that may have arrived is not repeated."""
    service.faults.extend([httpx.ReadTimeout, UPLOADED])
    with pytest.raises(APITimeoutError):
        client(lambda c: c.avatars.upload_face(PNG))
    assert len(service.requests) == 1


def test_error_in_the_callback_is_the_callers(client: Handle, service: FakeService) -> None:
    """What the callback raises stops the upload and comes out as it is."""

    def stop(sent: int, total: int) -> None:
        raise KeyError(sent)

    with pytest.raises(KeyError):
        client(lambda c: c.avatars.upload_face(PNG, on_progress=stop))


class Wary(io.BytesIO):
    """A file that notes how it is read."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.asked: list[int | None] = []
        self.threads: set[int] = set()

    def read(self, size: int | None = -1, /) -> bytes:
        self.asked.append(size)
        self.threads.add(threading.get_ident())
        return super().read(size)


def test_large_file_is_refused_without_reading_it_all(client: Handle, service: FakeService) -> None:
    """One byte more than allowed is enough to know."""
    file = Wary(PNG + bytes(11 * MIB))
    with pytest.raises(ConfigurationError, match="more than 10 MiB"):
        client(lambda c: c.avatars.upload_face(file))
    assert file.asked == [10 * MIB + 1]
    assert service.requests == []


@pytest.mark.parametrize("excess", [0, 1])
def test_largest_picture_is_taken(excess: int, client: Handle, service: FakeService, tmp_path: Path) -> None:
    """A file of exactly 10 MiB is not too large; one byte more is, and is not cut off in silence."""
    path = tmp_path / "large.png"
    path.write_bytes(PNG.ljust(10 * MIB + excess, b"\0"))
    service.faults.append(UPLOADED)
    if excess:
        with pytest.raises(ConfigurationError, match="more than 10 MiB"):
            client(lambda c: c.avatars.upload_face(path))
    else:
        client(lambda c: c.avatars.upload_face(path))
    assert len(service.requests) == 1 - excess


async def test_file_is_not_read_on_the_event_loop(service: FakeService) -> None:
    """A slow disk holds up nobody but the upload: the caller's file is read in another thread."""
    file = Wary(PNG)
    async with httpx.AsyncClient(transport=httpx.MockTransport(service.handle)) as http:
        from agenthuman_plugins.client import AsyncAgentHuman  # noqa: PLC0415 - beside its only use

        service.faults.append(UPLOADED)
        await AsyncAgentHuman(api_key="ah_test_1", http_client=http).avatars.upload_face(file)
    assert threading.get_ident() not in file.threads


def test_file_is_read_from_where_it_stands(client: Handle, service: FakeService) -> None:
    """An open file belongs to the caller, who may have read a header of his own from it."""
    file = io.BytesIO(b"own header" + PNG)
    file.seek(len(b"own header"))
    service.faults.append(UPLOADED)
    client(lambda c: c.avatars.upload_face(file))
    assert form(service.requests[0])["file"].get_payload(decode=True) == PNG


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        pytest.param({}, "one of file, image_url and image_base64, not none of them", id="nothing"),
        pytest.param({"file": PNG, "image_url": "https://e.com/i"}, "not file and image_url", id="two"),
        pytest.param({"file": b""}, "no picture in it", id="empty"),
        pytest.param({"file": b"%PDF-1.7"}, "jpeg, png, gif or webp", id="another-type"),
        pytest.param({"file": "no/such/face.png"}, "No such file", id="missing"),
        pytest.param({"file": "face\0.png"}, "could not be read", id="odd-path"),
        pytest.param({"file": "https://e.com/i.png"}, "a URL belongs in image_url", id="url-as-path"),
        pytest.param({"file": "data:image/png;base64,QQ=="}, "a data URI in image_base64", id="data-as-path"),
        pytest.param({"file": io.StringIO("face")}, "mode 'rb'", id="text-file"),
        pytest.param({"file": 7}, "a path, bytes or a binary file, not int", id="number"),
        pytest.param({"image_url": "face.png"}, "image_url is not a complete http", id="path-as-url"),
        pytest.param({"image_base64": "QQ=="}, "jpeg, png, gif or webp", id="base64-of-another-type"),
        pytest.param({"image_base64": "?"}, "cannot be decoded", id="broken-base64"),
        pytest.param({"image_base64": PNG}, "bytes belong in file", id="bytes-as-base64"),
        pytest.param(
            {"image_base64": base64.b64encode(PNG + bytes(10 * MIB)).decode()},
            "more than 10 MiB",
            id="large-base64",
        ),
    ],
)
def test_wrong_picture_is_a_sentence_and_nothing_leaves(
    arguments: dict[str, Any], sentence: str, client: Handle, service: FakeService
) -> None:
    """The message says what was wrong and what is allowed, and no request is made."""
    with pytest.raises(ConfigurationError, match=sentence) as caught:
        client(lambda c: c.avatars.upload_face(**arguments))
    assert len(str(caught.value)) < 250
    assert service.requests == []
