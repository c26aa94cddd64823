"""What people expect of an SDK: endpoints without a method, options of a call, ids of answers, keys that change, a log."""

import contextlib
import copy
import logging
import pickle
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from typing import Any

import httpx
import pytest

from agenthuman_plugins.client import (
    AgentHumanError,
    APIConnectionError,
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    NotFoundError,
    RateLimitError,
    ServerError,
    Session,
)
from agenthuman_plugins.client._config import ApiKey
from tests.client.conftest import API_KEY, ROOM, FakeService, Fault, Handle, Lost, Reply, Time
from tests.client.wires import KINDS, empty, use_own, wire

OTHER_KEY = "ah_test_rotated-key-00000000000000000"
WHATEVER = Reply(200, {"success": True, "whatever": [1]})

# --- client.request


@pytest.mark.parametrize("method", ["GET", "get", "POST", "PUT", "PATCH", "DELETE"])
def test_any_endpoint_can_be_asked(method: str, client: Handle, service: FakeService) -> None:
    """The JSON of the answer is returned as it is; the key is sent, and body and query as they were given."""
    service.faults.append(WHATEVER)
    body = None if method.upper() == "GET" else {"name": "Ä"}
    answer = client(lambda c: c.request(method, "/v1/new%20thing", json=body, params={"page": "2"}))
    assert answer == {"success": True, "whatever": [1]}
    (request,) = service.requests
    assert (request.method, request.url.raw_path) == (method.upper(), b"/v1/new%20thing?page=2")
    assert request.headers["x-api-key"] == API_KEY
    assert request.content == (b"" if body is None else b'{"name": "\\u00c4"}')


def test_answer_that_is_no_json_is_text(client: Handle, service: FakeService) -> None:
    """What is no JSON is returned as text, and nothing as an empty one."""
    service.faults.extend([Reply(200, b"hello"), Reply(204, b"")])
    assert client(lambda c: c.request("GET", "/v1/text")) == "hello"
    assert client(lambda c: c.request("DELETE", "/v1/thing")) == ""


@pytest.mark.parametrize(
    "fault",
    [httpx.ConnectError, httpx.ReadTimeout, Reply(429), Reply(503), Reply(408)],
    ids=["connect", "late", "429", "503", "408"],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_nothing_but_a_get_is_sent_again(
    method: str, fault: Fault, client: Handle, service: FakeService
) -> None:
    """We do not know what an unknown endpoint does, so that only a GET is repeated."""
    service.faults.extend([fault, WHATEVER])
    if method == "GET":
        assert client(lambda c: c.request(method, "/v1/new"))["success"] is True
    else:
        with pytest.raises((APIConnectionError, APIStatusError)):
            client(lambda c: c.request(method, "/v1/new"))
    assert len(service.requests) == (2 if method == "GET" else 1)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(400, {"error": "No"}), BadRequestError),
        (Reply(401, {"error": "No"}), AuthenticationError),
        (Reply(404, b"<html>"), NotFoundError),
        (Reply(429), RateLimitError),
        (Reply(500), ServerError),
        (Reply(200, {"success": False, "error": "No"}), APIStatusError),
    ],
)
def test_unknown_endpoint_has_the_same_errors(
    reply: Reply, expected: type[Exception], client: Handle, service: FakeService
) -> None:
    """A refusal is the same error as of every other call."""
    service.faults.append(reply)
    with pytest.raises(expected):
        client(lambda c: c.request("POST", "/v1/new", json={}))


