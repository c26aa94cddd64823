"""What the service asks of the REST API over its life, replayed from cassettes with the network blocked.

The bot is a whole one and the client a real one; the avatar is in this process. What is left out: tokens are masked in
the recordings, so no test joins a room with what the API answered.
"""

import contextlib
import inspect
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from pipecat.frames.frames import EndFrame, ErrorFrame
from pipecat.utils.errors import ErrorCategory

from agenthuman_plugins.client import AsyncAgentHuman, LiveKitRoom
from agenthuman_plugins.emulator import LimitError
from agenthuman_plugins.pipecat import (
    AgentHumanVideoService,
    AgentHumanVideoSettings,
    AgentHumanVideoUpdateSettingsFrame,
)
from agenthuman_plugins.speech import InProcessSpeechLink
from tests.client.conftest import Time
from tests.pipecat.bot import Bot, running_service, tone
from tests.vcr_support import *  # noqa: F403 - fixtures
from tests.vcr_support import CASSETTES, RecordedService, interactions

FOLDER = CASSETTES / "pipecat" / "test_cassettes"
AVATAR = "avat_recorded"
LIVEKIT = {
    "LIVEKIT_URL": "wss://rooms.example.com",
    "LIVEKIT_API_KEY": "key",
    "LIVEKIT_API_SECRET": "secret" * 6,
}
TWO_SLOTS = "explorer"  # a plan with more than one session at a time; the default plan allows one
LEFT_S = (
    30.0  # of a session that is about to be renewed: less than `renew_before_s`, and enough for any machine
)

Start = Callable[..., RecordedService]


class Account:
    """A client of the recorded service, and what went over its wire.

    Attributes:
        log: Each request with the status of its answer, in order, such as `create 1: 200` or `end 1: 200`. The number is
            that of the create, which also opened the session that is ended.
        creates: The bodies of the creates as they were sent, with their tokens.
    """

    def __init__(self, service: RecordedService, api_key: str | None = None) -> None:
        self.log: list[str] = []
        self.creates: list[dict[str, Any]] = []
        self._numbers: dict[str, int] = {}  # of the creates, by the session that each opened
        self._http = httpx.AsyncClient(event_hooks={"response": [self._note]})
        self.client = AsyncAgentHuman(
            api_key=api_key or service.api_key,
            base_url=service.base_url,
            http_client=self._http,
            _clock=Time().clock(),
        )

    async def aclose(self) -> None:
        await self.client.aclose()
        await self._http.aclose()

    @contextlib.asynccontextmanager
    async def bot(self, **options: Any) -> AsyncIterator[Bot]:
        """A running bot of this account."""
        links: list[InProcessSpeechLink] = []

        def make_link(_: object, rate: int) -> InProcessSpeechLink:
            links.append(InProcessSpeechLink(audio_sample_rate=rate))
            return links[-1]

        service = AgentHumanVideoService(
            client=self.client, link_factory=make_link, **{"avatar": AVATAR, **options}
        )
        async with running_service(service, self.client, links) as bot:
            yield bot

    async def _note(self, response: httpx.Response) -> None:
        request = response.request
        *_, sessions, session_id, action = ["", *request.url.path.split("/")]
        if (request.method, session_id, action) == ("POST", "v1", "sessions"):
            self.creates.append(json.loads(request.content))
            number = len(self.creates)
            if response.is_success:
                body = json.loads(await response.aread())
                self._numbers[body["session"]["session_id"]] = number
            self.log.append(f"create {number}: {response.status_code}")
        elif (request.method, sessions) == ("POST", "sessions"):
            self.log.append(f"{action} {self._numbers[session_id]}: {response.status_code}")
        else:
            self.log.append(f"{request.method} {request.url.path}: {response.status_code}")


@pytest.fixture
async def account(recorded_service: Start) -> AsyncIterator[Callable[..., Account]]:
    """Make an account; the arguments are those of the emulator, and mean something only while recording."""
    async with contextlib.AsyncExitStack() as accounts:

        def make(*, api_key: str | None = None, **options: Any) -> Account:
            made = Account(recorded_service(**options), api_key)
            accounts.push_async_callback(made.aclose)
            return made

        yield make


