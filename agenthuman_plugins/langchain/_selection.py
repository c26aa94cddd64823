"""Which tools a toolkit offers."""

from collections.abc import Sequence

from agenthuman_plugins.client import ConfigurationError
from agenthuman_plugins.langchain import _texts
from agenthuman_plugins.langchain._reach import Scope

_READING = (_texts.GET, _texts.LIST)
_ALL = (_texts.CREATE, *_READING, _texts.END, _texts.SAY)


def selected(
    wanted: Sequence[str] | None, *, read_only: bool, scope: Scope, has_voice: bool
) -> tuple[str, ...]:
    """Names of the tools, in the order in which an agent uses them.

    Raises:
        ConfigurationError: A name is unknown, or the settings contradict each other.
    """
    if scope not in {"toolkit", "account"}:
        raise ConfigurationError(f"scope must be 'toolkit' or 'account', not {scope!r}.")
    offered: tuple[str, ...] = _READING if read_only else _ALL if has_voice else _ALL[:-1]
    if wanted is None:
        names = offered
    else:
        if isinstance(wanted, str) or not wanted:
            raise ConfigurationError(
                f"tools must be a list of names, at least one of {', '.join(offered)}; None offers all."
            )
        for name in wanted:
            _check(name, offered, read_only=read_only)
        names = tuple(name for name in offered if name in wanted)
    if has_voice and _texts.SAY not in names:
        raise ConfigurationError(f"There is a tts, but {_texts.SAY} is not among the tools: leave one out.")
    if scope == "toolkit" and _texts.CREATE not in names:
        raise ConfigurationError(
            f"Without {_texts.CREATE} this toolkit opens no session, so its tools would see none: offer that too, or "
            "pass scope='account'."
        )
    return names


def _check(name: object, offered: Sequence[str], *, read_only: bool) -> None:
    if name in offered:
        return
    if name == _texts.SAY and not read_only:
        raise ConfigurationError(f"{_texts.SAY} needs a voice: pass tts too.")
    if name in _ALL:
        raise ConfigurationError(f"{name} changes something, but the toolkit is read_only.")
    raise ConfigurationError(f"There is no tool {name!r}. There are: {', '.join(offered)}.")
