"""The gateway link with an avatar that joins its room after `connection.established`, and one that joins before."""

import asyncio
import base64
import random

import pytest

from agenthuman_plugins.speech import GatewaySpeechLink, PlaybackFinished, _own_clock, gateway
from tests.speech.conftest import TOKEN
from tests.speech.scripted_gateway import LIMIT_S, ScriptedGateway
from tests.speech.test_gateway import RATE, SECOND, ends, everything, next_event


class LateAvatar:
    """Makes a gateway take no speech until the avatar has joined.

    Args:
        server: The gateway.
        answer: What speech gets before: an `error`, `silence`, or a place in a `queue` that is confirmed later.
    """

    def __init__(self, server: ScriptedGateway, answer: str) -> None:
        self._server = server
        self._answer = answer
        self.joined = False
        self.taken = bytearray()
        self.turned_away = 0
        self._queued: list[dict] = []
        server.confirms_speech = False
        server.on_message = self._take

    async def _take(self, socket, message) -> None:
        if message["type"] != "agent.speak":
            return
        if self.joined:
            await self._confirm(message)
        elif self._answer == "queue":
            self._queued.append(message)
        else:
            self.turned_away += 1
            if self._answer == "error":
                await self._server.tell({"type": "error", "error": "The avatar is not in the room"})

    async def join(self) -> None:
        self.joined = True
        for message in self._queued:
            await self._confirm(message)

    async def _confirm(self, message) -> None:
        pcm = base64.b64decode(message["audio"])
        self.taken += pcm
        await self._server.tell({"type": "agent.speak.confirmed", "audio_samples": len(pcm) // 2})


@pytest.mark.parametrize("answer", ["error", "silence", "queue"])
async def test_no_word_is_lost_when_the_avatar_joins_late(answer, scripted, link, quick, monkeypatch):
    """`connection.established` may come first: speech is held or sent again until the avatar takes it, once."""
    monkeypatch.setattr(gateway, "_RETRY_S", 0.02)
    if answer == "queue":
        monkeypatch.setattr(_own_clock, "CONFIRM_TIMEOUT_S", 5.0)
    avatar = LateAvatar(scripted, answer)
    speech = random.Random(7).randbytes(2 * RATE)

    async def speak() -> None:
        for at in range(0, len(speech), 16_000):
            assert await link.send(speech[at : at + 16_000]) == 1
        await link.end_utterance()

    speaking = asyncio.create_task(speak())
    await scripted.until(lambda: avatar.turned_away >= 2 or avatar._queued)
    assert not speaking.done()
    await avatar.join()
    async with asyncio.timeout(LIMIT_S):
        await speaking
        assert await link.wait_playback(timeout_s=LIMIT_S)
    assert bytes(avatar.taken) == speech
    await link.aclose()
    assert ends(await everything(link)) == [
        PlaybackFinished(1, pytest.approx(1.0), interrupted=False, estimated=True)
    ]


async def test_no_word_is_lost_when_the_avatar_joins_first(scripted):
    """`connection.established` may wait for the avatar: so does connecting, and what is said then arrives whole."""
    scripted.established = False
    link = GatewaySpeechLink("sess_1", TOKEN, url=scripted.url)
    connecting = asyncio.create_task(link.connect(timeout_s=LIMIT_S))
    await scripted.until(lambda: scripted.received)
    assert not connecting.done()
    await scripted.tell({"type": "connection.established", "session_id": "sess_1"})
    await connecting
    speech = random.Random(8).randbytes(2 * RATE * 3)
    await link.send(speech)
    await scripted.until(lambda: len(scripted.speech()) == len(speech))
    assert scripted.speech() == speech
    await link.aclose()


async def test_interruption_of_speech_that_the_avatar_never_took(scripted, link, quick, monkeypatch):
    """It is not sent again; the next words are."""
    monkeypatch.setattr(gateway, "_RETRY_S", 0.02)
    avatar = LateAvatar(scripted, "error")
    sending = asyncio.create_task(link.send(SECOND * 3))
    await scripted.until(lambda: avatar.turned_away >= 2)
    await link.interrupt()
    assert await sending == 1
    turned_away = avatar.turned_away
    assert await link.send(b"\1\2" * 320) == 2
    await scripted.until(
        lambda: avatar.turned_away >= turned_away + 2
    )  # the confirmed interruption is no speech
    await avatar.join()
    await scripted.until(lambda: avatar.taken)
    assert bytes(avatar.taken) == b"\1\2" * 320


async def test_avatar_that_never_joins_is_given_up(scripted, link, quick, monkeypatch):
    """When it has had its time the words count as not played, and nobody waits for ever."""
    monkeypatch.setattr(gateway, "_RETRY_S", 0.02)
    monkeypatch.setattr(gateway, "_JOIN_LIMIT_S", 0.2)
    LateAvatar(scripted, "error")
    await link.send(SECOND)
    await link.end_utterance()
    assert await link.wait_playback(timeout_s=LIMIT_S)
    assert (await next_event(link, PlaybackFinished)).position_s == 0.0


async def test_gateway_that_confirms_nothing_is_spoken_through_all_the_same(
    scripted, link, quick, monkeypatch
):
    """When the avatar has had its time to come, speech flows, whatever is confirmed."""
    monkeypatch.setattr(gateway, "_JOIN_LIMIT_S", 0.1)
    scripted.confirms_speech = False
    sending = asyncio.create_task(link.send(SECOND * 8))
    await scripted.until(lambda: len(scripted.of_type("agent.speak")) == 8)
    assert await sending == 1
