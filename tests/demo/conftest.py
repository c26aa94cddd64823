"""What the demo's tests share: a demo that runs as its users run it, and a browser to look at it with."""

import asyncio
import os
import re
import signal
import sys
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import psutil
import pytest

from agenthuman_plugins.emulator.rooms import media_interface

with warnings.catch_warnings():
    # Its module still defines classes that it has deprecated itself, and warns of its own definitions.
    warnings.simplefilter("ignore", DeprecationWarning)
    import pipecat.services.tts_service  # noqa: F401

START_TIMEOUT_S = 60.0  # hang limits, as all times here
END_TIMEOUT_S = 30.0


@dataclass
class Demo:
    """A running `agenthuman demo`."""

    process: asyncio.subprocess.Process
    output: list[str] = field(default_factory=list)
    said: asyncio.Condition = field(default_factory=asyncio.Condition)
    silent: bool = False  # whether it will say no more

    async def read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            async with self.said:
                self.output.append(line.decode())
                self.said.notify_all()
        async with self.said:
            self.silent = True
            self.said.notify_all()

    @property
    def text(self) -> str:
        return "".join(self.output)

    async def url(self) -> str:
        """Wait for the page's address."""
        async with asyncio.timeout(START_TIMEOUT_S), self.said:
            await self.said.wait_for(lambda: "http://" in self.text or self.silent)
        found = re.search(r"http://127\.0\.0\.1:\d+", self.text)
        assert found, self.text
        return found[0]

    def family(self) -> list[psutil.Process]:
        """The processes that the demo has started, and those that they have started."""
        return psutil.Process(self.process.pid).children(recursive=True)

    async def end(self, signal_number: int) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(signal_number)
        async with asyncio.timeout(END_TIMEOUT_S):
            return await self.process.wait()


@asynccontextmanager
async def running_demo(*arguments: str) -> AsyncIterator[Demo]:
    """A process of `agenthuman demo` with these arguments."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "agenthuman_plugins", "demo", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "COLUMNS": "200"},
    )
    demo = Demo(process)
    reading = asyncio.create_task(demo.read())
    try:
        yield demo
    finally:
        if process.returncode is None:
            await demo.end(signal.SIGTERM)
        await reading


@pytest.fixture(scope="session")
def network() -> None:
    """Only with an interface that browsers and LiveKit use."""
    if media_interface() is None:
        pytest.skip("no network interface besides loopback, which browsers and LiveKit do not use")
