"""The documentation builds without a warning, and says what is true of the code."""

import functools
import http.server
import importlib.util
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from mkdocs.exceptions import PluginError

from tests.demo.test_browser import browsing

_ROOT = Path(__file__).parent.parent


def _build(site: Path, *options: str) -> Path:
    # Without -q: quiet mode drops the warnings that strict mode counts.
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site), *options],
        cwd=_ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation, built."""
    return _build(tmp_path_factory.mktemp("docs") / "site")


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    """What the build does beyond its plugins."""
    spec = importlib.util.spec_from_file_location("mkdocs_hooks", _ROOT / "scripts" / "mkdocs_hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=folder)
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.chain
def test_documentation_builds_strictly(site: Path) -> None:
    """A broken link, anchor, snippet or reference fails the build, and llms.txt names every page."""
    index = (site / "llms.txt").read_text()
    assert {f"{page.parent.name}/{page.stem}" for page in _ROOT.glob("docs/*/*.md")} <= set(
        re.findall(r"(\w[\w-]*/\w[\w-]*)/index\.md\)", index)
    )


def _diagrams(site: Path) -> dict[str, int]:
    """The pages with diagrams, and how many each has."""
    counts = {
        str(page.relative_to(site)): page.read_text().count('<pre class="mermaid ')
        for page in site.rglob("*.html")
    }
    return {path: count for path, count in counts.items() if count}


@pytest.mark.chain
async def test_diagrams_are_drawn_without_a_third_party(site: Path, chromium: str) -> None:
    """Each diagram of each page is drawn in the browser, which asks nobody but the site itself."""
    pages = _diagrams(site)
    assert pages
    with _served(site) as url:
        for path, diagrams in pages.items():
            async with browsing(chromium, f"{url}/{path}") as (tab, complaints):
                # Material puts a `div` in the place of the source, and the drawing where no page can look.
                await tab.wait_for_function(
                    f"document.querySelectorAll('div.mermaid').length === {diagrams}"
                    " && [...document.querySelectorAll('div.mermaid')].every((it) => it.clientHeight > 80)"
                )
                assert not complaints


def a_table() -> str:
    """Stand for a function of the package."""
    return "| state | what it means |\n| --- | --- |\n| `off` | no session |\n| `on` | one |"


def a_diagram() -> str:
    """Stand for a function of the package."""
    return "stateDiagram-v2\n    off --> connecting: speech"


def _printed(hooks: ModuleType, markdown: str) -> str:
    return str(hooks.on_page_markdown(markdown, page=SimpleNamespace(file=SimpleNamespace(src_uri="a.md"))))


def test_markers_are_replaced_by_what_the_code_prints(hooks: ModuleType) -> None:
    """A table stands where its marker was, and a diagram as a block of Mermaid."""
    page = f"Before\n\n<!-- table: {__name__}:a_table -->\n\n<!-- diagram: {__name__}:a_diagram -->\nAfter"
    assert _printed(hooks, page) == f"Before\n\n{a_table()}\n\n```mermaid\n{a_diagram()}\n```\nAfter"
    indented = _printed(hooks, f"??? note\n\n    <!-- table: {__name__}:a_table -->")
    assert indented == "??? note\n\n" + "\n".join(f"    {line}" for line in a_table().splitlines())


def test_a_site_shows_no_marker_of_code(hooks: ModuleType) -> None:
    """What a comment says to the script that writes examples into pages is left out of the site."""
    assert _printed(hooks, "Text\n\n    <!-- code: a.py:b -->\n    ```python\n") == "Text\n\n    ```python\n"


@pytest.mark.parametrize(
    "source", [f"{__name__}:gone", "agenthuman_plugins.gone:markdown", "agenthuman_plugins", ""]
)
def test_a_marker_of_nothing_fails_the_build(hooks: ModuleType, source: str) -> None:
    """A function that is gone is an error that names page and marker, not a hole in the page."""
    marker = f"<!-- table: {source} -->"
    with pytest.raises(PluginError, match=f"a.md: {re.escape(marker)}: "):
        _printed(hooks, marker)


@pytest.mark.chain
def test_llms_txt_has_tables_and_sources_of_diagrams(tmp_path: Path) -> None:
    """Readers of llms-full.txt get a table as it was printed, a diagram as its source, and no script."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(
        f"# Page\n\n<!-- table: {__name__}:a_table -->\n\n<!-- diagram: {__name__}:a_diagram -->\n"
    )
    (tmp_path / "mkdocs.yml").write_text(
        f"INHERIT: {_ROOT / 'mkdocs.yml'}\ndocs_dir: {tmp_path / 'docs'}\n"
        f"hooks: [{_ROOT / 'scripts' / 'mkdocs_hooks.py'}]\nextra_css: []\nnav: [index.md]\n"
        f"theme: {{custom_dir: {_ROOT / 'overrides'}}}\n"
    )
    text = (_build(tmp_path / "site", "-f", str(tmp_path / "mkdocs.yml")) / "llms-full.txt").read_text()
    assert a_table() in text  # with no padding
    assert f"```mermaid\n{a_diagram()}\n```" in text
    assert "script" not in text