BILLED = [
    ("POST", "/v1/sessions", r"sessions\.create"),
    ("post", "/v1/sessions/", r"sessions\.create"),
    ("POST", "/v1//sessions", r"sessions\.create"),
    ("POST", "/v1/sessions//", r"sessions\.create"),
    ("POST", "/V1/Sessions", r"sessions\.create"),
    ("POST", "/v1/%73essions", r"sessions\.create"),
    ("POST", "/v1%2Fsessions", r"sessions\.create"),
    ("POST", "/v1/%2573essions", r"sessions\.create"),
    ("POST", "/v1%5Csessions", r"sessions\.create"),
    ("PUT", "/v1/sessions/sess_1/start", r"sessions\.start"),
    ("POST", "/v1/sessions/sess_1/START/", r"sessions\.start"),
    ("POST", "/v1/links/start-session", r"links\.start_session"),
    ("POST", "/v1/links/start%2Dsession", r"links\.start_session"),
]


@pytest.mark.parametrize(("method", "path", "instead"), BILLED)
def test_billed_route_is_refused_in_every_spelling(
    method: str, path: str, instead: str, client: Handle, service: FakeService
) -> None:
    """What opens a billed session has a method that ends it; the error names that."""
    with pytest.raises(ConfigurationError, match=instead):
        client(lambda c: c.request(method, path, json={}))
    assert service.requests == []


@pytest.mark.parametrize(
    "path",
    [
        "",
        "v1/usage",
        "//evil.example.com/v1/usage",
        "https://evil.example.com",
        "/v1/usage?key=1",
        "/v1/usage#top",
        "/v1/../admin",
        "/v1/%2e%2e/admin",
        "/v1/%252E%252E/admin",
        "/v1\\usage",
        "/v1/us age",
        "/v1/us\tage",
        "/v1/us\r\nage",
        None,
        7,
    ],
)
def test_path_that_leads_elsewhere_is_refused(path: object, client: Handle, service: FakeService) -> None:
    """A path begins with one slash, and holds neither query nor steps up nor blanks."""
    with pytest.raises(ConfigurationError, match="path must"):
        client(lambda c: c.request("GET", path))
    assert service.requests == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"method": "TRACE"},
        {"method": "GET\r\n"},
        {"method": None},
        {"json": {1, 2}},
        {"json": float("nan")},
        {"params": {"page": 2}},
        {"params": "page=2"},
    ],
    ids=str,
)
def test_argument_that_makes_no_request_is_refused(
    arguments: dict[str, Any], client: Handle, service: FakeService
) -> None:
    """A method, body or query that cannot be sent is an error before the wire."""
    with pytest.raises(ConfigurationError):
        client(lambda c: c.request(**{"method": "POST", "path": "/v1/new", **arguments}))
    assert service.requests == []


# --- extra_body and extra_headers


def test_extra_body_is_merged_before_our_marks(client: Handle, service: FakeService) -> None:
    """Fields of the caller's are sent; in `metadata` they join ours, and a lost session is found all the same."""
    service.faults.append(Lost(httpx.ReadTimeout))
    extra = {"new_field": {"deep": [1]}, "aspect_ratio": "16:9", "metadata": {"user": "Ada"}}
    session = client(lambda c: c.sessions.create(room=ROOM, metadata={"kept": True}, extra_body=extra))
    assert session.session_id == "sess_1"
    (sent,) = service.bodies("POST", "/v1/sessions")
    assert sent["new_field"] == {"deep": [1]}
    assert sent["aspect_ratio"] == "16:9"
    assert sent["metadata"] == {"kept": True, "user": "Ada", "client_ref": "ref-1"}


