"""The life of the avatar beyond one session: runs, slots, renewal, change, cap, and what the application is told."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import numpy as np
import pytest
from pipecat.frames.frames import (
    EndFrame,
    ErrorFrame,
    Frame,
    MetricsFrame,
    StopFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker, ProcessorUnusablePolicy
from pipecat.processors.frame_processor import FrameDirection
from pipecat.utils.errors import ErrorCategory
from pipecat.workers.runner import WorkerRunner

from agenthuman_plugins.client import (
    AuthenticationError,
    LiveKitRoom,
    NotFoundError,
    Session,
    UsageLimitError,
)
from agenthuman_plugins.pipecat import (
    AgentHumanVideoService,
    AgentHumanVideoSettings,
    AgentHumanVideoUpdateSettingsFrame,
    AvatarMetricsData,
    _retries,
)
from agenthuman_plugins.speech import InProcessSpeechLink
from tests.pipecat.bot import RATE, WAIT_S, Bot, FakeClient, Tap, running, speech, tone
from tests.virtual_time import in_virtual_time

_HOUR = timedelta(hours=1)


class _Account(FakeClient):
    """An account with slots, and sessions that are limited in length by a clock an hour off."""

    def __init__(self, *, slots: int = 2, length_s: float | None = None, refused: str = "") -> None:
        super().__init__()
        self.slots = slots
        self.length_s = length_s
        self.refused = refused
        self.asked = 0
        self.most_open = 0

    @contextlib.asynccontextmanager
    async def _open(self, **options: Any) -> AsyncIterator[Session]:
        self.asked += 1
        if self.refused and options["avatar"] == self.refused:
            raise NotFoundError("no such avatar", status_code=404)
        if len(self.leaked) >= self.slots:
            error = UsageLimitError("too many sessions at once", status_code=429)
            error.limit = "concurrency"
            raise error
        async with super()._open(**options) as session:
            self.most_open = max(self.most_open, len(self.leaked))
            if self.length_s is not None:
                started_at = datetime.now(UTC) - _HOUR
                expiration = started_at + timedelta(seconds=self.length_s)
                yield session.model_copy(update={"started_at": started_at, "expiration": expiration})
            else:
                yield session

    def rebind(self) -> None:
        self.sessions.open = self._open


def _choose(avatar: str) -> AgentHumanVideoUpdateSettingsFrame:
    return AgentHumanVideoUpdateSettingsFrame(delta=AgentHumanVideoSettings(avatar=avatar))


def _loud(bot: Bot, context_id: str) -> int:
    """Samples of a reply that were heard."""
    return int((np.abs(bot.voice(context_id).astype(int)) > 4000).sum())


@in_virtual_time
@pytest.mark.parametrize("last", [StopFrame, EndFrame])
async def test_each_run_has_sessions_of_its_own(last: type[Frame]) -> None:
    """A pipeline that is used again, after StopFrame or EndFrame, opens a new session and ends the old one; no run is mute."""
    client = FakeClient()
    service = AgentHumanVideoService(
        client=client,  # type: ignore[arg-type]  # all that it uses
        link_factory=lambda _, rate: InProcessSpeechLink(audio_sample_rate=rate),
    )
    down = Tap(FrameDirection.DOWNSTREAM)
    pipeline = Pipeline([service, down])
    for run in (1, 2):
        connected = asyncio.Event()

        async def note(_: object, connected: asyncio.Event = connected) -> None:
            connected.set()

        service.add_event_handler("on_avatar_connected", note)
        worker = PipelineWorker(
            pipeline,
            params=PipelineParams(audio_out_sample_rate=RATE),
            cancel_on_idle_timeout=False,
            enable_rtvi=False,
        )
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(worker)
        task = asyncio.create_task(runner.run())
        async with asyncio.timeout(WAIT_S):
            await connected.wait()
        await worker.queue_frames(
            [TTSStartedFrame(context_id=f"c{run}"), *speech(tone(0.2), f"c{run}"), last()]
        )
        done, _ = await asyncio.wait([task], timeout=WAIT_S)
        assert done, "the bot hangs"
        assert client.opened == client.ended == [f"sess_{number}" for number in range(1, run + 1)]
        heard = [f for f in down.of(TTSAudioRawFrame) if f.context_id == f"c{run}"]
        assert sum(f.num_frames for f in heard) == pytest.approx(0.2 * RATE, abs=0.05 * RATE)


@in_virtual_time
async def test_full_account_is_asked_again_with_the_next_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    """One QUOTA error, plain audio meanwhile, and the avatar speaks the reply after a slot is free."""
    monkeypatch.setattr(_retries, "_SLOT_BACKOFF_S", (60.0, 60.0))
    monkeypatch.setattr(_retries, "_SLOT_GAP_S", 0.0)
    account = _Account(slots=0)
    account.rebind()
    async with running(account) as bot:
        await bot.until_event("on_fallback_started")
        await bot.say(tone(0.1), context_id="c1")
        await bot.until_stopped("c1")
        account.slots = 1
        await asyncio.sleep(_retries._REPLY_GAP_S)  # virtual; speech that follows at once is the same reply
        await bot.say(tone(0.1), context_id="c2")
        await bot.until_event("on_fallback_ended")
        await bot.say(tone(0.1), context_id="c3")
        await bot.until_event("on_playback_finished")
        assert [e.category for e in bot.up.of(ErrorFrame)] == [ErrorCategory.QUOTA]
        assert account.opened == ["sess_1"]
        assert bot.events["on_playback_finished"] == [("c3",)]


@in_virtual_time
async def test_full_account_is_waited_for_as_long_as_the_settings_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After slot_wait_s the avatar is given up, which is told."""
    monkeypatch.setattr(_retries, "_SLOT_BACKOFF_S", (0.05, 0.05))
    account = _Account(slots=0)
    account.rebind()
    async with running(account, settings={"slot_wait_s": 0.15}) as bot:
        await bot.until_event("on_gave_up")
        assert "too many" in bot.events["on_gave_up"][0][0]
        assert 2 <= account.asked <= 6
        assert bot.service.is_usable


