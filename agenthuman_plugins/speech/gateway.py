"""The speech link through the WebSocket gateway: speech only, for avatars in rooms that we are not in.

The gateway confirms what it queues and says nothing about playback, so playback is told by our own clock.
"""

import asyncio
import base64
import ipaddress
import json
import logging
import os
import ssl
from collections import deque
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

try:
    from websockets.asyncio.client import ClientConnection, connect
    from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
except ImportError as error:
    raise ImportError(
        'websockets is not installed: run `pip install "agenthuman-plugins[speech]"`.'
    ) from error

from agenthuman_plugins.client import redaction
from agenthuman_plugins.client.errors import ConfigurationError, SpeechLinkError
from agenthuman_plugins.client.models import ManagedRoom
from agenthuman_plugins.speech._feed import Changes, Feed
from agenthuman_plugins.speech._own_clock import OwnClock
from agenthuman_plugins.speech._wire import json_object, origin
from agenthuman_plugins.speech.link import (
    SPEECH_SAMPLE_RATE,
    AvatarAudio,
    AvatarConnected,
    AvatarVideo,
    LinkEvent,
    LinkLost,
)

_log = logging.getLogger(__name__)

DEFAULT_URL = "wss://wss.agenthuman.com"

_BYTES_PER_SAMPLE = 2
_PIECE_BYTES = SPEECH_SAMPLE_RATE * _BYTES_PER_SAMPLE  # one second; the gateway takes 10 MB
# Beyond this a sender waits: enough to fill any round trip, little enough to be dropped by an interruption.
_MAX_UNCONFIRMED_S = 10.0
_MAX_MESSAGE_BYTES = 1024 * 1024  # from the gateway, whose messages have some hundred
_MAX_ERROR_LENGTH = 200
_PING_INTERVAL_S = 10.0  # the protocol has no keep-alive of its own
_PING_TIMEOUT_S = 10.0
_WRITE_TIMEOUT_S = 10.0  # a write takes a millisecond; when the network stalls it waits
_CLOSE_TIMEOUT_S = 2.0

# websockets shows the beginning of every message at DEBUG, and with the first one the token. What its warnings tell
# is in our own errors. Made by hand, so that no set-up of logging reaches it.
_silent = logging.Logger("websockets", level=logging.CRITICAL + 1)  # noqa: LOG001 - see above


