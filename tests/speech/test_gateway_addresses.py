"""Where the gateway link takes the token: over TLS, past proxies, after no redirect, to no plain address unasked."""

import ipaddress
import logging
import ssl
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from agenthuman_plugins.client import ConfigurationError, SpeechLinkError, addresses
from agenthuman_plugins.speech import GatewaySpeechLink, gateway
from tests.speech.conftest import TOKEN
from tests.speech.scripted_gateway import LIMIT_S, ScriptedGateway


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for this machine that nobody has signed, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(alternative, critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    path.write_bytes(
        certificate.public_bytes(Encoding.PEM)
        + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return path


def server_side_tls(certificate) -> ssl.SSLContext:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    return tls


@pytest.mark.parametrize("trusted", [True, False])
async def test_encrypted_connection(trusted, certificate, monkeypatch):
    """A gateway whose certificate is not trusted is not told the token, and stays so."""
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with ScriptedGateway().running(server_side_tls(certificate)) as server:
        link = GatewaySpeechLink("sess_1", TOKEN, url=server.url)
        if trusted:
            await link.connect(timeout_s=LIMIT_S)
            await link.aclose()
        else:
            with pytest.raises(SpeechLinkError, match="certificate") as caught:
                await link.connect(timeout_s=LIMIT_S)
            assert not caught.value.retryable
        assert bool(server.received) is trusted


async def test_token_stays_on_this_machine(scripted, monkeypatch):
    """A name of this machine that leads elsewhere, against the rules, is not told the token in clear."""
    monkeypatch.setattr(gateway, "is_this_machine", lambda host: host == "localhost")
    link = GatewaySpeechLink("sess_1", TOKEN, url=scripted.url.replace("127.0.0.1", "localhost"))
    with pytest.raises(SpeechLinkError, match="not on this machine"):
        await link.connect(timeout_s=LIMIT_S)
    assert scripted.received == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_is_not_followed(status, scripted):
    """The token is for the address that was given, and for no other that this one names."""
    async with ScriptedGateway().running() as elsewhere:

        def redirect(socket, request):
            response = socket.respond(HTTPStatus(status), "there")
            response.headers["Location"] = elsewhere.url
            return response

        scripted.on_request = redirect
        link = GatewaySpeechLink("sess_1", TOKEN, url=scripted.url)
        with pytest.raises(SpeechLinkError, match=f"HTTP {status}") as caught:
            await link.connect(timeout_s=LIMIT_S)
        assert not caught.value.retryable
        assert elsewhere.sockets == []


@pytest.mark.parametrize(
    "name", ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"]
)
@pytest.mark.parametrize("encrypted", [True, False])
async def test_proxy_does_not_see_this_machine(name, encrypted, certificate, monkeypatch):
    """What is meant for this machine goes past the environment's proxies, encrypted or not."""
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with ScriptedGateway().running(server_side_tls(certificate) if encrypted else None) as server:
        link = GatewaySpeechLink("sess_1", TOKEN, url=server.url)
        await link.connect(timeout_s=LIMIT_S)
        await link.aclose()


@pytest.mark.parametrize(
    "url",
    [
        "ws://wss.agenthuman.com",
        "ws://agenthuman.com:80",
        "ws://WSS.AgentHuman.com.",
        "http://127.0.0.1",
        "wss://",
        "wss://host:0",
        "wss://host:port",
        "wss://user:secret-4711@host",
        "wss://host#part",
        "ws://[::1",
        "try_again",
    ],
)
@pytest.mark.parametrize("source", ["argument", "environment"])
def test_unsafe_url(url, source, monkeypatch):
    """A wrong address is not repeated; the public service is reached by wss:// alone."""
    if source == "environment":
        monkeypatch.setenv("AGENTHUMAN_GATEWAY_URL", url)
    with pytest.raises(ConfigurationError, match="AGENTHUMAN_GATEWAY_URL") as caught:
        GatewaySpeechLink("sess_1", TOKEN, url=url if source == "argument" else None)
    assert "4711" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["wss://wss.agenthuman.com", "wss://h:1/p?q=1", "ws://localhost:1", "ws://127.8.9.1", "ws://[::1]:1"],
)
def test_safe_url(url):
    """Encrypted addresses, and every name of this machine."""
    assert GatewaySpeechLink("sess_1", TOKEN, url=url)._url == url


@pytest.mark.parametrize(
    "host", ["emulator", "10.0.0.1", "127.0.0.1.example.com", "localhost.example.com", "agenthuman.com.evil"]
)
def test_plain_connection_to_another_machine_is_warned_about_once(host, caplog, monkeypatch):
    """An emulator in another container can be reached; who does that on the internet hears of it."""
    monkeypatch.setattr(addresses, "_warned", set())
    for _ in range(2):
        assert GatewaySpeechLink("sess_1", TOKEN, url=f"ws://{host}:8000")._url == f"ws://{host}:8000"
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert host in warning.getMessage()
    assert TOKEN not in caplog.text


def test_default_url(monkeypatch):
    """Without an argument the environment is read, then the documented address is taken."""
    monkeypatch.setenv("AGENTHUMAN_GATEWAY_URL", "ws://localhost:1")
    assert GatewaySpeechLink("sess_1", TOKEN)._url == "ws://localhost:1"
    monkeypatch.setenv("AGENTHUMAN_GATEWAY_URL", " ")
    assert GatewaySpeechLink("sess_1", TOKEN)._url == "wss://wss.agenthuman.com"
