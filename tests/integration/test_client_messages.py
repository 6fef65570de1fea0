"""What a client's errors say: what happened, where, and what to do; never more than fits."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import pytest

from pywebtransport import WebTransportClient
from pywebtransport import exceptions as errors
from pywebtransport._core.errors import error_from_close
from pywebtransport._quic import CloseInfo
from pywebtransport.connection import WebTransportConnection
from pywebtransport.session import WebTransportSession
from tests.integration import raw_h3 as h3
from tests.integration.raw_peer import raw_server
from tests.support.certificates import Certificates
from tests.support.endpoints import ClientFactory, Serving
from tests.support.steps import once_set

# As long a URL as one can have, for a message that must not repeat it.
LONG = "/" + "a" * 200_000
SHORT = 1000


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A UDP port where packets are taken and never answered."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


async def error_of(
    serving: Serving,
    client_fields: dict[str, object],
    server: dict[str, str],
    config: ClientFactory,
) -> errors.WebTransportError:
    async with (
        serving(**server) as served,
        WebTransportClient(config=config(**client_fields)) as client,
    ):
        with pytest.raises(errors.WebTransportError) as caught:
            await client.connect(served.url())
        return caught.value


async def test_rejection_names_the_url(serving: Serving, client_config: ClientFactory) -> None:
    async def refuse(session: WebTransportSession) -> bool:
        raise errors.SessionRejectedError(status_code=403)

    async with serving() as served, WebTransportClient(config=client_config()) as client:
        served.app.add_middleware(refuse)
        with pytest.raises(errors.SessionRejectedError) as caught:
            await client.connect(served.url("/secret?room=1"))
        # Without the query, which may be a token.
        assert f"{served.url('/secret')}?… was rejected" in str(caught.value)
        assert "403 (Forbidden)" in str(caught.value)
        assert caught.value.target_url == served.url("/secret?room=1")
    # To one who has the connection alone, too.
    async with serving() as served:
        served.app.add_middleware(refuse)
        connection = await WebTransportConnection.create_client(
            config=client_config(), host="127.0.0.1", port=served.port, path="/secret"
        )
        async with connection:
            with pytest.raises(errors.SessionRejectedError) as caught:
                await connection.wait_for_ready_session()
            assert served.url("/secret") in str(caught.value)


async def test_long_urls_are_not_repeated(
    serving: Serving, client_config: ClientFactory, silent_port: int
) -> None:
    async with (
        serving({"/": lambda session: session.wait_closed()}) as served,
        WebTransportClient(config=client_config()) as client,
    ):
        for url, timeout in (
            (f"https://127.0.0.1:{silent_port}{LONG}", 0.1),
            (f"https://name.invalid{LONG} x", 0.1),
            (served.url("/" + "b" * 30_000), 10.0),
        ):
            with pytest.raises(errors.WebTransportError) as caught:
                await client.connect(url, timeout=timeout)
            assert len(str(caught.value)) < SHORT, type(caught.value)


async def test_other_errors_about_a_long_url_are_short_as_well(
    serving: Serving, client_config: ClientFactory, certs: Certificates
) -> None:
    """A request that is not answered, and one that is not processed."""
    path = "/" + "p" * 20_000
    async with (
        raw_server(certs) as server,
        WebTransportClient(config=client_config(max_retries=0)) as client,
    ):
        opening = asyncio.ensure_future(client.connect(server.url + path))
        peer = await server.accept(h3.DRAFT16 | {h3.CONNECT_PROTOCOL: 1})
        await peer.headers(0)
        peer.reset(0, 0x10B)
        with pytest.raises(errors.ClientError) as caught:
            await opening
        assert len(str(caught.value)) < SHORT
    may_answer = asyncio.Event()

    async with serving() as served:
        served.app.add_middleware(once_set(may_answer))
        connection = await WebTransportConnection.create_client(
            config=client_config(), host="127.0.0.1", port=served.port
        )
        async with connection:
            session = await connection.create_session(path)
            with pytest.raises(errors.TimeoutError) as late:
                await session.ready(timeout=0.01)
            assert len(str(late.value)) < SHORT
            may_answer.set()


# -------------------------------------------------------------------- certificates


async def test_hash_that_does_not_match_tells_the_one_that_does(
    serving: Serving, client_config: ClientFactory, certs: Certificates
) -> None:
    pair = certs.self_signed
    fields: dict[str, object] = {"server_certificate_hashes": [bytes(32)]}
    error = await error_of(serving, fields, pair.files, client_config)
    assert isinstance(error, errors.CertificateHashError)
    assert f"server_certificate_hashes=['{pair.hash.hex()}']" in str(error)
    assert error.details["certificate_hash"] == pair.hash.hex()
    # What it says works.
    async with serving(**pair.files) as served:
        config = client_config(server_certificate_hashes=[error.details["certificate_hash"]])
        async with WebTransportClient(config=config) as client:
            await client.connect(served.url())


@pytest.mark.parametrize(
    ("kind", "what"), [("long_lived", "14"), ("expired_self_signed", "expired"), ("rsa", "RSA")]
)
async def test_certificate_that_no_hash_can_make_good(
    serving: Serving, client_config: ClientFactory, certs: Certificates, kind: str, what: str
) -> None:
    pair = getattr(certs, kind)
    fields: dict[str, object] = {"server_certificate_hashes": [pair.hash]}
    error = await error_of(serving, fields, pair.files, client_config)
    assert isinstance(error, errors.CertificateHashError)
    assert what in str(error)
    assert "generate_self_signed_cert" in str(error)
    assert "ca_certs" in str(error)


@pytest.mark.parametrize("kind", ["self_signed", "server"])
async def test_unknown_authority_tells_both_ways_out(
    serving: Serving, client_config: ClientFactory, certs: Certificates, kind: str
) -> None:
    pair = getattr(certs, kind)
    fields: dict[str, object] = {"ca_certs": certs.other.certfile}
    error = await error_of(serving, fields, pair.files, client_config)
    assert type(error) is errors.CertificateError
    assert "ca_certs=" in str(error)
    assert f"server_certificate_hashes=['{pair.hash.hex()}']" in str(error)
    assert ("self-signed" in str(error)) is (kind == "self_signed")


@pytest.mark.parametrize(
    ("kind", "hint"),
    [("wrong_name", "connect to one of its names"), ("expired", "renew it at the server")],
)
async def test_certificate_that_does_not_fit(
    serving: Serving, client_config: ClientFactory, certs: Certificates, kind: str, hint: str
) -> None:
    error = await error_of(serving, {}, getattr(certs, kind).files, client_config)
    assert type(error) is errors.CertificateError
    assert hint in str(error)


# ---------------------------------------------------------------- one sentence for each end


def describe(where: str = "example.org:4433", **fields: object) -> errors.WebTransportError:
    info = CloseInfo(**fields)  # type: ignore[arg-type]
    return error_from_close(info, ("192.0.2.1", 4433), where)


ENDS: dict[str, dict[str, object]] = {
    "silence": {"kind": "handshake_timeout"},
    "refused": {"kind": "refused", "errno": 111},
    "no route": {"kind": "refused", "errno": 101},
    "alpn": {"kind": "transport", "remote": True, "code": 0x178},
    "version": {"kind": "version", "remote": True},
    "busy": {"kind": "transport", "remote": True, "code": 2},
    "reset": {"kind": "stateless_reset", "handshake_done": True},
    "idle": {"kind": "idle", "handshake_done": True},
}


def test_each_end_has_a_message_of_its_own_with_the_place() -> None:
    messages = {name: str(describe(**fields)) for name, fields in ENDS.items()}
    assert len(set(messages.values())) == len(ENDS)
    for message in messages.values():
        assert "example.org:4433 (at 192.0.2.1)" in message
    assert "UDP is not blocked" in messages["silence"]
    assert "no QUIC server listens" in messages["refused"]
    assert "no route" in messages["no route"]
    assert "ALPN" in messages["alpn"]
    assert "no version in common" in messages["version"]
    assert "try again" in messages["busy"]


FORGED = "fine\n2026-11-30 ERROR \x1b[31mforged\u202e" + "x" * 100_000


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "application", "remote": True, "code": 5, "reason": FORGED},
        {"kind": "transport", "remote": True, "code": 2, "reason": FORGED},
        {"kind": "transport", "remote": True, "code": 10, "reason": FORGED},
        {"kind": "internal", "reason": FORGED},
        {"kind": "transport", "code": 0x12A, "tls_error": f'certificate "{FORGED}" is odd'},
    ],
)
def test_text_from_outside_is_escaped(fields: dict[str, object]) -> None:
    for where in ("example.org:4433", FORGED):
        error = describe(where, **fields)
        assert str(error).isprintable()
        assert len(str(error)) < 3 * SHORT
        assert "\\n" in str(error)
        if "reason" in fields:
            assert error.reason == FORGED


@contextlib.contextmanager
def version_negotiator() -> Iterator[int]:
    """A UDP port that answers each long header with Version Negotiation (RFC 9000 17.2.1)."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)

        def answer() -> None:
            packet, address = sock.recvfrom(65536)
            destination = packet[6 : 6 + packet[5]]
            rest = packet[6 + packet[5] :]
            source = rest[1 : 1 + rest[0]]
            ids = bytes([len(source)]) + source + bytes([len(destination)]) + destination
            sock.sendto(b"\x80" + bytes(4) + ids + b"\x0a\x0a\x0a\x0a\xff\x00\x00\x1d", address)

        loop.add_reader(sock.fileno(), answer)
        try:
            yield sock.getsockname()[1]
        finally:
            loop.remove_reader(sock.fileno())


