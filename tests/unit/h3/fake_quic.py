"""An in-memory QUIC connection with the shape of ``_transport.py``, and a virtual clock.

Used alone, a test plays the peer byte by byte: ``peer_open``, ``feed``,
``feed_reset``, ``feed_stop``, ``datagrams``. Used as a pair (:class:`Pair`), two
ends talk to each other and every write can be cut into pieces.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator
from typing import Any

from pywebtransport.exceptions import (
    ConnectionError,
    DatagramTooLargeError,
    StreamError,
    StreamResetError,
    StreamStoppedError,
)


class Timer:
    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.callback: Callable[..., object] | None = callback
        self.args = args

    def cancel(self) -> None:
        self.callback = None


class FakeClock:
    """Virtual time: ``call_later`` and ``advance``."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()

    def call_later(self, delay: float, callback: Callable[..., object], /, *args: Any) -> Timer:
        timer = Timer(callback, args)
        heapq.heappush(self._heap, (self.now + delay, next(self._order), timer))
        return timer

    def advance(self, seconds: float) -> None:
        """Run everything that falls due within ``seconds``."""
        end = self.now + seconds
        while self._heap and self._heap[0][0] <= end:
            self.now, _, timer = heapq.heappop(self._heap)
            callback, timer.callback = timer.callback, None
            if callback is not None:
                callback(*timer.args)
        self.now = end

    @property
    def pending(self) -> int:
        """Timers that are neither due nor cancelled."""
        return sum(timer.callback is not None for _, _, timer in self._heap)


class FakeTurns:
    """Turns whose slices end when the test says so.

    Attributes:
        slice: Questions that are answered with no in each turn; None: all.
    """

    def __init__(self, clock: FakeClock) -> None:
        self.slice: int | None = None
        self.taken = 0
        """Turns that put off work was done in."""
        self._asked = 0
        self._clock = clock

    @property
    def is_over(self) -> bool:
        self._asked += 1
        return self.slice is not None and self._asked > self.slice

    def later(self, work: Callable[[], object]) -> None:
        self._clock.call_later(0, self._turn, work)

    def _turn(self, work: Callable[[], object]) -> None:
        self.taken += 1
        self._asked = 0
        work()


class FakeGroup:
    """Counts the body bytes of its streams as the engine does."""

    def __init__(self, owner: Any) -> None:
        self.owner = owner
        self.streams: list[FakeStream] = []
        self.credit_threshold = 0
        self.bytes_sent = self.bytes_received = self.bytes_consumed = 0
        self.is_closed = False
        self.datagrams_cleared = 0
        self._send_limit: int | None = None
        self._recv_limit: int | None = None
        self.datagram_limit: int | None = None
        self._blocked_at: int | None = None
        self._consumed_at_limit = 0

    @property
    def send_limit(self) -> int | None:
        return self._send_limit

    @send_limit.setter
    def send_limit(self, limit: int | None) -> None:
        self._send_limit = limit
        for stream in self.streams:
            stream.flush()

    @property
    def recv_limit(self) -> int | None:
        return self._recv_limit

    @recv_limit.setter
    def recv_limit(self, limit: int | None) -> None:
        self._recv_limit = limit
        self._consumed_at_limit = self.bytes_consumed

    def allowance(self) -> int | None:
        return None if self._send_limit is None else max(0, self._send_limit - self.bytes_sent)

    def blocked(self) -> None:
        if self._blocked_at != self._send_limit:
            self._blocked_at = self._send_limit
            self.owner.group_blocked(self._send_limit)

    def received(self, count: int) -> None:
        self.bytes_received += count
        limit = self._recv_limit
        if limit is not None and self.bytes_received > limit:
            self.owner.group_violated(self.bytes_received, limit)

    def consumed(self, count: int) -> None:
        self.bytes_consumed += count
        due = self.bytes_consumed - self._consumed_at_limit >= self.credit_threshold > 0
        if count and due:
            self.owner.group_credit_due()

    def stats(self) -> dict[str, int | None]:
        return {
            "bytes_sent": self.bytes_sent,
            "bytes_received": self.bytes_received,
            "bytes_consumed": self.bytes_consumed,
            "send_limit": self._send_limit,
            "recv_limit": self._recv_limit,
            "datagrams_queued": 0,
        }

    def clear_datagrams(self) -> int:
        self.datagrams_cleared += 1
        return 0

    def close(self) -> None:
        self.is_closed = True


