"""The parser of the command: one sentence for what is wrong, help for what is incomplete."""

import argparse
import re
import textwrap
from collections.abc import Generator, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn, TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[Parser]"  # noqa: SLF001 - it has no other name

ACCOUNT = {
    "AGENTHUMAN_API_KEY": "the key of the account",
    "AGENTHUMAN_BASE_URL": "another service, such as an emulator",
}


class _Help(argparse.HelpFormatter):
    """Wraps paragraphs, and leaves those with indented lines as they are: examples and lists."""

    def add_usage(self, usage: str | None, actions: Any, groups: Any, prefix: str | None = None) -> None:
        """Name the arguments; the options follow below, each with its meaning."""
        if (
            usage is None and prefix is None
        ):  # argparse has a prefix where it makes the names of the commands below
            arguments = " ".join(self._format_args(action, action.dest) for action in _places(actions))
            usage = f"{self._prog} [options] {arguments}".rstrip()
        super().add_usage(usage, actions, groups, prefix)

    def _fill_text(self, text: str, width: int, indent: str) -> str:  # noqa: ARG002 - argparse's signature
        return "\n\n".join(
            paragraph if "\n  " in paragraph else textwrap.fill(paragraph, width)
            for paragraph in text.split("\n\n")
        )

    def _format_action(self, action: argparse.Action) -> str:
        text = super()._format_action(action)
        if _has_commands(action):
            return text.partition("\n")[2]  # without a line that says COMMAND
        return text

    def _iter_indented_subactions(self, action: argparse.Action) -> Generator[argparse.Action, None, None]:
        # Not indented: argparse measures them without that, and breaks the longest one's line.
        yield from getattr(action, "_get_subactions", list)()


class Parser(argparse.ArgumentParser):
    """A command or a part of it.

    Args:
        examples: Command lines for its help.
        environment: Variables that it reads, and their meaning.
        **options: Arguments of `ArgumentParser`.
    """

    def __init__(
        self,
        *,
        examples: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options, formatter_class=_Help, epilog=_epilog(examples, environment or {}))

    def add_actions(self, title: str, **options: Any) -> Commands:
        """Make room for actions; without one, the help is shown."""
        self.set_defaults(run=lambda _: self.print_help())
        return self.add_subparsers(title=title, metavar=title.rstrip("s").upper(), **options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse here what is unknown: argparse would leave that to the outermost parser."""
        # First of all, or the option's value would be taken for a command, or an argument said to be missing.
        if option := self._unknown_option(args or ()):
            self.error(f"unknown option {option!r}{_meant(option, self._option_string_actions)}")
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unexpected argument {unknown[0]!r}")
        return known, unknown

    def _unknown_option(self, words: Iterable[str]) -> str | None:
        commands = {
            name for action in self._actions if _has_commands(action) for name in action.choices or ()
        }
        for word in words:
            if word == "--" or word in commands:
                return None
            if not re.fullmatch(r"-[^\d\s]\S*", word):
                continue  # no option for argparse either
            option, _, _ = word.partition("=")
            if not any(name.startswith(option) or name == word[:2] for name in self._option_string_actions):
                return option
        return None

    def error(self, message: str) -> NoReturn:
        """End the command with one sentence, and say where the help is."""
        message = message.removeprefix("argument ").replace(
            "the following arguments are required:", "missing argument:"
        )
        self.exit(2, f"agenthuman: {message}\nSee '{self.prog} --help'.\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        # argparse would list every choice, and suggest none. Locked by test_what_was_meant_is_named.
        if action.choices is None or value in action.choices:
            return
        if _has_commands(action):
            meant = _meant(value, [*action.choices, *self._option_string_actions])
            raise argparse.ArgumentError(None, f"unknown command {value!r}{meant}")
        raise argparse.ArgumentError(action, f"{value!r} is not one of {', '.join(action.choices)}")


def _has_commands(action: argparse.Action) -> bool:
    return isinstance(action, argparse._SubParsersAction)  # noqa: SLF001 - see `Commands`


def _places(actions: Iterable[argparse.Action]) -> list[argparse.Action]:
    return [action for action in actions if not action.option_strings]


def _meant(word: str, possible: Any) -> str:
    close = get_close_matches(word, list(possible), n=1)
    return f": did you mean {close[0]!r}?" if close else ""


def _epilog(examples: Sequence[str], environment: Mapping[str, str]) -> str:
    parts = []
    if environment:
        width = max(map(len, environment))
        lines = [f"  {name:<{width}}  {meaning}" for name, meaning in environment.items()]
        parts.append("\n".join(["environment:", *lines]))
    if examples:
        parts.append("\n".join(["examples:", *(f"  {example}" for example in examples)]))
    return "\n\n".join(parts)
