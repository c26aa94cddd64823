"""Runs the worker as a child process."""

from agenthuman_plugins.emulator.process import run_child
from agenthuman_plugins.emulator.worker._avatar import main

if __name__ == "__main__":
    run_child(main)
