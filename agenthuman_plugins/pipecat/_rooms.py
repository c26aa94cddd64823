"""Where the avatar of each session appears, and what that allows.

| `room` | `picture` | mode | a second session beside the first |
| --- | --- | --- | --- |
| `None` | `None` or `"pipeline"` | proxied; carried where the service refuses platform `proxy` | yes |
| a `LiveKitRoom` | `"pipeline"` | carried | no: its one avatar token holds one avatar |
| a function | `"pipeline"` | carried | yes, as long as each room has identities of its own |
| a `LiveKitRoom`, a `DailyRoom`, a function | `None` | direct | no: viewers would see two |
"""

import asyncio
import inspect
import os
import re
import uuid
import weakref
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

from loguru import logger

from agenthuman_plugins.client import (
    AgentHumanError,
    APIStatusError,
    AsyncAgentHuman,
    ConfigurationError,
    DailyRoom,
    LiveKitRoom,
    UsageLimitError,
)
from agenthuman_plugins.client.redaction import redact
from agenthuman_plugins.client.rooms import AVATAR_IDENTITY

_FUNCTION_TIMEOUT_S = 20.0  # as long as the avatar itself may take to join: nobody waits longer for a face
_VARIABLES = ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET")  # LiveKit's own names

# Clients whose service refuses platform `proxy`: each of their bots would otherwise ask once more.
_without_proxy: "weakref.WeakSet[AsyncAgentHuman]" = weakref.WeakSet()


@dataclass(frozen=True, slots=True)
class RoomRequest:
    """What a function that makes rooms gets.

    Attributes:
        avatar: Avatar of the session; `None` is the default one.
        aspect_ratio: Ratio of its video.
        avatar_identity: Participant that the avatar should join as, new for each session. Pass it on to
            `LiveKitRoom.mint(..., avatar_identity=request.avatar_identity)`: a second avatar under the identity of the
            first would disconnect it.
        session_number: Which session of this run it is, from 1.
    """

    avatar: str | None
    aspect_ratio: str
    avatar_identity: str
    session_number: int


RoomSource = (
    LiveKitRoom
    | DailyRoom
    | Callable[[RoomRequest], LiveKitRoom | DailyRoom | Awaitable[LiveKitRoom | DailyRoom]]
    | None
)


