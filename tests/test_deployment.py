"""The files of the deployment recipe: the bot drains, and what they say to each other and to the package fits."""

import asyncio
import contextlib
import importlib.util
import json
import os
import re
import signal
import tomllib
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from pipecat.frames.frames import Frame, OutputAudioRawFrame, TTSSpeakFrame, TTSStartedFrame, TTSStoppedFrame
from pipecat.processors.filters.identity_filter import IdentityFilter
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.runner.types import RunnerArguments
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import BaseTransport, TransportParams

from agenthuman_plugins.cli._main import _parser
from agenthuman_plugins.pipecat import AgentHumanVideoService
from agenthuman_plugins.speech import InProcessSpeechLink
from tests.pipecat.bot import WAIT_S, FakeClient, speech, tone

FILES = Path(__file__).parent.parent / "examples" / "deployment"
END_SECS = 15  # that ending a session may take, as the documentation says
GOODBYE_SECS = 0.5


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FILES / name).read_text()))


def container(pod: dict[str, Any]) -> dict[str, Any]:
    (only,) = pod["containers"]
    return dict(only)


@pytest.fixture
def bot() -> ModuleType:
    spec = importlib.util.spec_from_file_location("deployed_bot", FILES / "bot.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        # Pipecat's TTS module defines classes that it has deprecated itself, and warns of its own definitions.
        warnings.simplefilter("ignore", DeprecationWarning)
        spec.loader.exec_module(module)
    return module


class Speakers(BaseOutputTransport):
    """Plays in real time."""

    def __init__(self) -> None:
        super().__init__(TransportParams(audio_out_enabled=True))
        self.played_s = 0.0

    async def start(self, frame: Frame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        await asyncio.sleep(frame.num_frames / frame.sample_rate)
        if max(frame.audio):
            self.played_s += frame.num_frames / frame.sample_rate
        return True


class Room(BaseTransport):
    """A room with nobody in it; a test tells it when somebody comes or goes."""

    def __init__(self) -> None:
        super().__init__()
        self.speakers = Speakers()
        self._register_event_handler("on_client_connected")
        self._register_event_handler("on_client_disconnected")

    def input(self) -> FrameProcessor:
        return IdentityFilter()

    def output(self) -> FrameProcessor:
        return self.speakers

    async def hang_up(self) -> None:
        await self._call_event_handler("on_client_disconnected", None)


class Voice(FrameProcessor):
    """Says everything as the same tone."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if not isinstance(frame, TTSSpeakFrame):
            await self.push_frame(frame, direction)
            return
        said = [
            TTSStartedFrame(context_id="c"),
            *speech(tone(GOODBYE_SECS), "c"),
            TTSStoppedFrame(context_id="c"),
        ]
        for piece in said:
            await self.push_frame(piece)


@contextlib.asynccontextmanager
async def call(
    bot: ModuleType, room: Room, client: FakeClient, *, alone: bool
) -> AsyncIterator[asyncio.Task[None]]:
    """A call in which the avatar is there; `alone`: the process is the bot's own."""
    connected = asyncio.Event()
    avatar = AgentHumanVideoService(
        client=client, link_factory=lambda _, rate: InProcessSpeechLink(audio_sample_rate=rate)
    )

    @avatar.event_handler("on_avatar_connected")
    async def on_connected(_: object) -> None:
        connected.set()

    arguments = RunnerArguments()
    arguments.handle_sigterm = alone
    running = asyncio.create_task(
        bot.run_bot(room, arguments, stt=IdentityFilter(), llm=IdentityFilter(), tts=Voice(), avatar=avatar)
    )
    try:
        async with asyncio.timeout(WAIT_S):
            await connected.wait()
        yield running
        async with asyncio.timeout(WAIT_S):
            await running
    finally:
        running.cancel()
    assert client.opened == client.ended == ["sess_1"]


def shut_down() -> None:
    """What Docker and Kubernetes do; without a handler it would end the tests."""
    assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    os.kill(os.getpid(), signal.SIGTERM)


async def test_sigterm_lets_the_bot_say_goodbye(bot: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """After SIGTERM and the time to drain, the avatar says its goodbye to the end; then the session is ended."""
    monkeypatch.setattr(bot, "DRAIN_SECS", 0.01)
    room = Room()
    async with call(bot, room, FakeClient(), alone=True):
        shut_down()
    assert room.speakers.played_s >= GOODBYE_SECS - 0.04


async def test_a_draining_call_may_end_by_itself(bot: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who hangs up in the time to drain ends the bot at once."""
    monkeypatch.setattr(bot, "DRAIN_SECS", 600.0)
    room = Room()
    async with call(bot, room, FakeClient(), alone=True):
        shut_down()
        await asyncio.sleep(0)
        await room.hang_up()
    assert room.speakers.played_s == 0


async def test_a_platform_keeps_its_own_handler(bot: ModuleType) -> None:
    """In a server that waits for its calls, such as Pipecat Cloud's, the bot leaves SIGTERM to that."""
    before = signal.getsignal(signal.SIGTERM)
    room = Room()
    async with call(bot, room, FakeClient(), alone=False):
        assert signal.getsignal(signal.SIGTERM) is before
        await room.hang_up()


def test_the_grace_period_is_long_enough(bot: ModuleType) -> None:
    """Kubernetes waits for the time to drain, a goodbye, and the end of the session."""
    (job,) = documents("call.yaml")
    pod = job["spec"]["template"]["spec"]
    (drain_secs,) = [float(v["value"]) for v in container(pod)["env"] if v["name"] == "DRAIN_SECS"]
    assert drain_secs == bot.DRAIN_SECS
    assert pod["terminationGracePeriodSeconds"] >= drain_secs + 30 + END_SECS


def test_the_job_ends_only_what_no_bot_can_own(bot: ModuleType) -> None:
    """The job that cleans up is a command of ours, for this fleet, and for sessions older than any call."""
    (call_job,), (cleanup,) = documents("call.yaml"), documents("cleanup.yaml")
    job = cleanup["spec"]["jobTemplate"]["spec"]
    program, *words = container(job["template"]["spec"])["args"]
    assert program == "agenthuman"
    arguments = _parser().parse_args(words)
    assert arguments.yes
    assert dict(arguments.metadata) == {"fleet": bot.FLEET}
    call_spec = call_job["spec"]
    longest = (
        call_spec["activeDeadlineSeconds"] + call_spec["template"]["spec"]["terminationGracePeriodSeconds"]
    )
    assert arguments.older_than > longest


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.pipecat-cloud"])
def test_dockerfiles_are_well_formed(name: str) -> None:
    """Instructions are known, what is copied is there, and no shell stands between SIGTERM and the bot."""
    text = re.sub(r"\\\n", " ", (FILES / name).read_text())
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    assert lines[0][0] == "FROM"
    assert {word for word, _ in lines} <= {
        "FROM",
        "RUN",
        "WORKDIR",
        "COPY",
        "USER",
        "ENV",
        "ENTRYPOINT",
        "CMD",
    }
    copied = [source for word, rest in lines if word == "COPY" for source in rest.split()[:-1]]
    assert "bot.py" in copied
    assert all((FILES / source).is_file() for source in copied)
    for word, rest in lines:
        if word in ("ENTRYPOINT", "CMD"):
            assert all(isinstance(argument, str) for argument in json.loads(rest))


def test_requirements_name_extras_that_exist() -> None:
    """What the image installs of this package is what the package offers."""
    project = tomllib.loads((FILES.parents[1] / "pyproject.toml").read_text())["project"]
    (extras,) = re.findall(
        r"^agenthuman-plugins\[(.*?)\]$", (FILES / "requirements.txt").read_text(), re.MULTILINE
    )
    assert {"cli", "pipecat"} <= set(extras.split(",")) <= set(project["optional-dependencies"])


def test_pipecat_cloud_deploys_the_same_bot() -> None:
    """The manifest names a Dockerfile that is there, and the same keys as Kubernetes gets."""
    manifest = tomllib.loads((FILES / "pcc-deploy.toml").read_text())
    assert (FILES / manifest["build"]["dockerfile"]).is_file()
    # Names that Pipecat's command line knows: it refuses a manifest with any other.
    assert set(manifest) == {"agent_name", "secret_set", "max_session_duration", "scaling", "build"}
    assert set(manifest["scaling"]) == {"min_agents", "max_agents"}
    (job,) = documents("call.yaml")
    assert manifest["max_session_duration"] == job["spec"]["activeDeadlineSeconds"]
    (keys,) = container(job["spec"]["template"]["spec"])["envFrom"]
    assert keys["secretRef"]["name"] == manifest["secret_set"]
