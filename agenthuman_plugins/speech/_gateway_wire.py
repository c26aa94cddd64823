"""What is said to the WebSocket gateway, and where it is.

Source: docs.agenthuman.com, endpoints/client-messages and endpoints/server-messages.
"""

import base64
import os
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import connect

from agenthuman_plugins.client.addresses import check_plain
from agenthuman_plugins.client.errors import ConfigurationError
from agenthuman_plugins.client.models import ManagedRoom
from agenthuman_plugins.speech.link import SPEECH_SAMPLE_RATE

DEFAULT_URL = "wss://wss.agenthuman.com"
INTERRUPT = {"type": "agent.interrupt"}


class Connect(connect):
    """Opens a connection and follows no redirect: the token of the first message is for the address that was given."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Return the answer as the error that it is."""
        return exc


def first_message(session_id: str, session_token: str, room: ManagedRoom | None) -> dict[str, Any]:
    """The message that begins a connection."""
    if room is None:
        return {"type": "session.init", "session_id": session_id, "session_token": session_token}
    token = room.token.get_secret_value() if room.token is not None else None
    return {
        "type": "session.init",
        "config": {
            "session_id": session_id,
            "access_token": session_token,
            "room": {"platform": "daily", "url": room.url, "token": token},
        },
    }


def speak(pcm: bytes) -> dict[str, Any]:
    """Speech for the avatar: 16 kHz, mono, 16-bit."""
    audio = base64.b64encode(pcm).decode()
    return {"type": "agent.speak", "audio": audio, "sample_rate": SPEECH_SAMPLE_RATE}


def checked_url(given: str | None) -> str:
    """The address of the gateway: the one given, that of the environment, or the public one.

    Raises:
        ConfigurationError: It is none, or would send the token to the public service without TLS.
    """
    url = (given or os.environ.get("AGENTHUMAN_GATEWAY_URL", "")).strip() or DEFAULT_URL
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"ws", "wss"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    # The URL itself stays out of the text: its query may hold a token.
    if not valid or parts.username is not None or parts.fragment:
        raise ConfigurationError(f"The gateway url (or AGENTHUMAN_GATEWAY_URL) must look like {DEFAULT_URL}.")
    if parts.scheme == "ws":
        check_plain(parts.hostname, name="The gateway url (or AGENTHUMAN_GATEWAY_URL)", secure="wss://…")
    return url
