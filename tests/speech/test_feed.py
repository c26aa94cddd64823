import asyncio

import pytest

from agenthuman_plugins.speech._feed import Changes, Feed


async def test_reader_gets_everything_in_order_and_then_the_end():
    """Closing ends the stream after what is in it."""
    feed = Feed[int]()
    feed.put(1)
    feed.put(2)
    feed.close()
    feed.put(3)
    assert [item async for item in feed] == [1, 2]


async def test_slow_reader_gets_the_newest():
    """A bounded feed drops the oldest item, so that a slow reader misses items instead of lagging behind."""
    feed = Feed[int](held=2)
    for item in range(5):
        feed.put(item)
    feed.close()
    assert [item async for item in feed] == [3, 4]


async def test_reader_that_gives_up_can_go_on():
    """A time-out around `anext` does not end the stream."""
    feed = Feed[int]()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(feed), timeout=0.001)
    feed.put(1)
    assert await asyncio.wait_for(anext(feed), timeout=5) == 1


async def test_waiting_reader_is_woken_by_the_end():
    """A reader never waits on a closed feed."""
    feed = Feed[int]()
    reader = asyncio.create_task(anext(feed, None))
    await asyncio.sleep(0)
    feed.close()
    assert await asyncio.wait_for(reader, timeout=5) is None


async def test_every_task_looks_again_at_a_change():
    """All tasks that wait for a condition see the change that makes it true."""
    changes, state = Changes(), []
    tasks = [asyncio.create_task(changes.until(lambda: len(state) > 1)) for _ in range(3)]
    for item in "ab":
        await asyncio.sleep(0)
        state.append(item)
        changes.notify()
    await asyncio.wait_for(asyncio.gather(*tasks), timeout=5)
