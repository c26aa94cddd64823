"""`agenthuman completion`: the shell completes commands and options.

The scripts ask the command itself what may follow (`agenthuman __complete WORD …`), so they never get out of date.
"""

import argparse
from collections.abc import Iterable, Sequence

from agenthuman_plugins.cli._output import say
from agenthuman_plugins.cli._parser import Commands, Parser

ASK = "__complete"

_SCRIPTS = {
    "bash": """\
_agenthuman() {
  local IFS=$'\\n'
  COMPREPLY=($(agenthuman __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _agenthuman agenthuman""",
    "zsh": """\
_agenthuman() {
  local -a found
  found=("${(@f)$(agenthuman __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ -n "$found" ]]; then compadd -a found; else compset -P 1 '--*='; _files; fi
}
compdef _agenthuman agenthuman""",
    "fish": """\
function _agenthuman
  set -l words (commandline -opc) (commandline -ct)
  set -l found (agenthuman __complete $words[2..] 2>/dev/null)
  if test -n "$found[1]"
    printf '%s\\n' $found
  else
    set -l option (string match -r '^--[^=]+=' -- $words[-1])
    for path in (__fish_complete_path (string replace -r '^--[^=]+=' '' -- $words[-1]))
      echo "$option$path"
    end
  end
end
complete -c agenthuman -f -a '(_agenthuman)'""",
}


def add(commands: Commands) -> None:
    """Add the command."""
    completion = commands.add_parser(
        "completion",
        help="let your shell complete commands and options",
        description="Print a script that lets a shell complete commands and options.",
        examples=(
            'eval "$(agenthuman completion bash)"     # in ~/.bashrc',
            'eval "$(agenthuman completion zsh)"      # in ~/.zshrc, after compinit',
            "agenthuman completion fish | source      # in ~/.config/fish/config.fish",
        ),
    )
    completion.add_argument("shell", choices=sorted(_SCRIPTS), metavar="SHELL", help="bash, zsh or fish")
    completion.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    say(_SCRIPTS[args.shell])


def candidates(parser: Parser, words: Sequence[str]) -> list[str]:
    """What may stand in the place of the last word; nothing where the shell should offer files."""
    *before, current = words or [""]
    if current.startswith("--") and "=" in current:
        name, _, value = current.partition("=")
        return [f"{name}={choice}" for choice in candidates(parser, [*before, name, value])]
    # Bash splits `--option=value` into three words.
    before = [word for word in before if word != "="]
    current = current.removeprefix("=")
    value_of: argparse.Action | None = None
    for word in before:
        if value_of is not None:
            value_of = None
        elif word.startswith("-"):
            option = parser._option_string_actions.get(word)  # noqa: SLF001 - argparse has no public way
            value_of = option if option is not None and option.nargs != 0 else None
        else:
            parser = _actions_of(parser).get(word, parser)
    if value_of is not None:
        possible: Iterable[str] = value_of.choices or ()
    elif current.startswith("-"):
        possible = parser._option_string_actions  # noqa: SLF001
    else:
        possible = [*_actions_of(parser)] or _choices_of(parser)
    return [word for word in possible if word.startswith(current)]


def _actions_of(parser: Parser) -> dict[str, Parser]:
    for action in parser._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            return dict(action.choices)
    return {}


def _choices_of(parser: Parser) -> list[str]:
    """The values of a command's one argument, where they are known."""
    places = (action for action in parser._actions if not action.option_strings)  # noqa: SLF001
    return [choice for action in places for choice in action.choices or ()]
