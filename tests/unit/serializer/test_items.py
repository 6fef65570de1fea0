"""Messages that become much: counted before anything is made of them."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgpack
import pytest
from google.protobuf import descriptor_pb2, struct_pb2

from pywebtransport import ConfigurationError, SerializationError
from pywebtransport.serializer import JSONSerializer, MsgPackSerializer, ProtobufSerializer
from pywebtransport.serializer._messages import MessageCodec
from tests.support.turns import Clock, Meter

MIB = 2**20


def as_json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


FORMATS: dict[str, tuple[Callable[..., Any], Callable[[Any], bytes]]] = {
    "JSON": (JSONSerializer, as_json),
    "MessagePack": (MsgPackSerializer, msgpack.packb),
}
BOMBS: dict[str, Any] = {
    "empty arrays": [[]] * 250_000,
    "arrays in arrays": [[[[[1]]]]] * 60_000,
    "empty objects": [{}] * 250_000,
    "objects": [{"a": 1}] * 100_000,
    "one object": {f"{n:x}": 0 for n in range(120_000)},
    "numbers": [1] * 500_000,
    "short texts": ["a"] * 250_000,
    "texts with quotes": ['"'] * 200_000,
    "nothing": [None] * 200_000,
}
HONEST: dict[str, Any] = {
    "numbers": [n / 7 for n in range(100_000)],
    "records": [{"id": n, "name": f"item {n}", "tags": ["a", "b"]} for n in range(5000)],
    "points": [[n, n + 1] for n in range(20_000)],
    "a table as text": "a,b,c:[{}],\n" * 200_000,
    "many texts": ["some text, with [brackets], {braces}: and so on"] * 20_000,
    "quotes": ['\\",[[[[' * 50] * 2000,
}


def refusal(serializer: Any, data: bytes) -> tuple[SerializationError, int]:
    """Why a message is refused, and how much memory that took at most."""
    with pytest.raises(SerializationError) as caught:
        serializer.deserialize(data)
    tracemalloc.start()
    try:
        with pytest.raises(SerializationError):
            serializer.deserialize(data)
        return caught.value, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("name", FORMATS)
def test_a_bomb_is_refused_before_it_is_made(name: str, bomb: str) -> None:
    make, encode = FORMATS[name]
    data = encode(BOMBS[bomb])
    error, memory = refusal(make(), data)
    assert "more than max_items=131072" in str(error)
    assert error.details["max_items"] == 131_072
    # Copies of the text at most, and in MessagePack containers up to the limit.
    assert memory < 3 * len(data) + 13 * MIB


@pytest.mark.parametrize("value", HONEST.values(), ids=HONEST)
@pytest.mark.parametrize("name", FORMATS)
def test_what_is_large_and_honest_passes_both_ways(name: str, value: Any) -> None:
    make, _ = FORMATS[name]
    serializer = make()
    assert serializer.deserialize(serializer.serialize(value)) == value


@pytest.mark.parametrize("name", FORMATS)
def test_the_limit_holds_both_ways_and_can_be_chosen(name: str) -> None:
    make, encode = FORMATS[name]
    value = [[n] for n in range(1000)]
    for limit, fits in ((3000, False), (10_000, True)):
        serializer = make(max_items=limit)
        assert serializer.max_items == limit
        if fits:
            assert serializer.deserialize(serializer.serialize(value)) == value
            continue
        for use in (lambda s=serializer: s.deserialize(encode(value)),
                    lambda s=serializer: s.serialize(value)):  # fmt: skip
            with pytest.raises(SerializationError, match=f"max_items={limit}"):
                use()


@pytest.mark.parametrize("value", [0, -1, 2**40, 1.5, True, None, "1"])
@pytest.mark.parametrize(
    "make",
    [JSONSerializer, MsgPackSerializer, lambda **k: ProtobufSerializer(struct_pb2.Struct, **k)],
    ids=["JSON", "MessagePack", "Protocol Buffers"],
)
def test_an_impossible_limit_is_refused(make: Callable[..., Any], value: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_items") as caught:
        make(max_items=value)
    assert caught.value.config_key == "max_items"


SHAPES: dict[str, Any] = {
    **{name: value[: len(value) // 20] for name, value in BOMBS.items() if type(value) is list},
    "one object": {f"{n:x}": 0 for n in range(4000)},
    "floats": [n / 7 for n in range(20_000)],
    "large numbers": [2**40 + n for n in range(20_000)],
    "objects of texts": [{"id": f"{n}", "name": f"item {n}"} for n in range(3000)],
    "a long text": "x" * 500_000,
}


def traced_size(serializer: Any, data: bytes) -> int:
    """The bytes that a decoded message takes."""
    tracemalloc.start()
    try:
        value = serializer.deserialize(data)
        real = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert value
    return real


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", FORMATS)
def test_the_size_in_memory_is_known_before_decoding(name: str, shape: str) -> None:
    make, encode = FORMATS[name]
    serializer, data = make(), encode(SHAPES[shape])
    # The least of three: the interpreter's table of interned strings grows now and then.
    real = min(traced_size(serializer, data) for _ in range(3))
    assert real <= serializer.decoded_size(data) * 1.1
    codec = MessageCodec(serializer, {1: dict})
    assert codec.decoded_size(data) == serializer.decoded_size(data)


def test_protobuf_messages_within_messages_are_counted() -> None:
    serializer = ProtobufSerializer(struct_pb2.ListValue)
    error, memory = refusal(serializer, b"\x0a\x00" * 500_000)
    assert "more than max_items=131072" in str(error)
    assert memory < 4 * MIB
    # A class of many fields takes the memory of all of them for each message.
    wide = ProtobufSerializer(descriptor_pb2.DescriptorProto)
    assert wide.decoded_size(b"\x1a\x00" * 100) > serializer.decoded_size(b"\x0a\x00" * 100)


def test_protobuf_messages_of_an_honest_size_pass() -> None:
    numbers = struct_pb2.ListValue()
    numbers.extend([n / 7 for n in range(5000)])
    serializer = ProtobufSerializer(struct_pb2.ListValue)
    assert serializer.deserialize(serializer.serialize(numbers)) == numbers
    text = struct_pb2.ListValue()
    text.extend(["\n\x00" * 500_000])  # what looks like empty messages is a text
    assert serializer.deserialize(serializer.serialize(text)) == text
    few = ProtobufSerializer(struct_pb2.ListValue, max_items=1000)
    for use in (lambda: few.serialize(numbers),
                lambda: few.deserialize(numbers.SerializeToString())):  # fmt: skip
        with pytest.raises(SerializationError, match="max_items=1000"):
            use()


@pytest.mark.parametrize(
    "text",
    [
        "[0.0001234567890123456789]",
        "[1234567890123456789.5]",
        "[1.5e0000000000000000000001]",
        "[12345678901234567890123]",
        '{"a":-9223372036854775809,"b":0.5}',
        '["0.12345678901234567890123"]',
        "[1e308,-1e308,1e-999]",
        "[" + "9" * 308 + ".0]",
    ],
)
def test_numbers_are_the_same_with_each_way_to_read_them(text: str) -> None:
    assert JSONSerializer().deserialize(text.encode()) == json.loads(text)


@pytest.mark.parametrize("text", ["[1e309]", "[-1E+400]", "[" + "9" * 310 + ".0]", "[1.5e9999]"])
def test_what_is_too_large_for_a_float_is_refused(text: str) -> None:
    with pytest.raises(SerializationError, match="malformed JSON"):
        JSONSerializer().deserialize(text.encode())


# ------------------------------------------------------------------------ in slices


@dataclass
class Point:
    x: int
    y: float


@dataclass
class Track:
    name: str
    points: list[Point]
    named: dict[str, Point]
    pairs: list[tuple[Point, int]]
    perhaps: list[Point] | None = None


@pytest.mark.parametrize("field", ["points", "named", "pairs", "perhaps"])
async def test_objects_of_a_large_message_are_made_in_slices(
    field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the message is built, no turn of the loop makes more than a slice's worth."""
    clock, meter = Clock.installed(monkeypatch), Meter()
    made = Point.__init__

    def note(self: Point, x: int, y: float) -> None:
        clock.work(0.0001)
        meter.work()
        made(self, x, y)

    monkeypatch.setattr(Point, "__init__", note)
    point = {"x": 1, "y": 2.0}
    parts: dict[str, Any] = {
        "points": [point] * 3000,
        "named": {f"{n}": point for n in range(3000)},
        "pairs": [[point, 1]] * 3000,
        "perhaps": [point] * 3000,
    }
    value = {"name": "a", "points": [], "named": {}, "pairs": [], field: parts[field]}
    codec = MessageCodec(JSONSerializer(), {1: Track})
    with meter.running():
        track = await codec.decode_in_turns(1, as_json(value))
    assert len(getattr(track, field)) == 3000
    # 2 ms, and as many as are made between two looks at the clock.
    assert max(meter.turns) <= 20 + 2 * 16
    assert sum(meter.turns) == 3000
