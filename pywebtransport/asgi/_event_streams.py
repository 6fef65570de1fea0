"""Streams and datagrams over the events of the ``webtransport`` scope."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, Protocol, Self, TypeAlias

from .._states import Data
from ..exceptions import (
    SessionClosedError,
    StreamError,
    StreamResetError,
    StreamStoppedError,
)
from ..utils._checks import check_data, check_integer
from ._types import Message

__all__ = [
    "AnyEventStream",
    "EventDatagrams",
    "EventReceiveStream",
    "EventSendStream",
    "EventStream",
    "StreamOwner",
]

_CHUNK: Final = 65536
_MAX_UNREAD: Final = 256 * 1024
"""Bytes that wait for the application before the server is asked to pause the stream."""
_MAX_LINE: Final = 1 << 20
_MAX_DATAGRAMS: Final = 1024
"""Datagrams that wait for the application; then the oldest is dropped."""


class StreamOwner(Protocol):
    """What a stream needs of its session; ``Session`` describes the methods."""

    @property
    def is_closed(self) -> bool: ...
    @property
    def max_datagram_size(self) -> int: ...
    async def tell(self, message: Message) -> None: ...
    async def until(self, ready: Callable[[], bool], place: object) -> None: ...
    def wake(self, place: object) -> None: ...
    def settle(self, stream: AnyEventStream) -> None: ...
    async def pause_or_resume(self, stream: EventReceiveStream, verb: str) -> None: ...
    def closed_error(self, consequence: str) -> SessionClosedError: ...


class _EventStreamBase:
    """One stream of a session.

    Args:
        session: The session.
        stream_id: The ID in its events.
    """

    def __init__(self, session: StreamOwner, stream_id: int) -> None:
        self.session = session
        self.stream_id = stream_id

    def __repr__(self) -> str:
        return f"<{type(self).__name__} id={self.stream_id}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        await (self.end() if error is None else self.abort())

    async def abort(self, code: int = 0) -> None:
        """Abandon the stream in all its directions."""

    def is_over(self) -> bool:
        """No event can come for it any more, except the end of the session."""
        return True

    async def end(self) -> None:
        """Leave nothing open."""

    async def _tell(self, kind: str, **fields: Any) -> None:
        await self.session.tell(
            {"type": f"webtransport.stream.{kind}", "stream": self.stream_id, **fields}
        )


class EventReceiveStream(_EventStreamBase):
    """A stream, or the half of a stream, that the peer sends on.

    ``async for data in stream`` iterates over the bytes as they arrive.
    """

    def __init__(self, session: StreamOwner, stream_id: int) -> None:
        super().__init__(session, stream_id)
        self._pieces: deque[bytes] = deque()
        self._unread = 0
        self._ended = self._stopped = self._paused = False
        self._reset: StreamResetError | None = None

    def at_eof(self) -> bool:
        """Every byte up to the peer's FIN has been read."""
        return self._ended and not self._pieces

    @property
    def is_readable(self) -> bool:
        """More bytes, or the end of the stream, can still arrive."""
        if self._stopped or self._reset is not None:
            return False
        return bool(self._pieces) or not (self._ended or self.session.is_closed)

    async def read(self, size: int = 8192) -> bytes:
        """Return between 1 and ``size`` bytes as soon as any are available; ``b""`` at the end.

        Raises:
            StreamResetError: The peer reset the stream.
            StreamError: Reading was stopped here.
            SessionClosedError: The session ended before the stream did.
            ConfigurationError: ``size`` is below 1.

        Cancellation: safe.
        """
        check_integer("size", size, 1, 1 << 62)
        await self.session.until(self._is_ready, self)
        if self._reset is not None:
            raise self._reset
        if self._stopped:
            raise StreamError(
                f"stream {self.stream_id} cannot be read: reading was stopped on this side",
                stream_id=self.stream_id,
            )
        if not self._pieces:
            if self._ended:
                return b""
            raise self.session.closed_error(f"stream {self.stream_id} ended with it")
        piece = self._pieces.popleft()
        if len(piece) > size:
            self._pieces.appendleft(piece[size:])
            piece = piece[:size]
        self._unread -= len(piece)
        if self._paused and self._unread <= _MAX_UNREAD // 2:
            self._paused = False
            await self.session.pause_or_resume(self, "resume")
        return piece

    async def read_all(self, max_size: int | None = None) -> bytes:
        """Read to the end of the stream.

        Args:
            max_size: How many bytes to accept at most; ``None`` for no limit.

        Raises: as ``read``; StreamError if the stream is longer.

        Cancellation: not safe, the bytes read so far are lost.
        """
        data = bytearray()
        while piece := await self.read(_CHUNK):
            data += piece
            if max_size is not None and len(data) > max_size:
                self._put_back(bytes(data))
                raise StreamError(
                    f"stream {self.stream_id} is longer than max_size={max_size} bytes",
                    stream_id=self.stream_id,
                    details={"max_size": max_size, "received": len(data)},
                )
        return bytes(data)

    async def readexactly(self, n: int) -> bytes:
        """Read exactly ``n`` bytes.

        Raises: as ``read``; StreamError if the stream ends first, with ``details["partial"]``.

        Cancellation: safe, the bytes read so far are put back.
        """
        check_integer("n", n, 0, 1 << 62)
        data = bytearray()
        try:
            while len(data) < n:
                piece = await self.read(n - len(data))
                if not piece:
                    raise StreamError(
                        f"stream {self.stream_id} ended after {len(data)} of {n} bytes",
                        stream_id=self.stream_id,
                        details={"partial": bytes(data), "expected": n},
                    )
                data += piece
        except asyncio.CancelledError:
            self._put_back(bytes(data))
            raise
        return bytes(data)

    async def readline(self, separator: bytes = b"\n") -> bytes:
        """Read one line, including its end; the last line may lack one. At most 1 MiB.

        Raises: as ``read``; StreamError if the line is longer.

        Cancellation: safe, the bytes read so far are put back.
        """
        data = bytearray()
        try:
            while (found := data.find(separator)) < 0:
                piece = await self.read(_CHUNK)
                if not piece:
                    return bytes(data)
                data += piece
                if len(data) > _MAX_LINE and separator not in data:
                    raise StreamError(
                        f"no separator {separator!r} within {_MAX_LINE} bytes",
                        stream_id=self.stream_id,
                        details={"limit": _MAX_LINE},
                    )
        except BaseException:
            self._put_back(bytes(data))
            raise
        end = found + len(separator)
        self._put_back(bytes(data[end:]))
        return bytes(data[:end])

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        data = await self.read(_CHUNK)
        if not data:
            raise StopAsyncIteration
        return data

    async def stop_sending(self, code: int = 0) -> None:
        """Stop reading and tell the peer; bytes that wait are dropped."""
        if not self._stopped:
            self._stopped = True
            self._pieces.clear()
            self.session.wake(self)
            if not (self._ended or self._reset is not None or self.session.is_closed):
                await self._tell("stop_sending", code=code)

    async def abort(self, code: int = 0) -> None:
        """Stop reading; same as ``stop_sending(code)``."""
        await self.stop_sending(code)

    async def close(self) -> None:
        """Stop reading; same as ``stop_sending(0)``."""
        await self.stop_sending()

    async def end(self) -> None:
        await self.stop_sending()

    # ---------------------------------------------------------- for the session

    def is_over(self) -> bool:
        return (self._ended or self._reset is not None) and super().is_over()

    def received(self, data: bytes, is_end: bool) -> bool:
        """Keep bytes that came; return whether the server should pause the stream."""
        self._ended = is_end
        if data and not self._stopped:
            self._pieces.append(data)
            self._unread += len(data)
        if self._unread <= _MAX_UNREAD or self._paused or is_end:
            return False
        self._paused = True
        return True

    def was_reset(self, code: int | None) -> None:
        """The peer has reset the stream: bytes that wait are lost."""
        self._pieces.clear()
        self._reset = StreamResetError(stream_id=self.stream_id, error_code=code)

    def _is_ready(self) -> bool:
        return bool(self._pieces) or self._ended or self._stopped or self._reset is not None

    def _put_back(self, data: bytes) -> None:
        if data:
            self._pieces.appendleft(data)
            self._unread += len(data)


