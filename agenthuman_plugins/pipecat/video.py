"""The Pipecat service: speech in, the avatar's picture and voice out."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Literal

from loguru import logger
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    CancelFrame,
    EndFrame,
    Frame,
    InterruptionFrame,
    OutputTransportReadyFrame,
    StartFrame,
    StopFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessorSetup
from pipecat.services.ai_service import AIService
from pipecat.services.settings import ServiceSettings

from agenthuman_plugins.client import (
    AsyncAgentHuman,
    ConfigurationError,
    DailyRoom,
    LiveKitRoom,
    Session,
)
from agenthuman_plugins.client.rooms import ASPECT_RATIOS
from agenthuman_plugins.pipecat._frames import Way, way_of
from agenthuman_plugins.pipecat._keeper import AvatarKeeper
from agenthuman_plugins.pipecat._link_runner import LinkRunner
from agenthuman_plugins.pipecat._presence import AvatarPresence
from agenthuman_plugins.pipecat._stats import AvatarStats
from agenthuman_plugins.pipecat.picture._picture import AvatarPicture
from agenthuman_plugins.pipecat.picture._transport import nearest_aspect_ratio, output_params
from agenthuman_plugins.pipecat.reply._delivery import Delivery
from agenthuman_plugins.pipecat.settings import (
    AgentHumanVideoSettings,
    AgentHumanVideoUpdateSettingsFrame,
    complete_settings,
    delta_of,
)
from agenthuman_plugins.speech.link import SpeechLink
from agenthuman_plugins.speech.of_session import speech_link
from agenthuman_plugins.speech.progress import PlaybackClock, VoiceGate

LinkFactory = Callable[[Session, int], SpeechLink]

_DRAIN_MARGIN_S = 5.0  # on EndFrame, beyond the length of the speech that is still to be played
_END_TIMEOUT_S = 15.0  # for leaving the room and ending the session; nobody waits for the rest of the retries

_EVENTS = (
    "on_session_started",
    "on_session_ended",
    "on_avatar_connected",
    "on_avatar_disconnected",
    "on_first_video_frame",
    "on_playback_started",
    "on_playback_finished",
    "on_reconnecting",
    "on_fallback_started",
    "on_fallback_ended",
)


class AgentHumanVideoService(AIService):
    """Puts a live avatar between the TTS and the output transport.

    The service opens a session in the background, streams the speech to the avatar and pushes the avatar's
    voice and picture in its place. What follows the speech in the pipeline leaves when the avatar has played the
    speech before it. Without an avatar the bot keeps its voice: speech passes as plain audio until the avatar is
    there, and takes over at the start of a reply. The session is ended on every way out.

    In direct mode (`room=...`) the avatar publishes in that room itself: the bot pushes neither its voice nor its
    picture, only what follows the speech, and tells when the bot speaks. Plain audio goes to the transport.

    Frames in: `TTSAudioRawFrame` (swallowed, any rate), `TTSStartedFrame`, `TTSStoppedFrame`, `InterruptionFrame`,
    `AgentHumanVideoUpdateSettingsFrame`, `EndFrame`, `CancelFrame`; all others pass, in order.

    Frames out: `TTSAudioRawFrame` (the avatar's voice), `OutputImageRawFrame` (RGB), `ErrorFrame` upstream; in
    direct mode `BotStartedSpeakingFrame`, `BotSpeakingFrame` and `BotStoppedSpeakingFrame` both ways.

    Event handlers:

    - `on_session_started(service, session_id)`, `on_session_ended(service, session_id)`
    - `on_avatar_connected(service)`, `on_avatar_disconnected(service, reason)`
    - `on_first_video_frame(service)`
    - `on_playback_started(service, context_id)`, `on_playback_finished(service, context_id)`
    - `on_reconnecting(service)`
    - `on_fallback_started(service, reason)`: speech passes as plain audio from now on. After a failure an
      `ErrorFrame` goes with it; an avatar that is merely late is no failure and makes none.
    - `on_fallback_ended(service)`: the avatar speaks again.

    Args:
        api_key: API key; `None` reads `AGENTHUMAN_API_KEY`.
        avatar: Avatar id; `None` reads `AGENTHUMAN_AVATAR`, then takes the documented default.
        aspect_ratio: `4:3`, `3:4`, `1:1`, or `auto`: what comes closest to the output transport's picture.
        room: The user's own room, which the avatar joins; `None` brings voice and picture through the pipeline.
        metadata: JSON object that the session carries.
        connect: When the session is opened, and billed from: at the `start` of the pipeline, or when the bot is
            about to speak for the first time (`first_speech`).
        client: Client to use in place of one made from `api_key` and `base_url`; its owner closes it.
        base_url: Address of the API; `None` reads `AGENTHUMAN_BASE_URL`, then takes the public one.
        gateway_url: Address of the speech gateway, where direct mode uses that; `None` takes
            `AGENTHUMAN_GATEWAY_URL`, then the public one.
        link_factory: Makes the speech link from the session and the pipeline's output sample rate in Hz; `None`
            takes the one that fits the room.
        settings: What can be changed while the bot runs; see `AgentHumanVideoSettings`.
        **kwargs: Arguments of Pipecat's `AIService`, such as `name`.

    Raises:
        ConfigurationError: No API key, or a wrong argument.
    """

    Settings = AgentHumanVideoSettings
    _settings: AgentHumanVideoSettings

    def __init__(
        self,
        *,
        api_key: str | None = None,
        avatar: str | None = None,
        aspect_ratio: str = "auto",
        room: LiveKitRoom | DailyRoom | None = None,
        metadata: Mapping[str, Any] | None = None,
        connect: Literal["start", "first_speech"] = "start",
        client: AsyncAgentHuman | None = None,
        base_url: str | None = None,
        gateway_url: str | None = None,
        link_factory: LinkFactory | None = None,
        settings: ServiceSettings | None = None,
        **kwargs: Any,
    ) -> None:
        if aspect_ratio not in (*ASPECT_RATIOS, "auto"):
            raise ConfigurationError(f"aspect_ratio is {aspect_ratio!r}; allowed are 4:3, 3:4, 1:1 and auto.")
        if connect not in ("start", "first_speech"):
            raise ConfigurationError(f"connect is {connect!r}; allowed are start and first_speech.")
        super().__init__(settings=complete_settings(settings), **kwargs)
        self._owned_client = None if client else AsyncAgentHuman(api_key=api_key, base_url=base_url)
        self._client = client or self._owned_client
        self._avatar = avatar
        self._aspect_ratio = aspect_ratio
        self._room = room
        self._metadata = metadata
        self._connect_at_start = connect == "start"
        self._gateway_url = gateway_url
        self._link_factory = link_factory or self._make_link
        self._picture = AvatarPicture(self)
        self._delivery = Delivery(
            self,
            tell=self._call_event_handler,
            on_audible=self._on_audible,
            gate=self._new_gate(),
            curtain=self._picture.curtain,
        )
        self._presence = AvatarPresence(self, self._delivery, self._settings, self._call_event_handler)
        self._end_by: float | None = None
        self._audible = False  # direct mode: whether the avatar is heard
        self._session_id: str | None = None
        self._keeper: AvatarKeeper | None = None
        self._keeping: asyncio.Task[None] | None = None
        for event in _EVENTS:
            self._register_event_handler(event)
        self._stats = AvatarStats(self, self._picture)

    @property
    def session_id(self) -> str | None:
        """Id of the open session, if there is one."""
        return self._session_id

    def can_generate_metrics(self) -> bool:
        """TTFB: first speech in to the avatar's first voiced sample."""
        return True

    # Life: setup -> start -> stop or cancel -> cleanup; only cleanup is sure to be called.

    async def setup(self, setup: FrameProcessorSetup) -> None:  # type: ignore[override]  # as Pipecat's own do
        """Begin to open the session, in the background: the pipeline does not wait for the avatar."""
        await super().setup(setup)
        assert self._client is not None  # noqa: S101 - given or made in the constructor
        options = {
            "avatar": self._avatar,
            "aspect_ratio": self._resolve_aspect_ratio(),
            "metadata": self._metadata,
        }
        self._keeper = AvatarKeeper(
            client=self._client,
            session_options=options if self._room is None else options | {"room": self._room},
            make_link=lambda session: self._link_factory(session, setup.audio_out_sample_rate),
            on_session=self._on_session,
            use=self._use_link,
            on_lost=self._presence.lost,
            on_idle=self._presence.dismissed,
        )
        if self._connect_at_start:
            self._keeper.wanted.set()
        self._keeping = self.create_task(self._keeper.run(), "avatar")

    async def start(self, frame: StartFrame) -> None:
        """Look at the output transport behind the service."""
        await super().start(frame)
        if self._room is None:
            self._picture.check(self._resolve_aspect_ratio())

    async def stop(self, frame: EndFrame) -> None:
        """Let the avatar finish what it is saying, then end the session."""
        await super().stop(frame)
        await self._finish()

    async def _finish(self) -> None:
        await self._delivery.end_utterance()
        limit_s = self._delivery.unplayed_s + self._settings.avatar_wait_s + _DRAIN_MARGIN_S
        try:
            async with asyncio.timeout(limit_s):
                await self._delivery.played_out.wait()
        except TimeoutError:
            logger.warning(
                f"{self}: the avatar did not finish its speech in time; the rest passes as plain audio"
            )
            await self._delivery.hand_back()
        await self._end_session()

    async def cancel(self, frame: CancelFrame) -> None:
        """Begin to end the session; `cleanup` waits for it, so that the frame does not have to."""
        await super().cancel(frame)
        self._begin_ending()

    async def cleanup(self) -> None:
        """End the session and free everything, whatever came before."""
        await self._end_session()
        self._stats.log()
        await super().cleanup()  # type: ignore[no-untyped-call]
        if self._keeping is not None and not self._keeping.done():
            # The client stays open for it.
            logger.error(
                f"{self}: session {self._session_id or '(not known yet)'} is still being ended after "
                f"{_END_TIMEOUT_S:g} s; if the program ends first, it is billed until the service ends it."
            )
        elif self._owned_client is not None:
            await self._owned_client.aclose()

    def _begin_ending(self) -> set[asyncio.Task[None]]:
        tasks = self._presence.tasks | ({self._keeping} if self._keeping else set())
        if self._end_by is None:  # a second cancel would cut short the ending of the session
            self._end_by = asyncio.get_running_loop().time() + _END_TIMEOUT_S
            for task in tasks:
                task.cancel()
        return tasks

    async def _end_session(self) -> None:
        if tasks := self._begin_ending():
            assert self._end_by is not None  # noqa: S101 - set where it begins
            await asyncio.wait(tasks, timeout=max(0.0, self._end_by - asyncio.get_running_loop().time()))

    # Frames in

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Do with a frame what the table in `_frames.py` says; what goes upstream passes at once."""
        await super().process_frame(frame, direction)  # starts, stops and cancels
        if isinstance(frame, InterruptionFrame):
            await self._delivery.interrupt(frame, direction)
        elif direction is FrameDirection.UPSTREAM:
            self._note_transport(frame)
            await self.push_frame(frame, direction)
        elif self._delivery.is_stale(frame):
            logger.trace(f"{self}: dropping {frame} of a reply that is over")
        else:
            await self._sort(frame)
        await self._presence.end_fallback_if_over()

    async def _sort(self, frame: Frame) -> None:
        match way_of(frame):
            case Way.IN_PLACE:
                await self._take(frame)
            case Way.SWALLOW if isinstance(frame, TTSAudioRawFrame):
                await self._take_speech(frame)
            case Way.SWALLOW if isinstance(frame, AgentHumanVideoUpdateSettingsFrame):
                await self._update_from(frame)
            case Way.ACT:
                await self._act(frame)
                await self.push_frame(frame)
            case _:
                await self.push_frame(frame)

    async def _act(self, frame: Frame) -> None:
        """Act on what `AIService` does not act on."""
        if isinstance(frame, StopFrame):
            await self._pause(frame)
        elif isinstance(frame, CancelFrame):
            await self._delivery.cancel()

    def _note_transport(self, frame: Frame) -> None:
        # The ready frame can be lost to an interruption; a transport that plays is ready, too.
        if isinstance(frame, OutputTransportReadyFrame | BotStartedSpeakingFrame):
            self._picture.transport_is_ready()
        # After an interruption as well; what is audible all the same must be heard to its end.
        if isinstance(frame, BotStoppedSpeakingFrame) and self._delivery.gate.audible is None:
            self._picture.voice_over()
        if isinstance(frame, BotStartedSpeakingFrame | BotStoppedSpeakingFrame):
            self._delivery.transport_speaks = isinstance(frame, BotStartedSpeakingFrame)

    async def _take(self, frame: Frame) -> None:
        if _announces_speech(frame):
            self._want_avatar()
        await self._delivery.take(frame)

    async def _take_speech(self, frame: TTSAudioRawFrame) -> None:
        if await self._delivery.take_speech(frame):
            self._want_avatar()
            self._presence.speech_came()

    async def _update_from(self, frame: AgentHumanVideoUpdateSettingsFrame) -> None:
        if frame.service not in (None, self):
            await self._delivery.take(frame)
            return
        try:
            delta = delta_of(frame)
        except ConfigurationError as error:
            await self.push_error(f"The settings stay as they are: {error}", exception=error)
        else:
            await self._update_settings(delta)

    async def _pause(self, frame: StopFrame) -> None:
        """Let the avatar finish what it is saying, then end the session: the pipeline stops, and may run again."""
        del frame
        await self._finish()

    def _want_avatar(self) -> None:
        if self._keeper is not None:
            self._keeper.wanted.set()

    # The avatar comes and goes

    async def _on_session(self, session: Session | None) -> None:
        event = "on_session_started" if session else "on_session_ended"
        session_id = session.session_id if session else self._session_id
        self._session_id = session.session_id if session else None
        logger.debug(f"{self}: session {session_id} {'started' if session else 'ended'}")
        if session:
            self._stats.session_started(session.session_id)
        else:
            await self._stats.session_ended()
        await self._call_event_handler(event, session_id)

    async def _use_link(self, link: SpeechLink) -> None:
        """Speak and listen through a connected link until it is lost."""
        self._delivery.use(self._new_gate())
        await self._presence.arrived()
        await LinkRunner(
            link,
            self._delivery,
            service=self,
            settings=self._settings,
            picture=self._picture,
            tell=self._call_event_handler,
        ).run()

    async def _on_audible(self, audible: bool) -> None:
        """In direct mode nobody else can tell when the bot speaks: its transport plays nothing."""
        if self._room is None or audible is self._audible:
            return
        self._audible = audible
        await self.broadcast_frame(BotStartedSpeakingFrame if audible else BotStoppedSpeakingFrame)

    def _new_gate(self) -> VoiceGate | PlaybackClock:
        return VoiceGate() if self._room is None else PlaybackClock()

    def _make_link(self, session: Session, audio_sample_rate: int) -> SpeechLink:
        return speech_link(
            session,
            room=self._room,
            gateway_url=self._gateway_url,
            audio_sample_rate=audio_sample_rate,
            media=self._room is None,
        )

    def _resolve_aspect_ratio(self) -> str:
        if self._aspect_ratio != "auto":
            return self._aspect_ratio
        params = output_params(self)
        if params is None or not params.video_out_enabled:
            return ASPECT_RATIOS[0]
        return nearest_aspect_ratio(params.video_out_width, params.video_out_height)


def _announces_speech(frame: Frame) -> bool:
    """Whether speech is sure to follow: an LLM's response may be a tool call alone, or not be spoken."""
    return isinstance(frame, TTSStartedFrame) or getattr(frame, "will_be_spoken", False)
