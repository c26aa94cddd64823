"""Speech links in this process, with a record of what they were asked for."""

import asyncio
import threading

from agenthuman_plugins.speech import InProcessSpeechLink

LIMIT_S = 20.0  # hang limit
RATE = 16_000


def tone(seconds: float) -> bytes:
    """Speech of some length."""
    return b"\x00\x10" * round(RATE * seconds)


class Link(InProcessSpeechLink):
    """A link that keeps a record of its calls, and that a test can lose.

    Args:
        failures: What the next connections raise; each takes one.
        hangs: Whether connecting takes for ever.
    """

    def __init__(self, failures: list[Exception], *, hangs: bool = False) -> None:
        super().__init__(width=2, height=2, fps=50)
        self.calls: list[str] = []
        self.sent = b""
        self.connecting = threading.Event()
        self.heard = threading.Event()  # the avatar has something to play
        self.closed = threading.Event()
        self.loop: asyncio.AbstractEventLoop | None = None
        self._failures = failures
        self._hangs = hangs

    async def connect(self, *, timeout_s: float) -> None:
        self.calls.append("connect")
        self.loop = asyncio.get_running_loop()
        self.connecting.set()
        if self._hangs:
            await asyncio.Event().wait()
        if self._failures:
            raise self._failures.pop(0)
        await super().connect(timeout_s=timeout_s)

    async def send(self, pcm: bytes) -> int:
        number = await super().send(pcm)
        self.sent += pcm
        self.heard.set()
        return number

    async def end_utterance(self) -> None:
        self.calls.append("end")
        await super().end_utterance()

    async def interrupt(self) -> None:
        self.calls.append("interrupt")
        await super().interrupt()

    async def aclose(self) -> None:
        self.calls.append("close")
        await super().aclose()
        self.closed.set()

    def lose(self, reason: str, *, replaced: bool = False) -> None:
        """Lose the connection, from any thread, and return when that is known."""
        lost = threading.Event()
        assert self.loop is not None

        def close() -> None:
            self._close(reason, lost=True, replaced=replaced)
            self.loop.call_later(0.05, lost.set)  # type: ignore[union-attr]

        self.loop.call_soon_threadsafe(close)
        assert lost.wait(LIMIT_S)

    def walk_off(self, reason: str) -> None:
        """Let the avatar leave, from any thread."""
        assert self.loop is not None
        self.loop.call_soon_threadsafe(self.disappear, reason)
