"""What was surely not sent is no lost session: three connections at most, one error, nothing looked up."""

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agenthuman_plugins.client import APIConnectionError
from tests.client.conftest import ROOM
from tests.client.wires import KINDS, Wire, empty, reply, use_own, wire

BILLED: dict[str, Callable[..., Any]] = {
    "create": lambda c: c.sessions.create(room=ROOM),
    "start-by-link": lambda c: c.links.start_session("lnk_1"),
}
FAR = "https://service.example.com"  # nobody looks its name up: a proxy is asked to connect


Surroundings = Callable[[pytest.MonkeyPatch, Path], Any]


@contextmanager
def plain_spoken_to_by_tls(_: pytest.MonkeyPatch, __: Path) -> Iterator[tuple[Wire, str]]:
    with wire(empty) as server:
        yield server, f"https://{server.address}"


@contextmanager
def self_signed(_: pytest.MonkeyPatch, folder: Path) -> Iterator[tuple[Wire, str]]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1))
    pem = serialization.Encoding.PEM
    (folder / "self-signed.pem").write_bytes(
        builder.sign(key, hashes.SHA256()).public_bytes(pem)
        + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "self-signed.pem")
    with wire(empty, tls=context) as server:
        yield server, f"https://localhost:{server.port}"


@contextmanager
def refusing_proxy(monkeypatch: pytest.MonkeyPatch, _: Path) -> Iterator[tuple[Wire, str]]:
    with wire(lambda *_: reply(b"no", status=403)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        yield proxy, FAR


@contextmanager
def proxy_that_hangs_up(monkeypatch: pytest.MonkeyPatch, _: Path) -> Iterator[tuple[Wire, str]]:
    with wire(lambda *_: b"") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        yield proxy, FAR


@contextmanager
def garbled_proxy(monkeypatch: pytest.MonkeyPatch, _: Path) -> Iterator[tuple[Wire, str]]:
    with wire(lambda *_: b"SSH-2.0-server\r\n\r\n") as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        yield proxy, FAR


@contextmanager
def dead_proxy(monkeypatch: pytest.MonkeyPatch, _: Path) -> Iterator[tuple[Wire, str]]:
    with wire(empty) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
    yield proxy, FAR


SURROUNDINGS = [
    plain_spoken_to_by_tls,
    self_signed,
    refusing_proxy,
    proxy_that_hangs_up,
    garbled_proxy,
    dead_proxy,
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("call", BILLED)
@pytest.mark.parametrize("surroundings", SURROUNDINGS, ids=lambda each: each.__name__.replace("_", "-"))
def test_call_that_never_left_is_a_connection_error(
    surroundings: Surroundings, call: str, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A connection, TLS or a proxy that fails is tried three times at most; no session can exist."""
    with surroundings(monkeypatch, tmp_path) as (peer, address), pytest.raises(APIConnectionError):
        use_own(kind, BILLED[call], base_url=address)
    assert peer.connections <= 3
    assert all(line.startswith("CONNECT ") for line in peer.log)