class FakeStream:
    """One stream; ``sent`` is what the peer can see of it."""

    def __init__(self, quic: FakeQuic, stream_id: int, *, is_local: bool) -> None:
        self.quic = quic
        self.stream_id = stream_id
        self.is_local = is_local
        self.is_unidirectional = bool(stream_id & 2)
        self.sink: Callable[[Any], object] | None = None if is_local else quic.default_sink
        self.on_closed: Callable[[Any], object] | None = None
        self.tag: Any = None
        # Receiving.
        self._buffer = bytearray()
        self._fin = False
        self._received = 0
        self._consumed = 0
        self._discard = False
        self.is_reset = False
        self.reset_code: int | None = None
        self.stop_sent: int | None = None
        self.released = False
        # Sending.
        self._queue = bytearray()
        self.sent = bytearray()
        self.fin_written = False
        self._fin_told = False
        self.block = False
        """The peer gives no credit: nothing goes out."""
        self.reset_sent: int | None = None
        self.is_stopped = False
        self.stop_code: int | None = None
        self.reliable_size = 0
        self.send_order = 0
        self.is_crowded = False
        self.is_acked = False
        self._write_waiter: Any = None
        self._until: FakeStream | None = None  # whose end goes before our reset and stop
        self._waiting: list[Callable[[], object]] = []  # what others hold back until our end
        # Group.
        self.group: FakeGroup | None = None
        self.send_header = 0
        self.recv_header = 0

    def __repr__(self) -> str:
        return f"<FakeStream {self.stream_id}>"

    @property
    def receives(self) -> bool:
        return not (self.is_unidirectional and self.is_local)

    @property
    def sends(self) -> bool:
        return not (self.is_unidirectional and not self.is_local)

    @property
    def is_closed(self) -> bool:
        receiving = self.receives and not (self._fin or self.is_reset)
        sending = self.sends and self.reset_sent is None and not self.fin_sent
        return self.quic.is_closed or not (receiving or sending)

    @property
    def buffered(self) -> int:
        return len(self._buffer)

    @property
    def fin_received(self) -> bool:
        return self._fin

    @property
    def at_eof(self) -> bool:
        return self._fin and not self._buffer

    @property
    def can_write(self) -> bool:
        return not (self.fin_written or self.reset_sent is not None or self.quic.is_closed)

    @property
    def queued(self) -> int:
        return len(self._queue)

    @property
    def fin_sent(self) -> bool:
        return self._fin_told and self.reset_sent is None

    # What the layer under test calls.

    def peek(self, n: int) -> bytes:
        return bytes(self._buffer[:n])

    def skip(self, n: int) -> None:
        if n > len(self._buffer):
            raise ValueError(f"skip({n}) of {len(self._buffer)}")
        self._take(n)

    def read(self, n: int = -1) -> bytes | None:
        if self.is_reset:
            raise StreamResetError("reset", details={"code": self.reset_code})
        if self._buffer:
            return self._take(len(self._buffer) if n < 0 else n)
        if self._fin:
            return b""
        if self.quic.is_closed:
            raise StreamError("closed", details={"connection_closed": True})
        return None

    def write(self, data: bytes, fin: bool = False) -> int:
        if not self.sends:
            raise StreamError("cannot send")
        if self.is_stopped:
            raise StreamStoppedError("stopped")
        if self.fin_written or self.reset_sent is not None or self.quic.is_closed:
            raise StreamError("finished")
        self._queue += data
        self.fin_written = fin
        self.flush()
        return len(self._queue)

    def hold_for(self, until: FakeStream) -> None:
        if not (until.fin_sent or until.reset_sent is not None or until.is_closed):
            self._until = until

    def _send(self, kind: str) -> None:
        """Put a frame on the wire, or keep it back."""
        frame = (kind, self.stream_id)
        if self._until is None or self._until.has_ended:
            self.quic.frames.append(frame)
        else:
            self._until._waiting.append(lambda: self.quic.frames.append(frame))

    @property
    def has_ended(self) -> bool:
        return self.fin_sent or self.reset_sent is not None

    def _ended(self) -> None:
        waiting, self._waiting = self._waiting, []
        for send in waiting:
            send()

    def set_reliable_size(self, n: int) -> None:
        self.reliable_size = n

    def set_send_order(self, order: int) -> None:
        self.send_order = order

    def set_write_waiter(self, waiter: Any) -> None:
        """Woken when everything went out, on a stop, and when there is no stream any more."""
        self._write_waiter = waiter
        self._wake_writer()

    def _wake_writer(self) -> None:
        waiter = self._write_waiter
        if waiter is not None and (not self._queue or self.reset_sent is not None):
            self._write_waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def reset(self, code: int) -> None:
        if not self.sends or self.quic.is_closed:
            raise StreamError("nothing to reset")
        if self.reset_sent is None:
            self.reset_sent = code
            self._queue.clear()
            self._send("reset")
            self._ended()

    def stop_sending(self, code: int) -> None:
        if not self.receives or self.quic.is_closed:
            raise StreamError("nothing to stop")
        if not (self._fin or self.is_reset) and self.stop_sent is None:
            self.stop_sent = code
            self._send("stop")
            self._discard = True
            self._take(len(self._buffer))

    def join_group(self, group: FakeGroup, send_header: int, recv_header: int) -> None:
        self.group = group
        self.send_header = send_header
        self.recv_header = recv_header
        group.streams.append(self)
        body = max(0, self._received - recv_header)
        if body:
            group.received(body)
        eaten = max(0, self._consumed - recv_header)
        if eaten:
            group.consumed(eaten)

    def open_in(self, group: FakeGroup, header: bytes) -> None:
        self.join_group(group, len(header), 0)
        self.write(header)
        self.set_reliable_size(len(header))

    def accept_in(self, group: FakeGroup, header_size: int) -> None:
        self.skip(header_size)
        self.join_group(group, 0, header_size)

    def release(self) -> None:
        if self.released:
            raise AssertionError(f"stream {self.stream_id} was released twice")
        self.released = True
        self._take(len(self._buffer))

    # What the peer does.

    def feed(self, data: bytes = b"", fin: bool = False) -> None:
        """Bytes and FIN arrive in one turn."""
        if self.is_reset or self._fin:
            raise AssertionError("the peer already finished this stream")
        self._arrive(data)
        self._fin = fin
        self.turn()

    def feed_reset(self, code: int, final_size: int | None = None) -> None:
        """RESET_STREAM arrives."""
        if self._fin or self.is_reset:
            return
        self.is_reset = True
        self.reset_code = code
        if final_size is not None:
            self._count(final_size)
        self.turn()

    def feed_stop(self, code: int) -> None:
        """STOP_SENDING arrives; the engine answers with a reset."""
        if not self.is_stopped and self.reset_sent is None:
            self.is_stopped = True
            self.stop_code = code
            self.reset_sent = code
            self._queue.clear()
            self._ended()
            self.turn()

    def turn(self) -> None:
        if self.sink is not None:
            self.sink(self)

    def flush(self) -> None:
        """Queue to wire, as far as the credit of the session goes."""
        if self.reset_sent is not None or self.block:
            return
        count = len(self._queue)
        if self.group is not None:
            allowed = self.group.allowance()
            header_left = max(0, self.send_header - len(self.sent))
            body = max(0, count - header_left)
            if allowed is not None and body > allowed:
                body = allowed
                count = header_left + body
            self.group.bytes_sent += body
        self.sent += self._queue[:count]
        del self._queue[:count]
        if self._queue and self.group is not None:
            self.group.blocked()
        self._wake_writer()
        if self.fin_written and not self._queue and not self._fin_told:
            self._fin_told = True
            self.quic.frames.append(("fin", self.stream_id))
            self._ended()

    def _arrive(self, data: bytes) -> None:
        if not self._discard:
            self._buffer += data
        self._count(self._received + len(data))

    def _count(self, received: int) -> None:
        before = max(0, self._received - self.recv_header)
        self._received = received
        after = max(0, received - self.recv_header)
        if self.group is not None and after > before:
            self.group.received(after - before)

    def _take(self, n: int) -> bytes:
        data = bytes(self._buffer[:n])
        del self._buffer[:n]
        before = max(0, self._consumed - self.recv_header)
        self._consumed += len(data)
        if self.group is not None:
            self.group.consumed(max(0, self._consumed - self.recv_header) - before)
        return data


