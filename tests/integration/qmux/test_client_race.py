"""Clients with a fallback: when they try TCP, and what ends the race."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from pywebtransport import (
    CertificateError,
    ClientError,
    ConfigurationError,
    TimeoutError,
    WebTransportClient,
    WebTransportError,
)
from pywebtransport.client import (
    PooledClient,
    ReconnectingClient,
    WebTransportProxy,
    connect,
)
from pywebtransport.exceptions import (
    CertificateHashError,
    HandshakeError,
    SessionRejectedError,
    UnreachableError,
    is_fatal_error,
    is_retriable_error,
)
from tests.support.certificates import Certificates
from tests.support.endpoints import ClientFactory, Serving
from tests.support.ports import free_port, free_port_of_both
from tests.support.tcp_door import black_hole, tcp_door

NEVER = 1000.0
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\nretry-after: 7\r\ncontent-length: 3\r\n\r\nno!"


def client_of(client_config: ClientFactory, **fields: Any) -> WebTransportClient:
    return WebTransportClient(config=client_config(fallback="websocket", **fields))


async def failure(client: WebTransportClient, port: int, **arguments: Any) -> WebTransportError:
    """The error of an attempt that must fail; nothing is left of it."""
    with pytest.raises(WebTransportError) as caught:
        await client.connect(f"https://127.0.0.1:{port}/", **arguments)
    assert client.connections == ()
    return caught.value


# --------------------------------------------------------------------- QUIC gets through


async def test_tcp_is_not_touched_while_quic_works(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with (
        serving(bind_port=free_port_of_both()) as served,
        tcp_door(port=served.port) as door,
        client_of(client_config, fallback_delay=NEVER) as client,
    ):
        for _ in range(2):
            session = await client.connect(served.url())
            assert session.transport == "quic"
            assert session.reliability == "supports-unreliable"
            await session.close()
        assert door.arrived == 0
        assert client.stats["transports"] == {
            "quic": 2,
            "websocket": 0,
            "fallbacks_tried": 0,
            "fallbacks_won": 0,
        }


async def test_unused_tcp_connection_is_closed_at_once(
    serving: Serving, client_config: ClientFactory
) -> None:
    """TCP starts together with QUIC, and its TLS handshake gets no answer."""
    async with (
        serving(bind_port=free_port_of_both()) as served,
        tcp_door(port=served.port) as door,
        client_of(client_config, fallback_delay=0) as client,
    ):
        session = await client.connect(served.url())
        assert session.transport == "quic"
        await door.until(lambda: door.open == 0)
        assert door.arrived <= 1
        assert client.stats["transports"]["fallbacks_won"] == 0


async def test_nothing_is_tried_without_the_field(client_config: ClientFactory) -> None:
    port = free_port_of_both()
    async with (
        tcp_door(port=port) as door,
        WebTransportClient(config=client_config()) as client,
    ):
        assert isinstance(await failure(client, port), UnreachableError)
        assert door.arrived == 0


# ------------------------------------------------------------------------ both are dead


async def test_both_refused(client_config: ClientFactory) -> None:
    port = free_port_of_both()
    async with client_of(client_config, fallback_delay=NEVER) as client:
        error = await failure(client, port)
        assert client.stats["transports"]["fallbacks_tried"] == 1
    assert isinstance(error, UnreachableError)
    assert re.match(r"by QUIC: 127\.0\.0\.1:\d+ cannot be reached: .*; by TCP: cannot", str(error))
    assert [fact["transport"] for fact in error.details["transports"]] == ["QUIC", "TCP"]
    assert is_retriable_error(error)


async def test_all_addresses_of_both_are_listed(client_config: ClientFactory) -> None:
    port = free_port()
    async with client_of(client_config) as client:
        with pytest.raises(UnreachableError) as caught:
            await client.connect(f"https://localhost:{port}/")
    addresses = [f"{host} port {port}" for host in ("::1", "127.0.0.1")]
    for transport in caught.value.details["transports"]:
        assert [fact["address"] for fact in transport["attempts"]] == addresses


async def test_silence_of_quic_and_a_closed_tcp_port(client_config: ClientFactory) -> None:
    port = free_port_of_both()
    async with (
        black_hole(port),
        client_of(client_config, fallback_delay=0) as client,
    ):
        error = await failure(client, port, timeout=0.2)
    assert isinstance(error, UnreachableError)
    assert "by QUIC: " in str(error)
    assert "did not answer within 0.2 s: no QUIC handshake" in str(error)
    assert "by TCP: cannot connect" in str(error)


async def test_both_silent(client_config: ClientFactory) -> None:
    async with (
        tcp_door() as door,
        black_hole(door.port),
        client_of(client_config, fallback_delay=0) as client,
    ):
        error = await failure(client, door.port, timeout=0.2)
        await door.until(lambda: door.open == 0)
    assert isinstance(error, TimeoutError)
    assert "no QUIC handshake" in str(error)
    assert "no connection by TCP and TLS" in str(error)


async def test_time_is_over_before_tcp_starts(client_config: ClientFactory) -> None:
    async with tcp_door() as door, black_hole(door.port):
        async with client_of(client_config, fallback_delay=NEVER) as client:
            error = await failure(client, door.port, timeout=0.1)
        assert door.arrived == 0
    assert isinstance(error, TimeoutError)
    assert "by QUIC" not in str(error)


async def test_tcp_without_tls(client_config: ClientFactory) -> None:
    """QUIC is refused, and something else listens on TCP."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server, client_of(client_config) as client:
        error = await failure(client, server.sockets[0].getsockname()[1])
    assert "by TCP: TLS failed" in str(error)
    assert isinstance(error, UnreachableError)  # that of QUIC
    assert not is_fatal_error(error)


