"""What `agenthuman emulator` costs: time from its start to the first answer, and memory with sessions that run."""

import asyncio
import contextlib
import re
import socket
import sys
import time
from collections.abc import AsyncIterator

import httpx
import psutil

from benchmarks._row import Row

_ROUNDS = 5
_SESSIONS = (0, 1, 10)
_LIMIT_S = 60.0  # hang limit
_POLL_S = 0.01
_CREATE = {"avatar": "avat_benchmark", "room": {"platform": "proxy"}}
_COMMAND = (
    sys.executable,
    "-m",
    "agenthuman_plugins",
    "emulator",
    "--plan",
    "pro",
    "--slots",
    "10",
    "--no-sweep",
)


async def measure() -> list[Row]:
    starts: list[float] = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        async with _emulator():
            starts.append(1000 * (time.perf_counter() - began))
    own: dict[int, float] = {}
    whole: dict[int, float] = {}
    async with _emulator() as (process, url, said):
        async with asyncio.timeout(_LIMIT_S):
            key = await _key(said)
        async with httpx.AsyncClient(base_url=url, headers={"x-api-key": key}, trust_env=False) as http:
            for count in _SESSIONS:
                await _run_sessions(http, count)
                own[count] = _mib(process)
                whole[count] = sum(map(_mib, [process, *process.children(recursive=True)]))
    return [
        Row("start to the first answer", starts),
        *(Row(f"its own process, {count} sessions", [own[count]], "MiB") for count in _SESSIONS),
        *(Row(f"… with its children, {count} sessions", [whole[count]], "MiB") for count in _SESSIONS),
    ]


@contextlib.asynccontextmanager
async def _emulator() -> AsyncIterator[tuple[psutil.Process, str, asyncio.StreamReader]]:
    """An emulator as a user starts it, from its first answer on: its process, address, and what it prints."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    child = await asyncio.create_subprocess_exec(
        *_COMMAND, "--port", str(port), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    try:
        url = f"http://127.0.0.1:{port}"
        async with asyncio.timeout(_LIMIT_S), httpx.AsyncClient(trust_env=False) as http:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    await http.get(f"{url}/v1/usage")  # without a key: the refusal is an answer, too
                    break
                await asyncio.sleep(_POLL_S)
        yield psutil.Process(child.pid), url, child.stdout
    finally:
        child.terminate()
        await child.wait()


async def _key(said: asyncio.StreamReader) -> str:
    while line := await said.readline():
        if found := re.search(rb"AGENTHUMAN_API_KEY=(\S+)", line):
            return found[1].decode()
    raise RuntimeError("The emulator ended before it told its key.")


async def _run_sessions(http: httpx.AsyncClient, count: int) -> None:
    """Open sessions until so many run, and wait until all their avatars are in their rooms."""

    async def sessions() -> list[dict[str, str]]:
        found: list[dict[str, str]] = (
            (await http.get("/emulator/sessions")).raise_for_status().json()["sessions"]
        )
        return found

    for _ in range(count - len(await sessions())):
        (await http.post("/v1/sessions", json=_CREATE)).raise_for_status()
    async with asyncio.timeout(_LIMIT_S):
        while any(  # noqa: ASYNC110 - another process decides
            session["avatar_state"] != "ready" for session in await sessions()
        ):
            await asyncio.sleep(_POLL_S)


def _mib(process: psutil.Process) -> float:
    """Memory that would be free without the process: what it shares with others counts in parts."""
    return float(process.memory_full_info().pss / 2**20)
