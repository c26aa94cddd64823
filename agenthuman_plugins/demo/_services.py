"""What the demo needs beside its pipeline: the emulator as a child process, and a way to the avatar."""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Literal

import cv2
import httpx
import numpy as np

from agenthuman_plugins.client import LiveKitRoom, Session
from agenthuman_plugins.client._config import DEFAULT_AVATAR
from agenthuman_plugins.demo._errors import DemoError
from agenthuman_plugins.emulator.face import Face, Look
from agenthuman_plugins.emulator.mouth import Mouth
from agenthuman_plugins.emulator.process import Child, ChildError
from agenthuman_plugins.emulator.rooms import media_interface
from agenthuman_plugins.pipecat import AgentHumanVideoService
from agenthuman_plugins.speech import InProcessSpeechLink, SpeechLink
from agenthuman_plugins.speech.proxies import direct_to

VIDEO_SIZE = (640, 480)
VIDEO_FPS = 25
NO_NETWORK = (
    "This machine has no network interface besides loopback, which LiveKit leaves out,"
    " so the avatar runs inside the demo instead of in a LiveKit room."
)
_REQUEST_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class Services:
    """A running emulator.

    Attributes:
        url: Base URL of its API.
        api_key: The key that it takes.
        in_process: Whether avatars run in this process, because LiveKit has no network to use.
    """

    url: str
    api_key: str = field(repr=False)
    in_process: bool

    def make_avatar(
        self, *, room: LiveKitRoom | None = None, connect: Literal["start", "first_speech"] = "start"
    ) -> AgentHumanVideoService:
        """Make the pipeline's avatar, with a session of its own; with a room, it appears there."""
        return AgentHumanVideoService(
            api_key=self.api_key,
            base_url=self.url,
            avatar=DEFAULT_AVATAR,  # not the user's own: their account is not asked
            room=room,
            connect=connect,
            link_factory=_in_process_link if self.in_process else None,
        )

    async def sessions(self) -> Counter[str]:
        """Count the sessions by who ended them; `nobody` for open ones."""
        async with httpx.AsyncClient(timeout=_REQUEST_TIMEOUT_S, trust_env=False) as client:
            answer = await client.get(f"{self.url}/emulator/sessions", headers={"x-api-key": self.api_key})
        sessions: list[dict[str, Any]] = answer.raise_for_status().json()["sessions"]
        return Counter(session["ended_by"] or "nobody" for session in sessions)


@contextlib.asynccontextmanager
async def running_services() -> AsyncIterator[Services]:
    """Run the emulator; it ends with this process, however that ends.

    The emulator ends no session by itself: that is the demo's duty, and a session left open shows.

    Raises:
        DemoError: It could not be started.
    """
    in_process = media_interface() is None
    settings = {"media": not in_process, "video_size": VIDEO_SIZE, "sweep": False, "expiry": False}
    try:
        emulator = await Child.start("agenthuman_plugins.emulator", settings, timeout_s=30)
    except ChildError as error:
        raise DemoError(f"The emulator could not be started: {error}") from error
    try:
        # The pipeline joins the avatar's room from this process.
        with direct_to(emulator.ready["room_server_url"]):
            yield Services(emulator.ready["url"], emulator.ready["api_key"], in_process=in_process)
    finally:
        await emulator.stop()


class _Portrait:
    """Draws the avatar of the in-process link, on that link's thread."""

    def __init__(self) -> None:
        self._face: Face | None = None
        self._mouth = Mouth()

    def __call__(self, pcm_block: bytes, t_s: float) -> bytes:
        """Return the picture in RGB for one block of speech."""
        if self._face is None:
            self._face = Face(*VIDEO_SIZE, Look.of(DEFAULT_AVATAR))
        shape = self._mouth.update(np.frombuffer(pcm_block, np.int16))
        return cv2.cvtColor(self._face.draw(t_s, shape), cv2.COLOR_BGR2RGB).tobytes()


def _in_process_link(_: Session, audio_sample_rate: int) -> SpeechLink:
    width, height = VIDEO_SIZE
    return InProcessSpeechLink(
        draw=_Portrait(), width=width, height=height, fps=VIDEO_FPS, audio_sample_rate=audio_sample_rate
    )
