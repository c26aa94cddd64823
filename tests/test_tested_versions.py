"""The pages name the versions that the tests install."""

import runpy
from pathlib import Path

SCRIPT = runpy.run_path(str(Path(__file__).parent.parent / "scripts" / "tested_versions"))


def test_the_sentences_and_the_table_follow_the_pins() -> None:
    """Both the sentence about Pipecat and the table are written from the pins, wherever they stand."""
    page = (
        "tested with 0.1.0 and 0.2.0). Tested with Pipecat v0.1.0 and v0.2.0 on Python 3.11.\n"
        "<!-- tested versions: begin -->\nold\n<!-- tested versions: end -->"
    )
    oldest, newest = (SCRIPT["pins"](name)["pipecat-ai"] for name in ("pipecat-oldest", "dev"))
    fresh = SCRIPT["fresh"](page)
    assert fresh.startswith(
        f"tested with {oldest} and {newest}). Tested with Pipecat v{oldest} and v{newest} on Python 3.11.\n"
    )
    assert f"| all tests | {newest} |" in fresh
    assert "old\n" not in fresh


def test_no_page_is_stale() -> None:
    """Each page that names tested versions holds what the script would write."""
    assert [page for page in SCRIPT["PAGES"] if SCRIPT["fresh"](page.read_text()) != page.read_text()] == []
