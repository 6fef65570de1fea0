"""What the guard counts: fixed amounts of work between a client and a server in one process.

Each workload is split into a set-up, which is not counted and warms up, and the counted
part. Everything goes through the public API, real sockets and real TLS; every byte count is
checked, so that a workload cannot become cheap by doing less.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from pywebtransport import (
    ClientConfig,
    ServerApp,
    ServerConfig,
    WebTransportClient,
    WebTransportReceiveStream,
    WebTransportSession,
    WebTransportStream,
)
from pywebtransport.exceptions import SessionClosedError
from pywebtransport.utils import certificate_hash, generate_self_signed_cert

KIB = 1024
MIB = 1024 * KIB
BLOCK = 64 * KIB
READ = 256 * KIB
SMALL = 64
MEDIUM = KIB
DATAGRAM = 1000
IN_FLIGHT = 100


@dataclass(frozen=True, slots=True)
class Place:
    """Where to connect.

    Attributes:
        url: The server without a path.
        config: A client's configuration that trusts it.
        session: A session on ``/echo``.
    """

    url: str
    config: ClientConfig
    session: WebTransportSession


@dataclass(frozen=True, slots=True)
class Workload:
    """One thing to count.

    Attributes:
        name: As on the command line and in the record.
        what: One line for people.
        unit: What one operation is.
        operations: How many are counted.
        warm_up: How many come before.
        run: Does as many operations as it is told.
    """

    name: str
    what: str
    unit: str
    operations: int
    warm_up: int
    run: Callable[[Place, int], Awaitable[None]]


class WrongWork(Exception):
    """A workload moved other bytes than it should have."""


def expect(name: str, got: int, wanted: int) -> None:
    """Stop unless the count is right.

    Raises:
        WrongWork: It is not.
    """
    if got != wanted:
        raise WrongWork(f"{name}: {got} instead of {wanted}")


# ---------------------------------------------------------------- the counted part


async def upload(place: Place, mebibytes: int) -> None:
    """One stream to the server in writes of 64 KiB."""
    stream = await place.session.create_bidirectional_stream()
    await stream.write(b"u")
    block = bytes(BLOCK)
    for _ in range(mebibytes * MIB // BLOCK):
        await stream.write(block)
    await stream.close()
    answer = await stream.read_all(max_size=100)
    expect("bytes uploaded", int(answer), mebibytes * MIB)


async def download(place: Place, mebibytes: int) -> None:
    """One stream from the server, which writes 64 KiB at a time."""
    stream = await place.session.create_bidirectional_stream()
    await stream.write_all(b"d" + str(mebibytes * MIB).encode())
    received = 0
    while data := await stream.read(READ):
        received += len(data)
    expect("bytes downloaded", received, mebibytes * MIB)


async def ping_pong(place: Place, count: int) -> None:
    """64 bytes there and back on one stream, one message in flight."""
    stream = await place.session.create_bidirectional_stream()
    await stream.write(b"e")
    message = bytes(range(SMALL))
    for _ in range(count):
        await stream.write(message)
        if await stream.readexactly(SMALL) != message:
            raise WrongWork("ping-pong: another message came back")
    await stream.close()
    expect("bytes after the last message", len(await stream.read_all()), 0)


async def streams(place: Place, count: int) -> None:
    """A bidirectional stream per 1 KiB and its echo, 100 at a time."""
    message = bytes(MEDIUM)

    async def work() -> None:
        for _ in range(count // IN_FLIGHT):
            stream = await place.session.create_bidirectional_stream()
            await stream.write_all(b"e" + message)
            if await stream.read_all(max_size=2 * MEDIUM) != message:
                raise WrongWork("streams: another message came back")

    async with asyncio.TaskGroup() as tasks:
        for _ in range(IN_FLIGHT):
            tasks.create_task(work())


async def datagrams(place: Place, count: int) -> None:
    """Datagrams of 1000 bytes that the server sends back."""
    payload = bytes(DATAGRAM)
    transport = place.session.datagrams
    received = 0
    for _ in range(count // IN_FLIGHT):
        # Both queues hold as many: none is dropped.
        for _ in range(IN_FLIGHT):
            await transport.send(payload)
        expected = received + IN_FLIGHT
        while received < expected:
            received += len(await transport.receive_many())
    expect("datagrams", received, count)


async def sessions(place: Place, count: int) -> None:
    """A new client, its connection with a full handshake, a session, and the end of all three."""
    for _ in range(count):
        async with (
            WebTransportClient(config=place.config) as client,
            client.connect(f"{place.url}/echo") as session,
        ):
            if not session.is_ready:
                raise WrongWork("sessions: one was not ready")


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("upload", "one stream, 64 KiB writes", "MiB", 64, 8, upload),
        Workload("download", "one stream, 64 KiB writes", "MiB", 64, 8, download),
        Workload(
            "ping-pong", "64 B there and back on one stream", "round trip", 1000, 200, ping_pong
        ),
        Workload("streams", "1 KiB echo per stream, 100 at a time", "stream", 2000, 400, streams),
        Workload("datagrams", "1000 B echo, 100 at a time", "datagram", 5000, 1000, datagrams),
        Workload(
            "sessions", "connect, session and close, one at a time", "session", 40, 10, sessions
        ),
    )
}


# ----------------------------------------------------------------------- the set-up


async def _serve_stream(stream: WebTransportReceiveStream) -> None:
    if not isinstance(stream, WebTransportStream):
        return
    order = await stream.readexactly(1)
    if order == b"u":
        size = 0
        while data := await stream.read(READ):
            size += len(data)
        await stream.write_all(str(size).encode())
    elif order == b"d":
        block = bytes(BLOCK)
        for _ in range(int(await stream.read_all(max_size=100)) // BLOCK):
            await stream.write(block)
        await stream.close()
    else:
        while data := await stream.read(READ):
            await stream.write(data)
        await stream.close()


async def _echo_datagrams(session: WebTransportSession) -> None:
    with contextlib.suppress(SessionClosedError):
        while True:
            for data in await session.datagrams.receive_many():
                await session.datagrams.send(data)


async def _serve_session(session: WebTransportSession) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_echo_datagrams(session))
        async for stream in session.incoming_streams():
            tasks.create_task(_serve_stream(stream))


@asynccontextmanager
async def place(directory: Path) -> AsyncIterator[Place]:
    """A server and a session with it on the running loop.

    Args:
        directory: Where the certificate is made.
    """
    certfile, keyfile = generate_self_signed_cert(hostname="localhost", output_dir=str(directory))
    app = ServerApp(
        config=ServerConfig(
            bind_host="127.0.0.1",
            bind_port=0,
            certfile=certfile,
            keyfile=keyfile,
            access_log=False,
            retry="off",
        )
    )
    app.route("/echo")(_serve_session)
    config = ClientConfig(server_certificate_hashes=[certificate_hash(certfile)])
    async with app:
        await app.listen()
        address = app.server.local_address
        if address is None:
            raise WrongWork("the server does not listen")
        url = f"https://127.0.0.1:{address[1]}"
        async with WebTransportClient(config=config) as client:
            yield Place(url, config, await client.connect(f"{url}/echo"))
        await app.server.close(drain_timeout=0)
