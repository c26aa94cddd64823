"""The standard integration suite of langchain-tests, for every tool."""

from langchain_tests.integration_tests import ToolsIntegrationTests

from tests.langchain.standard.suites import IntegrationSuite
from tests.langchain.toolbox import AVATARS, CREATE, END, GET, LIST, SAY, USAGE


class TestCreate(IntegrationSuite, ToolsIntegrationTests):
    name = CREATE


class TestGet(IntegrationSuite, ToolsIntegrationTests):
    name = GET


class TestList(IntegrationSuite, ToolsIntegrationTests):
    name = LIST


class TestEnd(IntegrationSuite, ToolsIntegrationTests):
    name = END


class TestSay(IntegrationSuite, ToolsIntegrationTests):
    name = SAY


class TestAvatars(IntegrationSuite, ToolsIntegrationTests):
    name = AVATARS


class TestUsage(IntegrationSuite, ToolsIntegrationTests):
    name = USAGE