class FakeQuic:
    """One end of a connection."""

    def __init__(self, *, is_client: bool) -> None:
        self.is_client = is_client
        self.handler: Any = None
        self.closed: tuple[int, str] | None = None
        self.streams: dict[int, FakeStream] = {}
        self.frames: list[tuple[str, int]] = []
        """FINs, resets and stops in the order in which they go out, with their stream ID."""
        self.datagrams_sent: list[bytes] = []
        self.max_datagram_size = 1200
        self.peer_max_datagram_frame_size = 65535
        self.datagram_room = 1 << 30
        self.limits = {False: 1 << 30, True: 1 << 30}
        self.groups: list[FakeGroup] = []
        self.exports: list[tuple[bytes, bytes, int]] = []
        self.greeting: FakeStream | None = None
        self._next_local = {False: 0 if is_client else 1, True: 2 if is_client else 3}
        self._next_peer = {False: 1 if is_client else 0, True: 3 if is_client else 2}

    def default_sink(self, stream: FakeStream) -> None:
        self.handler.stream_ready(stream)

    @property
    def is_closed(self) -> bool:
        return self.closed is not None

    def open_stream(self, unidirectional: bool) -> FakeStream | None:
        if self.closed is not None:
            raise ConnectionError("closed")
        if self.limits[unidirectional] <= 0:
            return None
        self.limits[unidirectional] -= 1
        stream_id = self._next_local[unidirectional]
        self._next_local[unidirectional] += 4
        stream = self.streams[stream_id] = FakeStream(self, stream_id, is_local=True)
        return stream

    def greet(self, data: bytes) -> FakeStream:
        """Send a greeting, as an engine does during the handshake."""
        self.greeting = self.open_stream(True)
        assert self.greeting is not None
        self.greeting.write(data)
        return self.greeting

    def take_greeting(self) -> FakeStream | None:
        greeting, self.greeting = self.greeting, None
        return greeting

    def streams_left(self, unidirectional: bool) -> int:
        return self.limits[unidirectional]

    def send_datagram(
        self,
        prefix: bytes,
        data: bytes | bytearray | memoryview,
        group: Any = None,
        priority: int = 0,
        deadline: int | None = None,
    ) -> bool:
        if self.closed is not None:
            raise ConnectionError("closed")
        whole = prefix + bytes(data)
        if len(whole) > self.max_datagram_size:
            raise DatagramTooLargeError(datagram_size=len(whole), max_size=self.max_datagram_size)
        if self.datagram_room <= 0:
            return False
        self.datagram_room -= 1
        self.datagrams_sent.append(whole)
        return True

    def close(self, code: int, reason: str = "", *, application: bool = True) -> None:
        if self.closed is None:
            self.closed = (code, reason)

    def new_group(self, owner: Any) -> FakeGroup:
        group = FakeGroup(owner)
        self.groups.append(group)
        return group

    def export_keying_material(self, label: bytes, context: bytes, length: int) -> bytes:
        self.exports.append((label, context, length))
        return bytes(length)

    # What the peer does.

    def peer_stream(self, unidirectional: bool, stream_id: int | None = None) -> FakeStream:
        """A stream of the peer of which nothing was received yet."""
        if stream_id is None:
            stream_id = self._next_peer[unidirectional]
        following = max(self._next_peer[unidirectional], stream_id + 4)
        self._next_peer[unidirectional] = following
        stream = self.streams[stream_id] = FakeStream(self, stream_id, is_local=False)
        return stream

    def peer_open(
        self,
        unidirectional: bool,
        data: bytes,
        fin: bool = False,
        stream_id: int | None = None,
    ) -> FakeStream:
        """The peer opens a stream with these bytes."""
        stream = self.peer_stream(unidirectional, stream_id)
        stream.feed(data, fin)
        return stream

    def datagrams(self, *datagrams: bytes) -> None:
        """DATAGRAM frames arrive."""
        self.handler.datagrams_received(list(datagrams))

    def local(self, unidirectional: bool) -> list[FakeStream]:
        """Our streams of one kind, oldest first."""
        return [
            stream
            for _, stream in sorted(self.streams.items())
            if stream.is_local and stream.is_unidirectional == unidirectional
        ]

    @property
    def unreleased(self) -> list[FakeStream]:
        """Streams of the peer that were not released."""
        return [s for s in self.streams.values() if not s.is_local and not s.released]


