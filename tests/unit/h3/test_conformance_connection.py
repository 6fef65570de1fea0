"""Conformance cases 1 to 30: the HTTP/3 connection.

Each test is named after its number in ``docs/topics/drafts.md``. All of these
can be shown here; cases 51, 92 and 107 belong to QUIC itself and are covered by
``tests/integration/test_conformance_wire.py`` and its sibling for streams, which
also repeat most of the other cases over real packets.
"""

import pytest

from pywebtransport.exceptions import (
    HandshakeError,
    ProtocolError,
    WebTransportNotSupportedError,
)
from pywebtransport.h3._constants import H3Error
from pywebtransport.h3._frames import encode_frame
from pywebtransport.h3._options import H3Options
from pywebtransport.h3._settings import encode_settings
from pywebtransport.h3._varint import encode_varint
from tests.unit.h3.bed import (
    CONNECT,
    DRAFT16,
    SERVER_ONLY,
    ClientBed,
    ServerBed,
    data_frame,
)


def settings_frame(payload: bytes) -> bytes:
    return encode_frame(0x04, payload)


def fails_with(bed: ServerBed | ClientBed, code: int) -> None:
    """The connection was closed with this code, and the application was told."""
    assert bed.close_code == code
    (error,) = bed.events.errors
    assert error.error_code == code
    assert bed.h3.is_closed
    assert bed.clock.pending == 0


def client(settings: dict[int, int]) -> ClientBed:
    """A client whose server sends exactly these settings."""
    bed = ClientBed(silent=True)
    bed.send_settings(settings)
    return bed


@pytest.mark.parametrize(
    "first",
    [
        encode_frame(0x07, b"\x00"),
        encode_frame(0x21, b""),
        encode_frame(0x0D, b"\x00"),
        b"\x00\x00",
    ],
)
def test_case_001_first_control_frame_is_not_settings(first: bytes) -> None:
    bed = ServerBed(settings=None)
    bed.quic.peer_open(True, b"\x00" + first)
    fails_with(bed, 0x10A)


def test_case_002_second_settings() -> None:
    bed = ServerBed()
    bed.send_control(settings_frame(b""))
    fails_with(bed, 0x105)


def test_case_003_settings_on_request_stream() -> None:
    bed = ServerBed()
    bed.quic.peer_open(False, settings_frame(b""))
    fails_with(bed, 0x105)


def test_case_004_duplicate_setting() -> None:
    bed = ServerBed(settings=None)
    bed.quic.peer_open(True, b"\x00" + settings_frame(bytes.fromhex("33013301")))
    fails_with(bed, 0x109)


@pytest.mark.parametrize("identifier", [0x00, 0x02, 0x03, 0x04, 0x05])
def test_case_005_settings_of_http2(identifier: int) -> None:
    bed = ServerBed(settings=None)
    bed.quic.peer_open(True, b"\x00" + settings_frame(bytes([identifier, 1])))
    fails_with(bed, 0x109)


def test_case_006_truncated_settings() -> None:
    bed = ServerBed(settings=None)
    bed.quic.peer_open(True, b"\x00" + settings_frame(b"\x33"))
    fails_with(bed, 0x106)


def test_case_007_unknown_settings_are_ignored() -> None:
    bed = ServerBed({**DRAFT16, 0x21: 7, 0x1F * 5 + 0x21: 9, 0x2B603743: 3})
    session, _, stream = bed.session()
    assert bed.status(stream) == "200"
    assert session.dialect is not None
    assert session.dialect.draft == 16


@pytest.mark.parametrize("bed_type", [ServerBed, client])
def test_case_008_h3_datagram_is_a_switch(bed_type: type[ServerBed]) -> None:
    fails_with(bed_type({**DRAFT16, **SERVER_ONLY, 0x33: 2}), 0x109)


def test_case_009_h3_datagram_without_the_transport_parameter() -> None:
    bed = ServerBed(settings=None)
    bed.quic.peer_max_datagram_frame_size = 0
    bed.send_settings(DRAFT16)
    assert isinstance(bed.h3.webtransport_error, WebTransportNotSupportedError)
    assert "max_datagram_frame_size" in str(bed.h3.webtransport_error)
    assert bed.close_code is None
    assert bed.request().reset_sent == 0x10E
    assert bed.events.requested == []


