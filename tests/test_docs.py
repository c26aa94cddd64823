"""The documentation builds without a warning, and says what is true of the code."""

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


def test_module_map_of_the_client_is_complete() -> None:
    """The page about the client names each of its modules in the table, and none that is gone."""
    client = _ROOT / "agenthuman_plugins" / "client"
    page = (_ROOT / "docs" / "explanation" / "client.md").read_text()
    table = page.partition("## Modules\n")[2].partition("\n## ")[0]
    named = {
        name
        for row in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)
        for name in re.findall(r"`(.*?)`", row)
    }
    # The two packages of resources hold no more than their docstrings themselves.
    empty = {"_async/__init__.py", "_sync/__init__.py"}
    assert named == {str(module.relative_to(client)) for module in client.rglob("*.py")} - empty
    elsewhere = re.findall(r"`((?:_a?sync/|_calls/)?\w+\.py)`", page)
    assert set(elsewhere) <= named
    words = set(re.findall(r"`(_[a-z]+)`", page))
    assert words <= {Path(name).stem for name in named}


def test_every_example_of_the_client_is_shown() -> None:
    """Each example of the client stands in a page of the documentation."""
    pages = "".join(page.read_text() for page in (_ROOT / "docs").rglob("*.md"))
    names = [
        "sessions",
        "avatars",
        "older_generation",
        *(path.stem for path in _ROOT.glob("examples/client_*.py")),
    ]
    assert [name for name in names if f'--8<-- "examples/{name}.py' not in pages] == []
