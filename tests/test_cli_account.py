"""The commands that ask the service, against a scripted one on loopback that answers with the documented bodies."""

import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from agenthuman_plugins import cli
from agenthuman_plugins.cli import _installed, _output
from agenthuman_plugins.cli._account import explained
from agenthuman_plugins.client import AgentHuman, AgentHumanError, _owner
from agenthuman_plugins.client._answers import HINTS
from tests.vcr_support import emulators

CONTRACT = Path(__file__).parent / "contract"
KEY = "ah_test_seeded-key-000000000000000000"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(200_000)
TIMES = {"started_at": "2024-01-15T10:30:00Z", "expiration": "2024-01-15T10:35:00Z"}
# No process has this id: it is above every limit of the kernel (PID_MAX_LIMIT, 2^22).
DEAD_PID = 2**22 + 1


def documented(name: str) -> Any:
    return json.loads((CONTRACT / f"{name}.json").read_text())


def session(number: int, **fields: Any) -> dict[str, Any]:
    return {"session_id": f"sess_{number}", "status": "started", "metadata": {}, **TIMES, **fields}


def marked(pid: int) -> dict[str, str]:
    """Metadata of a session that a process of this machine opened."""
    return {"client_owner": f"{_owner._host()}:{_owner._machine()}:{pid}:1"}


class Service:
    """Answers by method and path; what it does not know is a 404."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Any]] = {}
        self.log: list[str] = []

    def answer(self, request: str, body: Any, status: int = 200) -> None:
        self.answers[request] = (status, body)

    def sessions(self, *running: dict[str, Any]) -> None:
        self.answer("GET /v1/sessions", {"success": True, "sessions": list(running)})
        for each in running:
            ended = {"success": True, "session": {**each, "status": "ended"}}
            self.answer(f"POST /v1/sessions/{each['session_id']}/end", ended)


def _handler(service: Service) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            request = f"{self.command} {self.path.partition('?')[0]}"
            service.log.append(request)
            unknown = (404, {"success": False, "error": {"message": "Not\n\x1b[31mfound", "suggestion": ""}})
            status, body = service.answers.get(request, unknown)
            if self.headers.get("x-api-key") != KEY:
                status, body = 401, documented("error-auth-401")
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815 - names of http.server

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """A service that the command finds through the environment, as in life."""
    scripted = Service()
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(scripted)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("AGENTHUMAN_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AGENTHUMAN_API_KEY", KEY)
        yield scripted
        server.shutdown()
        thread.join()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must succeed, and return what it printed."""

    def succeed(*argv: str) -> str:
        code = cli.main(argv)
        output = capsys.readouterr()
        assert (code, output.err) == (0, "")
        return output.out

    return succeed