def test_case_010_wt_enabled_2_to_a_client() -> None:
    fails_with(client({**DRAFT16, **SERVER_ONLY, 0x2C7CF000: 2}), 0x109)


@pytest.mark.parametrize("bed_type", [ServerBed, client])
def test_case_011_draft02_setting_is_a_switch(bed_type: type[ServerBed]) -> None:
    fails_with(bed_type({**DRAFT16, **SERVER_ONLY, 0x2B603742: 2}), 0x109)


@pytest.mark.parametrize("bed_type", [ServerBed, client])
def test_case_012_enable_connect_protocol_is_a_switch(bed_type: type[ServerBed]) -> None:
    fails_with(bed_type({**DRAFT16, 0x08: 2}), 0x109)


@pytest.mark.parametrize("kind", [0x00, 0x02, 0x03])
def test_case_013_second_critical_stream(kind: int) -> None:
    bed = ServerBed()
    if kind:
        bed.quic.peer_open(True, bytes([kind]))
    assert bed.close_code is None
    bed.quic.peer_open(True, bytes([kind]))
    fails_with(bed, 0x103)


@pytest.mark.parametrize("kind", [0x00, 0x02, 0x03])
@pytest.mark.parametrize("how", ["fin", "reset"])
def test_case_014_critical_stream_ends(kind: int, how: str) -> None:
    bed = ServerBed()
    stream = bed.control if kind == 0 else bed.quic.peer_open(True, bytes([kind]))
    assert stream is not None
    assert bed.close_code is None
    if how == "fin":
        stream.feed(fin=True)
    else:
        stream.feed_reset(0x100)
    fails_with(bed, 0x104)


def test_case_014_our_critical_stream_is_stopped() -> None:
    bed = ServerBed()
    bed.our_control.feed_stop(0x100)
    fails_with(bed, 0x104)


@pytest.mark.parametrize("kind", [0x00, 0x01, 0x05])
def test_case_015_message_frames_on_control(kind: int) -> None:
    bed = ServerBed()
    bed.send_control(encode_frame(kind, b""))
    fails_with(bed, 0x105)


@pytest.mark.parametrize("kind", [0x02, 0x06, 0x08, 0x09])
@pytest.mark.parametrize("where", ["control", "first on control", "request", "connect", "client"])
def test_case_016_frames_of_http2(kind: int, where: str) -> None:
    bed: ServerBed | ClientBed
    if where == "client":
        bed = ClientBed()
        _, _, stream = bed.session()
        stream.feed(encode_frame(kind, b""))
    else:
        bed = ServerBed(settings=None if where == "first on control" else DRAFT16)
        if where == "control":
            bed.send_control(encode_frame(kind, b""))
        elif where == "first on control":
            bed.quic.peer_open(True, b"\x00" + encode_frame(kind, b""))
        elif where == "request":
            bed.quic.peer_open(False, encode_frame(kind, b""))
        else:
            bed.session()[2].feed(encode_frame(kind, b""))
    fails_with(bed, 0x105)


def test_case_017_push_stream_of_a_client() -> None:
    bed = ServerBed()
    bed.quic.peer_open(True, b"\x01\x00")
    fails_with(bed, 0x103)


def test_case_017_push_stream_of_a_server_was_not_allowed() -> None:
    bed = ClientBed()
    bed.quic.peer_open(True, b"\x01\x00")
    fails_with(bed, 0x108)


@pytest.mark.parametrize("kind", [0x21, 0x55, 0x1F * 1000 + 0x21])
def test_case_018_unknown_unidirectional_stream(kind: int) -> None:
    bed = ServerBed()
    stream = bed.quic.peer_open(True, encode_varint(kind) + b"whatever")
    assert stream.stop_sent == 0x103
    assert stream.released
    assert bed.close_code is None


@pytest.mark.parametrize("where", ["control", "request"])
def test_case_019_push_promise_of_a_client(where: str) -> None:
    bed = ServerBed()
    if where == "control":
        bed.send_control(encode_frame(0x05, b"\x00"))
    else:
        bed.quic.peer_open(False, encode_frame(0x05, b"\x00"))
    fails_with(bed, 0x105)


