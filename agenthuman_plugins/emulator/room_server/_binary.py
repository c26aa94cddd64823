"""Owner of a real `livekit-server`, as a child process, so that the server never outlives the program.

Settings `{"path", "api_key", "api_secret"}`, event `ready` with the port. The key goes into the server's
environment: not into a file, and not onto its command line, which every user of the machine can read.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from agenthuman_plugins.emulator.process import Emit, Event, run_child

_HOST = "127.0.0.1"
_START_TIMEOUT_S = 15.0
_POLL_S = 0.05
_STOP_TIMEOUT_S = 2.0
_ATTEMPTS = 3  # another program may take a port between our choice and the server's start
_PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class _ServerError(Exception):
    """Raised when the server does not start, or ends by itself."""


async def _main(settings: dict[str, Any], emit: Emit, _: "asyncio.Queue[Event]") -> None:
    for attempts_left in reversed(range(_ATTEMPTS)):
        port = _free_port(socket.SOCK_STREAM)
        async with _running(settings["path"], _config(settings, port)) as ended:
            if not await _wait_until_ready(port, ended) and attempts_left:
                continue
            if not ended.done():
                emit({"event": "ready", "port": port})
            raise _ServerError(f"livekit-server ended with code {await ended}.")


@contextlib.asynccontextmanager
async def _running(path: str, config: str) -> AsyncIterator["asyncio.Task[int]"]:
    """The server while it runs; the task is done when it ends by itself."""
    server = await asyncio.create_subprocess_exec(
        path,
        env={**os.environ, "LIVEKIT_CONFIG": config},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,  # its log quotes tokens
        stderr=asyncio.subprocess.DEVNULL,
        # Runs between fork and exec in this tiny process; nothing else tells Linux to end the server even
        # when this process is killed.
        preexec_fn=_end_with_parent,
    )
    ended = asyncio.create_task(server.wait(), name="end of livekit-server")
    try:
        yield ended
    finally:
        with contextlib.suppress(ProcessLookupError):
            server.terminate()
        try:
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await asyncio.shield(ended)
        except TimeoutError:
            server.kill()
            await ended


async def _wait_until_ready(port: int, ended: "asyncio.Task[int]") -> bool:
    """Wait for the server's health check; `False` if it ended instead."""
    try:
        async with asyncio.timeout(_START_TIMEOUT_S), aiohttp.ClientSession() as http:
            while not ended.done():
                with contextlib.suppress(aiohttp.ClientError):
                    async with http.get(f"http://{_HOST}:{port}/") as answer:
                        if answer.ok:
                            return True
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        raise _ServerError(f"livekit-server was not ready within {_START_TIMEOUT_S:g} s.") from None
    return False


def _config(settings: dict[str, Any], port: int) -> str:
    """Everything on loopback; JSON is YAML too."""
    rtc = {
        "tcp_port": 0,  # off: it would bind every interface, whatever bind_addresses says
        "udp_port": _free_port(socket.SOCK_DGRAM),
        "node_ip": _HOST,
        "use_external_ip": False,
        "enable_loopback_candidate": True,
        "interfaces": {"includes": ["lo" if sys.platform == "linux" else "lo0"]},
    }
    keys = {settings["api_key"]: settings["api_secret"]}
    return json.dumps({"port": port, "bind_addresses": [_HOST], "rtc": rtc, "keys": keys})


def _free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def _end_with_parent() -> None:
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    run_child(_main)
