"""Where LiveKit's client takes the token: past the proxies of the environment, after no redirect, to no plain address."""

import asyncio
import logging
import os
import subprocess
import sys

import pytest
from livekit import rtc

from agenthuman_plugins.client import ConfigurationError, SpeechLinkError, addresses
from agenthuman_plugins.speech import LiveKitSpeechLink, Reconnected, proxies
from tests.speech.scripted_avatar import ScriptedAvatar
from tests.speech.test_livekit import connected, next_event

NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


def seen_by_libraries(name: str) -> str | None:
    """The variable in the environment of the process, which LiveKit's client reads."""
    told = subprocess.run(
        [sys.executable, "-c", f"import os; print(os.getenv({name!r}))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return told.stdout.strip()


@pytest.fixture
def dead_proxies(monkeypatch):
    """Every variable that a proxy can be set with leads to an address where nobody listens."""
    for name in NAMES:
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")


@pytest.mark.chain
async def test_proxies_do_not_see_this_machine(room, monkeypatch):
    """LiveKit's client reads them at each attempt and knows no exception: joining and joining again pass them by."""
    async with ScriptedAvatar(room) as avatar:  # before the proxies are set: it is none of ours
        await avatar.show()
        for name in NAMES:
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        async with connected(room) as link:
            assert seen_by_libraries("HTTP_PROXY") == "http://127.0.0.1:1"
            await link._room.simulate_scenario(rtc.SimulateScenarioKind.SIMULATE_FULL_RECONNECT)
            assert await next_event(link, Reconnected)
            assert await link.send(b"\0\0" * 320) == 1
        assert seen_by_libraries("HTTP_PROXY") == "http://127.0.0.1:1"


@pytest.mark.chain
async def test_join_that_is_given_up_shows_the_proxies_again(dead_proxies):
    """Whatever becomes of a join, the rest of the program finds its proxies."""

    async def say_nothing(reader, writer):
        await reader.read()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        link = LiveKitSpeechLink(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", "a token")
        with pytest.raises(SpeechLinkError, match="No answer"):
            await link.connect(timeout_s=0.3)
    async with asyncio.timeout(30):
        while proxies._hidden_by:  # noqa: ASYNC110 - LiveKit's join ends when it likes
            await asyncio.sleep(0.05)
    assert os.environ["HTTP_PROXY"] == seen_by_libraries("HTTP_PROXY") == "http://127.0.0.1:1"


@pytest.mark.parametrize("name", NAMES)
def test_proxies_are_hidden_while_anybody_needs_it(name, dead_proxies):
    """From libraries alone: Python's own view of the environment stays."""
    first, second = object(), object()
    proxies.hide_proxies(first)
    proxies.hide_proxies(second)
    proxies.hide_proxies(second)
    assert seen_by_libraries(name) == "None"
    assert os.environ[name] == "http://127.0.0.1:1"
    proxies.show_proxies(first)
    assert seen_by_libraries(name) == "None"
    proxies.show_proxies(second)
    proxies.show_proxies(second)
    assert seen_by_libraries(name) == "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("room_server", "seen"),
    [
        ("ws://127.0.0.1:7880", "None"),
        ("ws://[::1]:7880", "None"),
        ("wss://localhost", "None"),
        ("wss://rooms.example", "http://127.0.0.1:1"),
        ("", "http://127.0.0.1:1"),
    ],
)
def test_proxies_are_hidden_for_rooms_on_this_machine(room_server, seen, dead_proxies):
    """Only there, and only as long as the room is used."""
    with proxies.direct_to(room_server):
        assert seen_by_libraries("HTTP_PROXY") == seen
    assert seen_by_libraries("HTTP_PROXY") == "http://127.0.0.1:1"


def test_proxy_that_was_unset_meanwhile_stays_so(dead_proxies, monkeypatch):
    """The program's latest word counts."""
    owner = object()
    proxies.hide_proxies(owner)
    monkeypatch.delenv("HTTP_PROXY")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:2")
    proxies.show_proxies(owner)
    assert seen_by_libraries("HTTP_PROXY") == "None"
    assert seen_by_libraries("ALL_PROXY") == "http://127.0.0.1:2"


async def test_proxies_are_for_other_machines(dead_proxies, monkeypatch):
    """A room elsewhere is reached the way that the environment says."""
    asked = asyncio.Event()

    async def take(reader, writer):
        asked.set()
        writer.close()

    async with await asyncio.start_server(take, "127.0.0.1", 0) as proxy:
        for name in NAMES:
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}")
        link = LiveKitSpeechLink("ws://emulator.example:7880", "a token")
        with pytest.raises(SpeechLinkError):
            await link.connect(timeout_s=2)
    assert asked.is_set()


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirect_is_not_followed(status):
    """The token is for the address that was given: what LiveKit's client asks elsewhere is without it."""
    elsewhere_asked, here_asked = [], []
    token = "a-token-4711"

    async def note(reader, writer):
        elsewhere_asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    async with await asyncio.start_server(note, "127.0.0.1", 0) as elsewhere:
        port = elsewhere.sockets[0].getsockname()[1]

        async def redirect(reader, writer):
            request = await reader.readuntil(b"\r\n\r\n")
            here_asked.append(request)
            location = f"http://127.0.0.1:{port}{request.split()[1].decode()}"
            writer.write(
                f"HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
            )
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(redirect, "127.0.0.1", 0) as server:
            link = LiveKitSpeechLink(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", token)
            with pytest.raises(SpeechLinkError):
                await link.connect(timeout_s=5)
    assert any(token.encode() in request for request in here_asked)  # so it would be seen
    assert not [request for request in elsewhere_asked if token.encode() in request]
    # None of those is a connection: all that they can get is the text of an error.
    assert not [request for request in elsewhere_asked if b"upgrade" in request.lower()]


@pytest.mark.parametrize(
    "url",
    ["ws://agenthuman.com", "ws://rooms.agenthuman.com:7880", "http://rooms.agenthuman.com", "ws://[::1"],
)
def test_unsafe_url(url):
    """The public service is reached by TLS alone, and what is no address is told as such."""
    with pytest.raises(ConfigurationError, match="The LiveKit url must"):
        LiveKitSpeechLink(url, "a token")


def test_plain_address_elsewhere_is_warned_about_once(caplog, monkeypatch):
    """A room server in another container can be used."""
    monkeypatch.setattr(addresses, "_warned", set())
    for _ in range(2):
        LiveKitSpeechLink("ws://livekit:7880", "a token 4711")
    for url in ("ws://127.0.0.1:7880", "ws://localhost:7880", "wss://rooms.agenthuman.com"):
        LiveKitSpeechLink(url, "a token 4711")
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "livekit" in warning.getMessage()
    assert "4711" not in caplog.text
