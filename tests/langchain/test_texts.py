"""What the model is told."""

import pytest

from agenthuman_plugins.client._answers import HINTS, Answer, understand
from agenthuman_plugins.client.errors import AgentHumanError, NotFoundError, SessionOutcomeUnknownError
from agenthuman_plugins.langchain import _texts
from agenthuman_plugins.langchain.tools import NAMES


def test_unknown_avatar_is_not_told_as_an_unknown_session() -> None:
    """The advice about a 404 fits whatever was not found: avatars of a create as well as sessions."""
    told = _texts.failure(NotFoundError("Avatar not found.", status_code=404), NAMES, [])
    assert told.startswith("Avatar not found.\nDo not retry")
    assert "session" not in told


@pytest.mark.parametrize("status", [401, 402, 404])
def test_advice_to_programmers_is_left_out(status: int) -> None:
    """What a model cannot do, such as to pass another api_key, is not among what it is told to do."""
    with pytest.raises(AgentHumanError) as caught:
        understand(Answer(status, {}, b"{}"), lambda body: body, ())
    assert any(hint in str(caught.value) for hint in HINTS.values())
    told = _texts.failure(caught.value, NAMES, [])
    assert told.startswith(f"The service refused the request. [HTTP {status}]\nDo not retry")
    assert not any(hint in told for hint in HINTS.values())


def test_lost_create_is_told_without_python() -> None:
    """The model reads what happened and the reference that its operator can look for, and no function to call."""
    error = SessionOutcomeUnknownError("Look for it with sessions.list().", client_ref="lc-1")
    error.__cause__ = NotFoundError("Gone. [HTTP 404]", status_code=404)
    told = _texts.failure(error, NAMES, [])
    assert "lc-1" in told
    assert "What happened: Gone. [HTTP 404]" in told
    assert "sessions.list" not in told
