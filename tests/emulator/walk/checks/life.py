"""How sessions end, and what they cost."""

from agenthuman_plugins.emulator import Emulator
from tests.emulator.conftest import until
from tests.emulator.walk.checks.room import joined
from tests.emulator.walk.walk import DAILY_ROOM, PROXY_ROOM, Walk, check, connected


async def _joined(walk: Walk) -> dict[str, str]:
    session = await walk.create(room=PROXY_ROOM)
    walk.happens(session, "ready", pid=1)
    walk.happens(session, "participants", count=1)
    return session


@check()
async def never_restarts(walk: Walk):
    session = await walk.ended(minutes=1)
    for method in ("PUT", "POST"):
        await walk.refused(method, f"/v1/sessions/{session['session_id']}/start")
    assert (await walk.session(session))["status"] == "ended"


@check(served=True)
async def gateway_closes(walk: Walk):
    session = await walk.create()
    async with connected(walk, session):
        assert walk.record()["status"] == "started"
    assert await until(lambda: walk.record()["ended_by"]) == "gateway_closed"


@check()
async def all_left(walk: Walk):
    session = await _joined(walk)
    walk.happens(session, "participants", count=0)
    walk.clock.advance(minutes=1)
    assert walk.record()["ended_by"] == "room_empty"


@check()
async def all_left_at_once(walk: Walk):
    session = await _joined(walk)
    walk.happens(session, "participants", count=0)
    walk.clock.advance(seconds=4)
    assert walk.record()["status"] == "started"
    walk.clock.advance(seconds=1)
    assert walk.record()["ended_by"] == "room_empty"


@check(chain=True)
async def avatar_is_no_participant(walk: Walk):
    async with joined(walk):
        await until(lambda: walk.record()["participants"] == 1)


@check()
async def sweep(walk: Walk):
    session = await walk.create(room=PROXY_ROOM)
    walk.happens(session, "ready", pid=1)
    walk.clock.advance(minutes=3, seconds=-1)
    assert walk.record()["status"] == "started"
    walk.clock.advance(seconds=1)
    assert walk.record()["ended_by"] == "sweep"


@check()
async def daily_sweep(walk: Walk):
    session = await walk.create(room=DAILY_ROOM)
    walk.happens(session, "ready", pid=1)
    walk.clock.advance(minutes=3)
    assert walk.record()["ended_by"] == "sweep"


@check()
async def rounded_up(walk: Walk):
    for seconds, minutes in ((60, 1), (61, 2), (450, 8)):
        assert (await walk.ended(seconds=seconds))["billing"]["minutes_consumed"] == minutes


@check(minutes=10, purchased_minutes=100)
async def included_first(walk: Walk):
    await walk.ended(minutes=8)
    usage = await walk.usage()
    assert (usage["included_minutes"]["remaining"], usage["purchased_minutes"]["remaining"]) == (2, 100)
    await walk.ended(minutes=5)
    usage = await walk.usage()
    assert (usage["included_minutes"]["remaining"], usage["purchased_minutes"]["remaining"]) == (0, 97)


@check()
async def deducted_at_the_end(walk: Walk):
    session = await walk.ended(minutes=7)
    walk.clock.advance(hours=1)
    used = (await walk.usage())["included_minutes"]["used"]
    assert used == session["billing"]["minutes_consumed"] == 7


@check(minutes=5)
async def last_minutes(walk: Walk):
    session = await walk.create()
    walk.clock.advance(minutes=9)
    walk.service.tick()
    assert (await walk.session(session))["status"] == "started"
    await walk.end(session)
    assert (await walk.refused_create())[0] >= 400


@check(plan="free")
async def reset(walk: Walk):
    await walk.ended(minutes=75)
    walk.clock.advance(days=31)
    assert (await walk.usage())["included_minutes"] == {"total": 120, "used": 0, "remaining": 120}


@check(minutes=10, purchased_minutes=100)
async def purchased_stay(walk: Walk):
    await walk.ended(minutes=25)
    walk.clock.advance(days=31)
    usage = await walk.usage()
    assert (usage["included_minutes"]["remaining"], usage["purchased_minutes"]["remaining"]) == (10, 85)


@check()
async def billed_from_the_create(walk: Walk):
    session = await walk.create()
    walk.clock.advance(minutes=2)
    walk.happens(session, "ready", pid=1)
    await walk.end(session)
    assert (await walk.session(session))["billing"]["minutes_consumed"] == 2


async def _plans(*path: str) -> list[int]:
    found = []
    for plan in ("free", "explorer", "growth", "pro"):
        value = await _usage_of(plan)
        for name in path:
            value = value[name]
        found.append(value)
    return found


async def _usage_of(plan: str) -> dict:
    import httpx  # noqa: PLC0415

    async with (
        Emulator(media=False, plan=plan) as emulator,
        httpx.AsyncClient(
            base_url=emulator.url, headers={"x-api-key": emulator.api_key}, trust_env=False
        ) as http,
    ):
        return (await http.get("/v1/usage")).json()["usage"]


@check()
async def sessions_of_the_plans():
    assert await _plans("concurrency", "max") == [1, 5, 10, 20]


@check()
async def avatars_of_the_plans():
    assert await _plans("avatars", "limit") == [0, 20, 60, 180]


@check()
async def minutes_of_the_plans():
    assert await _plans("included_minutes", "total") == [120, 600, 1500, 4000]


@check()
async def limit_of_a_session():
    assert await _plans("plan", "max_session_duration") == [240] * 4
