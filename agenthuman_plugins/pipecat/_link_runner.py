"""Speaks and listens through one connected link, until it is lost or nobody needs it."""

import asyncio
from collections.abc import Awaitable, Callable

from pipecat.frames.frames import BotSpeakingFrame
from pipecat.processors.frame_processor import FrameProcessor

from agenthuman_plugins.client import SpeechLinkError
from agenthuman_plugins.pipecat._keeper import Idle
from agenthuman_plugins.pipecat.picture._picture import AvatarPicture
from agenthuman_plugins.pipecat.reply._delivery import Delivery
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
from agenthuman_plugins.speech.progress import PlaybackClock

_LOOK_EVERY_S = 0.1  # at what lasts for too long
_MOST_UNREPORTED = 2  # ends in a row from an avatar that used to report them: one report may be lost
_UNSAID_S = 0.1  # of speech that was sent, and that an avatar which is back will not say
_TICK_S = 0.02  # direct mode: how exactly words and stop frames follow what is played
_SPEAKING_EVERY_S = 0.2  # as Pipecat's transports tell that the bot is still speaking


class LinkRunner:
    """The use of one link.

    Args:
        link: Connected.
        delivery: What is said through it, and what becomes of the voice that comes back.
        service: Tells that the bot speaks, in direct mode.
        settings: As they are at each moment.
        picture: Shows the link's picture, in step with the voice; not used in direct mode.
        tell: Calls the service's event handlers.
        unneeded: Tells why an avatar that has nothing more to say is not needed; `None` if it is.
    """

    def __init__(
        self,
        link: SpeechLink,
        delivery: Delivery,
        *,
        service: FrameProcessor,
        settings: AgentHumanVideoSettings,
        picture: AvatarPicture,
        tell: Callable[..., Awaitable[None]],
        unneeded: Callable[[], str | None],
    ) -> None:
        self._link = link
        self._delivery = delivery
        self._service = service
        self._settings = settings
        self._picture = picture
        self._tell = tell
        self._unneeded = unneeded
        self._unreported: int | None = None  # ends in a row; unknown before the avatar has reported any
        self._clock = asyncio.get_running_loop().time

    async def run(self) -> None:
        """Use the link until cancelled.

        Raises:
            ExceptionGroup: Of `SpeechLinkError` when the link or the avatar is lost, of `Idle` when nothing has
                been said for `max_idle_secs`, or when the avatar is not needed any more.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._delivery.speaker.run(self._link))
            tasks.create_task(self._follow(tasks))
            tasks.create_task(self._watch_voice())
            tasks.create_task(self._watch_idle())
            if isinstance(self._delivery.gate, PlaybackClock):
                tasks.create_task(self._follow_clock(self._delivery.gate))
            else:
                tasks.create_task(self._listen())
                tasks.create_task(self._picture.show(self._link))

    async def _listen(self) -> None:
        gate = self._delivery.gate
        async for audio in self._link.audio():
            self._picture.lipsync.buffered(audio.buffered_s)
            before, pushed_s = gate.audible, self._delivery.pushed_s
            await self._delivery.hear(audio)
            self._picture.voice_pushed(self._delivery.pushed_s - pushed_s)
            if (audible := gate.audible) is not None and audible is not before:
                lead_s = audible.lead_s or 0.0
                self._picture.lipsync.answered(self._clock() - audible.sent_at - lead_s)
                self._picture.speech_heard(audible.number, lead_s, audio)

    async def _follow(self, tasks: asyncio.TaskGroup) -> None:
        """Follow what the link reports."""
        gate = self._delivery.gate
        async for event in self._link.events():
            match event:
                case PlaybackStarted(number):
                    self._picture.speech_reported(number)
                    gate.started(number)
                case PlaybackFinished(number):
                    sent_s = gate.sent_s(number)
                    gate.ended(number)
                    self._note_end(event)
                    if not event.interrupted and event.estimated and event.position_s < sent_s - _UNSAID_S:
                        tasks.create_task(self._hand_back_unsaid())
                case Reconnected():
                    self._picture.reconnected()
                case Reconnecting():
                    self._picture.reconnecting()
                    await self._tell("on_reconnecting")
                case AvatarDisconnected(reason):
                    raise SpeechLinkError(f"The avatar left the room ({reason}).")
                case LinkLost(reason):
                    raise SpeechLinkError(f"The connection to the avatar is lost ({reason}).")
                case _:
                    pass

    async def _hand_back_unsaid(self) -> None:
        """Let what the avatar has lost be heard as plain audio: it was away for a moment, and is kept."""
        await asyncio.sleep(
            _TICK_S
        )  # when it is lost for good, that is told now, and whoever is told hands back
        await self._delivery.hand_back()

    def _note_end(self, finished: PlaybackFinished) -> None:
        """In direct mode nothing else tells that an avatar stopped speaking in mid-reply, or before."""
        if not isinstance(self._delivery.gate, PlaybackClock) or finished.interrupted:
            return
        if not finished.estimated:
            self._unreported = 0
        elif self._unreported is not None:
            self._unreported += 1
            if self._unreported == _MOST_UNREPORTED:
                raise SpeechLinkError(
                    "The avatar does not report any more that it has spoken.", retryable=True
                )

    async def _follow_clock(self, gate: PlaybackClock) -> None:
        """Direct mode: no sound comes back, so time tells how far the avatar has spoken."""
        told_at = 0.0
        while True:
            await gate.busy.wait()
            await self._delivery.tick()
            if gate.audible is not None and self._clock() >= told_at + _SPEAKING_EVERY_S:
                told_at = self._clock()
                await self._service.broadcast_frame(BotSpeakingFrame)
            await asyncio.sleep(_TICK_S)

    async def _watch_voice(self) -> None:
        """Give up an avatar that should be heard and is not."""
        seen, since = (-1, -1), self._clock()
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            awaited = self._delivery.gate.awaited
            limit_s = self._settings.no_audio_timeout_s
            # Replies that are cut one after the other, before they can be heard, are no failure of the avatar.
            progress = self._delivery.voices_heard, self._delivery.cuts
            if awaited is None or progress != seen:
                seen, since = progress, self._clock()
            elif self._clock() - since > limit_s + awaited.longest_pause_s:
                raise SpeechLinkError(f"No voice came back from the avatar for {limit_s:g} s.")

    async def _watch_idle(self) -> None:
        """Let an avatar go that has not spoken for a while."""
        spoke_at = self._clock()
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            limit_s = self._settings.max_idle_secs
            if not self._delivery.idle:
                spoke_at = self._clock()
            elif (why := self._unneeded()) is not None:
                raise Idle(why)
            elif limit_s is not None and self._clock() - spoke_at > limit_s:
                raise Idle("no speech for a while")
