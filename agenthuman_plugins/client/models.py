"""What the service answers, both documented generations in one shape."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias, TypedDict

from pydantic import AliasChoices, BeforeValidator, Field, SecretStr

from agenthuman_plugins.client._model import Answered, Lenient, Metadata, Time, read_each

CLIENT_REF = "client_ref"  # key in a session's metadata under which we find a session whose answer was lost


class Concurrency(Answered):
    """How many sessions run at the same time.

    Attributes:
        current: Sessions that run now.
        max: Sessions that the plan allows.
        available: Sessions that can still be opened.
    """

    current: Lenient[int] = None
    max: Lenient[int] = None
    available: Lenient[int] = None


class Minutes(Answered):
    """What is left to spend.

    Attributes:
        total_remaining: Included and purchased minutes together.
    """

    total_remaining: Lenient[float] = None


class UsageSnapshot(Answered):
    """The account's usage as a create reply shows it."""

    concurrency: Lenient[Concurrency] = None
    minutes: Lenient[Minutes] = None


class Billing(Answered):
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


class SessionAvatar(Answered):
    """The avatar of a session, where the reply names it."""

    avatar_id: Lenient[str] = None
    name: Lenient[str] = None
    url: Lenient[str] = Field(default=None, repr=False)  # may be signed


class SessionRoom(Answered):
    """The room that the service made (platform `proxy`, which is inferred), and our way in.

    Attributes:
        url: `wss://…` of the LiveKit server, or the address of the Daily room.
        token: What our side joins with.
        name: Name of the room, if the service gives it.
    """

    url: Lenient[str] = Field(
        default=None, validation_alias=AliasChoices("roomURL", "url"), serialization_alias="roomURL"
    )
    token: Lenient[SecretStr] = Field(
        default=None,
        validation_alias=AliasChoices("participantToken", "token"),
        serialization_alias="participantToken",
    )
    name: Lenient[str] = None


class ManagedRoom(SessionRoom):
    """The Daily room of a session of the older, Daily-managed generation."""

    url: Lenient[str] = None
    token: Lenient[SecretStr] = None


class Session(Answered):
    """One avatar session.

    Attributes:
        session_id: Opaque; starts with `sess_`.
        status: `created`, `started` or `ended` as documented; older data says `active` or `completed`, and
            new words must be expected. Use `has_ended` to decide.
        session_token: Token for the speech gateway; only in the reply to create.
        started_at: Start; billing runs from here (inferred for sessions of today).
        ended_at: End, `None` while it runs.
        created_at: If the service gives it.
        expiration: When the service ends the session by itself; `None`: unlimited, or unknown.
        duration: Seconds: so far while it runs, in all when it has ended.
        aspect_ratio: `4:3`, `3:4` or `1:1`; older data holds others.
        metadata: What was given at create, our `client_ref` included.
        billing: Only for ended sessions.
        room: Room that the service made (platform `proxy`, which is inferred); only in the reply to create.
        daily_room: Room of a session of the older, Daily-managed generation.
        avatar: If the reply names it.
        session_type: Older generation: `webrtc_video`.
        ws_uri: Older generation: address of the speech gateway; only from `sessions.start`.
        usage: The account's usage after the create; only in its reply.
        message: What the service says beside it; only in the reply to create.
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
    metadata: Metadata = Field(default_factory=dict)
    billing: Lenient[Billing] = None
    room: Lenient[SessionRoom] = None
    daily_room: Lenient[ManagedRoom] = None
    avatar: Lenient[SessionAvatar] = None
    session_type: Lenient[str] = None
    ws_uri: Lenient[str] = None
    usage: Lenient[UsageSnapshot] = None
    message: Lenient[str] = None

    @property
    def has_ended(self) -> bool:
        """Whether the session is over; an ended session never restarts."""
        return self.status in {"ended", "completed"} or self.ended_at is not None

    @property
    def client_ref(self) -> str | None:
        """Reference that our create put into `metadata`; `None` if the reply does not carry it."""
        ref = self.metadata.get(CLIENT_REF) if isinstance(self.metadata, Mapping) else None
        return ref if isinstance(ref, str) else None


class Avatar(Answered):
    """An avatar that a session can show.

    Attributes:
        avatar_id: Opaque; `avat_...`, or `PUBLIC/...` for one that everybody may use.
        tags: Such as `female`; `user_exclusive` marks the account's own.
        preview_url: Square picture of 500 pixels; the address is signed and expires.
        image_url: Picture of up to 1200 pixels; the address is signed and expires.
        name, preview_img_url: Older generation.
        parent_id: Older generation: the character that this is a look of.
        looks_count: Older generation: how many looks a character has.
        video_url: Older generation: of a look.
        is_favorite, is_public, active: Older generation: 0 or 1.
        created_at, updated_at: Older generation.
    """

    avatar_id: str = Field(min_length=1)
    tags: Lenient[list[str]] = None
    preview_url: Lenient[str] = None
    image_url: Lenient[str] = None
    name: Lenient[str] = None
    preview_img_url: Lenient[str] = None
    parent_id: Lenient[str] = None
    looks_count: Lenient[int] = None
    video_url: Lenient[str] = None
    is_favorite: Lenient[int] = None
    is_public: Lenient[int] = None
    active: Lenient[int] = None
    created_at: Lenient[Time] = None
    updated_at: Lenient[Time] = None


class AvatarList(Answered):
    """The avatars that the account can use.

    Attributes:
        public_avatars: Those that everybody may use.
        my_avatars: The account's own.
        avatars: What the older generation answers instead: both, in one list.
    """

    public_avatars: list[Avatar] = Field(default_factory=list)
    my_avatars: list[Avatar] = Field(default_factory=list)
    avatars: list[Avatar] = Field(default_factory=list)

    @property
    def all(self) -> list[Avatar]:
        """Every avatar, the account's own first."""
        return [*self.my_avatars, *self.public_avatars, *self.avatars]


