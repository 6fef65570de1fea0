"""Builds records: control frames, then datagrams, then streams by send order."""

from __future__ import annotations

from typing import Any, Final

from ._frames import (
    MAX_DATA,
    MAX_STREAM_DATA,
    MAX_STREAMS,
    PING_RESPONSE,
    STREAM_HEADER_SIZE,
    encode_number,
    stream_header,
)
from ._state import State

__all__ = ["LARGEST_RECORD", "build_record", "ready_lines", "take"]

LARGEST_RECORD: Final = 65535
"""Bytes of a record to send, even if the peer accepts more."""

_SHARE: Final = 16384
"""Bytes of one stream in a row while other streams wait."""
_LEAST: Final = 1024
"""If a record has less room than this, it gets no part of what a stream has to send."""
_CREDIT_FRAME: Final = 24
"""Bytes of the longest control frame that is encoded when it is sent."""


def build_record(state: State) -> bytes | None:
    """Return the frames of the next record; None: nothing can be sent now."""
    parts: list[Any] = []
    room = state.record_size
    if state.control or state.credit_due or state.pong >= 0:
        room = _add_control(state, parts, room)
    if state.data.is_due and room >= _CREDIT_FRAME:
        frame = encode_number(MAX_DATA, state.data.announce())
        parts.append(frame)
        room -= len(frame)
    for kind, credit in enumerate(state.peer_streams):
        if credit.is_due and room >= _CREDIT_FRAME:
            frame = encode_number(MAX_STREAMS + kind, credit.announce())
            parts.append(frame)
            room -= len(frame)
    if state.datagrams.count and state.peer.max_datagram_frame_size:
        room = state.datagrams.take(room, parts)
    if state.ends:
        room = _add_ends(state, parts, room)
    if state.ready or state.other_ready:
        _add_streams(state, parts, room)
    if not state.ready:
        state.ready = None
    if not parts:
        return None
    record = b"".join(parts)
    state.handed_out += len(record)
    if state.ended:
        for stream in state.ended:
            state.finishing.append((state.handed_out, stream))
        state.ended.clear()
    return record


def _add_control(state: State, parts: list[Any], room: int) -> int:
    control = state.control
    done = 0
    for frame, stream in control:
        if len(frame) > room:
            break
        done += 1
        parts.append(frame)
        room -= len(frame)
        if stream is not None and stream.is_sending:
            stream.sending_done()
    if done < len(control):
        del control[:done]
        return room
    control.clear()
    if state.pong >= 0 and room >= _CREDIT_FRAME:
        frame = encode_number(PING_RESPONSE, state.pong)
        state.pong = -1
        parts.append(frame)
        room -= len(frame)
    due = state.credit_due
    while due and room >= _CREDIT_FRAME:
        stream = due.pop()
        if stream.is_receiving:
            frame = encode_number(MAX_STREAM_DATA, stream.stream_id, stream.announce())
            parts.append(frame)
            room -= len(frame)
    return room


def _add_ends(state: State, parts: list[Any], room: int) -> int:
    """Add frames without data: they need no credit."""
    ends = state.ends
    done = 0
    left_out: list[Any] = []
    for stream in ends:
        if room < STREAM_HEADER_SIZE:
            break
        done += 1
        stream.ends_due = False
        if not stream.is_live:
            continue
        fin = stream.fin_due and not stream.queued
        if not fin and stream.is_ready and state.stream_bytes_sent < state.send_limit:
            if not stream.sent:
                left_out.append(stream)  # its data tell of the stream as well
            continue
        if left_out and not stream.sent:
            # But the peer hears of streams in the order in which they were opened.
            for other in left_out[: room // STREAM_HEADER_SIZE - 1]:
                parts.append(stream_header(other.stream_id, 0, 0, False))
                room -= STREAM_HEADER_SIZE
            left_out.clear()
        parts.append(stream_header(stream.stream_id, stream.sent, 0, fin))
        room -= STREAM_HEADER_SIZE
        state.frames_sent += 1
        if fin:
            state.ended.append(stream)
    del ends[:done]
    return room


def _add_streams(state: State, parts: list[Any], room: int) -> None:
    room -= STREAM_HEADER_SIZE
    credit = state.send_limit - state.stream_bytes_sent
    before = credit
    for line in ready_lines(state):
        while line and room > 0 and credit > 0:
            stream = line.popleft()
            queued = stream.queued
            sent = stream.sent
            n = min(queued, stream.send_limit - sent, room, credit)
            if line and n > _SHARE:
                n = _SHARE
            if n <= 0:  # no credit, or it was reset
                stream.is_ready = False
                continue
            if n < queued and room < _LEAST and parts:
                line.appendleft(stream)
                room = 0
                break
            left = queued - n
            is_last = not left and (stream.fin_due or stream.reset_due >= 0)
            fin = is_last and stream.fin_due
            parts.append(stream_header(stream.stream_id, sent, n, fin))
            if not left and stream.more is None:
                parts.append(stream.head)
                stream.head = None
            else:
                take(stream, n, parts)
            stream.sent = sent + n
            stream.queued = left
            room -= n + STREAM_HEADER_SIZE
            credit -= n
            state.frames_sent += 1
            if left:
                line.append(stream)
            else:
                stream.is_ready = False
            if fin:
                state.ended.append(stream)
            elif is_last:
                code, stream.reset_due = stream.reset_due, -1
                state.control.append((stream.reset_frame(code, stream.sent), stream))
            if left <= state.low_water < queued:
                stream.has_news()
    state.stream_bytes_sent += before - credit
    state.queued -= before - credit


def ready_lines(state: State) -> list[Any]:
    """Return the queues of ready streams, the highest send order first."""
    if not state.other_ready:
        return [state.ready] if state.ready else []
    lines = {order: line for order, line in state.other_ready.items() if line}
    state.other_ready = lines.copy()
    if state.ready:
        lines[0] = state.ready
    return [lines[order] for order in sorted(lines, reverse=True)]


def take(stream: Any, n: int, parts: list[Any]) -> None:
    """Move the next ``n`` bytes of a stream to a record."""
    head, more = stream.head, stream.more
    while n > 0:
        if len(head) > n:
            view = memoryview(head)
            parts.append(view[:n])
            head = view[n:]
            break
        parts.append(head)
        n -= len(head)
        head = more.popleft() if more else None
    stream.head = head
    if not more:
        stream.more = None
