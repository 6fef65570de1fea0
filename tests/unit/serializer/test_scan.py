"""Large messages are looked at a piece at a time, with the same result."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pywebtransport import SerializationError
from pywebtransport.serializer import JSONSerializer, MsgPackSerializer, _limits, _scan
from pywebtransport.serializer import json as json_module
from pywebtransport.serializer import msgpack as msgpack_module
from pywebtransport.serializer._messages import MessageCodec
from pywebtransport.utils._turns import finish
from tests.support.turns import Clock, Meter
from tests.unit.serializer.test_serializer_json import ALL, made_with

MIB = 2**20
LARGEST = 4 * MIB


def outcome(serializer: Any, data: bytes) -> Any:
    """The value, told apart by type, or why there is none."""
    try:
        return repr(serializer.deserialize(data))
    except SerializationError as error:
        return "items" if "max_items" in error.details else "refused"


texts = st.one_of(
    # Close to JSON, and full of what a cut could go through.
    st.lists(
        st.sampled_from(
            [*'[]{},:"\\a.e é😀', '\\"', "\\\\", "\\ud83d", "\\ude00", "1e999", "null"]
            + [digit * count for digit, count in (("1", 18), ("1", 19), ("9", 400))]
        ),
        max_size=30,
    ).map("".join),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(10**25), 10**25)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text('abc[]{}",:\\1é😀', max_size=12),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.text('a[",\\', max_size=3), inner, max_size=3)
        ),
        max_leaves=20,
    ).map(json.dumps),
)


@settings(max_examples=400, deadline=None)
@given(texts, st.integers(1, 40))
@example('["' + "\\\\" * 5 + '\\"[[[[[[[["]', 3)
@example('["\\ud83d\\ude00", 10000000000000000000]', 1)
@example('[10000000000000000000, "\\ud83d"]', 5)
@example("[0.12345678901234567890123, 1]", 7)
def test_pieces_change_nothing(text: str, piece: int) -> None:
    data = text.encode()
    for first in ALL:
        whole = type(first)(max_items=60, max_depth=5)
        whole._quick_loads = first._quick_loads
        expected = outcome(whole, data)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(json_module, "_LARGE", 0)
            # What long integers and large exponents count as is for large texts alone.
            patch.setattr(_scan, "_SQUARE", 10**9)
            patch.setattr(_scan, "_HARD_ITEMS", 0)
            patch.setattr(_scan, "PIECE", piece)
            patch.setattr(_limits, "PIECE", piece)
            assert outcome(whole, data) == expected
            in_pieces = whole.decoded_size(data)
        assert in_pieces == whole.decoded_size(data)


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none()
        | st.integers(-(2**63), 2**64 - 1)
        | st.binary(max_size=60)
        | st.text("aé[", max_size=9),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.integers(0, 9) | st.text("ab", max_size=2), inner, max_size=3)
        ),
        max_leaves=30,
    ),
    st.integers(1, 40),
    st.integers(-2, 2),
)
def test_pieces_of_messagepack_change_nothing(value: Any, piece: int, change: int) -> None:
    """Nor do they for a message that is cut off, or has something behind it."""
    data = msgpack.packb(value)
    data = data[:change] if change < 0 else data + b"\xc0" * change
    serializer = MsgPackSerializer(max_items=60, max_depth=4)
    expected = outcome(serializer, data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(msgpack_module, "PIECE", piece)
        assert outcome(serializer, data) == expected
    if change:
        assert expected != repr(value)


def lists(size: int) -> bytes:
    return b"[" + b",".join([b"[]"] * (size // 3 - 1)) + b"]"


LARGE: dict[str, bytes] = {
    "one text": b'"' + b"a" * (LARGEST - 2) + b'"',
    "text of brackets": b'"' + b"[" * (LARGEST - 2) + b'"',
    "text of escapes": b'"' + b'\\"' * (LARGEST // 2 - 1) + b'"',
    "text behind a long integer": b'[10000000000000000000,"' + b"\\u00e9" * 600_000 + b'"]',
    "spaces": b"[" + b" " * (LARGEST - 3) + b"1]",
    "quotes": b'"' * LARGEST,
    "brackets": b"]" * LARGEST,
}


@pytest.mark.parametrize("parser", ["orjson", "standard library"])
@pytest.mark.parametrize("name", LARGE)
async def test_a_large_text_is_looked_at_in_slices(
    name: str, parser: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A piece may take half a millisecond: no turn has more of them than fit into its slice."""
    clock, meter = Clock.installed(monkeypatch), Meter()
    pieces = _scan._pieces

    def counted(data: bytes) -> Iterator[bytes]:
        for piece in pieces(data):
            assert len(piece) <= _limits.PIECE + 1
            clock.work(0.0005)
            meter.work()
            yield piece

    monkeypatch.setattr(_scan, "_pieces", counted)
    codec = MessageCodec(made_with(parser), {1: str})
    refused = False
    with meter.running():
        try:
            await codec.decode_in_turns(1, LARGE[name])
        except SerializationError:
            refused = True
    assert refused is not name.startswith(("one text", "text of"))
    assert max(meter.turns) <= 5
    assert sum(meter.turns) >= len(LARGE[name]) // _limits.PIECE


