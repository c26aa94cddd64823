"""The pytest plugin, in test runs of its own."""

import re
import textwrap
from pathlib import Path

import pytest

from agenthuman_plugins import testing
from tests import proxies as dead

pytest_plugins = ["pytester"]

_INI = "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
# Plugins of this environment that a user's need not have; loading them takes as long as all else.
_OTHERS = (
    "anyio",
    "benchmark",
    "codspeed",
    "hypothesispytest",
    "langsmith_plugin",
    "recording",
    "schemathesis",
    "syrupy",
)


def run(pytester: pytest.Pytester, *code: str, **modules: str) -> pytest.RunResult:
    """Run test modules in a process of its own, as a user does."""
    pytester.makeini(_INI)
    pytester.makepyfile(*code, **modules)
    without = [word for plugin in _OTHERS for word in ("-p", f"no:{plugin}")]
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *without, "--strict-markers")


# Each of these is a module of one run: a process with the plugin and a service takes more than a second to come up.
_SERVED = {
    # Both kinds of client reach it, and the record tells who ended their sessions.
    "test_clients": """
        from agenthuman_plugins import AgentHuman, AsyncAgentHuman

        def test_sync(agenthuman_emulator):
            service = agenthuman_emulator
            with AgentHuman(api_key=service.api_key, base_url=service.url) as client:
                client.sessions.end(client.sessions.create(avatar="avat_1").session_id)
            assert [session["ended_by"] for session in service.sessions()] == ["caller"]
            assert service.api_key not in repr(service)

        async def test_async(agenthuman_emulator):
            service = agenthuman_emulator
            assert service.sessions() == []
            async with AsyncAgentHuman(api_key=service.api_key, base_url=service.url) as client:
                await client.sessions.create(avatar="avat_1")
            assert [session["status"] for session in service.sessions()] == ["started"]
        """,
    # `fail` lets requests fail, and `clear_faults` ends it.
    "test_faults": """
        import pytest
        from agenthuman_plugins import AgentHuman, AgentHumanError

        def test_fault(agenthuman_emulator):
            service = agenthuman_emulator
            service.fail("status", status=500, times=100)
            with AgentHuman(api_key=service.api_key, base_url=service.url, max_retries=0) as client:
                with pytest.raises(AgentHumanError):
                    client.sessions.list()
                service.clear_faults()
                assert client.sessions.list() == []
        """,
    # A session expires when the test moves the clock; `export`, `health` and `reset` do what the emulator's do.
    "test_clock": """
        from datetime import timedelta

        import pytest
        from agenthuman_plugins import AgentHuman
        from agenthuman_plugins.emulator import EmulatorError

        @pytest.mark.agenthuman(expiry=True)
        def test_expiry(agenthuman_emulator):
            service = agenthuman_emulator
            with AgentHuman(api_key=service.api_key, base_url=service.url) as client:
                client.sessions.create(avatar="avat_1")
                service.clock.pause()
                before = service.clock.now()
                service.clock.advance(hours=4)
                assert service.clock.now() - before == timedelta(hours=4)
                assert [session["ended_by"] for session in service.sessions()] == ["expiry"]
                assert len(service.export()["sessions"]) == service.health()["sessions"]["total"] == 1
                with pytest.raises(EmulatorError):
                    service.clock.advance(minutes=-1)
                service.reset()
                assert service.sessions() == client.sessions.list() == []
                service.clock.resume()
        """,
    # Marker, nearer marker and parameter give the emulator's arguments, the last of them deciding.
    "test_arguments": """
        import pytest
        from agenthuman_plugins import AgentHuman

        pytestmark = pytest.mark.agenthuman(plan="growth", minutes=7)

        def usage(service):
            with AgentHuman(api_key=service.api_key, base_url=service.url) as client:
                usage = client.usage.get()
                return usage.plan.key, usage.total_remaining

        def test_module(agenthuman_emulator):
            assert usage(agenthuman_emulator) == ("growth", 7)

        @pytest.mark.agenthuman(plan="pro")
        def test_nearer(agenthuman_emulator):
            assert usage(agenthuman_emulator) == ("pro", 7)

        @pytest.mark.parametrize("agenthuman_emulator", [{"minutes": 8}], indirect=True)
        def test_parameter(agenthuman_emulator):
            assert usage(agenthuman_emulator) == ("growth", 8)
        """,
    # The marker chooses the generation, and how long its servers boot.
    "test_generation": """
        import httpx
        import pytest

        @pytest.mark.agenthuman(generation="managed", boot_s=0)
        def test_it(agenthuman_emulator):
            headers = {"x-api-key": agenthuman_emulator.api_key}
            with httpx.Client(base_url=agenthuman_emulator.url, headers=headers, trust_env=False) as http:
                session = http.post("/v1/sessions", json={"avatar_id": "avat_1"}).json()["session"]
                assert session["status"] == "created"
                start = f"/v1/sessions/{session['session_id']}/start"
                told = [http.put(start).json()["ws_uri"] for _ in range(2)]
                assert told == ["try_again", agenthuman_emulator.gateway_url]
        """,
}