class Rooms:
    """Gives each session its room.

    Args:
        room: The user's room, a function that makes one for each session, or `None`.
        picture: `pipeline` brings voice and picture through the pipeline from a room of the user's own, too.
        client: Opens the sessions; whether its service refuses platform `proxy` is remembered with it.

    Attributes:
        through_pipeline: Whether voice and picture come through the pipeline (proxied and carried mode).

    Raises:
        ConfigurationError: Room and picture do not go together, or are of a wrong kind.
    """

    def __init__(
        self, room: RoomSource, *, picture: Literal["pipeline"] | None, client: AsyncAgentHuman
    ) -> None:
        if picture not in (None, "pipeline"):
            raise ConfigurationError(f"picture is {picture!r}; allowed are 'pipeline' and None.")
        if not (room is None or isinstance(room, LiveKitRoom | DailyRoom) or callable(room)):
            raise ConfigurationError(
                "room must be a LiveKitRoom, a DailyRoom, a function that returns one, or None, not "
                f"{type(room).__name__}."
            )
        if picture and isinstance(room, LiveKitRoom | DailyRoom):
            _check_carried(room, "room")
        self.through_pipeline = room is None or picture == "pipeline"
        self._room = room
        self._client = client
        self._asked_for_proxy = False
        self._private_name = f"agenthuman-{uuid.uuid4().hex[:12]}"
        self._taken: set[tuple[str, str, str]] = set()  # address, room and identity of earlier sessions
        self._overlap = room is None or (picture == "pipeline" and callable(room))

    @property
    def overlap(self) -> bool:
        """Whether a second session may open while the first one runs.

        A function that gives two sessions the same identities ends this with the second room; look again after `make`.
        """
        return self._overlap

    async def make(
        self, *, avatar: str | None, aspect_ratio: str, session_number: int
    ) -> LiveKitRoom | DailyRoom | None:
        """Return the room of the next session; `None` has the service make one (platform `proxy`).

        Args:
            avatar: Avatar of the session.
            aspect_ratio: Ratio of its video.
            session_number: Which session of this run it is, from 1.

        Raises:
            ConfigurationError: The function failed or returned no room that can be used, or the service refuses to make
                rooms and no LiveKit server is named. `retryable` if it can succeed later.
        """
        identity = f"{AVATAR_IDENTITY}-{uuid.uuid4().hex[:12]}"
        self._asked_for_proxy = False
        if callable(self._room):
            room = await self._call(RoomRequest(avatar, aspect_ratio, identity, session_number))
            self._note_identities(room)
            return room
        if self._room is None and self._client not in _without_proxy:
            self._asked_for_proxy = True
            return None
        return self._room or _private_room(self._private_name, identity)

    def platform_refused(self, error: AgentHumanError) -> bool:
        """Whether a create with the `None` of `make` failed because the service does not know platform `proxy`.

        If so, call `make` again: it returns a room on the LiveKit server of `LIVEKIT_URL`, `LIVEKIT_API_KEY` and
        `LIVEKIT_API_SECRET` from now on, private to this bot.

        Raises:
            ConfigurationError: It did, and these variables are not set.
        """
        if not (self._asked_for_proxy and _is_about_platform(error)):
            return False
        first = self._client not in _without_proxy
        _without_proxy.add(self._client)
        _check_environment(error)
        if first:
            logger.info(
                "The service makes no rooms itself (it refused platform `proxy`): "
                "voice and video come through rooms on the LiveKit server of LIVEKIT_URL."
            )
        return True

    async def _call(self, request: RoomRequest) -> LiveKitRoom | DailyRoom:
        assert callable(self._room)  # noqa: S101 - looked at by the caller
        limit = asyncio.timeout(_FUNCTION_TIMEOUT_S)
        try:
            async with limit:
                made: Any = self._room(request)
                if inspect.isawaitable(made):
                    made = await made
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Somebody cancelled what the function waits for, and nobody cancelled us.
            raise ConfigurationError("The room function failed: it was cancelled") from error
        except Exception as error:
            if limit.expired():
                reason, can_pass = f"no answer within {_FUNCTION_TIMEOUT_S:g} s", True
            else:
                reason = f"{type(error).__name__}: {redact(str(error))}"
                # A network that is down comes back; a mistake in the function stays.
                can_pass = (
                    error.retryable if isinstance(error, AgentHumanError) else isinstance(error, OSError)
                )
            raise ConfigurationError(f"The room function failed: {reason}", retryable=can_pass) from error
        if not isinstance(made, LiveKitRoom | DailyRoom):
            raise ConfigurationError(
                f"The room function must return a LiveKitRoom or a DailyRoom, not {type(made).__name__}."
            )
        if self.through_pipeline:
            _check_carried(made, "The function's room")
        return made

    def _note_identities(self, room: LiveKitRoom | DailyRoom) -> None:
        if not self._overlap or not isinstance(room, LiveKitRoom) or room.name is None:
            return  # a token that cannot be read is not ours to judge
        identities = {
            (room.url, room.name, identity)
            for identity in (room.avatar_identity, room.agent_identity)
            if identity is not None
        }
        if repeated := identities & self._taken:
            self._overlap = False
            names = ", ".join(sorted(repr(identity) for _, _, identity in repeated))
            logger.warning(
                f"The room function returned {names} for a second session. Two of one identity cannot be in a room, so "
                "the next session opens only after the present one has ended. Pass on "
                "avatar_identity=request.avatar_identity, and leave agent_identity out."
            )
        self._taken |= identities


