"""The pytest plugin, in test runs of its own."""

import re
import textwrap
from pathlib import Path

import pytest

from agenthuman_plugins import testing
from tests import proxies as dead

pytest_plugins = ["pytester"]

_INI = "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"


def run(pytester: pytest.Pytester, code: str) -> pytest.RunResult:
    """Run a test module in a process of its own, as a user does."""
    pytester.makeini(_INI)
    pytester.makepyfile(code)
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", "--strict-markers")


def test_sync_and_async_tests_have_a_service(pytester: pytest.Pytester):
    """Both kinds of client reach it, and the record tells who ended their sessions."""
    result = run(
        pytester,
        """
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
    )
    result.assert_outcomes(passed=2)


def test_faults_are_injected(pytester: pytest.Pytester):
    """`fail` lets requests fail, and `clear_faults` ends it."""
    result = run(
        pytester,
        """
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
    )
    result.assert_outcomes(passed=1)


def test_the_clock_moves_and_the_service_starts_anew(pytester: pytest.Pytester):
    """A session expires when the test moves the clock; `export`, `health` and `reset` do what the emulator's do."""
    result = run(
        pytester,
        """
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
    )
    result.assert_outcomes(passed=1)


def test_marker_and_parameter_choose_the_service(pytester: pytest.Pytester):
    """Marker, nearer marker and parameter give the emulator's arguments, the last of them deciding."""
    result = run(
        pytester,
        """
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
    )
    result.assert_outcomes(passed=3)


def test_wrong_option_is_one_sentence(pytester: pytest.Pytester):
    """A plan that does not exist is an error of the test that asks for it, and the run ends."""
    result = run(
        pytester,
        """
        import pytest

        @pytest.mark.agenthuman(plan="gold")
        def test_it(agenthuman_emulator):
            pass
        """,
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*choose one of free, explorer, growth, pro*"])


def test_marker_takes_keywords_alone(pytester: pytest.Pytester):
    """An argument without a name is an error, not ignored."""
    result = run(
        pytester,
        """
        import pytest

        @pytest.mark.agenthuman("pro")
        def test_it(agenthuman_emulator):
            pass
        """,
    )
    result.assert_outcomes(errors=1)
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


def test_example_of_the_docstring_runs(pytester: pytest.Pytester):
    """What the plugin's docstring shows can be copied."""
    example = re.search(r"^    from .*?(?=^\S)", testing.__doc__, re.MULTILINE | re.DOTALL)
    run(pytester, textwrap.dedent(example[0])).assert_outcomes(passed=1)


def test_examples_of_the_page_run(pytester: pytest.Pytester):
    """What the page about testing shows can be copied; its rooms are left out here."""
    page = Path(__file__).parents[2] / "docs" / "how-to" / "testing.md"
    examples = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    code = "\n".join(examples).replace("media=True", "media=False")
    run(pytester, code).assert_outcomes(passed=code.count("def test_"))


def test_older_generation(pytester: pytest.Pytester):
    """The marker chooses the generation, and how long its servers boot."""
    result = run(
        pytester,
        """
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
    )
    result.assert_outcomes(passed=1)


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
