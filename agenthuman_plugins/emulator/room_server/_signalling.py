"""HTTP and WebSocket: who may come in, and what a client asks for.

Signalling is LiveKit's `/rtc/v1`: the client's first offer rides in the address of the WebSocket.
"""

import asyncio
import base64
import binascii
import json
import logging
import time
import zlib
from typing import Any

from aiohttp import WSMsgType, web
from google.protobuf.message import DecodeError
from livekit.protocol import models, rtc

from agenthuman_plugins.emulator.room_server._room import Participant, Room
from agenthuman_plugins.emulator.room_server._token import Claims, TokenError, verify

_PING_INTERVAL_S = 5  # how often the client shall ping
_SILENCE_LIMIT_S = 15  # a client that says nothing for so long is gone
_MAX_JOIN_REQUEST = 256 * 1024  # bytes, unpacked; real ones have about 15 kB
_MAX_MESSAGE = 1024 * 1024  # bytes; an offer with ten tracks has about 30 kB
_MAX_LINE = 64 * 1024  # bytes; join requests of about 2 kB and long tokens
_OUTBOX_MESSAGES = 1_000  # a client that does not read so many is gone
_CLOSE_TIMEOUT_S = 2.0

# Clients need 1.8.0 or later here for RPC, and parse it strictly.
_SERVER_INFO = models.ServerInfo(
    edition=models.ServerInfo.Edition.Standard, version="1.9.0", protocol=16, node_id="embedded"
)
_CODECS = [models.Codec(mime="video/VP8"), models.Codec(mime="audio/opus")]
_TWO_CONNECTIONS = (
    "This room server takes clients with a single peer connection only: use livekit >= 1.1.15 (1.1.13 with "
    "RoomOptions(single_peer_connection=True)), or run a real livekit-server."
)

_logger = logging.getLogger(__name__)


