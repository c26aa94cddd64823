"""The pages about LangChain, followed to the letter: each block runs when it is pasted after those before it."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage

from agenthuman_plugins.emulator import Emulator
from agenthuman_plugins.langchain import _texts
from tests.langchain.conftest import ScriptedModel

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
TUTORIAL = ROOT / "docs" / "tutorials" / "langchain.md"
README = ROOT / "README.md"
PAGES = [TUTORIAL, README, *sorted(ROOT.glob("docs/how-to/langchain-*.md"))]
KEYS = {
    "OPENAI_API_KEY": "sk-test",
    "LIVEKIT_URL": "wss://livekit.example.com",
    "LIVEKIT_API_KEY": "API1",
    "LIVEKIT_API_SECRET": "a-secret-of-thirty-two-characters",  # as `mint` wants it
}

_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
async def emulator(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Emulator]:
    """What a reader has set up: a service with a key, keys for the others, and the file that examples share."""
    async with Emulator(media=False, sweep=False, plan="explorer") as emulator:
        for name, value in {
            "AGENTHUMAN_API_KEY": emulator.api_key,
            "AGENTHUMAN_BASE_URL": emulator.url,
            **KEYS,
        }.items():
            monkeypatch.setenv(name, value)
        for folder in (EXAMPLES, EXAMPLES / "langchain_server"):
            monkeypatch.syspath_prepend(str(folder))
        yield emulator


def blocks(page: Path) -> list[str]:
    """The Python blocks of a page."""
    text = page.read_text()
    if page == README:
        text = text.split("## A face for your LangChain agent")[1].split("\n## ")[0]
    return _BLOCK.findall(text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
async def test_blocks_of_a_page_run_one_after_the_other(page: Path, emulator: Emulator) -> None:
    """A reader who pastes one block after the other gets no error, and no session is left."""
    names: dict[str, Any] = {"__name__": "page", "model": ScriptedModel(script=[AIMessage("Done.")] * 9)}
    found = blocks(page)
    assert found
    for block in found:
        await asyncio.to_thread(exec, block.replace('"openai:gpt-5-mini"', "model"), names)
    assert all(session["ended_by"] == "caller" for session in emulator.sessions())


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


async def test_first_program_of_the_tutorial_prints_what_the_page_says(
    emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the reader should see is what the program prints, but for id and time."""
    page = TUTORIAL.read_text()
    said = page.partition("Wait for the face on the page, then press Enter.\n\n")[2].partition("```")[
        0
    ]  # a reader without a key sees that, too
    await asyncio.to_thread(exec, blocks(TUTORIAL)[0], {"__name__": "page"})

    def same(text: str) -> str:
        return re.sub(r"sess_\w+|\d{4}-\d\d-\d\dT[\d:+]+", "…", text)

    assert same(capsys.readouterr().out) == same(said)
