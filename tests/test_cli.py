"""The `agenthuman` command: what it prints, how it fails, how it stops."""

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import httpx
import psutil
import pytest

from agenthuman_plugins import _version, cli, emulator
from agenthuman_plugins.cli import _emulator, _main
from agenthuman_plugins.emulator import _proxy_rooms
from tests import proxies as dead
from tests.emulator.processes import children_of, still_alive

LIMIT_S = 30.0  # hang limit
PROXY = {"avatar": "avat_1", "room": {"platform": "proxy"}}


def test_version(capsys: pytest.CaptureFixture[str]):
    """`--version` prints the package's version."""
    with pytest.raises(SystemExit) as end:
        cli.main(["--version"])
    assert (end.value.code, capsys.readouterr().out) == (0, f"agenthuman {_version.__version__}\n")


@pytest.mark.chain
def test_module_is_the_command():
    """`python -m agenthuman_plugins` is the same command."""
    result = subprocess.run(
        [sys.executable, "-m", "agenthuman_plugins", "--version"], capture_output=True, check=True
    )
    assert result.stdout.startswith(b"agenthuman ")


def test_import_is_light():
    """The command imports what it needs when it needs it."""
    code = "import sys, agenthuman_plugins.cli; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    ).stdout.split()
    assert not {"httpx", "pydantic", "fastapi", "livekit", "numpy", "pipecat", "rich"} & set(loaded)


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["sessions", "get"], "missing argument: SESSION_ID"),
        (["usage", "now"], "unexpected argument 'now'"),
        (["emulator", "--port", "65536"], "'65536' is not a port: use a number from 0 to 65535"),
        (["emulator", "--port", "http"], "'http' is not a port"),
        (["emulator", "--video-size", "1280x720"], "is not a 4:3 size such as 640x480"),
        (["emulator", "--video-size", "large"], "is not a 4:3 size"),
        (["emulator", "--video-size", "0x0"], "is not a 4:3 size"),
        (["emulator", "--video-size", "160000x120000"], "is not a 4:3 size"),
        (["emulator", "--plan", "gold"], "--plan: 'gold' is not one of free, explorer, growth, pro"),
        (["emulator", "--generation", "v1"], "--generation: 'v1' is not one of own-room, managed"),
        (["emulator", "--host", ""], "'' is not a host name or IP address"),
        (["emulator", "--allow-host", "emulator:8000"], "leave out scheme and port"),
        (["emulator", "--allow-host", "http://emulator"], "leave out scheme and port"),
        (["emulator", "--slots", "1.5"], "'1.5' is not a whole number above 0"),
        (["emulator", "--session-limit", "3h"], "'3h' is not a number of seconds above 0"),
    ],
)
def test_wrong_arguments(argv: list[str], sentence: str, capsys: pytest.CaptureFixture[str]):
    """A wrong argument is one sentence that says what is allowed, a second that names the help, and exit code 2."""
    assert sentence in refused(argv, capsys)


def refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        cli.main(argv)
    assert end.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    said, where = output.err.splitlines()
    assert said.startswith("agenthuman: ")
    assert where.startswith(
        f"See 'agenthuman {argv[0]}" if "unknown command" not in said else "See 'agenthuman"
    )
    assert where.endswith(" --help'.")
    return said


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["sesions", "list"], "unknown command 'sesions': did you mean 'sessions'?"),
        (["version"], "unknown command 'version': did you mean '--version'?"),
        (["help"], "unknown command 'help': did you mean '--help'?"),
        (["sessions", "lst"], "unknown command 'lst': did you mean 'list'?"),
        (["sessions", "explode"], "unknown command 'explode'"),
        (["sessions", "list", "--stauts", "all"], "unknown option '--stauts': did you mean '--status'?"),
        (["emulator", "clock", "--advanse=2h"], "unknown option '--advanse': did you mean '--advance'?"),
        (["usage", "--xyzzy"], "unknown option '--xyzzy'"),
        (["emulator", "--port", "8001", "helth"], "unknown command 'helth': did you mean 'health'?"),
        (["emulator", "--prot", "8010"], "unknown option '--prot': did you mean '--port'?"),
        (["emulator", "--prot", "8010", "clock"], "unknown option '--prot': did you mean '--port'?"),
        (["sessions", "get", "-x"], "unknown option '-x'"),
    ],
)
def test_what_was_meant_is_named(argv: list[str], sentence: str, capsys: pytest.CaptureFixture[str]):
    """A misspelt command or option is told with the one that is nearest, if any is near."""
    assert refused(argv, capsys) == f"agenthuman: {sentence}"