class GatewaySpeechLink:
    """A `SpeechLink` through the WebSocket gateway. It delivers no voice and no picture: those are in the room.

    The connection is the session's only one. It connects once and is never made again, because the service ends the
    session when it is closed: by `aclose`, too, and by its loss.

    Playback is told by our own clock: an utterance starts half a second after the gateway confirmed its first
    piece (or after the one before it), and is over when what was confirmed has had time to be played. Every
    `PlaybackFinished` is therefore `estimated`.

    Args:
        session_id: The session to speak through.
        session_token: From the reply to its create; never logged.
        url: `wss://…` of the gateway; `ws://…` on this machine only, since the token travels with it. `None` reads
            `AGENTHUMAN_GATEWAY_URL`, then takes the public one.
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
        self._url = _checked(url)
        self._init = _first_message(session_id, session_token, managed_room)
        self._secrets = [session_token]
        if managed_room is not None and managed_room.token is not None:
            self._secrets.append(managed_room.token.get_secret_value())
        self._opening: asyncio.Task[SpeechLinkError | None] | None = None
        self._socket: ClientConnection | None = None
        self._established = False
        self._error: str | None = None  # the last one that the gateway told
        self._gone: str | None = None  # why nothing can be sent any more
        self._closing: asyncio.Task[None] | None = None
        self._workers: list[asyncio.Task[None]] = []
        # Speech with the number of its utterance; `None` is an interruption.
        self._outgoing: deque[tuple[int, bytes] | None] = deque()
        self._half_sample = b""
        self._clock = OwnClock(lambda: asyncio.get_running_loop().time())
        self._alarm: asyncio.TimerHandle | None = None
        self._changes = Changes()
        self._events: Feed[LinkEvent] = Feed()
        self._audio: Feed[AvatarAudio] = Feed()
        self._video: Feed[AvatarVideo] = Feed()

    async def connect(self, *, timeout_s: float) -> None:
        """Connect and wait until the avatar is in its room; once the gateway was reached, a failure ends the session.

        Raises:
            SpeechLinkError: The gateway could not be reached, refused, or did not answer within `timeout_s`.
        """
        if self._opening is not None or self._gone is not None:
            raise SpeechLinkError("A speech link connects once; make a new one.")
        opening = self._opening = asyncio.create_task(self._open(), name="open avatar gateway")
        try:
            await asyncio.wait([opening], timeout=timeout_s)
            problem = self._outcome(opening, timeout_s)
        except BaseException:
            await self.aclose()
            raise
        # Raised here, not where it was caught: the cause may hold the token in its text, and must not be chained.
        if problem is not None:
            await self.aclose()
            raise problem

    async def send(self, pcm: bytes) -> int:
        """Send speech and return the number of its utterance; see `SpeechLink.send`.

        Waits while more than ten seconds of speech are on their way.

        Raises:
            SpeechLinkError: The connection is gone.
        """
        self._require_connection()
        number = self._clock.open()
        samples = self._half_sample + pcm
        whole = len(samples) - len(samples) % _BYTES_PER_SAMPLE
        self._half_sample = samples[whole:]
        for at in range(0, whole, _PIECE_BYTES):
            await self._changes.until(lambda: self._clock.unconfirmed_s < _MAX_UNCONFIRMED_S)
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
        self._advance()

    async def interrupt(self) -> None:
        """Make the avatar drop what it has; see `SpeechLink.interrupt`."""
        if self._clock.cut():
            self._half_sample = b""
            self._outgoing.clear()
            self._outgoing.append(None)
            self._advance()  # from here on the end is certain, whatever becomes of this call
        await self._changes.until(lambda: not self._clock.clearing)

    async def wait_playback(self, *, timeout_s: float) -> bool:
        """Wait until nothing is in flight; `False` if that took longer than `timeout_s`."""
        return await self._changes.within(timeout_s, lambda: not self._clock.in_flight)

    def events(self) -> Feed[LinkEvent]:
        """What happens on the link, in order, until it is closed or lost. For one reader."""
        return self._events

    def audio(self) -> Feed[AvatarAudio]:
        """Nothing, until the link is closed: the avatar's voice is in its room alone."""
        return self._audio

    def video(self) -> Feed[AvatarVideo]:
        """Nothing, until the link is closed: the avatar's picture is in its room alone."""
        return self._video

    async def aclose(self) -> None:
        """Close the connection, which ends the session; harmless when repeated or never connected."""
        await asyncio.shield(self._close("The speech link is closed."))

    # --- opening and closing

    async def _open(self) -> SpeechLinkError | None:
        """Connect and wait for the avatar; return what went wrong."""
        secure = self._url.startswith("wss:")
        try:
            # Proxies of the environment must not see what is meant for this machine. Reading the trusted
            # certificates takes a while.
            options = (
                {"ssl": await asyncio.to_thread(ssl.create_default_context)} if secure else {"proxy": None}
            )
            self._socket = await connect(
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
        if not secure and not _is_loopback(str(self._socket.remote_address[0])):
            return SpeechLinkError(f"The gateway at {origin(self._url)} is not on this machine.")
        for work, name in ((self._read, "read avatar gateway"), (self._write, "write avatar gateway")):
            worker = asyncio.create_task(work(self._socket), name=name)
            worker.add_done_callback(self._on_worker_done)
            self._workers.append(worker)
        await self._changes.until(lambda: self._established or self._gone is not None)
        return None if self._established else SpeechLinkError(self._gone or "")

    def _outcome(
        self, opening: asyncio.Task[SpeechLinkError | None], timeout_s: float
    ) -> SpeechLinkError | None:
        if not opening.done():
            problem = "No answer from the gateway" if self._socket is None else "The avatar did not appear"
            return SpeechLinkError(f"{problem} within {timeout_s:g} s.", retryable=True)
        if opening.cancelled():
            return SpeechLinkError(self._gone or "The speech link is closed.")
        return opening.result()

    def _unreachable(self, error: Exception) -> SpeechLinkError:
        if isinstance(error, InvalidStatus):
            status = error.response.status_code
            final = 400 <= status < 500 and status != HTTPStatus.TOO_MANY_REQUESTS  # noqa: PLR2004 - HTTP 4xx
        else:
            final = isinstance(error, ssl.SSLCertVerificationError | ValueError | ImportError)
        text = f"Could not connect to the gateway at {origin(self._url)}: {self._told(error)}"
        return SpeechLinkError(text, retryable=not final)

    def _close(self, reason: str, *, lost: bool = False) -> asyncio.Task[None]:
        """Begin to free everything, once; the task is for waiting."""
        if self._closing is None:
            self._gone = reason
            for event in self._clock.abandon():
                self._events.put(event)
            self._advance()  # no alarm any more, and nobody waits in vain
            if lost:
                self._events.put(LinkLost(reason))
            for feed in (self._events, self._audio, self._video):
                feed.close()
            self._closing = asyncio.create_task(self._free(), name="close avatar gateway")
        return self._closing

    async def _free(self) -> None:
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

    def _require_connection(self) -> None:
        if self._gone is not None or not self._established:
            raise SpeechLinkError(self._gone or "The speech link is not connected.")

    # --- the wire: one task reads, one writes, so that no cancelled call can leave half a message

    async def _write(self, socket: ClientConnection) -> None:
        try:
            await self._put(socket, self._init)
            while True:
                await self._changes.until(lambda: bool(self._outgoing))
                item = self._outgoing.popleft()
                if item is None:
                    self._clock.interrupt_sent()
                    await self._put(socket, {"type": "agent.interrupt"})
                else:
                    number, pcm = item
                    self._clock.sent(number, len(pcm) // _BYTES_PER_SAMPLE)
                    await self._put(socket, _speak(pcm))
                self._advance()
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
            case "connection.established" if not self._established:
                self._established = True
                self._events.put(AvatarConnected())
            case "agent.speak.confirmed":
                self._clock.confirmed(_samples(message.get("audio_samples")))
            # The pages say that this is confirmed, and not in which words.
            case str(name) if name.startswith("agent.interrupt"):
                self._clock.interrupt_confirmed()
            case "error":
                self._on_error(self._told(message.get("error") or "no reason given"))
        self._advance()

    def _on_error(self, text: str) -> None:
        self._error = text
        if self._established:
            _log.warning("The avatar gateway reports an error: %s", text)
        else:
            self._close(f"The gateway refused the session: {text}", lost=True)

    def _advance(self) -> None:
        """Tell what has been played by now, and set the alarm for what comes next."""
        for event in self._clock.advance():
            self._events.put(event)
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if (deadline := self._clock.deadline) is not None:
            self._alarm = asyncio.get_running_loop().call_at(deadline, self._advance)
        self._changes.notify()

    def _told(self, what: object) -> str:
        """What the other side says, without secrets and on one line."""
        return " ".join(str(redaction.redact(str(what), self._secrets)).split())[:_MAX_ERROR_LENGTH]


def _first_message(session_id: str, session_token: str, room: ManagedRoom | None) -> dict[str, Any]:
    if room is None:
        return {"type": "session.init", "session_id": session_id, "session_token": session_token}
    token = room.token.get_secret_value() if room.token is not None else None
    return {
        "type": "session.init",
        "config": {
            "session_id": session_id,
            "access_token": session_token,
            "room": {"platform": "daily", "url": room.url, "token": token},
        },
    }


def _speak(pcm: bytes) -> dict[str, Any]:
    audio = base64.b64encode(pcm).decode()
    return {"type": "agent.speak", "audio": audio, "sample_rate": SPEECH_SAMPLE_RATE}


def _samples(value: Any) -> int | None:
    return value if type(value) is int else None


def _checked(given: str | None) -> str:
    url = (given or os.environ.get("AGENTHUMAN_GATEWAY_URL", "")).strip() or DEFAULT_URL
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"ws", "wss"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    # The URL itself stays out of the text: its query may hold a token.
    if not valid or parts.username is not None or parts.fragment:
        raise ConfigurationError(f"The gateway url (or AGENTHUMAN_GATEWAY_URL) must look like {DEFAULT_URL}.")
    if parts.scheme == "ws" and not _is_loopback(parts.hostname or ""):
        raise ConfigurationError(
            "The gateway url (or AGENTHUMAN_GATEWAY_URL) must be wss://…: over ws:// the session's token would "
            "travel in clear. Only an emulator on this machine may be reached by ws://."
        )
    return url


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
