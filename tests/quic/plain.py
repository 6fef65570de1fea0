"""A transport in memory whose streams are ``PlainStream`` objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import ref

from pywebtransport._quic import PlainStream

LOW = 100
"""Bytes: the low-water mark of what is queued."""
_SHARED = {"kind": "application", "code": 7, "reason": "enough", "remote": True}


class Plain(PlainStream):
    """A stream of a ``Wire``, which moves what it writes."""

    __slots__ = ("consumed_bytes", "ends", "out", "resets", "stops", "wire")

    def __init__(
        self, wire: Wire, stream_id: int, *, is_local: bool, is_unidirectional: bool
    ) -> None:
        super().__init__(stream_id, is_local=is_local, is_unidirectional=is_unidirectional)
        self.wire = wire
        self.consumed_bytes = 0
        self.ends = 0
        self.out = b""
        self.resets: list[int] = []
        self.stops: list[int] = []

    def consumed(self, n: int) -> None:
        self.consumed_bytes += n
        self.wire.credit += n
        self.wire.on_consumed(self)

    def input_done(self) -> None:
        self.ends += 1
        self.wire.ended.append(self.stream_id)

    def has_news(self) -> None:
        self.wire.tell(self)

    def write(self, data: Any, fin: bool = False) -> int:
        self.check_writable()
        self.out += data
        self.finish_written(len(data), fin)
        return len(self.out)

    def write_room(self) -> bool:
        return len(self.out) <= LOW

    def connection_error(self, what: str) -> dict[str, Any]:
        return dict(self.wire.end)

    @property
    def queued(self) -> int:
        return len(self.out)

    @property
    def unacked(self) -> int:
        return len(self.out)

    @property
    def is_crowded(self) -> bool:
        return False

    def set_send_order(self, order: int) -> None:
        pass

    def reset(self, code: int) -> None:
        if self.is_closed or self.is_acked or self.resets:
            return
        self.resets.append(code)
        self.out = b""
        self.mark_reset_sent()

    def stop_sending(self, code: int) -> None:
        if self.is_reset or self.stops:
            return
        self.stops.append(code)
        self.mark_stop_sent()


class Wire:
    """Makes streams, and delivers their news in turns, as a connection does."""

    def __init__(self) -> None:
        self._news: list[ref[Plain]] = []
        self.credit = 0
        self.ended: list[int] = []
        self.end: dict[str, Any] = _SHARED
        self.on_consumed: Callable[[Plain], object] = lambda _: None
        self._next = 0

    def stream(self, *, is_local: bool = False, is_unidirectional: bool = False) -> Plain:
        self._next += 4
        return Plain(self, self._next, is_local=is_local, is_unidirectional=is_unidirectional)

    @property
    def news(self) -> list[Plain]:
        """Streams that wait for the next turn. They are not kept: nobody else may have them."""
        return [stream for reference in self._news if (stream := reference()) is not None]

    def tell(self, stream: Plain) -> None:
        self._news.append(ref(stream))

    def turn(self) -> int:
        """The deliver phase; how many streams had news."""
        news, self._news = self.news, []
        for stream in news:
            stream.deliver()
        return len(news)

    def take(self, stream: Plain, n: int | None = None) -> bytes:
        """The peer takes n bytes that a stream wrote."""
        n = len(stream.out) if n is None else n
        taken, stream.out = stream.out[:n], stream.out[n:]
        self.tell(stream)
        return taken
