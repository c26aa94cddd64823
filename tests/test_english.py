"""Words that cost readers a second look are not in the documentation."""

import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).parent.parent
_PAGES = [
    *(_ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((_ROOT / "docs").rglob("*.md")),
]
# What it matches, and what to write instead.
_INSTEAD = {
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\bevict(s|ed|ing)?\b": "disconnect",
    r"\bwhat (becomes|became) of\b": "what happens to, what happened to",
    r"\bon every way out\b|\bevery way out\b": "however it exits",
    r"\bby need\b": "on demand",
    r"\bhear of it\b": "get notified",
    r"\bend(s|ed)? in order\b": "shut down cleanly",
    r"\bin clear\b": "unencrypted",
    r"\bvoice and pictures?\b|\bpictures? and voice\b|\bpictures a second\b": "video, frames",
    r"\b(is|are) not here\b": "is not connected",
    r"\bof one's own\b": "custom, your own",
    r"\bno retry cures\b": "is permanent",
    r"\bputs? (it|him|the one before) out\b": "disconnects",
}


@pytest.mark.parametrize("pattern", _INSTEAD)
def test_no_page_uses_a_word_that_readers_stumble_over(pattern: str) -> None:
    """Each is replaced throughout, code aside; `_INSTEAD` says by what."""
    found = []
    for page in _PAGES:
        prose = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(), flags=re.DOTALL)
        found += [f"{page.name}: {match[0]}" for match in re.finditer(pattern, prose, re.IGNORECASE)]
    assert not found, f"write instead: {_INSTEAD[pattern]}"
