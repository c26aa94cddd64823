"""No secret stands in the variables of a traceback: `pytest -l`, rich and error trackers print them all."""

import inspect
import json
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import httpcore
import httpx
import pytest

import agenthuman_plugins
from agenthuman_plugins.client import (
    AgentHuman,
    AgentHumanError,
    APIConnectionError,
    APIResponseError,
    AsyncAgentHuman,
    BadRequestError,
    ConfigurationError,
    DailyRoom,
    LiveKitRoom,
    SessionOutcomeUnknownError,
)
from agenthuman_plugins.client.errors import APIStatusError
from tests.client.conftest import FakeService, Fault, Handle, Reply

KEY = "ah_test_seeded-key-000000000000000000"
ROOM = LiveKitRoom("wss://rooms.example.com", "seeded-room-token")
LINK = "lnk_seeded-link"
SEEDED = "seeded"

WATCHED = tuple(str(Path(inspect.getfile(each)).parent) for each in (agenthuman_plugins, httpx, httpcore))


def frames_of(error: BaseException | None) -> Iterator[FrameType]:
    """Our frames and those of the HTTP libraries, behind an error and everything in its chain."""
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if frame.f_code.co_filename.startswith(WATCHED):
                yield frame
        error = error.__cause__ or error.__context__


def leaks(error: BaseException) -> list[str]:
    """Variables that show something seeded."""
    found = [
        f"{Path(frame.f_code.co_filename).name}:{frame.f_code.co_name}: {name}"
        for frame in frames_of(error)
        for name, value in frame.f_locals.items()
        if SEEDED in repr(value)
    ]
    return found + [text for text in (str(error), repr(error), str(vars(error))) if SEEDED in text]


def create(c: Any) -> Any:
    return c.sessions.create(room=ROOM)


ECHO = {"success": False, "error": {"message": f"Bad key {KEY}", "details": {"room": ROOM.avatar_token}}}
CASES: dict[str, tuple[Callable[[Any], Any], list[Fault], type[BaseException]]] = {
    "refused-create": (create, [Reply(400, {"error": "No"})], BadRequestError),
    "echoed-create": (create, [Reply(400, ECHO)], BadRequestError),
    "lost-create": (create, [httpx.ReadTimeout, *[Reply(401)] * 3], SessionOutcomeUnknownError),
    "never-connected": (create, [httpx.ConnectError] * 3, APIConnectionError),
    "unreadable-create": (
        create,
        [Reply(200, {"session": {"session_token": "seeded-x"}}), *[Reply(401)] * 3],
        SessionOutcomeUnknownError,
    ),
    "unreadable-get": (
        lambda c: c.sessions.get("sess_1"),
        [Reply(200, {"session": {"session_token": "seeded-x"}})],
        APIResponseError,
    ),
    "defect-in-the-transport": (create, [LookupError("broken"), *[Reply(401)] * 9], LookupError),
    "wrong-ratio": (
        lambda c: c.sessions.create(room=ROOM, aspect_ratio="16:9"),
        [],
        ConfigurationError,
    ),
    "wrong-avatar": (lambda c: c.sessions.create(room=ROOM, avatar=""), [], ConfigurationError),
    "wrong-metadata": (lambda c: c.sessions.create(room=ROOM, metadata={1: 2}), [], ConfigurationError),
    "wrong-option": (lambda c: c.sessions.create(room=ROOM, timeout=0), [], ConfigurationError),
    "wrong-block": (lambda c: c.sessions.open(room=ROOM, aspect_ratio="16:9"), [], ConfigurationError),
    "refused-link": (lambda c: c.links.get(LINK), [Reply(404, {"error": f"No {LINK}"})], APIStatusError),
    "refused-start": (lambda c: c.links.start_session(LINK), [Reply(404, {"error": "No"})], APIStatusError),
    "lost-start": (lambda c: c.links.start_session(LINK), [httpx.ReadError], SessionOutcomeUnknownError),
    "wrong-start": (lambda c: c.links.start_session(LINK, aspect_ratio="x"), [], ConfigurationError),
    "wrong-start-option": (lambda c: c.links.start_session(LINK, timeout=0), [], ConfigurationError),
    "empty-update": (lambda c: c.links.update(LINK), [], ConfigurationError),
    "wrong-update": (lambda c: c.links.update(LINK, use_limit=0), [], ConfigurationError),
    "refused-delete": (lambda c: c.links.delete(LINK), [Reply(403, {"error": "No"})], APIStatusError),
    "defect-below-a-link": (lambda c: c.links.get(LINK), [LookupError("broken")], LookupError),
    "defect-below-a-start": (lambda c: c.links.start_session(LINK), [LookupError("broken")], LookupError),
}


