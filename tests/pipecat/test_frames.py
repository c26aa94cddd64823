"""The table of frames: complete, and followed."""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from loguru import logger
from pipecat.frames import frames
from pipecat.frames.frames import (
    AssistantImageRawFrame,
    ControlFrame,
    DataFrame,
    Frame,
    InterruptionFrame,
    LLMFullResponseStartFrame,
    MixerEnableFrame,
    OutputImageRawFrame,
    OutputTransportMessageFrame,
    SpriteFrame,
    StopFrame,
    SystemFrame,
    TextFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.settings import ServiceSettings

from agenthuman_plugins.pipecat import AgentHumanVideoUpdateSettingsFrame
from agenthuman_plugins.pipecat._frames import TABLE, WAYS, Way, markdown, way_of_class
from agenthuman_plugins.pipecat.reply import _delivery
from tests.pipecat.bot import RATE, FakeClient, running, tone
from tests.virtual_time import in_virtual_time

OF_PIPECAT = sorted(
    {
        kind
        for kind in vars(frames).values()
        if isinstance(kind, type) and issubclass(kind, Frame) and kind.__module__ == frames.__name__
    },
    key=lambda kind: kind.__name__,
)
NEWEST = hasattr(frames, "BotBackchannelFrame")


@pytest.fixture
def log() -> Iterator[list[str]]:
    """The debug log."""
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(message.record["message"]), level="DEBUG")
    yield lines
    logger.remove(sink)


@pytest.mark.parametrize("kind", OF_PIPECAT, ids=lambda kind: kind.__name__)
def test_every_frame_of_pipecat_is_sorted(kind: type[Frame]) -> None:
    """Each class stands in the table by its own name; a system frame never waits behind speech."""
    assert f"{kind.__module__}.{kind.__qualname__}" in WAYS, "add it to the table in _frames.py"
    if issubclass(kind, SystemFrame):
        assert way_of_class(kind) in (Way.AT_ONCE, Way.ACT)


def test_every_name_is_listed_once() -> None:
    """No class stands in two rows, and on the newest Pipecat none is misspelt."""
    names = [name for row in TABLE for name in row.names]
    assert len(names) == len(set(names))
    if NEWEST:
        assert {name for name in names if "." not in name} == {kind.__name__ for kind in OF_PIPECAT}


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("pipecat.processors.frameworks.rtvi.frames.RTVIServerMessageFrame", Way.AT_ONCE),
        ("pipecat.processors.frameworks.rtvi.frames.RTVIUICommandFrame", Way.AT_ONCE),
        ("pipecat.services.google.frames.LLMSearchResponseFrame", Way.IN_PLACE),
        ("pipecat.services.openclaw.frames.OpenClawTextFrame", Way.IN_PLACE),
        ("pipecat.services.openclaw.frames.OpenClawAbortFrame", Way.AT_ONCE),
        ("pipecat.transports.daily.transport.DailyOutputTransportMessageFrame", Way.IN_PLACE),
        ("pipecat.transports.daily.transport.DailyOutputTransportMessageUrgentFrame", Way.AT_ONCE),
        ("pipecat.transports.daily.transport.DailySIPTransferFrame", Way.IN_PLACE),
        ("pipecat.transports.livekit.transport.LiveKitOutputTransportMessageFrame", Way.IN_PLACE),
        ("pipecat.transports.livekit.transport.LiveKitOutputTransportMessageUrgentFrame", Way.AT_ONCE),
        ("pipecat.flows.actions.ActionFinishedFrame", Way.IN_PLACE),
        ("pipecat.pipeline.sync_parallel_pipeline.SyncFrame", Way.AT_ONCE),
        ("agenthuman_plugins.pipecat.settings.AgentHumanVideoUpdateSettingsFrame", Way.SWALLOW),
    ],
)
def test_frames_of_other_modules_follow_what_they_derive_from(name: str, way: Way) -> None:
    """RTVI, transports, services and flows bring frames of their own."""
    module, _, class_name = name.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), class_name)
    except ImportError as error:
        pytest.skip(str(error))
    assert way_of_class(kind) is way


