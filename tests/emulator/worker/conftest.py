"""Rooms of each kind, as the tests of the room server have them."""

from tests.emulator.room_server.conftest import join, room_name, room_server

__all__ = ["join", "room_name", "room_server"]
