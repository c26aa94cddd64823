"""Sessions whose end failed, or whose create was never answered, are ended as soon as that is possible."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from loguru import logger
from pipecat.frames.frames import EndFrame, ErrorFrame
from pipecat.utils.errors import ErrorCategory

from agenthuman_plugins.client import (
    AgentHumanError,
    NotFoundError,
    PermissionDeniedError,
    ServerError,
    Session,
    SessionOutcomeUnknownError,
)
from agenthuman_plugins.pipecat import AgentHumanVideoService, video
from agenthuman_plugins.pipecat._left_behind import LeftBehind
from agenthuman_plugins.speech import InProcessSpeechLink
from tests.pipecat.bot import FakeClient, running, running_service

_FORBIDDEN = PermissionDeniedError("not now", status_code=403)


class _Account(FakeClient):
    """An account that refuses the first `refusals` ends."""

    def __init__(self, refusals: int = 0) -> None:
        super().__init__()
        self.refusals = refusals
        self.found: dict[str, str] = {}  # id of the session by the reference of its create
        self.sessions = SimpleNamespace(open=self._open_strictly, end=self._end, find=self._find)

    @contextlib.asynccontextmanager
    async def _open_strictly(self, **options: Any) -> AsyncIterator[Session]:
        if self.failure:
            raise self.failure
        session = Session(session_id=f"sess_{len(self.opened) + 1}", status="started")
        self.opened.append(session.session_id)
        try:
            yield session
        finally:
            await self._end(session.session_id)

    async def _end(self, session_id: str) -> None:
        if self.refusals:
            self.refusals -= 1
            raise _FORBIDDEN
        if session_id in self.ended:
            raise NotFoundError("gone", status_code=404)
        self.ended.append(session_id)

    async def _find(self, client_ref: str) -> Session | None:
        session_id = self.found.get(client_ref)
        return None if session_id is None else Session(session_id=session_id, status="started")


@pytest.fixture
def log() -> Iterator[list[str]]:
    """What is logged as a warning or worse."""
    messages: list[str] = []
    handler = logger.add(messages.append, level="WARNING", format="{level} {message}")
    yield messages
    logger.remove(handler)


def _lost(client_ref: str) -> SessionOutcomeUnknownError:
    error = SessionOutcomeUnknownError("no answer", client_ref=client_ref)
    error.__cause__ = ServerError("down", status_code=500)
    return error


async def test_session_that_could_not_be_ended_is_ended_before_the_next_one() -> None:
    """A plan may allow one session: the one left behind would lock its owner out. The reason stays the first one."""
    account = _Account(refusals=1)
    async with running(account) as bot:
        await bot.until_event("on_avatar_connected")
        bot.links[0].crash()
        await bot.until_event("on_avatar_connected", 2)
        assert account.ended == ["sess_1"]
        assert [error.category for error in bot.up.of(ErrorFrame)] == [ErrorCategory.CONNECTIVITY]


async def test_session_that_could_not_be_ended_is_tried_once_more_at_the_end() -> None:
    """The bot does not leave while one more call may end what is billed."""
    account = _Account(refusals=1)
    async with running(account) as bot:
        await bot.until_event("on_avatar_connected")
    assert not account.leaked


async def test_avatar_comes_back_after_a_create_without_an_answer() -> None:
    """The error says what became of the answer; the session that opened all the same is ended when it shows."""
    account = _Account()
    account.failure = _lost("ref_1")
    async with running(account) as bot:
        await bot.up.until(lambda: bot.up.of(ErrorFrame))
        account.opened.append("sess_late")
        account.found["ref_1"] = "sess_late"
        account.failure = None
        await bot.until_event("on_avatar_connected")
        assert account.ended == ["sess_late"]
        assert [error.category for error in bot.up.of(ErrorFrame)] == [ErrorCategory.SERVER]


async def test_one_that_cannot_be_ended_keeps_no_other_from_it() -> None:
    """Each session is billed by itself: a refusal of the first is no reason to leave the second running."""
    account = _Account(refusals=1)
    left = LeftBehind(lambda: account)  # type: ignore[arg-type]
    left.note_session("sess_1", _FORBIDDEN)
    left.note_session("sess_2", _FORBIDDEN)
    await left.end()
    assert account.ended == ["sess_2"]
    await left.end()
    assert account.ended == ["sess_2", "sess_1"]


async def test_whatever_goes_wrong_is_named_at_the_end(
    log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of no known kind, such as that of a closed client, hides no session that is billed."""
    account = _Account(refusals=1)

    async def end(session_id: str) -> None:
        account.ended.append(session_id)  # nothing of this account is really left open
        raise RuntimeError("the client has been closed")

    async with running(account) as bot:
        await bot.until_event("on_avatar_connected")
        account.sessions.end = end
    assert "agenthuman sessions end sess_1" in log[-1]


