"""Which sessions the tools may touch."""

from typing import Literal, TypeAlias

from langchain_core.tools import ToolException

from agenthuman_plugins.client import Session
from agenthuman_plugins.langchain import _texts
from agenthuman_plugins.langchain._ledger import Entry, Ledger, Origin

Scope: TypeAlias = Literal["toolkit", "account"]


class Reach:
    """Sessions that a call may name.

    Args:
        ledger: Sessions of the toolkit.
        scope: `toolkit`: only those that were opened here, in the same conversation. `account`: every one.
    """

    def __init__(self, ledger: Ledger, scope: Scope) -> None:
        self._ledger = ledger
        self._scope = scope

    @property
    def is_account(self) -> bool:
        """Whether every session of the account may be named."""
        return self._scope == "account"

    def entries(self, runtime: object | None) -> list[Entry]:
        """Sessions of the toolkit that this call may name, newest first."""
        thread_id = Origin.of(runtime).thread_id
        return [entry for entry in self._ledger.entries() if self.is_account or entry.thread_id == thread_id]

    def own(self, session_id: str, runtime: object | None) -> Entry:
        """The session with this id, which the toolkit opened.

        Raises:
            ToolException: It did not, or not in this conversation. Nothing was sent.
        """
        entries = self.entries(runtime)
        for entry in entries:
            if entry.session.session_id == session_id:
                return entry
        running = [entry.session.session_id for entry in entries if not entry.session.has_ended]
        raise ToolException(_texts.not_opened_here(session_id, running))

    def allowed(self, session_id: str, runtime: object | None) -> str:
        """The id, if a call may name it.

        Raises:
            ToolException: It may not. Nothing was sent.
        """
        if self.is_account:
            return session_id
        return self.own(session_id, runtime).session.session_id

    def visible(self, sessions: list[Session], runtime: object | None) -> list[Session]:
        """Those of the account's sessions that a call may see."""
        if self.is_account:
            return sessions
        own = {entry.session.session_id for entry in self.entries(runtime)}
        return [session for session in sessions if session.session_id in own]
