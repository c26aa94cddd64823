import pytest
from pipecat.frames.frames import (
    InterruptionFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TextFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.tests.utils import SleepFrame, run_test

from agenthuman_plugins.demo._assistant import ScriptedAssistant, make_assistant, make_ears, reply_to

USER, BOT = "user", "assistant"


def messages(*said: tuple[str, str]):
    return [{"role": role, "content": text} for role, text in said]


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ("Who are you?", "local emulator"),
        ("how does this work", "Pipecat pipeline"),
        ("Tell me a STORY!", "Once upon a time"),
        ("hello", "Hello!"),
        ("xyzzy", "You said: xyzzy."),
    ],
)
def test_the_script_answers_what_was_asked(asked, answer):
    """The last message of the user decides, whatever its case and punctuation."""
    assert answer in reply_to(messages((USER, "count"), (BOT, "One."), (USER, asked)))


def test_the_script_knows_only_what_is_in_the_context():
    """Asked what it said, it repeats the last words of the context: those that the user heard."""
    heard = messages((USER, "story"), (BOT, "Once upon a"), (USER, "What did you just say?"))
    assert reply_to(heard).endswith("Once upon a.")


def test_words_inside_words_do_not_trigger_a_rule():
    """A rule fits whole words only: there is no greeting in "this"."""
    assert "You said" in reply_to(messages((USER, "this")))


def test_braces_of_the_user_are_text():
    """What the user types is never taken for a template."""
    assert "{bot_before}" in reply_to(messages((USER, "{bot_before} {0}")))


async def test_a_reply_is_streamed_like_a_models():
    """A context is answered with start, words one by one, and end; nothing else is swallowed."""
    context = LLMContext(messages((USER, "count")))
    down, _ = await run_test(ScriptedAssistant(), frames_to_send=[TextFrame("x"), LLMContextFrame(context)])
    assert [type(frame) for frame in down[:2]] == [TextFrame, LLMFullResponseStartFrame]
    assert isinstance(down[-1], LLMFullResponseEndFrame)
    words = [frame.text for frame in down if isinstance(frame, LLMTextFrame)]
    assert len(words) > 10
    assert "".join(words) == reply_to(context.get_messages())


async def test_an_interruption_stops_the_stream():
    """Words that were not sent yet never are, and the reply has no end mark."""
    context = LLMContext(messages((USER, "story")))
    down, _ = await run_test(
        ScriptedAssistant(), frames_to_send=[LLMContextFrame(context), SleepFrame(0.1), InterruptionFrame()]
    )
    words = [frame for frame in down if isinstance(frame, LLMTextFrame)]
    assert 0 < len(words) < len(reply_to(context.get_messages()).split())
    assert not any(isinstance(frame, LLMFullResponseEndFrame) for frame in down)


def test_without_a_key_nothing_goes_out(monkeypatch):
    """Without OPENAI_API_KEY (or with an empty one) the script answers, and nobody transcribes."""
    monkeypatch.setenv("OPENAI_API_KEY", "")
    assert isinstance(make_assistant(), ScriptedAssistant)
    assert make_ears() is None


def test_with_a_key_a_model_answers(monkeypatch):
    """OPENAI_BASE_URL and OPENAI_MODEL are respected."""
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_MODEL", "a-model")
    model = make_assistant()
    assert not isinstance(model, ScriptedAssistant)
    assert model._settings.model == "a-model"
    assert str(model._client.base_url) == "http://127.0.0.1:9/v1/"
    assert make_ears() is not None
