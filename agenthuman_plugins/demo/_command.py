"""`agenthuman demo` from its arguments to its exit code: what it prints, and how it ends."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

# Before Pipecat is imported, which greets through it. Loguru reads the level from this variable.
_LOG_LEVEL = os.environ.setdefault("LOGURU_LEVEL", "ERROR")

import httpx  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn  # noqa: E402

from agenthuman_plugins.demo._errors import DemoError  # noqa: E402

if TYPE_CHECKING:
    from agenthuman_plugins.demo._recording import OnProgress
    from agenthuman_plugins.demo._services import Services

_STOPPED = 130  # as shells report SIGINT; only a recording loses anything by it

# Lines are broken for a terminal alone: a program reads whole sentences.
_out = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
_err = Console(highlight=False, soft_wrap=not sys.stderr.isatty(), stderr=True)


def run(
    *, say: Sequence[str] | None, record: str | None, interrupt_at: Sequence[float] | None, port: int
) -> int:
    """Run the demo until it is done or stopped, and return its exit code."""
    # Libraries warn about what the demo handles; who looks for a fault sets LOGURU_LEVEL=DEBUG.
    logging.basicConfig(level=logging.getLevelNamesMapping().get(_LOG_LEVEL.upper(), logging.ERROR))
    try:
        asyncio.run(
            _serve(" ".join(say or ()), port)
            if record is None
            else _record(say or (), Path(record), interrupt_at or ())
        )
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 0 if record is None else _STOPPED
    except DemoError as error:
        _err.print(f"agenthuman: {error}", markup=False)
        return 1
    return 0


async def _serve(say: str, port: int) -> None:
    """Serve the page until cancelled."""
    _cancel_on_sigterm()
    from agenthuman_plugins.demo import _page  # noqa: PLC0415 - imports Pipecat, which takes a second or two

    with contextlib.closing(_page.listen(port)) as listener:
        async with _emulator() as services:
            if services.in_process:
                raise DemoError(_page.NO_BROWSER)
            async with _page.serving(listener, services, opening=say or None) as url:
                _out.print(f"\n  Talk to the avatar: [bold cyan]{url}[/]\n\n  Press Ctrl-C to stop.\n")
                await asyncio.Event().wait()


async def _record(say: Sequence[str], path: Path, interrupt_at: Sequence[float]) -> None:
    """Record what the avatar says, with its interruptions."""
    if not any(say):
        raise DemoError("--record needs --say TEXT: what the avatar shall say into the file.")
    _cancel_on_sigterm()
    from agenthuman_plugins.demo import _recording  # noqa: PLC0415 - as above
    from agenthuman_plugins.demo._services import NO_NETWORK  # noqa: PLC0415

    _recording.check_file(path)
    script = _recording.make_script(say, interrupt_at)
    async with _emulator() as services:
        if services.in_process:
            _out.print(NO_NETWORK)
        with _progress() as on_progress:
            await _recording.record(services, script, path, on_progress)
        _out.print(f"Wrote {path}", markup=False)


@contextlib.asynccontextmanager
async def _emulator() -> AsyncIterator["Services"]:
    """Run the emulator, and tell at the end what became of the sessions."""
    from agenthuman_plugins.demo import _services  # noqa: PLC0415 - as above

    async with contextlib.AsyncExitStack() as stack:
        with _out.status("Starting the emulator …"):
            services = await stack.enter_async_context(_services.running_services())
        try:
            yield services
        finally:
            with contextlib.suppress(httpx.HTTPError):  # the emulator is gone: nothing to tell
                _report(await services.sessions())


def _report(sessions: Counter[str]) -> None:
    """Tell of sessions that were left open: on the real service they would be billed on."""
    if left_open := sessions["nobody"]:
        _err.print(
            f"agenthuman: {left_open} of {sessions.total()} sessions were left open. Please report this."
        )
    elif sessions.total():
        _out.print(f"Sessions opened: {sessions.total()}, all ended.")


@contextlib.contextmanager
def _progress() -> Iterator["OnProgress"]:
    """Show a bar of media time."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=_out) as progress:
        task = progress.add_task("Waiting for the avatar", total=None)

        def show(done_s: float, total_s: float) -> None:
            progress.update(task, description="Recording", completed=done_s, total=total_s)

        yield show


def _cancel_on_sigterm() -> None:
    """End in order on SIGTERM, as `asyncio.run` does on Ctrl-C by itself."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    if task is not None:
        with contextlib.suppress(NotImplementedError):  # Windows
            loop.add_signal_handler(signal.SIGTERM, task.cancel)
