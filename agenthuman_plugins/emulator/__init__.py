"""A local Agent Human service: REST, rooms, and avatars with a rendered face.

`Emulator` runs it inside a program; `agenthuman emulator` from the command line. As a child process it is the
module itself: `Child.start("agenthuman_plugins.emulator", {"port": 0, …})` takes the arguments of `Emulator` and
answers with `{"event": "ready", "url": …, "api_key": …}`.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agenthuman_plugins.emulator._errors import EmulatorError, LimitError
    from agenthuman_plugins.emulator._server import Emulator

__all__ = ["Emulator", "EmulatorError", "LimitError"]

_NEEDS = ("aiohttp", "aiortc", "cv2", "fastapi", "jwt", "livekit.protocol", "livekit.rtc", "numpy", "uvicorn")


# Lazy: each avatar is a process that imports this package, and none of them needs the HTTP side.
def __getattr__(name: str) -> Any:
    if name in ("EmulatorError", "LimitError"):
        from agenthuman_plugins.emulator import _errors  # noqa: PLC0415

        return getattr(_errors, name)
    if name == "Emulator":
        if missing := [module for module in _NEEDS if not _installed(module)]:
            raise ImportError(
                f"The emulator needs more packages (missing: {', '.join(missing)}):"
                " pip install 'agenthuman-plugins[emulator]'"
            )
        from agenthuman_plugins.emulator._server import Emulator  # noqa: PLC0415

        return Emulator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the parent of a dotted name is missing
        return False
