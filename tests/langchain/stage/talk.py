"""A conversation for tests: a stage whose avatar is in this process, events that are sent by hand, and a fake lender.

It leaves out the network: an avatar here reports at once and never late, unless a test tells its link otherwise.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Self

from agenthuman_plugins.client import Session
from agenthuman_plugins.client.rooms import Room
from agenthuman_plugins.langchain.stage import AvatarStage
from agenthuman_plugins.speech import InProcessSpeechLink

RATE = 16_000


def pcm(seconds: float, rate: int = RATE) -> bytes:
    """Speech: loud from the first sample to the last."""
    return b"\x00\x10" * round(seconds * rate)


def tts(seconds: float, rate: int = RATE, **more: Any) -> dict[str, Any]:
    return {"type": "tts_chunk", "audio": pcm(seconds, rate), **more}


def text(words: str) -> dict[str, Any]:
    return {"type": "agent_chunk", "text": words}


def partial(transcript: str) -> dict[str, Any]:
    return {"type": "stt_chunk", "transcript": transcript}


def said(transcript: str) -> dict[str, Any]:
    return {"type": "stt_output", "transcript": transcript}


END: dict[str, Any] = {"type": "agent_end"}


class RecordingLink(InProcessSpeechLink):
    """Notes what goes over the wire, and when."""

    def __init__(self, **options: Any) -> None:
        super().__init__(clock=_now, **options)  # the default one tells the machine's time
        self.sent = bytearray()
        self.first_at: float | None = None
        self.clears: list[float] = []
        self.ends = 0
        self.joined = self.left = False

    async def connect(self, *, timeout_s: float) -> None:
        self.joined = True
        await super().connect(timeout_s=timeout_s)

    async def send(self, data: bytes) -> int:
        if self.first_at is None:
            self.first_at = _now()
        self.sent += data
        return await super().send(data)

    async def end_utterance(self) -> None:
        self.ends += 1
        await super().end_utterance()

    async def interrupt(self) -> None:
        self.clears.append(_now())
        await super().interrupt()

    async def aclose(self) -> None:
        self.left = True
        await super().aclose()


class FakeLender:
    """Lends sessions and counts those that nobody gave back; `problem` is raised instead."""

    def __init__(self) -> None:
        self.lent: list[str] = []
        self.running: set[str] = set()
        self.threads: list[str | None] = []
        self.used_ids: Counter[str] = Counter()
        self.others: list[str] = []  # that another worker speaks through now
        self.problem: Exception | None = None
        self.delay_s = 0.0

    async def lend(self, thread_id: str | None) -> tuple[Session, Room | None]:
        session_id = f"sess_{len(self.lent) + 1}"
        self.lent.append(session_id)
        self.threads.append(thread_id)
        await asyncio.sleep(self.delay_s)
        if self.problem is not None:
            raise self.problem
        self.running.add(session_id)
        return Session(session_id=session_id, status="started"), None

    async def take_back(self, session_id: str) -> None:
        await asyncio.sleep(0)
        self.running.discard(session_id)

    @contextlib.contextmanager
    def used(self, session_id: str) -> Iterator[None]:
        self.used_ids[session_id] += 1
        try:
            yield
        finally:
            self.used_ids[session_id] -= 1

    def handed_over(self, session_id: str) -> None:
        self.others.append(session_id)


class Talk:
    """A stage under test, driven by hand.

    Args:
        listen: Whether the events go through `stage.listen` first.
        links: What each link is made with, one after the other; the last one for all that follow.
        options: Of the stage.
    """

    def __init__(
        self, *, listen: bool = False, links: list[dict[str, Any]] | None = None, **options: Any
    ) -> None:
        self.lender = FakeLender()
        self.links: list[RecordingLink] = []
        self._link_options = links or [{}]
        options.setdefault("sample_rate", RATE)
        if "session" not in options:
            options["_lender"] = self.lender
        self.stage = AvatarStage(_make_link=self.make_link, **options)
        self.upstream: asyncio.Queue[Any] = asyncio.Queue()
        self.out: list[Any] = []
        self.times: list[float] = []
        self.error: BaseException | None = None
        self._listen = listen
        self._grown = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def make_link(self, *_: Any) -> RecordingLink:
        options = self._link_options[min(len(self.links), len(self._link_options) - 1)]
        self.links.append(RecordingLink(**options))
        return self.links[-1]

    @property
    def link(self) -> RecordingLink:
        return self.links[-1]

    def kinds(self, *, own: bool = True) -> list[str]:
        """Types of what came out; of the stage's own events only those."""
        return [kind for event in self.out if (kind := event["type"]).startswith("avatar_") or not own]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.out if event["type"] == kind]

    def heard(self) -> str:
        return "".join(event["text"] for event in self.of("avatar_text"))

    async def send(self, *events: Any) -> None:
        for event in events:
            await self.upstream.put(event)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is true of what came out."""
        async with asyncio.timeout(600):
            while not condition():
                if self.error is not None:
                    raise self.error
                self._grown.clear()
                await self._grown.wait()

    async def until_kind(self, kind: str, count: int = 1) -> dict[str, Any]:
        await self.until(lambda: len(self.of(kind)) >= count)
        return self.of(kind)[count - 1]

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._read(), name="reader of the test")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def end(self) -> None:
        """End upstream, and read to the end."""
        await self.upstream.put(None)
        assert self._task is not None
        await self._task
        if self.error is not None:
            raise self.error

    async def events(self) -> AsyncIterator[Any]:
        while (event := await self.upstream.get()) is not None:
            if isinstance(event, BaseException):
                raise event
            yield event

    async def _read(self) -> None:
        source = self.events()
        stream = self.stage(self.stage.listen(source) if self._listen else source)
        try:
            async for event in stream:
                self.out.append(event)
                self.times.append(_now())
                self._grown.set()
        except Exception as error:  # noqa: BLE001 - raised where the test waits
            self.error = error
        finally:
            self._grown.set()
            await stream.aclose()


def _now() -> float:
    return asyncio.get_running_loop().time()
