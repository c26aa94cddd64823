"""The adjustments to aiortc refuse an aiortc that they do not fit."""

from importlib import metadata

import pytest
from aiortc import rtcdtlstransport

from agenthuman_plugins.emulator.room_server import _aiortc


def test_another_series_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the series that is needed and the version found."""
    monkeypatch.setattr(metadata, "version", lambda _: "1.17.0")
    with pytest.raises(_aiortc.UnsupportedAiortcError, match=r"needs aiortc 1\.16\.\*, found 1\.17\.0"):
        _aiortc.install()


def test_missing_private_name_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A patch release that moves a name is refused before anything is replaced."""
    monkeypatch.delattr(rtcdtlstransport.RTCDtlsTransport, "_send_rtp")
    with pytest.raises(_aiortc.UnsupportedAiortcError, match=r"missing: RTCDtlsTransport\._send_rtp"):
        _aiortc.install()
