"""The avatar's video on its way: in step with the voice, to the output transport behind the service."""

from agenthuman_plugins.pipecat.picture._picture import AvatarPicture

__all__ = ["AvatarPicture"]
