"""`GET /v1/sessions`."""

from typing import Any

import pytest

from agenthuman_plugins.client.errors import ConfigurationError
from tests.emulator.walk.walk import Walk, check, client_of


async def _listed(walk: Walk, **params: str) -> list[dict[str, Any]]:
    return (await walk.ok("GET", "/v1/sessions", params=params))["sessions"]


async def _one_of_each(walk: Walk) -> tuple[str, str]:
    ended, started = await walk.create(), await walk.create()
    await walk.end(ended)
    return ended["session_id"], started["session_id"]


def _ids(sessions: list[dict[str, Any]]) -> set[str]:
    return {session["session_id"] for session in sessions}


@check(plan="pro")
async def reply(walk: Walk):
    await _one_of_each(walk)
    answer = await walk.ok("GET", "/v1/sessions")
    assert set(answer) == {"success", "sessions"}
    assert answer["sessions"] == [await walk.session(each) for each in answer["sessions"]]


@check(plan="pro")
async def all_by_default(walk: Walk):
    both = set(await _one_of_each(walk))
    assert _ids(await _listed(walk)) == _ids(await _listed(walk, status="all")) == both


@check(plan="pro")
async def started(walk: Walk):
    _, running = await _one_of_each(walk)
    walk.clock.advance(seconds=9)
    (session,) = await _listed(walk, status="started")
    assert (session["session_id"], session["duration"], "billing" in session) == (running, 9, False)


@check(plan="pro")
async def ended(walk: Walk):
    over, _ = await _one_of_each(walk)
    (session,) = await _listed(walk, status="ended")
    assert (session["session_id"], "billing" in session) == (over, True)


@check(plan="pro")
async def unknown_status(walk: Walk):
    both = set(await _one_of_each(walk))
    assert _ids(await _listed(walk, status="nonsense")) == both


@check()
async def unknown_status_is_refused():
    async with client_of() as (client, asked):
        with pytest.raises(ConfigurationError):
            await client.sessions.list("nonsense")  # type: ignore[arg-type]
    assert asked == []


@check(plan="pro")
async def order(walk: Walk):
    ids = [(await walk.create())["session_id"] for _ in range(3)]
    assert [session["session_id"] for session in await _listed(walk)] == ids[::-1]
