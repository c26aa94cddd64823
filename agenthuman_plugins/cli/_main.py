"""The command from its arguments to its exit code."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from agenthuman_plugins._version import __version__
from agenthuman_plugins.cli import _avatars, _completion, _demo, _doctor, _emulator, _sessions, _usage
from agenthuman_plugins.cli._account import explained
from agenthuman_plugins.cli._errors import CommandError
from agenthuman_plugins.cli._output import complain, say
from agenthuman_plugins.cli._parser import ACCOUNT, Parser
from agenthuman_plugins.client.errors import AgentHumanError

_INTERRUPTED = 130  # as shells report SIGINT
_BROKEN_PIPE = 141  # as shells report SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; what goes wrong is one sentence on standard error."""
    words = sys.argv[1:] if argv is None else [*argv]
    _make_streams_usable()
    try:
        if words[:1] == [_completion.ASK]:
            say("\n".join(_completion.candidates(_parser(), words[1:])))
            return 0
        args = _parser().parse_args(words)
        code: int | None = args.run(args)
        sys.stdout.flush()  # here, where a reader that is gone can still be handled
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        _write_no_more()
        return _BROKEN_PIPE  # `agenthuman ... | head`
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("agenthuman_plugins"):
            raise  # ours to fix
        return _fail(f"{error}: pip install 'agenthuman-plugins[{args.extra}]'")
    except CommandError as error:
        return _fail(error, error.exit_code)
    except AgentHumanError as error:
        return _fail(explained(error))
    except ImportError as error:
        return _fail(error)
    except OSError as error:  # most likely a disk that is full
        _write_no_more()
        return _fail(error)
    return code or 0


def _make_streams_usable() -> None:
    """Give what a caller has closed, as services and cron jobs do, and write `?` for what an encoding lacks."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - for as long as we run
    if sys.stdout.errors == "strict" and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")


def _write_no_more() -> None:
    """Lose what is not yet written: the interpreter would try it once more at its exit, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(reason: object, exit_code: int = 1) -> int:
    complain(str(reason))
    return exit_code


def _parser() -> Parser:
    parser = Parser(
        prog="agenthuman",
        description="Agent Human avatars, from the command line.",
        environment={
            **ACCOUNT,
            "AGENTHUMAN_AVATAR": "the avatar, where none is named",
            "AGENTHUMAN_LOG": "info or debug shows what is sent",
        },
        examples=(
            "agenthuman demo                      # no key needed",
            "agenthuman doctor                    # what is missing, and how to fix it",
            "agenthuman sessions list --status started",
        ),
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_actions("commands")
    for module in (_demo, _emulator, _sessions, _avatars, _usage, _doctor, _completion):
        module.add(commands)
    return parser
