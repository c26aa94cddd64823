"""`agenthuman demo`."""

import argparse
from importlib import import_module

from agenthuman_plugins.cli._arguments import Commands, port


def add(commands: Commands) -> None:
    """Add the command."""
    demo = commands.add_parser(
        "demo", help="talk to an avatar in the browser, without any key", description="Talk to an avatar."
    )
    demo.add_argument(
        "--say", metavar="TEXT", help="what the avatar says first; with --record, all that it says"
    )
    demo.add_argument("--record", metavar="FILE.mp4", help="write what the avatar says into a video file")
    demo.add_argument(
        "--port", type=port, default=7860, help="port of the page; 0 takes a free one (default: %(default)s)"
    )
    demo.set_defaults(run=_run, extra="demo")


def _run(args: argparse.Namespace) -> int | None:
    code: int | None = import_module("agenthuman_plugins.demo").main(args)
    return code
