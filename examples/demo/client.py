"""The client of the demo: measures a server and checks every byte.

Exits with 0 if all checks pass, and with 1 at the first check that fails.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from pywebtransport import (
    ClientConfig,
    TimeoutError,
    WebTransportClient,
    WebTransportError,
    WebTransportReceiveStream,
    WebTransportSession,
)

from . import arguments as types
from .payload import blocks, checksum

OPENS = 9
DATAGRAMS = 200
DATAGRAM_TIMEOUT = 1.0
PING_PONGS = 2000
READ_SIZE = 1 << 18
MIB = 1 << 20

console = Console(highlight=False)


class CheckFailedError(Exception):
    """The server sent a wrong answer."""


def check(actual: object, expected: object, what: str) -> None:
    """Raise an error that describes the difference, if there is one."""
    if actual != expected:
        raise CheckFailedError(f"{what}: expected {expected!r}, got {actual!r}")


def report(what: str, figure: str) -> None:
    """Print one line of the result."""
    console.print(f"  [green]ok[/green]  {what:<34}[bold]{figure:>18}[/bold]")


class SpeedColumn(ProgressColumn):
    """The speed of a transfer in MiB/s."""

    def render(self, task: Task) -> Text:
        """Return the text of the column."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed / MIB:,.0f} MiB/s" if speed else "", style="progress.data.speed")


@contextmanager
def progress_bar(what: str, size: int) -> Iterator[tuple[Progress, TaskID]]:
    """Show a progress bar while the block runs."""
    with Progress(
        TextColumn(f"      {what:<10}"),
        BarColumn(bar_width=28),
        DownloadColumn(binary_units=True),
        SpeedColumn(),
        TimeElapsedColumn(),
        console=console,
    ) as progress:
        yield progress, progress.add_task(what, total=size)


async def measure_open(url: str, config: ClientConfig) -> None:
    """Open a new connection with a session on it, several times."""
    durations = []
    for _ in range(OPENS):
        async with WebTransportClient(config=config) as client:
            start = time.perf_counter()
            async with await client.connect(url=f"{url}/echo"):
                durations.append(time.perf_counter() - start)
    report(f"session open, median of {OPENS}", f"{statistics.median(durations) * 1e3:.2f} ms")


async def measure_datagrams(session: WebTransportSession) -> None:
    """Echo datagrams one after the other. Count lost ones; a wrong one is an error."""
    durations = []
    for number in range(DATAGRAMS):
        data = number.to_bytes(4, "big") + b" datagram"
        start = time.perf_counter()
        await session.datagrams.send(data=data)
        try:
            answer = await session.datagrams.receive(timeout=DATAGRAM_TIMEOUT)
            while answer[:4] < data[:4]:  # a late answer to an earlier datagram
                answer = await session.datagrams.receive(timeout=DATAGRAM_TIMEOUT)
        except TimeoutError:
            continue
        check(answer, data, "datagram echo")
        durations.append(time.perf_counter() - start)
    if len(durations) < DATAGRAMS / 2:
        raise CheckFailedError(f"datagram echo: {len(durations)} of {DATAGRAMS} came back")
    p50 = statistics.median(durations) * 1e6
    report(f"datagram echo, {len(durations)} of {DATAGRAMS}, p50", f"{p50:.0f} us")


async def measure_bidirectional(session: WebTransportSession) -> None:
    """Echo one bidirectional stream."""
    message = b"hello on a bidirectional stream"
    start = time.perf_counter()
    stream = await session.create_bidirectional_stream()
    await stream.write_all(data=message)
    check(await stream.read_all(), message, "bidirectional echo")
    report("bidirectional stream echo", f"{(time.perf_counter() - start) * 1e6:.0f} us")


