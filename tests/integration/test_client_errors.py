"""What goes wrong for a client: each a typed error that names the value and what to do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aioquic.asyncio import QuicConnectionProtocol, serve
from aioquic.h3.connection import H3Connection
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent

from pywebtransport import ClientConfig, ServerConfig, WebTransportClient
from pywebtransport import exceptions as errors
from pywebtransport.connection import WebTransportConnection
from pywebtransport.session import WebTransportSession
from tests.support.certificates import Certificates
from tests.support.endpoints import ClientFactory, PairOfSessions, ServerFactory, Serving
from tests.support.ports import free_port
from tests.support.steps import once_set, round_trip, take, until


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A UDP port where packets are taken and never answered."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    """A UDP port where nobody listens."""
    return free_port()


# -------------------------------------------------------------------------- URLs


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("http://127.0.0.1:1/", "https"),
        ("wss://127.0.0.1:1/", "https"),
        ("127.0.0.1:4433", "https"),
        ("", "https://host"),
        ("https://", "host is missing"),
        ("https:///path", "host is missing"),
        ("https://host:0/", "port is '0'; expected 1 to 65535"),
        ("https://host:65536/", "1 to 65535"),
        ("https://host:abc/", "'abc'"),
        ("https://user@host/", "user names"),
        ("https://host/#fragment", "fragment"),
        ("https://ho st/", "spaces"),
        ("https://300.1.1.1/", "IPv4"),
        ("https://[::1/", "IPv6"),
        ("https://-host-/", "host name"),
    ],
)
async def test_wrong_url(client_config: ClientFactory, url: str, complaint: str) -> None:
    async with WebTransportClient(config=client_config()) as client:
        with pytest.raises(errors.ConfigurationError) as caught:
            await client.connect(url)
    message = str(caught.value)
    assert repr(url) in message
    assert complaint.lower() in message.lower()
    assert caught.value.config_key == "url"
    assert caught.value.config_value == url


# ---------------------------------------------------------------- reaching the server


async def test_name_that_does_not_resolve(client_config: ClientFactory) -> None:
    async with WebTransportClient(config=client_config()) as client:
        with pytest.raises(errors.UnreachableError) as caught:
            await client.connect("https://nonexistent.invalid:4433/path")
        assert "'nonexistent.invalid'" in str(caught.value)
        assert "check the name" in str(caught.value)
        assert caught.value.details["host"] == "nonexistent.invalid"
        assert client.stats["connections"]["failed"] == 1
        assert client.stats["connections"]["success_rate"] == 0


async def test_refused_port(client_config: ClientFactory, closed_port: int) -> None:
    async with WebTransportClient(config=client_config()) as client:
        with pytest.raises(errors.UnreachableError) as caught:
            await client.connect(f"https://127.0.0.1:{closed_port}/")
    message = str(caught.value)
    assert f"127.0.0.1:{closed_port}" in message
    assert "refused" in message
    assert "check host and port" in message
    assert isinstance(caught.value, ConnectionError)
    assert errors.is_retriable_error(exception=caught.value)


async def test_refused_port_of_localhost_tells_all_attempts(
    client_config: ClientFactory, closed_port: int
) -> None:
    async with WebTransportClient(config=client_config()) as client:
        with pytest.raises(errors.UnreachableError) as caught:
            await client.connect(f"https://localhost:{closed_port}/")
    assert f"localhost:{closed_port}" in str(caught.value)
    attempts = caught.value.details.get("attempts")
    assert attempts is None or len(attempts) >= 2


async def test_server_that_never_answers(client_config: ClientFactory, silent_port: int) -> None:
    url = f"https://127.0.0.1:{silent_port}/"
    async with WebTransportClient(config=client_config()) as client:
        with pytest.raises(errors.TimeoutError) as caught:
            await client.connect(url, timeout=0.2)
    message = str(caught.value)
    assert url in message
    assert "0.2 s" in message
    assert "UDP is not blocked" in message
    assert caught.value.timeout_duration == 0.2
    assert caught.value.operation == "handshake"
    assert isinstance(caught.value, TimeoutError)


async def test_connect_timeout_of_the_configuration(
    client_config: ClientFactory, silent_port: int
) -> None:
    config = client_config(connect_timeout=0.2)
    async with WebTransportClient(config=config) as client:
        with pytest.raises(errors.TimeoutError, match=r"0\.2 s|in time"):
            await client.connect(f"https://127.0.0.1:{silent_port}/")


@pytest.mark.parametrize("seconds", [0, -1])
async def test_timeout_must_be_positive(client_config: ClientFactory, seconds: float) -> None:
    async with WebTransportClient(config=client_config()) as client:
        with pytest.raises(errors.ClientError, match=f"got {seconds}"):
            await client.connect("https://127.0.0.1:1/", timeout=seconds)


async def test_server_that_does_not_answer_the_request(
    serving: Serving, client_config: ClientFactory
) -> None:
    leave = asyncio.Event()

    async with serving() as served, WebTransportClient(config=client_config()) as client:
        served.app.add_middleware(once_set(leave))
        with pytest.raises(errors.TimeoutError) as caught:
            await client.connect(served.url("/slow"), timeout=0.3)
        assert "did not accept or refuse" in str(caught.value)
        assert caught.value.operation == "session"
        leave.set()
        assert client.connections == ()


# ------------------------------------------------------------------------------- TLS


async def connect_error(
    serving: Serving,
    config: ClientConfig,
    server: dict[str, object],
    host: str | None = None,
) -> Exception:
    """The error of a connection that must fail."""
    async with serving(**server) as served, WebTransportClient(config=config) as client:
        with pytest.raises(errors.WebTransportError) as caught:
            await client.connect(served.url(host=host))
        assert client.connections == ()
        return caught.value


async def test_certificate_of_an_unknown_authority(
    serving: Serving, client_config: ClientFactory, certs: Certificates
) -> None:
    error = await connect_error(
        serving, client_config(ca_certs=certs.other.certfile), certs.server.files
    )
    assert type(error) is errors.CertificateError
    assert "127.0.0.1" in str(error)
    assert "trust" in str(error) or "issuer" in str(error) or "authority" in str(error)
    assert error.certificate_error
    assert errors.is_fatal_error(exception=error)


async def test_system_roots_do_not_know_a_self_signed_certificate(
    serving: Serving, client_config: ClientFactory, certs: Certificates
) -> None:
    error = await connect_error(serving, client_config(ca_certs=None), certs.self_signed.files)
    assert type(error) is errors.CertificateError


async def test_expired_certificate(
    serving: Serving, client_config: ClientFactory, certs: Certificates
) -> None:
    error = await connect_error(serving, client_config(), certs.expired.files)
    assert type(error) is errors.CertificateError
    assert "expired" in str(error)


async def test_certificate_of_another_name(
    serving: Serving, client_config: ClientFactory, certs: Certificates
) -> None:
    error = await connect_error(serving, client_config(), certs.wrong_name.files)
    assert type(error) is errors.CertificateError
    assert "name" in str(error)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
@pytest.mark.parametrize("alternatives", [(), ("somewhere-else.test",)], ids=["none", "others"])
async def test_common_names_are_no_names(
    serving: Serving,
    client_config: ClientFactory,
    certs: Certificates,
    host: str,
    alternatives: tuple[str, ...],
) -> None:
    """RFC 9525: whatever the subject says, only a subjectAltName is a name. A hash needs none."""
    file = f"{host}-{len(alternatives)}"
    pair = certs.authority.leaf(file, *alternatives, common_name=host)
    async with (
        serving(**pair.files) as served,
        WebTransportClient(config=client_config()) as client,
    ):
        with pytest.raises(errors.CertificateError) as caught:
            await client.connect(served.url(host=host))
        assert "name" in str(caught.value)
        pinned = client_config(server_certificate_hashes=[pair.hash])
        async with WebTransportClient(config=pinned) as other:
            await other.connect(served.url(host=host))


async def test_certificate_hash_that_does_not_match(
    serving: Serving, client_config: ClientFactory, certs: Certificates
) -> None:
    error = await connect_error(
        serving,
        client_config(server_certificate_hashes=[bytes(32), certs.server.hash]),
        certs.self_signed.files,
    )
    assert type(error) is errors.CertificateHashError
    assert "hash" in str(error)


@pytest.mark.parametrize(
    ("kind", "word"),
    [("long_lived", "14 at most"), ("expired_self_signed", "expired"), ("rsa", "RSA")],
)
async def test_certificates_that_a_hash_must_not_accept(
    serving: Serving, client_config: ClientFactory, certs: Certificates, kind: str, word: str
) -> None:
    pair = getattr(certs, kind)
    error = await connect_error(
        serving, client_config(server_certificate_hashes=[pair.hash]), pair.files
    )
    assert type(error) is errors.CertificateHashError
    assert word.lower() in str(error).lower()


async def test_server_that_wants_a_client_certificate(
    serving: Serving, client_config: ClientFactory, certs: Certificates
) -> None:
    server = {"verify_mode": ssl.CERT_REQUIRED, "ca_certs": certs.authority.certfile}
    async with (
        serving(**server) as served,
        WebTransportClient(config=client_config()) as client,
    ):
        with pytest.raises(errors.HandshakeError, match=r"certificate is required.*give certfile"):
            await client.connect(served.url())
        async with WebTransportClient(config=client_config(**certs.stranger.files)) as stranger:
            with pytest.raises(
                errors.HandshakeError, match="did not accept the certificate of this side"
            ):
                await stranger.connect(served.url())


async def test_a_refusal_right_after_the_handshake_ends_the_connection(
    serving: Serving, client_config: ClientFactory, certs: Certificates
) -> None:
    """The alert comes when the handshake is over and the task that connects has not continued."""
    server = {"verify_mode": ssl.CERT_REQUIRED, "ca_certs": certs.authority.certfile}
    async with serving(**server) as served:
        for _ in range(5):
            connection = WebTransportConnection(config=client_config(**certs.stranger.files))
            try:
                with contextlib.suppress(errors.HandshakeError):
                    await connection.establish("localhost", served.port)
                    await connection.wait_ready()
                    await connection.create_session("/")
                async with asyncio.timeout(20):
                    await connection.close()
                    await connection.wait_closed()
            finally:
                connection.abandon()
            assert isinstance(connection.error, errors.HandshakeError)


async def test_protocols_of_tls_that_do_not_meet(
    serving: Serving, client_config: ClientFactory
) -> None:
    error = await connect_error(serving, client_config(alpn_protocols=["h4"]), {})
    assert type(error) is errors.HandshakeError
    assert "ALPN" in str(error)


async def test_files_that_cannot_be_used(
    client_config: ClientFactory, certs: Certificates, tmp_path: Path
) -> None:
    missing = str(tmp_path / "missing.pem")
    with pytest.raises(errors.WebTransportError, match=r"missing\.pem"):
        WebTransportClient(config=client_config(ca_certs=missing))
    config = client_config(certfile=certs.client.certfile, keyfile=certs.server.keyfile)
    async with WebTransportClient(config=config) as client:
        with pytest.raises(errors.CertificateError):
            await client.connect("https://127.0.0.1:1/")


# ----------------------------------------------------------------------- the session


async def test_rejected_session_carries_status_and_headers(
    serving: Serving, client_config: ClientFactory
) -> None:
    async def refuse(session: WebTransportSession) -> bool:
        raise errors.SessionRejectedError(status_code=429, headers={"retry-after": "120"})

    async with serving() as served, WebTransportClient(config=client_config()) as client:
        served.app.add_middleware(refuse)
        with pytest.raises(errors.ClientError) as caught:
            await client.connect(served.url("/limited"))
        error = caught.value
        assert isinstance(error, errors.SessionRejectedError)
        assert error.status_code == 429
        assert error.headers["retry-after"] == "120"
        assert error.details["status_code"] == 429
        assert error.details["headers"]["retry-after"] == "120"
        assert error.target_url == served.url("/limited")
        assert "429" in str(error)
        assert errors.is_retriable_error(exception=error)
        assert client.connections == ()


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        (301, {"location": 'https://b.example/"x'}, r"points to 'https://b.example/\\\"x', but"),
        (308, {}, r"308 \(Permanent Redirect\)$"),
        (401, {"www-authenticate": "Bearer"}, "send the credentials"),
        (403, {}, "does not allow it to this client"),
        (404, {}, "check the path"),
        (405, {}, "check the path"),
        (429, {"retry-after": 30}, r"try again later \(retry-after: 30\)$"),
        (503, {}, "; try again later$"),
        (500, {}, r"500 \(Internal Server Error\)$"),
        (599, {}, "599$"),
    ],
)
async def test_rejection_says_what_to_do(
    serving: Serving,
    client_config: ClientFactory,
    status: int,
    headers: dict[str, str | int],
    words: str,
) -> None:
    async def refuse(session: WebTransportSession) -> bool:
        raise errors.SessionRejectedError(status_code=status, headers=headers)

    async with serving() as served, WebTransportClient(config=client_config()) as client:
        served.app.add_middleware(refuse)
        with pytest.raises(errors.SessionRejectedError, match=words) as caught:
            await client.connect(served.url("/x"))
        assert f"{served.url('/x')} was rejected with HTTP status {status}" in str(caught.value)


async def test_protocol_that_the_server_does_not_pick(
    serving: Serving, client_config: ClientFactory
) -> None:
    config = client_config(application_protocols=["chat"], require_application_protocol=True)
    async with serving() as served, WebTransportClient(config=config) as client:
        with pytest.raises(errors.WebTransportError, match="protocol") as caught:
            await client.connect(served.url())
        assert "for 127.0.0.1:" in str(caught.value) or "for localhost:" in str(caught.value)
        assert str(caught.value).count("chat") == 1
        assert caught.value.error_code == 0x0817B3DD
        assert client.connections == ()


class _PlainH3(QuicConnectionProtocol):
    """An HTTP/3 server that has never heard of WebTransport."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type]
        self._http = H3Connection(self._quic)

    def quic_event_received(self, event: QuicEvent) -> None:
        self._http.handle_event(event)


