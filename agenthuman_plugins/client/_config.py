"""Where the settings of a client come from, checked once at its construction."""

import asyncio
import inspect
import logging
import math
import os
import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias
from urllib.parse import urlsplit

from agenthuman_plugins.client._owner import this_process
from agenthuman_plugins.client.addresses import check_plain
from agenthuman_plugins.client.errors import ConfigurationError
from agenthuman_plugins.client.redaction import MASK, Secrets

DEFAULT_BASE_URL = "https://api.agenthuman.com"
DEFAULT_AVATAR = "avat_01KMZJ4WE5QCD9G3EK21QW8NJK"  # the default of the vendor's LiveKit plugin
DEFAULT_TIMEOUT_S = 60.0  # room for a slow create and a rate limit's wait
DEFAULT_MAX_RETRIES = 2  # three attempts in all

_LONGEST_S = 1e6  # what waits for threads and sockets counts no further than some years
_KEYS_REMEMBERED = 16  # of a callable that hands out new ones: those that may still show in an answer

KeySource: TypeAlias = str | Callable[[], str]
AsyncKeySource: TypeAlias = str | Callable[[], str | Awaitable[str]]


def _wait(event: threading.Event, seconds: float) -> bool:
    return event.wait(seconds)


def _start(work: Callable[[], None], name: str) -> None:
    # A daemon: the interpreter waits for the others without a limit before it ends.
    threading.Thread(target=work, name=name, daemon=True).start()


@dataclass(frozen=True, slots=True)
class Clock:
    """What the client takes from the world around it, in one place, so that tests need not wait.

    Attributes:
        monotonic: Seconds from an arbitrary start, for deadlines.
        wall: Epoch seconds, to read `Retry-After` dates and `X-RateLimit-Reset`.
        random: A number in [0, 1), for jitter.
        sleep: Waits, in the sync client.
        asleep: Waits, in the async client.
        event: Makes what the threads of the sync client wait for.
        wait: Waits for such an event, so many seconds at most; whether it came.
        start: Starts a thread with a name.
        new_ref: Makes the reference by which a lost session is found again.
        owner: The mark of this process, by which what it left open is found when it is dead.
    """

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    random: Callable[[], float] = random.random
    sleep: Callable[[float], None] = time.sleep
    asleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    event: Callable[[], threading.Event] = threading.Event
    wait: Callable[[threading.Event, float], bool] = _wait
    start: Callable[[Callable[[], None], str], None] = _start
    new_ref: Callable[[], str] = lambda: uuid.uuid4().hex
    owner: Callable[[], str | None] = this_process


class ApiKey:
    """The key, wherever it comes from; every one that was used is known, so that no error repeats it.

    A key goes in here first and is judged later, by methods in whose variables it does not stand: tracebacks get
    printed with variables, and even a key that is refused may be a real one with a blank too much.

    Args:
        given: The key, what returns it (asked before each request), or `None` for `AGENTHUMAN_API_KEY`.
    """

    __slots__ = ("_lock", "_problem", "_source", "_used")

    def __init__(self, given: AsyncKeySource | None) -> None:
        self._lock = threading.Lock()
        self._used: deque[str] = deque(maxlen=_KEYS_REMEMBERED)
        self._problem: str | None = None
        self._source: Callable[[], str | Awaitable[str]] | None = given if callable(given) else None
        if callable(given):
            return
        if given is not None:
            _, self._problem = self._taken("api_key", given)
        elif (found := os.environ.get("AGENTHUMAN_API_KEY")) is not None:
            _, self._problem = self._taken("AGENTHUMAN_API_KEY", found)
        else:
            self._problem = "No API key: pass api_key=... or set AGENTHUMAN_API_KEY."

    def __repr__(self) -> str:
        return f"ApiKey({MASK})"

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every key that was used lately."""
        return tuple(self._used)

    def check(self) -> None:
        """Check what is known already.

        Raises:
            ConfigurationError: There is no key, or it cannot be one.
        """
        if self._problem is not None:
            raise ConfigurationError(self._problem)

    def get(self) -> str:
        """The key for the next request."""
        if self._source is None:
            self.check()
            return self._used[-1]
        key, problem = self._taken("api_key()", self._source())
        if problem is not None:
            raise ConfigurationError(problem)
        return key

    async def aget(self) -> str:
        """The key for the next request, from a callable that may be a coroutine function."""
        if self._source is None:
            return self.get()
        found = self._source()
        key, problem = self._taken("api_key()", await found if inspect.isawaitable(found) else found)
        del found
        if problem is not None:
            raise ConfigurationError(problem)
        return key

    def _taken(self, source: str, found: object) -> tuple[str, str | None]:
        """A key, which is remembered, or what is wrong with it."""
        if inspect.iscoroutine(found):
            found.close()
        if (problem := _problem_with_key(source, found)) is not None:
            return "", problem
        key = str(found).strip()
        with self._lock:  # threads may get keys of their own
            if key in self._used:
                self._used.remove(key)
            self._used.append(key)
        return key, None


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one client.

    Attributes:
        api_key: Sent as `x-api-key`.
        base_url: Without a slash at its end.
        timeout_s: Limit for a whole call, retries included.
        max_retries: How often a failed request is sent again.
        track_owner: Whether sessions carry the mark of this process.
        clock: Time, chance and threads.
    """

    api_key: ApiKey
    base_url: str
    timeout_s: float
    max_retries: int
    track_owner: bool
    clock: Clock = field(repr=False)

    @property
    def host(self) -> str:
        """Host of the service, for texts."""
        return urlsplit(self.base_url).hostname or ""

    @property
    def secrets(self) -> Secrets:
        """What must not show in an error."""
        return Secrets(self.api_key.secrets)


