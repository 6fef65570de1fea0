"""The receiving half of a stream."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable
from typing import TYPE_CHECKING, Self, cast

from .._quic import StreamPort
from .._states import ErrorCode, EventType, StreamDirection
from ..events import EventEmitter
from ..exceptions import (
    ConfigurationError,
    StreamError,
    TimeoutError,
    WebTransportError,
    invalid_config,
)
from ..utils._awaitable import Awaited, awaited, compiled
from ..utils._checks import check_data, check_integer, check_whole
from ..utils._waiters import require_loop
from .stream_base import DONE, _StreamBase, passed

if TYPE_CHECKING:
    from .._transport import Stream

__all__ = ["WebTransportReceiveStream"]

# The most bytes that an iterator reads at once; the engine delivers data in slabs of this size.
_CHUNK = 65536


class WebTransportReceiveStream(_StreamBase, EventEmitter):
    """A stream, or the half of a stream, that the peer sends on.

    Only one coroutine may read at a time. Reading gives flow-control credit back to the
    peer: if you stop reading, the sender has to stop after about ``max_read_buffer_size``
    bytes.

    Except for ``read_all``, reads are safe to cancel: no byte is lost, and a later read
    continues. ``config.read_timeout`` (seconds) limits each wait for data.
    """

    __slots__ = ()

    _direction = StreamDirection.RECEIVE_ONLY

    # Bytes that were reported to listeners; in the instance dictionary if there are any.
    _data_told: int

    # ------------------------------------------------------------------ state

    @property
    def is_readable(self) -> bool:
        """More bytes, or the end of the stream, can still arrive."""
        quic = self._quic
        if self._receive_done or quic.is_reset:
            return False
        return quic.buffered > 0 or (self._session._close_info is None and not quic.at_eof)

    def at_eof(self) -> bool:
        """The peer's FIN was reached: every byte has been read."""
        return self._quic.at_eof

    # ---------------------------------------------------------------- reading

    @awaited
    @compiled(StreamPort)
    def read(self, size: int = 8192) -> Awaited[bytes]:
        """Return between 1 and ``size`` bytes as soon as any are available.

        Args:
            size: How many bytes to return at most. ``-1`` reads to the end, like ``read_all``.

        Returns:
            The bytes; ``b""`` at the end of the stream.

        Raises:
            StreamResetError: The peer reset the stream; ``error_code`` is its
                application code, ``None`` if it cannot be mapped.
            StreamError: Another coroutine is reading, or reading was stopped here.
            SessionClosedError: The session ended before the stream did.
            TimeoutError: ``read_timeout`` passed without data.
            ConfigurationError: ``size`` is not an integer.

        Cancellation: safe, nothing is consumed.
        """
        return self._read(size)

    async def readinto(self, buffer: bytearray | memoryview) -> int:
        """Read available bytes into ``buffer``; wait for at least one byte.

        Args:
            buffer: A writable buffer (``bytearray``, ``memoryview``, array).

        Returns:
            How many bytes were stored; 0 at the end of the stream.

        Raises: as ``read``; ConfigurationError if ``buffer`` is not a writable buffer.

        Cancellation: safe.
        """
        view = check_data("buffer", buffer)
        if isinstance(view, bytes) or view.readonly:
            raise invalid_config(
                key="buffer",
                value=buffer,
                reason="expected a buffer that can be written to; it is read-only",
            )
        if not len(view):
            return 0
        try:
            count = self._quic.readinto(view)
            while count is None:
                waiter = self._begin_wait()
                try:
                    expired = await waiter
                finally:
                    self._end_wait(waiter)
                if expired:
                    raise self._timed_out()
                count = self._quic.readinto(view)
        except WebTransportError as error:
            raise self._read_failed(error) from None
        self._reads += 1
        self.bytes_read += count
        if count == 0:
            self._finish_receive()
        return count

    @awaited
    @compiled(StreamPort)
    def read_all(self, max_size: int | None = None) -> Awaited[bytes]:
        """Read to the end of the stream.

        Args:
            max_size: How many bytes to accept at most; ``None`` for no limit. Set a limit if
                you do not trust the peer.

        Raises:
            StreamError: The stream is longer than ``max_size``. The bytes read so far are
                kept; you can still read them piece by piece.
            Otherwise as ``read``.

        Cancellation: not safe, the bytes read so far are lost. Use ``read`` if you expect
        cancellation.
        """
        return self._read_all(max_size)

    async def read_iter(self, chunk_size: int = 8192) -> AsyncIterator[bytes]:
        """Iterate over the bytes in pieces of at most ``chunk_size`` until the end.

        Raises: as ``read``.
        """
        check_integer("chunk_size", chunk_size, 1, sys.maxsize)
        while data := await self.read(chunk_size):
            yield data

    @awaited
    @compiled(StreamPort)
    def readexactly(self, n: int) -> Awaited[bytes]:
        """Read exactly ``n`` bytes.

        Raises:
            StreamError: The stream ended first; ``details["partial"]`` has
                the bytes that arrived, ``details["expected"]`` is ``n``.
            Otherwise as ``read``.

        Cancellation: safe, the bytes read so far are put back.
        """
        return self._readexactly(n)

    async def readuntil(self, separator: bytes = b"\n") -> bytes:
        """Read up to and including ``separator``.

        At most ``flow_control_window_size`` bytes are searched.

        Raises:
            StreamError: The stream ended or the limit was reached before the
                separator (``details["partial"]`` or ``details["limit"]``).
            Otherwise as ``read``.

        Cancellation: safe, the bytes read so far are put back.
        """
        if not isinstance(separator, bytes | bytearray | memoryview) or not len(separator):
            raise invalid_config(
                key="separator", value=separator, reason="expected non-empty bytes"
            )
        limit = self._session._config.stream_window
        buffer = bytearray()
        try:
            while True:
                data = await self.read(_CHUNK)
                if not data:
                    raise StreamError(
                        f"stream {self.stream_id} ended before the separator {separator!r}",
                        stream_id=self.stream_id,
                        details={"partial": bytes(buffer)},
                    )
                start = max(0, len(buffer) - len(separator) + 1)
                buffer += data
                found = buffer.find(separator, start)
                if found >= 0:
                    end = found + len(separator)
                    self._unread(bytes(buffer[end:]))
                    return bytes(buffer[:end])
                if len(buffer) > limit:
                    self._unread(bytes(buffer))
                    raise StreamError(
                        f"no separator {separator!r} within flow_control_window_size={limit} bytes",
                        stream_id=self.stream_id,
                        details={"limit": limit},
                    )
        except (asyncio.CancelledError, TimeoutError):
            self._unread(bytes(buffer))
            raise

    async def readline(self, separator: bytes = b"\n") -> bytes:
        """Read one line, including its end; the last line may lack one.

        Returns ``b""`` at the end of the stream. Raises as ``readuntil``.

        Cancellation: safe.
        """
        try:
            return await self.readuntil(separator)
        except StreamError as error:
            if "partial" in error.details:
                return cast("bytes", error.details["partial"])
            raise

    def __aiter__(self) -> Self:
        """Iterate over the bytes as they arrive, in pieces of at most 64 KiB."""
        return self

    async def __anext__(self) -> bytes:
        data = await self.read(_CHUNK)
        if not data:
            raise StopAsyncIteration
        return data

    # ---------------------------------------------------------------- ending

    def stop_sending(self, code: ErrorCode = 0) -> Awaitable[None]:
        """Stop reading and tell the peer (STOP_SENDING, RFC 9000 section 3.5).

        Buffered data is dropped; a waiting ``read`` raises ``StreamError``.
        Takes effect at once; awaiting the result is optional.

        Args:
            code: Application error code, 0 to 2**32 - 1.
        """
        self._stop_wire(self._session._code_to_wire(code))
        return DONE

    def pass_reset_to(self, writer: _StreamBase) -> None:
        """Advanced, for relays: pass the peer's reset on to the stream that this one feeds.

        Args:
            writer: Its sending half is reset with the same code.
        """
        writer._reset_wire(passed(self._quic.reset_code, self, writer))

    def _stop_wire(self, wire: int) -> None:
        if not self._receive_done:
            if not self._quic.at_eof:
                self._quic.stop_sending(wire)
            self._finish_receive()
            self._wake()

    async def abort(self, code: ErrorCode = 0) -> None:
        """Abandon the stream; same as ``stop_sending(code)``."""
        self.stop_sending(code)

    async def initialize(self) -> None:
        """Do nothing; kept for compatibility. A new stream is ready to use."""

    async def close(self) -> None:
        """Stop reading; same as ``stop_sending(0)``."""
        self.stop_sending(0)

    async def _end_failed_block(self) -> None:
        await self.abort()

    # -------------------------------------------------------------- internal

    def _listener_added(self, event_type: str | None) -> None:
        quic = self._quic
        if event_type not in (None, EventType.STREAM_DATA_RECEIVED) or quic.sink is not None:
            return
        # The sink is set only for listeners: without them, arriving data costs nothing extra.
        self._data_told = quic.bytes_received - quic.buffered
        quic.sink = _data_received
        if quic.buffered:
            asyncio.get_running_loop().call_soon(_data_received, quic)

    async def _read_other(self, size: int) -> bytes:
        """Read as ``read``, for a size that is no ordinary number."""
        check_integer("size", size, -sys.maxsize, sys.maxsize)
        if size <= 0:
            return b"" if size == 0 else await self.read_all()
        return await self.read(int(size))

    async def _read_all_other(self, max_size: int) -> bytes:
        """Read as ``read_all``, for a limit that is no ordinary number."""
        check_integer("max_size", max_size, 0, sys.maxsize)
        return await self.read_all(int(max_size))

    async def _read_exactly_other(self, n: int) -> bytes:
        """Read as ``readexactly``, for a number that is no ordinary one."""
        check_whole("n", n, 0)
        if n < 0:
            raise ConfigurationError(f"n must be >= 0, got {n}", config_key="n", config_value=n)
        return await self.readexactly(int(n))

    def _too_long(self, max_size: int, received: int) -> StreamError:
        return StreamError(
            f"stream {self.stream_id} is longer than max_size={max_size} bytes",
            stream_id=self.stream_id,
            details={"max_size": max_size, "received": received},
        )

    def _too_short(self, partial: bytes, expected: int) -> StreamError:
        return StreamError(
            f"stream {self.stream_id} ended after {len(partial)} of {expected} bytes",
            stream_id=self.stream_id,
            stream_state=self.state,
            details={"partial": partial, "expected": expected},
        )

    def _refuse_wait(self) -> None:
        """Raise the reason why waiting for data is pointless, or must not be."""
        if self._receive_done:
            raise StreamError(
                f"stream {self.stream_id} cannot be read: reading was stopped on this side",
                stream_id=self.stream_id,
                stream_state=self.state,
            )
        if self._error is not None or self._session._close_info is not None:
            ended = self._ending()
            if ended is not None:
                raise ended
        if self._read_waiter is not None:
            raise StreamError(
                f"another coroutine is already reading stream {self.stream_id}; "
                "read from one coroutine at a time, or open more streams",
                stream_id=self.stream_id,
            )
        require_loop(self._session._loop, asyncio.get_running_loop())

    def _timed_out(self) -> TimeoutError:
        timeout = self._session._config.read_timeout
        self._quic.set_read_waiter(None)
        return TimeoutError(
            f"no data on stream {self.stream_id} for read_timeout={timeout} s",
            timeout_duration=timeout,
            operation="read",
        )

    def _read_failed(self, error: WebTransportError) -> WebTransportError:
        self.stats.read_errors += 1
        if self._quic.is_reset:
            self._finish_receive()
        return self._report(self._application_error(error))

    def _discard(self) -> None:
        self.stop_sending(0)

    def _unread(self, data: bytes) -> None:
        if data:
            self._quic.unread(data)
            self.bytes_read -= len(data)

    def _tell_data(self) -> bool:
        """Report bytes that arrived to listeners; return False if there are none."""
        if not self._has_listeners(EventType.STREAM_DATA_RECEIVED):
            return False
        quic = self._quic
        size = quic.bytes_received - self._data_told
        if size > 0:
            self._data_told += size
            self._emit_nowait(
                EventType.STREAM_DATA_RECEIVED,
                {"stream_id": quic.stream_id, "size": size, "fin": quic.fin_received},
            )
        return True

    def _wake(self) -> None:
        waiter = self._read_waiter
        if waiter is not None and not waiter.done():
            self._quic.set_read_waiter(None)
            waiter.set_result(None)
        super()._wake()


def _data_received(quic: Stream) -> None:
    """Bytes may have arrived on a stream that has listeners (deliver phase)."""
    stream = None if quic.tag is None else quic.tag()
    if stream is not None and not stream._tell_data():
        quic.sink = None
