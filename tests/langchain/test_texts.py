"""What the model is told."""

from agenthuman_plugins.client.errors import NotFoundError
from agenthuman_plugins.langchain import _texts


def test_unknown_avatar_is_not_told_as_an_unknown_session() -> None:
    """The advice about a 404 fits whatever was not found: avatars of a create as well as sessions."""
    told = _texts.failure(NotFoundError("Avatar not found.", status_code=404))
    assert told.startswith("Avatar not found.\nDo not retry")
    assert "session" not in told
