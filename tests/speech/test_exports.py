import subprocess
import sys

from agenthuman_plugins import speech


def test_all_names_are_there():
    """Every name in `__all__` can be had, the lazy one included."""
    missing = [name for name in speech.__all__ if not hasattr(speech, name)]
    assert not missing


def test_livekit_is_loaded_at_first_use():
    """Importing the package needs neither livekit nor numpy."""
    code = (
        "import sys, agenthuman_plugins.speech; print([m for m in ('livekit', 'numpy') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert result.stdout.strip() == "[]"


def test_missing_livekit_names_the_extra():
    """Without livekit the error says what to install, whichever framework asks."""
    code = (
        "import sys; sys.modules['livekit'] = None\n"
        "try:\n    from agenthuman_plugins.speech import LiveKitSpeechLink\n"
        "except ImportError as error:\n    print(error)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert 'pip install "agenthuman-plugins[speech]"' in result.stdout
