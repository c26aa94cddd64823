"""Real demos, from the first visit to the last process."""

import asyncio
import signal

import httpx
import pytest

from tests.demo.conftest import END_TIMEOUT_S, running_demo
from tests.demo.visitor import Visitor
from tests.emulator.processes import still_alive

pytestmark = [pytest.mark.media, pytest.mark.usefixtures("network")]


async def test_a_visitor_is_greeted_answered_and_obeyed():
    """A face at once, words as they are spoken, an answer to text, silence on request, and a true memory of it.

    A demo that is terminated while the visitor is there leaves nothing behind, as with Ctrl-C.
    """
    async with (
        running_demo("--port", "0", "--say", "Welcome to this very first visit.") as demo,
        Visitor.visiting(await demo.url()) as visitor,
    ):
        await visitor.until(lambda: visitor.pictures > 10)
        visitor.send(type="sound")
        await visitor.until(lambda: visitor.words == "Welcome to this very first visit.")
        await visitor.told("speaking", on=False)

        visitor.messages.clear()
        visitor.send(type="text", text="Tell me a story")
        await visitor.until(lambda: len(visitor.words.split()) > 5)
        visitor.send(type="interrupt")
        await visitor.told("interrupted")
        heard = visitor.words
        assert "Once upon a time" in heard
        assert "jumping together" not in heard

        visitor.messages.clear()
        visitor.send(type="text", text="What did you just say?")
        answer = f"The last thing that you heard from me was: {heard}"
        await visitor.until(lambda: len(visitor.words) >= len(answer))
        assert visitor.words.startswith(answer)
        family = demo.family()
        assert await demo.end(signal.SIGTERM) == 0
        assert not await asyncio.to_thread(still_alive, family, END_TIMEOUT_S)
    assert "Sessions opened: 1, all ended" in demo.text
    assert "Traceback" not in demo.text


async def test_one_visitor_at_a_time():
    """A second page is told in one sentence why it has to wait; it is let in when the first has gone or vanished."""
    async with running_demo("--port", "0") as demo:
        url = await demo.url()
        async with Visitor.visiting(url) as first:
            await first.told("avatar", here=True)
            with pytest.raises(httpx.HTTPStatusError) as refusal:
                async with Visitor.visiting(url):
                    pass
            assert refusal.value.response.status_code == 409
            assert "one session at a time" in refusal.value.response.json()["error"]
        async with Visitor.visiting(url) as second:  # at once, as after a reload
            await second.told("avatar", here=True)
            second.vanish()
            await second.told("ended")
        async with Visitor.visiting(url) as third:
            await third.told("avatar", here=True)
        await demo.end(signal.SIGTERM)
    assert "Sessions opened: 3, all ended" in demo.text


async def test_ctrl_c_leaves_nothing_behind():
    """In the middle of a reply: exit code 0, the session ended by the demo, no process left, no traceback."""
    async with running_demo("--port", "0") as demo, Visitor.visiting(await demo.url()) as visitor:
        await visitor.told("avatar", here=True)
        visitor.send(type="sound")
        await visitor.told("words")
        family = demo.family()
        assert len(family) >= 2  # at least the emulator and an avatar
        assert await demo.end(signal.SIGINT) == 0
        assert not await asyncio.to_thread(still_alive, family, END_TIMEOUT_S)
    assert "Sessions opened: 1, all ended" in demo.text
    assert "Traceback" not in demo.text


async def test_a_killed_demo_leaves_no_process_behind():
    """After kill -9 everything that it has started ends by itself."""
    async with running_demo("--port", "0") as demo, Visitor.visiting(await demo.url()) as visitor:
        await visitor.told("avatar", here=True)
        family = demo.family()
        await demo.end(signal.SIGKILL)
        assert not await asyncio.to_thread(still_alive, family, END_TIMEOUT_S)
