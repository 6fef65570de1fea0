"""Datagrams: sizes, priorities, deadlines and the queue; all of it before they are in a record."""

from typing import Any

import pytest

from pywebtransport._qmux._datagrams import DatagramQueue, largest_datagram
from pywebtransport._qmux._limits import QMuxLimits
from pywebtransport._qmux._parameters import Parameters, encode_parameters
from pywebtransport.exceptions import ConfigurationError, DatagramError, DatagramTooLargeError
from pywebtransport.utils import _clock as clock
from tests.unit.qmux.bed import End, Pair


class Nobody:
    def group_blocked(self, limit: int) -> None: ...
    def group_violated(self, received: int, limit: int) -> None: ...
    def group_credit_due(self) -> None: ...


def end_with(frame_size: int, **limits: int) -> End:
    parameters = encode_parameters(Parameters(max_datagram_frame_size=frame_size))
    end = End(is_client=True, limits=QMuxLimits(**limits)).greet(parameters)
    end.sent()
    return end


@pytest.mark.parametrize(
    ("frame", "payload"),
    [
        (0, 0),
        (1, 0),
        (2, 0),
        (3, 1),
        (65, 63),
        (66, 63),
        (67, 64),
        (16382, 16379),
        (16386, 16383),
        (16387, 16383),
        (65535, 65530),
        ((1 << 30) + 5, (1 << 30) - 1),
        (1 << 40, (1 << 40) - 9),
    ],
)
def test_largest_datagram(frame: int, payload: int) -> None:
    assert largest_datagram(frame) == payload


def test_the_largest_one_passes_and_a_larger_one_is_refused() -> None:
    pair = Pair(
        server=QMuxLimits(max_datagram_frame_size=3000, max_record_size=16382),
        client=QMuxLimits(max_datagram_frame_size=1 << 20, max_record_size=20000),
    )
    client, server = pair.client.connection, pair.server.connection
    assert (client.max_datagram_size, server.max_datagram_size) == (2997, 19995)
    assert client.peer_max_datagram_frame_size == 3000
    assert client.send_datagram(b"ab", bytes(2995))
    assert server.send_datagram(b"", bytes(19995))
    pair.pump()
    assert pair.server.handler.datagrams == [b"ab" + bytes(2995)]
    assert pair.client.handler.datagrams == [bytes(19995)]
    with pytest.raises(DatagramTooLargeError) as caught:
        client.send_datagram(b"ab", bytes(2996))
    assert (caught.value.datagram_size, caught.value.max_size) == (2996, 2995)


def test_peer_that_wants_none() -> None:
    end = end_with(0)
    assert end.connection.max_datagram_size == 0
    with pytest.raises(DatagramError, match="accepts none"):
        end.connection.send_datagram(b"", b"x")


def test_order_by_priority_and_arrival() -> None:
    end = end_with(100)
    for number, priority in enumerate((0, 2, 1, 2, 0)):
        assert end.connection.send_datagram(b"", bytes([number]), None, priority)
    assert end.connection.datagrams_queued == 5
    assert end.sent().hex() == "310101" + "310103" + "310102" + "310100" + "310104"
    wrong: list[Any] = [-1, 3, None]
    for value in wrong:
        with pytest.raises(ConfigurationError, match="priority"):
            end.connection.send_datagram(b"", b"x", None, value)


def test_datagrams_go_before_streams_and_after_control_frames() -> None:
    end = End(is_client=True).greet()
    end.sent()
    stream = end.connection.open_stream(unidirectional=True)
    assert stream is not None
    stream.write(b"data")
    end.connection.send_datagram(b"", memoryview(b"dgram"))
    end.connection.receive(bytes.fromhex("f48c67529ef8c7bd05"))
    sent = end.sent()
    assert sent.startswith(bytes.fromhex("f48c67529ef8c7be05"))
    assert sent.index(b"dgram") < sent.index(b"data")


def test_queue_is_bounded_and_tells_when_there_is_room() -> None:
    end = end_with(16382, datagram_queue=10)
    payload = bytes(4000)
    assert [end.connection.send_datagram(b"", payload) for _ in range(12)] == [True] * 10 + [
        False
    ] * 2
    end.link.take(1)
    assert end.connection.datagrams_queued == 6
    assert end.handler.writable == 0
    end.link.take(1)
    assert end.connection.datagrams_queued == 2
    assert end.handler.writable == 1
    end.link.take()
    assert (end.connection.datagrams_queued, end.handler.writable) == (0, 1)
    stats = end.connection.stats()
    assert (stats["datagrams_sent"], stats["datagrams_queued"]) == (10, 0)


def test_what_is_too_old_is_dropped_before_it_is_sent() -> None:
    end = end_with(100, datagram_queue=3)
    past, future = clock.monotonic_ns() - 1, clock.monotonic_ns() + 10**12
    assert end.connection.send_datagram(b"", b"a", None, 0, past)
    assert end.connection.send_datagram(b"", b"b", None, 0, future)
    assert end.connection.send_datagram(b"", b"c", None, 1, past)
    # A full queue drops the old ones first.
    assert end.connection.send_datagram(b"", b"d", None, 0, None)
    assert end.connection.datagrams_queued == 2
    assert end.connection.send_datagram(b"", b"e", None, 2, past)
    assert end.sent().hex() == "310162" + "310164"
    stats = end.connection.stats()
    assert (stats["datagrams_expired"], stats["datagrams_sent"]) == (3, 2)
    assert end.connection.datagrams_queued == 0


def test_group_has_a_limit_and_counters() -> None:
    end = end_with(100, datagram_queue=5)
    group = end.connection.new_group(Nobody())
    group.datagram_limit = 2
    assert group.datagram_limit == 2
    assert [end.connection.send_datagram(b"", b"xy", group) for _ in range(3)] == [
        True,
        True,
        False,
    ]
    stats = group.stats()
    assert (stats["datagrams_queued"], stats["datagrams_queued_bytes"]) == (2, 4)
    assert group.clear_datagrams() == 2
    assert group.stats()["datagrams_dropped"] == 2
    end.clock.turn()  # even if the link takes nothing
    assert end.handler.writable == 1
    assert end.sent() == b""
    group.datagram_limit = 100
    assert [end.connection.send_datagram(b"", b"x") for _ in range(6)] == [True] * 5 + [False]
    group.close()
    assert end.connection.datagrams_queued == 0


def test_a_datagram_that_does_not_fit_waits_for_the_next_record() -> None:
    queue = DatagramQueue(5)
    queue.put(b"", bytes(50), 0, None)
    parts: list[bytes] = []
    assert queue.take(20, parts) == 20
    assert (parts, queue.count) == ([], 1)
    assert queue.take(100, parts) == 100 - 52
    assert queue.count == 0


def test_datagrams_of_one_record_are_one_event() -> None:
    end = End().greet()
    calls: list[list[bytes]] = []
    end.handler.datagrams_received = calls.append  # type: ignore[method-assign,assignment]
    end.feed("310161" + "0a000161" + "310162", "3000")
    assert calls == [[b"a", b"b"], [b"\0"]]
    assert end.connection.stats()["datagrams_received"] == 3