def test_reference_in_extra_body_is_the_callers_own(client: Handle, service: FakeService) -> None:
    """A `client_ref` that comes by `extra_body` is the one that a lost session is looked for by."""
    service.faults.append(Lost(httpx.ReadTimeout))
    extra = {"metadata": {"client_ref": "mine"}}
    assert client(lambda c: c.sessions.create(room=ROOM, extra_body=extra)).client_ref == "mine"


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        ({"room": {"platform": "daily"}}, "room"),
        ({"avatar": "avat_2"}, "avatar"),
        ({"avatar_id": "avat_2"}, "avatar_id"),
        ({"link_id": "lnk_2"}, "link_id"),
        ({"metadata": {"client_ref": 17}}, "client_ref"),
        ({"metadata": {"client_ref": ""}}, "client_ref"),
        ({"metadata": "text"}, "metadata"),
        ({"metadata": None}, "metadata"),
        ({"metadata": []}, "metadata"),
        ({"x": {1}}, "JSON"),
        ({"x": float("inf")}, "JSON"),
        ({1: "x"}, "keys must be strings"),
        ("text", "JSON object"),
        ([], "JSON object"),
    ],
    ids=str,
)
def test_extra_body_that_cannot_be_sent_is_refused(
    extra: object, sentence: str, client: Handle, service: FakeService
) -> None:
    """What arguments decide, and what is no JSON object, is an error before the wire."""
    with pytest.raises(ConfigurationError, match=sentence):
        client(lambda c: c.sessions.create(room=ROOM, extra_body=extra))
    assert service.requests == []


def test_extra_body_reaches_the_older_form_of_a_call(client: Handle, service: FakeService) -> None:
    """A call that is sent in its older form carries the caller's fields, too."""
    service.faults.extend([Reply(405, b""), Reply(200, b"")])
    client(lambda c: c.sessions.end("sess_1", extra_body={"reason": "done"}))
    assert service.bodies("PUT", "/v1/sessions/sess_1/end") == [{"reason": "done"}]


def test_extra_headers_are_sent_beside_ours(client: Handle, service: FakeService) -> None:
    """Headers of the caller's are sent with each attempt; what we say ourselves is not said twice."""
    service.faults.append(Reply(503))
    extra = {"X-Trace": "abc", "User-Agent": "mine", "Accept": "text/html", "Accept-Encoding": "br"}
    client(lambda c: c.sessions.list(extra_headers=extra))
    assert len(service.requests) == 2
    for request in service.requests:
        told = [(name.lower(), value) for name, value in request.headers.multi_items()]
        assert ("x-trace", "abc") in told
        assert [value for name, value in told if name == "user-agent"] == ["mine"]
        assert [value for name, value in told if name == "accept"] == ["application/json"]
        assert [value for name, value in told if name == "accept-encoding"] == ["gzip, deflate"]


@pytest.mark.parametrize(
    "extra",
    [
        {"X-API-Key": "seeded"},
        {"authorization": "seeded"},
        {"Cookie": "seeded"},
        {"HOST": "evil.example.com"},
        {"Content-Length": "7"},
        {"transfer-encoding": "chunked"},
        {"content-type": "text/plain"},
        {"x trace": "seeded"},
        {"x-tr\u00e4ce": "seeded"},
        {"x:trace": "seeded"},
        {"": "seeded"},
        {"x-trace": "seeded\r\nhost: evil"},
        {"x-trace": "seeded\x00"},
        {"x-trace": "seeded \u00e4"},
        {"x-trace": " seeded"},
        {"x-trace": "seeded "},
        {"x-trace": 7},
        {7: "seeded"},
        "x-trace: seeded",
        [("x-trace", "seeded")],
    ],
    ids=str,
)
def test_header_that_must_not_be_sent_is_refused(extra: object, client: Handle, service: FakeService) -> None:
    """Key, cookie, host and framing are ours; what is no header is refused; no value shows in the error."""
    with pytest.raises(ConfigurationError, match="extra_headers") as caught:
        client(lambda c: c.sessions.create(room=ROOM, extra_headers=extra))
    assert "seeded" not in str(caught.value)
    assert service.requests == []


@pytest.mark.parametrize("option", ["extra_query", "extra_body"])
def test_option_that_a_call_does_not_take_is_a_type_error(
    option: str, client: Handle, service: FakeService
) -> None:
    """An option that would have no effect is a mistake of the program, as any unknown argument is."""
    with pytest.raises(TypeError, match=option):
        client(lambda c: c.sessions.get("sess_1", **{option: {}}))
    assert service.requests == []


# --- with_options


