"""The Pipecat service: speech in, the avatar's picture and voice out."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from loguru import logger
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    CancelFrame,
    EndFrame,
    Frame,
    HeartbeatFrame,
    InterruptionFrame,
    OutputImageRawFrame,
    OutputTransportReadyFrame,
    StartFrame,
    SystemFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessorSetup
from pipecat.services.ai_service import AIService
from pipecat.services.settings import ServiceSettings
from pipecat.utils.errors import ErrorCategory

from agenthuman_plugins.client import (
    AgentHumanError,
    APIResponseError,
    AsyncAgentHuman,
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    Session,
    SpeechLinkError,
    UsageLimitError,
)
from agenthuman_plugins.client.rooms import ASPECT_RATIOS
from agenthuman_plugins.pipecat._avatar import AvatarKeeper
from agenthuman_plugins.pipecat._onset import voiced_span
from agenthuman_plugins.pipecat._output import nearest_aspect_ratio, output_params
from agenthuman_plugins.pipecat._resampler import SpeechResampler
from agenthuman_plugins.pipecat._speaker import Speaker
from agenthuman_plugins.pipecat._timeline import Timeline, Utterance
from agenthuman_plugins.pipecat._voice import Heard, VoiceGate
from agenthuman_plugins.speech.link import (
    AvatarAudio,
    AvatarDisconnected,
    LinkLost,
    PlaybackFinished,
    PlaybackStarted,
    Reconnecting,
    SpeechLink,
)
from agenthuman_plugins.speech.livekit import LiveKitSpeechLink

LinkFactory = Callable[[Session, int], SpeechLink]

# The block that Pipecat's transports write: audio of this length passes them without another buffer.
_AUDIO_BLOCK_MS = 40
_NO_SOUND_S = 3.0  # an avatar sends sound all the time; without any for so long, it has lost its voice
# A reply without an end frame is over when it has been played for that long; Pipecat's transports wait as long.
_STARVED_END_S = 3.0
_DRAIN_MARGIN_S = 5.0  # on EndFrame, beyond the length of the speech that is still to be played
_END_TIMEOUT_S = 15.0  # for leaving the room and ending the session; the client's own limits are shorter

_CATEGORIES: dict[type[AgentHumanError], ErrorCategory] = {
    AuthenticationError: ErrorCategory.AUTHENTICATION,
    PermissionDeniedError: ErrorCategory.AUTHORIZATION,
    BadRequestError: ErrorCategory.INVALID_REQUEST,
    NotFoundError: ErrorCategory.INVALID_REQUEST,
    UsageLimitError: ErrorCategory.QUOTA,
    RateLimitError: ErrorCategory.RATE_LIMIT,
    ServerError: ErrorCategory.SERVER,
    SpeechLinkError: ErrorCategory.CONNECTIVITY,
}


class AgentHumanVideoService(AIService):
    """Puts a live avatar between the TTS and the output transport.

    The service opens a session in the background, streams the speech to the avatar and pushes the avatar's
    voice and picture in its place. What follows the speech in the pipeline leaves when the avatar has played the
    speech before it. Without an avatar the bot keeps its voice: speech passes as plain audio until the avatar is
    there, and takes over at the start of a reply. The session is ended on every way out.

    Frames in: `TTSAudioRawFrame` (swallowed, any rate), `TTSStartedFrame`, `TTSStoppedFrame`, `InterruptionFrame`,
    `EndFrame`, `CancelFrame`; all others pass, in order.

    Frames out: `TTSAudioRawFrame` (the avatar's voice), `OutputImageRawFrame` (RGB), `ErrorFrame` upstream.

    Event handlers:

    - `on_session_started(service, session_id)`, `on_session_ended(service, session_id)`
    - `on_avatar_connected(service)`, `on_avatar_disconnected(service, reason)`
    - `on_first_video_frame(service)`
    - `on_playback_started(service, context_id)`, `on_playback_finished(service, context_id)`
    - `on_reconnecting(service)`
    - `on_fallback_started(service, reason)`, `on_fallback_ended(service)`

    Args:
        api_key: API key; `None` reads `AGENTHUMAN_API_KEY`.
        avatar: Avatar id; `None` reads `AGENTHUMAN_AVATAR`, then takes the documented default.
        aspect_ratio: `4:3`, `3:4`, `1:1`, or `auto`: what comes closest to the output transport's picture.
        metadata: JSON object that the session carries.
        client: Client to use in place of one made from `api_key` and `base_url`; its owner closes it.
        base_url: Address of the API; `None` reads `AGENTHUMAN_BASE_URL`, then takes the public one.
        avatar_wait_s: Seconds that the first speech waits for the avatar before it passes as plain audio.
        link_factory: Makes the speech link from the session and the pipeline's output sample rate in Hz; `None`
            joins the session's LiveKit room.
        settings: Pipecat settings of the service.
        **kwargs: Arguments of Pipecat's `AIService`, such as `name`.

    Raises:
        ConfigurationError: No API key, or a wrong aspect ratio.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        avatar: str | None = None,
        aspect_ratio: str = "auto",
        metadata: Mapping[str, Any] | None = None,
        client: AsyncAgentHuman | None = None,
        base_url: str | None = None,
        avatar_wait_s: float = 3.0,
        link_factory: LinkFactory | None = None,
        settings: ServiceSettings | None = None,
        **kwargs: Any,
    ) -> None:
        if aspect_ratio not in (*ASPECT_RATIOS, "auto"):
            raise ConfigurationError(f"aspect_ratio is {aspect_ratio!r}; allowed are 4:3, 3:4, 1:1 and auto.")
        complete = ServiceSettings(model=None)
        if settings is not None:
            complete.apply_update(settings)
        super().__init__(settings=complete, **kwargs)
        self._owned_client = None if client else AsyncAgentHuman(api_key=api_key, base_url=base_url)
        self._client = client or self._owned_client
        self._avatar = avatar
        self._aspect_ratio = aspect_ratio
        self._metadata = metadata
        self._avatar_wait_s = avatar_wait_s
        self._link_factory = link_factory or _livekit_link

        self._timeline: Timeline[Frame] = Timeline()
        self._gate = VoiceGate()
        self._speaker = Speaker(self._gate)
        self._resampler = SpeechResampler()
        # Held while frames are sorted and pushed, so that none overtakes another.
        self._order = asyncio.Lock()
        self._played_out = asyncio.Event()  # set while nothing waits to be played
        self._played_out.set()

        self._utterance: Utterance | None = None  # the one that the TTS is speaking
        self._plain = False  # whether that one, or the one before it, passes as plain audio
        self._bot_heard = False  # whether the transport is playing speech
        self._interrupted_context_id: str | None = None  # the one that the TTS was speaking
        self._avatar_there = False
        self._may_wait = True  # for the avatar's first appearance
        self._in_fallback = False
        self._ending = False
        self._transport_ready = False
        self._session_id: str | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._waiter: asyncio.Task[None] | None = None

        for event in (
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
        ):
            self._register_event_handler(event)

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
        keeper = AvatarKeeper(
            client=self._client,
            session_options={
                "avatar": self._avatar,
                "aspect_ratio": self._resolve_aspect_ratio(),
                "metadata": self._metadata,
            },
            make_link=lambda session: self._link_factory(session, setup.audio_out_sample_rate),
            on_session=self._on_session,
            use=self._use_link,
            on_lost=self._on_avatar_lost,
        )
        self._keeper = self.create_task(keeper.run(), "avatar")

    async def stop(self, frame: EndFrame) -> None:
        """Let the avatar finish what it is saying, then end the session."""
        await super().stop(frame)
        self._end_utterance()
        try:
            async with asyncio.timeout(self._timeline.unplayed_s + self._avatar_wait_s + _DRAIN_MARGIN_S):
                await self._played_out.wait()
        except TimeoutError:
            logger.warning(
                f"{self}: the avatar did not finish its speech in time; the rest passes as plain audio"
            )
            await self._pass_everything()
        await self._end_session()

    async def cancel(self, frame: CancelFrame) -> None:
        """Begin to end the session; `cleanup` waits for it, so that the frame does not have to."""
        await super().cancel(frame)
        self._begin_ending()

    async def cleanup(self) -> None:
        """End the session and free everything, whatever came before."""
        await self._end_session()
        await super().cleanup()  # type: ignore[no-untyped-call]
        if self._owned_client is not None:
            await self._owned_client.aclose()

    def _begin_ending(self) -> set[asyncio.Task[None]]:
        tasks = {task for task in (self._waiter, self._keeper) if task is not None}
        if not self._ending:
            self._ending = True  # a second cancel would cut short the ending of the session
            for task in tasks:
                task.cancel()
        return tasks

    async def _end_session(self) -> None:
        if tasks := self._begin_ending():
            await asyncio.wait(tasks, timeout=_END_TIMEOUT_S)

    # Frames in

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Sort a frame: speech to the avatar, what follows speech behind it, the rest straight on."""
        await super().process_frame(frame, direction)
        if isinstance(frame, InterruptionFrame):
            await self._interrupt(frame, direction)
        elif direction is FrameDirection.UPSTREAM:
            # The ready frame can be lost to an interruption; a transport that plays is ready, too.
            if isinstance(frame, OutputTransportReadyFrame | BotStartedSpeakingFrame):
                self._transport_ready = True
            if isinstance(frame, BotStartedSpeakingFrame | BotStoppedSpeakingFrame):
                self._bot_heard = isinstance(frame, BotStartedSpeakingFrame)
            await self.push_frame(frame, direction)
        elif self._is_stale(frame):
            logger.trace(f"{self}: dropping {frame} of an interrupted reply")
        elif isinstance(frame, TTSAudioRawFrame):
            await self._take_speech(frame)
        elif isinstance(frame, SystemFrame | StartFrame | EndFrame | HeartbeatFrame):
            await self.push_frame(frame, direction)
        else:
            await self._take_other(frame)

    def _is_stale(self, frame: Frame) -> bool:
        """Whether the TTS made this for an interrupted reply, before it heard of the interruption.

        That happens when the interruption comes from further down, or overtakes the frames on their way.
        """
        context_id = getattr(frame, "context_id", None)
        return (
            context_id is not None
            and context_id == self._interrupted_context_id
            and frame.interruptible
            and not isinstance(frame, TTSStartedFrame)
        )

    async def _take_speech(self, frame: TTSAudioRawFrame) -> None:
        if not frame.audio:
            return  # nothing that could ever be played, so nothing may wait for it
        seconds = frame.num_frames / frame.sample_rate
        async with self._order:
            utterance = self._utterance or self._begin_utterance(frame.context_id)
            if self._plain:
                if not self._timeline.add(frame):
                    await self.push_frame(frame)
                return
            if utterance.lead_s is None and (span := voiced_span(frame.audio)) is not None:
                utterance.lead_s = utterance.duration_s + span[0] / frame.num_channels / frame.sample_rate
            if utterance.duration_s == 0:
                await self.start_ttfb_metrics()
            self._timeline.add_speech(frame, utterance, seconds)
            self._played_out.clear()
            self._speaker.speak(
                utterance, self._resampler.resample(frame.audio, frame.sample_rate, frame.num_channels)
            )
            if not self._avatar_there and self._waiter is None:
                self._waiter = self.create_task(self._stop_waiting(), "wait for avatar")

    async def _take_other(self, frame: Frame) -> None:
        async with self._order:
            if isinstance(frame, TTSStartedFrame):
                self._end_utterance()
                self._begin_utterance(frame.context_id)
            waits = self._timeline.add(frame)
            if isinstance(frame, TTSStoppedFrame):
                self._end_utterance()
            if not waits:
                await self.push_frame(frame)

    def _begin_utterance(self, context_id: str | None) -> Utterance:
        self._utterance = Utterance(context_id)
        # Plain audio comes faster than it is heard: behind it the avatar's lips would be ahead of its voice.
        still_plain = self._plain and self._bot_heard
        self._plain = still_plain or not (self._avatar_there or self._may_wait)
        if context_id == self._interrupted_context_id:
            self._interrupted_context_id = None  # begun anew
        return self._utterance

    def _end_utterance(self) -> None:
        utterance, self._utterance = self._utterance, None
        if utterance is None or self._plain or not utterance.duration_s:
            return
        self._speaker.speak(utterance, self._resampler.flush())
        self._speaker.end_utterance()

    async def _interrupt(self, frame: InterruptionFrame, direction: FrameDirection) -> None:
        # Before the lock: from here on nothing of the old reply gets through.
        audible = self._gate.audible
        self._silence()
        if self._utterance is not None:
            self._interrupted_context_id = self._utterance.context_id
            self._utterance = None
        self._plain = False
        async with self._order:
            await self.push_frame(frame, direction)
            for waiting in self._timeline.drain():
                if not waiting.interruptible:
                    await self.push_frame(waiting)
            self._played_out.set()
        if audible is not None:
            await self._call_event_handler("on_playback_finished", audible.context_id)

    def _silence(self) -> None:
        """Stop the avatar, and forget what it has not been sent."""
        self._speaker.drop(interrupt=self._gate.interrupt())
        self._resampler.reset()

    # The avatar comes and goes

    async def _on_session(self, session: Session | None) -> None:
        event = "on_session_started" if session else "on_session_ended"
        session_id = session.session_id if session else self._session_id
        self._session_id = session.session_id if session else None
        logger.debug(f"{self}: session {session_id} {'started' if session else 'ended'}")
        await self._call_event_handler(event, session_id)

    async def _use_link(self, link: SpeechLink) -> None:
        """Speak and listen through a connected link until it is lost."""
        self._avatar_there = True
        self._gate = self._speaker.gate = VoiceGate()
        if self._waiter is not None:
            await self.cancel_task(self._waiter)
            self._waiter = None
        await self._call_event_handler("on_avatar_connected")
        if self._in_fallback:
            self._in_fallback = False
            await self._call_event_handler("on_fallback_ended")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._speaker.run(link))
            tasks.create_task(self._listen(link))
            tasks.create_task(self._watch(link))
            tasks.create_task(self._follow(link, tasks))

    async def _on_avatar_lost(self, reason: Exception) -> None:
        was_there, self._avatar_there = self._avatar_there, False
        self._may_wait = False
        if was_there:
            await self._call_event_handler("on_avatar_disconnected", str(reason))
        await self._fall_back(reason)

    async def _stop_waiting(self) -> None:
        """The avatar takes too long: let the speech that waits for it pass as plain audio."""
        await asyncio.sleep(self._avatar_wait_s)
        self._may_wait = False
        self._waiter = None
        logger.warning(
            f"{self}: no avatar after {self._avatar_wait_s:g} s of waiting; speech passes as plain audio"
        )
        await self._pass_everything()

    async def _fall_back(self, reason: Exception) -> None:
        """Give the bot its voice back, and report the failure once until the avatar is back."""
        await self._pass_everything()
        if self._in_fallback:
            logger.debug(f"{self}: still no avatar: {reason}")
            return
        self._in_fallback = True
        category = next(
            (c for kind, c in _CATEGORIES.items() if isinstance(reason, kind)), ErrorCategory.UNKNOWN
        )
        await self.push_error(f"No avatar: {reason}", exception=reason, category=category)
        await self._call_event_handler("on_fallback_started", str(reason))

    async def _pass_everything(self) -> None:
        """Push what the avatar has not played, in order; the reply that is being spoken goes on as plain audio."""
        async with self._order:
            self._silence()
            self._plain = True
            for frame in self._timeline.drain():
                await self.push_frame(frame)
            self._played_out.set()

    # The link's streams

    async def _listen(self, link: SpeechLink) -> None:
        """Push the avatar's voice while it speaks, and behind it what was waiting for it."""
        async for audio in link.audio():
            async with self._order:
                for heard in self._gate.hear(audio.pcm, audio.sample_rate):
                    await self._take_heard(heard, audio)

    async def _take_heard(self, heard: Heard, audio: AvatarAudio) -> None:
        utterance = heard.utterance
        if heard.first:
            await self.stop_ttfb_metrics()
            await self._call_event_handler("on_playback_started", utterance.context_id)
        if heard.pcm:
            voice = TTSAudioRawFrame(
                heard.pcm, audio.sample_rate, audio.num_channels, context_id=utterance.context_id
            )
            await self.push_frame(voice)
        for frame in self._timeline.advance(utterance, heard.position_s):
            await self.push_frame(frame)
        if heard.finished:
            await self._finish(utterance)
        elif heard.starved_s > _STARVED_END_S and utterance is self._utterance:
            logger.warning(f"{self}: the speech stopped without a TTSStoppedFrame")
            self._end_utterance()

    async def _watch(self, link: SpeechLink) -> None:
        """Push the avatar's picture."""
        seen = False
        async for picture in link.video():
            if not self._transport_ready:
                continue
            if not seen:
                seen = True
                await self._call_event_handler("on_first_video_frame")
            await self.push_frame(OutputImageRawFrame(picture.rgb, (picture.width, picture.height), "RGB"))

    async def _follow(self, link: SpeechLink, tasks: asyncio.TaskGroup) -> None:
        """Follow what the link reports."""
        async for event in link.events():
            match event:
                case PlaybackStarted(number):
                    self._gate.started(number)
                case PlaybackFinished(number):
                    if utterance := self._gate.ended(number):
                        tasks.create_task(self._expect_end(utterance))
                case Reconnecting():
                    await self._call_event_handler("on_reconnecting")
                case AvatarDisconnected(reason):
                    raise SpeechLinkError(f"The avatar left the room ({reason}).")
                case LinkLost(reason):
                    raise SpeechLinkError(f"The connection to the avatar is lost ({reason}).")
                case _:
                    pass

    async def _expect_end(self, utterance: Utterance) -> None:
        """Give up an avatar that says it has spoken, and from which no sound comes any more."""
        while self._gate.is_in_flight(utterance):
            heard_s = self._gate.heard_s
            await asyncio.sleep(_NO_SOUND_S)
            if self._gate.heard_s == heard_s:
                raise SpeechLinkError("The avatar's voice is lost.")

    async def _finish(self, utterance: Utterance) -> None:
        for frame in self._timeline.finish(utterance):
            await self.push_frame(frame)
        if self._timeline.empty:
            self._played_out.set()
        await self._call_event_handler("on_playback_finished", utterance.context_id)

    def _resolve_aspect_ratio(self) -> str:
        if self._aspect_ratio != "auto":
            return self._aspect_ratio
        params = output_params(self)
        if params is None or not params.video_out_enabled:
            return ASPECT_RATIOS[0]
        return nearest_aspect_ratio(params.video_out_width, params.video_out_height)


def _livekit_link(session: Session, audio_sample_rate: int) -> SpeechLink:
    room = session.room
    if room is None or room.url is None or room.token is None:
        # No `SpeechLinkError`: the next session, billed like this one, would hardly say more.
        raise APIResponseError(
            "The service did not say which room the avatar is in, so it cannot be reached."
        )
    return LiveKitSpeechLink(
        room.url,
        room.token.get_secret_value(),
        audio_sample_rate=audio_sample_rate,
        audio_frame_ms=_AUDIO_BLOCK_MS,
    )
