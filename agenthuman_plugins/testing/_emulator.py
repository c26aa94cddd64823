"""An emulator beside the tests: on a loop and a thread of its own, so that sync and async tests can talk to it."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from agenthuman_plugins.emulator import Emulator
    from agenthuman_plugins.emulator._clock import EmulatorClock

_CALL_TIMEOUT_S = 20.0  # on the emulator's loop, which is never busy for long
_READY_TIMEOUT_S = 60.0  # a room server has to start

T = TypeVar("T")


class RunningEmulator:
    """A running emulator, as tests see it.

    Attributes:
        url: Base URL of its REST API.
        gateway_url: Address of its WebSocket gateway.
        api_key: The key that it takes.
        clock: Its time, which can be paused and moved forward.
    """

    def __init__(self, emulator: "Emulator", loop: asyncio.AbstractEventLoop) -> None:
        self._emulator = emulator
        self._loop = loop
        self.url = emulator.url
        self.gateway_url = emulator.gateway_url
        self.api_key = emulator.api_key
        self.clock = RunningClock(emulator.clock, self._call)

    def __repr__(self) -> str:
        return f"RunningEmulator(url={self.url!r})"

    def sessions(self) -> list[dict[str, Any]]:
        """Return all sessions, newest first, each with who ended it, its avatar's state and its timeline.

        Example:
            ```python
            assert [session["ended_by"] for session in service.sessions()] == ["caller"]
            ```
        """
        return self._call(self._emulator.sessions)

    def fail(self, fault: str, **details: Any) -> None:
        """Inject a fault.

        Example:
            ```python
            service.fail("cut_after", method="POST", path="/v1/sessions")
            ```

        Args:
            fault: What. For requests: `status`, `delay`, `cut_before`, `cut_after`, `cut_body`, `malformed_body`. For
                avatars: `avatar_crash`, `avatar_silent`, `no_playback_finished`, `room_loss`.
            **details: How often and where: `times` (1), `method`, `path` (a pattern such as `/v1/sessions/*`),
                `session_id`; `status` (503), `body`, `headers`, `delay_s` (1), `processed` (whether the request is
                processed before).

        Raises:
            EmulatorError: There is no such fault, or its details do not fit.
        """
        self._call(lambda: self._emulator.fail(fault, **details))

    def clear_faults(self) -> None:
        """Drop all pending faults.

        Example:
            ```python
            service.fail("avatar_silent", times=10)
            service.clear_faults()
            ```
        """
        self._call(self._emulator.clear_faults)

    def reset(self) -> None:
        """Forget sessions, avatars, agents, links and faults, and reset the clock, as if it had just started.

        Example:
            ```python
            service.reset()
            assert service.sessions() == []
            ```
        """
        self._call(self._emulator.reset)

    def export(self) -> dict[str, Any]:
        """Return the whole state and each session's timeline as JSON, without secrets.

        Example:
            ```python
            print(service.export()["sessions"])
            ```
        """
        return self._call(self._emulator.export)

    def health(self) -> dict[str, Any]:
        """Return `status`, `version`, `room_server`, and the number of `sessions`.

        Example:
            ```python
            assert service.health()["status"] == "ok"
            ```
        """
        return self._call(self._emulator.health)

    def _call(self, function: Callable[[], T]) -> T:
        async def call() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(_CALL_TIMEOUT_S)


class RunningClock:
    """The clock of a running emulator: sessions, links, periods and request rates follow it, speech does not."""

    def __init__(self, clock: "EmulatorClock", call: Callable[[Callable[[], Any]], Any]) -> None:
        self._clock = clock
        self._call = call

    def now(self) -> datetime:
        """Return its time.

        Example:
            ```python
            print(service.clock.now())
            ```
        """
        return self._clock()

    def pause(self) -> None:
        """Pause; harmless when repeated.

        Example:
            ```python
            service.clock.pause()
            assert service.clock.now() == service.clock.now()
            ```
        """
        self._call(self._clock.pause)

    def resume(self) -> None:
        """Resume where it was paused; harmless when repeated.

        Example:
            ```python
            service.clock.resume()
            ```
        """
        self._call(self._clock.resume)

    def advance(self, *, hours: float = 0, minutes: float = 0, seconds: float = 0) -> None:
        """Move forward, also while paused. Sessions whose time is over have ended when this returns.

        Example:
            ```python
            service.clock.advance(hours=4)  # to the limit of a session
            ```

        Raises:
            EmulatorError: The duration is negative, or ends more than ten years ahead.
        """
        self._call(lambda: self._clock.advance(hours=hours, minutes=minutes, seconds=seconds))


@contextlib.contextmanager
def running(**options: Any) -> Iterator[RunningEmulator]:
    """Run an emulator while the body runs; takes the arguments of `Emulator`."""
    from agenthuman_plugins.emulator import Emulator  # noqa: PLC0415 - not before a test asks for it

    with _loop_in_a_thread() as loop:
        emulator = Emulator(**options)

        async def leave() -> None:
            await emulator.__aexit__(None, None, None)

        asyncio.run_coroutine_threadsafe(emulator.__aenter__(), loop).result(_CALL_TIMEOUT_S)
        try:
            asyncio.run_coroutine_threadsafe(emulator.wait_ready(), loop).result(_READY_TIMEOUT_S)
            yield RunningEmulator(emulator, loop)
        finally:
            asyncio.run_coroutine_threadsafe(leave(), loop).result(_CALL_TIMEOUT_S)


@contextlib.contextmanager
def _loop_in_a_thread() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="agenthuman emulator", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_CALL_TIMEOUT_S)
        if not loop.is_running():
            loop.close()
