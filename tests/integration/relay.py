"""A UDP relay that loses, delays, reorders and duplicates packets, by a seed.

The server sees one socket of the relay per client address, as behind a NAT; ``rebind`` gives all
clients new ones.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass
from types import TracebackType
from typing import Self

__all__ = ["Faults", "Relay"]

_Address = tuple[str, int]


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What happens to packets of one direction. Probabilities are 0 to 1, times seconds."""

    drop: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    """A packet is held for ``hold`` while later ones pass."""
    hold: float = 0.005
    delay: float = 0.0
    """Latency of every packet."""


class Relay:
    """Stands between clients and one server; ``async with`` starts and stops it.

    Args:
        target: The server's address.
        seed: The same seed gives the same fate to packet number n of each direction.
        up: Faults on the way to the server.
        down: Faults on the way back; by default the same.
    """

    def __init__(
        self, target: _Address, *, seed: int, up: Faults, down: Faults | None = None
    ) -> None:
        self._target = target
        self._faults = {"up": up, "down": up if down is None else down}
        self._random = {name: random.Random(f"{seed}/{name}") for name in self._faults}
        self._timers: set[asyncio.TimerHandle] = set()
        self._upstream: dict[_Address, asyncio.DatagramTransport] = {}
        self._opening: dict[_Address, list[bytes]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._front: asyncio.DatagramTransport | None = None
        self.counts: Counter[str] = Counter()
        """Packets by ``up`` and ``down``, and by ``up-dropped``, ``down-duplicated`` and so on."""
        self.blocked = False
        """True: no packet passes."""

    @property
    def port(self) -> int:
        """Port on 127.0.0.1 that clients use."""
        assert self._front is not None
        port: int = self._front.get_extra_info("sockname")[1]
        return port

    def change(self, up: Faults, down: Faults | None = None) -> None:
        """Other faults from now on; ``down`` by default the same as ``up``."""
        self._faults = {"up": up, "down": up if down is None else down}

    async def rebind(self) -> None:
        """Forget the sockets towards the server: packets come from new ports from now on."""
        old = list(self._upstream.values())
        self._upstream.clear()
        for transport in old:
            transport.abort()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._front, _ = await loop.create_datagram_endpoint(
            lambda: _Front(self), local_addr=("127.0.0.1", 0)
        )
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        closing = [*self._upstream.values()]
        if self._front is not None:
            closing.append(self._front)
        for transport in closing:
            transport.abort()

    def from_client(self, data: bytes, client: _Address) -> None:
        """A packet came from a client."""
        self._pass_on("up", data, client)

    def from_server(self, data: bytes, client: _Address) -> None:
        """A packet came from the server, on the socket that stands for ``client``."""
        self._pass_on("down", data, client)

    def _pass_on(self, way: str, data: bytes, client: _Address) -> None:
        faults, chance = self._faults[way], self._random[way].random
        # Always the same number of draws, so that the fates do not depend on each other.
        dropped, twice, held = (
            chance() < faults.drop,
            chance() < faults.duplicate,
            chance() < faults.reorder,
        )
        self.counts[way] += 1
        if self.blocked or dropped:
            self.counts[f"{way}-dropped"] += 1
            return
        delay = faults.delay
        if held:
            self.counts[f"{way}-reordered"] += 1
            delay += faults.hold
        self._later(delay, way, data, client)
        if twice:
            self.counts[f"{way}-duplicated"] += 1
            self._later(faults.delay + faults.hold / 2, way, data, client)

    def _later(self, delay: float, way: str, data: bytes, client: _Address) -> None:
        if delay <= 0:
            self._send(way, data, client)
            return

        def fire() -> None:
            self._timers.discard(timer)
            self._send(way, data, client)

        timer = asyncio.get_running_loop().call_later(delay, fire)
        self._timers.add(timer)

    def _send(self, way: str, data: bytes, client: _Address) -> None:
        if way == "down":
            if self._front is not None and not self._front.is_closing():
                self._front.sendto(data, client)
            return
        transport = self._upstream.get(client)
        if transport is not None:
            transport.sendto(data)
        elif client in self._opening:
            self._opening[client].append(data)
        else:
            self._opening[client] = [data]
            task = asyncio.get_running_loop().create_task(self._open(client))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _open(self, client: _Address) -> None:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Back(self, client), remote_addr=self._target
        )
        self._upstream[client] = transport
        for data in self._opening.pop(client):
            transport.sendto(data)


class _Front(asyncio.DatagramProtocol):
    """The socket that clients send to."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def datagram_received(self, data: bytes, addr: _Address) -> None:
        self._relay.from_client(data, addr)


class _Back(asyncio.DatagramProtocol):
    """A socket towards the server."""

    def __init__(self, relay: Relay, client: _Address) -> None:
        self._relay = relay
        self._client = client

    def datagram_received(self, data: bytes, addr: _Address) -> None:
        self._relay.from_server(data, self._client)