@pytest.mark.parametrize("argv", [[], ["sessions"], ["avatars"]], ids=" ".join)
def test_incomplete_command_shows_its_help(argv: list[str], capsys: pytest.CaptureFixture[str]):
    """Without an action there is the help, as with --help, and nothing failed."""
    assert cli.main(argv) == 0
    shown = capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main([*argv, "--help"])
    assert shown == capsys.readouterr().out
    assert shown.startswith(" ".join(["usage: agenthuman", *argv]))


@pytest.mark.parametrize("columns", [60, 80])
def test_help_has_examples_and_fits(columns: int, monkeypatch: pytest.MonkeyPatch):
    """Every help ends with examples, and none has a line that a terminal would break."""
    monkeypatch.setenv("COLUMNS", str(columns))
    for name, parser in _commands(_main._parser(), "agenthuman"):
        text = parser.format_help()
        wrapped, _, listed = text.partition(
            "\nenvironment:\n" if "\nenvironment:\n" in text else "\nexamples:\n"
        )
        assert max(map(len, wrapped.splitlines())) <= columns, name
        assert max(map(len, listed.splitlines())) <= 80, name  # to be copied, so never broken
        assert "\nexamples:\n  agenthuman " in text or name == "agenthuman completion", name


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["se"], ["sessions"]),
        (["sessions", ""], ["list", "get", "end", "reap"]),
        (["sessions", "list", "--"], ["--help", "--status", "--limit", "--json"]),
        (["sessions", "list", "--status", ""], ["all", "started", "ended"]),
        (["sessions", "list", "--limit", ""], []),
        (["sessions", "list", "--json", "--st"], ["--status"]),
        (["emulator", "--plan", "g"], ["growth"]),
        (["emulator", "--plan", "free", "c"], ["clock"]),
        (["sessions", "list", "--status=s"], ["--status=started"]),
        (["sessions", "list", "--status", "="], ["all", "started", "ended"]),
        (["sessions", "list", "--status", "=", "s"], ["started"]),
        (["completion", ""], ["bash", "fish", "zsh"]),
        (["avatars", "upload", ""], []),
    ],
    ids=" ".join,
)
def test_what_a_shell_may_complete(words: list[str], expected: list[str], capsys: pytest.CaptureFixture[str]):
    """Commands, options and known values; nothing where the shell should offer its files."""
    assert cli.main(["__complete", *words]) == 0
    assert capsys.readouterr().out.split() == expected


@pytest.mark.chain
def test_bash_completes(tmp_path: Path):
    """The printed script, run by bash, completes a command and leaves files to the shell."""
    command = tmp_path / "agenthuman"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m agenthuman_plugins "$@"\n')
    command.chmod(0o755)
    script = (
        'eval "$(agenthuman completion bash)"; complete -p agenthuman\n'
        "COMP_WORDS=(agenthuman sessions li); COMP_CWORD=2; _agenthuman; echo ${COMPREPLY[@]}\n"
        "COMP_WORDS=(agenthuman sessions list --status = e); COMP_CWORD=5; _agenthuman; echo ${COMPREPLY[@]}"
    )
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    shown = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert shown.stdout == "complete -o default -F _agenthuman agenthuman\nlist\nended\n"