@in_virtual_time
@pytest.mark.parametrize("policy", [ProcessorUnusablePolicy.END, ProcessorUnusablePolicy.CANCEL])
async def test_bot_outlives_its_avatar_under_every_policy(policy: ProcessorUnusablePolicy) -> None:
    """A wrong key costs the face alone, though the pipeline ends with an unusable processor."""
    async with running(FakeClient(AuthenticationError("wrong key", status_code=401))) as bot:
        bot.worker._processor_unusable_policy = policy
        await bot.until_event("on_gave_up")
        (error,) = bot.up.of(ErrorFrame)
        assert error.category is ErrorCategory.AUTHENTICATION
        await bot.say(tone(0.1))
        await bot.until_stopped("c1")
        assert bot.service.is_usable


@in_virtual_time
@pytest.mark.parametrize("slots", [2, 1])
async def test_session_is_renewed_between_two_replies(slots: int) -> None:
    """Before its time is up another session takes over and no word is lost; with one slot the first one ends before."""
    account = _Account(slots=slots, length_s=3.0)
    account.rebind()
    async with running(account) as bot:
        await bot.until_event("on_avatar_connected")
        for number in count():
            if len(account.opened) == 3 and account.ended:
                break
            await bot.say(tone(0.4), context_id=f"c{number}")
            await bot.until_stopped(f"c{number}")
            assert _loud(bot, f"c{number}") == pytest.approx(0.4 * RATE, abs=0.02 * RATE)
        assert account.most_open == slots
        if slots == 2:
            assert not bot.events.get("on_fallback_started")
        assert not [e for e in bot.up.of(ErrorFrame) if e.category is not ErrorCategory.QUOTA]


@in_virtual_time
async def test_reply_that_is_longer_than_its_session_goes_on() -> None:
    """Without a silence before the session's end the rest of the reply passes as plain audio, and nothing is lost."""
    account = _Account(length_s=1.2)
    account.rebind()
    async with running(account) as bot:
        await bot.until_event("on_avatar_connected")
        await bot.say(tone(2.5))
        await bot.until_stopped("c1")
        assert _loud(bot, "c1") == pytest.approx(2.5 * RATE, abs=0.1 * RATE)
        await bot.until_event("on_fallback_ended")
        assert account.opened[:2] == ["sess_1", "sess_2"]
        assert not bot.up.of(ErrorFrame)


@in_virtual_time
async def test_silent_bot_lets_its_session_end() -> None:
    """Nobody speaks: the session ends with its time, and no other one is opened until the next reply."""
    account = _Account(length_s=10.0)
    account.rebind()
    async with running(account) as bot:
        await bot.until_event("on_session_ended")
        await asyncio.sleep(600)
        assert account.opened == account.ended == ["sess_1"]
        await bot.say(tone(0.1))
        await bot.until_event("on_playback_finished")
        assert len(account.opened) == 2


