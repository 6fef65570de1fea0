"""The TCP sockets of a server with ``websocket=True``: bound beside UDP ones, or passed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pywebtransport._loop import bind_udp_sockets
from pywebtransport._loop.sockets import BindAddress
from pywebtransport.exceptions import ConfigurationError, ServerError
from pywebtransport.server import WebTransportServer
from pywebtransport.testing import Network
from tests.integration.test_passed_sockets import activated
from tests.support.asgi_tcp import RawTcp, tls_of
from tests.support.certificates import Certificates
from tests.support.endpoints import make_server_config
from tests.support.ports import free_port, free_port_of_both

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


def server_of(certs: Certificates, **fields: Any) -> WebTransportServer:
    """A server that does not listen yet."""
    fields = {"network": None, "drain_timeout": 0, "websocket": True, **fields}
    return WebTransportServer(config=make_server_config(certs, **fields))


@contextmanager
def bound_pair(*, is_listening: bool = True) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A UDP and a TCP socket on one port, as systemd has them."""
    tcp: list[socket.socket] = []
    (udp,) = bind_udp_sockets([BindAddress(socket.AF_INET, ("127.0.0.1", 0))], tcp)
    with udp, tcp[0]:
        if is_listening:
            tcp[0].listen()
        yield udp, tcp[0]


async def status_of(certs: Certificates, port: int) -> bytes:
    """What the server answers to a request over TCP."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls_of(certs))
    async with RawTcp(reader, writer) as raw:
        await raw.send(GET)
        return (await raw.rest())[:12]


# -------------------------------------------------------------------------- beside UDP


async def test_both_protocols_have_one_port(certs: Certificates) -> None:
    """On each address; a later one has another port."""
    async with server_of(certs) as server:
        await server.listen(host="localhost", port=0)
        await server.listen(host="127.0.0.2", port=0)
        first, second, third = server.local_addresses
        assert first[1] == second[1] != third[1]
        for host, port in server.local_addresses:
            reader, writer = await asyncio.open_connection(
                host, port, ssl=tls_of(certs), server_hostname="localhost"
            )
            async with RawTcp(reader, writer) as raw:
                await raw.send(GET)
                assert b'alt-svc: h3=":%d"' % port in await raw.rest()


async def test_a_tcp_port_that_is_taken(certs: Certificates) -> None:
    """Then nothing is served, and nothing stays open."""
    port = free_port(socket.SOCK_STREAM)
    with socket.create_server(("127.0.0.1", port)):
        async with server_of(certs) as server:
            with pytest.raises(ServerError, match=rf"cannot bind TCP 127.0.0.1:{port}: .*in use"):
                await server.listen(port=port)
            assert not server.is_serving
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
                again.bind(("127.0.0.1", port))
        async with server_of(certs, websocket=False) as server:
            await server.listen(port=port)


async def test_without_the_field_nothing_listens(certs: Certificates) -> None:
    async with server_of(certs, websocket=False) as server:
        await server.listen()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", server.port)


async def test_a_network_in_memory_has_no_tcp(certs: Certificates) -> None:
    async with server_of(certs, network=Network()) as server:
        with pytest.raises(ConfigurationError, match="websocket=True: a network") as caught:
            await server.listen()
        assert caught.value.config_key == "websocket"


async def test_without_the_package_the_server_does_not_start(
    certs: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "websockets", None)
    async with server_of(certs) as server:
        with pytest.raises(ConfigurationError, match="websockets cannot be imported: pip install"):
            await server.listen()
        assert not server.is_serving


# ------------------------------------------------------------------------------ passed


async def test_passed_tcp_sockets_are_left_to_their_owner(certs: Certificates) -> None:
    """They listen on when the server has ended: a client that connects waits for the next one."""
    with bound_pair() as (udp, tcp):
        port = udp.getsockname()[1]
        kept = tcp.dup()
        async with server_of(certs) as server:
            await server.listen(sockets=[udp, tcp])
            assert (udp.fileno(), tcp.fileno()) == (-1, -1)
            assert server.local_addresses == [("127.0.0.1", port)]
            assert await status_of(certs, port) == b"HTTP/1.1 404"
        with kept:
            waiting = asyncio.ensure_future(status_of(certs, port))
            again = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            again.bind(("127.0.0.1", port))
            async with server_of(certs) as server:
                await server.listen(sockets=[again, kept])
                assert await waiting == b"HTTP/1.1 404"


async def test_sockets_that_do_not_listen_yet(certs: Certificates) -> None:
    with bound_pair(is_listening=False) as (udp, tcp):
        port = udp.getsockname()[1]
        async with server_of(certs) as server:
            await server.listen(sockets=[tcp, udp])  # in any order
            assert await status_of(certs, port) == b"HTTP/1.1 404"


async def test_a_udp_socket_gets_a_tcp_socket_beside_it(certs: Certificates) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        port = udp.getsockname()[1]
        async with server_of(certs) as server:
            await server.listen(sockets=[udp])
            assert await status_of(certs, port) == b"HTTP/1.1 404"


async def test_passed_sockets_that_do_not_fit_are_refused(certs: Certificates) -> None:
    """They stay as they are, and so does the server."""
    with bound_pair() as (udp, tcp), bound_pair() as (other_udp, other_tcp):
        async with server_of(certs) as server:
            for sockets, words in (
                ([tcp], "needs a UDP socket"),
                ([udp, other_tcp], "need the ports of the UDP sockets"),
                ([udp, other_udp, tcp], "need the ports of the UDP sockets"),
            ):
                with pytest.raises(ConfigurationError, match=words) as caught:
                    await server.listen(sockets=sockets)
                assert caught.value.config_key == "sockets"
            await server.listen(sockets=[udp, other_udp, other_tcp, tcp])
    with bound_pair() as (udp, tcp):
        async with server_of(certs, websocket=False) as server:
            with pytest.raises(ConfigurationError, match="nothing is served over TCP"):
                await server.listen(sockets=[udp, tcp])
            await server.listen(sockets=[udp])
            assert tcp.fileno() >= 0


@pytest.mark.parametrize("workers", [1, 2])
async def test_started_for_sockets_of_both_protocols(
    certs: Certificates, loop_name: str, workers: int
) -> None:
    """Workers accept connections on one socket."""
    addresses: list[tuple[str, int] | tuple[str, int, str]]
    addresses = [("127.0.0.1", free_port_of_both()), ("127.0.0.1", 0, "tcp")]
    with activated(
        certs, loop_name, addresses, workers=workers, websocket=True, bind_port=1
    ) as process:
        for _ in range(4):
            assert await status_of(certs, process.port) == b"HTTP/1.1 404"
