"""The web client connects only to allowed addresses, and to the very address that has been checked."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import socket
import ssl
from collections.abc import Iterator
from email.utils import format_datetime
from io import BytesIO
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pipeline.config import compose_settings
from pipeline.settings import UrlsSettings, WebSettings
from pipeline.sources.addresses import is_public
from pipeline.sources.web import FetchError, WebClient, _retry_after
from tests.helpers.servers import Handler, Server, serving

NOT_PUBLIC = [
    "127.0.0.1", "127.255.0.9", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1",
    "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "::1", "::", "fe80::1", "fc00::1", "ff02::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
]  # fmt: skip


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2606:2800:220:1::1", "::ffff:8.8.8.8"])
def test_public_addresses(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


def web_settings(*overrides: str) -> WebSettings:
    data = compose_settings(["data=urls", "data.file=list.txt", *overrides]).data
    assert isinstance(data, UrlsSettings)
    return data.web


def fetch(url: str, *overrides: str) -> bytes:
    async def once() -> bytes:
        buffer = BytesIO()
        async with WebClient(web_settings("data.web.attempts=1", "data.web.timeout=2", *overrides)) as client:
            await client.fetch(url, buffer)
        return buffer.getvalue()

    return asyncio.run(once())


def answer(server: Server, handler: Handler, path: str) -> None:
    handler.send(handler.headers["Host"].encode())


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(answer) as one:
        yield one


ALLOW = "data.web.allow_networks=[127.0.0.1/32]"


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:{port}/", "http://127.1:{port}/", "http://2130706433:{port}/", "http://0x7f.0.0.1:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/", "http://0.0.0.0:{port}/",
    ],
)  # fmt: skip
def test_every_spelling_of_loopback_is_refused(server: Server, url: str) -> None:
    with pytest.raises(FetchError, match=r"^refused: "):
        fetch(url.format(port=server.http.server_address[1]))
    assert not server.requests


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.org/a.jpg", "gopher://example.org/", "a.jpg", ""])
def test_only_http_and_https_are_requested(url: str) -> None:
    with pytest.raises(FetchError, match=r"^(refused: only http and https|not a valid HTTP response|not a valid URL)"):
        fetch(url)


def test_a_host_name_is_resolved_once(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name server gives one address first and another one later (DNS rebinding)."""
    port, looked_up = server.http.server_address[1], []

    def rebinding(host: str, *_: object, **__: object) -> list[object]:
        looked_up.append(host)
        address = "127.0.0.1" if len(looked_up) == 1 else "127.0.0.2"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    assert fetch(f"http://pictures.example:{port}/", ALLOW) == f"pictures.example:{port}".encode()
    assert looked_up == ["pictures.example"]


def test_addresses_that_are_not_allowed_are_skipped(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    port = server.http.server_address[1]
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in ("10.0.0.1", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    assert fetch(f"http://pictures.example:{port}/", ALLOW)
    with pytest.raises(FetchError, match=r"^refused: 10\.0\.0\.1 is not a public address \(data\.web\.allow_n"):
        fetch(f"http://pictures.example:{port}/")


def test_a_host_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(FetchError, match=r"^refused: the host does not exist$"):
        fetch("http://nowhere.example/a.jpg")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for pictures.example and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pictures.example")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("pictures.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path = tmp_path / "certificate.pem"
    path.write_bytes(signed.public_bytes(encoding) + key.private_bytes(encoding, form, serialization.NoEncryption()))
    return path


def test_certificates_are_checked_for_the_host_name_not_the_address(
    server: Server, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.http.socket = context.wrap_socket(server.http.socket, server_side=True)
    port = server.http.server_address[1]
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(FetchError, match=r"^invalid certificate$"):
        fetch(f"https://pictures.example:{port}/", ALLOW)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert fetch(f"https://pictures.example:{port}/", ALLOW) == f"pictures.example:{port}".encode()
    with pytest.raises(FetchError, match=r"^invalid certificate$"):
        fetch(f"https://other.example:{port}/", ALLOW)


def test_proxies_and_netrc_of_the_environment_are_not_used(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert fetch(server.url, ALLOW)


@pytest.mark.parametrize(("value", "low", "high"), [("3", 3, 3), ("0", 0, 0), (" 7 ", 7, 7), ("date", 58, 60)])
def test_retry_after_is_a_number_of_seconds_or_a_date(value: str, low: float, high: float) -> None:
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=60)
    header = format_datetime(soon, usegmt=True) if value == "date" else value
    assert low <= (_retry_after(header) or 0) <= high


@pytest.mark.parametrize("value", ["", "soon", "-5", "1e9999", "\x00"])
def test_an_invalid_retry_after_is_ignored(value: str) -> None:
    assert _retry_after(value) is None


def test_an_invalid_network_is_refused() -> None:
    from pipeline.errors import SettingsError

    with pytest.raises(SettingsError) as caught:
        web_settings("data.web.allow_networks=[localhost]")
    assert str(caught.value) == 'data.web.allow_networks.0 must be a network such as 10.0.0.0/8; got "localhost".'
