"""The sending half of a stream."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial

from .._quic import StreamPort
from .._states import Data, ErrorCode, StreamDirection
from ..events import EventEmitter
from ..exceptions import StreamError, TimeoutError, WebTransportError, invalid_config
from ..utils import _clock as clock
from ..utils._awaitable import Awaited, awaited, compiled
from ..utils._checks import check_count, check_data, check_integer
from ..utils._waiters import Line, Waiters, require_loop
from .stream_base import DONE, _StreamBase, passed

__all__ = ["WebTransportSendStream", "check_send_order"]

_MAX_ORDER = 2**62

# Buffers that must be copied (bytearray, memoryview) are queued in pieces of this size,
# so that a large one is never in memory twice.
_COPY_CHUNK = 262144


def check_send_order(order: int) -> None:
    """Raise ConfigurationError if ``order`` is not a valid ``send_order``."""
    check_integer("send_order", order, -_MAX_ORDER, _MAX_ORDER - 1)


class SendEnd(Waiters):
    """Everything that waits for the end of the sending half: coroutines and callbacks.

    The engine wakes it like a future. For each remote call and each subscription, a task
    that waits for this would cost more than the call itself.

    Attributes:
        callbacks: Functions to call once, in order.
    """

    __slots__ = ("callbacks",)

    def __init__(self) -> None:
        super().__init__()
        self.callbacks: dict[Callable[[], object], None] = {}

    def __bool__(self) -> bool:
        return bool(self.futures or self.callbacks)

    def done(self) -> bool:
        """Nobody waits."""
        return not self

    def set_result(self, result: None, /) -> None:
        """Wake everybody, for the engine."""
        self.wake()
        callbacks, self.callbacks = self.callbacks, {}
        for callback in callbacks:
            callback()


class WebTransportSendStream(_StreamBase, EventEmitter):
    """A stream, or the half of a stream, that this end sends on.

    ``write`` returns at once while less than ``max_write_buffer_size`` bytes wait to be sent.
    Beyond that, it waits until enough of them have been sent: awaiting it gives you
    backpressure. ``config.write_timeout`` (seconds) limits each wait.

    Several tasks may write. The bytes of one write stay together, and writes are sent in the
    order of the calls. While some wait for room, later ones wait behind them.
    """

    __slots__ = ()

    _direction = StreamDirection.SEND_ONLY

    # ------------------------------------------------------------- properties

    @property
    def is_writable(self) -> bool:
        """More bytes can be written."""
        over = self._session._close_info is not None or self._reset_sent
        return not over and self._quic.can_write

    @property
    def send_order(self) -> int:
        """Streams with a higher value are sent first; equal ones share fairly. Settable."""
        return self._send_order

    @send_order.setter
    def send_order(self, order: int) -> None:
        check_send_order(order)
        self._send_order = order
        self._quic.set_send_order(order)

    @property
    def write_buffer_size(self) -> int:
        """Bytes written but not yet put into a packet."""
        return self._quic.queued

    @property
    def bytes_acknowledged(self) -> int | None:
        """How many bytes the peer's QUIC stack has acknowledged: the progress of an upload.

        ``bytesAcknowledged`` of the W3C interface: the bytes from the beginning of the stream
        up to the first that is missing. It grows to ``bytes_sent``; ``wait_acknowledged`` waits
        for that. Only an answer of the peer's application can tell whether it has read them.

        None if the stream was reset, stopped or lost before that: the number is unknown then.
        """
        quic = self._quic
        if quic.is_acked:
            return self.bytes_sent
        if quic.is_closed or quic.is_stopped or self._reset_sent:
            return None
        return max(0, self.bytes_sent - quic.unacked)  # a header of ours is sent before them

    @property
    def is_stopped(self) -> bool:
        """The peer has stopped reading: it sent STOP_SENDING (RFC 9000 section 3.5)."""
        return self._quic.is_stopped

    # ---------------------------------------------------------------- writing

    @awaited
    @compiled(StreamPort)
    def write(
        self, data: Data, *, end_stream: bool = False, wait_flush: bool = True
    ) -> Awaited[None]:
        """Send bytes, in order and reliably.

        Args:
            data: ``bytes``, any other C-contiguous buffer (``bytearray``, ``memoryview``, arrays),
                or ``str`` (sent as UTF-8). Large ``bytes``, and views of them, are not copied;
                other buffers are, so you may change them afterwards.
            end_stream: Finish the stream after these bytes (FIN).
            wait_flush: If False, the call never waits; watch ``write_buffer_size`` then.

        Raises:
            StreamStoppedError: The peer stopped reading; ``error_code`` is its
                application code, ``None`` if unknown.
            StreamError: The stream was finished or reset on this side.
            SessionClosedError: The session has ended.
            TimeoutError: ``write_timeout`` passed without enough room. The bytes stay queued.
            ConfigurationError: ``data`` is of another type; nothing was sent.

        Cancellation: safe for ``bytes`` and ``str``, which are completely queued before
        any wait. The rest of a larger mutable buffer may be unsent.
        """
        return self._write(data, end_stream=end_stream, wait_flush=wait_flush)

    async def writelines(self, lines: list[Data]) -> None:
        """Call ``write`` for each item. Other tasks may write between them.

        Raises: as ``write``; a ``ConfigurationError`` comes before anything is written.
        """
        if isinstance(lines, str | bytes) or not isinstance(lines, Iterable):
            raise invalid_config(key="lines", value=lines, reason="expected a list of data")
        for sendable in [check_data("lines", line) for line in lines]:
            await self.write(sendable)

    @awaited
    @compiled(StreamPort)
    def write_all(self, data: Data, chunk_size: int = 8192) -> Awaited[None]:
        """Write ``data`` and finish the stream.

        Args:
            data: Everything that is left to send.
            chunk_size: Ignored; kept for compatibility.

        Raises: as ``write``.

        Cancellation: as ``write``.
        """
        return self._write_all(data, chunk_size)

    async def flush(self) -> None:
        """Send queued bytes now, and wait until few of them are left.

        Returns when at most the low-water mark of the write buffer is unsent.

        Raises: as ``write``. Cancellation: safe.
        """
        self._session.flush_nowait()
        await self._drain(to_the_mark=True)

    def try_write(self, data: Data) -> bool:
        """Queue bytes if there is room up to ``session.write_low_water``; never waits.

        Args:
            data: As for ``write``.

        Returns:
            False if there is no room, or other callers wait to write: nothing was queued.

        Raises: as ``write``.
        """
        sendable = data if isinstance(data, bytes) else check_data("data", data)
        if self._writers or self._rest is not None:
            return False
        if self._quic.queued > self._session.write_low_water:
            return False
        try:
            self._quic.write(sendable, False)
        except WebTransportError as error:
            raise self._write_failed(error) from None
        self.bytes_sent += len(sendable)
        self._writes += 1
        return True

    @compiled(StreamPort)
    def finish(self) -> None:
        """Finish the stream (FIN) like ``close()``, without waiting. Idempotent.

        Raises: as ``close``.
        """

    @awaited
    def close(self, *, code: ErrorCode | None = None, reason: str | None = None) -> Awaited[None]:
        """Finish the stream: the peer reads to the end (FIN). Idempotent.

        Does not wait for the peer; ``wait_acknowledged`` does.

        Args:
            code: None finishes the stream; with a code, it is abandoned as by ``reset``.
            reason: Ignored; ``WritableStreamProtocol`` has it, but QUIC cannot send it.

        Raises:
            StreamStoppedError: The peer had stopped reading before the FIN.
        """
        return self._close(code=code)

    async def wait_acknowledged(self) -> None:
        """Wait until the peer's QUIC stack has acknowledged every byte and the FIN.

        Raises:
            StreamError: The stream is not finished (call ``close`` first), or was reset.
            StreamStoppedError, SessionClosedError: It ended in another way.

        Cancellation: safe.
        """
        quic = self._quic
        while not quic.is_acked:
            try:
                self._raise_if_over()
            except WebTransportError as error:
                raise self._application_error(error) from None
            if not quic.fin_written:
                raise StreamError(
                    f"stream {self.stream_id} is not finished; call close() first",
                    stream_id=self.stream_id,
                    stream_state=self.state,
                )
            await self._wait_end()

    async def wait_stopped(self) -> ErrorCode | None:
        """Wait until the peer stops reading, or the sending half ends in another way.

        Use it while you have nothing to write; otherwise ``write`` raises
        ``StreamStoppedError``.

        Returns:
            The application code of the peer's STOP_SENDING (RFC 9000 section 3.5). None if it
            cannot be mapped, or if the peer did not stop: everything up to the FIN was
            acknowledged, or the stream was reset on this side. ``is_stopped`` tells you which.

        Raises:
            SessionClosedError: The session ended first.

        Cancellation: safe.
        """
        quic = self._quic
        while not (quic.is_stopped or quic.is_acked or self._reset_sent):
            try:
                self._raise_if_over()
            except WebTransportError as error:
                raise self._application_error(error) from None
            await self._wait_end()
        wire = quic.stop_code
        code = None if wire is None else self._session._code_from_wire(wire)
        if code is None and self._error is not None and quic.is_stopped:
            raise self._error  # the stop was part of the end of the session
        return code

    def add_stop_callback(self, callback: Callable[[], object]) -> None:
        """Advanced: call a function once, when ``wait_stopped`` would return or raise.

        It is called at once if that is already so, and otherwise in the same turn of the event
        loop in which the news arrives. It costs less than a task.

        Args:
            callback: Must not block or raise. Adding it twice has no further effect.
        """
        end = self._get_send_end()
        end.callbacks[callback] = None
        self._quic.set_acked_waiter(end)

    def remove_stop_callback(self, callback: Callable[[], object]) -> None:
        """Advanced: undo ``add_stop_callback``; does nothing if the callback was not added."""
        end = self._send_end
        if end is not None:
            end.callbacks.pop(callback, None)
            if not end:
                self._quic.set_acked_waiter(None)

    def reset(self, code: ErrorCode = 0) -> Awaitable[None]:
        """Abandon the sending side (RESET_STREAM, RFC 9000 section 3.5).

        Bytes not yet sent are dropped. Takes effect at once; awaiting the
        result is optional.

        Args:
            code: Application error code, 0 to 2**32 - 1.
        """
        self._reset_wire(self._session._code_to_wire(code))
        return DONE

    def pass_stop_to(self, reader: _StreamBase) -> None:
        """Advanced, for relays: pass the peer's stop on to the stream that feeds this one.

        Args:
            reader: Its receiving half is stopped with the same code.
        """
        reader._stop_wire(passed(self._quic.stop_code, self, reader))

    def _reset_wire(self, wire: int) -> None:
        if not (self._quic.is_closed or self._quic.is_acked or self._reset_sent):
            self._reset_sent = True
            self._quic.reset(wire)
            self._wake()

    async def abort(self, code: ErrorCode = 0) -> None:
        """Abandon the stream; same as ``reset(code)``."""
        self.reset(code)

    async def initialize(self) -> None:
        """Do nothing; kept for compatibility. A new stream is ready to use."""

    def is_closing(self) -> bool:
        """Return True once no more bytes can be written."""
        return not self.is_writable

    async def _end_failed_block(self) -> None:
        await self.abort()

    # -------------------------------------------------------------- internal

    def _get_send_end(self) -> SendEnd:
        if self._send_end is None:
            self._send_end = SendEnd()
        return self._send_end

    async def _wait_end(self) -> None:
        """Wait for news about the sending half; the caller then checks what happened."""
        end = self._get_send_end()
        set_waiter = self._quic.set_acked_waiter
        try:
            await end.wait(arm=partial(set_waiter, end))
        finally:
            if not end:
                set_waiter(None)

    async def _write_other(self, data: Data, end_stream: bool, wait_flush: bool) -> None:
        """Write as ``write``: what is no ``bytes``, or follows the rest of another write."""
        sendable = data if isinstance(data, bytes) else check_data("data", data)
        try:
            if self._rest is not None:
                self._queue_rest()
            # The stream keeps views of bytes as it keeps bytes: they cannot change.
            if isinstance(sendable, bytes) or type(sendable.obj) is bytes:
                queued = self._quic.write(sendable, end_stream)
                self.bytes_sent += len(sendable)
            else:
                queued = await self._write_copied(sendable, end_stream, wait_flush)
        except WebTransportError as error:
            raise self._write_failed(error) from None
        self._writes += 1
        if wait_flush and (
            self._writers or (queued > self._session.write_low_water and self._is_full(queued))
        ):
            await self._drain()

    async def _write_chunks(self, data: Data, chunk_size: int) -> None:
        check_count("chunk_size", chunk_size)
        await self.write(data, end_stream=True)

    async def _write_copied(self, view: memoryview, end_stream: bool, wait: bool) -> int:
        """Queue a mutable buffer in pieces, waiting between them.

        If another task writes meanwhile, the rest is queued at once: a write stays together.
        """
        rest: tuple[memoryview, bool] | None = None
        try:
            while True:
                piece, view = view[:_COPY_CHUNK], view[_COPY_CHUNK:]
                self._rest = rest = (view, end_stream) if len(view) else None
                queued = self._queue_piece(piece, end_stream and rest is None)
                if rest is None:
                    return queued
                if wait and (self._writers or self._is_full(queued)):
                    await self._drain()
                    if self._rest is not rest:
                        return self._quic.queued
        finally:
            if rest is not None and self._rest is rest:
                self._rest = None

    def _is_full(self, queued: int) -> bool:
        """Whether writers have to wait until the buffer is at its low-water mark."""
        return queued > self._session.write_high_water or self._quic.is_crowded

    def _queue_piece(self, piece: memoryview, end_stream: bool) -> int:
        queued = self._quic.write(piece, end_stream)
        self.bytes_sent += len(piece)
        return queued

    def _queue_rest(self) -> None:
        """Queue the rest of the previous write, because another write follows."""
        if self._rest is not None:
            (view, end_stream), self._rest = self._rest, None
            for start in range(0, len(view), _COPY_CHUNK):
                piece = view[start : start + _COPY_CHUNK]
                self._queue_piece(piece, end_stream and start + len(piece) == len(view))

    def _abandon(self) -> None:
        if self.is_writable:
            # What was written may be complete. A FIN with no bytes, or to a peer that has
            # abandoned the stream, would only look like a complete end.
            if self.bytes_sent and not self._quic.is_reset:
                with suppress(WebTransportError):
                    self.finish()
            else:
                self.reset(0)
        super()._abandon()

    async def _drain(self, *, to_the_mark: bool = False) -> None:
        """Wait until the write buffer is at its low-water mark and earlier callers were served.

        Args:
            to_the_mark: Return only at the low-water mark, even if others write meanwhile.
        """
        require_loop(self._session._loop, asyncio.get_running_loop())
        line = self._writers
        if line is None:
            line = self._writers = Line()
        arm = partial(self._quic.set_write_waiter, line)
        timeout = self._session._config.write_timeout
        started = clock.monotonic()
        served = False
        try:
            while True:
                self._raise_if_over()
                low = self._quic.queued <= self._session.write_low_water
                if (low and (served or not line)) or (served and not to_the_mark):
                    return
                try:
                    # Callers that were served but have not resumed yet let this one follow.
                    served = await line.wait(
                        timeout, first=served, pass_on=arm, arm=None if line.served else arm
                    )
                finally:
                    self._quic.set_write_waiter(line if line.turns else None)
                if not served:
                    self.stats.flow_control_errors += 1
                    raise TimeoutError(
                        f"stream {self.stream_id} had no room within write_timeout={timeout} s: "
                        "the peer does not read fast enough",
                        timeout_duration=timeout,
                        operation="write",
                    )
        except WebTransportError as error:
            raise self._write_failed(error) from None
        finally:
            waited = clock.monotonic() - started
            stats = self.stats
            stats.total_write_time += waited
            stats.max_write_time = max(stats.max_write_time, waited)

    def _raise_if_over(self) -> None:
        """Raise the error that ended the sending side, if any."""
        quic = self._quic
        ended = self._ending()
        if ended is not None and not quic.is_acked:
            raise ended
        if quic.is_stopped or self._reset_sent or (quic.is_closed and not quic.is_acked):
            # The engine knows the exact reason; an empty write makes it raise that error.
            quic.write(b"")

    def _write_failed(self, error: WebTransportError) -> WebTransportError:
        self.stats.write_errors += 1
        return self._report(self._application_error(error))

    def _wake(self) -> None:
        if self._writers is not None:
            self._writers.serve_all()
        if self._send_end is not None:
            self._send_end.wake()
        super()._wake()
