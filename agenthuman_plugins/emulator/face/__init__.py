"""The emulator's face: a painted portrait that lives while idle and moves its mouth with the voice."""

from agenthuman_plugins.emulator.face._face import Face
from agenthuman_plugins.emulator.face._look import PEOPLE, Look

__all__ = ["PEOPLE", "Face", "Look"]