async def reply(bot: Bot, context_id: str) -> None:
    """Let the avatar say a reply to its end."""
    count = len(bot.events.get("on_playback_finished", []))
    await bot.say(tone(0.1), context_id=context_id)
    await bot.until_event("on_playback_finished", count + 1)


def pass_time(bot: Bot) -> None:
    """Move the present session to `LEFT_S` before its end: hours by the answer to its create, which nobody waits for."""
    keeper = bot.service._keeper
    assert keeper is not None
    session = keeper._present
    assert session is not None
    assert session.opened_at is not None
    assert session.length_s is not None
    session.opened_at -= session.length_s - LEFT_S


@pytest.mark.vcr
@pytest.mark.block_network
async def test_life_of_a_bot(account: Callable[..., Account]) -> None:
    """A bot that speaks and ends makes one create and one end, and nothing else."""
    service = account()
    async with service.bot(aspect_ratio="1:1", metadata={"user": "Ada"}) as bot:
        await reply(bot, "c1")
        assert service.log == ["create 1: 200"]
        await bot.send(EndFrame())
        await bot.down.until(lambda: bot.down.of(EndFrame))
        assert service.log == ["create 1: 200", "end 1: 200"]
    assert len(service.log) == 2
    assert service.creates == [
        {
            "avatar": AVATAR,
            "aspect_ratio": "1:1",
            "room": {"platform": "proxy"},
            "metadata": {"user": "Ada", "client_ref": "ref-1"},
        }
    ]


