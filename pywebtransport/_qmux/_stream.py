"""One stream of a QMux connection."""

from __future__ import annotations

from collections import deque
from typing import Any

from .._quic import CloseInfo, PlainStream
from ..exceptions import ConfigurationError
from ..h3._varint import MAX_VARINT
from ._credit import NEVER, grown
from ._frames import RESET_STREAM, RESET_STREAM_AT, STOP_SENDING, encode_number
from ._state import State

__all__ = ["QMuxStream"]

_Buffer = bytes | bytearray | memoryview


class QMuxStream(PlainStream):
    """A stream: received bytes are kept by the base class, bytes to send here.

    Attributes:
        queued: Bytes accepted but not in a record yet.
        state: Shared by all parts of the connection.
        is_sending: The sending side is not done: its end is not handed over.
        is_receiving: The end of the receiving side has not arrived.

        head: The bytes to send first; None: there are none.
        more: Those after it.
        sent: Bytes in records.
        send_limit: Bytes that the peer allows.
        fin_due: FIN follows the last byte.
        reset_due: RESET_STREAM_AT with this code follows the last byte; -1: it does not.
        ends_due: It is in ``state.ends``.
        is_listed: It is in ``state.news``.
        is_ready: It waits in a queue of streams with something to send.
        order: Its send order.

        received: Bytes that arrived, or were lost by a reset.
        receive_limit: Bytes that the peer may send.
        final_size: Of the receiving side; -1: not known.
        stop_sent: This end has stopped reading: what comes is not kept.
        due_at: The peer gets more credit when ``consumed_size`` reaches this.
        consumed_size: Bytes that the application has read or dropped.
        reset_at: (code, reliable size) of a reset that the application does not know yet.
    """

    __slots__ = (
        "_after",
        "_code",
        "_held_for",
        "_input_is_done",
        "_is_reset",
        "_reliable",
        "_window",
        "consumed_size",
        "due_at",
        "ends_due",
        "fin_due",
        "final_size",
        "head",
        "is_listed",
        "is_ready",
        "is_receiving",
        "is_sending",
        "more",
        "order",
        "queued",
        "receive_limit",
        "received",
        "reset_at",
        "reset_due",
        "send_limit",
        "sent",
        "state",
        "stop_sent",
    )

    def __init__(
        self,
        stream_id: int,
        *,
        is_local: bool,
        is_unidirectional: bool,
        state: State,
        send_limit: int,
    ) -> None:
        super().__init__(stream_id, is_local=is_local, is_unidirectional=is_unidirectional)
        self.state = state
        self.queued = 0
        self.is_sending = is_local or not is_unidirectional
        self.is_receiving = not is_local or not is_unidirectional
        self.head: bytes | memoryview | None = None
        self.more: deque[bytes] | None = None
        self.sent = 0
        self.send_limit = send_limit
        self.fin_due = False
        self.reset_due = -1
        self.is_ready = False
        self.ends_due = False
        self.order = 0
        self._is_reset = False
        self._reliable = 0
        self._held_for: QMuxStream | None = None
        self._after: list[QMuxStream] | None = None
        self._code = 0
        self.received = 0
        window = state.limits.stream_window
        self._window = self.receive_limit = window
        self.due_at = (window + 1) // 2
        self.consumed_size = 0
        self.final_size = -1
        self.stop_sent = False
        self.reset_at: tuple[int, int] | None = None
        self._input_is_done = False
        self.is_listed = False

    # ---------------------------------------------------------- receiving side

    def consumed(self, n: int) -> None:
        self.consumed_size = size = self.consumed_size + n
        state = self.state
        data = state.data
        data.consumed += n
        if data.consumed >= data.due_at and not data.is_due:
            data.is_due = True
            state.wake()
        if size >= self.due_at and self.is_receiving:
            self.due_at = NEVER  # until the peer was told
            state.credit_due.append(self)
            state.wake()
        if self.reset_at is not None and not self.is_receiving:
            self.tell_reset()

    def input_done(self) -> None:
        self._input_is_done = True
        if not self.is_sending and not self.is_receiving and not self.is_local:
            self.state.free_stream(self.is_unidirectional)

    def announce(self) -> int:
        """Return the new limit, which is sent now."""
        self.receive_limit, self._window, self.due_at = grown(
            self.consumed_size, self._window, self.state.limits.max_stream_window
        )
        return self.receive_limit

    def end_receiving(self) -> None:
        """The end of the receiving side has arrived."""
        self.is_receiving = False
        if not self.is_sending:
            self._end()

    def tell_reset(self) -> None:
        """The reset takes effect when the application has read what comes before it."""
        if self.reset_at is not None and self.consumed_size >= self.reset_at[1]:
            code, self.reset_at = self.reset_at[0], None
            self.peer_reset(code)

    def stop_sending(self, code: int) -> None:
        _check_code("code", code)
        if self._input_is_done or self.is_reset or (self.is_unidirectional and self.is_local):
            return
        if self.is_receiving and self.reset_at is None:
            self.state.control.append((encode_number(STOP_SENDING, self.stream_id, code), None))
            self.state.wake()
        self.due_at = NEVER
        self.stop_sent = True
        self.mark_stop_sent()

    # ------------------------------------------------------------ sending side

    @property
    def is_live(self) -> bool:
        """A frame without data may be sent: neither the end nor a reset was sent."""
        return self.is_sending and not self._is_reset

    @property
    def is_crowded(self) -> bool:
        """All streams together have too much queued."""
        return self.state.queued > self.state.max_queued

    @property
    def unacked(self) -> int:
        """Bytes that the kernel has not taken; counts those of other streams behind them."""
        return self.queued if self.is_acked else self.queued + min(self.sent, self.state.unsent())

    def write(self, data: _Buffer, fin: bool = False) -> int:
        """Queue bytes; returns ``queued`` after it. Raises as ``Stream.write``."""
        self.check_writable()
        if type(data) is not bytes:
            data = bytes(data)
        n = len(data)
        state = self.state
        if n:
            if self.head is None:
                self.head = data
            elif self.more is None:
                self.more = deque((data,))
            else:
                self.more.append(data)
            self.queued += n
            state.queued += n
        elif not fin:
            return self.queued
        self.finish_written(n, fin)
        if fin:
            self.fin_due = True
        if not self.is_ready:
            if self.queued:
                if self.sent < self.send_limit:
                    state.make_ready(self)
            else:
                self.send_empty()
        if not state.is_woken:
            state.wake()
        return self.queued

    def write_room(self) -> bool:
        return self.queued <= self.state.low_water

    def send_empty(self) -> None:
        """Send a frame without data: the beginning of the stream, or its end."""
        if not self.ends_due:
            self.ends_due = True
            self.state.ends.append(self)
            self.state.wake()

    def set_send_order(self, order: int) -> None:
        """Streams with a higher order send first."""
        if not isinstance(order, int) or not -(1 << 63) <= order < 1 << 63:
            raise ConfigurationError(
                f"order must be an integer of 64 bits, got {order!r}",
                config_key="order",
                config_value=order,
            )
        if order == self.order:
            return
        if self.is_ready:
            self.state.leave_ready(self)
            self.order = order
            self.state.make_ready(self)
        else:
            self.order = order

    def set_reliable_size(self, n: int) -> None:
        _check_code("n", n)
        self._reliable = n

    def hold_for(self, until: QMuxStream) -> None:
        self._held_for = until

    def reset(self, code: int) -> None:
        """Send RESET_STREAM, or RESET_STREAM_AT after ``set_reliable_size`` if the peer can."""
        _check_code("code", code)
        if not self.is_sending or self._is_reset or self.is_stopped:
            return
        until = self._held_for
        self.mark_reset_sent()
        if until is not None and until.is_sending:
            self._is_reset = True
            self._code = code
            if until._after is None:
                until._after = []
            until._after.append(self)
        else:
            self.end_sending(code, self._reliable)

    def end_sending(self, code: int, reliable: int = 0) -> None:
        """Send a reset after the first ``reliable`` bytes, or at once."""
        self._is_reset = True
        self.fin_due = False
        self.reset_due = -1
        reliable = min(reliable, self.sent + self.queued)
        if not self.state.peer.reset_stream_at or self.state.draft < 2:
            reliable = 0
        self._keep(max(0, reliable - self.sent))
        if self.queued:
            self.reset_due = code
            self._reliable = reliable
            return
        self.state.control.append((self.reset_frame(code, reliable), self))
        self.state.wake()

    def reset_frame(self, code: int, reliable: int) -> bytes:
        """Return RESET_STREAM; RESET_STREAM_AT if there is a reliable size."""
        if reliable:
            return encode_number(RESET_STREAM_AT, self.stream_id, code, self.sent, reliable)
        if not self.state.draft:
            return encode_number(RESET_STREAM, self.stream_id, code)
        return encode_number(RESET_STREAM, self.stream_id, code, self.sent)

    def stopped(self, code: int) -> None:
        """The peer does not want what is sent: answer with a reset, unless FIN was sent."""
        self.peer_stopped(code)
        if self.reset_due >= 0:  # it does not want the reliable part either
            self.end_sending(self.reset_due)
        elif self.is_live and (self.queued or not self.fin_due):
            self.end_sending(code)

    def handed_over(self) -> None:
        """The kernel has everything up to the FIN."""
        if self.is_sending:
            self.mark_acked()
            self.sending_done()

    def sending_done(self) -> None:
        """The end of the sending side was handed over."""
        self.is_sending = False
        self._held_for = None
        if self._after is not None:
            after, self._after = self._after, None
            for other in after:
                if other.is_sending:
                    other.end_sending(other._code, other._reliable)
        if not self.is_receiving:
            self._end()

    def _keep(self, n: int) -> None:
        """Drop all but the first ``n`` of the bytes that wait."""
        if not n:
            dropped = self.queued
            self.head = self.more = None
        else:
            dropped = self.queued - n
            waiting = memoryview(b"".join((self.head or b"", *(self.more or ()))))
            self.head, self.more = waiting[:n], None
        self.queued -= dropped
        self.state.queued -= dropped

    # ------------------------------------------------------------------- groups

    def join_group(self, group: Any, send_header: int, recv_header: int) -> None:
        """Nothing to do: the credit of a session is that of the connection."""

    def open_in(self, group: Any, header: bytes) -> None:
        """Tell the peer of a new stream of this end; ``header`` is written (may be empty)."""
        if header:
            self.write(header)
            self._reliable = len(header)
        elif self.state.draft:
            self.send_empty()

    def accept_in(self, group: Any, header_size: int) -> None:
        self.skip(header_size)

    # ------------------------------------------------------------------ the end

    def has_news(self) -> None:
        if not self.is_listed:
            self.is_listed = True
            state = self.state
            state.news.append(self)
            if not state.is_busy:
                state.schedule()

    def lose(self) -> None:
        """The connection has ended."""
        self.head = self.more = None
        self.queued = 0
        self._after = self._held_for = None
        self.is_sending = self.is_receiving = self.is_ready = False
        self.close_stream()

    def connection_error(self, what: str) -> dict[str, Any]:
        info: CloseInfo | None = self.state.close_info
        if info is None:
            return {}
        return {
            "kind": info.kind,
            "code": info.code,
            "reason": info.reason,
            "remote": info.remote,
        }

    def _end(self) -> None:
        """Both sides are done."""
        self.state.streams.pop(self.stream_id, None)
        self.close_stream()
        if self._input_is_done and not self.is_local:
            self.state.free_stream(self.is_unidirectional)


def _check_code(name: str, value: int) -> None:
    if not isinstance(value, int) or not 0 <= value <= MAX_VARINT:
        raise ConfigurationError(
            f"{name} must be 0 to {MAX_VARINT}, got {value!r}", config_key=name, config_value=value
        )
