"""The queue between the pipeline and the speech link."""

import asyncio
import gc
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agenthuman_plugins.client import SpeechLinkError
from agenthuman_plugins.pipecat.picture._curtain import Curtain
from agenthuman_plugins.pipecat.reply import _speaker
from agenthuman_plugins.pipecat.reply._speaker import Speaker
from agenthuman_plugins.speech.link import SPEECH_SAMPLE_RATE
from agenthuman_plugins.speech.progress import Utterance, VoiceGate
from tests.pipecat.bot import WAIT_S
from tests.virtual_time import in_virtual_time


class _SlowLink:
    """A link that notes what it is told, and whose first write does not return before `written` is set."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.writing = asyncio.Event()
        self.written = asyncio.Event()
        self.interrupted = asyncio.Event()
        self.ended = asyncio.Event()

    async def send(self, pcm: bytes) -> int:
        self.told.append(pcm.decode())
        self.writing.set()
        await self.written.wait()
        return 1

    async def end_utterance(self) -> None:
        self.told.append("end")
        self.ended.set()

    async def interrupt(self) -> None:
        self.told.append("interrupt")
        self.interrupted.set()


@in_virtual_time
async def test_second_interruption_does_not_swallow_the_first() -> None:
    """An interruption that waits for a write to end reaches the avatar, whatever is dropped behind it."""
    link, utterance = _SlowLink(), Utterance(duration_s=1.0)
    speaker = Speaker(VoiceGate(), Curtain(lambda: 0.0, lambda: 0.0))
    async with _running(speaker, link):
        speaker.speak(utterance, b"old.")
        await link.writing.wait()
        speaker.speak(utterance, b"dropped.")
        speaker.drop(interrupt=speaker.playback.interrupt())
        speaker.drop(interrupt=speaker.playback.interrupt())
        link.written.set()
        await link.interrupted.wait()
    assert link.told == ["old.", "interrupt"]


@in_virtual_time
async def test_interruption_waits_for_no_write() -> None:
    """A piece that is stuck on its way, or waits for the avatar, does not hold up the interruption."""
    link, utterance = _SlowLink(), Utterance(duration_s=1.0)
    speaker = Speaker(VoiceGate(), Curtain(lambda: 0.0, lambda: 0.0))
    async with _running(speaker, link):
        speaker.speak(utterance, b"old.")
        await link.writing.wait()
        speaker.drop(interrupt=speaker.playback.interrupt())
        async with asyncio.timeout(WAIT_S):
            await link.interrupted.wait()
        assert not link.written.is_set()
        link.written.set()
        speaker.speak(Utterance(duration_s=1.0), b"new.")
        speaker.end_utterance()
        await link.ended.wait()
    assert link.told == ["old.", "interrupt", "new.", "end"]


@in_virtual_time
async def test_cancelled_speaker_leaves_no_task() -> None:
    """A piece that is on its way when the link is given up ends with it."""
    link = _SlowLink()
    speaker = Speaker(VoiceGate(), Curtain(lambda: 0.0, lambda: 0.0))
    async with _running(speaker, link):
        speaker.speak(Utterance(duration_s=1.0), b"old.")
        await link.writing.wait()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@in_virtual_time
async def test_speech_that_comes_during_a_write_leaves_in_one_piece() -> None:
    """A burst of small pieces costs few packets, of limited size; pieces of two utterances stay apart."""
    link, first, second = _SlowLink(), Utterance(duration_s=1.0), Utterance(duration_s=1.0)
    full = "x" * _speaker._PIECE_BYTES
    speaker = Speaker(VoiceGate(), Curtain(lambda: 0.0, lambda: 0.0))
    async with _running(speaker, link):
        speaker.speak(first, b"1.")
        await link.writing.wait()
        for utterance, pcm in ((first, "2."), (first, "3."), (first, full), (first, "4."), (second, "5.")):
            speaker.speak(utterance, pcm.encode())
        speaker.end_utterance()
        link.written.set()
        await link.ended.wait()
    assert link.told == ["1.", "2.3." + full[4:], full[:4] + "4.", "5.", "end"]


@in_virtual_time
async def test_speech_leaves_when_the_avatar_is_about_to_need_it() -> None:
    """Of a long reply the avatar has a little more than it needs, so that nothing is stuck behind the rest."""
    link, reply = _SlowLink(), Utterance(duration_s=60.0)
    link.written.set()
    speaker = Speaker(VoiceGate(), Curtain(lambda: 0.0, lambda: 0.0))
    async with _running(speaker, link):
        for _ in range(60 * 50):
            speaker.speak(reply, b"-" * 640)
        await link.writing.wait()
        speaker.drop(interrupt=speaker.playback.interrupt())
        speaker.end_utterance()
        await link.ended.wait()
    assert link.told[-2:] == ["interrupt", "end"]
    sent_s = len("".join(link.told[:-2])) / 2 / SPEECH_SAMPLE_RATE
    assert sent_s <= _speaker._AHEAD_S + 0.4


@in_virtual_time
async def test_speech_goes_on_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was held back follows while the avatar speaks, and all of it; its end comes last."""
    monkeypatch.setattr(_speaker, "_AHEAD_S", 0.1)
    link, reply = _SlowLink(), Utterance(duration_s=1.6)
    link.written.set()
    speaker = Speaker(VoiceGate(), Curtain(lambda: 0.0, lambda: 0.0))
    async with _running(speaker, link):
        speaker.speak(reply, b"-" * 4 * _speaker._PIECE_BYTES)  # some voices come in one large frame
        speaker.end_utterance()
        await link.writing.wait()
        assert len(link.told) == 1
        assert reply.sent_s < 1.6
        await link.ended.wait()
    assert [len(told) for told in link.told[:-1]] == [_speaker._PIECE_BYTES] * 4
    assert reply.sent_s == math.inf


@in_virtual_time
async def test_an_utterance_that_was_sent_in_part_is_interrupted() -> None:
    """Also when the gate takes it for over: its end is dropped, and the next one must not be taken for its rest."""
    link, reply = _SlowLink(), Utterance(duration_s=1.0)
    link.written.set()
    speaker = Speaker(VoiceGate(), Curtain(lambda: 0.0, lambda: 0.0))
    async with _running(speaker, link):
        speaker.speak(reply, b"old.")
        await link.writing.wait()
        speaker.end_utterance()
        speaker.drop(interrupt=False)
        await link.interrupted.wait()
    assert link.told == ["old.", "interrupt"]


@asynccontextmanager
async def _running(speaker: Speaker, link: _SlowLink) -> AsyncIterator[None]:
    running = asyncio.create_task(speaker.run(link))  # type: ignore[arg-type]  # all that it uses
    try:
        async with asyncio.timeout(WAIT_S):
            yield
    finally:
        running.cancel()
        await asyncio.wait([running])


@in_virtual_time
async def test_link_that_fails_while_it_is_given_up_leaves_no_trace(caplog: pytest.LogCaptureFixture) -> None:
    """A write that fails when nobody waits for it any more is no defect that the log must tell."""
    link, utterance = _SlowLink(), Utterance(duration_s=1.0)
    failed = SpeechLinkError("gone")

    async def send(_: bytes) -> int:
        link.writing.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise failed

    link.send = send  # type: ignore[method-assign]
    speaker = Speaker(VoiceGate(), Curtain(lambda: 0.0, lambda: 0.0))
    async with _running(speaker, link):
        speaker.speak(utterance, b"lost")
        await link.writing.wait()
    gc.collect()
    assert not caplog.records
