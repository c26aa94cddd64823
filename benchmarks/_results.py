"""`benchmarks/results.md`: one section per command, each replaced when its command runs again."""

import os
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PATH = Path(__file__).parent / "results.md"
_TITLE = """# Measured

Written by the commands named below; figures of one machine and one run, so compare within a table. More in `results/`:
[LangChain tools under faults](results/langchain-faults.md), [faults of the Pipecat service](results/fault-matrix.txt),
[20 minutes](results/soak.txt), [lips and voice](results/skew.txt), [the client](results/client-overhead.txt), and the
campaigns of [the client](results/client-campaign.txt) and [the toolkit](results/langchain-campaign.txt).
"""


def write(name: str, section: str) -> None:
    """Put a section (Markdown, beginning with its heading) in place of the one of this name."""
    text = _PATH.read_text() if _PATH.exists() else _TITLE
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
    block = f"{begin}{section.strip()}\n{end}"
    old = re.search(f"{re.escape(begin)}.*?{re.escape(end)}", text, re.DOTALL)
    _PATH.write_text(text.replace(old.group(), block) if old else f"{text}\n{block}")


def machine(*packages: str) -> str:
    """What it ran on, for the table's foot."""
    cpu = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists():
        names = re.findall(r"model name\s*: (.*)", info.read_text())
        cpu = names[0] if names else cpu
    versions = ", ".join(f"{package} {_version(package)}" for package in packages)
    return (
        f"{os.cpu_count()} cores ({cpu}, load average at the end {os.getloadavg()[0]:.1f}), "
        f"Python {sys.version.split()[0]}, {versions}"
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