class Server:
    """The rooms of one key, behind an aiohttp application."""

    def __init__(self, *, api_key: str, api_secret: str) -> None:
        self._api_key = api_key
        self._api_secret = api_secret
        self._rooms: dict[str, Room] = {}
        self._sockets: set[web.WebSocketResponse] = set()

    def application(self) -> web.Application:
        """Routes. Nothing but `/rtc/v1` may answer 404: a client takes that for a server without it."""
        app = web.Application()
        app.router.add_get("/", self._health)
        app.router.add_get("/rtc/v1", self._join)
        app.router.add_get("/rtc/v1/validate", self._validate)
        app.router.add_post("/twirp/livekit.RoomService/DeleteRoom", self._delete_room)
        for path in ("/rtc", "/rtc/validate", "/rtc/rtc/validate"):  # older clients, each in its way
            app.router.add_get(path, self._refuse_old_client)
        app.on_shutdown.append(self._hang_up_all)
        return app

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(text="OK")

    async def _validate(self, request: web.Request) -> web.Response:
        """The client asks why it was not let in; the text becomes its error."""
        try:
            self._verify(request)
        except TokenError as error:
            return web.Response(status=401, text=str(error))
        return web.Response(text="success")

    async def _refuse_old_client(self, request: web.Request) -> web.Response:
        try:
            self._verify(request)
        except TokenError as error:
            return web.Response(status=401, text=str(error))
        return web.Response(status=400, text=_TWO_CONNECTIONS)

    async def _delete_room(self, request: web.Request) -> web.Response:
        """The one call of LiveKit's room service that an avatar's caller has to live with. JSON only."""
        try:
            claims = self._verify(request)
        except TokenError as error:
            return web.json_response({"code": "unauthenticated", "msg": str(error)}, status=401)
        if not claims.room_create:
            return web.json_response({"code": "unauthenticated", "msg": "permissions denied"}, status=401)
        try:
            room = self._rooms.get((await request.json())["room"])
        except (ValueError, LookupError, TypeError, RecursionError):
            return web.json_response({"code": "malformed", "msg": "the body names no room"}, status=400)
        if room is None:
            message = {"code": "not_found", "msg": "requested room does not exist"}
            return web.json_response(message, status=404)
        room.delete()
        return web.json_response({})

    async def _join(self, request: web.Request) -> web.StreamResponse:
        try:
            claims = self._verify(request)
            join = _read_join_request(request.query.get("join_request", ""))
        except TokenError as error:
            return web.Response(status=401, text=str(error))
        except ValueError as error:
            return web.Response(status=400, text=f"invalid join_request: {error}")
        if join.reconnect:
            # No resume: after this answer the client reconnects in full, with a new sid and all its tracks.
            return web.Response(status=404, text="no session to resume")
        socket = web.WebSocketResponse(max_msg_size=_MAX_MESSAGE, timeout=_CLOSE_TIMEOUT_S)
        await socket.prepare(request)
        self._sockets.add(socket)
        try:
            await self._serve(socket, claims, join)
        finally:
            self._sockets.discard(socket)
        return socket

    async def _hang_up_all(self, _: web.Application) -> None:
        for socket in list(self._sockets):
            await socket.close()

    def _verify(self, request: web.Request) -> Claims:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer":
            token = request.query.get("access_token", "")
        return verify(token, api_key=self._api_key, api_secret=self._api_secret)

    async def _serve(self, socket: web.WebSocketResponse, claims: Claims, join: Any) -> None:
        """A participant's whole stay."""
        outbox = _Outbox(socket)
        participant = Participant(
            claims,
            join.client_info,
            auto_subscribe=join.connection_settings.auto_subscribe,
            send=outbox.put,
            hang_up=outbox.close,
        )
        room = self._rooms.setdefault(claims.room, Room(claims.room))
        try:
            outbox.put(rtc.SignalResponse(join=_join_response(room, participant)))
            room.join(participant)
            if join.HasField("publisher_offer"):
                await participant.take_offer(join.publisher_offer)
            await _serve_requests(socket, participant)
        except (TimeoutError, ConnectionError) as error:
            _logger.debug("A client is gone: %s", type(error).__name__)
        except Exception as error:
            # Whatever one client sends must not end the others. The traceback is for those who debug.
            _logger.warning("A client's request failed (%s); disconnecting it", type(error).__name__)
            _logger.debug("The failure of that request", exc_info=error)
        finally:
            room.leave(participant)
            if not room.participants and self._rooms.get(claims.room) is room:
                del self._rooms[claims.room]
            await outbox.aclose()
            await participant.peer.aclose()


