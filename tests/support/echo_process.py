"""A server in a process of its own: ``python -m tests.support.echo_process CERT KEY [LOOP]``.

Logs its port to standard output and serves until SIGTERM. Paths:

- ``/echo``: bidirectional streams and datagrams come back; a unidirectional stream comes back on
  one of the server's.
- ``/sink``: a bidirectional stream is read to its end and answered with size and SHA-256.
- ``/source``: an 8-byte number N on a bidirectional stream is answered with N bytes of
  ``payload(N)``.
- ``/close``: the session is closed with code 4242 and a reason once the client opened a stream.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sys
from collections.abc import Coroutine

from pywebtransport import ServerApp, ServerConfig
from pywebtransport.exceptions import WebTransportError
from pywebtransport.session import WebTransportSession
from pywebtransport.stream import WebTransportReceiveStream, WebTransportStream

from .loops import FACTORIES
from .payload import payload

CLOSE_CODE = 4242
CLOSE_REASON = "seen enough"


async def echo(session: WebTransportSession) -> None:
    """Everything comes back."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_echo_datagrams(session))
        async for stream in session.incoming_streams():
            if isinstance(stream, WebTransportStream):
                group.create_task(_quiet(_echo_stream(stream)))
            else:
                group.create_task(_quiet(_echo_back(session, stream)))


async def sink(session: WebTransportSession) -> None:
    """Uploads."""
    async for stream in session.incoming_bidirectional_streams():
        received, sha = 0, hashlib.sha256()
        async for chunk in stream:
            received += len(chunk)
            sha.update(chunk)
        await stream.write_all(received.to_bytes(8, "big") + sha.digest())


async def source(session: WebTransportSession) -> None:
    """Downloads."""
    async for stream in session.incoming_bidirectional_streams():
        size = int.from_bytes(await stream.readexactly(8), "big")
        await stream.write_all(payload(size))


async def close(session: WebTransportSession) -> None:
    """Closes from this side."""
    async for _ in session.incoming_streams():
        await session.close(code=CLOSE_CODE, reason=CLOSE_REASON)


async def _echo_datagrams(session: WebTransportSession) -> None:
    try:
        while True:
            await session.datagrams.send(await session.datagrams.receive())
    except WebTransportError:
        return


async def _echo_stream(stream: WebTransportStream) -> None:
    async for chunk in stream:
        await stream.write(chunk)
    await stream.close()


async def _echo_back(session: WebTransportSession, stream: WebTransportReceiveStream) -> None:
    data = await stream.read_all(max_size=64 * 1024 * 1024)
    back = await session.create_unidirectional_stream()
    await back.write_all(data)


async def _quiet(work: Coroutine[object, object, None]) -> None:
    """A stream that the client gave up ends alone."""
    try:
        await work
    except WebTransportError:
        return


def main() -> None:
    """Serve until SIGTERM."""
    certfile, keyfile, loop_name = [*sys.argv[1:], "asyncio"][:3]
    # The line "listening on 127.0.0.1 port N" tells the parent where.
    server_log = logging.getLogger("pywebtransport.server")
    server_log.addHandler(logging.StreamHandler(sys.stdout))
    server_log.setLevel(logging.INFO)
    app = ServerApp(
        config=ServerConfig(
            certfile=certfile,
            keyfile=keyfile,
            access_log=False,
            drain_timeout=0,
            close_timeout=0.5,
            retry="off",
        )
    )
    for path, handler in (("/echo", echo), ("/sink", sink), ("/source", source), ("/close", close)):
        app.route(path)(handler)
    app.run(host="127.0.0.1", port=0, loop_factory=FACTORIES[loop_name])


if __name__ == "__main__":
    main()
