"""The last stage of a LangChain voice agent: an avatar that speaks as the agent thinks."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Any

from langchain_core.runnables.config import ensure_config

from agenthuman_plugins.client import ConfigurationError, Session
from agenthuman_plugins.client.adapters import to_the_end
from agenthuman_plugins.client.rooms import Room
from agenthuman_plugins.langchain.stage._avatar import FromToolkit, Given, Lender, MakeLink
from agenthuman_plugins.langchain.stage._heard import Rate
from agenthuman_plugins.langchain.stage._history import heard_only
from agenthuman_plugins.langchain.stage._listener import Listener
from agenthuman_plugins.langchain.stage._stream import Stream
from agenthuman_plugins.langchain.tts import check_installed
from agenthuman_plugins.speech.link import SpeechLink

if TYPE_CHECKING:
    from agenthuman_plugins.langchain.toolkit import AgentHumanToolkit

__all__ = ["AvatarStage", "heard_only"]

_RATES = (8_000, 192_000)  # Hz: what voices and converters know


class AvatarStage:
    """The last stage of a voice agent: speaks its `tts_chunk` events through an avatar.

    It is an async generator over events, for `RunnableGenerator` and for a plain `async for`.

    Events are dicts or objects with a `type`. All of them pass in order and unchanged, unknown ones untouched, also
    while the avatar connects or is lost. It reads `stt_chunk` and `stt_output` (`transcript`), `agent_chunk`
    (`text`), `agent_end` and `tts_chunk` (`audio`: signed 16-bit mono PCM, cut anywhere; `words`, if the voice
    gives them: pairs of a word and the second of the reply at which it begins). It adds dicts with `type` and `ts`:

    | type | when | with |
    | --- | --- | --- |
    | `avatar_connected` | the avatar speaks from now on | `session_id` |
    | `avatar_disconnected` | the program plays speech itself from now on: first `audio`, then each `tts_chunk` | `reason`, `audio`: what was passed on and not heard |
    | `avatar_started` | it begins to speak a reply | |
    | `avatar_text` | words were heard | `text` |
    | `avatar_finished` | a reply is over | `seconds` and `text` that were heard, `interrupted` |

    A reply is interrupted when the user speaks. An agent reads nothing while it streams, so `listen` belongs right
    after speech-to-text: it passes events on and interrupts at once. Without it, the stage interrupts when the
    user's words come to it. `agent_end` makes the end of a reply exact; without one, a pause decides.

    Sessions are billed by the minute. The session is opened at the first event and ended however the stream ends.
    A program that leaves its loop early leaves generators behind that Python closes some time later; to end the
    session at once, put `async with contextlib.aclosing(stage):` around the loop.

    Example:
        ```python
        stage = AvatarStage(toolkit, sample_rate=24_000)
        pipeline = (
            RunnableGenerator(stt_stream)
            | RunnableGenerator(stage.listen)
            | RunnableGenerator(agent_stream)
            | RunnableGenerator(tts_stream)
            | RunnableGenerator(stage)
        )
        ```

    Args:
        toolkit: Opens the session by its own rules.
        session: A session of the program's own, instead: it is spoken through and never ended.
        room: The room that `session` was created with; `None` for one that the service made (inferred).
        gateway_url: Address of the speech gateway; `None` takes the toolkit's, then the public one.
        sample_rate: Hz of the `tts_chunk` events.
        thread_id: The conversation; `None` takes the `thread_id` of the run that the stage is part of.

    Raises:
        ConfigurationError: Neither a toolkit nor a session was given, or a value makes no sense, or speaking needs
            a package that is not installed.
    """

    def __init__(
        self,
        toolkit: "AgentHumanToolkit | None" = None,
        *,
        session: Session | None = None,
        room: Room | None = None,
        gateway_url: str | None = None,
        sample_rate: int = 24_000,
        thread_id: str | None = None,
        _lender: Lender | None = None,
        _make_link: MakeLink | None = None,
    ) -> None:
        lowest, highest = _RATES
        if not _is_whole(sample_rate) or not lowest <= sample_rate <= highest:
            raise ConfigurationError(
                f"sample_rate must be the whole number of Hz of the tts_chunk events, {lowest:,} to {highest:,}, "
                f"not {sample_rate!r}."
            )
        if (toolkit is None and _lender is None) == (session is None):
            raise ConfigurationError("AvatarStage needs either a toolkit or a session.")
        if room is not None and session is None:
            raise ConfigurationError("room belongs to session: a toolkit has a room of its own.")
        if _make_link is None:
            check_installed()
        self._lender = _lender_of(toolkit, session, room) if _lender is None else _lender
        self._gateway_url = gateway_url or (None if toolkit is None else toolkit.gateway_url)
        self._make_link = _make_link or self._link_of
        self._sample_rate = sample_rate
        self._thread_id = None if thread_id is None else str(thread_id)
        self._rate = Rate()
        self._stream: Stream | None = None
        self._listeners: set[Listener] = set()

    async def __call__(self, events: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
        """Pass events on and speak; see the class.

        Raises:
            ConfigurationError: The stage serves another stream, or a `tts_chunk` is no PCM.
        """
        if self._stream is not None:
            raise ConfigurationError("An AvatarStage serves one stream at a time: make another one.")
        stream = self._stream = Stream(
            self._lender,
            self._make_link,
            sample_rate=self._sample_rate,
            thread_id=self._thread_id or _thread_of_run(),
            rate=self._rate,
        )
        for listener in self._listeners:
            stream.listened(listener.turns)
        try:
            stream.start(events)
            async for event in stream.events:
                yield event
        finally:
            await to_the_end(lambda: self._end(stream))

    async def listen(self, events: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
        """Pass events on, and interrupt as soon as the user speaks. Stands right after speech-to-text.

        It reads ahead of the agent, which reads nothing while it streams.

        Example:
            ```python
            async for event in stage.listen(stt_stream(audio)):
                print(event["type"])
            ```
        """
        listener = Listener(events, lambda: self._stream)
        self._listeners.add(listener)
        try:
            async for event in listener:
                yield event
        finally:
            self._listeners.discard(listener)
            await to_the_end(listener.aclose)

    async def interrupt(self) -> None:
        """Make the avatar fall silent, and drop what still comes of its reply; for a button, for example.

        Returns when it is silent. Without speech in flight, it does nothing.

        Example:
            ```python
            if button.is_pressed:
                await stage.interrupt()
            ```
        """
        if self._stream is not None:
            self._stream.interrupt()
            await self._stream.silenced()

    async def heard(self) -> dict[str, Any] | None:
        """The `avatar_finished` event of the reply that was interrupted, once; `None` if none was.

        For the agent's stage, which comes before this one: between two turns it cuts the history with `heard_only`.
        While the avatar is being interrupted, it waits until that is known.

        Example:
            ```python
            if finished := await stage.heard():
                changes = heard_only(messages, finished)
            ```
        """
        if self._stream is None:
            return None
        await self._stream.silenced()
        return self._stream.take_interrupted()

    async def aclose(self) -> None:
        """End the stream that is served: the link is left and the session is ended. Harmless without one.

        Example:
            ```python
            async with contextlib.aclosing(stage):
                async for event in stage(events):
                    print(event["type"])
            ```
        """
        if (stream := self._stream) is not None:
            await to_the_end(lambda: self._end(stream))

    async def _end(self, stream: Stream) -> None:
        try:
            await stream.aclose()
            await asyncio.gather(*(listener.aclose() for listener in self._listeners))
        finally:
            if self._stream is stream:
                self._stream = None

    def _link_of(self, session: Session, room: Room | None) -> SpeechLink:
        from agenthuman_plugins.speech.of_session import speech_link  # noqa: PLC0415 - only an extra installs it

        return speech_link(session, room=room, gateway_url=self._gateway_url, media=False)


def _is_whole(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)


def _lender_of(toolkit: "AgentHumanToolkit | None", session: Session | None, room: Room | None) -> Lender:
    return FromToolkit(toolkit) if session is None else Given(session, room)


def _thread_of_run() -> str | None:
    thread_id = ensure_config().get("configurable", {}).get("thread_id")
    return None if thread_id is None else str(thread_id)
