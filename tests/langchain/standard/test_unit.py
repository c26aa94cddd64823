"""The standard unit suite of langchain-tests, for every tool."""

from langchain_tests.unit_tests import ToolsUnitTests

from tests.langchain.standard.suites import UnitSuite
from tests.langchain.toolbox import AVATARS, CREATE, END, GET, LIST, SAY, USAGE


class TestCreate(UnitSuite, ToolsUnitTests):
    name = CREATE


class TestGet(UnitSuite, ToolsUnitTests):
    name = GET


class TestList(UnitSuite, ToolsUnitTests):
    name = LIST


class TestEnd(UnitSuite, ToolsUnitTests):
    name = END


class TestSay(UnitSuite, ToolsUnitTests):
    name = SAY


class TestAvatars(UnitSuite, ToolsUnitTests):
    name = AVATARS


class TestUsage(UnitSuite, ToolsUnitTests):
    name = USAGE
