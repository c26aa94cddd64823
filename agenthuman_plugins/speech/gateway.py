"""The speech link through the WebSocket gateway: speech only, for avatars in rooms that we are not in.

The gateway confirms what it queues and says nothing about playback, so playback is told by our own clock.
"""

import asyncio
import json
import logging
import ssl
from collections import deque
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

try:
    from websockets.asyncio.client import ClientConnection
    from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
except ImportError as error:
    raise ImportError(
        'websockets is not installed: run `pip install "agenthuman-plugins[speech]"`.'
    ) from error

from agenthuman_plugins.client import redaction
from agenthuman_plugins.client.addresses import is_this_machine
from agenthuman_plugins.client.errors import SpeechLinkError
from agenthuman_plugins.client.models import ManagedRoom
from agenthuman_plugins.speech import _gateway_wire as wire
from agenthuman_plugins.speech._base import LinkBase, loop_time
from agenthuman_plugins.speech._feed import Feed
from agenthuman_plugins.speech._own_clock import OwnClock
from agenthuman_plugins.speech._wire import json_object, origin
from agenthuman_plugins.speech.link import SPEECH_SAMPLE_RATE, AvatarAudio, AvatarConnected, AvatarVideo

_log = logging.getLogger(__name__)

_BYTES_PER_SAMPLE = 2
_PIECE_BYTES = SPEECH_SAMPLE_RATE * _BYTES_PER_SAMPLE  # one second; the gateway takes 10 MB
# Beyond this a sender waits: enough to fill any round trip, little enough to be dropped by an interruption.
_MAX_UNCONFIRMED_S = 10.0
_RETRY_S = 0.5  # after speech that was refused because the avatar is not in its room yet
_JOIN_LIMIT_S = 20.0  # for the avatar to come; a GPU server may have to boot
_MAX_MESSAGE_BYTES = 1024 * 1024  # from the gateway, whose messages have some hundred
_MAX_ERROR_LENGTH = 200
_PING_INTERVAL_S = 10.0  # the protocol has no keep-alive of its own
_PING_TIMEOUT_S = 10.0
_WRITE_TIMEOUT_S = 10.0  # a write takes a millisecond; when the network stalls it waits
_CLOSE_TIMEOUT_S = 2.0

# websockets shows the beginning of every message at DEBUG, and with the first one the token. What its warnings tell
# is in our own errors. Made by hand, so that no set-up of logging reaches it.
_silent = logging.Logger("websockets", level=logging.CRITICAL + 1)  # noqa: LOG001 - see above


