"""The tools that change nothing: one session, and the list of them."""

from langchain_core.tools import BaseTool

from agenthuman_plugins.client import Session
from agenthuman_plugins.langchain import _schemas, _texts
from agenthuman_plugins.langchain._clients import Clients
from agenthuman_plugins.langchain._ledger import Ledger
from agenthuman_plugins.langchain._reach import Reach
from agenthuman_plugins.langchain._structured import Result, Runtime, structured, told


class Read:
    """Looks at sessions.

    Args:
        clients: Where the clients come from.
        ledger: Where the toolkit's sessions are kept.
        reach: Which sessions a call may see.
    """

    def __init__(self, clients: Clients, ledger: Ledger, reach: Reach) -> None:
        self._clients = clients
        self._ledger = ledger
        self._reach = reach

    def get_tool(self) -> BaseTool:
        """Make the tool for one session."""
        return structured(
            _texts.GET,
            "Get a video session as it is now: whether it runs, how long, and when it ends by itself.",
            _schemas.SessionArgs,
            self.get_session,
            self.aget_session,
        )

    def list_tool(self) -> BaseTool:
        """Make the tool for the list."""
        return structured(
            _texts.LIST,
            "List video sessions, the newest first.",
            _schemas.ListArgs,
            self.list_sessions,
            self.alist_sessions,
        )

    def get_session(self, session_id: str, runtime: Runtime = None) -> Result:
        """Tell a session that this call may name."""
        allowed = self._reach.allowed(session_id, runtime)
        with told():
            return self._told(self._clients.sync_client().sessions.get(allowed))

    async def aget_session(self, session_id: str, runtime: Runtime = None) -> Result:
        """Tell a session that this call may name."""
        allowed = self._reach.allowed(session_id, runtime)
        with told():
            return self._told(await self._clients.async_client().sessions.get(allowed))

    def list_sessions(self, status: _schemas.Status = "started", runtime: Runtime = None) -> Result:
        """Tell the sessions that this call may see."""
        if self._sees_none(runtime):
            return self._listed([], status, runtime)
        with told():
            sessions = self._clients.sync_client().sessions.list(status)
        return self._listed(sessions, status, runtime)

    async def alist_sessions(self, status: _schemas.Status = "started", runtime: Runtime = None) -> Result:
        """Tell the sessions that this call may see."""
        if self._sees_none(runtime):
            return self._listed([], status, runtime)
        with told():
            sessions = await self._clients.async_client().sessions.list(status)
        return self._listed(sessions, status, runtime)

    def _sees_none(self, runtime: object | None) -> bool:
        return not self._reach.is_account and not self._reach.entries(runtime)

    def _told(self, session: Session) -> Result:
        if session.has_ended:
            self._ledger.mark_ended(session.session_id, session)
        return _texts.state(session), _texts.artifact(session)

    def _listed(self, sessions: list[Session], status: _schemas.Status, runtime: object | None) -> Result:
        # The service may know other words than its pages, so what it sent is looked at once more.
        visible = [
            session
            for session in self._reach.visible(sessions, runtime)
            if status == "all" or session.has_ended == (status == "ended")
        ]
        visible.sort(key=_begin, reverse=True)
        return _texts.listed(visible, status), _texts.list_artifact(visible)


def _begin(session: Session) -> float:
    begin = session.started_at or session.created_at
    return begin.timestamp() if begin else 0.0