async def test_the_size_of_a_large_text_is_found_in_slices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, meter = Clock.installed(monkeypatch), Meter()
    serializer = JSONSerializer()
    steps = serializer._size_steps

    def counted(data: bytes) -> Any:
        found = steps(data)
        while True:
            try:
                next(found)
            except StopIteration as end:
                return end.value
            clock.work(0.0005)
            meter.work()
            yield

    monkeypatch.setattr(serializer, "_size_steps", counted)
    codec = MessageCodec(serializer, {1: str})
    data = LARGE["one text"]
    with meter.running():
        size = await codec.decoded_size_in_turns(data)
    assert size == JSONSerializer().decoded_size(data)
    assert max(meter.turns) <= 5
    assert sum(meter.turns) >= len(data) // _limits.PIECE - 1


class Feeding:
    """The package, with an unpacker that tells what it is fed."""

    def __init__(self, clock: Clock, meter: Meter) -> None:
        self.OutOfData, self.ExtraData = msgpack.OutOfData, msgpack.ExtraData

        class Unpacker(msgpack.Unpacker):  # type: ignore[misc]
            def feed(self, data: bytes) -> None:
                clock.work(0.0005)
                meter.work(len(data))
                super().feed(data)

        self.Unpacker = Unpacker


@pytest.mark.parametrize(
    "data",
    [
        b"\xdd" + (LARGEST - 5).to_bytes(4, "big") + b"\x90" * (LARGEST - 5),
        b"\xdd" + (LARGEST - 5).to_bytes(4, "big") + b"\xc0" * (LARGEST - 5),
        msgpack.packb(b"\x90" * MIB),
        msgpack.packb([[n, "a" * 60] for n in range(20_000)]),
    ],
    ids=["lists", "nothing", "bytes", "records"],
)
async def test_a_large_messagepack_message_is_read_in_slices(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, meter = Clock.installed(monkeypatch), Meter()
    serializer = MsgPackSerializer()
    codec = MessageCodec(serializer, {1: list, 2: bytes})
    monkeypatch.setattr(serializer, "_msgpack", Feeding(clock, meter))
    refused: SerializationError | None = None
    with meter.running():
        try:
            value = await codec.decode_in_turns(2 if data[0] == 0xC6 else 1, data)
            assert value == msgpack.unpackb(data)
        except SerializationError as error:
            refused = error
    assert refused is None or "max_items" in refused.details
    assert max(meter.turns) <= 5 * _limits.PIECE
    assert sum(meter.turns) >= len(data)


def test_a_bomb_is_refused_before_it_is_looked_at_to_the_end() -> None:
    scan = _scan.json_scan_steps(lists(LARGEST), 131_072, 64)
    with pytest.raises(SerializationError, match="more than max_items=131072"):
        list(itertools.islice(scan, 10))


def test_members_that_are_only_claimed_get_no_room() -> None:
    """A list of four million places would take 32 MiB before anything is in it."""
    data = b"\xdd" + (LARGEST - 5).to_bytes(4, "big") + b"\xc0" * (LARGEST - 5)
    with pytest.raises(SerializationError, match="more than max_items=131072") as caught:
        MsgPackSerializer().deserialize(data)
    assert caught.value.details["max_items"] == 131_072
    with pytest.raises(SerializationError, match="malformed MessagePack"):
        MsgPackSerializer().deserialize(data[:-1])


@pytest.mark.parametrize("serializer", ALL)
def test_very_long_integers_count_as_what_they_take(serializer: JSONSerializer) -> None:
    """The time to convert a string to an integer grows with the square of its digits."""
    keys = [10**616 + n for n in range(300)]
    assert serializer.deserialize(json.dumps(keys).encode()) == keys
    digits = ["1" * 4000] * 1000
    assert serializer.deserialize(json.dumps(digits).encode()) == digits
    bomb = b"[" + b",".join([b"9" * 4299] * 970) + b"]"
    with pytest.raises(SerializationError, match="max_items"):
        serializer.deserialize(bomb)


def test_depth_is_found_across_pieces() -> None:
    serializer = JSONSerializer(max_depth=64)
    filler = b'"' + b"a" * 40_000 + b'",'
    for depth in (63, 64, 65):
        data = b"[" + (filler + b"[") * (depth - 1) + b"]" * depth
        if depth <= 64:
            serializer.deserialize(data)
        else:
            with pytest.raises(SerializationError, match="deeper"):
                serializer.deserialize(data)
    flat = b"[" + b",".join([b"[[]]"] * 10_000) + b"," + filler * 2 + b"1]"
    assert len(serializer.deserialize(flat)) == 10_003
    with pytest.raises(SerializationError, match="deeper"):
        JSONSerializer(max_depth=2).deserialize(flat)


def test_finish_gives_what_the_generator_returns() -> None:
    taken = []

    def steps() -> Any:
        for number in range(3):
            taken.append(number)
            yield
        return "end"

    assert finish(steps()) == "end"
    assert taken == [0, 1, 2]


@pytest.mark.parametrize(
    "number", ["9" * 300 + "e9", "9" * 300 + "e99", "9" * 210 + "e99", "1e400"]
)
@pytest.mark.parametrize("floats", [0, 10_000], ids=["few floats", "many floats"])
def test_a_number_beside_a_long_integer_is_finite(number: str, floats: int) -> None:
    text = f"[12345678901234567890, {number}{', 0.5' * floats}]".encode()
    with pytest.raises(SerializationError, match="too large"):
        JSONSerializer().deserialize(text)
    text = text.replace(number.encode(), b"9" * 209 + b"e99")
    assert len(JSONSerializer().deserialize(text)) == floats + 2


def test_no_rise_is_missed() -> None:
    for size in range(1, 13):
        for choice in itertools.product(b"[]", repeat=size):
            brackets = bytes(choice)
            rise = max(itertools.accumulate(1 if one == 91 else -1 for one in brackets))
            for room in (0, 1):
                assert (_scan._rise(brackets, room) > room) >= (rise > room), brackets


HARD = b"1.2345678901234567e-300"
LONG = b",10000000000000000000]"
"""Nothing but the standard library reads this integer."""


def numbers(number: bytes, count: int, end: bytes = LONG) -> bytes:
    return b"[" + b",".join([number] * count) + end


@pytest.mark.parametrize("number", [HARD, b"1e300", b"1E+0000999", b"-0.1e-0100"])
def test_numbers_that_take_long_count_as_several_items(number: bytes) -> None:
    """A parser cannot be interrupted: 131,072 of these took it 80 ms."""
    serializer = JSONSerializer(max_items=160_000)
    most = serializer.max_items // 8
    with pytest.raises(SerializationError, match="exponent of three digits as 8") as refused:
        serializer.deserialize(numbers(number, most + 100))
    assert refused.value.details == {"max_items": 160_000}
    if b"999" not in number:  # which is too large for a float
        data = numbers(number, most - 10)
        assert serializer.deserialize(data) == [float(number)] * (most - 10) + [10**19]


@pytest.mark.parametrize(
    "text",
    [
        numbers(b"0.12345678901234567", 131_000),
        numbers(b"1.2345678901234567e-99", 100_000),
        numbers(b'"1.5e300 \\" 1e-300"', 60_000),
        numbers(HARD, 2_800),  # a small text
        numbers(HARD, 16_000),
    ],
    ids=["ordinary", "two digits", "strings", "small", "some"],
)
@pytest.mark.parametrize("serializer", ALL, ids=["orjson", "msgspec", "standard"])
def test_ordinary_numbers_and_strings_count_once(serializer: JSONSerializer, text: bytes) -> None:
    assert serializer.deserialize(text) == json.loads(text)


def test_a_quick_parser_takes_as_many_as_there_are_items() -> None:
    serializer = made_with("orjson")
    text = numbers(HARD, 100_000, b"]")
    assert serializer.deserialize(text) == json.loads(text)
