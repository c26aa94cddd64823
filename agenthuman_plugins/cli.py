"""The `agenthuman` command.

Each sub-command is a parser and a function; what a function needs is imported inside it, so that the command
starts fast and works without the extras of the others.
"""

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import Sequence
from importlib import import_module

from agenthuman_plugins._version import __version__

_PORT = 8000
_MAX_PORT = 65_535


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; what goes wrong is one sentence on standard error."""
    args = _parser().parse_args(argv)
    try:
        return args.run(args) or 0
    except KeyboardInterrupt:
        return 130  # as shells report SIGINT
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("agenthuman_plugins"):
            raise  # ours to mend
        return _fail(f"{error}: pip install 'agenthuman-plugins[{args.extra}]'")
    except (_CommandError, ImportError) as error:
        return _fail(error)


def _fail(reason: object) -> int:
    print(f"agenthuman: {reason}", file=sys.stderr)
    return 1


class _CommandError(Exception):
    """Ends the command with one sentence."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="agenthuman", description="Agent Human avatars, from the command line."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_demo(commands)
    _add_emulator(commands)
    return parser


def _add_demo(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    demo = commands.add_parser(
        "demo", help="talk to an avatar in the browser, without any key", description="Talk to an avatar."
    )
    demo.add_argument("--say", metavar="TEXT", help="what the avatar says first; with --record, all that it says")
    demo.add_argument("--record", metavar="FILE.mp4", help="write what the avatar says into a video file")
    demo.add_argument("--port", type=_port, default=7860, help="port of the page; 0 takes a free one (default: %(default)s)")
    demo.set_defaults(run=_run_demo, extra="demo")


def _run_demo(args: argparse.Namespace) -> int | None:
    code: int | None = import_module("agenthuman_plugins.demo").main(args)
    return code


def _add_emulator(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    emulator = commands.add_parser(
        "emulator",
        help="run a local Agent Human service",
        description="Run a local Agent Human service until Ctrl-C: REST API, rooms, and avatars with a rendered face.",
    )
    emulator.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    emulator.add_argument(
        "--port", type=_port, default=_PORT, help="0 takes a free one (default: %(default)s)"
    )
    emulator.add_argument(
        "--plan",
        choices=("free", "explorer", "growth", "pro"),
        default="free",
        help="limits of the account (default: %(default)s)",
    )
    emulator.add_argument(
        "--video-size",
        type=_video_size,
        default=(640, 480),
        metavar="WxH",
        help="picture at 4:3; other ratios follow (default: 640x480)",
    )
    emulator.add_argument(
        "--no-sweep", action="store_true", help="never end sessions whose avatar is alone or dead"
    )
    emulator.add_argument("--no-expiry", action="store_true", help="never end sessions at the plan's limit")
    emulator.set_defaults(run=_run_emulator, extra="emulator")


def _run_emulator(args: argparse.Namespace) -> None:
    from agenthuman_plugins.emulator import EmulatorError  # noqa: PLC0415

    try:
        asyncio.run(_serve(args))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("Stopped.")
    except EmulatorError as error:
        raise _CommandError(str(error)) from error


async def _serve(args: argparse.Namespace) -> None:
    from agenthuman_plugins.emulator import Emulator  # noqa: PLC0415

    _cancel_on_sigterm()
    async with Emulator(
        host=args.host,
        port=args.port,
        plan=args.plan,
        video_size=args.video_size,
        sweep=not args.no_sweep,
        expiry=not args.no_expiry,
    ) as emulator:
        kind = await emulator.wait_ready()
        print(f"Agent Human emulator: {emulator.url} (plan {args.plan}, rooms on {kind})\n")
        print(f"  export AGENTHUMAN_BASE_URL={emulator.url}")
        print(f"  export AGENTHUMAN_API_KEY={emulator.api_key}\n")
        print("Press Ctrl-C to stop.", flush=True)
        await asyncio.Event().wait()


def _cancel_on_sigterm() -> None:
    """Stop in order on SIGTERM, as `asyncio.run` does on Ctrl-C by itself; a second one ends the process."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def stop() -> None:
        loop.remove_signal_handler(signal.SIGTERM)
        if task is not None:
            task.cancel()

    with contextlib.suppress(NotImplementedError):  # Windows has no SIGTERM to handle
        loop.add_signal_handler(signal.SIGTERM, stop)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > _MAX_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: use a number from 0 to {_MAX_PORT}")
    return int(text)


def _video_size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if (
        not (width.isdecimal() and height.isdecimal())
        or int(width) * 3 != int(height) * 4
        or int(height) % 30
    ):
        raise argparse.ArgumentTypeError(f"{text!r} is not a 4:3 size such as 640x480, 960x720 or 1280x960")
    return int(width), int(height)


if __name__ == "__main__":
    sys.exit(main())
