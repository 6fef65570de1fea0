"""Datagrams that are sent before the peer's parameters are here."""

import pytest

from pywebtransport._qmux._limits import QMuxLimits
from pywebtransport.exceptions import DatagramError, DatagramTooLargeError
from tests.unit.qmux.bed import PARAMETERS_02, End

# The same without max_datagram_frame_size, and with room for a payload of 10 bytes.
WITHOUT = PARAMETERS_02.replace(bytes.fromhex("20027ffe"), bytes.fromhex("33027ffe"))
SMALL = PARAMETERS_02.replace(bytes.fromhex("20027ffe"), bytes.fromhex("2002400c"))


def early(*datagrams: bytes, limits: QMuxLimits | None = None) -> End:
    """An end whose parameters have gone out."""
    end = End(limits=limits)
    end.link.take()
    for data in datagrams:
        assert end.connection.send_datagram(b"", data)
    assert end.sent() == b""
    return end


def test_they_go_out_with_the_first_record_after_them() -> None:
    end = early(b"one", b"two")
    assert (
        end.feed(PARAMETERS_02) == bytes.fromhex("3103") + b"one" + bytes.fromhex("3103") + b"two"
    )
    assert end.connection.stats()["datagrams_sent"] == 2


def test_those_that_are_too_large_for_the_peer_are_dropped() -> None:
    end = early(bytes(11), b"0123456789")
    assert end.feed(SMALL) == bytes.fromhex("310a") + b"0123456789"
    stats = end.connection.stats()
    assert (stats["datagrams_sent"], stats["datagrams_dropped"]) == (1, 1)
    assert end.connection.datagrams_queued == 0


def test_all_are_dropped_if_the_peer_takes_none() -> None:
    end = early(b"", b"one")
    assert end.feed(WITHOUT) == b""
    assert end.connection.stats()["datagrams_dropped"] == 2
    with pytest.raises(DatagramError):
        end.connection.send_datagram(b"", b"later")


def test_the_queue_has_its_limit() -> None:
    limits = QMuxLimits(datagram_queue=2)
    end = early(b"one", b"two", limits=limits)
    assert not end.connection.send_datagram(b"", b"three")


def test_none_is_larger_than_a_record_of_the_default_size() -> None:
    end = early(bytes(16379))
    with pytest.raises(DatagramTooLargeError):
        end.connection.send_datagram(b"", bytes(16380))
