"""One stream of events through a stage: what each of them means for the avatar, and what the avatar tells."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from agenthuman_plugins.langchain.stage._avatar import Avatar, Lender, MakeLink
from agenthuman_plugins.langchain.stage._events import Merged, closed, kind_of, own, part_of, pcm_of, text_of
from agenthuman_plugins.langchain.stage._heard import Rate, Transcript
from agenthuman_plugins.langchain.stage._life import Change, Life, State
from agenthuman_plugins.langchain.stage._voice import Reply, Voice

_QUIET_S = 0.5  # after `agent_end`: a voice that still has text sends its next chunk sooner
_PAUSE_S = 1.0  # without `agent_end`: longer than between two sentences, shorter than a user's patience
_END_MARGIN_S = 5.0  # beyond the length of the speech: for an avatar that begins late
_CONNECT_MARGIN_S = 25.0  # for a session and an avatar that are still on their way
_SILENCE_LIMIT_S = 5.0  # an interruption takes 4 s at most
_TRIM_S = 5.0  # of played speech, which is forgotten at once


class Stream:
    """Serves one stream; see `AvatarStage`.

    Args:
        lender: Where the session comes from.
        make_link: Makes a session's link.
        sample_rate: Hz of the speech.
        thread_id: The conversation.
        rate: How fast the voice reads.

    Attributes:
        events: The events that come out.
    """

    def __init__(
        self, lender: Lender, make_link: MakeLink, *, sample_rate: int, thread_id: str | None, rate: Rate
    ) -> None:
        self.events = Merged()
        self._sample_rate = sample_rate
        self._rate = rate
        self._life = Life()
        self._reply = Reply(Transcript(rate))
        self._voice = Voice(sample_rate, self._on_played)
        self._avatar = Avatar(
            lender,
            make_link,
            self._voice,
            thread_id=thread_id,
            on_here=self._on_here,
            on_gone=self._on_gone,
        )
        self._expected = True  # whether speech is for the avatar: there is one, or the first is on its way
        self._here: str | None = None  # session of an avatar that takes over at the next reply
        self._upstream: AsyncIterator[Any] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._closing = False
        self._timer: asyncio.TimerHandle | None = None
        self._plain_until = 0.0  # loop's time by which a program has played what it plays itself
        self._moved = asyncio.Event()
        self._silencing: set[asyncio.Task[None]] = set()
        self._interrupted: dict[str, Any] | None = None

        # An agent may be turns behind the user, so turns are counted where the user is heard and where they come out.
        self._turns = 0  # that came here
        self._listened: int | None = None  # that `listen` has read; `None` without it
        self._handed_out = 0  # that the agent has taken from it
        self._open_turn = 1  # the first one that the user has not spoken over
        self._agent_swallows_turns = False
        self._has_text = False  # whether the agent's text comes by here

    def start(self, events: AsyncIterator[Any]) -> None:
        """Begin to read."""
        self._upstream = events
        self._reader = asyncio.create_task(self._read(events), name="events of a stage")

    async def aclose(self) -> None:
        """Leave: nothing is read, spoken or billed any more."""
        self._closing = True
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait([self._reader])
        await closed(self._upstream)
        if self._timer is not None:
            self._timer.cancel()
        if (clearing := self._voice.cut()) is not None:
            await asyncio.wait([clearing], timeout=_SILENCE_LIMIT_S)
        await self._avatar.aclose()
        await self.silenced()
        self.events.close()

    # --- the user

    def listened(self, turns: int) -> None:
        """Note that the user is heard by `listen`, with so many more turns."""
        self._listened = (self._listened or 0) + turns

    def handed_out(self) -> None:
        """Note that the agent has taken a turn from `listen`."""
        self._handed_out += 1
        if self._agent_swallows_turns:
            self._turn()

    def interrupt(self) -> None:
        """The user speaks: make the avatar fall silent, and let nothing of what was asked before be spoken."""
        self._open_turn = (self._turns if self._listened is None else self._listened) + 1
        cut = self._voice.replies
        before = self._change(Change.INTERRUPT)
        if before is State.AWAITED:
            cut.append(self._reply)  # nothing of it will be heard
        for reply in cut:
            reply.dropped = True
        self._await_over()
        clearing = self._voice.cut()
        self._avatar.use(in_use=False)
        self._moved.set()
        if clearing is None:
            self._finish_cut(cut)
            return
        task = asyncio.create_task(self._finish_when_silent(clearing, cut), name="interruption of a stage")
        self._silencing.add(task)
        task.add_done_callback(self._silencing.discard)

    async def silenced(self) -> None:
        """Wait until all interruptions have come to their end."""
        while self._silencing:
            await asyncio.wait(set(self._silencing))

    def take_interrupted(self) -> dict[str, Any] | None:
        """The end of the reply that was interrupted last, once."""
        event, self._interrupted = self._interrupted, None
        return event

    async def _finish_when_silent(self, clearing: "asyncio.Task[None]", cut: list[Reply]) -> None:
        await asyncio.wait([clearing], timeout=_SILENCE_LIMIT_S)
        if clearing.done() and not clearing.cancelled():
            clearing.exception()  # the voice tells; unread, it would be logged as a defect
        self._finish_cut(cut)

    def _finish_cut(self, cut: list[Reply]) -> None:
        for reply in cut:
            self._finish(reply, reply.position_s, interrupted=True)

    # --- events in

    async def _read(self, events: AsyncIterator[Any]) -> None:
        try:
            async for event in events:
                self._avatar.begin()
                self.events.pass_on(event)
                self._take(event)
                await self.events.room()
            await self._say_goodbye()
        except BaseException as error:
            self.events.close(None if self._closing else error)  # upstream may cancel itself
            if not isinstance(error, Exception):
                raise
        else:
            self.events.close()

    def _take(self, event: Any) -> None:
        kind = kind_of(event)
        if kind in {"stt_chunk", "stt_output"}:
            if self._listened is None and text_of(event, "transcript").strip():
                self.interrupt()
            if kind == "stt_output":
                if self._agent_swallows_turns:  # it does not: they were only late
                    self._agent_swallows_turns, self._turns = False, 0
                self._turn()
        elif kind == "agent_chunk":
            self._take_text(text_of(event, "text"))
        elif kind == "agent_end":
            self._reply.agent_done = True
            self._await_over()
        elif kind == "tts_chunk":
            self._take_sound(event)

    def _turn(self) -> None:
        """The agent begins with what the user said."""
        self._turns += 1
        self._avatar.want()
        self._avatar.use(in_use=True)
        self._avatar.use(in_use=self._voice.busy)
        self._close_reply()
        self._change(Change.TURN if self._turns >= self._open_turn else Change.STALE_TURN)
        self._reply = Reply(Transcript(self._rate))
        self._await_over()  # the end of the reply before is none of this one's
        if self._life.state is State.NEXT and not self._has_text:
            self._change(Change.TEXT)  # nothing tells when the agent answers, so it counts as answering now

    def _take_text(self, text: str) -> None:
        self._has_text = True
        self._catch_up()
        self._begin_unasked()
        self._change(Change.TEXT)
        if self._life.state is State.DROPPED:
            self._drop()
        else:
            self._reply.transcript.write(text)

    def _take_sound(self, event: Any) -> None:
        pcm = pcm_of(event, first=self._life.state is not State.SPEAKING)
        if not pcm:
            return
        self._catch_up()
        if self._life.state is not State.NEXT:
            self._begin_unasked()
        self._change(Change.SOUND if self._expected else Change.PLAIN_SOUND)
        reply, seconds = self._reply, len(pcm) / 2 / self._sample_rate
        if self._life.state is State.SPEAKING:
            reply.closed = reply.finished = False
            self._voice.speak(reply, pcm)
            reply.transcript.sound(seconds, part_of(event, "words"))
            reply.kept += pcm
            self._avatar.use(in_use=True)
        elif self._life.state is State.PLAIN:
            self._plays_plain(seconds)
        elif self._life.state is State.DROPPED and not self._has_text:
            self._drop()
        self._await_over()

    def _catch_up(self) -> None:
        """Notice an agent that does not pass `stt_output` on: then a turn begins when it takes one from `listen`."""
        if not self._turns and self._handed_out:
            self._agent_swallows_turns = True
            for _ in range(self._handed_out):
                self._turn()

    def _begin_unasked(self) -> None:
        """Begin a reply that no turn came for, where nothing can be the rest of the last one."""
        state = self._life.state
        over = state is State.NEXT and self._reply.dropped
        if state is State.IDLE or over or (state is State.RESTING and not self._turns):
            self._reply = Reply(Transcript(self._rate))

    def _drop(self) -> None:
        """Tell that nothing more of a reply will be heard, of which nothing was in flight when the user spoke."""
        if not self._reply.dropped:
            self._reply.dropped, self._reply.finished = True, False
            self._finish(self._reply, self._reply.position_s, interrupted=True)

    # --- the end of a reply

    def _await_over(self) -> None:
        """Begin to wait for the moment without speech that ends a reply."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        if self._reply.agent_done:
            self._timer = loop.call_later(_QUIET_S, self._over)
        elif self._life.state is State.PLAIN:
            self._timer = loop.call_at(self._plain_until + _PAUSE_S, self._change, Change.PAUSE)

    def _over(self) -> None:
        if self._life.state is State.PLAIN and (wait_s := self._plain_until - _now()) > 0:
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._over)
        elif self._change(Change.OVER) is State.SPEAKING:
            self._close_reply()

    def _close_reply(self) -> None:
        """No more speech of the reply will come, as far as is known."""
        if not self._reply.closed:
            self._reply.closed = True
            self._reply.transcript.all_said(surely=False)
            self._voice.end(self._reply)

    async def _say_goodbye(self) -> None:
        """Upstream has ended: what is left is spoken to its end."""
        self._reply.agent_done = True
        if self._change(Change.OVER) is State.SPEAKING:
            self._close_reply()
        left_s = sum(reply.transcript.seconds - reply.position_s for reply in self._voice.replies)
        limit_s = left_s + _END_MARGIN_S + (0.0 if self._avatar.connected else _CONNECT_MARGIN_S)
        try:
            async with asyncio.timeout(limit_s):
                while self._voice.busy:
                    self._moved.clear()
                    await self._moved.wait()
                await self.silenced()
        except TimeoutError:
            self._finish_cut(self._voice.replies)

    # --- the avatar

    def _on_here(self, session_id: str) -> None:
        self._here = session_id
        self._take_over()

    def _take_over(self) -> None:
        """Let an avatar speak from now on, unless the program is in the middle of a reply."""
        if self._here is not None and self._life.state is not State.PLAIN:
            self.events.add(own("avatar_connected", session_id=self._here))
            self._here, self._expected = None, True

    def _on_gone(self, reason: str) -> None:
        replies, self._here = self._voice.replies, None
        self._voice.cut()
        self._avatar.use(in_use=False)
        self._moved.set()
        if not self._expected:
            return  # the program speaks already
        self._expected = False
        audio = b"".join(reply.unplayed(self._sample_rate) for reply in replies if not reply.dropped)
        for reply in replies:
            if reply.started and not reply.dropped:
                self._finish(reply, reply.position_s, interrupted=False)
        self._change(Change.LOSE)
        self.events.add(own("avatar_disconnected", reason=reason, audio=audio))
        if self._life.state is State.PLAIN:
            self._plays_plain(len(audio) / 2 / self._sample_rate)
            self._await_over()

    def _plays_plain(self, seconds: float) -> None:
        self._plain_until = max(self._plain_until, _now()) + seconds

    def _on_played(self, reply: Reply, began: bool, starved_s: float) -> None:
        if began and not reply.started:
            reply.started = True
            self.events.add(own("avatar_started"))
        self._tell(reply, reply.transcript.heard(reply.position_s))
        reply.trim(self._sample_rate, at_least_s=_TRIM_S)
        newest = reply is self._reply
        if newest and self._life.state is State.SPEAKING and starved_s >= _PAUSE_S:
            self._change(Change.PAUSE)
            self._close_reply()
        if reply.closed and not reply.sounds and not reply.finished:
            if reply.agent_done:
                reply.transcript.all_said(surely=True)
            self._finish(reply, reply.transcript.seconds, interrupted=False)
            if newest:
                self._change(Change.PLAYED)
            self._avatar.use(in_use=self._voice.busy)
        self._moved.set()

    def _tell(self, reply: Reply, heard: str) -> None:
        """Tell the words that are newly heard; what was told is never taken back."""
        if len(heard) > len(reply.told):
            self.events.add(own("avatar_text", text=heard[len(reply.told) :]))
            reply.told = heard

    def _finish(self, reply: Reply, position_s: float, *, interrupted: bool) -> None:
        if reply.finished:
            return
        whole = reply.agent_done and not interrupted and position_s == reply.transcript.seconds
        self._tell(reply, reply.transcript.all() if whole else reply.transcript.heard(position_s))
        reply.started, reply.finished = False, True
        event = own("avatar_finished", seconds=round(position_s, 3), interrupted=interrupted, text=reply.told)
        if interrupted:
            self._interrupted = event
        self.events.add(event)

    def _change(self, change: Change) -> State:
        """Make a transition of the reply's life and return the state before it."""
        before = self._life.take(change)
        self._take_over()
        return before


def _now() -> float:
    return asyncio.get_running_loop().time()
