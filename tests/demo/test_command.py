import argparse
import socket

import pytest

from agenthuman_plugins import demo


def run(**arguments):
    return demo.main(
        argparse.Namespace(**{"say": None, "record": None, "interrupt_at": None, "port": 0, **arguments})
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        pytest.param({"record": "out.mp4"}, "--record needs --say TEXT", id="nothing-to-say"),
        pytest.param({"say": ["…"], "record": "out.mp4"}, "at least one word", id="no-word"),
        pytest.param(
            {"say": ["Hi"], "record": "out.mp4", "interrupt_at": [9.0]},
            "nothing to interrupt at second 9",
            id="interrupted-in-silence",
        ),
        pytest.param({"say": ["Hi"], "record": "out.avi"}, "ends in .mp4", id="another-format"),
        pytest.param({"say": ["Hi"], "record": "nowhere/out.mp4"}, "no folder nowhere", id="no-folder"),
        pytest.param({"say": ["Hi"], "record": "folder.mp4"}, "is a folder", id="a-folder"),
        pytest.param(
            {"say": ["Hi"], "record": f"{'x' * 300}.mp4"},
            "could not be written: File name too long",
            id="too-long",
        ),
        pytest.param(
            {"say": ["Hi"], "record": "/proc/out.mp4"}, "/proc/out.mp4 could not be written", id="no-writing"
        ),
    ],
)
def test_a_recording_that_cannot_be_is_refused_at_once(arguments, sentence, tmp_path, monkeypatch, capsys):
    """One sentence on standard error and exit code 1, before anything is started."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.mp4").mkdir()
    assert run(**arguments) == 1
    told = capsys.readouterr()
    assert sentence in told.err
    assert told.err.count("\n") == 1
    assert not told.out


def test_a_taken_port_is_told_in_one_sentence(capsys):
    """The sentence names the port and the way out."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run(port=port) == 1
    told = capsys.readouterr().err
    assert (
        told
        == f"agenthuman: Port {port} is in use: choose another one, or let --port 0 find one that is free.\n"
    )


def test_missing_packages_are_named(monkeypatch):
    """What to install is part of the sentence."""
    monkeypatch.setattr(demo, "_NEEDS", ("av", "surely_not_installed"))
    with pytest.raises(ImportError, match=r"surely_not_installed.*agenthuman-plugins\[demo\]"):
        run()
