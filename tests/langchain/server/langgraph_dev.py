"""`langgraph dev` as a process: no browser, no network besides this machine."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[3]
PROGRAM = ROOT / ".venv-langchain-newest" / "bin" / "langgraph"
OFFLINE = {
    "LANGGRAPH_CLI_NO_ANALYTICS": "1",
    "LANGGRAPH_NO_VERSION_CHECK": "1",
    "LANGSMITH_TRACING": "false",
}
START_S = 60.0  # hang limit; a second on an idle machine
RUN_S = 60.0  # hang limit


class Server:
    """A LangGraph server.

    Args:
        process: Where it runs.
        http: Client at its address.
        log: Where it writes.
    """

    def __init__(self, process: asyncio.subprocess.Process, http: httpx.AsyncClient, log: Path) -> None:
        self.http = http
        self._process = process
        self._log = log

    async def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()
        await self._process.wait()

    async def ask(self, thread: str, text: str, *, graph: str = "agent") -> str:
        """Run the agent on a user's words; returns what its tool said."""
        await self._post("/threads", {"thread_id": thread, "if_exists": "do_nothing"})
        asked = {"role": "user", "content": text}
        state = await self._post(
            f"/threads/{thread}/runs/wait", {"assistant_id": graph, "input": {"messages": [asked]}}
        )
        assert "messages" in state, f"{state}\n{self.log()}"
        assert [message["type"] for message in state["messages"][-3:]] == ["ai", "tool", "ai"], state
        return str(state["messages"][-2]["content"])

    async def _post(self, path: str, body: dict[str, Any]) -> Any:
        answer = await self.http.post(path, json=body)
        assert answer.is_success, f"{path}: {answer.text}\n{self.log()}"
        return answer.json()

    def log(self) -> str:
        return self._log.read_text()[-6000:]


@asynccontextmanager
async def langgraph_dev(folder: Path, settings: dict[str, str]) -> AsyncIterator[Server]:
    """Serve the project in a folder.

    Args:
        folder: With its `langgraph.json`; the server keeps its store there.
        settings: Environment variables for it.
    """
    log = folder / "server.log"
    port = _free_port()
    options = ["--no-browser", "--no-reload", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            PROGRAM, "dev", *options, cwd=folder, env=_environment(settings), stdout=output, stderr=output
        )
    try:
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=url, timeout=RUN_S, trust_env=False) as http:
            server = Server(process, http, log)
            async with asyncio.timeout(START_S):
                while not await _answers(http):
                    assert process.returncode is None, server.log()
                    await asyncio.sleep(0.05)
            yield server
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _answers(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/ok")).is_success
    except httpx.TransportError:
        return False


def _environment(settings: dict[str, str]) -> dict[str, str]:
    """What this process has, without what would lead a server off this machine."""
    foreign = ("AGENTHUMAN_", "LANG", "LIVEKIT_", "OPENAI_", "PYTEST_")
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(foreign) and not key.lower().endswith("_proxy")
    }
    return {**kept, **OFFLINE, **settings}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
