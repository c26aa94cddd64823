"""Whatever happens to a bot's avatar, in whatever order: what a listener hears, and what is billed, is right.

`make campaign` walks 1,000 seeds; here are some. What the model leaves out is said in `tests.pipecat.walk`.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests import virtual_time
from tests.pipecat.bot import running, tone
from tests.pipecat.heard import word_sound, words_in
from tests.pipecat.walk import Plan, Walk, walk
from tests.virtual_time import in_virtual_time

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "pipecat-campaign.txt"
REPORT = "every word is heard once and in order, by one voice, and each failure is told once, or a walk fails"
SEEDS, ALL_SEEDS, SEEDS_OF_A_TEST = 20, 1_000, 10
LIMIT_S = 2 * 3600.0  # virtual; hang limit of one walk
pytestmark = pytest.mark.usefixtures("quiet_log")
_monotonic = time.monotonic  # the machine's


def _walk(seeds: range) -> Iterator[Walk]:
    for seed in seeds:
        yield virtual_time.run(walk(seed), limit_s=LIMIT_S)


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_OF_A_TEST))
def test_walk(first: int) -> None:
    """Every word is heard once and in order, by one voice, each failure is told once, and no session is left."""
    assert all(not walked.account.leaked for walked in _walk(range(first, first + SEEDS_OF_A_TEST)))


@pytest.fixture(scope="module")
def tally() -> Iterator[Counter[str]]:
    """What all the walks of a campaign had in them; written when they are done."""
    counts: Counter[str] = Counter()
    yield counts
    lines = [f"{what:44}{count:8}" for what, count in counts.items()]
    RESULTS.write_text(
        "\n".join([f"make campaign, part of the Pipecat service; {REPORT}", "", *lines]) + "\n"
    )


@pytest.mark.campaign
@pytest.mark.parametrize("first", range(0, ALL_SEEDS, SEEDS_OF_A_TEST))
def test_long_walk(first: int, tally: Counter[str]) -> None:
    """The same, for all seeds."""
    for walked in _walk(range(first, first + SEEDS_OF_A_TEST)):
        books, events = walked.account.books, walked.bot.events
        tally["walks in which nothing was broken"] += 1
        tally["steps (speak, interrupt, lose, refuse, …)"] += len(walked.plan.steps)
        tally["sessions opened"] += len(books)
        tally["walks with two sessions at a time"] += walked.account.most_at_once > 1
        tally["replies heard through an avatar"] += len(events["on_playback_started"])
        tally["avatars changed"] += len(events["on_avatar_changed"])
        tally["avatars given up"] += len(events["on_gave_up"])
        tally["sessions left"] += len(walked.account.leaked)


def test_a_seed_is_always_the_same_walk() -> None:
    """Two walks of one seed hear the same at the same time, so a failure can be looked at again."""
    one, other = (virtual_time.run(walk(3)) for _ in range(2))
    assert one.bot.heard == other.bot.heard
    assert one.bot.heard
    assert Plan.of(3) == Plan.of(3) != Plan.of(4)


def test_sound_says_which_word_it_is() -> None:
    """Every sample of a word that was heard is known again, also in part and between others."""
    pcm = word_sound(7)[200:] + bytes(100) + word_sound(900)[:400]
    whole = np.count_nonzero(np.frombuffer(word_sound(7), np.int16))
    assert list(words_in(pcm)) == [(7, whole - 100), (900, 200)]


@in_virtual_time
async def test_ten_minutes_of_a_bot_take_seconds() -> None:
    """A whole bot in virtual time: a reply every ten seconds, all of them heard through the avatar."""
    began, clock = _monotonic(), asyncio.get_running_loop().time
    async with running(link_options={"fps": 10}) as bot:
        await bot.until_event("on_avatar_connected")
        start = clock()
        for number in range(60):
            await bot.say(tone(1.0), context_id=f"c{number}")
            await bot.until_stopped(f"c{number}")
            await asyncio.sleep(start + 10 * (number + 1) - clock())
        assert clock() - start == pytest.approx(600)
        assert len(bot.events["on_playback_finished"]) == 60
    assert _monotonic() - began < 60
