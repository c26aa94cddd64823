"""What the emulator's tests share: a clock to move by hand, a service with fakes, and patience with a limit."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.emulator.fakes import World


class FakeClock:
    """The time of the documented examples; moves only when told."""

    def __init__(self) -> None:
        self.now = datetime(2024, 1, 15, 10, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **duration: float) -> None:
        self.now += timedelta(**duration)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def rules() -> dict[str, Any]:
    """The plan and the switches of the service; tests that need others override it."""
    return {}


@pytest.fixture
async def world(clock: FakeClock, rules: dict[str, Any]) -> AsyncIterator[World]:
    world = World(clock, **rules)
    async with world.http:
        yield world
        await world.service.aclose()


@pytest.fixture
async def world_of(clock: FakeClock) -> AsyncIterator[Callable[..., World]]:
    """Makes services with plan and switches of their own."""
    async with contextlib.AsyncExitStack() as stack:

        def make(**rules: Any) -> World:
            world = World(clock, **rules)
            stack.push_async_callback(world.http.aclose)
            stack.push_async_callback(world.service.aclose)
            return world

        yield make


async def until(look: Callable[[], Any], limit_s: float = 20.0) -> Any:
    """Look again and again until there is something to see; for states that nobody reports."""
    async with asyncio.timeout(limit_s):
        while not (seen := look()):  # noqa: ASYNC110 - what is looked at sets no event
            await asyncio.sleep(0.02)
    return seen
