"""The examples of the client run as they stand."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from agenthuman_plugins.client import AsyncAgentHuman

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
CONTRACT = Path(__file__).parent.parent / "contract"


DOCUMENTED = {
    "GET /v1/usage": "usage-summary",
    "POST /v1/avatars/upload-face": "avatar-uploaded",
    "GET /v1/avatars": "avatar-list-own-room",
    "POST /v1/agents": "agent-created",
    "POST /v1/links": "link-created",
    "DELETE /v1/links/lnk_01J8ZK4R2N5M6P7Q8W4T": "link-deleted",
    "DELETE /v1/agents/agnt_01J8ZK4R2N5M6P7Q8W4T": "avatar-deleted",
    "DELETE /v1/avatars/avat_01KMZHXFPBVCXA5ATK85HCP8G1": "avatar-deleted",
}


async def test_avatars_example_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Against documented answers, the example makes an avatar, an agent and a link, and removes all three."""
    picture = tmp_path / "me.gif"
    picture.write_bytes(b"GIF89a" + bytes(100_000))
    asked: list[str] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        await request.aread()
        asked.append(f"{request.method} {request.url.path}")
        return httpx.Response(200, json=json.loads((CONTRACT / f"{DOCUMENTED[asked[-1]]}.json").read_text()))

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        client = AsyncAgentHuman(api_key="ah_test_1", http_client=http)
        await runpy.run_path(str(EXAMPLES / "avatars.py"))["tour"](client, str(picture))
    assert asked == list(DOCUMENTED)
    printed = capsys.readouterr().out
    assert "Plan Pro, 145 minutes left." in printed
    assert "\rUploaded 100%\n" in printed
    assert "Whoever opens https://app.agenthuman.com/s/lnk_01J8ZK4R2N5M6P7Q8W4T talks to it" in printed


def test_avatars_example_runs_on_the_emulator() -> None:
    """Without a key the example runs on a local emulator, whose plan includes avatars."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("AGENTHUMAN_")}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "avatars.py"), str(Path(__file__).parent / "face.jpg")],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Made avat_" in done.stdout
    assert "/s/lnk_" in done.stdout


def test_avatars_example_says_what_is_wrong() -> None:
    """Without a picture, it tells how to be called."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "avatars.py")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "Usage: python examples/avatars.py PICTURE\n")
