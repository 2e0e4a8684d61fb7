"""TLS: certificates are checked, and what is wrong with one is said in a sentence."""

import asyncio
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.network import Proxy
from support.redis_server import RedisServer
from support.serving import MODEL, producer, worker

from producer import Client
from producer.errors import QueueUnavailable
from producer.transport.connect import connect, redis_errors
from producer.transport.retry import OutageBudget

openssl = pytest.mark.skipif(
    subprocess.run(["which", "openssl"], capture_output=True, check=False).returncode != 0,
    reason="the openssl command makes the certificates",
)


# What RFC 5280 asks of them, and Python from 3.13 on.
OF_AN_AUTHORITY = (
    "basicConstraints=critical,CA:TRUE",
    "keyUsage=critical,keyCertSign,cRLSign",
    "subjectKeyIdentifier=hash",
)
OF_A_HOST = ("subjectKeyIdentifier=hash", "authorityKeyIdentifier=keyid")


class Certificates:
    """An authority, a certificate for `localhost` and one for a client, and a foreign authority.

    The authority `careless` does not say what its key is for.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._found("ca", *OF_AN_AUTHORITY)
        self._found("foreign", *OF_AN_AUTHORITY)
        self._found("careless", *(line for line in OF_AN_AUTHORITY if "keyUsage" not in line))
        self._sign("server", "ca", "subjectAltName=DNS:localhost")
        self._sign("client", "ca", "extendedKeyUsage=clientAuth")
        self._sign("of-careless", "careless", "subjectAltName=DNS:localhost")
        self._sign("expired", "ca", "subjectAltName=DNS:localhost", days=-1)

    def path(self, name: str) -> str:
        return str(self._directory / name)

    def _found(self, name: str, *extensions: str) -> None:
        """An authority that signs itself; a configuration without extensions, or the system's are added."""
        lines = (
            "[req]",
            "distinguished_name = name",
            "x509_extensions = own",
            "[name]",
            "[own]",
            *extensions,
        )
        (self._directory / "authority.cnf").write_text("\n".join(lines) + "\n")
        files = ("-config", "authority.cnf", "-keyout", f"{name}.key", "-out", f"{name}.crt")
        self._openssl("req", "-x509", "-subj", f"/CN={name}", *files)

    def _sign(self, name: str, authority: str, extension: str, *, days: int = 30) -> None:
        (self._directory / "extensions").write_text("\n".join((*OF_A_HOST, extension)) + "\n")
        request = ("-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        self._openssl("req", "-new", *request)
        signer = ("-CA", f"{authority}.crt", "-CAkey", f"{authority}.key", "-CAcreateserial")
        terms = ("-extfile", "extensions", "-days", str(days))
        self._openssl("x509", "-req", "-in", f"{name}.csr", *signer, *terms, "-out", f"{name}.crt")

    def _openssl(self, command: str, *arguments: str) -> None:
        new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes") if command == "req" else ()
        subprocess.run(
            ["openssl", command, *new, *arguments], cwd=self._directory, check=True, capture_output=True
        )


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def tls_server(
    plain: RedisServer, certificates: Certificates, *, name: str = "server", wants_ours: bool = False
) -> Proxy:
    """A TLS end before a server without: the one that the tests have has none."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates.path("ca.crt"))
    context.load_cert_chain(certificates.path(f"{name}.crt"), certificates.path(f"{name}.key"))
    if wants_ours:
        context.verify_mode = ssl.CERT_REQUIRED
    return Proxy(plain.port, tls=context)


@pytest.fixture(scope="module")
def plain(program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(program, tmp_path_factory.mktemp("plain")) as running:
        yield running


@pytest.fixture(scope="module")
def server(plain: RedisServer, certificates: Certificates) -> Iterator[Proxy]:
    """It wants no certificate of its clients."""
    with tls_server(plain, certificates) as running:
        yield running


def url_of(server: Proxy | RedisServer, host: str = "localhost", **options: str) -> str:
    return f"rediss://{host}:{server.port}?" + "&".join(f"{name}={value}" for name, value in options.items())


async def refusal(url: str) -> str:
    """The message of the error, which comes at once if waiting cannot cure it."""
    started_s = time.monotonic()
    async with connect(url, timeout_s=1.0, outage_budget=OutageBudget(0.5)) as redis:
        with pytest.raises(QueueUnavailable) as refused, redis_errors(url):
            await redis.ping()
    if "certificate is" in str(refused.value):
        assert time.monotonic() - started_s < 2
    return str(refused.value)


@openssl
async def test_jobs_flow_by_tls(server: Proxy, certificates: Certificates) -> None:
    """Producer, worker with its heartbeat, and the command."""
    url = url_of(server, ssl_ca_certs=certificates.path("ca.crt"))
    async with Client(url, model=MODEL) as client, worker(url):
        assert (await client.embed(["a text"], timeout_s=20)).ok
        for _ in range(100):  # it counts within a second of being ready
            if await client.num_workers() == 1:
                break
            await asyncio.sleep(0.02)
        assert await client.num_workers() == 1
        status, _, errors = await producer("status", redis_url=url)
        assert (status, errors) == (0, "")


@openssl
async def test_an_authority_that_is_not_ours_is_refused(server: Proxy, certificates: Certificates) -> None:
    """Whether a foreign one is trusted, or the system's; at once."""
    for options in ({"ssl_ca_certs": certificates.path("foreign.crt")}, {}):
        sentence = await refusal(url_of(server, **options))
        assert "certificate is not trusted" in sentence
        assert "ssl_ca_certs" in sentence


@openssl
async def test_an_authority_that_is_badly_made_is_told_as_that(
    plain: RedisServer, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python 3.13 wants it to say what its key is for; to name it with ssl_ca_certs would not help."""
    make = ssl.create_default_context

    def strict(*arguments: Any, **options: Any) -> ssl.SSLContext:
        context = make(*arguments, **options)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    with tls_server(plain, certificates, name="of-careless") as server:
        monkeypatch.setattr(ssl, "create_default_context", strict)
        sentence = await refusal(url_of(server, ssl_ca_certs=certificates.path("careless.crt")))
    assert "CA cert does not include key usage extension" in sentence
    assert "reissue that certificate" in sentence
    assert "ssl_ca_certs" not in sentence.partition("?")[2].partition(": ")[2]


@openssl
async def test_a_certificate_that_has_expired_is_told_as_that(
    plain: RedisServer, certificates: Certificates
) -> None:
    """Another authority would not help either."""
    with tls_server(plain, certificates, name="expired") as server:
        sentence = await refusal(url_of(server, ssl_ca_certs=certificates.path("ca.crt")))
    assert "certificate has expired or is not valid yet" in sentence
    assert "renew it" in sentence


@openssl
async def test_a_certificate_of_another_host_is_refused(server: Proxy, certificates: Certificates) -> None:
    """Unless the check is left out by name."""
    trusted = certificates.path("ca.crt")
    sentence = await refusal(url_of(server, "127.0.0.1", ssl_ca_certs=trusted))
    assert "certificate is for another host" in sentence
    url = url_of(server, "127.0.0.1", ssl_ca_certs=trusted, ssl_check_hostname="false")
    async with connect(url) as redis:
        assert await redis.ping()
    async with connect(url_of(server, ssl_cert_reqs="none")) as redis:
        assert await redis.ping()


@openssl
async def test_a_server_may_want_a_certificate_of_ours(
    plain: RedisServer, certificates: Certificates
) -> None:
    """Without one it is said which options name it."""
    trusted = certificates.path("ca.crt")
    ours = {"ssl_certfile": certificates.path("client.crt"), "ssl_keyfile": certificates.path("client.key")}
    with tls_server(plain, certificates, wants_ours=True) as strict:
        assert "ssl_certfile" in await refusal(url_of(strict, ssl_ca_certs=trusted))
        async with connect(url_of(strict, ssl_ca_certs=trusted, **ours)) as redis:
            assert await redis.ping()


async def test_a_server_without_tls_is_told_apart(plain: RedisServer) -> None:
    """A plain server behind rediss takes our greeting for the beginning of a command and waits."""
    assert "if it does not speak TLS" in await refusal(url_of(plain))
