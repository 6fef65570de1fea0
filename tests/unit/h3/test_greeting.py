"""SETTINGS of a server that leave during the handshake, before there is an HTTP/3 connection."""

from pywebtransport.h3._frames import encode_frame
from pywebtransport.h3._options import H3Options
from pywebtransport.h3._settings import greeting
from pywebtransport.h3._varint import encode_varint
from tests.unit.h3.bed import Bed, ServerBed


def test_settings_that_were_sent_during_the_handshake_are_not_sent_again() -> None:
    options = H3Options(qpack_max_table_capacity=4096)
    plain = ServerBed(settings=None, options=options)
    bed = Bed(is_client=False, options=options, start=False)
    control = bed.quic.greet(greeting(options))
    bed.h3.send_goaway()
    bed.h3.start()
    first, *others = bed.quic.local(True)
    assert first is control
    goaway = encode_frame(0x07, encode_varint(2**62 - 4))
    assert bytes(first.sent) == bytes(plain.our_control.sent) + goaway
    assert first.send_order == 2**63 - 1
    assert [stream.sent[:1] for stream in others] == [b"\x02", b"\x03"]
    bed.h3.finish_goaway()
    assert len(first.sent) > len(plain.our_control.sent) + len(goaway)
    first.feed_stop(7)
    assert bed.quic.closed is not None
    assert bed.quic.closed[0] == 0x104  # H3_CLOSED_CRITICAL_STREAM


def test_a_client_that_has_ended_the_stream_meanwhile_breaks_a_rule() -> None:
    bed = Bed(is_client=False, start=False)
    control = bed.quic.greet(greeting(H3Options()))
    bed.h3.send_goaway()
    control.feed_stop(7)
    bed.h3.start()
    control.sink(control)
    assert bed.quic.closed is not None
    assert bed.quic.closed[0] == 0x104
