"""One end of a session that reports packet sizes: ``python -m tests.support.mtu_process OPTIONS``.

OPTIONS is a JSON object: ``certfile`` and ``keyfile`` for a server, ``hash`` for a client, and
``host``. It answers each line of its standard input with one of JSON:

- ``send N``: sends streams of N bytes, one after the other, until the peer has acknowledged one;
- ``below N``, ``above N``: goes on sending streams until the largest datagram is below or above
  N bytes;
- ``datagram N``: sends a datagram of N bytes; the answer says whether it was taken;
- ``refused N``: sends datagrams of N bytes until one is too large.

The other end reads all there is. A session that ends, ends the program.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from pywebtransport import ClientConfig, ServerApp, ServerConfig, WebTransportClient
from pywebtransport.exceptions import DatagramTooLargeError
from pywebtransport.session import WebTransportSession

PORT = 4433
_PIECE = 20_000


def say(**fields: Any) -> None:
    """Print one line."""
    print(json.dumps(fields), flush=True)


async def send(session: WebTransportSession, size: int) -> None:
    """One stream, up to the acknowledgement of its last byte."""
    stream = await session.create_unidirectional_stream()
    await stream.write(bytes(size), end_stream=True)
    await stream.wait_acknowledged()


async def obey(session: WebTransportSession, command: str, number: int) -> dict[str, Any]:
    """Do what a line says."""
    if command == "datagram":
        return {"taken": await take(session, number)}
    if command == "refused":
        while await take(session, number):
            pass
        return {}
    if command == "send":
        await send(session, number)
    while (command == "below" and session.max_datagram_size >= number) or (
        command == "above" and session.max_datagram_size <= number
    ):
        await send(session, _PIECE)
    return {}


async def take(session: WebTransportSession, size: int) -> bool:
    """Whether a datagram of this size may be sent."""
    try:
        await session.datagrams.send(bytes(size))
    except DatagramTooLargeError:
        return False
    return True


async def read_all(session: WebTransportSession) -> None:
    """Take what the other end sends."""
    async with asyncio.TaskGroup() as group:
        group.create_task(read_datagrams(session))
        async for stream in session.incoming_unidirectional_streams():
            group.create_task(stream.read_all())


async def read_datagrams(session: WebTransportSession) -> None:
    """Take the datagrams."""
    while True:
        await session.datagrams.receive()


async def serve_lines(session: WebTransportSession) -> None:
    """Until standard input ends."""
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(read_all(session))
        while line := (await lines.readline()).decode().split():
            answer = await obey(session, line[0], int(line[1]))
            say(size=session.max_datagram_size, **answer)
        reading.cancel()
    transport.close()


async def server(options: dict[str, Any]) -> None:
    """Serve one session."""
    files = {"certfile": options["certfile"], "keyfile": options["keyfile"]}
    app = ServerApp(config=ServerConfig.create(**files, close_timeout=1.0))
    done = asyncio.Event()

    @app.route("/")
    async def handler(session: WebTransportSession) -> None:
        try:
            await serve_lines(session)
        finally:
            done.set()

    async with app:
        await app.listen(host=options["host"], port=PORT)
        say(ready=True)
        await done.wait()


async def client(options: dict[str, Any]) -> None:
    """Open the session."""
    config = ClientConfig.create(server_certificate_hashes=[options["hash"]], close_timeout=1.0)
    async with WebTransportClient(config=config) as it:
        session = await it.connect(f"https://{options['host']}:{PORT}/")
        say(ready=True)
        await serve_lines(session)


def main() -> None:
    """Parse the options and run."""
    options = json.loads(sys.argv[1])
    asyncio.run(client(options) if "hash" in options else server(options))


if __name__ == "__main__":
    main()
