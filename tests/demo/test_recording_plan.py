import pytest

from agenthuman_plugins.demo._errors import DemoError
from agenthuman_plugins.demo._recording import plan


@pytest.mark.parametrize(
    ("speech_s", "interrupt_at", "length_s"),
    [
        pytest.param([3.0], [], 0.6 + 3.0 + 0.6, id="one"),
        pytest.param([3.0, 2.0], [], 0.6 + 3.0 + 0.6 + 2.0 + 0.6, id="two"),
        pytest.param([3.0, 2.0], [2.0], 2.0 + 1.2 + 2.0 + 0.6, id="first-interrupted"),
        pytest.param([3.0, 2.0], [4.5], 4.5 + 0.6, id="last-interrupted"),
        pytest.param([3.0, 2.0], [4.0, 2.0], 4.0 + 0.6, id="both-in-any-order"),
    ],
)
def test_length_of_a_recording(speech_s, interrupt_at, length_s):
    """An interruption ends its speech, and the next one begins when the user has spoken."""
    assert plan(speech_s, interrupt_at) == pytest.approx(length_s)


@pytest.mark.parametrize("interrupt_at", [[0.2], [3.8], [2.0, 2.5], [9.0]])
def test_nobody_is_interrupted_in_silence(interrupt_at):
    """A moment at which the avatar does not speak is refused before anything is recorded."""
    with pytest.raises(DemoError, match=f"nothing to interrupt at second {interrupt_at[-1]:g}"):
        plan([3.0, 2.0], interrupt_at)
