"""The server of the demo: ``/echo``, ``/upload`` and ``/download``.

Prints one JSON line when it listens (``url`` and ``certificate_hash``), runs until
SIGINT or SIGTERM, and then ends with exit code 0.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import tempfile
import zlib
from collections.abc import Awaitable, Callable

from pywebtransport import (
    ServerApp,
    ServerConfig,
    WebTransportError,
    WebTransportReceiveStream,
    WebTransportSession,
    WebTransportStream,
)
from pywebtransport.exceptions import SessionClosedError
from pywebtransport.utils import certificate_hash, generate_self_signed_cert

from . import arguments as types
from .payload import blocks

READ_SIZE = 1 << 18
MAX_MESSAGE = 1 << 20
MAX_DOWNLOAD = 1 << 34

StreamHandler = Callable[[WebTransportSession, WebTransportReceiveStream], Awaitable[None]]


async def echo_datagrams(session: WebTransportSession) -> None:
    """Send every datagram back until the session ends."""
    with contextlib.suppress(SessionClosedError):
        while True:
            for data in await session.datagrams.receive_many():
                await session.datagrams.send(data)


async def echo_stream(session: WebTransportSession, stream: WebTransportReceiveStream) -> None:
    """Echo a stream: on the same stream, or on a new unidirectional stream."""
    if isinstance(stream, WebTransportStream):
        while data := await stream.read(size=READ_SIZE):
            await stream.write(data=data)
        await stream.close()
    else:
        reply = await session.create_unidirectional_stream()
        await reply.write_all(data=await stream.read_all(max_size=MAX_MESSAGE))


async def receive_upload(_: WebTransportSession, stream: WebTransportReceiveStream) -> None:
    """Count the bytes that arrive; answer with the count and the CRC-32 as JSON."""
    size = crc = 0
    while data := await stream.read(size=READ_SIZE):
        size += len(data)
        crc = zlib.crc32(data, crc)
    if isinstance(stream, WebTransportStream):
        await stream.write_all(data=json.dumps({"bytes": size, "crc32": crc}).encode())


async def send_download(_: WebTransportSession, stream: WebTransportReceiveStream) -> None:
    """Read ``{"bytes": N}`` and send N bytes followed by their CRC-32 in four bytes."""
    if not isinstance(stream, WebTransportStream):
        return
    size = json.loads(await stream.read_all(max_size=1024))["bytes"]
    if not isinstance(size, int) or not 0 < size <= MAX_DOWNLOAD:
        await stream.abort(code=400)
        return
    crc = 0
    for block in blocks(size):
        crc = zlib.crc32(block, crc)
        await stream.write(data=block)
    await stream.write(data=crc.to_bytes(4, "big"), end_stream=True)


async def serve_streams(session: WebTransportSession, handler: StreamHandler) -> None:
    """Run ``handler`` for every incoming stream until the session ends."""

    async def guarded(stream: WebTransportReceiveStream) -> None:
        # A stream that the peer resets, or a malformed request, ends that stream only.
        with contextlib.suppress(WebTransportError, ValueError, KeyError, TypeError):
            await handler(session, stream)

    async with asyncio.TaskGroup() as tasks:
        async for stream in session.incoming_streams():
            tasks.create_task(guarded(stream))


def create_app(config: ServerConfig) -> ServerApp:
    """Return the demo server."""
    app = ServerApp(config=config)

    @app.route(path="/echo")
    async def echo(session: WebTransportSession) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(echo_datagrams(session))
            await serve_streams(session, echo_stream)

    @app.route(path="/upload")
    async def upload(session: WebTransportSession) -> None:
        await serve_streams(session, receive_upload)

    @app.route(path="/download")
    async def download(session: WebTransportSession) -> None:
        await serve_streams(session, send_download)

    return app


async def serve(*, host: str, port: int, allowed_origins: list[str] | None) -> None:
    """Serve with a new certificate until a signal arrives."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    with tempfile.TemporaryDirectory(prefix="pywebtransport-demo-") as directory:
        certfile, keyfile = generate_self_signed_cert(hostname="localhost", output_dir=directory)
        config = ServerConfig.create(
            certfile=certfile, keyfile=keyfile, allowed_origins=allowed_origins
        )
        async with create_app(config) as app:
            await app.listen(host=host, port=port)
            address = app.server.local_address
            assert address is not None, "a server that listens has an address"
            ready = {
                "url": f"https://{host}:{address[1]}",
                "certificate_hash": certificate_hash(certfile).hex(),
            }
            print(json.dumps(ready), flush=True)
            await stop.wait()


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=types.port, default=0, help="port; 0 means a free port")
    parser.add_argument("--allow-origin", action="append", help="origin of a page that may connect")
    arguments = parser.parse_args()
    try:
        asyncio.run(
            serve(host=arguments.host, port=arguments.port, allowed_origins=arguments.allow_origin)
        )
    except WebTransportError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
