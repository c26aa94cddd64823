"""The middleware that ends sessions together with a run, as far as the hooks of an agent see its end."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

try:
    from langchain.agents.middleware import AgentMiddleware
    from langgraph.errors import GraphBubbleUp
except ImportError as error:
    raise ImportError(
        "SessionCleanupMiddleware is for LangChain's agents, which are not installed: run `pip install langchain`."
    ) from error

from agenthuman_plugins.client import AgentHumanError
from agenthuman_plugins.langchain.toolkit import AgentHumanToolkit

if TYPE_CHECKING:  # not every version has all of them in one place
    from langchain.agents.middleware import AgentState, ModelRequest, ModelResponse, ToolCallRequest
    from langchain_core.messages import ToolMessage
    from langgraph.runtime import Runtime
    from langgraph.types import Command

    _Base = AgentMiddleware[Any, Any, Any]
else:
    _Base = AgentMiddleware  # versions differ in how many types it takes


class SessionCleanupMiddleware(_Base):
    """Ends the sessions of a thread when the agent's run on it is over.

    Best effort, for agents that run outside of a block: an agent has no hook that sees every end. The block
    `with toolkit:` is the guarantee, and the graph factory of a LangGraph server can have one, too.

    | the run | sessions |
    | --- | --- |
    | comes to its end | ended |
    | fails in the model or in a tool, by Ctrl-C too | ended |
    | is cancelled while the model or a tool works | ended |
    | reaches the recursion limit, or fails or is cancelled between two steps | **left open** |
    | fails in one tool while another still opens a session | that one is **left open** |
    | pauses for a human | left open, rightly |

    It ends the sessions of the run's thread that this process knows, except for those that the program opened itself,
    outside of a run; in a subagent, those that this run of it opened.
    Without `thread_id`, those of all runs without one, so give each of several concurrent runs a thread of its own. Put it
    first in the list of middleware: it then sees only errors that no other one handles. It hides no error, and a
    session that cannot be ended is logged.

    Example:
        ```python
        cleanup = SessionCleanupMiddleware(toolkit)
        agent = create_agent("openai:gpt-5-mini", toolkit.get_tools(), middleware=[cleanup])
        ```

    Args:
        toolkit: Whose sessions.
    """

    def __init__(self, toolkit: AgentHumanToolkit) -> None:
        super().__init__()
        self._toolkit = toolkit

    def after_agent(self, state: "AgentState[Any]", runtime: "Runtime[Any]") -> None:
        """End the sessions after a run."""
        del state, runtime
        self._end()

    async def aafter_agent(self, state: "AgentState[Any]", runtime: "Runtime[Any]") -> None:
        """End the sessions after a run."""
        del state, runtime
        await self._aend()

    def wrap_model_call(
        self, request: "ModelRequest[Any]", handler: "Callable[[ModelRequest[Any]], ModelResponse[Any]]"
    ) -> "ModelResponse[Any]":
        """End the sessions when the model fails."""
        try:
            return handler(request)
        except GraphBubbleUp:  # not an error: a pause, or a message to another graph
            raise
        except BaseException:
            self._end()
            raise

    async def awrap_model_call(
        self,
        request: "ModelRequest[Any]",
        handler: "Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]",
    ) -> "ModelResponse[Any]":
        """End the sessions when the model fails or is cancelled."""
        try:
            return await handler(request)
        except GraphBubbleUp:
            raise
        except BaseException:
            await self._aend()
            raise

    def wrap_tool_call(
        self, request: "ToolCallRequest", handler: "Callable[[ToolCallRequest], ToolMessage | Command[Any]]"
    ) -> "ToolMessage | Command[Any]":
        """End the sessions when a tool fails."""
        try:
            return handler(request)
        except GraphBubbleUp:
            raise
        except BaseException:
            self._end()
            raise

    async def awrap_tool_call(
        self,
        request: "ToolCallRequest",
        handler: "Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]]",
    ) -> "ToolMessage | Command[Any]":
        """End the sessions when a tool fails or is cancelled."""
        try:
            return await handler(request)
        except GraphBubbleUp:
            raise
        except BaseException:
            await self._aend()
            raise

    def _end(self) -> None:
        # Logged by the toolkit; it must not take the run's result or error away.
        with suppress(AgentHumanError):
            self._toolkit._end(self._toolkit._of_run())  # noqa: SLF001 - they belong together

    async def _aend(self) -> None:
        with suppress(AgentHumanError):
            await self._toolkit._aend(self._toolkit._of_run())  # noqa: SLF001 - they belong together
