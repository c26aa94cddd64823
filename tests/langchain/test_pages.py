"""What the pages about LangChain quote is what a model reads. That their code runs is a test of `tests/pasted`."""

from pathlib import Path

import pytest

from agenthuman_plugins.langchain import _texts

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("langchain-limits", f"was ended automatically: {_texts.was_idle(120)}."),
        ("langchain-workers", _texts.only_where_it_was_opened("sess_...", ())[: -len(" Do not retry.")]),
        ("langchain-subagents", _texts.not_known("sess_...", [], others=True, offered=())),
    ],
)
def test_pages_quote_what_the_model_reads(name: str, quoted: str) -> None:
    """A text that a page says the model reads is the one that it reads."""
    page = (ROOT / "docs" / "how-to" / f"{name}.md").read_text()
    assert quoted in " ".join(page.split())
