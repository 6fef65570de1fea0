"""Processes records: one loop over the frames, without an object for each."""

from __future__ import annotations

from struct import Struct
from struct import error as StructError
from typing import Any, Final

from ..h3._varint import encode_varint
from ._datagrams import largest_datagram
from ._errors import QMuxConnectionError, QMuxError
from ._frames import (
    CLOSE_APPLICATION,
    CLOSE_TRANSPORT,
    DRAIN,
    FORBIDDEN,
    MAX_STREAM_COUNT,
    MAX_VARINT,
    PARAMETERS,
    PARAMETERS_HEAD,
    PING_REQUEST,
    PING_RESPONSE,
    RESET_STREAM_AT,
)
from ._load import QMuxLoad
from ._parameters import Parameters, parse_parameters
from ._sending import LARGEST_RECORD
from ._state import State
from ._stream import QMuxStream

__all__ = ["Receiver"]

_FOUR: Final = Struct(">I").unpack_from
_EIGHT: Final = Struct(">Q").unpack_from
_LARGE: Final = 4096
"""From so many bytes on, a view costs less than a copy."""
_RAISES: Final = 4
"""Limits that a peer may raise for each STREAM frame that it gets."""
_RAISE: Final = 1024
"""Bytes for each of which it may raise one more."""

_ENCODING: Final = QMuxError.FRAME_ENCODING_ERROR
_STATE: Final = QMuxError.STREAM_STATE_ERROR
_FLOW: Final = QMuxError.FLOW_CONTROL_ERROR
_SIZE: Final = QMuxError.FINAL_SIZE_ERROR
_VIOLATION: Final = QMuxError.PROTOCOL_VIOLATION


