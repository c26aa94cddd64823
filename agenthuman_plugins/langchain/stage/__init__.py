"""The last stage of a voice agent: its speech goes to an avatar as it comes, and its history keeps what was heard."""

from agenthuman_plugins.langchain.stage._avatar_stage import AvatarStage
from agenthuman_plugins.langchain.stage._history import heard_only

__all__ = ["AvatarStage", "heard_only"]
