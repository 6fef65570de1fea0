"""JSON: the same objects and the same refusals with every parser, within limits."""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import math
import sys
import threading
from collections import OrderedDict, defaultdict, namedtuple
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pywebtransport import ConfigurationError, SerializationError, Serializer
from pywebtransport.serializer import JSONSerializer
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

Make = Callable[..., JSONSerializer]
# Which packages are there, best first; None hides one.
HIDDEN = {"orjson": (), "msgspec": ("orjson",), "standard library": ("orjson", "msgspec")}


def made_with(parser: str, **kwargs: Any) -> JSONSerializer:
    """A serializer that found only ``parser``."""
    with pytest.MonkeyPatch.context() as patch:
        for name in HIDDEN[parser]:
            patch.setitem(sys.modules, name, None)
        return JSONSerializer(**kwargs)


@pytest.fixture(params=sorted(HIDDEN))
def make(request: pytest.FixtureRequest) -> Make:
    """Make a serializer with one of the parsers."""
    return lambda **kwargs: made_with(request.param, **kwargs)


ALL = [made_with(parser) for parser in HIDDEN]


def test_the_packages_that_are_compared_are_installed_and_used() -> None:
    import msgspec
    import orjson

    first, second, third = ALL
    assert first._quick_loads is orjson.loads
    assert first._quick_dumps is not None
    assert isinstance(getattr(second._quick_loads, "__self__", None), msgspec.json.Decoder)
    assert second._quick_dumps is None
    assert third._quick_loads is third._quick_dumps is None


def test_it_is_a_serializer_with_keywords(make: Make) -> None:
    serializer = make()
    assert isinstance(serializer, Serializer)
    order = Order(1, "c", True, [Item("a", 1.5), Item("b")])
    data = serializer.serialize(obj=order)
    assert serializer.deserialize(data=data, obj_type=Order) == order
    assert serializer.deserialize(data=data) == {
        "id": 1,
        "customer": "c",
        "express": True,
        "items": [{"name": "a", "price": 1.5}, {"name": "b", "price": 0.0}],
    }


def test_everything_survives(make: Make) -> None:
    serializer = make()
    made = serializer.deserialize(serializer.serialize(everything()), Everything)
    assert made == everything()
    assert type(made.tags) is set
    assert type(made.row) is tuple


def test_bytes_are_compact_utf8(make: Make) -> None:
    assert make().serialize({"ä": [1, None, "\U0001f600"]}) == '{"ä":[1,null,"😀"]}'.encode()


def test_bytes_like_data_are_read(make: Make) -> None:
    serializer = make()
    assert serializer.deserialize(bytearray(b"[1]")) == [1]  # type: ignore[arg-type]
    assert serializer.deserialize(memoryview(b"[1]")) == [1]  # type: ignore[arg-type]
    with pytest.raises(SerializationError, match="expected bytes, got str"):
        serializer.deserialize("[1]")  # type: ignore[arg-type]


Point = namedtuple("Point", "x y")


class Text(str):
    __slots__ = ()


class Real(float):
    pass


class Shade(enum.StrEnum):
    DARK = "dark"


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (Slotted(1, 2), {"a": 1, "_private": 2}),
        ({"c": Colour.RED, "l": [Level.LOW]}, {"c": "red", "l": [1]}),
        (
            {1: "a", 2.5: "b", False: "c", None: "d"},
            {"1": "a", "2.5": "b", "false": "c", "null": "d"},
        ),
        ({(1, "x"): 3, b"a": 4}, {'[1,"x"]': 3, "YQ==": 4}),
        ([{datetime.date(2026, 1, 2): {Colour.RED: 1}}], [{"2026-01-02": {"red": 1}}]),
        (OrderedDict(a=1), {"a": 1}),
        (defaultdict(int, a=1), {"a": 1}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (Point(1, 2), [1, 2]),
        ((1, (2,)), [1, [2]]),
        (frozenset({1}), [1]),
        ([Text("t"), Real(1.5), Shade.DARK], ["t", 1.5, "dark"]),
        ({Shade.DARK: 1}, {"dark": 1}),
        (2**64, 2**64),
        (-(2**100), -(2**100)),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (decimal.Decimal("1.10"), "1.10"),
        (bytearray(b"\x00"), "AA=="),
        pytest.param(memoryview(b"\x00"), "AA==", id="memoryview"),
    ],
    ids=str,
)
def test_what_can_be_written(make: Make, obj: Any, expected: Any) -> None:
    assert json.loads(make().serialize(obj)) == expected


