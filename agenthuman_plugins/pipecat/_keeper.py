"""Keeps an avatar for one run of the bot: opens its sessions, brings it back, waits for a slot, renews, changes.

One task decides. It looks at what has happened and makes one transition after the other, so that no two of them meet;
each session runs in a task of its own. What a transition means for the bot's voice and for the application is the
matter of `Presence`.

One mechanism serves renewal and change: the next session is opened behind the present one, and takes over where no reply
is on its way. Where two cannot run at a time (one slot, one room), the present one ends first.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from loguru import logger

from agenthuman_plugins.client import (
    APIConnectionError,
    BadRequestError,
    NotFoundError,
    PermissionDeniedError,
    SpeechLinkError,
)
from agenthuman_plugins.pipecat._errors import SessionCapError
from agenthuman_plugins.pipecat._left_behind import LeftBehind
from agenthuman_plugins.pipecat._life import Change, State
from agenthuman_plugins.pipecat._presence import Presence
from agenthuman_plugins.pipecat._retries import BACKOFF_S, MAX_USELESS_SESSIONS, Retries, can_pass, is_full
from agenthuman_plugins.pipecat._rooms import Rooms
from agenthuman_plugins.pipecat._session import AvatarSession, CannotOverlapError
from agenthuman_plugins.pipecat._switcher import NOT_ITS_TURN, Turn
from agenthuman_plugins.pipecat.reply import Delivery
from agenthuman_plugins.pipecat.settings import AgentHumanVideoSettings

_CONVERSATION_S = 5 * 60.0  # without a word, after which no session is renewed or brought back
_LAST_CALL_S = 2.0  # before a session's end: its clock and ours may differ a little
_CAP_WINDOW_S = 10.0  # before the cap, in which the end of a reply is waited for
_CLEAN_UP_EVERY_S = 10.0  # while something is left behind
_LOOK_EVERY_S = 0.1
_TICK_S = 0.02  # while a cut-over is near
_OWN_SLOT = "A session of this bot could not be ended yet, and takes up the account's slot."


class Keeper:
    """Keeps the avatar of one run.

    Args:
        make_session: Makes and starts a session with an avatar, beside another one or not.
        presence: Carries out the transitions.
        delivery: Whose speech the avatar says.
        rooms: Says whether two sessions can run at a time.
        turn: Says whether a switcher gives the service work.
        settings: As they are at each moment.
        left_behind: Ends what could not be ended.
        on_turn: Called with each session when its avatar begins to speak.
        tell: Calls the service's event handlers.
        report_refused_avatar: Called with the avatar and the reason when a change of avatar is refused.
    """

    def __init__(
        self,
        *,
        make_session: Callable[[str | None, bool, Callable[[], None]], AvatarSession],
        presence: Presence,
        delivery: Delivery,
        rooms: Rooms,
        turn: Turn,
        settings: AgentHumanVideoSettings,
        left_behind: LeftBehind,
        on_turn: Callable[[AvatarSession], None],
        tell: Callable[..., Awaitable[None]],
        report_refused_avatar: Callable[[str | None, Exception], Awaitable[None]],
    ) -> None:
        self._make_session = make_session
        self._presence = presence
        self._delivery = delivery
        self._rooms = rooms
        self._turn = turn
        self._settings = settings
        self._left_behind = left_behind
        self._on_turn = on_turn
        self._tell = tell
        self._report_refused_avatar = report_refused_avatar
        self._clock = asyncio.get_running_loop().time
        self._news = asyncio.Event()
        self._sessions: set[AvatarSession] = set()  # open, or on their way in or out
        self._present: AvatarSession | None = None  # the one that speaks
        self._newest: AvatarSession | None = None  # the last one whose avatar was connected
        self._spent_s = 0.0  # of sessions that have ended
        self._begun_at = self._clock()
        self._spoke_at: float | None = None  # somebody, the user or the bot
        self._came_at: float | None = None  # the avatar, but for those that took over from another one
        self._refused: str | None = None  # the avatar that was given up
        self._reconsidered = False  # since then
        self._failed_behind = 0  # sessions in a row that could not take over
        self._retries = Retries(settings, self._clock)
        self._cleaning: asyncio.Task[None] | None = None
        self._clean_at = -float("inf")

    # What the service tells it

    def want(self) -> None:
        """Note that the avatar is wanted, which opens a session if there is none."""
        self._presence.life.take(Change.WANT)
        self._news.set()

    def bot_speaks(self, *, begins: bool) -> None:
        """Note that the bot is about to speak, or speaks."""
        self._retries.bot_speaks(begins=begins)
        self._spoke_at = self._clock()
        self.want()

    def user_speaks(self) -> None:
        """Note that the user speaks."""
        self._spoke_at = self._clock()

    def reconsider(self) -> None:
        """Note that what kept the avatar away may have been dealt with."""
        self._reconsidered = self._presence.life.state is State.GIVEN_UP
        self._news.set()

    @property
    def session_id(self) -> str | None:
        """Id of the session that speaks, else of the one that is on its way."""
        candidates = [self._present, *sorted(self._sessions, key=lambda one: one.asked_at)]
        return next((one.session.session_id for one in candidates if one and one.session), None)

    # Its task

    async def run(self) -> None:
        """Keep an avatar until cancelled; every session is ended, whatever happens."""
        try:
            while True:
                try:
                    await self._keep()
                except Exception as error:  # noqa: BLE001 - a defect must cost the face, not the voice
                    logger.opt(exception=error).error("Keeping the avatar failed")
                    await self._refuse(error, self._settings.avatar)
                    await self._end_all()
        finally:
            try:
                await self._end_all()
            finally:
                self._left_behind.report()  # also when the program does not wait any longer

    async def _keep(self) -> None:
        session: AvatarSession | None = None
        while True:
            if session is None:
                await self._until_wanted()
                session = await self._fetch()
            else:
                session = await self._use(session)

    async def _until_wanted(self) -> None:
        life = self._presence.life
        if life.state is State.OFF:
            await self._within(None, lambda: life.state is not State.OFF)
            self._retries.forget_pause()
        while life.state is State.GIVEN_UP:
            await self._within(_LOOK_EVERY_S, lambda: False)
            if (self._reconsidered or self._settings.avatar != self._refused) and self._may_open():
                self._reconsidered = False
                self._retries = Retries(self._settings, self._clock)
                await self._presence.take(Change.RETRY)

    # Bring an avatar

    async def _fetch(self) -> AvatarSession | None:
        """Bring an avatar, with pauses between the tries; `None` if nobody needs it any more, or none can be had."""
        while await self._pause():
            await self._all_ended()
            await self._left_behind.end()
            if not self._may_open():
                await self._refuse(self._cap_error(), self._settings.avatar)
                return None
            session = self._open(beside=False)
            if await self._bring(session):
                return session
        return None

    async def _all_ended(self) -> None:
        """Wait for the end of a session that was left without waiting: it may take up the only slot."""
        for session in list(self._sessions):
            await session.until_ended()

    async def _pause(self) -> bool:
        """Wait until a session may be asked for; `False` if there is no need for one any more."""
        while True:
            if self._presence.life.state in (State.OFF, State.GIVEN_UP):
                return False
            if not self._turn.ours and self._delivery.idle:
                await self._presence.take(Change.DISMISS, NOT_ITS_TURN)
                return False
            if self._presence.life.state is not State.CONNECTING and self._silent_s() > self._idle_limit_s():
                await self._presence.take(Change.DISMISS, "nobody speaks")
                return False
            wait_s = self._retries.wait_s
            if wait_s <= 0 and self._turn.may_open:
                return True
            await self._within(min(wait_s, _LOOK_EVERY_S) or _LOOK_EVERY_S, lambda: False)

    async def _bring(self, session: AvatarSession) -> bool:
        """Wait for a session's avatar and let it speak; `False` if it did not come, which is told."""
        await self._within(None, lambda: session.connected or session.reason is not None or self._capped)
        if session.reason is None and self._capped:
            await self._refuse(self._cap_error(), session.avatar)
            await self._end(session)
            return False
        if session.reason is None and self._clock() >= self._times(session)[0]:
            session.leave()
            await self._note_loss(session, SpeechLinkError("The avatar came too late.", retryable=True))
            await session.until_ended()
            return False
        if session.reason is not None:
            await self._lose(session)
            return False
        if self._presence.life.state is State.CONNECTING:
            self._came_at = self._clock()
        self._retries.connected()
        await self._presence.take(Change.ARRIVE)
        await self._let_speak(session)
        return True

    async def _let_speak(self, session: AvatarSession) -> None:
        assert session.runner is not None  # noqa: S101 - connected
        before, self._present, self._newest = self._newest, session, session
        self._failed_behind = 0
        self._on_turn(session)
        session.runner.take_turn()
        if before is not None and before.avatar != session.avatar:
            await self._tell("on_avatar_changed", session.avatar)

    async def _lose(self, session: AvatarSession) -> None:
        """A session is over without our doing: tell it, and wait for its end."""
        await self._note_loss(session)
        await session.until_ended()  # a plan may allow one session

    async def _note_loss(self, session: AvatarSession, reason: Exception | None = None) -> None:
        if self._present is session:
            self._present = None
        reason = reason or session.reason or SpeechLinkError("The avatar was lost.", retryable=True)
        change, reason = self._retries.judge(reason, connected_s=session.connected_s)
        if change is Change.FULL and not self._left_behind.empty:
            # No news: it is part of the failure after which that session could not be ended.
            change, reason = Change.LOSE, APIConnectionError(_OWN_SLOT, retryable=True)
        if await self._choice_refused(session, reason, for_good=self._retries.exhausted):
            self._retries = Retries(self._settings, self._clock)
        elif change is Change.REFUSE:
            await self._refuse(reason, session.avatar)
        else:
            await self._presence.take(change, reason)

    async def _refuse(self, reason: Exception, avatar: str | None) -> None:
        """Give up an avatar, until another one is chosen."""
        self._refused = avatar
        await self._presence.take(Change.REFUSE, reason)

    def _open(self, *, beside: bool) -> AvatarSession:
        full_s = self._retries.asked()
        session = self._make_session(self._settings.avatar, beside, self._news.set)
        session.slot_wait_s = full_s
        self._sessions.add(session)
        session.task.add_done_callback(lambda _: self._note_ended(session))
        return session

    def _note_ended(self, session: AvatarSession) -> None:
        self._sessions.discard(session)
        self._spent_s += session.open_s
        self._news.set()

    # Use it

    async def _use(self, session: AvatarSession) -> AvatarSession | None:
        """Look after a connected session until it is over; return the one that took over, if one did."""
        while True:
            await self._within(_LOOK_EVERY_S, lambda: session.reason is not None)
            if session.reason is not None:
                await self._lose(session)
                return None
            if not self._delivery.idle:
                self._spoke_at = self._clock()
            renew_at, last_call = self._times(session)
            if self._cap_left_s() <= self._cap_window_s():
                await self._give_up(session, by=self._clock() + self._cap_left_s())
                return None
            if why := self._why_dismiss():
                await self._dismiss(session, why)
                return None
            if why := self._why_replace(session, renew_at):
                return await self._replace(session, why, by=last_call)
            if self._clock() >= last_call:
                await self._dismiss(session, "the session's time is up")
                return None

    def _why_replace(self, session: AvatarSession, renew_at: float) -> str | None:
        """Why the next session should take over now, if it should."""
        if not self._may_open() or not self._turn.ours:
            return None
        if self._settings.avatar != session.avatar:
            return "the avatar changes"
        if self._clock() >= renew_at and self._in_conversation():
            return "the session is renewed"
        return None

    def _why_dismiss(self) -> str | None:
        """Why the session should end now without another one, if it should."""
        if not self._turn.ours and self._delivery.idle:
            return NOT_ITS_TURN
        limit_s = self._settings.max_idle_secs
        if limit_s is not None and self._silent_s(since=self._came_at) > limit_s:
            return "no speech for a while"
        return None

    def _times(self, session: AvatarSession) -> tuple[float, float]:
        """When the next session should be made ready, and by when this one has to go."""
        if not session.length_s or session.opened_at is None:
            return float("inf"), float("inf")
        ends_at = session.opened_at + session.length_s
        last_call_s = min(_LAST_CALL_S, session.length_s / 20)
        lead_s = max(min(self._settings.renew_before_s, session.length_s / 4), last_call_s)
        return ends_at - lead_s, ends_at - last_call_s

    async def _dismiss(self, session: AvatarSession, reason: str) -> None:
        """Nobody needs the avatar: its session ends, and the next speech waits for a new one."""
        await self._presence.take(Change.DISMISS, reason)
        await self._end(session)

    async def _give_up(self, session: AvatarSession, *, by: float) -> None:
        """The cap is reached: end for good, after the reply if it ends in time."""
        with self._delivery.holding():
            await self._boundary(by, lambda: session.reason is not None)
            await self._refuse(self._cap_error(), session.avatar)
        await self._end(session)

    async def _end(self, session: AvatarSession) -> None:
        if self._present is session:
            self._present = None
        session.leave()
        await session.until_ended()

    # Let the next one take over

    async def _replace(self, session: AvatarSession, why: str, *, by: float) -> AvatarSession | None:
        """Let another session take over from this one.

        Returns:
            The one that speaks now: the other one, this one if its successor was refused, or `None` if the next has still
            to be fetched.
        """
        changes = self._settings.avatar != session.avatar

        def off() -> bool:
            """Whether this session is lost, or another one is not needed any more."""
            taken_back = changes and self._settings.avatar == session.avatar
            return session.reason is not None or self._capped or taken_back

        following = await self._prepare(session, by, off) if self._rooms.overlap else None
        with self._delivery.holding():
            in_silence = await self._boundary(by, lambda: off() or not self._is_ready(following))
            released = following is None and not off()
            if released:
                await self._presence.take(Change.RELEASE, why)
            elif following is not None and not off() and self._is_ready(following):
                return await self._cut_over(session, following, why, in_silence=in_silence)
        if session.reason is not None:
            await self._note_loss(session)
            if following is not None and await self._bring(following):
                return following
            await session.until_ended()
            return None
        if released:
            await self._end(session)
            return None
        if following is not None and following.reason is not None:
            await self._note_unready(following, by, off)
        elif following is not None:
            await self._end_beside(following, by, off)
        return session

    async def _end_beside(self, following: AvatarSession, by: float, off: Callable[[], bool]) -> None:
        """End a session that shall not take over; the end of the present one does not wait for it."""
        following.leave()
        await self._within(by - self._clock(), lambda: off() or following not in self._sessions)

    def _is_ready(self, following: AvatarSession | None) -> bool:
        """Whether what was prepared is still of use."""
        return following is None or (following.reason is None and following.avatar == self._settings.avatar)

    async def _prepare(
        self, session: AvatarSession, by: float, off: Callable[[], bool]
    ) -> AvatarSession | None:
        """Open and join the next session behind this one.

        Returns:
            One that can take over, or that is on its way when this one is lost; `None` if there is none by then.
        """
        while not off() and self._clock() < by:
            following = self._open(beside=True)
            await self._until_shown(following, by, off)
            if (reason := following.reason) is None:
                if following.shown or session.reason is not None:
                    return following
                await self._end_beside(following, by, off)  # too late, or another one was chosen
            elif is_full(reason) or isinstance(reason, CannotOverlapError):
                logger.debug(f"The next session cannot open beside the present one: {reason}")
                return None
            else:
                await self._note_unready(following, by, off)
        return None

    async def _note_unready(self, following: AvatarSession, by: float, off: Callable[[], bool]) -> None:
        """Note that a session behind the present one has failed, and pause before the next try."""
        assert following.reason is not None  # noqa: S101 - it has failed
        self._failed_behind += 1
        again = can_pass(following.reason) and self._failed_behind < MAX_USELESS_SESSIONS
        if await self._choice_refused(following, following.reason, for_good=not again):
            self._failed_behind = 0
            return
        logger.warning(f"The next session is not ready: {following.reason}")
        # What stays wrong is left for when this session is over: until then there is an avatar.
        left_s = by - self._clock()
        pause_s = min(BACKOFF_S[0] * 2 ** (self._failed_behind - 1), BACKOFF_S[1])
        await self._within(
            min(pause_s, left_s) if again else left_s,
            lambda: off() or self._settings.avatar != following.avatar,
        )

    async def _until_shown(self, following: AvatarSession, by: float, off: Callable[[], bool]) -> None:
        await self._within(
            by - self._clock(), lambda: off() or following.shown or not self._is_ready(following)
        )

    async def _boundary(self, by: float, off: Callable[[], bool]) -> bool:
        """Wait until no reply is on its way through the present link; `False` if something else comes first."""
        while not self._delivery.at_boundary:
            if off() or self._clock() >= by:
                return False
            await asyncio.sleep(_TICK_S)
        return True

    async def _cut_over(
        self, session: AvatarSession, following: AvatarSession, why: str, *, in_silence: bool
    ) -> AvatarSession:
        if not in_silence:
            await self._presence.take(Change.CUT, why)
        session.leave()
        await session.until_silent()
        await self._let_speak(following)
        logger.debug(f"The next session has taken over: {why}")
        return following

    async def _choice_refused(
        self, session: AvatarSession, reason: Exception, *, for_good: bool = False
    ) -> bool:
        """Whether the newly chosen avatar cannot be had; this is told, and the one before stays.

        That is so when its session was refused for what was asked, or, `for_good`, when no other try is left.
        """
        newest = self._newest
        if newest is None or session.avatar == newest.avatar:
            return False
        refused = session.session is None and isinstance(
            reason, BadRequestError | NotFoundError | PermissionDeniedError
        )
        if not (refused or for_good):
            return False
        if self._settings.avatar == session.avatar:
            self._settings.avatar = newest.avatar
        await self._report_refused_avatar(session.avatar, reason)
        return True

    # Time, money, and the end

    def _silent_s(self, since: float | None = None) -> float:
        """Seconds without a word, counted from `since` or the begin of the run at the earliest."""
        begin = self._begun_at if since is None else since
        return self._clock() - max(begin, self._spoke_at or begin)

    def _idle_limit_s(self) -> float:
        limit_s = self._settings.max_idle_secs
        return _CONVERSATION_S if limit_s is None else min(limit_s, _CONVERSATION_S)

    def _in_conversation(self) -> bool:
        """Whether somebody spoke lately, without which no session is renewed."""
        return self._spoke_at is not None and self._clock() - self._spoke_at <= _CONVERSATION_S

    def _may_open(self) -> bool:
        """Whether enough is left below the cap to be worth a session."""
        return self._cap_left_s() > 2 * self._cap_window_s()

    def _cap_window_s(self) -> float:
        """Seconds before the cap in which the end of a reply is waited for."""
        return min(_CAP_WINDOW_S, (self._settings.max_session_secs or 0.0) / 10)

    def _cap_left_s(self) -> float:
        limit_s = self._settings.max_session_secs
        if limit_s is None:
            return float("inf")
        return limit_s - self._spent_s - sum(session.open_s for session in self._sessions)

    @property
    def _capped(self) -> bool:
        """Whether the sessions of this run have lasted as long as they may."""
        return self._cap_left_s() <= 0

    def _cap_error(self) -> SessionCapError:
        return SessionCapError(
            f"The sessions of this run have lasted {self._settings.max_session_secs:g} s, which max_session_secs allows."
        )

    async def _within(self, timeout_s: float | None, condition: Callable[[], object]) -> None:
        """Wait until something is so; what changes it sets `_news`, or shows when it is looked at the next time."""
        until = self._clock() + (float("inf") if timeout_s is None else timeout_s)
        while True:
            self._news.clear()
            left_s = until - self._clock()
            if condition() or left_s <= 0:
                return
            self._clean_up()
            await self._presence.note_boundary()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, _LOOK_EVERY_S)):
                    await self._news.wait()

    def _clean_up(self) -> None:
        """End in the background what was left behind: it is billed, and may take the only slot."""
        is_busy = self._cleaning is not None and not self._cleaning.done()
        if self._left_behind.empty or is_busy or self._clock() < self._clean_at:
            return
        self._clean_at = self._clock() + _CLEAN_UP_EVERY_S
        self._cleaning = asyncio.create_task(self._left_behind.end(), name="end what was left behind")

    async def _end_all(self) -> None:
        if self._cleaning is not None:
            self._cleaning.cancel()
            await asyncio.wait([self._cleaning])
        sessions = set(self._sessions)
        for session in sessions:
            session.leave()
        if sessions:
            await asyncio.wait([session.task for session in sessions])
        await self._left_behind.end()
