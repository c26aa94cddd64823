"""The public names and signatures are those of the committed list."""

import difflib
from pathlib import Path

from tests.public_api import describe

COMMITTED = Path(__file__).parent / "public_api.txt"


def test_public_api_is_the_committed_one() -> None:
    """A name or signature changes only together with `public_api.txt`, where a review sees it."""
    committed, now = COMMITTED.read_text().rstrip().splitlines(), describe().rstrip().splitlines()
    changes = list(difflib.unified_diff(committed, now, "public_api.txt", "the package", lineterm="", n=1))
    assert not changes, "\n".join(
        ["If this is meant: python -m tests.public_api > tests/public_api.txt", *changes]
    )
