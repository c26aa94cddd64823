"""Pages show the code of the examples and the tables of facts as they are, readable without a build."""

import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

_ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def page_code() -> ModuleType:
    """The script that writes code into pages."""
    loader = importlib.machinery.SourceFileLoader("page_code", str(_ROOT / "scripts" / "page_code"))
    spec = importlib.util.spec_from_loader("page_code", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture
def examples(page_code: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of examples that pages may name."""
    monkeypatch.setattr(page_code, "ROOT", tmp_path)
    (tmp_path / "a.py").write_text(
        "class A:\n    # --8<-- [start:b]\n    def b(self):\n        pass\n    # --8<-- [end:b]\n"
    )
    return tmp_path


def test_code_of_the_pages_is_that_of_the_examples(page_code: ModuleType) -> None:
    """No page shows code that its example no longer has, or a line that only a build would replace."""
    for page in page_code.pages():
        assert page_code.fresh(page.read_text()) == page.read_text(), f"{page}: run make generate"


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        pytest.param("a.py", "class A:\n    def b(self):\n        pass\n", id="file"),
        pytest.param("a.py:b", "def b(self):\n    pass\n", id="region"),
    ],
)
@pytest.mark.parametrize("old", ["", "stale()\n"])
@pytest.mark.usefixtures("examples")
def test_code_is_written_into_its_block(page_code: ModuleType, source: str, shown: str, old: str) -> None:
    """A block holds the file or the region that the comment before it names, whatever it held."""
    page = f"<!-- code: {source} -->\n```python\n{old}```\n\n```python\nother()\n```\n"
    assert page_code.fresh(page) == page.replace(f"python\n{old}`", f"python\n{shown}`", 1)


def test_code_has_no_gap_where_markers_stood(page_code: ModuleType, examples: Path) -> None:
    """Between two functions there are two empty lines, whatever markers stand there."""
    (examples / "a.py").write_text("a = 1\n\n\n# --8<-- [end:a]\n\n\nb = 1\n")
    assert page_code.code("a.py") == "a = 1\n\n\nb = 1\n"


@pytest.mark.parametrize("old", ["", "\n| stale |\n\n"])
def test_a_table_is_written_between_its_comments(
    page_code: ModuleType, examples: Path, monkeypatch: pytest.MonkeyPatch, old: str
) -> None:
    """What a function returns stands between the comments, whatever stood there."""
    (examples / "facts_of_a_page.py").write_text("def table():\n    return '| fresh |'\n")
    monkeypatch.delitem(sys.modules, "facts_of_a_page", raising=False)
    begin, end = "<!-- written by: facts_of_a_page:table -->\n", "<!-- end -->\n"
    assert page_code.fresh(f"{begin}{old}{end}Text.\n") == f"{begin}\n| fresh |\n\n{end}Text.\n"


@pytest.mark.usefixtures("examples")
def test_code_in_a_list_is_indented(page_code: ModuleType) -> None:
    """A block inside a tab or a list keeps its indent."""
    page = "    <!-- code: a.py:b -->\n    ```python\n    ```\n"
    assert "    ```python\n    def b(self):\n        pass\n    ```\n" in page_code.fresh(page)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param("<!-- code within: a.py:b -->\n```python\nimport os\n```\n", id="other-code"),
        pytest.param("<!-- code: a.py:gone -->\n```python\n```\n", id="no-such-region"),
        pytest.param("<!-- code: a.py:b -->\n\nText.\n", id="no-block"),
        pytest.param('```python\n--8<-- "a.py:b"\n```\n', id="no-comment"),
    ],
)
@pytest.mark.usefixtures("examples")
def test_what_cannot_be_written_is_an_error(page_code: ModuleType, page: str) -> None:
    """A block that should hold code among other lines is compared, and a marker of nothing is refused."""
    with pytest.raises(LookupError):
        page_code.fresh(page)
