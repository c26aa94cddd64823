"""`examples/sessions.py` runs as it stands, without a key."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "sessions.py"


@pytest.mark.chain
def test_example_runs_on_the_emulator() -> None:
    """The example opens a session on a local emulator, ends it, and exits cleanly."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("AGENTHUMAN_")}
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)], env=env, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Opened sess_" in done.stdout
    assert "It is ended" in done.stdout
    assert "Session not found" in done.stdout
