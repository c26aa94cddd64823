"""What a test may start without the `chain` mark."""

import sys

import pytest

from tests.conftest import _is_small


@pytest.mark.parametrize(
    ("command", "small"),
    [
        pytest.param([sys.executable, "-c", "import sys"], True, id="code"),
        pytest.param([sys.executable, "-P", "-m", "tests.emulator.a_child"], True, id="module of the tests"),
        pytest.param(["/usr/bin/git", "ls-files"], True, id="small tool"),
        pytest.param([sys.executable, "-P", "-m", "agenthuman_plugins.emulator.worker"], False, id="worker"),
        pytest.param([sys.executable, "-m", "mypy"], False, id="type checker"),
        pytest.param(["/usr/bin/chromium", "-m", "tests."], False, id="browser"),
    ],
)
def test_servers_browsers_and_tools_need_the_mark(command: list[str], small: bool) -> None:
    """A moment of Python and small tools are free; everything else belongs to a test marked `chain`."""
    assert _is_small(command) is small
