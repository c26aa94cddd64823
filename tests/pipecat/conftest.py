"""What several tests of the service ask for."""

from collections.abc import Iterator

import pytest
from loguru import logger


@pytest.fixture
def quiet_log() -> Iterator[None]:
    """Let no bot log: a failure says what happened, and the log of hundreds of bots would hide it."""
    names = "pipecat", "agenthuman_plugins"
    for name in names:
        logger.disable(name)
    yield
    for name in names:
        logger.enable(name)
