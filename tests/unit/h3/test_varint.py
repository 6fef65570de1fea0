"""Variable-length integers, with the vectors of RFC 9000 appendix A.1."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywebtransport.h3._varint import MAX_VARINT, decode_varint, encode_varint, varint_size

RFC9000_VECTORS = [
    ("c2197c5eff14e88c", 151288809941952652),
    ("9d7f3e7d", 494878333),
    ("7bbd", 15293),
    ("25", 37),
]


@pytest.mark.parametrize(("encoded", "value"), RFC9000_VECTORS)
def test_rfc9000_vectors(encoded: str, value: int) -> None:
    data = bytes.fromhex(encoded)
    assert decode_varint(data) == (value, len(data))
    assert encode_varint(value) == data


def test_longer_encodings_are_accepted() -> None:
    assert decode_varint(bytes.fromhex("4025")) == (37, 2)
    assert decode_varint(bytes.fromhex("80000025")) == (37, 4)
    assert decode_varint(bytes.fromhex("c000000000000025")) == (37, 8)


@pytest.mark.parametrize(
    ("value", "size"),
    [(0, 1), (63, 1), (64, 2), (16383, 2), (16384, 4), (2**30 - 1, 4), (2**30, 8), (MAX_VARINT, 8)],
)
def test_shortest_encoding_at_the_borders(value: int, size: int) -> None:
    assert varint_size(value) == size
    assert decode_varint(encode_varint(value)) == (value, size)


@pytest.mark.parametrize("value", [-1, MAX_VARINT + 1])
def test_values_out_of_range_are_refused(value: int) -> None:
    with pytest.raises(ValueError, match=str(value)):
        encode_varint(value)


@given(st.integers(0, MAX_VARINT), st.binary(max_size=4), st.binary(max_size=4))
def test_round_trip_inside_other_bytes(value: int, before: bytes, after: bytes) -> None:
    data = before + encode_varint(value) + after
    end = len(data) - len(after)
    assert decode_varint(data, len(before)) == (value, end)
    assert decode_varint(bytearray(data), len(before)) == (value, end)


@given(st.integers(0, MAX_VARINT))
def test_every_cut_is_incomplete(value: int) -> None:
    data = encode_varint(value)
    for end in range(len(data)):
        assert decode_varint(data[:end]) is None
