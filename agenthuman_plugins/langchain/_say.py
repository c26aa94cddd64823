"""The tool that speaks through a session's avatar."""

from collections.abc import Callable
from typing import TypeAlias

from langchain_core.tools import BaseTool, ToolException
from pydantic import BaseModel, Field

from agenthuman_plugins.client import APIResponseError, Session
from agenthuman_plugins.client.rooms import LiveKitRoom
from agenthuman_plugins.langchain import _args, _texts
from agenthuman_plugins.langchain._clients import Clients
from agenthuman_plugins.langchain._ledger import Entry, Ledger
from agenthuman_plugins.langchain._loop import BackgroundLoop
from agenthuman_plugins.langchain._reach import Reach
from agenthuman_plugins.langchain._speech import SayError, Speech, Spoken, Wire
from agenthuman_plugins.langchain._structured import Result, Runtime, structured, told
from agenthuman_plugins.langchain.tts import TextToSpeech
from agenthuman_plugins.speech import SpeechLink

MakeLink: TypeAlias = Callable[[Entry], SpeechLink]

_TEXT_LIMIT = 2_000  # characters: about two minutes of speech, which a call returns only after


class SayArgs(BaseModel):
    """Arguments of the say tool."""

    session_id: str = Field(description=f"Id that {_texts.CREATE} returned (sess_...).")
    text: str = Field(description=f"Plain words to speak, at most {_TEXT_LIMIT} characters. No markup.")
    runtime: Runtime = None


class Say:
    """What the say tool does.

    A session's link is opened by its first call and kept until `hang_up`: over the gateway, closing the link ends
    the session. Calls for one session are spoken one after the other, in the order in which they came.

    Args:
        tts: Makes speech of the text.
        reach: Sessions that a call may name.
        ledger: Told when a session turns out to have ended.
        clients: To ask for a session that lost its link or its avatar.
        gateway_url: Address of the speech gateway; `None` takes the default.
        make_link: Makes a session's speech link; `None` makes the one that its room asks for.

    Raises:
        ConfigurationError: The `tts` cannot be one.
    """

    def __init__(
        self,
        tts: TextToSpeech,
        *,
        reach: Reach,
        ledger: Ledger,
        clients: Clients,
        gateway_url: str | None = None,
        make_link: MakeLink | None = None,
    ) -> None:
        self._reach = reach
        self._ledger = ledger
        self._clients = clients
        self._gateway_url = gateway_url
        self._loop = BackgroundLoop()
        self._make_link = make_link or self._link_of
        self._speech = Speech(tts, self._loop, on_handed_over=lambda _: None)

    def tool(self) -> BaseTool:
        """Make the tool."""
        return structured(
            _texts.SAY,
            "Speak a text through the avatar of a session. Returns when it was played, and tells how much of it was.",
            SayArgs,
            self.say,
            self.asay,
        )

    def say(self, session_id: str, text: str, runtime: Runtime = None) -> Result:
        """Speak, and wait until it was played."""
        entry = self._wanted(session_id, text, runtime)
        if self._speech.in_doubt(session_id):
            with told():
                session = self._clients.sync_client().sessions.get(session_id)
            if session.has_ended:
                self.hang_up(session_id)
            self._check_running(session)
        try:
            with told():
                spoken = self._speech.speak(self._wire(entry), text)
        except SayError as error:
            raise ToolException(str(error)) from None
        return _result(session_id, spoken)

    async def asay(self, session_id: str, text: str, runtime: Runtime = None) -> Result:
        """Speak, and wait until it was played."""
        entry = self._wanted(session_id, text, runtime)
        if self._speech.in_doubt(session_id):
            with told():
                session = await self._clients.async_client().sessions.get(session_id)
            if session.has_ended:
                await self.ahang_up(session_id)
            self._check_running(session)
        try:
            with told():
                spoken = await self._speech.aspeak(self._wire(entry), text)
        except SayError as error:
            raise ToolException(str(error)) from None
        return _result(session_id, spoken)

    def has_link(self, session_id: str) -> bool:
        """Whether a session was spoken through and has not been hung up."""
        return self._speech.has_link(session_id)

    def hang_up(self, session_id: str) -> None:
        """Close a session's link, if it has one; what is being spoken is cut short."""
        self._speech.hang_up(session_id)

    async def ahang_up(self, session_id: str) -> None:
        """Close a session's link, if it has one; what is being spoken is cut short."""
        await self._speech.ahang_up(session_id)

    def close(self) -> None:
        """Close every link, and end the thread that they live on."""
        try:
            self._speech.close()
        finally:
            self._loop.close()

    async def aclose(self) -> None:
        """Close every link, and end the thread that they live on."""
        try:
            await self._speech.aclose()
        finally:
            await self._loop.aclose()

    def _wanted(self, session_id: str, text: str, runtime: object | None) -> Entry:
        """Check the arguments before anything is done."""
        entry = self._reach.own(session_id, runtime)
        self._check_running(entry.session)
        if not text.strip():
            raise ToolException("text is empty. Say something, or do not call this.")
        if len(text) > _TEXT_LIMIT:
            raise ToolException(
                f"text has {len(text)} characters, and at most {_TEXT_LIMIT} are spoken at once. Shorten it, or say it "
                "in several calls."
            )
        if not _args.is_unicode(text):
            raise ToolException(
                "text holds half of a character (a lone surrogate). Leave it out and try again."
            )
        return entry

    def _check_running(self, session: Session) -> None:
        if session.has_ended:
            self._ledger.mark_ended(session.session_id, session)
            raise ToolException(
                f"Session {session.session_id} has ended, so nothing was spoken. Open a new one if it is still needed."
            )

    def _wire(self, entry: Entry) -> Wire:
        return Wire(entry.session.session_id, lambda: self._make_link(entry), _has_one_link(entry))

    def _link_of(self, entry: Entry) -> SpeechLink:
        from agenthuman_plugins.speech.of_session import speech_link  # noqa: PLC0415 - called on a thread

        try:
            return speech_link(entry.session, room=entry.room, gateway_url=self._gateway_url, media=False)
        except APIResponseError:  # the answer to its create was lost, or went to another process
            raise SayError(
                "This session cannot be spoken through: what is needed for that came with its opening alone, and is "
                "not known here. Do not retry: end the session, and open a new one if speech is needed."
            ) from None


def _result(session_id: str, spoken: Spoken) -> Result:
    content = (
        f"Spoken: {spoken.seconds:.1f} s."
        if spoken.complete
        else f"Interrupted after {spoken.seconds_played:.1f} of {spoken.seconds:.1f} s."
    )
    return content, {
        "session_id": session_id,
        "seconds": round(spoken.seconds, 3),
        "seconds_played": round(spoken.seconds_played, 3),
        "complete": spoken.complete,
    }


def _has_one_link(entry: Entry) -> bool:
    """Whether a session is spoken through over the gateway, where the end of a connection ends the session."""
    if entry.session.ws_uri is not None:
        return True
    return entry.room is not None and not (isinstance(entry.room, LiveKitRoom) and entry.room.agent_token)
