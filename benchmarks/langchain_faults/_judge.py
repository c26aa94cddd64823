"""When a cell is good: criteria that code can decide, the same for every tool."""

import re
from collections.abc import Callable, Mapping

from benchmarks.langchain_faults._observation import Observation

_NAMES: Mapping[str, str] = {
    "network_down": r"connect|network|unreachable|refused",
    "401": r"\b401\b|unauthori[sz]ed|api key|credential",
    "429": r"\b429\b|rate limit|too many",
    "500": r"\b500\b|internal",
    "malformed": r"json|decod|pars|malformed|expecting|could not be read",
    "time_out": r"time[ds]?[ -]?out|no answer|in time",
}
_ADVICE = r"\bretry\b|\btry(?:ing)? again\b|\blater\b|\binstead\b|\btell the user\b|\bchange\b"
_SHORT = 1_000  # characters
_LARGE = 100_000  # bytes; a request of this size carries the oversized argument

Criterion = Callable[[Observation], bool]


def _names(seen: Observation) -> bool:
    return re.search(_NAMES[seen.fault], seen.text, re.IGNORECASE) is not None


def _advises(seen: Observation) -> bool:
    return re.search(_ADVICE, seen.text, re.IGNORECASE) is not None


def _alive(seen: Observation) -> bool:
    return seen.ended and seen.raised is None


def _told(seen: Observation) -> bool:
    return seen.status == "error"


_REFUSAL: Mapping[str, Criterion] = {
    "told": _told,
    "names": _names,
    "advises": _advises,
    "alive": _alive,
}
CRITERIA: Mapping[str, Mapping[str, Criterion]] = {
    "none": {"works": lambda seen: seen.status == "success", "alive": _alive},
    **dict.fromkeys(_NAMES, _REFUSAL),
    "cancel": {
        "cancelled": lambda seen: seen.cancelled is True,
        "stopped": lambda seen: seen.went_on == 0,
        "clean": lambda seen: seen.sessions_left == 0,
    },
    "oversized": {
        "refused": lambda seen: seen.largest_request < _LARGE,
        "told": _told,
        "short": lambda seen: seen.length <= _SHORT,
        "alive": _alive,
    },
}
MEANING = {
    "works": "the tool's message has status success (a control: the set-up is right)",
    "told": "the tool's message has status error",
    "names": "the message names the failure",
    "advises": "the message says whether to try again, or what to do instead",
    "alive": "the run ended by itself, in time, without an exception",
    "cancelled": "the program sees its cancellation",
    "stopped": "afterwards no request is begun, and none is still waited for",
    "clean": "no billed session is left running by the call",
    "refused": "no request carries the argument",
    "short": f"the message has at most {_SHORT} characters",
}


def met(seen: Observation) -> list[str]:
    """The criteria that a cell meets, in the order of the table."""
    return [name for name, holds in CRITERIA[seen.fault].items() if holds(seen)]


def is_good(fault: str, names: list[str]) -> bool:
    """Whether these are all criteria of the row."""
    return names == list(CRITERIA[fault])
