"""The face: sizes, mouth, idle life, looks."""

import itertools

import numpy as np
import pytest

from agenthuman_plugins.emulator.face import PEOPLE, Face, Look
from agenthuman_plugins.emulator.face._features import CAVITY
from agenthuman_plugins.emulator.face._motion import pose
from agenthuman_plugins.emulator.mouth import CLOSED, MouthShape

SIZES = [(640, 480), (480, 640), (512, 512)]
PEOPLE_BY_NAME = {look.name: look for look in PEOPLE}
STILL_S = 10.0  # some moment without a blink


@pytest.fixture(scope="module")
def face() -> Face:
    return Face(512, 512, PEOPLE_BY_NAME["Ava"])


def cavity_pixels(picture: np.ndarray) -> int:
    """Pixels with the colour of the inside of the mouth, in the lower half of the face."""
    height, width, _ = picture.shape
    area = picture[height // 2 : height * 3 // 4, width // 3 : width * 2 // 3].astype(int)
    return int((np.abs(area - np.array(CAVITY)).max(axis=2) < 12).sum())


@pytest.mark.parametrize(("width", "height"), [*SIZES, (1280, 960), (64, 64), (200, 64)])
def test_picture_has_the_size_asked_for(width: int, height: int) -> None:
    """A picture is (H, W, 3) bytes, whatever the ratio."""
    picture = Face(width, height, PEOPLE[0]).draw(0.0, MouthShape(open=1.0, wide=-1.0))
    assert picture.shape == (height, width, 3)
    assert picture.dtype == np.uint8
    assert picture.flags.c_contiguous


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_mouth_opens_with_the_shape(width: int, height: int) -> None:
    """A closed mouth shows nothing of its inside; the further it opens, the more."""
    face = Face(width, height, PEOPLE_BY_NAME["Ava"])
    seen = [cavity_pixels(face.draw(STILL_S, MouthShape(open=opening))) for opening in (0.0, 0.35, 0.7, 1.0)]
    assert seen[0] == 0
    assert seen[1] > 20
    assert seen == sorted(seen)
    assert seen[3] > 2 * seen[1]


@pytest.mark.parametrize("look", PEOPLE, ids=[look.name for look in PEOPLE])
def test_everybody_can_open_and_close_the_mouth(look: Look) -> None:
    """The inside of the mouth shows in every face, and in none when it is closed."""
    face = Face(320, 240, look)
    assert (
        cavity_pixels(face.draw(STILL_S, MouthShape(open=0.9)))
        > cavity_pixels(face.draw(STILL_S, CLOSED)) + 15
    )


def test_round_lips_are_narrower_than_spread_ones(face: Face) -> None:
    """`wide` changes the width of the mouth."""

    def width_of(wide: float) -> int:
        changed = np.abs(
            face.draw(STILL_S, MouthShape(open=0.5, wide=wide)).astype(int) - face.draw(STILL_S, CLOSED)
        ).max(axis=(0, 2))
        cavity = face.draw(STILL_S, MouthShape(open=0.5, wide=wide)).astype(int) - np.array(CAVITY)
        columns = np.nonzero((np.abs(cavity).max(axis=2) < 12)[256:384].any(axis=0))[0]
        assert changed.any()
        return int(np.ptp(columns[(columns > 170) & (columns < 342)]))

    assert width_of(1.0) > width_of(0.0) > width_of(-1.0)


def test_teeth_close_over_a_hiss(face: Face) -> None:
    """With teeth there is more white between the lips than with the same opening without."""

    def white(shape: MouthShape) -> int:
        return int((face.draw(STILL_S, shape)[310:370, 200:312].min(axis=2) > 195).sum())

    assert white(MouthShape(open=0.15, teeth=1.0)) > white(MouthShape(open=0.15)) + 50


def test_same_moment_gives_the_same_picture(face: Face) -> None:
    """A picture depends on time and shape alone, not on what was drawn before."""
    shape = MouthShape(open=0.4, wide=0.2, teeth=0.1)
    first = face.draw(2.5, shape)
    face.draw(7.1, CLOSED)
    assert np.array_equal(face.draw(2.5, shape), first)
    assert np.array_equal(Face(512, 512, PEOPLE_BY_NAME["Ava"]).draw(2.5, shape), first)


def test_idle_face_lives(face: Face) -> None:
    """Nothing is said, and still: head, chest and eyes move, by little."""
    pictures = [face.draw(t / 5, CLOSED).astype(int) for t in range(20)]
    steps = [np.abs(b - a) for a, b in itertools.pairwise(pictures)]
    assert all(step.max() > 0 for step in steps)
    assert np.mean(steps) < 6
    shoulders = [np.abs(b - a)[430:].max() for a, b in itertools.pairwise(pictures)]
    assert max(shoulders) > 0


def test_eyes_blink_every_few_seconds() -> None:
    """Both lids close several times a minute, for less than half a second."""
    closed = [pose(t / 50, 0.0).blink > 0.5 for t in range(60 * 50)]
    blinks = [len(list(run)) / 50 for shut, run in itertools.groupby(closed) if shut]
    assert 12 <= len(blinks) <= 30
    assert max(blinks) < 0.5


def test_same_id_has_the_same_look() -> None:
    """An avatar id always looks the same."""
    assert Look.of("avat_01KMZJ4WE5QCD9G3EK21QW8NJK") == Look.of("avat_01KMZJ4WE5QCD9G3EK21QW8NJK")


def test_ids_reach_every_person() -> None:
    """Different ids look different: all people come up among a few hundred."""
    looks = [Look.of(f"avat_{n}") for n in range(400)]
    assert {look.name for look in looks} == set(PEOPLE_BY_NAME)
    assert len(set(looks)) > 3 * len(PEOPLE)


def test_people_are_clearly_different() -> None:
    """At least eight people, no two of whom could be mistaken for each other."""
    assert len(PEOPLE) >= 8
    faces = [Face(160, 160, look).draw(0.0, CLOSED).astype(int) for look in PEOPLE]
    for one, other in itertools.combinations(faces, 2):
        assert np.abs(one - other).mean() > 8
