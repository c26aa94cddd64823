"""The client on httpx2, the maintained fork of httpx that openai and others use."""

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# What goes through the HTTP library: both drivers, pools, uploads, and what was recorded.
MODULES = ["test_account", "test_cassettes", "test_client", "test_flow", "test_pool", "test_upload"]
PROGRAM = """
import sys
import httpx2
httpx2.alias_httpx()  # before anything imports httpx
from agenthuman_plugins.client import _http
assert _http.httpx is httpx2
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""


@pytest.mark.timeout(180)
def test_client_works_on_httpx2() -> None:
    """Whoever aliases httpx to httpx2 gets the same client: its tests pass there, too."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            PROGRAM,
            *(str(HERE / f"{module}.py") for module in MODULES),
            *("-q", "-p", "no:cacheprovider"),
            *("-m", "not chain and not campaign"),
            *("-W", "ignore::pytest.PytestAssertRewriteWarning"),  # httpx2 imports anyio, a plugin of pytest
        ],
        cwd=HERE.parent.parent,
        capture_output=True,
        text=True,
        timeout=160,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-1_000:]
