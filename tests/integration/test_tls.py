"""Identities: authorities, hashes, names, client certificates, reload, resumption."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from pywebtransport import WebTransportClient
from pywebtransport.exceptions import (
    CertificateError,
    HandshakeError,
    WebTransportError,
)
from pywebtransport.session import WebTransportSession
from tests.support.certificates import Certificates, Pair
from tests.support.endpoints import ClientFactory, Served, Serving
from tests.support.names import add_hosts
from tests.support.ports import free_port
from tests.support.steps import round_trip, until


def certificate_of(session: WebTransportSession) -> bytes | None:
    """The peer's certificate, DER."""
    assert session.connection is not None
    return session.connection.peer_certificate


# -------------------------------------------------------------- the server's identity


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
async def test_authority_that_is_trusted(
    serving: Serving, client_config: ClientFactory, certs: Certificates, host: str
) -> None:
    async with (
        serving(host="localhost") as served,
        WebTransportClient(config=client_config()) as client,
    ):
        session = await client.connect(served.url(host=host))
        assert certificate_of(session) == certs.server.der
        assert certificate_of(served.server.sessions[0]) is None


async def test_self_signed_certificate_as_its_own_authority(
    serving: Serving, client_config: ClientFactory, certs: Certificates
) -> None:
    config = client_config(ca_certs=certs.self_signed.certfile)
    async with (
        serving(**certs.self_signed.files) as served,
        WebTransportClient(config=config) as client,
    ):
        session = await client.connect(served.url())
        await round_trip(session, served.server.sessions[0], b"trusted")


async def test_nothing_is_checked_when_that_is_asked_for(
    serving: Serving, client_config: ClientFactory, certs: Certificates
) -> None:
    config = client_config(ca_certs=None, verify_mode=ssl.CERT_NONE)
    for pair in (certs.self_signed, certs.expired, certs.wrong_name):
        async with serving(**pair.files) as served, WebTransportClient(config=config) as client:
            session = await client.connect(served.url())
            assert certificate_of(session) == pair.der


async def test_certificate_by_hash(
    serving: Serving, client_config: ClientFactory, certs: Certificates
) -> None:
    pair = certs.self_signed
    forms = [
        [pair.hash],
        [bytes(32), pair.hash.hex()],
        [":".join(f"{byte:02X}" for byte in pair.hash)],
        [{"algorithm": "sha-256", "value": pair.hash}],
    ]
    async with serving(**pair.files) as served:
        for hashes in forms:
            config = client_config(ca_certs=None, server_certificate_hashes=hashes)
            async with WebTransportClient(config=config) as client:
                session = await client.connect(served.url())
                assert certificate_of(session) == pair.der


async def test_hash_of_a_certificate_of_another_name_is_enough(
    serving: Serving, client_config: ClientFactory, certs: Certificates
) -> None:
    """The W3C API checks the hash instead of the chain and the name."""
    config = client_config(server_certificate_hashes=[certs.wrong_name.hash])
    async with (
        serving(**certs.wrong_name.files) as served,
        WebTransportClient(config=config) as client,
    ):
        await client.connect(served.url())


# -------------------------------------------------------------- the client's identity


@pytest.mark.parametrize("mode", [ssl.CERT_OPTIONAL, ssl.CERT_REQUIRED])
async def test_client_certificate_is_seen_by_the_server(
    serving: Serving, client_config: ClientFactory, certs: Certificates, mode: ssl.VerifyMode
) -> None:
    server = {"verify_mode": mode, "ca_certs": certs.authority.certfile}
    config = client_config(**certs.client.files)
    async with serving(**server) as served, WebTransportClient(config=config) as client:
        session = await client.connect(served.url())
        der = certificate_of(served.server.sessions[0])
        assert der == certs.client.der
        assert x509.load_der_x509_certificate(der).subject.rfc4514_string() == "CN=client"
        await round_trip(session, served.server.sessions[0], b"known")


async def test_optional_client_certificate_may_be_missing(
    serving: Serving, client_config: ClientFactory, certs: Certificates
) -> None:
    server = {"verify_mode": ssl.CERT_OPTIONAL, "ca_certs": certs.authority.certfile}
    async with serving(**server) as served, WebTransportClient(config=client_config()) as client:
        await client.connect(served.url())
        assert certificate_of(served.server.sessions[0]) is None


