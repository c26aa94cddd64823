"""Who may call a page's server, and what its files ask for."""

import re

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from agenthuman_plugins.viewer import web

OFFER = {"sdp": "v=0", "type": "offer"}


async def take(request: Request) -> JSONResponse:
    try:
        return JSONResponse(await web.read_offer(request))
    except web.RefusedError as refusal:
        return JSONResponse({"error": str(refusal)}, refusal.status)


@pytest.fixture
async def browser():
    app = web.OwnPages(Starlette(routes=[Route("/offer", take, methods=["POST"])]))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
        yield client


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({}, 200, id="no-origin"),
        pytest.param({"origin": "http://127.0.0.1:8000"}, 200, id="our-page"),
        pytest.param({"host": "localhost:8000", "origin": "http://localhost:8000"}, 200, id="localhost"),
        pytest.param({"host": "[::1]:8000", "origin": "http://[::1]:8000"}, 200, id="ipv6"),
        pytest.param({"host": "[::1]"}, 200, id="ipv6-without-port"),
        pytest.param({"host": "192.168.1.5:8000"}, 200, id="address-in-this-network"),
        pytest.param({"origin": "http://127.0.0.1:9999"}, 403, id="page-on-another-port"),
        pytest.param({"origin": "https://127.0.0.1:8000"}, 403, id="another-scheme"),
        pytest.param({"origin": "https://evil.example"}, 403, id="another-site"),
        pytest.param({"origin": "null"}, 403, id="page-without-origin"),
        pytest.param({"host": "evil.example:8000"}, 400, id="dns-rebinding"),
        pytest.param({"host": "localhost.evil.example"}, 400, id="name-that-begins-alike"),
        pytest.param({"host": ""}, 400, id="no-name"),
    ],
)
async def test_only_pages_from_here_are_answered(browser, headers, status):
    """Neither another site, nor a name of its own for our address, gets anything; each answer has the headers."""
    answer = await browser.post("/offer", json=OFFER, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-security-policy"].startswith("default-src 'self'")
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(b'{"sdp": "v=0", "type": "offer", "more": 1}', 200, id="offer"),
        pytest.param(b'{"sdp": "v=0", "type": "answer"}', 400, id="answer"),
        pytest.param(b'{"sdp": 1, "type": "offer"}', 400, id="number"),
        pytest.param(b"[" * 60_000, 400, id="deep"),
        pytest.param(b"\xff", 400, id="no-text"),
        pytest.param(b"", 400, id="empty"),
        pytest.param(b" " * 70_000, 413, id="long"),
    ],
)
async def test_a_body_that_is_no_offer_is_refused(browser, body, status):
    """It has a limit, and nothing but the offer is passed on."""
    answer = await browser.post("/offer", content=body)
    assert answer.status_code == status
    assert answer.json() == (OFFER if status == 200 else {"error": answer.json()["error"]})


@pytest.mark.parametrize("file", sorted(web.FILES.iterdir()), ids=lambda file: file.name)
def test_no_file_of_the_page_names_another_host(file):
    """The one address in them is the name of the SVG format."""
    assert set(re.findall(r"https?://[^\s\"'`]+", file.read_text())) <= {"http://www.w3.org/2000/svg"}