@pytest.fixture
def fail(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must fail, and return its one sentence."""

    def refuse(*argv: str) -> str:
        assert cli.main(argv) == 1
        output = capsys.readouterr()
        assert output.out == ""
        assert output.err.startswith("agenthuman: ")
        assert output.err.count("\n") == 1, "one line"
        assert output.err.rstrip("\n").isprintable(), "nothing that a terminal obeys"
        return output.err

    return refuse


def test_sessions_list(service: Service, run: Callable[..., str]) -> None:
    """A person gets one line a session: how long ago it began, its duration, and what it cost."""
    billing = {"minutes_consumed": 6, "minutes_billed": 6, "billing_status": "billed"}
    service.sessions(
        session(1, duration=62), session(2, status="ended", ended_at=TIMES["expiration"], billing=billing)
    )
    heading, running, ended = run("sessions", "list").splitlines()
    assert heading.split()[0] == "SESSION"
    assert re.fullmatch(r"sess_1 started \d+ d ago 0:01:02 -", " ".join(running.split()))
    assert re.fullmatch(r"sess_2 ended \d+ d ago - 6", " ".join(ended.split()))


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0 s ago"), (59.9, "59 s ago"), (60, "1 min ago"), (7_199, "1 h ago"), (90_000, "1 d ago"), (-5, "in 5 s"), (-14_400, "in 4 h")],
)  # fmt: skip
def test_distance_in_time(seconds: float, shown: str) -> None:
    """A point in time is told by how far it is, in the largest unit that fits."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert _output.distance(now - timedelta(seconds=seconds), now) == shown


REAL_ID = "sess_01M7ZYR1PK909RFKV41J60KW2E"


def on_a_terminal_of(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "dumb")


def test_sessions_fit_a_terminal(
    service: Service, run: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 80 columns a session is one line, nothing of it broken."""
    on_a_terminal_of(80, monkeypatch)
    service.sessions(session(1, duration=3_662) | {"session_id": REAL_ID})
    heading, line = run("sessions", "list").splitlines()
    assert heading.split() == ["SESSION", "STATUS", "STARTED", "DURATION", "MINUTES"]
    assert line.split()[:2] == [REAL_ID, "started"]
    assert max(len(heading), len(line)) <= 80


def test_sessions_show_what_each_used(service: Service, run: Callable[..., str]) -> None:
    """The minutes of a session are those it used, whether the plan included them or they were purchased."""
    service.sessions(session(1) | {"billing": {"minutes_consumed": 7, "minutes_billed": 0}})
    assert run("sessions", "list").split()[-1] == "7"


def test_sessions_on_a_narrow_terminal(
    service: Service, run: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a table does not fit, each session is a record, one fact a line."""
    on_a_terminal_of(60, monkeypatch)
    service.sessions(*(session(number) | {"session_id": f"{REAL_ID}{number}"} for number in (1, 2)))
    first, second = run("sessions", "list").split("\n\n")
    assert first.splitlines()[:2] == [f"SESSION    {REAL_ID}1", "STATUS     started"]
    assert second.startswith(f"SESSION    {REAL_ID}2\n")


def test_sessions_can_be_limited_to_the_newest(service: Service, run: Callable[..., str]) -> None:
    """--limit shows those that began last, and how many there are."""
    begun = {1: "2024-01-15T10:30:00Z", 2: None, 3: "2024-03-01T00:00:00Z", 4: "2024-02-01T00:00:00Z"}
    service.sessions(*(session(number, started_at=start) for number, start in begun.items()))
    lines = run("sessions", "list", "--limit", "2").splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["sess_3", "sess_4"]
    assert lines[-1] == "2 of 4 sessions, the newest first."
    told = json.loads(run("sessions", "list", "--limit", "3", "--json"))
    assert [each["session_id"] for each in told] == ["sess_3", "sess_4", "sess_1"]
    assert "newest" not in run("sessions", "list", "--limit", "4")


def test_long_ids_are_not_cut(
    service: Service, run: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table in a pipe is as wide as it must be, whatever the terminal."""
    monkeypatch.setenv("COLUMNS", "30")
    service.sessions(session(10**60))
    assert f"sess_{10**60} " in run("sessions", "list")


def test_no_sessions(service: Service, run: Callable[..., str]) -> None:
    """An empty list is said, not shown as an empty table."""
    service.sessions()
    assert run("sessions", "list") == "No sessions.\n"
    assert run("sessions", "list", "--status", "started") == "No sessions with status 'started'.\n"
    assert json.loads(run("sessions", "list", "--json")) == []


def test_json_is_for_programs(service: Service, run: Callable[..., str]) -> None:
    """`--json` prints the fields of the models, the same ones for every session, and no token."""
    service.sessions(session(1, session_token="seeded-session-token", other_token="seeded-other-token"))
    output = run("sessions", "list", "--json")
    (told,) = json.loads(output)
    assert told["session_id"] == "sess_1"
    assert told["started_at"] == "2024-01-15T10:30:00Z"
    assert told["billing"] is None
    assert "seeded" not in output


def test_session_get(service: Service, run: Callable[..., str]) -> None:
    """One session is shown with all that there is to know, but no token."""
    service.answer("GET /v1/sessions/sess_1", documented("session-get-managed"))
    output = run("sessions", "get", "sess_1")
    assert "0:05:30" in output
    assert '"user_name": "John Doe"' in output
    assert "eyJ" not in output + run("sessions", "get", "sess_1", "--json")


def test_session_end(service: Service, run: Callable[..., str]) -> None:
    """Ending says which session ended."""
    service.sessions(session(1))
    assert run("sessions", "end", "sess_1") == "Ended sess_1.\n"
    assert json.loads(run("sessions", "end", "sess_1", "--json"))["status"] == "ended"


class Terminal(io.StringIO):
    """What a person types, or sees."""

    def isatty(self) -> bool:
        return True


def at_a_terminal(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)


def ended(service: Service) -> list[str]:
    """Ids of the sessions that were ended, in order."""
    return [request.split("/")[3] for request in service.log if request.endswith("/end")]


def test_sessions_end_takes_several_ids(service: Service, run: Callable[..., str]) -> None:
    """Each id that is named is ended, and told."""
    service.sessions(session(1), session(2), session(3))
    assert run("sessions", "end", "sess_1", "sess_3") == "Ended sess_1.\nEnded sess_3.\n"
    assert ended(service) == ["sess_1", "sess_3"]
    answer = json.loads(run("sessions", "end", "sess_1", "sess_3", "--json"))
    assert [each["session_id"] for each in answer["sessions"]] == ["sess_1", "sess_3"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--all"], [1, 2, 3, 4]),
        (["--metadata", "customer=42"], [1, 2, 3]),
        (["--metadata", "customer=42", "--metadata", "tier=gold"], [1, 2]),
        (["--metadata", "customer=42", "--older-than", "30m"], [2, 3]),
        (["--all", "--older-than", "1h"], [3]),
        (["--older-than", "1d"], []),
        (["--metadata", "customer=4"], []),
        (["--metadata", "trial=true"], [3]),
        (["--metadata", "trial=1"], []),
        (["--metadata", "formula=a=b"], [4]),
    ],
)
def test_sessions_end_chooses_by_all_options(
    options: list[str], expected: list[int], service: Service, run: Callable[..., str]
) -> None:
    """The running sessions that match every option are listed, then ended, and no other."""
    service.sessions(
        session(1, duration=60, metadata={"customer": "42", "tier": "gold"}),
        session(2, duration=3_599, metadata={"customer": "42", "tier": "gold"}),
        session(3, duration=3_600, metadata={"customer": 42, "trial": True}),
        session(4, duration=0, metadata={"formula": "a=b"}),
    )
    lines = run("sessions", "end", *options, "--yes").splitlines()
    names = [f"sess_{number}" for number in expected]
    assert ended(service) == names
    listed = ["SESSION", *names] if names else ["No"]
    assert [line.split()[0] for line in lines] == [*listed, *["Ended"] * len(names)]


def test_age_of_a_session_without_a_duration(service: Service, run: Callable[..., str]) -> None:
    """The start counts where the service tells no duration; a session of unknown age is no old one."""
    service.sessions(session(1, duration=None), session(2, duration=None, started_at=None))
    run("sessions", "end", "--older-than", "1d", "--yes")
    assert ended(service) == ["sess_1"]


def test_metadata_that_the_list_leaves_out(service: Service, run: Callable[..., str]) -> None:
    """Where the list carries no metadata, each session is read before it is judged."""
    service.sessions(session(1), session(2))
    for number, customer in ((1, "42"), (2, "43")):
        one = session(number, metadata={"customer": customer})
        service.answer(f"GET /v1/sessions/sess_{number}", {"success": True, "session": one})
    run("sessions", "end", "--metadata", "customer=42", "--yes")
    assert ended(service) == ["sess_1"]


def test_session_that_cannot_be_judged(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    """One whose metadata cannot be read is not ended, and is named in the end."""
    service.sessions(session(1), session(2, metadata={"customer": "42"}))
    assert cli.main(["sessions", "end", "--metadata", "customer=42", "--yes"]) == 1
    assert ended(service) == ["sess_2"]
    assert "1 session could not be ended. sess_1: " in capsys.readouterr().err


def test_sessions_end_goes_on_after_a_failure(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    """One that cannot be ended does not keep the others open; it is named in the end, with exit code 1."""
    service.sessions(session(1), session(2), session(3))
    del service.answers["POST /v1/sessions/sess_2/end"]
    assert cli.main(["sessions", "end", "--all", "--yes"]) == 1
    output = capsys.readouterr()
    assert list(dict.fromkeys(ended(service))) == ["sess_1", "sess_2", "sess_3"]
    assert output.out.endswith("Ended sess_1.\nEnded sess_3.\n")
    assert output.err.startswith("agenthuman: 1 session could not be ended. sess_2: ")
    assert (output.err.count("\n"), output.err.rstrip("\n").isprintable()) == (1, True)
    assert cli.main(["sessions", "end", "--all", "--yes", "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert [each["session_id"] for each in answer["sessions"]] == ["sess_1", "sess_3"]
    assert list(answer["failed"]) == ["sess_2"]


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_sessions_end_without_anybody_to_ask(
    more: list[str], service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a terminal and --yes the list is shown, and nothing ended: one sentence, exit code 2."""
    service.sessions(session(1), session(2))
    assert cli.main(["sessions", "end", "--all", *more]) == 2
    output = capsys.readouterr()
    assert "sess_1" in output.out
    assert output.err == "agenthuman: To end these 2 sessions without a question, add --yes.\n"
    assert ended(service) == []
    if more:
        assert json.loads(output.out)["ended"] is False


@pytest.mark.parametrize("answer", ["y\n", "YES\n"])
def test_sessions_end_asks_a_person(
    answer: str, service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a terminal a person sees the list, then the question, and yes ends them."""
    service.sessions(session(1))
    at_a_terminal(answer, monkeypatch)
    assert cli.main(["sessions", "end", "--all"]) == 0
    output = capsys.readouterr().out
    assert output.index("sess_1") < output.index("End this session? [y/N]") < output.index("Ended sess_1.")


@pytest.mark.parametrize("answer", ["n\n", "\n", "", "yeah\n"])
def test_person_says_no(
    answer: str, service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Any other answer, and the end of the input, ends nothing."""
    service.sessions(session(1))
    at_a_terminal(answer, monkeypatch)
    assert cli.main(["sessions", "end", "--all"]) == 1
    assert capsys.readouterr().err == "agenthuman: Nothing was ended.\n"
    assert ended(service) == []


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ([], "Which sessions? Name their ids, or use --all, --metadata or --older-than."),
        (["sess_1", "--all"], "Name the sessions to end, or choose them by options, but not both."),
        (["--older-than", "2"], "'2' is not a length of time such as 90s, 30m, 2h or 1d"),
        (["--older-than", "-2h"], "--older-than"),
        (["--metadata", "customer"], "'customer' is not KEY=VALUE"),
        (["--metadata", "=42"], "'=42' is not KEY=VALUE"),
    ],
)
def test_wrong_choice_of_sessions(
    argv: list[str], sentence: str, service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    """What makes no sense is told with exit code 2, and nothing is asked of the service."""
    try:
        code: Any = cli.main(["sessions", "end", *argv])
    except SystemExit as end:  # from argparse
        code = end.code
    assert (code, service.log) == (2, [])
    assert sentence in capsys.readouterr().err


def test_ids_are_printed_without_control_characters(service: Service, run: Callable[..., str]) -> None:
    """A terminal obeys control characters, and a service may send any."""
    ring = session(1) | {"session_id": "sess_\x1b[31m1\x07"}
    service.answer("POST /v1/sessions/sess_1/end", {"success": True, "session": ring})
    service.answer(
        "POST /v1/avatars/upload-face", documented("avatar-uploaded") | {"avatar_id": "avat_\x1b;1"}
    )
    for argv in (("sessions", "end", "sess_1"), ("avatars", "upload", "https://example.com/face.png")):
        output = run(*argv)
        assert output.replace("\n", "").isprintable()
    assert "export AGENTHUMAN_AVATAR='avat_ ;1'" in output


# What a list may hold beside a session that is one.
ODD_ENTRIES = {
    "null": None,
    "number": 7,
    "list": [],
    "empty": {},
    "empty-id": {"session_id": ""},
    "number-id": session(1) | {"session_id": 7},
    "dots": session(1) | {"session_id": ".."},
    "slash": session(1) | {"session_id": "a/../b"},
    "escape": session(1) | {"session_id": "sess_\x1b[31m\x07\x7f"},
    "bidi": session(1) | {"session_id": "sess_\u202e1\u2066\u200f"},
    "shell": session(1) | {"session_id": "sess_$(reboot);1"},
    "surrogate": session(1) | {"session_id": "sess_\ud800"},
    "long-id": session(1) | {"session_id": "s" * 5_000},
    "metadata-list": session(2, metadata=[1]),
    "metadata-deep": session(2, metadata={"a": json.loads("[" * 300 + "]" * 300)}),
    "metadata-surrogate": session(2, metadata={"\ud800": "\udfff"}),
    "unknown-field": session(2) | {"new": {"\ud800": json.loads("[" * 300 + "]" * 300)}},
    "owner-of-another-kind": session(2, metadata={"client_owner": ["x"]}),
    "owner-with-a-huge-pid": session(2, metadata={"client_owner": marked(DEAD_PID)["client_owner"].replace(str(DEAD_PID), "9" * 5_000)}),
    "owner-with-a-large-pid": session(2, metadata={"client_owner": marked(10**19)["client_owner"]}),
    "long-ago": session(2, started_at="0001-01-01T00:00:00+14:00", expiration="9999-12-31T23:59:59-14:00"),
    "for-ever": session(2, duration=1e300),
    "status": session(2, status="started\x1b[2J"),
    "billing": session(2, billing={"minutes_billed": 10**400, "minutes_consumed": 1e308, "billing_status": "\u202e"}),
}  # fmt: skip


@pytest.mark.parametrize("odd", ODD_ENTRIES)
def test_odd_entry_of_a_list_fails_no_command(
    odd: str, service: Service, run: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever else is in the list, the sessions that are ones are shown, reaped and diagnosed."""
    dead = session(5, metadata=marked(DEAD_PID))
    service.answer("GET /v1/sessions", {"success": True, "sessions": [ODD_ENTRIES[odd], dead]})
    service.answer("POST /v1/sessions/sess_5/end", {"success": True, "session": dead})
    service.answer("GET /v1/usage", documented("usage-summary"))
    for argv in (("list",), ("list", "--json"), ("reap",), ("reap", "--json"), ("reap", "--yes")):
        output = run("sessions", *argv)
        assert "sess_5" in output
        assert output.replace("\n", "").isprintable()
    assert service.log.count("POST /v1/sessions/sess_5/end") == 1
    for argv in (("doctor",), ("doctor", "--json")):
        assert cli.main(argv) == 1
        output = capsys.readouterr().out
        assert "their processes are dead: sess_5" in output
        assert output.replace("\n", "").isprintable()


def test_ids_are_quoted_for_a_shell(service: Service, run: Callable[..., str]) -> None:
    """An id is there to be copied into the next command, which must not do more than it says."""
    service.sessions(session(1) | {"session_id": "sess_$(reboot)"})
    assert "'sess_$(reboot)'" in run("sessions", "list")
    avatar = {"avatar_id": "avat_;reboot", "preview_url": "", "image_url": ""}
    service.answer("GET /v1/avatars", {"success": True, "public_avatars": [avatar], "my_avatars": []})
    assert "'avat_;reboot'" in run("avatars", "list")


def test_reap_lists_first(service: Service, run: Callable[..., str]) -> None:
    """Without --yes nothing is ended, and the output says how to."""
    service.sessions(session(1, metadata=marked(DEAD_PID)), session(2))
    output = run("sessions", "reap")
    assert "sess_1" in output
    assert "sess_2" not in output
    assert "To end 1 session, add --yes." in output
    assert json.loads(run("sessions", "reap", "--json"))["ended"] is False
    assert not any(request.startswith("POST") for request in service.log)


def test_reap_ends_with_yes(service: Service, run: Callable[..., str]) -> None:
    """With --yes the sessions of dead processes are ended, and no other."""
    service.sessions(session(1, metadata=marked(DEAD_PID)), session(2), session(3, metadata=marked(DEAD_PID)))
    assert "Ended 2 sessions." in run("sessions", "reap", "--yes")
    ended = [request for request in service.log if request.startswith("POST")]
    assert sorted(ended) == ["POST /v1/sessions/sess_1/end", "POST /v1/sessions/sess_3/end"]


def test_reap_of_a_named_owner(service: Service, run: Callable[..., str]) -> None:
    """--owner ends the sessions of exactly that owner."""
    service.sessions(session(1, metadata={"client_owner": "kiosk-7"}), session(2, metadata=marked(DEAD_PID)))
    answer = json.loads(run("sessions", "reap", "--owner", "kiosk-7", "--yes", "--json"))
    assert answer["ended"] is True
    assert [each["session_id"] for each in answer["sessions"]] == ["sess_1"]


def test_nothing_to_reap(service: Service, run: Callable[..., str]) -> None:
    """Nothing left open is a success."""
    service.sessions(session(1))
    assert run("sessions", "reap", "--yes") == "No session is left open.\n"


def test_avatars_list(service: Service, run: Callable[..., str]) -> None:
    """Avatars are listed with whose they are, the account's own first."""
    service.answer("GET /v1/avatars", documented("avatar-list-own-room"))
    _, mine, public = run("avatars", "list").splitlines()
    assert mine.split()[:2] == ["avat_01J8ZK4R2N5M6P7Q8W4T", "yours"]
    assert public.split() == ["PUBLIC/Avatars/sara-office", "public", "female,", "professional"]
    told = json.loads(run("avatars", "list", "--json"))
    assert told["my_avatars"][0]["avatar_id"] == "avat_01J8ZK4R2N5M6P7Q8W4T"


AVATAR = "avat_01KMZHXFPBVCXA5ATK85HCP8G1"


@pytest.fixture
def deletable(service: Service) -> Service:
    """A service with an avatar that can be deleted."""
    service.answer(f"DELETE /v1/avatars/{AVATAR}", documented("avatar-deleted"))
    return service


def test_avatar_delete(deletable: Service, run: Callable[..., str]) -> None:
    """With --yes an avatar is deleted without a question."""
    assert run("avatars", "delete", AVATAR, "--yes") == f"Deleted avatar {AVATAR}.\n"
    assert json.loads(run("avatars", "delete", AVATAR, "--yes", "--json")) == {"deleted": AVATAR}


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 1), ("", 1)])
def test_avatar_delete_asks_a_person(
    answer: str,
    code: int,
    deletable: Service,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It cannot be undone, so anything but yes leaves the avatar."""
    at_a_terminal(answer, monkeypatch)
    assert cli.main(["avatars", "delete", AVATAR]) == code
    assert f"Delete avatar {AVATAR} for good? [y/N]" in capsys.readouterr().out
    assert len(deletable.log) == (1 if code == 0 else 0)


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_avatar_delete_without_anybody_to_ask(
    more: list[str], deletable: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a terminal and --yes nothing is deleted: one sentence, exit code 2."""
    assert cli.main(["avatars", "delete", AVATAR, *more]) == 2
    assert capsys.readouterr().err == "agenthuman: To delete an avatar without a question, add --yes.\n"
    assert deletable.log == []


def test_avatar_upload(service: Service, run: Callable[..., str], tmp_path: Path) -> None:
    """A file or an address becomes an avatar, and the output says how to use it."""
    service.answer("POST /v1/avatars/upload-face", documented("avatar-uploaded"))
    picture = tmp_path / "face.png"
    picture.write_bytes(PNG)
    for source in (str(picture), "https://example.com/face.png"):
        assert "export AGENTHUMAN_AVATAR=avat_01KMZHXFPBVCXA5ATK85HCP8G1" in run("avatars", "upload", source)
    told = json.loads(run("avatars", "upload", str(picture), "--json"))
    assert told["avatar_id"] == "avat_01KMZHXFPBVCXA5ATK85HCP8G1"


def test_upload_shows_progress_to_people(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a terminal a bar on standard error tells how far the upload is; standard output holds the result alone."""
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    service.answer("POST /v1/avatars/upload-face", documented("avatar-uploaded"))
    picture = tmp_path / "face.png"
    picture.write_bytes(PNG)
    monkeypatch.setattr(sys, "stderr", terminal)
    assert cli.main(["avatars", "upload", str(picture)]) == 0
    assert "Looking for the face" in terminal.getvalue()
    assert "100%" in terminal.getvalue()
    assert capsys.readouterr().out.startswith("Made avatar avat_")


def test_usage(service: Service, run: Callable[..., str]) -> None:
    """Usage names plan, minutes and running sessions."""
    service.answer("GET /v1/usage", documented("usage-summary"))
    facts = dict(line.strip().split("   ", 1) for line in run("usage").splitlines())
    facts = {name.strip(): fact.strip() for name, fact in facts.items()}
    assert facts["plan"] == "Pro"
    assert facts["minutes left"] == "145"
    assert facts["included"] == "45 of 120"
    assert facts["sessions running"] == "1 of 20"
    assert json.loads(run("usage", "--json"))["total_remaining"] == 145


@pytest.mark.parametrize(
    "argv",
    [
        ["sessions", "get", "sess_9"],
        ["sessions", "end", "sess_9"],
        ["sessions", "list"],
        ["sessions", "reap", "--yes"],
        ["avatars", "list"],
        ["avatars", "delete", "avat_9", "--yes"],
        ["usage", "--json"],
    ],
    ids=" ".join,
)
def test_refusal_is_one_sentence(argv: list[str], service: Service, fail: Callable[..., str]) -> None:
    """What the service refuses is one sentence without control characters, and exit code 1."""
    assert "found" in fail(*argv)


def test_wrong_key_is_one_sentence(
    service: Service, fail: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong key is one sentence that does not hold it."""
    monkeypatch.setenv("AGENTHUMAN_API_KEY", "ah_test_wrong-key-1111111111111111111")
    assert "1111" not in fail("sessions", "list")


def test_no_key(fail: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key the command names the variable, and a way that needs none; it says nothing of arguments in code."""
    monkeypatch.delenv("AGENTHUMAN_API_KEY", raising=False)
    told = fail("usage")
    assert "set AGENTHUMAN_API_KEY. Without an account, `agenthuman emulator`" in told
    assert "api_key" not in told


def test_sentence_is_broken_for_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal a long sentence comes in lines that fit, no word broken."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.delenv("AGENTHUMAN_API_KEY", raising=False)
    assert cli.main(["usage"]) == 1
    lines = screen.getvalue().splitlines()
    assert len(lines) > 1
    assert max(map(len, lines)) <= 40


def test_owner_that_is_none(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty owner, as of a variable that is not set, reaps nothing."""
    assert cli.main(["sessions", "reap", "--owner", " ", "--yes"]) == 2
    assert "--owner needs the whole client_owner" in capsys.readouterr().err
    assert service.log == []


def test_missing_file(service: Service, fail: Callable[..., str]) -> None:
    """A picture that is not there is named, and nothing is sent."""
    assert "no-such-face.png" in fail("avatars", "upload", "no-such-face.png")
    assert service.log == []


def test_json_needs_no_extra(
    service: Service, run: Callable[..., str], fail: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without rich, programs are served, and people are told what to install."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich", None)
    service.sessions(session(1))
    assert len(json.loads(run("sessions", "list", "--json"))) == 1
    assert "pip install 'agenthuman-plugins[cli]'" in fail("sessions", "list")


@pytest.mark.chain
def test_reader_that_is_gone() -> None:
    """`agenthuman ... | head` ends quietly, with the code of a broken pipe."""
    command = [sys.executable, "-m", "agenthuman_plugins", "doctor"]
    environment = {name: value for name, value in os.environ.items() if name != "AGENTHUMAN_API_KEY"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        errors = process.stderr.read()
        assert (process.wait(timeout=30), errors) == (141, b"")


def diagnose(capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, dict[str, Any]]]:
    code = cli.main(["doctor", "--json"])
    return code, {finding["check"]: finding for finding in json.loads(capsys.readouterr().out)}


def problems(findings: dict[str, dict[str, Any]]) -> list[str]:
    found = [finding for finding in findings.values() if finding["state"] == "problem"]
    assert all(finding["fix"] for finding in found), "a problem without a fix"
    return [finding["check"] for finding in found]


def test_doctor_finds_nothing(service: Service, run: Callable[..., str]) -> None:
    """With all in order the doctor tells versions, plan and free sessions, and exits with 0."""
    service.answer("GET /v1/usage", documented("usage-summary"))
    service.sessions()
    output = run("doctor")
    for text in (
        "Python 3.",
        "httpx ",
        "accepted",
        "Pro, 145 minutes left",
        "19 of 20 free",
        "No problem found.",
    ):
        assert text in output
    assert KEY not in output


def test_doctor_fits(service: Service, run: Callable[..., str]) -> None:
    """No line is longer than 100 characters, however many packages are installed."""
    service.answer("GET /v1/usage", documented("usage-summary"))
    service.sessions()
    assert max(map(len, run("doctor").splitlines())) <= 100


def test_quiet_doctor(service: Service, run: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    """--quiet shows problems alone: nothing if there is none."""
    service.answer("GET /v1/usage", documented("usage-summary"))
    service.sessions()
    assert run("doctor", "--quiet") == ""
    service.sessions(session(1, metadata=marked(DEAD_PID)))
    assert cli.main(["doctor", "--quiet"]) == 1
    problem, fix = capsys.readouterr().out.splitlines()
    assert problem.startswith("problem   left open")
    assert "agenthuman sessions reap --yes" in fix


def test_doctor_names_every_problem_of_the_account(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    """No minutes, no free session, and sessions of dead processes are problems, each with its fix."""
    usage = documented("usage-summary")
    usage["usage"] |= {"total_remaining": 0, "concurrency": {"current": 1, "max": 1, "available": 0}}
    service.answer("GET /v1/usage", usage)
    service.sessions(session(1, metadata=marked(DEAD_PID)))
    code, findings = diagnose(capsys)
    assert code == 1
    assert problems(findings) == ["plan", "sessions", "left open"]
    assert "sess_1" in findings["left open"]["found"]
    assert not any(request.startswith("POST") for request in service.log)


def test_doctor_without_a_key(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing key is a problem with a way out that needs none."""
    monkeypatch.delenv("AGENTHUMAN_API_KEY", raising=False)
    code, findings = diagnose(capsys)
    assert (code, problems(findings)) == (1, ["settings"])
    assert "agenthuman emulator" in findings["settings"]["fix"]


def test_doctor_with_a_wrong_key(
    service: Service, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that answers 401 is there; the key is the problem."""
    monkeypatch.setenv("AGENTHUMAN_API_KEY", "ah_test_wrong-key-1111111111111111111")
    code, findings = diagnose(capsys)
    assert (code, problems(findings)) == (1, ["key"])
    assert findings["service"]["state"] == "ok"


def test_doctor_without_a_service(
    service: Service, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address where nobody listens is a problem, told with the address."""
    monkeypatch.setenv("AGENTHUMAN_BASE_URL", "http://127.0.0.1:9")
    code, findings = diagnose(capsys)
    assert (code, problems(findings)) == (1, ["service"])
    assert "http://127.0.0.1:9" in findings["service"]["found"]
    assert "agenthuman emulator" in findings["service"]["fix"]


@pytest.mark.parametrize(
    ("address", "variable", "told"),
    [
        ("https://service.invalid", "HTTPS_PROXY", "HTTPS_PROXY"),
        ("https://service.invalid", "all_proxy", "all_proxy"),
        ("http://service.invalid", "HTTP_PROXY", "HTTP_PROXY"),
        ("http://service.invalid", None, "an emulator runs"),
        ("https://service.invalid", None, "check the network"),
        ("http://127.0.0.1:9", "HTTP_PROXY", "agenthuman emulator"),
    ],
)
def test_doctor_says_what_is_in_the_way(
    address: str,
    variable: str | None,
    told: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A service that is not reached: the proxy on the way is named by its variable, and no other is spoken of."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("AGENTHUMAN_API_KEY", KEY)
    monkeypatch.setenv("AGENTHUMAN_BASE_URL", address)
    if variable is not None:
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    code, findings = diagnose(capsys)
    assert (code, problems(findings)) == (1, ["service"])
    assert told in findings["service"]["fix"]
    assert ("PROXY" in findings["service"]["fix"].upper()) == ("proxy" in told.lower())


@pytest.mark.parametrize(
    ("variable", "value", "check"),
    [("AGENTHUMAN_LOG", "verbose", "settings"), ("AGENTHUMAN_GATEWAY_URL", "nonsense", "gateway")],
)
def test_doctor_names_a_variable_that_makes_no_sense(
    variable: str,
    value: str,
    check: str,
    service: Service,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A variable with a wrong value is a problem; another service is no way around it."""
    service.answer("GET /v1/usage", documented("usage-summary"))
    service.sessions()
    monkeypatch.setenv(variable, value)
    code, findings = diagnose(capsys)
    assert (code, problems(findings)) == (1, [check])
    assert variable in findings[check]["found"]
    assert "emulator" not in findings[check]["fix"]


def test_doctor_without_the_extra_for_speech_leaves_the_gateway_alone(
    service: Service, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing reads AGENTHUMAN_GATEWAY_URL, it is not judged."""
    service.answer("GET /v1/usage", documented("usage-summary"))
    service.sessions()
    monkeypatch.setenv("AGENTHUMAN_GATEWAY_URL", "nonsense")
    monkeypatch.setitem(sys.modules, "agenthuman_plugins.speech._gateway_wire", None)
    assert diagnose(capsys)[0] == 0


def test_doctor_at_a_wrong_address(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    """Something that answers, but is not the service, is a problem of the address."""
    code, findings = diagnose(capsys)
    assert (code, problems(findings)) == (1, ["service"])
    assert "AGENTHUMAN_BASE_URL" in findings["service"]["fix"]


def test_extras_are_told_by_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each requirement counts once for its extra, in every way that metadata writes it."""
    wanted = [
        "httpx<1,>=0.27",
        "rich<16,>=13; extra == 'cli'",
        'pydantic[email]>=2; (python_version >= "3.11") and extra == "face"',
        'no-such-package>=1; extra == "face"',
        'no-such-package[more]>=1; extra == "face"',
    ]
    monkeypatch.setattr(_installed, "requires", lambda _: wanted)
    core, cli_extra, face = _installed.extras()
    assert (core.name, [*core.versions], core.missing) == ("core", ["httpx"], [])
    assert (cli_extra.name, [*cli_extra.versions], cli_extra.missing) == ("cli", ["rich"], [])
    assert (face.name, [*face.versions], face.missing) == ("face", ["pydantic"], ["no-such-package"])


def test_doctor_tells_missing_extras_as_notes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What only some need is a note with the command that installs it, not a problem."""
    monkeypatch.setattr(_installed, "requires", lambda _: ['no-such-package>=1; extra == "face"'])
    monkeypatch.delenv("AGENTHUMAN_API_KEY", raising=False)
    _, findings = diagnose(capsys)
    assert findings["face"]["state"] == "note"
    assert "pip install 'agenthuman-plugins[face]'" in findings["face"]["fix"]
    assert problems(findings) == ["settings"]


def test_every_command_on_the_emulator(
    run: Callable[..., str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commands and the emulator understand each other, from the first look to the end of what was left open."""
    with emulators() as start:
        emulator = start(plan="explorer", sweep=False, expiry=False)
        monkeypatch.setenv("AGENTHUMAN_BASE_URL", emulator.url)
        monkeypatch.setenv("AGENTHUMAN_API_KEY", emulator.api_key)
        with AgentHuman() as client:
            mine = client.sessions.create(metadata={"order": 7}).session_id
            left = client.sessions.create(metadata=marked(DEAD_PID)).session_id

        assert mine in run("sessions", "list", "--status", "started")
        assert mine in run("sessions", "get", mine)
        assert "2 of 5" in run("usage")
        assert "PUBLIC/" in run("avatars", "list")
        made = run("avatars", "upload", str(CONTRACT.parent / "client" / "face.jpg")).split()[2].rstrip(".")
        assert run("avatars", "delete", made, "--yes") == f"Deleted avatar {made}.\n"
        code, findings = diagnose(capsys)
        assert (code, problems(findings)) == (1, ["left open"])
        assert "Ended 1 session." in run("sessions", "reap", "--yes")
        assert "No running session matches." in run(
            "sessions", "end", "--metadata", "order=7", "--older-than", "1h", "--yes"
        )
        assert run("sessions", "end", "--metadata", "order=7", "--older-than", "0s", "--yes").endswith(
            f"Ended {mine}.\n"
        )
        assert run("sessions", "end", mine) == f"Ended {mine}.\n"
        assert diagnose(capsys)[0] == 0
        assert {session["session_id"] for session in emulator.sessions()} == {mine, left}
        assert {session["ended_by"] for session in emulator.sessions()} == {"caller"}


@pytest.mark.chain
def test_reader_of_a_table_that_is_gone(service: Service) -> None:
    """A table into `head` ends as quietly, with the same code."""
    service.sessions(session(1))
    command = [sys.executable, "-m", "agenthuman_plugins", "sessions", "list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        errors = process.stderr.read()
        assert (process.wait(timeout=30), errors) == (141, b"")


@pytest.mark.chain
def test_full_disk(service: Service) -> None:
    """What cannot be written is one sentence."""
    service.sessions(session(1))
    command = [sys.executable, "-m", "agenthuman_plugins", "sessions", "list"]
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=30, check=False
        )
    assert (result.returncode, result.stderr) == (1, "agenthuman: [Errno 28] No space left on device\n")


@pytest.mark.parametrize("closed", ["stdin", "stdout", "stderr"])
def test_closed_streams(service: Service, monkeypatch: pytest.MonkeyPatch, closed: str) -> None:
    """A caller that closes the standard streams, such as a service manager, gets the exit code all the same."""
    service.sessions(session(1))
    monkeypatch.setattr(sys, closed, None)
    assert cli.main(["sessions", "list"]) == 0
    assert cli.main(["sessions", "end", "--all"]) == 2, "there is nobody to ask"
    getattr(sys, closed).close()


def test_encoding_that_lacks_a_character(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the output's encoding lacks a character, a question mark stands for it."""
    service.sessions(session(1, status="läuft"))
    output = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(output, encoding="ascii"))
    assert cli.main(["sessions", "list"]) == 0
    assert b"l?uft" in output.getvalue()


@pytest.mark.parametrize("hint", HINTS.values())
def test_advice_is_for_the_command_line(hint: str) -> None:
    """What the client advises to a program is told as a person at a shell can do it."""
    assert not re.search(r"argument|\w\(", explained(AgentHumanError(hint)))


def test_refused_key_names_the_variable_alone(service: Service, fail: Callable[..., str]) -> None:
    """A refused key is looked for where the command has it from."""
    refused = (401, {"success": False, "error": {"message": "Invalid API key."}})
    service.answers["GET /v1/usage"] = refused
    assert "Check AGENTHUMAN_API_KEY." in fail("usage")
    service.answers["POST /v1/sessions/sess_1/end"] = service.answers["POST /v1/sessions/sess_2/end"] = (
        refused
    )
    assert "argument" not in fail("sessions", "end", "sess_1", "sess_2")
