"""What the service answers, both documented generations in one shape.

Liberal on purpose: only ids are required, fields that we do not know are kept (`model_extra`), and a known
field with a value that does not fit is `None`. A create that is billed must not be lost to a new date format.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

_T = TypeVar("_T")

CLIENT_REF = "client_ref"  # key in a session's metadata under which we find a session whose answer was lost


def _or_none(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    try:
        return validate(value)
    except ValidationError:
        return None


def _in_utc(value: datetime) -> datetime:
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _object_or_as_it_is(value: Any) -> Any:
    return {} if value is None else value


Lenient = Annotated[_T | None, WrapValidator(_or_none)]
Time = Annotated[datetime, AfterValidator(_in_utc)]


class _Answered(BaseModel):
    # hide_input: the input of a validation error may be a whole reply, tokens included.
    # defer_build: each model is built at its first answer, not at import.
    model_config = ConfigDict(extra="allow", frozen=True, hide_input_in_errors=True, defer_build=True)


class Concurrency(_Answered):
    """How many sessions run at the same time.

    Attributes:
        current: Sessions that run now.
        max: Sessions that the plan allows.
        available: Sessions that can still be opened.
    """

    current: Lenient[int] = None
    max: Lenient[int] = None
    available: Lenient[int] = None


class Minutes(_Answered):
    """What is left to spend.

    Attributes:
        total_remaining: Included and purchased minutes together.
    """

    total_remaining: Lenient[float] = None


class UsageSnapshot(_Answered):
    """The account's usage as a create reply shows it."""

    concurrency: Lenient[Concurrency] = None
    minutes: Lenient[Minutes] = None


class Billing(_Answered):
    """What an ended session cost.

    Attributes:
        minutes_consumed: Minutes of the session, rounded up.
        minutes_source: Which minutes were used, such as `mixed`.
        billing_status: Such as `billed`.
        minutes_billed: Minutes that were charged.
    """

    minutes_consumed: Lenient[float] = None
    minutes_source: Lenient[str] = None
    billing_status: Lenient[str] = None
    minutes_billed: Lenient[float] = None


class SessionAvatar(_Answered):
    """The avatar of a session, where the reply tells it."""

    avatar_id: Lenient[str] = None
    name: Lenient[str] = None
    url: Lenient[str] = Field(default=None, repr=False)  # may be signed


class SessionRoom(_Answered):
    """The room that the service made, and our way in.

    Attributes:
        url: `wss://…` of the LiveKit server, or the address of the Daily room.
        token: What our side joins with.
        name: Name of the room, if the service tells it.
    """

    url: Lenient[str] = Field(default=None, validation_alias=AliasChoices("roomURL", "url"))
    token: Lenient[SecretStr] = Field(
        default=None, validation_alias=AliasChoices("participantToken", "token")
    )
    name: Lenient[str] = None


class Session(_Answered):
    """One avatar session.

    Attributes:
        session_id: Opaque; starts with `sess_`.
        status: `created`, `started` or `ended` as documented; older data says `active` or `completed`, and
            new words must be expected. Use `has_ended` to decide.
        session_token: Token for the speech gateway; only in the reply to create.
        started_at: Start; billing runs from here.
        ended_at: End, `None` while it runs.
        created_at: Where the service tells it.
        expiration: When the service ends the session by itself; `None`: unlimited, or not told.
        duration: Seconds: so far while it runs, in all when it has ended.
        aspect_ratio: `4:3`, `3:4` or `1:1`; older data holds others.
        metadata: What was given at create, our `client_ref` included.
        billing: Only for ended sessions.
        room: Room that the service made (platform `proxy`); only in the reply to create.
        daily_room: Room of a session of the older, Daily-managed generation.
        avatar: Where the reply tells it.
        session_type: Older generation: `webrtc_video`.
        usage: The account's usage after the create; only in its reply.
    """

    session_id: str = Field(min_length=1)
    status: Lenient[str] = None
    session_token: Lenient[SecretStr] = Field(
        default=None, validation_alias=AliasChoices("session_token", "access_token")
    )
    started_at: Lenient[Time] = None
    ended_at: Lenient[Time] = None
    created_at: Lenient[Time] = None
    expiration: Lenient[Time] = None
    duration: Lenient[float] = None
    aspect_ratio: Lenient[str] = None
    # Any JSON value on reading: one page allows it.
    metadata: Annotated[Any, BeforeValidator(_object_or_as_it_is)] = Field(default_factory=dict)
    billing: Lenient[Billing] = None
    room: Lenient[SessionRoom] = None
    daily_room: Lenient[SessionRoom] = None
    avatar: Lenient[SessionAvatar] = None
    session_type: Lenient[str] = None
    usage: Lenient[UsageSnapshot] = None

    @property
    def has_ended(self) -> bool:
        """Whether the session is over; an ended session never restarts."""
        return self.status in {"ended", "completed"} or self.ended_at is not None

    @property
    def client_ref(self) -> str | None:
        """Reference that our create put into `metadata`; `None` if the reply does not carry it."""
        ref = self.metadata.get(CLIENT_REF) if isinstance(self.metadata, Mapping) else None
        return ref if isinstance(ref, str) else None


SessionList: TypeAlias = list[Session]
SessionStatus = Literal["all", "started", "ended"]  # what a list can be asked for
