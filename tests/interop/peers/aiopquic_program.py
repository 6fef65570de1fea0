"""aiopquic as a WebTransport client and server, in a process of its own; see ``lines.py``.

Runs under Python 3.12 or later and imports nothing of this project.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from aiopquic.asyncio.webtransport import connect_webtransport, serve_webtransport
from aiopquic.quic.configuration import QuicConfiguration
from aiopquic.quic.events import (
    WebTransportDatagramReceived,
    WebTransportNewStream,
    WebTransportSessionClosed,
    WebTransportStopSending,
    WebTransportStreamDataReceived,
    WebTransportStreamReset,
)
from lines import serve

_CHUNK = 1 << 18


class Peer:
    """One session and the operations on it."""

    def __init__(self) -> None:
        self._session: Any = None
        self._context: Any = None
        self._server: Any = None
        self._sessions: asyncio.Queue[Any] = asyncio.Queue()
        self._arrived: dict[bool, asyncio.Queue[int]] = {
            False: asyncio.Queue(),
            True: asyncio.Queue(),
        }
        self._datagrams: asyncio.Queue[bytes] = asyncio.Queue()
        self._stops: defaultdict[int, asyncio.Future[int]] = defaultdict(
            asyncio.get_running_loop().create_future
        )
        self._closed: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._events: asyncio.Task[None] | None = None

    # --- session

    async def connect(self, port: int, path: str, cafile: str) -> None:
        self._context = connect_webtransport(
            "127.0.0.1",
            port,
            path,
            sni="localhost",
            ca_file=cafile,
            configuration=_configuration(),
        )
        self._begin(await self._context.__aenter__())

    async def listen(self, port: int, path: str, certfile: str, keyfile: str) -> None:
        self._server = await serve_webtransport(
            "127.0.0.1",
            port,
            path,
            handler=self._sessions.put_nowait,
            cert_file=certfile,
            key_file=keyfile,
            configuration=_configuration(),
        )
        # The network thread opens the socket; nothing tells when but this flag.
        await asyncio.to_thread(_spin, lambda: self._server._transport.thread_ready)

    async def accept(self) -> None:
        self._begin(await self._sessions.get())

    def _begin(self, session: Any) -> None:
        self._session = session
        self._events = asyncio.create_task(self._read_events())

    async def _read_events(self) -> None:
        async for event in self._session.events():
            if isinstance(event, WebTransportNewStream):
                self._arrived[bool(event.stream_id & 2)].put_nowait(event.stream_id)
            elif isinstance(event, WebTransportDatagramReceived):
                self._datagrams.put_nowait(bytes(event.data))
            elif isinstance(event, WebTransportStopSending):
                self._stops[event.stream_id].set_result(event.error_code)
            elif isinstance(event, WebTransportSessionClosed) and not self._closed.done():
                self._closed.set_result([event.error_code, bytes(event.reason).decode()])
        # The generator ends with the flag of the close, maybe before the event was read.
        close = self._session._session_close_event
        if close is not None and not self._closed.done():
            self._closed.set_result([close.error_code, bytes(close.reason).decode()])

    # --- streams

    async def open_stream(self, unidirectional: bool) -> int:
        return await self._session.create_stream(bidir=not unidirectional)

    async def accept_stream(self, unidirectional: bool) -> int:
        return await self._arrived[unidirectional].get()

    async def send(self, stream_id: int, data: str, fin: bool) -> None:
        await self._session.send_stream_data_drained(stream_id, bytes.fromhex(data), fin)

    async def send_pattern(self, stream_id: int, size: int, seed: int) -> None:
        data = random.Random(seed).randbytes(size)
        for start in range(0, size, _CHUNK):
            chunk = data[start : start + _CHUNK]
            await self._session.send_stream_data_drained(
                stream_id, chunk, start + len(chunk) == size
            )

    async def receive(self, stream_id: int) -> list[Any]:
        digest, size = hashlib.sha256(), 0
        async for event in self._session.receive_stream_data(stream_id):
            if isinstance(event, WebTransportStreamReset):
                raise ConnectionError(f"stream {stream_id} was reset with {event.error_code:#x}")
            if isinstance(event, WebTransportStreamDataReceived):
                digest.update(event.data)
                size += len(event.data)
        return [size, digest.hexdigest()]

    async def reset(self, stream_id: int, code: int) -> None:
        self._session.reset_stream(stream_id, code)

    async def stop(self, stream_id: int, code: int) -> None:
        self._session.stop_stream(stream_id, code)

    async def was_reset(self, stream_id: int) -> int:
        async for event in self._session.receive_stream_data(stream_id):
            if isinstance(event, WebTransportStreamReset):
                return event.error_code
        raise ConnectionError(f"stream {stream_id} ended without a reset")

    async def was_stopped(self, stream_id: int) -> int:
        return await self._stops[stream_id]

    # --- datagrams and the end

    async def send_datagram(self, data: str) -> None:
        if not self._session.send_datagram_frame(bytes.fromhex(data)):
            raise BufferError("the datagram queue is full")

    async def receive_datagram(self) -> str:
        return (await self._datagrams.get()).hex()

    async def close(self, code: int, reason: str) -> None:
        await self._session.aclose(code, reason.encode())

    async def was_closed(self) -> list[Any]:
        return await self._closed

    async def finish(self) -> None:
        """Release everything."""
        if self._events is not None:
            self._events.cancel()
        if self._context is not None:
            await self._context.__aexit__(None, None, None)
        if self._server is not None:
            await self._server.aclose()


def _spin(ready: Callable[[], bool]) -> None:
    while not ready():
        time.sleep(0.001)


def _configuration() -> QuicConfiguration:
    return QuicConfiguration(alpn_protocols=["h3"], congestion_control_algorithm="cubic")


asyncio.run(serve(Peer))
