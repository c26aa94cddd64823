"""How the demo's pipelines run."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from agenthuman_plugins.demo._worker import spare_collector


@pytest.fixture(autouse=True)
def frozen_again() -> Iterator[None]:
    """What these tests leave is collected; what was imported stays out of the collector's sight for the others."""
    yield
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def test_a_collection_in_mid_speech_passes_over_what_is_loaded() -> None:
    """What is loaded when a conversation begins is not looked through again while it lasts."""
    loaded = [[]]
    assert any(tracked is loaded for tracked in gc.get_objects())
    spare_collector()
    assert not any(tracked is loaded for tracked in gc.get_objects())


def test_what_a_conversation_leaves_is_collected_by_the_next_one() -> None:
    """A conversation that was there when another one began is freed all the same."""
    conversation = Cycle()
    gone = weakref.ref(conversation)
    spare_collector()
    del conversation
    gc.collect()
    assert gone() is not None
    spare_collector()
    assert gone() is None


class Cycle:
    """Only the garbage collector can free it."""

    def __init__(self) -> None:
        self.own = self
