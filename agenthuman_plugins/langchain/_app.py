"""Functions of the application, called from tools: plain ones and async ones."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from pydantic import ValidationError

from agenthuman_plugins.client import ConfigurationError, Session
from agenthuman_plugins.client.rooms import Room

RoomProvider: TypeAlias = Callable[[], Room | Awaitable[Room | None] | None]
OnSession: TypeAlias = Callable[[Session], Awaitable[None] | None]


def call(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of the application from a sync tool.

    Raises:
        ConfigurationError: It is async.
    """
    refuse_async(name, function)
    try:
        result = function(*arguments)
    except ValidationError as error:
        raise _not_the_models(name) from error
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise _is_async(name)
    return result


def refuse_async(name: str, function: Callable[..., Any] | None) -> None:
    """Say that a sync tool cannot call this function, as far as that shows before the call.

    Raises:
        ConfigurationError: It is async.
    """
    if function is not None and _surely_async(function):
        raise _is_async(name)


async def acall(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of the application from an async tool; a plain one, which may block, in a thread."""
    try:
        made = (
            function(*arguments) if _surely_async(function) else await asyncio.to_thread(function, *arguments)
        )
        return await made if inspect.isawaitable(made) else made
    except ValidationError as error:
        raise _not_the_models(name) from error


def _surely_async(function: object) -> bool:
    # Others may still return something to await.
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an object with an async __call__
    )


def _is_async(name: str) -> ConfigurationError:
    return ConfigurationError(f"{name} is async, but the tool was called sync: use ainvoke.")


def _not_the_models(name: str) -> RuntimeError:
    # As it is, LangChain would take it for wrong arguments of the model.
    return RuntimeError(f"{name} raised a pydantic.ValidationError of its own.")
