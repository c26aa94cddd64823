"""The tool that speaks through a session's avatar."""

from contextlib import suppress

from langchain_core.tools import BaseTool, ToolException

from agenthuman_plugins.client import APIResponseError, Session
from agenthuman_plugins.langchain import _schemas, _texts
from agenthuman_plugins.langchain._background import BackgroundLoop, FromLoop, LoopClosedError
from agenthuman_plugins.langchain._clients import Clients
from agenthuman_plugins.langchain._ledger import Entry, Ledger
from agenthuman_plugins.langchain._line import MakeLink
from agenthuman_plugins.langchain._reach import Reach
from agenthuman_plugins.langchain._speech_links import SpeechLinks
from agenthuman_plugins.langchain._spoken import SayError, Spoken
from agenthuman_plugins.langchain._structured import Result, Runtime, structured, told
from agenthuman_plugins.langchain._tts import TextToSpeech, Voice
from agenthuman_plugins.speech import SpeechLink


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
        self._voice = Voice(tts)
        self._reach = reach
        self._ledger = ledger
        self._clients = clients
        self._gateway_url = gateway_url
        self._loop = BackgroundLoop()
        self._links = SpeechLinks(make_link or self._link_of)

    def tool(self) -> BaseTool:
        """Make the tool."""
        return structured(
            _texts.SAY,
            "Speak a text through the avatar of a session. Returns when it was played, and tells how much of it was.",
            _schemas.SayArgs,
            self.say,
            self.asay,
        )

    def say(self, session_id: str, text: str, runtime: Runtime = None) -> Result:
        """Speak, and wait until it was played."""
        entry = self._wanted(session_id, runtime)
        if self._links.in_doubt(session_id):
            with told():
                session = self._clients.sync_client().sessions.get(session_id)
            if session.has_ended:
                self.hang_up(session_id)
            self._check_running(session)
        try:
            with told():
                spoken = self._loop.run(lambda: self._links.speak(entry, self._voice.speech(text)))
        except (SayError, LoopClosedError) as error:
            raise _not_spoken(error) from None
        return _result(session_id, spoken)

    async def asay(self, session_id: str, text: str, runtime: Runtime = None) -> Result:
        """Speak, and wait until it was played."""
        entry = self._wanted(session_id, runtime)
        if self._links.in_doubt(session_id):
            with told():
                session = await self._clients.async_client().sessions.get(session_id)
            if session.has_ended:
                await self.ahang_up(session_id)
            self._check_running(session)
        speech = FromLoop(self._voice.speech(text))
        try:
            with told():
                spoken = await self._loop.arun(lambda: self._links.speak(entry, speech))
        except (SayError, LoopClosedError) as error:
            raise _not_spoken(error) from None
        return _result(session_id, spoken)

    def has_link(self, session_id: str) -> bool:
        """Whether a session was spoken through and has not been hung up."""
        return self._links.has(session_id)

    def hang_up(self, session_id: str) -> None:
        """Close a session's link, if it has one; what is being spoken is cut short."""
        if self._loop.running:
            with suppress(LoopClosedError):  # then every link was closed
                self._loop.run(lambda: self._links.hang_up(session_id))

    async def ahang_up(self, session_id: str) -> None:
        """Close a session's link, if it has one; what is being spoken is cut short."""
        if self._loop.running:
            with suppress(LoopClosedError):
                await self._loop.arun(lambda: self._links.hang_up(session_id))

    def close(self) -> None:
        """Close every link, and end the thread that they live on."""
        try:
            if self._loop.running:
                self._loop.run(self._links.aclose)
        finally:
            self._loop.close()

    async def aclose(self) -> None:
        """Close every link, and end the thread that they live on."""
        try:
            if self._loop.running:
                await self._loop.arun(self._links.aclose)
        finally:
            await self._loop.aclose()

    def _wanted(self, session_id: str, runtime: object | None) -> Entry:
        """The session, which this call may name and which runs."""
        entry = self._reach.own(session_id, runtime)
        self._check_running(entry.session)
        return entry

    def _check_running(self, session: Session) -> None:
        if session.has_ended:
            self._ledger.mark_ended(session.session_id, session)
            raise ToolException(
                f"Session {session.session_id} has ended, so nothing was spoken. Open a new one if it is still needed."
            )

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


def _not_spoken(error: SayError | LoopClosedError) -> ToolException:
    return ToolException(
        str(error) or "The run is over; this was not spoken, or not to its end. Do not retry."
    )
