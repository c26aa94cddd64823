"""The queue that an avatar plays from."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenthuman_plugins.speech.playout import Finished, Playout, Started

RATE = 16_000
BLOCK = 640
SILENCE = bytes(2 * BLOCK)


def pcm(samples: int, value: int = 1) -> bytes:
    return struct.pack("<h", value) * samples


@pytest.fixture
def playout() -> Playout:
    return Playout(RATE)


def test_nothing_queued_gives_silence(playout: Playout) -> None:
    """An idle avatar is silent and reports nothing."""
    assert playout.take(BLOCK) == (SILENCE, [])
    assert not playout.playing
    assert playout.clear() is None


def test_utterance_starts_once_and_finishes_with_its_last_sample(playout: Playout) -> None:
    """Start comes with the first block, the end with the last one, padded with silence."""
    playout.push(pcm(BLOCK + 100))
    playout.end()
    assert playout.queued_s == (BLOCK + 100) / RATE
    assert playout.take(BLOCK) == (pcm(BLOCK), [Started()])
    assert playout.playing
    last = pcm(100).ljust(2 * BLOCK, b"\0")
    assert playout.take(BLOCK) == (last, [Finished((BLOCK + 100) / RATE, interrupted=False)])
    assert not playout.playing
    assert playout.take(BLOCK) == (SILENCE, [])


def test_utterance_of_one_block_reports_both(playout: Playout) -> None:
    """A block can hold the start and the end of an utterance."""
    playout.push(pcm(10))
    playout.end()
    assert playout.take(BLOCK)[1] == [Started(), Finished(10 / RATE, interrupted=False)]


def test_waiting_for_more_speech_plays_no_part_of_a_block(playout: Playout) -> None:
    """While speech may follow, only whole blocks are played: silence within a word would be heard."""
    playout.push(pcm(BLOCK - 1))
    assert playout.take(BLOCK) == (SILENCE, [])
    playout.push(pcm(1))
    assert playout.take(BLOCK) == (pcm(BLOCK), [Started()])
    playout.push(pcm(3))
    assert playout.take(BLOCK) == (SILENCE, [])
    assert playout.playing
    playout.end()
    assert playout.take(BLOCK)[0].startswith(pcm(3))


def test_end_that_comes_late_is_reported_all_the_same(playout: Playout) -> None:
    """The end mark may come after the last sample was played."""
    playout.push(pcm(BLOCK))
    playout.take(BLOCK)
    playout.end()
    assert playout.take(BLOCK) == (SILENCE, [Finished(BLOCK / RATE, interrupted=False)])


def test_block_holds_one_utterance_only(playout: Playout) -> None:
    """The next utterance waits for the next block."""
    playout.push(pcm(10, 1))
    playout.end()
    playout.push(pcm(10, 2))
    playout.end()
    assert playout.take(BLOCK)[0] == pcm(10, 1).ljust(2 * BLOCK, b"\0")
    assert playout.take(BLOCK)[0] == pcm(10, 2).ljust(2 * BLOCK, b"\0")


def test_clear_reports_what_was_played(playout: Playout) -> None:
    """An interrupted utterance is reported with its position, and nothing of the queue is left."""
    playout.push(pcm(3 * BLOCK))
    playout.end()
    playout.push(pcm(BLOCK))
    playout.take(BLOCK)
    assert playout.clear() == Finished(BLOCK / RATE, interrupted=True)
    assert playout.queued_s == 0
    assert playout.take(BLOCK) == (SILENCE, [])


def test_clear_before_the_first_sample_reports_nothing(playout: Playout) -> None:
    """Nobody heard it: as with a stock avatar, there is no report."""
    playout.push(pcm(3 * BLOCK))
    assert playout.clear() is None


def test_empty_utterance_delays_nothing(playout: Playout) -> None:
    """An utterance without a sample is skipped in the same block, unreported."""
    playout.push(b"")
    playout.end()
    playout.push(pcm(BLOCK))
    assert playout.take(BLOCK) == (pcm(BLOCK), [Started()])


def test_chunk_may_end_within_a_sample(playout: Playout) -> None:
    """A sample that was split over two chunks is played whole."""
    speech = struct.pack("<640h", *range(640))
    playout.push(speech[:333])
    playout.take(100)
    playout.push(speech[333:])
    playout.end()
    heard = b""
    while playout.playing:
        heard += playout.take(100)[0]
    assert (speech[:200] + heard).startswith(speech)


@given(
    st.lists(st.lists(st.binary(min_size=1, max_size=400), min_size=1, max_size=4), max_size=5),
    st.integers(1, 200),
)
def test_every_sample_is_played_once_and_in_order(utterances: list[list[bytes]], block: int) -> None:
    """Whatever the chunks: per utterance, what is heard is what was pushed, between one start and one end."""
    playout = Playout(RATE)
    for chunks in utterances:
        for chunk in chunks:
            playout.push(chunk)
        playout.end()
    heard: list[tuple[int, bytes]] = []
    sound = b""
    for _ in range(2_000):
        pcm_block, reports = playout.take(block)
        sound = pcm_block if Started() in reports else sound + pcm_block
        for report in reports:
            if isinstance(report, Finished):
                assert not report.interrupted
                heard.append((round(report.position_s * RATE), sound))
        if not playout.queued_s and not playout.playing:
            break
    spoken = [b"".join(chunks) for chunks in utterances]
    spoken = [speech[: len(speech) // 2 * 2] for speech in spoken if len(speech) > 1]
    assert [samples for samples, _ in heard] == [len(speech) // 2 for speech in spoken]
    for speech, (_, played) in zip(spoken, heard, strict=True):
        assert played[: len(speech)] == speech
        assert not any(played[len(speech) :])