class GatewaySpeechLink(LinkBase):
    """A `SpeechLink` through the WebSocket gateway. It delivers no voice and no video: those are in the room.

    The connection is the session's only one. It connects once and is never made again, because the service ends the
    session when it is closed: by `aclose`, too, and by its loss.

    The documents have two orders of the start: the avatar joins its room and then the gateway answers
    `connection.established` (client-messages), or the gateway answers at once and the avatar joins afterwards
    (server-messages). Nothing shows which one it is, so after that answer the first piece of speech goes ahead alone,
    and the rest follows when the gateway has confirmed it, which means queued for the avatar. A first piece that is
    refused by an error, or not confirmed at all, is sent again until the avatar has had 20 s to come. In either order
    no word is lost.

    Playback is estimated by our own clock: an utterance starts half a second after the gateway confirmed its first
    piece (or after the one before it), and is over when what was confirmed has had time to be played. Every
    `PlaybackFinished` is therefore `estimated`.

    Example:
        ```python
        link = GatewaySpeechLink(session.session_id, session.session_token.get_secret_value())
        await link.connect(timeout_s=20)
        ```

    Args:
        session_id: The session to speak through.
        session_token: From the reply to its create; never logged.
        url: `wss://…` of the gateway, or `ws://…` of an emulator: the token is sent unencrypted, so never of the
            public service, and with a warning if it is on another machine. `None` reads `AGENTHUMAN_GATEWAY_URL`, then
            takes the public one.
        managed_room: Room of a session of the older generation, whose first message names it.

    Raises:
        ConfigurationError: The URL is not a safe one.
    """

    def __init__(
        self,
        session_id: str,
        session_token: str,
        *,
        url: str | None = None,
        managed_room: ManagedRoom | None = None,
    ) -> None:
        self._url = wire.checked_url(url)
        self._init = wire.first_message(session_id, session_token, managed_room)
        self._secrets = [session_token]
        if managed_room is not None and managed_room.token is not None:
            self._secrets.append(managed_room.token.get_secret_value())
        self._opening: asyncio.Task[SpeechLinkError | None] | None = None
        self._socket: ClientConnection | None = None
        self._established_at: float | None = None
        self._error: str | None = None  # the last one that the gateway told
        self._workers: list[asyncio.Task[None]] = []
        # Speech with the number of its utterance; `None` is an interruption.
        self._outgoing: deque[tuple[int, bytes] | None] = deque()
        self._newest: bytes = b""  # the piece that was sent last
        self._retry_at = 0.0
        self._half_sample = b""
        self._clock = OwnClock(loop_time())
        super().__init__(self._clock)
        self._audio: Feed[AvatarAudio] = Feed()
        self._video: Feed[AvatarVideo] = Feed()

    async def send(self, pcm: bytes) -> int:
        """Send speech and return the number of its utterance; see `SpeechLink.send`.

        Waits while more than ten seconds of speech are on their way, and for the very first confirmation.

        Raises:
            SpeechLinkError: The connection is gone.
        """
        self._require_connection()
        number = self._clock.open()
        samples = self._half_sample + pcm
        whole = len(samples) - len(samples) % _BYTES_PER_SAMPLE
        self._half_sample = samples[whole:]
        for at in range(0, whole, _PIECE_BYTES):
            await self._changes.until(lambda: self._may_send(number))
            self._require_connection()
            if not self._clock.is_open(number):
                break  # interrupted meanwhile
            piece = samples[at : min(at + _PIECE_BYTES, whole)]
            self._clock.push(len(piece) // _BYTES_PER_SAMPLE)
            self._outgoing.append((number, piece))
            self._changes.notify()
        return number

    async def end_utterance(self) -> None:
        """Mark the end of the open utterance, for our own clock: the gateway has no word for it."""
        self._half_sample = b""
        self._clock.end()
        self._expire()

    async def interrupt(self) -> None:
        """Make the avatar drop what it has; see `SpeechLink.interrupt`."""
        if self._clock.cut():
            self._half_sample = b""
            self._outgoing.clear()
            self._outgoing.append(None)
            self._expire()  # from here on the end is certain, whatever becomes of this call
        await self._until_cleared()

    def audio(self) -> Feed[AvatarAudio]:
        """Nothing, until the link is closed: the avatar's voice is in its room alone."""
        return self._audio

    def video(self) -> Feed[AvatarVideo]:
        """Nothing, until the link is closed: the avatar's picture is in its room alone."""
        return self._video

    async def aclose(self) -> None:
        """Close the connection, which ends the session; harmless when repeated or never connected."""
        await super().aclose()

    # --- opening and closing

    async def _open(self, timeout_s: float) -> SpeechLinkError | None:
        """Connect and wait until the way to the avatar is open; once the gateway was reached, a failure ends the session."""
        opening = self._opening = asyncio.create_task(self._establish(), name="open avatar gateway")
        await asyncio.wait([opening], timeout=timeout_s)
        if not opening.done():
            problem = "No answer from the gateway" if self._socket is None else "The avatar did not appear"
            return SpeechLinkError(f"{problem} within {timeout_s:g} s.", retryable=True)
        if opening.cancelled():
            return SpeechLinkError(self._gone or "The speech link is closed.")
        return opening.result()

    async def _establish(self) -> SpeechLinkError | None:
        """Connect and wait for the avatar; return what went wrong."""
        secure = self._url.startswith("wss:")
        local = is_this_machine(urlsplit(self._url).hostname)
        options: dict[str, Any] = (
            {"proxy": None} if local else {}
        )  # what is meant for this machine stays on it
        try:
            if secure:  # on a thread, since reading the trusted certificates takes a while
                options["ssl"] = await asyncio.to_thread(ssl.create_default_context)
            self._socket = await wire.Connect(
                self._url,
                logger=_silent,
                compression=None,  # sound hardly shrinks, and it would be done on the event loop
                open_timeout=None,  # the caller's counts
                ping_interval=_PING_INTERVAL_S,
                ping_timeout=_PING_TIMEOUT_S,
                close_timeout=_CLOSE_TIMEOUT_S,
                max_size=_MAX_MESSAGE_BYTES,
                **options,
            )
        except (OSError, ValueError, ImportError, WebSocketException) as error:
            return self._unreachable(error)
        if local and not secure and not is_this_machine(str(self._socket.remote_address[0])):
            return SpeechLinkError(f"The gateway at {origin(self._url)} is not on this machine.")
        for work, name in ((self._read, "read avatar gateway"), (self._write, "write avatar gateway")):
            worker = asyncio.create_task(work(self._socket), name=name)
            worker.add_done_callback(self._on_worker_done)
            self._workers.append(worker)
        await self._changes.until(lambda: self._is_established or self._gone is not None)
        return None if self._is_established else SpeechLinkError(self._gone or "")

    def _unreachable(self, error: Exception) -> SpeechLinkError:
        if isinstance(error, InvalidStatus):
            status = error.response.status_code
            # A redirect, which is not followed, and HTTP 4xx mean a wrong address.
            final = status < HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.TOO_MANY_REQUESTS
        else:
            final = isinstance(error, ssl.SSLCertVerificationError | ValueError | ImportError)
        text = f"Could not connect to the gateway at {origin(self._url)}: {self._told(error)}"
        return SpeechLinkError(text, retryable=not final)

    async def _free(self) -> None:
        self._audio.close()
        self._video.close()
        tasks = [task for task in (self._opening, *self._workers) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CLOSE_TIMEOUT_S)
        if self._socket is not None:
            try:
                async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                    await self._socket.close()
            except TimeoutError:  # it takes not even the word that it is closed
                self._socket.transport.abort()

    def _on_worker_done(self, worker: asyncio.Task[None]) -> None:
        if not worker.cancelled() and (error := worker.exception()) is not None:
            self._close(f"The gateway connection failed: {self._told(repr(error))}", lost=True)

    @property
    def _is_established(self) -> bool:
        return self._established_at is not None

    @property
    def _may_be_joining(self) -> bool:
        """Whether the avatar may still be on its way into its room, as far as the gateway shows."""
        if self._established_at is None or self._clock.any_confirmed:
            return False
        return asyncio.get_running_loop().time() < self._established_at + _JOIN_LIMIT_S

    def _require_connection(self) -> None:
        if self._gone is not None or not self._is_established:
            raise SpeechLinkError(self._gone or "The speech link is not connected.")

    def _may_send(self, number: int) -> bool:
        """Whether the next piece of an utterance can leave, or need not any more."""
        if self._gone is not None or not self._clock.is_open(number):
            return True
        if self._may_be_joining:
            return not self._clock.unconfirmed_s  # the first piece goes ahead alone
        return self._clock.unconfirmed_s < _MAX_UNCONFIRMED_S

    # --- the wire: one task reads, one writes, so that no cancelled call can leave half a message

    async def _write(self, socket: ClientConnection) -> None:
        try:
            await self._put(socket, self._init)
            while True:
                await self._changes.until(lambda: bool(self._outgoing))
                if (wait_s := self._retry_at - asyncio.get_running_loop().time()) > 0:
                    await self._changes.within(wait_s, lambda: None in self._outgoing)
                item = self._outgoing.popleft()
                if item is None:
                    self._clock.interrupt_sent()
                    await self._put(socket, wire.INTERRUPT)
                else:
                    number, pcm = item
                    self._clock.sent(number, len(pcm) // _BYTES_PER_SAMPLE)
                    self._newest = pcm
                    await self._put(socket, wire.speak(pcm))
                self._expire()
        except ConnectionClosed:
            return  # the reader tells why
        except TimeoutError:
            self._close("The gateway connection is stuck.", lost=True)

    async def _put(self, socket: ClientConnection, message: dict[str, Any]) -> None:
        async with asyncio.timeout(_WRITE_TIMEOUT_S):
            await socket.send(json.dumps(message))

    async def _read(self, socket: ClientConnection) -> None:
        try:
            while True:
                self._take(json_object(await socket.recv()))
        except ConnectionClosed as closed:
            reason = f"The gateway closed the connection: {self._told(closed)}."
        if self._error is not None:  # it says more than the code of the closing
            reason += f" Its last error: {self._error}"
        self._close(reason, lost=True)

    def _take(self, message: dict[str, Any]) -> None:
        """Take a message; one of an unknown type means nothing to us."""
        match message.get("type"):
            case "connection.established" if not self._is_established:
                self._established_at = asyncio.get_running_loop().time()
                self._events.put(AvatarConnected())
            case "agent.speak.confirmed":
                self._clock.confirmed(_samples(message.get("audio_samples")))
            # The pages say that this is confirmed, and not in which words.
            case str(name) if name.startswith("agent.interrupt"):
                self._clock.interrupt_confirmed()
            case "error":
                self._on_error(self._told(message.get("error") or "no reason given"))
        self._expire()

    def _on_error(self, text: str) -> None:
        known, self._error = text == self._error, text
        if self._established_at is None:
            self._close(f"The gateway refused the session: {text}", lost=True)
            return
        if not known:
            _log.warning("The avatar gateway reports an error: %s", text)
        self._send_again(after_s=_RETRY_S)

    def _send_again(self, *, after_s: float = 0.0) -> None:
        """Send the first piece again, which was not taken: the avatar may not be in its room yet."""
        if self._may_be_joining and (number := self._clock.recall()) is not None:
            self._outgoing.appendleft((number, self._newest))
            self._retry_at = asyncio.get_running_loop().time() + after_s

    def _expire(self) -> None:
        if self._clock.overdue:
            self._send_again()
        super()._expire()

    def _told(self, what: object) -> str:
        """What the other side says, without secrets and on one line."""
        return " ".join(str(redaction.redact(str(what), self._secrets)).split())[:_MAX_ERROR_LENGTH]


def _samples(value: Any) -> int | None:
    return value if type(value) is int else None