def test_with_options_is_a_view_with_other_limits(client: Handle, service: FakeService, time: Time) -> None:
    """A view has limits of its own, over the same connections; the client keeps its limits."""
    service.faults.extend([Reply(503)] * 4)

    def use(c: Any) -> Any:
        view = c.with_options(timeout=7, max_retries=0)
        assert type(view) is type(c)
        assert (view._driver._calls if client.kind == "sync" else view._driver._guards) is (
            c._driver._calls if client.kind == "sync" else c._driver._guards
        )
        assert (c._settings.timeout_s, c._settings.max_retries) == (60.0, 2)
        assert view.with_options(max_retries=1)._settings.timeout_s == 7.0
        return view.sessions.list()

    with pytest.raises(ServerError):
        client(use)
    assert len(service.requests) == 1
    assert service.requests[0].extensions["timeout"]["read"] == 7.0


@pytest.mark.parametrize("retries", [-1, 1.5, "2", True, float("nan")])
def test_retries_that_are_no_count_are_refused(retries: object, client: Handle) -> None:
    """How often to try again is a whole number."""
    with pytest.raises(ConfigurationError, match="max_retries"):
        client(lambda c: c.with_options(max_retries=retries))


# --- what an answer told beside its fields

IDS = {"x-request-id": "req_7", "x-ratelimit-remaining": "41"}
SESSION = {"session_id": "sess_1", "status": "started", "metadata": {"a": [1]}}


def test_answer_carries_its_request_id_and_headers(client: Handle, service: FakeService) -> None:
    """Answers tell the id of their request and their headers, whatever the case of the name."""
    service.faults.append(Reply(200, {"success": True, "session": SESSION}, IDS))
    session = client(lambda c: c.sessions.get("sess_1"))
    assert session.request_id == "req_7"
    assert session.headers["X-RateLimit-Remaining"] == "41"


def test_each_entry_of_a_list_carries_the_request_id(client: Handle, service: FakeService) -> None:
    """A list is answered by one request; each of its entries knows it."""
    service.faults.append(Reply(200, {"success": True, "sessions": [SESSION, SESSION]}, IDS))
    assert [each.request_id for each in client(lambda c: c.sessions.list())] == ["req_7"] * 2
    service.faults.append(Reply(200, {"success": True, "my_avatars": [{"avatar_id": "a"}]}, IDS))
    avatars = client(lambda c: c.avatars.list())
    assert avatars.request_id == avatars.my_avatars[0].request_id == "req_7"


def test_headers_do_not_count_when_answers_are_compared(client: Handle, service: FakeService) -> None:
    """The same session, answered twice, is equal and has one hash; its headers are no field of it."""
    service.faults.append(Reply(200, {"success": True, "session": SESSION}, IDS))
    service.faults.append(Reply(200, {"success": True, "session": SESSION}, {"x-request-id": "req_8"}))
    first, second = (client(lambda c: c.sessions.get("sess_1")) for _ in range(2))
    assert first.request_id != second.request_id
    assert first == second
    assert len({first, second, Session.model_validate(SESSION)}) == 1
    assert first != first.model_copy(update={"status": "ended"})
    assert first.model_copy().request_id == "req_7"
    assert "req_7" not in f"{first!r}{first.model_dump()}{first.model_dump_json()}"
    for copied in (copy.deepcopy(first), pickle.loads(pickle.dumps(first))):
        assert (copied, copied.request_id) == (first, "req_7")


def test_what_is_no_answer_has_no_headers() -> None:
    """A model that a program made itself has no request behind it."""
    assert Session.model_validate(SESSION).request_id is None
    assert dict(Session.model_validate(SESSION).headers) == {}


def test_create_keeps_what_stands_beside_the_session(client: Handle, service: FakeService) -> None:
    """Message and usage of a create's reply are kept on the session."""
    usage = {"concurrency": {"current": 1, "max": 3, "available": 2}, "minutes": {"total_remaining": 9}}
    service.faults.append(Reply(200, {"session": SESSION, "message": "Started", "usage": usage}))
    session = client(lambda c: c.sessions.create(room=ROOM))
    assert session.message == "Started"
    assert (session.usage.concurrency.available, session.usage.minutes.total_remaining) == (2, 9)


