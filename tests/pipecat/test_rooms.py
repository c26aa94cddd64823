"""Which room a session gets, and when the service is taken to make none."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from loguru import logger

from agenthuman_plugins.client import (
    AgentHumanError,
    APIConnectionError,
    APIStatusError,
    BadRequestError,
    ConfigurationError,
    DailyRoom,
    LiveKitRoom,
    ServerError,
    UsageLimitError,
)
from agenthuman_plugins.pipecat import _rooms
from agenthuman_plugins.pipecat._rooms import RoomRequest, Rooms
from tests.pipecat.bot import FakeClient

URL, KEY, SECRET = "wss://own.example", "key", "secret-of-the-livekit-project-0123456789"
FIXED = LiveKitRoom.mint(URL, KEY, SECRET, "lobby")
SPOKEN_INTO = LiveKitRoom(URL, "avatar-token")  # no agent token: speech goes over the gateway
DAILY = DailyRoom("https://x.daily.co/y", "daily-token")
ASKED = {"avatar": "avat_1", "aspect_ratio": "3:4", "session_number": 1}
REFUSED = BadRequestError("Invalid room platform", status_code=400)
LIVEKIT = {"LIVEKIT_URL": URL, "LIVEKIT_API_KEY": KEY, "LIVEKIT_API_SECRET": SECRET}


def minted(request: RoomRequest) -> LiveKitRoom:
    return LiveKitRoom.mint(URL, KEY, SECRET, "lobby", avatar_identity=request.avatar_identity)


def rooms(room: Any = None, picture: Any = None, client: Any = None) -> Rooms:
    return Rooms(room, picture=picture, client=client or FakeClient())


@pytest.fixture
def logged() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lines.append, format="{level} {message}", level="INFO")
    yield lines
    logger.remove(sink)


@pytest.fixture(autouse=True)
def no_livekit(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LIVEKIT:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def livekit(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LIVEKIT.items():
        monkeypatch.setenv(name, value)


# What is allowed


@pytest.mark.parametrize(
    ("room", "picture", "reason"),
    [
        pytest.param(DAILY, "pipeline", "DailyRoom", id="daily"),
        pytest.param(SPOKEN_INTO, "pipeline", "agent_token", id="no-agent-token"),
        pytest.param(FIXED, "room", "'pipeline'", id="unknown-picture"),
        pytest.param(None, "", "'pipeline'", id="empty-picture"),
        pytest.param("wss://own.example", None, "not str", id="text"),
    ],
)
def test_what_cannot_work_is_refused_at_once(room: Any, picture: Any, reason: str):
    """A room and a picture that do not go together are an error before anything is sent."""
    with pytest.raises(ConfigurationError, match=reason):
        rooms(room, picture)


@pytest.mark.parametrize(
    ("room", "picture", "through_pipeline", "overlap"),
    [
        pytest.param(None, None, True, True, id="proxied"),
        pytest.param(None, "pipeline", True, True, id="proxied-by-name"),
        pytest.param(FIXED, "pipeline", True, False, id="carried"),
        pytest.param(minted, "pipeline", True, True, id="carried-by-function"),
        pytest.param(FIXED, None, False, False, id="direct"),
        pytest.param(SPOKEN_INTO, None, False, False, id="direct-over-the-gateway"),
        pytest.param(DAILY, None, False, False, id="daily"),
        pytest.param(minted, None, False, False, id="direct-by-function"),
    ],
)
def test_modes(room: Any, picture: Any, through_pipeline: bool, overlap: bool):
    """Two sessions at once need a room for each or an identity for each, and a picture that viewers get from us."""
    made = rooms(room, picture)
    assert (made.through_pipeline, made.overlap) == (through_pipeline, overlap)


@pytest.mark.parametrize("room", [None, FIXED, DAILY, SPOKEN_INTO])
async def test_given_room_is_each_session_s(room: Any):
    """A fixed room is that of every session; without one the service is asked to make it."""
    made = rooms(room)
    assert [await made.make(**ASKED), await made.make(**ASKED)] == [room, room]


# Rooms by function


async def test_function_is_told_what_the_session_is_for():
    """The function gets avatar, ratio, number, and an identity that no session before had."""
    asked: list[RoomRequest] = []

    async def make(request: RoomRequest) -> LiveKitRoom:
        asked.append(request)
        await asyncio.sleep(0)
        return minted(request)

    made = rooms(make, "pipeline")
    first = await made.make(**ASKED)
    second = await made.make(avatar=None, aspect_ratio="4:3", session_number=2)
    assert [(r.avatar, r.aspect_ratio, r.session_number) for r in asked] == [
        ("avat_1", "3:4", 1),
        (None, "4:3", 2),
    ]
    assert [first.avatar_identity, second.avatar_identity] == [r.avatar_identity for r in asked]
    assert first.avatar_identity != second.avatar_identity
    assert made.overlap


async def test_sync_function_in_direct_mode():
    """A sync function serves as well, and in direct mode any kind of room."""
    assert await rooms(lambda _: DAILY).make(**ASKED) is DAILY


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        pytest.param(None, "not NoneType", id="nothing"),
        pytest.param("wss://x", "not str", id="text"),
        pytest.param(DAILY, "DailyRoom", id="daily"),
        pytest.param(SPOKEN_INTO, "agent_token", id="no-agent-token"),
    ],
)
async def test_function_that_returns_no_fitting_room(made: Any, reason: str):
    """What the function returns is checked before a session is billed for it."""
    with pytest.raises(ConfigurationError, match=reason) as raised:
        await rooms(lambda _: made, "pipeline").make(**ASKED)
    assert not raised.value.retryable


@pytest.mark.parametrize(
    ("failure", "retryable"),
    [
        pytest.param(KeyError("room"), False, id="mistake"),
        pytest.param(ConnectionError("down"), True, id="network"),
        pytest.param(TimeoutError("its own"), True, id="its-own-time-out"),
        pytest.param(APIConnectionError("down", retryable=True), True, id="ours"),
    ],
)
async def test_function_that_raises(failure: Exception, retryable: bool):
    """A function that raises is one error with its cause; whether it can pass goes by the cause."""

    async def make(_: RoomRequest) -> LiveKitRoom:
        raise failure

    with pytest.raises(ConfigurationError, match=type(failure).__name__) as raised:
        await rooms(make).make(**ASKED)
    assert raised.value.__cause__ is failure
    assert raised.value.retryable is retryable


async def test_error_of_a_function_shows_no_secret():
    """A token in the function's error is masked in ours."""

    def make(_: RoomRequest) -> LiveKitRoom:
        raise ValueError(f"bad token {FIXED.avatar_token}")

    with pytest.raises(ConfigurationError) as raised:
        await rooms(make).make(**ASKED)
    assert FIXED.avatar_token not in str(raised.value)