def test_case_019_push_promise_of_a_server_was_not_allowed() -> None:
    bed = ClientBed()
    session, _ = bed.open()
    bed.stream_of(session).feed(encode_frame(0x05, b"\x00"))
    fails_with(bed, 0x108)


def test_case_020_max_push_id_to_a_client() -> None:
    bed = ClientBed()
    bed.send_control(encode_frame(0x0D, b"\x00"))
    fails_with(bed, 0x105)


def test_case_020_max_push_id_to_a_server_must_not_shrink() -> None:
    bed = ServerBed()
    bed.send_control(encode_frame(0x0D, b"\x05"))
    bed.send_control(encode_frame(0x0D, b"\x05"))
    assert bed.close_code is None
    bed.send_control(encode_frame(0x0D, b"\x04"))
    fails_with(bed, 0x108)


@pytest.mark.parametrize("bed_type", [ServerBed, ClientBed])
def test_case_021_goaway_grows(bed_type: type[ServerBed]) -> None:
    bed = bed_type()
    bed.send_control(encode_frame(0x07, b"\x08"))
    bed.send_control(encode_frame(0x07, b"\x08"))
    bed.send_control(encode_frame(0x07, b"\x04"))
    assert bed.close_code is None
    assert bed.events.goaways == [8, 8, 4]
    bed.send_control(encode_frame(0x07, b"\x08"))
    fails_with(bed, 0x108)


@pytest.mark.parametrize("last_id", [1, 2, 3, 0x3D])
def test_case_022_goaway_to_a_client_names_no_request(last_id: int) -> None:
    bed = ClientBed()
    bed.send_control(encode_frame(0x07, bytes([last_id])))
    fails_with(bed, 0x108)


@pytest.mark.parametrize("kind", [0x03, 0x07, 0x0D])
@pytest.mark.parametrize("where", ["request", "connect"])
def test_case_023_control_frames_on_a_request_stream(kind: int, where: str) -> None:
    bed = ServerBed()
    if where == "request":
        bed.quic.peer_open(False, encode_frame(kind, b"\x00"))
    else:
        bed.session()[2].feed(encode_frame(kind, b"\x00"))
    fails_with(bed, 0x105)


@pytest.mark.parametrize("first", [b"\x40\x41\x00", b"\x00\x00", b"\x41\x00"])
def test_case_024_server_bidi_stream_without_webtransport(first: bytes) -> None:
    bed = client(SERVER_ONLY)
    bed.quic.peer_open(False, first)
    fails_with(bed, 0x103)


def test_case_024_server_bidi_stream_before_its_settings_turn_out_to_lack_webtransport() -> None:
    bed = ClientBed(silent=True)
    bed.quic.peer_open(False, b"\x40\x41")
    assert bed.close_code is None
    bed.send_settings(SERVER_ONLY)
    bed.quic.streams[1].feed(b"\x00")
    fails_with(bed, 0x103)


@pytest.mark.parametrize("kind", [0xF0700, 0xF0701])
def test_case_025_priority_update_to_a_client(kind: int) -> None:
    bed = ClientBed()
    bed.send_control(encode_frame(kind, b"\x00u=1"))
    fails_with(bed, 0x105)


@pytest.mark.parametrize("kind", [0xF0700, 0xF0701])
def test_case_025_priority_update_off_the_control_stream(kind: int) -> None:
    bed = ServerBed()
    bed.quic.peer_open(False, encode_frame(kind, b"\x00u=1"))
    fails_with(bed, 0x105)


def test_case_025_priority_update_on_control_is_ignored() -> None:
    bed = ServerBed()
    bed.send_control(encode_frame(0xF0700, b"\x00u=1, i"))
    assert bed.close_code is None


@pytest.mark.parametrize(
    ("kind", "payload", "code"),
    [(0xF0700, b"\x01", 0x108), (0xF0701, b"\x00", 0x108), (0xF0700, b"", 0x106)],
)
def test_case_025_priority_update_with_a_bad_id(kind: int, payload: bytes, code: int) -> None:
    bed = ServerBed()
    bed.send_control(encode_frame(kind, payload))
    fails_with(bed, code)