@dataclass
class _OwnData(DataFrame): ...


@dataclass
class _OwnControl(ControlFrame): ...


@dataclass
class _OwnSystem(SystemFrame): ...


@dataclass
class _OwnText(TextFrame): ...


@dataclass
class _OwnMixer(MixerEnableFrame): ...


@dataclass
class _UrgentText(TextFrame, SystemFrame): ...


@dataclass
class MixerControlFrame(ControlFrame):
    """Has the name of another one, and is not it."""


@pytest.mark.parametrize(
    ("kind", "way"),
    [
        (_OwnData, Way.IN_PLACE),
        (_OwnControl, Way.IN_PLACE),
        (_OwnSystem, Way.AT_ONCE),
        (_OwnText, Way.IN_PLACE),
        (_OwnMixer, Way.AT_ONCE),
        (_UrgentText, Way.AT_ONCE),
        (MixerControlFrame, Way.IN_PLACE),
    ],
)
def test_a_users_own_frame_is_sorted_like_its_base(kind: type[Frame], way: Way, log: list[str]) -> None:
    """The nearest class of the table decides, and the debug log says so, once."""
    way_of_class.cache_clear()
    assert way_of_class(kind) is way_of_class(kind) is way
    (line,) = (line for line in log if kind.__name__ in line)
    assert way.value in line


def test_table_can_be_printed() -> None:
    """The docs show each row with every name of it."""
    lines = markdown().splitlines()
    assert lines[1] == "| --- | --- | --- |"
    assert len(lines) == 2 + len(TABLE)
    for row, line in zip(TABLE, lines[2:], strict=True):
        assert all(f"`{name.rpartition('.')[2]}`" in line for name in row.names)
        assert row.way.value in line


def _synced_picture() -> OutputImageRawFrame:
    picture = OutputImageRawFrame(bytes(12), (2, 2), "RGB")
    picture.sync_with_audio = True
    return picture


@in_virtual_time
@pytest.mark.parametrize(
    ("frame", "waits"),
    [
        (lambda: MixerEnableFrame(enable=True), False),
        (lambda: SpriteFrame(images=[]), False),
        (lambda: OutputImageRawFrame(bytes(3), (1, 1), "RGB"), False),
        (lambda: AssistantImageRawFrame(bytes(3), (1, 1), "RGB"), False),
        (_OwnSystem, False),
        (_synced_picture, True),
        (lambda: OutputTransportMessageFrame(message={}), True),
        (_OwnData, True),
    ],
)
async def test_frames_behind_speech_wait_as_in_a_transport(frame: Callable[[], Frame], waits: bool) -> None:
    """What a transport acts on while it plays does not wait for the avatar; what it queues does."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        sent = frame()
        await bot.say(tone(0.5))
        await bot.send(sent)
        await bot.down.until(lambda: sent in bot.down.frames)
        await bot.until_stopped("c1")
        before = bot.down.frames[: bot.down.frames.index(sent)]
        heard_s = sum(f.num_frames for f in before if isinstance(f, TTSAudioRawFrame)) / RATE
        assert (heard_s >= 0.5) is waits


@in_virtual_time
async def test_a_stopped_pipeline_has_said_everything() -> None:
    """A StopFrame keeps its place behind the speech, and the session is over when it leaves."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        await bot.say(tone(0.5))
        await bot.send(StopFrame())
        await bot.down.until(lambda: bot.down.of(StopFrame))
        assert bot.voice().size >= 0.5 * RATE
        assert bot.client.ended == ["sess_1"]


@in_virtual_time
async def test_plain_settings_are_taken() -> None:
    """A delta that knows no field of ours changes what it can and is no failure; a wrong one changes nothing."""
    async with running() as bot:
        await bot.send(AgentHumanVideoUpdateSettingsFrame(delta=ServiceSettings(extra={"max_idle_secs": 50})))
        await bot.send(AgentHumanVideoUpdateSettingsFrame(delta=ServiceSettings(model="m")))
        await bot.send(AgentHumanVideoUpdateSettingsFrame(delta=ServiceSettings(extra={"avatar_wait_s": -1})))
        await bot.send(probe := _OwnSystem())
        await bot.down.until(lambda: probe in bot.down.frames)
        await bot.up.until(lambda: bot.up.of(frames.ErrorFrame))
        (error,) = bot.up.of(frames.ErrorFrame)
        assert "avatar_wait_s" in error.error
        settings = bot.service._settings
        assert (settings.max_idle_secs, settings.model, settings.avatar_wait_s) == (50, "m", 3.0)


