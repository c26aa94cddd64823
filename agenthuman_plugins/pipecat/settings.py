"""What can be changed while the bot runs."""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from pipecat.frames.frames import ServiceUpdateSettingsFrame
from pipecat.services.settings import NOT_GIVEN, ServiceSettings  # type: ignore[attr-defined]  # in 1.8 its only place

from agenthuman_plugins.client import ConfigurationError


def _not_given() -> Any:
    """A field's default, in Pipecat's way: a delta changes only what is given."""
    return field(default_factory=lambda: NOT_GIVEN)


@dataclass
class AgentHumanVideoSettings(ServiceSettings):
    """Settings of `AgentHumanVideoService` that can be changed while the pipeline runs.

    The constructor's other arguments (ratio, room, metadata, key, client) belong to the service's whole life.

    Example:
        ```python
        settings = AgentHumanVideoSettings(max_idle_secs=120, on_failure="fail")
        avatar = AgentHumanVideoService(settings=settings)
        ```

    Attributes:
        avatar: Avatar id; `None` reads `AGENTHUMAN_AVATAR`, then takes the default of the vendor's LiveKit plugin
            (inferred). A new one takes over at the end of a reply, and `on_avatar_changed` reports it. One that is refused changes nothing.
        avatar_wait_s: Seconds that speech waits for an avatar that is on its way before it passes as plain audio;
            default 3.
        no_audio_timeout_s: Seconds without a voice from the avatar while it should speak, after which it counts
            as failed; a pause in the speech itself does not count. Default 3.
        on_failure: `fall_back` (default) continues with plain audio and brings the avatar back in the background;
            `fail` gives up the avatar with a permanent error, on which the pipeline's `ProcessorUnusablePolicy`
            decides whether the bot ends. While it goes on, it keeps its voice.
        max_idle_secs: Seconds without speech, the bot's or the user's, after which the session is ended, so that nobody
            pays for a silent avatar; the next speech opens a new one. `None` (default) keeps it.
        max_session_secs: Seconds of sessions, added up over the whole run, after which the avatar is given up: a cap on
            what the bot costs. `None` (default) sets none.
        renew_before_s: Seconds before the end of a session, as the plan limits it, at which the next one is made ready;
            at most a quarter of its length. Default 60. Only while somebody speaks: a bot that was silent for five
            minutes lets its session end, and opens one with the next reply.
        slot_wait_s: Seconds for which a full account is asked again before the avatar is given up; `None` (default)
            asks as long as the bot lives.
    """

    avatar: str | None = _not_given()

    avatar_wait_s: float = _not_given()
    no_audio_timeout_s: float = _not_given()
    on_failure: Literal["fall_back", "fail"] = _not_given()
    max_idle_secs: float | None = _not_given()
    max_session_secs: float | None = _not_given()
    renew_before_s: float = _not_given()
    slot_wait_s: float | None = _not_given()

    def check(self) -> None:
        """Raise on values that cannot work.

        Raises:
            ConfigurationError: A time is not positive, the avatar is no id, or the policy is unknown.
        """
        given = self.given_fields()
        for name, limits in _TIMES.items():
            value = given.get(name, 1.0)
            if value is None and limits.optional:
                continue
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not value >= 0 or (value == 0 and not limits.zero):  # NaN is neither
                raise ConfigurationError(f"{name} is {value!r}; it must be {limits}.")
        if given.get("on_failure", "fail") not in ("fall_back", "fail"):
            raise ConfigurationError(
                f"on_failure is {given['on_failure']!r}; allowed are fall_back and fail."
            )
        avatar = given.get("avatar")
        if avatar is not None and not (isinstance(avatar, str) and avatar.strip()):
            raise ConfigurationError(
                f"avatar is {avatar!r}; it must be an avatar id, or None for the default."
            )


class _Limits(NamedTuple):
    """What a time may be."""

    optional: bool = False
    zero: bool = False

    def __str__(self) -> str:
        number = "a number of seconds from 0 on" if self.zero else "a positive number of seconds"
        return f"{number}, or None" if self.optional else number


_TIMES = {
    "avatar_wait_s": _Limits(zero=True),
    "no_audio_timeout_s": _Limits(),
    "max_idle_secs": _Limits(optional=True),
    "max_session_secs": _Limits(optional=True),
    "renew_before_s": _Limits(zero=True),
    "slot_wait_s": _Limits(optional=True, zero=True),
}


@dataclass
class AgentHumanVideoUpdateSettingsFrame(ServiceUpdateSettingsFrame[AgentHumanVideoSettings]):
    """Changes settings of a running `AgentHumanVideoService`; pass them as `delta`.

    Example:
        ```python
        delta = AgentHumanVideoSettings(avatar="PUBLIC/Avatars/sara-office")
        await worker.queue_frame(AgentHumanVideoUpdateSettingsFrame(delta=delta))
        ```
    """


def complete_settings(given: ServiceSettings | None) -> AgentHumanVideoSettings:
    """The defaults with what was given put over them."""
    settings = AgentHumanVideoSettings(
        model=None,
        avatar=None,
        avatar_wait_s=3.0,
        no_audio_timeout_s=3.0,
        on_failure="fall_back",
        max_idle_secs=None,
        max_session_secs=None,
        renew_before_s=60.0,
        slot_wait_s=None,
    )
    if given is not None:
        settings.apply_update(given)  # type: ignore[arg-type]  # a plain ServiceSettings has fewer fields
    settings.check()
    return settings


def delta_of(frame: AgentHumanVideoUpdateSettingsFrame) -> AgentHumanVideoSettings:
    """What a frame changes; its delta may be a plain `ServiceSettings`.

    Raises:
        ConfigurationError: A value cannot work.
    """
    delta: ServiceSettings | None = frame.delta
    if not isinstance(delta, AgentHumanVideoSettings):
        delta = AgentHumanVideoSettings.from_mapping(
            frame.settings if delta is None else delta.given_fields()
        )
    delta.check()
    return delta
