"""What the table of the avatar's life does not foresee: each test is one thing that went wrong."""

import asyncio
from typing import Any

import pytest
from pipecat.frames.frames import (
    EndFrame,
    Frame,
    MetricsFrame,
    StopFrame,
    TTSStartedFrame,
    UserSpeakingFrame,
    UserStartedSpeakingFrame,
)
from pipecat.pipeline.pipeline import Pipeline

from agenthuman_plugins.client import AuthenticationError
from agenthuman_plugins.pipecat import AgentHumanVideoService
from agenthuman_plugins.speech.link import Reconnecting
from tests.pipecat.account import Account, AvatarLink
from tests.pipecat.heard import HeardBot, Loudspeaker
from tests.virtual_time import in_virtual_time

_LINK = {"fps": 25, "width": 2, "height": 2, "connect_delay_s": 0.5}


def _billed_s(account: Account) -> float:
    now = asyncio.get_running_loop().time()
    return sum((opened.ended_at or now) - opened.opened_at for opened in account.books)


@in_virtual_time
async def test_renewal_does_not_put_off_the_idle_limit() -> None:
    """A session is ended max_idle_secs after the last word, whatever was renewed meanwhile."""
    account = Account(slots=2, session_s=20, link_options=_LINK)
    async with HeardBot(account, settings={"max_idle_secs": 30}) as bot:
        await bot.until_event("on_avatar_connected")
        await bot.say(2)
        await bot.said()
        await asyncio.sleep(120)
        assert not account.running
        assert len(account.books) <= 3


@in_virtual_time
async def test_user_who_goes_on_speaking_keeps_the_avatar() -> None:
    """Somebody who speaks for longer than max_idle_secs is not silent."""
    account = Account(link_options=_LINK)
    async with HeardBot(account, settings={"max_idle_secs": 10}) as bot:
        await bot.until_event("on_avatar_connected")
        await bot.send(UserStartedSpeakingFrame())
        for _ in range(60):
            await bot.send(UserSpeakingFrame())
            await asyncio.sleep(0.5)
        assert len(account.running) == len(account.books) == 1


@in_virtual_time
async def test_cap_holds_while_a_change_waits_for_the_end_of_a_reply() -> None:
    """At max_session_secs the avatar is given up, also with another session open behind it and in mid-reply."""
    account = Account(slots=2, link_options=_LINK)
    async with HeardBot(account, settings={"max_session_secs": 30}) as bot:
        await bot.until_event("on_avatar_connected")
        await bot.say(200)
        await asyncio.sleep(10)
        await bot.change(avatar="avat_2")
        await bot.until_event("on_gave_up", limit_s=120)
        assert _billed_s(account) <= 31
        await bot.said()


@in_virtual_time
async def test_cap_holds_while_the_next_avatar_does_not_come() -> None:
    """At max_session_secs the avatar is given up, also while the next one is being joined."""
    account = Account(slots=2, link_options=_LINK)
    async with HeardBot(account, settings={"max_session_secs": 20}) as bot:
        await bot.until_event("on_avatar_connected")
        account.link_options["connect_delay_s"] = 60
        await bot.change(avatar="avat_2")
        await bot.until_event("on_gave_up", limit_s=300)
        assert _billed_s(account) <= 21


@in_virtual_time
async def test_cap_holds_while_the_first_avatar_does_not_come() -> None:
    """At max_session_secs the avatar is given up, though it never came."""
    account = Account(slots=2, link_options={**_LINK, "connect_delay_s": 60})
    async with HeardBot(account, settings={"max_session_secs": 5}) as bot:
        await bot.until_event("on_gave_up", limit_s=300)
        assert _billed_s(account) <= 6


@in_virtual_time
async def test_next_avatar_without_video_is_not_waited_for_for_ever() -> None:
    """A chosen avatar that shows nothing is given up, and the one before it stays."""
    account = Account(slots=2, link_options=_LINK)
    make = account.make_link
    bot = HeardBot(account)

    def make_link(session: Any, rate: int) -> AvatarLink:
        link = make(session, rate)
        if len(account.links) > 1:
            link._video.put = lambda _: None  # type: ignore[method-assign]
        return link

    bot.service._link_factory = make_link
    async with bot:
        await bot.until_event("on_avatar_connected")
        bot.service._picture.transport_is_ready()
        bot.service._picture._params = lambda: None  # type: ignore[method-assign]  # a transport that shows video
        await bot.change(avatar="avat_2")
        for _ in range(30):
            await asyncio.sleep(10)
            await bot.say(1)
        assert len(account.running) == 1
        assert len(account.books) <= 7


