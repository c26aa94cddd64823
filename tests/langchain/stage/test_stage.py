"""The stage passes everything on, and speaks."""

import asyncio

import pytest

from agenthuman_plugins.client import ConfigurationError
from tests.langchain.stage.talk import END, RATE, Talk, partial, pcm, said, text, tts
from tests.langchain.test_imports import HEAVY, loaded_by, packages
from tests.virtual_time import in_virtual_time


@in_virtual_time
async def test_reply_is_spoken_and_told() -> None:
    """A reply makes the four events of a reply, in order, and its words add up to what it said."""
    async with Talk() as talk:
        await talk.send(said("Hi"), text("Hello there, "), text("how are you?"), tts(1.0), tts(1.0), END)
        finished = await talk.until_kind("avatar_finished")
        assert talk.heard() == finished["text"] == "Hello there, how are you?"
        assert finished["seconds"] == pytest.approx(2.0, abs=0.01)
        assert finished["interrupted"] is False
        kinds = [kind for kind in talk.kinds() if kind != "avatar_text"]
        assert kinds == ["avatar_connected", "avatar_started", "avatar_finished"]
        assert bytes(talk.link.sent) == pcm(2.0)


@in_virtual_time
async def test_session_is_opened_once_and_ended() -> None:
    """The session is opened at the first event and ended with the stream."""
    talk = Talk(thread_id="ada")
    async with talk:
        await asyncio.sleep(1)
        assert talk.lender.lent == []
        await talk.send({"type": "user_input", "audio": b""})
        await talk.until_kind("avatar_connected")
        await talk.end()
    assert talk.lender.lent == ["sess_1"]
    assert talk.lender.threads == ["ada"]
    assert not talk.lender.running
    assert talk.link.left


@in_virtual_time
async def test_interruption_stops_the_avatar_and_the_rest_of_the_reply() -> None:
    """What comes of an interrupted reply passes and is not spoken, until the agent answers the next turn."""
    async with Talk() as talk:
        await talk.send(said("Hi"), text("One two three four five six seven eight."), tts(3.0))
        await talk.until_kind("avatar_started")
        await asyncio.sleep(1.0)
        await talk.send(partial("wait"))
        finished = await talk.until_kind("avatar_finished")
        assert finished["interrupted"] is True
        assert finished["seconds"] == pytest.approx(1.0, abs=0.1)
        assert "One two".startswith(finished["text"][:7])
        assert len(talk.link.clears) == 1
        before = len(talk.link.sent)
        await talk.send(tts(1.0), text("nine"), tts(1.0), said("wait"), tts(1.0))
        await asyncio.sleep(5)
        assert len(talk.link.sent) == before
        assert len(talk.of("tts_chunk")) == 4
        await talk.send(text("Yes?"), tts(0.5), END)
        finished = await talk.until_kind("avatar_finished", 2)
        assert finished["text"] == "Yes?"
        assert len(talk.link.sent) - before == 2 * RATE // 2
        assert len(talk.link.clears) == 1


@in_virtual_time
async def test_listen_interrupts_while_the_agent_reads_nothing() -> None:
    """Behind `listen`, the user's words interrupt at once and not a second time when they come to the stage."""
    async with Talk(listen=True) as talk:
        await talk.send(said("Hi"), text("Hello, this is a rather long reply."), tts(2.0))
        await talk.until_kind("avatar_started")
        await talk.send(partial("no"), said("no"), text("Fine."), tts(1.0), END)
        await talk.until_kind("avatar_finished", 2)
        assert [event["interrupted"] for event in talk.of("avatar_finished")] == [True, False]
        assert len(talk.link.clears) == 1


@in_virtual_time
async def test_session_is_in_use_while_the_avatar_speaks() -> None:
    """A toolkit's limit on idle time counts from the end of a reply, however that ends, and not within one."""
    async with Talk() as talk:
        used = talk.lender.used_ids
        await talk.send({"type": "user_input"})
        await talk.until_kind("avatar_connected")
        assert not used["sess_1"]
        await talk.send(said("Hi"), text("Hello."), tts(3.0), END)
        await talk.until_kind("avatar_started")
        assert used["sess_1"] == 1
        await talk.until_kind("avatar_finished")
        assert not used["sess_1"]
        await talk.send(said("And?"), text("Well."), tts(3.0))
        await talk.until_kind("avatar_started", 2)
        assert used["sess_1"] == 1
        await talk.stage.interrupt()
        assert not used["sess_1"]
        await talk.send(said("And?"), text("Well."), tts(3.0))
        await talk.until_kind("avatar_started", 3)
        talk.link.crash()
        await talk.until_kind("avatar_disconnected")
        assert not used["sess_1"]


@in_virtual_time
async def test_second_stream_at_once_is_refused() -> None:
    """One stage serves one stream at a time, and another one afterwards, with a new session."""
    talk = Talk()
    async with talk:
        await talk.send(tts(0.5))
        await talk.until_kind("avatar_started")
        with pytest.raises(ConfigurationError, match="one stream at a time"):
            await anext(talk.stage(talk.events()))
        await talk.end()
    async with talk:
        await talk.send(tts(0.5))
        await talk.until_kind("avatar_started", 2)
        await talk.end()
    assert talk.lender.lent == ["sess_1", "sess_2"]
    assert not talk.lender.running


def test_import_loads_no_media() -> None:
    """Importing the stage and `heard_only` loads neither LiveKit and NumPy nor a framework that nobody asked for."""
    [modules] = loaded_by("from agenthuman_plugins.langchain import AvatarStage, heard_only")
    assert "agenthuman_plugins.langchain.stage" in modules
    assert not packages(modules) & HEAVY
