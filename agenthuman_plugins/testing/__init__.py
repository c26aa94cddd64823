"""A pytest plugin: the fixture `agenthuman_emulator`, a local Agent Human service for the test.

    from agenthuman_plugins import AgentHuman

    def test_session(agenthuman_emulator):
        service = agenthuman_emulator
        with AgentHuman(api_key=service.api_key, base_url=service.url) as client:
            with client.sessions.open(avatar="avat_1") as session:
                assert session.status == "started"
        assert [session["ended_by"] for session in service.sessions()] == ["caller"]

REST and gateway alone by default, within milliseconds; `@pytest.mark.agenthuman(media=True)` adds rooms and avatars with
a face, and takes every other argument of `Emulator`, such as `generation="managed"`.
"""

from agenthuman_plugins.testing._emulator import RunningEmulator
from agenthuman_plugins.testing._fixture import agenthuman_emulator, pytest_configure

__all__ = ["RunningEmulator", "agenthuman_emulator", "pytest_configure"]
