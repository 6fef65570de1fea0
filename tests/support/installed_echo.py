"""An echo with the installed package: ``python installed_echo.py``, in any virtualenv.

It uses nothing else of this repository. It prints the version of the package, the C libraries of
QUIC and TLS that the process has loaded, and what came back over the loopback interface.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pywebtransport
from pywebtransport import WebTransportSession, WebTransportStream, connect, serve


async def echo_stream(stream: WebTransportStream) -> None:
    """Send back what arrives."""
    await stream.write_all(await stream.read_all())


async def echo(session: WebTransportSession) -> None:
    """Serve streams and datagrams."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(session.serve_streams(echo_stream))
        async for datagram in session.datagrams:
            session.datagrams.try_send(datagram)


async def main() -> None:
    """Echo a stream and a datagram."""
    async with serve(echo, "localhost", 0) as server:
        pins = [server.certificate_hash]
        async with connect(server.url, server_certificate_hashes=pins) as session:
            async with await session.create_bidirectional_stream() as stream:
                await stream.write_all(b"hello, stream")
                print("stream:", (await stream.read_all()).decode())
            await session.datagrams.send(b"hello, datagram")
            print("datagram:", (await session.datagrams.receive(timeout=10)).decode())


def loaded() -> list[str]:
    """The shared libraries of this process, but for those of Python and of C itself."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    paths = {line.split(maxsplit=5)[5] for line in maps if "/lib" in line and ".so" in line}
    wanted = ("libngtcp2", "libgnutls", "libnettle", "libhogweed", "libgmp", "libp11-kit")
    return sorted(path for path in paths if Path(path).name.startswith(wanted))


if __name__ == "__main__":
    print("package:", pywebtransport.__version__, Path(pywebtransport.__file__).parent)
    asyncio.run(main())
    for library in loaded():
        print("library:", library)
