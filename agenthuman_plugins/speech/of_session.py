"""Which link speaks through a session: decided by where its avatar appears."""

from agenthuman_plugins.client.errors import APIResponseError, ConfigurationError
from agenthuman_plugins.client.models import Session
from agenthuman_plugins.client.rooms import DailyRoom, LiveKitRoom
from agenthuman_plugins.speech.link import SpeechLink


def speech_link(
    session: Session,
    *,
    room: LiveKitRoom | DailyRoom | None = None,
    gateway_url: str | None = None,
    audio_sample_rate: int = 24_000,
    audio_frame_ms: int = 40,
    media: bool | None = None,
) -> SpeechLink:
    """Make the link to the avatar of a session; connecting is the caller's.

    | the avatar is in | link | voice and video |
    | --- | --- | --- |
    | a room that the service made (`room=None`; inferred) | LiveKit, into that room | unless `media=False` |
    | a `LiveKitRoom` with an `agent_token` | LiveKit, into that room | only with `media=True` |
    | a `LiveKitRoom` without one, or a `DailyRoom` | the gateway, which ends the session when it is closed | never |

    Example:
        ```python
        link = speech_link(session)
        try:
            await link.connect(timeout_s=20)
            await link.send(pcm)  # 16 kHz, 16 bit, mono
            await link.end_utterance()
            await link.wait_playback(timeout_s=60)
        finally:
            await link.aclose()
        ```

    Args:
        session: As `sessions.create` returned it: a later `get` holds no tokens. One of the older generation needs
            `ws_uri` and `daily_room` of what `sessions.start` returned, too.
        room: The caller's own room, the one that the session was created with.
        gateway_url: Address of the gateway; `None` takes the session's own, then the default of
            `GatewaySpeechLink`.
        audio_sample_rate: Hz of the voice to deliver, where there is any.
        audio_frame_ms: Length of the pieces of voice in milliseconds.
        media: Whether to receive the avatar's voice and video. `None` receives them in a room that the service
            made; in a room of your own, those who are in it have them already.

    Raises:
        APIResponseError: The session lacks what the link needs. No `SpeechLinkError`: the next session, billed
            like this one, would hardly say more.
        ConfigurationError: `gateway_url` is not a safe address.
        ImportError: What the link stands on is not installed; the text names the extra.
    """
    if is_over_gateway(session, room):
        return _gateway(session, gateway_url)
    if isinstance(room, LiveKitRoom) and room.agent_token is not None:
        from agenthuman_plugins.speech.livekit import LiveKitSpeechLink  # noqa: PLC0415 - only an extra installs it

        return LiveKitSpeechLink(
            room.url,
            room.agent_token,
            avatar_identity=room.avatar_identity,
            audio_sample_rate=audio_sample_rate,
            audio_frame_ms=audio_frame_ms,
            media=media is True,
        )
    return _proxied(session, audio_sample_rate, audio_frame_ms, media=media is not False)


def is_over_gateway(session: Session, room: LiveKitRoom | DailyRoom | None) -> bool:
    """Whether a session is spoken through over the gateway, where the end of a connection ends the session."""
    if isinstance(room, LiveKitRoom) and room.agent_token is not None:
        return False
    return room is not None or session.ws_uri is not None


def _proxied(session: Session, audio_sample_rate: int, audio_frame_ms: int, *, media: bool) -> SpeechLink:
    from agenthuman_plugins.speech.livekit import LiveKitSpeechLink  # noqa: PLC0415 - only an extra installs it

    room = session.room
    if room is None or room.url is None or room.token is None:
        raise APIResponseError(
            "The service did not say which room the avatar is in, so it cannot be reached."
        )
    return LiveKitSpeechLink(
        room.url,
        room.token.get_secret_value(),
        audio_sample_rate=audio_sample_rate,
        audio_frame_ms=audio_frame_ms,
        media=media,
    )


def _gateway(session: Session, url: str | None) -> SpeechLink:
    from agenthuman_plugins.speech.gateway import GatewaySpeechLink  # noqa: PLC0415 - only an extra installs it

    if session.session_token is None:
        raise APIResponseError(
            "The session carries no session_token, so its avatar cannot be spoken through: only the reply to its "
            "create does."
        )
    try:
        return GatewaySpeechLink(
            session.session_id,
            session.session_token.get_secret_value(),
            url=url or session.ws_uri,
            managed_room=session.daily_room if session.ws_uri is not None else None,
        )
    except ConfigurationError:
        if url is not None or session.ws_uri is None:
            raise
    raise APIResponseError("The service named an address of the gateway that cannot be used.")
