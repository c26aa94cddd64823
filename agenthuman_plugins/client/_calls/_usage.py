"""The call of `/v1/usage`."""

from typing import Any

from agenthuman_plugins.client._calls._call import Call
from agenthuman_plugins.client.models import Usage


def get_usage() -> Call[Usage]:
    """`GET /v1/usage`."""
    return Call("GET", "/v1/usage", _usage)


def _usage(body: Any) -> Usage:
    return Usage.model_validate(body["usage"])
