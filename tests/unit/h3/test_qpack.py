"""QPACK through our wrapper: RFC 9204 appendix B, and what a hostile peer may send."""

from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywebtransport.h3._constants import H3Error
from pywebtransport.h3._errors import H3ConnectionError
from pywebtransport.h3._qpack import (
    FieldSectionTooLarge,
    Qpack,
    count_field_lines,
    measure_section,
    section_size,
)

AUTHORITY = (b":authority", b"www.example.com")
PATH = (b":path", b"/sample/path")
CUSTOM = (b"custom-key", b"custom-value")


def make(capacity: int = 220, blocked: int = 16, size: int = 65536) -> tuple[Qpack, list[bytes]]:
    qpack = Qpack(capacity, blocked, size)
    sent: list[bytes] = []
    qpack.send_decoder = sent.append
    return qpack, sent


def test_rfc9204_b1_literal_with_static_name() -> None:
    qpack, _ = make()
    section = bytes.fromhex("0000510b2f696e6465782e68746d6c")
    assert qpack.decode(0, section) == [(b":path", b"/index.html")]
    assert count_field_lines(section) == 1


def test_rfc9204_b2_to_b5_dynamic_table() -> None:
    qpack, sent = make()
    # B.2: the section comes first and has to wait for the encoder stream.
    section = bytes.fromhex("03811011")
    assert qpack.decode(4, section) is None
    assert qpack.feed_encoder(bytes.fromhex("3fbd01c00f7777772e6578616d706c652e636f6d")) == []
    assert qpack.feed_encoder(bytes.fromhex("c10c2f73616d706c652f70617468")) == [4]
    assert qpack.resume(4) == [AUTHORITY, PATH]
    assert sent == [bytes.fromhex("84")]
    # B.3: a speculative insert.
    insert = "4a637573746f6d2d6b65790c637573746f6d2d76616c7565"
    assert qpack.feed_encoder(bytes.fromhex(insert)) == []
    # B.4: duplicate, and a section that refers to three entries.
    assert qpack.feed_encoder(bytes.fromhex("02")) == []
    assert qpack.decode(8, bytes.fromhex("050080c181")) == [AUTHORITY, (b":path", b"/"), CUSTOM]
    # B.5: an insert that evicts.
    assert qpack.feed_encoder(bytes.fromhex("810d637573746f6d2d76616c756532")) == []


def test_a_stream_can_be_cancelled() -> None:
    qpack, sent = make()
    assert qpack.decode(8, bytes.fromhex("03811011")) is None
    qpack.cancel(8)
    assert sent == [bytes.fromhex("48")]


def test_nothing_is_sent_without_a_dynamic_table() -> None:
    qpack, sent = make(capacity=0, blocked=0)
    qpack.cancel(0)
    qpack.decode(0, bytes.fromhex("0000d1"))
    qpack.apply_peer_settings(4096, 16)
    assert qpack.encode(0, [CUSTOM])
    assert sent == []


def test_both_directions_with_a_dynamic_table() -> None:
    ours, theirs = Qpack(4096, 16, 65536), Qpack(4096, 16, 65536)
    ours.send_encoder = theirs.feed_encoder
    theirs.send_decoder = ours.feed_decoder
    ours.apply_peer_settings(4096, 16)
    fields = [AUTHORITY, PATH, CUSTOM]
    sizes = []
    for stream_id in range(0, 40, 4):
        section = ours.encode(stream_id, fields)
        sizes.append(len(section))
        assert theirs.decode(stream_id, section) == fields
    assert sizes[-1] < sizes[0]


@pytest.mark.parametrize(
    "section",
    [
        "",  # no prefix
        "00",
        "0000ff",  # cut index
        "0000510b2f69",  # cut value
        "0000ffffffffffffffffffff7f",  # index beyond 62 bits
        "0000ffff01",  # no such static entry
        "000080",  # dynamic entry of an empty table
        "0000510b2f696e6465782e68746d6c10",  # post-base index of an empty table
    ],
)
@pytest.mark.parametrize("capacity", [0, 4096])
def test_bad_sections_are_decompression_failures(section: str, capacity: int) -> None:
    qpack, _ = make(capacity=capacity)
    with pytest.raises(H3ConnectionError) as caught:
        qpack.decode(0, bytes.fromhex(section))
    assert caught.value.code == H3Error.QPACK_DECOMPRESSION_FAILED


def test_blocking_without_leave_is_a_failure() -> None:
    qpack, _ = make(capacity=220, blocked=0)
    with pytest.raises(H3ConnectionError) as caught:
        qpack.decode(4, bytes.fromhex("03811011"))
    assert caught.value.code == H3Error.QPACK_DECOMPRESSION_FAILED


def test_bad_instructions_name_their_stream() -> None:
    qpack, _ = make(capacity=0, blocked=0)
    with pytest.raises(H3ConnectionError) as caught:
        qpack.feed_encoder(bytes.fromhex("3fbd01"))  # a capacity that we did not allow
    assert caught.value.code == H3Error.QPACK_ENCODER_STREAM_ERROR
    with pytest.raises(H3ConnectionError) as caught:
        qpack.feed_decoder(bytes.fromhex("84"))  # acknowledges what was never sent
    assert caught.value.code == H3Error.QPACK_DECODER_STREAM_ERROR


