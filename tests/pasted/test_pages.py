"""Whoever follows a page of the documentation gets what it shows."""

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agenthuman_plugins.emulator.rooms import media_interface
from tests.pasted.__main__ import main
from tests.pasted.account import account, left_open
from tests.pasted.excused import EXCUSED
from tests.pasted.page import Block, Command, Page, commands, pages
from tests.pasted.reader import Reader, WrongPageError, compare

_PAGES = pages()


@pytest.fixture(scope="module")
def variables() -> Iterator[dict[str, str]]:
    """What stands for a reader's keys."""
    with account() as variables:
        yield variables


@pytest.mark.media
@pytest.mark.skipif(media_interface() is None, reason="no network interface besides loopback")
@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name.replace(" ", "-"))
def test_page_does_what_it_shows(page: Page, variables: dict[str, str], tmp_path: Path) -> None:
    """Every command and every piece of code runs, prints what the page shows, and leaves no session open."""
    typed = " ".join(block.code for block in page.blocks if block.language == "console")
    for program in set(re.findall(r"\b(?:curl|jq)\b", typed)):
        if shutil.which(program) is None:
            pytest.skip(f"no {program} on PATH, which this page uses")
    try:
        Reader(page, tmp_path, variables, python=Path(sys.executable).parent).follow()
    finally:
        open_sessions = left_open(variables)
    assert open_sessions == []


def test_every_excuse_is_needed() -> None:
    """What is not run is a block or a command of its page."""
    texts = {
        page.name: [block.first for block in page.blocks]
        + [it.text for block in page.blocks if block.language == "console" for it in commands(block)]
        for page in _PAGES
    }
    for (page, begin), reason in EXCUSED.items():
        found = [text for of_page in texts.values() for text in of_page] if page == "*" else texts[page]
        assert any(text.startswith(begin) for text in found), f"{page}: {begin} ({reason})"


def _page(*blocks: Block) -> Page:
    return Page("a-page", blocks)


def _reader(page: Page, folder: Path) -> Reader:
    return Reader(page, folder, {"AGENTHUMAN_API_KEY": "key"}, python=Path(sys.executable).parent)


@pytest.mark.parametrize(
    ("language", "code"),
    [
        pytest.param("python", "print(undefined)", id="code"),
        pytest.param("console", "false", id="command"),
        pytest.param("console", "$ echo one\ntwo", id="output"),
        pytest.param("console", 'pip install "agenthuman-plugins[gone]"', id="extra"),
    ],
)
@pytest.mark.chain
def test_a_wrong_page_is_noticed(language: str, code: str, tmp_path: Path) -> None:
    """Code that raises, a command that fails, another output or an extra that is gone fails the page."""
    with pytest.raises(WrongPageError, match="a-page, line 7"):
        _reader(_page(Block(7, language, None, code)), tmp_path).follow()


@pytest.mark.chain
def test_a_page_is_followed_in_order(tmp_path: Path) -> None:
    """A block is saved under its title, run by a command, and compared with the text that follows; code shares names."""
    page = _page(
        Block(1, "python", "a.py", "print('one')"),
        Block(2, "console", None, "python a.py"),
        Block(3, "text", None, "one"),
        Block(4, "python", None, "import asyncio\nx = [2, ...]"),
        Block(5, "python", None, "await asyncio.sleep(0)\nprint(x)"),
        Block(6, "text", None, "[2]"),
    )
    steps = _reader(page, tmp_path).follow()
    assert [step.outcome for step in steps] == ["saved", "checked", "run", "checked"]


def test_output_below_a_prompt_belongs_to_its_command() -> None:
    """A line with a prompt begins a command, which a backslash continues; a comment is none."""
    block = Block(1, "console", None, "$ a \\\n    b\none\ntwo\n$ c\n")
    assert commands(block) == [Command("a b", "one\ntwo"), Command("c")]
    assert commands(Block(1, "console", None, "# in a clone\na\n")) == [Command("a")]


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        pytest.param("sess_01M8GX1HDJZ8S", "sess_01M9AAAAAAAAA", id="id"),
        pytest.param("at http://127.0.0.1:8000", "at http://127.0.0.1:41233", id="port"),
        pytest.param("a … c", "a b c", id="part-of-a-line"),
        pytest.param("…\nb\n…", "1\n2\n\nb\n3", id="lines"),
        pytest.param("b\n…", "b", id="no-line"),
    ],
)
def test_what_differs_from_run_to_run_is_not_compared(shown: str, printed: str) -> None:
    """Ids, ports, times, and whatever an ellipsis stands for, may differ."""
    compare(shown, printed)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        pytest.param("a", "b", id="other"),
        pytest.param("a", "a\nb", id="more"),
        pytest.param("a\n…\nc", "a\nb", id="after-the-ellipsis"),
    ],
)
def test_all_else_is_compared(shown: str, printed: str) -> None:
    """Another word, another line or a missing one is an error."""
    with pytest.raises(WrongPageError):
        compare(shown, printed)


def test_pages_of_the_documentation_are_all_followed() -> None:
    """No tutorial and no how-to is left out."""
    names = {page.name for page in _PAGES}
    folder = Path(__file__).parents[2] / "docs"
    for path in [*folder.glob("tutorials/*.md"), *folder.glob("how-to/*.md")]:
        assert str(path.relative_to(folder).with_suffix("")) in names


def test_page_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page's name that fits none is refused: nothing followed is nothing found."""
    monkeypatch.setattr(sys, "argv", ["tests.pasted", "tutorials/no-such-page"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
