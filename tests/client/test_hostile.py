"""A peer that sends too much, nonsense, or cookies: bounds of memory and time, and nothing carried on."""

import asyncio
import gzip
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from agenthuman_plugins.client import (
    AgentHuman,
    AgentHumanError,
    APIConnectionError,
    APIResponseError,
    AsyncAgentHuman,
    SessionOutcomeUnknownError,
)
from agenthuman_plugins.client.redaction import redact
from tests.client.conftest import API_KEY, ROOM
from tests.client.wires import KINDS, Request, empty, reply, use_own, wire

MIB = 1024**2
ZEROS = bytes(20 * MIB)
LIMIT_S = 30.0  # hang limit only


def packed(content: bytes, encoding: str) -> bytes:
    return gzip.compress(content, 1) if encoding == "gzip" else zlib.compress(content, 1)


def answering(answer: bytes) -> Callable[[Request, Any], bytes]:
    return lambda _request, _connection: answer


BOMBS = {
    "plain": (ZEROS, {}),
    "gzip": (packed(ZEROS, "gzip"), {"content-encoding": "gzip"}),
    "deflate": (packed(ZEROS, "deflate"), {"content-encoding": "deflate"}),
    "gzip-capital": (packed(ZEROS, "gzip"), {"content-encoding": "GZip"}),
    "gzip-twice": (packed(packed(ZEROS, "gzip"), "gzip"), {"content-encoding": "gzip, gzip"}),
    "gzip-and-deflate": (packed(packed(ZEROS, "gzip"), "deflate"), {"content-encoding": "gzip, deflate"}),
    "not-asked-for": (b"\x0b\x02\x80" * 100, {"content-encoding": "br"}),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("status", [200, 500])
def test_answer_that_is_too_much_is_cut(bomb: str, status: int, kind: str) -> None:
    """An answer is read to 16 MiB, decoded once; more is an error, and takes neither memory nor time."""
    content, headers = BOMBS[bomb]
    with wire(answering(reply(content, status=status, headers=headers))) as server:
        tracemalloc.start()
        begin = time.monotonic()
        try:
            with pytest.raises(AgentHumanError) as caught:
                use_own(kind, lambda c: c.sessions.get("sess_1"), base_url=server.url, max_retries=0)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert time.monotonic() - begin < 2
    assert peak < 64 * MIB
    if status == 200:
        assert isinstance(caught.value, APIResponseError)
        assert "16 MiB" in str(caught.value) or "not asked for" in str(caught.value)
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize("kind", KINDS)
def test_create_whose_answer_is_too_much_is_looked_up(kind: str) -> None:
    """An answer to a create that cannot be read is a lost one: the session is looked for."""

    def answer(request: Request, _: Any) -> bytes:
        return empty(request, _) if request.line.startswith("GET") else reply(ZEROS)

    with wire(answer) as server, pytest.raises(SessionOutcomeUnknownError, match="16 MiB"):
        use_own(kind, lambda c: c.sessions.create(room=ROOM), base_url=server.url)
    assert server.log.count("POST /v1/sessions") == 1


STRANGE = {
    "no-http": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "nonsense": bytes(range(256)) * 4,
    "status-out-of-range": b"HTTP/1.1 9999 What\r\n\r\n",
    "negative-length": b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n{}",
    "two-lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
    "cut-short": b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{}",
    "bad-chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "bad-gzip": reply(b"this is no gzip", headers={"content-encoding": "gzip"}),
    "cut-gzip-length": b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 9\r\n\r\n\x1f\x8b",
    "endless-head": b"HTTP/1.1 200 OK\r\n" + b"x-filler: y\r\n" * 20_000,
    "long-header": b"HTTP/1.1 200 OK\r\nx-filler: " + b"y" * 300_000,
    "control-in-header": b"HTTP/1.1 200 OK\r\nx-request-id: a\x00b\r\ncontent-length: 2\r\n\r\n{}",
    "nothing": b"",
}


def hanging_up(answer: bytes) -> Callable[[Request, Any], bytes]:
    def send(_: Request, connection: Any) -> bytes:
        connection.sendall(answer)
        return b""

    return send


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("answer", STRANGE)
def test_what_is_no_http_is_a_connection_error(answer: str, kind: str) -> None:
    """Whatever bytes come back, the caller gets one of our errors; a read is tried three times."""
    with wire(hanging_up(STRANGE[answer])) as server, pytest.raises(APIConnectionError):
        use_own(kind, lambda c: c.sessions.list(), base_url=server.url)
    assert len(server.requests) == 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("answer", STRANGE)
def test_create_that_is_answered_by_no_http_is_a_lost_one(answer: str, kind: str) -> None:
    """The same for a create: it may have been processed, and is never sent again."""

    def create(request: Request, connection: Any) -> bytes:
        return (
            empty(request, connection)
            if request.line.startswith("GET")
            else hanging_up(STRANGE[answer])(request, connection)
        )

    with wire(create) as server, pytest.raises(SessionOutcomeUnknownError):
        use_own(kind, lambda c: c.sessions.create(room=ROOM), base_url=server.url)
    assert server.log.count("POST /v1/sessions") == 1
    assert server.log.count("GET /v1/sessions?status=started") == 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "head",
    [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 3],
    ids=["continue", "early-hints"],
)
def test_interim_answers_are_passed_over(head: bytes, kind: str) -> None:
    """What comes before the answer is none."""
    with wire(answering(head + reply({"sessions": []}))) as server:
        assert use_own(kind, lambda c: c.sessions.list(), base_url=server.url) == []


