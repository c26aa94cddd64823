"""Both ends of the LangChain versions that we support, in environments of their own (make test)."""

import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENDS = ("oldest", "newest")
LIMIT_S = 600.0  # hang limit; together they take about 80 s on two idle cores
# What is slow, or needs tools that only the development environment has; `make test-oldest` runs more of it.
ELSEWHERE = (
    "identity/test_matrix.py::test_whose_session_in_processes",
    "stage/test_browser.py",
    "stage/test_campaign.py",
    "standard",
    "test_apart.py",
    "test_campaign.py",
    "test_crashes.py",
    "test_examples.py",
    "test_faults.py",
    "test_imports.py",
    "test_made_up_input.py",
    "test_pages.py",
)


@dataclass(frozen=True)
class Suite:
    """The tests of the tools, running in the environment of one end."""

    process: subprocess.Popen[str]

    @classmethod
    def start(cls, end: str) -> "Suite":
        command = [python_of(end), "-m", "pytest", "tests/langchain", "-q", "-p", "no:cacheprovider"]
        command += ["-m", "not chain and not campaign", "--timeout", "100"]
        command += [f"--deselect=tests/langchain/{name}" for name in ELSEWHERE if "::" in name]
        command += [f"--ignore=tests/langchain/{name}" for name in ELSEWHERE if "::" not in name]
        return cls(
            subprocess.Popen(
                command,
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=environment(),
            )
        )

    def __call__(self) -> tuple[int, str]:
        """Its exit code and what it said."""
        said, _ = self.process.communicate(timeout=LIMIT_S)
        return self.process.returncode, said


def python_of(end: str) -> Path:
    return ROOT / f".venv-langchain-{end}" / "bin" / "python"


def environment() -> dict[str, str]:
    """The environment without what a test run in progress has set for itself."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}


@pytest.fixture(scope="module")
def suites() -> Iterator[dict[str, Suite]]:
    """Both ends at once: they mostly wait for processes of their own."""
    started = {end: Suite.start(end) for end in ENDS if python_of(end).exists()}
    yield started
    for suite in started.values():
        suite.process.kill()
        suite.process.wait()


@pytest.mark.chain
@pytest.mark.timeout(LIMIT_S + 20)
@pytest.mark.parametrize(
    "end",
    [
        pytest.param(
            end,
            marks=pytest.mark.skipif(
                not python_of(end).exists(), reason=f"no environment (make .venv-langchain-{end}/.installed)"
            ),
        )
        for end in ENDS
    ],
)
def test_tools_keep_their_rules(suites: dict[str, Suite], end: str) -> None:
    """What the tests of the tools say holds with the oldest and with the newest LangChain."""
    code, said = suites[end]()
    assert code == 0, said[-6000:]
    assert re.search(r"\b[1-9]\d{2} passed", said), said[-600:]


@pytest.mark.chain
@pytest.mark.skipif(
    not python_of("oldest").exists(), reason="no environment (make .venv-langchain-oldest/.installed)"
)
def test_oldest_environment_holds_the_floor() -> None:
    """The oldest end is the version that the package declares, as installed."""
    ask = "from importlib.metadata import version; print(version('langchain-core'))"
    installed = subprocess.run(
        [python_of("oldest"), "-c", ask], capture_output=True, text=True, check=True
    ).stdout
    assert installed.strip() == f"{declared_floor()}.0"


def test_oldest_set_pins_the_floor() -> None:
    """The requirements of the oldest end name the floor that the package declares."""
    assert (
        f"langchain-core=={declared_floor()}.0\n"
        in (ROOT / "requirements" / "langchain-oldest.txt").read_text()
    )


def declared_floor() -> str:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    [requirement] = extras["langchain"]
    return requirement.removeprefix("langchain-core>=").partition(",")[0]
