"""What the server does with a session, by the kind of its job."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from .interface import Connected, Stream
from .payload import Checker, ContentError, DatagramCounter, blocks
from .usage import collect_and_measure, cpu_seconds, peak_memory

__all__ = ["Server"]

# Writes between two looks at the clock, for small writes.
_LOOK = 16
_LARGE = 1 << 14


class Server:
    """Serves the sessions of one job and knows the figures of this end."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._job = job
        self._serve: Callable[[Connected], Awaitable[None]] = getattr(self, f"_{job['serve']}")
        self._sessions = self._closed = 0
        self._sent = 0
        self._held: list[Connected] = []
        self._counter = DatagramCounter(job.get("size", 0))
        self._first = self._last = 0.0

    # --- answers to the client

    def usage(self) -> dict[str, Any]:
        """CPU seconds and the peak of memory so far."""
        return {"cpu": cpu_seconds(), "peak": peak_memory()}

    def memory(self) -> dict[str, Any]:
        """Memory now, and how many sessions there were."""
        return {**collect_and_measure(), "sessions": self._sessions}

    def counts(self) -> dict[str, Any]:
        """So far: sessions and their ends, bytes of downloads, and datagrams that arrived."""
        return {
            "sessions": self._sessions,
            "closed": self._closed,
            "sent": self._sent,
            "arrived": self._counter.arrived,
            "distinct": self._counter.distinct,
            "wrong": self._counter.wrong,
            "last": self._last,
        }

    def reset(self) -> dict[str, Any]:
        """Forget the datagrams so far."""
        self._counter = DatagramCounter(self._job.get("size", 0))
        return {}

    # --- sessions

    async def handle(self, session: Connected) -> None:
        """Serve one session."""
        self._sessions += 1
        await self._serve(session)

    async def _hold(self, session: Connected) -> None:
        self._held.append(session)

    async def _accept(self, session: Connected) -> None:
        try:
            await session.wait_closed()
        finally:
            self._closed += 1

    async def _datagram_sink(self, session: Connected) -> None:
        def sink(batch: Iterable[Any]) -> None:
            self._counter.add(batch)
            self._last = time.monotonic()

        await session.receive_datagrams(sink)

    async def _datagram_echo(self, session: Connected) -> None:
        await session.echo_datagrams()

    async def _echo(self, session: Connected) -> None:
        await self._streams(session, self._echo_stream)

    async def _request(self, session: Connected) -> None:
        await self._streams(session, self._answer_request)

    async def _sink(self, session: Connected) -> None:
        await self._streams(session, self._take_upload)

    async def _source(self, session: Connected) -> None:
        await self._streams(session, self._give_download)

    async def _streams(
        self, session: Connected, handler: Callable[[Stream], Awaitable[None]]
    ) -> None:
        tasks = set()
        loop = asyncio.get_running_loop()

        async def guarded(raw: Any) -> None:
            await handler(session.wrap(raw))

        try:
            async for raw in session.incoming():
                task = loop.create_task(guarded(raw))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        finally:
            for task in tasks:
                task.cancel()
            with contextlib.suppress(BaseException):
                await asyncio.gather(*tasks, return_exceptions=True)

    # --- streams

    async def _echo_stream(self, stream: Stream) -> None:
        """Send every piece back as it comes."""
        read, write = stream.read, stream.write
        while data := await read():
            await write(data)
        await stream.finish(b"")

    async def _answer_request(self, stream: Stream) -> None:
        """Read to the end, then send all of it back."""
        await stream.finish(await stream.read_all())

    async def _take_upload(self, stream: Stream) -> None:
        """Check what comes; answer with its size or with what is wrong."""
        checker = Checker()
        read = stream.read
        try:
            while data := await read():
                checker.feed(data)
            answer: dict[str, Any] = {"bytes": checker.size}
        except ContentError as error:
            answer = {"error": str(error)}
        await stream.finish(json.dumps(answer).encode())

    async def _give_download(self, stream: Stream) -> None:
        """Send for as many seconds as asked."""
        request = json.loads(bytes(await stream.read_all()))
        deadline = time.monotonic() + request["seconds"]
        self._sent += await send_blocks(stream, request["size"], deadline)
        await stream.finish(b"")


async def send_blocks(stream: Stream, size: int, deadline: float) -> int:
    """Write blocks of ``size`` bytes until the deadline; returns how many bytes."""
    write, clock = stream.write, time.monotonic
    look = 1 if size >= _LARGE else _LOOK
    sent = 0
    repeated = itertools.cycle(blocks(size))
    while clock() < deadline:
        for block in itertools.islice(repeated, look):
            await write(block)
        sent += look * size
    return sent