def resolve(
    *,
    api_key: AsyncKeySource | ApiKey | None,
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
    api_key = hide_key(api_key)  # first: from here on no variable of a traceback shows it
    api_key.check()
    clock = clock or Clock()
    if track_owner:
        clock.owner()  # elsewhere than on Linux it starts a program; better now than on somebody's event loop
    _set_up_log(os.environ.get("AGENTHUMAN_LOG", "").strip().lower())
    return Settings(
        api_key=api_key,
        base_url=read_base_url(base_url),
        timeout_s=seconds("timeout", timeout),
        max_retries=retries(max_retries),
        track_owner=track_owner,
        clock=clock,
    )


def hide_key(given: "AsyncKeySource | ApiKey | None") -> ApiKey:
    """The key in a box whose repr shows nothing."""
    return given if isinstance(given, ApiKey) else ApiKey(given)


def seconds(name: str, value: object) -> float:
    """A time limit.

    Raises:
        ConfigurationError: It is none; a limit that is refused later would already have cost a session.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not (0 < value < math.inf):
        raise ConfigurationError(f"{name} must be a number of seconds above 0, not {value!r}.")
    return float(min(value, _LONGEST_S))


def retries(value: object) -> int:
    """How often a failed request is sent again.

    Raises:
        ConfigurationError: It is no such number.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigurationError(f"max_retries must be a whole number of 0 or more, not {value!r}.")
    return value


def default_avatar() -> str:
    """The avatar to use when the caller names none."""
    return os.environ.get("AGENTHUMAN_AVATAR", "").strip() or DEFAULT_AVATAR


def _problem_with_key(source: str, key: object) -> str | None:
    if not isinstance(key, str):
        return f"{source} must be a string, not {type(key).__name__}."
    key = key.strip()
    if not key:
        return f"No API key: pass api_key=... or set AGENTHUMAN_API_KEY ({source} is set but empty)."
    if not (key.isascii() and key.isprintable()) or " " in key:
        return f"The API key in {source} holds blanks or characters that no key has; copy it again."
    return None


def read_base_url(given: str | None = None, default: str = DEFAULT_BASE_URL) -> str:
    """Return an address of the API, without a slash at its end; without an argument that of the environment.

    Raises:
        ConfigurationError: It cannot be one, or would send a key to the public service in clear.
    """
    name = "AGENTHUMAN_BASE_URL" if given is None else "base_url"
    if given is not None and not isinstance(given, str):
        raise ConfigurationError(f"base_url must be a string, not {type(given).__name__}.")
    # Compose files set a variable to nothing where they mean none; an empty argument is a mistake.
    url = given if given is not None else os.environ.get(name, "").strip() or default
    url = url.strip().rstrip("/")
    if wrong := _wrong_part(url):
        # The address itself stays out of the text: it may hold a password.
        raise ConfigurationError(f"{name} must look like {default}: {wrong}.")
    parts = urlsplit(url)
    if parts.scheme == "http":
        check_plain(parts.hostname, name=name, secure="https://…")
    return url


def _wrong_part(url: str) -> str | None:
    if not url:
        return "it is empty"
    if any(char.isspace() or not char.isprintable() for char in url):
        return "it holds a blank, a tab or another control character"
    try:
        parts = urlsplit(url)
        port_is_wrong = parts.port == 0
    except ValueError:
        return "its host or port cannot be read"
    if parts.scheme not in {"http", "https"}:
        return "it does not begin with https:// or http://"
    if not parts.hostname:
        return "it has no host"
    if port_is_wrong:
        return "port 0 cannot be reached"
    if parts.username is not None or parts.password is not None:
        return "it must have no user or password"
    if parts.path.endswith("/v1"):
        return "leave out the /v1 at its end, which each request adds"
    if parts.query or parts.fragment or "?" in url or "#" in url:
        return "it must have no query and no fragment"
    return None


def _set_up_log(wanted: str) -> None:
    """Show the package's log if `AGENTHUMAN_LOG` asks for it: as the program's log is set up, else on stderr."""
    if not wanted:
        return
    levels = {"info": logging.INFO, "debug": logging.DEBUG}
    if wanted not in levels:
        raise ConfigurationError(f"AGENTHUMAN_LOG must be info or debug, not {wanted!r}.")
    log = logging.getLogger("agenthuman_plugins")
    log.setLevel(levels[wanted])
    if not log.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        log.addHandler(handler)
