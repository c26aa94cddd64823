"""What the schemas of the tools promise to a model, whatever the tools then do."""

import json
from functools import partial
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import StructuredTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.graph import MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from pydantic import BaseModel

from agenthuman_plugins.langchain import _schemas
from tests.client.conftest import FakeService
from tests.langchain.conftest import ScriptedModel, Use, call

SCHEMAS: dict[str, type[BaseModel]] = {
    "create": _schemas.CreateArgs,
    "session": _schemas.SessionArgs,
    "list": _schemas.ListArgs,
    "say": _schemas.SayArgs,
    "none": _schemas.NoArgs,
}
RIGHT: dict[str, dict[str, Any]] = {
    "create": {"avatar": "avat_1", "aspect_ratio": "1:1"},
    "session": {"session_id": "sess_1"},
    "list": {"status": "all"},
    "say": {"session_id": "sess_1", "text": "Hello."},
    "none": {},
}
ALL = pytest.mark.parametrize("name", SCHEMAS)


class Recorder:
    """A tool with one of the schemas, and the arguments that reach it."""

    def __init__(self, name: str) -> None:
        self.calls: list[dict[str, Any]] = []
        schema = SCHEMAS[name]
        self.tool = StructuredTool.from_function(
            func=self._call,
            coroutine=self._acall,
            name=name,
            description="A tool.",
            args_schema=schema,
            infer_schema=False,
            handle_validation_error=partial(_schemas.explain, schema),
        )

    def _call(self, **arguments: Any) -> str:
        self.calls.append(arguments)
        return "Done."

    async def _acall(self, **arguments: Any) -> str:
        return self._call(**arguments)


def plain(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments that came from the model, as far as it said something."""
    return {key: value for key, value in arguments.items() if key != "runtime" and value is not None}


def keywords(schema: Any) -> set[str]:
    """Every keyword in a schema, at any depth; names of properties are none."""
    match schema:
        case {"properties": dict() as properties, **rest}:
            inner = [keywords(item) for item in properties.values()]
            return {"properties"}.union(keywords(rest), *inner)
        case dict():
            return set(schema).union(*map(keywords, schema.values()))
        case list():
            return set().union(*map(keywords, schema))
    return set()


@ALL
def test_strict_mode_takes_it(name: str) -> None:
    """Every object is closed, all of its properties are required, and no keyword is one that strict mode refuses."""
    converted = convert_to_openai_tool(Recorder(name).tool, strict=True)["function"]
    parameters = converted["parameters"]
    assert converted["strict"] is True
    assert parameters["additionalProperties"] is False
    assert list(parameters["properties"]) == list(RIGHT[name])
    assert parameters.get("required", []) == list(parameters["properties"])
    assert keywords(parameters) <= {
        *("type", "properties", "required", "additionalProperties"),
        *("anyOf", "enum", "description"),
    }
    for item in parameters["properties"].values():
        assert item["description"]
        assert "object" not in json.dumps(item)


@ALL
def test_own_schema_is_what_the_model_reads(name: str) -> None:
    """A converter that reads the class itself, as Gemini's does, finds no runtime and no keyword it would drop."""
    own = SCHEMAS[name].model_json_schema()
    assert "runtime" not in json.dumps(own)
    assert keywords(own) <= {"type", "properties", "required", "anyOf", "enum", "description"}
    assert list(own.get("properties", {})) == list(RIGHT[name])


@pytest.mark.parametrize("missing", [None, "", " \n"], ids=["null", "empty", "blank"])
@pytest.mark.parametrize(
    ("name", "argument"), [("create", "avatar"), ("create", "aspect_ratio"), ("list", "status")]
)
def test_what_strict_mode_must_send_is_taken_as_left_out(
    name: str, argument: str, missing: str | None
) -> None:
    """A null or a blank in an argument that may be left out is the same as leaving it out."""
    left_out, sent = Recorder(name), Recorder(name)
    left_out.tool.invoke({})
    assert sent.tool.invoke({argument: missing}) == "Done."
    defaults = {"status": "started"} if name == "list" else {}
    assert plain(sent.calls[0]) == defaults
    assert plain(left_out.calls[0]) in (defaults, {})  # an older core does not pass defaults on


@pytest.mark.parametrize(
    "avatar",
    [
        "avat_01J8ZK4R2N5M6P7Q8W4T",
        "PUBLIC/Avatars/sara-office",
        "PUBLIC/Avatars/Sara_2.0",
        "PUBLIC/sara",
        "https://pictures.example/ada.png?width=512",
    ],
)
async def test_avatars_of_every_kind_are_taken(avatar: str, use: Use, service: FakeService) -> None:
    """Own and public ids and addresses of pictures are sent as they were said."""
    assert (await use("agent_human_create_session", avatar=avatar)).status == "success"
    (body,) = service.bodies("POST", "/v1/sessions")
    assert body["avatar"] == avatar


@ALL
async def test_unknown_argument_does_nothing(name: str) -> None:
    """An argument that the tool does not have is named, with those that it has, however the tool is called."""
    recorder = Recorder(name)
    wrong = {**RIGHT[name], "record": True}
    wish = {"name": name, "args": wrong, "id": "call_1", "type": "tool_call"}
    takes = " and ".join(RIGHT[name]) or "no arguments"
    sentence = (
        f"Nothing was done. Unknown argument: record. This tool takes {takes}. Change this and try again."
    )
    assert recorder.tool.invoke(dict(wrong)) == sentence
    assert await recorder.tool.ainvoke(dict(wrong)) == sentence
    told = recorder.tool.invoke(wish)
    assert (told.content, told.status) == (sentence, "error")
    assert (await by_node(recorder, wrong)).content == sentence
    assert (await by_agent(recorder, wrong)).content == sentence
    assert recorder.calls == []


@ALL
async def test_refusing_the_unknown_lets_the_runtime_in(name: str) -> None:
    """An agent injects its runtime beside the model's arguments, also over one of the model's."""
    recorder = Recorder(name)
    for arguments in (RIGHT[name], {**RIGHT[name], "runtime": {"config": "made up"}}):
        assert (await by_agent(recorder, arguments)).status == "success"
        used = recorder.calls.pop()
        assert used["runtime"].tool_call_id == "call_1"
        assert plain(used) == RIGHT[name]


@ALL
async def test_tool_node_passes_what_is_right(name: str) -> None:
    """A graph's tool node uses every tool, whether its version injects a runtime or not."""
    recorder = Recorder(name)
    assert (await by_node(recorder, RIGHT[name])).status == "success"
    assert plain(recorder.calls[0]) == RIGHT[name]


async def by_node(recorder: Recorder, arguments: dict[str, Any]) -> ToolMessage:
    """Call a tool by a graph's tool node."""
    graph = StateGraph(MessagesState)
    graph.add_node("tools", ToolNode([recorder.tool]))
    graph.set_entry_point("tools")
    wish = call(recorder.tool.name, **arguments)
    state = await graph.compile().ainvoke({"messages": [wish]})
    return state["messages"][-1]


async def by_agent(recorder: Recorder, arguments: dict[str, Any]) -> ToolMessage:
    """Call a tool by an agent."""
    model = ScriptedModel(script=[call(recorder.tool.name, **arguments), AIMessage("Done.")])
    ask: Any = {"messages": [HumanMessage("Go on.")]}
    state = await create_agent(model, [recorder.tool]).ainvoke(ask)
    return state["messages"][-2]
