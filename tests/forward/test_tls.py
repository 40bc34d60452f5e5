"""DNS over TLS: whom we trust, what we show, and servers that are not what they should be."""

import asyncio
import shutil
import ssl
import subprocess
from contextlib import nullcontext
from pathlib import Path

import pytest

from resolver.errors import ConfigError, TlsFailed, UpstreamTimeout
from resolver.forward.connect import HANDSHAKE_S
from resolver.forward.options import TlsOptions
from resolver.forward.tls import client_context
from tests.forward.streams import Line, pool_to, server
from tests.support import scripted, unbound
from tests.support.addresses import free_port, loopback
from tests.support.client import parse, records

SERVER_NAME = "dns.example"
RECORD = "web.example. 30 IN A 192.0.2.7"


class Certificates:
    """A CA, and certificates that it signed: `NAME.pem` with `NAME.key`. Made by Debian's openssl command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._openssl(
            "req", "-x509", *_NEW_KEY, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=ca"
        )

    def sign(self, name: str, alternatives: str) -> None:
        """Make a certificate for these names: `DNS:dns.example,IP:127.0.0.1`."""
        (self.folder / f"{name}.ext").write_text(f"subjectAltName={alternatives}\n")
        self._openssl("req", *_NEW_KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        self._openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.pem"),
        )

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def server(self, name: str = "server", *, asks_client: bool = False) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.path("ca.pem"))
        context.load_cert_chain(self.path(f"{name}.pem"), self.path(f"{name}.key"))
        if asks_client:
            context.verify_mode = ssl.CERT_REQUIRED
            # With TLS 1.3 a client learns only after its handshake that its certificate was refused.
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        return context

    def client(self) -> ssl.SSLContext:
        return client_context(TlsOptions(ca_path=self.path("ca.pem")))

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True, timeout=20)


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    if shutil.which("openssl") is None:
        pytest.fail("openssl is not installed; `make test` as root installs it, or: apt-get install openssl")
    certificates = Certificates(tmp_path_factory.mktemp("certificates"))
    certificates.sign("server", f"DNS:{SERVER_NAME}")
    certificates.sign("client", "DNS:client.example")
    return certificates


async def test_questions_and_answers(made: Certificates) -> None:
    async with scripted.running(tls=made.server()) as upstream:
        upstream.answer("web.example.", "A", RECORD)
        async with pool_to(upstream.host, upstream.port, tls=made.client(), server_name=SERVER_NAME) as pool:
            assert records(parse(await pool.ask("web.example."))) == [RECORD]
            await asyncio.gather(*(pool.ask(f"host{number}.example.") for number in range(100)))
            assert pool.counts.misses <= upstream.connections <= 8


async def test_without_a_server_name_the_address_must_be_in_the_certificate(made: Certificates) -> None:
    made.sign("address", "IP:127.0.0.1")
    for name, error in (
        ("server", pytest.raises(TlsFailed, match="IP address mismatch")),
        ("address", nullcontext()),
    ):
        async with (
            scripted.running(host="127.0.0.1", tls=made.server(name)) as upstream,
            pool_to("127.0.0.1", upstream.port, tls=made.client()) as pool,
        ):
            with error:
                await pool.ask("web.example.")


async def test_a_real_server(made: Certificates) -> None:
    host = loopback()
    port = free_port(host)
    lines = (
        f"interface: {host}@{port}",
        f"tls-port: {port}",
        f'tls-service-key: "{made.path("server.key")}"',
        f'tls-service-pem: "{made.path("server.pem")}"',
    )
    with unbound.running(server_lines=lines) as _:
        async with pool_to(host, port, tls=made.client(), server_name=SERVER_NAME) as pool:
            answers = await asyncio.gather(*(pool.ask(f"host{number}.example.com.") for number in range(100)))
            assert [len(records(parse(answer))) for answer in answers] == [1] * 100


#    trusts our CA, server name expected, what the error says
DISTRUST = [
    pytest.param(True, "other.example", "Hostname mismatch", id="another name"),
    pytest.param(False, SERVER_NAME, "self-signed certificate in certificate chain", id="system CAs only"),
]


@pytest.mark.parametrize(("trusting", "name", "reason"), DISTRUST)
async def test_certificates_are_verified(made: Certificates, trusting: bool, name: str, reason: str) -> None:
    context = made.client() if trusting else client_context(TlsOptions())
    async with scripted.running(tls=made.server()) as upstream:
        async with pool_to(upstream.host, upstream.port, tls=context, server_name=name) as pool:
            with pytest.raises(TlsFailed, match=reason):
                await pool.ask("web.example.")
        assert upstream.count() == 0


async def test_our_own_certificate_is_shown_when_asked_for(made: Certificates) -> None:
    shown = TlsOptions(made.path("client.pem"), made.path("client.key"), made.path("ca.pem"), SERVER_NAME)
    async with scripted.running(tls=made.server(asks_client=True)) as upstream:
        async with pool_to(
            upstream.host, upstream.port, tls=client_context(shown), server_name=SERVER_NAME
        ) as pool:
            await pool.ask("web.example.")
        async with pool_to(upstream.host, upstream.port, tls=made.client(), server_name=SERVER_NAME) as pool:
            with pytest.raises(TlsFailed):
                await pool.ask("web.example.")


async def test_a_server_without_tls(made: Certificates) -> None:
    async def plain(line: Line) -> None:
        await line.reader.read(1_000)
        line.writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with (
        server(plain) as upstream,
        pool_to(upstream.host, upstream.port, tls=made.client(), server_name=SERVER_NAME) as pool,
    ):
        with pytest.raises(TlsFailed):
            await pool.ask("web.example.")


async def test_a_server_that_closes_during_the_handshake(made: Certificates) -> None:
    async def close(line: Line) -> None:
        await line.reader.read(1_000)

    async with (
        server(close) as upstream,
        pool_to(upstream.host, upstream.port, tls=made.client(), server_name=SERVER_NAME) as pool,
    ):
        with pytest.raises(TlsFailed):
            await pool.ask("web.example.")


async def test_a_handshake_that_stalls_is_given_up_in_time(made: Certificates) -> None:
    async def silent(line: Line) -> None:
        while await line.reader.read(1_000):
            pass

    async with (
        server(silent) as upstream,
        pool_to(upstream.host, upstream.port, tls=made.client(), server_name=SERVER_NAME) as pool,
    ):
        asking = pool.start("web.example.", timeout_s=5.0)
        await pool.until(lambda: upstream.lines)
        pool.clock.jump(HANDSHAKE_S)
        with pytest.raises(UpstreamTimeout, match="no TLS handshake"):
            await asyncio.wait_for(asking, 1)


async def test_giving_up_and_closing_during_the_handshake(made: Certificates) -> None:
    async def silent(line: Line) -> None:
        while await line.reader.read(1_000):
            pass

    async with server(silent) as upstream:
        async with pool_to(upstream.host, upstream.port, tls=made.client(), server_name=SERVER_NAME) as pool:
            asking = pool.start("web.example.")
            await pool.until(lambda: upstream.lines)
            asking.cancel()
            await asyncio.wait([asking])
        await pool.until(lambda: upstream.lines[0].reader.at_eof())  # noqa: PLW0108 it is looked at again and again


# Files

#    certificate, key, CA, who is to blame
FILES = [
    pytest.param("", "", "missing.pem", "missing.pem: No such file", id="no such CA"),
    pytest.param("", "", "client.key", "client.key: no certificate or crl found", id="a CA that is a key"),
    pytest.param("", "", "empty", "empty: no certificate or crl found", id="an empty CA"),
    pytest.param("missing.pem", "client.key", "ca.pem", "No such file", id="no such certificate"),
    pytest.param("client.pem", "missing.key", "ca.pem", "No such file", id="no such key"),
    pytest.param("client.pem", "server.key", "ca.pem", "key values mismatch", id="the key of another"),
    pytest.param(
        "ca.key", "client.key", "ca.pem", "a PEM certificate and its key", id="a certificate that is a key"
    ),
    pytest.param("client.pem", "locked.key", "ca.pem", "a PEM certificate and its key", id="a key with a password"),
]


@pytest.mark.parametrize(("certificate", "key", "ca", "problem"), FILES)
def test_files_that_cannot_be_used(made: Certificates, certificate: str, key: str, ca: str, problem: str) -> None:
    (made.folder / "empty").write_text("")
    made._openssl("ec", "-in", "client.key", "-aes128", "-passout", "pass:secret", "-out", "locked.key")
    paths = [made.path(name) if name else "" for name in (certificate, key, ca)]
    with pytest.raises(ConfigError) as raised:
        client_context(TlsOptions(*paths))
    assert problem in str(raised.value)
    assert "\n" not in str(raised.value)


def test_old_versions_are_not_spoken(made: Certificates) -> None:
    assert made.client().minimum_version >= ssl.TLSVersion.TLSv1_2
