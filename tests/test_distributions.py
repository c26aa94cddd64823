"""The thin distributions that carry the package under the names where framework users look for it."""

import importlib
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import agenthuman_plugins

_ROOT = Path(__file__).parent.parent
_FRAMEWORKS = ["langchain", "pipecat"]


@pytest.mark.parametrize("framework", _FRAMEWORKS)
def test_namesake_exports_exactly_what_the_package_does(
    framework: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every public name of the framework's part is there, and it is the same object."""
    monkeypatch.syspath_prepend(_ROOT / "distributions" / f"{framework}-agenthuman")
    namesake = importlib.import_module(f"{framework}_agenthuman")
    original = importlib.import_module(f"agenthuman_plugins.{framework}")
    assert namesake.__all__ == list(original.__all__)
    for name in original.__all__:
        assert getattr(namesake, name) is getattr(original, name)


@pytest.mark.parametrize("framework", _FRAMEWORKS)
def test_namesake_has_the_version_of_the_package(framework: str) -> None:
    """All three are released as one."""
    path = _ROOT / "distributions" / f"{framework}-agenthuman" / "pyproject.toml"
    project = tomllib.loads(path.read_text())["project"]
    assert project["version"] == agenthuman_plugins.__version__


@pytest.mark.chain
@pytest.mark.parametrize("framework", _FRAMEWORKS)
def test_wheel_of_the_namesake_builds_and_is_typed(framework: str, tmp_path: Path) -> None:
    """The wheel holds the one module, its type marker and the licence, and asks for the package's extra."""
    project = _ROOT / "distributions" / f"{framework}-agenthuman"
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation"]
    subprocess.run(
        [*command, "--outdir", str(tmp_path), str(project)], check=True, capture_output=True, timeout=120
    )
    (wheel,) = tmp_path.iterdir()
    with zipfile.ZipFile(wheel) as archive:
        names = {name.rsplit(".dist-info/")[-1] for name in archive.namelist()}
        metadata = next(n for n in archive.namelist() if n.endswith("METADATA"))
        text = archive.read(metadata).decode()
    module = f"{framework}_agenthuman"
    assert names == {
        f"{module}/__init__.py",
        f"{module}/py.typed",
        "METADATA",
        "WHEEL",
        "RECORD",
        "licenses/LICENSE",
    }
    assert f"Requires-Dist: agenthuman-plugins[{framework}]" in text