def test_a_section_of_many_short_lines_is_not_decoded() -> None:
    qpack, _ = make(size=1024)
    with pytest.raises(FieldSectionTooLarge):
        qpack.decode(0, b"\x00\x00" + b"\xd1" * 33)
    assert qpack.decode(0, b"\x00\x00" + b"\xd1" * 5) == [(b":method", b"GET")] * 5


def test_the_decoded_size_counts() -> None:
    qpack, _ = make(size=1024)
    plain = Qpack(0, 0, 65536)
    fits = [(b"x", bytes(900))]
    assert qpack.decode(0, plain.encode(0, fits)) == fits
    with pytest.raises(FieldSectionTooLarge):
        qpack.decode(4, plain.encode(4, [(b"x", bytes(1000))]))
    assert section_size([(b"x", bytes(991))]) == 1024


def code_of(call: Callable[[], object]) -> int | None:
    """The code of the private error that ``call`` raises; None: it raises none."""
    try:
        call()
    except H3ConnectionError as error:
        return error.code
    return None


@given(st.binary(max_size=80), st.sampled_from([0, 4096]))
def test_random_sections_raise_nothing_else(section: bytes, capacity: int) -> None:
    qpack, _ = make(capacity=capacity)
    assert code_of(partial(qpack.decode, 0, section)) in (None, 0x200)


@given(st.lists(st.binary(max_size=30), max_size=6))
def test_random_instructions_raise_nothing_else(pieces: list[bytes]) -> None:
    qpack, _ = make(capacity=4096)
    for piece in pieces:
        assert code_of(partial(qpack.feed_encoder, piece)) in (None, 0x201)
        assert code_of(partial(qpack.feed_decoder, piece)) in (None, 0x202)


names = st.from_regex(rb"[a-z][a-z0-9-]{0,12}", fullmatch=True)


@given(st.lists(st.tuples(names, st.binary(max_size=40)), max_size=20))
def test_round_trip(fields: list[tuple[bytes, bytes]]) -> None:
    encoder, (decoder, _) = Qpack(0, 0, 1 << 20), make(capacity=0, size=1 << 20)
    section = encoder.encode(0, fields)
    assert count_field_lines(section) == len(fields)
    decoded = decoder.decode(0, section)
    assert decoded is not None
    assert list(decoded) == fields


@pytest.mark.parametrize("capacity", [0, 4096])
@pytest.mark.parametrize("size", [65_527, 65_535])
def test_a_line_too_long_for_the_coder_is_no_failure(capacity: int, size: int) -> None:
    """Whether it is over the limit or not: the connection lives, and so does the table."""
    qpack, sent = make(capacity=capacity, size=1 << 20)
    section = Qpack(0, 0, 1 << 20).encode(0, [(b"x-token", b"t" * size)])
    with pytest.raises(FieldSectionTooLarge):
        qpack.decode(4, section)
    assert sent == ([bytes.fromhex("44")] if capacity else [])  # Stream Cancellation
    assert list(qpack.decode(8, bytes.fromhex("0000d1")) or ()) == [(b":method", b"GET")]
    if capacity:
        assert qpack.feed_encoder(bytes.fromhex("3fbd014a637573746f6d2d6b6579017a")) == []
        assert qpack.decode(12, bytes.fromhex("020080")) == [(b"custom-key", b"z")]


def test_a_long_line_that_has_to_wait() -> None:
    qpack, sent = make(capacity=4096, size=1 << 20)
    tail = Qpack(0, 0, 1 << 20).encode(0, [(b"x-token", b"t" * 65_530)])[2:]
    assert qpack.decode(4, bytes.fromhex("020080") + tail) is None
    assert qpack.feed_encoder(bytes.fromhex("3fbd014a637573746f6d2d6b6579017a")) == [4]
    with pytest.raises(FieldSectionTooLarge):
        qpack.resume(4)
    assert sent == [bytes.fromhex("44")]
    assert qpack.decode(8, bytes.fromhex("020080")) == [(b"custom-key", b"z")]


def test_what_is_over_the_limit_is_seen_before_it_is_decoded() -> None:
    for fields in ([(b"x", b"\xff" * 2000)], [(b"n" * 2000, b"v")], [(b"a", b"\xfe" * 600)] * 2):
        section = Qpack(0, 0, 1 << 20).encode(0, fields)
        lines, least, longest = measure_section(section)
        assert lines == len(fields)
        assert least <= section_size(fields)
        assert longest >= max(len(name) + len(value) for name, value in fields)
    section = Qpack(0, 0, 1 << 20).encode(0, [(b"x", b"\xff" * 2000)])
    assert measure_section(section)[1] == 2000 + 32 + 1


@given(st.lists(st.tuples(names, st.binary(max_size=40)), max_size=20))
def test_bounds_of_a_section(fields: list[tuple[bytes, bytes]]) -> None:
    lines, least, longest = measure_section(Qpack(0, 0, 1 << 20).encode(0, fields))
    assert lines == len(fields)
    assert least <= section_size(fields)
    assert all(longest + 32 >= len(name) + len(value) for name, value in fields)