@in_virtual_time
async def test_successors_that_die_on_standby_are_not_opened_without_end() -> None:
    """A chosen avatar that leaves behind the present one is asked for five times, and then the present one stays."""
    account = Account(slots=2, link_options=_LINK)
    async with HeardBot(account) as bot:
        await bot.until_event("on_avatar_connected")
        await bot.say(300)
        await bot.change(avatar="avat_2")
        for _ in range(600):
            await asyncio.sleep(0.1)
            for link in account.links[1:]:
                if link.present and not link.left:
                    link.leave()
        assert len(account.books) <= 7
        await bot.interrupt()


@in_virtual_time
async def test_avatar_that_is_not_wanted_any_more_does_not_take_over() -> None:
    """A, B, and A again while B is made ready: B is never shown, and A stays."""
    account = Account(slots=2, link_options={**_LINK, "connect_delay_s": 2})
    async with HeardBot(account, avatar="avat_1") as bot:
        await bot.until_event("on_avatar_connected")
        await bot.change(avatar="avat_2")
        await asyncio.sleep(0.5)
        await bot.change(avatar="avat_3")
        await asyncio.sleep(0.5)
        await bot.change(avatar="avat_1")
        await asyncio.sleep(20)
        assert not bot.events["on_avatar_changed"]
        assert [opened.avatar for opened in account.running] == ["avat_1"]


@in_virtual_time
async def test_avatar_chosen_when_told_that_it_is_given_up_is_tried() -> None:
    """An application that answers on_gave_up with another avatar gets that one, though the old session is still ending."""
    account = Account(slots=2, link_options=_LINK)
    bot = HeardBot(account, avatar="avat_1", settings={"on_failure": "fail"})

    @bot.service.event_handler("on_gave_up")
    async def on_gave_up(*_: object) -> None:
        await bot.change(avatar="avat_2")

    async with bot:
        bot._worker._processor_unusable_policy = "continue"  # type: ignore[union-attr,assignment]
        await bot.until_event("on_avatar_connected")
        account.links[0].leave()
        await asyncio.sleep(40)
        assert [opened.avatar for opened in account.running] == ["avat_2"]


@in_virtual_time
async def test_avatar_that_is_usable_again_is_asked_for() -> None:
    """Pipecat's set_usable(True) means that what was wrong has been dealt with, such as a wrong key."""
    account = Account(link_options=_LINK)
    account.failure = AuthenticationError("wrong key", status_code=401)
    async with HeardBot(account) as bot:
        await bot.until_event("on_gave_up")
        account.failure = None
        await bot.service.set_usable(True)
        await bot.until_event("on_avatar_connected")


@in_virtual_time
async def test_reply_that_never_comes_is_no_conversation() -> None:
    """A TTS that announced a reply and made none does not keep sessions coming."""
    account = Account(slots=2, session_s=30, link_options=_LINK)
    async with HeardBot(account) as bot:
        await bot.until_event("on_avatar_connected")
        await bot.send(TTSStartedFrame(context_id="lost"))
        await asyncio.sleep(1800)
        bot.down.frames[:] = [f for f in bot.down.frames if getattr(f, "context_id", "") != "lost"]
        assert len(account.books) <= 16  # five minutes of sessions of 30 s, each renewed after 22 s


@in_virtual_time
async def test_sessions_over_before_their_avatar_comes_are_no_loop() -> None:
    """Sessions that end before their avatar can speak are given up like any that are of no use."""
    account = Account(slots=2, session_s=6, link_options={**_LINK, "connect_delay_s": 5.9})
    async with HeardBot(account) as bot:
        for _ in range(20):
            await bot.say(1)
            await asyncio.sleep(6)
        assert len(account.books) <= 8


@in_virtual_time
@pytest.mark.parametrize("mode", ["proxied", "direct"])
async def test_handlers_on_the_transport_do_not_add_up(mode: str) -> None:
    """Many runs of a pipeline leave as many handlers as one."""
    account = Account(link_options=_LINK)
    bot = HeardBot(account, mode=mode)
    bot.loudspeaker._params.video_out_enabled = True
    counts = []
    async with bot:
        for run in range(10):
            await bot.until_event("on_avatar_connected", run + 1)
            await bot.say(1)
            await bot.said()
            await bot.leave(StopFrame() if run % 2 else EndFrame())
            await asyncio.sleep(1)
            handlers = [len(event.handlers) for event in bot.loudspeaker._event_handlers.values()]
            counts.append(sum(handlers))
            await bot.begin()
    assert len(set(counts)) == 1


@in_virtual_time
async def test_standby_link_that_reconnects_is_not_told() -> None:
    """States count from the present avatar alone."""
    account = Account(slots=2, link_options=_LINK)
    async with HeardBot(account) as bot:
        await bot.until_event("on_avatar_connected")
        await bot.say(30)
        await bot.change(avatar="avat_2")
        await asyncio.sleep(2)
        account.links[1]._events.put(Reconnecting())
        await asyncio.sleep(1)
        assert not bot.events["on_reconnecting"]
        await bot.said()


