"""A pytest plugin: the fixture `agenthuman_emulator`, a local Agent Human service for the test.

    def test_session(agenthuman_emulator):
        with AgentHuman(api_key=agenthuman_emulator.api_key, base_url=agenthuman_emulator.url) as client:
            client.sessions.create(avatar="avat_1").end()
        assert [session["ended_by"] for session in agenthuman_emulator.sessions()] == ["caller"]

REST and gateway alone by default, within milliseconds; `@pytest.mark.agenthuman(media=True)` adds rooms and avatars with
a face, and takes every other argument of `Emulator`.
"""

from agenthuman_plugins.testing._emulator import RunningEmulator
from agenthuman_plugins.testing._fixture import agenthuman_emulator, pytest_configure

__all__ = ["RunningEmulator", "agenthuman_emulator", "pytest_configure"]