class Receiver:
    """The receiving half of a connection.

    Args:
        state: Shared by all parts of the connection.
        load: Counts frames that carry nothing.
        is_client: Which half of the stream IDs is ours.
        sink: For streams that the peer opens.

    Attributes:
        is_ready: The parameters of the peer have arrived.
        closed: What the peer closed the connection with: (application, code, reason).
        datagrams: Received, not yet delivered.
        became_available: Kinds of streams of which the peer allows more.
        drain_received: The peer asks to end the session soon.
        pings_sent: Pings of this end; numbers below it may be answered.
    """

    __slots__ = (
        "_credit_frames",
        "_last_answer",
        "_last_ping",
        "_load",
        "_our_bit",
        "_our_uni",
        "_peer_uni",
        "_state",
        "became_available",
        "closed",
        "datagrams",
        "datagrams_received",
        "drain_received",
        "is_ready",
        "pings_sent",
        "resets_received",
        "sink",
    )

    def __init__(self, state: State, load: QMuxLoad, *, is_client: bool) -> None:
        self._state = state
        self._load = load
        self._our_bit = 0 if is_client else 1
        self._our_uni = 2 | self._our_bit
        self._peer_uni = 3 ^ self._our_bit
        self._last_ping = -1
        self._last_answer = -1
        self._credit_frames = 0
        self.sink: Any = None
        self.is_ready = False
        self.closed: tuple[bool, int, str] | None = None
        self.datagrams: list[bytes] = []
        self.datagrams_received = 0
        self.resets_received = 0
        self.became_available: set[bool] = set()
        self.drain_received = False
        self.pings_sent = 0

    def process(self, record: bytes) -> None:
        """Process the frames of a record.

        Raises:
            QMuxConnectionError: The peer broke a rule.
        """
        if not record:
            self._load.idle("empty records")
            return
        try:
            pos = 0 if self.is_ready else self._begin(record)
            self._frames(record, pos, len(record))
        except (IndexError, StructError):
            raise QMuxConnectionError(_ENCODING, "an integer is cut off") from None

    def _frames(self, record: bytes, pos: int, end: int) -> None:
        state = self._state
        streams = state.streams
        data = state.data
        local_uni = self._our_uni
        while pos < end:
            kind = record[pos]
            if not 0x08 <= kind <= 0x0F:
                pos = self._other_frame(kind, record, pos, end)
                if self.closed is not None:
                    return
                continue
            # STREAM: the integers are decoded in line.
            byte = record[pos + 1]
            if byte < 0x40:
                stream_id = byte
                pos += 2
            elif byte < 0x80:
                stream_id = (byte & 0x3F) << 8 | record[pos + 2]
                pos += 3
            elif byte < 0xC0:
                stream_id = _FOUR(record, pos + 1)[0] & 0x3FFFFFFF
                pos += 5
            else:
                stream_id = _EIGHT(record, pos + 1)[0] & MAX_VARINT
                pos += 9
            offset = 0
            if kind & 0x04:
                byte = record[pos]
                if byte < 0x40:
                    offset = byte
                    pos += 1
                elif byte < 0x80:
                    offset = (byte & 0x3F) << 8 | record[pos + 1]
                    pos += 2
                elif byte < 0xC0:
                    offset = _FOUR(record, pos)[0] & 0x3FFFFFFF
                    pos += 4
                else:
                    offset = _EIGHT(record, pos)[0] & MAX_VARINT
                    pos += 8
            if kind & 0x02:
                byte = record[pos]
                if byte < 0x40:
                    size = byte
                    pos += 1
                elif byte < 0x80:
                    size = (byte & 0x3F) << 8 | record[pos + 1]
                    pos += 2
                elif byte < 0xC0:
                    size = _FOUR(record, pos)[0] & 0x3FFFFFFF
                    pos += 4
                else:
                    size = _EIGHT(record, pos)[0] & MAX_VARINT
                    pos += 8
                stop = pos + size
                if stop > end:
                    raise QMuxConnectionError(_ENCODING, "the data end behind the record", kind)
            else:
                size = end - pos
                if size < 0:
                    raise QMuxConnectionError(_ENCODING, "an integer is cut off", kind)
                stop = end
            fin = kind & 0x01 != 0
            if stream_id & 3 == local_uni:
                raise QMuxConnectionError(_STATE, "STREAM on a stream that only sends", kind)
            stream = streams.get(stream_id)
            if stream is None:
                stream = self._unknown(stream_id, kind)
                if stream is None:
                    self._load.idle("frames of finished streams")
                    pos = stop
                    continue
                if not size and not fin:
                    state.tell_new(stream)
            elif not size and not fin:
                self._load.idle("frames without data")
            upto = offset + size
            if offset != stream.received or stream.final_size >= 0:
                self._odd_data(stream, record, pos, offset, size, fin, kind)
                pos = stop
                continue
            if upto > stream.receive_limit:
                raise QMuxConnectionError(_FLOW, "more data than the stream may have", kind)
            data.received += size
            if data.received > data.limit:
                raise QMuxConnectionError(_FLOW, "more data than the connection may have", kind)
            stream.received = upto
            if size < _LARGE:
                stream.feed(record[pos:stop], fin)
            else:
                stream.feed(memoryview(record)[pos:stop], fin)
            if fin:
                stream.final_size = upto
                stream.end_receiving()
            pos = stop

    # -------------------------------------------------------------- the first frame

    def _begin(self, record: bytes) -> int:
        """Process the parameters; return where the next frame starts."""
        draft = self._state.draft
        if record[: len(PARAMETERS_HEAD)] != PARAMETERS_HEAD:
            raise QMuxConnectionError(_first(draft), "the parameters must come first")
        length, pos = _number(record, len(PARAMETERS_HEAD), len(record))
        stop = pos + length
        if stop > len(record):
            raise QMuxConnectionError(_ENCODING, "the parameters end behind the record", PARAMETERS)
        self._apply(parse_parameters(record[pos:stop], draft))
        return stop

    def _apply(self, peer: Parameters) -> None:
        state = self._state
        state.peer = peer
        state.record_size = min(peer.max_record_size, LARGEST_RECORD)
        state.send_limit = peer.max_data
        state.may_open[:] = peer.max_streams_bidi, peer.max_streams_uni
        self.is_ready = True
        frame_size = min(peer.max_datagram_frame_size, state.record_size)
        state.datagrams.keep(largest_datagram(frame_size) if frame_size else -1)
        state.wake()

    # ------------------------------------------------------------------- streams

    def _unknown(self, stream_id: int, kind: int) -> QMuxStream | None:
        """Return a new stream of the peer; None if this one is finished."""
        state = self._state
        unidirectional = stream_id & 2 != 0
        number = stream_id >> 2
        if stream_id & 1 == self._our_bit:
            if number >= state.opened[unidirectional]:
                raise QMuxConnectionError(_STATE, "this end has not opened the stream", kind)
            return None
        credit = state.peer_streams[unidirectional]
        if number >= credit.limit:
            raise QMuxConnectionError(
                QMuxError.STREAM_LIMIT_ERROR, f"at most {credit.limit} streams", kind
            )
        if not credit.open(number):
            return None
        stream = QMuxStream(
            stream_id,
            is_local=False,
            is_unidirectional=unidirectional,
            state=state,
            send_limit=0 if unidirectional else state.peer.max_stream_data_bidi_local,
        )
        stream.sink = self.sink
        state.streams[stream_id] = stream
        if not 0x08 <= kind <= 0x0F:
            state.tell_new(stream)
        return stream

    def _receiving(self, stream_id: int, kind: int) -> QMuxStream | None:
        if stream_id & 3 == self._our_uni:
            raise QMuxConnectionError(_STATE, "the stream only sends", kind)
        stream: QMuxStream | None = self._state.streams.get(stream_id)
        return self._unknown(stream_id, kind) if stream is None else stream

    def _sending(self, stream_id: int, kind: int) -> QMuxStream | None:
        if stream_id & 3 == self._peer_uni:
            raise QMuxConnectionError(_STATE, "the stream only receives", kind)
        stream: QMuxStream | None = self._state.streams.get(stream_id)
        return self._unknown(stream_id, kind) if stream is None else stream

    def _odd_data(
        self,
        stream: QMuxStream,
        record: bytes,
        pos: int,
        offset: int,
        size: int,
        fin: bool,
        kind: int,
    ) -> None:
        """Data that do not continue an open stream."""
        upto = offset + size
        final = stream.final_size
        if upto > MAX_VARINT:
            raise QMuxConnectionError(_ENCODING, "the stream would be too long", kind)
        if final >= 0:
            if upto > final or (fin and upto != final):
                raise QMuxConnectionError(_SIZE, "the end of the stream was elsewhere", kind)
        elif fin and upto < stream.received:
            raise QMuxConnectionError(_SIZE, "the stream ends before received data", kind)
        if stream.is_reset and not stream.is_receiving:
            self._load.idle("frames after a reset")
            return
        if offset != stream.received or (size and not stream.is_receiving):
            raise QMuxConnectionError(_VIOLATION, "data out of order", kind)
        if not stream.is_receiving:
            self._load.idle("frames after the end")
            return
        if not size:
            self._load.idle("frames without data")
        # After RESET_STREAM_AT: its bytes were counted when it came.
        stream.feed(record[pos : pos + size], False)
        stream.received = upto
        self._check_reset_at(stream)

    def _reset(self, stream_id: int, code: int, final: int, reliable: int, kind: int) -> None:
        stream = self._receiving(stream_id, kind)
        if stream is None:
            self._load.idle("frames of finished streams")
            return
        known = stream.final_size
        if known >= 0:
            if final != known:
                raise QMuxConnectionError(_SIZE, "the end of the stream was elsewhere", kind)
            if stream.reset_at is None or not stream.is_receiving:
                self._load.idle("resets of finished streams")
                return
            reliable = min(reliable, stream.reset_at[1])
        elif final < stream.received and not stream.stop_sent:
            raise QMuxConnectionError(_SIZE, "the stream ends before received data", kind)
        elif final > stream.receive_limit:
            raise QMuxConnectionError(_FLOW, "more data than the stream may have", kind)
        else:
            # The answer of @moq/qmux 0.3.3 to STOP_SENDING does not count the frame that it was
            # sending at that moment. The data are not kept, so it does no harm.
            final = max(final, stream.received)
            data = self._state.data
            data.received += final - stream.received
            if data.received > data.limit:
                raise QMuxConnectionError(_FLOW, "more data than the connection may have", kind)
            stream.final_size = final
            self.resets_received += 1
        # Without a reliable size, it takes effect whatever the application has read.
        stream.reset_at = code, reliable
        self._check_reset_at(stream)

    def _check_reset_at(self, stream: QMuxStream) -> None:
        """What comes no more is lost, and needs no room."""
        assert stream.reset_at is not None
        if stream.received >= stream.reset_at[1]:
            lost = stream.final_size - stream.received
            stream.received = stream.final_size
            if lost:
                self._state.consume(lost)
            stream.end_receiving()
            stream.tell_reset()

    # --------------------------------------------------------------- other frames

    def _other_frame(self, kind: int, record: bytes, pos: int, end: int) -> int:
        """Process a frame that is not STREAM; return where the next one starts."""
        if kind >= 0x40:
            return self._long_type(record, pos, end)
        pos += 1
        if kind == 0x10:
            limit, pos = _number(record, pos, end)
            self._max_data(limit)
        elif kind == 0x11:
            stream_id, pos = _number(record, pos, end)
            limit, pos = _number(record, pos, end)
            self._max_stream_data(stream_id, limit)
        elif kind in (0x12, 0x13):
            limit, pos = _number(record, pos, end)
            self._max_streams(limit, kind)
        elif kind == 0x30 or kind == 0x31:
            start = pos
            size = end - pos
            if kind == 0x31:
                size, pos = _number(record, pos, end)
            if pos + size > end:
                raise QMuxConnectionError(_ENCODING, "the datagram ends behind the record", kind)
            if 1 + pos - start + size > self._state.limits.max_datagram_frame_size:
                raise QMuxConnectionError(_VIOLATION, "a datagram that is too large", kind)
            if not size:
                self._load.idle("empty datagrams")
            self.datagrams.append(record[pos : pos + size])
            self.datagrams_received += 1
            pos += size
        elif kind == 0x04:
            stream_id, pos = _number(record, pos, end)
            code, pos = _number(record, pos, end)
            final, pos = _number(record, pos, end)
            self._reset(stream_id, code, final, 0, kind)
        elif kind == 0x05:
            stream_id, pos = _number(record, pos, end)
            code, pos = _number(record, pos, end)
            stream = self._sending(stream_id, kind)
            if stream is None or stream.is_stopped:
                self._load.idle("stops of finished streams")
            else:
                stream.stopped(code)
        elif kind == 0x00:
            while pos < end and not record[pos]:
                pos += 1
            self._load.idle("padding")
        elif kind == RESET_STREAM_AT:
            if not self._state.draft >= 2:
                raise QMuxConnectionError(_VIOLATION, "RESET_STREAM_AT was not announced", kind)
            stream_id, pos = _number(record, pos, end)
            code, pos = _number(record, pos, end)
            final, pos = _number(record, pos, end)
            reliable, pos = _number(record, pos, end)
            if reliable > final:
                raise QMuxConnectionError(_ENCODING, "the reliable size is too large", kind)
            self._reset(stream_id, code, final, reliable, kind)
        elif kind in (CLOSE_TRANSPORT, CLOSE_APPLICATION):
            self._close(kind, record, pos, end)
        elif 0x14 <= kind <= 0x17:
            pos = self._blocked(kind, record, pos, end)
        else:
            name = FORBIDDEN.get(kind)
            text = "unknown frame" if name is None else f"{name} is not allowed"
            raise QMuxConnectionError(_ENCODING, text, kind)
        return pos

    def _long_type(self, record: bytes, pos: int, end: int) -> int:
        start = pos
        kind, pos = _number(record, pos, end)
        if len(encode_varint(kind)) != pos - start:
            raise QMuxConnectionError(_VIOLATION, "a frame type in too many bytes", kind)
        if kind == PING_REQUEST:
            number, pos = _number(record, pos, end)
            if number <= self._last_ping:
                raise QMuxConnectionError(_VIOLATION, "pings must increase", kind)
            self._load.idle("pings")
            self._last_ping = self._state.pong = number
            self._state.wake()
        elif kind == PING_RESPONSE:
            number, pos = _number(record, pos, end)
            if number >= self.pings_sent:
                raise QMuxConnectionError(_VIOLATION, "an answer to no ping", kind)
            if number <= self._last_answer:
                self._load.idle("answers to pings")
            self._last_answer = max(number, self._last_answer)
        elif kind == PARAMETERS:
            raise QMuxConnectionError(_first(self._state.draft), "parameters come once", kind)
        elif kind == DRAIN:
            if self.drain_received:
                self._load.idle("drains")
            self.drain_received = True
        else:
            raise QMuxConnectionError(_ENCODING, "unknown frame", kind)
        return pos

    def _max_data(self, limit: int) -> None:
        state = self._state
        self._raised(limit - state.send_limit)
        if limit > state.send_limit:
            state.send_limit = limit
            if state.queued:
                state.wake()

    def _max_stream_data(self, stream_id: int, limit: int) -> None:
        stream = self._sending(stream_id, 0x11)
        if stream is None:
            self._raised(0)
            return
        self._raised(limit - stream.send_limit)
        if limit > stream.send_limit:
            stream.send_limit = limit
            if stream.queued and not stream.is_ready:
                self._state.make_ready(stream)
                self._state.wake()

    def _max_streams(self, limit: int, kind: int) -> None:
        if limit > MAX_STREAM_COUNT:
            raise QMuxConnectionError(_ENCODING, "more streams than there can be", kind)
        unidirectional = kind == 0x13
        may_open = self._state.may_open
        self._raised(limit - may_open[unidirectional])
        if limit > may_open[unidirectional]:
            may_open[unidirectional] = limit
            self.became_available.add(unidirectional)

    def _raised(self, by: int) -> None:
        """Count a limit that does not answer what this end has sent."""
        state = self._state
        self._credit_frames = count = self._credit_frames + 1
        if by <= 0 or count > _RAISES * state.frames_sent + state.stream_bytes_sent // _RAISE:
            self._load.idle("limits that are not needed")

    def _blocked(self, kind: int, record: bytes, pos: int, end: int) -> int:
        """Nothing depends on these frames."""
        self._load.idle("blocked frames")
        if kind == 0x15:
            stream_id, pos = _number(record, pos, end)
            self._receiving(stream_id, kind)
        limit, pos = _number(record, pos, end)
        if kind >= 0x16 and limit > MAX_STREAM_COUNT:
            raise QMuxConnectionError(_ENCODING, "more streams than there can be", kind)
        return pos

    def _close(self, kind: int, record: bytes, pos: int, end: int) -> None:
        code, pos = _number(record, pos, end)
        if kind == CLOSE_TRANSPORT:
            _, pos = _number(record, pos, end)
        length, pos = _number(record, pos, end)
        if pos + length > end:
            raise QMuxConnectionError(_ENCODING, "the reason ends behind the record", kind)
        reason = record[pos : pos + length].decode("utf-8", "replace")
        self.closed = kind == CLOSE_APPLICATION, code, reason


def _first(draft: int) -> QMuxError:
    """Return the code for parameters that are not the first frame, and only there."""
    return QMuxError.PROTOCOL_VIOLATION if draft >= 2 else QMuxError.TRANSPORT_PARAMETER_ERROR


def _number(record: bytes, pos: int, end: int) -> tuple[int, int]:
    """Decode an integer; return it and the position after it."""
    byte = record[pos]
    if byte < 0x40:
        return byte, pos + 1
    if byte < 0x80:
        return (byte & 0x3F) << 8 | record[pos + 1], pos + 2
    if byte < 0xC0:
        return _FOUR(record, pos)[0] & 0x3FFFFFFF, pos + 4
    return _EIGHT(record, pos)[0] & MAX_VARINT, pos + 8
