"""A network in memory that can have the faults of real networks."""

from __future__ import annotations

import asyncio
import errno
import heapq
import ipaddress
import itertools
import os
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from ..exceptions import invalid_config
from ..utils._checks import check_number

if TYPE_CHECKING:
    from .._transport import Packet

__all__ = ["Network"]

_Address: TypeAlias = tuple[str, int]
_Receive: TypeAlias = "Callable[[list[Packet]], object]"

_FIRST_PORT = 49152  # RFC 6335 section 6
_LOOPBACK = ("127.0.0.1", "::1")
_WILDCARDS = ("::", "0.0.0.0")
# Least delay of a packet that is overtaken, in seconds.
_SHORTEST_LAG = 0.001


def _setting(name: str, high: float, doc: str) -> property:
    """An attribute that is checked when it is set."""
    place = f"_{name}"

    def get(network: Network) -> float:
        return float(getattr(network, place))

    def put(network: Network, value: float) -> None:
        check_number(name, value, 0, high)
        setattr(network, place, float(value))

    return property(get, put, doc=doc)


class Network:
    """Carries the packets of clients and servers of one event loop, without sockets.

    Give it to ``session_pair`` or ``serve``, or set it as ``network`` in a ``ClientConfig`` and a
    ``ServerConfig``. QUIC and TLS are real. Both directions have the same conditions, and each path
    (a pair of addresses) has its own random numbers derived from ``seed``: with the same seed, the
    same packets of a path are lost, counted in order. Keys and connection IDs are still random, so
    the size of a packet may differ by some bytes from run to run.

    You can set conditions at any time; they apply to packets sent from then on. For example,
    ``network.loss = 1.0`` cuts all paths.

    Args:
        delay: Seconds that a packet takes, one way.
        jitter: Up to this many more seconds; packets stay in order.
        loss: Share of packets that are lost, 0 to 1.
        reorder: Share of packets that arrive another ``delay`` later (at least a millisecond), so
            that others overtake them.
        duplicate: Share of packets that arrive twice.
        seed: A number or a string.

    Attributes:
        packets_sent: Packets sent.
        packets_lost: Packets that did not arrive.
        packets_reordered: Packets that were held back.
        packets_duplicated: Packets that arrived twice.

    Raises:
        ConfigurationError: A condition is out of range.
    """

    delay = _setting("delay", 3600.0, "Seconds that a packet takes, one way.")
    jitter = _setting("jitter", 3600.0, "Up to this many more seconds; packets stay in order.")
    loss = _setting("loss", 1.0, "Share of packets that are lost.")
    reorder = _setting("reorder", 1.0, "Share of packets that others overtake.")
    duplicate = _setting("duplicate", 1.0, "Share of packets that arrive twice.")

    def __init__(
        self,
        *,
        delay: float = 0.001,
        jitter: float = 0.0,
        loss: float = 0.0,
        reorder: float = 0.0,
        duplicate: float = 0.0,
        seed: int | str = 0,
    ) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int | str):
            raise invalid_config(
                key="seed", value=seed, reason="expected a whole number or a string"
            )
        self.delay = delay
        self.jitter = jitter
        self.loss = loss
        self.reorder = reorder
        self.duplicate = duplicate
        self.packets_sent = 0
        self.packets_lost = 0
        self.packets_reordered = 0
        self.packets_duplicated = 0
        self._seed = seed
        self._paths: dict[tuple[_Address, _Address], _Path] = {}
        self._names: dict[str, str] = {}
        self._ports = itertools.count(_FIRST_PORT)
        self._receivers: dict[_Address, _Receive] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        # (when, number of the packet, packet as its receiver sees it)
        self._under_way: list[tuple[float, int, Packet]] = []
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._next = 0.0  # when the timer fires

    def __repr__(self) -> str:
        return (
            f"<Network delay={self.delay:g} jitter={self.jitter:g} loss={self.loss:g} "
            f"reorder={self.reorder:g} duplicate={self.duplicate:g} seed={self._seed!r}>"
        )

    # ------------------------------------------------------- what endpoints call

    def resolve(self, host: str) -> list[str]:
        """Return the addresses of a host: a literal, ``localhost``, or the name of a server.

        Args:
            host: A literal may be in brackets.

        Returns:
            An empty list if the name is unknown.
        """
        name = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        name = name.lower().rstrip(".")
        try:
            return [str(ipaddress.ip_address(name))]
        except ValueError:
            pass
        if f".{name}".endswith(".localhost"):
            used = {address for address, _ in self._receivers}
            return [address for address in _LOOPBACK if address in used] or [_LOOPBACK[0]]
        return [self._names[name]] if name in self._names else []

    def name(self, host: str) -> list[str]:
        """As ``resolve``, but assigns an address to an unknown name."""
        if not self.resolve(host):
            number = len(self._names) + 1
            self._names[host.lower().rstrip(".")] = f"10.0.{number >> 8}.{number & 255}"
        return self.resolve(host)

    def attach(
        self, address: _Address, receive: _Receive, loop: asyncio.AbstractEventLoop
    ) -> _Address:
        """Register the receiver of an address.

        Args:
            address: Host and port; port 0 is replaced by a free one.
            receive: Called with the packets that arrive at the same time.
            loop: The event loop in which it is called.

        Returns:
            The address with its port.

        Raises:
            OSError: The address is in use.
            ConfigurationError: Endpoints of another event loop use the network.
        """
        if not self._receivers:
            self._forget()
            self._loop = loop
        if loop is not self._loop:
            raise invalid_config(
                key="network", value=self, reason="it carries packets of another event loop"
            )
        host, port = address
        if port == 0:
            port = next(self._ports)
        if (host, port) in self._receivers:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        self._receivers[host, port] = receive
        return host, port

    def detach(self, address: _Address) -> None:
        """Unregister an address; packets under way to it are lost. Idempotent."""
        self._receivers.pop(address, None)
        if not self._receivers:
            self._forget()

    def send(self, packets: Sequence[Packet]) -> None:
        """Send packets: tuples of source address, target address and payload."""
        if self._loop is None:  # no endpoint is registered any more
            return
        now = self._loop.time()
        for source, target, payload in packets:
            path = self._paths.get((source, target))
            if path is None:
                path = self._paths[source, target] = _Path(
                    f"{self._seed} {source[0]} {source[1]} {target[0]} {target[1]}"
                )
            self.packets_sent += 1
            # Draw the same count of numbers for each packet, so that conditions do not affect each
            # other.
            lost, late, again, extra = (path.chance.random() for _ in range(4))
            if lost < self.loss:
                self.packets_lost += 1
                continue
            when = now + self.delay
            if self.jitter:
                when += extra * self.jitter
            if late < self.reorder:
                self.packets_reordered += 1
                when += max(self.delay, _SHORTEST_LAG)
            else:
                when = path.newest = max(when, path.newest)
            packet = (target, source, payload)
            heapq.heappush(self._under_way, (when, next(self._numbers), packet))
            if again < self.duplicate:
                self.packets_duplicated += 1
                heapq.heappush(self._under_way, (when, next(self._numbers), packet))
        self._arm()

    # ------------------------------------------------------------------ internal

    def _arm(self) -> None:
        if not self._under_way or self._loop is None:
            return
        when = self._under_way[0][0]
        if self._timer is not None:
            if self._next <= when:
                return
            self._timer.cancel()
        self._next = when
        self._timer = self._loop.call_at(when, self._deliver)

    def _deliver(self) -> None:
        """Deliver the packets that have arrived, in one call for each receiver."""
        loop = self._loop
        assert loop is not None
        self._timer = None
        # Timers of event loops are not exact; some fire half a millisecond early.
        now = max(loop.time(), self._next) + 1e-9
        arrived: dict[_Receive, list[Packet]] = {}
        while self._under_way and self._under_way[0][0] <= now:
            packet = heapq.heappop(self._under_way)[2]
            receive = self._receiver(packet[0])
            if receive is not None:
                arrived.setdefault(receive, []).append(packet)
        try:
            for receive, packets in arrived.items():
                receive(packets)
        finally:
            self._arm()

    def _receiver(self, address: _Address) -> _Receive | None:
        found = self._receivers.get(address)
        for wildcard in _WILDCARDS:
            if found is None:
                found = self._receivers.get((wildcard, address[1]))
        return found

    def _forget(self) -> None:
        """No endpoint is left: remove the timer from the event loop."""
        self._under_way.clear()
        self._paths.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._loop = None


class _Path:
    """One direction between two addresses.

    Attributes:
        chance: Random numbers for its packets.
        newest: Arrival time of the last packet that was not held back.
    """

    __slots__ = ("chance", "newest")

    def __init__(self, seed: str) -> None:
        self.chance = random.Random(seed)
        self.newest = 0.0
