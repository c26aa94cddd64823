"""Follow the pages and print what was done with each block: `python -m tests.pasted [--fresh] [PAGE …]`."""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from tests.pasted.account import account, left_open
from tests.pasted.page import ROOT, Page, pages
from tests.pasted.reader import Reader, Step, WrongPageError


@contextmanager
def _wheels() -> Iterator[None]:
    """Let pip find this package, as the pages tell until it is published."""
    with tempfile.TemporaryDirectory() as folder:
        projects = [ROOT, *(ROOT / "distributions").iterdir()]
        subprocess.run(
            [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", folder, *projects],
            check=True,
        )
        os.environ["PIP_FIND_LINKS"] = f"{folder} {os.environ.get('PIP_FIND_LINKS', '')}"
        yield


def _follow(page: Page, variables: dict[str, str], *, fresh: bool) -> list[Step]:
    with tempfile.TemporaryDirectory() as folder:
        python = Path(sys.executable).parent
        if fresh:
            venv.create(Path(folder) / "venv", with_pip=True)
            python = Path(folder) / "venv" / "bin"
        work = Path(folder) / "work"
        work.mkdir()
        return Reader(page, work, variables, python=python, fresh=fresh).follow()


def _row(page: Page, steps: list[Step], seconds: float) -> str:
    count = {
        outcome: sum(step.outcome == outcome for step in steps)
        for outcome in ("run", "checked", "started", "saved", "installed", "set", "excused")
    }
    told = ", ".join(f"{number} {outcome}" for outcome, number in count.items() if number)
    return f"{page.name:44} {len(page.blocks):2} blocks  {seconds:5.1f} s  {told}"


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def main() -> int:
    """Follow the pages; 1 if one of them is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.pasted", description="Follow the pages of the documentation."
    )
    parser.add_argument(
        "--fresh", action="store_true", help="in a new environment for each page that installs something"
    )
    parser.add_argument("pages", metavar="PAGE", nargs="*", help="such as tutorials/client; by default all")
    args = parser.parse_args()
    if unknown := [name for name in args.pages if not any(name in page.name for page in pages())]:
        parser.error(f"no page is called {', '.join(unknown)}")
    wrong = 0
    with account() as variables, _wheels() if args.fresh else nullcontext():
        for page in pages():
            if args.pages and not any(name in page.name for name in args.pages):
                continue
            if args.fresh and not any("pip install" in block.code for block in page.blocks):
                continue
            begun = time.monotonic()
            try:
                steps = _follow(page, variables, fresh=args.fresh)
            except WrongPageError as error:
                _say(f"{page.name:44} WRONG\n{error}\n")
                left_open(variables)
                wrong += 1
                continue
            if sessions := left_open(variables):
                _say(f"{page.name:44} WRONG\nleaves {', '.join(sessions)} open\n")
                wrong += 1
            _say(_row(page, steps, time.monotonic() - begun))
            for step in steps:
                if step.outcome == "excused":
                    _say(f"    line {step.block.line}: {step.text[:60]}: {step.reason}")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
