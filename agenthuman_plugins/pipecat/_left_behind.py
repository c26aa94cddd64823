"""Sessions that may still be open though nobody uses them: their end failed, or the answer to their create was lost."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from loguru import logger

from agenthuman_plugins.client import AsyncAgentHuman, NotFoundError, SessionOutcomeUnknownError

_LIMIT_S = 10.0  # of one round; the next one comes before the next session, or at the end


class LeftBehind:
    """Ends what was left behind, as soon as that is possible: each of them is billed, and may be the only one allowed.

    What one run could not end, the next run of the same service tries again.

    Args:
        client: Gives the client that ends the sessions; a service makes one for each run.
    """

    def __init__(self, client: Callable[[], AsyncAgentHuman]) -> None:
        self._client = client
        self._session_ids: set[str] = set()
        self._client_refs: set[str] = set()

    @property
    def empty(self) -> bool:
        """Whether nothing is left behind."""
        return not (self._session_ids or self._client_refs)

    def note_session(self, session_id: str, error: Exception) -> None:
        """Note a session that could not be ended."""
        logger.warning(f"Session {session_id} could not be ended, which is tried again: {error}")
        self._session_ids.add(session_id)

    def note_create(self, error: Exception) -> None:
        """Note why a create failed; it may have opened a session all the same."""
        if isinstance(error, SessionOutcomeUnknownError) and error.client_ref is not None:
            self._client_refs.add(error.client_ref)

    async def end(self) -> None:
        """Try to end all of them; what cannot be ended stays noted, and nothing is raised."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LIMIT_S):
                for client_ref in sorted(self._client_refs):
                    await self._try(self._look_for, client_ref)
                for session_id in sorted(self._session_ids):
                    await self._try(self._end, session_id)

    def report(self) -> None:
        """Name what could not be ended to the very last."""
        for session_id in sorted(self._session_ids):
            logger.error(
                f"Session {session_id} could not be ended and is billed until the service ends it; "
                f"`agenthuman sessions end {session_id}` does."
            )
        for client_ref in sorted(self._client_refs):
            logger.warning(
                f"The answer to a create was lost and no session with metadata.client_ref {client_ref!r} was found; "
                "should one appear, it runs until the service ends it."
            )

    async def _try(self, step: Callable[[str], Awaitable[None]], name: str) -> None:
        """One that fails keeps no other from it."""
        try:
            await step(name)
        except Exception as error:  # noqa: BLE001 - whatever it is, the others and the report must follow
            logger.debug(f"{name} is still left behind: {error}")

    async def _look_for(self, client_ref: str) -> None:
        session = await self._client().sessions.find(client_ref)
        if session is not None:
            self._client_refs.discard(client_ref)
            self._session_ids.add(session.session_id)

    async def _end(self, session_id: str) -> None:
        with contextlib.suppress(NotFoundError):  # then nothing is left to end
            await self._client().sessions.end(session_id)
        self._session_ids.discard(session_id)