@in_virtual_time
async def test_secret_in_the_address_of_a_refused_avatar_is_not_told() -> None:
    """An avatar may be a signed address or a whole picture: an error shows neither secret nor megabytes."""
    account = Account(slots=2, link_options=_LINK)
    address = "https://example.com/face.png?signature=s3cr3t-s3cr3t"
    picture = "data:image/png;base64," + "QUFB" * 10_000
    account.refused_avatars |= {address, picture}
    async with HeardBot(account) as bot:
        await bot.until_event("on_avatar_connected")
        for avatar in (address, picture):
            await bot.change(avatar=avatar)
            await asyncio.sleep(5)
        told = [e.error.split(" was refused")[0] for e in bot.errors]
        assert len(told) == 2
        assert not any("s3cr3t" in text or len(text) > 300 for text in told), told[0]


@in_virtual_time
async def test_service_in_another_pipeline() -> None:
    """The same service in a second pipeline behaves as in the first."""
    account = Account(link_options=_LINK)
    bot = HeardBot(account, mode="direct")
    async with bot:
        await bot.until_event("on_avatar_connected")
        await bot.say(2)
        await bot.said()
        await bot.leave(EndFrame())
        bot.loudspeaker = Loudspeaker()
        bot.pipeline = Pipeline([bot.up, bot.service, bot.down, bot.loudspeaker, bot.beyond])
        await bot.begin()
        await bot.until_event("on_avatar_connected", 2)
        assert bot.service._passage.transport is bot.loudspeaker
        handlers = bot.loudspeaker._event_handlers["on_after_push_frame"].handlers
        assert handlers
        await bot.say(2)
        await bot.said()


@in_virtual_time
async def test_end_does_not_cut_short_the_leaving_of_the_session_before() -> None:
    """A link that is being closed after a cut-over is closed, also if the run ends meanwhile."""
    account = Account(slots=2, link_options=_LINK)
    left = []
    make = account.make_link

    def make_link(session: Any, rate: int) -> Any:
        link = make(session, rate)
        aclose = link.aclose

        async def slow() -> None:
            await asyncio.sleep(1)
            await aclose()
            left.append(link)

        link.aclose = slow
        return link

    bot = HeardBot(account)
    bot.service._link_factory = make_link
    async with bot:
        await bot.until_event("on_avatar_connected")
        await bot.change(avatar="avat_2")
        await bot.until_event("on_avatar_changed")
        await asyncio.sleep(0.1)
        await bot.leave(EndFrame())
    assert len(left) == 2


@in_virtual_time
async def test_slot_wait_changed() -> None:
    """slot_wait_s counts as it is, also when it was changed while the account is full."""
    account = Account(slots=0, link_options=_LINK)
    async with HeardBot(account) as bot:
        await asyncio.sleep(40)
        await bot.change(slot_wait_s=1)
        await bot.until_event("on_gave_up", limit_s=3)


@in_virtual_time
async def test_slot_wait_is_kept() -> None:
    """The avatar is given up when slot_wait_s are over, not at some later try."""
    account = Account(slots=0, link_options=_LINK)
    async with HeardBot(account, settings={"slot_wait_s": 45}) as bot:
        await asyncio.sleep(50)
        assert bot.events["on_gave_up"]


@in_virtual_time
async def test_new_reply_waits_anew_after_an_interruption() -> None:
    """avatar_wait_s is for the speech that waits, not for what was interrupted."""
    account = Account(link_options={**_LINK, "connect_delay_s": 4})
    async with HeardBot(account) as bot:
        await bot.say(1)
        await asyncio.sleep(2.5)
        await bot.interrupt()
        await bot.say(1)
        await bot.said()
        assert not bot.events["on_fallback_started"]


@in_virtual_time
@pytest.mark.parametrize("last", [EndFrame, StopFrame])
async def test_metrics_of_a_session_that_is_slow_to_end_come_before_the_end(
    last: type[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is pushed behind the frame that ends a run, also when the session takes longer to end than it waits."""
    account = Account(link_options=_LINK)
    end = account._end

    async def slow(session_id: str, **_: Any) -> Any:
        await asyncio.sleep(20)
        return await end(session_id)

    account._end = slow  # type: ignore[method-assign]
    bot, pushed = HeardBot(account), []

    @bot.service.event_handler("on_before_push_frame")
    async def note(_: object, frame: Frame) -> None:
        if isinstance(frame, MetricsFrame | last):
            pushed.append(type(frame))

    async with bot:
        await bot.until_event("on_avatar_connected")
        monkeypatch.setattr(AgentHumanVideoService, "metrics_enabled", True)
        await bot.leave(last())
        await asyncio.sleep(60)
        assert pushed == [MetricsFrame, last]
