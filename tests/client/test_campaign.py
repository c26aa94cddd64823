"""No session is left open that nobody knows of: seeded faults on a virtual clock, and real kills.

`make campaign` runs the full counts and writes them to `benchmarks/results/client-campaign.txt`; here is a part.
"""

import asyncio
import json
import platform
import random
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agenthuman_plugins.emulator import Emulator
from tests.client.campaign import LOST, Outcome, run_async, run_sync, table

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "client-campaign.txt"
LIMIT_S = 60.0  # hang limit only

SEEDS, ALL_SEEDS = 150, 1_000
KILLS, ALL_KILLS = 3, 50
SESSIONS_OF_A_VICTIM = 2
KILLS_BETWEEN_REAPS = 8  # the largest plan holds 20 sessions

REAPER = """
import json, sys
from agenthuman_plugins import AgentHuman
with AgentHuman(**json.loads(sys.stdin.readline())) as client:
    print(len(client.sessions.reap()))
"""


@pytest.fixture(scope="module")
def report() -> Callable[[str, list[str]], None]:
    """Write a part of the results, in the order of the tests."""
    parts: list[str] = []

    def add(title: str, lines: list[str]) -> None:
        parts.append("\n".join([title, "=" * len(title), *lines, ""]))
        head = f"make campaign, part of the client; Python {platform.python_version()}, {platform.system()}\n"
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text("\n".join([head, *parts]))

    return add


def check(outcomes: list[Outcome]) -> None:
    """What must hold for every scenario."""
    for outcome in outcomes:
        plan = outcome.plan
        assert outcome.late == 0, outcome
        assert outcome.opened <= 1, outcome
        assert outcome.leaked == 0, outcome
        # Where a session can be found, and the program lives on, a call that was given up leaves none at all.
        assert not (outcome.only_logged and plan.lives_on and plan.can_be_found), outcome
        # A start by a link has no reference: only what was lost on the way back is lost.
        answered = all(each.step not in LOST for each in plan.attempts)
        assert not (outcome.only_logged and plan.lives_on and answered), outcome


RUNS = [
    pytest.param(run, link, id=f"{run.__name__.removeprefix('run_')}-{'link' if link else 'create'}")
    for link in (False, True)
    for run in (run_sync, run_async)
]


@pytest.mark.parametrize(("run", "link"), RUNS)
def test_faults_leave_no_unknown_session(run: Callable[..., Outcome], link: bool) -> None:
    """Whatever fails, whenever the caller gives up: nothing is sent afterwards, and no session runs unknown."""
    outcomes = [run(seed, link=link) for seed in range(SEEDS)]
    check(outcomes)
    assert sum(outcome.opened for outcome in outcomes) > SEEDS / 3  # the scenarios do open sessions


@pytest.mark.campaign
@pytest.mark.parametrize(("run", "link"), RUNS)
def test_all_faults_leave_no_unknown_session(
    run: Callable[..., Outcome], link: bool, report: Callable[[str, list[str]], None]
) -> None:
    """The same over all seeds."""
    outcomes = [run(seed, link=link) for seed in range(ALL_SEEDS)]
    kind = "AgentHuman" if run is run_sync else "AsyncAgentHuman"
    report(
        f"Faults at every step of {'a start by a link' if link else 'create'}, {kind}",
        [
            "The service takes up to 60 s, lists a session when it is ready or at once, and goes on when the caller has",
            "gone. It keeps metadata, leaves it out of the list, drops it, or refuses it. Two thirds of the callers give",
            "up, half close the client then, half of those give that up, too.",
            *table(outcomes),
        ],
    )
    check(outcomes)


class Victims:
    """Programs with sessions that get killed, and the emulator that they use, which ends nothing by itself."""

    def __init__(self, emulator: Emulator, chance: random.Random) -> None:
        self._emulator = emulator
        self._chance = chance
        self._settings = {"api_key": emulator.api_key, "base_url": emulator.url}
        self.killed_while: list[str] = []

    @property
    def running(self) -> list[str]:
        return [item["session_id"] for item in self._emulator.sessions() if item["status"] == "started"]

    async def start(self, sessions: int) -> asyncio.subprocess.Process:
        victim = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.client.a_victim",
            self._chance.choice(("sync", "async")),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert victim.stdin is not None
        victim.stdin.write(json.dumps({**self._settings, "sessions": sessions}).encode() + b"\n")
        return victim

    async def kill_one(self) -> None:
        """Kill a victim in the middle of a create, right after it, or while it holds all of its sessions."""
        victim = await self.start(SESSIONS_OF_A_VICTIM)
        assert victim.stdout is not None
        lines = self._chance.randint(1, 2 * SESSIONS_OF_A_VICTIM)
        for _ in range(lines):
            said = await victim.stdout.readline()
        if said == b"creating\n":
            await asyncio.sleep(
                self._chance.uniform(0, 0.01)
            )  # somewhere on the wire; no test depends on where
        victim.send_signal(signal.SIGKILL)
        assert await victim.wait() == -signal.SIGKILL
        self.killed_while.append(said.split()[0].decode())

    async def reap(self) -> int:
        """Run `reap` in a new process."""
        reaper = await asyncio.create_subprocess_exec(
            sys.executable, "-c", REAPER, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        said, _ = await reaper.communicate(json.dumps(self._settings).encode() + b"\n")
        return int(said)


@asynccontextmanager
async def victims(seed: int) -> AsyncIterator[Victims]:
    async with Emulator(plan="pro", media=False, sweep=False, expiry=False) as emulator:
        yield Victims(emulator, random.Random(seed))


async def kill(count: int, seed: int) -> list[str]:
    """Kill so many victims beside a survivor; check that reap ends their sessions, and not the survivor's."""
    reaped = 0
    async with asyncio.timeout(LIMIT_S + 5 * count), victims(seed) as crowd:
        survivor = await crowd.start(1)
        try:
            assert survivor.stdout is not None
            assert await survivor.stdout.readline() == b"creating\n"
            spared = (await survivor.stdout.readline()).split()[1].decode()
            for number in range(1, count + 1):
                await crowd.kill_one()
                if number % KILLS_BETWEEN_REAPS == 0 or number == count:
                    reaped += await crowd.reap()
                    assert crowd.running == [spared]
        finally:
            survivor.kill()
            await survivor.wait()
        assert await crowd.reap() == 1
        assert crowd.running == []
    return [
        f"programs killed                            {count:>6}",
        f"  in the middle of a create                {crowd.killed_while.count('creating'):>6}",
        f"sessions left open by them                 {reaped:>6}",
        f"  ended by reap in a new process           {reaped:>6}",
        "  still open                                    0",
        "sessions of a living program ended              0",
    ]


async def test_killed_programs_are_cleaned_up_behind() -> None:
    """After `kill -9`, `reap` in a new process ends what the dead left open, and nothing of the living."""
    await kill(KILLS, seed=1)


@pytest.mark.campaign
async def test_all_killed_programs_are_cleaned_up_behind(report: Callable[[str, list[str]], None]) -> None:
    """The same over all kills."""
    report("kill -9, with sweep and expiry of the service off", await kill(ALL_KILLS, seed=2))
