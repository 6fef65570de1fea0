"""Texts that msgspec reads straight into dataclasses: the same results and the same errors."""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import InitVar, dataclass, field
from typing import Annotated, Any, ClassVar, Generic, Optional, TypeVar

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pywebtransport import SerializationError
from pywebtransport.serializer import JSONSerializer
from pywebtransport.serializer._typed import _reader_or_none, find_typed_reader

# A finalizer of an earlier test may use it while a value is drawn; the strategies do not.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")

T = TypeVar("T")


@dataclass
class Inner:
    name: str
    price: float
    tags: list[str] = field(default_factory=list)


@dataclass(slots=True, frozen=True)
class Outer:
    number: int
    inner: Inner | None
    items: list[Inner]
    table: dict[str, float]
    flag: bool = False
    note: str | None = None
    anything: Any = None
    lists: list[list[int]] = field(default_factory=list)
    old: Optional[int] = 5  # noqa: UP045
    plain: list = field(default_factory=list)  # type: ignore[type-arg]


def serializers() -> list[tuple[JSONSerializer, JSONSerializer]]:
    """With and without the reader, over each parser that may be beside msgspec."""
    pairs = []
    for hidden in ([], ["orjson"]):
        with pytest.MonkeyPatch.context() as patch:
            for name in hidden:
                patch.setitem(sys.modules, name, None)
            quick, slow = JSONSerializer(), JSONSerializer()
        slow._typed_reader = None
        pairs.append((quick, slow))
    return pairs


PAIRS = serializers()


def outcome(serializer: JSONSerializer, data: bytes, kind: Any) -> tuple[Any, ...]:
    """The result with the types of all its parts, or the error."""
    try:
        value = serializer.deserialize(data, kind)
    except SerializationError as error:
        return (error.message, error.details)
    return (value, repr(value), shape(value))


def shape(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return type(value), [shape(getattr(value, one.name)) for one in dataclasses.fields(value)]
    if isinstance(value, dict):
        return type(value), [(shape(key), shape(item)) for key, item in value.items()]
    if isinstance(value, list):
        return type(value), [shape(item) for item in value]
    return type(value)


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
names = st.sampled_from([one.name for one in dataclasses.fields(Outer)] + ["name", "x", "price"])
INNER = {"name": "a", "price": 1, "tags": ["b"]}
OUTER = {
    "number": 7,
    "inner": INNER,
    "items": [INNER, {"name": "c", "price": 2.5}],
    "table": {"a": 1, "b": 2.5},
    "lists": [[1], []],
}


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    """Texts that fit, or nearly fit, or are damaged."""
    value = json.loads(json.dumps(OUTER))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.sampled_from([value, value["items"][0], value["items"][1]]))
        if not isinstance(place, dict):
            continue
        change = draw(st.sampled_from(["set", "drop"]))
        name = draw(names)
        if change == "set":
            if place is not value or name != "items":
                place[name] = draw(plain)
        elif name != "items":
            place.pop(name, None)
    data = json.dumps(value, ensure_ascii=draw(st.booleans())).encode(errors="surrogatepass")
    if draw(st.booleans()):
        start = draw(st.integers(0, len(data)))
        piece = draw(st.sampled_from([b"", b"1", b'"', b",", b'"x":1,', b"\\ud800", b"\xff", b"-"]))
        data = data[:start] + piece + data[start + draw(st.integers(0, 2)) :]
    return data


@settings(max_examples=400, suppress_health_check=list(HealthCheck))
@given(texts())
@example(b'{"number":1,"inner":null,"items":[],"table":{},"unknown":1}')
@example(b'{"number":1,"inner":null,"items":[],"table":{},"number":2}')
@example(b'{"number":1.0,"inner":null,"items":[],"table":{}}')
@example(b'{"number":true,"inner":null,"items":[],"table":{}}')
@example(b'{"number":123456789012345678901234567890,"inner":null,"items":[],"table":{}}')
@example(b'{"number":1,"inner":null,"items":[],"table":{"a":1e400}}')
@example(b'{"number":1,"inner":null,"items":[],"table":{"a":-0, "b":-0.0, "c":12345678901234567}}')
@example(b'{"number":-0,"inner":{"name":"a","price":1,"flag":true},"items":[],"table":{}}')
@example(b'{"number":1,"inner":null,"items":[],"table":{},"anything":{"a":[1e5,NaN]}}')
@example(b'{"number":1,"inner":null,"items":[],"table":{},"old":null} ')
@example(b'\xef\xbb\xbf{"number":1,"inner":null,"items":[],"table":{}}')
@example(b'{"n\\u0075mber":1,"inner":null,"items":[],"table":{"\\u00e4":1}}')
@example(b"null")
@example(b"")
def test_every_text_has_the_same_outcome(data: bytes) -> None:
    results = [outcome(one, data, Outer) for pair in PAIRS for one in pair]
    # Messages of malformed texts come from the parser.
    for quick, slow in zip(results[::2], results[1::2], strict=True):
        assert quick == slow


