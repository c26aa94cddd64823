"""Pictures that callers send: as a file of a form, as base64, or as a URL to fetch."""

import asyncio
import base64
import binascii
import email
import email.message
import ipaddress
import socket
import urllib.request
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Any

import httpx

from agenthuman_plugins.client.addresses import is_this_machine
from agenthuman_plugins.emulator._errors import bad_request
from agenthuman_plugins.emulator._requests import parse_json

MAX_BYTES = 10 * 1024 * 1024  # of a picture's file
_FIELDS = ("file", "image_url", "image_base64")
_FETCH_TIMEOUT_S = 10.0  # with all redirects
_MAX_HOPS = 5  # redirects are followed one by one: each may lead to this machine, or away from it
_PUBLIC_ONLY = "Use a public http or https URL; private addresses are refused unless the emulator allows them"
_GLOBAL_UNICAST = IPv6Network("2000::/3")  # RFC 4291, section 2.4
_MAX_PARTS = 20  # of a form; one is needed
_MAX_HEADER = 4_096  # bytes of a part's header, of which a form needs one line or two
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


async def fetch(url: str, allow_private: bool) -> bytes:
    """Fetch an image; from this machine without a proxy, from elsewhere as the environment says.

    Every failure has the same text, which reveals nothing about what is behind a private address.

    Args:
        url: Where the image is.
        allow_private: Whether addresses of this machine and of private networks are taken, too.

    Raises:
        ServiceError: There is none, or its address is not public.
    """
    if not url.startswith(("http://", "https://")):
        raise bad_request("Invalid image_url", _PUBLIC_ONLY)
    try:
        async with asyncio.timeout(_FETCH_TIMEOUT_S):
            return await _get(httpx.URL(url), allow_private)
    # The last three: names that do not resolve, and a proxy of the environment that httpx cannot use.
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError, ValueError, ImportError):
        raise bad_request("The image could not be fetched", _PUBLIC_ONLY) from None


async def _get(url: httpx.URL, allow_private: bool) -> bytes:
    for _ in range(_MAX_HOPS):
        address = await _resolve(url, allow_private)
        # A proxy looks the name up itself, and could not check a certificate against an address.
        proxied = _has_proxy(url) and not is_this_machine(address)
        async with (
            httpx.AsyncClient(timeout=_FETCH_TIMEOUT_S, trust_env=proxied) as http,
            http.stream(
                "GET",
                url if proxied else url.copy_with(host=address),
                # A compressed body could be a thousand times as large as what was received.
                headers={"host": url.netloc.decode(), "accept-encoding": "identity"},
                extensions={"sni_hostname": url.host},
            ) as reply,
        ):
            if reply.has_redirect_location:
                url = url.join(reply.headers["location"])
                continue
            reply.raise_for_status()
            content = bytearray()
            async for chunk in reply.aiter_raw():
                content += chunk
                if len(content) > MAX_BYTES:
                    break  # the check of the size tells the caller
            return bytes(content)
    raise httpx.TooManyRedirects("Too many redirects.")


async def _resolve(url: httpx.URL, allow_private: bool) -> str:
    """Return the address to connect to. What is checked is what is used: a second lookup could give another one."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    addresses = [str(address[0]) for *_, address in found]
    if not allow_private and not all(_is_public(ipaddress.ip_address(address)) for address in addresses):
        raise ValueError("The address is not public.")
    return addresses[0]


def _has_proxy(url: httpx.URL) -> bool:
    proxies = urllib.request.getproxies()
    return bool(proxies.get(url.scheme) or proxies.get("all")) and not urllib.request.proxy_bypass(url.host)


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address) and (
        address not in _GLOBAL_UNICAST or address.sixtofour or address.teredo
    ):
        return False  # this covers all forms that lead to an IPv4 address
    return address.is_global and not address.is_multicast


def _form(content_type: str, body: bytes) -> dict[str, Any]:
    """Read the fields that we know from a form (RFC 7578)."""
    head = email.message.Message()
    head["Content-Type"] = content_type[:_MAX_HEADER]
    boundary = head.get_boundary()
    if not boundary:
        return {}
    parts = (b"\r\n" + body).split(b"\r\n--" + boundary.encode("latin-1", "replace"), _MAX_PARTS + 1)
    if len(parts) > _MAX_PARTS + 1:
        raise bad_request("The form has too many parts", _ONE_OF)
    fields: dict[str, Any] = {}
    for part in parts[1:]:
        header, _, content = part.partition(b"\r\n\r\n")
        if len(header) > _MAX_HEADER:
            raise bad_request("A part of the form has too long a header", _ONE_OF)
        name = email.message_from_bytes(header.lstrip()).get_param("name", header="content-disposition")
        if name in _FIELDS:
            fields[name] = content if name == "file" else content.decode(errors="replace")
    return fields
