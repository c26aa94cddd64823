"""One session of the real service, recorded: `make record-live`.

It bills the minutes of one session, at most one, which ends on every way out. Nothing else of the account is asked
for: lists may hold other people's data.
"""

import re
import sys
from pathlib import Path
from typing import Any

import vcr
from vcr.request import Request

from agenthuman_plugins.client import AgentHuman, AgentHumanError, AuthenticationError, NotFoundError, Session
from tests.vcr_support import CASSETTES, VCR_CONFIG

CASSETTE = CASSETTES / "live" / "session.yaml"
UNKNOWN = "sess_01H3Z8G9YR3K2N5M6P7Q8W4T"

# Random, because the service keeps it; the recording holds a fixed one, so that it can be replayed.
_REF = re.compile(r'("client_ref": ?)"[^"]*"')


def life_of_a_session(client: AgentHuman, ref: str | None) -> tuple[Session, Session]:
    """Open a session in a room of the service, read it, end it, and return how it began and how it ended."""
    metadata = {"recorded": True, **({} if ref is None else {"client_ref": ref})}
    with client.sessions.open(aspect_ratio="1:1", metadata=metadata, handle_signals=True) as session:
        client.sessions.get(session.session_id)
        client.sessions.end(session.session_id)
    return session, client.sessions.get(session.session_id)


def refusals(client: AgentHuman, stranger: AgentHuman) -> tuple[AgentHumanError, AgentHumanError]:
    """Return what a read of an unknown session, and a wrong key, are answered with."""
    return (
        _refusal(client, NotFoundError),
        _refusal(stranger, AuthenticationError),
    )


def _refusal(client: AgentHuman, expected: type[AgentHumanError]) -> AgentHumanError:
    try:
        client.sessions.get(UNKNOWN)
    except expected as error:
        return error
    raise AssertionError("an unknown session was found")


def cassette(path: Path, mode: str) -> Any:
    """The cassette as a context manager.

    Args:
        path: Where it lies.
        mode: `all` records, `none` replays.
    """
    config = {
        **VCR_CONFIG,
        "before_record_request": _request_with_fixed_ref,
        "before_record_response": _response_with_fixed_ref,
    }
    return vcr.VCR(**config).use_cassette(str(path), record_mode=mode)


def play(path: Path, mode: str, *, api_key: str | None, base_url: str | None = None) -> tuple[Any, ...]:
    """Carry out all of it, and return the results."""
    # Without the owner's mark, which holds the name of this machine.
    options: dict[str, Any] = {"base_url": base_url, "track_owner": False, "max_retries": 0}
    with (
        cassette(path, mode),
        AgentHuman(api_key=api_key, **options) as client,
        AgentHuman(api_key="ah_test_wrong", **options) as stranger,
    ):
        return (*refusals(client, stranger), *life_of_a_session(client, None if mode == "all" else "ref-1"))


def _request_with_fixed_ref(request: Request) -> Request:
    request = VCR_CONFIG["before_record_request"](request)
    if request.body:
        request.body = _REF.sub(r'\1"ref-1"', bytes(request.body).decode()).encode()
    return request


def _response_with_fixed_ref(response: dict[str, Any]) -> dict[str, Any]:
    response = VCR_CONFIG["before_record_response"](response)
    body = _REF.sub(r'\1"ref-1"', response["body"]["string"].decode())
    return {**response, "body": {"string": body.encode()}}


def main() -> int:
    """Record, then replay what was recorded."""
    recording = CASSETTE.with_suffix(".new")
    recording.unlink(missing_ok=True)
    try:
        play(recording, "all", api_key=None)
        *_, ended = play(recording, "none", api_key="ah_test_recorded")
    except AgentHumanError as error:
        recording.unlink(missing_ok=True)
        sys.stderr.write(f"Nothing was recorded: {error}\n")
        return 1
    recording.replace(CASSETTE)
    sys.stdout.write(
        f"Recorded {ended.session_id}, which is {ended.status}. Read {CASSETTE.name} before you commit it.\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
