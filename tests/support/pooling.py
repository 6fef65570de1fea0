"""What the tests of pools, balancers and connection helpers share."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pywebtransport.connection import WebTransportConnection
from pywebtransport.session import WebTransportSession
from tests.support.ports import free_port


async def open_session(connection: WebTransportConnection) -> WebTransportSession:
    """The session that was requested together with the connection, accepted."""
    session_id = await connection.wait_for_ready_session()
    session = WebTransportSession(connection, session_id=session_id)
    await session.ready()
    return session


async def ask(session: WebTransportSession, text: bytes) -> bytes:
    """Send ``text`` on a stream of its own and read the echo."""
    stream = await session.create_bidirectional_stream()
    await stream.write_all(text)
    return await stream.read_all()


def closed_port() -> int:
    """A UDP port of 127.0.0.1 on which nobody listens."""
    return free_port()


@contextmanager
def silent_port() -> Iterator[int]:
    """A UDP port of 127.0.0.1 that swallows everything."""
    with silent_socket() as sock:
        yield int(sock.getsockname()[1])


@contextmanager
def silent_socket() -> Iterator[socket.socket]:
    """The socket of such a port, for tests that want to see what comes; it never blocks."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        yield sock


def senders(sock: socket.socket) -> list[object]:
    """Where the packets come from that wait in a socket that never blocks; takes them out."""
    found: list[object] = []
    with suppress(BlockingIOError):
        while True:
            found.append(sock.recvfrom(65536)[1])
    return found
