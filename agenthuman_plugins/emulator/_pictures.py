"""Pictures that callers send: as a file of a form, as base64, or as a URL to fetch."""

import asyncio
import base64
import binascii
import email
import email.policy
from typing import Any

import httpx

from agenthuman_plugins.client.addresses import is_this_machine
from agenthuman_plugins.emulator._errors import bad_request
from agenthuman_plugins.emulator._faces import MAX_BYTES
from agenthuman_plugins.emulator._requests import parse_json

_FIELDS = ("file", "image_url", "image_base64")
_FETCH_TIMEOUT_S = 10.0  # with all redirects
_MAX_HOPS = 5  # redirects are followed one by one: each may lead to this machine, or away from it
_ONE_OF = "Send exactly one of file, image_url and image_base64"


def parse_upload(content_type: str, body: bytes) -> tuple[str, bytes | str]:
    """Return which of the three fields an upload has, and its value. Blocks for a moment on large forms.

    Raises:
        ServiceError: It has none of them or several, or cannot be read.
    """
    if content_type.startswith("multipart/form-data"):
        fields = _form(content_type, body)
    else:
        parsed = parse_json(body)
        if not isinstance(parsed, dict):
            raise bad_request("The request body must be a JSON object")
        fields = {name: parsed[name] for name in _FIELDS[1:] if parsed.get(name) is not None}
    given = [name for name in _FIELDS if name in fields]
    if not given:
        raise bad_request("No file uploaded", _ONE_OF)
    if len(given) > 1:
        raise bad_request("More than one image was sent", _ONE_OF)
    value = fields[given[0]]
    if not isinstance(value, str | bytes):
        raise bad_request(f"{given[0]} must be a string", _ONE_OF)
    return given[0], value


def decode_base64(text: str) -> bytes:
    """Decode an image with or without the head of a data URI.

    Raises:
        ServiceError: It is no base64.
    """
    encoded = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError):
        raise bad_request("image_base64 is not valid base64") from None


async def fetch(url: str) -> bytes:
    """Fetch an image; from this machine without a proxy, from elsewhere as the environment says.

    Raises:
        ServiceError: There is none, or it is too large.
    """
    if not url.startswith(("http://", "https://")):
        raise bad_request("Invalid image_url", "Use a public http or https URL")
    try:
        async with asyncio.timeout(_FETCH_TIMEOUT_S):
            return await _get(httpx.URL(url))
    # The last two: a proxy of the environment that httpx cannot use.
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError, ImportError):
        raise bad_request("The image could not be fetched", "Use a public http or https URL") from None


async def _get(url: httpx.URL) -> bytes:
    for _ in range(_MAX_HOPS):
        async with (
            httpx.AsyncClient(timeout=_FETCH_TIMEOUT_S, trust_env=not is_this_machine(url.host)) as http,
            http.stream("GET", url) as reply,
        ):
            if reply.next_request is not None:
                url = reply.next_request.url
                continue
            reply.raise_for_status()
            content = bytearray()
            async for chunk in reply.aiter_bytes():
                content += chunk
                if len(content) > MAX_BYTES:
                    break  # the check of the size tells the caller
            return bytes(content)
    raise httpx.TooManyRedirects("Too many redirects.")


def _form(content_type: str, body: bytes) -> dict[str, Any]:
    # A form is a MIME message whose header came as the request's.
    head = f"Content-Type: {content_type}\r\n\r\n".encode("latin-1", "replace")
    message = email.message_from_bytes(head + body, policy=email.policy.HTTP)
    fields: dict[str, Any] = {}
    for part in message.iter_parts() if message.is_multipart() else ():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        if name in _FIELDS and isinstance(content, bytes):
            fields[name] = content if name == "file" else content.decode(errors="replace")
    return fields
