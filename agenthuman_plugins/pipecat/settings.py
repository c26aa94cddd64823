"""What can be changed while the bot runs."""

from dataclasses import dataclass, field
from typing import Any, Literal

from pipecat.frames.frames import ServiceUpdateSettingsFrame
from pipecat.services.settings import NOT_GIVEN, ServiceSettings  # type: ignore[attr-defined]  # in 1.8 its only place

from agenthuman_plugins.client import ConfigurationError


def _not_given() -> Any:
    """A field's default, in Pipecat's way: a delta changes only what is given."""
    return field(default_factory=lambda: NOT_GIVEN)


@dataclass
class AgentHumanVideoSettings(ServiceSettings):
    """Settings of `AgentHumanVideoService` that can be changed while the pipeline runs.

    What is given to the constructor as an argument belongs to a session (avatar, ratio, room, metadata) or to the
    service's whole life (key, client) and needs a new service.

    Attributes:
        avatar_wait_s: Seconds that speech waits for an avatar that is on its way before it passes as plain audio;
            default 3.
        no_audio_timeout_s: Seconds without a voice from the avatar while it should speak, after which it counts
            as failed; a pause in the speech itself does not count. Default 3.
        on_failure: `fall_back` (default) goes on with plain audio and brings the avatar back in the background;
            `fail` gives up the avatar with a permanent error, on which the pipeline's `ProcessorUnusablePolicy`
            decides whether the bot ends. While it goes on, it keeps its voice.
        max_idle_secs: Seconds without speech after which the session is ended, so that nobody pays for a silent
            avatar; the next speech opens a new one. `None` (default) keeps it.
    """

    avatar_wait_s: float = _not_given()
    no_audio_timeout_s: float = _not_given()
    on_failure: Literal["fall_back", "fail"] = _not_given()
    max_idle_secs: float | None = _not_given()

    def check(self) -> None:
        """Raise on values that cannot work.

        Raises:
            ConfigurationError: A time is not positive, or the policy is unknown.
        """
        given = self.given_fields()
        for name in ("no_audio_timeout_s", "max_idle_secs", "avatar_wait_s"):
            value = given.get(name, 1.0)
            if value is None and name == "max_idle_secs":
                continue
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not value >= 0 or (value == 0 and name != "avatar_wait_s"):  # NaN is neither
                raise ConfigurationError(f"{name} is {value!r}; it must be a positive number of seconds.")
        if given.get("on_failure", "fail") not in ("fall_back", "fail"):
            raise ConfigurationError(
                f"on_failure is {given['on_failure']!r}; allowed are fall_back and fail."
            )


@dataclass
class AgentHumanVideoUpdateSettingsFrame(ServiceUpdateSettingsFrame[AgentHumanVideoSettings]):
    """Changes settings of a running `AgentHumanVideoService`; pass them as `delta`."""


def complete_settings(given: ServiceSettings | None) -> AgentHumanVideoSettings:
    """The defaults with what was given put over them."""
    settings = AgentHumanVideoSettings(
        model=None, avatar_wait_s=3.0, no_audio_timeout_s=3.0, on_failure="fall_back", max_idle_secs=None
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
