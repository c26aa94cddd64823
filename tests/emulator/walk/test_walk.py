"""The walk through the documented facts: each has a row in `facts.toml` and a check, and each check a row."""

import asyncio
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

from tests.emulator.walk import checks
from tests.emulator.walk.facts import facts
from tests.emulator.walk.walk import CHECKS, CONTRACT, LIMIT_S, walking

for found in pkgutil.iter_modules(checks.__path__):
    importlib.import_module(f"{checks.__name__}.{found.name}")

# Found by the walk; each mark goes when its fact holds.
_AWAITED = {
    "api.cookie_of_the_web_app",
    "create_session.image_becomes_an_avatar",
    "delete_avatar.another_accounts",
    "gateway.confirmed_at_48_khz",
    "gateway.established_at_once",
    "life.all_left_at_once",
    "life.daily_sweep",
    "life.included_first",
    "life.purchased_stay",
    "life.reset",
    "links.opens_a_page",
    "openclaw.all_optional",
    "openclaw.avatar_id",
    "openclaw.default_ratio",
    "openclaw.no_session_id",
    "openclaw.other_fields",
    "openclaw.ratios",
    "openclaw.reached_by_request",
    "openclaw.reply",
    "preview.opens_a_session",
    "preview.shows_the_avatar",
    "room.finished_report",
    "session.mixed_minutes",
    "session.words_of_billing",
    "start_by_link.shows_the_avatar",
    "usage.active_minutes_count",
    "usage.paid_period",
    "usage.purchased_minutes",
    "usage.times_have_milliseconds",
    "usage.total_remaining",
    "vendor.proxied_session",
}


def _case(name: str) -> object:
    marks = [pytest.mark.xfail(strict=True)] if name in _AWAITED else []
    if any(each.chain for each in CHECKS.get(name, [])):
        marks.append(pytest.mark.chain)
    return pytest.param(name, id=name, marks=marks)


@pytest.mark.parametrize("name", [_case(name) for name, fact in facts().items() if not fact.live])
async def test_fact(name: str) -> None:
    """Each documented fact holds, and each deviation is still one."""
    (found,) = CHECKS[name]
    async with asyncio.timeout(LIMIT_S), walking(found) as arguments:
        result = found.function(*arguments)
        if inspect.isawaitable(result):
            await result


def test_every_documented_body_is_compared() -> None:
    """A documented body that no check names judges nobody."""
    named = "".join(path.read_text() for path in Path(checks.__file__).parent.glob("*.py"))
    assert [path.stem for path in CONTRACT.glob("*.json") if f'"{path.stem}"' not in named] == []


def test_every_check_has_a_fact() -> None:
    """A check that no row names judges nothing, and what only the live service shows has none."""
    assert [name for name in CHECKS if name not in facts() or facts()[name].live] == []