@contextlib.asynccontextmanager
async def plain_http3(certs: Certificates) -> AsyncIterator[int]:
    """Port of such a server."""
    configuration = QuicConfiguration(is_client=False, alpn_protocols=["h3"])
    configuration.load_cert_chain(certs.server.certfile, certs.server.keyfile)
    server = await serve("127.0.0.1", 0, configuration=configuration, create_protocol=_PlainH3)
    try:
        yield server._transport.get_extra_info("sockname")[1]
    finally:
        for protocol in set(server._protocols.values()):
            protocol.close()
            await protocol.wait_closed()
        server.close()


@pytest.mark.parametrize("pooling", [False, True])
async def test_server_without_webtransport(
    client_config: ClientFactory, certs: Certificates, pooling: bool
) -> None:
    config = client_config(allow_pooling=pooling)
    async with plain_http3(certs) as port, WebTransportClient(config=config) as client:
        url = f"https://127.0.0.1:{port}/"
        with pytest.raises(errors.WebTransportNotSupportedError) as caught:
            await client.connect(url)
        assert caught.value.target_url == url
        assert "WebTransport" in str(caught.value)
        assert errors.is_fatal_error(exception=caught.value)
        # Of no use, even where connections are kept for others.
        assert client.connections == ()


async def test_dialects_that_do_not_meet(serving: Serving, client_config: ClientFactory) -> None:
    async with (
        serving(dialects=[2]) as served,
        WebTransportClient(config=client_config(dialects=[16])) as client,
    ):
        with pytest.raises(errors.WebTransportNotSupportedError):
            await client.connect(served.url())