async def measure_unidirectional(session: WebTransportSession) -> None:
    """Send a unidirectional stream and receive the answer on another."""
    message = b"hello on a unidirectional stream"
    start = time.perf_counter()
    stream = await session.create_unidirectional_stream()
    await stream.write_all(data=message)
    async for answer in session.incoming_streams():
        if not isinstance(answer, WebTransportReceiveStream):
            raise CheckFailedError(f"unidirectional echo: got {answer!r}")
        check(await answer.read_all(), message, "unidirectional echo")
        break
    report("unidirectional stream echo", f"{(time.perf_counter() - start) * 1e6:.0f} us")


async def measure_ping_pong(session: WebTransportSession) -> None:
    """Send 64 bytes back and forth on one stream, many times."""
    message = bytes(range(64))
    stream = await session.create_bidirectional_stream()
    start = time.perf_counter()
    for _ in range(PING_PONGS):
        await stream.write(data=message)
        check(await stream.readexactly(n=len(message)), message, "ping-pong")
    rate = PING_PONGS / (time.perf_counter() - start)
    await stream.close()
    report(f"ping-pong, {PING_PONGS} times 64 B", f"{rate:,.0f} /s")


async def measure_upload(session: WebTransportSession, size: int) -> None:
    """Send ``size`` bytes; the server answers with what it counted."""
    expected = {"bytes": size, "crc32": checksum(size)}
    with progress_bar("upload", size) as (progress, task):
        start = time.perf_counter()
        stream = await session.create_bidirectional_stream()
        for block in blocks(size):
            await stream.write(data=block)
            progress.advance(task, len(block))
        await stream.write(data=b"", end_stream=True)
        answer = json.loads(await stream.read_all())
        rate = size / (time.perf_counter() - start) / MIB
    check(answer, expected, "upload")
    report(f"upload, {size / MIB:g} MiB, checksum verified", f"{rate:,.0f} MiB/s")


async def measure_download(session: WebTransportSession, size: int) -> None:
    """Receive ``size`` bytes and their checksum."""
    expected = checksum(size)
    received = crc = 0
    tail = b""
    with progress_bar("download", size) as (progress, task):
        start = time.perf_counter()
        stream = await session.create_bidirectional_stream()
        await stream.write(data=json.dumps({"bytes": size}).encode(), end_stream=True)
        while data := await stream.read(size=READ_SIZE):
            body = data[: max(0, size - received)]
            tail += data[len(body) :]
            received += len(body)
            crc = zlib.crc32(body, crc)
            progress.advance(task, len(body))
        rate = size / (time.perf_counter() - start) / MIB
    check((received, crc), (size, expected), "download (bytes, checksum)")
    check(int.from_bytes(tail, "big"), expected, "download, checksum of the server")
    report(f"download, {size / MIB:g} MiB, checksum verified", f"{rate:,.0f} MiB/s")


async def run(*, url: str, certificate_hash: str, size: int) -> None:
    """Run every measurement against the server at ``url``."""
    config = ClientConfig.create(server_certificate_hashes=[certificate_hash])
    await measure_open(url, config)
    async with WebTransportClient(config=config) as client:
        async with await client.connect(url=f"{url}/echo") as session:
            await measure_datagrams(session)
            await measure_bidirectional(session)
            await measure_unidirectional(session)
            await measure_ping_pong(session)
        async with await client.connect(url=f"{url}/upload") as session:
            await measure_upload(session, size)
        async with await client.connect(url=f"{url}/download") as session:
            await measure_download(session, size)


def main() -> int:
    """Parse the command line, run, and turn the outcome into an exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="URL of the server, without a path")
    parser.add_argument("certificate_hash", help="SHA-256 of the server certificate, in hex")
    parser.add_argument("--size", type=types.size, default="256MiB")
    arguments = parser.parse_args()
    console.print(f"client connects to {arguments.url}, certificate pinned by its hash")
    try:
        asyncio.run(
            run(
                url=arguments.url,
                certificate_hash=arguments.certificate_hash,
                size=arguments.size,
            )
        )
    except (WebTransportError, CheckFailedError) as error:
        console.print(f"  [red]failed[/red]  {type(error).__name__}: {escape(str(error))}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
