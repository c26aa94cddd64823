"""What the service says about the parameters of an output transport."""

from typing import Any

import pytest
from pipecat.transports.base_transport import TransportParams

from agenthuman_plugins.pipecat.picture._check import check_params, check_size


def good(**changes: Any) -> TransportParams:
    """Parameters that fit an avatar of 1280x960."""
    return TransportParams(
        **{
            "video_out_enabled": True,
            "video_out_is_live": True,
            "video_out_width": 1280,
            "video_out_height": 960,
            "video_out_framerate": 30,
            **changes,
        }
    )


def test_good_parameters_need_no_word() -> None:
    """A transport of the avatar's shape, live and faster than the avatar, is left alone."""
    assert check_params(good(), aspect_ratio="4:3") == []
    assert check_size(good(), 1280, 960, scaled_here=False) == []


@pytest.mark.parametrize(
    ("changes", "fix"),
    [
        pytest.param({"video_out_enabled": False}, "set video_out_enabled=True.", id="off"),
        pytest.param({"video_out_width": 0}, "set video_out_width and video_out_height.", id="no size"),
        pytest.param({"video_out_is_live": False}, "set video_out_is_live=True.", id="not live"),
        pytest.param(
            {"video_out_height": 720},
            "set video_out_width=1280 and video_out_height=960.",
            id="another shape",
        ),
        pytest.param({"video_out_framerate": 25}, "set video_out_framerate=30.", id="same rate"),
        pytest.param({"video_out_framerate": 15}, "set video_out_framerate=30.", id="lower rate"),
    ],
)
def test_each_mistake_has_one_sentence_that_ends_in_its_fix(changes: dict[str, Any], fix: str) -> None:
    """The user can copy the fix from the log."""
    (sentence,) = check_params(good(**changes), aspect_ratio="4:3")
    assert sentence.endswith(fix)


def test_all_mistakes_are_told_at_once() -> None:
    """Pipecat's defaults are wrong in two ways for a square avatar, once video is on; nobody starts three times."""
    params = TransportParams(video_out_enabled=True, video_out_framerate=25)
    assert len(check_params(params, aspect_ratio="1:1")) == 3


def test_without_video_nothing_else_is_told() -> None:
    """What a transport that shows nothing would show does not matter."""
    assert len(check_params(TransportParams(), aspect_ratio="1:1")) == 1


@pytest.mark.parametrize(("ratio", "size"), [("4:3", (640, 480)), ("3:4", (960, 1280)), ("1:1", (512, 512))])
def test_every_size_of_the_avatars_shape_is_fine(ratio: str, size: tuple[int, int]) -> None:
    """The shape is checked before the avatar is there, the size when its first picture is."""
    params = good(video_out_width=size[0], video_out_height=size[1])
    assert check_params(params, aspect_ratio=ratio) == []


@pytest.mark.parametrize("scaled_here", [True, False])
def test_another_size_costs(scaled_here: bool) -> None:
    """The sentence names both sizes, who scales, and the fix."""
    (sentence,) = check_size(good(), 640, 480, scaled_here=scaled_here)
    assert "640x480" in sentence
    assert "1280x960" in sentence
    assert ("opencv" in sentence) is not scaled_here
    assert sentence.endswith("set video_out_width=640 and video_out_height=480.")
