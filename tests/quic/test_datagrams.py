"""DATAGRAM frames: batches, limits, queues, counters."""

from __future__ import annotations

import pytest

from pywebtransport.exceptions import (
    ConfigurationError,
    DatagramError,
    DatagramTooLargeError,
)

from .harness import Lab

OFF = {"settings": {"max_datagram_frame_size": 0}}


def test_prefix_and_payload_arrive_as_one(lab: Lab) -> None:
    with lab.link() as link:
        for data in (b"bytes", bytearray(b"bytearray"), memoryview(b"-view-")[1:5]):
            assert link.conn.send_datagram(b"\x00", data)
        assert link.conn.send_datagram(b"", b"")
        link.run(lambda: len(link.far.datagrams) == 4)
        assert sorted(link.far.datagrams) == [b"", b"\x00bytearray", b"\x00bytes", b"\x00view"]


def test_datagrams_of_one_turn_come_in_one_call(lab: Lab) -> None:
    with lab.link() as link:
        for number in range(50):
            assert link.conn.send_datagram(b"", b"%d" % number)
        link.run(lambda: len(link.far.datagrams) == 50)
        assert len(link.far.batches) < 25


def test_counters_agree_on_both_ends(lab: Lab) -> None:
    with lab.link() as link:
        for _ in range(300):
            assert link.conn.send_datagram(b"q", bytes(100))
        link.run(lambda: len(link.far.datagrams) == 300)
        link.run(lambda: link.conn.stats()["datagrams_acked"] == 300)
        near, far = link.conn.stats(), link.peer.stats()
        assert near["datagrams_sent"] == far["datagrams_received"] == 300
        assert near["datagrams_lost"] == near["datagrams_dropped"] == near["datagrams_expired"] == 0
        assert near["datagrams_queued"] == link.conn.datagrams_queued == 0


def test_largest_datagram_fits_and_one_more_does_not(lab: Lab) -> None:
    with lab.link() as link:
        size = link.conn.max_datagram_size
        assert size > 1100
        assert link.conn.send_datagram(b"12", bytes(size - 2))
        link.run(lambda: link.far.datagrams)
        assert len(link.far.datagrams[0]) == size
        size = link.conn.max_datagram_size
        for data in (bytes(size - 1), bytearray(size - 1)):
            with pytest.raises(DatagramTooLargeError) as caught:
                link.conn.send_datagram(b"12", data)
            assert caught.value.datagram_size == size - 1
            assert caught.value.max_size == size - 2


def test_peer_without_datagrams(lab: Lab) -> None:
    with lab.link(server=OFF) as link:
        assert link.conn.max_datagram_size == 0
        assert link.conn.peer_max_datagram_frame_size == 0
        assert link.peer.peer_max_datagram_frame_size == 65535
        with pytest.raises(DatagramError, match="does not accept datagrams") as caught:
            link.conn.send_datagram(b"", b"x")
        assert not isinstance(caught.value, DatagramTooLargeError)
        assert caught.value.datagram_size == 1


def test_full_queue_answers_false_and_tells_when_it_drained(lab: Lab) -> None:
    with lab.link(client={"settings": {"datagram_queue_count": 16}}) as link:
        accepted = 0
        while link.conn.send_datagram(b"", b"%d" % accepted):
            accepted += 1
        assert accepted == 16
        assert link.conn.datagrams_queued == 16
        assert link.near.writable == 0
        link.run(lambda: link.near.writable)
        assert link.conn.send_datagram(b"", b"again")
        link.run(lambda: len(link.far.datagrams) == 17)
        assert link.near.writable == 1


def test_expired_datagram_is_counted_and_not_sent(lab: Lab) -> None:
    with lab.link() as link:
        assert link.conn.send_datagram(b"", b"too late", deadline=1)
        assert link.conn.send_datagram(b"", b"in time", deadline=1 << 62)
        link.run(lambda: link.far.datagrams)
        link.settle()
        assert link.far.datagrams == [b"in time"]
        assert link.conn.stats()["datagrams_expired"] == 1


def test_higher_priority_leaves_first(lab: Lab) -> None:
    with lab.link() as link:
        for priority in (0, 1, 2):
            for _ in range(3):
                assert link.conn.send_datagram(b"", b"%d" % priority, priority=priority)
        link.run(lambda: len(link.far.datagrams) == 9)
        assert b"".join(link.far.datagrams) == b"222111000"


@pytest.mark.parametrize("priority", [-1, 3])
def test_priority_out_of_range_is_refused(lab: Lab, priority: int) -> None:
    with lab.link() as link, pytest.raises(ConfigurationError, match="0, 1 or 2"):
        link.conn.send_datagram(b"", b"x", priority=priority)


def test_what_is_no_buffer_is_refused(lab: Lab) -> None:
    with lab.link() as link:
        for data in ("text", None, 7):
            with pytest.raises(TypeError):
                link.conn.send_datagram(b"", data)  # type: ignore[arg-type]


def test_datagrams_of_a_group_are_counted_and_can_be_dropped(lab: Lab) -> None:
    with lab.link() as link:
        group = link.conn.new_group(object())  # type: ignore[arg-type]
        for _ in range(5):
            assert link.conn.send_datagram(b"", bytes(10), group)
        assert group.stats()["datagrams_queued"] == 5
        assert group.stats()["datagrams_queued_bytes"] == 50
        assert group.clear_datagrams() == 5
        assert group.stats()["datagrams_dropped"] == 5
        assert link.conn.send_datagram(b"", b"x", group)
        link.run(lambda: group.stats()["datagrams_acked"] == 1)
        assert link.far.datagrams == [b"x"]
        assert group.stats()["datagrams_sent"] == 1
        group.close()
        assert group.stats()["datagrams_sent"] == 1


def test_group_has_a_limit_of_its_own(lab: Lab) -> None:
    with lab.link() as link:
        group = link.conn.new_group(object())  # type: ignore[arg-type]
        assert group.datagram_limit is None
        group.datagram_limit = 4
        assert group.datagram_limit == 4
        accepted = 0
        while link.conn.send_datagram(b"", b"x", group):
            accepted += 1
        assert accepted == 4
        assert link.conn.send_datagram(b"", b"of no group")
        link.run(lambda: link.near.writable)
        assert link.conn.send_datagram(b"", b"x", group)
        link.run(lambda: len(link.far.datagrams) == 6)
        with pytest.raises(ConfigurationError, match="datagram_limit"):
            group.datagram_limit = -1
