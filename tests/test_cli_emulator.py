"""`agenthuman emulator health|clock|reset|export`: they talk to an emulator that runs."""

import json

import httpx
import pytest

from agenthuman_plugins import AgentHuman, cli
from agenthuman_plugins.testing import RunningEmulator

Output = pytest.CaptureFixture[str]


@pytest.fixture
def service(agenthuman_emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch) -> RunningEmulator:
    """An emulator whose variables are set."""
    monkeypatch.setenv("AGENTHUMAN_BASE_URL", agenthuman_emulator.url)
    monkeypatch.setenv("AGENTHUMAN_API_KEY", agenthuman_emulator.api_key)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # leads nowhere
    return agenthuman_emulator


def run(argv: str, output: Output) -> str:
    assert cli.main(["emulator", *argv.split()]) == 0
    return output.readouterr().out


def failure(argv: str, output: Output) -> str:
    assert cli.main(["emulator", *argv.split()]) != 0
    printed = output.readouterr()
    assert printed.out == ""
    return printed.err


@pytest.mark.agenthuman(expiry=True, session_limit_s=7200)
def test_the_clock_is_shown_paused_and_moved(service: RunningEmulator, capsys: Output) -> None:
    """Each way to move it; a session whose limit is passed has ended."""
    assert "(paused)" not in run("clock", capsys)
    assert "(paused)" in run("clock --pause", capsys)
    assert "(paused)" not in run("clock --resume", capsys)
    assert json.loads(run("clock --advance 90s --json", capsys))["offset_s"] == pytest.approx(90, abs=5)
    with AgentHuman() as client:
        client.sessions.create(avatar="avat_1")
    assert json.loads(run("clock --json", capsys))["next_expiry"]
    run("clock --next-expiry", capsys)
    assert [session["ended_by"] for session in service.sessions()] == ["expiry"]
    assert "No running session has a time limit" in failure("clock --next-expiry", capsys)


def test_the_state_is_exported_and_reset(service: RunningEmulator, capsys: Output) -> None:
    """Export is JSON with the sessions; after a reset there is none. Without a terminal a reset needs `--yes`."""
    with AgentHuman() as client:
        client.sessions.create(avatar="avat_1")
    exported = run("export", capsys)
    assert [session["status"] for session in json.loads(exported)["sessions"]] == ["started"]
    assert service.api_key not in exported
    assert "add --yes" in failure("reset", capsys)
    assert len(service.sessions()) == 1
    assert run("reset --yes", capsys) == "Reset.\n"
    assert service.sessions() == []


@pytest.mark.parametrize(("answer", "sessions"), [("y", 0), ("", 1)])
def test_a_reset_asks_first(
    answer: str, sessions: int, service: RunningEmulator, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a terminal, and anything but yes leaves everything as it is."""
    with AgentHuman() as client:
        client.sessions.create(avatar="avat_1")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: answer)
    assert cli.main(["emulator", "reset"]) == (0 if sessions == 0 else 1)
    assert len(service.sessions()) == sessions


def test_health_needs_no_key(
    service: RunningEmulator, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It shows whether the emulator is ready."""
    monkeypatch.delenv("AGENTHUMAN_API_KEY")
    assert "status        ok" in run("health", capsys)
    assert json.loads(run("health --json", capsys))["sessions"] == {"running": 0, "total": 0}
    assert "set AGENTHUMAN_API_KEY to what" in failure("export", capsys)


def test_no_emulator(capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence that says how to start one."""
    monkeypatch.setenv("AGENTHUMAN_BASE_URL", "http://127.0.0.1:9")
    assert "start one with `agenthuman emulator`" in failure("health", capsys)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        (
            "127.0.0.1:8000",
            "must look like http://127.0.0.1:8000: it does not begin with https:// or http://",
        ),
        ("{url}/v1", "leave out the /v1 at its end, which each request adds."),
        ("{url}/api", "is no emulator: set AGENTHUMAN_BASE_URL to what `agenthuman emulator` printed."),
    ],
)
def test_an_address_that_is_none_of_an_emulator(
    url: str, sentence: str, service: RunningEmulator, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sentence says what the address should be."""
    monkeypatch.setenv("AGENTHUMAN_BASE_URL", url.format(url=service.url))
    assert sentence in failure("health", capsys)


@pytest.mark.parametrize("option", ["--port 8010", "--host 10.0.0.1"])
def test_an_action_takes_no_address(option: str, service: RunningEmulator, capsys: Output) -> None:
    """`emulator --port 8010 reset` must not reset the emulator at another port."""
    assert "set AGENTHUMAN_BASE_URL" in failure(f"{option} reset --yes", capsys)


def test_a_refusal_is_one_sentence(service: RunningEmulator, capsys: Output) -> None:
    """The emulator's reason, with a single full stop."""
    sentence = "The clock goes only forward, and at most ten years ahead."
    assert failure("clock --advance 9999d", capsys) == f"agenthuman: {sentence}\n"


def test_the_public_service_is_no_emulator(capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key never goes there in clear."""
    monkeypatch.setenv("AGENTHUMAN_BASE_URL", "http://api.agenthuman.com")
    assert "must be https://" in failure("reset --yes", capsys)


@pytest.mark.parametrize("action", ["health", "clock", "reset --yes", "export"])
def test_json_of_another_server(action: str, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not taken for an emulator's; one sentence says so."""
    monkeypatch.setattr(httpx, "request", lambda *_, **__: httpx.Response(200, json={"status": "ok"}))
    assert "is no emulator" in failure(action, capsys)


def test_an_address_that_is_none(capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence that names the variable."""
    monkeypatch.setenv("AGENTHUMAN_BASE_URL", "http://[")
    assert failure("health", capsys).startswith("agenthuman: AGENTHUMAN_BASE_URL must look like ")