class _Outbox:
    """Messages to one client, in order, sent by a task of its own so that nobody waits for a slow client."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket
        self._messages: asyncio.Queue[bytes | None] = asyncio.Queue(_OUTBOX_MESSAGES)
        self._closed = False
        self._sender = asyncio.create_task(self._send(), name="messages to a client")

    def put(self, response: Any) -> None:
        """Send a `SignalResponse`; after `close`, do nothing."""
        if self._closed:
            return
        if self._messages.qsize() == _OUTBOX_MESSAGES - 1:
            _logger.warning("A client does not read its messages; disconnecting it")
            self.close()
        else:
            self._messages.put_nowait(response.SerializeToString())

    def close(self) -> None:
        """Close the WebSocket after what was put before."""
        if not self._closed:
            self._closed = True
            self._messages.put_nowait(None)

    async def aclose(self) -> None:
        """Close the WebSocket and wait for it."""
        self.close()
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self._sender
        except TimeoutError:
            _logger.debug("A client did not take its last messages")

    async def _send(self) -> None:
        try:
            while (message := await self._messages.get()) is not None:
                await self._socket.send_bytes(message)
        except ConnectionError:
            pass  # the client left; the reading side sees it too
        finally:
            self._closed = True
            await self._socket.close()


async def _serve_requests(socket: web.WebSocketResponse, participant: Participant) -> None:
    """Carry out what the client asks, one after the other, until it leaves or falls silent."""
    while True:
        message = await socket.receive(timeout=_SILENCE_LIMIT_S)
        if message.type is not WSMsgType.BINARY:
            return
        request = rtc.SignalRequest.FromString(message.data)
        if request.HasField("leave"):
            return
        await _carry_out(request, participant)


async def _carry_out(request: Any, participant: Participant) -> None:
    match request.WhichOneof("message"):
        case "offer":
            await participant.take_offer(request.offer)
        case "trickle":
            candidate = json.loads(request.trickle.candidateInit)
            await participant.peer.add_candidate(candidate.get("sdpMid") or "0", candidate["candidate"])
        case "add_track":
            participant.add_track(request.add_track)
        case "mute":
            participant.mute(request.mute)
        case "subscription":
            participant.update_subscription(request.subscription)
        case "update_metadata":
            participant.update_metadata(request.update_metadata)
        case "ping_req":
            pong = rtc.Pong(last_ping_timestamp=request.ping_req.timestamp, timestamp=_now_ms())
            participant.send(rtc.SignalResponse(pong_resp=pong))
        case "ping":
            participant.send(rtc.SignalResponse(pong=_now_ms()))
        case other:
            _logger.debug("Request %s has no effect here", other)


def _join_response(room: Room, participant: Participant) -> Any:
    others = [other.info for other in room.visible() if other.identity != participant.identity]
    room.info.num_participants = len(others) + 1
    return rtc.JoinResponse(
        room=room.info,
        participant=participant.info,
        other_participants=others,
        server_version=_SERVER_INFO.version,
        server_info=_SERVER_INFO,
        ping_interval=_PING_INTERVAL_S,
        ping_timeout=_SILENCE_LIMIT_S,
        subscriber_primary=False,  # one connection for both ways
        fast_publish=True,  # the client offers at once, without 150 ms of collecting
        enabled_publish_codecs=_CODECS,
    )


def _read_join_request(encoded: str) -> Any:
    """Unpack the client's first message.

    Raises:
        ValueError: It is not one.
    """
    try:
        padded = encoded + "=" * (-len(encoded) % 4)
        wrapped = rtc.WrappedJoinRequest.FromString(base64.b64decode(padded, altchars=b"-_", validate=True))
        packed = wrapped.join_request
        if wrapped.compression == rtc.WrappedJoinRequest.Compression.GZIP:
            unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
            packed = unpacker.decompress(packed, _MAX_JOIN_REQUEST)
            if not unpacker.eof:
                raise ValueError("too long or cut off")
        return rtc.JoinRequest.FromString(packed)
    except (binascii.Error, DecodeError, zlib.error) as error:
        raise ValueError(type(error).__name__) from None


def _now_ms() -> int:
    return int(time.time() * 1000)


def _without_request(record: logging.LogRecord) -> bool:
    """Shorten an error to one line that quotes nothing of the request."""
    if record.exc_info and record.exc_info[1]:
        record.msg, record.args = "A request could not be handled (%s)", (type(record.exc_info[1]).__name__,)
        record.exc_info = None
    return True


async def serve(*, api_key: str, api_secret: str, host: str, port: int) -> web.AppRunner:
    """Start serving; `cleanup()` of what is returned ends it."""
    # Requests hold tokens, and aiohttp quotes broken ones: in its errors, and below INFO in other words.
    logger = _logger.getChild("http")
    logger.setLevel(logging.INFO)
    logger.addFilter(_without_request)
    application = Server(api_key=api_key, api_secret=api_secret).application()
    runner = web.AppRunner(
        application,
        access_log=None,
        logger=logger,
        max_line_size=_MAX_LINE,
        max_field_size=_MAX_LINE,
        shutdown_timeout=_CLOSE_TIMEOUT_S,
    )
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner
