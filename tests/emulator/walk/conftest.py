"""Failed checks show what was compared, as tests do."""

import pytest

pytest.register_assert_rewrite("tests.emulator.walk.checks", "tests.emulator.walk.walk")
