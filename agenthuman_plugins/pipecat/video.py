"""The Pipecat service: speech in, the avatar's picture and voice out."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
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
    UserSpeakingFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessorSetup
from pipecat.services.ai_service import AIService
from pipecat.services.settings import ServiceSettings

from agenthuman_plugins.client import AsyncAgentHuman, ConfigurationError, Session
from agenthuman_plugins.client.rooms import ASPECT_RATIOS, Room
from agenthuman_plugins.pipecat._branch import BranchExit
from agenthuman_plugins.pipecat._errors import category_of, shown_avatar
from agenthuman_plugins.pipecat._frames import Way, way_of
from agenthuman_plugins.pipecat._keeper import Keeper
from agenthuman_plugins.pipecat._left_behind import LeftBehind
from agenthuman_plugins.pipecat._life import Change, Life, State
from agenthuman_plugins.pipecat._link_runner import LinkRunner
from agenthuman_plugins.pipecat._presence import Presence
from agenthuman_plugins.pipecat._rooms import Rooms, RoomSource
from agenthuman_plugins.pipecat._session import AvatarSession
from agenthuman_plugins.pipecat._stats import AvatarStats
from agenthuman_plugins.pipecat._switcher import Turn
from agenthuman_plugins.pipecat.picture import AvatarPicture
from agenthuman_plugins.pipecat.picture._check import check_capabilities
from agenthuman_plugins.pipecat.picture._transport import (
    Passage,
    nearest_aspect_ratio,
    output_params,
    output_transport,
)
from agenthuman_plugins.pipecat.reply import Delivery
from agenthuman_plugins.pipecat.reply._echo import Echo
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
_HEADSTART_S = 0.02  # of metrics on their way: a CancelFrame overtakes everything in a processor's queue
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
    "on_avatar_changed",
    "on_gave_up",
)


class AgentHumanVideoService(AIService):
    """Puts a live avatar between the TTS and the output transport.

    The service opens a session in the background, streams the speech to the avatar and pushes the avatar's
    voice and video in its place. What follows the speech in the pipeline leaves when the avatar has played the
    speech before it. Without an avatar the bot keeps its voice: speech passes as plain audio until an avatar is
    connected, which takes over at the start of a reply. The session is ended however the bot exits.

    In direct mode (`room=...`) the avatar publishes in that room itself: the bot pushes neither its voice nor its
    video, only what follows the speech, and reports when the bot speaks. Plain audio goes to the transport.

    Frames in: `TTSAudioRawFrame` (swallowed, any rate), `TTSStartedFrame`, `TTSStoppedFrame`, `InterruptionFrame`,
    `AgentHumanVideoUpdateSettingsFrame`, `EndFrame`, `StopFrame`, `CancelFrame`; all others pass, at once or in their place behind the speech before them.

    Frames out: `TTSAudioRawFrame` (the avatar's voice), `OutputImageRawFrame` (RGB), `ErrorFrame` upstream; in
    direct mode `BotStartedSpeakingFrame`, `BotSpeakingFrame` and `BotStoppedSpeakingFrame` both ways.

    Event handlers:

    - `on_session_started(service, session_id)`, `on_session_ended(service, session_id)`
    - `on_avatar_connected(service)`, `on_avatar_disconnected(service, reason)`
    - `on_first_video_frame(service)`
    - `on_playback_started(service, context_id)`, `on_playback_finished(service, context_id)`
    - `on_reconnecting(service)`
    - `on_fallback_started(service, reason)`: speech passes as plain audio from now on. After a failure an
      `ErrorFrame` goes with it; an avatar that is merely late, or renewed where two sessions cannot be open, is none.
    - `on_fallback_ended(service)`: the next reply is the avatar's again.
    - `on_avatar_changed(service, avatar)`: another avatar has taken over, as the settings asked for.
    - `on_gave_up(service, reason)`: no avatar will be asked for any more; a permanent `ErrorFrame` goes with it.

    The service can be used again: each run of a pipeline opens and ends sessions of its own.

    Example:
        ```python
        avatar = AgentHumanVideoService(
            connect="first_speech",
            settings=AgentHumanVideoService.Settings(max_session_secs=3600),
        )
        pipeline = Pipeline([transport.input(), stt, llm, tts, avatar, transport.output()])
        ```

    Args:
        api_key: API key; `None` reads `AGENTHUMAN_API_KEY`.
        avatar: Avatar id; `None` takes that of `settings`, then reads `AGENTHUMAN_AVATAR`, then takes the default of the
            vendor's LiveKit plugin (inferred).
        aspect_ratio: `4:3`, `3:4`, `1:1`, or `auto`: what comes closest to the output transport's video.
        room: The user's own room, which the avatar joins, or a function (sync or async) that returns one for each
            session, given a `RoomRequest`. `None` asks the service for a room (inferred), and brings voice and video
            through the pipeline.
        picture: `pipeline` brings voice and video through the pipeline from a LiveKit room of the user's own, too.
        metadata: JSON object that the session carries.
        connect: When the session is opened, and billed from (inferred): at the `start` of the pipeline, or when the bot is
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
        room: RoomSource = None,
        picture: Literal["pipeline"] | None = None,
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
        if avatar is not None:
            self._settings.avatar = avatar
        self._make_client = partial(AsyncAgentHuman, api_key=api_key, base_url=base_url)
        self._owned_client = None if client else self._make_client()
        self._given_client = client
        self._aspect_ratio = aspect_ratio
        self._room = room
        self._picture_through = picture
        self._metadata = metadata
        self._connect_at_start = connect == "start"
        self._gateway_url = gateway_url
        self._link_factory = link_factory
        self._through_pipeline = self._make_rooms().through_pipeline
        self._picture = AvatarPicture(self)
        self._branch_exit = BranchExit(self)
        self._turn = Turn(self, self._on_service_switched)
        self._passage: Passage | None = None  # direct mode
        self._stats = AvatarStats(self, self._picture)
        self._life = Life()
        self._left_behind = LeftBehind(lambda: self._client)
        self._delivery = self._make_delivery()
        self._presence = self._make_presence()
        self._keeper: Keeper | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._end_by: float | None = None
        self._audible = False  # direct mode: whether the avatar is heard
        for event in _EVENTS:
            self._register_event_handler(event)

    @property
    def session_id(self) -> str | None:
        """Id of the open session, if there is one."""
        return None if self._keeper is None else self._keeper.session_id

    async def set_usable(self, is_usable: bool) -> None:
        """Take a permanent error for the end of the service only where it is: a bot that falls back is of use."""
        if is_usable and self._keeper is not None:
            self._keeper.reconsider()
        if is_usable or (self._life.state is State.GIVEN_UP and self._settings.on_failure == "fail"):
            await super().set_usable(is_usable)

    def can_generate_metrics(self) -> bool:
        """TTFB: first speech in to the avatar's first voiced sample."""
        return True

    # A run: setup -> start -> stop, cancel or pause -> cleanup; only cleanup is sure to be called, but not after StopFrame.

    async def setup(self, setup: FrameProcessorSetup) -> None:  # type: ignore[override]  # as Pipecat's own do
        """Begin a run: open the session in the background; the pipeline does not wait for the avatar."""
        await super().setup(setup)
        if self._given_client is None and self._owned_client is None:
            self._owned_client = self._make_client()
        self._end_by, self._audible = None, False
        self._branch_exit.find()
        self._turn.find()
        self._picture.begin()
        self._delivery = self._make_delivery()
        self._presence = self._make_presence()
        await self.set_usable(True)
        await self._presence.take(Change.BEGIN)
        self._keeper = self._make_keeper(setup.audio_out_sample_rate)
        if self._connect_at_start and self._turn.ours:
            self._keeper.want()
        self._keeping = self.create_task(self._keeper.run(), "avatar")

    async def start(self, frame: StartFrame) -> None:
        """Look at the output transport behind the service."""
        await super().start(frame)
        if self._through_pipeline:
            self._picture.check(self._resolve_aspect_ratio())
            return
        transport = output_transport(self)
        if self._passage is None or self._passage.transport is not transport:
            self._passage = Passage(transport)
        for sentence in check_capabilities(self.pipeline_worker):
            logger.warning(f"{self}: {sentence}")

    async def stop(self, frame: EndFrame) -> None:
        """Let the avatar finish what it is saying, then end the session."""
        await super().stop(frame)
        await self._finish_speech()
        await self._end_session()
        await self._stats.all_end()  # a session that takes longer to end: nothing may follow the frame

    async def _pause(self, _: StopFrame) -> None:
        """End the run as `stop` does: nobody knows whether another one follows, and an open session is billed."""
        await self._finish_speech()
        await self._end_session()
        await self._stats.all_end()  # a session that takes longer to end: nothing may follow the frame
        await self._close_client()

    async def cancel(self, frame: CancelFrame) -> None:
        """Begin to end the session; `cleanup` waits for it, so that the frame does not have to."""
        await super().cancel(frame)
        if await self._stats.all_end():
            await asyncio.sleep(_HEADSTART_S)
        self._begin_ending()

    async def cleanup(self) -> None:
        """End the session and free everything, whatever came before."""
        await self._end_session()
        self._stats.log()
        await super().cleanup()  # type: ignore[no-untyped-call]
        await self._close_client()

    async def _finish_speech(self) -> None:
        await self._delivery.end_utterance()
        if self._branch_exit.holding and self._branch_exit.in_the_way is not None:
            if not self._delivery.played_out.is_set():
                logger.info(
                    f"{self}: the rest passes as plain audio, because of {self._branch_exit.in_the_way} in its branch"
                )
                await self._delivery.hand_back()
            return
        limit_s = self._delivery.unplayed_s + self._settings.avatar_wait_s + _DRAIN_MARGIN_S
        try:
            async with asyncio.timeout(limit_s):
                await self._delivery.played_out.wait()
        except TimeoutError:
            logger.warning(
                f"{self}: the avatar did not finish its speech in time; the rest passes as plain audio"
            )
            await self._delivery.hand_back()

    def _begin_ending(self) -> set[asyncio.Task[None]]:
        tasks = self._presence.end() | ({self._keeping} if self._keeping else set())
        if self._end_by is None:  # a second cancel would cut short the ending of the session
            self._end_by = asyncio.get_running_loop().time() + _END_TIMEOUT_S
            if self._keeping is not None:
                self._keeping.cancel()
        return tasks

    async def _end_session(self) -> None:
        if tasks := self._begin_ending():
            assert self._end_by is not None  # noqa: S101 - set where it begins
            await asyncio.wait(tasks, timeout=max(0.0, self._end_by - asyncio.get_running_loop().time()))

    async def _close_client(self) -> None:
        if self._keeping is not None and not self._keeping.done():
            # The client stays open for it.
            logger.error(
                f"{self}: session {self.session_id or '(not known yet)'} is still being ended after "
                f"{_END_TIMEOUT_S:g} s; if the program ends first, it is billed until the service ends it."
            )
        elif self._owned_client is not None:
            client, self._owned_client = self._owned_client, None
            await client.aclose()

    # Frames out

    async def push_frame(self, frame: Frame, direction: FrameDirection = FrameDirection.DOWNSTREAM) -> None:
        """Push a frame, past what holds it back in a branch while the avatar says goodbye."""
        if self._passage is not None and direction is FrameDirection.DOWNSTREAM:
            self._passage.enter(frame)
        if not await self._branch_exit.push(frame, direction):
            await super().push_frame(frame, direction)

    # Frames in

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Do with a frame what the table in `_frames.py` says; what goes upstream passes at once."""
        await super().process_frame(frame, direction)  # starts, stops and cancels
        if isinstance(frame, InterruptionFrame):
            await self._delivery.interrupt(frame, direction)
            if not self._delivery.unplayed_s:
                await self._presence.speech_dropped()
        elif direction is FrameDirection.UPSTREAM:
            self._note_transport(frame)
            await self.push_frame(frame, direction)
        elif self._delivery.is_stale(frame):
            logger.trace(f"{self}: dropping {frame} of a reply that is over")
        else:
            await self._sort(frame)

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
                self._note_user(frame)
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
        if isinstance(frame, BotStoppedSpeakingFrame) and self._delivery.playback.audible is None:
            self._picture.voice_over()
        if isinstance(frame, BotStartedSpeakingFrame | BotStoppedSpeakingFrame):
            self._delivery.transport_speaks = isinstance(frame, BotStartedSpeakingFrame)

    async def _take(self, frame: Frame) -> None:
        if _announces_speech(frame):
            self._want_avatar(begins=True)
        await self._delivery.take(frame)

    async def _take_speech(self, frame: TTSAudioRawFrame) -> None:
        if frame.audio:
            self._want_avatar(begins=False)
        if await self._delivery.take_speech(frame):
            self._presence.speech_waits()

    async def _update_from(self, frame: AgentHumanVideoUpdateSettingsFrame) -> None:
        if frame.service not in (None, self):
            await self._delivery.take(frame)
            return
        try:
            delta = delta_of(frame)
        except ConfigurationError as error:
            await self.push_error(
                f"The settings stay as they are: {error}", exception=error, category=category_of(error)
            )
        else:
            await self._update_settings(delta)

    def _want_avatar(self, *, begins: bool) -> None:
        if self._keeper is not None and self._turn.ours:
            self._keeper.bot_speaks(begins=begins)

    def _note_user(self, frame: Frame) -> None:
        if (
            isinstance(frame, UserStartedSpeakingFrame | UserSpeakingFrame | UserStoppedSpeakingFrame)
            and self._keeper is not None
        ):
            self._keeper.user_speaks()

    # The parts of a run

    def _make_rooms(self) -> Rooms:
        return Rooms(self._room, picture=self._picture_through, client=self._client)

    def _make_delivery(self) -> Delivery:
        return Delivery(
            self,
            tell=self._tell,
            on_audible=self._on_audible,
            avatar_expected=lambda: self._life.avatar_expected,
            playback=VoiceGate() if self._through_pipeline else PlaybackClock(),
            curtain=self._picture.curtain,
            echo=None if self._through_pipeline else Echo(lambda: output_transport(self)),
        )

    def _make_presence(self) -> Presence:
        return Presence(self, self._life, self._delivery, self._settings, self._tell)

    def _make_keeper(self, audio_sample_rate: int) -> Keeper:
        rooms = self._make_rooms()
        options = {"aspect_ratio": self._resolve_aspect_ratio(), "metadata": self._metadata}
        opened = 0

        def make_session(avatar: str | None, beside: bool, on_change: Callable[[], None]) -> AvatarSession:
            nonlocal opened
            opened += 1
            return AvatarSession(
                client=self._client,
                rooms=rooms,
                avatar=avatar,
                number=opened,
                beside=beside,
                options=options,
                make_runner=make_runner,
                left_behind=self._left_behind,
                on_opened=self._on_session_opened,
                on_ended=self._on_session_ended,
                on_change=on_change,
            )

        def make_runner(session: Session, room: Room | None) -> tuple[SpeechLink, LinkRunner]:
            link = self._make_link(session, room, audio_sample_rate)
            return link, LinkRunner(
                link,
                self._delivery,
                service=self,
                settings=self._settings,
                picture=self._picture if self._through_pipeline else None,
                tell=self._tell,
            )

        return Keeper(
            make_session=make_session,
            presence=self._presence,
            delivery=self._delivery,
            rooms=rooms,
            turn=self._turn,
            settings=self._settings,
            left_behind=self._left_behind,
            on_turn=self._on_turn,
            tell=self._tell,
            report_refused_avatar=self._report_refused_avatar,
        )

    def _make_link(self, session: Session, room: Room | None, audio_sample_rate: int) -> SpeechLink:
        if self._link_factory is not None:
            return self._link_factory(session, audio_sample_rate)
        return speech_link(
            session,
            room=room,
            gateway_url=self._gateway_url,
            audio_sample_rate=audio_sample_rate,
            media=self._through_pipeline,
        )

    @property
    def _client(self) -> AsyncAgentHuman:
        client = self._given_client or self._owned_client
        assert client is not None  # noqa: S101 - made in the constructor, and anew for each run
        return client

    # What happens in a run

    async def _tell(self, event: str, *arguments: Any) -> None:
        self._stats.note(event)
        await self._call_event_handler(event, *arguments)

    async def _on_session_opened(self, opened: AvatarSession) -> None:
        assert opened.session is not None  # noqa: S101 - open
        session_id = opened.session.session_id
        logger.debug(f"{self}: session {session_id} started")
        self._turn.session_opened()
        self._stats.session_started(session_id, slot_wait_s=opened.slot_wait_s)
        await self._tell("on_session_started", session_id)

    async def _on_session_ended(self, ended: AvatarSession) -> None:
        assert ended.session is not None  # noqa: S101 - it was open
        session_id = ended.session.session_id
        logger.debug(f"{self}: session {session_id} ended")
        self._turn.session_ended()
        await self._stats.session_ended(session_id)
        await self._tell("on_session_ended", session_id)

    async def _on_service_switched(self, ours: bool) -> None:
        """A switcher gives its work to this service from now on, or to another one."""
        if not ours:
            self._delivery.transport_speaks = False  # the switcher tells its end to others
            await self._delivery.end_utterance()
            return
        self._picture.look_for_transport()
        if self._connect_at_start and self._keeper is not None:
            self._keeper.want()

    def _on_turn(self, session: AvatarSession) -> None:
        if session.session is not None and session.connected_at is not None:
            self._stats.session_speaks(
                session.session.session_id, connect_s=session.connected_at - session.asked_at
            )

    async def _report_refused_avatar(self, avatar: str | None, reason: Exception) -> None:
        await self.push_error(
            f"The avatar stays: {shown_avatar(avatar)!r} was refused: {reason}",
            exception=reason,
            category=category_of(reason),
        )

    async def _on_audible(self, audible: bool) -> None:
        """In direct mode nobody else can tell when the bot speaks: its transport plays nothing."""
        if self._through_pipeline or audible is self._audible:
            return
        self._audible = audible
        if not audible and self._passage is not None:
            await self._passage.through()  # clients show texts that come after the end with the next reply
        await self.broadcast_frame(BotStartedSpeakingFrame if audible else BotStoppedSpeakingFrame)

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
