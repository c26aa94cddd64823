"""What becomes of a conversation under each fault: it goes on, with a voice.

`make test` runs some of the matrix; `make campaign` all of it, and writes `benchmarks/results/fault-matrix.txt`.
"""

import os
import platform
import shutil
from pathlib import Path

import pytest

from benchmarks._own_network import why_not
from tests.pipecat.faults.in_namespace import converse_apart
from tests.pipecat.faults.matrix import (
    FAULTS,
    REPLIES,
    SILENCE_LIMIT_S,
    Fault,
    Outcome,
    complaints,
    converse,
)
from tests.pipecat.faults.words import WORD_S

pytestmark = pytest.mark.media

_RESULT = Path(__file__).parents[3] / "benchmarks" / "results" / "fault-matrix.txt"
# Where it takes the wire and processes; the rest is about what the service answers or the user wants, which the tests of
# the bot's life ask of an account in this process.
_SOME = {
    "room server killed": "embedded",
    "emulator killed": "embedded",
    "network cut for 3 s": "livekit-server",
    "create answered with 500, and processed": "embedded",
    "end answered with 401": "livekit-server",
    "stranger in the room with tracks": "livekit-server",
    "picture of changing size": "embedded",
}


_BY_NAME = {fault.name: fault for fault in FAULTS}
_SOME_CELLS = [
    pytest.param(_BY_NAME[name], kind, id=f"{kind}-{name.replace(' ', '-')}") for name, kind in _SOME.items()
]


@pytest.mark.parametrize(("fault", "room_server_kind"), _SOME_CELLS, indirect=["room_server_kind"])
async def test_conversation_survives(fault: Fault, room_server_kind: str) -> None:
    """Every word is heard once, with one error where there is one; the avatar is back, and no session left open."""
    if fault.network_apart and (reason := why_not()):
        pytest.skip(reason)
    assert complaints(fault, await _hold(fault, room_server_kind)) == []


@pytest.mark.campaign
@pytest.mark.timeout(3600)
async def test_whole_matrix() -> None:
    """Every fault on every room server that can run here; each in at most two attempts, which the report tells."""
    kinds = ["embedded", *(["livekit-server"] if shutil.which("livekit-server") else [])]
    lines, broken = [], []
    for kind in kinds:
        for fault in FAULTS:
            if fault.network_apart and (reason := why_not()):
                lines.append(f"{kind:15} {fault.name:50} not run: {reason}")
                continue
            found, line = await _judge(fault, kind)
            if found:  # on a busy machine media can stall by themselves
                first = "; ".join(found)
                found, line = await _judge(fault, kind)
                line += f"; in a first attempt: {first}"
            lines.append(f"{kind:15} {fault.name:50} {line}")
            broken += [f"{kind}: {fault.name}: {what}" for what in found]
            verdict = broken or [f"Nothing is broken in {len(lines)} conversations."]
            _RESULT.write_text("\n".join([*_HEAD, *lines, "", *verdict]) + "\n")
    assert not broken


async def _judge(fault: Fault, kind: str) -> tuple[list[str], str]:
    try:
        outcome = await _hold(fault, kind)
    except Exception as error:  # noqa: BLE001 - one row of many: the others must be tried, too
        return [f"{type(error).__name__}: {error}"], "BROKEN"
    found = complaints(fault, outcome)
    if outcome.silence_s > SILENCE_LIMIT_S:
        found.append(f"{outcome.silence_s:.2f} s of silence in mid-reply")
    said = outcome.said["struck"]
    back = "avatar back" if outcome.recovered else "plain audio"
    line = (
        f"{'BROKEN' if found else 'ok':6} silence {outcome.silence_s:4.2f} s, {len(said):2} of {REPLIES['struck']} words in "
        f"{sum(seconds for _, seconds in said):4.2f} s of {REPLIES['struck'] * WORD_S:4.2f} s, "
        f"{len(outcome.errors)} error, {back}, {outcome.left_open} left open"
    )
    return found, line


async def _hold(fault: Fault, kind: str) -> Outcome:
    return await (converse_apart if fault.network_apart else converse)(fault, kind)


_HEAD = (
    "Fault matrix of the Pipecat service, on real processes: `make campaign`.",
    "",
    f"A reply of {REPLIES['struck']} words ({REPLIES['struck'] * WORD_S:g} s) is struck,",
    f"one of {REPLIES['during']} words is said during the fault, one of {REPLIES['after']} after it. Checked in each:",
    "every word is heard once, one categorised error (none where the avatar goes on), the avatar comes back (but after",
    "401 and 403 at the create), and the bot has ended every session itself: the emulator sweeps none, and none has",
    "reached its limit.",
    f"`silence` is the longest that a listener waited in the struck reply; the limit is {SILENCE_LIMIT_S:g} s, with",
    "no_audio_timeout_s=0.5. Where packets just stop (a process killed or stopped, the network cut), LiveKit makes up",
    "more of the same sound for a while; the bot goes on from the last that really came.",
    f"Measured on {os.cpu_count()} cores, Python {platform.python_version()}.",
    "",
)