# ------------------------------------------------------------------- misuse, afterwards


async def test_oversize_datagram_write_after_close_and_read_after_reset(
    pair: PairOfSessions,
) -> None:
    async with pair() as (near, far):
        limit = near.max_datagram_size
        with pytest.raises(errors.DatagramTooLargeError) as too_large:
            await near.datagrams.send(bytes(limit + 1))
        assert str(limit + 1) in str(too_large.value)
        assert "stream" in str(too_large.value)

        stream = await near.create_bidirectional_stream()
        await stream.write(b"!")
        other = await take(far)
        await stream.close()
        with pytest.raises(errors.StreamError) as closed:
            await stream.write(b"late")
        assert str(stream.stream_id) in str(closed.value)

        other.reset(44)
        with pytest.raises(errors.StreamResetError) as reset:
            await stream.read()
        assert reset.value.error_code == 44
        assert str(stream.stream_id) in str(reset.value)
        await round_trip(near, far, b"the session lives on")


@pytest.mark.parametrize("make", [ClientConfig, ServerConfig])
def test_unknown_field_of_a_configuration(make: type[ClientConfig | ServerConfig]) -> None:
    for attempt in (
        lambda: make(max_stream=5),
        lambda: make.create(max_stream=5),
        lambda: make.from_dict(config_dict={"max_stream": 5}),
        lambda: make().update(max_stream=5),
        lambda: setattr(make(), "max_stream", 5),
    ):
        with pytest.raises(errors.ConfigurationError, match="no field 'max_stream'") as caught:
            attempt()
        assert caught.value.config_key == "max_stream"
        assert caught.value.config_value == 5
        assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("connect_timeout", 0),
        ("connect_timeout", "fast"),
        ("max_streams", -1),
        ("max_datagram_size", 70_000),
        ("congestion_control_algorithm", "magic"),
        ("dialects", [3]),
        ("dialects", []),
        ("server_certificate_hashes", ["00"]),
        ("headers", {"bad name": "x"}),
        ("alpn_protocols", []),
    ],
)
def test_bad_value_of_a_configuration(field: str, value: object) -> None:
    with pytest.raises(errors.ConfigurationError) as caught:
        ClientConfig(**{field: value})
    assert field in str(caught.value)
    assert caught.value.config_key == field