@pytest.mark.vcr
@pytest.mark.block_network
async def test_refused_platform(account: Callable[..., Account], monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions move to rooms on the user's LiveKit server, each with a fresh avatar identity; a second bot asks there at once."""
    for name, value in LIVEKIT.items():
        monkeypatch.setenv(name, value)
    service = account(proxy_rooms=False)
    for context_id in ("c1", "c2"):
        async with service.bot() as bot:
            await reply(bot, context_id)
            assert not bot.up.of(ErrorFrame)
    assert service.log == ["create 1: 400", "create 2: 200", "end 2: 200", "create 3: 200", "end 3: 200"]
    proxy, *own = [body["room"] for body in service.creates]
    assert proxy == {"platform": "proxy"}
    assert [(room["platform"], room["url"]) for room in own] == [("livekit", LIVEKIT["LIVEKIT_URL"])] * 2
    first, second = (LiveKitRoom(room["url"], room["token"]) for room in own)
    assert first.avatar_identity != second.avatar_identity
    assert first.name != second.name


@pytest.mark.vcr
@pytest.mark.block_network
async def test_refused_platform_without_a_livekit_server(
    account: Callable[..., Account], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One refused create and no other; the error names the variables, and the bot keeps its voice."""
    for name in LIVEKIT:
        monkeypatch.delenv(name, raising=False)
    service = account(proxy_rooms=False)
    async with service.bot() as bot:
        await given_up(bot)
        assert "LIVEKIT_URL" in bot.up.of(ErrorFrame)[0].error
    assert service.log == ["create 1: 400"]


@pytest.mark.vcr
@pytest.mark.block_network
async def test_renewal_beside_the_present_session(account: Callable[..., Account]) -> None:
    """With a free slot the next session is created before the present one ends, and speaks the next reply."""
    service = account(plan=TWO_SLOTS)
    async with service.bot() as bot:
        await reply(bot, "c1")
        pass_time(bot)
        await bot.until_event("on_session_ended")
        await reply(bot, "c2")
        assert service.log == ["create 1: 200", "create 2: 200", "end 1: 200"]
        assert len(bot.links) == 2
        assert not bot.events.get("on_fallback_started")
        assert not bot.up.of(ErrorFrame)
    assert service.log[3:] == ["end 2: 200"]


@pytest.mark.vcr
@pytest.mark.block_network
async def test_renewal_in_the_only_slot(account: Callable[..., Account]) -> None:
    """Without a free slot the refused create is no error: the present session ends, and the next one is created then."""
    service = account(limit_errors={"sessions": LimitError(429, "CONCURRENCY_LIMIT_REACHED")})
    async with service.bot() as bot:
        await reply(bot, "c1")
        pass_time(bot)
        await bot.until_event("on_fallback_ended")
        await reply(bot, "c2")
        assert service.log == ["create 1: 200", "create 2: 429", "end 1: 200", "create 3: 200"]
        assert len(bot.links) == 2
        assert not bot.up.of(ErrorFrame)
    assert service.log[4:] == ["end 3: 200"]


@pytest.mark.vcr
@pytest.mark.block_network
async def test_wrong_key(account: Callable[..., Account]) -> None:
    """A wrong key is asked with once; nothing was opened, so nothing is ended."""
    service = account(api_key="ah_test_wrong")
    async with service.bot() as bot:
        await given_up(bot)
        assert bot.up.of(ErrorFrame)[0].category is ErrorCategory.AUTHENTICATION
        assert "ah_test_wrong" not in bot.up.of(ErrorFrame)[0].error
    assert service.log == ["create 1: 401"]


@pytest.mark.vcr
@pytest.mark.block_network
async def test_minutes_are_used_up(account: Callable[..., Account]) -> None:
    """Minutes do not come back by waiting: one create, though a full account would be asked again."""
    service = account(minutes=0)
    async with service.bot() as bot:
        await given_up(bot)
        assert bot.up.of(ErrorFrame)[0].category is ErrorCategory.QUOTA
    assert service.log == ["create 1: 403"]


@pytest.mark.vcr
@pytest.mark.block_network
async def test_chosen_avatar_is_refused(account: Callable[..., Account]) -> None:
    """The refused create costs nothing: the present session goes on, and is ended once."""
    service = account(plan=TWO_SLOTS)
    async with service.bot() as bot:
        await reply(bot, "c1")
        await bot.send(
            AgentHumanVideoUpdateSettingsFrame(delta=AgentHumanVideoSettings(avatar="avat_unknown"))
        )
        await bot.up.until(lambda: bot.up.of(ErrorFrame))
        await reply(bot, "c2")
        (error,) = bot.up.of(ErrorFrame)
        assert "avat_unknown" in error.error
        assert service.log == ["create 1: 200", "create 2: 404"]
        assert len(bot.links) == 1
    assert service.log[2:] == ["end 1: 200"]
    assert [body["avatar"] for body in service.creates] == [AVATAR, "avat_unknown"]


async def given_up(bot: Bot) -> None:
    """Wait until the avatar is given up, which makes one error, and hear that the bot can still speak."""
    await bot.until_event("on_gave_up")
    await bot.up.until(lambda: bot.up.of(ErrorFrame))
    await bot.say(tone(0.1))
    await bot.until_stopped("c1")
    assert len(bot.up.of(ErrorFrame)) == 1
    assert not bot.links


def test_no_cassette_is_orphaned() -> None:
    """Every recording belongs to a test of this module, and every test has its recording."""
    module = inspect.getmodule(test_no_cassette_is_orphaned)
    owned = {
        f"{name}.yaml"
        for name, item in vars(module).items()
        if any(mark.name == "vcr" for mark in getattr(item, "pytestmark", []))
    }
    assert {path.name for path in FOLDER.iterdir()} == owned


def test_recordings_leave_no_session_open() -> None:
    """In every recording each session that was opened is ended, once, and no create is sent twice."""
    for path in FOLDER.iterdir():
        opened, ended, refs = [], [], []
        for request, response in interactions(path):
            if request.path == "/v1/sessions":
                refs.append(json.loads(request.body)["metadata"]["client_ref"])
                if response["status"]["code"] == 200:
                    opened.append(json.loads(response["body"]["string"])["session"]["session_id"])
            else:
                ended.append(request.path.split("/")[-2])
        assert sorted(opened) == sorted(ended), path.name
        assert len(refs) == len(set(refs)), path.name
