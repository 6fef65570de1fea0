"""What a library's module has to offer: its own calls under common names.

Loops whose cost per call matters (datagrams) are written in the module of each library; for
streams the module hands out the library's own bound methods where they fit.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["READ_SIZE", "Client", "Connected", "Library", "Options", "Stream"]

# Bytes that one read may return, where a library lets its user choose.
READ_SIZE = 1 << 18


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """How a program is to run; one JSON object on its command line."""

    library: str
    role: str
    loop: str
    port: int
    control: str
    certfile: str
    keyfile: str
    certificate_hash: str
    congestion: str
    job: dict[str, Any]
    busy_poll: int = 0  # microseconds, where a library can do it


@dataclass(frozen=True, slots=True)
class Stream:
    """One bidirectional stream.

    ``read`` gives some bytes (any bytes-like object) and an empty one at the end; ``finish``
    writes its argument and then ends the sending side.
    """

    write: Callable[[bytes], Awaitable[object]]
    finish: Callable[[bytes], Awaitable[object]]
    read: Callable[[], Awaitable[Any]]
    read_all: Callable[[], Awaitable[Any]]


class Connected(Protocol):
    """One session."""

    async def open_stream(self) -> Stream:
        """Open a bidirectional stream."""

    def incoming(self) -> AsyncIterator[Any]:
        """The library's own iterator of streams that the other end opens."""

    def wrap(self, raw: Any) -> Stream:
        """A stream out of what ``incoming`` gives."""

    async def send_datagram(self, data: bytes) -> None:
        """Send one datagram."""

    async def receive_datagram(self) -> Any:
        """Wait for one datagram."""

    async def send_datagrams(self, payloads: Iterator[bytes]) -> None:
        """Send all of them, as fast as the library lets its user."""

    async def receive_datagrams(self, sink: Callable[[Iterable[Any]], object]) -> None:
        """Call ``sink`` with all that come, until the session ends."""

    async def echo_datagrams(self) -> None:
        """Send every datagram back until the session ends."""

    async def wait_closed(self) -> None:
        """Wait until the session ended."""

    async def close(self) -> None:
        """Close the session and its connection."""


class Client(Protocol):
    """What opens sessions, each on a connection of its own."""

    async def connect(self) -> Connected:
        """Open a connection and a session."""


class Library(Protocol):
    """The module of a library.

    One whose server owns the process and the event loop has ``run_server(options)`` in place of
    ``serve``, and uses ``serving``, ``say_ready`` and ``at_end_of_input`` of ``run`` itself.
    """

    def version(self) -> str:
        """The installed version."""

    def client(self, options: Options) -> AbstractAsyncContextManager[Client]:
        """A client of the server on ``options.port``."""

    def serve(
        self, options: Options, handler: Callable[[Connected], Awaitable[None]]
    ) -> AbstractAsyncContextManager[int]:
        """A server that awaits ``handler`` for every session; its port."""


class Backlog:
    """Tells a producer when its queue has room again."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def progress(self) -> None:
        """Something left the queue."""
        self._event.set()

    async def wait(self) -> None:
        """Wait for the next progress."""
        self._event.clear()
        await self._event.wait()