def cycle() -> list[Any]:
    inner: list[Any] = []
    inner.append(inner)
    return inner


class Broken:
    __dataclass_fields__ = Item.__dataclass_fields__

    @property
    def name(self) -> str:
        raise LookupError("no name")


@pytest.mark.parametrize(
    "obj",
    [
        object(),
        Item,
        float("nan"),
        [None, {"a": math.inf}],
        Item("x", -math.inf),
        Real("nan"),
        "\ud800",
        {"\udc00": 1},
        {object(): 3},
        {math.nan: 3},
        {Slotted(1, 2): 3},
        {1: "a", "1": "b"},
        [{"x": [{True: "a", "true": "b"}]}],
        10**5000,
        cycle(),
        Broken(),
        threading.Lock(),
        1j,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_written(make: Make, obj: Any) -> None:
    with pytest.raises(SerializationError, match="as JSON") as caught:
        make().serialize(obj)
    assert caught.value.original_exception is not None


MALFORMED = [
    b"",
    b" ",
    b"{",
    b"[1,]",
    b"nul",
    b"NaN",
    b"[Infinity]",
    b"-Infinity",
    b"1e999",
    b"-1e400",
    b"01",
    b"1.",
    b"'a'",
    b"{1:2}",
    b"1 2",
    b"\xef\xbb\xbf1",
    b"\xff\xfe1\x00",
    b'"\xff"',
    b'"\xed\xa0\x80"',
    b'"\\ud800"',
    b'"\\ud800\\u0041"',
    b'{"\\udfff":1}',
    b'{"a":"\\ud800","a":1}',
    b'"\x00"',
    b'"\\x41"',
    b"1" * 5000,
    b"[" * 5000,
    b"[}" * 5000,
    b"]" * 5000,
    b'{"a":' * 100_000,
    b'"' + b"[" * 5000,
]


@pytest.mark.parametrize("data", MALFORMED, ids=lambda data: ascii(data[:12]))
def test_malformed_texts_are_refused(make: Make, data: bytes) -> None:
    with pytest.raises(SerializationError):
        make().deserialize(data)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\t\r\n 1 ", 1),
        (b"-0", 0),
        (b"1E2", 100.0),
        (b"2e-999", 0.0),
        (b'{"a":1,"a":2}', {"a": 2}),
        (b'"\\ud83d\\ude00\\u0000\\/"', "\U0001f600\0/"),
        (b"18446744073709551616", 2**64),
        (b"[-9999999999999999999]", [-9999999999999999999]),
        (b"1" * 1000, int("1" * 1000)),
        (b'"' + b"1" * 30 + b'"', "1" * 30),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_unusual_texts_are_read(make: Make, data: bytes, expected: Any) -> None:
    value = make().deserialize(data)
    assert value == expected
    assert type(value) is type(expected)


def test_size_is_limited_both_ways(make: Make) -> None:
    serializer = make(max_size=10)
    assert serializer.deserialize(serializer.serialize("x" * 8)) == "x" * 8
    with pytest.raises(SerializationError, match=r"11 bytes is larger than max_size=10") as caught:
        serializer.serialize("x" * 9)
    assert caught.value.details == {"size": 11, "max_size": 10}
    for data in (b'"xxxxxxxxx"', bytearray(11), memoryview(bytes(11))):
        with pytest.raises(SerializationError, match="max_size=10"):
            serializer.deserialize(data)  # type: ignore[arg-type]


def nested(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value, 1] if level % 2 else {"[{": value}
    return value


@pytest.mark.parametrize("max_depth", [1, 2, 64, 200])
def test_depth_is_limited_both_ways(make: Make, max_depth: int) -> None:
    serializer = make(max_depth=max_depth)
    text = json.dumps(nested(max_depth)).encode()
    assert serializer.deserialize(text) == nested(max_depth)
    assert serializer.deserialize(serializer.serialize(nested(max_depth))) == nested(max_depth)
    wide = [nested(max_depth - 1)] * 100
    assert serializer.deserialize(serializer.serialize(wide)) == wide
    too_deep = json.dumps(nested(max_depth + 1)).encode()
    with pytest.raises(SerializationError, match=f"deeper than max_depth={max_depth} levels"):
        serializer.deserialize(too_deep)
    with pytest.raises(SerializationError, match=f"deeper than max_depth={max_depth} levels"):
        serializer.serialize(nested(max_depth + 1))


def test_brackets_in_strings_are_no_depth(make: Make) -> None:
    value = {"[" * 100: '\\"[[["' * 100, "a\\": ["\\\\[" * 100, "]}"]}
    serializer = make(max_depth=2)
    assert serializer.deserialize(serializer.serialize(value)) == value


@pytest.mark.parametrize("limit", ["max_size", "max_depth"])
@pytest.mark.parametrize("value", [0, -1, 2**40, 1.5, True, None, "1"])
def test_impossible_limits_are_refused(limit: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=limit) as caught:
        JSONSerializer(**{limit: value})
    assert caught.value.config_key == limit


def test_keywords_of_json_dumps() -> None:
    serializer = JSONSerializer(sort_keys=True, indent=1, ensure_ascii=True)
    assert (
        serializer.serialize({"b": "ä", "a": Item("x")})
        == json.dumps({"a": {"name": "x", "price": 0.0}, "b": "ä"}, indent=1).encode()
    )
    assert JSONSerializer(separators=(", ", ": ")).serialize({"a": [1, 2]}) == b'{"a": [1, 2]}'
    assert JSONSerializer(skipkeys=True).serialize({(1,): 1, "a": 2}) == b'{"a":2}'


def test_a_default_of_the_application_is_asked_first() -> None:
    def default(obj: Any) -> Any:
        if isinstance(obj, complex):
            return [obj.real, obj.imag]
        if isinstance(obj, datetime.date):
            return obj.toordinal()
        raise TypeError

    serializer = JSONSerializer(default=default)
    obj = [1j, Item("i"), datetime.date(1, 1, 1)]
    assert serializer.deserialize(serializer.serialize(obj)) == [
        [0.0, 1.0],
        {"name": "i", "price": 0.0},
        1,
    ]


def test_an_encoder_of_the_application() -> None:
    class Encoder(json.JSONEncoder):
        def default(self, obj: Any) -> Any:
            return "complex" if isinstance(obj, complex) else super().default(obj)

    assert JSONSerializer(cls=Encoder).serialize([1j, Item("i", 1)]) == (
        b'["complex",{"name":"i","price":1}]'
    )


def test_nan_can_be_allowed() -> None:
    serializer = JSONSerializer(allow_nan=True)
    data = serializer.serialize([math.nan, math.inf, 1e308])
    assert data == b"[NaN,Infinity,1e+308]"
    assert str(serializer.deserialize(data)) == "[nan, inf, 1e+308]"


@pytest.mark.parametrize("kwargs", [{"unknown": 1}, {"cls": int}, {"parse_float": float}])
def test_other_keywords_are_refused(kwargs: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"json\.dumps"):
        JSONSerializer(**kwargs)


# ------------------------------------------------------------------- any data

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


@given(values)
@example([1.0, 1e16, 1e-7, 5e-324, -0.0, 2**63, -(2**63) - 1])
def test_any_value_survives_any_pair_of_parsers(value: Any) -> None:
    for writer in ALL:
        data = writer.serialize(value)
        for reader in ALL:
            assert repr(reader.deserialize(data)) == repr(value)


def outcome(serializer: JSONSerializer, data: bytes, kind: Any = None) -> str:
    try:
        return repr(serializer.deserialize(data, kind))
    except SerializationError:
        return "refused"


TOKENS = b"""[ ] { } , : " \\ u12 d8 1 999999999999999999 - e5 . null true NaN "a" {"a": \xc3\xa4"""
pieces = st.lists(st.sampled_from([*TOKENS.split(), b" ", b"\n"]) | st.binary(max_size=3)).map(
    b"".join
)


@given(st.binary() | pieces)
def test_any_bytes_have_one_outcome(data: bytes) -> None:
    assert len({outcome(serializer, data) for serializer in ALL}) == 1


@given(values, st.data())
def test_damaged_texts_have_one_outcome(value: Any, data: st.DataObject) -> None:
    text = bytearray(ALL[0].serialize(value))
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(text) - 1))
        text[place] = data.draw(st.integers(0, 255))
    for kind in (None, Order, Node, Everything):
        assert len({outcome(serializer, bytes(text), kind) for serializer in ALL}) == 1


orders = st.builds(
    Order,
    id=st.integers(),
    customer=st.text(),
    express=st.booleans(),
    items=st.lists(
        st.builds(Item, name=st.text(), price=st.floats(allow_nan=False, allow_infinity=False))
    ),
)


@given(orders)
def test_any_order_survives(order: Order) -> None:
    for serializer in ALL:
        assert serializer.deserialize(serializer.serialize(order), Order) == order
