"""Two connections joined in memory."""

from tests.unit.qmux.bed import Pair, read_all


def test_echo_on_a_bidirectional_stream() -> None:
    pair = Pair()
    stream = pair.client.connection.open_stream(unidirectional=False)
    assert stream is not None
    stream.write(b"hello", fin=True)
    pair.pump()
    (other,) = pair.server.handler.streams
    assert (read_all(other), other.at_eof) == (b"hello", True)
    other.write(b"there", fin=True)
    pair.pump()
    assert (read_all(stream), stream.at_eof, stream.is_acked) == (b"there", True, True)
    assert (stream.is_closed, other.is_closed) == (True, True)
    assert pair.client.errors == pair.server.errors == []
