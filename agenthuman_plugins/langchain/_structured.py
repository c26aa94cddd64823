"""How every tool is built: sync and async, with a content for the model and an artifact for programs."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, TypeAlias

from langchain_core.tools import BaseTool, InjectedToolArg, StructuredTool, ToolException
from pydantic import BaseModel

from agenthuman_plugins.client import AgentHumanError, ConfigurationError
from agenthuman_plugins.langchain import _texts

Result: TypeAlias = tuple[str, dict[str, Any]]

# An agent's tool node injects its runtime into any argument of this name; a plain call leaves it None. Declared as
# a bare object, it needs no langgraph. Locked by test_runtime_is_injected_and_hidden.
Runtime: TypeAlias = Annotated[object | None, InjectedToolArg()]


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
        handle_validation_error=_texts.on_invalid_arguments,
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
