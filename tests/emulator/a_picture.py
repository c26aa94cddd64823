"""A child process that reads a picture and prints the refusal and what it took; see test_attacks.py."""

import json
import resource
import sys
import time

from agenthuman_plugins.emulator._errors import ServiceError
from agenthuman_plugins.emulator._faces import make_avatar_pictures
from tests.emulator.pictures import portrait


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)


def main() -> None:
    content = sys.stdin.buffer.read()
    make_avatar_pictures(portrait())  # what the first picture loads does not count
    before_mb, began_s = _peak_mb(), time.process_time()
    try:
        make_avatar_pictures(content)
        refusal = ""
    except ServiceError as error:
        refusal = str(error)
    took = {"refusal": refusal, "mb": _peak_mb() - before_mb, "cpu_s": time.process_time() - began_s}
    print(json.dumps(took))  # noqa: T201


if __name__ == "__main__":
    main()
