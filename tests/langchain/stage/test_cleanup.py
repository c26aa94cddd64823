"""However a stream ends, the link is left, the session is ended and no task is left."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agenthuman_plugins.client import SpeechLinkError
from tests.langchain.stage.talk import END, Talk, pcm, said, text, tts
from tests.virtual_time import in_virtual_time


def check_nothing_is_left(talk: Talk) -> None:
    assert not talk.lender.running
    assert all(link.left or not link.joined for link in talk.links)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not others, others


@in_virtual_time
async def test_end_of_upstream_lets_the_avatar_finish() -> None:
    """When upstream ends, what was said is spoken to its end before the stream is over."""
    talk = Talk()
    async with talk:
        await talk.send(said("Bye"), text("Goodbye, and thank you."), tts(4.0))
        await talk.end()
    assert talk.out[-1]["type"] == "avatar_finished"
    assert (talk.out[-1]["text"], talk.out[-1]["interrupted"]) == ("Goodbye, and thank you.", False)
    check_nothing_is_left(talk)


@in_virtual_time
async def test_end_of_upstream_before_the_avatar_is_here() -> None:
    """A short stream waits for the avatar that is on its way, so that its speech is heard."""
    talk = Talk(links=[{"connect_delay_s": 5.0}])
    async with talk:
        await talk.send(tts(1.0))
        await talk.end()
    assert bytes(talk.link.sent) == pcm(1.0)
    check_nothing_is_left(talk)


@in_virtual_time
async def test_end_of_upstream_does_not_wait_for_ever() -> None:
    """An avatar that never comes to the end of its speech holds the end up for a bounded time only."""
    talk = Talk()
    async with talk:
        await talk.send(tts(1.0))
        await talk.until_kind("avatar_connected")
        talk.link._player.cancel()  # type: ignore[union-attr]
        talk.stage._stream._voice.tick = lambda: None  # type: ignore[method-assign, union-attr]
        at = asyncio.get_running_loop().time()
        await talk.end()
        assert asyncio.get_running_loop().time() - at < 10
    check_nothing_is_left(talk)


@in_virtual_time
async def test_end_of_upstream_without_speech_is_at_once() -> None:
    """A stream without speech does not wait for an avatar."""
    talk = Talk(links=[{"connect_delay_s": 15.0}])
    async with talk:
        await talk.send({"type": "x"})
        at = asyncio.get_running_loop().time()
        await talk.end()
        assert asyncio.get_running_loop().time() == at
    check_nothing_is_left(talk)


@pytest.mark.parametrize("listen", [True, False])
@in_virtual_time
async def test_error_of_upstream(listen: bool) -> None:
    """An error of upstream comes out behind the events before it, and the avatar falls silent at once."""
    talk = Talk(listen=listen)
    async with talk:
        await talk.send(said("Hi"), text("Hello."), tts(5.0))
        await talk.until_kind("avatar_started")
        at = asyncio.get_running_loop().time()
        await talk.send({"type": "last"}, ValueError("upstream"))
        with pytest.raises(ValueError, match="upstream"):
            await talk.end()
        assert talk.out[-1] == {"type": "last"}
        assert asyncio.get_running_loop().time() - at < 0.5
    check_nothing_is_left(talk)


@in_virtual_time
async def test_upstream_that_cancels_itself() -> None:
    """A cancellation that comes from upstream ends the stream; nobody waits for ever."""
    talk = Talk()

    async def upstream() -> AsyncIterator[Any]:
        yield tts(1.0)
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        async for _ in talk.stage(upstream()):
            pass
    check_nothing_is_left(talk)


@in_virtual_time
async def test_upstream_is_closed() -> None:
    """A generator upstream is closed with the stage, so that it can clean up."""
    talk, closed = Talk(), []

    async def upstream() -> AsyncIterator[Any]:
        try:
            while True:
                yield tts(0.1)
        finally:
            closed.append(True)

    stream = talk.stage(upstream())
    await anext(stream)
    await stream.aclose()
    assert closed == [True]
    check_nothing_is_left(talk)


@pytest.mark.parametrize("listen", [True, False])
@pytest.mark.parametrize("problem", [False, True])
@in_virtual_time
async def test_cancelled_at_every_moment(listen: bool, problem: bool) -> None:
    """Cancelled at any step of a conversation, a stream leaves nothing behind."""
    steps, ended = 0, False
    while not ended:
        talk = Talk(listen=listen, links=[{"connect_delay_s": 0.2}])
        talk.lender.delay_s = 0.2
        if problem:
            talk.lender.problem = SpeechLinkError("no")
        async with talk:
            await talk.send(
                said("Hi"), text("Hello."), tts(1.0), said("No"), text("Fine."), tts(1.0), END, None
            )
            assert talk._task is not None
            for _ in range(steps):
                await asyncio.sleep(0 if steps < 60 else 0.02)
            ended = talk._task.done()
            talk._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await talk._task
            check_nothing_is_left(talk)
        steps += 1
    assert steps > 30
