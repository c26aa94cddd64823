"""Nobody sees, speaks through or ends another's session, and its owner can, in whatever way the tools are called."""

import asyncio
from collections.abc import Iterator

import pytest

from agenthuman_plugins.testing._emulator import RunningEmulator, running
from tests.langchain.identity.owners import (
    HAS_NAMES,
    IN_PROCESSES,
    OPERATIONS,
    PAIRS,
    fits,
    one_process,
    processes,
    tried,
)
from tests.langchain.identity.ways import WAYS

LIMIT_S = 60.0  # hang limit only
PROCESSES_LIMIT_S = 300.0


@pytest.mark.parametrize(
    ("pair", "way"),
    # Without those in which nothing tells the two agents apart.
    [(pair, way) for pair in PAIRS for way in WAYS if fits(PAIRS[pair], WAYS[way], has_names=HAS_NAMES)],
)
async def test_whose_session(pair: str, way: str) -> None:
    """List, get, say and end work for whom the session is, and for nobody else."""
    async with asyncio.timeout(LIMIT_S), one_process() as world:
        did = await tried(world, PAIRS[pair], WAYS[way])
    assert did == dict.fromkeys(OPERATIONS, PAIRS[pair].allowed)
    assert world.service.running == []


@pytest.fixture(scope="module")
def emulator() -> Iterator[RunningEmulator]:
    """A service where nobody but a caller ends a session."""
    with running(media=False, sweep=False, expiry=False, plan="growth") as emulator:
        yield emulator


@pytest.mark.chain
async def test_whose_session_in_processes(emulator: RunningEmulator) -> None:
    """The same where the two run in processes of their own."""
    wrong: list[str] = []
    async with asyncio.timeout(PROCESSES_LIMIT_S), processes(emulator) as world:
        for pair in map(PAIRS.__getitem__, IN_PROCESSES):
            for way in WAYS.values():
                if fits(pair, way, has_names=HAS_NAMES):
                    did = await tried(world, pair, way)
                    if did != dict.fromkeys(OPERATIONS, pair.allowed):
                        wrong.append(f"{pair.name}, {way.name}: {did}")
        assert await world.running() == []
    assert wrong == []
