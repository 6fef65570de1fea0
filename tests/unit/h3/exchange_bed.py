"""A server that gets HTTP requests as exchanges; the test is its client and its application."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pywebtransport.h3._exchange import H3Exchange
from pywebtransport.h3._options import H3Options
from tests.unit.h3.bed import DRAFT16, ServerBed
from tests.unit.h3.fake_quic import FakeStream

__all__ = ["ExchangeBed", "ExchangeRecorder", "request_fields"]


class ExchangeRecorder:
    """ExchangeEvents that remembers."""

    def __init__(self) -> None:
        self.readable_count = 0
        self.writable_count = 0
        self.ends: list[Exception | None] = []
        self.on_readable: Callable[[], object] | None = None

    def readable(self) -> None:
        assert not self.ends
        self.readable_count += 1
        if self.on_readable is not None:
            self.on_readable()

    def writable(self) -> None:
        assert not self.ends
        self.writable_count += 1

    def exchange_over(self, error: Exception | None) -> None:
        assert not self.ends, "the last call came twice"
        self.ends.append(error)

    @property
    def end(self) -> Exception | None:
        """The error of the one last call."""
        (error,) = self.ends
        return error


def request_fields(
    method: str = "GET",
    path: str | None = "/",
    lines: Sequence[tuple[str, str]] = (),
    **pseudo: str | None,
) -> list[tuple[str, str]]:
    """Fields of a request; a pseudo-field that is None is left out."""
    values: dict[str, str | None] = {
        "method": method,
        "scheme": "https",
        "authority": "example.org",
        "path": path,
    }
    values |= pseudo
    return [*((f":{key}", text) for key, text in values.items() if text is not None), *lines]


class ExchangeBed(ServerBed):
    """The bed.

    Attributes:
        exchanges: What the application was given.
        recorders: Their events, in the same order.
        on_exchange: What the application does with each of them.
    """

    def __init__(
        self,
        settings: Mapping[int, int] | None = DRAFT16,
        options: H3Options | None = None,
        *,
        websockets: bool = False,
    ) -> None:
        super().__init__(settings, options)
        self.exchanges: list[H3Exchange] = []
        self.recorders: list[ExchangeRecorder] = []
        self.on_exchange: Callable[[H3Exchange], object] | None = None
        self.h3.exchange_requested = self._requested
        self.h3.accepts_websockets = websockets

    def _requested(self, exchange: H3Exchange) -> None:
        recorder = ExchangeRecorder()
        exchange.events = recorder
        self.exchanges.append(exchange)
        self.recorders.append(recorder)
        if self.on_exchange is not None:
            self.on_exchange(exchange)

    def open(
        self,
        method: str = "POST",
        lines: Sequence[tuple[str, str]] = (),
        extra: bytes = b"",
        fin: bool = False,
        **pseudo: str | None,
    ) -> tuple[H3Exchange, ExchangeRecorder, FakeStream]:
        """A request that the application gets."""
        stream = self.request(request_fields(method, lines=lines, **pseudo), extra, fin)
        assert self.exchanges
        assert self.exchanges[-1].stream_id == stream.stream_id
        return self.exchanges[-1], self.recorders[-1], stream

    def get(
        self, method: str = "GET", lines: Sequence[tuple[str, str]] = ()
    ) -> tuple[H3Exchange, ExchangeRecorder, FakeStream]:
        """A request without a body."""
        return self.open(method, lines, fin=True)

    def response(self, stream: FakeStream) -> tuple[dict[str, str], bytes]:
        """The last header that we sent, and the body after it."""
        return self.decode_headers(stream)[-1]
