"""The emulator: the whole service in the caller's event loop, with its rooms and avatars in child processes."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Self

from agenthuman_plugins.emulator._app import create_app
from agenthuman_plugins.emulator._avatars import NoAvatar, WorkerAvatar
from agenthuman_plugins.emulator._board import Board
from agenthuman_plugins.emulator._clock import MAX_AHEAD, EmulatorClock
from agenthuman_plugins.emulator._errors import LIMIT_ERRORS, EmulatorError, LimitError, ServiceError
from agenthuman_plugins.emulator._faults import Fault
from agenthuman_plugins.emulator._gateway import MAX_MESSAGE_BYTES
from agenthuman_plugins.emulator._ids import new_api_key
from agenthuman_plugins.emulator._plans import PLANS
from agenthuman_plugins.emulator._proxy_rooms import NoRooms, RoomServerKind, RoomServerRooms
from agenthuman_plugins.emulator._rate_limit import RateLimit
from agenthuman_plugins.emulator._service import Service
from agenthuman_plugins.emulator._store import (
    SWEEP_AFTER_S,
    Clock,
    Generation,
    Metadata,
    Rules,
    SessionStore,
    utc_now,
)
from agenthuman_plugins.emulator._watch import Watch
from agenthuman_plugins.emulator.http_server import serving

VIDEO_SIZE = (640, 480)


class Emulator:
    """A local Agent Human service for demos and tests.

    Use it as an async context manager; leaving it stops every child process. Sessions that are still open then
    stay on record as open, so that a leak shows.

    Example:
        ```python
        async with Emulator(plan="explorer") as emulator:
            client = AsyncAgentHuman(api_key=emulator.api_key, base_url=emulator.url)
            async with client, client.sessions.open() as session:
                print(session.session_id)
        ```

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        plan: `free`, `explorer`, `growth` or `pro`.
        api_key: Key that callers must send; by default a new one.
        sweep: Whether sessions are ended whose participants left, whose avatar died, or whose avatar was alone
            for `sweep_after_s`. Without it and `expiry` only callers end sessions.
        sweep_after_s: Time that an avatar may be alone in its room, in seconds.
        expiry: Whether sessions end when the plan's limit is reached.
        minutes: Minutes that the plan includes. The documents list none for the plans: by default 120 (free, as in their
            examples), 600, 1,500 or 4,000, which are the emulator's own.
        purchased_minutes: Minutes on top of them, which are used last.
        slots: Sessions at the same time; by default as many as the plan has.
        session_limit_s: Seconds after which a session ends, with `expiry`; by default 4 hours on every plan, as in the
            documents' examples.
        limit_errors: How a call is refused when `minutes`, `sessions` or `avatars` are used up, by those names: a
            `LimitError` with `status`, `code` and `details`, which the pages leave open in part.
        requests_per_minute: Limit on the requests to `/v1`, 60 at the real service; by default there is none.
        video_size: Width and height of the avatar's video at 4:3.
        media: Whether sessions get real rooms and avatars. Without, only REST works, at no cost.
        room_server: Kind of the room server; see `RoomServer`.
        allow_hosts: Names under which requests without the key are answered, besides `localhost` and IP addresses,
            such as `emulator` in a compose file.
        allow_private_urls: Whether pictures are also fetched from this machine and private networks.
        clock: Returns the real time; `emulator.clock` can be paused and moved forward.
        generation: `own-room` is the service of today; `managed` the one before, whose sessions are created, then
            started, in rooms of Daily that the service makes.
        boot_s: For `managed`: how long the server of a started session takes to boot, in seconds. Until then the
            start call answers `try_again`, and the first time in any case.
        metadata: Whether sessions have their metadata `kept` or `dropped`, or a create with any is `refused`.
        list_metadata: Whether the list of sessions carries it.
        proxy_rooms: Whether a create may leave the room to the service (platform `proxy`); otherwise it is refused with
            HTTP 400. The public pages list `livekit` and `daily` alone; `proxy` is inferred, known from the vendor's own
            Pipecat service.
        established_first: Whether the gateway answers `connection.established` at once, before the avatar has joined.
            The pages have both orders.

    Attributes:
        url: Base URL of the REST API.
        gateway_url: Address of the WebSocket gateway.
        room_server_url: Address of the room server; empty before `wait_ready`, and without media.
        api_key: The key that callers must send.
        clock: The time of sessions, links, periods and request rates: `pause()`, `resume()`, and
            `advance(hours=…, minutes=…, seconds=…)`, after which the sessions that are due have ended.

    Raises:
        EmulatorError: There is no such plan or limit, or `session_limit_s` is out of range; on entering, the address
            cannot be listened on.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        plan: str = "free",
        api_key: str | None = None,
        sweep: bool = True,
        sweep_after_s: float = SWEEP_AFTER_S,
        expiry: bool = True,
        minutes: int | None = None,
        purchased_minutes: int = 0,
        slots: int | None = None,
        session_limit_s: float | None = None,
        limit_errors: Mapping[str, LimitError] = LIMIT_ERRORS,
        requests_per_minute: int | None = None,
        video_size: Sequence[int] = VIDEO_SIZE,
        media: bool = True,
        room_server: RoomServerKind = "auto",
        allow_hosts: Sequence[str] = (),
        allow_private_urls: bool = False,
        clock: Clock = utc_now,
        generation: Generation = "own-room",
        boot_s: float = 0.0,
        metadata: Metadata = "kept",
        list_metadata: bool = True,
        proxy_rooms: bool = True,
        established_first: bool = False,
    ) -> None:
        if plan not in PLANS:
            raise EmulatorError(f"There is no plan {plan!r}: choose one of {', '.join(PLANS)}.")
        if unknown := [name for name in limit_errors if name not in LIMIT_ERRORS]:
            raise EmulatorError(f"There is no limit {unknown[0]!r}: choose one of {', '.join(LIMIT_ERRORS)}.")
        width, height = video_size
        if session_limit_s is not None and not 0 < session_limit_s <= MAX_AHEAD.total_seconds():
            raise EmulatorError(f"A session cannot last {session_limit_s:g} s: choose at most ten years.")
        limit = None if session_limit_s is None else timedelta(seconds=session_limit_s)
        own: dict[str, Any] = {
            "included_minutes": minutes,
            "purchased_minutes": purchased_minutes,
            "max_sessions": slots,
            "max_session_duration": limit,
        }
        self._host = host
        self._port = port
        self._allow_hosts = (host, *allow_hosts)
        self._rooms = RoomServerRooms(room_server) if media else None
        rules = Rules(
            plan=replace(PLANS[plan], **{name: value for name, value in own.items() if value is not None}),
            sweep_after=timedelta(seconds=sweep_after_s) if sweep else None,
            expiry=expiry,
            limit_errors=LIMIT_ERRORS | {name: LimitError(*error) for name, error in limit_errors.items()},
            generation=generation,
            boot=timedelta(seconds=boot_s),
            metadata=metadata,
            list_metadata=list_metadata,
            proxy_rooms=proxy_rooms,
            established_first=established_first,
            allow_private_urls=allow_private_urls,
        )
        store = SessionStore(rules, clock)
        self._service = Service(
            store,
            rooms=self._rooms or NoRooms(),
            start_avatar=WorkerAvatar if media else NoAvatar,
            video_size=(width, height),
            rate_limit=None if requests_per_minute is None else RateLimit(requests_per_minute, store.clock),
        )
        self._watch = Watch(self._service, self._rooms)
        self._board = Board(
            self._service, self._watch, lambda: "none" if self._rooms is None else self._rooms.status
        )
        self.clock: EmulatorClock = store.clock
        self._stack = contextlib.AsyncExitStack()
        self.api_key = api_key or new_api_key()
        self.url = ""
        self.gateway_url = ""
        self.room_server_url = ""

    async def __aenter__(self) -> Self:
        listener = _listen(self._host, self._port)
        host, port = listener.getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        self.gateway_url = self.url.replace("http", "ws", 1)
        app = create_app(self._service, [self.api_key], self._board, self._allow_hosts)
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(listener.close)
            if self._rooms is not None:
                await stack.enter_async_context(self._rooms)
            stack.push_async_callback(self._service.aclose)
            stack.push_async_callback(self._watch.aclose)
            await stack.enter_async_context(_running(self._service.run(), "session housekeeping"))
            await stack.enter_async_context(serving(app, listener, max_message_bytes=MAX_MESSAGE_BYTES))
            stack.callback(self._board.close)  # or the server would wait for the pages
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def window_url(self) -> str:
        """Address of the page that shows everything: the account, sessions, avatars, faults and the clock."""
        return f"{self._browser_url}/window"

    @property
    def watch_url(self) -> str:
        """Address of the page that shows the newest session; `/{session_id}` behind it is that of one session."""
        return f"{self._browser_url}/watch"

    async def wait_ready(self) -> str:
        """Wait until rooms can be made, and return the kind of the room server (`none` without media).

        Requests are answered before that; the first one that needs a room waits by itself.

        Example:
            ```python
            print(await emulator.wait_ready())  # such as "embedded"
            ```

        Raises:
            EmulatorError: There is no room server to be had; the text says what to do.
        """
        if self._rooms is None:
            return "none"
        server = await self._rooms.ready()
        self.room_server_url = server.url
        return server.kind

    def fail(self, fault: str, **details: Any) -> None:
        """Inject a fault, as `POST /emulator/faults` does.

        Example:
            ```python
            emulator.fail("status", status=503, times=3, path="/v1/sessions")
            ```

        Args:
            fault: What: see the reference of that call.
            **details: How often, and where.

        Raises:
            EmulatorError: There is no such fault, or its details do not fit.
        """
        try:
            self._service.inject(Fault.parse({"fault": fault, **details}))
        except ServiceError as error:
            advice = error.body["error"].get("suggestion", "")
            raise EmulatorError(f"{error}. {advice}".strip()) from None

    def clear_faults(self) -> None:
        """Drop all pending faults.

        Example:
            ```python
            emulator.fail("avatar_silent", times=10)
            emulator.clear_faults()
            ```
        """
        self._service.faults.clear()

    def sessions(self) -> list[dict[str, Any]]:
        """Return what `GET /emulator/sessions` answers: all sessions, newest first, and who ended each.

        Example:
            ```python
            for session in emulator.sessions():
                print(session["session_id"], session["ended_by"])
            ```
        """
        store = self._service.store
        return [store.record(session) for session in store.newest_first()]

    def reset(self) -> None:
        """Forget sessions, avatars, agents, links and faults, and reset the clock, as if it had just started.

        Running sessions end, and their avatars leave in the background.

        Example:
            ```python
            emulator.reset()
            assert emulator.sessions() == []
            ```
        """
        self._service.reset()

    def export(self) -> dict[str, Any]:
        """Return what `GET /emulator/export` answers: the whole state and each session's timeline, without secrets.

        Example:
            ```python
            Path("state.json").write_text(json.dumps(emulator.export()))
            ```
        """
        return self._board.export(self.url)

    def health(self) -> dict[str, Any]:
        """Return what `GET /emulator/health` answers: `status`, version, room server, and the number of sessions.

        Example:
            ```python
            assert emulator.health()["status"] == "ok"
            ```
        """
        return self._board.health()

    @property
    def _browser_url(self) -> str:
        return self.url.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")  # noqa: S104 - no bind


@contextlib.asynccontextmanager
async def _running(work: Coroutine[Any, Any, None], name: str) -> AsyncIterator[None]:
    """Run something endless beside the body; what it raised comes out at the end."""
    task = asyncio.create_task(work, name=name)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        match error.errno:
            case errno.EADDRINUSE:
                advice = "it is in use. Choose another port, or 0 for any free one."
            case errno.EACCES:
                advice = "it needs more rights. Choose a port above 1023."
            case _:
                reason = str(error.strerror).partition(" (")[0]  # create_server adds the address once more
                advice = f"{reason}. Choose an address of this machine, such as 127.0.0.1."
        raise EmulatorError(f"Cannot listen on {host} port {port}: {advice}") from error
