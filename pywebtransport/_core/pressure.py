"""Closes connections while the process holds more for peers than ``max_memory`` allows."""

from __future__ import annotations

import asyncio
import heapq
import logging
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, WeakSet

from .._quic import held_by_connections, library_bytes, unread_bytes
from .._transport import Transport
from ..utils._budget import ByteBudget
from ..utils._logs import shared_log
from ..utils._networks import client_network
from ..utils._turns import SLICE
from ..utils._waiters import running_loop
from .driver import Driver

if TYPE_CHECKING:
    from .connection import WebTransportConnection

__all__ = ["Pressure"]

_logger = logging.getLogger("pywebtransport.connection")

_REASON = "the memory for peers is used up, and this connection holds most of it"
# Two looks at all connections are so many seconds apart, and at least so many times the
# duration of the first one.
_PAUSE = 0.01
_SHARE = 20
# Data may be refused for so many seconds. Then connections are closed until this fraction of
# the limit, one sixteenth, is free.
_PATIENCE = 5.0
_MARGIN = 16


class Pressure:
    """Keeps the process below the limit of its budget.

    Credit that was given to a peer cannot be taken back, so many connections together can hold
    more than the limit. Then those that hold the most are closed: of the client address that
    holds the most, its largest connection first. A connection that holds less than an equal
    share of the limit is never closed, and readers that were woken go first.

    Args:
        budget: The budget of the process.

    Attributes:
        closed: How many connections were closed.
    """

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self.closed = 0
        self._next_look = 0.0
        # Loops that will look.
        self._looking: WeakSet[asyncio.AbstractEventLoop] = WeakSet()
        # Another thread was asked to close them.
        self._asked: WeakSet[WebTransportConnection] = WeakSet()
        self._helps = False  # the last look found connections to close
        # Connections that the engine does not know, and the loops that they belong to.
        self._others: WeakKeyDictionary[WebTransportConnection, asyncio.AbstractEventLoop]
        self._others = WeakKeyDictionary()
        self._lock = threading.Lock()  # for ``_others``
        self._refused_since = self._refused_at = 0.0

    def watch(self, connection: WebTransportConnection) -> None:
        """Look at a connection that is not one of the engine, too; it belongs to this loop."""
        with self._lock:
            self._others[connection] = asyncio.get_running_loop()

    @property
    def total(self) -> int:
        """Bytes held on behalf of peers."""
        return self._budget.used + unread_bytes() + library_bytes()

    @property
    def is_full(self) -> bool:
        """Nothing more may be held."""
        return self.total >= self._budget.limit

    def full(self) -> None:
        """Look for connections to close; called after each turn that leaves nothing free."""
        if time.monotonic() >= self._next_look:
            self._look(self._budget.limit)

    def refused(self) -> None:
        """Data was refused for lack of room; connections are closed if that goes on."""
        now = time.monotonic()
        if now - self._refused_at > _PATIENCE:
            self._refused_since = now
        self._refused_at = now
        if now - self._refused_since >= _PATIENCE and now >= self._next_look:
            self._look(self._budget.limit - self._budget.limit // _MARGIN)

    def makes_room(self) -> bool:
        """Whether there is room, or will be once connections are closed."""
        if not self.is_full:
            return True
        pause = self._next_look - time.monotonic()
        if pause <= 0:
            self._helps = bool(self._candidates())
        if self._helps:
            # What was found a moment ago is looked at again, or nobody would close it.
            self._look(self._budget.limit, pause)
        return self._helps

    def _look(self, most: int, pause: float = 0.0) -> None:
        """Look at the connections in ``pause`` seconds, after their readers have had a turn."""
        loop = running_loop()
        if loop is not None and loop not in self._looking:
            self._looking.add(loop)
            if pause > 0:
                loop.call_later(pause, self._relieve, loop, most)
            else:
                loop.call_soon(self._relieve, loop, most)

    def _candidates(self) -> list[_Network]:
        """Return a heap of the networks with connections that hold more than an equal share."""
        started = time.monotonic()
        connections = held_by_connections()
        with self._lock:
            others = list(self._others.items())
        share = self._budget.limit // (len(connections) + len(others) + 1)
        found: dict[str, _Network] = {}

        def consider(
            owner: WebTransportConnection,
            quic: Transport,
            loop: asyncio.AbstractEventLoop,
            unread: int,
        ) -> None:
            held = unread + owner.memory_budget.used
            if held > share:
                found.setdefault(_network_of(owner, quic), _Network()).add(owner, loop, held)

        for quic, held in connections:
            owner = quic.handler.owner if isinstance(quic.handler, Driver) else None
            if owner is not None and owner._endpoint is not None:
                consider(owner, quic, owner._endpoint.loop, held)
        for owner, loop in others:
            if owner._quic is not None and not owner.is_closed:
                consider(owner, owner._quic, loop, _unread_by(owner))
        networks = list(found.values())
        heapq.heapify(networks)
        ended = time.monotonic()
        self._next_look = ended + max(_PAUSE, _SHARE * (ended - started))
        return networks

    def _relieve(self, loop: asyncio.AbstractEventLoop, most: int) -> None:
        """Close connections until less than ``most`` bytes are held."""
        self._looking.discard(loop)
        if self.total >= most:
            networks = self._candidates()
            self._helps = bool(networks)
            self._close(loop, networks, most)

    def _close(
        self,
        loop: asyncio.AbstractEventLoop,
        networks: list[_Network],
        most: int,
        elsewhere: int = 0,
    ) -> None:
        """Close connections, some in each turn of the loop.

        Args:
            loop: The running one.
            networks: A heap of their connections.
            most: Bytes that may be held.
            elsewhere: Bytes held by connections that another thread closes.
        """
        end = time.monotonic() + SLICE
        while networks and self.total - elsewhere >= most:
            holder = networks[0].take()
            if networks[0].held:
                heapq.heapreplace(networks, networks[0])
            else:
                heapq.heappop(networks)
            if holder.loop is loop:
                self._tell(holder)
                _shed(holder.connection)
            else:
                elsewhere += holder.held
                if holder.connection not in self._asked:
                    self._asked.add(holder.connection)
                    self._tell(holder)
                    with suppress(RuntimeError):  # it is closed
                        holder.loop.call_soon_threadsafe(_shed, holder.connection)
            if time.monotonic() >= end:
                loop.call_soon(self._close, loop, networks, most, elsewhere)
                return

    def _tell(self, holder: _Holder) -> None:
        self.closed += 1
        shared_log(_logger).tell(
            "memory",
            logging.WARNING,
            "closing the connection of %s, which holds %d of the %d bytes that are held on behalf "
            "of peers: max_memory is %d",
            holder.connection.remote_address,
            holder.held,
            self.total,
            self._budget.limit,
        )


class _Holder:
    """A connection, and the bytes that the process holds for its peer."""

    __slots__ = ("connection", "held", "loop")

    def __init__(
        self, connection: WebTransportConnection, loop: asyncio.AbstractEventLoop, held: int
    ) -> None:
        self.connection = connection
        self.loop = loop
        self.held = held

    def __lt__(self, other: _Holder) -> bool:
        return self.held > other.held


class _Network:
    """The connections of a client address; those that together hold the most come first."""

    __slots__ = ("_holders", "held")

    def __init__(self) -> None:
        self._holders: list[_Holder] = []
        self.held = 0

    def __lt__(self, other: _Network) -> bool:
        return self.held > other.held

    def add(
        self, connection: WebTransportConnection, loop: asyncio.AbstractEventLoop, held: int
    ) -> None:
        heapq.heappush(self._holders, _Holder(connection, loop, held))
        self.held += held

    def take(self) -> _Holder:
        """Remove the connection that holds the most."""
        holder = heapq.heappop(self._holders)
        self.held -= holder.held
        return holder


def _unread_by(connection: WebTransportConnection) -> int:
    """Bytes in the streams of a connection."""
    return sum(
        stream._quic.buffered
        for session in connection.sessions
        for stream in session._streams.values()
    )


def _network_of(connection: WebTransportConnection, quic: Transport) -> str:
    """Return the network of the peer; servers have one, too."""
    address = quic.remote_address
    return connection.client_network or ("" if address is None else client_network(address[0]))


def _shed(connection: WebTransportConnection) -> None:
    """Close a connection and free what it holds, even if the application keeps its streams."""
    driver = connection._driver
    if driver is None or driver.quic.is_closed:
        return
    # Its sessions forget their streams when they end.
    streams = [
        stream._quic
        for session in connection.sessions
        for stream in session._streams.values()
        if stream._quic.buffered
    ]
    driver.layer.shed(_REASON)
    connection.flush_nowait()
    for stream in streams:
        stream.release()  # a reader gets the error of its session
    connection.memory_budget.close()
