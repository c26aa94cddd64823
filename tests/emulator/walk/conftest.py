"""What every check of the walk stands on."""

import pytest

# Failed checks show what was compared, as tests do.
pytest.register_assert_rewrite("tests.emulator.walk.checks")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API_KEY", "AVATAR", "BASE_URL", "GATEWAY_URL", "LOG"):
        monkeypatch.delenv(f"AGENTHUMAN_{name}", raising=False)
