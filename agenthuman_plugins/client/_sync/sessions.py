# Generated from _async/sessions.py by `make generate`. Do not edit.
"""The sessions of an account."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Unpack

from agenthuman_plugins.client._calls import BodyOptions, CallOptions, with_options
from agenthuman_plugins.client._calls import sessions as calls
from agenthuman_plugins.client._config import seconds
from agenthuman_plugins.client._driver import Driver
from agenthuman_plugins.client._lease import Lease
from agenthuman_plugins.client._opening import creation
from agenthuman_plugins.client._owner import check_owner, left_open
from agenthuman_plugins.client.models import Session, SessionList, SessionStatus
from agenthuman_plugins.client.rooms import AspectRatio, Room


class Sessions:
    """The sessions of an account. Available as `client.sessions`."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def create(
        self,
        *,
        avatar: str | None = None,
        room: Room | None = None,
        aspect_ratio: AspectRatio = "4:3",
        metadata: Mapping[str, Any] | None = None,
        **options: Unpack[BodyOptions],
    ) -> Session:
        """Create a session, which also starts it: it is billed from here (inferred) until it ends.

        Sent again only if the service cannot have processed it. An answer that is lost is looked up by
        the reference in `metadata["client_ref"]`; a session found that way has no `session_token` and no
        `room.token`, which only the create's own answer carries. A call that is given up (cancellation,
        KeyboardInterrupt) returns at once; what it may have opened is ended in the background, and closing the
        client waits for that. The same goes for a call whose limit is reached. `open` also ends the session afterwards.

        A service of the older, Daily-managed generation refuses the call and gets it in its own form, if `room` is
        `None`. Its session is `created`, and not billed before it is started: see `start`.

        Example:
            ```python
            session = client.sessions.create(metadata={"customer": 42})
            client.sessions.end(session.session_id)  # yours to end: `open` does it by itself
            ```

        Args:
            avatar: Avatar id (`avat_...`); `None` takes `AGENTHUMAN_AVATAR`, then the default of the
                vendor's LiveKit plugin (inferred). A public
                image URL or a `data:image/...` URI needs a paid plan and takes longer.
            room: Room for the avatar to join; `None` asks the service to make one, returned as `session.room`. That is
                inferred: the public pages list only rooms of your own.
            aspect_ratio: `4:3`, `3:4` or `1:1`.
            metadata: JSON object to keep with the session. A `client_ref` of your own, unique to the wanted
                session, replaces the generated one; so does a `client_owner` (see `reap`).
            options: `timeout`, `extra_headers` and `extra_body`, see `BodyOptions`. Beyond `timeout` the
                call waits 2 s for its answer, and up to 10 s to find a session whose answer was lost.

        Returns:
            The session. Only this reply carries `session_token`.

        Raises:
            ConfigurationError: An argument is wrong; nothing was sent.
            UsageLimitError: Minutes or concurrent sessions are used up.
            PermissionDeniedError: The plan does not allow images, or the avatar is another account's (inferred for
                sessions of today).
            SessionOutcomeUnknownError: The answer did not come in time, and what it opens is ended in the background;
                or it was lost, and no session carries our reference.

        Source: docs.agenthuman.com, endpoints/create-session.
        """
        call = calls.create_session(avatar=avatar, room=room, aspect_ratio=aspect_ratio, metadata=metadata)
        return self._driver.open(creation(with_options(call, options), self._driver.settings))

    def get(self, session_id: str, **options: Unpack[CallOptions]) -> Session:
        """Get a session as it is now.

        Example:
            ```python
            session = client.sessions.get(session.session_id)
            print(session.status, session.duration)
            ```

        Args:
            session_id: `sess_...`
            options: `timeout` and `extra_headers`, see `CallOptions`.

        Raises:
            NotFoundError: There is no such session.
        """
        return self._driver.call(with_options(calls.get_session(session_id), options))

    def list(self, status: SessionStatus = "all", **options: Unpack[CallOptions]) -> SessionList:
        """List the sessions of the account; no paging is documented.

        An entry that cannot be read is left out, with a warning in the log. Each entry has the `headers` and the
        `request_id` of the answer; an empty list has none.

        Example:
            ```python
            for session in client.sessions.list("started"):
                print(session.session_id, session.duration)
            ```

        Args:
            status: `all`, `started` or `ended`.
            options: `timeout` and `extra_headers`, see `CallOptions`.
        """
        return self._driver.call(with_options(calls.list_sessions(status), options))

    def find(self, client_ref: str, *, timeout: float | None = None) -> Session | None:
        """Find a session, running or ended, by the reference of its create; `None` if there is none.

        Asks for the list, and for up to 20 single sessions if the list leaves metadata out.

        Example:
            ```python
            session = client.sessions.find("order-42")  # the client_ref of its create
            print("none" if session is None else session.status)
            ```

        Args:
            client_ref: What stands in its `metadata["client_ref"]`; `SessionOutcomeUnknownError` carries it.
            timeout: Limit in seconds for all of it; `None` takes the client's.

        Raises:
            ConfigurationError: The reference is empty.
        """
        limit_s = None if timeout is None else seconds("timeout", timeout)
        return self._driver.run(self._driver.flows.find(client_ref, limit_s))

    def start(self, session: Session | str, *, timeout: float | None = None) -> Session:
        """Start a session of the older, Daily-managed generation, and wait until its server has booted.

        Only needed for a session that `create` returned with status `created`; today's are started by it, and
        returned as they are. It is billed from here on. Harmless when repeated.

        Example:
            ```python
            session = client.sessions.start(session)
            print(session.status)
            ```

        Args:
            session: What `create` returned, or its id (`sess_...`).
            timeout: Limit in seconds for the whole wait; `None` takes the client's.

        Returns:
            The session, with `ws_uri` (the speech gateway) and `daily_room` (where its viewers go). It has a
            `session_token` if `session` was what `create` returned: only its reply carries one.

        Raises:
            NotFoundError: There is no such session.
            APITimeoutError: The server is not ready yet; call again to go on waiting, or end the session.

        Source: docs.agenthuman.com, endpoints/start-session.
        """
        limit_s = None if timeout is None else seconds("timeout", timeout)
        return self._driver.run(self._driver.flows.start(session, limit_s))

    def end(self, session_id: str, **options: Unpack[BodyOptions]) -> Session:
        """End a session, and with it its billing. Harmless when repeated.

        The reply has few fields; `get` returns the rest, `billing` included.

        Example:
            ```python
            client.sessions.end(session.session_id)
            ended = client.sessions.get(session.session_id)
            print(ended.billing)
            ```

        Args:
            session_id: `sess_...`
            options: `timeout`, `extra_headers` and `extra_body`, see `BodyOptions`.

        Raises:
            NotFoundError: There is no such session.
        """
        return self._driver.call(with_options(calls.end_session(session_id), options))

    def open(
        self,
        *,
        avatar: str | None = None,
        room: Room | None = None,
        aspect_ratio: AspectRatio = "4:3",
        metadata: Mapping[str, Any] | None = None,
        handle_signals: bool = False,
        **options: Unpack[BodyOptions],
    ) -> AbstractContextManager[Session]:
        """Create a session for one `with` block (`async with` in the async client), and end it however that is left.

        Return, exception, cancellation and KeyboardInterrupt all end it. If ending fails, that is raised,
        unless the block raised something itself: then it is logged.

        Example:
            ```python
            with client.sessions.open(aspect_ratio="1:1") as session:
                print(session.session_id)
            ```

        Args:
            avatar: As in `create`.
            room: As in `create`.
            aspect_ratio: As in `create`.
            metadata: As in `create`.
            handle_signals: Whether SIGTERM leaves the block, too: it is cancelled (or interrupted, in the
                sync client), the session ended, then the handler called that was set before, and the program
                left with `SystemExit(143)`. For programs, not for libraries; in the main thread only.
            options: As in `create`.
        """
        call = calls.create_session(avatar=avatar, room=room, aspect_ratio=aspect_ratio, metadata=metadata)
        opening = creation(with_options(call, options), self._driver.settings)
        return Lease(self._driver, opening, handle_signals=handle_signals)

    def reap(self, *, owner: str | None = None, dry_run: bool = False) -> SessionList:
        """End the sessions that a process left open when it crashed or was killed.

        Every create marks its session with this machine and process (`metadata["client_owner"]`, switched off by
        `track_owner=False`). Without `owner`, those sessions are ended whose process ran on this machine and is
        known to be dead. After a reboot, from another machine or container, or when in doubt, nothing is known: then
        name the owner.

        Example:
            ```python
            for session in client.sessions.reap(dry_run=True):
                print("left open:", session.session_id)
            ```

        Args:
            owner: Whose sessions to end, running or not: the whole `client_owner`.
            dry_run: End nothing; return what would be ended.

        Returns:
            The sessions as they were found.

        Raises:
            ConfigurationError: `owner` names nobody.
            AgentHumanError: A session could not be ended; all others were.
        """
        check_owner(owner)
        sessions = self._driver.run(self._driver.flows.running())
        # The proof may take a moment of the operating system's time.
        found = left_open(sessions, owner)
        if not dry_run:
            self._driver.run(self._driver.flows.end_each(found))
        return found
