"""Where the settings of a client come from, checked once at its construction."""

import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from agenthuman_plugins.client._clock import Clock
from agenthuman_plugins.client.errors import ConfigurationError

DEFAULT_BASE_URL = "https://api.agenthuman.com"
DEFAULT_AVATAR = "avat_01KMZJ4WE5QCD9G3EK21QW8NJK"  # the default of the vendor's LiveKit plugin
DEFAULT_TIMEOUT_S = 60.0  # room for a slow create (30 s to the answer) and a rate limit's wait
DEFAULT_MAX_RETRIES = 2  # three attempts in all


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one client.

    Attributes:
        api_key: Sent as `x-api-key`.
        base_url: Without a slash at its end.
        timeout_s: Limit for a whole call, retries included.
        max_retries: How often a failed request is sent again.
        track_owner: Whether sessions carry the mark of this process.
        clock: Time and chance.
    """

    api_key: str = field(repr=False)
    base_url: str
    timeout_s: float
    max_retries: int
    track_owner: bool
    clock: Clock = field(repr=False)

    @property
    def host(self) -> str:
        """Host of the service, for texts."""
        return urlsplit(self.base_url).hostname or ""


def resolve(
    *,
    api_key: str | None,
    base_url: str | None,
    timeout: float,
    max_retries: int,
    track_owner: bool = True,
    clock: Clock | None,
) -> Settings:
    """Settings from arguments, then the environment, then defaults.

    Raises:
        ConfigurationError: The key is missing, or a value makes no sense.
    """
    if timeout <= 0:
        raise ConfigurationError(f"timeout must be more than 0 seconds, not {timeout!r}.")
    if max_retries < 0:
        raise ConfigurationError(f"max_retries must be 0 or more, not {max_retries!r}.")
    clock = clock or Clock()
    if track_owner:
        clock.owner()  # elsewhere than on Linux it starts a program; better now than on somebody's event loop
    return Settings(
        api_key=_api_key(api_key),
        base_url=_base_url(base_url),
        timeout_s=float(timeout),
        max_retries=max_retries,
        track_owner=track_owner,
        clock=clock,
    )


def default_avatar() -> str:
    """The avatar to use when the caller names none."""
    return os.environ.get("AGENTHUMAN_AVATAR", "").strip() or DEFAULT_AVATAR


def _api_key(given: str | None) -> str:
    source = "api_key"
    if given is None:
        source, given = "AGENTHUMAN_API_KEY", os.environ.get("AGENTHUMAN_API_KEY")
    if given is None:
        raise ConfigurationError("No API key: pass api_key=... or set AGENTHUMAN_API_KEY.")
    key = given.strip()
    if not key:
        raise ConfigurationError(
            f"No API key: pass api_key=... or set AGENTHUMAN_API_KEY ({source} is set but empty)."
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigurationError(
            f"The API key in {source} holds blanks or characters that no key has; copy it again."
        )
    return key


def _base_url(given: str | None) -> str:
    url = (given or os.environ.get("AGENTHUMAN_BASE_URL", "")).strip().rstrip("/") or DEFAULT_BASE_URL
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or parts.query or parts.fragment or parts.username:
        raise ConfigurationError(
            f"base_url (or AGENTHUMAN_BASE_URL) must look like {DEFAULT_BASE_URL}: scheme, host and path only."
        )
    return url