class EventSendStream(_EventStreamBase):
    """A stream, or the half of a stream, that this end sends on."""

    def __init__(self, session: StreamOwner, stream_id: int) -> None:
        super().__init__(session, stream_id)
        self._finished = False
        self._stop: StreamStoppedError | None = None

    @property
    def is_writable(self) -> bool:
        """More bytes can be written."""
        return not (self._finished or self._stop is not None or self.session.is_closed)

    @property
    def is_stopped(self) -> bool:
        """The peer has stopped reading."""
        return self._stop is not None

    async def write(self, data: Data, *, end_stream: bool = False) -> None:
        """Send bytes, in order and reliably; waits for room if the server does.

        Args:
            data: ``bytes``, another buffer, or ``str`` (sent as UTF-8).
            end_stream: Finish the stream after these bytes (FIN).

        Raises:
            StreamStoppedError: The peer stopped reading.
            StreamError: The stream was finished or reset on this side.
            SessionClosedError: The session has ended.
            ConfigurationError: ``data`` is of another type.

        Cancellation: as of ``send`` of the server.
        """
        payload = bytes(check_data("data", data))
        if self._stop is not None:
            raise self._stop
        if self._finished:
            raise StreamError(
                f"stream {self.stream_id} was finished or reset on this side",
                stream_id=self.stream_id,
            )
        if end_stream:
            self._finished = True
            self.session.settle(self)
        await self._tell("send", data=payload, end_stream=end_stream)

    async def write_all(self, data: Data) -> None:
        """Write ``data`` and finish the stream. Raises: as ``write``."""
        await self.write(data, end_stream=True)

    async def close(self) -> None:
        """Finish the stream (FIN). Idempotent."""
        if self.is_writable:
            await self.write(b"", end_stream=True)

    async def reset(self, code: int = 0) -> None:
        """Abandon the sending side: bytes that were not sent yet are dropped."""
        if self.is_writable:
            self._finished = True
            self.session.settle(self)
            await self._tell("reset", code=code)

    async def abort(self, code: int = 0) -> None:
        """Abandon the stream; same as ``reset(code)``."""
        await self.reset(code)

    async def end(self) -> None:
        await self.close()

    # ---------------------------------------------------------- for the session

    def is_over(self) -> bool:
        return (self._finished or self._stop is not None) and super().is_over()

    def was_stopped(self, code: int | None) -> None:
        """The peer has stopped reading."""
        self._stop = StreamStoppedError(stream_id=self.stream_id, error_code=code)


