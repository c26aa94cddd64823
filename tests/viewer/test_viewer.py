"""Who is let in, when the room is joined and left, and what the pages are told."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

import agenthuman_plugins.viewer
from agenthuman_plugins.viewer import Viewer, ViewerError, ViewerState, _browser, _viewer
from tests.viewer.conftest import FakeRoom, offering

WAIT_S = 30.0  # hang limit


def directions(sdp: str) -> list[str]:
    """How media goes in each section, as the answer has it."""
    return re.findall(r"^a=(sendonly|sendrecv|recvonly|inactive)", sdp, re.MULTILINE)


async def gone(viewer: Viewer) -> None:
    """Wait until no browser watches."""
    async with asyncio.timeout(WAIT_S):
        while viewer.browsers:  # noqa: ASYNC110 - a browser that is dropped sets no event outside
            await asyncio.sleep(0.01)


async def test_a_page_gets_picture_and_voice_and_gives_nothing(viewer: Viewer) -> None:
    """Even a microphone that is offered is not taken: nobody would read what it sends."""
    async with offering(audio="sendrecv", video="sendrecv") as (_, offer):
        answer = await viewer.answer(offer)
    assert answer["type"] == "answer"
    assert directions(answer["sdp"]) == ["sendonly", "sendonly"]
    streams = set(re.findall(r"^a=msid:(\S+)", answer["sdp"], re.MULTILINE))
    assert len(streams) == 1, "browsers keep lips and voice in step within one stream"


async def test_a_microphone_is_taken_where_somebody_listens(viewer: Viewer) -> None:
    """With `on_microphone` the user's voice comes in over the same call."""
    async with offering(audio="sendrecv") as (_, offer):
        answer = await viewer.answer(offer, on_microphone=lambda _: None)
    assert directions(answer["sdp"]) == ["sendrecv", "sendonly"]


@pytest.mark.parametrize(
    "offer",
    [
        pytest.param({"sdp": "v=0", "type": "offer"}, id="cut-off"),
        pytest.param({"sdp": "v=0", "type": "nothing"}, id="no-offer"),
        pytest.param({"sdp": 1, "type": "offer"}, id="number"),
        pytest.param({}, id="empty"),
    ],
)
async def test_what_is_no_offer_is_refused(
    offer: dict[str, str], viewer: Viewer, rooms: list[FakeRoom]
) -> None:
    """It is one sentence for the page, and neither a browser nor a joined room remains."""
    with pytest.raises(ViewerError, match="cannot be used"):
        await viewer.answer(offer)
    assert viewer.browsers == 0
    assert rooms == []


async def test_more_browsers_than_may_watch_are_refused(viewer: Viewer, offer: dict[str, str]) -> None:
    """Offers at the same time cannot be too many either."""
    outcomes = await asyncio.gather(*(viewer.answer(offer) for _ in range(4)), return_exceptions=True)
    assert [isinstance(outcome, ViewerError) for outcome in outcomes] == [False, False, True, True]
    assert "2 windows watch this avatar" in str(outcomes[-1])


async def test_a_page_that_is_late_joins_no_room(
    viewer: Viewer, offer: dict[str, str], rooms: list[FakeRoom], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A viewer that is closed while it answers an offer joins no room, which nobody would leave."""
    answering, closed, answer_offer = asyncio.Event(), asyncio.Event(), _browser.Browser._answer

    async def slowly(browser: _browser.Browser, offer: object) -> dict[str, str]:
        answer = await answer_offer(browser, offer)
        answering.set()
        await closed.wait()
        return answer

    monkeypatch.setattr(_browser.Browser, "_answer", slowly)
    visit = asyncio.create_task(viewer.answer(offer))
    await answering.wait()
    await viewer.aclose("Over.")
    closed.set()
    with pytest.raises(ViewerError):
        await visit
    assert not rooms


async def test_a_closed_viewer_refuses(viewer: Viewer, offer: dict[str, str], rooms: list[FakeRoom]) -> None:
    """After `aclose` nobody is let in; it ended every visit and left the room."""
    await viewer.answer(offer)
    await viewer.aclose("Over.")
    await viewer.aclose()
    assert viewer.browsers == 0
    assert rooms[0].left.is_set()
    assert viewer.state == "ended"
    with pytest.raises(ViewerError, match="nothing to watch"):
        await viewer.answer(offer)


async def test_the_room_is_joined_for_the_first_browser_and_left_after_the_last(
    viewer: Viewer, offer: dict[str, str], rooms: list[FakeRoom]
) -> None:
    """Without a browser nothing is received; the next one brings it back."""
    assert rooms == []
    await asyncio.gather(viewer.answer(offer), viewer.answer(offer))
    await asyncio.sleep(0)
    assert [room.joined for room in rooms] == [("ws://rooms.test", "a-token", "agenthuman-avatar-agent")]
    for browser in list(viewer._browsers):
        browser.dismiss()
    await gone(viewer)
    async with asyncio.timeout(WAIT_S):
        await rooms[0].left.wait()
    await viewer.answer(offer)
    await asyncio.sleep(0)
    assert len(rooms) == 2
    assert viewer.state == "waiting"


async def test_a_room_that_is_lost_ends_the_visits(
    viewer: Viewer, offer: dict[str, str], rooms: list[FakeRoom], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pages are told why; one that calls again gets the room anew."""
    monkeypatch.setattr(_viewer, "_FAREWELL_S", 0.0)
    await viewer.answer(offer)
    await asyncio.sleep(0)
    rooms[0].lost.set_result("The room was closed.")
    await gone(viewer)
    assert (viewer.state, viewer._text) == ("ended", "The room was closed.")
    await viewer.answer(offer)
    await asyncio.sleep(0)
    assert len(rooms) == 2
    assert viewer.state == "waiting"


async def test_what_the_pages_show(viewer: Viewer, offer: dict[str, str], rooms: list[FakeRoom]) -> None:
    """Waiting for the avatar, quiet, speaking: a short pause belongs to the speech, and an avatar that left is awaited."""
    await viewer.answer(offer)
    await asyncio.sleep(0)
    [room] = rooms
    seen: list[ViewerState] = [viewer.state]

    def note() -> None:
        seen.append(viewer.state)

    room.hear(0.0, loud=True)  # no picture yet
    note()
    room.here(True)
    note()
    room.hear(1.0, loud=True)
    note()
    room.hear(1.3, loud=False)
    note()
    room.hear(1.5, loud=False)
    note()
    room.hear(2.0, loud=True)
    room.here(False)
    note()
    await viewer.aclose("Over.")
    note()
    room.here(True)  # too late
    note()
    assert seen == [
        "waiting", "waiting", "quiet", "speaking", "speaking", "quiet", "waiting", "ended", "ended"
    ]  # fmt: skip
    assert set(seen) == set(get_args(ViewerState))


def test_a_missing_package_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without aiortc the import says what to install."""
    monkeypatch.setattr(agenthuman_plugins.viewer, "_installed", lambda module: module != "aiortc")
    with pytest.raises(ImportError, match=r"aiortc.*agenthuman-plugins\[emulator\]"):
        agenthuman_plugins.viewer.__getattr__("Viewer")


def test_nothing_heavy_is_loaded_before_it_is_used() -> None:
    """The package, and an emulator that nobody watches, load neither LiveKit's client nor aiortc."""
    code = (
        "import sys, agenthuman_plugins.emulator as e, agenthuman_plugins.viewer, agenthuman_plugins.viewer.web\n"
        "e.Emulator\n"
        "print([name for name in ('livekit.rtc', 'aiortc', 'av') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.strip() == "[]", done.stderr