@in_virtual_time
@pytest.mark.parametrize("overlap", [True, False])
async def test_avatar_changes_while_the_bot_runs(overlap: bool) -> None:
    """The chosen avatar takes over after the reply; where a room holds one, the present one ends first."""
    account = _Account()
    account.rebind()
    options: dict[str, Any] = {} if overlap else {"room": _room(), "picture": "pipeline"}
    async with running(account, avatar="avat_1", **options) as bot:
        await bot.until_event("on_avatar_connected")
        await bot.say(tone(0.5), context_id="c1")
        await bot.send(_choose("avat_2"))
        await bot.until_event("on_avatar_changed")
        await bot.say(tone(0.3), context_id="c2")
        await bot.until_stopped("c2")
        assert bot.events["on_avatar_changed"] == [("avat_2",)]
        assert [options["avatar"] for options in account.options] == ["avat_1", "avat_2"]
        assert account.most_open == (2 if overlap else 1)
        for context_id, seconds in (("c1", 0.5), ("c2", 0.3)):
            assert _loud(bot, context_id) == pytest.approx(seconds * RATE, abs=0.05 * RATE)
        assert not bot.up.of(ErrorFrame)


@in_virtual_time
@pytest.mark.parametrize("overlap", [True, False])
async def test_refused_avatar_leaves_the_present_one(overlap: bool) -> None:
    """The error names the refused avatar, the setting is what it was, and the bot has its face."""
    account = _Account(refused="avat_2")
    account.rebind()
    options: dict[str, Any] = {} if overlap else {"room": _room(), "picture": "pipeline"}
    async with running(account, avatar="avat_1", **options) as bot:
        await bot.until_event("on_avatar_connected")
        await bot.send(_choose("avat_2"))
        await bot.up.until(lambda: bot.up.of(ErrorFrame))
        if not overlap:
            await bot.until_event("on_fallback_ended")
        await bot.say(tone(0.1))
        await bot.until_event("on_playback_finished")
        (error,) = bot.up.of(ErrorFrame)
        assert "avat_2" in error.error
        assert error.category is ErrorCategory.INVALID_REQUEST
        assert bot.service._settings.avatar == "avat_1"
        assert not bot.events.get("on_avatar_changed")
        assert bot.service.is_usable


@in_virtual_time
async def test_another_avatar_brings_a_face_that_was_given_up() -> None:
    """After an avatar that does not exist, one that does is asked for."""
    account = _Account(refused="avat_1")
    account.rebind()
    async with running(account, avatar="avat_1") as bot:
        await bot.until_event("on_gave_up")
        await bot.send(_choose("avat_2"))
        await bot.until_event("on_fallback_ended")
        assert account.opened == ["sess_1"]


@in_virtual_time
async def test_cap_ends_the_avatar_for_good() -> None:
    """After max_session_secs of sessions there is no other one, which is told; the bot goes on speaking."""
    account = _Account()
    account.rebind()
    async with running(account, settings={"max_session_secs": 0.6}) as bot:
        await bot.until_event("on_gave_up")
        await bot.until_event("on_session_ended")
        assert "max_session_secs" in bot.events["on_gave_up"][0][0]
        assert [e.category for e in bot.up.of(ErrorFrame)] == [ErrorCategory.QUOTA]
        await bot.say(tone(0.1))
        await bot.until_stopped("c1")
        await bot.send(_choose("avat_2"))
        await bot.say(tone(0.3), context_id="c2")
        await bot.until_stopped("c2")
        assert account.opened == account.ended == ["sess_1"]
        assert len(bot.events["on_gave_up"]) == 1


@in_virtual_time
async def test_error_of_another_kind_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full account after a lost avatar is told, though the loss was."""
    monkeypatch.setattr(_retries, "BACKOFF_S", (0.0, 0.0))
    account = _Account()
    account.rebind()
    async with running(account) as bot:
        await bot.until_event("on_avatar_connected")
        account.slots = 0
        bot.links[0].crash()
        await bot.up.until(lambda: len(bot.up.of(ErrorFrame)) == 2)
        categories = [error.category for error in bot.up.of(ErrorFrame)]
        assert categories == [ErrorCategory.CONNECTIVITY, ErrorCategory.QUOTA]


@in_virtual_time
async def test_metrics_reach_the_pipeline_of_a_cancelled_bot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who cancels a bot still learns what its session was like."""
    monkeypatch.setattr(AgentHumanVideoService, "metrics_enabled", True)
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        await bot.say(tone(0.1))
        await bot.until_event("on_playback_finished")
    figures = [
        data for f in bot.down.of(MetricsFrame) for data in f.data if isinstance(data, AvatarMetricsData)
    ]
    assert [data.session_id for data in figures] == ["sess_1"]
    assert figures[0].connect_s is not None


def _room() -> LiveKitRoom:
    return LiveKitRoom.mint("wss://rooms.example.com", "key", "secret" * 6, "room")
