"""The framing ``webtransport``, older than QMux: each message is one frame.

It has neither parameters nor credit, offsets, datagrams or pings. An application that does not
read makes this end read no more from the socket.
"""

from __future__ import annotations

from typing import Any, Final

from ..h3._varint import MAX_VARINT, decode_varint, encode_varint
from ._credit import NEVER
from ._errors import QMuxConnectionError, QMuxError
from ._frames import CLOSE_APPLICATION, CLOSE_TRANSPORT, RESET_STREAM, STOP_SENDING, STREAM
from ._load import QMuxLoad
from ._parameters import Parameters
from ._receiving import Receiver
from ._sending import ready_lines, take
from ._state import State

__all__ = ["LegacyReceiver", "build_legacy", "encode_legacy_close"]

_FIN: Final = 0x09
_MESSAGE: Final = 16384
"""Bytes of a stream in one message."""


class LegacyReceiver(Receiver):
    """As ``Receiver``, for this framing."""

    __slots__ = ()

    def __init__(self, state: State, load: QMuxLoad, *, is_client: bool) -> None:
        super().__init__(state, load, is_client=is_client)
        state.peer = Parameters(
            max_stream_data_bidi_local=MAX_VARINT,
            max_stream_data_bidi_remote=MAX_VARINT,
            max_stream_data_uni=MAX_VARINT,
        )
        state.send_limit = state.data.limit = MAX_VARINT
        state.data.due_at = NEVER
        state.may_open[:] = MAX_VARINT, MAX_VARINT
        self.is_ready = True

    def process(self, record: bytes) -> None:
        """Process one message.

        Raises:
            QMuxConnectionError: The peer broke a rule.
        """
        if not record:
            self._load.idle("empty records")
            return
        kind = record[0]
        if kind in (CLOSE_APPLICATION, CLOSE_TRANSPORT):
            code, pos = _number(record, 1)
            self.closed = kind == CLOSE_APPLICATION, code, record[pos:].decode("utf-8", "replace")
        elif kind in (STREAM, _FIN):
            stream_id, pos = _number(record, 1)
            self._data(stream_id, record[pos:], kind)
        elif kind in (RESET_STREAM, STOP_SENDING):
            stream_id, pos = _number(record, 1)
            code, pos = _number(record, pos)
            if pos != len(record):
                raise QMuxConnectionError(
                    QMuxError.FRAME_ENCODING_ERROR, "bytes behind the frame", kind
                )
            self._abort(stream_id, code, kind)
        else:
            raise QMuxConnectionError(QMuxError.FRAME_ENCODING_ERROR, "unknown frame", kind)

    def _data(self, stream_id: int, data: bytes, kind: int) -> None:
        stream = self._receiving(stream_id, kind)
        if stream is None or not stream.is_receiving:
            self._load.idle("frames of finished streams")
            return
        fin = kind == _FIN
        if not data and not fin:
            self._load.idle("frames without data")
            if not stream.received:
                self._state.tell_new(stream)
        state = self._state
        stream.received += len(data)
        stream.receive_limit = stream.due_at = NEVER
        state.data.received += len(data)
        stream.feed(data, fin)
        if fin:
            stream.final_size = stream.received
            stream.end_receiving()
        unread = state.data.received - state.data.consumed
        if unread > state.limits.max_data_window and not state.is_paused:
            state.is_paused = True
            state.data.due_at = state.data.consumed + unread // 2
            if state.link is not None:
                state.link.pause_reading()

    def _abort(self, stream_id: int, code: int, kind: int) -> None:
        if kind == RESET_STREAM:
            stream = self._receiving(stream_id, kind)
            if stream is not None and stream.is_receiving:
                stream.final_size = stream.received
                self.resets_received += 1
                stream.end_receiving()
                stream.peer_reset(code)
                return
        else:
            stream = self._sending(stream_id, kind)
            if stream is not None and not stream.is_stopped:
                stream.stopped(code)
                return
        self._load.idle("frames of finished streams")


def build_legacy(state: State) -> bytes | None:
    """Return the next message; None: nothing can be sent now."""
    state.credit_due.clear()
    for credit in state.peer_streams:
        if credit.is_due:
            credit.announce()  # the peer knows of no limit
    if state.data.is_due:
        state.data.is_due = state.is_paused = False
        state.data.due_at = NEVER
        if state.link is not None:
            state.link.resume_reading()
    message = _next_message(state)
    if message is not None:
        state.handed_out += len(message)
        for stream in state.ended:
            state.finishing.append((state.handed_out, stream))
        state.ended.clear()
    return message


def _next_message(state: State) -> bytes | None:
    if state.control:
        frame, stream = state.control.pop(0)
        if stream is not None and stream.is_sending:
            stream.sending_done()
        return frame
    while state.ends:
        stream = state.ends.pop()
        stream.ends_due = False
        if stream.is_live and stream.fin_due and not stream.queued:
            state.ended.append(stream)
            return _header(_FIN, stream.stream_id)
    for line in ready_lines(state):
        while line:
            stream = line.popleft()
            if not stream.queued:  # it was reset
                stream.is_ready = False
                continue
            return _data_message(state, stream, line)
    return None


def _data_message(state: State, stream: Any, line: Any) -> bytes:
    queued = stream.queued
    n = min(queued, _MESSAGE)
    left = queued - n
    fin = stream.fin_due and not left
    parts: list[Any] = [_header(_FIN if fin else STREAM, stream.stream_id)]
    take(stream, n, parts)
    stream.sent += n
    stream.queued = left
    state.stream_bytes_sent += n
    state.queued -= n
    if left:
        line.append(stream)
    else:
        stream.is_ready = False
    if fin:
        state.ended.append(stream)
    if left <= state.low_water < queued:
        stream.has_news()
    return b"".join(parts)


def _header(kind: int, stream_id: int) -> bytes:
    return bytes((kind,)) + encode_varint(stream_id)


def encode_legacy_close(code: int, reason: bytes, *, application: bool) -> bytes:
    """Return the last message."""
    return bytes((CLOSE_APPLICATION if application else CLOSE_TRANSPORT,)) + (
        encode_varint(code) + reason
    )


def _number(message: bytes, pos: int) -> tuple[int, int]:
    found = decode_varint(message, pos)
    if found is None:
        raise QMuxConnectionError(
            QMuxError.FRAME_ENCODING_ERROR, "an integer is cut off", message[0]
        )
    return found
