"""Several addresses, servers or tries, and one error: that of the one that got furthest."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from pywebtransport import ClientConfig, WebTransportClient
from pywebtransport import exceptions as errors
from pywebtransport.client import ClientPool
from pywebtransport.connection import ConnectionLoadBalancer, WebTransportConnection
from pywebtransport.connection._targets import measure_handshake
from pywebtransport.connection.utils import connect_with_retry
from tests.integration import raw_h3 as h3
from tests.integration.raw_peer import raw_server
from tests.support.certificates import Certificates
from tests.support.endpoints import ClientFactory, Served, Serving

WRONG_HASH = bytes(32)
REQUEST_REJECTED = 0x10B
SERVER16 = h3.DRAFT16 | {h3.CONNECT_PROTOCOL: 1}


@contextlib.contextmanager
def silent(family: int, host: str, port: int) -> Iterator[None]:
    """A UDP port where packets are taken and never answered."""
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((host, port))
        yield


@contextlib.asynccontextmanager
async def lone(serving: Serving, **fields: object) -> AsyncIterator[Served]:
    """A server on 127.0.0.1, at whose port nothing listens on ::1."""
    async with serving(host="127.0.0.1", **fields) as served:
        yield served


async def failure(config: ClientConfig, port: int, timeout: float = 20.0) -> Exception:
    """The error of a connection to localhost that must fail."""
    async with WebTransportClient(config=config) as client:
        with pytest.raises(errors.WebTransportError) as caught:
            await client.connect(f"https://localhost:{port}/", timeout=timeout)
        assert client.connections == ()
        return caught.value


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"server_certificate_hashes": [WRONG_HASH]}, errors.CertificateHashError),
        ({"alpn_protocols": ["h4"]}, errors.HandshakeError),
        ({"dialects": [2]}, errors.WebTransportNotSupportedError),
    ],
)
async def test_answer_of_one_address_comes_before_the_refusal_of_another(
    serving: Serving,
    client_config: ClientFactory,
    fields: dict[str, object],
    kind: type[Exception],
) -> None:
    async with lone(serving, dialects=[16]) as served:
        error = await failure(client_config(**fields), served.port)
    assert type(error) is kind
    assert not errors.is_retriable_error(exception=error)
    if kind is errors.WebTransportNotSupportedError:
        return  # that address was connected
    assert isinstance(error, errors.WebTransportError)
    attempts = error.details["attempts"]
    assert [attempt["address"] for attempt in attempts] == [
        f"::1 port {served.port}",
        f"127.0.0.1 port {served.port}",
    ]
    assert [attempt["type"] for attempt in attempts] == ["UnreachableError", kind.__name__]
    assert "refused" in attempts[0]["error"]
    assert [attempt["retriable"] for attempt in attempts] == [True, False]
    assert f"::1 port {served.port}" in error.__notes__[0]
    assert "localhost" in str(error)
    assert "127.0.0.1" in str(error)


@pytest.mark.parametrize("by_connection", [False, True])
async def test_silence_of_one_address_does_not_hide_the_certificate_of_another(
    serving: Serving, client_config: ClientFactory, by_connection: bool
) -> None:
    config = client_config(server_certificate_hashes=[WRONG_HASH], connect_timeout=0.5)
    async with lone(serving) as served:
        with silent(socket.AF_INET6, "::1", served.port):
            error: Exception
            if by_connection:
                connection = WebTransportConnection(config=config)
                with pytest.raises(errors.CertificateHashError) as caught:
                    await connection.connect(host="localhost", port=served.port)
                error = caught.value
            else:
                error = await failure(config, served.port, timeout=0.5)
    assert isinstance(error, errors.CertificateHashError)
    assert {attempt["type"] for attempt in error.details["attempts"]} == {
        "TimeoutError",
        "CertificateHashError",
    }


async def test_measuring_tells_the_certificate_as_well(
    serving: Serving, client_config: ClientFactory
) -> None:
    config = client_config(server_certificate_hashes=[WRONG_HASH])
    async with lone(serving) as served:
        with silent(socket.AF_INET6, "::1", served.port), pytest.raises(errors.CertificateError):
            await measure_handshake(config, "localhost", served.port, 0.5)


async def test_refusal_comes_before_silence(client_config: ClientFactory) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.bind(("::1", 0))
        port = sock.getsockname()[1]
        error = await failure(client_config(connect_timeout=0.5), port, timeout=0.5)
    assert isinstance(error, errors.UnreachableError)
    assert "refused" in str(error)
    assert errors.is_retriable_error(exception=error)
    assert len(error.details["attempts"]) == 2


async def test_silence_alone_is_a_timeout(client_config: ClientFactory) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.bind(("::1", 0))
        port = sock.getsockname()[1]
        with silent(socket.AF_INET, "127.0.0.1", port):
            error = await failure(client_config(connect_timeout=0.5), port, timeout=0.5)
    assert isinstance(error, errors.TimeoutError)
    assert errors.is_retriable_error(exception=error)


async def test_address_that_fails_while_another_works_is_told(
    serving: Serving, client_config: ClientFactory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pywebtransport.connection")
    async with lone(serving) as served, WebTransportClient(config=client_config()) as client:
        await client.connect(f"https://localhost:{served.port}/")
        assert f"connected, but not at ::1 port {served.port}" in caplog.text
        assert client.stats["connections"]["addresses_failed"] == 1
        assert client.stats["connections"]["failed"] == 0
        assert any("1 addresses failed" in issue for issue in client.diagnose_issues())


async def test_caller_that_gives_up_leaves_no_attempt(
    serving: Serving, client_config: ClientFactory
) -> None:
    """A cancelled race is cancelled, whatever its attempts had found out."""
    config = client_config(server_certificate_hashes=[WRONG_HASH], happy_eyeballs_delay=0.01)
    async with lone(serving) as served, WebTransportClient(config=config) as client:
        with silent(socket.AF_INET6, "::1", served.port):
            task = asyncio.ensure_future(client.connect(f"https://localhost:{served.port}/"))
            await asyncio.wait([task], timeout=0.2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert client.connections == ()


# ------------------------------------------------------------ several clients and servers


async def test_pool_of_clients_raises_what_got_furthest(
    serving: Serving, client_config: ClientFactory, certs: Certificates
) -> None:
    async with lone(serving) as served:
        url = f"https://127.0.0.1:{served.port}/"
        configs = [
            client_config(),
            client_config(alpn_protocols=["h4"]),
            client_config(server_certificate_hashes=[WRONG_HASH]),
        ]
        async with ClientPool(configs) as pool:
            with pytest.raises(errors.ClientError, match="client 2: the certificate") as caught:
                await pool.connect_all(url)
            assert isinstance(caught.value.__cause__, errors.CertificateHashError)
            assert set(caught.value.details["errors"]) == {1, 2}
            assert not errors.is_retriable_error(exception=caught.value)
    async with ClientPool.create(2, base_config=client_config()) as pool:
        with pytest.raises(errors.ClientError, match="refused") as caught:
            await pool.connect_all(url)
        assert errors.is_retriable_error(exception=caught.value)


async def test_load_balancer_begins_with_what_got_furthest(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with lone(serving) as served:
        closed = free_port()
        targets = [("127.0.0.1", closed), ("127.0.0.1", served.port)]
        async with ConnectionLoadBalancer(targets) as balancer:
            with pytest.raises(errors.ConnectionError) as caught:
                await balancer.get_connection(client_config(server_certificate_hashes=[WRONG_HASH]))
            assert str(caught.value).startswith(
                f"no server could be reached: 127.0.0.1:{served.port}: the certificate"
            )
            assert not errors.is_retriable_error(exception=caught.value)
    async with ConnectionLoadBalancer([("127.0.0.1", closed)]) as balancer:
        with pytest.raises(errors.ConnectionError) as caught:
            await balancer.get_connection(client_config())
        assert errors.is_retriable_error(exception=caught.value)


def free_port() -> int:
    """A UDP port where nobody listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