def test_a_text_that_fits_is_read_by_the_reader() -> None:
    reader = _reader_or_none(Outer)
    assert reader is not None
    data = json.dumps(OUTER).encode()
    value = reader(data)
    assert value == PAIRS[0][1].deserialize(data, Outer)
    assert value.inner == Inner("a", 1.0, ["b"])
    assert type(value.inner.price) is float
    for wrong in (
        {**OUTER, "unknown": 1},
        {**OUTER, "inner": {**INNER, "number": 1}},
        {**OUTER, "number": 1.0},
        {**OUTER, "number": True},
    ):
        with pytest.raises(msgspec.ValidationError):
            reader(json.dumps(wrong).encode())


def test_limits_are_checked_before_anything_is_made() -> None:
    quick = JSONSerializer(max_items=20, max_depth=3, max_size=100)
    for data, name in (
        (b'{"number":1,"table":{' + b'"a":1,' * 5 + b'"b":1}}', "max_items"),
        (b"[[[[1]]]]", "max_depth"),
        (b'{"number":1,"note":"' + b"x" * 100 + b'"}', "max_size"),
    ):
        with pytest.raises(SerializationError, match=name):
            quick.deserialize(data, Outer)


@dataclass
class Checked:
    number: int

    def __post_init__(self) -> None:
        self.number += 1


@dataclass
class WithInit:
    number: int

    def __init__(self, number: int) -> None:
        self.number = -number


@dataclass
class WithInitVar:
    number: int
    other: InitVar[int] = 5


@dataclass
class Partial:
    number: int
    made: int = field(init=False, default=3)


@dataclass
class WithClassVar:
    number: int
    count: ClassVar[int] = 3


@dataclass
class Private:
    _number: int


@dataclass
class Page(Generic[T]):
    items: list[T]


@dataclass
class Node:
    number: int
    next: Node | None = None


@dataclass
class Limited:
    number: Annotated[int, msgspec.Meta(gt=5)]


@dataclass
class Watched:
    number: int

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, -value)


@dataclass
class Mixed:
    number: int | str


@dataclass
class Sets:
    number: set[int]


@pytest.mark.parametrize(
    "kind",
    [
        Checked,
        WithInit,
        WithInitVar,
        Partial,
        WithClassVar,
        Private,
        Page,
        Page[int],
        Node,
        Limited,
        Watched,
        Mixed,
        Sets,
        int,
        list[int],
        dict[int, Inner],
        tuple[Inner, ...],
        Annotated[list[int], []],
    ],
    ids=str,
)
def test_types_with_other_rules_are_left_to_the_rebuilder(kind: Any) -> None:
    assert _reader_or_none(kind) is None
    for quick, slow in PAIRS:
        for data in (
            b'{"number":7}',
            b'{"number":7,"next":{"number":1}}',
            b'{"_number":1}',
            b"[1]",
        ):
            assert outcome(quick, data, kind) == outcome(slow, data, kind)


def test_without_msgspec_there_is_no_reader() -> None:
    assert find_typed_reader() is _reader_or_none
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "msgspec", None)
        assert find_typed_reader() is None
        serializer = JSONSerializer()
    assert serializer.deserialize(b'{"name":"a","price":1}', Inner) == Inner("a", 1.0)


def test_null_for_nan_is_noticed() -> None:
    @dataclass
    class Values:
        first: float | None
        others: list[float | None]
        anything: Any = None

    for quick, _ in PAIRS:
        good = Values(None, [1.0, None], {"a": [None, 1.5]})
        assert quick.deserialize(quick.serialize(good), Values) == good
        for bad in (
            Values(float("nan"), []),
            Values(None, [float("inf")]),
            Values(None, [], {"a": [None, float("nan")]}),
        ):
            with pytest.raises(SerializationError, match="JSON"):
                quick.serialize(bad)