@pytest.mark.parametrize("case", CASES)
def test_variables_of_a_traceback_hold_no_secret(case: str, client: Handle, service: FakeService) -> None:
    """Neither key nor room token nor link id shows in a variable of ours or of httpx, the chain included."""
    call, faults, expected = CASES[case]
    service.faults.extend(faults)
    with pytest.raises(expected) as caught:
        client.with_options(api_key=KEY)(call)
    assert leaks(caught.value) == []
    assert list(frames_of(caught.value))  # so that the check checks something


def test_defect_with_a_chain_shows_no_secret(client: Handle, service: FakeService) -> None:
    """What a transport raises out of another exception keeps its chain, without the frames below us."""

    def broken(request: httpx.Request) -> httpx.Response:
        headers = dict(request.headers)  # as libraries do
        assert headers
        try:
            int("inner")
        except ValueError as error:
            raise LookupError("outer") from error
        raise AssertionError

    service.handle = broken  # type: ignore[method-assign]
    with pytest.raises(LookupError) as caught:
        client.with_options(api_key=KEY)(lambda c: c.sessions.list())
    assert isinstance(caught.value.__cause__, ValueError)
    assert leaks(caught.value) == []


@pytest.mark.parametrize("call", [create, lambda c: c.links.get(LINK)], ids=["create", "link"])
def test_closed_client_shows_no_secret(call: Callable[[Any], Any], client: Handle) -> None:
    """A call to a closed client is an error without a secret."""

    def use(c: Any) -> Any:
        if client.kind == "sync":
            c.close()
            return call(c)

        async def run() -> Any:
            await c.aclose()
            return await call(c)

        return run()

    with pytest.raises(ConfigurationError, match="was closed") as caught:
        client.with_options(api_key=KEY)(use)
    assert leaks(caught.value) == []


BAD_KEYS = ["seeded key", "seeded\nkey", "seeded-schl\u00fcssel", b"seeded-bytes"]


@pytest.mark.parametrize("key", BAD_KEYS)
@pytest.mark.parametrize("cls", [AgentHuman, AsyncAgentHuman])
def test_key_that_is_refused_shows_in_no_variable(cls: Any, key: Any) -> None:
    """A key with a blank too much is refused at construction, and may be a real one."""
    with pytest.raises(ConfigurationError) as caught:
        cls(api_key=key)
    assert leaks(caught.value) == []


