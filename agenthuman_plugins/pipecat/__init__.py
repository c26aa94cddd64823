"""Agent Human avatars for Pipecat voice bots."""

from agenthuman_plugins.pipecat._rooms import RoomRequest
from agenthuman_plugins.pipecat._stats import AvatarMetricsData
from agenthuman_plugins.pipecat.settings import AgentHumanVideoSettings, AgentHumanVideoUpdateSettingsFrame
from agenthuman_plugins.pipecat.video import AgentHumanVideoService

__all__ = [
    "AgentHumanVideoService",
    "AgentHumanVideoSettings",
    "AgentHumanVideoUpdateSettingsFrame",
    "AvatarMetricsData",
    "RoomRequest",
]