def _module_map(page: str) -> set[str]:
    """The files in the table under "Modules"."""
    table = page.partition("## Modules\n")[2].partition("\n## ")[0]
    return {
        name
        for row in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)
        for name in re.findall(r"`(.*?)`", row)
    }


def _modules(package: str) -> set[str]:
    folder = _ROOT / "agenthuman_plugins" / package
    return {str(module.relative_to(folder)) for module in folder.rglob("*.py")}


def test_module_map_of_the_client_is_complete() -> None:
    """The page about the client names each of its modules in the table, and none that is gone."""
    page = (_ROOT / "docs" / "explanation" / "client.md").read_text()
    named = _module_map(page)
    # The two packages of resources hold no more than their docstrings themselves.
    empty = {"_async/__init__.py", "_sync/__init__.py"}
    assert named == _modules("client") - empty
    elsewhere = re.findall(r"`((?:_a?sync/|_calls/)?\w+\.py)`", page)
    assert set(elsewhere) <= named
    words = set(re.findall(r"`(_[a-z]+)`", page))
    assert words <= {Path(name).stem for name in named}


def test_module_map_of_the_pipecat_service_is_complete() -> None:
    """The page about the service names each module in the tables, and no file that is gone, also in its diagrams."""
    page = (_ROOT / "docs" / "explanation" / "pipecat.md").read_text()
    named = _module_map(page)
    speech = {f"speech/{name}" for name in _modules("speech")}
    progress = {name for name in speech if name.startswith("speech/progress/")}
    assert named == _modules("pipecat") | progress - {"speech/progress/__init__.py"}
    ours, _, beside = page.partition("## Beside other avatar services\n")
    # The last column there is about our own files, the others about those of other packages.
    ours += "".join(row.split("|")[4] for row in re.findall(r"^\|.*\|$", beside, re.MULTILINE))
    here = named | speech
    here |= {Path(name).name for name in here}  # as the diagrams name them
    assert set(re.findall(r"[\w/]+\.py\b", ours)) <= here


def test_module_map_of_the_langchain_tools_is_complete() -> None:
    """The two pages about the LangChain part name each of its modules in a table, and no file that is gone."""
    pages = [
        (_ROOT / "docs" / "explanation" / f"{name}.md").read_text()
        for name in ("langchain", "langchain-stage")
    ]
    named = set().union(*map(_module_map, pages))
    assert named - {"stage/"} == _modules("langchain")
    assert set(re.findall(r"`([\w/]+\.py)`", "".join(pages))) <= named


def test_every_example_of_the_client_is_shown() -> None:
    """Each example of the client stands in a page of the documentation."""
    pages = "".join(page.read_text() for page in (_ROOT / "docs").rglob("*.md"))
    names = [
        "sessions",
        "avatars",
        "older_generation",
        *(path.stem for path in _ROOT.glob("examples/client_*.py")),
    ]
    assert [name for name in names if f"<!-- code: examples/{name}.py" not in pages] == []