# -------------------------------------------------------------------------- certificates


async def test_no_fallback_after_a_wrong_certificate(
    serving: Serving, client_config: ClientFactory, certs: Certificates
) -> None:
    for wrong, kind in (
        ({"ca_certs": certs.other.certfile}, CertificateError),
        ({"server_certificate_hashes": [bytes(32)]}, CertificateHashError),
        ({"alpn_protocols": ["h4"]}, HandshakeError),
    ):
        async with (
            serving(bind_port=free_port_of_both()) as served,
            tcp_door(port=served.port) as door,
            client_of(client_config, fallback_delay=NEVER, **wrong) as client,
        ):
            error = await failure(client, served.port)
            assert type(error) is kind
            assert "by QUIC" not in str(error)
            assert door.arrived == 0


async def test_certificate_is_checked_on_tcp(
    client_config: ClientFactory, certs: Certificates
) -> None:
    async with tcp_door(certs.server) as door, black_hole(door.port):
        for wrong, kind in (
            ({"ca_certs": certs.other.certfile}, CertificateError),
            ({"server_certificate_hashes": [bytes(32)]}, CertificateHashError),
        ):
            async with client_of(client_config, fallback_delay=0, **wrong) as client:
                error = await failure(client, door.port)
            assert type(error) is kind
        assert door.requests == []


async def test_pinned_certificate_is_accepted_on_tcp(
    client_config: ClientFactory, certs: Certificates
) -> None:
    own = certs.self_signed
    async with tcp_door(own, answer=NOT_FOUND) as door:
        hashes = [bytes(32), own.hash]
        async with client_of(client_config, server_certificate_hashes=hashes) as client:
            error = await failure(client, door.port)
        assert isinstance(error, SessionRejectedError)
        assert len(door.requests) == 1


# ------------------------------------------------------------------------------- answers


@pytest.mark.parametrize("udp", ["refused", "silent"])
async def test_refusal_over_tcp_is_the_result(
    client_config: ClientFactory, certs: Certificates, udp: str
) -> None:
    async with tcp_door(certs.server, answer=FORBIDDEN) as door:
        async with (
            client_of(client_config, fallback_delay=0, headers={"x-token": "t"}) as client,
        ):
            if udp == "silent":
                async with black_hole(door.port):
                    error = await failure(client, door.port)
            else:
                error = await failure(client, door.port)
        await door.until(lambda: door.open == 0)
        assert len(door.requests) == 1  # and no other attempt
        assert b"\r\nx-token: t\r\n" in door.requests[0]
    assert isinstance(error, SessionRejectedError)
    assert error.status_code == 403
    assert error.headers["retry-after"] == "7"
    assert error.target_url == f"https://127.0.0.1:{door.port}/"
    assert "QUIC" in error.__notes__[0]


