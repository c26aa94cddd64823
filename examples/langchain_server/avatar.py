"""The toolkit of the process. Its routes import it as its agent does, so that there is one."""

import os

from voice import OpenAIVoice

from agenthuman_plugins import LiveKitRoom
from agenthuman_plugins.langchain import AgentHumanToolkit, SessionRequest


def room_of(request: SessionRequest) -> LiveKitRoom:
    """Make the tokens for a conversation's room, where its user waits."""
    return LiveKitRoom.mint(
        os.environ["LIVEKIT_URL"],
        os.environ["LIVEKIT_API_KEY"],
        os.environ["LIVEKIT_API_SECRET"],
        f"support-{request.thread_id}",
        agent_identity=request.agent_identity,  # None, or whom the avatar of a running session listens to
    )


toolkit = AgentHumanToolkit(
    namespace="support",  # the same on every worker
    room=room_of,
    tts=OpenAIVoice(),
    max_idle_secs=600,  # users go without a word
)
