"""Interrupting the LiveKit link: in the middle of a long send, of a stuck write, of an avatar that reports nothing."""

import asyncio

import pytest
from livekit import rtc

from agenthuman_plugins.speech import PlaybackFinished
from tests.speech.scripted_avatar import ScriptedAvatar
from tests.speech.test_livekit import SECOND, connected, next_event

pytestmark = pytest.mark.media

BYTES_PER_SECOND = 32_000


async def test_long_send_is_interrupted_at_once(room):
    """A minute in one send: the avatar is cleared while it leaves, the rest of it is never sent, the books say so."""
    async with ScriptedAvatar(room) as avatar:
        await avatar.show()
        async with connected(room) as link:
            sending = asyncio.create_task(link.send(SECOND * 60))
            await avatar.until(lambda: avatar.streams and avatar.streams[0].pcm)
            async with asyncio.timeout(5):
                await link.interrupt()
                assert await sending == 1
            finished = await next_event(link, PlaybackFinished)
            assert (finished.utterance, finished.interrupted) == (1, True)
            assert await link.send(SECOND[:640]) == 2
            await link.end_utterance()
            await avatar.until(lambda: len(avatar.streams) == 2 and avatar.streams[1].closed)
            first, second = avatar.streams
            assert len(first.pcm) < 10 * BYTES_PER_SECOND
            assert first.pcm == (SECOND * 10)[: len(first.pcm)]
            assert finished.position_s <= len(first.pcm) / BYTES_PER_SECOND
            assert bytes(second.pcm) == SECOND[:640]


async def test_long_send_leaves_in_short_pieces(room, monkeypatch):
    """No piece is longer than a second, none is lost, and the first ones do not wait."""
    written = []
    write = rtc.ByteStreamWriter.write

    async def note(writer, data):
        written.append(len(data))
        await write(writer, data)

    monkeypatch.setattr(rtc.ByteStreamWriter, "write", note)
    async with ScriptedAvatar(room) as avatar:
        await avatar.show()
        async with connected(room) as link:
            speech = SECOND * 5 + SECOND[:1_001]
            assert await link.send(speech) == 1
            await link.end_utterance()
            await avatar.until(lambda: avatar.streams and avatar.streams[0].closed)
    assert bytes(avatar.streams[0].pcm) == speech
    assert max(written) <= BYTES_PER_SECOND


async def test_interruption_waits_for_no_write(room, monkeypatch):
    """The clear overtakes a write that is stuck; what that wrote all the same is closed and cleared behind it."""
    stuck, go_on = asyncio.Event(), asyncio.Event()
    write = rtc.ByteStreamWriter.write

    async def wait_and_write(writer, data):
        stuck.set()
        await go_on.wait()
        await write(writer, data)

    async with ScriptedAvatar(room) as avatar:
        await avatar.show()
        async with connected(room) as link:
            monkeypatch.setattr(rtc.ByteStreamWriter, "write", wait_and_write)
            sending = asyncio.create_task(link.send(SECOND))
            await stuck.wait()
            async with asyncio.timeout(1):
                await link.interrupt()
            assert "clear" in avatar.record
            assert "close" not in avatar.record
            following = asyncio.create_task(link.send(SECOND[:640]))
            go_on.set()
            assert (await sending, await following) == (1, 2)
            await link.end_utterance()
            await avatar.until(lambda: len(avatar.streams) == 2 and avatar.streams[1].closed)
            assert avatar.record.count("clear") == 2
            assert bytes(avatar.streams[1].pcm) == SECOND[:640]


async def test_cancelled_interruption_still_clears(room):
    """Whoever gives up waiting for the avatar's answer has told it to stop all the same."""
    async with ScriptedAvatar(room) as avatar:
        avatar.report_clear = False
        await avatar.show()
        async with connected(room) as link:
            await link.send(SECOND)
            interrupting = asyncio.create_task(link.interrupt())
            await asyncio.sleep(0)
            interrupting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await interrupting
            await avatar.until(lambda: "clear" in avatar.record)
            assert (await next_event(link, PlaybackFinished)).interrupted


async def test_cancelled_long_send_sends_no_more(room):
    """A sender that is cancelled leaves whole pieces behind, and the link can be used at once."""
    async with ScriptedAvatar(room) as avatar:
        await avatar.show()
        async with connected(room) as link:
            sending = asyncio.create_task(link.send(SECOND * 60))
            await avatar.until(lambda: avatar.streams and avatar.streams[0].pcm)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            await link.end_utterance()
            await avatar.until(lambda: avatar.streams[0].closed)
            assert len(avatar.streams[0].pcm) < 10 * BYTES_PER_SECOND
            assert len(avatar.streams[0].pcm) % 2 == 0


async def test_avatar_that_reports_nothing_is_free_at_once(room):
    """Its answer to the clear ends the utterance: the next reply is on the wire within 0.3 s."""
    clock = asyncio.get_running_loop().time
    answered_at = 0.0
    async with ScriptedAvatar(room) as avatar:
        avatar.report_clear = False
        await avatar.show()
        async with connected(room) as link:
            await link.send(SECOND)
            call = link._room.local_participant.perform_rpc

            async def note_answer(**options):
                nonlocal answered_at
                answer = await call(**options)
                answered_at = clock()
                return answer

            link._room.local_participant.perform_rpc = note_answer
            await link.interrupt()
            await link.send(SECOND[:640])
            assert clock() - answered_at <= 0.3
            assert (await next_event(link, PlaybackFinished)).estimated
