"""What the tests of pools, balancers and connection helpers share."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

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
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield int(sock.getsockname()[1])
