"""The table of Pipecat's frames: which pass at once, and which keep their place behind speech.

The rule is what Pipecat's own output transports do with a frame while they play: what they act on at once passes at
once here, and what they put behind the sound in their queue waits here until the avatar has spoken.

Frames are listed by name, since some exist in one version of Pipecat only. A name without a module is one of
`pipecat.frames.frames`. A class that is not listed follows the nearest listed class that it derives from.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache

from loguru import logger
from pipecat.frames.frames import Frame, SystemFrame


@dataclass
class SpeechHeldFrame(SystemFrame):
    """Goes downstream once a second while `PipelineFlushFrame` waits for speech: the pipeline is busy, not stuck."""


class Way(Enum):
    """What happens to a frame that goes downstream."""

    AT_ONCE = "passes at once"
    IN_PLACE = "keeps its place behind the speech before it"
    ACT = "the service acts on it, then it passes"
    SWALLOW = "ends here"


@dataclass(frozen=True)
class Row:
    """One group of frames.

    Attributes:
        way: What happens to them.
        why: What they are, or the reason.
        names: Their classes.
    """

    way: Way
    why: str
    names: tuple[str, ...]


def _row(way: Way, why: str, names: str) -> Row:
    return Row(way, why, tuple(names.split()))


TABLE = (
    _row(
        Way.SWALLOW,
        "speech: goes to the avatar, whose voice comes out in its place",
        "TTSAudioRawFrame",
    ),
    _row(
        Way.SWALLOW,
        "changes the settings of this service; one for another service keeps its place",
        "agenthuman_plugins.pipecat.settings.AgentHumanVideoUpdateSettingsFrame",
    ),
    _row(Way.ACT, "begins the run", "StartFrame"),
    _row(Way.ACT, "the avatar finishes what it is saying, then its session ends", "EndFrame StopFrame"),
    _row(Way.ACT, "the session ends at once", "CancelFrame"),
    _row(Way.ACT, "the avatar falls silent, and what was not heard is dropped", "InterruptionFrame"),
    _row(
        Way.IN_PLACE,
        "begin and end of a reply: one of each, also where the TTS sends none or too many",
        "TTSStartedFrame TTSStoppedFrame",
    ),
    _row(
        Way.IN_PLACE,
        "text: leaves when it was said",
        """
        TextFrame LLMTextFrame VisionTextFrame AggregatedTextFrame TTSTextFrame AggregatedTextProgressFrame
        TTSSpeakFrame BotBackchannelFrame
        """,
    ),
    _row(
        Way.IN_PLACE,
        "the model's response and what belongs to it",
        """
        LLMFullResponseStartFrame LLMFullResponseEndFrame VisionFullResponseStartFrame VisionFullResponseEndFrame
        LLMThoughtStartFrame LLMThoughtTextFrame LLMThoughtEndFrame LLMMarkerFrame LLMMarkerResponseFrame
        FunctionCallInProgressFrame FunctionCallResultFrame LLMAssistantPushAggregationFrame
        """,
    ),
    _row(
        Way.IN_PLACE,
        "the context, and requests to the model",
        """
        LLMContextFrame LLMContextAssistantTimestampFrame LLMContextAssistantTurnFrame LLMContextUserTurnFrame
        LLMContextSummaryRequestFrame LLMContextSummaryResultFrame LLMSummarizeContextFrame LLMRunFrame
        LLMMessagesAppendFrame LLMMessagesUpdateFrame LLMMessagesTransformFrame LLMSetToolsFrame
        LLMSetToolChoiceFrame LLMEnablePromptCachingFrame LLMConfigureOutputFrame
        """,
    ),
    _row(
        Way.IN_PLACE,
        "what the user said",
        """
        TranscriptionFrame InterimTranscriptionFrame EagerTranscriptionFrame TranslationFrame UserBackchannelFrame
        ProposedUserStoppedSpeakingFrame
        """,
    ),
    _row(
        Way.IN_PLACE,
        "other sound and messages, which transports send in order with the speech",
        "OutputAudioRawFrame SpeechOutputAudioRawFrame OutputDTMFFrame OutputTransportMessageFrame",
    ),
    _row(
        Way.IN_PLACE,
        "takes effect between two replies: volume, filters, recording, switches, other services' settings",
        """
        VolumeFrame VolumeGainFrame FilterControlFrame FilterUpdateSettingsFrame FilterEnableFrame
        AudioBufferStartRecordingFrame AudioBufferStopRecordingFrame ServiceSwitcherFrame ManuallySwitchServiceFrame
        ServiceSwitcherRequestMetadataFrame ServiceUpdateSettingsFrame LLMUpdateSettingsFrame TTSUpdateSettingsFrame
        STTUpdateSettingsFrame VADParamsUpdateFrame InputTransportStartAudioStreamingFrame FrameProcessorPauseFrame
        """,
    ),
    _row(
        Way.IN_PLACE,
        "ends the worker, or waits for the pipeline to drain: not before the goodbye was heard",
        "WorkerFrame TaskFrame EndWorkerFrame EndTaskFrame StopWorkerFrame StopTaskFrame PipelineFlushFrame",
    ),
    _row(
        Way.AT_ONCE,
        "pictures, which transports show at once (with `sync_with_audio`, they keep their place)",
        "OutputImageRawFrame URLImageRawFrame AssistantImageRawFrame SpriteFrame",
    ),
    _row(
        Way.AT_ONCE,
        "background sound, which transports change at once",
        "MixerControlFrame MixerUpdateSettingsFrame MixerEnableFrame",
    ),
    _row(
        Way.AT_ONCE,
        "signals between processors that must not wait for speech",
        "HeartbeatFrame OutputTransportReadyFrame pipecat.pipeline.sync_parallel_pipeline.SyncFrame",
    ),
    _row(
        Way.AT_ONCE,
        "every other system frame",
        """
        SystemFrame BotConnectedFrame BotSpeakingFrame BotStartedSpeakingFrame BotStoppedSpeakingFrame
        CancelTaskFrame CancelWorkerFrame ClientConnectedFrame EagerEndOfTurnCancelFrame ErrorFrame
        ExternalFunctionCallCancelFrame ExternalFunctionCallInProgressFrame ExternalFunctionCallResultFrame
        ExternalFunctionCallsStartedFrame FatalErrorFrame FrameProcessorPauseUrgentFrame
        FrameProcessorResumeFrame FrameProcessorResumeUrgentFrame FunctionCallCancelFrame
        FunctionCallsStartedFrame InputAudioRawFrame InputDTMFFrame InputFileRawFrame InputImageRawFrame
        InputTextRawFrame InputTransportMessageFrame InterruptionTaskFrame
        InterruptionWorkerFrame LLMServiceMetadataFrame
        MetricsFrame OutputDTMFUrgentFrame OutputTransportMessageUrgentFrame
        ProposedUserStartedSpeakingFrame STTMetadataFrame STTMuteFrame ServiceMetadataFrame
        SpeechControlParamsFrame TaskSystemFrame UserAudioRawFrame UserFileRawFrame
        UserIdleTimeoutUpdateFrame UserImageRawFrame UserImageRequestFrame UserMuteStartedFrame
        UserMuteStoppedFrame UserSpeakingFrame UserStartedSpeakingFrame UserStoppedSpeakingFrame
        UserTurnInferenceCompletedFrame VADUserStartedSpeakingFrame VADUserStoppedSpeakingFrame
        WorkerSystemFrame
        """,
    ),
    _row(Way.IN_PLACE, "every other data and control frame, also your own", "Frame DataFrame ControlFrame"),
)

_PIPECAT = "pipecat.frames.frames."
WAYS: Mapping[str, Way] = {
    name if "." in name else _PIPECAT + name: row.way for row in TABLE for name in row.names
}


def way_of(frame: Frame) -> Way:
    """What happens to a frame that goes downstream."""
    if getattr(frame, "sync_with_audio", False):
        return Way.IN_PLACE
    return way_of_class(type(frame))  # type: ignore[arg-type]  # classes can be hashed, also those of dataclasses


@cache
def way_of_class(kind: type) -> Way:
    """What happens to frames of a class: as its row says, or that of the nearest class that it derives from."""
    # Pipecat handles a system frame ahead of all others, whatever else it derives from: it has no place to keep.
    bases = [
        base for base in kind.__mro__ if issubclass(base, SystemFrame) or not issubclass(kind, SystemFrame)
    ]
    listed = next(base for base in bases if _full_name(base) in WAYS)
    way = WAYS[_full_name(listed)]
    if listed is not kind:
        logger.debug(f"{_full_name(kind)} is handled like {listed.__name__}: {way.value}")
    return way


def markdown() -> str:
    """The table in Markdown."""
    rows = (
        f"| {', '.join(f'`{_short(name)}`' for name in row.names)} | {row.way.value} | {row.why} |"
        for row in TABLE
    )
    return "\n".join(("| frames | what happens | why |", "| --- | --- | --- |", *rows)) + "\n"


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _short(name: str) -> str:
    return name.rpartition(".")[2]
