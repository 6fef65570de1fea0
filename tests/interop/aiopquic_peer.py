"""aiopquic as a WebTransport client and server: its process, seen from here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from tests.support.certificates import Certificates
from tests.support.ports import free_port

from .link import Far
from .process import PeerServer, PeerSession, program

__all__ = ["aiopquic_client", "aiopquic_server"]

_PROGRAM = Path(__file__).parent / "peers" / "aiopquic_program.py"


def _program(python: str) -> AbstractAsyncContextManager[PeerSession]:
    return program(
        python,
        str(_PROGRAM),
        environment={"PYTHONDONTWRITEBYTECODE": "1"},
        session=PeerSession,
    )


@asynccontextmanager
async def aiopquic_client(
    python: str, certs: Certificates, port: int, path: str
) -> AsyncIterator[Far]:
    """A session to the server on ``127.0.0.1``; the certificate is verified."""
    async with _program(python) as session:
        await session.call("connect", port=port, path=path, cafile=certs.authority.certfile)
        yield session


@asynccontextmanager
async def aiopquic_server(python: str, certs: Certificates, path: str) -> AsyncIterator[PeerServer]:
    """A server on a free port, of all addresses as aiopquic binds it."""
    async with _program(python) as session:
        port = free_port()
        await session.call("listen", port=port, path=path, **certs.server.files)
        yield PeerServer(port, session)
