"""MessagePack: dataclasses, extension types, limits, hostile bytes."""

from __future__ import annotations

import datetime
import itertools
import math
import sys
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywebtransport import ConfigurationError, SerializationError, Serializer
from pywebtransport.serializer import MsgPackSerializer
from tests.support.messages import (
    Colour,
    Everything,
    Item,
    Level,
    Node,
    Order,
    Slotted,
    everything,
)

SERIALIZER = MsgPackSerializer()


def test_it_is_a_serializer_with_keywords() -> None:
    assert isinstance(SERIALIZER, Serializer)
    order = Order(1, "c", True, [Item("a", 1.5), Item("b")])
    data = SERIALIZER.serialize(obj=order)
    assert data == msgpack.packb(
        {
            "id": 1,
            "customer": "c",
            "express": True,
            "items": [{"name": "a", "price": 1.5}, {"name": "b", "price": 0.0}],
        }
    )
    assert SERIALIZER.deserialize(data=data, obj_type=Order) == order
    assert SERIALIZER.deserialize(bytearray(data), Order) == order  # type: ignore[arg-type]
    with pytest.raises(SerializationError, match="expected bytes, got str"):
        SERIALIZER.deserialize("x")  # type: ignore[arg-type]


def test_everything_survives() -> None:
    # Keys that are no strings need the permission of both ends.
    serializer = MsgPackSerializer(unpack_kwargs={"strict_map_key": False})
    assert serializer.deserialize(serializer.serialize(everything()), Everything) == everything()


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (Slotted(1, 2), {"a": 1, "_private": 2}),
        ([Colour.RED, Level.LOW], ["red", 1]),
        (b"\x00", b"\x00"),
        ({b"k": 1}, {b"k": 1}),
        (2**64 - 1, 2**64 - 1),
        ([math.inf, -math.inf], [math.inf, -math.inf]),
        (frozenset({1}), [1]),
        (datetime.date(2026, 1, 2), "2026-01-02"),
    ],
    ids=str,
)
def test_what_can_be_written(obj: Any, expected: Any) -> None:
    assert SERIALIZER.deserialize(SERIALIZER.serialize(obj)) == expected


def test_nan_is_a_float_like_any_other() -> None:
    assert math.isnan(SERIALIZER.deserialize(SERIALIZER.serialize(Item("", math.nan)), Item).price)


class Broken:
    __dataclass_fields__ = Item.__dataclass_fields__

    @property
    def name(self) -> str:
        raise LookupError("no name")


def cycle() -> list[Any]:
    inner: list[Any] = []
    inner.append(inner)
    return inner


@pytest.mark.parametrize(
    "obj",
    [object(), 2**64, "\ud800", cycle(), Broken(), Item],
    ids=lambda obj: type(obj).__name__,
)
def test_what_cannot_be_written(obj: Any) -> None:
    serializer = MsgPackSerializer()
    with pytest.raises(SerializationError, match="as MessagePack") as caught:
        serializer.serialize([1, obj])
    assert caught.value.original_exception is not None
    assert serializer.serialize([1]) == b"\x91\x01"


def test_an_aware_timestamp_comes_as_datetime() -> None:
    when = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    data = msgpack.packb({"when": when}, datetime=True)
    assert SERIALIZER.deserialize(data) == {"when": when}
    assert SERIALIZER.deserialize(data, dict[str, datetime.datetime]) == {"when": when}


def test_other_extension_types_are_refused_unless_there_is_a_hook() -> None:
    data = msgpack.packb([msgpack.ExtType(5, b"abc")])
    with pytest.raises(SerializationError, match="extension type 5 of 3 bytes"):
        SERIALIZER.deserialize(data)
    serializer = MsgPackSerializer(unpack_kwargs={"ext_hook": lambda code, raw: (code, raw)})
    assert serializer.deserialize(data) == [(5, b"abc")]


def test_a_hook_that_fails_is_an_error_of_the_message() -> None:
    def hook(code: int, data: bytes) -> Any:
        raise LookupError("unknown")

    serializer = MsgPackSerializer(unpack_kwargs={"ext_hook": hook})
    with pytest.raises(SerializationError, match="unknown"):
        serializer.deserialize(msgpack.packb(msgpack.ExtType(5, b"")))


def test_a_default_may_serialize_itself() -> None:
    def default(obj: Any) -> Any:
        if isinstance(obj, complex):
            return serializer.serialize([obj.real, obj.imag])
        raise TypeError

    serializer = MsgPackSerializer(pack_kwargs={"default": default, "use_single_float": True})
    inner = b"\x92\xca\x00\x00\x00\x00\xca\x3f\x80\x00\x00"
    for _ in range(2):
        assert serializer.deserialize(serializer.serialize([1j, 1j])) == [inner, inner]
        assert serializer.serialize([Item("i", 1)]) == SERIALIZER.serialize([Item("i", 1)])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x92\x01",
        b"\x01\x01",
        b"\xa1\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x05",
        b"\xdb\x7f\xff\xff\xff",
        b"\xdd\x00\x10\x00\x00" * 10_000,
        b"\x91" * 5000,
        b"\xc7\x0c\xff" + b"\xff" * 12,
        b"\xd7\xff" + b"\xff" * 8,
    ],
    ids=lambda data: data[:6].hex() or "empty",
)
def test_malformed_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(SerializationError, match="malformed MessagePack"):
        SERIALIZER.deserialize(data)


