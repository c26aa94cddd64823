"""What importing and using the tools loads: langchain-core and the client, and nothing that nobody asked for."""

import json
import os
import subprocess
import sys

import pytest

HEAVY = {
    "aiohttp",
    "aiortc",
    "av",
    "cv2",
    "fastapi",
    "langchain",
    "langgraph",
    "livekit",
    "numpy",
    "pipecat",
    "websockets",
}


def loaded_by(*programs: str, without: tuple[str, ...] = ()) -> list[set[str]]:
    """The modules that are loaded after each of these programs, run one after the other in one process."""
    steps = [f"{program}; steps.append(sorted(sys.modules))" for program in programs]
    blocked = "".join(f"sys.modules[{name!r}] = None; " for name in without)
    code = "\n".join([f"import json, sys; steps = []; {blocked}", *steps, "print(json.dumps(steps))"])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        env={**os.environ, "AGENTHUMAN_API_KEY": "ah_test_key"},
    )
    assert done.returncode == 0, done.stderr
    return [set(step) for step in json.loads(done.stdout.splitlines()[-1])]


def packages(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def ours(modules: set[str]) -> set[str]:
    return {name for name in modules if name.startswith("agenthuman_plugins.")}


CORE = "import langchain_core.tools.structured, langchain_core.messages.tool"
CLIENT = "import agenthuman_plugins; agenthuman_plugins.AgentHuman; agenthuman_plugins.AsyncAgentHuman"
TOOLKIT = "from agenthuman_plugins.langchain import AgentHumanToolkit"


def test_toolkit_costs_its_own_modules_alone() -> None:
    """Over the client and langchain-core the adapter loads its own few modules, and not a single other one."""
    before, after = loaded_by(f"{CORE}; {CLIENT}", TOOLKIT)
    added = after - before
    assert added - ours(added) <= {"__mp_main__"}
    assert {name.split(".")[1] for name in ours(added)} <= {"langchain", "client", "speech"}
    assert len(ours(added)) <= 20


def test_building_and_refusing_loads_nothing_more() -> None:
    """Making a toolkit with every tool and being refused by one needs neither media nor a framework."""
    _, after = loaded_by(
        TOOLKIT,
        "tools = AgentHumanToolkit(tts=lambda text: (b'', 16000)).get_tools();"
        "[tool.invoke({'session_id': '?', 'text': 'Hi.', 'avatar': 'data:', 'status': '?'}) for tool in tools]",
    )
    # That LiveKit is installed is found out through the empty package that holds it.
    assert packages({name for name in after if name != "livekit"}) & HEAVY == set()


def test_speech_is_loaded_with_a_voice_only() -> None:
    """Whoever does not speak does not load what speaks, save for the names of the links."""
    silent, speaking = loaded_by(
        f"{TOOLKIT}; AgentHumanToolkit().get_tools()", "AgentHumanToolkit(tts=lambda text: (b'', 16000))"
    )
    assert not any(name.startswith("agenthuman_plugins.speech") for name in silent)
    assert "agenthuman_plugins.langchain._speech" not in silent
    assert "agenthuman_plugins.langchain._speech" in speaking


def test_middleware_is_loaded_when_asked_for() -> None:
    """The middleware needs langchain, the rest does not; only its name loads it."""
    before, after = loaded_by(TOOLKIT, "from agenthuman_plugins.langchain import SessionCleanupMiddleware")
    assert packages(before) & {"langchain", "langgraph"} == set()
    assert {"langchain", "langgraph"} <= packages(after)


def test_heavy_packages_may_be_missing() -> None:
    """With nothing but langchain-core, httpx and pydantic installed, the toolkit and its tools are made."""
    (loaded,) = loaded_by(
        f"{TOOLKIT}; AgentHumanToolkit().get_tools()",
        without=tuple(sorted(HEAVY)),
    )
    assert "agenthuman_plugins.langchain.toolkit" in loaded


@pytest.mark.parametrize("missing", ["livekit", "livekit.rtc", "websockets"])
def test_voice_without_its_extra_is_told_at_once(missing: str) -> None:
    """A `tts` needs the extra `speech`: without it no toolkit is made, and the error says what to install."""
    program = (
        f"import sys; sys.modules[{missing!r}] = None\n{TOOLKIT}\n"
        "AgentHumanToolkit(api_key='ah_test_key', tts=lambda text: (b'', 16000))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=False
    )
    last = done.stderr.splitlines()[-1]
    assert "ConfigurationError" in last
    assert 'pip install "agenthuman-plugins[speech]"' in last


def test_top_level_loads_no_framework() -> None:
    """The package itself stays light whatever of it is used with agents."""
    (loaded,) = loaded_by("import agenthuman_plugins")
    assert packages(loaded) & ({"httpx", "pydantic", "langchain_core"} | HEAVY) == set()
