"""The public names: what users may rely on, and no more."""

import agenthuman_plugins
from agenthuman_plugins import client, langchain


def test_top_level_names() -> None:
    """The package offers the clients, the rooms, the base error and its version."""
    assert agenthuman_plugins.__all__ == [
        "AgentHuman",
        "AgentHumanError",
        "AsyncAgentHuman",
        "DailyRoom",
        "LiveKitRoom",
        "__version__",
    ]
    for name in agenthuman_plugins.__all__:
        assert getattr(agenthuman_plugins, name) is not None
        assert name in dir(agenthuman_plugins)
    assert not hasattr(agenthuman_plugins, "Agenthuman")


def test_every_error_is_public() -> None:
    """Whatever the client raises can be caught by a name of `agenthuman_plugins.client`."""
    kinds = {name: item for name, item in vars(client.errors).items() if isinstance(item, type)}
    errors = {name for name, item in kinds.items() if issubclass(item, client.AgentHumanError)}
    assert errors <= set(client.__all__)


def test_every_listed_name_exists() -> None:
    """`__all__` lists only what is there."""
    for module in (client, langchain):
        for name in module.__all__:
            assert getattr(module, name) is not None, name
