"""Two connections joined in memory, or one whose peer is the test."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from pywebtransport._qmux._connection import QMuxConnection
from pywebtransport._qmux._limits import QMuxLimits
from pywebtransport._qmux._stream import QMuxStream
from pywebtransport._transport import CloseInfo, TimerHandle

PARAMETERS_02 = bytes.fromhex(
    "ff5153300d0a0d0a37010480007530040480100000050480040000060480040000070480040000080240640902"
    "406420027ffec571c59429cd0845027ffe1d00"
)
"""What @moq/qmux 0.3.3 announces: stream data 2**18, data 2**20, 100 streams, datagrams."""
PARAMETERS_01 = bytes.fromhex(
    "ff5153300d0a0d0a35010480007530040480100000050480040000060480040000070480040000080240640902"
    "406420027ffec571c59429cd0845027ffe"
)


class Timer:
    def __init__(self, when: float, call: Callable[[], object]) -> None:
        self.when = when
        self.call: Callable[[], object] | None = call

    def cancel(self) -> None:
        self.call = None


class Clock:
    """Timers that fire when the test lets time pass, and turns that the test gives."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Timer] = []
        self.work: deque[Callable[[], object]] = deque()
        self.is_over = False

    def call_later(
        self, delay: float, callback: Callable[..., object], /, *args: Any
    ) -> TimerHandle:
        timer = Timer(self.now + delay, lambda: callback(*args))
        self.timers.append(timer)
        return timer

    def later(self, work: Callable[[], object]) -> None:
        self.work.append(work)

    def turn(self) -> None:
        """Do what was left to the next turn."""
        for _ in range(len(self.work)):
            self.work.popleft()()

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            self.timers = [timer for timer in self.timers if timer.call is not None]
            due = [timer for timer in self.timers if timer.when <= end + 1e-9]
            if not due:
                break
            timer = min(due, key=lambda one: one.when)
            self.timers.remove(timer)
            self.now = max(self.now, timer.when)
            call, timer.call = timer.call, None
            assert call is not None
            call()
        self.now = end

    @property
    def waiting(self) -> int:
        return sum(timer.call is not None for timer in self.timers)


class MemoryLink:
    """Keeps the records until the test takes them; satisfies ``Link``."""

    local_address = ("192.0.2.1", 443)
    remote_address = ("192.0.2.2", 50000)
    peer_certificate = None
    server_name = "example.test"
    alpn = "http/1.1"

    def __init__(self) -> None:
        self.connection: QMuxConnection
        self.unsent = 0
        self.wants = False
        self.closed: int | None = None
        self.aborted = False
        self.paused = False

    def wants_to_send(self) -> None:
        self.wants = True

    def close(self, code: int, reason: str = "") -> None:
        self.closed = code
        self.wants = True

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def stats(self) -> dict[str, int | None]:
        return {"smoothed_rtt": 7}

    def take(self, most: int = 1 << 30) -> list[bytes]:
        """Records up to ``most``, as if the kernel took them."""
        records: list[bytes] = []
        while len(records) < most:
            record = self.connection.next_record()
            if record is None:
                self.wants = False
                break
            records.append(record)
        self.connection.handed_over()
        return records


class Handler:
    """Writes down the events."""

    def __init__(self) -> None:
        self.streams: list[QMuxStream] = []
        self.datagrams: list[bytes] = []
        self.available: list[bool] = []
        self.writable = 0
        self.closed: CloseInfo | None = None
        self.on_stream: Callable[[QMuxStream], object] = lambda stream: None

    def handshake_completed(self) -> None:
        raise AssertionError("that is for the layer above to call")

    def connection_closed(self, info: CloseInfo) -> None:
        assert self.closed is None
        self.closed = info

    def stream_ready(self, stream: QMuxStream) -> None:
        stream.sink = None
        self.streams.append(stream)
        self.on_stream(stream)

    def datagrams_received(self, datagrams: list[bytes]) -> None:
        assert datagrams
        self.datagrams += datagrams

    def streams_available(self, unidirectional: bool) -> None:
        self.available.append(unidirectional)

    def datagram_writable(self) -> None:
        self.writable += 1

    def path_changed(self, validated: bool) -> None:
        raise AssertionError

    def session_ticket(self, ticket: bytes) -> None:
        raise AssertionError

    def new_token(self, token: bytes) -> None:
        raise AssertionError


class End:
    """One connection, its link and its handler."""

    def __init__(
        self,
        *,
        is_client: bool = False,
        draft: int = 2,
        limits: QMuxLimits | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.clock = Clock() if clock is None else clock
        self.link = MemoryLink()
        self.errors: list[BaseException] = []
        self.connection = QMuxConnection(
            self.link,
            QMuxLimits() if limits is None else limits,
            is_client=is_client,
            call_later=self.clock.call_later,
            turns=self.clock,
            on_error=self.errors.append,
        )
        self.link.connection = self.connection
        self.handler = Handler()
        self.connection.handler = self.handler
        self.ready = 0
        self.opened: list[QMuxStream] = []
        self.connection.on_ready = self._on_ready
        self.connection.start(draft)

    def open(self, unidirectional: bool) -> QMuxStream | None:
        """Open a stream, if the peer allows it, and keep it in ``opened``."""
        stream = self.connection.open_stream(unidirectional)
        if stream is not None:
            self.opened.append(stream)
        return stream

    def connection_streams(self) -> list[QMuxStream]:
        """The streams that the peer opened and that are not closed."""
        return [stream for stream in self.handler.streams if not stream.is_closed]

    def _on_ready(self) -> None:
        self.ready += 1

    def greet(self, parameters: bytes = PARAMETERS_02) -> End:
        """Take our parameters away, and give those of a peer."""
        self.link.take()
        self.connection.receive(parameters)
        return self

    def feed(self, *records: str | bytes) -> bytes:
        """Give records, hexadecimal or not; return what is sent then."""
        for record in records:
            self.connection.receive(bytes.fromhex(record) if isinstance(record, str) else record)
        self.clock.turn()
        return self.sent()

    def sent(self) -> bytes:
        return b"".join(self.link.take())


class Pair:
    """A client and a server."""

    def __init__(
        self,
        *,
        draft: int = 2,
        client: QMuxLimits | None = None,
        server: QMuxLimits | None = None,
    ) -> None:
        self.clock = Clock()
        self.client = End(is_client=True, draft=draft, limits=client, clock=self.clock)
        self.server = End(draft=draft, limits=server, clock=self.clock)
        self.records = 0
        self.pump()
        assert self.client.ready == self.server.ready == 1

    def pump(self, turns: int = 10_000) -> None:
        """Carry records both ways until there are none."""
        for _ in range(turns):
            moved = False
            for here, there in ((self.client, self.server), (self.server, self.client)):
                if here.link.wants:
                    for record in here.link.take():
                        moved = True
                        self.records += 1
                        there.connection.receive(record)
            if self.clock.work:
                moved = True
                self.clock.turn()
            if not moved:
                return
        raise AssertionError("it does not come to an end")


def read_all(stream: QMuxStream) -> bytes:
    """What is buffered now."""
    found = bytearray()
    while stream.buffered:
        data = stream.read()
        assert data is not None
        found += data
    return bytes(found)
