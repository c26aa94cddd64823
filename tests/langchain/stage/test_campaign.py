"""Conversations made from seeds: random events, avatars that fail, users who interrupt, and cancellation anywhere.

In virtual time, over avatars in this process. It leaves out the network and code that takes time; how slow things
are is drawn from a few values, and every loss is one that a link reports.
"""

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agenthuman_plugins.client import SpeechLinkError
from tests.langchain.stage.talk import END, Talk, partial, said, text, tts
from tests.virtual_time import run

SEEDS, ALL_SEEDS = 60, 1_000
WORDS = ["one ", "two, ", "three. ", "four ", "five ", "", " ", "六", "seven-eight "]
PAUSES = [0.0, 0.0, 0.0, 0.01, 0.1, 0.3, 0.6, 1.2, 4.0, 12.0]


def conversation(chance: random.Random) -> list[Any]:
    """Events, and what happens beside: a float is a pause, a callable is done to the conversation."""
    steps: list[Any] = []
    for _ in range(chance.randint(3, 40)):
        match chance.choice(["turn", "reply", "reply", "sound", "text", "end", "partial", "x", "beside"]):
            case "turn":
                steps += [partial("hm"), said(chance.choice(["Hi", "No", ""]))]
            case "reply":
                steps += [text(chance.choice(WORDS)) for _ in range(chance.randint(1, 5))]
                steps += [tts(chance.choice([0.1, 0.5, 2.0])) for _ in range(chance.randint(1, 5))]
                steps += [END] * chance.randint(0, 1)
            case "sound":
                words = [(chance.choice(WORDS), chance.random()) for _ in range(3)]
                steps.append({**tts(chance.random()), **({"words": words} if chance.random() < 0.3 else {})})
            case "text":
                steps.append(text(chance.choice(WORDS)))
            case "end":
                steps.append(dict(END))
            case "partial":
                steps.append(partial(chance.choice(["wait", "", "uh"])))
            case "x":
                steps.append(
                    {"type": chance.choice(["user_input", "tool_call", "odd"]), "n": chance.random()}
                )
            case "beside":
                steps.append(chance.choice(BESIDE))
        steps.append(chance.choice(PAUSES))
    return steps


async def _interrupt(talk: Talk) -> None:
    await talk.stage.interrupt()


async def _crash(talk: Talk) -> None:
    if talk.links:
        talk.link.crash()


async def _leave(talk: Talk) -> None:
    if talk.links:
        talk.link.disappear()


async def _restart(talk: Talk) -> None:
    if talk.links:
        talk.link.restart()


async def _hear(talk: Talk) -> None:
    heard = await talk.stage.heard()
    assert heard is None or heard["interrupted"]


async def _refuse(talk: Talk) -> None:
    talk.lender.problem = None if talk.lender.problem else SpeechLinkError("refused", retryable=True)


BESIDE = [_interrupt, _crash, _leave, _restart, _hear, _refuse]


class Slow:
    """Passes events on with random delays, between `listen` and the stage."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    async def __call__(self, events: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for event in events:
            if self._chance.random() < 0.1:
                await asyncio.sleep(self._chance.choice(PAUSES))
            yield event


async def play(seed: int) -> None:
    chance = random.Random(seed)
    listen, ending = chance.random() < 0.5, chance.choice(["end", "cancel", "error", "aclose"])
    options = [
        {
            "connect_delay_s": chance.choice([0.0, 0.5, 3.0, 25.0]),
            "reports_starts": chance.random() < 0.7,
            "reports_per_utterance": chance.choice([0, 1, 1, 2]),
            "report_delay_s": chance.choice([0.0, 0.0, 0.4]),
        }
        for _ in range(4)
    ]
    talk = Talk(listen=listen, links=options)
    talk.lender.delay_s = chance.choice([0.0, 1.0])
    if listen and chance.random() < 0.5:
        whole, slow = talk.stage.listen, Slow(chance)
        talk.stage.listen = lambda events: slow(whole(events))  # type: ignore[method-assign, assignment]
    sent: list[Any] = []
    async with talk:
        for step in conversation(chance):
            if isinstance(step, dict):
                sent.append(step)
                await talk.send(step)
            elif isinstance(step, float):
                await asyncio.sleep(step)
            else:
                await step(talk)
        assert talk._task is not None
        match ending:
            case "end":
                await talk.end()
            case "error":
                await talk.send(ValueError("of upstream"))
                with pytest.raises(ValueError, match="of upstream"):
                    await talk.end()
            case "aclose":
                await talk.stage.aclose()
                await talk._task
            case "cancel":
                talk._task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await talk._task
    await asyncio.sleep(0.01)  # Python closes generators that were left a moment later
    check(talk, sent, whole=ending in {"end", "error"})


def check(talk: Talk, sent: list[Any], *, whole: bool) -> None:
    passed = [event for event in talk.out if not event["type"].startswith("avatar_")]
    assert all(a is b for a, b in zip(passed, sent, strict=False)), "order"
    assert not whole or len(passed) == len(sent), "events are lost"
    assert not talk.lender.running, "a session is left"
    assert not +talk.lender.used_ids, "a session counts as in use"
    assert all(link.left or not link.joined for link in talk.links), "a link is left"
    others = {task for task in asyncio.all_tasks() if not task.done()} - {asyncio.current_task()}
    assert not others, others
    connected, started, ended, told = False, 0, 0, ""
    for event in talk.out:
        match event["type"]:
            case "avatar_connected":
                assert not connected
                connected = True
            case "avatar_disconnected":
                assert event["reason"]
                connected = False
            case "avatar_started":
                assert connected
                started += 1
            case "avatar_text":
                assert event["text"]
                told += event["text"]
            case "avatar_finished":
                ended += not event["interrupted"]
                assert started >= ended
                assert event["seconds"] >= 0
                assert told.endswith(event["text"]), "what was told is not what was heard"


@pytest.mark.parametrize("seed", range(SEEDS))
def test_conversation(seed: int) -> None:
    """Order is kept, nothing is lost, and neither session, link nor task is left."""
    run(play(seed))


@pytest.mark.campaign
def test_all_conversations() -> None:
    """The same over all seeds."""
    failed = {}
    for seed in range(SEEDS, int(os.environ.get("AGENTHUMAN_STAGE_SEEDS", ALL_SEEDS))):
        try:
            run(play(seed))
        except Exception as error:  # noqa: BLE001 - all are counted
            failed[seed] = f"{type(error).__name__}: {error}"
    assert not failed
