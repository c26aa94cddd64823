"""What may not be committed."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

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


_WORKFLOWS = sorted((_ROOT / ".github" / "workflows").glob("*.yml"))


def _steps(workflow: Path) -> Iterator[dict[str, Any]]:
    for job in yaml.safe_load(workflow.read_text())["jobs"].values():
        yield from job["steps"]


def test_actions_are_named_by_a_commit_or_listed() -> None:
    """What runs others' code by a tag that can be moved is on the list in CONTRIBUTING.md, and nothing else is."""
    used = {step["uses"] for workflow in _WORKFLOWS for step in _steps(workflow) if "uses" in step}
    by_tag = {action for action in used if not re.search(r"@[0-9a-f]{40}$", action)}
    assert set(re.findall(r"`([\w./-]+@[\w./-]+)`", (_ROOT / "CONTRIBUTING.md").read_text())) == by_tag


def test_no_job_that_runs_our_code_can_write() -> None:
    """A checkout keeps the token only in the one job that pushes, which runs nothing of the repository."""
    keeping = [
        (workflow.name, name)
        for workflow in _WORKFLOWS
        for name, job in yaml.safe_load(workflow.read_text())["jobs"].items()
        for step in job["steps"]
        if step.get("uses", "").startswith("actions/checkout@")
        and step.get("with", {}).get("persist-credentials") is not False
    ]
    assert keeping == [("weekly.yml", "propose")]
    (job,) = [
        yaml.safe_load(path.read_text())["jobs"]["propose"]
        for path in _WORKFLOWS
        if path.name == "weekly.yml"
    ]
    assert not [step for step in job["steps"] if re.search(r"make |python|\.ci/", step.get("run", ""))]


def test_a_loop_in_the_makefile_ends_at_a_failure() -> None:
    """A shell goes on after a failure in a loop, and make would take the last step's success for all."""
    makefile = (_ROOT / "Makefile").read_text()
    loops = re.findall(r"\bfor \w+ in .*?; do (.*?); ?done", makefile)
    assert loops
    assert [loop for loop in loops if "|| exit 1" not in loop] == []


def test_a_weekly_job_follows_the_pages_in_fresh_environments() -> None:
    """What a page has its reader install is tried each week with what an index has then."""
    weekly = next(path for path in _WORKFLOWS if path.name == "weekly.yml")
    assert "make docs-test ARGS=--fresh" in [step.get("run") for step in _steps(weekly)]
