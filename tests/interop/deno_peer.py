"""Deno and @moq/web-transport, which runs in Deno, as WebTransport clients and servers."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from tests.support.certificates import Certificates
from tests.support.ports import free_port

from .environment import deno, deno_environment, moq
from .link import pattern
from .process import PeerServer, PeerSession, program

__all__ = ["ScriptSession", "script_client", "script_server"]

_PROGRAMS = Path(__file__).parent / "peers"


class ScriptSession(PeerSession):
    """A session in the hands of a script, which cannot make ``pattern`` itself."""

    tells_ids = False

    async def send_pattern(self, stream_id: int, size: int, seed: int) -> None:
        with tempfile.NamedTemporaryFile(prefix="pywebtransport-") as file:
            file.write(pattern(size, seed))
            file.flush()
            await self.call("send_file", stream_id=stream_id, path=file.name)


def _program(name: str) -> AbstractAsyncContextManager[ScriptSession]:
    command, directory = (deno(), _PROGRAMS) if name == "deno" else moq()
    return program(
        *command,
        *("run", "--quiet", "--allow-all", "--unstable-net", "--no-config"),
        str(_PROGRAMS / f"{name}_program.mjs"),
        environment=deno_environment(),
        directory=directory,
        session=ScriptSession,
    )


@asynccontextmanager
async def script_client(
    name: str, certs: Certificates, port: int, path: str, protocols: Sequence[str] = ()
) -> AsyncIterator[ScriptSession]:
    """A session to the server on ``127.0.0.1``; its certificate is known by hash.

    Args:
        name: ``deno`` or ``moq``.
        certs: Their ``server`` is the server's.
        port: Of the server.
        path: Of the session.
        protocols: Application protocols to offer.
    """
    async with _program(name) as session:
        await session.call(
            "connect", port=port, path=path, hash=certs.server.hash.hex(), protocols=list(protocols)
        )
        yield session


@asynccontextmanager
async def script_server(name: str, certs: Certificates) -> AsyncIterator[PeerServer]:
    """A server on a free port of ``127.0.0.1``."""
    async with _program(name) as session:
        port = await session.call("listen", port=free_port(), **certs.server.files)
        yield PeerServer(int(port), session)
