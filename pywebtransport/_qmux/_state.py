"""What the parts of one connection share."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from .._quic import CloseInfo
from ._credit import DataCredit, StreamCredit
from ._datagrams import DatagramQueue
from ._limits import QMuxLimits
from ._link import Link
from ._parameters import Parameters

__all__ = ["State"]


class State:
    """The state of one connection: no object for each frame, and few calls.

    Attributes:
        draft: 1 or 2; 0: the legacy framing.
        link: Carries the records; None once the connection is closed.
        schedule: Delivers news in a later turn.
        is_busy: News are delivered without ``schedule``.
        is_woken: The link knows that there may be something to send.
        news: Streams whose ``deliver()`` is due.
        new: Those of them that the peer opened without data; None: there are none.
        streams: The open streams by ID.
        close_info: Why the connection ended; None: it is open.

        peer: What the peer announced.
        record_size: Bytes of a record to send.
        ready: Streams of send order 0 with something to send, in turn; None: none. An empty
            deque takes more memory than the rest of an idle connection's queues.
        other_ready: The same by other send orders.
        ends: Streams that send a frame without data.
        control: Frames to send before all others; with the stream whose sending side they end.
        credit_due: Streams of which the peer is told a new limit.
        send_limit: Bytes that may be sent on all streams.
        stream_bytes_sent: Bytes of them that were.
        queued: Bytes that wait on all streams.
        ended: Streams whose FIN is in the record that is being built.
        finishing: Streams whose FIN was handed over: (``handed_out`` then, stream).
        handed_out: Bytes of all records.
        may_open: Streams of both kinds that this end may open.
        opened: Streams of both kinds that it has opened.
        frames_sent: STREAM frames, which the peer may answer with credit.
        pong: Number of the ping to answer; -1: none.

        data: Receive credit of the connection.
        peer_streams: Receive credit of streams of both kinds.
        is_paused: Legacy framing: reading is paused.
    """

    __slots__ = (
        "close_info",
        "control",
        "credit_due",
        "data",
        "datagrams",
        "draft",
        "ended",
        "ends",
        "finishing",
        "frames_sent",
        "handed_out",
        "is_busy",
        "is_paused",
        "is_woken",
        "limits",
        "link",
        "low_water",
        "max_queued",
        "may_open",
        "new",
        "news",
        "opened",
        "other_ready",
        "peer",
        "peer_streams",
        "pong",
        "queued",
        "ready",
        "record_size",
        "schedule",
        "send_limit",
        "stream_bytes_sent",
        "streams",
    )

    def __init__(self, link: Link, limits: QMuxLimits, schedule: Callable[[], object]) -> None:
        self.draft = 2
        self.link: Link | None = link
        self.limits = limits
        self.schedule = schedule
        self.is_busy = False
        self.is_woken = False
        self.news: list[Any] = []
        self.new: set[Any] | None = None
        self.streams: dict[int, Any] = {}
        self.close_info: CloseInfo | None = None

        self.peer = Parameters()
        self.record_size = self.peer.max_record_size
        self.ready: deque[Any] | None = None
        self.other_ready: dict[int, deque[Any]] = {}
        self.ends: list[Any] = []
        self.control: list[tuple[bytes, Any]] = []
        self.credit_due: list[Any] = []
        self.send_limit = 0
        self.stream_bytes_sent = 0
        self.queued = 0
        self.ended: list[Any] = []
        self.finishing: list[tuple[int, Any]] = []
        self.handed_out = 0
        self.may_open = [0, 0]
        self.opened = [0, 0]
        self.frames_sent = 0
        self.pong = -1
        self.low_water = limits.write_low_water
        self.max_queued = limits.max_queued_data
        self.datagrams = DatagramQueue(limits.datagram_queue)

        self.data = DataCredit(limits.data_window, limits.max_data_window)
        self.peer_streams = (
            StreamCredit(limits.max_streams_bidi),
            StreamCredit(limits.max_streams_uni),
        )
        self.is_paused = False

    def make_ready(self, stream: Any) -> None:
        """A stream has something to send, and credit for it."""
        stream.is_ready = True
        if stream.order:
            self.other_ready.setdefault(stream.order, deque()).append(stream)
        elif self.ready is None:
            self.ready = deque((stream,))
        else:
            self.ready.append(stream)

    def leave_ready(self, stream: Any) -> None:
        """A stream that is ready gets another send order."""
        stream.is_ready = False
        line = self.other_ready[stream.order] if stream.order else self.ready
        if line is not None:
            line.remove(stream)

    def wake(self) -> None:
        """There is something to send."""
        if not self.is_woken and self.link is not None:
            self.is_woken = True
            self.link.wants_to_send()

    def tell_new(self, stream: Any) -> None:
        """The peer opened a stream without data; it has its place in the order of news."""
        if self.new is None:
            self.new = set()
        self.new.add(stream)
        stream.has_news()

    def consume(self, n: int) -> None:
        """Bytes of any stream need no room any more."""
        data = self.data
        data.consumed += n
        if data.consumed >= data.due_at and not data.is_due:
            data.is_due = True
            self.wake()

    def free_stream(self, unidirectional: bool) -> None:
        """The peer may open another stream instead of one that is done."""
        if self.peer_streams[unidirectional].free():
            self.wake()

    def unsent(self) -> int:
        """Return how many bytes the kernel has not taken."""
        return 0 if self.link is None else self.link.unsent

    def close(self) -> None:
        """The connection has ended: keep counters only."""
        self.link = None
        self.schedule = _nothing
        self.streams.clear()
        self.ready = None
        self.other_ready.clear()
        self.ends.clear()
        self.control.clear()
        self.credit_due.clear()
        self.finishing.clear()
        self.queued = 0
        self.datagrams.clear()


def _nothing() -> None:
    pass
