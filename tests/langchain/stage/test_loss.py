"""The avatar is lost, refused, or never comes: the conversation goes on, and it is tried again by rule."""

import asyncio
from typing import Any

import httpx
import pytest

from agenthuman_plugins.client import (
    AuthenticationError,
    ConfigurationError,
    Session,
    SpeechLinkError,
    UsageLimitError,
)
from agenthuman_plugins.speech import LinkLost
from tests.langchain.stage.talk import END, RecordingLink, Talk, partial, pcm, said, text, tts
from tests.virtual_time import in_virtual_time


def refusal(kind: type[Any], **parts: Any) -> Exception:
    error = kind("refused", status_code=403)
    for name, value in parts.items():
        setattr(error, name, value)
    return error  # type: ignore[no-any-return]


async def speak_and_lose(talk: Talk) -> dict[str, Any]:
    """A reply of four seconds, lost after about one."""
    await talk.send(said("Hi"), text("One two three four five six seven eight nine."), *[tts(1.0)] * 4)
    await talk.until_kind("avatar_started")
    await asyncio.sleep(1.0)
    talk.link.crash("The room was lost.")
    return await talk.until_kind("avatar_disconnected")


@in_virtual_time
async def test_loss_hands_the_speech_over() -> None:
    """A lost avatar's event has the reason and the speech that was not heard; what follows is not for an avatar."""
    async with Talk() as talk:
        lost = await speak_and_lose(talk)
        assert lost["reason"] == "The room was lost."
        finished = talk.of("avatar_finished")[0]
        assert finished["interrupted"] is False
        assert finished["text"].startswith("One")
        assert len(lost["audio"]) == pytest.approx(len(pcm(4.0 - finished["seconds"])), abs=4)
        before = len(talk.link.sent)
        await talk.send(tts(1.0), END)
        await asyncio.sleep(3)
        assert len(talk.link.sent) == before
        assert len(talk.of("avatar_disconnected")) == 1


@in_virtual_time
async def test_avatar_that_leaves_is_lost() -> None:
    """An avatar that leaves its room is lost, though the link stands."""
    async with Talk() as talk:
        await talk.send(said("Hi"), tts(2.0))
        await talk.until_kind("avatar_started")
        talk.link.disappear("The avatar left the room.")
        assert (await talk.until_kind("avatar_disconnected"))["reason"] == "The avatar left the room."
        assert talk.link.left


@in_virtual_time
async def test_same_session_is_joined_again_at_the_next_turn() -> None:
    """A lost link is made again with the next turn, in the same session; nothing is tried before."""
    async with Talk() as talk:
        await speak_and_lose(talk)
        await asyncio.sleep(60)
        assert len(talk.links) == 1
        await talk.send(END, said("Again?"))
        await talk.until_kind("avatar_connected", 2)
        assert talk.lender.lent == ["sess_1"]
        await talk.send(text("Yes."), tts(0.5), END)
        assert (await talk.until_kind("avatar_finished", 2))["text"] == "Yes."


@in_virtual_time
async def test_session_that_is_over_is_followed_by_a_new_one() -> None:
    """Where the avatar does not come back, the old session is given back and a new one is opened."""
    async with Talk(links=[{}, {"connect_delay_s": 99}, {}]) as talk:
        await speak_and_lose(talk)
        await talk.send(said("Again?"))
        await talk.until_kind("avatar_connected", 2)
        assert talk.lender.lent == ["sess_1", "sess_2"]
        assert talk.lender.running == {"sess_2"}


@in_virtual_time
async def test_avatar_takes_over_at_the_next_reply() -> None:
    """An avatar that is back in the middle of a reply which the program plays waits for the next one."""
    async with Talk(links=[{}, {"connect_delay_s": 2.0}]) as talk:
        await speak_and_lose(talk)
        await talk.send(said("Again?"), text("Yes, "), tts(5.0))
        await asyncio.sleep(4.0)
        assert len(talk.links) == 2
        assert len(talk.of("avatar_connected")) == 1
        await talk.send(text("sir."), tts(1.0), END)
        await talk.until_kind("avatar_connected", 2)
        assert talk.links[1].first_at is None
        await talk.send(said("Fine"), text("Good."), tts(0.5), END)
        assert (await talk.until_kind("avatar_finished", 2))["text"] == "Good."


@pytest.mark.parametrize(
    "problem",
    [
        pytest.param(ConfigurationError("No API key."), id="no-key"),
        pytest.param(refusal(AuthenticationError), id="wrong-key"),
        pytest.param(refusal(UsageLimitError, limit="minutes"), id="minutes-used-up"),
    ],
)
@in_virtual_time
async def test_permanent_refusal_is_not_tried_again(problem: Exception) -> None:
    """What cannot succeed is tried once and told once; the conversation goes on without an avatar."""
    talk = Talk()
    talk.lender.problem = problem
    async with talk:
        for _ in range(5):
            await talk.send(said("Hi"), text("Hello."), tts(0.5), END)
            await asyncio.sleep(30)
        assert len(talk.of("avatar_disconnected")) == 1
        assert len(talk.of("tts_chunk")) == 5
        assert talk.lender.lent == ["sess_1"]