async def test_tries_in_a_row_are_all_told(client_config: ClientFactory) -> None:
    with pytest.raises(errors.UnreachableError) as caught:
        await connect_with_retry(
            config=client_config(),
            host="127.0.0.1",
            port=free_port(),
            max_retries=2,
            retry_delay=0.001,
        )
    assert len(caught.value.details["tries"]) == 3


# --------------------------------------------------- requests that a server left alone


async def test_request_that_was_not_processed_is_sent_again_on_another_connection(
    certs: Certificates, client_config: ClientFactory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pywebtransport.client")
    config = client_config(allow_pooling=True, retry_delay=25.0)
    async with raw_server(certs) as server, WebTransportClient(config=config) as client:
        opening = asyncio.ensure_future(client.connect(server.url))
        first = await server.accept(SERVER16)
        await first.headers(0)
        first.send(0, h3.encode_headers([(":status", "200")]))
        session = await opening
        opening = asyncio.ensure_future(client.connect(server.url))
        await first.headers(4)
        first.reset(4, REQUEST_REJECTED)
        # At once, on a connection of its own: the pause is for the next retry.
        second = await server.accept(SERVER16)
        await second.headers(0)
        second.send(0, h3.encode_headers([(":status", "200")]))
        other = await opening
        assert other.connection is not session.connection
        assert session.is_ready
        stats = client.stats["connections"]
        assert (stats["requests_retried"], stats["attempted"], stats["failed"]) == (1, 2, 0)
        assert "did not process the request and gets it again (retry 1 of 3)" in caplog.text


@pytest.mark.parametrize("retries", [0, 2])
async def test_request_that_nobody_processes_fails_after_max_retries(
    certs: Certificates, client_config: ClientFactory, retries: int
) -> None:
    config = client_config(retry_delay=0.001, max_retries=retries)
    async with raw_server(certs) as server, WebTransportClient(config=config) as client:
        opening = asyncio.ensure_future(client.connect(server.url))
        for _ in range(retries + 1):
            peer = await server.accept(SERVER16)
            await peer.headers(0)
            peer.reset(0, REQUEST_REJECTED)
        with pytest.raises(errors.ClientError) as caught:
            await opening
        assert caught.value.error_code == REQUEST_REJECTED
        assert errors.is_retriable_error(exception=caught.value)
        assert client.stats["connections"]["requests_retried"] == retries
        assert client.connections == ()


async def test_request_that_was_cancelled_is_not_sent_again(
    certs: Certificates, client_config: ClientFactory
) -> None:
    async with raw_server(certs) as server, WebTransportClient(config=client_config()) as client:
        opening = asyncio.ensure_future(client.connect(server.url))
        peer = await server.accept(SERVER16)
        await peer.headers(0)
        peer.reset(0, 0x10C)
        with pytest.raises(errors.ClientError):
            await opening
        assert client.stats["connections"]["requests_retried"] == 0
