import re
from pathlib import Path

import httpx
import pytest

from agenthuman_plugins.demo import _page
from agenthuman_plugins.viewer import web

FILES = Path(_page.__file__).parent / "page"


class FakeReception:
    """Refuses everybody, and notes who left."""

    def __init__(self):
        self.left = []

    async def welcome(self, offer):
        raise web.RefusedError(409, f"No room for {offer['type']}.")

    def goodbye(self, conversation_id):
        self.left.append(conversation_id)


@pytest.fixture
def reception():
    return FakeReception()


@pytest.fixture
async def browser(reception):
    transport = httpx.ASGITransport(_page.create_app(reception))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:7860") as client:
        yield client


async def test_the_page_and_all_that_it_needs_come_from_here(browser):
    """Every file that the page names is served, and the browser is told to load nothing from elsewhere."""
    page = await browser.get("/")
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    assert page.headers["cache-control"] == "no-store"
    for name in re.findall(r'(?:src|href)="([^"#]+)', page.text):
        assert (await browser.get(f"/{name}")).status_code == 200, name


@pytest.mark.parametrize("file", sorted(FILES.iterdir()), ids=lambda file: file.name)
def test_no_file_of_the_page_names_another_host(file):
    """The one address in them is the name of the SVG format."""
    assert set(re.findall(r"https?://[^\s\"'`]+", file.read_text())) <= {"http://www.w3.org/2000/svg"}


async def test_a_refused_offer_is_one_sentence(browser):
    """The page shows the sentence as it comes."""
    answer = await browser.post("/api/offer", json={"sdp": "v=0", "type": "offer"})
    assert (answer.status_code, answer.json()) == (409, {"error": "No room for offer."})


async def test_a_page_says_goodbye(browser, reception):
    """A beacon ends the conversation that it names."""
    assert (await browser.post("/api/leave/abc")).status_code == 204
    assert reception.left == ["abc"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({"origin": "https://evil.example"}, 403, id="another-site"),
        pytest.param({"host": "evil.example"}, 400, id="another-name-for-this-host"),
        pytest.param({"origin": "http://127.0.0.1:7860"}, 204, id="our-page"),
    ],
)
async def test_other_sites_cannot_use_the_demo(browser, headers, status):
    """A page from elsewhere in the same browser opens and ends nothing."""
    assert (await browser.post("/api/leave/abc", headers=headers)).status_code == status


async def test_a_call_that_cannot_be_made_is_closed(monkeypatch):
    """One whose type nobody knows leaves no connection open."""
    closed = []
    disconnect = _page.Call.disconnect

    async def note(call):
        await disconnect(call)
        closed.append(call)

    monkeypatch.setattr(_page.Call, "disconnect", note)
    reception = _page.Reception(None, None)
    with pytest.raises(web.RefusedError, match="cannot be used"):
        await reception.welcome({"sdp": "v=0", "type": "nothing"})
    assert len(closed) == 1
