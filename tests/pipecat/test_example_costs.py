"""What the single-file bots cost while nobody has come."""

import importlib.util
import warnings
from pathlib import Path
from types import ModuleType

import pytest
from pipecat.runner.types import LiveKitRunnerArguments

from agenthuman_plugins.pipecat import AgentHumanVideoService

EXAMPLES = Path(__file__).parents[2] / "examples"


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # Pipecat's TTS module warns of its own definitions
        spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["pipecat_daily", "pipecat_livekit"])
async def test_a_bot_that_waits_for_its_user_opens_no_session(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a room that may be empty for a while, the avatar's session is opened by the bot's first speech."""
    example = _load(name)
    avatars = []

    async def no_transport(*_: object) -> None: ...

    async def run_bot(*_: object, avatar: AgentHumanVideoService, **__: object) -> None:
        avatars.append(avatar)

    monkeypatch.setattr(example, "create_transport", no_transport)
    monkeypatch.setattr(example, "run_bot", run_bot)
    for variable in ("OPENAI_API_KEY", "AGENTHUMAN_API_KEY", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"):
        monkeypatch.setenv(variable, "a-key")
    await example.bot(LiveKitRunnerArguments(room_name="room", url="wss://livekit.example.com", token="t"))
    assert [avatar._connect_at_start for avatar in avatars] == [False]
