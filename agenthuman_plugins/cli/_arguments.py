"""What several sub-commands want from argparse."""

import argparse
import math
import re
from collections.abc import Callable

_MAX_PORT = 65_535
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def add_json(parser: argparse.ArgumentParser) -> None:
    """Let a command answer to a program."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def port(text: str) -> int:
    """Read a port number; 0 takes a free one."""
    if not text.isdecimal() or int(text) > _MAX_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: use a number from 0 to {_MAX_PORT}")
    return int(text)


def seconds(text: str) -> int:
    """Read a length of time such as `90s`, `30m`, `2h` or `1d`, in seconds."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a length of time such as 90s, 30m, 2h or 1d")
    return int(match[1]) * _SECONDS[match[2]]


def positive(kind: type[int] | type[float], what: str) -> Callable[[str], int | float]:
    """Make a reader of numbers above 0; `what` names them in its error."""

    def number(text: str) -> int | float:
        try:
            value = kind(text)
        except ValueError:
            value = 0
        if not 0 < value < math.inf:
            raise argparse.ArgumentTypeError(f"{text!r} is not {what} above 0")
        return value

    return number
