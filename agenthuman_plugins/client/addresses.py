"""Which addresses are this machine's, and which may be reached without TLS.

What is meant for this machine must not pass a proxy of the environment, which would read the key. And a key or a
token never crosses the internet in clear: without TLS only this machine, and hosts of the user's own, are reached.
"""

import ipaddress
import logging

from agenthuman_plugins.client.errors import ConfigurationError

_log = logging.getLogger("agenthuman_plugins.client")

_PUBLIC = "agenthuman.com"  # the service and everything below its name speak TLS

_warned: set[str] = set()  # hosts that were warned about; once each is enough


def is_this_machine(host: str | None) -> bool:
    """Whether a host name or address can only mean this machine: loopback, `localhost` and what ends in it."""
    name = (host or "").rstrip(".").lower().strip("[]")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return address.is_loopback or address.is_unspecified or (mapped is not None and mapped.is_loopback)


def check_plain(host: str | None, *, name: str, secure: str) -> None:
    """Judge an address that is to be reached without TLS; warn once about a host other than this machine.

    Args:
        host: Host name or address.
        name: What the address was given as, for the text.
        secure: Form of the address that is asked for instead, such as `https://…`.

    Raises:
        ConfigurationError: It is the public service.
    """
    if is_this_machine(host):
        return
    known = (host or "").rstrip(".").lower()
    if known == _PUBLIC or known.endswith(f".{_PUBLIC}"):
        raise ConfigurationError(
            f"{name} must be {secure} for {known}: without TLS the key would be sent unencrypted."
        )
    if known not in _warned:
        _warned.add(known)
        _log.warning(
            "%s reaches %s without TLS, so keys and tokens are sent unencrypted: right for an emulator in another "
            "container, wrong for anything on the internet.",
            name,
            known,
        )
