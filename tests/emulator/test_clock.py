"""The emulator's clock: what it shows, and what happens when it is moved."""

from datetime import timedelta

import httpx
import pytest

from agenthuman_plugins.emulator import Emulator, EmulatorError
from agenthuman_plugins.emulator._clock import EmulatorClock
from tests.emulator.conftest import FakeClock
from tests.emulator.fakes import World


@pytest.fixture
def rules() -> dict[str, object]:
    return {"plan": "explorer"}


def test_a_paused_clock_goes_on_from_where_it_stood(clock: FakeClock) -> None:
    """While it stands still no time passes, however often it is paused; afterwards time passes as before."""
    own, began = EmulatorClock(clock), clock()
    own.pause()
    clock.advance(minutes=5)
    own.pause()
    assert own() == began
    assert own.describe() == {"now": "2024-01-15T10:30:00.000Z", "paused": True, "offset_s": -300.0}
    own.resume()
    own.resume()
    clock.advance(minutes=1)
    assert own() == began + timedelta(minutes=1)


def test_a_clock_moves_forward_paused_or_not(clock: FakeClock) -> None:
    """Each step adds up, and a reset shows the real time again."""
    own, began = EmulatorClock(clock), clock()
    own.advance(hours=1)
    own.pause()
    own.advance(minutes=1, seconds=30)
    assert own() == began + timedelta(hours=1, minutes=1, seconds=30)
    own.reset()
    assert (own(), own.paused, own.offset) == (began, False, timedelta())


@pytest.mark.parametrize("seconds", [-1, 1e12, 1e300, float("nan"), float("inf")])
def test_a_clock_goes_neither_back_nor_too_far(seconds: float, clock: FakeClock) -> None:
    """A refused step moves nothing."""
    own = EmulatorClock(clock)
    with pytest.raises(EmulatorError, match="only forward"):
        own.advance(seconds=seconds)
    assert own() == clock()


def test_steps_together_do_not_go_too_far(clock: FakeClock) -> None:
    """The bound is on the clock, not on one step."""
    own = EmulatorClock(clock)
    own.advance(hours=24 * 3_000)
    with pytest.raises(EmulatorError):
        own.advance(hours=24 * 3_000)


async def test_sessions_end_when_the_clock_passes_their_limit(world: World) -> None:
    """They have ended when the step is answered, at their limit, and are billed up to it and no further."""
    expiration = (await world.create())["expiration"]
    answer = await world.http.post("/emulator/clock", json={"advance_s": 100 * 3600})
    assert answer.json()["clock"]["offset_s"] == 100 * 3600
    [session] = await world.observed()
    assert (session["ended_by"], session["ended_at"]) == ("expiry", expiration)
    assert session["billing"]["minutes_consumed"] == 240
    assert await world.avatars[0].stopped == "session_expired"


async def test_to_the_next_expiry(world: World) -> None:
    """The first session to reach its limit ends, the other one runs on; without any there is nothing to go to."""
    await world.create()
    await world.http.post("/emulator/clock", json={"advance_s": 60})
    await world.create()
    clock = (await world.http.get("/emulator/clock")).json()["clock"]
    answer = (await world.http.post("/emulator/clock", json={"advance_to": "next_expiry"})).json()["clock"]
    assert answer["now"][:19] == clock["next_expiry"][:19]
    assert [session["ended_by"] for session in await world.observed()] == [None, "expiry"]
    await world.http.post("/emulator/clock", json={"advance_to": "next_expiry"})
    refusal = await world.http.post("/emulator/clock", json={"advance_to": "next_expiry"})
    assert (refusal.status_code, refusal.json()["error"]["message"]) == (
        400,
        "No running session has a time limit",
    )


async def test_pause_over_http(clock: FakeClock, world: World) -> None:
    """A paused clock lets no session grow older, until it goes on."""
    await world.create()
    assert (await world.http.post("/emulator/clock", json={"paused": True})).json()["clock"]["paused"] is True
    clock.advance(hours=9)
    world.service.tick()
    assert [session["duration"] for session in await world.observed()] == [0]
    await world.http.post("/emulator/clock", json={"paused": False})
    clock.advance(hours=4)
    world.service.tick()
    assert [session["ended_by"] for session in await world.observed()] == ["expiry"]


@pytest.mark.parametrize(
    "body",
    [
        None,
        {},
        {"advance_s": "60"},
        {"advance_s": True},
        {"advance_s": -1},
        {"advance_s": 1e300},
        {"paused": 1},
        {"paused": True, "advance_s": 60},
        {"advance_to": "tomorrow"},
    ],
)
async def test_what_does_not_set_the_clock(body: object, world: World) -> None:
    """It is refused with HTTP 400, and the clock goes on as it was."""
    answer = await world.http.post("/emulator/clock", json=body)
    assert answer.status_code == 400, answer.text
    clock = (await world.http.get("/emulator/clock")).json()["clock"]
    assert (clock["paused"], clock["offset_s"]) == (False, 0.0)


async def test_the_request_rate_goes_by_the_clock() -> None:
    """A minute further, requests are allowed again."""
    async with (
        Emulator(media=False, requests_per_minute=1) as emulator,
        httpx.AsyncClient(
            base_url=emulator.url, headers={"x-api-key": emulator.api_key}, trust_env=False
        ) as http,
    ):
        emulator.clock.pause()
        assert [(await http.get("/v1/sessions")).status_code for _ in range(2)] == [200, 429]
        emulator.clock.advance(minutes=1)
        assert (await http.get("/v1/sessions")).status_code == 200


async def test_the_next_expiry_can_be_too_far(world: World) -> None:
    """What would move the clock beyond its bound is refused, whichever way it is asked for."""
    await world.http.post("/emulator/clock", json={"advance_s": 3_660 * 86_400 - 60})
    await world.create()
    refusal = await world.http.post("/emulator/clock", json={"advance_to": "next_expiry"})
    assert refusal.status_code == 400
    assert "ten years" in refusal.json()["error"]["message"]


@pytest.mark.parametrize("limit_s", [0, -1, 1e9, 1e13, 1e300, float("nan")])
def test_a_session_has_a_limit_that_the_clock_can_reach(limit_s: float) -> None:
    """An odd limit is one sentence at the start, and not an error of each create."""
    with pytest.raises(EmulatorError, match="at most ten years"):
        Emulator(media=False, session_limit_s=limit_s)
