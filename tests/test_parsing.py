"""What keeps an import from failing at random, whatever earlier tests left behind."""

import ast
import logging


class _Left:
    """Something in a cycle, which logs a traceback when the garbage is collected (an unretrieved task does it)."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        try:
            self.nothing = {}["nothing"] + 1
        except KeyError:
            logging.getLogger(__name__).exception("logged while collected")


def test_a_traceback_that_is_logged_during_a_parse_does_not_break_it() -> None:
    """A parse during which garbage logs its traceback succeeds (CPython before 3.11.8 raised SystemError)."""
    source = "\n".join(f"x{n} = f(a[{n}] + b, c=[{n}, (1, 2)])" for n in range(3000))
    for _ in range(40):
        _Left()
    assert len(ast.parse(source).body) == 3000
