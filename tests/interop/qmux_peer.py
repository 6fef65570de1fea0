"""@moq/qmux and its ancestors in Node, as clients and servers over WebSocket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from tests.support.certificates import Certificates

from .deno_peer import ScriptSession
from .environment import node
from .process import PeerServer, program

__all__ = ["CURRENT", "qmux_client", "qmux_server"]

_PROGRAM = Path(__file__).parent / "peers" / "qmux_program.mjs"
CURRENT = "@moq/qmux"


def _program(package: str) -> AbstractAsyncContextManager[ScriptSession]:
    return program(
        *("node", str(_PROGRAM), package), environment={}, directory=node(), session=ScriptSession
    )


@asynccontextmanager
async def qmux_client(
    certs: Certificates,
    port: int,
    path: str,
    protocols: Sequence[str] = (),
    *,
    package: str = CURRENT,
) -> AsyncIterator[ScriptSession]:
    """A session to the server on ``127.0.0.1``; the certificate is verified.

    Args:
        certs: Their ``server`` is the server's.
        port: Of the server.
        path: Of the session.
        protocols: Application protocols to offer.
        package: One of ``NODE_REQUIREMENTS``.
    """
    async with _program(package) as session:
        await session.call(
            "connect",
            port=port,
            path=path,
            cafile=certs.authority.certfile,
            protocols=list(protocols),
        )
        yield session


@asynccontextmanager
async def qmux_server(
    certs: Certificates, protocols: Sequence[str] = (), *, refuse: int = 0
) -> AsyncIterator[PeerServer]:
    """A server on a free port of ``127.0.0.1``.

    Args:
        certs: Their ``server`` is the server's.
        protocols: Application protocols that it speaks.
        refuse: Status that it answers every request with, instead of taking it.
    """
    async with _program(CURRENT) as session:
        port = await session.call(
            "listen", protocols=list(protocols), refuse=refuse, **certs.server.files
        )
        yield PeerServer(int(port), session)