def _check_carried(room: LiveKitRoom | DailyRoom, name: str) -> None:
    if isinstance(room, DailyRoom):
        raise ConfigurationError(
            f'{name} is a DailyRoom, whose voice and video cannot come through the pipeline: leave picture="pipeline" '
            "out, or use a LiveKitRoom."
        )
    if room.agent_token is None:
        raise ConfigurationError(
            f'{name} has no agent_token, which picture="pipeline" needs to receive voice and video: pass '
            "LiveKitRoom(..., agent_token=...) or use LiveKitRoom.mint."
        )


def _check_environment(reason: AgentHumanError | None = None) -> None:
    if missing := [name for name in _VARIABLES if not os.environ.get(name)]:
        raise ConfigurationError(
            "The service refuses to make a room for the avatar (platform `proxy`): set LIVEKIT_URL, LIVEKIT_API_KEY and "
            "LIVEKIT_API_SECRET, so that rooms are made on your LiveKit server, or pass room=LiveKitRoom(...) or "
            f"room=DailyRoom(...) (not set: {', '.join(missing)})."
        ) from reason


def _private_room(name: str, avatar_identity: str) -> LiveKitRoom:
    _check_environment()
    url, api_key, api_secret = (os.environ[variable] for variable in _VARIABLES)
    try:
        return LiveKitRoom.mint(url, api_key, api_secret, name, avatar_identity=avatar_identity)
    except ConfigurationError as error:
        raise ConfigurationError(f"LIVEKIT_URL cannot be used: {error}") from error


# What a refusal is about. The public pages give no code and no text for a refused platform, so words decide.

_PLATFORM_WORDS = frozenset({"room", "rooms", "platform", "platforms", "proxy"})
_AVATAR_WORDS = frozenset({"avatar", "avatars", "image", "face", "aspect", "ratio"})
_OTHER_WORDS = frozenset(
    {"metadata", "limit", "limits", "quota", "minutes", "concurrency", "concurrent", "usage"}
)
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_NO_WORDS = re.compile(
    r"\bavat_\w+|\b\w{1,8}://\S+|\[HTTP [^]]*\]$"
)  # ids and addresses say nothing, whatever is in them
_LOCATION_KEYS = ("loc", "field", "path", "param", "parameter", "property", "pointer")
_ECHO_KEYS = frozenset({"input", "ctx", "value", "received"})  # what was sent, said back

_Subject = Literal["platform", "other"]


def _is_about_platform(error: AgentHumanError) -> bool:
    """Whether a create was refused for its room's platform, and for nothing else."""
    if not isinstance(error, APIStatusError) or isinstance(error, UsageLimitError):
        return False
    if error.status_code not in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY}:
        return False
    subjects = (_subject(text) for text in _texts(error))
    return next((subject for subject in subjects if subject), None) == "platform"


def _texts(error: APIStatusError) -> Iterator[str]:
    """What the answer says, the most exact first."""
    body = error.body if isinstance(error.body, dict) else {}
    for details in (error.details, body.get("detail"), body.get("details"), body.get("errors")):
        yield " ".join(_words_of(details))
    yield error.code or ""
    yield str(error)
    yield str(body.get("message") or "")


def _words_of(details: Any) -> Iterator[str]:
    """The fields that details name; where they name none, everything in them."""
    match details:
        case str() | int():
            yield str(details)
        case list() | tuple():
            for item in details:
                yield from _words_of(item)
        case dict():
            if named := [details[key] for key in _LOCATION_KEYS if details.get(key)]:
                yield from _words_of(named)
                return
            for key, item in details.items():
                if key not in _ECHO_KEYS:
                    yield str(key)
                    yield from _words_of(item)


def _subject(text: str) -> _Subject | None:
    words = {word.lower() for word in _WORD.findall(_NO_WORDS.sub(" ", text))}
    about_platform, about_avatar = words & _PLATFORM_WORDS, words & _AVATAR_WORDS
    if words & _OTHER_WORDS:
        return "other"
    # "The avatar is not on our platform" is about the avatar, "Invalid room platform for this avatar" is not.
    if about_avatar and len(about_platform) < 2:  # noqa: PLR2004 - two words of the room against any of the avatar
        return "other"
    return "platform" if about_platform else None
