"""No key and no token in any log line at any level, in any error text, and in no process list."""

import asyncio
import json
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = [pytest.mark.media, pytest.mark.timeout(180)]

_SLICE = Path(__file__).with_name("a_slice.py")
_JWT = re.compile(r"eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}")  # a room token, whoever made it


@contextmanager
def _process_lists() -> Iterator[set[str]]:
    """Every command line that any process has meanwhile."""
    seen: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    seen.add((process / "cmdline").read_text(errors="replace"))
                except OSError:  # it has ended
                    continue

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield seen
    finally:
        over.set()
        looking.join()


async def _run_slice(folder: Path, room_server: str, *options: str) -> tuple[str, dict[str, str]]:
    """What the slice printed and what was in the process list, and the secrets that it met."""
    output, secrets = folder / "output.log", folder / "secrets.json"
    with output.open("wb") as file, _process_lists() as command_lines:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, _SLICE, secrets, room_server, *options),
            stdout=file,
            stderr=file,
            # Rust's own log goes straight to standard error; debug is the lowest level with messages of interest.
            env=os.environ | {"LIVEKIT_LOG_LEVEL": "debug", "RUST_LOG": "debug"},
        )
        async with asyncio.timeout(150):
            code = await process.wait()
    text = output.read_text(errors="replace")
    assert code == 0, text[-3000:]
    return text + "\n".join(command_lines), json.loads(secrets.read_text())


def _leaked(text: str, secrets: dict[str, str]) -> list[str]:
    found = [name for name, value in secrets.items() if value in text]
    return found + ["a room token"] * bool(_JWT.search(text))


async def test_nothing_secret_is_ever_written(room_server_kind: str, tmp_path: Path) -> None:
    """Neither the values that the run met nor anything shaped like a token is in what it wrote."""
    text, secrets = await _run_slice(tmp_path, room_server_kind)
    assert {"key", "session token", "room secret", "wrong key", "wrong room token"} < set(secrets)
    assert "on_avatar_connected" in text or "TTSStoppedFrame" in text  # it was talkative indeed
    assert _leaked(text, secrets) == []


async def test_a_leak_would_be_found(tmp_path: Path) -> None:
    """The same search finds a session token that is logged on purpose."""
    text, secrets = await _run_slice(tmp_path, "embedded", "leak")
    assert _leaked(text, secrets) == ["session token"]
