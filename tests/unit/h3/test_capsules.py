"""Capsules: golden bytes, any split, bounded memory, strict lengths."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywebtransport.h3._capsules import (
    FLOW_CONTROL_CAPSULES,
    PROHIBITED_CAPSULES,
    SESSION_CAPSULES,
    SKIPPED,
    Capsule,
    CapsuleParser,
    cut_reason,
    encode_capsule,
    encode_close,
    encode_number,
    parse_close,
    parse_number,
)
from pywebtransport.h3._errors import CapsuleError
from pywebtransport.h3._frames import encode_frame
from pywebtransport.h3._varint import encode_varint

ALL = SESSION_CAPSULES | FLOW_CONTROL_CAPSULES | PROHIBITED_CAPSULES


def parse(pieces: list[bytes], known: frozenset[int] = ALL) -> tuple[list[Capsule], bool]:
    parser = CapsuleParser(known, 65536)
    found = []
    for piece in pieces:
        parser.feed(piece)
        while (capsule := parser.next()) is not None:
            if capsule is not SKIPPED:
                found.append(capsule)
    return found, parser.at_boundary


GOLDEN = [
    ("000a68430700000001627965", encode_close(1, "bye")),
    ("0005800078ae00", encode_capsule(0x78AE, b"")),
    ("0007990b4d3f024064", encode_number(0x190B4D3F, 100)),
    ("0009990b4d3d0480100000", encode_number(0x190B4D3D, 1 << 20)),
]


@pytest.mark.parametrize(("wire", "capsule"), GOLDEN)
def test_golden_bytes(wire: str, capsule: bytes) -> None:
    assert encode_frame(0x00, capsule) == bytes.fromhex(wire)


def test_golden_bytes_are_understood() -> None:
    (close,), _ = parse([bytes.fromhex("68430700000001627965")])
    assert parse_close(close.value) == (1, "bye")
    (limit,), _ = parse([bytes.fromhex("990b4d3d0480100000")])
    assert parse_number(*limit) == 1 << 20


capsule_lists = st.lists(
    st.one_of(
        st.builds(encode_close, st.integers(0, 2**32 - 1), st.text(max_size=20)),
        st.just(encode_capsule(0x78AE, b"")),
        st.builds(
            encode_number, st.sampled_from(sorted(FLOW_CONTROL_CAPSULES)), st.integers(0, 2**62 - 1)
        ),
        st.builds(encode_capsule, st.just(0x00), st.binary(max_size=60)),
        st.builds(
            lambda n, value: encode_capsule(0x29 * n + 0x17, value),
            st.integers(0, 2**50),
            st.binary(max_size=60),
        ),
    ),
    max_size=6,
)


@given(capsule_lists, st.lists(st.integers(0, 400), max_size=12))
def test_any_split_gives_the_same_capsules(capsules: list[bytes], cuts: list[int]) -> None:
    data = b"".join(capsules)
    ends = sorted({min(cut, len(data)) for cut in cuts} | {len(data)})
    pieces = [data[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    assert parse(pieces) == parse([data])
    assert parse([data])[1]


@given(st.lists(st.binary(max_size=40), max_size=10))
def test_random_bytes_raise_nothing_else(pieces: list[bytes]) -> None:
    try:
        parse(pieces)
    except CapsuleError:
        return


@given(st.binary(max_size=1100))
def test_close_is_parsed_or_refused(value: bytes) -> None:
    try:
        code, reason = parse_close(value)
    except CapsuleError:
        return
    assert encode_close(code, reason).endswith(value)


def test_unknown_capsules_are_not_kept() -> None:
    parser = CapsuleParser(ALL, 65536)
    parser.feed(encode_varint(0x17) + encode_varint(1 << 40))
    assert parser.next() is SKIPPED
    for _ in range(64):
        assert parser.next() is None
        assert parser.pending == 0
        assert not parser.at_boundary
        parser.feed(bytes(65536))


def test_large_datagram_capsule_is_dropped() -> None:
    data = encode_capsule(0x00, bytes(65537)) + encode_capsule(0x00, b"small")
    assert parse([data]) == ([Capsule(0, b"small")], True)


@pytest.mark.parametrize(
    "header",
    [
        encode_varint(0x2843) + encode_varint(3),
        encode_varint(0x2843) + encode_varint(1029),
        encode_varint(0x78AE) + encode_varint(1),
        encode_varint(0x190B4D3D) + encode_varint(0),
        encode_varint(0x190B4D3F) + encode_varint(9),
        encode_varint(0x190B4D3E) + encode_varint(1),
        encode_varint(0x190B4D42) + encode_varint(1),
    ],
)
def test_bad_lengths_are_refused_with_the_header(header: bytes) -> None:
    with pytest.raises(CapsuleError):
        parse([header])


def test_capsules_that_are_not_known_are_skipped() -> None:
    data = encode_number(0x190B4D3D, 5) + encode_capsule(0x78AE, b"")
    assert parse([data], SESSION_CAPSULES) == ([Capsule(0x78AE, b"")], True)


@pytest.mark.parametrize("value", [b"", b"\x40", b"\x05\x00", b"\x40\x05\x00"])
def test_a_number_is_exactly_one_varint(value: bytes) -> None:
    with pytest.raises(CapsuleError):
        parse_number(0x190B4D3D, value)


@given(st.text(max_size=1500))
def test_a_reason_is_cut_on_a_character(reason: str) -> None:
    cut = cut_reason(reason)
    assert len(cut) <= 1024
    whole = reason.encode("utf-8", "replace")
    assert whole.startswith(cut)
    assert len(whole) - len(cut) < 4 or len(cut) > 1020


def test_a_reason_with_a_lone_surrogate_can_be_sent() -> None:
    assert cut_reason("a\ud800b") == b"a?b"