async def test_peer_without_a_common_version(client_config: ClientFactory) -> None:
    """Version negotiation is not silence, and not a refusal."""
    async with WebTransportClient(config=client_config(connect_timeout=5.0)) as client:
        with (
            version_negotiator() as port,
            pytest.raises(errors.HandshakeError, match="no version in common") as caught,
        ):
            await client.connect(f"https://127.0.0.1:{port}/")
        assert caught.value.handshake_stage == "version"


async def test_lost_connection_is_told_by_the_client(
    serving: Serving, client_config: ClientFactory, caplog: pytest.LogCaptureFixture
) -> None:
    """A dead path: a log line with reason and peer, a counter, an issue."""
    config = client_config(connection_idle_timeout=0.3, keep_alive=False)
    async with serving() as served, WebTransportClient(config=config) as client:
        session = await client.connect(served.url())
        await session.wait_closed()
        assert client.stats["connections"]["lost"] == 1
        assert any(
            "1 connections were lost" in issue and f"127.0.0.1:{served.port}" in issue
            for issue in client.diagnose_issues()
        )
        lost = [record for record in caplog.records if "was lost" in record.getMessage()]
        assert len(lost) == 1
        assert f"127.0.0.1:{served.port}" in lost[0].getMessage()
        assert "idle timeout" in lost[0].getMessage()


async def test_connection_that_ends_in_order_is_no_loss(
    serving: Serving, client_config: ClientFactory, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving() as served, WebTransportClient(config=client_config()) as client:
        await (await client.connect(served.url())).close()
        session = await client.connect(served.url())
        await served.server.close(drain_timeout=0)
        await session.wait_closed()
        assert client.stats["connections"]["lost"] == 0
        assert "was lost" not in caplog.text
