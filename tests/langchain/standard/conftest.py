"""A service for the standard suites."""

from collections.abc import Iterator

import pytest

from agenthuman_plugins.emulator import Emulator
from tests.vcr_support import emulators


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    """A service that ends no session by itself."""
    with emulators() as start:
        yield start(sweep=False, expiry=False)
