"""Groups client addresses into networks, and counts per network."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Final

__all__ = ["AddressCounts", "client_network"]


# Addresses whose network is remembered; a client often comes again.
_KNOWN: Final = 256


@lru_cache(_KNOWN)
def client_network(host: str) -> str:
    """Return the network of an address: an IPv4 address itself, the first 64 bits of IPv6.

    A client with one IPv6 address has all of its /64. An IPv4-mapped one is an IPv4 address.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    if address.is_loopback:
        return host
    # Without its zone, which is this machine's own name for a link.
    return address.packed[:8].hex(":", 2) + "::/64"


class AddressCounts:
    """Counts per client address, with a limit.

    Keep the address with which you added one, and remove it with the same address: the count does
    not move with a client that migrates. Memory: one entry for each address that has any.

    Args:
        limit: Limit of one address; None: no limit.
    """

    __slots__ = ("_counts", "_limit")

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._counts: dict[str, int] = {}

    def __len__(self) -> int:
        """Number of addresses that have any."""
        return len(self._counts)

    def is_full(self, network: str) -> bool:
        """Whether an address (by ``client_network``) has reached the limit."""
        return self._limit is not None and self._counts.get(network, 0) >= self._limit

    def add(self, network: str) -> None:
        """One more."""
        self._counts[network] = self._counts.get(network, 0) + 1

    def remove(self, network: str) -> None:
        """One less."""
        left = self._counts[network] - 1
        if left:
            self._counts[network] = left
        else:
            del self._counts[network]
