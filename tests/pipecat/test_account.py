"""The account that stands behind bots in tests keeps its promises."""

import asyncio

import pytest

from agenthuman_plugins.client import (
    LiveKitRoom,
    ServerError,
    Session,
    SessionOutcomeUnknownError,
    UsageLimitError,
)
from agenthuman_plugins.speech import LinkLost
from tests.pipecat.account import Account, AvatarLink
from tests.pipecat.bot import RATE, tone
from tests.virtual_time import in_virtual_time

ROOM = LiveKitRoom.mint("wss://example.livekit.cloud", "key", "secret", "room")


async def _join(account: Account, session: Session) -> AvatarLink:
    link = account.make_link(session, RATE)
    await link.connect(timeout_s=1.0)
    return link


@in_virtual_time
async def test_full_account_refuses_and_a_freed_slot_is_given() -> None:
    """One session more than there are slots is refused for concurrency, until one has ended."""
    account = Account(slots=1)
    async with account.sessions.open(avatar="avat_1"):
        with pytest.raises(UsageLimitError) as refused:
            await account.sessions.create()
        assert refused.value.limit == "concurrency"
        account.slots = 2
        account.taken = 1
        with pytest.raises(UsageLimitError):
            await account.sessions.create()
    async with account.sessions.open():
        assert account.most_at_once == 1
    assert not account.leaked
    assert [opened.ended_by for opened in account.books] == ["client", "client"]


@in_virtual_time
async def test_session_ends_at_its_limit_whatever_the_clocks_say() -> None:
    """The limit counts from the create; what the session tells of it is by the service's clock."""
    account = Account(session_s=10.0, clock_off_s=3600.0, crash_at_limit=True)
    begin = asyncio.get_running_loop().time()
    async with account.sessions.open() as session:
        assert session.started_at is not None
        assert session.expiration is not None
        assert (session.expiration - session.started_at).total_seconds() == 10.0
        link = await _join(account, session)
        events = [event async for event in link.events()]
        assert isinstance(events[-1], LinkLost)
        assert asyncio.get_running_loop().time() - begin == pytest.approx(10.0)
        await link.aclose()
    assert [opened.ended_by for opened in account.books] == ["limit"]


@in_virtual_time
async def test_create_that_is_given_up_is_ended_in_the_background() -> None:
    """A caller that is cancelled leaves no session behind, once the account has settled."""
    account = Account()
    account.create_s = 4.0
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3.0):
            await account.sessions.create()
    assert account.leaked
    await account.settled()
    assert not account.leaked


@in_virtual_time
async def test_lost_answer_leaves_a_session_that_can_be_found() -> None:
    """A create whose answer is lost has opened a session, known by its reference."""
    account = Account()
    account.lost_answers = 1
    with pytest.raises(SessionOutcomeUnknownError) as lost:
        await account.sessions.create()
    found = await account.sessions.find(lost.value.client_ref)
    assert account.leaked == {found.session_id}
    await account.sessions.end(found.session_id)
    assert not account.leaked


@in_virtual_time
async def test_end_that_fails_can_be_tried_again() -> None:
    """A session whose end failed runs on; ending it twice is harmless."""
    account = Account()
    account.failing_ends = 1
    with pytest.raises(ServerError):
        async with account.sessions.open():
            pass
    assert account.leaked == {"sess_1"}
    for _ in range(2):
        await account.sessions.end("sess_1")
    assert not account.leaked


@in_virtual_time
async def test_second_avatar_of_one_identity_evicts_the_first() -> None:
    """Two sessions at once in one room with one avatar token are noted, and the first avatar leaves."""
    account = Account(slots=2)
    first = await _join(account, await account.sessions.create(room=ROOM))
    second = await _join(account, await account.sessions.create(room=ROOM))
    assert [[opened.number for opened in pair] for pair in account.evictions] == [[1, 2]]
    assert (first.present, second.present) == (False, True)
    for link in (first, second):
        await link.aclose()


@in_virtual_time
async def test_avatar_remembers_what_it_said() -> None:
    """A listener hears each block of an avatar's speech when it is played, and nothing that was cut."""
    account = Account()
    link = await _join(account, await account.sessions.create())
    await link.send(tone(2.0))
    await asyncio.sleep(0.5)
    await link.interrupt()
    await asyncio.sleep(1.0)
    assert 0.4 <= sum(len(pcm) for _, pcm in link.said) / 2 / RATE <= 0.6
    await link.aclose()
