"""Our Pipecat service beside Pipecat's own avatar services, in one run: `python -m benchmarks peers`.

Each runs in the same bot with the same speech and the same avatar behind it; the vendors are faked at the nearest
boundary that can be reached. Needs `requirements/pipecat-peers.txt`; a service whose SDK is missing is left out.
"""

from benchmarks.peers._report import report

__all__ = ["report"]