async def test_function_that_never_returns(monkeypatch: pytest.MonkeyPatch):
    """A function has a time limit, and may be asked again."""
    monkeypatch.setattr(_rooms, "_FUNCTION_TIMEOUT_S", 0.01)

    async def make(_: RoomRequest) -> LiveKitRoom:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(ConfigurationError, match="within") as raised:
        await rooms(make).make(**ASKED)
    assert raised.value.retryable


async def test_function_that_waits_for_something_cancelled():
    """A cancellation that comes out of the function is its failure, and does not end the bot's task."""

    async def make(_: RoomRequest) -> LiveKitRoom:
        raise asyncio.CancelledError

    with pytest.raises(ConfigurationError, match="cancelled"):
        await rooms(make).make(**ASKED)


async def test_function_that_is_cancelled_is_left_at_once():
    """A bot that ends does not wait for the function, and gets no error in place of its cancellation."""
    asked = asyncio.Event()

    async def make(_: RoomRequest) -> LiveKitRoom:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    task = asyncio.create_task(rooms(make).make(**ASKED))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda _: LiveKitRoom.mint(URL, KEY, SECRET, "lobby"), id="avatar"),
        pytest.param(
            lambda request: LiveKitRoom.mint(
                URL,
                KEY,
                SECRET,
                "lobby",
                agent_identity="bot",
                avatar_identity=request.avatar_identity,
            ),
            id="agent",
        ),
    ],
)
async def test_function_that_repeats_an_identity(make: Any, logged: list[str]):
    """With an identity that another session has, sessions no longer overlap, and one warning shows the fix."""
    made = rooms(make, "pipeline")
    await made.make(**ASKED)
    assert made.overlap
    for _ in range(2):
        await made.make(**ASKED)
        assert not made.overlap
    assert [line for line in logged if "request.avatar_identity" in line] == logged
    assert len(logged) == 1


