"""Which words were heard, from what is known of text and sound."""

import asyncio
import itertools

import pytest

from agenthuman_plugins.langchain.stage._heard import Rate, Transcript
from tests.langchain.stage.talk import END, Talk, partial, said, text, tts
from tests.virtual_time import in_virtual_time

SENTENCE = "The quick brown fox jumps over the lazy dog, and then it sleeps."
WORDS = [("The", 0.0), ("quick", 0.3), ("brown", 0.7), ("fox", 1.1), ("jumps", 1.5)]


def transcript(written: str = SENTENCE, rate: Rate | None = None) -> Transcript:
    made = Transcript(rate or Rate())
    made.write(written)
    return made


def test_words_with_times_decide() -> None:
    """Where the voice tells when words begin, a word counts as heard once it has begun."""
    reply = transcript()
    reply.sound(2.0, WORDS)
    assert reply.heard(0.0) == ""
    assert reply.heard(0.29) == "The"
    assert reply.heard(0.71) == "The quick brown"
    assert reply.heard(2.0) == "The quick brown fox jumps"


def test_words_keep_the_texts_own_writing() -> None:
    """The heard text is the agent's own, with its marks, also where the voice writes words otherwise."""
    reply = transcript("Well, hello -- Mr. O'Brien! It's 5 pm.")
    reply.sound(3.0, [("well", 0.0), ("hello", 0.4), ("mister", 0.8), ("o'brien", 1.2), ("it's", 2.0)])
    assert reply.heard(0.1) == "Well,"
    assert reply.heard(0.5) == "Well, hello"
    assert reply.heard(1.3) == "Well, hello -- Mr. O'Brien!"


def test_words_without_text() -> None:
    """Without the agent's text, the voice's words are the text."""
    reply = Transcript(Rate())
    reply.sound(2.0, WORDS)
    assert reply.heard(0.8) == "The quick brown"


@pytest.mark.parametrize(
    "words",
    [7, "words", [1, 2], [("a",)], [(1, "a")], [None], None, {}, [("a", 10**400)], [("a", float("nan"))]],
)
def test_words_that_are_none(words: object) -> None:
    """Words that are not pairs of text and time are left out; the share decides."""
    reply = transcript("one two")
    reply.sound(0.5, words)
    reply.all_said(surely=True)
    assert reply.heard(0.3) == "one"


def test_share_of_a_whole_reply() -> None:
    """When the voice has read everything, the share that was played decides, cut at a whole word."""
    reply = transcript("aaaa bbbb cccc dddd ")
    reply.sound(4.0)
    reply.all_said(surely=False)
    assert reply.heard(0.7) == ""
    assert reply.heard(1.05) == "aaaa"
    assert reply.heard(2.2) == "aaaa bbbb"
    assert reply.heard(4.0) == "aaaa bbbb cccc dddd "


def test_agent_writes_faster_than_the_voice_reads() -> None:
    """While the voice has not read all, its usual pace decides: two seconds of sound are not a thousand characters."""
    reply = transcript("word " * 200)
    reply.sound(2.0)
    assert 20 <= len(reply.heard(2.0)) <= 40


def test_pace_is_learnt() -> None:
    """How fast this voice reads is learnt from a reply that was read to its end, and used for the next one."""
    rate = Rate()
    slow = transcript("x" * 50, rate)
    slow.sound(10.0)
    slow.all_said(surely=True)
    following = transcript("word " * 200, rate)
    following.sound(4.0)
    assert len(following.heard(4.0)) == pytest.approx(20, abs=5)


def test_slow_voice_shows_by_the_text_there_is() -> None:
    """A voice cannot have read more than there is: little text behind much sound is a slow voice."""
    reply = transcript("one two three four")
    reply.sound(18.0)
    assert reply.heard(9.0) == "one two"


def test_sound_is_not_ahead_of_the_text_at_its_time() -> None:
    """What was written after a sound came is not what that sound says."""
    reply = transcript("One. ")
    reply.sound(3.0)
    reply.write("Two three four five six seven eight nine ten.")
    reply.sound(3.0)
    assert reply.heard(2.9) == "One."


def test_parts_with_a_pause_between() -> None:
    """After a pause, as for a tool, the next part begins where the one before ended."""
    reply = transcript("aaaa bbbb ")
    reply.sound(10.0)
    reply.all_said(surely=False)
    reply.write("cccc dddd ")
    reply.sound(6.0)
    reply.all_said(surely=False)
    assert reply.heard(5.2) == "aaaa"
    assert reply.heard(10.0) == "aaaa bbbb"
    assert reply.heard(12.5) == "aaaa bbbb cccc"


def test_voice_that_stalls_has_not_read_all() -> None:
    """A pause with much more text than a voice can have read is a stalled voice, not the end of the text."""
    reply = transcript("word " * 100)
    reply.sound(1.0)
    reply.all_said(surely=False)
    assert len(reply.heard(1.0)) < 25


def test_languages_without_blanks() -> None:
    """Chinese, Japanese and Korean are cut between characters, and count as slower to read."""
    reply = transcript("今天天气很好我们出去走走吧" * 20)
    reply.sound(2.0)
    assert 8 <= len(reply.heard(2.0)) <= 12


def test_heard_text_only_grows() -> None:
    """The further the sound was played, the more was heard, whatever is known."""
    for words in (None, WORDS):
        reply = transcript()
        reply.sound(1.0, words)
        reply.sound(1.0)
        heard = [reply.heard(number / 50) for number in range(101)]
        assert all(after.startswith(before) for before, after in itertools.pairwise(heard))


@in_virtual_time
async def test_told_words_are_the_text_that_was_heard() -> None:
    """All `avatar_text` of a reply make the `text` of its end, to the word, also when it was interrupted."""
    async with Talk() as talk:
        await talk.send(said("Hi"), text(SENTENCE), tts(2.0, words=WORDS), tts(2.0))
        await talk.until_kind("avatar_started")
        await asyncio.sleep(0.9)
        await talk.send(partial("stop"))
        finished = await talk.until_kind("avatar_finished")
        assert talk.heard() == finished["text"] == "The quick brown"


@in_virtual_time
async def test_words_are_told_when_they_are_heard() -> None:
    """Each word with a time comes within a tick of the clock after it was said, none before."""
    async with Talk() as talk:
        await talk.send(said("Hi"), text("The quick brown fox jumps."), tts(2.0, words=WORDS), END)
        started = await talk.until_kind("avatar_started")
        await talk.until_kind("avatar_finished")
        begin = talk.times[talk.out.index(started)]
        told = [
            (talk.times[at] - begin, event["text"])
            for at, event in enumerate(talk.out)
            if event in talk.of("avatar_text")
        ]
        assert "".join(word for _, word in told) == "The quick brown fox jumps."
        for (at, _), (_, due) in zip(told, WORDS, strict=False):
            assert due - 0.03 <= at <= due + 0.08
