"""The table of the avatar's life: what each row leads to, what is told about it, and that it is whole."""

import asyncio
from typing import Any

import pytest

from agenthuman_plugins.client import UsageLimitError
from agenthuman_plugins.pipecat import AgentHumanVideoSettings
from agenthuman_plugins.pipecat._life import MEANING, TABLE, Change, Life, State, markdown, mermaid
from agenthuman_plugins.pipecat._presence import Presence

_IN, _OUT = "on_avatar_connected", "on_avatar_disconnected"
_PLAIN, _VOICE = "on_fallback_started", "on_fallback_ended"
_GONE = "on_gave_up"

# Every row, written down anew: state, change, what follows, error, whether speech is handed back, handlers.
ROWS: list[tuple[str, str, str, str, bool, list[str]]] = [
    ("OFF", "WANT", "CONNECTING", "", False, []),
    ("CONNECTING", "ARRIVE", "AVATAR", "", False, [_IN]),
    ("CONNECTING", "DISMISS", "OFF", "", True, []),
    ("CONNECTING", "LATE", "PLAIN", "", True, [_PLAIN]),
    ("CONNECTING", "LOSE", "PLAIN", "once", True, [_PLAIN]),
    ("CONNECTING", "FULL", "WAITING", "once", True, [_PLAIN]),
    ("CONNECTING", "REFUSE", "GIVEN_UP", "permanent", True, [_PLAIN, _GONE]),
    ("AVATAR", "LOSE", "PLAIN", "once", True, [_OUT, _PLAIN]),
    ("AVATAR", "FULL", "WAITING", "once", True, [_OUT, _PLAIN]),
    ("AVATAR", "REFUSE", "GIVEN_UP", "permanent", True, [_OUT, _PLAIN, _GONE]),
    ("AVATAR", "RELEASE", "PLAIN", "", True, [_OUT, _PLAIN]),
    ("AVATAR", "CUT", "RETURNING", "", True, [_PLAIN]),
    ("AVATAR", "DISMISS", "OFF", "", True, [_OUT]),
    ("PLAIN", "ARRIVE", "RETURNING", "", False, [_IN]),
    ("PLAIN", "LOSE", "PLAIN", "once", True, []),
    ("PLAIN", "FULL", "WAITING", "once", True, []),
    ("PLAIN", "REFUSE", "GIVEN_UP", "permanent", True, [_GONE]),
    ("PLAIN", "DISMISS", "OFF", "", False, [_VOICE]),
    ("WAITING", "ARRIVE", "RETURNING", "", False, [_IN]),
    ("WAITING", "LOSE", "PLAIN", "once", True, []),
    ("WAITING", "FULL", "WAITING", "once", True, []),
    ("WAITING", "REFUSE", "GIVEN_UP", "permanent", True, [_GONE]),
    ("WAITING", "DISMISS", "OFF", "", False, [_VOICE]),
    ("RETURNING", "BOUNDARY", "AVATAR", "", False, [_VOICE]),
    ("RETURNING", "LOSE", "PLAIN", "once", True, [_OUT]),
    ("RETURNING", "FULL", "WAITING", "once", True, [_OUT]),
    ("RETURNING", "REFUSE", "GIVEN_UP", "permanent", True, [_OUT, _GONE]),
    ("RETURNING", "RELEASE", "PLAIN", "", True, [_OUT]),
    ("RETURNING", "CUT", "RETURNING", "", True, []),
    ("RETURNING", "DISMISS", "OFF", "", True, [_OUT, _VOICE]),
    ("GIVEN_UP", "RETRY", "PLAIN", "", False, []),
]


class _Delivery:
    """A reply on its way, of which it is noted what happens."""

    plain = True

    def __init__(self) -> None:
        self.handed_back = 0

    async def hand_back(self) -> None:
        self.handed_back += 1


class _Service:
    def __init__(self) -> None:
        self.errors: list[dict[str, Any]] = []
        self.told: list[str] = []
        self.reasons: list[object] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.cancelled: list[asyncio.Task[None]] = []
        self.usable = False

    def create_task(self, work: Any, _: str) -> asyncio.Task[None]:
        self.tasks.append(asyncio.create_task(work))
        return self.tasks[-1]

    async def cancel_task(self, task: asyncio.Task[None]) -> None:
        self.cancelled.append(task)
        task.cancel()

    async def push_error(self, text: str, **details: Any) -> None:
        self.errors.append({"text": text, **details})

    async def set_usable(self, is_usable: bool) -> None:
        self.usable = is_usable

    async def tell(self, event: str, *reason: object) -> None:
        self.told.append(event)
        self.reasons += reason