def test_connections_of_answers_that_were_cut_are_given_back() -> None:
    """An answer that is not read to its end does not keep its connection from the next call."""
    with wire(answering(reply(ZEROS))) as server:

        def use(c: Any) -> None:
            for _ in range(5):
                with pytest.raises(APIResponseError):
                    c.sessions.get("sess_1")
            assert c._driver._pool._client._transport._pool.connections == []

        use_own("sync", use, base_url=server.url)


# --- cookies

COOKIE = {"set-cookie": "session=seeded-cookie; Path=/"}


def setting_cookies(_: Request, __: Any) -> bytes:
    return reply(
        {"sessions": [], "session_id": "sess_1", "session": {"session_id": "sess_1"}}, headers=COOKIE
    )


@pytest.mark.parametrize("kind", KINDS)
def test_cookie_of_the_service_travels_with_no_call(kind: str) -> None:
    """Our own pool takes no cookies: calls with the key and without it cannot be told to be one person's."""

    def sync(c: AgentHuman) -> None:
        c.sessions.list()
        c.sessions.create(room=ROOM)
        c.links.start_session("lnk_1")

    async def other(c: AsyncAgentHuman) -> None:
        await c.sessions.list()
        await c.sessions.create(room=ROOM)
        await c.links.start_session("lnk_1")

    with wire(setting_cookies) as server:
        use_own(kind, sync if kind == "sync" else other, base_url=server.url)
    assert len(server.requests) == 3
    assert not any("cookie" in request.headers for request in server.requests)


@pytest.mark.parametrize("kind", KINDS)
def test_cookie_of_a_given_http_client_stays_out_of_the_keyless_call(kind: str) -> None:
    """The caller's own HTTP client may keep cookies; the call without a key carries neither key nor cookie."""
    with wire(setting_cookies) as server:
        if kind == "sync":
            with httpx.Client(trust_env=False) as http:
                client = AgentHuman(api_key=API_KEY, base_url=server.url, http_client=http)
                client.sessions.list()
                client.links.start_session("lnk_1")
        else:

            async def main() -> None:
                async with httpx.AsyncClient(trust_env=False) as http:
                    client = AsyncAgentHuman(api_key=API_KEY, base_url=server.url, http_client=http)
                    await client.sessions.list()
                    await client.links.start_session("lnk_1")

            asyncio.run(main())
    assert {"cookie", "x-api-key"} & server.requests[1].headers.keys() == set()


# --- a peer that is slow on purpose


@pytest.mark.parametrize("kind", KINDS)
def test_closing_does_not_wait_for_a_silent_peer(kind: str) -> None:
    """A client whose call was given up for time closes at once, its connections included."""
    go_on = threading.Event()

    def silent(_: Request, __: Any) -> bytes:
        go_on.wait(LIMIT_S)
        return b""

    begin = time.monotonic()
    with wire(silent) as server:
        with pytest.raises(APIConnectionError):
            use_own(kind, lambda c: c.sessions.list(), base_url=server.url, timeout=0.05)
        took = time.monotonic() - begin
        go_on.set()
    assert took < 2


def test_text_full_of_beginnings_of_tokens_is_masked_in_no_time() -> None:
    """An answer made to look like the beginnings of tokens must not keep the loop busy: that is no quadratic search."""
    assert redact("eyJ" * 300_000) == "eyJ" * 300_000
