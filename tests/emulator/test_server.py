"""The emulator as a whole, over real HTTP; without media unless a test says otherwise."""

import errno
import signal
import socket
import subprocess
import sys

import httpx
import psutil
import pytest

from agenthuman_plugins.emulator import Emulator, EmulatorError, LimitError
from agenthuman_plugins.emulator.process import Child, ChildError
from tests.contract.bodies import load as documented
from tests.emulator.conftest import FakeClock, until

LIMIT_S = 20.0  # hang limit
PROXY = {"avatar": "avat_1", "room": {"platform": "proxy"}}


def client(url: str, api_key: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, headers={"x-api-key": api_key}, trust_env=False, timeout=LIMIT_S)


async def test_serves_until_left():
    """Inside the context the service answers on its own free port; afterwards nobody listens there."""
    async with Emulator(media=False) as emulator, client(emulator.url, emulator.api_key) as http:
        assert emulator.api_key.startswith("ah_test_")
        created = (await http.post("/v1/sessions", json=PROXY)).json()["session"]
        assert [session["session_id"] for session in emulator.sessions()] == [created["session_id"]]
        assert await emulator.wait_ready() == "none"
    async with client(emulator.url, emulator.api_key) as http:
        with pytest.raises(httpx.ConnectError):
            await http.get("/v1/sessions")


async def test_open_session_stays_on_record():
    """A session that its caller left open shows as a leak after the emulator has stopped."""
    async with Emulator(media=False) as emulator, client(emulator.url, emulator.api_key) as http:
        await http.post("/v1/sessions", json=PROXY)
    assert [(s["status"], s["ended_by"]) for s in emulator.sessions()] == [("started", None)]


def test_what_pictures_need_is_loaded_with_the_first_one():
    """OpenCV, Pillow and numpy take 30 MB, and most emulators never see a picture."""
    look = "import sys; import agenthuman_plugins.emulator._server; print({'cv2', 'PIL', 'numpy'} & {*sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", look], capture_output=True, check=True, text=True).stdout
    assert loaded == "set()\n"


async def test_expiry_comes_by_itself(clock: FakeClock):
    """The running emulator ends a session when its time is over, without being asked."""
    async with Emulator(media=False, clock=clock) as emulator, client(emulator.url, emulator.api_key) as http:
        await http.post("/v1/sessions", json=PROXY)
        clock.advance(hours=4)
        assert await until(lambda: emulator.sessions()[0]["ended_by"]) == "expiry"


async def test_slots_and_session_limit_can_be_given(clock: FakeClock):
    """An emulator may allow another number of sessions than its plan, and end them after another time."""
    async with (
        Emulator(media=False, clock=clock, slots=2, session_limit_s=30) as emulator,
        client(emulator.url, emulator.api_key) as http,
    ):
        answers = [await http.post("/v1/sessions", json=PROXY) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 403]
        session = answers[0].json()["session"]
        assert (session["started_at"], session["expiration"]) == (
            "2024-01-15T10:30:00Z",
            "2024-01-15T10:30:30Z",
        )
        clock.advance(seconds=30)
        assert await until(lambda: emulator.sessions()[0]["ended_by"]) == "expiry"


async def test_signal_handlers_are_left_alone():
    """A library takes no signal handler."""
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    async with Emulator(media=False):
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


async def test_taken_port_is_one_sentence():
    """A port in use is an error that says what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EmulatorError, match=f"port {port}: it is in use. Choose another port"):
            await Emulator(media=False, port=port).__aenter__()


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (OSError(errno.EACCES, "Permission denied"), "Choose a port above 1023"),
        (
            OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address"),
            "Choose an address of this machine",
        ),
        (socket.gaierror(-2, "Name or service not known"), "Choose an address of this machine"),
    ],
)
async def test_address_that_cannot_be_used(error: OSError, advice: str, monkeypatch: pytest.MonkeyPatch):
    """Every reason why an address cannot be listened on is an error that says what to do."""

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(socket, "create_server", refuse)
    with pytest.raises(EmulatorError, match=advice):
        await Emulator(media=False).__aenter__()


def test_unknown_plan_is_one_sentence():
    """A plan that does not exist is an error that names the plans."""
    with pytest.raises(EmulatorError, match="choose one of free, explorer, growth, pro"):
        Emulator(plan="gold")


async def test_bill_of_purchased_minutes(clock: FakeClock):
    """The documented bill: of 45 minutes the plan includes 30, and 15 come from purchased ones."""
    async with (
        Emulator(media=False, clock=clock, sweep=False, minutes=30, purchased_minutes=100) as emulator,
        client(emulator.url, emulator.api_key) as http,
    ):
        session = (await http.post("/v1/sessions", json=PROXY)).json()["session"]
        path = f"/v1/sessions/{session['session_id']}"
        clock.advance(minutes=45)
        await http.post(f"{path}/end")
        billing = (await http.get(path)).json()["session"]["billing"]
        usage = (await http.get("/v1/usage")).json()["usage"]
    assert billing == documented("session-schema-ended-own-room")["billing"]
    assert usage["purchased_minutes"] == {"total": 100, "remaining": 85}


async def test_refusal_of_a_limit_can_be_given():
    """Each limit's status and code can be chosen; the others stay as they are."""
    errors = {"sessions": LimitError(429, "TOO_MANY_SESSIONS")}
    async with (
        Emulator(media=False, limit_errors=errors) as emulator,
        client(emulator.url, emulator.api_key) as http,
    ):
        refused = [await http.post("/v1/sessions", json=PROXY) for _ in range(2)][1]
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "TOO_MANY_SESSIONS")
        assert refused.json()["error"]["details"]["concurrency"]["available"] == 0
        upload = await http.post("/v1/avatars/upload-face", json={"image_base64": "AAAA"})
        assert upload.json()["error"]["code"] == "AVATAR_LIMIT_REACHED"


def test_unknown_limit_is_one_sentence():
    """A limit that does not exist is an error that names the limits."""
    with pytest.raises(EmulatorError, match="choose one of minutes, sessions, avatars"):
        Emulator(limit_errors={"concurrency": LimitError(429)})


@pytest.mark.chain
async def test_child_serves_and_ends():
    """As a child process the emulator tells its address and key, and ends with its parent's pipe."""
    child = await Child.start("agenthuman_plugins.emulator", {"media": False})
    async with client(child.ready["url"], child.ready["api_key"]) as http:
        assert (await http.get("/v1/sessions")).json() == {"success": True, "sessions": []}
    process = psutil.Process(child.pid)
    await child.stop()
    assert not process.is_running()


@pytest.mark.chain
async def test_child_tells_why_it_cannot_start():
    """A child emulator whose port is taken ends with the same sentence."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ChildError, match=r"it is in use\. Choose another port"):
            await Child.start("agenthuman_plugins.emulator", {"media": False, "port": port})
