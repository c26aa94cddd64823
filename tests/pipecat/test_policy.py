"""What `on_failure="fail"` means under each of Pipecat's policies for a processor that is of no use any more."""

import asyncio

import pytest
from pipecat.pipeline.worker import ProcessorUnusablePolicy

from agenthuman_plugins.client import UsageLimitError
from tests.pipecat.bot import WAIT_S, FakeClient, running, tone


@pytest.mark.parametrize("policy", list(ProcessorUnusablePolicy))
async def test_full_account_fails_a_bot_that_is_nothing_without_a_face(
    policy: ProcessorUnusablePolicy,
) -> None:
    """A full account gives up the avatar at once; the bot ends, or goes on with its voice, as the policy says."""
    error = UsageLimitError("too many sessions at once", status_code=429)
    error.limit = "concurrency"
    client = FakeClient(error)
    client.open_now.clear()
    async with running(client, settings={"on_failure": "fail"}) as bot:
        bot.worker._processor_unusable_policy = policy
        ended = asyncio.Event()

        @bot.worker.event_handler("on_pipeline_finished")
        async def on_finished(*_: object) -> None:
            ended.set()

        client.open_now.set()
        await bot.until_event("on_gave_up")
        assert bot.events["on_fallback_started"]
        assert len(client.options) == 1
        if policy is ProcessorUnusablePolicy.CONTINUE:
            await bot.say(tone(0.1))
            await bot.until_stopped("c1")
            assert not ended.is_set()
        else:
            async with asyncio.timeout(WAIT_S):
                await ended.wait()
