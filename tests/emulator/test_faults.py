"""Faults on demand, over real HTTP where a connection is to be cut."""

import asyncio
from typing import Any

import httpx
import pytest

from agenthuman_plugins.emulator import Emulator, EmulatorError
from tests.emulator.fakes import OWN_ROOM, PROXY, World

LIMIT_S = 30.0  # hang limit


async def inject(world: World, **fault: Any) -> httpx.Response:
    return await world.http.post("/emulator/faults", json=fault)


async def test_fault_lasts_for_its_requests(world: World):
    """A fault answers the next N matching requests, and no others, and is then gone."""
    await inject(world, fault="status", status=503, times=2, method="GET", path="/v1/sessions")
    assert (await world.http.get("/v1/usage")).status_code == 200
    statuses = [(await world.http.get("/v1/sessions")).status_code for _ in range(3)]
    assert statuses == [503, 503, 200]
    assert (await world.http.get("/emulator/faults")).json()["faults"] == []


async def test_status_has_the_given_body_and_headers(world: World):
    """A refusal carries what the test asked for; the request is not processed."""
    await inject(world, fault="status", status=429, body={"error": "x"}, headers={"Retry-After": "7"})
    reply = await world.http.post("/v1/sessions", json=PROXY)
    assert (reply.status_code, reply.json(), reply.headers["retry-after"]) == (429, {"error": "x"}, "7")
    assert await world.observed() == []


@pytest.mark.parametrize("fault", [{"fault": "status", "processed": True}, {"fault": "malformed_body"}])
async def test_answer_is_lost_after_processing(fault: dict[str, Any], world: World):
    """The session is opened although the answer says nothing of it."""
    await inject(world, **fault)
    reply = await world.http.post("/v1/sessions", json=PROXY)
    assert "session_id" not in reply.text
    assert len(await world.observed()) == 1


@pytest.mark.parametrize("processed", [False, True])
async def test_delay_comes_before_or_after_processing(processed: bool, world: World):
    """A delayed create has opened its session at once, or not yet."""
    await inject(world, fault="delay", delay_s=600, processed=processed)
    create = asyncio.create_task(world.http.post("/v1/sessions", json=PROXY))
    async with asyncio.timeout(LIMIT_S):
        while (await world.http.get("/emulator/faults")).json()["faults"]:  # noqa: ASYNC110 - nothing is set
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
    assert len(await world.observed()) == processed
    create.cancel()
    await asyncio.wait([create])


async def test_fault_of_one_session(world: World):
    """A fault that names a session leaves the calls of others alone."""
    session = await world.create()
    await inject(world, fault="status", session_id=session["session_id"])
    assert (await world.http.get("/v1/sessions/sess_other")).status_code == 404
    assert (await world.http.get(f"/v1/sessions/{session['session_id']}")).status_code == 503


@pytest.mark.parametrize("kind", ["avatar_crash", "avatar_silent", "no_playback_finished", "room_loss"])
async def test_avatar_gets_its_fault(kind: str, world: World):
    """The next session's avatar has the fault, the one after it has none; a running one is told at once."""
    await inject(world, fault=kind)
    first = await world.create(room=OWN_ROOM)
    await world.http.post(f"/v1/sessions/{first['session_id']}/end")
    second = await world.create(room=OWN_ROOM)
    assert [avatar.job.faults for avatar in world.avatars] == [(kind,), ()]
    await inject(world, fault=kind, session_id=second["session_id"])
    assert world.avatars[1].commands == [{"command": "fault", "fault": kind}]


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {"fault": "earthquake"},
        {"fault": "status", "status": 42},
        {"fault": "status", "times": 0},
        {"fault": "status", "colour": "red"},
        {"fault": "status", "headers": {"a": "b\r\nc: d"}},
        {"fault": "status", "headers": {"a b": "c"}},
        {"fault": "status", "headers": {"": "c"}},
        {"fault": "status", "headers": {"a": " c"}},
        {"fault": "status", "headers": {"a": 1}},
        {"fault": "status", "path": "[" * 1_001},  # a pattern that takes fnmatch hours
        {"fault": "delay", "delay_s": "soon"},
    ],
)
async def test_fault_that_makes_no_sense(body: Any, world: World):
    """A fault that cannot be injected is refused, not forgotten."""
    reply = await world.http.post("/emulator/faults", json=body)
    assert reply.status_code == 400
    assert world.service.faults.describe() == []


async def test_faults_are_cleared(world: World):
    """Clearing takes all of them back."""
    await inject(world, fault="status", times=100)
    await world.http.delete("/emulator/faults")
    assert (await world.http.get("/v1/sessions")).status_code == 200


@pytest.mark.parametrize(
    ("fault", "error", "opened"),
    [
        ("cut_before", httpx.RemoteProtocolError, 0),
        ("cut_after", httpx.RemoteProtocolError, 1),
        ("cut_body", httpx.RemoteProtocolError, 1),
    ],
)
async def test_connection_is_cut(fault: str, error: type[Exception], opened: int):
    """The connection breaks before processing, after it, or in the middle of the answer."""
    async with Emulator(media=False) as emulator:
        emulator.fail(fault, method="POST")
        async with httpx.AsyncClient(
            base_url=emulator.url, headers={"x-api-key": emulator.api_key}, trust_env=False, timeout=LIMIT_S
        ) as http:
            with pytest.raises(error):
                await http.post("/v1/sessions", json=PROXY)
            assert len(emulator.sessions()) == opened
            assert (await http.get("/v1/sessions")).status_code == 200


def test_unknown_fault_is_one_sentence():
    """In a program, too, a fault that does not exist is an error that names those that do."""
    with pytest.raises(EmulatorError, match=r"Unknown fault\. Set fault to one of status, delay"):
        Emulator(media=False).fail("earthquake")


@pytest.mark.parametrize(("metadata", "status", "kept"), [("dropped", 200, {}), ("refused", 400, None)])
async def test_metadata_switch(metadata: Any, status: int, kept: Any, world_of: Any):
    """Metadata can be dropped, or refused with a word about it; without any, a create passes."""
    world = world_of(metadata=metadata)
    reply = await world.http.post("/v1/sessions", json=PROXY | {"metadata": {"a": 1}})
    assert reply.status_code == status
    if status == 200:
        assert reply.json()["session"]["metadata"] == kept
    else:
        assert "metadata" in reply.json()["error"]["message"]
        assert (await world.http.post("/v1/sessions", json=PROXY)).status_code == 200


async def test_list_without_metadata(world_of: Any):
    """The list can omit metadata that get still tells."""
    world = world_of(list_metadata=False)
    session = await world.create(metadata={"a": 1})
    assert "metadata" not in (await world.http.get("/v1/sessions")).json()["sessions"][0]
    got = await world.http.get(f"/v1/sessions/{session['session_id']}")
    assert got.json()["session"]["metadata"] == {"a": 1}


async def test_fault_of_a_session_that_does_not_run(world_of: Any):
    """A session that has not started has no avatar that could fail, so the fault is refused, not forgotten."""
    world = world_of(generation="managed")
    created = await world.http.post("/v1/sessions", json={"avatar_id": "avat_1"})
    session_id = created.json()["session"]["session_id"]
    reply = await world.http.post(
        "/emulator/faults", json={"fault": "avatar_crash", "session_id": session_id}
    )
    assert (reply.status_code, reply.json()["error"]["message"]) == (400, "Session does not run")
