"""Limits per client address at a broker."""

from __future__ import annotations

from collections import Counter

from ..utils._networks import AddressCounts

__all__ = ["AddressShares"]


class AddressShares:
    """Counts the subscriptions of each client address, and their different patterns.

    Args:
        max_subscriptions: Subscriptions per address; None: no limit.
        max_patterns: Different patterns per address; None: no limit.
    """

    __slots__ = ("_max_patterns", "_max_subscriptions", "_patterns", "_subscriptions")

    def __init__(self, max_subscriptions: int | None, max_patterns: int | None) -> None:
        self._max_subscriptions = max_subscriptions
        self._max_patterns = max_patterns
        self._subscriptions = AddressCounts(max_subscriptions)
        # For each address, how many subscriptions use each pattern.
        self._patterns: dict[str, Counter[str]] = {}

    def __len__(self) -> int:
        """How many addresses have subscriptions."""
        return len(self._patterns)

    def refusal(self, network: str, pattern: str) -> str | None:
        """Return why an address may not have another subscription, as a message for its client."""
        if self._subscriptions.is_full(network):
            return (
                f"one client address may have {self._max_subscriptions} subscriptions "
                "(max_subscriptions_per_address)"
            )
        own = self._patterns.get(network)
        if (
            self._max_patterns is not None
            and own is not None
            and len(own) >= self._max_patterns
            and pattern not in own
        ):
            return (
                f"one client address may subscribe to {self._max_patterns} patterns "
                "(max_patterns_per_address)"
            )
        return None

    def add(self, network: str, pattern: str) -> None:
        """Count another subscription."""
        self._subscriptions.add(network)
        self._patterns.setdefault(network, Counter())[pattern] += 1

    def remove(self, network: str, pattern: str) -> None:
        """Count one subscription less."""
        self._subscriptions.remove(network)
        own = self._patterns[network]
        own[pattern] -= 1
        if not own[pattern]:
            del own[pattern]
        if not own:
            del self._patterns[network]
