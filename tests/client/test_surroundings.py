"""Proxies of the environment, odd addresses, forks, several event loops, and what crosses the network in clear."""

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from agenthuman_plugins import cli
from agenthuman_plugins.client import (
    AgentHuman,
    APIStatusError,
    AsyncAgentHuman,
    ConfigurationError,
    addresses,
)
from agenthuman_plugins.client._config import Clock
from tests.client.conftest import API_KEY, ROOM
from tests.client.wires import KINDS, Request, Wire, empty, hurried, reply, use_own, wire

LIMIT_S = 30.0  # hang limit only
CLIENTS = [AgentHuman, AsyncAgentHuman]
DEAD = "http://127.0.0.1:9"  # the port of `discard`; nobody listens

# --- proxies


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"])
def test_what_is_meant_for_this_machine_passes_no_proxy(
    variable: str, host: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy of the environment neither sees nor breaks a call to this machine."""
    monkeypatch.setenv(variable, DEAD)
    with wire(empty, host="::1" if host == "[::1]" else "127.0.0.1") as server:
        assert use_own(kind, lambda c: c.sessions.list(), base_url=f"http://{host}:{server.port}") == []


@pytest.mark.parametrize("kind", KINDS)
def test_another_host_is_reached_through_the_proxy(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has a proxy in the environment gets it, for every host that is not this machine."""
    with wire(empty) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        assert use_own(kind, lambda c: c.sessions.list(), base_url="http://emulator.test:1") == []
    assert proxy.log == ["GET http://emulator.test:1/v1/sessions?status=all"]


PROXIES = [
    pytest.param({"ALL_PROXY": "socks://127.0.0.1:1080"}, "ALL_PROXY", id="socks"),
    pytest.param({"all_proxy": "socks4://127.0.0.1:1080"}, "all_proxy", id="socks4-lower-case"),
    pytest.param({"HTTPS_PROXY": "ftp://user:seeded@127.0.0.1"}, "HTTPS_PROXY", id="ftp"),
    pytest.param({"HTTP_PROXY": "http://[::1"}, "HTTP_PROXY", id="half-a-bracket"),
    pytest.param({"HTTPS_PROXY": "socks5://127.0.0.1:1080"}, "HTTPS_PROXY", id="socks5-not-installed"),
    pytest.param({"HTTP_PROXY": DEAD, "NO_PROXY": "[::1]"}, "NO_PROXY", id="bracketed-no-proxy"),
    pytest.param(
        {"http_proxy": "127.0.0.1:9", "no_proxy": "a,[fe80::1]"}, "no_proxy", id="proxy-without-scheme"
    ),
    pytest.param({"HTTP_PROXY": DEAD, "ALL_PROXY": "socks://x"}, "ALL_PROXY", id="second-of-two"),
]


@pytest.mark.parametrize("cls", CLIENTS)
@pytest.mark.parametrize(("variables", "culprit"), PROXIES)
def test_proxy_that_cannot_be_read_is_named(
    variables: dict[str, str], culprit: str, cls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy variable that httpx cannot read is one error at construction, with its name and without its value."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=rf"^{culprit} cannot be used: ") as caught:
        cls(api_key=API_KEY)
    assert not any(value in str(caught.value) for value in variables.values())
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(("variables", "culprit"), PROXIES)
def test_doctor_names_the_proxy(
    variables: dict[str, str],
    culprit: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`agenthuman doctor` shows what is wrong with a proxy variable as a finding."""
    monkeypatch.setenv("AGENTHUMAN_API_KEY", API_KEY)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cli.main(["doctor"]) == 1
    assert f"{culprit} cannot be used" in capsys.readouterr().out


@pytest.mark.parametrize("cls", CLIENTS)
def test_proxy_that_cannot_be_read_does_not_matter_for_this_machine(
    cls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The emulator can be used whatever the environment says about proxies."""
    monkeypatch.setenv("ALL_PROXY", "socks://127.0.0.1:1080")
    cls(api_key=API_KEY, base_url="http://127.0.0.1:8000")


# --- addresses

ADDRESSES = [
    pytest.param("https://api.example.com/\tv1", "a tab", id="tab"),
    pytest.param("https://api example.com", "a blank", id="blank"),
    pytest.param("https://api.example.com\x00", "control character", id="nul"),
    pytest.param("https://xn--a-\u00fc.example.com", "host", id="bad-punycode"),
    pytest.param("https://xn--zzzzzzzzz.example.com", "host", id="punycode-of-nothing"),
    pytest.param("https://a..example.com", "host", id="empty-label"),
    pytest.param(f"https://{'a' * 64}.example.com", "host", id="long-label"),
    pytest.param("https://[::1", "host or port", id="half-a-bracket"),
    pytest.param("https://[nonsense]", "host or port", id="no-ipv6"),
    pytest.param("https://", "no host", id="no-host"),
    pytest.param("https:///v1", "no host", id="path-only"),
    pytest.param("https://api.example.com?key=seeded", "no query", id="query"),
    pytest.param("https://api.example.com?", "no query", id="empty-query"),
    pytest.param("https://api.example.com#seeded", "no fragment", id="fragment"),
    pytest.param("https://user:seeded@api.example.com", "no user", id="user"),
    pytest.param("https://@api.example.com", "no user", id="empty-user"),
    pytest.param("https://api.example.com:0", "port 0", id="port-zero"),
    pytest.param("https://api.example.com:65536", "host or port", id="port-too-high"),
    pytest.param("https://api.example.com:http", "host or port", id="port-by-name"),
    pytest.param("api.example.com", "does not begin with https://", id="no-scheme"),
    pytest.param("wss://api.example.com", "does not begin with https://", id="other-scheme"),
    pytest.param("https://api.example.com/v1/", "leave out the /v1 at its end", id="version"),
]


@pytest.mark.parametrize("cls", CLIENTS)
@pytest.mark.parametrize(("address", "part"), [*ADDRESSES, pytest.param("", "empty", id="empty")])
def test_odd_address_is_named_by_its_part(address: str, part: str, cls: Any) -> None:
    """An address that cannot be meant is one error at construction, which names the part and not the address."""
    with pytest.raises(ConfigurationError, match=rf"base_url .*{part}") as caught:
        cls(api_key=API_KEY, base_url=address)
    assert "seeded" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(("address", "part"), [each for each in ADDRESSES if each.id != "nul"])
def test_doctor_names_the_part_of_an_odd_address(
    address: str, part: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`agenthuman doctor` shows an odd AGENTHUMAN_BASE_URL as a finding, with the part that is wrong."""
    monkeypatch.setenv("AGENTHUMAN_API_KEY", API_KEY)
    monkeypatch.setenv("AGENTHUMAN_BASE_URL", address)
    assert cli.main(["doctor"]) == 1
    shown = " ".join(capsys.readouterr().out.split())  # it is broken into lines
    assert part in shown
    assert "AGENTHUMAN_BASE_URL" in shown
    assert "seeded" not in shown


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({}, "set AGENTHUMAN_API_KEY"),
        ({"AGENTHUMAN_API_KEY": ""}, "AGENTHUMAN_API_KEY is set but empty"),
        ({"AGENTHUMAN_API_KEY": "seeded key"}, "AGENTHUMAN_API_KEY holds blanks"),
        ({"AGENTHUMAN_LOG": "loud"}, "AGENTHUMAN_LOG must be info or debug"),
        ({"AGENTHUMAN_BASE_URL": "http://api.agenthuman.com"}, "AGENTHUMAN_BASE_URL must be https://"),
        ({"AGENTHUMAN_BASE_URL": DEAD}, "refused"),
    ],
    ids=["no-key", "empty-key", "odd-key", "log", "in-clear", "nobody-there"],
)
def test_doctor_says_what_is_wrong(
    variables: dict[str, str],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each misconfiguration is a finding of `agenthuman doctor`: one sentence, no traceback, no secret."""
    for name, value in ({"AGENTHUMAN_API_KEY": API_KEY} | variables if variables else {}).items():
        monkeypatch.setenv(name, value)
    assert cli.main(["doctor"]) == 1
    shown = capsys.readouterr()
    assert sentence in " ".join(shown.out.split())
    assert "Traceback" not in shown.out + shown.err
    assert "seeded" not in shown.out + shown.err


def test_empty_address_in_the_environment_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is set to nothing, as compose files do, is as good as unset."""
    monkeypatch.setenv("AGENTHUMAN_BASE_URL", " ")
    assert repr(AgentHuman(api_key=API_KEY)) == "AgentHuman(host='api.agenthuman.com')"


@pytest.mark.parametrize("cls", CLIENTS)
@pytest.mark.parametrize(
    "host", ["agenthuman.com", "api.agenthuman.com", "API.AgentHuman.COM.", "eu.api.agenthuman.com:80"]
)
def test_key_never_goes_to_the_public_service_in_clear(host: str, cls: Any) -> None:
    """Without TLS the public service is refused at construction."""
    with pytest.raises(ConfigurationError, match="must be https://"):
        cls(api_key=API_KEY, base_url=f"http://{host}")


@pytest.mark.parametrize("cls", CLIENTS)
def test_another_host_without_tls_is_one_warning(
    cls: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An emulator in another container may be reached without TLS; the log says once what that means."""
    monkeypatch.setattr(addresses, "_warned", set())
    for _ in range(2):
        cls(api_key=API_KEY, base_url="http://emulator:8000")
        cls(api_key=API_KEY, base_url="http://127.0.0.1:8000")
    assert caplog.text.count("without TLS") == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("own", [True, False], ids=["own-pool", "given-client"])
def test_redirect_is_not_followed(status: int, kind: str, *, own: bool) -> None:
    """A redirect is an error; no request with the key, or a room's token, goes where it points."""
    with wire(empty) as other:

        def away(_: Request, __: Any) -> bytes:
            return reply(b"", status=status, headers={"location": other.url})

        with wire(away) as server:
            run = use_own if own else use_given
            with pytest.raises(APIStatusError) as caught:
                run(kind, lambda c: c.sessions.create(room=ROOM), base_url=server.url)
    assert caught.value.status_code == status
    assert len(server.requests) == 1
    assert other.requests == []


def use_given(kind: str, use: Callable[[Any], Any], **options: Any) -> Any:
    """Return `use(client)` over an HTTP client of the caller's, which follows redirects."""
    if kind == "sync":
        with httpx.Client(follow_redirects=True, trust_env=False) as http:
            return use_own(kind, use, http_client=http, **options)
    given = httpx.AsyncClient(follow_redirects=True, trust_env=False)

    async def closing(c: Any) -> Any:
        async with given:
            return await use(c)

    return use_own(kind, closing, http_client=given, **options)


# --- forks

FORKED = """
import asyncio, os, ssl, sys, warnings
import httpx
from agenthuman_plugins.client import AgentHuman, AsyncAgentHuman, ConfigurationError

warnings.simplefilter("ignore")  # Python 3.12 warns of forks beside threads
kind, given, url = sys.argv[1:]

def made():
    if kind == "sync":
        return AgentHuman(api_key="seeded-key", base_url=url, http_client=httpx.Client() if given == "given" else None)
    http = httpx.AsyncClient() if given == "given" else None
    return AsyncAgentHuman(api_key="seeded-key", base_url=url, http_client=http)

def say(client, name):
    async def ask():
        return await client.sessions.get(name)
    try:
        got = client.sessions.get(name) if kind == "sync" else asyncio.run(ask())
    except ConfigurationError as error:
        os.write(1, f"{name} {error}\\n".encode())  # whole, beside those of others
    else:
        os.write(1, f"{name} {got.session_id}\\n".encode())

class Locked(ssl.SSLContext):
    def __new__(cls, *_):
        raise RuntimeError("OpenSSL may be locked for good")

client = made()
say(client, "parent")
children = []
for number in range(3):
    pid = os.fork()
    if not pid:
        ssl.SSLContext = Locked
        say(client, f"child-{number}")
        os._exit(0)
    children.append(pid)
for pid in children:
    os.waitpid(pid, 0)
if kind == "sync":
    say(client, "again")
"""


def echo(request: Request, _: Any) -> bytes:
    """Answers a get of a session with what was asked for."""
    name = request.line.split()[1].rpartition("/")[2]
    return reply({"success": True, "session": {"session_id": name, "status": "started"}})


def forked(kind: str, given: str) -> dict[str, str]:
    """What parent and children of the script were answered."""
    with wire(echo) as server:
        done = subprocess.run(
            [sys.executable, "-c", FORKED, kind, given, server.url],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        said = dict(line.split(" ", 1) for line in done.stdout.splitlines())
        assert given == "given" or server.connections == 4  # one of each process, used again by none
    assert done.stderr == ""
    return said


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("kind", KINDS)
def test_forked_client_makes_itself_a_new_pool(kind: str) -> None:
    """Parent and children get answers over connections of their own; what is trusted is made once, before the fork.

    A thread that was ending at the fork may have left a lock of OpenSSL's held in the child.
    """
    names = ["parent", "child-0", "child-1", "child-2", *(["again"] if kind == "sync" else [])]
    assert forked(kind, "own") == {name: name for name in names}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("kind", KINDS)
def test_given_http_client_serves_one_process(kind: str) -> None:
    """A forked process must not use connections that its parent uses; it is told so in one error."""
    said = forked(kind, "given")
    assert said["parent"] == "parent"
    for number in range(3):
        assert "in a forked process pass another one" in said[f"child-{number}"]


IN_A_BLOCK = """
import os, sys, time, warnings
from agenthuman_plugins.client import AgentHuman

warnings.simplefilter("ignore")
first, url = sys.argv[1:]
parent = os.getpid()
with AgentHuman(api_key="seeded-key", base_url=url).sessions.open():
    pid = os.fork()
    if not pid:
        while first == "parent" and os.getppid() == parent:
            time.sleep(0.01)
        sys.exit()
    if first == "parent":
        os._exit(0)
    os.waitpid(pid, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("first", ["child", "parent"])
def test_session_of_a_block_is_ended_once_by_whoever_is_left(first: str) -> None:
    """A child that was forked inside a block leaves the session to its parent, unless that has gone without ending it."""
    ends: list[str] = []

    def answer(request: Request, _: Any) -> bytes:
        if request.line.split()[1].endswith("/end"):
            ends.append(request.line)
        return reply({"success": True, "session": {"session_id": "sess_1", "status": "started"}})

    with wire(answer) as server:
        program = [sys.executable, "-c", IN_A_BLOCK, first, server.url]
        subprocess.run(
            program, stdout=subprocess.PIPE, check=True, timeout=30
        )  # the pipe closes after the child
    assert len(ends) == 1


# --- event loops


@pytest.fixture
def server() -> Iterator[Wire]:
    with wire(empty) as server:
        yield server


@pytest.fixture
def _no_warnings_of_old_loops() -> Iterator[None]:
    """A loop that was closed without `aclose` leaves sockets, which Python closes with a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


@pytest.mark.usefixtures("_no_warnings_of_old_loops")
def test_async_client_serves_one_loop_after_another(server: Wire) -> None:
    """A client that was used in a loop that has ended works in the next one, with new connections."""
    client = AsyncAgentHuman(api_key=API_KEY, base_url=server.url, _clock=hurried())
    for _ in range(3):
        assert asyncio.run(client.sessions.list()) == []
    asyncio.run(client.aclose())
    assert server.connections == 3
    assert len(client._driver._pools._pools) <= 1


class Loop:
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(LIMIT_S)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(LIMIT_S)
        self._loop.close()


@pytest.fixture
def loops() -> Iterator[list[Loop]]:
    loops = [Loop(), Loop()]
    yield loops
    for loop in loops:
        loop.close()


def test_async_client_serves_loops_side_by_side(server: Wire, loops: list[Loop]) -> None:
    """Two loops on two threads share a client, and each has its own pool; closing closes both, each in its loop."""
    client = AsyncAgentHuman(api_key=API_KEY, base_url=server.url, _clock=hurried())
    for _ in range(2):
        for loop in loops:
            assert loop.run(client.sessions.list()) == []
    assert server.connections == 2
    pools = dict(client._driver._pools._pools)
    closed_in: list[object] = []
    for pool in pools.values():
        close = pool.aclose

        async def noted(close: Any = close) -> None:
            closed_in.append(asyncio.get_running_loop())
            await close()

        pool.aclose = noted  # type: ignore[method-assign]
    loops[0].run(client.aclose())
    assert set(closed_in) == set(pools)
    assert all(pool.is_closed for pool in pools.values())


def test_given_http_client_serves_one_loop(server: Wire, loops: list[Loop]) -> None:
    """A second loop must not use connections of the first; it is told so in one error, before anything is sent."""
    given = httpx.AsyncClient(trust_env=False)
    client = AsyncAgentHuman(api_key=API_KEY, base_url=server.url, http_client=given, _clock=hurried())
    assert loops[0].run(client.sessions.list()) == []
    with pytest.raises(ConfigurationError, match="in another event loop pass another one"):
        loops[1].run(client.sessions.create(room=ROOM))
    loops[0].run(given.aclose())
    assert server.log == ["GET /v1/sessions?status=all"]


async def test_making_an_async_client_does_not_block_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificates that are trusted are read in a thread, at the first call, and once."""
    threads: list[int] = []
    make = httpx.create_ssl_context

    def noted(*args: Any, **kwargs: Any) -> Any:
        threads.append(threading.get_ident())
        return make(*args, **kwargs)

    monkeypatch.setattr(httpx, "create_ssl_context", noted)
    AsyncAgentHuman(api_key=API_KEY)  # reads what is read once in a process
    took = []
    for _ in range(5):
        begin = time.perf_counter()
        client = AsyncAgentHuman(
            api_key=API_KEY, base_url="https://localhost:9", max_retries=0, _clock=Clock()
        )
        took.append(time.perf_counter() - begin)
    assert min(took) < 0.01
    assert threads == []
    async with client:
        answers = await asyncio.gather(*(client.sessions.list() for _ in range(3)), return_exceptions=True)
    assert len(answers) == 3
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()
