"""One reply on its way: from the TTS to the avatar, and behind it everything that has to keep its place."""

from agenthuman_plugins.pipecat.reply._delivery import Delivery

__all__ = ["Delivery"]
