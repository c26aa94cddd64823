"""Which room server is taken, what its tokens say, and that none outlives its program."""

import asyncio
import os
import signal
import socket
import stat
import sys
from pathlib import Path

import jwt
import psutil
import pytest

from agenthuman_plugins.client.errors import ConfigurationError
from agenthuman_plugins.emulator.process import ChildError
from agenthuman_plugins.emulator.rooms import RoomServer, media_interface
from tests.emulator.room_server.conftest import need_livekit_server

_PROGRAM = """
import asyncio, sys
from agenthuman_plugins.emulator.rooms import RoomServer

async def main():
    server = await RoomServer.start(sys.argv[1])
    print(server.url, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
SECRET = "a-secret-of-the-environment-0123456789"


@pytest.fixture
def no_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An environment that names no server; the folder is all of PATH."""
    for name in ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def program(folder: Path, text: str) -> None:
    path = folder / "livekit-server"
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


async def test_server_of_the_environment_comes_first(
    no_server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With LIVEKIT_URL set nothing is started, and tokens are signed with its key."""
    program(no_server, "#!/bin/sh\n")
    monkeypatch.setenv("LIVEKIT_URL", "wss://rooms.example")
    monkeypatch.setenv("LIVEKIT_API_KEY", "APIenv")
    monkeypatch.setenv("LIVEKIT_API_SECRET", SECRET)
    async with await RoomServer.start() as server:
        assert (server.url, server.kind, server.running) == ("wss://rooms.example", "url", True)
        claims = jwt.decode(server.mint(room="r", identity="me"), SECRET, ["HS256"])
    assert claims["iss"] == "APIenv"
    assert SECRET not in repr(server)


async def test_key_of_the_environment_is_needed(no_server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LIVEKIT_URL alone is an error that names what is missing, not a reason to start another server."""
    monkeypatch.setenv("LIVEKIT_URL", "wss://rooms.example")
    with pytest.raises(ConfigurationError, match="LIVEKIT_API_KEY is not set"):
        await RoomServer.start()


async def test_missing_binary_is_one_sentence(no_server: Path) -> None:
    """Who asks for a real server that is not there is told how to get it."""
    with pytest.raises(ConfigurationError, match="make livekit-server"):
        await RoomServer.start("livekit-server")


async def test_unknown_kind_is_refused() -> None:
    """The error lists the kinds."""
    with pytest.raises(
        ConfigurationError, match="'cloud': expected one of auto, url, livekit-server, embedded"
    ):
        await RoomServer.start("cloud")


@pytest.mark.chain
async def test_server_that_ends_at_once_is_an_error(no_server: Path) -> None:
    """A broken livekit-server is reported with its exit code."""
    program(no_server, "#!/bin/sh\nexit 3\n")
    with pytest.raises(ChildError, match="livekit-server ended with code 3"):
        await RoomServer.start("auto")


async def test_token_says_what_was_asked(no_server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room, identity, kind, attributes and grants are in the token, and it runs out."""
    monkeypatch.setenv("LIVEKIT_URL", "wss://rooms.example")
    monkeypatch.setenv("LIVEKIT_API_KEY", "APIenv")
    monkeypatch.setenv("LIVEKIT_API_SECRET", SECRET)
    server = await RoomServer.start("url")
    token = server.mint(
        room="r",
        identity="me",
        name="Me",
        kind="agent",
        attributes={"a": "b"},
        grants={"canPublish": False},
        ttl_s=60,
    )
    claims = jwt.decode(token, SECRET, ["HS256"])
    assert claims["exp"] - claims["nbf"] == 60
    assert (claims["sub"], claims["name"], claims["kind"], claims["attributes"]) == (
        "me",
        "Me",
        "agent",
        {"a": "b"},
    )
    assert claims["video"] == {
        "roomJoin": True,
        "room": "r",
        "canUpdateOwnMetadata": True,
        "canPublish": False,
    }


def test_media_interface_is_no_loopback() -> None:
    """The address is one of this machine's, and not a loopback one."""
    addresses = {
        address.address
        for interface in psutil.net_if_addrs().values()
        for address in interface
        if address.family == 2
    }
    found = media_interface()
    assert found is None or (found in addresses and not found.startswith("127."))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system's choice of a route decides")
def test_loopback_alone_is_no_media_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing but loopback there is none."""
    monkeypatch.setattr(socket, "if_nameindex", lambda: [(1, "lo")])
    assert media_interface() is None


@pytest.mark.chain
@pytest.mark.asyncio(loop_scope="package")
async def test_no_process_outlives_a_killed_program(room_server: RoomServer) -> None:
    """After `kill -9` of the program that started it, a room server ends by itself, of whatever kind."""
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PROGRAM, room_server.kind, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(30):
            assert (await program.stdout.readline()).startswith(b"ws://127.0.0.1:")
        children = psutil.Process(program.pid).children(recursive=True)
        assert len(children) == (2 if room_server.kind == "livekit-server" else 1)
    finally:
        program.send_signal(signal.SIGKILL)
        await program.wait()
    _, alive = await asyncio.to_thread(psutil.wait_procs, children, timeout=15)
    assert not alive


@pytest.mark.chain
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
async def test_real_server_does_not_outlive_its_killed_owner() -> None:
    """Even if the process between us and livekit-server is killed, the server ends."""
    need_livekit_server()
    async with await RoomServer.start("livekit-server") as server:
        owner = psutil.Process(server._child.pid)
        (binary,) = owner.children()
        owner.kill()
        _, alive = await asyncio.to_thread(psutil.wait_procs, [binary], timeout=15)
        assert not alive


@pytest.mark.chain
@pytest.mark.asyncio(loop_scope="package")
async def test_key_is_on_no_command_line(room_server: RoomServer) -> None:
    """Other users of the machine can read command lines; the secret is in none."""
    secret = room_server._api_secret
    for process in psutil.Process(os.getpid()).children(recursive=True):
        assert secret not in " ".join(process.cmdline())
