"""The `agenthuman` command.

One module for each sub-command: a parser and functions. What a function needs is imported inside it, so that the
command starts fast and works without the extras of the others.
"""

from agenthuman_plugins.cli._main import main

__all__ = ["main"]
