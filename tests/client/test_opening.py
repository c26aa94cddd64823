"""When a billed call that got no answer is looked for, and its session ended: the flows, without a driver."""

import json
from collections.abc import Generator
from typing import Any

import pytest

from agenthuman_plugins.client import AgentHuman, ServerError, Session, SessionOutcomeUnknownError
from agenthuman_plugins.client._answers import Answer, NoAnswer, Outcome
from agenthuman_plugins.client._calls.sessions import create_session
from agenthuman_plugins.client._flow import Flows, Send
from agenthuman_plugins.client._opening import Openings, creation
from tests.client.conftest import API_KEY, ROOM, Time

LOST = NoAnswer("the connection broke", may_have_arrived=True, timed_out=False)


def answer(status: int = 200, **body: Any) -> Answer:
    return Answer(status, {}, json.dumps({"success": status == 200, **body}).encode())


NOTHING_RUNS = answer(sessions=[])
BUSY = answer(503, error="Busy.")


class Case:
    """A create under way, and the waits of its flow, each of which passes at once."""

    def __init__(self) -> None:
        self.time = Time()
        client = AgentHuman(api_key=API_KEY, max_retries=0, _clock=self.time.clock())
        settings = client._driver.settings
        call = create_session(avatar=None, room=ROOM, aspect_ratio="4:3", metadata=None)
        self.openings = Openings(Flows(settings))
        self.opening = creation(call, settings)

    def run(self, steps: Generator[Any, Any, Any], *answers: Outcome) -> Any:
        """Carry the steps out; the last answer is given again and again."""
        given, told = list(answers), None
        while True:
            try:
                step = steps.send(told)
            except StopIteration as over:
                return over.value
            told = None
            if isinstance(step, Send):
                told = given.pop(0) if len(given) > 1 else given[0]
            else:
                self.time.sleep(step.seconds)


def test_lost_create_is_looked_for_three_times() -> None:
    """Its session may appear late: after half a second, and after one and a half more."""
    case = Case()
    with pytest.raises(SessionOutcomeUnknownError, match=r"^The answer to a create was lost"):
        case.run(case.openings.open(case.opening), LOST, NOTHING_RUNS)
    assert case.time.waits == [0.5, 1.5]


def test_lost_create_is_known_by_its_reference() -> None:
    """Of the sessions that run, the one with the call's reference is returned, and no other one."""
    case = Case()
    listed = [
        {"session_id": "sess_1", "status": "started", "metadata": {"client_ref": "of another"}},
        {"session_id": "sess_2", "status": "started", "metadata": {"client_ref": case.opening.client_ref}},
    ]
    opened = case.run(case.openings.open(case.opening), LOST, answer(sessions=listed))
    assert opened.session_id == "sess_2"


def test_what_nobody_waits_for_is_looked_for_ever_more_rarely() -> None:
    """The pauses double, up to 16 seconds; after a minute nothing more is to be hoped for."""
    case = Case()
    case.opening.may_exist, case.opening.sent_at = True, case.time.now
    case.opening.wire = object()  # the request is on its way
    case.run(case.openings.abandon(case.opening), NOTHING_RUNS)
    assert [round(wait, 3) for wait in case.time.waits] == [1, 2, 4, 8, 16, 16, 13, 0.001]
    assert not case.opening.may_exist


def test_nothing_is_looked_for_that_cannot_be() -> None:
    """A call that was refused left nothing behind."""
    case = Case()
    case.run(case.openings.abandon(case.opening), LOST)
    assert not case.time.waits


def test_end_is_tried_for_a_minute() -> None:
    """Nobody else will end it: the pauses double, up to eight seconds, whatever number of retries the caller wanted."""
    case = Case()
    case.opening.may_exist, case.opening.opened = True, Session(session_id="sess_1")
    with pytest.raises(ServerError):
        case.run(case.openings.abandon(case.opening), BUSY)
    assert case.time.waits == [0.5, 1, 2, 4, 8, 8, 8, 8, 8, 8]
