"""How every tool is built: sync and async, with a content for the model and an artifact for programs."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias

from langchain_core.tools import BaseTool, StructuredTool, ToolException
from pydantic import BaseModel

from agenthuman_plugins.client import AgentHumanError, ConfigurationError
from agenthuman_plugins.langchain import _texts
from agenthuman_plugins.langchain._schemas import Runtime, explain

__all__ = ["Result", "Runtime", "structured", "told"]

Result: TypeAlias = tuple[str, dict[str, Any]]


def structured(
    name: str,
    description: str,
    args_schema: type[BaseModel],
    func: Callable[..., Result],
    coroutine: Callable[..., Awaitable[Result]],
) -> BaseTool:
    """Make a tool that tells the model its errors, instead of crashing the agent."""
    return StructuredTool.from_function(
        func=func,
        coroutine=coroutine,
        name=name,
        description=description,
        args_schema=args_schema,
        infer_schema=False,
        response_format="content_and_artifact",
        handle_tool_error=_texts.on_tool_error,
        handle_validation_error=partial(explain, args_schema),
    )


@contextmanager
def told() -> Iterator[None]:
    """Turn an error of the service into one that the model is told; anything else is a defect and passes."""
    try:
        yield
    except ConfigurationError:  # of the application: what the model says was checked before
        raise
    except AgentHumanError as error:
        raise ToolException(_texts.failure(error)) from error
