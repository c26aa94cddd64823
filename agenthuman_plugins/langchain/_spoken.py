"""What comes of a text that was given to an avatar."""

from dataclasses import dataclass

_TOLERANCE_S = 0.1  # avatars count in steps of this length


class SayError(Exception):
    """Raised when a text was not spoken, or not to its end; the text is for the model."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """How a text was spoken.

    Attributes:
        seconds: Length of the speech that was made, until it was interrupted.
        seconds_played: How much of it was played.
        interrupted: Whether it was cut short.
    """

    seconds: float
    seconds_played: float
    interrupted: bool

    @property
    def complete(self) -> bool:
        """Whether all of it was heard."""
        return not self.interrupted and self.seconds_played >= self.seconds - _TOLERANCE_S
