"""What the service's pages and the vendor's own code say of its answers, as models: fields only, retyped.

They are stricter than our client: a field of another type or a field that no page has is an error.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, StrictBool, StrictFloat, StrictInt, StrictStr

Number = StrictInt | StrictFloat


def _utc(value: Any) -> datetime:
    assert isinstance(value, str)
    assert value.endswith("Z")
    return datetime.fromisoformat(value)


Time = Annotated[datetime, BeforeValidator(_utc)]
Ratio = Literal["4:3", "3:4", "1:1"]


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Billing(Model):
    minutes_consumed: Number
    minutes_source: StrictStr
    billing_status: StrictStr
    minutes_billed: Number


class Session(Model):
    """schemas/session: what only some answers have may be left out."""

    session_id: StrictStr
    status: Literal["created", "started", "ended"]
    started_at: Time | None
    ended_at: Time | None
    session_token: StrictStr = ""
    expiration: Time | None = None
    aspect_ratio: Ratio = "4:3"
    duration: Number | None = None
    metadata: dict[str, Any] = {}
    billing: Billing | None = None


class Concurrency(Model):
    current: StrictInt
    max: StrictInt
    available: StrictInt


class Remaining(Model):
    total_remaining: Number


class Snapshot(Model):
    concurrency: Concurrency
    minutes: Remaining


class Created(Model):
    """endpoints/create-session."""

    success: StrictBool
    session: Session
    usage: Snapshot
    message: StrictStr


class Avatar(Model):
    """schemas/avatar; an upload has no tags."""

    avatar_id: StrictStr
    preview_url: StrictStr
    image_url: StrictStr
    tags: list[StrictStr] = []


class VoiceAgent(Model):
    provider: StrictStr
    agent_id: StrictStr
    auth_method: Literal["public", "api_key", "token"]


class Agent(Model):
    """schemas/agent and schemas/voice-agent."""

    agent_id: StrictStr
    name: StrictStr
    avatar_image_url: StrictStr | None
    created_at: Time
    voice_agent: VoiceAgent


class Link(Model):
    """schemas/link."""

    link_id: StrictStr
    name: StrictStr | None
    url: StrictStr
    agent: Agent
    status: Literal["active", "paused", "expired"]
    uses: StrictInt
    use_limit: Number | None
    created_at: Time
    expires_at: Time | None


class Period(Model):
    start: Time
    end: Time


class Included(Model):
    total: Number
    used: Number
    remaining: Number


class Purchased(Model):
    total: Number
    remaining: Number


class ActiveAvatar(Model):
    avatar_id: StrictStr
    url: StrictStr
    face_id: StrictStr
    face_name: StrictStr


class ActiveSession(Model):
    session_id: StrictStr
    avatar: ActiveAvatar
    status: Literal["active"]
    started_at: Time
    ended_at: None
    expiration: Time | None
    aspect_ratio: StrictStr
    duration: Number
    metadata: dict[str, Any]


class Plan(Model):
    key: StrictStr
    name: StrictStr
    max_session_duration: Number | None
    will_renew: StrictBool


class Allowance(BaseModel):
    """Its other fields are on no page."""

    limit: Number | None


class Usage(Model):
    """schemas/usage, with the `avatars` of its newest text."""

    period: Period
    included_minutes: Included
    purchased_minutes: Purchased
    total_remaining: Number
    active_sessions: list[ActiveSession]
    active_minutes: Number
    concurrency: Concurrency
    plan: Plan
    avatars: Allowance


class ErrorDetail(Model):
    message: StrictStr
    code: StrictStr | None = None
    suggestion: StrictStr | None = None
    details: dict[str, Any] | None = None


class Error(Model):
    """schemas/error; `success` is missing where the key is wrong."""

    error: ErrorDetail | StrictStr
    success: Literal[False] = False


class VendorRoom(BaseModel):
    """The vendor's Pipecat service."""

    roomURL: str  # noqa: N815 - the name on the wire
    participantToken: str  # noqa: N815


class VendorSession(BaseModel):
    """The vendor's Pipecat service."""

    session_id: str
    session_token: str
    started_at: str | None = None
    ended_at: str | None = None
    expiration: str | None = None
    aspect_ratio: str = "auto"
    duration: int = 0
    status: str
    metadata: dict[str, Any] = {}
    room: VendorRoom
