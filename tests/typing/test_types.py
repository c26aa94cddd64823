"""Type checkers accept the public API as `api.py` uses it, and the examples; what they must refuse, they refuse."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent

MYPY = [
    "mypy",
    "--strict",
    "--allow-untyped-decorators",  # Pipecat's event handlers in the examples
    str(HERE / "api.py"),
    str(ROOT / "examples"),
]
# Pyright as a package that needs neither node nor a download at its first use.
PYRIGHT = ["basedpyright", "--project", str(HERE / "pyrightconfig.json"), "--pythonpath", sys.executable]


@pytest.mark.chain
@pytest.mark.timeout(240)
@pytest.mark.parametrize("checker", [pytest.param(MYPY, id="mypy"), pytest.param(PYRIGHT, id="pyright")])
def test_checker_agrees(checker: list[str]) -> None:
    """The checker finds no error, and no ignore that is not needed."""
    if find_spec(checker[0]) is None:
        pytest.skip(f"{checker[0]} is not installed")
    # Of its own, since that of `make lint` is for other options; it is kept, since mypy reads Pipecat, too.
    cache = ["--cache-dir", str(ROOT / ".mypy_cache" / "typing")] if checker is MYPY else []
    done = subprocess.run(
        [sys.executable, "-m", *checker, *cache],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
