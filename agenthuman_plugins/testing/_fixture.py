"""The fixture and its marker."""

from collections.abc import Iterator
from typing import Any

import pytest

from agenthuman_plugins.testing._emulator import RunningEmulator, running

_MARKER = "agenthuman"


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers", f"{_MARKER}(**options): arguments of the Emulator behind the fixture agenthuman_emulator"
    )


@pytest.fixture
def agenthuman_emulator(request: pytest.FixtureRequest) -> Iterator[RunningEmulator]:
    """A local Agent Human service of this test alone: REST and gateway, without rooms and avatars.

    Nothing but the test ends its sessions (`sweep` and `expiry` are off), so that a leak shows in `sessions()`. The
    marker `agenthuman(**options)` changes that, and everything else that `Emulator` takes; so does an indirect
    parameter with a dict of options.
    """
    options: dict[str, Any] = {"media": False, "sweep": False, "expiry": False}
    for marker in reversed(list(request.node.iter_markers(_MARKER))):  # the nearest one last, which decides
        if marker.args:
            raise pytest.UsageError(
                f"The marker {_MARKER} takes keyword arguments alone, such as plan='pro'."
            )
        options |= marker.kwargs
    options |= getattr(request, "param", None) or {}
    with running(**options) as emulator:
        yield emulator
