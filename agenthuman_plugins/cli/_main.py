"""The command from its arguments to its exit code."""

import os
import sys
from collections.abc import Sequence

from agenthuman_plugins._version import __version__
from agenthuman_plugins.cli import _avatars, _completion, _demo, _doctor, _emulator, _sessions, _usage
from agenthuman_plugins.cli._errors import CommandError
from agenthuman_plugins.cli._output import complain, say
from agenthuman_plugins.cli._parser import ACCOUNT, Parser
from agenthuman_plugins.client.errors import AgentHumanError

_INTERRUPTED = 130  # as shells report SIGINT
_BROKEN_PIPE = 141  # as shells report SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; what goes wrong is one sentence on standard error."""
    words = sys.argv[1:] if argv is None else [*argv]
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
        # `agenthuman ... | head`: the interpreter would flush once more at its exit, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("agenthuman_plugins"):
            raise  # ours to fix
        return _fail(f"{error}: pip install 'agenthuman-plugins[{args.extra}]'")
    except CommandError as error:
        return _fail(error, error.exit_code)
    except (AgentHumanError, ImportError) as error:
        return _fail(error)
    return code or 0


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
