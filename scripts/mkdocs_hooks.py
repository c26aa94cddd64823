"""What the build of the documentation does beyond its plugins: tables from the code, and diagrams without a third party.

A line of a page such as `<!-- table: package.module:function -->` is replaced by what that function returns, as
Markdown; with `diagram:` what it returns is the source of a Mermaid diagram. `<!-- names -->` is replaced by a table of
all names that the page documents, each with a link to its entry.

A page with a diagram loads Mermaid from this site. Without that script Material for MkDocs would have each reader's
browser load it from a third party.
"""

import importlib
import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(_ROOT))  # some tables are rows of the tests
_FETCH = _ROOT / "scripts" / "mermaid"
_MERMAID = "javascripts/mermaid.min.js"  # in the site
_MARKER = re.compile(
    r"^(?P<indent>[ \t]*)<!-- (?P<kind>table|diagram):\s*(?P<source>.*?)\s*-->[ \t]*$", re.MULTILINE
)
_CODE_MARKER = re.compile(r"^[ \t]*<!-- code\b.*? -->\n", re.MULTILINE)  # for scripts/page_code alone
_NAMES = "<!-- names -->"
_ENTRY = re.compile(r"^::: (?P<path>[\w.]+)\n(?P<options>(?:(?: {4}.*)?\n)*)", re.MULTILINE)
_TABLE_ROW = re.compile(r"^\|.*\|$", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Put Mermaid into the site."""
    fetched = subprocess.run([sys.executable, _FETCH], capture_output=True, text=True, check=False)  # noqa: S603
    if fetched.returncode:
        raise PluginError(fetched.stderr.strip())
    files.append(File.generated(config, _MERMAID, abs_src_path=fetched.stdout.strip()))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Replace the markers of a page."""

    def printed(marker: re.Match[str]) -> str:
        try:
            text = _call(marker["source"])
        except Exception as error:
            raise PluginError(f"{page.file.src_uri}: {marker[0].strip()}: {error}") from error
        if marker["kind"] == "diagram":
            text = f"```mermaid\n{text}\n```"
        return textwrap.indent(text, marker["indent"])

    markdown = _CODE_MARKER.sub("", markdown)
    if _NAMES in markdown:
        markdown = markdown.replace(_NAMES, _table(names(markdown)))
    return _MARKER.sub(printed, markdown)


@dataclass(frozen=True, slots=True)
class Name:
    """A name that a page documents.

    Attributes:
        shown: As a reader writes it, such as `client.sessions.create`.
        anchor: Of its entry in the page.
        value: What it stands for.
    """

    shown: str
    anchor: str
    value: Any

    @property
    def purpose(self) -> str:
        """The first line of its docstring."""
        return (inspect.getdoc(self.value) or "").partition("\n")[0]


def names(markdown: str) -> Iterator[Name]:
    """All names that the entries (`::: path`) of a page document, in its order."""
    for entry in _ENTRY.finditer(f"{markdown}\n"):
        path = entry["path"]
        options = (yaml.safe_load(entry["options"]) or {}).get("options", {})
        value = _resolve(path)
        if not inspect.ismodule(value):
            shown = options.get("heading", path).removeprefix(path.rpartition(".")[0] + ".")
            yield from _with_members(Name(shown, path, value), options.get("members"))
            continue
        left_out = [pattern.removeprefix("!") for pattern in options.get("filters", ["!^_"])]
        for name, own in vars(value).items():
            is_public = not any(re.search(pattern, name) for pattern in left_out)
            if is_public and getattr(own, "__module__", "") == path and inspect.getdoc(own):
                yield from _with_members(Name(name, f"{path}.{name}", own), None)


def _with_members(name: Name, members: list[str] | None) -> Iterator[Name]:
    yield name
    if not inspect.isclass(name.value):
        return
    if members is None:
        kinds = (property, classmethod, staticmethod)
        members = [
            member
            for member, own in vars(name.value).items()
            if not member.startswith("_")
            and (inspect.isfunction(own) or isinstance(own, kinds))
            and own.__doc__
        ]
    for member in members:
        value = inspect.getattr_static(name.value, member)
        yield Name(f"{name.shown}.{member}", f"{name.anchor}.{member}", value)


def _resolve(path: str) -> Any:
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        module, _, name = path.rpartition(".")
        return getattr(importlib.import_module(module), name)


def _table(rows: Iterator[Name]) -> str:
    lines = [
        f"| [`{row.shown}`](#{row.anchor}) | {row.purpose.replace('|', chr(92) + '|')} |" for row in rows
    ]
    return "\n".join(["| name | what it is for |", "| --- | --- |", *lines])


# After the plugin that writes llms.txt: there the source of a diagram says more than the tag of a script.
@event_priority(-100)
def on_page_content(html: str, page: Page, files: Files, **_: object) -> str:
    """Have a page with a diagram load Mermaid before Material's own script looks for it."""
    if '<pre class="mermaid ' not in html:
        return html
    mermaid = files.get_file_from_path(_MERMAID)
    return f'{html}\n<script src="{mermaid.url_relative_to(page.file)}"></script>'


@event_priority(-100)
def on_post_build(config: MkDocsConfig) -> None:
    """Take the padding out of the tables in llms.txt's pages: one long cell would blow up all others of its column."""
    for written in Path(config.site_dir).rglob("*"):
        if written.suffix == ".md" or written.name == "llms-full.txt":
            written.write_text(_TABLE_ROW.sub(_unpadded, written.read_text()))


def _unpadded(row: re.Match[str]) -> str:
    return re.sub(r"-{4,}", "---", re.sub(r" {2,}", " ", row[0]))


def _call(source: str) -> str:
    module, colon, function = source.partition(":")
    if not colon:
        raise ValueError("expected module:function")
    return str(getattr(importlib.import_module(module), function)()).strip()
