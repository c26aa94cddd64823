"""What a forked process must not take over: in it no thread goes on but the one that forked."""

import os
import weakref
from typing import Protocol


class Forgetful(Protocol):
    """Something that stays with the parent."""

    def forget(self) -> None:
        """Begin anew in the forked process, and touch nothing of the parent's."""


_kept: "weakref.WeakSet[Forgetful]" = weakref.WeakSet()


def forget_in_children(one: Forgetful) -> None:
    """Call `one.forget()` in every process that is forked from now on."""
    _kept.add(one)


def _forget() -> None:
    for one in list(_kept):
        one.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
