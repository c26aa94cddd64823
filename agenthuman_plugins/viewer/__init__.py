"""Watch and listen to an avatar in a browser: joins its LiveKit room as a viewer and answers browsers by WebRTC.

    async with Viewer(room_url, viewer_token) as viewer:
        answer = await viewer.answer(offer)  # as often as there are browsers

`Viewer` needs the extra `emulator`, and is loaded at first use. `viewer.web` has what a server needs for the page: its
files, its headers, and who may call it.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agenthuman_plugins.viewer._errors import ViewerError
    from agenthuman_plugins.viewer._viewer import Viewer, ViewerState

__all__ = ["Viewer", "ViewerError", "ViewerState"]

_NEEDS = ("aiortc", "av", "livekit.rtc", "numpy")


def __getattr__(name: str) -> Any:
    if name == "ViewerError":
        from agenthuman_plugins.viewer._errors import ViewerError  # noqa: PLC0415

        return ViewerError
    if name in ("Viewer", "ViewerState"):
        if missing := [module for module in _NEEDS if not _installed(module)]:
            raise ImportError(
                f"The viewer needs more packages (missing: {', '.join(missing)}):"
                " pip install 'agenthuman-plugins[emulator]'"
            )
        from agenthuman_plugins.viewer import _viewer  # noqa: PLC0415 - aiortc and LiveKit take half a second

        return getattr(_viewer, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the parent of a dotted name is missing
        return False