class EventStream(EventReceiveStream, EventSendStream):
    """A stream that both ends send on. The two halves end independently."""

    async def close(self) -> None:
        """Finish the sending half (FIN); the receiving half stays open. Idempotent."""
        await EventSendStream.close(self)

    async def abort(self, code: int = 0) -> None:
        """Reset the sending half and stop the receiving half, both with ``code``."""
        await self.reset(code)
        await self.stop_sending(code)

    async def end(self) -> None:
        await self.close()
        await self.stop_sending()


AnyEventStream: TypeAlias = EventStream | EventReceiveStream | EventSendStream


class EventDatagrams:
    """The datagrams of a session, over events."""

    def __init__(self, session: StreamOwner) -> None:
        self.session = session
        self._waiting: deque[bytes] = deque(maxlen=_MAX_DATAGRAMS)

    @property
    def max_datagram_size(self) -> int:
        """As of the session."""
        return self.session.max_datagram_size

    async def send(self, data: Data, *, priority: int = 0, ttl: float | None = None) -> None:
        """Send one datagram; waits for room if the server does.

        Args:
            data: At most ``max_datagram_size`` bytes.
            priority: 0 to 2; the server may ignore it.
            ttl: Seconds it may wait; the server may ignore it.

        Raises:
            SessionClosedError: The session has ended.
            ConfigurationError: ``data`` cannot be sent.
        """
        message: dict[str, Any] = {
            "type": "webtransport.datagram.send",
            "data": bytes(check_data("data", data)),
        }
        if priority:
            message["priority"] = priority
        if ttl is not None:
            message["ttl"] = ttl
        await self.session.tell(message)

    async def receive(self) -> bytes:
        """Return the next datagram, waiting for one.

        Raises:
            SessionClosedError: The session has ended and nothing is queued.

        Cancellation: safe, no datagram is lost.
        """
        await self.session.until(lambda: bool(self._waiting), self)
        if not self._waiting:
            raise self.session.closed_error("no datagram can be received")
        return self._waiting.popleft()

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate over the datagrams until the session ends."""
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self.receive()
        except SessionClosedError:
            raise StopAsyncIteration from None

    def received(self, data: bytes) -> None:
        """A datagram came."""
        self._waiting.append(data)
