"""What of a reply the user has heard, as text. Pure."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import Any

_LONGEST_S = 86_400  # a later word is none of this reply's
# How fast a voice reads, before it has shown it: English at 150 to 170 words a minute.
_USUAL_RATE = 15.0  # characters per second
_WIDE_FROM, _WIDE = "\u2e80", 3  # Chinese, Japanese and Korean characters take about as long as three others
# A pause behind less text than this is the end of what there is to say; else the voice itself has stalled.
_FASTEST = 2.0  # times the known rate
_SHORTEST_S = 1.0  # of speech that shows how fast a voice reads
_NEAR = 60  # characters after the last word within which the next one is looked for


class Rate:
    """How fast a voice reads, learned from what it has read."""

    def __init__(self) -> None:
        self._weight = 0.0
        self._seconds = 0.0

    @property
    def per_second(self) -> float:
        """Characters per second."""
        return self._weight / self._seconds if self._seconds >= _SHORTEST_S else _USUAL_RATE

    def learn(self, weight: float, seconds: float) -> None:
        """Note that a text was read in so many seconds."""
        self._weight += weight
        self._seconds += seconds


class Transcript:
    """The text of a reply, and which part of it belongs to which part of its sound.

    Where the voice tells when each word begins, that decides. Else it is estimated: an agent writes faster than a
    voice reads, so the share of the sound that was played says nothing until the voice has read all there is. Until
    then the voice counts as reading at its usual pace, and never ahead of the text that was there when its sound
    came. Whenever it has evidently read everything, the share decides for that part, and the pace is learned.

    Args:
        rate: How fast the voice reads.
    """

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self.text = ""
        self.seconds = 0.0  # of sound
        self._weights: list[float] = [0.0]  # of the text up to each character
        self._sound: list[tuple[float, float]] = []  # up to which second, and the weight of the text by then
        self._anchors: list[tuple[float, float]] = [
            (0.0, 0.0)
        ]  # second and weight that surely belong together
        self._words: list[
            tuple[float, str, int]
        ] = []  # begin, word, and where it ends in the text (0: not found)
        self._has_words_alone = False
        self._found = 0  # where the last word ends that was found in the text

    def write(self, text: str) -> None:
        """Add text."""
        self.text += text
        for char in text:
            self._weights.append(self._weights[-1] + (_WIDE if char >= _WIDE_FROM else 1))

    def sound(self, seconds: float, words: Any = None) -> None:
        """Add sound.

        Args:
            seconds: Its length.
            words: Words with the second of the reply at which each begins, if the voice tells them.
        """
        self.seconds += seconds
        self._sound.append((self.seconds, self._weights[-1]))
        for word, begin_s in _timed(words):
            begin = (
                max(begin_s, self._words[-1][0]) if self._words else begin_s
            )  # what was told is not taken back
            self._words.append((begin, word, self._place(word)))

    def all_said(self, *, surely: bool) -> None:
        """Note that the voice has read all text so far.

        Args:
            surely: Else only if it can have: a voice may stall.
        """
        (second, weight), total = self._anchors[-1], self._weights[-1]
        seconds = self.seconds - second
        if seconds <= 0 or total <= weight:
            return
        fast = (total - weight) / seconds > _FASTEST * self._rate.per_second
        if fast and not surely:
            return
        self._anchors.append((self.seconds, total))
        if not fast:
            self._rate.learn(total - weight, seconds)

    def heard(self, seconds: float) -> str:
        """The text that was heard when so much of the sound was played, up to a whole word."""
        if not self.text or self._has_words_alone:
            heard = " ".join(word for begin, word, _ in self._words if begin < seconds)
            self._has_words_alone = bool(heard)  # a text that comes later would contradict what was told
            return heard
        ends = [end for begin, _, end in self._words if end and begin < seconds]
        if any(end for _, _, end in self._words):
            return self.text[: _word_end(self.text, max(ends, default=0))]
        weight = self._weight_at(seconds)
        return self.text[: _last_whole(self.text, bisect_right(self._weights, weight + 1e-6) - 1)]

    def all(self) -> str:
        """The text of a reply that was heard to its end."""
        return self.heard(math.inf) if self._has_words_alone or not self.text else self.text

    def _weight_at(self, seconds: float) -> float:
        """Weight of the text that was read by a second."""
        at = bisect_left(self._anchors, (seconds, 0.0))
        if at < len(self._anchors):
            (end_s, end), (begin_s, begin) = self._anchors[at], self._anchors[max(at - 1, 0)]
            return (
                end if end_s == begin_s else begin + (end - begin) * (seconds - begin_s) / (end_s - begin_s)
            )
        begin_s, begin = self._anchors[-1]
        rate = self._rate.per_second
        if self.seconds > begin_s:  # a slow voice shows by how little there is to read
            rate = min(rate, (self._weights[-1] - begin) / (self.seconds - begin_s))
        guess = begin + (seconds - begin_s) * rate
        sound_at = bisect_left(self._sound, (seconds - 1e-6, 0.0))
        there = self._sound[sound_at][1] if sound_at < len(self._sound) else self._weights[-1]
        return min(guess, there)

    def _place(self, word: str) -> int:
        """Where a word ends in the text, if it is there."""
        wanted = word.casefold()
        near = self.text[self._found : self._found + _NEAR + len(wanted)].casefold()
        at = near.find(wanted)
        if at < 0:
            return 0
        self._found = min(self._found + at + len(wanted), len(self.text))
        return self._found


def _timed(words: Any) -> Iterable[tuple[str, float]]:
    """The words of a `tts_chunk` that are what they should be; what a voice says beside is no reason to fail."""
    if not isinstance(words, Iterable) or isinstance(words, str):
        return
    for item in words:
        match item:
            case [str(word), int() | float() as begin] if word.strip() and abs(begin) < _LONGEST_S:
                yield word.strip(), float(begin)
            case _:
                pass


def _word_end(text: str, at: int) -> int:
    """The end of the word that ends at a place: what follows without a blank belongs to it."""
    while 0 < at < len(text) and not text[at].isspace() and not _stands_alone(text[at]):
        at += 1
    return at


def _last_whole(text: str, at: int) -> int:
    """The end of the last word that is whole at a place."""
    if at >= len(text):
        return len(text)
    while at > 0 and not (text[at].isspace() or _stands_alone(text[at]) or _stands_alone(text[at - 1])):
        at -= 1
    return len(text[:at].rstrip())


def _stands_alone(char: str) -> bool:
    return char >= _WIDE_FROM and char.isalpha()