def _presence(state: State) -> tuple[Presence, _Service, _Delivery]:
    service, delivery, life = _Service(), _Delivery(), Life()
    life.state = state
    settings = AgentHumanVideoSettings(avatar_wait_s=60.0)
    return Presence(service, life, delivery, settings, service.tell), service, delivery  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "change", "to", "error", "handed_back", "handlers"),
    [pytest.param(*row, id=f"{row[0]}-{row[1]}") for row in ROWS],
)
async def test_row(
    state: str, change: str, to: str, error: str, handed_back: bool, handlers: list[str]
) -> None:
    """Each row leads where it should, gives the voice back, reports and tells what it says, once."""
    presence, service, delivery = _presence(State[state])
    await presence.take(Change[change], UsageLimitError("full", status_code=429) if error else "a reason")
    assert presence.life.state is State[to]
    assert service.told == handlers
    assert bool(delivery.handed_back) == handed_back
    assert [e["force_treat_as_permanent"] for e in service.errors] == (
        [error == "permanent"] if error else []
    )


@pytest.mark.parametrize("state", State)
async def test_run_begins_and_ends_in_every_state(state: State) -> None:
    """Whatever was before, a run begins with nothing and ends in silence: whoever does either knows it."""
    presence, service, _ = _presence(state)
    presence.end()
    assert presence.life.state is State.ENDED
    await presence.take(Change.BEGIN)
    assert presence.life.state is State.OFF
    assert not service.told
    assert not service.errors


def test_no_row_is_missing_here() -> None:
    """A row that is added to the table is written down here, too."""
    listed = {(State[state], Change[change]) for state, change, *_ in ROWS}
    assert listed == {key for key in TABLE if key[1] not in (Change.BEGIN, Change.END)}
    assert set(MEANING) == set(State)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("change", Change)
async def test_what_is_not_in_the_table_changes_nothing(state: State, change: Change) -> None:
    """A change that means nothing in a state is no defect: it comes too late, or once more."""
    if (state, change) in TABLE:
        return
    presence, service, delivery = _presence(state)
    await presence.take(change, "a reason")
    assert presence.life.state is state
    assert not service.told
    assert not service.errors
    assert not delivery.handed_back


async def test_failure_of_one_kind_is_reported_once_until_the_avatar_is_back() -> None:
    """The user hears of a full account once, and again only after an avatar was there in between."""
    presence, service, _ = _presence(State.CONNECTING)
    full = UsageLimitError("full", status_code=429)
    for change in (Change.FULL, Change.FULL, Change.ARRIVE, Change.FULL):
        await presence.take(change, full)
    assert len(service.errors) == 2


async def test_avatar_takes_over_when_the_plain_reply_is_over() -> None:
    """A connected avatar waits until no reply passes as plain audio; the application learns that the fallback ends."""
    presence, service, delivery = _presence(State.RETURNING)
    await presence.note_boundary()
    assert presence.life.state is State.RETURNING
    delivery.plain = False
    await presence.note_boundary()
    assert presence.life.state is State.AVATAR
    assert service.told == [_VOICE]


async def test_speech_waits_for_an_avatar_that_is_on_its_way() -> None:
    """The first speech starts one wait, the next none; where no avatar is on its way, nothing waits."""
    presence, service, _ = _presence(State.CONNECTING)
    presence.speech_waits()
    presence.speech_waits()
    assert len(service.tasks) == 1
    await presence.speech_dropped()
    assert service.cancelled == service.tasks
    presence.speech_waits()
    assert len(service.tasks) == 2
    assert presence.end() == {service.tasks[1]}
    assert service.tasks[1].cancelling()
    assert presence.end() == set()
    other, nobody, _ = _presence(State.PLAIN)
    other.speech_waits()
    assert not nobody.tasks


async def test_waiting_ends_with_the_avatar() -> None:
    """When the avatar has come, nobody hears of a wait that was too long."""
    presence, service, _ = _presence(State.CONNECTING)
    presence.speech_waits()
    await presence.take(Change.ARRIVE)
    assert service.cancelled == service.tasks


async def test_speech_that_waited_long_enough_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """After `avatar_wait_s` the speech is plain audio, and the application is told why."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("agenthuman_plugins.pipecat._presence.asyncio.sleep", sleep)
    presence, service, delivery = _presence(State.CONNECTING)
    presence.speech_waits()
    await service.tasks[0]
    assert waited == [60.0]
    assert presence.life.state is State.PLAIN
    assert service.reasons == ["no avatar after 60 s of waiting"]
    assert delivery.handed_back == 1
    assert not service.cancelled  # it has ended by itself


async def test_who_gave_up_and_tries_again_is_usable() -> None:
    """A switcher may choose the service again."""
    presence, service, _ = _presence(State.GIVEN_UP)
    await presence.take(Change.RETRY)
    assert service.usable


async def test_reason_is_told_where_one_belongs() -> None:
    """Handlers of a loss, a fallback and the end of all attempts get the reason; the others get nothing."""
    presence, service, _ = _presence(State.AVATAR)
    error = UsageLimitError("full", status_code=429)
    await presence.take(Change.REFUSE, error)
    assert service.reasons == [str(error)] * 3
    assert [told["exception"] for told in service.errors] == [error]
    await presence.take(Change.RETRY)
    await presence.take(Change.ARRIVE, "unused")
    assert len(service.reasons) == 3


def test_table_and_diagram_show_every_state() -> None:
    """What the documentation prints leaves no state out."""
    for state in State:
        assert state.value in mermaid()
        assert state.value in markdown()