@pytest.mark.parametrize("mode", [ssl.CERT_OPTIONAL, ssl.CERT_REQUIRED])
async def test_client_certificate_of_an_unknown_authority_is_refused(
    serving: Serving, client_config: ClientFactory, certs: Certificates, mode: ssl.VerifyMode
) -> None:
    server = {"verify_mode": mode, "ca_certs": certs.authority.certfile}
    config = client_config(**certs.stranger.files)
    async with serving(**server) as served, WebTransportClient(config=config) as client:
        with pytest.raises(WebTransportError) as caught:
            await client.connect(served.url())
        assert isinstance(caught.value, HandshakeError | CertificateError)
        assert caught.value.remote
        await until(lambda: not served.server.connections)


# --------------------------------------------------------------- certificates by name


async def test_certificate_is_chosen_by_server_name(
    serving: Serving,
    client_config: ClientFactory,
    certs: Certificates,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ("alpha.test", "one.beta.test", "two.one.beta.test")
    add_hosts(monkeypatch, dict.fromkeys(names, "127.0.0.1"))
    sni = {
        "alpha.test": (certs.alpha.certfile, certs.alpha.keyfile),
        "*.beta.test": (certs.beta.certfile, certs.beta.keyfile),
    }
    expected = {"alpha.test": certs.alpha, "one.beta.test": certs.beta, "localhost": certs.server}
    async with (
        serving(sni_certificates=sni) as served,
        WebTransportClient(config=client_config()) as client,
    ):
        for name, pair in expected.items():
            session = await client.connect(served.url(host=name))
            assert certificate_of(session) == pair.der
            assert session.authority == f"{name}:{served.port}"
        # A wildcard stands for one label; the default certificate does not fit the name.
        with pytest.raises(CertificateError, match="name"):
            await client.connect(served.url(host="two.one.beta.test"))


# ------------------------------------------------------------------------- reloading


async def connected_certificate(served: Served, client: WebTransportClient) -> bytes | None:
    """What the server shows to a new connection."""
    async with client.connect(served.url()) as session:
        return certificate_of(session)


async def test_certificates_are_reloaded_without_restart(
    serving: Serving, client_config: ClientFactory, certs: Certificates, tmp_path: Path
) -> None:
    live = Pair(str(tmp_path / "live.crt"), str(tmp_path / "live.key"))

    def install(pair: Pair) -> None:
        shutil.copy(pair.certfile, live.certfile)
        shutil.copy(pair.keyfile, live.keyfile)

    install(certs.server)
    async with (
        serving(**live.files) as served,
        WebTransportClient(config=client_config()) as client,
    ):
        old = await client.connect(served.url())
        install(certs.replacement)
        assert await connected_certificate(served, client) == certs.server.der
        served.server.reload_certificates()
        async with WebTransportClient(config=client_config()) as fresh:
            assert await connected_certificate(served, fresh) == certs.replacement.der
        # A pair that does not fit together changes nothing.
        shutil.copy(certs.server.certfile, live.certfile)
        with pytest.raises(CertificateError):
            served.server.reload_certificates()
        async with WebTransportClient(config=client_config()) as fresh:
            assert await connected_certificate(served, fresh) == certs.replacement.der
        # Other paths may be given.
        served.server.reload_certificates(**certs.server.files)
        async with WebTransportClient(config=client_config()) as fresh:
            assert await connected_certificate(served, fresh) == certs.server.der
        far = next(s for s in served.server.sessions if s.is_ready)
        await round_trip(old, far, b"the old connection goes on")


async def test_certificate_hash_is_that_of_the_certificate_in_use(
    serving: Serving, certs: Certificates, tmp_path: Path
) -> None:
    live = Pair(str(tmp_path / "live.crt"), str(tmp_path / "live.key"))

    def install(pair: Pair) -> None:
        shutil.copy(pair.certfile, live.certfile)
        shutil.copy(pair.keyfile, live.keyfile)

    def remove(path: str) -> None:
        Path(path).unlink()

    install(certs.server)
    async with serving(**live.files) as served:
        server = served.server
        assert server.certificate_hash == certs.server.hash
        install(certs.replacement)
        assert server.certificate_hash == certs.server.hash  # it was not loaded
        server.reload_certificates()
        assert server.certificate_hash == certs.replacement.hash
        remove(live.certfile)
        assert server.certificate_hash == certs.replacement.hash
        with pytest.raises(CertificateError):
            server.reload_certificates()
        assert server.certificate_hash == certs.replacement.hash
        server.reload_certificates(**certs.server.files)
        assert server.certificate_hash == certs.server.hash


async def test_bad_files_do_not_let_a_server_start(
    serving: Serving, certs: Certificates, tmp_path: Path
) -> None:
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("this is no certificate")
    for fields in (
        {"certfile": str(garbage)},
        {"keyfile": str(garbage)},
        {"keyfile": certs.replacement.keyfile},
        {"sni_certificates": {"alpha.test": (certs.alpha.certfile, certs.beta.keyfile)}},
    ):
        with pytest.raises(CertificateError):
            await serving(**fields).__aenter__()


# ------------------------------------------------------------------------ resumption


async def test_second_connection_resumes_the_first(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served, WebTransportClient(config=client_config()) as client:
        resumed = []
        for _ in range(3):
            session = await client.connect(served.url())
            assert session.connection is not None
            quic = session.connection._quic
            assert quic is not None
            resumed.append(quic.resumed)
            far = next(s for s in served.server.sessions if s.is_ready)
            await round_trip(session, far, b"works")
            await until(lambda: client._credentials)
            await session.close()
            await until(lambda: not served.server.sessions)
        assert resumed == [False, True, True]


async def test_connections_at_a_time_all_resume(
    serving: Serving, client_config: ClientFactory
) -> None:
    """There are fewer tickets than connections: the last one is used again."""
    async with (
        serving() as served,
        WebTransportClient(config=client_config()) as client,
    ):
        async with client.connect(served.url()) as first:
            assert first.connection is not None
            assert not first.connection.is_resumed
            connection = first.connection
            await until(lambda: connection.session_ticket)
        sessions = await asyncio.gather(*(client.connect(served.url()) for _ in range(12)))
        for session in sessions:
            assert session.connection is not None
            assert session.connection.is_resumed


@pytest.mark.loops("virtual")  # nobody is answered before all have asked
async def test_a_token_spares_one_connection_the_retry(
    serving: Serving, client_config: ClientFactory
) -> None:
    """Each connection brings one token, and each token is good for one connection."""
    async with (
        serving(retry="always") as served,
        WebTransportClient(config=client_config()) as client,
    ):

        async def retries() -> int:
            stats = await served.server.get_server_stats()
            return int(stats["engine"]["retries_sent"])

        async def connect(count: int) -> None:
            """At the same time, until each connection has brought its token."""
            sessions = await asyncio.gather(*(client.connect(served.url()) for _ in range(count)))
            for session in sessions:
                connection = session.connection
                assert connection is not None
                await until(lambda connection=connection: connection.address_token)

        await connect(1)
        assert await retries() == 1
        await connect(3)
        assert await retries() == 1 + 2
        await connect(3)
        assert await retries() == 1 + 2


async def ready_and_used(client: WebTransportClient, url: str) -> None:
    """A server's refusal of a certificate may come after the client's handshake."""
    session = await client.connect(url)
    stream = await session.create_bidirectional_stream()
    await stream.write_all(b"let in?")
    await stream.read(1)


async def test_a_ticket_is_no_way_around_client_certificates(
    serving: Serving, client_config: ClientFactory, certs: Certificates
) -> None:
    """A server that asks for no certificates and one that demands them may share a secret."""
    fields: dict[str, object] = {"shared_secret": bytes(range(32)), "bind_port": free_port()}
    async with WebTransportClient(config=client_config()) as client:
        async with serving(**fields) as served:
            session = await client.connect(served.url())
            connection = session.connection
            assert connection is not None
            await until(lambda: connection.session_ticket)
        fields |= {"verify_mode": "CERT_REQUIRED", "ca_certs": certs.authority.certfile}
        async with serving(**fields) as served:
            with pytest.raises(WebTransportError):
                await ready_and_used(client, served.url())
            assert not served.server.sessions


async def test_resumption_survives_a_reload_or_falls_back(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served, WebTransportClient(config=client_config()) as client:
        for _ in range(3):
            async with client.connect(served.url()) as session:
                await until(lambda: client._credentials)
                assert session.is_ready
            served.server.reload_certificates()
