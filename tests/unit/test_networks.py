"""Client addresses: which of them are one client's, and what each of them has."""

from __future__ import annotations

import pytest

from pywebtransport import ServerConfig
from pywebtransport._core.settings import quic_settings
from pywebtransport.pubsub._shares import AddressShares
from pywebtransport.utils._networks import AddressCounts, client_network


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:0:1::1", "2001:0db8:0000:0001::/64"),
        ("2001:db8:0:1:ffff:ffff:ffff:ffff", "2001:0db8:0000:0001::/64"),
        ("2001:db8:0:2::1", "2001:0db8:0000:0002::/64"),
        ("fe80::1%eth0", "fe80:0000:0000:0000::/64"),
        ("::1", "::1"),
    ],
)
def test_whom_an_address_stands_for(host: str, network: str) -> None:
    assert client_network(host) == network


def test_counts_come_and_go() -> None:
    counts = AddressCounts(2)
    for _ in range(2):
        assert not counts.is_full("a")
        counts.add("a")
    assert counts.is_full("a")
    assert not counts.is_full("b")
    counts.remove("a")
    assert not counts.is_full("a")
    counts.remove("a")
    assert len(counts) == 0
    with pytest.raises(KeyError):
        counts.remove("a")


def test_without_a_limit_nobody_is_full() -> None:
    counts = AddressCounts(None)
    for _ in range(1000):
        counts.add("a")
    assert not counts.is_full("a")


def test_shares_of_subscriptions_and_patterns() -> None:
    shares = AddressShares(3, 2)
    shares.add("a", "x")
    shares.add("a", "y")
    refusal = shares.refusal("a", "z")
    assert refusal is not None
    assert "max_patterns_per_address" in refusal
    assert shares.refusal("a", "x") is None  # the backend has it already
    assert shares.refusal("b", "z") is None
    shares.add("a", "x")
    refusal = shares.refusal("a", "x")
    assert refusal is not None
    assert "max_subscriptions_per_address" in refusal
    shares.remove("a", "x")
    assert shares.refusal("a", "z") is not None
    shares.remove("a", "x")
    assert shares.refusal("a", "z") is None
    shares.remove("a", "y")
    assert len(shares) == 0


def test_what_auto_stands_for() -> None:
    config = ServerConfig()
    assert config.address_connections == config.max_connections * 3 // 4
    assert config.address_sessions == config.max_sessions * 3 // 4
    small = ServerConfig(max_connections=3, max_sessions=50)
    assert (small.address_connections, small.address_sessions) == (100, 100)
    off = ServerConfig(max_connections_per_address=None, max_sessions_per_address=None)
    assert off.address_connections is None
    assert off.address_sessions is None


def test_without_a_limit_half_open_connections_have_none_either() -> None:
    """Behind a forwarder all clients have one address, also while they connect."""
    default, off = ServerConfig(), ServerConfig(max_connections_per_address=None)
    assert "max_half_open_per_address" not in quic_settings(default)  # the engine's 1,024
    assert quic_settings(default)["max_connections_per_address"] == default.address_connections
    assert quic_settings(off)["max_half_open_per_address"] == 0
    assert quic_settings(off)["max_connections_per_address"] == 0