# --------------------------------------------------------------------------- the client


async def test_closed_client_says_so(serving: Serving, client_config: ClientFactory) -> None:
    async with serving() as served:
        client = WebTransportClient(config=client_config())
        session = await client.connect(served.url())
        await client.close()
        await client.close()
        assert client.is_closed
        assert session.is_closed
        with pytest.raises(errors.ClientError, match="closed"):
            await client.connect(served.url())
        with pytest.raises(errors.ClientError, match="closed"):
            await client.__aenter__()
        assert client.diagnose_issues() == ["the client is closed"]


async def test_user_agent_can_be_left_out(serving: Serving, client_config: ClientFactory) -> None:
    async with serving() as served:
        for user_agent in ("", "mine/1"):
            async with WebTransportClient(config=client_config(user_agent=user_agent)) as client:
                await client.connect(served.url())
                assert served.server.sessions[0].headers.get("user-agent", "") == user_agent
            await until(lambda: not served.server.sessions)


async def test_figures_of_the_client(
    serving: Serving, client_config: ClientFactory, closed_port: int
) -> None:
    async with serving() as served, WebTransportClient(config=client_config()) as client:
        assert client.diagnose_issues() == []
        await client.connect(served.url())
        for _ in range(5):
            with pytest.raises(errors.UnreachableError):
                await client.connect(f"https://127.0.0.1:{closed_port}/")
        stats, times = client.stats["connections"], client.stats["performance"]
        assert stats["attempted"] == 6
        assert stats["successful"] == 1
        assert stats["failed"] == 5
        assert 0 < times["min_connect_time"] <= times["avg_connect_time"]
        assert times["avg_connect_time"] <= times["max_connect_time"]
        assert stats["success_rate"] == pytest.approx(1 / 6)
        assert client.debug_state()["statistics"]["connections"] == stats
        assert "5 of 6" in client.diagnose_issues()[0]
        state = client.debug_state()
        assert state["client"] == {"closed": False, "default_headers": {}}
        assert state["config"]["connect_timeout"] == client.config.connect_timeout
        assert len(state["connections"]) == 1


async def test_bad_headers_are_refused_before_anything_is_sent(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served, WebTransportClient(config=client_config()) as client:
        for headers in ({"bad name": "x"}, {"x": "line\nbreak"}, {":path": "/"}, {"host": "h"}):
            with pytest.raises(errors.ConfigurationError):
                await client.connect(served.url(), headers=headers)
        assert served.server.sessions == ()
        assert client.connections == ()


def test_server_and_client_configurations_reject_contradictions(
    client_config: ClientFactory, server_config: ServerFactory, certs: Certificates
) -> None:
    with pytest.raises(errors.ConfigurationError, match="allow_pooling"):
        client_config(allow_pooling=True, server_certificate_hashes=[certs.server.hash])
    with pytest.raises(errors.ConfigurationError, match="verify_mode"):
        server_config(verify_mode=ssl.CERT_REQUIRED)
