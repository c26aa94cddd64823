"""Somebody who follows a page: saves its files, types its commands, pastes its code, and looks at what they print.

They work in an empty folder, with the examples of a clone in it. What an `export` leaves to the reader as `...` is what
`service.py` prints. Commands of a page that exports no key, and code that is pasted into a prompt, have all of it. Whole
programs, examples, demo and emulator run without a key, as their pages say.
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import threading
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.pasted.excused import EXCUSED
from tests.pasted.page import ROOT, Block, Command, Page, commands

_HERE = Path(__file__).parent
COMMAND_S = 60.0  # hang limits
INSTALL_S = 1800.0
READY_S = 50.0
END_S = 30.0

# What runs until Ctrl-C: what is added to the command so that it takes a free port, and what it prints when it is ready.
LASTING = {
    r"agenthuman emulator( --plan \w+| --no-proxy-rooms)?$": (" --port 0", r"Press Ctrl-C to stop"),
    r"agenthuman emulator --host 0\.0\.0\.0": ("", r"Press Ctrl-C to stop"),
    r"agenthuman demo$": (" --port 0", r"http://\S+"),
    r"python examples/langchain_voice_agent\.py$": (" --port 0", r"Ctrl-C ends it"),
    r"python bot\.py --local$": (" --port {port}", r"Uvicorn running on \S+"),
}
KEYLESS = re.compile(r"python (examples/|program\.py)|agenthuman (demo|emulator( -|$))")
# What a reader has before the first block, by a word of the page's name.
NAMES = {"tutorials/langchain-voice": "voice_agent.py", "pipecat": "pipecat.py"}
_OUTCOMES = [
    "checked",
    "started",
    "run",
    "installed",
    "set",
]  # of a block's commands, the one that says most first
_ANY_LINES = "ANYLINES"
_VARIES = [
    (r"(sess_|avat_|lnk_|ah-)0\w{10,}", r"\1ID"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\+00:00| UTC)", "TIME"),
    (r"\w{3}, \d+ \w{3} \d{4} \d\d:\d\d:\d\d GMT", "TIME"),
    (r"\d\d:\d\d UTC", "TIME"),
    (r"(?<=:)\d{4,5}\b", "PORT"),
    (r"\d+(\.\d+)? ?s\b", "N s"),
    (r"\d+ minutes left", "N minutes left"),
    (r"Minutes left: \d+", "Minutes left: N"),
    (r"ah_test_[\w.]+", "KEY"),
    (r"rooms on .+", "rooms on a server"),
]


@dataclass(frozen=True)
class Step:
    """What was done with a block, or with a command of it.

    Attributes:
        block: Which.
        outcome: `saved`, `run`, `checked` (run, and its output compared), `installed`, `set`, `started`, `shown` (no code
            to run) or `excused`.
        text: What is excused.
        reason: Why.
    """

    block: Block
    outcome: str
    text: str = ""
    reason: str = ""


class WrongPageError(AssertionError):
    """A page does not do what it says."""


class Reader:
    """Follows one page.

    Args:
        page: Which.
        folder: An empty one.
        account: The variables that stand for the reader's keys.
        python: Folder with `python` and `agenthuman`.
        fresh: Whether `pip install` installs, this package from the wheels in PIP_FIND_LINKS; otherwise everything is
            there, and only the names of extras are looked at.
    """

    def __init__(
        self, page: Page, folder: Path, account: dict[str, str], *, python: Path, fresh: bool = False
    ) -> None:
        self._page = page
        self._folder = folder
        self._account = {**account, "OPENAI_API_KEY": "sk-test"}
        self._python = python
        self._fresh = fresh
        self._keyless = _keyless(python, fresh=fresh)
        self._environment = dict(self._keyless)
        self._running: list[tuple[str, subprocess.Popen[str], list[str]]] = []
        self._prompt: subprocess.Popen[str] | None = None

    def follow(self) -> list[Step]:
        """Follow the page to its end.

        Raises:
            WrongPageError: With the block, and what was wrong.
        """
        (self._folder / "examples").symlink_to(ROOT / "examples")
        (self._folder / "me.jpg").write_bytes((ROOT / "tests" / "client" / "face.jpg").read_bytes())
        if not any(
            re.search(r"^export .*AGENTHUMAN_API_KEY=", it.code, re.MULTILINE) for it in self._page.blocks
        ):
            self._environment |= self._account
        for block in self._page.blocks:
            if block.title and block.title.startswith("_"):  # stands at the end, and is saved first
                self._save(block)
        steps = []
        blocks = self._page.blocks
        try:
            for number, block in enumerate(blocks):
                after = blocks[number + 1] if number + 1 < len(blocks) else None
                expected = after.code if after is not None and self._is_output(after) else None
                if not self._is_output(block):
                    steps += self._take(block, expected)
            self._run_the_rest()
        finally:
            failed = self._leave()
        if failed:
            raise WrongPageError(f"{self._page.name}: {failed}")
        return steps

    def _take(self, block: Block, expected: str | None) -> list[Step]:
        try:
            commands_alone = block.language == "console" and not block.first.startswith("$ ")
            if not commands_alone and (reason := self._excuse(block.first)):
                return [Step(block, "excused", block.first, reason)]
            if block.language == "console":
                return self._type(block, expected)
            return [self._use(block, expected)]
        except WrongPageError as error:
            raise WrongPageError(f"{self._page.name}, line {block.line}: {error}") from None

    def _use(self, block: Block, expected: str | None) -> Step:
        if block.title:
            self._save(block)
            return Step(block, "saved")
        if block.language != "python":
            return Step(block, "shown")
        if not block.is_program:
            return self._paste(block, expected)
        if any(f"python {block.source}" in it.code for it in self._page.blocks if it is not block):
            return Step(block, "excused", block.first, "a command of the page runs this example")
        return self._run_program(block, expected)

    def _excuse(self, text: str) -> str | None:
        for (page, begin), reason in EXCUSED.items():
            if page in ("*", self._page.name) and text.startswith(begin):
                return reason
        return None

    def _is_output(self, block: Block) -> bool:
        return block.language == "text" and block.title is None and self._excuse(block.first) is None

    def _save(self, block: Block) -> None:
        assert block.title is not None
        path = self._folder / block.title
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_symlink():
            path.write_text(block.code)

    def _run_the_rest(self) -> None:
        """Run the programs that no command of the page names, with what they import."""
        for block in self._page.blocks:
            if block.language == "python" and block.title and not self._excuse(block.first):
                others = [it.code for it in self._page.blocks if it is not block]
                if not any(block.title in code for code in others) and not block.title.startswith("test_"):
                    self._run(f"python {block.title}")

    def _paste(self, block: Block, expected: str | None) -> Step:
        if self._prompt is None:
            names = next((file for part, file in NAMES.items() if part in self._page.name.lower()), "")
            self._prompt = subprocess.Popen(
                [self._python / "python", _HERE / "paste.py", _HERE / "names" / names if names else "-"],
                cwd=self._folder,
                env={**self._environment, **self._account},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._prompt.stdin is not None
        assert self._prompt.stdout is not None
        self._prompt.stdin.write(json.dumps({"code": block.code, "source": block.source}) + "\n")
        self._prompt.stdin.flush()
        limit = threading.Timer(COMMAND_S, self._prompt.kill)
        limit.start()
        answer = json.loads(self._prompt.stdout.readline() or '{"error": "the prompt ended"}')
        limit.cancel()
        if answer["error"]:
            raise WrongPageError(f"{block.first}\n{answer.get('output')}\n{answer['error']}")
        return self._compared(block, expected, answer["output"])

    def _run_program(self, block: Block, expected: str | None) -> Step:
        (self._folder / "program.py").write_text(block.code)
        return self._compared(block, expected, self._run("python program.py"))

    def _type(self, block: Block, expected: str | None) -> list[Step]:
        """What was done with the block as a whole, and each command of it that was not run."""
        found = commands(block)
        steps = []
        for command in found:
            output = command.output if command is not found[-1] else command.output or expected
            steps.append(self._do(block, Command(command.text, output)))
        excused = [step for step in steps if step.outcome == "excused"]
        done = [step for step in steps if step.outcome != "excused"]
        return [*sorted(done, key=lambda step: _OUTCOMES.index(step.outcome))[:1], *excused]

    def _do(self, block: Block, command: Command) -> Step:
        text = command.text.partition("   #")[0].strip()
        if reason := self._excuse(text):
            return Step(block, "excused", text, reason)
        if text.startswith("export "):
            self._export(text)
            return Step(block, "set")
        if text.startswith("pip install "):
            self._install(text)
            return Step(block, "installed")
        for pattern, (more, ready) in LASTING.items():
            if any(text + more == started for started, _, _ in self._running):
                return Step(block, "excused", text, "runs already")
            if re.match(pattern, text):
                self._start(text + more, ready, command.output)
                return Step(block, "started")
        # A page that shows an error shows what fails.
        return self._compared(block, command.output, self._run(text, may_fail=command.output is not None))

    def _export(self, text: str) -> None:
        for name, value in re.findall(r"(\w+)=(\S+)", text):
            self._environment[name] = self._account[name] if "..." in value else value
            if name == "AGENTHUMAN_API_KEY":  # at the reader's service, which is the emulator
                self._environment |= {
                    key: it for key, it in self._account.items() if key.startswith("AGENTHUMAN_")
                }

    def _install(self, text: str) -> None:
        if self._fresh:
            self._run("python -m " + re.sub(r"(?<=[\s\"'])\.(?=[\[\"'\s]|$)", str(ROOT), text))
            return
        extras = {
            extra
            for names in re.findall(r"(?:agenthuman-plugins|[\s\"']\.)\[([\w,-]+)\]", text)
            for extra in names.split(",")
        }
        if unknown := extras - _EXTRAS:
            raise WrongPageError(f"no such extra: {unknown}")

    def _run(self, text: str, *, may_fail: bool = False) -> str:
        with (
            _terminal() as keyboard,
            subprocess.Popen(
                ["bash", "-ec", text],
                cwd=self._folder,
                env=self._keyless if KEYLESS.match(text) else self._environment,
                stdin=keyboard,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            ) as process,
        ):
            try:
                output, _ = process.communicate(timeout=INSTALL_S if self._fresh else COMMAND_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                output, _ = process.communicate()
                raise WrongPageError(f"$ {text}\ndoes not end\n{output}") from None
        if process.returncode and not may_fail:
            raise WrongPageError(f"$ {text}\nexit code {process.returncode}\n{output}")
        return output

    def _start(self, text: str, ready: str, expected: str | None) -> None:
        process = subprocess.Popen(
            ["bash", "-ec", f"exec {re.sub(r'--port 8000', '--port 0', text).format(port=_free_port())}"],
            cwd=self._folder,
            env=self._keyless if KEYLESS.match(text) else self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        lines: list[str] = []
        is_ready = threading.Event()

        def read() -> None:
            assert process.stdout is not None
            with process.stdout:
                for line in process.stdout:
                    lines.append(line)
                    if re.search(ready, line):
                        is_ready.set()
            is_ready.set()

        threading.Thread(target=read, daemon=True).start()
        self._running.append((text, process, lines))
        is_ready.wait(READY_S)
        printed = "".join(lines)
        if not re.search(ready, printed):
            raise WrongPageError(f"$ {text}\nis not ready\n{printed}")
        if expected is not None:
            compare(expected, printed, whole=False)
        for name, value in re.findall(r"^\s+export (\w+)=(\S+)$", printed, re.MULTILINE):
            self._environment[name] = value

    def _compared(self, block: Block, expected: str | None, output: str) -> Step:
        if expected is None:
            return Step(block, "run")
        compare(expected, output)
        return Step(block, "checked")

    def _leave(self) -> str:
        """End what runs; returns which of it did not end well."""
        if self._prompt is not None:
            self._prompt.communicate(timeout=END_S)
        failed = ""
        for text, process, lines in self._running:
            process.send_signal(signal.SIGINT)
            try:
                code = process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                code = process.wait()
            if code:
                failed += f"$ {text}\nexit code {code} after Ctrl-C\n{''.join(lines)}"
        return failed


def compare(expected: str, output: str, *, whole: bool = True) -> None:
    """Compare line by line, without empty lines and what differs from run to run."""
    wanted, found = _steady(expected), _steady(output)
    pattern = "\n".join(
        _ANY_LINES if line == "…" else ".*".join(map(re.escape, line.split("…")))
        for line in wanted.splitlines()
    )
    pattern = pattern.replace(f"{_ANY_LINES}\n", r"(?:.*\n)*?").replace(f"\n{_ANY_LINES}", r"(?:\n.*)*")
    if not (re.fullmatch if whole else re.match)(pattern, found):
        raise WrongPageError(f"the page shows\n{wanted}\n\nand there was\n{found}")


def _steady(text: str) -> str:
    for pattern, name in _VARIES:
        text = re.sub(pattern, name, text)
    return "\n".join(" ".join(line.split()) for line in text.splitlines() if line.strip())


def _keyless(python: Path, *, fresh: bool) -> dict[str, str]:
    foreign = (
        "AGENTHUMAN_",
        "CI",
        "COLUMNS",
        "LANG",
        "LIVEKIT_",
        "OPENAI_",
        "PYTEST_",
        "PYTHON",
        "VIRTUAL_ENV",
    )
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(foreign) and (fresh or not name.lower().endswith("_proxy"))
    }
    kept |= {"PATH": f"{python}{os.pathsep}{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}
    kept["PYTHONWARNINGS"] = "ignore::DeprecationWarning"  # the newest Python warns of other packages
    # A copy of an example finds what the examples share, as beside them in a clone.
    paths = [_HERE / "stand_ins", ROOT / "examples", *([] if fresh else [ROOT])]
    return kept | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "LOGURU_LEVEL": "INFO"}


@contextlib.contextmanager
def _terminal() -> Iterator[int]:
    """A keyboard at which every question is answered with yes, and every page that is to be opened was."""
    keys, terminal = os.openpty()
    os.write(keys, b"y\n" * 20)
    try:
        yield terminal
    finally:
        os.close(terminal)
        os.close(keys)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _extras() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return set(project["optional-dependencies"])


_EXTRAS = _extras()
