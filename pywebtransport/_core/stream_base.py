"""The base of all stream classes: identity, state, statistics, error mapping."""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Generator
from dataclasses import asdict, dataclass
from functools import partial
from time import time
from typing import TYPE_CHECKING, Any, Self

from .._quic import StreamPort
from .._states import EventType, StreamDirection, StreamId, StreamState
from ..events import EventEmitter
from ..exceptions import (
    StreamError,
    StreamResetError,
    StreamStoppedError,
    TimeoutError,
    WebTransportError,
)
from ..utils._checks import check_interface, validate_stream_id
from ..utils._text import printable
from ..utils._timing import get_timestamp

if TYPE_CHECKING:
    from .._transport import Stream
    from ..utils._waiters import Line
    from .send_stream import SendEnd
    from .session import WebTransportSession

__all__ = ["DONE", "StreamStats", "passed"]


class _Done:
    """An awaitable that is already complete: lets callers also await a synchronous method."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        yield from ()


DONE: Awaitable[None] = _Done()

_SEND_ONLY = StreamDirection.SEND_ONLY


@dataclass(kw_only=True)
class StreamStats:
    """Statistics of one stream. Times are in seconds, sizes in bytes.

    ``total_read_time`` and ``total_write_time`` count the time spent waiting for data and for
    room in the buffer; an operation that did not wait adds nothing.
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
        """Seconds that a read waited on average."""
        return self.total_read_time / self.reads_count if self.reads_count else 0.0

    @property
    def avg_write_time(self) -> float:
        """Seconds that a write waited on average."""
        return self.total_write_time / self.writes_count if self.writes_count else 0.0

    @property
    def uptime(self) -> float:
        """Seconds from creation to close, or until now."""
        end = self.closed_at if self.closed_at is not None else get_timestamp()
        return max(0.0, end - self.created_at)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields and derived values as a plain dictionary."""
        return {
            **asdict(self),
            "avg_read_time": self.avg_read_time,
            "avg_write_time": self.avg_write_time,
            "uptime": self.uptime,
        }


_SUMMARY = (
    "uptime",
    "bytes_sent",
    "bytes_received",
    "reads_count",
    "writes_count",
    "read_errors",
    "write_errors",
    "avg_read_time",
    "avg_write_time",
)


def _pass_ends(stream: _StreamBase, counterpart: _StreamBase, quic: Stream) -> None:
    if quic.is_reset and not stream._receive_done:  # else there is nothing to lose any more
        counterpart._reset_wire(passed(quic.reset_code, stream, counterpart))
    if quic.is_stopped:
        counterpart._stop_wire(passed(quic.stop_code, stream, counterpart))


def passed(wire: int | None, stream: _StreamBase, counterpart: _StreamBase) -> int:
    """Return the wire code with which an end of ``stream`` is passed on to ``counterpart``."""
    return counterpart._session._h3.code_passed(wire, stream._session._h3)


class _StreamBase(StreamPort, EventEmitter):
    """One WebTransport stream over one QUIC stream.

    You get streams from a session (``create_*_stream``, ``incoming_*``). The constructor
    returns a stream that the session already has.

    Attributes:
        bytes_sent: Bytes that writes have queued.
        bytes_read: Bytes that reads have returned.

    Keep a reference to the stream while you use it: session and engine refer to it weakly.
    ``orphans`` describes what happens to a stream that is dropped before it has ended.
    """

    # A server creates thousands of streams per second: the members of a stream are those of the
    # compiled base, ``StreamPort``. It creates no statistics object before the first use, and no
    # waiter before the first wait.
    __slots__ = ("__dict__",)

    _direction = StreamDirection.BIDIRECTIONAL

    _session: WebTransportSession
    _quic: Stream
    _error: WebTransportError | None
    _stats: StreamStats | None
    _writers: Line | None
    _send_end: SendEnd | None

    def __new__(cls, *, stream_id: StreamId, session: WebTransportSession) -> Self:
        validate_stream_id(stream_id)
        check_interface("session", session, "WebTransportSession", "incoming_streams")
        stream = session.get_stream(stream_id)
        if type(stream) is cls:
            return stream
        raise StreamError(
            f"session {session.session_id} has no open {cls.__name__} {stream_id}; streams are "
            "made by create_bidirectional_stream(), create_unidirectional_stream() and "
            "incoming_streams()",
            stream_id=stream_id,
        )

    def __init__(self, *, stream_id: StreamId, session: WebTransportSession) -> None:
        """Return the stream of ``session`` with this ID; each stream has one object.

        Args:
            stream_id: QUIC stream ID.
            session: The session that owns it.

        Raises:
            StreamError: The session has no such open stream, or it is of another class.
        """

    def _dropped(self) -> None:
        """The last reference is gone before both halves have ended: the session ends the stream."""
        session = self._session
        session._adopt(self)
        # Warn here: the traceback usually shows the line that dropped the stream.
        if (
            self._is_orphan()
            and not session.is_closed
            and not (self._has_owner() or self._is_one_way())
        ):
            warnings.warn(
                f"stream {self.stream_id} of {printable(session.path)} was dropped with its "
                "sending half open, and is closed now; use it in 'async with stream:', or call "
                "close() or abort()",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )

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
        """Both directions are finished or reset, or the session has ended."""
        return (
            self._done
            or self._quic.is_closed
            or self._session._close_info is not None
            or (self._send_over() and self._read_over())
        )

    @property
    def state(self) -> StreamState:
        """The state of both directions (RFC 9000 section 3) as one value."""
        if self._quic.is_reset:
            return StreamState.RESET_RECEIVED
        if self._reset_sent:
            return StreamState.RESET_SENT
        if self.is_closed:
            return StreamState.CLOSED
        if self._direction is StreamDirection.BIDIRECTIONAL:
            if self._send_over():
                return StreamState.HALF_CLOSED_LOCAL
            if self._read_over():
                return StreamState.HALF_CLOSED_REMOTE
        return StreamState.OPEN

    def _send_over(self) -> bool:
        """Nothing more can be sent; also true if the stream has no sending half."""
        quic = self._quic
        one_way = self._direction is StreamDirection.RECEIVE_ONLY
        return one_way or quic.fin_written or quic.is_stopped

    def _read_over(self) -> bool:
        """Everything was read, up to the peer's FIN."""
        return self._direction is StreamDirection.SEND_ONLY or self._quic.at_eof

    def _is_orphan(self) -> bool:
        """A half is open that only this end can end: the peer has finished, or cannot end it."""
        quic = self._quic
        if quic.is_closed or self._reset_sent or self._send_over():
            return False
        if self._direction is _SEND_ONLY:
            return self.bytes_sent > 0  # an unused one may reserve a slot
        # Nothing that arrives after STOP_SENDING is reported, not even the end.
        return self._receive_done or quic.fin_received or quic.is_reset

    def _is_one_way(self) -> bool:
        """A bidirectional stream on which only the peer has sent, and that half has ended."""
        quic = self._quic
        return not self.bytes_sent and (self._receive_done or quic.fin_received or quic.is_reset)

    def _is_half_open(self) -> bool:
        """One half has ended and the other one has not."""
        quic = self._quic
        if quic.is_closed or self._direction is not StreamDirection.BIDIRECTIONAL:
            return False
        sent = self._reset_sent or self._send_over()
        received = self._receive_done or quic.is_reset or quic.fin_received
        return sent is not received

    def _has_waiter(self) -> bool:
        """A coroutine is waiting on the stream."""
        end = self._send_end
        return bool(self._read_waiter or self._writers or (end is not None and end.futures))

    def _has_owner(self) -> bool:
        """The stream has listeners: events carry it, so no other reference is needed."""
        state = self._emitter
        if state is None:
            return False
        names = {*state.handlers, *state.once, *state.waiters} - {EventType.STREAM_CLOSED}
        return bool(names or state.any_handlers)

    def pass_ends_to(self, counterpart: _StreamBase) -> None:
        """Advanced, for relays: pass on the peer's reset and stop as soon as they arrive.

        A copy loop would not notice them while it waits for data or for room. Wire codes are
        passed on unchanged, so that a code without a meaning here keeps its meaning there. A
        stream that was read to the end is not reset.

        Args:
            counterpart: If the peer resets this stream, the sending half of ``counterpart`` is
                reset; if the peer stops it, the receiving half of ``counterpart`` is stopped.
        """
        self._quic.sink = partial(_pass_ends, self, counterpart)
        _pass_ends(self, counterpart, self._quic)

    def _reset_wire(self, wire: int) -> None:
        """Reset the sending half, if there is one, with a wire code."""

    def _stop_wire(self, wire: int) -> None:
        """Stop the receiving half, if there is one, with a wire code."""

    def _discard(self) -> None:
        """Drop what arrives: no reader is left."""

    def _abandon(self) -> None:
        """End the sending half: no writer is left."""

    @property
    def stats(self) -> StreamStats:
        """Statistics of this stream up to now; read the property again to update them."""
        stats = self._stats
        if stats is None:
            stats = self._stats = StreamStats(stream_id=self.stream_id, created_at=self._created_at)
        if self._closed_at is None and self.is_closed:
            self._closed_at = time()  # both halves have ended; an acknowledgement may be missing
        stats.closed_at = self._closed_at
        stats.bytes_sent = self.bytes_sent
        stats.bytes_received = self.bytes_read
        stats.writes_count = self._writes
        stats.reads_count = self._reads
        stats.total_read_time = self._read_time
        stats.max_read_time = self._max_read_time
        return stats

    def debug_state(self) -> dict[str, Any]:
        """Return a snapshot of the stream for logs: identity, state, buffers, statistics."""
        quic = self._quic
        return {
            "stream": {
                "id": quic.stream_id,
                "state": self.state,
                "direction": self._direction,
                "is_readable": getattr(self, "is_readable", False),
                "is_writable": getattr(self, "is_writable", False),
                "is_closed": self.is_closed,
                "session_id": self._session.session_id,
            },
            "buffers": {
                "received": quic.buffered,
                "queued": quic.queued,
                "unacknowledged": quic.unacked,
            },
            "statistics": self.stats.to_dict(),
        }

    def get_summary(self) -> dict[str, Any]:
        """Return key statistics."""
        stats = self.stats
        return {
            "stream_id": self.stream_id,
            "state": self.state,
            "direction": self._direction,
            **{name: getattr(stats, name) for name in _SUMMARY},
        }

    def __repr__(self) -> str:
        return f"<{type(self).__name__} id={self.stream_id} state={self.state}>"

    # --------------------------------------------------------------- internal

    def _report(self, error: WebTransportError) -> WebTransportError:
        """Report a failed operation to listeners; the caller raises the error."""
        event = EventType.STREAM_ERROR
        if isinstance(error, TimeoutError):
            event = EventType.TIMEOUT_ERROR
        if self._has_listeners(event):
            self._emit_nowait(event, {"stream_id": self.stream_id, "error": error})
        return error

    def _application_error(self, error: WebTransportError) -> WebTransportError:
        """Replace the raw wire code of an engine error by the application's code."""
        ended = self._ending()
        if ended is not None:
            return ended
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
            return self._session.closed_error(f"stream {self.stream_id} ended with it")
        return error

    def _ending(self) -> WebTransportError | None:
        """Return the error that the end of the session caused; None if the session is open.

        It is created on demand: nobody asks most streams of a session that ends, and waiting
        callers are woken one after the other.
        """
        if self._error is None and not self._done and self._session._close_info is not None:
            self._error = self._session.closed_error(f"stream {self.stream_id} ended with it")
        return self._error

    def _wake(self) -> None:
        """Wake the callers that wait on this stream; each direction extends it."""

    def _tell_closed(self) -> None:
        if self._has_listeners(EventType.STREAM_CLOSED):
            self._emit_nowait(EventType.STREAM_CLOSED, {"stream_id": self.stream_id})
