"""The oldest LangChain that we support, in an environment of its own: once and for one conversation, as with the newest."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-langchain-oldest" / "bin" / "python"
LIMIT_S = 300.0  # hang limit
# What depends on how LangGraph numbers, replays and ends runs. `make test-oldest` runs all others, too.
FILES = (
    "identity/test_exactly_once.py",
    "identity/test_named_checkpoints.py",
    "test_checkpoints.py",
    "test_middleware.py",
)

in_its_environment = pytest.mark.skipif(
    not PYTHON.exists(), reason="no environment (make .venv-langchain-oldest/.installed)"
)


@pytest.mark.chain
@pytest.mark.timeout(LIMIT_S + 20)
@in_its_environment
def test_rules_hold_on_the_oldest_version() -> None:
    """Exactly once, replays, forks and ends of runs are the same with the oldest LangChain."""
    command = [PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout", "100", "-m", "not chain"]
    command += [
        "-W",
        "ignore:'asyncio.iscoroutinefunction':DeprecationWarning",
    ]  # LangChain 1.0 on Python 3.14
    command += [f"tests/langchain/{name}" for name in FILES]
    # Without what a test run in progress has set for itself, and without CI: it refuses skips that 1.0 needs.
    environment = {
        key: value for key, value in os.environ.items() if key != "CI" and not key.startswith("PYTEST_")
    }
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:]
    assert re.search(r"\b[1-9]\d{2} passed", done.stdout), done.stdout[-600:]


@pytest.mark.chain
@in_its_environment
def test_oldest_environment_holds_the_floor() -> None:
    """The oldest end is the version that the package declares, as installed."""
    ask = "from importlib.metadata import version; print(version('langchain-core'))"
    installed = subprocess.run([PYTHON, "-c", ask], capture_output=True, text=True, check=True).stdout
    assert installed.strip() == f"{declared_floor()}.0"


def test_oldest_set_pins_the_floor() -> None:
    """The requirements of the oldest end name the floor that the package declares."""
    pins = (ROOT / "requirements" / "langchain-oldest.txt").read_text()
    assert f"langchain-core=={declared_floor()}.0\n" in pins


def declared_floor() -> str:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    [requirement] = extras["langchain"]
    return requirement.removeprefix("langchain-core>=").partition(",")[0]
