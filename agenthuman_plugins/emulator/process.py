"""Child processes that never outlive their parent.

The parent sends one JSON line of settings on standard input, so that no secret is in a command line or an
environment, and then keeps the pipe open. The child answers with JSON lines on standard output, one of them
`{"event": "ready", …}`. When the pipe closes, for whatever reason (stop, crash, `kill -9`), the child ends.
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TextIO

from agenthuman_plugins.client.redaction import redact

_STOP_TIMEOUT_S = 3.0  # to leave a room and close sockets; then the child is killed
_LAST_RESORT_S = 2.0  # the child ends itself hard this long after its pipe closed
_DRAIN_TIMEOUT_S = 1.0  # to read what an ended child still had to say
_SECRET_WORDS = ("token", "secret", "key")  # in the names of settings whose values no error text may carry

_logger = logging.getLogger(__name__)

Event = dict[str, Any]
Emit = Callable[[Event], None]
Main = Callable[[dict[str, Any], Emit, "asyncio.Queue[Event]"], Awaitable[None]]


class ChildError(Exception):
    """Raised when a child ends before it is ready, with what it said."""


class Child:
    """A module of this package that runs as a child process. Made by `Child.start`."""

    def __init__(self, module: str, process: asyncio.subprocess.Process, on_event: Emit) -> None:
        self.ready: Event = {}
        self._module = module
        self._process = process
        self._on_event = on_event
        self._early: list[Event] = []
        self._reader: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process still runs."""
        return self._process.returncode is None

    @classmethod
    async def start(
        cls,
        module: str,
        settings: dict[str, Any],
        *,
        on_event: Emit = lambda _: None,
        timeout_s: float = 20.0,
    ) -> "Child":
        """Start `python -m module` and wait for its ready line.

        Args:
            module: Name of the module; its `__main__` part calls `run_child`.
            settings: What the child needs, secrets included.
            on_event: Called with every other event, once the child is ready; the last is `{"event": "exit", "code": …}`.
            timeout_s: Limit for the start in seconds.

        Raises:
            ChildError: The child ended, or was not ready in time.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # without the working directory on the module path: a user's `av.py` there would shadow ours
            "-m",
            module,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C goes to the parent, which ends its children in order
        )
        child = cls(module, process, on_event)
        try:
            async with asyncio.timeout(timeout_s):
                child.send(settings)
                child.ready = await child._read_answer()
        except BaseException as error:
            await asyncio.shield(child.stop())
            if isinstance(error, TimeoutError):
                message = f"{module} was not ready within {timeout_s:g} s."
                raise ChildError(message) from None
            raise
        if child.ready.get("event") != "ready":
            await child.stop()
            raise ChildError(child.ready.get("message") or f"{module} ended before it was ready.")
        child._reader = asyncio.create_task(child._read_events(), name=f"events of {module}")
        return child

    def send(self, message: dict[str, Any]) -> None:
        """Send the child one JSON line; after its end, do nothing."""
        assert self._process.stdin is not None  # noqa: S101 - opened as a pipe above
        with contextlib.suppress(ConnectionError, RuntimeError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")

    async def wait(self, *, timeout_s: float) -> bool:
        """Wait until the child has ended by itself; `False` if it still runs after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._process.wait()
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """Close the pipe, wait for the end, kill if it does not come; harmless when repeated."""
        assert self._process.stdin is not None  # noqa: S101 - opened as a pipe above
        self._process.stdin.close()
        if not await self.wait(timeout_s=_STOP_TIMEOUT_S):
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        if self._reader is not None:
            await asyncio.wait([self._reader], timeout=_DRAIN_TIMEOUT_S)

    async def _read_answer(self) -> Event:
        """Return the ready line or the error in its place; without either, an empty event.

        Other events are kept for later: somebody may join an avatar's room while it publishes its tracks.
        """
        while (event := await self._read_event()) is not None:
            if event["event"] in {"ready", "error"}:
                return event
            self._early.append(event)
        return {}

    async def _read_event(self) -> Event | None:
        """Return the next event, or `None` at the end of the pipe."""
        assert self._process.stdout is not None  # noqa: S101 - opened as a pipe above
        while line := await self._process.stdout.readline():
            # What a library printed while it was imported is no event.
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict) and "event" in event:
                    return event
        return None

    async def _read_events(self) -> None:
        for early in self._early:
            self._report(early)
        while (event := await self._read_event()) is not None:
            self._report(event)
        self._report({"event": "exit", "code": await self._process.wait()})

    def _report(self, event: Event) -> None:
        try:
            self._on_event(event)
        except Exception:  # reading goes on, or the child would block on a full pipe
            _logger.exception("An event of %s could not be handled", self._module)


def run_child(main: Main) -> None:
    """Run `main(settings, emit, messages)` as the child side, until it returns or the parent's pipe closes.

    `emit` sends an event to the parent; `messages` holds what the parent sends later. The closing pipe cancels
    `main`. What `main` raises becomes `{"event": "error", "message": …}`, without the secrets of `settings`.
    """
    # Ctrl-C in the terminal is the parent's business, and libraries that print must not break the protocol.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdout.flush()
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    line = sys.stdin.readline()
    if not line:  # the parent is gone already
        os._exit(0)
    settings = json.loads(line)

    def emit(event: Event) -> None:
        with contextlib.suppress(OSError, ValueError):
            events.write(json.dumps(event) + "\n")

    code = asyncio.run(_supervise(main, settings, emit))
    # Native threads of media libraries sometimes abort at interpreter exit; everything of ours is closed by now.
    for stream in (events, sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


async def _supervise(main: Main, settings: dict[str, Any], emit: Emit) -> int:
    loop = asyncio.get_running_loop()
    messages: asyncio.Queue[Event] = asyncio.Queue()
    task = asyncio.ensure_future(main(settings, emit, messages))
    threading.Thread(target=_watch_parent, args=(sys.stdin, loop, task, messages), daemon=True).start()
    try:
        await task
    except asyncio.CancelledError:
        return 0
    except Exception as error:  # noqa: BLE001 - reported to the parent, which decides
        emit({"event": "error", "message": _without_secrets(str(error) or type(error).__name__, settings)})
        return 1
    return 0


def _watch_parent(
    pipe: TextIO,
    loop: asyncio.AbstractEventLoop,
    task: "asyncio.Future[None]",
    messages: "asyncio.Queue[Event]",
) -> None:
    for line in pipe:
        # A broken line must not end the watch; a closed loop means that the process is ending anyway.
        with contextlib.suppress(ValueError, RuntimeError):
            loop.call_soon_threadsafe(messages.put_nowait, json.loads(line))
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(task.cancel)
    # A main that blocks its loop cannot be cancelled; the process must end all the same.
    threading.Event().wait(_LAST_RESORT_S)
    os._exit(1)


def _without_secrets(text: str, settings: dict[str, Any]) -> str:
    """Libraries put URLs with tokens into their errors; ours must not."""
    secrets = [
        value
        for name, value in settings.items()
        if isinstance(value, str) and any(word in name.lower() for word in _SECRET_WORDS)
    ]
    return str(redact(text, secrets))
