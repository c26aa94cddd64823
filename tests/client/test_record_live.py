"""What `make record-live` does, tried on the emulator, and what it recorded, replayed."""

import re
from pathlib import Path
from typing import Any

import pytest

from agenthuman_plugins.client import AuthenticationError, NotFoundError
from tests.client import record_live
from tests.vcr_support import API_KEY, emulators, interactions


def check(results: tuple[Any, ...]) -> None:
    unknown, wrong_key, begun, ended = results
    assert isinstance(unknown, NotFoundError)
    assert isinstance(wrong_key, AuthenticationError)
    assert begun.room is not None
    assert ended.session_id == begun.session_id
    assert ended.has_ended


def test_one_session_is_recorded_scrubbed(tmp_path: Path) -> None:
    """Recording spends one session and ends it; the file replays, and holds no key, token, address or reference."""
    path = tmp_path / "session.yaml"
    with emulators() as start:
        emulator = start(sweep=False, expiry=False)
        check(record_live.play(path, "all", api_key=emulator.api_key, base_url=emulator.url))
        (session,) = emulator.sessions()
        secrets = [emulator.api_key, emulator.url, session["metadata"]["client_ref"]]
    assert session["ended_by"] == "caller"
    text = path.read_text()
    assert not [secret for secret in secrets if secret in text]
    assert re.search(r"eyJ|127\.0\.0\.1", text) is None
    assert "client_owner" not in text
    check(record_live.play(path, "none", api_key=API_KEY))


@pytest.mark.block_network
@pytest.mark.parametrize("path", [record_live.CASSETTE], ids=["session"])
def test_what_the_real_service_said_is_understood(path: Path) -> None:
    """If somebody with a key has recorded the real service, the client reads it."""
    if path.exists():
        check(record_live.play(path, "none", api_key=API_KEY))
        assert all(response["status"]["code"] in {200, 401, 404} for _, response in interactions(path))
