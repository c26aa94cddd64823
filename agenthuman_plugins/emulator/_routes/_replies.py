"""Answers in the service's own form."""

import json
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from agenthuman_plugins.emulator._errors import ServiceError
from agenthuman_plugins.emulator._requests import parse_json


class Reply(JSONResponse):
    """JSON in ASCII: a lone surrogate in a caller's metadata has no UTF-8 form."""

    def render(self, content: Any) -> bytes:
        """Encode the body."""
        return json.dumps(content, separators=(",", ":")).encode()


async def refused(_: Request, error: Exception) -> Reply:
    """Answer with what a call was refused for; the handler of `ServiceError`."""
    assert isinstance(error, ServiceError)  # noqa: S101 - registered for it alone
    return Reply(error.body, error.status, dict(error.headers))


async def hung_up(_: Request, __: Exception) -> Response:
    """Answer a caller that left before its request was complete; the handler of `ClientDisconnect`."""
    return Response()


def base_url(request: Request) -> str:
    """Return the address that the caller reached us at."""
    return str(request.base_url).rstrip("/")


async def json_body(request: Request) -> Any:
    """Return the body as JSON.

    Raises:
        ServiceError: It is none.
    """
    return parse_json(await request.body())
