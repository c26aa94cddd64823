"""The viewer: one avatar, any number of browsers."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Literal, Self

import numpy as np

from agenthuman_plugins.client.rooms import AVATAR_IDENTITY
from agenthuman_plugins.viewer._bitrates import set_bitrates
from agenthuman_plugins.viewer._browser import Browser, Message
from agenthuman_plugins.viewer._errors import ViewerError
from agenthuman_plugins.viewer._room import WatchedRoom
from agenthuman_plugins.viewer._tracks import Picture, Sound

ViewerState = Literal["waiting", "quiet", "speaking", "ended"]

MAX_BROWSERS = 8  # the picture is encoded for each one
_VOICE_LEVEL = 0.01  # RMS of full scale above which there is a voice
_PAUSE_S = 0.4  # a shorter one belongs to the speech
_FAREWELL_S = 0.3  # for the last message to leave

_FULL_SCALE = 32_768
_OVER = "There is nothing to watch any more."

_logger = logging.getLogger(__name__)


class Viewer:
    """Shows the avatar of a LiveKit room to browsers. An async context manager.

    It joins the room when the first browser comes, receives the avatar's picture and voice, and publishes nothing. When
    the last browser has gone it leaves the room, and joins again for the next one.

    The page's data channel carries JSON both ways. We send `{"type": "state", "state": …, "text": …}` on each change of
    `state`, and the page sends `ping` as a text every second: without one for 10 seconds it is taken as gone.

    Args:
        url: `wss://…` or `ws://…` of the LiveKit server.
        token: Token of a participant of its own: a second join under one identity would evict the first. It needs the
            grant to subscribe; with `hidden` nobody in the room notices the viewer.
        avatar_identity: Whom to watch.
        max_browsers: How many may watch at the same time.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        avatar_identity: str = AVATAR_IDENTITY,
        max_browsers: int = MAX_BROWSERS,
    ) -> None:
        self._url = url
        self._token = token
        self._avatar_identity = avatar_identity
        self._max_browsers = max_browsers
        self._browsers: set[Browser] = set()
        self._visits: set[asyncio.Task[None]] = set()  # those that are being closed included
        self._room: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()  # rooms whose last browser has gone
        self._state: ViewerState = "waiting"
        self._text = ""
        self._heard_s = 0.0
        self._closed = False
        set_bitrates()

    def __repr__(self) -> str:
        return f"Viewer(state={self._state!r}, browsers={len(self._browsers)})"

    @property
    def state(self) -> ViewerState:
        """What the pages show: `waiting` for the avatar, `quiet`, `speaking`, or `ended` with the room."""
        return self._state

    @property
    def browsers(self) -> int:
        """How many browsers watch, or are about to."""
        return len(self._browsers)

    async def answer(
        self,
        offer: Mapping[str, Any],
        *,
        on_message: Callable[[Message], None] | None = None,
        on_microphone: Callable[[bytes], None] | None = None,
    ) -> dict[str, str]:
        """Let a browser watch; returns the answer to its offer.

        Args:
            offer: `sdp` and `type` of the browser's offer.
            on_message: Gets each JSON object that this page sends.
            on_microphone: Gets the user's voice, 16-bit mono samples at 16 kHz, if the offer has a microphone. Without,
                none is received.

        Raises:
            ViewerError: The offer cannot be used, too many browsers watch, or the viewer is closed.
        """
        if self._closed:
            raise ViewerError(_OVER)
        if len(self._browsers) >= self._max_browsers:
            raise ViewerError(
                f"{self._max_browsers} windows watch this avatar, and no more can: close one, then reload this page."
            )
        browser = Browser(on_message=on_message, on_microphone=on_microphone)
        # Counted from here on, so that offers at the same time cannot be too many.
        self._browsers.add(browser)
        visit = asyncio.create_task(self._receive(browser), name="a browser")
        self._visits.add(visit)
        visit.add_done_callback(self._visits.discard)
        try:
            answer = await browser.answer(offer)
        except BaseException:
            browser.dismiss()
            await asyncio.wait([visit])
            raise
        if browser not in self._browsers:  # let go meanwhile: nobody would leave a room that is joined now
            raise ViewerError(_OVER)
        if self._room is None or self._room.done():
            self._set("waiting", "")
            self._room = asyncio.create_task(self._watch(), name="watched room")
        browser.tell(self._words, state=True)
        return answer

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send all pages a JSON object."""
        for browser in self._browsers:
            browser.tell(dict(message))

    async def aclose(self, text: str = "") -> None:
        """Say goodbye to the browsers and leave the room; harmless when repeated.

        Args:
            text: Sentence for the pages.
        """
        self._closed = True
        await self._end(text)
        self._leave_room()
        if tasks := self._visits | self._leaving:
            await asyncio.wait(tasks)  # each has its own time limits

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _receive(self, browser: Browser) -> None:
        """A browser's whole visit."""
        try:
            await browser.stay()
        finally:
            self._browsers.discard(browser)
            if not self._browsers:
                self._leave_room()
            await browser.aclose()

    async def _watch(self) -> None:
        """Be in the room while browsers watch."""
        room = WatchedRoom(
            self._url,
            self._token,
            self._avatar_identity,
            on_picture=self._show,
            on_sound=self._play,
            on_here=self._here,
        )
        text = await room.stay()
        await self._end(text)

    def _leave_room(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.cancel()
            self._leaving.add(room)
            room.add_done_callback(self._leaving.discard)

    async def _end(self, text: str) -> None:
        """Tell the pages that it is over, and let them go."""
        self._set("ended", text)
        if self._browsers:
            await asyncio.sleep(_FAREWELL_S)
        for browser in list(self._browsers):
            browser.dismiss()

    def _here(self, here: bool) -> None:
        if self._state != "ended":
            self._set("quiet" if here else "waiting", "")

    def _show(self, picture: Picture) -> None:
        for browser in self._browsers:
            browser.show(picture)

    def _play(self, sound: Sound) -> None:
        for browser in self._browsers:
            browser.play(sound)
        if _level(sound.pcm) > _VOICE_LEVEL:
            self._heard_s = sound.at_s
            if self._state == "quiet":
                self._set("speaking", "")
        elif self._state == "speaking" and sound.at_s - self._heard_s > _PAUSE_S:
            self._set("quiet", "")

    @property
    def _words(self) -> Message:
        return {"type": "state", "state": self._state, "text": self._text}

    def _set(self, state: ViewerState, text: str) -> None:
        if (state, text) == (self._state, self._text):
            return
        self._state, self._text = state, text
        for browser in self._browsers:
            browser.tell(self._words, state=True)


def _level(pcm: bytes) -> float:
    samples = np.frombuffer(pcm, np.int16).astype(np.float32)
    return float(np.sqrt(np.mean(samples * samples))) / _FULL_SCALE if len(samples) else 0.0
