"""Bytes that other implementations send, and that they get."""

import pytest

from pywebtransport._qmux._errors import QMuxConnectionError
from pywebtransport._qmux._frames import encode_close, stream_header
from pywebtransport._qmux._limits import QMuxLimits
from pywebtransport._qmux._parameters import Parameters, encode_parameters, parse_parameters
from tests.unit.qmux.bed import PARAMETERS_01, PARAMETERS_02, End, read_all

MOQ = Parameters(
    max_idle_timeout=30000,
    max_data=1 << 20,
    max_stream_data_bidi_local=1 << 18,
    max_stream_data_bidi_remote=1 << 18,
    max_stream_data_uni=1 << 18,
    max_streams_bidi=100,
    max_streams_uni=100,
    max_datagram_frame_size=16382,
    max_record_size=16382,
    reset_stream_at=True,
)
ZMUX = bytes.fromhex(
    "ff5153300d0a0d0a407c0104800075300404801000000504800400000604800400000704800400000802410009"
    "01101d0020048000ffff84528a5f008439e07a025000b1e7139d008af391ed00b4b4762100a7856ef01241028c"
    "dc5e999d010a77bdf5af6c5f26b6cbc571c59429cd0845048000ffffc000000b2896ca1f077ce5255ccfad59"
)


def test_parameters_of_moq() -> None:
    assert parse_parameters(PARAMETERS_02[9:], 2) == MOQ
    assert parse_parameters(PARAMETERS_01[9:], 1) == Parameters(
        **{name: getattr(MOQ, name) for name in MOQ.__slots__} | {"reset_stream_at": False}
    )


def test_our_parameters_have_the_same_bytes() -> None:
    assert encode_parameters(MOQ) == PARAMETERS_02


def test_parameters_of_zmux() -> None:
    assert parse_parameters(ZMUX[10:], 2) == Parameters(
        max_idle_timeout=30000,
        max_data=1 << 20,
        max_stream_data_bidi_local=1 << 18,
        max_stream_data_bidi_remote=1 << 18,
        max_stream_data_uni=1 << 18,
        max_streams_bidi=256,
        max_streams_uni=16,
        max_datagram_frame_size=65535,
        max_record_size=65535,
        reset_stream_at=True,
    )


@pytest.mark.parametrize("draft", [1, 2])
def test_our_parameters_are_understood_by_us(draft: int) -> None:
    limits = QMuxLimits(stream_window=70_000, max_streams_bidi=7)
    end = End(is_client=True, draft=draft, limits=limits)
    sent = end.sent()
    assert sent[:8].hex() == "ff5153300d0a0d0a"
    parsed = parse_parameters(sent[9 if sent[8] < 0x40 else 10 :], draft)
    assert parsed == limits.parameters(draft)
    assert parsed.reset_stream_at == (draft == 2)


@pytest.mark.parametrize(
    "records",
    [["0e00000568656c6c6f", "0f000500"], ["0a000568656c6c6f", "0f000500"], ["0b000568656c6c6f"]],
    ids=["moq", "zmux", "in-one"],
)
def test_stream_with_an_end(records: list[str]) -> None:
    end = End().greet()
    end.feed(*records)
    (stream,) = end.handler.streams
    assert (stream.stream_id, stream.is_local, stream.is_unidirectional) == (0, False, False)
    assert (read_all(stream), stream.at_eof) == (b"hello", True)


@pytest.mark.parametrize("size", ["03", "4003", "80000003", "c000000000000003"])
@pytest.mark.parametrize("offset", ["00", "4000", "80000000", "c000000000000000"])
@pytest.mark.parametrize("stream_id", ["02", "4002", "80000002", "c000000000000002"])
def test_integers_of_any_size(stream_id: str, offset: str, size: str) -> None:
    end = End().greet()
    end.feed("0e" + stream_id + offset + size + "010203" + "3102ddee")
    (stream,) = end.handler.streams
    assert (stream.stream_id, read_all(stream)) == (2, b"\1\2\3")
    assert end.handler.datagrams == [b"\xdd\xee"]