async def test_same_identity_in_another_room(logged: list[str]):
    """A function that makes a room for each session needs no identities of their own."""
    numbers = iter("12")
    made = rooms(lambda _: LiveKitRoom.mint(URL, KEY, SECRET, f"room-{next(numbers)}"), "pipeline")
    await made.make(**ASKED)
    await made.make(**ASKED)
    assert made.overlap
    assert not logged


# The platform that is refused


def refusal(message: str = "", status: int = 400, **fields: Any) -> APIStatusError:
    cls = BadRequestError if status == 400 else APIStatusError
    return cls(message or "The service refused the request.", status_code=status, **fields)


AT_PLATFORM = [
    {"loc": ["body", "room", "platform"], "msg": "Input should be 'daily' or 'livekit'", "input": "x"}
]
AT_AVATAR = [{"loc": ["body", "avatar"], "msg": "Field required", "input": {"room": {"platform": "proxy"}}}]


@pytest.mark.usefixtures("livekit")
@pytest.mark.parametrize(
    "error",
    [
        pytest.param(refusal("Invalid room platform. Set room.platform to daily or livekit."), id="message"),
        pytest.param(refusal("room.url is required. Include room.url in the request body."), id="field"),
        pytest.param(refusal("Unsupported value 'proxy'"), id="value"),
        pytest.param(refusal("Invalid room platform for avatar avat_1"), id="avatar-beside"),
        pytest.param(refusal(code="INVALID_ROOM_PLATFORM"), id="code"),
        pytest.param(refusal(details={"field": "room.platform"}), id="details"),
        pytest.param(refusal("Bad request", details={"room": {"token": ["required"]}}), id="nested-details"),
        pytest.param(refusal(status=422, body={"detail": AT_PLATFORM}), id="validation"),
        pytest.param(
            refusal("Validation failed", 422, details={"errors": AT_PLATFORM}), id="validation-ours"
        ),
    ],
)
async def test_refused_platform(error: APIStatusError):
    """A 400 or 422 about room or platform, wherever the answer says so, means that the service makes no rooms."""
    made = rooms()
    assert await made.make(**ASKED) is None
    assert made.platform_refused(error)


@pytest.mark.usefixtures("livekit")
@pytest.mark.parametrize(
    "error",
    [
        pytest.param(refusal("Avatar ID is required. Include avatar in the request body."), id="avatar"),
        pytest.param(refusal("Avatar avat_room_platform not found"), id="avatar-named-so"),
        pytest.param(refusal("This avatar is not available on our platform"), id="avatar-on-a-platform"),
        pytest.param(refusal("metadata must be an object"), id="metadata"),
        pytest.param(refusal("metadata.room_platform is not allowed"), id="metadata-named-so"),
        pytest.param(refusal("Invalid aspect_ratio"), id="ratio"),
        pytest.param(refusal("Room limit reached"), id="limit"),
        pytest.param(refusal("Something about https://rooms.example/room/platform"), id="address"),
        pytest.param(refusal("Bad request [HTTP 400, request room-platform]"), id="request-id"),
        pytest.param(refusal("Something went wrong"), id="nothing-said"),
        pytest.param(refusal(status=422, body={"detail": AT_AVATAR}), id="validation"),
        pytest.param(
            refusal("Room platform or avatar is wrong", details={"field": "avatar"}), id="details-first"
        ),
        pytest.param(refusal("Invalid room platform", 403), id="forbidden"),
        pytest.param(UsageLimitError("No free room on this platform", status_code=400), id="usage"),
        pytest.param(ServerError("Room platform is down", status_code=503), id="server"),
        pytest.param(APIConnectionError("No answer from the room platform"), id="no-answer"),
    ],
)
async def test_other_refusals(error: AgentHumanError):
    """Avatar, metadata, limits and failures say nothing about the platform: the next session asks for it again."""
    made = rooms()
    await made.make(**ASKED)
    assert not made.platform_refused(error)
    assert await made.make(**ASKED) is None


