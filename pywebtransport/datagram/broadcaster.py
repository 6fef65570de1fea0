"""Send one datagram to many sessions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final, Self

from .._core.datagram_arguments import check_age, check_payload, check_priority
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

_STEP: Final = 64
"""How many transports are served before the clock is checked again, in a tenth of a millisecond."""
_SLICES: Final = 8
"""Slices of a turn that a broadcast may use, 4 ms. A pause sends what is queued; most need none."""


@dataclass(slots=True)
class _Counts:
    """Counts of datagrams by outcome, for one transport or all."""

    sent: int = 0
    dropped: int = 0
    too_large: int = 0
    errors: int = 0
    has_left: bool = False

    def to_dict(self) -> dict[str, int]:
        return {
            "sent": self.sent,
            "dropped": self.dropped,
            "too_large": self.too_large,
            "errors": self.errors,
        }


class DatagramBroadcaster(AsyncCloseable):
    """Sends datagrams to all of its transports, and waits for none of them.

    The payload is converted once and queued at each transport. A slow transport does not
    delay the others: if its outgoing queue is full (a slow receiver or a narrow path), it
    does not get the datagram, and the drop is counted. A transport that closes is removed.
    """

    def __init__(self) -> None:
        self._counts: dict[WebTransportDatagramTransport, _Counts] = {}
        self._total = _Counts()
        self._order: list[tuple[WebTransportDatagramTransport, _Counts]] | None = None
        self._turn = 0
        self._is_same_turn = False  # as that of the last broadcast
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
            **self._total.to_dict(),
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
        return counts.to_dict()

    async def broadcast(self, data: Data, *, priority: int = 0, ttl: float | None = None) -> int:
        """Queue one datagram at every transport.

        Never waits for room. In the common case, the call is over at once, without a turn of the
        event loop. A broadcast to so many transports that it takes more than about four
        milliseconds (some two thousand) continues in the next turn. The second of two
        broadcasts in the same turn waits for the next one, so that the first can be sent. Each
        call starts with another transport.

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
        if self._is_same_turn:
            await asyncio.sleep(0)
            self._check_open()
        self._broadcasts += 1
        order = self._order
        if order is None:
            order = self._order = list(self._counts.items())
        start = self._turn = (self._turn + 1) % len(order) if order else 0
        targets = chain(islice(order, start, None), islice(order, start))
        turns = Turns.of()
        sent = 0
        for done in range(0, len(order), _STEP):
            if done:
                await turns.pause(_SLICES)
            sent += self._hand_over(islice(targets, _STEP), payload, priority, ttl)
        self._is_same_turn = True
        asyncio.get_running_loop().call_soon(self._next_turn)
        return sent

    async def close(self) -> None:
        """Remove all transports; they stay open. Idempotent."""
        self._closed = True
        for transport, counts in self._counts.items():
            transport.remove_close_callback(self._transport_closed)
            counts.has_left = True
        self._counts.clear()
        self._order = None

    def _next_turn(self) -> None:
        # The engine sent what the broadcast queued: its call was scheduled before this one.
        self._is_same_turn = False

    def _hand_over(
        self,
        targets: Iterable[tuple[WebTransportDatagramTransport, _Counts]],
        payload: bytes,
        priority: int,
        ttl: float | None,
    ) -> int:
        """Queue the datagram at some transports; return how many accepted it."""
        sent = 0
        for transport, counts in targets:
            if counts.has_left:
                continue  # during a turn of the loop
            try:
                if transport.try_send(payload, priority=priority, ttl=ttl):
                    counts.sent += 1
                    sent += 1
                else:
                    counts.dropped += 1
                    self._total.dropped += 1
            except DatagramTooLargeError:
                counts.too_large += 1
                self._total.too_large += 1
            except SessionClosedError:
                # It is closing; no datagram can follow.
                self._transport_closed(transport)
            except WebTransportError as error:
                # If one fails, the others still get the datagram.
                self._note_failure(transport, counts, error)
        self._total.sent += sent
        return sent

    def _note_failure(
        self,
        transport: WebTransportDatagramTransport,
        counts: _Counts,
        error: WebTransportError,
    ) -> None:
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

    def _transport_closed(self, transport: Any) -> None:
        if transport in self._counts:
            transport.remove_close_callback(self._transport_closed)
            self._removed += 1
            self._forget(transport)

    def _forget(self, transport: WebTransportDatagramTransport) -> None:
        counts = self._counts.pop(transport, None)
        if counts is not None:
            counts.has_left = True
            self._order = None

    def _check_open(self) -> None:
        if self._closed:
            raise DatagramError("the broadcaster is closed")


def _check_transport(transport: object) -> None:
    check_interface("transport", transport, "WebTransportDatagramTransport", "receive_many")
