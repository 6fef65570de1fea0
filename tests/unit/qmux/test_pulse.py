"""Idle connections, pings, and the time for the parameters."""

import pytest

from pywebtransport._qmux._limits import QMuxLimits
from pywebtransport._qmux._parameters import Parameters, encode_parameters
from tests.unit.qmux.bed import End, Pair


def end_with(idle: float, keep_alive: float, peer_ms: int) -> End:
    limits = QMuxLimits(idle_timeout=idle, keep_alive=keep_alive)
    end = End(limits=limits).greet(encode_parameters(Parameters(max_idle_timeout=peer_ms)))
    end.sent()
    return end


@pytest.mark.parametrize(
    ("idle", "peer", "effective"),
    [(12, 0, 12), (12, 6000, 6), (6, 12000, 6), (0, 6000, 6), (6, 1, 0.3), (0, 1, 0.3)],
)
def test_the_smaller_timeout_of_both_counts(idle: float, peer: int, effective: float) -> None:
    end = end_with(idle, 0, peer)
    end.clock.advance(effective * 0.99)
    assert end.handler.closed is None
    end.clock.advance(effective / 5)
    assert end.handler.closed is not None
    assert (end.handler.closed.kind, end.handler.closed.remote) == ("idle", False)
    assert (end.sent(), end.link.closed, end.clock.waiting) == (b"", 1001, 0)


def test_never_idle() -> None:
    end = end_with(0, 0, 0)
    assert end.clock.waiting == 0
    end.clock.advance(10**6)
    assert end.handler.closed is None


def test_records_from_the_peer_keep_it_alive() -> None:
    end = end_with(6, 0, 0)
    for _ in range(20):
        end.clock.advance(5.5)
        end.feed("00")
    assert end.handler.closed is None
    end.clock.advance(7.1)
    assert end.handler.closed is not None


def test_sending_alone_does_not_keep_a_dead_connection() -> None:
    parameters = Parameters(max_streams_uni=1, max_stream_data_uni=1000, max_data=1000)
    end = End(limits=QMuxLimits(idle_timeout=6)).greet(encode_parameters(parameters))
    end.sent()
    stream = end.connection.open_stream(unidirectional=True)
    assert stream is not None
    seconds = 0
    while end.handler.closed is None:
        stream.write(b"x")
        assert end.sent()
        end.clock.advance(1)
        seconds += 1
        assert seconds < 20
    assert 6 <= seconds <= 8


def test_pings_keep_two_ends_alive() -> None:
    limits = QMuxLimits(idle_timeout=6, keep_alive=2)
    pair = Pair(client=limits, server=QMuxLimits(idle_timeout=6))
    for _ in range(200):
        pair.clock.advance(0.5)
        pair.pump()
    assert pair.client.handler.closed is None
    assert pair.server.handler.closed is None
    # One ping and one answer in two to three seconds.
    assert 60 <= pair.records <= 110


def test_pings_do_not_keep_a_dead_peer_alive() -> None:
    end = end_with(6, 1, 0)
    pings = 0
    for _ in range(20):
        end.clock.advance(0.5)
        pings += bool(end.sent())
    assert end.handler.closed is not None
    assert end.handler.closed.kind == "idle"
    assert 3 <= pings <= 8


def test_pings_without_an_idle_timeout() -> None:
    end = end_with(0, 4, 0)
    end.clock.advance(13)
    assert end.sent().hex() == "f48c67529ef8c7bd00"  # one, as long as it is not handed over
    end.clock.advance(13)
    assert end.sent().hex() == "f48c67529ef8c7bd01"
    end.feed("f48c67529ef8c7be01", "f48c67529ef8c7be00")
    assert end.handler.closed is None


def test_no_ping_while_records_are_sent() -> None:
    parameters = Parameters(max_streams_uni=1, max_stream_data_uni=1000, max_data=1000)
    limits = QMuxLimits(idle_timeout=0, keep_alive=4)
    end = End(limits=limits).greet(encode_parameters(parameters))
    end.sent()
    stream = end.connection.open_stream(unidirectional=True)
    assert stream is not None
    for _ in range(20):
        stream.write(b"x")
        assert b"\xf4\x8c" not in end.sent()
        end.clock.advance(1.9)


def test_the_time_for_the_parameters_ends_with_them() -> None:
    end = End(limits=QMuxLimits(handshake_timeout=1, idle_timeout=0))
    assert end.clock.waiting == 1
    end.greet(encode_parameters(Parameters()))
    assert end.clock.waiting == 0
    end.clock.advance(100)
    assert end.handler.closed is None


def test_a_new_connection_is_not_idle_but_unfinished() -> None:
    end = End(limits=QMuxLimits(handshake_timeout=100, idle_timeout=1))
    end.clock.advance(99)
    assert end.handler.closed is None
    end.clock.advance(2)
    assert end.handler.closed is not None
    assert end.handler.closed.kind == "handshake_timeout"
    assert not end.handler.closed.handshake_done
