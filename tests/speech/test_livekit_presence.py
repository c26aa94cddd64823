"""Whether the avatar of a LiveKit room is there: what it does and says counts, and what strangers say does not."""

import asyncio
import contextlib

import pytest

from agenthuman_plugins.client.errors import SpeechLinkError
from agenthuman_plugins.speech import (
    AvatarConnected,
    AvatarDisconnected,
    LinkLost,
    LiveKitSpeechLink,
    PlaybackFinished,
    _presence,
)
from tests.speech.scripted_avatar import ScriptedAvatar
from tests.speech.test_livekit import SECOND, connected, next_event

pytestmark = pytest.mark.media


async def test_avatar_that_leaves_and_comes_back_late(room, monkeypatch):
    """Speech in flight ends, sending fails meanwhile, and then all goes on."""
    monkeypatch.setattr(_presence, "AWAY_LIMIT_S", 0.2)
    async with ScriptedAvatar(room) as avatar:
        await avatar.show()
        async with connected(room) as link:
            await link.send(SECOND)
            await avatar.until(lambda: avatar.streams)
            assert await next_event(link, AvatarConnected)
            await avatar.__aexit__()
            async with asyncio.timeout(10):
                events = [await anext(link.events()), await anext(link.events())]
            # A real server may take the tracks away before the participant.
            (finished,) = [event for event in events if isinstance(event, PlaybackFinished)]
            assert (finished.interrupted, finished.estimated) == (False, True)
            assert any(isinstance(event, AvatarDisconnected) for event in events)
            with pytest.raises(SpeechLinkError, match="not in the room"):
                await link.send(SECOND)
            async with ScriptedAvatar(room) as again:
                await again.show()
                assert await next_event(link, AvatarConnected)
                assert await link.send(SECOND[:640]) == 2
                await link.end_utterance()
                await again.until(lambda: again.streams and again.streams[0].closed)
                async with asyncio.timeout(10):
                    assert await anext(link.video())


@pytest.mark.parametrize("speaking", [True, False])
async def test_avatar_that_is_back_at_once_is_not_lost(room, speaking, monkeypatch):
    """A worker that connects once more while it starts: what it had is over, and the next words wait for it."""
    monkeypatch.setattr(_presence, "AWAY_LIMIT_S", 10)  # a busy machine; 2 s else
    async with ScriptedAvatar(room) as avatar:
        await avatar.show()
        async with connected(room) as link:
            left = asyncio.Event()
            link._room.on("participant_disconnected", lambda _: left.set())
            if speaking:
                await link.send(SECOND)
                await avatar.until(lambda: avatar.streams)
            await avatar.__aexit__()
            await asyncio.wait_for(left.wait(), 10)
            sending = asyncio.create_task(link.send(SECOND[:640]))
            async with ScriptedAvatar(room) as again:
                assert not sending.done()
                await again.show()
                assert await sending == (2 if speaking else 1)
                await link.end_utterance()
                await again.until(lambda: again.streams and again.streams[0].closed)
                assert bytes(again.streams[0].pcm) == SECOND[:640]
                await link.aclose()
                told = [event async for event in link.events()]
    # On a busy machine LiveKit sometimes restores our own connection meanwhile, which says nothing of the avatar.
    presence = (AvatarConnected, AvatarDisconnected, LinkLost)
    assert [type(event) for event in told if isinstance(event, presence)] == [AvatarConnected]
    assert [event.utterance for event in told if isinstance(event, PlaybackFinished)] == (
        [1, 2] if speaking else [1]
    )


async def test_avatar_that_reconnects_while_we_wait_for_it(room):
    """Joining, leaving and joining again in the time that it has is a start like any other."""
    link = LiveKitSpeechLink(room.url, room.bot_token())
    connecting = asyncio.create_task(link.connect(timeout_s=20))
    async with ScriptedAvatar(room):
        pass  # before it shows anything
    async with ScriptedAvatar(room) as avatar:
        await avatar.show()
        await connecting
    await link.aclose()


async def test_avatar_that_says_it_is_disconnected(room):
    """The reason of its state packet is told; the same packet from others says nothing."""
    async with ScriptedAvatar(room) as avatar, ScriptedAvatar(room, identity="guest") as guest:
        await avatar.show()
        async with connected(room) as link:
            await link.send(SECOND[:32])
            await avatar.until(lambda: avatar.streams)  # now data flows, in both directions
            await guest.say_state(state="disconnected", reason="a lie")
            await avatar.say_state(state="disconnected", reason="out of minutes")
            event = await next_event(link, AvatarDisconnected)
    assert event == AvatarDisconnected("The avatar disconnected: out of minutes")


@pytest.mark.parametrize("stranger", ["early", "late", "hidden", "hidden and late"])
async def test_strangers_cannot_send_the_avatar_away(room, stranger):
    """A packet without a known sender is anybody's: LiveKit names neither hidden participants nor new ones."""
    guest = ScriptedAvatar(room, identity="guest", hidden="hidden" in stranger)
    async with contextlib.AsyncExitStack() as stack:
        if "late" not in stranger:
            await stack.enter_async_context(guest)
        avatar = await stack.enter_async_context(ScriptedAvatar(room))
        await avatar.show()
        link = await stack.enter_async_context(connected(room))
        assert await next_event(link, AvatarConnected)
        heard = asyncio.Queue()
        link._room.on("data_received", heard.put_nowait)
        if "late" in stranger:
            await stack.enter_async_context(guest)
        async with asyncio.timeout(10):
            while heard.empty():  # a packet from before the way is open gets lost
                await guest.say_state(state="disconnected", reason="a lie")
                await asyncio.sleep(0.05)
            sender = (await heard.get()).participant
        assert sender is None or sender.identity == "guest"
        await avatar.say_state(state="disconnected", reason="out of minutes")
        event = await next_event(link, AvatarDisconnected)
    assert event == AvatarDisconnected("The avatar disconnected: out of minutes")


@pytest.mark.parametrize("hidden", [False, True])
async def test_strangers_cannot_refuse_in_place_of_the_avatar(room, hidden):
    """While the avatar is waited for, nobody else can end the wait."""
    async with ScriptedAvatar(room, identity="guest", hidden=hidden) as guest:
        link = LiveKitSpeechLink(room.url, room.bot_token())
        connecting = asyncio.create_task(link.connect(timeout_s=20))
        heard = asyncio.Event()
        while link._room is None:  # noqa: ASYNC110 - a matter of a few turns of the loop
            await asyncio.sleep(0)
        link._room.on("data_received", lambda _: heard.set())
        async with asyncio.timeout(10):
            while not heard.is_set():
                await guest.say_state(state="disconnected", reason="a lie")
                await asyncio.wait([connecting], timeout=0.05)
        assert not connecting.done()
        async with ScriptedAvatar(room) as avatar:
            await avatar.show()
            await connecting
    await link.aclose()


async def test_avatar_that_gives_up_while_we_wait_for_it(room):
    """Its reason ends the wait, and is the error."""
    async with ScriptedAvatar(room) as avatar:
        link = LiveKitSpeechLink(room.url, room.bot_token())
        connecting = asyncio.create_task(link.connect(timeout_s=10))
        while not connecting.done():  # a packet from before we have joined is not for us
            await avatar.say_state(state="disconnected", reason="out of minutes")
            await asyncio.wait([connecting], timeout=0.05)
        with pytest.raises(SpeechLinkError, match=r"^The avatar disconnected: out of minutes$") as caught:
            await connecting
        assert not caught.value.retryable