def test_case_026_bad_static_index() -> None:
    bed = ServerBed()
    bed.quic.peer_open(False, encode_frame(0x01, bytes.fromhex("0000ffff01")))
    fails_with(bed, 0x200)


@pytest.mark.parametrize("kind", ["encoded", "decoded", "lines"])
def test_case_027_field_section_over_the_limit(kind: str) -> None:
    bed = ServerBed(options=H3Options(max_field_section_size=2048))
    if kind == "encoded":
        stream = bed.quic.peer_open(False, encode_frame(0x01, bytes(3000)))
    elif kind == "decoded":
        stream = bed.request([*CONNECT, *((f"x-{n}", "v" * 100) for n in range(15))])
    else:
        stream = bed.quic.peer_open(False, encode_frame(0x01, b"\x00\x00" + b"\xd1" * 100))
    assert bed.status(stream) == "431"
    assert bed.close_code is None
    assert bed.session()[2].reset_sent is None


def test_case_027_response_over_the_limit() -> None:
    bed = ClientBed(options=H3Options(max_field_section_size=2048))
    session, events = bed.open()
    stream = bed.stream_of(session)
    bed.respond(session, 200, [("x", "v" * 2100)])
    assert stream.reset_sent == stream.stop_sent == 0x107
    assert bed.close_code is None
    status, _, error = events.only("rejected")
    assert status is None
    assert isinstance(error, ProtocolError)


@pytest.mark.parametrize("cut", [b"\x01", b"\x01\x05abc", b"\x21\x05abc", b"\x21"])
def test_case_028_frame_cut_by_fin(cut: bytes) -> None:
    bed = ServerBed()
    bed.quic.peer_open(False, cut, fin=True)
    fails_with(bed, 0x106)


@pytest.mark.parametrize("cut", [b"\x00", b"\x00\x05abc", b"\x21\x05abc"])
def test_case_028_frame_cut_by_fin_on_a_connect_stream(cut: bytes) -> None:
    bed = ServerBed()
    bed.session()[2].feed(cut, fin=True)
    fails_with(bed, 0x106)


@pytest.mark.parametrize("code", [0, 0xABCDEF, 2**62 - 1])
def test_case_029_unknown_error_code_is_like_any_other(code: int) -> None:
    bed = ServerBed()
    _, events, stream = bed.session()
    stream.feed_reset(code)
    assert events.closed == (None, "", True)
    assert bed.close_code is None


@pytest.mark.parametrize("bed", [lambda: ServerBed(None), lambda: ClientBed(silent=True)])
@pytest.mark.parametrize("sent", ["nothing", "stream type", "half of SETTINGS"])
def test_case_030_control_stream_stays_silent(bed: type[ServerBed], sent: str) -> None:
    made = bed()
    if sent != "nothing":
        frame = settings_frame(encode_settings(DRAFT16))
        made.quic.peer_open(True, b"\x00" + (frame[:5] if sent != "stream type" else b""))
    made.clock.advance(9.9)
    assert made.close_code is None
    made.clock.advance(0.2)
    fails_with(made, H3Error.MISSING_SETTINGS)
    assert isinstance(made.events.errors[0], HandshakeError)


def test_an_oversized_control_frame_is_excessive_load() -> None:
    bed = ServerBed()
    bed.send_control(encode_varint(0x0D) + encode_varint(1 << 20))
    fails_with(bed, 0x107)


@pytest.mark.parametrize("payload", [b"", b"\x00\x00", b"\x40"])
def test_a_goaway_is_exactly_one_varint(payload: bytes) -> None:
    bed = ServerBed()
    bed.send_control(encode_frame(0x07, payload))
    fails_with(bed, 0x106)


def test_cancel_push_names_a_push_that_was_never_promised() -> None:
    bed = ServerBed()
    bed.send_control(encode_frame(0x03, b"\x00"))
    fails_with(bed, 0x108)


def test_the_signal_of_a_stream_is_no_control_frame() -> None:
    bed = ServerBed()
    bed.send_control(b"\x40\x41\x00")
    fails_with(bed, 0x106)


def test_data_before_headers() -> None:
    bed = ServerBed()
    bed.quic.peer_open(False, data_frame(b"x"))
    fails_with(bed, 0x105)