@pytest.mark.parametrize("key", BAD_KEYS[:3])
def test_refused_key_of_the_environment_shows_in_no_variable(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for a key of the environment."""
    monkeypatch.setenv("AGENTHUMAN_API_KEY", key)
    with pytest.raises(ConfigurationError) as caught:
        AgentHuman()
    assert leaks(caught.value) == []


@pytest.mark.parametrize("key", BAD_KEYS)
def test_refused_key_of_a_callable_shows_in_no_variable(key: Any, client: Handle) -> None:
    """The same for a key that a callable returned."""
    with pytest.raises(ConfigurationError) as caught:
        client.with_options(api_key=lambda: key)(lambda c: c.sessions.list())
    assert leaks(caught.value) == []


@pytest.mark.parametrize("options", [{"base_url": "nonsense"}, {"timeout": 0}, {"max_retries": -1}], ids=str)
@pytest.mark.parametrize("cls", [AgentHuman, AsyncAgentHuman])
def test_wrong_setting_shows_no_key(cls: Any, options: dict[str, Any]) -> None:
    """Another setting that is wrong does not show a key that is right."""
    with pytest.raises(ConfigurationError) as caught:
        cls(api_key=KEY, **options)
    assert leaks(caught.value) == []


@pytest.mark.parametrize(
    "room",
    [
        DailyRoom("https://x.daily.co/room?t=seeded-token", "seeded-token"),
        DailyRoom("https://x.daily.co/room?a=1&t=seeded-token#seeded", "seeded-token"),
        LiveKitRoom("wss://x.livekit.cloud/?access_token=seeded-token", "seeded-token", "seeded-agent"),
        DailyRoom("https://x.daily.co/room#seeded", "seeded-token"),
    ],
    ids=["daily", "daily-two", "livekit", "fragment"],
)
def test_repr_of_a_room_masks_what_its_address_tells(room: DailyRoom | LiveKitRoom) -> None:
    """Query and fragment of a room's address may be its token; its repr shows host and path."""
    assert SEEDED not in repr(room)
    assert f"{type(room).__name__}(url=" in repr(room)
    assert "x." in repr(room)


@pytest.mark.parametrize("user", ["seeded@", "seeded:seeded@", "@"])
def test_room_address_has_no_user_part(user: str) -> None:
    """A password in a room's address is refused, and not repeated."""
    for make in (
        lambda: DailyRoom(f"https://{user}x.daily.co/room", "token"),
        lambda: LiveKitRoom(f"wss://{user}x.livekit.cloud", "token"),
    ):
        with pytest.raises(ConfigurationError, match="without a user or password") as caught:
            make()
        assert SEEDED not in str(caught.value)


def said(body: object) -> bytes:
    return json.dumps(body).encode()


CONTROLS = "a\x1b[31mred\x07 \r\n\t\x00\u202eright-to-left\u2028 \x85 \ud800 end"


@pytest.mark.parametrize(
    ("reply", "call"),
    [
        (Reply(400, said({"error": {"message": CONTROLS, "suggestion": CONTROLS}})), create),
        (Reply(400, said({"error": CONTROLS}), {"x-request-id": "req\x1b[31m"}), create),
        (
            Reply(200, said({"session": {CONTROLS: 1}}), {"x-request-id": "req\x1b[31m"}),
            lambda c: c.sessions.get("sess_1"),
        ),
        (Reply(200, {"session": []}), lambda c: c.sessions.get("sess_1")),
    ],
    ids=["message", "request-id", "unreadable", "list"],
)
def test_error_text_steers_no_terminal(
    reply: Reply, call: Callable[[Any], Any], client: Handle, service: FakeService
) -> None:
    """An error is one line of printable characters, whatever the service said, its request id included."""
    service.faults.append(reply)
    with pytest.raises(AgentHumanError) as caught:
        client(call)
    assert str(caught.value).isprintable()
    assert (caught.value.request_id or "").isprintable()


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.sessions.get(CONTROLS),
        lambda c: c.sessions.list(status=CONTROLS),
        lambda c: c.sessions.create(avatar=CONTROLS),
        lambda c: c.request("GET", CONTROLS),
        lambda c: c.request(CONTROLS, "/v1/new"),
        lambda c: c.sessions.create(extra_headers={CONTROLS: "x"}),
        lambda c: c.with_options(timeout=CONTROLS),
    ],
)
def test_error_about_an_argument_steers_no_terminal(call: Callable[[Any], Any], client: Handle) -> None:
    """The same for what is quoted of the caller's own arguments."""
    with pytest.raises(ConfigurationError) as caught:
        client(call)
    assert str(caught.value).isprintable()