class Pair:
    """Two ends wired together; :meth:`pump` carries what was written.

    Args:
        client: One end.
        server: The other.
        cut: How to split the bytes that travel in one go; the default leaves them whole.
    """

    def __init__(
        self,
        client: FakeQuic,
        server: FakeQuic,
        cut: Callable[[bytes], Iterator[bytes]] | None = None,
    ) -> None:
        self.ends = (client, server)
        self._cut = cut
        self._seen: dict[tuple[int, int], list[Any]] = {}

    def pump(self) -> None:
        """Carry everything both ways until nothing moves."""
        while any([self._carry(*self.ends), self._carry(*reversed(self.ends))]):
            pass

    def _carry(self, source: FakeQuic, target: FakeQuic) -> bool:
        moved = False
        for stream in list(source.streams.values()):
            moved |= self._carry_stream(stream, source, target)
        if source.datagrams_sent:
            datagrams, source.datagrams_sent = source.datagrams_sent, []
            target.handler.datagrams_received(datagrams)
            moved = True
        return moved

    def _carry_stream(self, stream: FakeStream, source: FakeQuic, target: FakeQuic) -> bool:
        # offset, FIN, reset, stop
        seen = self._seen.setdefault((id(source), stream.stream_id), [0, False, False, False])
        twin = target.streams.get(stream.stream_id)
        data = bytes(stream.sent[seen[0] :])
        fin = stream.fin_sent and not seen[1]
        reset = stream.reset_sent is not None and not seen[2]
        stop = stream.stop_sent is not None and not seen[3]
        if not (data or fin or reset or stop):
            return False
        seen[:] = [len(stream.sent), seen[1] or fin, seen[2] or reset, seen[3] or stop]
        if twin is None:
            twin = target.peer_stream(stream.is_unidirectional, stream.stream_id)
        if (data or fin) and not twin.is_reset:
            pieces = [data] if self._cut is None else list(self._cut(data)) or [b""]
            for index, piece in enumerate(pieces):
                twin.feed(piece, fin and index == len(pieces) - 1)
        if reset:
            twin.feed_reset(stream.reset_sent or 0, len(stream.sent))
        if stop:
            twin.feed_stop(stream.stop_sent or 0)
        return True