@pytest.mark.usefixtures("livekit")
async def test_private_room(logged: list[str]):
    """After the refusal each session gets identities of its own, in a room that is this bot's alone."""
    client = FakeClient()
    bots = [rooms(client=client), rooms(client=client)]
    await bots[0].make(**ASKED)
    assert bots[0].platform_refused(REFUSED)
    first, second, other = [await bot.make(**ASKED) for bot in (bots[0], bots[0], bots[1])]
    assert first.url == URL
    assert first.name == second.name != other.name
    people = [room.avatar_identity for room in (first, second, other)]
    people += [room.agent_identity for room in (first, second, other)]
    assert len(set(people)) == 6
    assert bots[0].overlap
    assert bots[0].through_pipeline
    assert len(logged) == 1
    assert logged[0].startswith("INFO")


@pytest.mark.usefixtures("livekit")
async def test_refusal_is_remembered_for_the_client(logged: list[str]):
    """Other bots with the same client do not ask; one that had asked meanwhile goes on too; a new client asks."""
    client = FakeClient()
    first, meanwhile, later = rooms(client=client), rooms(client=client), rooms(client=client)
    assert [await first.make(**ASKED), await meanwhile.make(**ASKED)] == [None, None]
    assert first.platform_refused(REFUSED)
    assert meanwhile.platform_refused(REFUSED)
    assert isinstance(await later.make(**ASKED), LiveKitRoom)
    assert await rooms().make(**ASKED) is None
    assert len(logged) == 1


@pytest.mark.usefixtures("livekit")
@pytest.mark.parametrize("room", [FIXED, DAILY])
async def test_room_of_the_user_s_that_is_refused(room: Any):
    """A room of the user's own that the service does not like is replaced by no other."""
    made = rooms(room)
    await made.make(**ASKED)
    assert not made.platform_refused(REFUSED)


@pytest.mark.usefixtures("livekit")
async def test_private_room_that_is_refused():
    """A private room that is refused as well is an error, and no reason to go on asking."""
    made = rooms()
    await made.make(**ASKED)
    assert made.platform_refused(REFUSED)
    await made.make(**ASKED)
    assert not made.platform_refused(REFUSED)


@pytest.mark.parametrize("missing", LIVEKIT)
async def test_no_livekit_server_to_fall_back_to(missing: str, monkeypatch: pytest.MonkeyPatch):
    """Without a LiveKit server, one sentence shows both ways out; the next bot hears it before it asks."""
    for name, value in LIVEKIT.items():
        monkeypatch.setenv(name, "" if name == missing else value)
    client = FakeClient()
    made = rooms(client=client)
    await made.make(**ASKED)
    with pytest.raises(ConfigurationError, match=rf"room=LiveKitRoom.*not set: {missing}\)") as raised:
        made.platform_refused(REFUSED)
    assert all(name in str(raised.value) for name in LIVEKIT)
    assert raised.value.__cause__ is REFUSED
    with pytest.raises(ConfigurationError, match="room=LiveKitRoom"):
        await rooms(client=client).make(**ASKED)


@pytest.mark.usefixtures("livekit")
async def test_livekit_address_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch):
    """A wrong address is named by its variable."""
    monkeypatch.setenv("LIVEKIT_URL", "own.example")
    made = rooms()
    await made.make(**ASKED)
    assert made.platform_refused(REFUSED)
    with pytest.raises(ConfigurationError, match="LIVEKIT_URL"):
        await made.make(**ASKED)
