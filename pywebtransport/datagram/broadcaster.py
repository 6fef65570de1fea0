"""Send one datagram to many sessions."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

from .._core.datagram_arguments import check_age, check_payload, check_priority
from .._core.datagram_sending import try_submit
from ..exceptions import (
    DatagramError,
    DatagramTooLargeError,
    SessionClosedError,
    WebTransportError,
)
from ..utils._checks import check_interface
from ..utils._closing import AsyncCloseable
from ..utils._failures import describe_error
from ..utils._logs import shared_log
from ..utils._turns import Turns

if TYPE_CHECKING:
    from .._core.datagram_transport import WebTransportDatagramTransport
    from .._states import Data

__all__ = ["DatagramBroadcaster"]

_logger = logging.getLogger("pywebtransport.datagram")

_STEP = 8
"""How many transports are served before the clock is checked again."""


@dataclass(slots=True)
class _Counts:
    """Counts of datagrams by outcome, for one transport or all."""

    sent: int = 0
    dropped: int = 0
    too_large: int = 0
    errors: int = 0


class DatagramBroadcaster(AsyncCloseable):
    """Sends datagrams to all of its transports, and waits for none of them.

    The payload is converted once and queued at each transport. A slow transport does not
    delay the others: if its outgoing queue is full (a slow receiver or a narrow path), it
    does not get the datagram, and the drop is counted. A transport that closes is removed.
    """

    def __init__(self) -> None:
        self._counts: dict[WebTransportDatagramTransport, _Counts] = {}
        self._total = _Counts()
        self._order: list[WebTransportDatagramTransport] | None = None
        self._turn = 0
        self._broadcasts = 0
        self._removed = 0
        self._closed = False

    @classmethod
    def create(cls) -> Self:
        """Create a broadcaster."""
        return cls()

    @property
    def is_closed(self) -> bool:
        """``close`` was called."""
        return self._closed

    @property
    def stats(self) -> dict[str, int]:
        """Totals over all transports since the broadcaster was created.

        ``transports``: how many there are now; ``broadcasts``; datagrams ``sent`` (queued at a
        transport), ``dropped`` (its queue was full), ``too_large`` (for its path), ``errors``
        (refused for another reason); ``removed``: transports removed because they closed.
        """
        return {
            "transports": len(self._counts),
            "broadcasts": self._broadcasts,
            **asdict(self._total),
            "removed": self._removed,
        }

    async def add_transport(self, transport: WebTransportDatagramTransport) -> None:
        """Add a transport; adding it again has no effect.

        Raises:
            SessionClosedError: Its session has ended.
            DatagramError: It is closed, or the broadcaster is.
        """
        _check_transport(transport)
        self._check_open()
        if transport.is_closed:
            raise transport.closed_error("it cannot take part in broadcasts")
        if transport not in self._counts:
            self._counts[transport] = _Counts()
            self._order = None
            transport.add_close_callback(self._transport_closed)

    async def remove_transport(self, transport: WebTransportDatagramTransport) -> None:
        """Remove a transport, if it is there. Its queued datagrams are still sent."""
        _check_transport(transport)
        transport.remove_close_callback(self._transport_closed)
        self._forget(transport)

    async def get_transport_count(self) -> int:
        """Return how many transports there are."""
        return len(self._counts)

    def get_transport_stats(self, transport: WebTransportDatagramTransport) -> dict[str, int]:
        """Return the counts of one transport, with the keys of ``stats``.

        Raises:
            DatagramError: It is not part of the broadcaster (any more).
        """
        _check_transport(transport)
        counts = self._counts.get(transport)
        if counts is None:
            raise DatagramError(f"session {transport.session_id} is not part of the broadcaster")
        return asdict(counts)

    async def broadcast(self, data: Data, *, priority: int = 0, ttl: float | None = None) -> int:
        """Queue one datagram at every transport.

        Never waits for room. Gives the event loop a turn, so that queued datagrams can be sent
        before the next broadcast. If there are many transports, only some are served in each
        turn, for about two milliseconds. Each call starts with another transport.

        Args:
            data: At most ``max_datagram_size`` bytes of each transport.
            priority: 0 to 2; datagrams with a higher priority leave the queues first.
            ttl: Seconds it may wait in a queue; default ``outgoing_max_age``
                of each transport.

        Returns:
            How many transports accepted it.

        Raises:
            ConfigurationError: An argument is invalid.
            DatagramError: The broadcaster is closed.

        Cancellation: transports that already have the datagram send it.
        """
        self._check_open()
        check_priority(priority)
        if ttl is not None:
            check_age("ttl", ttl)
        payload = check_payload(data)
        self._broadcasts += 1
        order = self._order
        if order is None:
            order = self._order = list(self._counts)
        start = self._turn = (self._turn + 1) % len(order) if order else 0
        sent = 0
        turns = Turns.of()
        for count in range(len(order)):
            transport = order[(start + count) % len(order)]
            sent += self._hand_over(transport, payload, priority, ttl)
            if count % _STEP == 0:
                await turns.pause()
        await asyncio.sleep(0)
        return sent

    async def close(self) -> None:
        """Remove all transports; they stay open. Idempotent."""
        self._closed = True
        for transport in self._counts:
            transport.remove_close_callback(self._transport_closed)
        self._counts.clear()
        self._order = None

    def _hand_over(
        self,
        transport: WebTransportDatagramTransport,
        payload: bytes,
        priority: int,
        ttl: float | None,
    ) -> bool:
        counts = self._counts.get(transport)
        if counts is None:
            return False  # removed during a turn of the loop
        try:
            if try_submit(transport, payload, priority, ttl):
                counts.sent += 1
                self._total.sent += 1
                return True
        except DatagramTooLargeError:
            counts.too_large += 1
            self._total.too_large += 1
        except SessionClosedError:
            # It is closing; no datagram can follow.
            self._transport_closed(transport)
        except WebTransportError as error:
            # If one fails, the others still get the datagram.
            if not counts.errors:
                shared_log(_logger).tell(
                    "no broadcast",
                    logging.WARNING,
                    "no broadcast to session %s: %s; further failures are only counted",
                    transport.session_id,
                    describe_error(error),
                )
            counts.errors += 1
            self._total.errors += 1
        else:
            transport.refused += 1
            counts.dropped += 1
            self._total.dropped += 1
        return False

    def _transport_closed(self, transport: Any) -> None:
        if transport in self._counts:
            transport.remove_close_callback(self._transport_closed)
            self._removed += 1
            self._forget(transport)

    def _forget(self, transport: WebTransportDatagramTransport) -> None:
        if self._counts.pop(transport, None) is not None:
            self._order = None

    def _check_open(self) -> None:
        if self._closed:
            raise DatagramError("the broadcaster is closed")


def _check_transport(transport: object) -> None:
    check_interface("transport", transport, "WebTransportDatagramTransport", "receive_many")
