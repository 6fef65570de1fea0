"""What an attack has at hand: its victim's port, connections, and the moment to begin."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pywebtransport._loop import Endpoint
from pywebtransport.exceptions import WebTransportError
from tests.integration import raw_h3 as h3

from .peer import ADDRESS, Closed, Peer, ended, engine

__all__ = ["Field"]

# A peer that is closed comes back at once, but not so fast that it does nothing else.
_PAUSE = 0.02


class Field:
    """The attacker's view.

    Args:
        port: Of the victim; 0 for a hostile server.
        begin: Says that all is prepared and waits for the order to begin.
        files: Certificate and key for a hostile server.

    Attributes:
        sent: Bytes that were sent by other means than peers.
        notes: What an attack wants to tell.
    """

    def __init__(
        self, port: int, begin: Callable[[], Awaitable[None]], files: dict[str, str]
    ) -> None:
        self.port = port
        self.files = files
        self.sent = 0
        self.notes: Counter[str] = Counter()
        self._begin = begin
        self._endpoints: list[Endpoint] = []
        self._peers: list[Peer] = []
        self._known: Counter[str] = Counter()
        self._bytes = 0

    async def go(self) -> None:
        """All is prepared; returns when the attack is to begin."""
        await self._begin()

    # --- connections

    def endpoint(self, address: str = ADDRESS, **settings: Any) -> Endpoint:
        """A new endpoint."""
        endpoint = engine(settings=settings, address=address)
        self._endpoints.append(endpoint)
        return endpoint

    def keep(self, endpoint: Endpoint) -> Endpoint:
        """Close this one at the end, too."""
        self._endpoints.append(endpoint)
        return endpoint

    def add(self, peer: Peer) -> Peer:
        """Count this connection."""
        self._peers.append(peer)
        if len(self._peers) > 5000:
            self._forget()
        return peer

    async def connect(
        self,
        endpoint: Endpoint | None = None,
        *,
        settings: Mapping[int, int] = h3.DRAFT16,
        **arguments: Any,
    ) -> Peer:
        """A connection whose handshake is complete, with SETTINGS sent.

        Raises:
            Closed: There is none to be had.
        """
        if endpoint is None:
            if not self._endpoints:
                self.endpoint()
            endpoint = self._endpoints[0]
        peer = self.add(Peer.connect(endpoint, self.port, **arguments))
        await peer.up()
        peer.start(settings)
        return peer

    async def repeat(
        self,
        once: Callable[[Peer], Awaitable[None]],
        *,
        at_once: int = 1,
        settings: Mapping[int, int] = h3.DRAFT16,
    ) -> None:
        """Do something to a connection, and with a new one when that has ended, for ever.

        Args:
            once: Does it.
            at_once: Connections at a time.
            settings: To send. With those of draft-16 the session has credit of its own, and ends
                when a peer that does not look at it opens more streams or sends more bytes.
        """
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(self._repeat(once, settings))

    async def _repeat(
        self, once: Callable[[Peer], Awaitable[None]], settings: Mapping[int, int]
    ) -> None:
        while True:
            try:
                peer = await self.connect(settings=settings)
                try:
                    await once(peer)
                finally:
                    if peer.quic is not None and not peer.quic.is_closed:
                        peer.quic.close(0x100)
            except* (Closed, TimeoutError, WebTransportError):
                pass
            await asyncio.sleep(_PAUSE)

    # --- the end

    def _forget(self) -> None:
        kept = []
        for peer in self._peers:
            if peer.end is None:
                kept.append(peer)
            else:
                self._known[ended(peer.end)] += 1
        self._peers = kept

    def report(self) -> dict[str, Any]:
        """What became of it; closes everything."""
        sent = self.sent + sum(end.quic.stats()["bytes_sent"] for end in self._endpoints)
        for peer in self._peers:
            self._known[ended(peer.end)] += 1
        self._peers = []
        for endpoint in self._endpoints:
            endpoint.close()
        return {"sent": sent, "ends": dict(self._known), "notes": dict(self.notes)}
