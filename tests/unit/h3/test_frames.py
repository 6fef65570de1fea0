"""Frames: any split gives the same frames, and refused types are refused at once."""

from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywebtransport.h3._frames import SKIP, SKIPPED, STREAM, Frame, FrameParser, encode_frame
from pywebtransport.h3._varint import encode_varint


def policy(frame_type: int) -> int:
    """0: streamed; 1 to 9: collected up to 32 bytes; else skipped."""
    return STREAM if frame_type == 0 else 32 if frame_type < 10 else SKIP


def collect(pieces: list[bytes]) -> tuple[list[Frame], bool]:
    """All frames, pieces of streamed ones joined, and whether the end is at a boundary."""
    parser = FrameParser(policy)
    frames: list[Frame] = []
    streaming = False
    for piece in pieces:
        parser.feed(piece)
        while (frame := parser.next()) is not None:
            if frame is SKIPPED:
                continue
            if frame.type == 0 and streaming and frames[-1].type == 0:
                frames[-1] = Frame(0, (frames[-1].payload or b"") + (frame.payload or b""))
            else:
                frames.append(frame)
            streaming = frame.type == 0 and not parser.at_boundary
    return frames, parser.at_boundary


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({min(cut, len(data)) for cut in cuts} | {len(data)})
    return [data[a:b] for a, b in zip([0, *ends], ends, strict=False)]


frames_strategy = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 12), st.just(0x21), st.integers(0, 2**62 - 1)),
        st.binary(max_size=48),
    ),
    max_size=6,
)


@given(frames_strategy, st.lists(st.integers(0, 400), max_size=12), st.integers(0, 5))
def test_any_split_gives_the_same_frames(
    frames: list[tuple[int, bytes]], cuts: list[int], drop: int
) -> None:
    data = b"".join(encode_frame(kind, payload) for kind, payload in frames)
    data = data[: len(data) - drop]
    # Adjacent DATA frames join in collect(); compare what the bytes mean, not the pieces.
    whole, cut = collect([data]), collect(split(data, cuts))
    assert b"".join(f.payload or b"" for f in whole[0] if f.type == 0) == b"".join(
        f.payload or b"" for f in cut[0] if f.type == 0
    )
    assert [f for f in whole[0] if f.type != 0] == [f for f in cut[0] if f.type != 0]
    assert whole[1] == cut[1]


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=8))
def test_random_bytes_never_raise(data: bytes, cuts: list[int]) -> None:
    collect(split(data, cuts))


def test_streamed_payload_comes_in_pieces() -> None:
    parser = FrameParser(policy)
    parser.feed(b"\x00\x05ab")
    assert parser.next() == Frame(0, b"ab")
    assert parser.next() is None
    assert not parser.at_boundary
    parser.feed(b"cde\x01")
    assert parser.next() == Frame(0, b"cde")
    assert parser.next() is None
    assert parser.pending == 0
    assert not parser.at_boundary


def test_too_large_frame_is_reported_once_and_skipped() -> None:
    parser = FrameParser(policy)
    parser.feed(b"\x01" + encode_varint(1000) + bytes(600))
    assert parser.next() == Frame(1, None)
    assert parser.next() is None
    assert parser.pending == 0
    parser.feed(bytes(400) + encode_frame(1, b"ok"))
    assert parser.next() is SKIPPED
    assert parser.next() == Frame(1, b"ok")
    assert parser.at_boundary


def test_skipped_payload_is_not_kept() -> None:
    parser = FrameParser(policy)
    parser.feed(encode_varint(0x21) + encode_varint(1 << 30))
    for _ in range(64):
        parser.feed(bytes(65536))
        assert parser.next() is None
        assert parser.pending == 0


def test_a_type_is_refused_before_its_length() -> None:
    def refuse(frame_type: int) -> NoReturn:
        raise LookupError(frame_type)

    parser = FrameParser(refuse)
    parser.feed(b"\x40")
    assert parser.next() is None
    parser.feed(b"\x41")
    with pytest.raises(LookupError, match="65"):
        parser.next()