@pytest.mark.parametrize("beside", [{"usage": "none"}, {"usage": None}, {"message": 7}, {"usage": []}])
def test_create_is_not_lost_to_what_stands_beside_it(
    beside: dict[str, Any], client: Handle, service: FakeService
) -> None:
    """A session that is billed is returned, whatever stands beside it."""
    service.faults.append(Reply(200, {"session": SESSION, **beside}))
    assert client(lambda c: c.sessions.create(room=ROOM)).session_id == "sess_1"


# --- keys that change


def rotating() -> Callable[[], str]:
    numbers = count(1)
    return lambda: f"ah_test_rotating-key-{next(numbers)}"


def test_key_from_a_callable_is_asked_for_before_each_request(client: Handle, service: FakeService) -> None:
    """A key that changes is the newest one in every attempt."""
    service.faults.append(Reply(503))
    client.with_options(api_key=rotating())(lambda c: c.sessions.list())
    assert [request.headers["x-api-key"] for request in service.requests] == [
        "ah_test_rotating-key-1",
        "ah_test_rotating-key-2",
    ]


def test_key_from_a_coroutine_function(service: FakeService, time: Time) -> None:
    """The async client awaits a key that is fetched."""

    async def key() -> str:
        return OTHER_KEY

    Handle("async", service, time, {"api_key": key})(lambda c: c.sessions.list())
    assert service.requests[0].headers["x-api-key"] == OTHER_KEY


async def coroutine_function() -> str:
    return OTHER_KEY


BAD_KEYS: list[Any] = [
    pytest.param(lambda: None, id="none"),
    pytest.param(lambda: 17, id="number"),
    pytest.param(lambda: "", id="empty"),
    pytest.param(lambda: "two words", id="blank"),
    pytest.param(lambda: "line\nbreak", id="line-break"),
    pytest.param(lambda: b"bytes", id="bytes"),
]


@pytest.mark.parametrize("source", BAD_KEYS)
def test_callable_that_returns_no_key_is_one_error(
    source: Callable[[], Any], client: Handle, service: FakeService
) -> None:
    """What is no key is an error before the wire, of a create, too: nothing is sent, and nothing looked up."""
    with pytest.raises(ConfigurationError, match=r"api_key\(\)"):
        client.with_options(api_key=source)(lambda c: c.sessions.create(room=ROOM))
    assert service.requests == []


def test_sync_client_names_a_coroutine_function(service: FakeService, time: Time) -> None:
    """A coroutine function is for the async client; in the sync one it is an error, without a warning of Python's."""
    with pytest.raises(ConfigurationError, match="must be a string, not coroutine"):
        Handle("sync", service, time, {"api_key": coroutine_function})(lambda c: c.sessions.list())
    assert service.requests == []


def test_every_key_that_was_used_is_masked(client: Handle, service: FakeService) -> None:
    """A service that repeats an older key does not make the error repeat it."""
    keys = iter(["rotating/key/1", "rotating/key/2"])
    service.faults.extend([Reply(503), Reply(400, {"error": "I know rotating/key/1 and rotating/key/2"})])
    with pytest.raises(BadRequestError) as caught:
        client.with_options(api_key=lambda: next(keys))(lambda c: c.sessions.list())
    assert "rotating" not in f"{caught.value}{caught.value.body}"


def test_error_of_the_key_source_is_the_callers(client: Handle, service: FakeService) -> None:
    """What a key's source raises reaches the caller as it is, and nothing is sent."""

    def broken() -> str:
        raise LookupError("vault is sealed")

    with pytest.raises(LookupError, match="vault is sealed"):
        client.with_options(api_key=broken)(lambda c: c.sessions.create(room=ROOM))
    assert service.requests == []


# --- the log

