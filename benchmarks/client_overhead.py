"""What the client adds to an HTTP call: `sessions.get`, fully parsed, beside bare httpx and the openai client.

All talk to one server that answers at once, over connections that stay open, in turn within one run.
"""

import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import httpx
import openai
from openai import BaseModel

from agenthuman_plugins.client import AgentHuman, AsyncAgentHuman
from benchmarks._row import Row

_ROUNDS = 31
_CALLS = 60  # a round; short, so that a slow spell of the machine hits all of them
_KEY = "ah_test_benchmark"
_SESSION = "/v1/sessions/sess_01H3Z8G9YR3K2N5M6P7Q8W4T"
_OURS, _HTTPX, _OPENAI = "AgentHuman", "httpx .json()", "openai"


class _Session(BaseModel):
    session_id: str
    status: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    expiration: datetime | None = None
    duration: float | None = None
    aspect_ratio: str | None = None
    metadata: dict[str, Any] | None = None


class _Answer(BaseModel):
    success: bool
    session: _Session


async def measure() -> list[Row]:
    with _server() as url:
        return [*_sync(url), *await _async(url)]


def _sync(url: str) -> list[Row]:
    with (
        AgentHuman(api_key=_KEY, base_url=url) as ours,
        httpx.Client() as bare,
        openai.OpenAI(api_key=_KEY, base_url=url) as other,
    ):
        session_id = _SESSION.rpartition("/")[2]
        calls: dict[str, Callable[[], object]] = {
            _OURS: lambda: ours.sessions.get(session_id),
            _HTTPX: lambda: bare.get(url + _SESSION, headers={"x-api-key": _KEY}).json(),
            _OPENAI: lambda: other.get(_SESSION, cast_to=_Answer),
        }
        times: dict[str, list[float]] = {name: [] for name in calls}
        for number in range(_ROUNDS + 1):
            for name, call in calls.items():
                began = time.perf_counter()
                for _ in range(_CALLS):
                    call()
                if number:  # the first round connects and builds the models
                    times[name].append((time.perf_counter() - began) / _CALLS)
        return _rows("sync", times)


async def _async(url: str) -> list[Row]:
    async with (
        AsyncAgentHuman(api_key=_KEY, base_url=url) as ours,
        httpx.AsyncClient() as bare,
        openai.AsyncOpenAI(api_key=_KEY, base_url=url) as other,
    ):
        session_id = _SESSION.rpartition("/")[2]

        async def get() -> object:
            return (await bare.get(url + _SESSION, headers={"x-api-key": _KEY})).json()

        calls: dict[str, Callable[[], Awaitable[object]]] = {
            _OURS: lambda: ours.sessions.get(session_id),
            _HTTPX: get,
            _OPENAI: lambda: other.get(_SESSION, cast_to=_Answer),
        }
        times: dict[str, list[float]] = {name: [] for name in calls}
        for number in range(_ROUNDS + 1):
            for name, call in calls.items():
                began = time.perf_counter()
                for _ in range(_CALLS):
                    await call()
                if number:
                    times[name].append((time.perf_counter() - began) / _CALLS)
        return _rows("async", times)


def _rows(kind: str, times: dict[str, list[float]]) -> list[Row]:
    rows = [
        Row(f"{kind}: a call with {name}", [1e6 * value for value in values], "us")
        for name, values in times.items()
    ]
    for name in (_HTTPX, _OPENAI):
        pairs = zip(times[name], times[_OURS], strict=True)
        rows.append(
            Row(
                f"{kind}: speed of AgentHuman against {name}",
                [100 * other / ours for other, ours in pairs],
                "%",
            )
        )
    return rows


@contextmanager
def _server() -> Iterator[str]:
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks._answering"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout
        assert server.stdin
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        server.stdin.close()
