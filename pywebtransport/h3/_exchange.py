"""One HTTP exchange: a request of a client, and the response to it (RFC 9114 section 4).

Bodies are streams: the body of the request is pulled with :meth:`H3Exchange.read`, which is
also what returns credit to the client; the response is written in as many pieces as you like.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

from ._constants import H3Error
from ._fields import Request

__all__ = ["NO_EXCHANGE_EVENTS", "ExchangeEvents", "H3Exchange"]

Lines = Sequence[tuple[bytes, bytes]]


class ExchangeEvents(Protocol):
    """Events of one exchange. All calls are synchronous, most of them in the deliver phase."""

    def readable(self) -> None:
        """``read`` returned None before; try again now."""

    def writable(self) -> None:
        """``is_full`` was True after a write; there is room again."""

    def exchange_over(self, error: Exception | None) -> None:
        """Last call. None: both sides completed normally. Can be called from within a method
        of the exchange."""


class NoExchangeEvents:
    """Used before the application registers its callbacks, and after the last call."""

    __slots__ = ()

    def readable(self) -> None: ...
    def writable(self) -> None: ...
    def exchange_over(self, error: Exception | None) -> None: ...


NO_EXCHANGE_EVENTS: Final = NoExchangeEvents()


class H3Exchange:
    """A request at a server, and its response.

    Attributes:
        request: The header of the request.
        stream_id: ID of the request stream.
        events: Receives the events; set it when you get the exchange.
        is_over: The exchange has ended; ``exchange_over`` was called.
        has_responded: ``respond`` was called.
        is_complete: The body of the request was read to its end, and its length is as announced.
        is_full: More is queued than the high-water mark allows: wait for ``writable``.
    """

    __slots__ = (
        "events",
        "has_responded",
        "is_complete",
        "is_full",
        "is_over",
        "request",
        "stream_id",
    )

    request: Request
    stream_id: int
    events: ExchangeEvents
    is_over: bool
    has_responded: bool
    is_complete: bool
    is_full: bool

    def __init__(self, connection: Any, stream: Any, request: Request) -> None:
        raise NotImplementedError

    @property
    def awaits_body(self) -> bool:
        """Neither bytes of the body nor its end have arrived, as with ``Expect: 100-continue``."""
        raise NotImplementedError

    def read(self, size: int = 65536) -> bytes | None:
        """Read a piece of the request's body; this returns credit to the client.

        Args:
            size: Bytes at most.

        Returns:
            At least one byte; ``b""`` at the end; None if nothing is there now (``readable``
            follows), or if the exchange is over. Trailers are checked and dropped.
        """
        raise NotImplementedError

    def inform(self, status: int, lines: Lines = ()) -> None:
        """Send an interim response.

        Args:
            status: 100 to 199, but not 101.
            lines: Names and values.

        Raises:
            ConfigurationError: The status or a line cannot be sent.
            StreamError: The response was sent already, or the exchange is over.
        """
        raise NotImplementedError

    def respond(self, status: int, lines: Lines, data: bytes = b"", fin: bool = False) -> int:
        """Send the header of the response, and the first piece of its body, in one write.

        Names are sent in lower case. Fields that HTTP/3 forbids are left out. Where a response
        has no body (HEAD, 204, 304), the bytes are dropped.

        Args:
            status: 200 to 599.
            lines: Names and values; order and duplicates are kept.
            data: First bytes of the body.
            fin: The response ends here.

        Returns:
            Bytes queued on the stream; see also ``is_full``.

        Raises:
            ConfigurationError: The status or a line cannot be sent; nothing was.
            StreamError: The response was sent already, or the exchange is over, or the body is
                not as long as its content-length: the stream is reset then.
        """
        raise NotImplementedError

    def send(self, data: bytes, fin: bool = False) -> int:
        """Send a piece of the body.

        Returns and raises: as ``respond``.
        """
        raise NotImplementedError

    def send_trailers(self, lines: Lines) -> None:
        """Send trailers, which end the response.

        Raises:
            ConfigurationError: A line cannot be sent; nothing was.
            StreamError: As for ``send``.
        """
        raise NotImplementedError

    def cancel(self, code: int = H3Error.INTERNAL_ERROR) -> None:
        """Reset the stream and stop the request; does nothing if the exchange is over."""
        raise NotImplementedError

    def set_send_order(self, order: int) -> None:
        """Set the order of this response among all that is sent; larger values go first."""
        raise NotImplementedError
