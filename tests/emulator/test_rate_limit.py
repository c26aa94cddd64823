"""The limit on requests per minute, and how it is answered."""

import httpx
import pytest

from agenthuman_plugins.emulator import Emulator
from agenthuman_plugins.emulator._errors import TooManyRequestsError
from agenthuman_plugins.emulator._rate_limit import RateLimit
from agenthuman_plugins.testing import RunningEmulator
from tests.emulator.conftest import FakeClock


def test_limit_holds_for_a_minute(clock: FakeClock):
    """The request after the last one is refused until the minute is over; the headers count down."""
    limit = RateLimit(2, clock)
    assert [limit.take()["X-RateLimit-Remaining"] for _ in range(2)] == ["1", "0"]
    with pytest.raises(TooManyRequestsError) as refusal:
        limit.take()
    assert int(refusal.value.headers["X-RateLimit-Reset"]) == clock.now.timestamp() + 60
    clock.advance(seconds=60)
    assert limit.take()["X-RateLimit-Remaining"] == "1"


async def test_limit_over_http(clock: FakeClock):
    """Good and refused answers carry the documented headers; the emulator's own pages are not limited."""
    async with (
        Emulator(media=False, requests_per_minute=1, clock=clock) as emulator,
        httpx.AsyncClient(
            base_url=emulator.url, headers={"x-api-key": emulator.api_key}, trust_env=False
        ) as http,
    ):
        good, refused = [await http.get("/v1/sessions") for _ in range(2)]
        assert (good.status_code, refused.status_code) == (200, 429)
        assert good.headers["x-ratelimit-limit"] == refused.headers["x-ratelimit-limit"] == "1"
        assert (await http.get("/emulator/sessions")).status_code == 200


@pytest.mark.agenthuman(requests_per_minute=1)
def test_reset_allows_requests_again(agenthuman_emulator: RunningEmulator):
    """After a reset the limit is that of an emulator that has just been started."""
    agenthuman_emulator.clock.pause()  # no minute begins meanwhile
    headers = {"x-api-key": agenthuman_emulator.api_key}
    for _ in range(2):
        reply = httpx.get(f"{agenthuman_emulator.url}/v1/sessions", headers=headers, trust_env=False)
        assert reply.status_code == 200
        agenthuman_emulator.reset()
        agenthuman_emulator.clock.pause()