def test_size_is_limited_both_ways() -> None:
    serializer = MsgPackSerializer(max_size=10)
    assert serializer.deserialize(serializer.serialize("x" * 9)) == "x" * 9
    with pytest.raises(SerializationError, match="11 bytes is larger than max_size=10"):
        serializer.serialize("x" * 10)
    with pytest.raises(SerializationError, match="max_size=10"):
        serializer.deserialize(bytes(11))


def nested(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value, 1] if level % 2 else {"ä": value}
    return value


@pytest.mark.parametrize("max_depth", [1, 2, 64, 200])
def test_depth_is_limited(max_depth: int) -> None:
    serializer = MsgPackSerializer(max_depth=max_depth)
    assert serializer.deserialize(msgpack.packb(nested(max_depth))) == nested(max_depth)
    wide = [nested(max_depth - 1)] * 100
    assert serializer.deserialize(msgpack.packb(wide)) == wide
    too_deep = nested(max_depth + 1)
    with pytest.raises(SerializationError, match=f"deeper than max_depth={max_depth} levels"):
        serializer.deserialize(msgpack.packb(too_deep))
    # What it would not read it does not write.
    for hooks in ({}, {"default": str}):
        serializer = MsgPackSerializer(max_depth=max_depth, pack_kwargs=hooks)
        assert serializer.deserialize(serializer.serialize(wide)) == wide
        with pytest.raises(SerializationError, match=f"deeper than max_depth={max_depth} levels"):
            serializer.serialize(too_deep)


def test_dataclasses_and_sets_are_levels_too() -> None:
    node = Node(0)
    for number in range(40):
        node = Node(number, [node])
    with pytest.raises(SerializationError, match="max_depth=64"):
        MsgPackSerializer().serialize(node)
    assert (
        MsgPackSerializer(max_depth=82).deserialize(
            MsgPackSerializer(max_depth=82).serialize(node), Node
        )
        == node
    )


def test_keys_of_other_types_come_back() -> None:
    keys = {1: "a", -2: "b", 1.5: "c", None: "d", (1, ("x", 2)): "e", b"k": "f", "s": "g"}
    assert SERIALIZER.deserialize(SERIALIZER.serialize([keys])) == [keys]
    # Those who have hooks for maps of their own say themselves which keys they take.
    own = MsgPackSerializer(unpack_kwargs={"object_hook": dict})
    with pytest.raises(SerializationError, match="strict_map_key"):
        own.deserialize(own.serialize({1: 2}))


def test_keys_chosen_to_have_one_hash_are_refused() -> None:
    """A table of them would take a number of steps that is the square of theirs."""
    alike = [number * (2**61 - 1) for number in range(8)]
    assert len({hash(number) for number in alike}) == 1
    keys = list(itertools.product(alike, repeat=4))
    few = dict.fromkeys(keys[:30], 1)
    assert SERIALIZER.deserialize(msgpack.packb(few)) == few
    with pytest.raises(SerializationError, match="same hash"):
        SERIALIZER.deserialize(msgpack.packb(dict.fromkeys(keys, 1)))


@pytest.mark.parametrize(
    "fields",
    [
        {"max_size": 0},
        {"max_depth": 201},
        {"pack_kwargs": {"unknown": 1}},
        {"unpack_kwargs": {"unknown": 1}},
        {"unpack_kwargs": {"ext_hook": 5}},
    ],
    ids=str,
)
def test_wrong_options_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        MsgPackSerializer(**fields)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "msgpack", None)
    with pytest.raises(ConfigurationError, match=r'pip install "msgpack>=1\.0"'):
        MsgPackSerializer()


# ------------------------------------------------------------------- any data

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.binary(), inner),
    max_leaves=30,
)
KINDS = (None, Order, Node, Everything, list[Any])


@given(values)
def test_any_value_survives(value: Any) -> None:
    assert repr(SERIALIZER.deserialize(SERIALIZER.serialize(value))) == repr(value)


def read_as_everything(data: bytes) -> list[bool]:
    """Read the bytes as every kind of object; only SerializationError may come out."""
    understood = []
    for serializer in (SERIALIZER, MsgPackSerializer(unpack_kwargs={"strict_map_key": False})):
        for kind in KINDS:
            try:
                serializer.deserialize(data, kind)
            except SerializationError:
                understood.append(False)
            else:
                understood.append(True)
    return understood


@given(st.binary())
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    assert len(read_as_everything(data)) == 2 * len(KINDS)


@given(values, st.data())
def test_damaged_messages_are_read_or_refused(value: Any, data: st.DataObject) -> None:
    packed = bytearray(SERIALIZER.serialize(value))
    for _ in range(data.draw(st.integers(0, 3))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    assert len(read_as_everything(bytes(packed))) == 2 * len(KINDS)
