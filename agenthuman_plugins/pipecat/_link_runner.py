"""Runs one connected link: speaks and listens through it, follows its reports, and notices when it fails."""

import asyncio
from collections.abc import Awaitable, Callable

from pipecat.frames.frames import BotSpeakingFrame
from pipecat.processors.frame_processor import FrameProcessor

from agenthuman_plugins.client import SpeechLinkError
from agenthuman_plugins.pipecat.picture import AvatarPicture
from agenthuman_plugins.pipecat.reply import Delivery
from agenthuman_plugins.pipecat.settings import AgentHumanVideoSettings
from agenthuman_plugins.speech.link import (
    AvatarDisconnected,
    LinkLost,
    PlaybackFinished,
    PlaybackStarted,
    Reconnected,
    Reconnecting,
    SpeechLink,
)
from agenthuman_plugins.speech.progress import Playback, PlaybackClock, VoiceGate

_LOOK_EVERY_S = 0.1  # at what lasts for too long
_MOST_UNREPORTED = 2  # ends in a row from an avatar that used to report them: one report may be lost
_UNSAID_S = 0.1  # of speech that was sent, and that an avatar which is back will not say
_TICK_S = 0.02  # direct mode: how exactly words and stop frames follow what is played
_SPEAKING_EVERY_S = 0.2  # as Pipecat's transports tell that the bot is still speaking


