"""What a peer sends on a stream that this end has stopped."""

from tests.unit.qmux.bed import End

BIDI_5 = "0a000568656c6c6f"


def stopped() -> End:
    """Five bytes have arrived on stream 0, and STOP_SENDING was sent."""
    end = End().greet()
    end.feed(BIDI_5)
    (stream,) = end.handler.streams
    stream.stop_sending(8)
    assert bytes.fromhex("050008") in end.sent()
    return end


def test_a_reset_may_count_less_than_has_arrived() -> None:
    """@moq/qmux 0.3.3 does not count the frame that it was sending when it was stopped."""
    end = stopped()
    end.feed("04000802")
    (stream,) = end.handler.streams
    assert end.handler.closed is None
    assert stream.is_reset
    assert stream.reset_code == 8
    # Its end is where the data ended, not where the reset has put it.
    end.feed("0a020105", "04000805")
    assert end.handler.closed is None
    end.feed("04000802")
    assert end.handler.closed is not None
    assert end.handler.closed.code == 6
