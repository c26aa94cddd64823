"""The measure of lips and voice, on replies whose truth is known."""

import random
from collections.abc import Callable

import pytest

from agenthuman_plugins.emulator.voice import Voice
from benchmarks._lips import Lips, compare, in_step

# Its syllables are so even that the voice fits the mouth a syllable away nearly as well as in its place.
SENTENCE = "Instead she jumped, each day a little higher, until one day the dog opened his eyes."
SIZE = (640, 480)
FRAME_S = 1 / 60  # of a display
EXACT_S = 0.03
LEAD_S = 0.5


@pytest.fixture(scope="module")
def exact() -> Lips:
    """The sentence with picture and voice in perfect step."""
    return in_step(Voice().synthesize(SENTENCE), SIZE, "a face")


def as_shown(exact: Lips, *, picture_s: Callable[[float], float], voice_s: Callable[[float], float]) -> Lips:
    """The sentence on a display whose pictures and sound are so late at each moment of it, as a browser counts it."""
    noise = random.Random(1)
    seen = [
        (round((at + picture_s(at)) / FRAME_S) * FRAME_S, pixels / 4 + noise.uniform(-4, 4))
        for at, pixels in exact.seen
    ]
    heard = [(at + voice_s(at) + noise.uniform(0, 0.004), 0.7 * loud) for at, loud in exact.heard]
    return Lips(seen, sorted(heard))


@pytest.mark.parametrize("lag_s", [-0.2, 0.0, 0.06, 0.3])
def test_a_steady_lag_is_found_in_every_stretch(exact: Lips, lag_s: float) -> None:
    """Each stretch says how much later its voice came, none is off by a syllable, and nearly all can be judged."""
    reply = as_shown(exact, picture_s=lambda _: 0.3, voice_s=lambda _: 0.3 + lag_s)
    stretches = compare(reply, exact)
    found = [s.voice_behind_s for s in stretches if s.voice_behind_s is not None]
    assert found == pytest.approx([lag_s] * len(found), abs=EXACT_S)
    assert len(found) >= 0.9 * len(stretches) > 20


def test_a_voice_that_is_late_at_the_start_alone_shows_in_the_first_second(exact: Lips) -> None:
    """The first second of a reply is told apart from the rest, which was in step again."""
    reply = as_shown(exact, picture_s=lambda _: 0.3, voice_s=lambda at: 0.3 + 0.15 * (at < LEAD_S + 1.1))
    stretches = compare(reply, exact)
    first = [s.voice_behind_s for s in stretches if s.is_first and s.voice_behind_s is not None]
    rest = [s.voice_behind_s for s in stretches if s.at_s > 1.3 and s.voice_behind_s is not None]
    assert first == pytest.approx([0.15] * len(first), abs=EXACT_S)
    assert rest == pytest.approx([0.0] * len(rest), abs=EXACT_S)
    assert first
    assert rest


def test_a_voice_with_a_hole_is_followed(exact: Lips) -> None:
    """After a hole in voice and picture, what comes behind it is found where it is."""
    late = lambda at: 0.3 + 0.4 * (at > 2.5)  # noqa: E731 - both the same
    stretches = compare(as_shown(exact, picture_s=late, voice_s=late), exact)
    after = [s.voice_behind_s for s in stretches if s.at_s > 2.5 and s.voice_behind_s is not None]
    assert after == pytest.approx([0.0] * len(after), abs=EXACT_S)
    assert after


def test_a_picture_that_stands_still_is_not_judged(exact: Lips) -> None:
    """Where the mouth did not move there is no lag to speak of, and the stretch counts as not judged."""
    reply = as_shown(exact, picture_s=lambda _: 0.3, voice_s=lambda _: 0.3)
    at, pixels = zip(*reply.seen, strict=True)
    stands = [(t, pixels[0] if LEAD_S < t < LEAD_S + 3 else p) for t, p in zip(at, pixels, strict=True)]
    stretches = compare(Lips(stands, reply.heard), exact)
    assert all(s.voice_behind_s is None for s in stretches if 0.3 < s.at_s < 1.5)
    assert any(s.voice_behind_s is not None for s in stretches if s.at_s > 3)


def test_a_reply_that_was_cut_is_judged_up_to_there(exact: Lips) -> None:
    """The end of what came is the end of what is judged."""
    reply = as_shown(exact, picture_s=lambda _: 0.3, voice_s=lambda _: 0.36).between(0, 3)
    stretches = compare(reply, exact)
    assert max(s.at_s for s in stretches) < 3
    found = [s.voice_behind_s for s in stretches if s.voice_behind_s is not None]
    assert found == pytest.approx([0.06] * len(found), abs=EXACT_S)
    assert len(found) >= 8
