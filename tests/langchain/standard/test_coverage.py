"""The suites themselves: none is missing, none is softened."""

import inspect

import pytest

from agenthuman_plugins.client import ConfigurationError
from agenthuman_plugins.langchain import AgentHumanToolkit
from agenthuman_plugins.langchain.tools import NAMES
from tests.langchain.standard import test_integration, test_unit
from tests.langchain.standard.suites import API_KEY, UnitSuite
from tests.langchain.toolbox import silence


@pytest.mark.parametrize("module", [test_unit, test_integration], ids=["unit", "integration"])
def test_every_tool_has_its_suite(module: object) -> None:
    """Each tool that a toolkit can offer is put through both suites, and no test of theirs is marked to fail."""
    suites = [item for name, item in inspect.getmembers(module, inspect.isclass) if name.startswith("Test")]
    offered = {tool.name for tool in AgentHumanToolkit(api_key=API_KEY, tts=silence, tools=NAMES).get_tools()}
    assert {suite.name for suite in suites} == offered
    assert not any(hasattr(getattr(suite, name), "pytestmark") for suite in suites for name in dir(suite))


@pytest.mark.parametrize("suite", [test_unit.TestCreate, test_unit.TestSay])
def test_environment_is_what_constructs_it(suite: type[UnitSuite]) -> None:
    """The suite's construction from the environment is no formality: without it there is no tool."""
    environment, options, expected = suite().init_from_env_params
    assert environment
    assert expected
    with pytest.raises(ConfigurationError, match="AGENTHUMAN_API_KEY"):
        suite().tool_constructor(**options)
