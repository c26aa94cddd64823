"""How much later the avatar's voice comes than its picture.

The two travel apart: sound waits in the avatar's audio queue, in the jitter buffer, and until a block is full, and
carries no time stamp that a receiver could compare with the picture's. But an avatar reports the moment at which an
utterance starts, when it sends the first sample and the first picture of it; the report, the picture and the sound
travel over one network. So the sound's delay behind the report is measured, and the picture's is known well enough.
Between two reports the jitter buffer says how the delay changes.

Then the sound waits in the output transport, which plays it without a gap, while pictures are shown at once: every
hiccup of the machine makes that wait longer, until the reply is over.
"""

from collections import deque
from statistics import median

# Behind the picture, without the jitter buffer: the avatar's audio queue (50 ms) and half a block (20).
_USUAL_S = 0.07
# Encoding, jitter buffer and decoding of a picture, behind the report; 15-30 ms on all servers.
_PICTURE_S = 0.025
_LONGEST_TRANSIT_S = 0.4  # that is worth waiting for
_MAX_S = 0.2  # a larger difference is a late report, and a longer wait would show
_MAX_WAIT_S = 0.3  # at the transport
_REMEMBERED = 5
_BLOCKS = 15  # of sound, between which the wait goes up and down as the transport takes larger ones
# After an interruption sound is kept until it is known to be the new reply's: 80 ms of voice, in pieces of 40 ms.
_HELD_S = 0.1
_DEAD_ZONE_S = 0.015  # a smaller change is noise, and not worth a hitch in the picture


class LipSync:
    """Measures the voice's delay behind the picture, utterance by utterance."""

    def __init__(self) -> None:
        self._reported: tuple[int, float] | None = None  # the newest utterance, and when it was
        self._buffered_s = 0.0
        self._rest_s = _USUAL_S  # the delay without the jitter buffer
        self._rests: deque[float] = deque(maxlen=_REMEMBERED)
        self._delay_s = _USUAL_S
        self._measured_s: float | None = None
        self._answer_s = _LONGEST_TRANSIT_S  # from the sending of an utterance to its voice, as last heard
        self._waits: deque[float] = deque(maxlen=_BLOCKS)
        self._held_s = 0.0  # for how long the next voice will be kept before it is pushed

    @property
    def delay_s(self) -> float:
        """For how many seconds a picture has to wait for its voice."""
        return self._delay_s

    @property
    def measured_s(self) -> float | None:
        """How much later the voice came than its picture, as last measured; `None` if the avatar reports no starts."""
        return self._measured_s

    @property
    def transit_s(self) -> float:
        """How long the avatar's voice is under way, at most; its picture is no slower."""
        reported_s = max(self._rest_s + self._buffered_s + _PICTURE_S, 0.0)
        if self._measured_s is not None:
            return reported_s
        # Without reports of starts it is not known how much of the answer's time is the way, and how much is drawing.
        return max(reported_s, min(self._answer_s, _LONGEST_TRANSIT_S))

    def buffered(self, seconds: float) -> None:
        """Note for how long sound waits in the jitter buffer now."""
        self._buffered_s = seconds
        self._update()

    def answered(self, seconds: float) -> None:
        """Note how long after its sending the newest utterance is heard."""
        self._answer_s = seconds

    def waits(self, seconds: float) -> None:
        """Note for how long the newest block of sound waits at the output transport."""
        self._waits.append(min(seconds, _MAX_WAIT_S))
        self._update()

    def held_back(self, *, held: bool) -> None:
        """Note whether the voice that comes next will be kept for a moment, after which it waits at the transport."""
        self._held_s = _HELD_S if held else 0.0
        self._update()

    def nothing_waits(self) -> None:
        """Note that the output transport has played or dropped all sound."""
        self._waits.clear()

    def reported(self, number: int, at_s: float) -> None:
        """Note the avatar's report that it starts an utterance."""
        self._reported = number, at_s

    def heard(self, number: int, at_s: float) -> None:
        """Note when the sound of an utterance came.

        Args:
            number: The utterance.
            at_s: When its first sample came, the silence before its voice included.
        """
        if self._reported is None or self._reported[0] != number:
            return
        lag_s = at_s - self._reported[1] - _PICTURE_S
        self._reported = None
        # A picture that comes through no network is not as late as we take it for.
        self._measured_s = max(lag_s, 0.0)
        self._rests.append(lag_s - self._buffered_s)
        self._rest_s = median(self._rests)
        self._update()

    def _update(self) -> None:
        delay_s = min(max(self._rest_s + self._buffered_s, 0.0), _MAX_S)
        delay_s += median(self._waits) if self._waits else self._held_s
        if abs(delay_s - self._delay_s) > _DEAD_ZONE_S:
            self._delay_s = delay_s
