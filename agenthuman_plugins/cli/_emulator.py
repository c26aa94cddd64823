"""`agenthuman emulator`."""

import argparse
import asyncio
import contextlib
import ipaddress
import os
import re
import shlex
import signal

from agenthuman_plugins.cli import _emulator_control
from agenthuman_plugins.cli._arguments import port, positive
from agenthuman_plugins.cli._errors import CommandError
from agenthuman_plugins.cli._output import complain, say
from agenthuman_plugins.cli._parser import Commands

_HOST, _PORT = "127.0.0.1", 8000
_KEY_VARIABLE = "AGENTHUMAN_EMULATOR_KEY"
_ROOMS = {
    "embedded": "the embedded room server",
    "livekit-server": "livekit-server",
    "url": "the LiveKit server of LIVEKIT_URL",
}
_OPEN = (
    "With --host {host}, everybody who reaches this machine can use the window (watch sessions, inject faults, move the "
    "clock, reset) and start sessions by link. Only the API needs the key."
)
_MIN_HEIGHT, _MAX_HEIGHT = 240, 1_440  # pixels; beyond, a face is not one, or not drawn in time


def add(commands: Commands) -> None:
    """Add the command."""
    emulator = commands.add_parser(
        "emulator",
        help="run a local Agent Human service",
        usage="agenthuman emulator [options] [ACTION]",
        description="Run a local Agent Human service until Ctrl-C: REST API, rooms, and avatars with a rendered face.",
        environment={
            _KEY_VARIABLE: "its key; by default a new one at each start",
            "LIVEKIT_URL": "use this LiveKit server for its rooms",
        },
        examples=(
            "agenthuman emulator",
            "agenthuman emulator --plan growth --port 8010",
            "agenthuman emulator clock --advance 2h",
        ),
    )
    emulator.add_argument("--host", type=_host, help=f"address to listen on (default: {_HOST})")
    emulator.add_argument("--port", type=port, help=f"0 takes a free one (default: {_PORT})")
    emulator.add_argument(
        "--allow-host",
        action="append",
        type=_host,
        default=[],
        metavar="NAME",
        help="another host name for this emulator, such as that of its container, besides localhost and IP addresses;"
        " repeat it for more",
    )
    emulator.add_argument(
        "--allow-private-urls",
        action="store_true",
        help="also fetch pictures from this machine and from private networks",
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
        "--generation",
        choices=("own-room", "managed"),
        default="own-room",
        help="generation of the API: own-room is today's, managed the older one with create, start and Daily rooms"
        " (default: %(default)s)",
    )
    emulator.add_argument(
        "--no-sweep", action="store_true", help="never end sessions whose avatar is alone or dead"
    )
    emulator.add_argument(
        "--no-proxy-rooms",
        action="store_true",
        help="make no rooms: a create must name a LiveKit or Daily room, as the public pages say",
    )
    emulator.add_argument(
        "--established-first",
        action="store_true",
        help="answer connection.established before the avatar has joined; the pages have both orders",
    )
    emulator.add_argument("--no-expiry", action="store_true", help="never end sessions at the plan's limit")
    emulator.add_argument(
        "--slots",
        type=positive(int, "a whole number"),
        metavar="N",
        help="sessions at the same time (default: the plan's)",
    )
    emulator.add_argument(
        "--session-limit",
        type=positive(float, "a number of seconds"),
        metavar="S",
        help="seconds after which a session ends (default: the plan's)",
    )
    emulator.set_defaults(run=_run, extra="emulator")
    _emulator_control.add(emulator)


def _run(args: argparse.Namespace) -> None:
    from agenthuman_plugins.emulator import EmulatorError  # noqa: PLC0415 - an extra

    try:
        asyncio.run(_serve(args))
    except (KeyboardInterrupt, asyncio.CancelledError):
        say("Stopped.")
    except EmulatorError as error:
        raise CommandError(str(error)) from error


async def _serve(args: argparse.Namespace) -> None:
    from agenthuman_plugins.emulator import Emulator  # noqa: PLC0415 - an extra

    _cancel_on_sigterm()
    host, port_number = args.host or _HOST, _PORT if args.port is None else args.port
    async with Emulator(
        host=host,
        port=port_number,
        # A variable, since options stand in the list of processes.
        api_key=os.environ.get(_KEY_VARIABLE) or None,
        allow_hosts=args.allow_host,
        allow_private_urls=args.allow_private_urls,
        plan=args.plan,
        video_size=args.video_size,
        generation=args.generation,
        sweep=not args.no_sweep,
        expiry=not args.no_expiry,
        proxy_rooms=not args.no_proxy_rooms,
        established_first=args.established_first,
        slots=args.slots,
        session_limit_s=args.session_limit,
    ) as emulator:
        kind = await emulator.wait_ready()
        if not _is_loopback(host):
            complain(_OPEN.format(host=host))
        say(f"Agent Human emulator: {emulator.url}")
        say(f"Plan {args.plan}, rooms on {_ROOMS[kind]}.\n")
        say(f"  export AGENTHUMAN_BASE_URL={shlex.quote(emulator.url)}")
        say(f"  export AGENTHUMAN_API_KEY={shlex.quote(emulator.api_key)}")
        if args.generation == "own-room":  # the older one tells its address with each session
            say(f"  export AGENTHUMAN_GATEWAY_URL={shlex.quote(emulator.gateway_url)}")
        say(f"\nSee what it does: {emulator.window_url}")
        say("\nPress Ctrl-C to stop.")
        await asyncio.Event().wait()


def _is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _cancel_on_sigterm() -> None:
    """Stop in order on SIGTERM, as `asyncio.run` does on Ctrl-C by itself; a second one ends the process."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def stop() -> None:
        loop.remove_signal_handler(signal.SIGTERM)
        if task is not None:
            task.cancel()

    with contextlib.suppress(NotImplementedError):  # Windows has no SIGTERM to handle
        loop.add_signal_handler(signal.SIGTERM, stop)


def _host(text: str) -> str:
    """Read a host name or an address."""
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(text))
    if not re.fullmatch(r"[\w.-]+", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a host name or IP address: leave out scheme and port"
        )
    return text


def _video_size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if (
        not (width.isdecimal() and height.isdecimal())
        or int(width) * 3 != int(height) * 4
        or int(height) % 30
        or not _MIN_HEIGHT <= int(height) <= _MAX_HEIGHT
    ):
        raise argparse.ArgumentTypeError(f"{text!r} is not a 4:3 size such as 640x480, 960x720 or 1280x960")
    return int(width), int(height)