class AvatarPreview(Answered):
    """A link to try an avatar with.

    Attributes:
        url: Single use, for 5 minutes; opening it starts a live session.
    """

    url: str = Field(min_length=1)


class VoiceAgent(Answered):
    """The voice of an agent, which another service provides.

    Attributes:
        provider: Such as `ElevenLabs`.
        agent_id: Id at that provider.
        auth_method: `public`, `api_key` or `token`.
    """

    provider: Lenient[str] = None
    agent_id: Lenient[str] = None
    auth_method: Lenient[str] = None


class Agent(Answered):
    """A voice agent with a face, to be shared by links.

    Attributes:
        agent_id: Opaque; starts with `agnt_`.
        name: Name.
        avatar_image_url: Picture of the face; `None` if it has none, and then no link can start a session.
        created_at: When it was made.
        voice_agent: The voice behind it.
    """

    agent_id: str = Field(min_length=1)
    name: Lenient[str] = None
    avatar_image_url: Lenient[str] = None
    created_at: Lenient[Time] = None
    voice_agent: Lenient[VoiceAgent] = None


class Link(Answered):
    """A link by which others start sessions with an agent, at the account's cost.

    Attributes:
        link_id: Opaque; starts with `lnk_`. Whoever knows it can start sessions.
        name: Name; `None` after it was cleared.
        url: Address to share.
        agent: The agent that it leads to.
        status: `active`, `paused` or `expired` (its date passed, or its limit is reached).
        uses: How often it was used.
        use_limit: How often it can be used; `None`: without limit.
        created_at: When it was made.
        expires_at: Until when it can be used; `None`: forever.
    """

    link_id: str = Field(min_length=1)
    name: Lenient[str] = None
    url: Lenient[str] = None
    agent: Lenient[Agent] = None
    status: Lenient[str] = None
    uses: Lenient[int] = None
    use_limit: Lenient[int] = None
    created_at: Lenient[Time] = None
    expires_at: Lenient[Time] = None


class LinkSession(Answered):
    """A session that was started by a link, and our way into its room.

    Attributes:
        session_id: Opaque; starts with `sess_`.
        livekit_url: `wss://...` of the LiveKit server.
        participant_token: What our side joins with.
        agent_identity: Identity of the avatar in the room.
    """

    session_id: str = Field(min_length=1)
    livekit_url: Lenient[str] = None
    participant_token: Lenient[SecretStr] = None
    agent_identity: Lenient[str] = None


def _readable_sessions(value: Any) -> list[Session] | None:
    return read_each(Session, value) if isinstance(value, list) else None


_Sessions = Annotated[list[Session] | None, BeforeValidator(_readable_sessions)]


class Period(Answered):
    """From when to when minutes are counted."""

    start: Lenient[Time] = None
    end: Lenient[Time] = None


class MinuteAccount(Answered):
    """Minutes of one kind.

    Attributes:
        total: Minutes in all.
        used: Minutes spent in this period; unknown for purchased ones.
        remaining: Minutes left.
    """

    total: Lenient[float] = None
    used: Lenient[float] = None
    remaining: Lenient[float] = None


class Plan(Answered):
    """The plan of the account.

    Attributes:
        key: Such as `pro`.
        name: Such as `Pro`.
        max_session_duration: How long one session may take, in minutes as it seems; no page names the unit.
        will_renew: Whether it goes on after the period.
    """

    key: Lenient[str] = None
    name: Lenient[str] = None
    max_session_duration: Lenient[float] = None
    will_renew: Lenient[bool] = None


class AvatarAllowance(Answered):
    """How many avatars can be made in this period.

    Attributes:
        limit: 0: not in the plan; `None`: without limit.
    """

    limit: Lenient[int] = None


class Usage(Answered):
    """What the account has used, and what it may use.

    Attributes:
        period: From when to when minutes are counted.
        included_minutes: Minutes of the plan.
        purchased_minutes: Minutes bought.
        total_remaining: Minutes left, of both kinds.
        active_sessions: Sessions that run now.
        active_minutes: Minutes of those so far, rounded up.
        concurrency: How many sessions run, and may run, at the same time.
        plan: The plan.
        avatars: How many avatars can be made; `None` if unknown.
    """

    period: Lenient[Period] = None
    included_minutes: Lenient[MinuteAccount] = None
    purchased_minutes: Lenient[MinuteAccount] = None
    total_remaining: Lenient[float] = None
    active_sessions: _Sessions = None
    active_minutes: Lenient[float] = None
    concurrency: Lenient[Concurrency] = None
    plan: Lenient[Plan] = None
    avatars: Lenient[AvatarAllowance] = None


class VoiceAgentFields(TypedDict, total=False):
    """Argument: the voice of an agent, or the part of it that is to change.

    Attributes:
        provider, agent_id, auth_method: As in `VoiceAgent`.
    """

    provider: str
    agent_id: str
    auth_method: Literal["public", "api_key", "token"]


# Beside a method that is called `list`, `list[...]` cannot be written.
SessionList: TypeAlias = list[Session]
"""A plain `list` of `Session`s."""

AgentList: TypeAlias = list[Agent]
"""A plain `list` of `Agent`s."""

LinkList: TypeAlias = list[Link]
"""A plain `list` of `Link`s."""

SessionStatus = Literal["all", "started", "ended"]  # what a list can be asked for
LinkStatus = Literal["active", "paused", "expired"]
LinkFilter = Literal["all", "active", "paused", "expired"]  # what a list can be asked for