class LinkRunner:
    """The use of one link: first on standby, behind the avatar that speaks, then by its turn.

    Args:
        link: Connected when `run` is called.
        delivery: What is said through it, and where the voice that comes back goes.
        service: Tells that the bot speaks, in direct mode.
        settings: As they are at each moment.
        picture: Shows the link's video, in step with the voice; `None` in direct mode.
        tell: Calls the service's event handlers.

    Attributes:
        playback: How far this avatar has spoken.
    """

    def __init__(
        self,
        link: SpeechLink,
        delivery: Delivery,
        *,
        service: FrameProcessor,
        settings: AgentHumanVideoSettings,
        picture: AvatarPicture | None,
        tell: Callable[..., Awaitable[None]],
    ) -> None:
        self.playback: Playback = PlaybackClock() if picture is None else VoiceGate()
        self._link = link
        self._delivery = delivery
        self._service = service
        self._settings = settings
        self._picture = picture
        self._tell = tell
        self._turn = asyncio.Event()
        self._has_picture = False
        self._unreported: int | None = None  # ends in a row; unknown before the avatar has reported any
        self._clock = asyncio.get_running_loop().time

    @property
    def shown(self) -> bool:
        """Whether a picture is here, or none is to be shown."""
        return self._has_picture or self._picture is None or not self._picture.wanted

    def take_turn(self) -> None:
        """Let this avatar speak from now on; nothing may be on its way through another link."""
        self._delivery.use(self.playback)
        if self._picture is not None:
            self._picture.take_over()
        self._turn.set()

    async def run(self) -> None:
        """Run the link until cancelled.

        Raises:
            ExceptionGroup: Of `SpeechLinkError` when the link or the avatar is lost.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow(tasks))
            if self._picture is not None:
                tasks.create_task(self._listen(self._picture))
                tasks.create_task(
                    self._picture.show(self._link, shows=self._turn.is_set, on_ready=self._note_picture)
                )
            await self._turn.wait()
            tasks.create_task(self._delivery.speaker.run(self._link))
            tasks.create_task(self._watch_voice())
            if self._picture is None:
                tasks.create_task(self._follow_clock())

    def _note_picture(self) -> None:
        """On standby: there is video to take over with, without a pause."""
        self._has_picture = True

    async def _listen(self, picture: AvatarPicture) -> None:
        async for audio in self._link.audio():
            if not self._turn.is_set():
                continue  # an avatar on standby is silent, and what piles up would be late
            picture.lipsync.buffered(audio.buffered_s)
            before, pushed_s = self.playback.audible, self._delivery.pushed_s
            await self._delivery.hear(audio)
            audio_s = len(audio.pcm) / 2 / audio.num_channels / audio.sample_rate
            picture.voice_pushed(self._delivery.pushed_s - pushed_s, audio_s, held=self.playback.searching)
            if (audible := self.playback.audible) is not None and audible is not before:
                lead_s = audible.lead_s or 0.0
                picture.lipsync.answered(self._clock() - audible.sent_at - lead_s)
                picture.speech_heard(audible.number, audible.position_s - audio_s)
                picture.destination = audible.destination

    async def _follow(self, tasks: asyncio.TaskGroup) -> None:
        """Follow what the link reports."""
        async for event in self._link.events():
            match event:
                case PlaybackStarted(number):
                    if self._picture is not None:
                        self._picture.speech_reported(number)
                    self.playback.started(number)
                case PlaybackFinished():
                    if self._leaves_unsaid(event):
                        tasks.create_task(self._hand_back_unsaid())
                    self._count_unreported(event)
                case Reconnecting() | Reconnected():
                    await self._note_connection(event)
                case AvatarDisconnected(reason):
                    raise SpeechLinkError(f"The avatar left the room ({reason}).")
                case LinkLost(reason):
                    raise SpeechLinkError(f"The connection to the avatar is lost ({reason}).")
                case _:
                    pass

    async def _note_connection(self, event: Reconnecting | Reconnected) -> None:
        if not self._turn.is_set():
            return  # what is told is about the avatar that speaks
        if isinstance(event, Reconnecting):
            if self._picture is not None:
                self._picture.reconnecting()
            await self._tell("on_reconnecting")
        elif self._picture is not None:
            self._picture.reconnected()

    def _leaves_unsaid(self, finished: PlaybackFinished) -> bool:
        """Whether an utterance ended though the avatar had more of it: it was away for a moment, and is kept."""
        sent_s = self.playback.sent_s(finished.utterance)
        self.playback.ended(finished.utterance)
        lost = finished.estimated and not finished.interrupted
        return lost and finished.position_s < sent_s - _UNSAID_S

    async def _hand_back_unsaid(self) -> None:
        """Let what the avatar has lost be heard as plain audio."""
        await asyncio.sleep(_TICK_S)  # an avatar that is lost for good is told now, and that hands back, too
        await self._delivery.hand_back()

    def _count_unreported(self, finished: PlaybackFinished) -> None:
        """In direct mode nothing else tells that an avatar stopped speaking in mid-reply, or before."""
        if self._picture is not None or finished.interrupted:
            return
        if not finished.estimated:
            self._unreported = 0
        elif self._unreported is not None:
            self._unreported += 1
            if self._unreported == _MOST_UNREPORTED:
                raise SpeechLinkError(
                    "The avatar does not report any more that it has spoken.", retryable=True
                )

    async def _follow_clock(self) -> None:
        """Direct mode: no sound comes back, so time tells how far the avatar has spoken."""
        told_at = 0.0
        while True:
            await self.playback.busy.wait()
            await self._delivery.tick()
            if self.playback.audible is not None and self._clock() >= told_at + _SPEAKING_EVERY_S:
                told_at = self._clock()
                await self._service.broadcast_frame(BotSpeakingFrame)
            await asyncio.sleep(_TICK_S)

    async def _watch_voice(self) -> None:
        """Give up an avatar that should be heard and is not."""
        seen, since = (-1, -1), self._clock()
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            awaited = self.playback.awaited
            limit_s = self._settings.no_audio_timeout_s
            # Replies that are cut one after the other, before they can be heard, are no failure of the avatar.
            progress = self._delivery.voices_heard, self._delivery.cuts
            if awaited is None or progress != seen:
                seen, since = progress, self._clock()
            elif self._clock() - since > limit_s + awaited.longest_pause_s:
                raise SpeechLinkError(f"No voice came back from the avatar for {limit_s:g} s.")