LOGGING = """
import logging, sys
import httpx
from agenthuman_plugins.client import AgentHuman, ConfigurationError
from agenthuman_plugins.client._config import Clock
if "own" in sys.argv:
    logging.basicConfig(format="own %(message)s")
answers = iter([httpx.Response(503), *[httpx.Response(200, json={"links": [], "sessions": []})] * 2])
try:
    http = httpx.Client(transport=httpx.MockTransport(lambda _: next(answers)))
    client = AgentHuman(api_key="seeded-key", http_client=http, _clock=Clock(sleep=lambda _: None))
    client.sessions.list()
    client.request("GET", "/v1/links/lnk_seeded")
except ConfigurationError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("wanted", "program", "shown", "hidden"),
    [
        ("", "plain", [], ["Trying again", "GET"]),
        ("info", "plain", ["INFO agenthuman_plugins.client: Trying again in"], ["DEBUG"]),
        ("DEBUG", "plain", ["Trying again in", "DEBUG agenthuman_plugins.client: GET /v1/sessions: 200"], []),
        ("debug", "own", ["own Trying again in", "own GET /v1/sessions: 200"], ["DEBUG"]),
        ("nonsense", "plain", ["AGENTHUMAN_LOG must be info or debug, not 'nonsense'."], ["Traceback"]),
    ],
    ids=["unset", "info", "debug", "programs-own", "nonsense"],
)
def test_log_as_the_environment_asks(
    wanted: str, program: str, shown: list[str], hidden: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`AGENTHUMAN_LOG` shows the package's log, the way the program shows its own, and says what it takes."""
    monkeypatch.setenv("AGENTHUMAN_LOG", wanted)
    done = subprocess.run(
        [sys.executable, "-c", LOGGING, program], capture_output=True, text=True, check=True, timeout=30
    )
    said = done.stdout + done.stderr
    for each in shown:
        assert said.count(each) == 1
    for each in [*hidden, "seeded-key"]:
        assert each not in said


TALKATIVE: dict[str, Callable[[Any, str], Any]] = {
    "get": lambda c, link: c.links.get(link),
    "update": lambda c, link: c.links.update(link, name="x"),
    "delete": lambda c, link: c.links.delete(link),
    "start": lambda c, link: c.links.start_session(link),
    "create": lambda c, _: c.sessions.create(room=ROOM),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("link_id", ["lnk_seeded", "lnk/seeded \u00e4"])
@pytest.mark.parametrize("call", TALKATIVE)
def test_debug_log_holds_no_secret(
    call: str, link_id: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """At its most talkative our log shows neither key nor room token nor link id, however it is spelled."""
    caplog.set_level(logging.DEBUG, "agenthuman_plugins")
    with wire(empty) as server, contextlib.suppress(AgentHumanError):
        use_own(kind, lambda c: TALKATIVE[call](c, link_id), base_url=server.url)
    ours = "\n".join(
        each.getMessage() for each in caplog.records if each.name.startswith("agenthuman_plugins")
    )
    assert " /v1/" in ours
    assert "seeded" not in ours


@pytest.mark.parametrize(
    ("base_path", "path"),
    [
        ("/gateway", "/v1/sessions"),
        ("", "/v1/sessions;x=1"),
        ("", "/v1/%252573essions"),
    ],
)
def test_billed_routes_are_refused_below_any_base_address(base_path: str, path: str, client: Handle) -> None:
    """What counts is where the request would go, not how its path is written."""
    ours = client.with_options(base_url=f"https://api.example.com{base_path}")
    with pytest.raises(ConfigurationError, match="must have an owner"):
        ours(lambda c: c.request("POST", path))


def test_key_is_the_one_that_this_request_asked_for() -> None:
    """A key that was used before comes back when it is asked for, whatever was asked for in between."""
    keys = iter(["first-key", "second-key", "first-key"])
    api_key = ApiKey(lambda: next(keys))
    assert [api_key.get() for _ in range(3)] == ["first-key", "second-key", "first-key"]
