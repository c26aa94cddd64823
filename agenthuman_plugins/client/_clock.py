"""Time, chance and identity as the client sees them, in one place, so that tests need not wait."""

import asyncio
import random
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from agenthuman_plugins.client._owner import this_process


def _new_ref() -> str:
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class Clock:
    """What the client takes from the world around it.

    Attributes:
        monotonic: Seconds from an arbitrary start, for deadlines.
        wall: Epoch seconds, to read `Retry-After` dates and `X-RateLimit-Reset`.
        random: A number in [0, 1), for jitter.
        sleep: Waits, in the sync client.
        asleep: Waits, in the async client.
        new_ref: Makes the reference by which a lost session is found again.
        owner: The mark of this process, by which what it left open is found when it is dead.
    """

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    random: Callable[[], float] = random.random
    sleep: Callable[[float], None] = time.sleep
    asleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    new_ref: Callable[[], str] = _new_ref
    owner: Callable[[], str | None] = this_process
