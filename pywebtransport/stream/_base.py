"""What all stream classes share: identity, state, statistics, error mapping."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

from ..events import EventEmitter
from ..exceptions import (
    SessionClosedError,
    StreamError,
    StreamResetError,
    StreamStoppedError,
    WebTransportError,
)
from ..types import EventType, StreamDirection, StreamId, StreamState
from ..utils import get_timestamp

if TYPE_CHECKING:
    from .._quic import QuicStream
    from ..session import WebTransportSession

__all__ = ["DONE", "StreamStats"]


class _Done:
    """An awaitable that is already complete: lets a synchronous verb also be awaited."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        yield from ()


DONE: Awaitable[None] = _Done()


@dataclass(kw_only=True)
class StreamStats:
    """Measured figures of one stream. Times are seconds, sizes bytes.

    ``total_read_time`` and ``total_write_time`` count the time spent waiting
    for data and for buffer room; an operation that did not wait costs nothing.
    """

    stream_id: StreamId
    created_at: float
    closed_at: float | None = None
    bytes_sent: int = 0
    bytes_received: int = 0
    writes_count: int = 0
    reads_count: int = 0
    total_write_time: float = 0.0
    total_read_time: float = 0.0
    max_write_time: float = 0.0
    max_read_time: float = 0.0
    write_errors: int = 0
    read_errors: int = 0
    flow_control_errors: int = 0

    @property
    def avg_read_time(self) -> float:
        """Mean seconds per read spent waiting."""
        return self.total_read_time / self.reads_count if self.reads_count else 0.0

    @property
    def avg_write_time(self) -> float:
        """Mean seconds per write spent waiting."""
        return self.total_write_time / self.writes_count if self.writes_count else 0.0

    @property
    def uptime(self) -> float:
        """Seconds from creation to close, or until now."""
        end = self.closed_at if self.closed_at is not None else get_timestamp()
        return max(0.0, end - self.created_at)

    def to_dict(self) -> dict[str, Any]:
        """All fields and derived figures as a plain dictionary."""
        return {
            **asdict(self),
            "avg_read_time": self.avg_read_time,
            "avg_write_time": self.avg_write_time,
            "uptime": self.uptime,
        }