@pytest.mark.parametrize(
    "problem",
    [
        pytest.param(SpeechLinkError("not now", retryable=True), id="link"),
        pytest.param(refusal(UsageLimitError, limit="concurrency"), id="no-free-slot"),
        pytest.param(RuntimeError("a room provider's own"), id="room-provider"),
    ],
)
@in_virtual_time
async def test_passing_refusal_is_tried_again(problem: Exception) -> None:
    """What can pass is tried again with a turn, at most once in ten seconds."""
    talk = Talk()
    talk.lender.problem = problem
    async with talk:
        for _ in range(20):
            await talk.send(said("Hi"), text("Hello."), tts(0.5), END)
            await asyncio.sleep(2)
        assert 3 <= len(talk.lender.lent) <= 4
        talk.lender.problem = None
        await asyncio.sleep(10)
        await talk.send(said("Hi"))
        await talk.until_kind("avatar_connected")


@in_virtual_time
async def test_avatar_that_never_comes() -> None:
    """After twenty seconds without an avatar the program is told, gets what was said, and the session is over."""
    async with Talk(links=[{"connect_delay_s": 99}]) as talk:
        at = asyncio.get_running_loop().time()
        await talk.send(said("Hi"), text("Hello."), tts(1.0), tts(1.0))
        lost = await talk.until_kind("avatar_disconnected")
        assert asyncio.get_running_loop().time() - at == pytest.approx(20.0, abs=0.1)
        assert lost["audio"] == pcm(2.0)
        assert talk.lender.running == set()
        assert not talk.of("avatar_finished")


@in_virtual_time
async def test_given_session_is_never_ended() -> None:
    """A session of the program's own is spoken through, joined again after a loss, and left running."""
    talk = Talk(session=Session(session_id="mine", status="started"), links=[{}, {"connect_delay_s": 99}, {}])
    async with talk:
        lost = await speak_and_lose(talk)
        assert lost["audio"]
        await talk.send(said("One"))
        await asyncio.sleep(30)
        await talk.send(said("Two"))
        connected = await talk.until_kind("avatar_connected", 2)
        assert connected["session_id"] == "mine"
        await talk.end()
    assert talk.lender.lent == []
    assert all(link.left for link in talk.links)


@in_virtual_time
async def test_session_that_was_handed_over_is_left_alone() -> None:
    """When another worker joins with our identity, the session is its own: nothing is tried again or ended."""
    talk = Talk()
    async with talk:
        await talk.send(said("Hi"), tts(1.0))
        await talk.until_kind("avatar_started")
        talk.link._events.put(LinkLost("Another one joined.", replaced=True))
        await talk.until_kind("avatar_disconnected")
        await talk.send(said("Again?"))
        await asyncio.sleep(60)
        await talk.end()
    assert len(talk.links) == 1
    assert talk.lender.running == {"sess_1"}
    assert talk.lender.others == ["sess_1"]


class NeverSilent(RecordingLink):
    async def interrupt(self) -> None:
        await asyncio.sleep(3600)


@in_virtual_time
async def test_avatar_that_cannot_be_interrupted_is_lost() -> None:
    """An interruption that gets no answer ends with the link: the user is not talked over."""
    talk = Talk()
    talk.make_link = lambda *_: talk.links.append(NeverSilent()) or talk.links[-1]  # type: ignore[method-assign, func-returns-value]
    talk.stage._make_link = talk.make_link
    async with talk:
        await talk.send(said("Hi"), tts(5.0))
        await talk.until_kind("avatar_started")
        await talk.send(partial("stop"))
        lost = await talk.until_kind("avatar_disconnected")
        assert lost["reason"] == "The avatar could not be interrupted."
        assert talk.link.left
        assert talk.of("avatar_finished")[0]["interrupted"] is True


@in_virtual_time
async def test_secret_in_a_providers_error_is_not_told() -> None:
    """The reason of a failure that is not ours holds no key."""
    talk = Talk()
    head = "eyJhbGciOiJIUzI1NiJ9"
    token = f"{head}.eyJzdWIiOiIxIn0.abcdefghij"
    talk.lender.problem = httpx.ConnectError(f"at wss://host?access_token={token}")
    async with talk:
        await talk.send(said("Hi"))
        lost = await talk.until_kind("avatar_disconnected")
        assert lost["reason"].startswith("ConnectError")
        assert "eyJ" not in lost["reason"]
