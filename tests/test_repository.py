"""What may not be committed."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

_ROOT = Path(__file__).parent.parent

# Written in pieces so that this file does not match itself.
_REGISTRY = re.compile(
    "--(extra-)?index" + r"-url|files\.pythonhosted|pypi" + r"\.org|registry\.npmjs|proxy\.golang"
)
_SECRET = re.compile(r"ah_live_[A-Za-z0-9]{8}|eyJhbGciOi[A-Za-z0-9_-]+\.eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{10}")


def _tracked() -> list[Path]:
    if shutil.which("git") is None:
        pytest.skip("no git")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=_ROOT, capture_output=True, text=True, timeout=20, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [_ROOT / name for name in listed.stdout.split("\0") if name]


@pytest.mark.parametrize(
    "pattern", [pytest.param(_REGISTRY, id="registry"), pytest.param(_SECRET, id="secret")]
)
def test_no_tracked_file_matches(pattern: re.Pattern[str]) -> None:
    """No committed file names a package registry's host or holds a key or token."""
    found = [
        f"{path.relative_to(_ROOT)}: {match.group()}"
        for path in _tracked()
        if path.is_file() and (match := pattern.search(path.read_text(errors="replace")))
    ]
    assert not found


_FRONT_PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "cassettes/README.md")


@pytest.mark.parametrize("page", _FRONT_PAGES)
def test_links_between_files_lead_somewhere(page: str) -> None:
    """A page that a forge shows links to files, and to headings, that exist."""
    folder = (_ROOT / page).parent
    targets = re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", (_ROOT / page).read_text())
    for path, heading in targets:
        file = folder / path if path else _ROOT / page
        assert file.exists(), path
        if heading:
            slugs = [
                re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).strip().replace(" ", "-")
                for line in file.read_text().splitlines()
                if line.startswith("#")
            ]
            assert heading in slugs, f"{path}#{heading}"