@in_virtual_time
async def test_settings_of_another_service_keep_their_place() -> None:
    """A frame that names another service is not ours to take."""
    async with running() as bot:
        other = AgentHumanVideoUpdateSettingsFrame(service=bot.up)
        await bot.send(other)
        await bot.down.until(lambda: other in bot.down.frames)


@in_virtual_time
async def test_flush_waits_for_speech_that_waits_for_the_avatar(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flush of the pipeline is not given up while speech is held, however long, and is over when it was heard."""
    monkeypatch.setattr(_delivery, "_HELD_EVERY_S", 0.05)
    client = FakeClient()
    client.open_now.clear()
    async with running(client, settings={"avatar_wait_s": 1.0}) as bot:
        await bot.say(tone(0.3))
        assert await bot.worker.flush_pipeline(timeout=0.3)
        assert bot.voice().size == round(0.3 * RATE)


@in_virtual_time
async def test_flush_survives_an_interruption() -> None:
    """What is interrupted is not waited for."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        await bot.say(tone(20.0))
        await bot.down.until(lambda: bot.down.of(TTSAudioRawFrame))
        await bot.send(InterruptionFrame())
        assert await bot.worker.flush_pipeline()


def _announced_text() -> TextFrame:
    text = frames.AggregatedTextFrame("Hello.", "sentence")
    text.will_be_spoken = True
    return text


def _skipped(kind: type[Frame], *arguments: str) -> Frame:
    frame = kind(*arguments)
    frame.skip_tts = True
    return frame


@in_virtual_time
@pytest.mark.parametrize(
    ("reply", "spoken"),
    [
        pytest.param(
            lambda: [LLMFullResponseStartFrame(), frames.LLMFullResponseEndFrame()], False, id="tool call"
        ),
        pytest.param(
            lambda: [
                _skipped(LLMFullResponseStartFrame),
                _skipped(frames.LLMTextFrame, "Hello."),
                _skipped(frames.LLMFullResponseEndFrame),
            ],
            False,
            id="skip_tts",
        ),
        pytest.param(lambda: [TTSSpeakFrame("no TTS in front")], False, id="nobody speaks it"),
        pytest.param(lambda: [LLMFullResponseStartFrame(), _announced_text()], True, id="about to be made"),
        pytest.param(lambda: [frames.TTSStartedFrame()], True, id="started"),
        pytest.param(lambda: [TTSAudioRawFrame(b"", RATE, 1)], False, id="empty"),
        pytest.param(lambda: [TTSAudioRawFrame(tone(0.1), RATE, 1)], True, id="speech alone"),
    ],
)
async def test_first_speech_is_what_is_sure_to_be_spoken(
    reply: Callable[[], list[Frame]], spoken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With connect="first_speech" the session is opened, and billed, for speech and for nothing else."""
    asked = []
    async with running(connect="first_speech") as bot:
        monkeypatch.setattr(bot.service._keeper, "bot_speaks", lambda **_: asked.append(True))
        await bot.send(*reply())
        await bot.until_processed(type(reply()[-1]))
        assert bool(asked) is spoken


@in_virtual_time
async def test_frames_that_go_upstream_pass_at_once() -> None:
    """Nothing that comes from the transport waits for speech."""
    async with running() as bot:
        await bot.until_event("on_avatar_connected")
        await bot.say(tone(20.0))
        await bot.down.until(lambda: bot.down.of(TTSAudioRawFrame))
        await bot.down.push_frame(sent := _OwnData(), FrameDirection.UPSTREAM)
        await bot.up.until(lambda: sent in bot.up.frames)
