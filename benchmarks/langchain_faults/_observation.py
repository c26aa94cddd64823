"""What one cell shows."""

from dataclasses import dataclass

BOUND_S = 90.0  # every tool runs with its own default time limits; this is where waiting for them stops


@dataclass
class Observation:
    """What was seen in one cell. `None` where it does not apply.

    Attributes:
        status: Status of the tool's message.
        text: Beginning of its content, which the model reads.
        length: Length of the content in characters.
        raised: Type and text of what came out of the agent.
        ended: Whether the run came to an end by itself within `BOUND_S`.
        seconds: How long it took.
        cancelled: Whether the program saw the cancellation that it asked for.
        went_on: Requests that were delivered or begun after the cancelled run had returned.
        sessions_left: Billed sessions that the call left running.
        largest_request: Bytes of the largest request while the fault was on.
        secret_shown: Whether the key is in what the model reads or what was raised.
    """

    subject: str
    fault: str
    way: str
    status: str | None = None
    text: str = ""
    length: int = 0
    raised: str | None = None
    ended: bool = True
    seconds: float = 0.0
    cancelled: bool | None = None
    went_on: int | None = None
    sessions_left: int = 0
    largest_request: int = 0
    secret_shown: bool = False