class _StreamBase(EventEmitter):
    """One WebTransport stream over one QUIC stream.

    Streams are made by the session (``create_*_stream``, ``incoming_*``), not
    by hand; the constructor attaches to a stream that the session already has.
    """

    _direction = StreamDirection.BIDIRECTIONAL

    _session: WebTransportSession
    _quic: QuicStream
    _stats: StreamStats
    _error: WebTransportError | None
    _done: bool

    def __init__(self, *, stream_id: StreamId, session: WebTransportSession) -> None:
        """Attach to a stream of ``session`` that no object stands for yet.

        Args:
            stream_id: QUIC stream ID.
            session: The session that owns it.

        Raises:
            StreamError: The session has no such stream.
        """
        self._bind(session, session._find_quic_stream(stream_id))

    @classmethod
    def _attach(cls, session: WebTransportSession, quic: QuicStream) -> Self:
        self = cls.__new__(cls)
        self._bind(session, quic)
        return self

    def _bind(self, session: WebTransportSession, quic: QuicStream) -> None:
        EventEmitter.__init__(self)
        self._session = session
        self._quic = quic
        self._error = None
        self._done = False
        self._stats = StreamStats(stream_id=quic.stream_id, created_at=get_timestamp())
        quic.tag = self
        quic.on_closed = self._quic_closed
        session._add_stream(self)  # type: ignore[arg-type]

    # ------------------------------------------------------------- properties

    @property
    def stream_id(self) -> StreamId:
        """QUIC stream ID."""
        return self._quic.stream_id

    @property
    def session(self) -> WebTransportSession:
        """The session this stream belongs to."""
        return self._session

    @property
    def direction(self) -> StreamDirection:
        """Which directions this end can use."""
        return self._direction

    @property
    def is_closed(self) -> bool:
        """Both directions are finished, reset, or the session is over."""
        return self._done or self._quic.is_closed or self._error is not None

    @property
    def state(self) -> StreamState:
        """The stream's state in the terms of RFC 9000 section 3, folded into one value."""
        quic = self._quic
        if quic.is_reset:
            return StreamState.RESET_RECEIVED
        if getattr(self, "_reset_sent", False):
            return StreamState.RESET_SENT
        if self.is_closed:
            return StreamState.CLOSED
        send_over = quic.fin_written or quic.is_stopped
        receive_over = quic.at_eof
        if self._direction is StreamDirection.BIDIRECTIONAL:
            if send_over and receive_over:
                return StreamState.CLOSED
            if send_over:
                return StreamState.HALF_CLOSED_LOCAL
            if receive_over:
                return StreamState.HALF_CLOSED_REMOTE
        elif send_over if self._direction is StreamDirection.SEND_ONLY else receive_over:
            return StreamState.CLOSED
        return StreamState.OPEN

    @property
    def stats(self) -> StreamStats:
        """Live statistics of this stream."""
        return self._stats

    def debug_state(self) -> dict[str, Any]:
        """A snapshot of the stream for logs: identity, state, buffers, statistics."""
        quic = self._quic
        return {
            "stream": {
                "id": quic.stream_id,
                "state": self.state,
                "direction": self._direction,
                "session_id": self._session.session_id,
            },
            "buffers": {
                "received": quic.buffered,
                "queued": quic.queued,
                "unacknowledged": quic.unacked,
            },
            "statistics": self._stats.to_dict(),
        }

    def __repr__(self) -> str:
        return f"<{type(self).__name__} id={self.stream_id} state={self.state}>"

    # --------------------------------------------------------------- internal

    def _report(self, error: WebTransportError) -> WebTransportError:
        """Tell listeners about an operation that failed; the caller raises the error."""
        event = EventType.STREAM_ERROR
        if isinstance(error, TimeoutError):
            event = EventType.TIMEOUT_ERROR
        if self._has_listeners(event):
            self._emit_nowait(event, {"stream_id": self.stream_id, "error": error})
        return error

    def _application_error(self, error: WebTransportError) -> WebTransportError:
        """Replace the raw wire code of an engine error by the application's code."""
        if self._error is not None:
            return self._error
        details = error.details
        if isinstance(error, StreamResetError | StreamStoppedError):
            wire = details.get("code")
            code = None if wire is None else self._session._code_from_wire(wire)
            kind: type[StreamError] = type(error)
            verb = "reset the stream" if kind is StreamResetError else "stopped reading the stream"
            shown = "without an application code" if code is None else f"with code {code}"
            return kind(
                f"the peer {verb} {self.stream_id} {shown}",
                stream_id=self.stream_id,
                error_code=code,
                stream_state=self.state,
                details={"code": wire},
            )
        if details.get("connection_closed"):
            return self._session._closed_error(f"stream {self.stream_id} ended with it")
        return error

    def _fail(self, error: SessionClosedError) -> None:
        """The session is over: every waiter wakes with ``error``."""
        if self._error is None and not self._done:
            self._error = error
        self._wake()

    def _wake(self) -> None:
        """Wake whoever waits on this stream; each direction extends it."""

    def _quic_closed(self, quic: QuicStream) -> None:
        self._check_done()

    def _receive_over(self) -> bool:
        return True

    def _check_done(self) -> None:
        """Detach from the session once both the engine and the application are done."""
        if self._done or not (self._quic.is_closed and self._receive_over()):
            return
        self._done = True
        self._stats.closed_at = get_timestamp()
        self._quic.on_closed = None
        self._session._remove_stream(self)  # type: ignore[arg-type]
        if self._has_listeners(EventType.STREAM_CLOSED):
            self._emit_nowait(EventType.STREAM_CLOSED, {"stream_id": self.stream_id})


async def wait_future(future: asyncio.Future[None], timeout: float | None) -> bool:
    """Await ``future``; False when ``timeout`` seconds passed first."""
    if timeout is None:
        await future
        return True
    try:
        async with asyncio.timeout(timeout):
            await future
    except TimeoutError:
        return False
    return True