def test_tests_have_the_service_that_they_ask_for(pytester: pytest.Pytester):
    """Clients reach it, faults and the clock are the test's, and marker and parameter choose what it is."""
    result = run(pytester, **_SERVED)
    result.assert_outcomes(passed=sum(code.count("def test_") for code in _SERVED.values()))


def test_wrong_marker_is_one_sentence(pytester: pytest.Pytester):
    """A plan that does not exist, or an argument without a name, is an error of the test that asks, and the run ends."""
    result = run(
        pytester,
        """
        import pytest

        @pytest.mark.agenthuman(plan="gold")
        def test_plan(agenthuman_emulator):
            pass

        @pytest.mark.agenthuman("pro")
        def test_argument(agenthuman_emulator):
            pass
        """,
    )
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*choose one of free, explorer, growth, pro*"])
    result.stdout.fnmatch_lines(["*The marker agenthuman takes keyword arguments alone*"])


def test_plugin_costs_nothing_until_used(pytester: pytest.Pytester):
    """A run that does not ask for the fixture loads neither the emulator nor the client."""
    result = run(
        pytester,
        """
        import sys

        def test_it():
            loaded = {"fastapi", "agenthuman_plugins.emulator", "agenthuman_plugins.client"} & set(sys.modules)
            assert not loaded
        """,
    )
    result.assert_outcomes(passed=1)


@pytest.mark.chain
def test_media_is_real(pytester: pytest.Pytester):
    """With media the session's avatar comes up in a process of its own."""
    result = run(
        pytester,
        """
        import time
        import pytest
        from agenthuman_plugins import AgentHuman

        @pytest.mark.agenthuman(media=True, room_server="embedded")
        def test_avatar(agenthuman_emulator):
            service = agenthuman_emulator
            with AgentHuman(api_key=service.api_key, base_url=service.url) as client:
                client.sessions.create(avatar="avat_1")
            limit = time.monotonic() + 30
            while service.sessions()[0]["avatar_state"] != "ready":
                assert time.monotonic() < limit
                time.sleep(0.05)
        """,
    )
    result.assert_outcomes(passed=1)


def test_examples_run(pytester: pytest.Pytester):
    """What the plugin's docstring and the page about testing show can be copied; the page's rooms are left out here."""
    example = re.search(r"^    from .*?(?=^\S)", testing.__doc__, re.MULTILINE | re.DOTALL)
    page = Path(__file__).parents[2] / "docs" / "how-to" / "testing.md"
    text = page.read_text()
    found = re.findall(r'^```python title="(\w+).py"\n(.*?)^```', text, re.MULTILINE | re.DOTALL)
    assert len(found) == text.count("```python") > 0
    modules = {name: code.replace("media=True", "media=False") for name, code in found}
    modules["test_docstring"] = textwrap.dedent(example[0])
    result = run(pytester, **modules)
    result.assert_outcomes(passed=sum(code.count("def test_") for code in modules.values()))


@pytest.mark.chain
def test_proxies_of_the_environment_are_left_aside(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
):
    """The fixture's service and its avatars come up where the environment names proxies that lead nowhere."""
    for name, value in dead.HTTP.items():
        monkeypatch.setenv(name, value)
    result = run(
        pytester,
        """
        import time
        import httpx
        import pytest

        @pytest.mark.agenthuman(media=True, room_server="embedded")
        def test_avatar(agenthuman_emulator):
            service = agenthuman_emulator
            with httpx.Client(headers={"x-api-key": service.api_key}, trust_env=False) as http:
                body = {"avatar": "avat_1", "room": {"platform": "proxy"}}
                assert http.post(f"{service.url}/v1/sessions", json=body).status_code == 200
            limit = time.monotonic() + 30
            while (state := service.sessions()[0]["avatar_state"]) != "ready":
                assert state == "starting", state
                assert time.monotonic() < limit
                time.sleep(0.05)
        """,
    )
    result.assert_outcomes(passed=1)
