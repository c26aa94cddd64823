"""The blocks of a page, as a reader meets them.

What a page says to its reader says it to the test, too:

- a title is the name of the file that the block is saved as (`title="face.py"`);
- a `console` block holds commands; what stands below a line that begins with `$` is its output;
- a `text` block that follows code or commands is what they print, with `…` for what differs from run to run.
"""

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(
    r"(?:^ *<!-- code: (?P<source>\S+) -->\n)?"
    r"^(?P<indent> *)```(?P<info>[^`\n]+)\n(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_TITLE = re.compile(r'title="([^"]+)"')


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        line: Of the page, where it begins.
        language: As the fence names it.
        title: File that it is saved as, if it has a name.
        code: What it holds.
        source: The example that it is a part of, if it is one.
    """

    line: int
    language: str
    title: str | None
    code: str
    source: str | None = None

    @property
    def first(self) -> str:
        """Its first line, by which it is known."""
        return self.code.strip().partition("\n")[0]

    @property
    def is_program(self) -> bool:
        """Whether it is a whole program, and not a part of one."""
        return self.code.startswith('"""') and 'if __name__ == "__main__"' in self.code


@dataclass(frozen=True)
class Page:
    """A page, or a section of the README, which are read one without the other.

    Attributes:
        name: Path below `docs` without suffix, or `README` and the section's heading.
        blocks: In their order.
    """

    name: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Command:
    """A command of a console block, and what the block shows as its output."""

    text: str
    output: str | None = None


def pages() -> list[Page]:
    """The README and every page of the documentation that has commands or code to paste."""
    found = [*_sections(ROOT / "README.md"), _page(ROOT / "docs" / "index.md")]
    for folder in ("tutorials", "how-to", "integrations"):
        found += map(_page, sorted((ROOT / "docs" / folder).glob("*.md")))
    return [page for page in found if any(block.language in ("console", "python") for block in page.blocks)]


def commands(block: Block) -> list[Command]:
    """The commands of a console block; a backslash at the end of a line continues it."""
    lines = re.sub(r" *\\\n *", " ", block.code).splitlines()
    if not any(line.startswith("$ ") for line in lines):
        return [Command(line) for line in lines if line and not line.startswith("#")]
    found: list[list[str]] = []
    for line in lines:
        if line.startswith("$ "):
            found.append([line[2:]])
        else:
            found[-1].append(line)
    return [Command(text, "\n".join(output) if output else None) for text, *output in found]


def _page(path: Path) -> Page:
    text = path.read_text()
    return Page(str(path.relative_to(ROOT / "docs").with_suffix("")), _blocks(text, 1))


def _sections(path: Path) -> list[Page]:
    found, line = [], 1
    for section in re.split(r"(?m)^(?=## )", path.read_text()):
        heading = section.partition("\n")[0].lstrip("# ")
        found.append(Page(f"README: {heading}", _blocks(section, line)))
        line += section.count("\n")
    return found


def _blocks(text: str, line: int) -> tuple[Block, ...]:
    found = []
    for match in _BLOCK.finditer(text):
        title = _TITLE.search(match["info"])
        found.append(
            Block(
                line + text[: match.start()].count("\n"),
                match["info"].split()[0],
                title[1] if title else None,
                textwrap.dedent(match["code"]),
                match["source"].partition(":")[0] if match["source"] else None,
            )
        )
    return tuple(found)