def test_reset_of_a_unidirectional_stream() -> None:
    end = End().greet()
    end.feed("0e020003010203", "04020903")
    (stream,) = end.handler.streams
    assert (stream.stream_id, stream.is_unidirectional, stream.reset_code) == (2, True, 9)
    assert (stream.is_reset, stream.is_closed) == (True, True)


@pytest.mark.parametrize(
    "records", [["0a0203010203", "04020000"], ["0a000568656c6c6f", "0b0000"]], ids=["reset", "fin"]
)
def test_streams_of_old_peers_are_not_accepted(records: list[str]) -> None:
    """@moq/qmux before 0.3.3 sends no offsets, and 0 as the final size."""
    end = End(draft=1).greet(PARAMETERS_01)
    sent = end.feed(*records)
    assert sent[:2] == b"\x1c\x06"


def test_stop() -> None:
    end = End(is_client=True).greet()
    end.connection.open_stream(unidirectional=False)
    stream = end.connection.open_stream(unidirectional=False)
    assert stream is not None
    stream.write(b"x")
    end.sent()
    # The answer that QUIC demands: RESET_STREAM with the same code.
    assert end.feed("050408").hex() == "04040801"
    assert (stream.is_stopped, stream.stop_code, stream.can_write) == (True, 8, False)


def test_datagram_and_pings() -> None:
    end = End().greet()
    sent = end.feed("3102ddee", "30ccbb")
    assert end.handler.datagrams == [b"\xdd\xee", b"\xcc\xbb"]
    assert sent == b""
    head = "f48c67529ef8c7bd"
    assert end.feed(head + "00").hex() == "f48c67529ef8c7be00"
    # Several may be answered by one.
    assert end.feed(head + "01", head + "02" + head + "05").hex() == "f48c67529ef8c7be05"


def test_close_with_a_reason() -> None:
    end = End().greet()
    end.feed("1d404d0662796520c3a9")
    assert end.handler.closed is not None
    info = end.handler.closed
    assert (info.kind, info.remote, info.code, info.reason) == ("application", True, 77, "bye é")

    other = End().greet()
    other.sent()
    other.connection.close(77, "bye é")
    assert other.sent().hex() == "1d404d0662796520c3a9"


@pytest.mark.parametrize(
    ("record", "code", "reason"),
    [
        ("1c07011570726f68696269746564206672616d652074797065", 7, "prohibited frame type"),
        ("1c43ea001250726f746f636f6c2076696f6c6174696f6e", 1002, "Protocol violation"),
        ("1c000000", 0, ""),
    ],
    ids=["zmux", "moq", "zmux-answer"],
)
def test_violation_that_a_peer_reports(record: str, code: int, reason: str) -> None:
    end = End().greet()
    end.feed(record)
    assert end.handler.closed is not None
    info = end.handler.closed
    assert (info.kind, info.remote, info.code, info.reason) == ("transport", True, code, reason)


def test_headers_that_we_send() -> None:
    """Readable by the rules of RFC 9000, whatever the sizes of the integers."""
    assert stream_header(0, 0, 5, False).hex() == "0a8000000080000005"
    assert stream_header(4, 5, 0, True).hex() == "0f800000048000000580000000"
    large = stream_header(1 << 40, 1 << 50, 7, False)
    assert large.hex() == "0ec000010000000000c004000000000000c000000000000007"
    assert encode_close(7, b"no", application=False, frame_type=8).hex() == "1c0708026e6f"


def test_too_many_parameters() -> None:
    body = b"".join(bytes.fromhex(f"{0x4100 + n:04x}00") for n in range(300))
    with pytest.raises(QMuxConnectionError, match="too many"):
        parse_parameters(body, 2)
