"""The rows: which figure of which scenario counts, and when it holds."""

import functools
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pipecat.frames.frames import EndFrame, StopFrame

from benchmarks.peers import _scenarios, _transitions
from benchmarks.peers._scenarios import Figures, VendorType

Scenario = Callable[[VendorType], Awaitable[Figures]]

_SAMPLE_MS = 1000 / 16_000  # less than one sample of the avatar's rate is rounding
_BLOCK_MS = 40  # Pipecat's transports write audio in blocks of this length


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: What is measured.
        key: Name of the figure.
        holds: Whether a figure is as good as it should be.
        target: The same in words.
        unit: Of the figure; empty for counts.
    """

    what: str
    key: str
    holds: Callable[[float], bool]
    target: str
    unit: str = "ms"

    def text(self, figure: float) -> str:
        if math.isinf(figure):
            return "never"
        number = f"{figure:.0f}" if figure == int(figure) else f"{figure:.1f}"
        return f"{number} {self.unit}".strip()

    def ratio(self, figure: float, ours: float) -> str:
        """How many times ours it is; nothing where that says nothing."""
        if not self.unit or math.isinf(figure) or ours < 0.1 or figure <= ours:
            return ""
        return f"{figure / ours:.0f}x" if figure / ours >= 10 else f"{figure / ours:.1f}x"


def _at_most(limit: float) -> Callable[[float], bool]:
    return lambda figure: figure <= limit


def _exactly(value: float) -> Callable[[float], bool]:
    return lambda figure: figure == value


_FIRST = "first speech on the wire after the first 20 ms TTS frame"
_LOST = "speech lost over a reply"

TABLE: list[tuple[Scenario, list[Row]]] = [
    *(
        (
            functools.partial(_scenarios.first_speech, rate=rate),
            [
                Row(f"{_FIRST}, {rate // 1000} kHz", "first_ms", _at_most(limit), f"<= {limit:g} ms"),
                Row(
                    f"… in speech that it takes, {rate // 1000} kHz",
                    "needed_ms",
                    _at_most(2 * limit if rate == 24_000 else 20),
                    "<= 20 ms" if rate == 16_000 else "<= 80 ms",
                ),
                Row(f"{_LOST}, {rate // 1000} kHz", "lost_ms", _at_most(_SAMPLE_MS), "0 samples"),
            ],
        )
        for rate, limit in ((16_000, 5.0), (24_000, 40.0))
    ),
    (
        _scenarios.reply_with_a_pause,
        [
            Row("avatar's voice, arrival to transport", "voice_ms", _at_most(10), "<= 10 ms"),
            Row("BotStoppedSpeaking after the last voiced sample", "stopped_ms", _at_most(40), "<= 40 ms"),
            Row("bot turns in one reply with a pause", "turns", _exactly(1), "1", ""),
            Row("BotStartedSpeaking in front of the service", "told_upstream", _exactly(1), "1", ""),
            Row("TTSStarted and TTSStopped behind the service", "tts_frames", _exactly(2), "2", ""),
        ],
    ),
    *(
        (
            functools.partial(_scenarios.interruption, by_user=by_user),
            [
                Row(f"interruption ({who}) to clear on the wire", "clear_ms", _at_most(10), "<= 10 ms"),
                Row(f"stale voice pushed after it ({who})", "stale_audio_ms", _exactly(0), "0"),
                Row(f"stale pictures pushed after it ({who})", "stale_pictures", _exactly(0), "0", ""),
                Row(f"ghost turns of the bot after it ({who})", "ghost_turns", _exactly(0), "0", ""),
            ],
        )
        for by_user, who in ((True, "user"), (False, "programmatic"))
    ),
    (
        _scenarios.sentences,
        [
            Row(
                "sentences in the context, 1 of 3 played, then interrupted",
                "sentences",
                _exactly(1),
                "1",
                "",
            )
        ],
    ),
    (
        _scenarios.words,
        [
            Row(
                "words in the context that were not begun at the interruption",
                "words_ahead",
                lambda figure: abs(figure) <= 1,
                "-1 to 1",
                "",
            ),
            Row("word ahead of its sound, at most", "word_lead_ms", _at_most(2 * _BLOCK_MS), "<= 80 ms"),
        ],
    ),
    (
        _scenarios.slow_vendor,
        [Row("pipeline start, vendor takes 3 s", "held_ms", _at_most(1000), "not held (<= 1000 ms)")],
    ),
    (
        _scenarios.stalled_reader,
        [
            Row("pictures waiting at the SDK, nobody spoke for 3 s", "unread", _at_most(2), "<= 2", ""),
            Row("pictures waiting, transport stalled for 3 s", "backlog", _at_most(2), "<= 2", ""),
        ],
    ),
    (
        _scenarios.picture_cost,
        [
            Row("CPU of a 1280x960 picture in the service", "picture_cpu_ms", _at_most(0.8), "<= 0.8 ms"),
            Row("… of which blocks the event loop", "picture_loop_ms", _at_most(0.8), "<= 0.8 ms"),
            # 0.8 ms where one copy takes 0.09 ms.
            Row("… in copies of such a picture", "picture_copies", _at_most(9), "<= 9 copies", "copies"),
        ],
    ),
    (
        _scenarios.refused,
        [
            Row("voice heard of a reply of 1 s, session refused", "voice_s", lambda s: s > 0.95, "1 s", "s"),
            Row("errors told to the application then", "errors", _exactly(1), "1", ""),
        ],
    ),
    (
        _scenarios.sessions,
        [
            Row(f"sessions left open: {step}", f"left_{key}", _exactly(0), "0", "")
            for key, step in (
                ("in_create", "setup timed out, create in flight"),
                ("in_join", "setup timed out, joining hangs"),
                ("cancelled", "cancelled while running"),
                ("ended", "ended by EndFrame"),
            )
        ],
    ),
    (
        _transitions.session_limit,
        [
            Row(
                "session limit in mid-speech: words lost, or said twice, of 65",
                "wrong_words",
                _exactly(0),
                "0",
                "",
            ),
            Row("… longest time without a voice", "hole_s", _at_most(0.1), "0 s (<= 0.1 s)", "s"),
            Row("… longest time that the picture stands", "stands_s", _at_most(0.2), "<= 0.2 s", "s"),
        ],
    ),
    (
        _transitions.slot_freed,
        [
            Row("account full: voice heard of 2 s", "plain_s", lambda s: s > 1.9, "2 s", "s"),
            Row("… slot freed, until the bot has a face", "face_s", _at_most(30), "<= 30 s", "s"),
        ],
    ),
    (
        _transitions.changed_avatar,
        [
            Row("avatar changed in mid-reply, until it shows", "change_s", _at_most(30), "<= 30 s", "s"),
            Row("… words lost, or said twice, of 45", "wrong_words", _exactly(0), "0", ""),
            Row("… longest time without a voice", "hole_s", _at_most(0.1), "0 s (<= 0.1 s)", "s"),
            Row("… longest time that the picture stands", "stands_s", _at_most(0.2), "<= 0.2 s", "s"),
        ],
    ),
    (
        _transitions.end_in_branch,
        [
            Row(
                "goodbye and EndFrame in a branch: heard of 2 s", "goodbye_s", lambda s: s > 1.95, "2 s", "s"
            ),
            Row("… later than without a service", "later_ms", _at_most(100), "<= 100 ms"),
            Row("… pictures meanwhile", "pictures", lambda count: count >= 45, ">= 45", ""),
        ],
    ),
    *(
        (
            functools.partial(_transitions.second_run, ends=ends),
            [
                Row(
                    f"second run, after {ends.__name__}: voice heard of 1 s",
                    "second_s",
                    lambda s: 0.95 < s < 1.05,
                    "1 s",
                    "s",
                ),
                Row("… sessions left open", "left", _exactly(0), "0", ""),
            ],
        )
        for ends in (StopFrame, EndFrame)
    ),
    (
        _transitions.frames,
        [
            Row(
                "mixer control behind a reply of 3 s: kept by the service",
                "mixer_ms",
                _at_most(100),
                "<= 100 ms",
            ),
            Row("a user's own system frame: the same", "system_ms", _at_most(100), "<= 100 ms"),
            Row(
                "own data and control frames: ahead of the speech before them",
                "ahead_ms",
                _at_most(2 * _BLOCK_MS),
                "<= 80 ms",
            ),
        ],
    ),
]
