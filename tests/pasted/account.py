"""The account of the readers, as `service.py` runs it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

_END_S = 30.0  # hang limit


@contextmanager
def account() -> Iterator[dict[str, str]]:
    """Run it; yields the variables that stand for the reader's keys."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.pasted.service"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.communicate(timeout=_END_S)


def left_open(variables: dict[str, str]) -> list[str]:
    """The sessions that a reader left running. The account is then as before the reader came."""
    address, key = variables["AGENTHUMAN_BASE_URL"], variables["AGENTHUMAN_API_KEY"]
    with httpx.Client(base_url=address, headers={"x-api-key": key}, trust_env=False) as http:
        sessions = http.get("/emulator/sessions").raise_for_status().json()["sessions"]
        http.post("/emulator/reset").raise_for_status()
    return [it["session_id"] for it in sessions if it["status"] == "started"]