@pytest.mark.chain
@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish on this system")
def test_fish_completes(tmp_path: Path):
    """The printed script, run by fish, completes commands, values, and files where nothing else is known."""
    command = tmp_path / "agenthuman"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m agenthuman_plugins "$@"\n')
    command.chmod(0o755)
    (tmp_path / "face.jpg").touch()
    lines = [
        "sessions li",
        "sessions list --status=e",
        "avatars upload fa",
        "demo --record=fa",
        "demo --record=no",
    ]
    script = "agenthuman completion fish | source\n" + "\n".join(
        f"echo (complete -C 'agenthuman {line}')" for line in lines
    )
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    shown = subprocess.run(
        ["fish", "--no-config", "-c", script],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.splitlines() == ["list", "--status=ended", "face.jpg", "--record=face.jpg", ""]


def failure(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(argv) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("agenthuman: ")
    assert output.err.count("\n") == 1, "one line"
    return output.err


def test_taken_port(capsys: pytest.CaptureFixture[str]):
    """A port in use is one sentence on standard error and exit code 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "Choose another port" in failure(["emulator", "--port", str(port)], capsys)


def test_foreign_address(capsys: pytest.CaptureFixture[str]):
    """An address that is not this machine's is named once, with the reason."""
    said = failure(["emulator", "--host", "192.0.2.1", "--port", "0"], capsys)
    assert said.count("192.0.2.1") == 1
    assert "Choose an address of this machine" in said


def test_loopback_only(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Without a usable network interface the command says so at once, instead of rooms that never connect."""
    monkeypatch.setattr(_proxy_rooms, "media_interface", lambda: None)
    assert "No network interface is up besides loopback" in failure(["emulator", "--port", "0"], capsys)


def test_missing_extra(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Without the packages of the extra the command names them and the way to install them."""
    monkeypatch.setattr(emulator, "find_spec", lambda name: None if name == "fastapi" else object())
    said = failure(["emulator"], capsys)
    assert "missing: fastapi" in said
    assert "pip install 'agenthuman-plugins[emulator]'" in said


def test_missing_module_names_the_extra(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """A package that a command cannot import is told with the extra that holds it."""
    demo = ModuleType("agenthuman_plugins.demo")
    demo.main = lambda _: __import__("no_such_package")
    monkeypatch.setitem(sys.modules, demo.__name__, demo)
    assert "pip install 'agenthuman-plugins[demo]'" in failure(["demo"], capsys)


def test_missing_module_of_ours_is_a_bug(monkeypatch: pytest.MonkeyPatch):
    """A missing module of the package itself is not blamed on an extra."""
    demo = ModuleType("agenthuman_plugins.demo")
    demo.main = lambda _: __import__("agenthuman_plugins.no_such_module")
    monkeypatch.setitem(sys.modules, demo.__name__, demo)
    with pytest.raises(ModuleNotFoundError):
        cli.main(["demo"])


def test_demo_gets_its_arguments(monkeypatch: pytest.MonkeyPatch):
    """`demo` hands its arguments to the demo and returns its exit code."""
    seen: list[argparse.Namespace] = []
    demo = ModuleType("agenthuman_plugins.demo")
    demo.main = lambda args: seen.append(args) or 3
    monkeypatch.setitem(sys.modules, demo.__name__, demo)
    words = [
        "demo",
        "--say",
        "Hi",
        "--say",
        "Ho",
        "--record",
        "out.mp4",
        "--interrupt-at",
        "4",
        "--port",
        "8080",
    ]
    assert cli.main(words) == 3
    assert (seen[0].say, seen[0].record, seen[0].port) == (["Hi", "Ho"], "out.mp4", 8080)
    assert seen[0].interrupt_at == [4.0]


def test_demo_in_the_browser_is_interrupted_there(capsys: pytest.CaptureFixture[str]):
    """A moment of a recording needs a recording."""
    assert cli.main(["demo", "--interrupt-at", "4"]) == 2
    assert "--interrupt-at needs --record" in capsys.readouterr().err


class RunningEmulator(NamedTuple):
    """The command in a process of its own, and what it told to export."""

    process: subprocess.Popen[str]
    exported: dict[str, str]

    def http(self) -> httpx.Client:
        headers = {"x-api-key": self.exported["AGENTHUMAN_API_KEY"]}
        url = self.exported["AGENTHUMAN_BASE_URL"]
        return httpx.Client(base_url=url, headers=headers, timeout=LIMIT_S, trust_env=False)


Start = Callable[..., RunningEmulator]


@pytest.fixture
def start_emulator() -> Iterator[Start]:
    """Starts the command, and waits until it serves; killed in the end if it still runs."""
    with contextlib.ExitStack() as stack:

        def start(*options: str, env: Mapping[str, str] = os.environ) -> RunningEmulator:
            command = [sys.executable, "-m", "agenthuman_plugins", "emulator", "--port", "0", *options]
            process = stack.enter_context(
                subprocess.Popen(
                    command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**env}
                )
            )
            stack.callback(process.kill)
            exported = {}
            while "Ctrl-C" not in (line := process.stdout.readline()):
                assert line, "it ended early"
                if line.strip().startswith("export "):
                    name, _, value = line.strip().removeprefix("export ").partition("=")
                    exported[name] = value
            return RunningEmulator(process, exported)

        yield start


@pytest.mark.chain
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_emulator_runs_until_it_is_told_to_stop(number: signal.Signals, start_emulator: Start):
    """The command prints what to export, serves with it, and on a signal ends cleanly with all its processes."""
    emulator = start_emulator()
    process, exported = emulator
    with emulator.http() as http:
        assert http.post("/v1/sessions", json=PROXY).status_code == 200
    family = children_of(psutil.Process(process.pid), 2)  # a room server and an avatar
    process.send_signal(number)
    output, errors = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, output.splitlines()[-1]) == (0, "Stopped.")
    assert "Traceback" not in errors
    assert exported["AGENTHUMAN_API_KEY"] not in errors
    assert still_alive(family) == []


@pytest.mark.chain
def test_emulator_leaves_the_proxies_of_the_environment_aside(start_emulator: Start):
    """Where the environment names proxies that lead nowhere, the avatar of a session comes up all the same."""
    emulator = start_emulator(env={**os.environ, **dead.SOCKS})
    limit = time.monotonic() + LIMIT_S
    with emulator.http() as http:
        assert http.post("/v1/sessions", json=PROXY).status_code == 200
        while (state := http.get("/emulator/sessions").json()["sessions"][0]["avatar_state"]) != "ready":
            assert state == "starting", state
            assert time.monotonic() < limit
            time.sleep(0.05)


@pytest.mark.chain
def test_emulator_with_a_key_that_is_known_before(start_emulator: Start):
    """`AGENTHUMAN_EMULATOR_KEY` is the key, for programs that start before the emulator has printed one."""
    emulator = start_emulator(env={**os.environ, "AGENTHUMAN_EMULATOR_KEY": "ah_test_known_before"})
    headers = {"x-api-key": "ah_test_known_before"}
    url = emulator.exported["AGENTHUMAN_BASE_URL"]
    assert httpx.get(f"{url}/v1/usage", headers=headers, trust_env=False).status_code == 200


@pytest.mark.chain
def test_emulator_without_rooms_of_its_own(start_emulator: Start):
    """`--no-proxy-rooms` serves the documented platforms alone."""
    emulator = start_emulator("--no-proxy-rooms")
    own_room = {"platform": "livekit", "url": "ws://127.0.0.1:9", "token": "token"}
    with emulator.http() as http:
        assert http.post("/v1/sessions", json=PROXY).status_code == 400
        assert http.post("/v1/sessions", json=PROXY | {"room": own_room}).status_code == 200


@pytest.mark.chain
def test_emulator_that_listens_to_others_says_what_is_open(start_emulator: Start):
    """One line on standard error; names that are allowed need no key, all others do."""
    process, exported = start_emulator("--host", "0.0.0.0", "--allow-host", "emulator", "--allow-host", "ah")
    url = exported["AGENTHUMAN_BASE_URL"].replace("0.0.0.0", "127.0.0.1")
    for name, status in (("emulator", 200), ("ah:1", 200), ("192.168.0.7", 200), ("evil.example", 400)):
        assert httpx.get(f"{url}/watch", headers={"host": name}, trust_env=False).status_code == status
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=LIMIT_S)
    [line] = errors.splitlines()
    assert line.startswith("agenthuman: With --host 0.0.0.0, everybody who reaches this machine can")


@pytest.mark.parametrize(
    ("host", "quiet"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False), ("192.168.1.5", False), ("my-machine", False)],
)  # fmt: skip
def test_addresses_that_only_this_machine_reaches(host: str, quiet: bool):
    """Nothing is said where nobody else can come in."""
    assert _emulator._is_loopback(host) is quiet


@pytest.mark.chain
def test_emulator_of_the_older_generation(start_emulator: Start):
    """`--generation managed` serves sessions that are created; it names no gateway, which each start does."""
    emulator = start_emulator("--generation", "managed")
    assert "AGENTHUMAN_GATEWAY_URL" not in emulator.exported
    with emulator.http() as http:
        session = http.post("/v1/sessions", json={"avatar_id": "avat_1"}).json()["session"]
        assert session["status"] == "created"


def _commands(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not inner or parser.get_default("run"):
        yield name, parser
    for action in inner:
        for word, command in action.choices.items():
            yield from _commands(command, f"{name} {word}")


def test_documentation_names_every_command_and_option():
    """`docs/how-to/cli.md` tells of all that there is."""
    page = (Path(__file__).parent.parent / "docs" / "how-to" / "cli.md").read_text()
    for name, parser in _commands(_main._parser(), "agenthuman"):
        assert f"`{name}" in page
        for action in parser._actions:
            for option in action.option_strings:
                assert option in {"-h", "--help"} or option in page, f"{name} {option}"
