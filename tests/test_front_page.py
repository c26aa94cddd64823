"""The page that an index shows: addresses from the build's variables, and a README whose links work there."""

import email.message
import email.parser
import importlib.util
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

_ROOT = Path(__file__).parent.parent
_FOLDERS = [".", "distributions/langchain-agenthuman", "distributions/pipecat-agenthuman"]
REPOSITORY, DOCS = "https://forge.example/us/agenthuman", "https://docs.example/agenthuman"
_LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    """The build hook."""
    spec = importlib.util.spec_from_file_location("hatch_build", _ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("target", "with_both", "with_repository"),
    [
        ("docs/how-to/cli.md", f"{DOCS}/how-to/cli/", f"{REPOSITORY}/blob/v1.2/docs/how-to/cli.md"),
        ("docs/how-to/cli.md#a", f"{DOCS}/how-to/cli/#a", f"{REPOSITORY}/blob/v1.2/docs/how-to/cli.md#a"),
        ("docs/index.md", f"{DOCS}/", f"{REPOSITORY}/blob/v1.2/docs/index.md"),
        ("docs/images/demo.png", f"{DOCS}/images/demo.png", f"{REPOSITORY}/raw/v1.2/docs/images/demo.png"),
        ("../../docs/index.md", f"{DOCS}/", f"{REPOSITORY}/blob/v1.2/docs/index.md"),
        ("examples", f"{REPOSITORY}/blob/v1.2/examples", f"{REPOSITORY}/blob/v1.2/examples"),
        ("#development", f"{REPOSITORY}/blob/v1.2/README.md#development", f"{REPOSITORY}/blob/v1.2/README.md#development"),
        ("https://docs.agenthuman.com", "https://docs.agenthuman.com", "https://docs.agenthuman.com"),
    ],
)  # fmt: skip
def test_where_a_link_leads(target: str, with_both: str, with_repository: str, hook: ModuleType) -> None:
    """Pages lead to the built documentation, all else to the release's tag; without a site, pages lead there, too."""
    assert hook.Addresses(f"{REPOSITORY}/", f"{DOCS}/", "1.2").of(target) == with_both
    assert hook.Addresses(REPOSITORY, "", "1.2").of(target) == with_repository


def test_what_has_no_address_is_plain_text(hook: ModuleType) -> None:
    """Without addresses a link is its text, and a picture is gone; what leads elsewhere, and code, stay."""
    markdown = (
        "[![The demo](docs/images/a.webp)](docs/images/a.mp4)\n[`cli`](docs/cli.md) of [them](https://them.example)\n"
        "```python\nrows[0](docs/cli.md)\n```\n"
    )
    plain = hook.with_addresses(markdown, hook.Addresses("", "", "1.2"))
    assert plain == "\n`cli` of [them](https://them.example)\n```python\nrows[0](docs/cli.md)\n```\n"


def test_a_picture_that_is_a_link_keeps_both_addresses(hook: ModuleType) -> None:
    """The moving picture leads to the clip."""
    clip = hook.with_addresses(
        "[![It](docs/images/a.webp)](docs/images/a.mp4)", hook.Addresses("", DOCS, "1.2")
    )
    assert clip == f"[![It]({DOCS}/images/a.webp)]({DOCS}/images/a.mp4)"


def test_what_ends_with_the_release_is_left_out(hook: ModuleType) -> None:
    """A page of an index does not say that the package is on none."""
    markdown = (
        "Before\n\n<!-- unpublished -->\nNot yet.\n```console\npip\n```\n<!-- /unpublished -->\n\nAfter\n"
    )
    assert hook.with_addresses(markdown, hook.Addresses("", "", "1.2")) == "Before\n\nAfter\n"
    assert "not on PyPI" not in hook.with_addresses(
        (_ROOT / "README.md").read_text(), hook.Addresses("", "", "1")
    )


def test_every_distribution_has_the_same_hook() -> None:
    """A source distribution holds no file from outside its folder, so the namesakes have copies."""
    assert len({(_ROOT / folder / "hatch_build.py").read_text() for folder in _FOLDERS}) == 1


def _metadata(folder: str, into: Path, **addresses: str) -> email.message.Message:
    """What the wheel tells an index; it is built from the source distribution, as for a release."""
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(into), str(_ROOT / folder)],
        env={**os.environ, "AGENTHUMAN_REPOSITORY_URL": "", "AGENTHUMAN_DOCS_URL": "", **addresses},
        check=True,
        capture_output=True,
        timeout=120,
    )
    (wheel,) = into.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith("METADATA"))
        return email.parser.Parser().parsestr(archive.read(name).decode())


@pytest.mark.chain
@pytest.mark.parametrize("folder", _FOLDERS)
def test_the_page_of_a_release(folder: str, tmp_path: Path) -> None:
    """With addresses, the page has links beside it, and in it no link that works in the repository alone."""
    told = _metadata(folder, tmp_path, AGENTHUMAN_REPOSITORY_URL=REPOSITORY, AGENTHUMAN_DOCS_URL=DOCS)
    urls = dict(url.split(", ") for url in told.get_all("Project-URL", []))
    assert [*urls] == ["Homepage", "Documentation", "Source", "Issues", "Changelog"]
    assert urls["Documentation"] == DOCS
    assert told["Description-Content-Type"] == "text/markdown"
    targets = _LINK.findall(told.get_payload())
    assert targets
    assert [target for target in targets if not target.startswith("https://")] == []


@pytest.mark.chain
def test_the_page_of_a_build_without_addresses(tmp_path: Path) -> None:
    """Nothing on it leads nowhere, whatever the encoding of the machine."""
    told = _metadata(".", tmp_path, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert told.get_all("Project-URL") is None
    text = told.get_payload()
    assert text.startswith("# agenthuman_plugins\n")
    assert [target for target in _LINK.findall(text) if not target.startswith("https://")] == []
