"""`GET /v1/usage`."""

from datetime import UTC, datetime

import httpx

from tests.contract.bodies import load as documented
from tests.emulator.walk import models
from tests.emulator.walk.walk import Walk, check, client_of, shape


@check(plan="pro")
async def reply(walk: Walk):
    await walk.create(metadata={"user_name": "John Doe"})
    answer = await walk.ok("GET", "/v1/usage")
    del answer["usage"]["avatars"]
    assert shape(answer) == shape(documented("usage-summary"))
    assert shape(answer["usage"]) == shape(documented("usage-schema"))


@check()
async def schema(walk: Walk):
    await walk.create()
    models.Usage.model_validate(await walk.usage())


@check()
async def no_parameters(walk: Walk):
    paths = (await walk.ok("GET", "/openapi.json"))["paths"]
    assert not paths["/v1/usage"]["get"].get("parameters")


@check(plan="free")
async def calendar_month(walk: Walk):
    period = (await walk.usage())["period"]
    assert period == {"start": "2024-01-01T00:00:00.000Z", "end": "2024-01-31T23:59:59.000Z"}
    walk.clock.now = datetime(2024, 2, 29, 12, tzinfo=UTC)
    period = (await walk.usage())["period"]
    assert period == {"start": "2024-02-01T00:00:00.000Z", "end": "2024-02-29T23:59:59.000Z"}


@check(plan="pro")
async def paid_period(walk: Walk):
    first = (await walk.usage())["period"]
    walk.clock.advance(days=31)
    second = (await walk.usage())["period"]
    assert "2024-01-15" < second["start"][:10] <= "2024-02-15"
    assert first["end"] < second["start"]


@check(plan="pro")
async def start_of_a_paid_period(walk: Walk):
    period = (await walk.usage())["period"]
    assert period == {"start": "2024-01-15T00:00:00.000Z", "end": "2024-02-14T23:59:59.000Z"}


@check()
async def times_have_milliseconds(walk: Walk):
    await walk.create()
    usage = await walk.usage()
    (active,) = usage["active_sessions"]
    times = [*usage["period"].values(), active["started_at"], active["expiration"]]
    assert [moment for moment in times if not moment.endswith(".000Z")] == []


@check()
async def included_minutes(walk: Walk):
    await walk.ended(minutes=75)
    assert (await walk.usage())["included_minutes"] == documented("usage-summary")["usage"][
        "included_minutes"
    ]


@check(purchased_minutes=100)
async def purchased_minutes(walk: Walk):
    assert (await walk.usage())["purchased_minutes"] == {"total": 100, "remaining": 100}


@check(purchased_minutes=100)
async def total_remaining(walk: Walk):
    await walk.ended(minutes=75)
    assert (await walk.usage())["total_remaining"] == documented("usage-summary")["usage"]["total_remaining"]


@check()
async def active_sessions(walk: Walk):
    session = await walk.create()
    walk.clock.advance(seconds=450)
    (active,) = (await walk.usage())["active_sessions"]
    assert (active["session_id"], active["status"]) == (session["session_id"], "active")
    assert (active["ended_at"], active["duration"]) == (None, 450)
    await walk.end(session)
    assert (await walk.usage())["active_sessions"] == []


@check()
async def older_fields(walk: Walk):
    await walk.create()
    (active,) = (await walk.usage())["active_sessions"]
    assert active["avatar"]["face_id"].startswith("face_")


@check()
async def active_minutes(walk: Walk):
    await walk.create()
    walk.clock.advance(seconds=450)
    assert (await walk.usage())["active_minutes"] == 8


@check()
async def active_minutes_count(walk: Walk):
    await walk.create()
    walk.clock.advance(seconds=450)
    assert (await walk.usage())["total_remaining"] == 120 - 8


@check(plan="explorer")
async def concurrency(walk: Walk):
    await walk.create()
    assert (await walk.usage())["concurrency"] == {"current": 1, "max": 5, "available": 4}


@check(plan="pro")
async def plan(walk: Walk):
    plan = (await walk.usage())["plan"]
    assert (plan["key"], plan["name"], plan["will_renew"]) == ("pro", "Pro", True)
    assert plan["max_session_duration"] > 0


@check()
async def unit_of_the_limit(walk: Walk):
    assert (await walk.usage())["plan"]["max_session_duration"] == 240


@check(plan="free")
async def avatars_not_included(walk: Walk):
    assert (await walk.usage())["avatars"]["limit"] == 0


@check(plan="explorer")
async def avatars_limit(walk: Walk):
    await walk.upload()
    avatars = (await walk.usage())["avatars"]
    assert (avatars["limit"], avatars["used"]) == (20, 1)


@check()
async def unlimited_avatars():
    from agenthuman_plugins.emulator._plans import PLANS  # noqa: PLC0415 - of this check alone

    assert "enterprise" not in PLANS


@check(plan="explorer")
async def other_fields_of_avatars(walk: Walk):
    assert (await walk.usage())["avatars"] == {"limit": 20, "used": 0, "remaining": 20}


@check()
async def read_by_the_client():
    async with client_of(httpx.Response(200, json=documented("usage-summary"))) as (client, _):
        usage = await client.usage.get()
    assert usage.total_remaining == 145
    assert usage.active_sessions is not None
    assert usage.active_sessions[0].status == "active"
    assert usage.plan is not None
    assert usage.plan.max_session_duration == 180
