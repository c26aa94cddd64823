"""Starting a session of the older, Daily-managed generation: asked again until its server has booted. No I/O."""

from agenthuman_plugins.client import _calls
from agenthuman_plugins.client._answers import is_unknown_route
from agenthuman_plugins.client._config import Settings
from agenthuman_plugins.client._flow import Flows, Pause, Steps
from agenthuman_plugins.client.errors import APIStatusError, APITimeoutError
from agenthuman_plugins.client.models import Session, SessionStart

_BOOTING = "try_again"  # instead of an address, while the server boots
_POLL_S = 2.0  # a server takes some seconds; more often would only eat into the rate limit


def starting(flows: Flows, settings: Settings, session_id: str, limit_s: float | None) -> Steps[Session]:
    """Start a session and return it once it runs, with the address of its speech gateway.

    A service of the newest generation has no start call, since its create starts the session. There, the session
    is only waited for.

    Raises:
        APITimeoutError: It does not run within `limit_s` seconds (`None`: the client's limit).
    """
    now = settings.clock.monotonic
    limit_s = settings.timeout_s if limit_s is None else limit_s
    deadline = now() + limit_s
    while True:
        start = yield from _start(flows, session_id, deadline - now())
        if start is None or start.ws_uri != _BOOTING:
            session = yield from flows.call(_calls.get_session(session_id), deadline - now())
            if start is not None:
                return session.model_copy(update={"ws_uri": start.ws_uri})
            if session.status != "created":
                return session
        if now() + _POLL_S >= deadline:
            raise APITimeoutError(
                f"Session {session_id} was started, but its server is not ready after {limit_s:g} s. "
                "It may be billed from here on: call start again, which goes on waiting, or end it.",
                retryable=True,
            )
        yield Pause(_POLL_S)


def _start(flows: Flows, session_id: str, limit_s: float) -> Steps[SessionStart | None]:
    try:
        return (yield from flows.call(_calls.start_session(session_id), limit_s))
    except APIStatusError as error:
        if is_unknown_route(error):
            return None
        raise
