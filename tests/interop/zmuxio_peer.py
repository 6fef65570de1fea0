"""zmuxio as a QMux client and server over WebSocket: its process, seen from here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from tests.support.certificates import Certificates

from .process import PeerServer, PeerSession, program

__all__ = ["zmuxio_client", "zmuxio_server"]

_PROGRAM = Path(__file__).parent / "peers" / "zmuxio_program.py"


class _Session(PeerSession):
    """A session whose streams have no ID before something of them is on the wire."""

    tells_ids = False


def _program(python: str) -> AbstractAsyncContextManager[_Session]:
    return program(
        python,
        str(_PROGRAM),
        environment={"PYTHONDONTWRITEBYTECODE": "1"},
        session=_Session,
    )


@asynccontextmanager
async def zmuxio_client(
    python: str, certs: Certificates, port: int, path: str
) -> AsyncIterator[PeerSession]:
    """A session to the server on ``127.0.0.1``; the certificate is verified."""
    async with _program(python) as session:
        await session.call("connect", port=port, path=path, cafile=certs.authority.certfile)
        yield session


@asynccontextmanager
async def zmuxio_server(python: str, certs: Certificates) -> AsyncIterator[PeerServer]:
    """A server on a free port of ``127.0.0.1``."""
    async with _program(python) as session:
        port = await session.call("listen", **certs.server.files)
        yield PeerServer(int(port), session)
