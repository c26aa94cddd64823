"""The stage in LangChain's own pipeline of generators."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from langchain_core.runnables import RunnableGenerator, RunnableLambda

from tests.langchain.stage.talk import END, Talk, said, text, tts
from tests.virtual_time import in_virtual_time


async def agent(events: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for event in events:
        yield event
        if event["type"] == "stt_output":
            yield text("Hello.")
            yield END


async def voice(events: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for event in events:
        yield event
        if event["type"] == "agent_chunk":
            yield tts(0.5)


def pipeline(talk: Talk) -> Any:
    return (
        RunnableGenerator(talk.stage.listen)
        | RunnableGenerator(agent)
        | RunnableGenerator(voice)
        | RunnableGenerator(talk.stage)  # type: ignore[arg-type]
    )


async def one_turn() -> AsyncIterator[Any]:
    yield said("Hi")
    await asyncio.sleep(5)


@in_virtual_time
async def test_pipeline_of_runnable_generators() -> None:
    """`RunnableGenerator` takes `stage.listen` and the stage itself; the thread comes from the run's configuration."""
    talk = Talk()
    config: Any = {"configurable": {"thread_id": 17}}
    out = [event["type"] async for event in pipeline(talk).atransform(one_turn(), config)]
    assert [kind for kind in out if kind != "avatar_text"][:2] == ["stt_output", "agent_chunk"]
    assert out[-1] == "avatar_finished"
    assert talk.lender.threads == ["17"]
    assert not talk.lender.running


@in_virtual_time
async def test_thread_of_the_stage_comes_first() -> None:
    """A `thread_id` given to the stage is taken, whatever the run's is."""
    talk = Talk(thread_id="ada")
    config: Any = {"configurable": {"thread_id": "bob"}}
    async for _ in pipeline(talk).atransform(one_turn(), config):
        pass
    assert talk.lender.threads == ["ada"]


@pytest.mark.parametrize("after_s", [0.0, 0.1, 0.5, 1.0])
@in_virtual_time
async def test_pipeline_that_is_cancelled(after_s: float) -> None:
    """A pipeline that is cancelled leaves no session and no task."""
    talk = Talk()

    async def run() -> None:
        async for _ in pipeline(talk).atransform(one_turn()):
            pass

    task = asyncio.create_task(run())
    await asyncio.sleep(after_s)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await asyncio.sleep(1)
    assert not talk.lender.running
    assert asyncio.all_tasks() == {asyncio.current_task()}


@in_virtual_time
async def test_reader_that_leaves_early() -> None:
    """A program that leaves the loop inside `aclosing` has left the room and ended the session after it."""
    talk = Talk()
    async with contextlib.aclosing(talk.stage):
        async for event in pipeline(talk).atransform(one_turn()):
            if event["type"] == "avatar_started":
                break
    assert not talk.lender.running
    assert talk.link.left


@in_virtual_time
async def test_reader_that_leaves_early_without_closing() -> None:
    """A program that just leaves the loop has the session ended by Python's own clean-up of generators."""
    talk = Talk()
    async for event in pipeline(talk).atransform(one_turn()):
        if event["type"] == "avatar_started":
            break
    await asyncio.sleep(1)
    assert not talk.lender.running
    assert talk.link.left


@in_virtual_time
async def test_stage_in_a_runnable_that_calls_it() -> None:
    """A stage that is called inside of a runnable finds the thread of that run."""
    talk = Talk()

    async def serve(_: str) -> str:
        async for _event in talk.stage(one_turn()):
            pass
        return "done"

    await RunnableLambda(serve).ainvoke("go", {"configurable": {"thread_id": "t"}})
    assert talk.lender.threads == ["t"]
