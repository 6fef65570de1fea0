"""What a client keeps of earlier connections: TLS session tickets and address tokens."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field

__all__ = ["Credentials", "Offer"]

# Servers that are remembered.
_MAX_ORIGINS = 256
# Tickets and tokens of one server; a connection brings a few of them.
_MAX_KEPT = 4

_Origin = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Offer:
    """What one connection attempt may use.

    Attributes:
        ticket: To resume the TLS session, or None.
        token: To prove the address of the client, or None.
        known: All tickets of the server that were kept when the attempt began.
    """

    ticket: bytes | None = None
    token: bytes | None = None
    known: tuple[bytes, ...] = ()


@dataclass(slots=True)
class _Kept:
    """What is kept of one server, oldest first."""

    tickets: deque[bytes] = field(default_factory=lambda: deque(maxlen=_MAX_KEPT))
    tokens: deque[bytes] = field(default_factory=lambda: deque(maxlen=_MAX_KEPT))


class Credentials:
    """Tickets and tokens by server, each kind with rules of its own.

    A token is used once (RFC 9000 section 8.1.3). A ticket, too, as long as there are more, so
    that connections cannot be linked by it (RFC 8446 appendix C.4). The last one is used again:
    without it, most of many connections that start at the same time would need a full handshake.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[_Origin, _Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def take(self, origin: _Origin) -> Offer:
        """Return the newest ticket and the newest token for a new connection to a server."""
        kept = self._kept.get(origin)
        if kept is None:
            return Offer()
        known = tuple(kept.tickets)
        if len(known) > 1:
            kept.tickets.pop()
        token = kept.tokens.pop() if kept.tokens else None
        self._drop_if_empty(origin, kept)
        return Offer(known[-1] if known else None, token, known)

    def add(self, origin: _Origin, ticket: bytes | None, token: bytes | None) -> None:
        """Keep what a server has sent."""
        kept = self._kept.setdefault(origin, _Kept())
        if ticket is not None:
            kept.tickets.append(ticket)
        if token is not None:
            kept.tokens.append(token)
        self._kept.move_to_end(origin)
        while len(self._kept) > _MAX_ORIGINS:
            self._kept.popitem(last=False)

    def refused(self, origin: _Origin, offer: Offer) -> None:
        """The server did not resume with the ticket: forget it, and the others of that time."""
        kept = self._kept.get(origin)
        if kept is not None and offer.ticket is not None:
            left = [ticket for ticket in kept.tickets if ticket not in offer.known]
            kept.tickets.clear()
            kept.tickets.extend(left)
            self._drop_if_empty(origin, kept)

    def _drop_if_empty(self, origin: _Origin, kept: _Kept) -> None:
        if not kept.tickets and not kept.tokens:
            del self._kept[origin]
