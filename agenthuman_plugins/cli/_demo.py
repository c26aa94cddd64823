"""`agenthuman demo`."""

import argparse
from importlib import import_module

from agenthuman_plugins.cli._arguments import port, positive
from agenthuman_plugins.cli._errors import UsageError
from agenthuman_plugins.cli._parser import Commands


def add(commands: Commands) -> None:
    """Add the command."""
    demo = commands.add_parser(
        "demo",
        help="talk to an avatar in the browser, without any key",
        description="Talk to an avatar of the local emulator in the browser, or record what it says. No key is needed.",
        environment={
            "OPENAI_API_KEY": "a model answers, and understands speech",
            "OPENAI_BASE_URL": "another OpenAI-compatible service",
            "OPENAI_MODEL": "another model",
        },
        examples=(
            "agenthuman demo",
            'agenthuman demo --say "Hello!" --record hello.mp4',
            'agenthuman demo --record clip.mp4 --interrupt-at 4 --say "…" --say "…"',
        ),
    )
    demo.add_argument(
        "--say",
        metavar="TEXT",
        action="append",
        help="what the avatar says first; with --record, all that it says. Repeat it for one reply after the other",
    )
    demo.add_argument("--record", metavar="FILE.mp4", help="write what the avatar says into a video file")
    demo.add_argument(
        "--interrupt-at",
        metavar="S",
        type=positive(float, "a number of seconds"),
        action="append",
        help="interrupt the avatar at this second of the recording; the next --say follows. Repeat it for more",
    )
    demo.add_argument(
        "--port", type=port, default=7860, help="port of the page; 0 takes a free one (default: %(default)s)"
    )
    demo.set_defaults(run=_run, extra="demo")


def _run(args: argparse.Namespace) -> int | None:
    if args.interrupt_at and not args.record:
        raise UsageError("--interrupt-at needs --record: in the browser you interrupt the avatar yourself.")
    code: int | None = import_module("agenthuman_plugins.demo").main(args)
    return code
