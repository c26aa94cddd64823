"""No session outlives `with toolkit:`, whatever fails: seeded runs and conversations against a service that fails.

`make campaign` runs the full counts, also without the block, and writes them to
`benchmarks/results/langchain-campaign.txt`; here is a part.
"""

import asyncio
import platform
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from agenthuman_plugins.langchain._origin import Origin
from agenthuman_plugins.langchain._sessions import Sessions
from tests.langchain import conversations
from tests.langchain.campaign import Plan, run_all, table
from tests.langchain.conversations import Talk

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "langchain-campaign.txt"
LIMIT_S = 120.0  # hang limit only
FULL_LIMIT_S = 3_500.0

SEEDS, ALL_SEEDS = 14, 1_000  # the next run waits half a minute for a session that was never opened
LOSSY_SEEDS, ALL_LOSSY_SEEDS = 5, 300
CONTROL_SEEDS = 5
TALKS, ALL_TALKS = 10, 1_000
CONTROL_TALKS = (7, 9, 13, 14)  # each defect below shows in two of them, at least
LANES = 8

# A worker that dies leaves its connections to the collector, which tells of them.
DEATHS = pytest.mark.filterwarnings(
    "ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)

HEAD = """\
make campaign, part of LangChain; Python {python}, {system}

Each run is an agent of langchain's create_agent with a model that follows a seeded script: sessions are created once
or several times, read, listed and ended, with unknown tools and bad arguments among it. Half of the runs are async,
half have a thread. Requests fail (429, 500, refusals, replies that are cut, malformed or too late), and the run ends
by itself, by an error of a tool or of the model, by Ctrl-C, by the recursion limit, or is cancelled at one of its
requests. Sweep and expiry of the service are off: what nobody ends stays open.

Each conversation is several such turns on two workers with one namespace and the same checkpoints. Workers die after
an answer of a tool, before it is kept, and either worker goes on; they are restarted, turns are forked, models number
their calls anew in each turn or message, and toolkits end sessions by themselves after a while.
"""


@pytest.fixture(scope="module")
def report() -> Callable[[str, list[str]], None]:
    """Write a part of the results, in the order of the tests."""
    parts: list[str] = []

    def add(title: str, lines: list[str]) -> None:
        parts.append("\n".join([title, "=" * len(title), *lines, ""]))
        head = HEAD.format(python=platform.python_version(), system=platform.system())
        RESULTS.write_text("\n".join([head, *parts]))

    return add


def plans(count: int, *, metadata_is_kept: bool = True) -> list[Plan]:
    return [Plan.of(seed, metadata_is_kept=metadata_is_kept) for seed in range(count)]


async def test_no_session_outlives_the_block() -> None:
    """Whatever fails in the run, leaving `with toolkit:` has ended every session that it opened."""
    async with asyncio.timeout(LIMIT_S):
        outcomes = await run_all(plans(SEEDS), "with toolkit", lanes=4)
    assert sum(outcome.opened for outcome in outcomes) >= SEEDS  # the runs do open sessions
    assert [outcome for outcome in outcomes if outcome.left] == []


async def test_session_that_cannot_be_found_is_told_of() -> None:
    """Where the service keeps no metadata, a lost answer may leave a session open; model or log are told."""
    async with asyncio.timeout(LIMIT_S):
        outcomes = await run_all(plans(LOSSY_SEEDS, metadata_is_kept=False), "with toolkit", lanes=4)
    assert [outcome for outcome in outcomes if outcome.left and not outcome.told] == []


async def test_runs_without_the_block_leave_sessions_open() -> None:
    """The same runs without a guard leave sessions open: the count is not zero for want of anything to count."""
    async with asyncio.timeout(LIMIT_S):
        outcomes = await run_all(plans(CONTROL_SEEDS), "neither")
    assert sum(outcome.left for outcome in outcomes) > 0


@DEATHS
async def test_conversation_over_workers_and_restarts() -> None:
    """Nothing is left open, opened twice by one call, or told wrongly, on whichever worker a turn runs."""
    async with asyncio.timeout(LIMIT_S):
        outcomes = await conversations.run_all([Talk.of(seed) for seed in range(TALKS)], lanes=4)
    assert sum(outcome.opened for outcome in outcomes) >= TALKS
    happened = sum((outcome.happened for outcome in outcomes), Counter[str]())
    assert all(happened[each] for each in ("deaths", "forks", "restarts", "lists of running sessions"))
    assert wrong(outcomes) == []


async def defect(
    monkeypatch: pytest.MonkeyPatch, where: type, name: str, instead: object
) -> list[conversations.Outcome]:
    monkeypatch.setattr(where, name, instead)
    async with asyncio.timeout(LIMIT_S):
        return await conversations.run_all([Talk.of(seed) for seed in CONTROL_TALKS], lanes=4)


@DEATHS
async def test_session_that_is_denied_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With workers that know nothing of each other, answers are untrue: the count is not zero for want of eyes."""
    outcomes = await defect(monkeypatch, Sessions, "_knows_others", lambda *_: False)
    assert any(outcome.untrue for outcome in outcomes)


@DEATHS
async def test_session_of_another_call_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same where the id alone says which call it is, as in the first edition."""
    outcomes = await defect(monkeypatch, Origin, "key", property(lambda origin: origin.tool_call_id))
    assert any(outcome.untrue for outcome in outcomes)


@DEATHS
async def test_session_that_is_opened_twice_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same where nobody looks for the session of a call that is made again."""
    outcomes = await defect(monkeypatch, Origin, "may_be_replayed", property(lambda _: False))
    assert any(outcome.twice for outcome in outcomes)


def wrong(outcomes: list[conversations.Outcome]) -> list[conversations.Outcome]:
    return [each for each in outcomes if each.left or each.twice or each.untrue or each.others]


@pytest.mark.campaign
@DEATHS
async def test_all_conversations(report: Callable[[str, list[str]], None]) -> None:
    """The same over all seeds."""
    async with asyncio.timeout(FULL_LIMIT_S):
        outcomes = await conversations.run_all([Talk.of(seed) for seed in range(ALL_TALKS)], lanes=LANES)
    report("Conversations over workers and restarts", conversations.table(outcomes))
    assert wrong(outcomes) == []


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("guard", "title"),
    [
        pytest.param("with toolkit", "with toolkit:", id="block"),
        pytest.param("middleware", "SessionCleanupMiddleware, without the block", id="middleware"),
        pytest.param("neither", "Neither", id="neither"),
    ],
)
async def test_all_runs(guard: str, title: str, report: Callable[[str, list[str]], None]) -> None:
    """The same over all seeds, with each guard."""
    async with asyncio.timeout(FULL_LIMIT_S):
        outcomes = await run_all(plans(ALL_SEEDS), guard, lanes=LANES)
    report(title, table(outcomes))
    if guard == "with toolkit":
        assert [outcome for outcome in outcomes if outcome.left] == []


@pytest.mark.campaign
async def test_all_runs_without_metadata(report: Callable[[str, list[str]], None]) -> None:
    """The same where the service drops metadata or refuses it."""
    async with asyncio.timeout(FULL_LIMIT_S):
        outcomes = await run_all(plans(ALL_LOSSY_SEEDS, metadata_is_kept=False), "with toolkit", lanes=LANES)
    untold = [outcome for outcome in outcomes if outcome.left and not outcome.told]
    report(
        "with toolkit: at a service that drops or refuses metadata",
        [
            "A session whose create is not answered cannot be found there, so it may stay open; it is told of.",
            *table(outcomes),
            f"runs that left a session open and told nobody {len(untold):>3}",
        ],
    )
    assert untold == []