async def test_session_that_is_still_being_ended_is_named_and_keeps_its_client(
    log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that does not answer holds nobody up for ever, and the call that ends the session goes on."""
    monkeypatch.setattr(video, "_END_TIMEOUT_S", 0.05)
    account, closed = FakeClient(), []
    account.end_now.clear()
    async with running(account) as bot:
        await bot.until_event("on_avatar_connected")
        bot.service._owned_client = SimpleNamespace(aclose=lambda: closed.append(True))  # type: ignore[assignment]
        await bot.worker.cancel()
        await bot.service.cleanup()
        assert not closed
        assert "session sess_1 is still being ended" in log[-1]
        account.end_now.set()


@pytest.mark.parametrize("error", [_FORBIDDEN, ServerError("down", status_code=500)])
async def test_what_cannot_be_ended_is_named_at_the_end(error: AgentHumanError, log: list[str]) -> None:
    """Somebody has to end it by hand: the log says which one, and how."""
    left = LeftBehind(_Account(refusals=2))  # type: ignore[arg-type]
    left.note_session("sess_1", error)
    await left.end()
    left.report()
    assert "agenthuman sessions end sess_1" in log[-1]
    assert log[-1].startswith("ERROR")


async def test_lost_create_is_looked_for_until_it_shows(log: list[str]) -> None:
    """A create can be processed long after its caller has given up."""
    account = _Account()
    left = LeftBehind(lambda: account)  # type: ignore[arg-type]
    left.note_create(_lost("ref_1"))
    await left.end()
    assert not account.ended
    account.found["ref_1"] = "sess_late"
    await left.end()
    assert account.ended == ["sess_late"]
    left.report()
    assert not log


async def test_session_that_is_gone_is_not_left_behind(log: list[str]) -> None:
    """An end whose answer was lost has worked: the second one finds nothing."""
    account = _Account()
    account.ended.append("sess_1")
    left = LeftBehind(lambda: account)  # type: ignore[arg-type]
    left.note_session("sess_1", TimeoutError())
    log.clear()
    await left.end()
    left.report()
    assert not log


async def test_next_run_ends_what_the_last_one_could_not() -> None:
    """A session that could not be ended in one run is not forgotten when the service is used again."""
    account = _Account(refusals=2)
    service = AgentHumanVideoService(
        client=account,  # type: ignore[arg-type]  # all that it uses
        link_factory=lambda _, rate: InProcessSpeechLink(audio_sample_rate=rate),
    )
    async with running_service(service, account) as bot:
        await bot.until_event("on_avatar_connected")
        await bot.send(EndFrame())  # after a CancelFrame Pipecat lets no processor run again
        await bot.down.until(lambda: bot.down.of(EndFrame))
    assert account.leaked == {"sess_1"}
    async with running_service(service, account) as bot:
        await bot.until_event("on_avatar_connected")
        assert account.leaked == {"sess_2"}
    assert not account.leaked