async def test_an_answer_without_a_length(
    client_config: ClientFactory, certs: Certificates
) -> None:
    """It ends with the connection (RFC 9112 section 6.3)."""
    answer = b"HTTP/1.1 503 Unavailable\r\nretry-after: 1\r\n\r\nlater"
    async with (
        tcp_door(certs.server, answer=answer) as door,
        client_of(client_config) as client,
    ):
        error = await failure(client, door.port)
    assert isinstance(error, SessionRejectedError)
    assert (error.status_code, error.headers["retry-after"]) == (503, "1")


async def test_an_answer_that_never_comes(
    client_config: ClientFactory, certs: Certificates
) -> None:
    async with tcp_door(certs.server) as door, client_of(client_config) as client:
        for seconds in (0.1, 1.0, 10.0):  # until the machine is fast enough for TLS
            error = await failure(client, door.port, timeout=seconds)
            if door.requests:
                break
        await door.until(lambda: door.open == 0)
    assert isinstance(error, TimeoutError)
    assert error.operation == "session"
    assert "cannot be reached" in error.__notes__[0]


# ------------------------------------------------------------------- cancellation, close


@pytest.mark.parametrize("tls", [False, True])
async def test_cancelling_leaves_nothing_open(
    client_config: ClientFactory, certs: Certificates, tls: bool
) -> None:
    """In the TLS handshake, and while the answer is awaited."""
    async with (
        tcp_door(certs.server if tls else None) as door,
        black_hole(door.port),
        client_of(client_config, fallback_delay=0) as client,
    ):
        task = asyncio.ensure_future(client.connect(f"https://127.0.0.1:{door.port}/"))
        await door.until(lambda: bool(door.requests if tls else door.arrived))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await door.until(lambda: door.open == 0)
        assert client.connections == ()
        assert not client.lacks_room("127.0.0.1", door.port)


@pytest.mark.parametrize("turns", range(12))
@pytest.mark.loops("asyncio")
async def test_cancelling_in_any_turn(
    client_config: ClientFactory, certs: Certificates, turns: int
) -> None:
    async with (
        tcp_door(certs.server, answer=NOT_FOUND) as door,
        client_of(client_config, fallback_delay=0) as client,
    ):
        task = asyncio.ensure_future(client.connect(f"https://127.0.0.1:{door.port}/"))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises((asyncio.CancelledError, SessionRejectedError)):
            await task
        await door.until(lambda: door.open == 0)
        assert client.connections == ()


@pytest.mark.parametrize("tls", [False, True])
async def test_closing_the_client_ends_the_race(
    client_config: ClientFactory, certs: Certificates, tls: bool
) -> None:
    """In the TLS handshake, and while the answer is awaited."""
    async with tcp_door(certs.server if tls else None) as door, black_hole(door.port):
        client = client_of(client_config, fallback_delay=0)
        task = asyncio.ensure_future(client.connect(f"https://127.0.0.1:{door.port}/"))
        await door.until(lambda: bool(door.requests if tls else door.arrived))
        await client.close()
        with pytest.raises(ClientError, match="closed while it connected"):
            await task
        await door.until(lambda: door.open == 0)


async def test_closing_clients_above_it_ends_the_race(client_config: ClientFactory) -> None:
    async with tcp_door() as door, black_hole(door.port):
        url = f"https://127.0.0.1:{door.port}/"
        config = client_config(fallback="websocket", fallback_delay=0)
        reconnecting = ReconnectingClient(url, config=config)
        await reconnecting.__aenter__()
        await door.until(lambda: door.arrived == 1)
        await reconnecting.close()
        pool = PooledClient(config=config)
        waiting = asyncio.ensure_future(pool.get_session(url))
        await door.until(lambda: door.arrived == 2)
        await pool.close()
        with pytest.raises(ClientError, match="closed"):
            await waiting
        await door.until(lambda: door.open == 0)


# ----------------------------------------------------------------------------- arguments


def test_a_udp_proxy_has_no_fallback(client_config: ClientFactory) -> None:
    config = client_config(fallback="websocket")
    for fields in ({"config": config}, {"target_config": config}):
        with pytest.raises(ConfigurationError) as caught:
            WebTransportProxy("https://proxy.example", **fields)
        assert caught.value.config_key == "fallback"


async def test_the_function_connect_has_it_too(
    client_config: ClientFactory, certs: Certificates
) -> None:
    async with tcp_door(certs.server, answer=NOT_FOUND) as door:
        with pytest.raises(SessionRejectedError):
            await connect(
                f"https://127.0.0.1:{door.port}/",
                config=client_config(),
                fallback="websocket",
            )
