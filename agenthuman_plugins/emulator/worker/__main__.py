"""Runs the worker as a child process."""

import logging

from agenthuman_plugins.emulator.process import run_child
from agenthuman_plugins.emulator.worker._avatar import main

if __name__ == "__main__":
    # To the parent's standard error. Not LiveKit's warnings: it has one for every orderly goodbye.
    logging.basicConfig(level=logging.ERROR)
    run_child(main)
