"""Agent Human for Pipecat: the names of `agenthuman_plugins.pipecat` under Pipecat's package name."""

from agenthuman_plugins import pipecat as _pipecat
from agenthuman_plugins.pipecat import *  # noqa: F403 - re-exporting is all that this package is for

__all__ = list(_pipecat.__all__)
