"""The documentation builds without a warning."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parent.parent


@pytest.mark.chain
def test_documentation_builds_strictly(tmp_path: Path) -> None:
    """A broken link, anchor, snippet or reference fails the build, and llms.txt names every page."""
    # Without -q: quiet mode drops the warnings that strict mode counts.
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=_ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    index = (tmp_path / "site" / "llms.txt").read_text()
    assert {f"{page.parent.name}/{page.stem}" for page in _ROOT.glob("docs/*/*.md")} <= set(
        re.findall(r"(\w[\w-]*/\w[\w-]*)/index\.md\)", index)
    )
