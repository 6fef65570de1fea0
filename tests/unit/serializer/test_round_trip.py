"""What a serializer writes it reads back, with the same types, or it says what it cannot write."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import decimal
import enum
import math
import numbers
import typing
import uuid
from collections import ChainMap, deque
from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field, make_dataclass
from typing import Any, ClassVar, Final, Generic, Literal, NamedTuple, Protocol, TypeVar

import pytest
from google.protobuf.struct_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pywebtransport import ConfigurationError, SerializationError
from pywebtransport.serializer import JSONSerializer, MsgPackSerializer, ProtobufSerializer
from pywebtransport.types import Serializer
from tests.support.messages import Address, Colour, Item, Level, Node, Page, Rights
from tests.support.random_types import Place, Shade, kinds, records

# A finalizer of an earlier test may use it while a value is drawn; the strategies do not.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")

T = TypeVar("T")
JSON, MSGPACK = JSONSerializer(), MsgPackSerializer()
BOTH = pytest.mark.parametrize("serializer", [JSON, MSGPACK], ids=["json", "msgpack"])


def holder(kind: Any) -> Any:
    """A dataclass with one field."""
    return make_dataclass("Holder", [("value", kind)])


def types_in(value: Any) -> Any:
    """The types of a value and of all that is in it."""
    kind = type(value)
    if dataclasses.is_dataclass(kind):
        return kind, [types_in(getattr(value, one.name)) for one in dataclasses.fields(kind)]
    if isinstance(value, dict):
        return kind, [(types_in(key), types_in(item)) for key, item in value.items()]
    if isinstance(value, list | tuple | deque):
        return kind, [types_in(item) for item in value]
    if isinstance(value, set | frozenset):
        return kind, sorted(repr(types_in(item)) for item in value)
    return kind


def assert_comes_back(serializer: Serializer, value: Any, kind: Any = None) -> None:
    made = serializer.deserialize(
        data=serializer.serialize(obj=value), obj_type=type(value) if kind is None else kind
    )
    assert made == value
    assert types_in(made) == types_in(value)


def refusal(serializer: Serializer, value: Any) -> SerializationError:
    with pytest.raises(SerializationError) as caught:
        serializer.serialize(obj=value)
    return caught.value


# ----------------------------------------------------------------------- any types


@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(records())
def test_any_dataclass_comes_back_or_is_refused_by_name(record: tuple[type, Any]) -> None:
    cls, obj = record
    refused = {}
    for serializer in (JSON, MSGPACK):
        try:
            data = serializer.serialize(obj)
        except SerializationError as error:
            refused[serializer] = error
        else:
            made = serializer.deserialize(data, cls)
            assert made == obj
            assert types_in(made) == types_in(obj)
    assert all(error.details["path"].startswith("Random.field") for error in refused.values())
    # JSON has strings for bytes; otherwise they agree.
    if MSGPACK in refused:
        assert JSON in refused
    if len(refused) == 1:
        kinds_of_fields = str(cls.__annotations__)
        assert any(name in kinds_of_fields for name in ("bytes", "bytearray", "memoryview", "Odd"))


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["2026-01-02", "P1D", "[1]", "1", "dark", "AAE="]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=4) | st.sampled_from(["name", "1", "entries"]), inner)
    ),
    max_leaves=8,
)


@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(plain, kinds)
@example("x", Protocol)
@example({"a": 1}, Generic)
@example(1, typing.Callable[[int], int])
@example("1" * 5000, dict[int, int])
@example({"[" * 5000: 1}, dict[tuple[int, ...], int])
@example({"9" * 5000: 1}, dict[int, int])
@example({"[1,2]": 1, "[1, 2]": 2}, dict[tuple[int, int], int])
@example("P999999999DT999999999S", datetime.timedelta)
def test_wrong_data_is_refused_by_both_with_the_one_error(value: Any, kind: Any) -> None:
    results = []
    for serializer in (JSON, MSGPACK):
        data = serializer.serialize(value)
        try:
            results.append(serializer.deserialize(data, kind))
        except SerializationError:
            results.append(None)
    assert results[0] == results[1]


@given(st.binary(max_size=40), kinds)
def test_any_bytes_are_read_or_refused(data: bytes, kind: Any) -> None:
    for serializer in (JSON, MSGPACK):
        with contextlib.suppress(SerializationError):
            serializer.deserialize(data, kind)


def _listed(some: list[Value]) -> Value:
    made = Value()
    made.list_value.values.extend(some)
    return made


values = st.recursive(
    st.builds(Value, number_value=st.floats(allow_nan=False))
    | st.builds(Value, string_value=st.text())
    | st.builds(Value, bool_value=st.booleans()),
    lambda inner: st.lists(inner, max_size=3).map(_listed),
    max_leaves=8,
)


@given(values | st.builds(Timestamp, seconds=st.integers(0, 2**40), nanos=st.integers(0, 9)))
def test_any_protobuf_message_comes_back(message: Any) -> None:
    serializer = ProtobufSerializer(type(message))
    made = serializer.deserialize(serializer.serialize(message), type(message))
    assert made == message
    assert type(made) is type(message)


# ------------------------------------------------------------------- keys of mappings

KEYED: list[Any] = [
    (dict[int, str], {1: "a", -2: "b", 2**60: "c"}),
    (dict[int, str], {10**300: "a"}),
    (dict[float, int], {1.5: 1, 1.0: 2, -1e300: 3}),
    (dict[bool, int], {True: 1, False: 2}),
    (dict[None, int], {None: 1}),
    (dict[int | str | None, int], {1: 1, "a": 2, None: 3}),
    (dict[datetime.date, int], {datetime.date(2026, 1, 2): 1}),
    (dict[datetime.datetime, int], {datetime.datetime(2026, 1, 2, 3, tzinfo=datetime.UTC): 1}),
    (dict[datetime.time, int], {datetime.time(1, 2): 1}),
    (dict[datetime.timedelta, int], {datetime.timedelta(-1, 1, 2): 1}),
    (dict[uuid.UUID, int], {uuid.UUID(int=7): 1}),
    (dict[decimal.Decimal, int], {decimal.Decimal("1.10"): 1}),
    (dict[Colour, int], {Colour.RED: 1, Colour.GREEN: 2, Colour.PAIR: 3}),
    (dict[Level, int], {Level.LOW: 1}),
    (dict[Rights, int], {Rights.READ | Rights.WRITE: 1}),
    (dict[Shade, int], {Shade.DARK: 1}),
    (dict[Literal[1, "a", True], int], {1: 1, "a": 2}),
    (dict[bytes, int], {b"\x00\xff": 1}),
    (dict[tuple[int, str], int], {(1, "x"): 1}),
    (dict[tuple[datetime.date, ...], int], {(datetime.date(2026, 1, 2),): 1, (): 2}),
    (dict[frozenset[int], int], {frozenset({1, 2}): 1}),
    (dict[Place, int], {Place("a", (1.0, 2.0)): 1}),
]


@pytest.mark.parametrize(("kind", "value"), KEYED, ids=[str(kind) for kind, _ in KEYED])
@BOTH
def test_keys_come_back(serializer: Serializer, kind: Any, value: Any) -> None:
    if serializer is MSGPACK and 10**300 in value:
        assert "64 bits" in str(refusal(serializer, holder(kind)(value)))
        return
    cls = holder(kind)
    assert_comes_back(serializer, cls(value))
    assert_comes_back(serializer, value, kind)  # without the annotation of a field, too


@pytest.mark.parametrize(
    ("kind", "value", "path"),
    [
        (dict[int | str, int], {1: 1, "1": 2}, "Holder.value['1']"),
        (dict[datetime.date | str, int], {"2026-01-02": 1}, "Holder.value['2026-01-02']"),
        (dict[int, int], {1.0: 1}, "Holder.value[1.0]"),
        (dict[int, int], {True: 1}, "Holder.value[True]"),
        (dict[float, int], {math.nan: 1}, "Holder.value[nan]"),
        (dict[Item, int], {}, None),
        (dict[datetime.date, int], {datetime.datetime(2026, 1, 2): 1}, "Holder.value["),
    ],
    ids=str,
)
def test_keys_that_would_be_others_are_refused(kind: Any, value: Any, path: str | None) -> None:
    obj = holder(kind)(value)
    if path is None:
        assert_comes_back(JSON, obj)
        return
    error = refusal(JSON, obj)
    assert error.details["path"].startswith(path)
    assert path in str(error)


# --------------------------------------------------------------------------- unions

DAY, NOON = datetime.date(2026, 1, 2), datetime.datetime(2026, 1, 2, 12)

UNIONS: list[tuple[Any, Any]] = [
    (datetime.datetime | str, NOON),
    (datetime.datetime | str, "tomorrow"),
    (datetime.datetime | str, "2026-01-02"),
    (datetime.datetime | str, "2026-01-02T12:00:00Z"),
    (datetime.date | str, DAY),
    (datetime.date | datetime.datetime, DAY),
    (datetime.date | datetime.datetime, NOON),
    (datetime.timedelta | str | None, datetime.timedelta(1)),
    (uuid.UUID | str, uuid.UUID(int=1)),
    (uuid.UUID | str, "{00000000-0000-0000-0000-000000000001}"),
    (decimal.Decimal | str, "1.5"),
    (bytes | str, "text"),
    (Shade | str, Shade.DARK),
    (Shade | str, "grey"),
    (Colour | int | list[int], Colour.PAIR),
    (Colour | int | list[int], [1, 2, 3]),
    (Level | int, 7),
    (Level | int, Level.LOW),
    (Literal["a"] | int | None, "a"),
    (int | float, 1),
    (int | float, 1.0),
    (int | bool, True),
    (float | None, 3),
    (Item | Address | None, Item("a")),
    (Item | Address | None, {"street": "s"}),
    (Item | dict[str, int], {"x": 1}),
    (Place | str, Place("a", (1.0, 2.0), DAY)),
]


@pytest.mark.parametrize(("kind", "value"), UNIONS, ids=[f"{k}-{v}" for k, v in UNIONS])
@BOTH
def test_alternatives_of_a_union_come_back(serializer: Serializer, kind: Any, value: Any) -> None:
    cls = holder(kind)
    made = serializer.deserialize(data=serializer.serialize(obj=cls(value)), obj_type=cls)
    assert made.value == value
    assert type(made.value) is type(value) or (type(value) is int and value == 3)


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (datetime.datetime | str, "2026-01-02T12:00:00", "would be read as datetime"),
        (uuid.UUID | str, str(uuid.UUID(int=1)), "would be read as UUID"),
        (decimal.Decimal | str, decimal.Decimal(1), "would be read as str '1'"),
        (Shade | str, "dark", "would be read as Shade"),
        (Level | int, 1, "would be read as Level"),
        (Item | dict[str, str], {"name": "a"}, "another alternative"),
        (Page[int] | Page[str], Page(["x"], "x"), "another alternative|expected"),
        (list[int] | tuple[int, ...], [1], "two alternatives look alike"),
        (Colour | list[int], [1, 2], "a value that is listed"),
        (int | str, 1.5, "expected int | str, got float 1.5"),
    ],
    ids=str,
)
@BOTH
def test_what_would_be_another_alternative_is_refused(
    serializer: Serializer, kind: Any, value: Any, words: str
) -> None:
    error = refusal(serializer, holder(kind)(value))
    assert error.details["path"].startswith("Holder.value")
    assert any(word in str(error) for word in words.split("|"))


def test_bytes_or_text_are_told_apart_by_messagepack_only() -> None:
    obj = holder(bytes | str)(b"\x00\x01")
    assert_comes_back(MSGPACK, obj)
    assert "would be read as str 'AAE='" in str(refusal(JSON, obj))


# ----------------------------------------------------------------- values and fields


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (int, 10**5000, "4300 digits"),
        (int, "1", "expected int, got str '1'"),
        (int, True, "expected int, got bool True"),
        (str, 1, "expected str, got int 1"),
        (str, "\ud800", "surrogates not allowed"),
        (float, 2**53 + 1, "no float is this whole number"),
        (float, 10**400, "no float is this whole number"),
        (datetime.date, NOON, "expected date"),
        (datetime.datetime, DAY, "expected date and time"),
        (list[int], (1,), "expected list, got tuple"),
        (tuple[int, str], (1,), "tuple of 2"),
        (Item, Node(1), "expected Item, got Node"),
        (Address, {"street": "s", "zip": 1}, "not those of Address"),
        (set[Any], {(1, 2)}, "would not come back"),
        (Colour, "red", "expected Colour"),
        (Place, ("a", (1.0, 2.0), None), "expected Place"),
        (memoryview, memoryview(b"abcd").cast("i"), "a memoryview of format 'i'"),
        (list[list[int]], [[1], ["x"]], "expected int, got str 'x'"),
    ],
    ids=lambda value: (
        type(value).__name__ if isinstance(value, int | memoryview) else str(value)[:30]
    ),
)
@BOTH
def test_values_that_are_not_of_their_type_are_refused_by_name(
    serializer: Serializer, kind: Any, value: Any, words: str
) -> None:
    error = refusal(serializer, [holder(kind)(value)])
    assert error.details["path"].startswith("list[0].value")
    assert "list[0].value" in str(error)
    if not (serializer is MSGPACK and "digits" in words):
        assert words in str(error)
    assert len(str(error)) < 300


@BOTH
def test_a_timestamp_is_no_date(serializer: Serializer) -> None:
    when = datetime.datetime(2026, 1, 2, 3, tzinfo=datetime.UTC)
    data = MsgPackSerializer(pack_kwargs={"datetime": True}).serialize([when])
    with pytest.raises(SerializationError, match="expected date"):
        MSGPACK.deserialize(data, list[datetime.date])
    assert MSGPACK.deserialize(data, list[datetime.date | datetime.datetime]) == [when]
    for text, kind in (("2026-01-02", datetime.datetime), ("2026-01-02T03:04", datetime.date)):
        with pytest.raises(SerializationError, match="expected date"):
            serializer.deserialize(data=serializer.serialize(obj=text), obj_type=kind)


@BOTH
def test_text_that_looks_like_something_else_stays_text(serializer: Serializer) -> None:
    for text in ("2026-01-02", str(uuid.UUID(int=3)), "1", "null", "AAE=", "P1DT0S"):
        assert_comes_back(serializer, holder(str)(text))
        assert_comes_back(serializer, holder(str | None)(text))
        assert_comes_back(serializer, holder(dict[str, str])({text: text}))


@BOTH
def test_durations(serializer: Serializer) -> None:
    for value in (
        datetime.timedelta.min,
        datetime.timedelta.max,
        datetime.timedelta(0),
        datetime.timedelta(microseconds=-1),
    ):
        assert_comes_back(serializer, value)
    for text, seconds in (
        ("PT1H30M", 5400),
        ("-PT1.5S", -1.5),
        ("P1D", 86400),
        ("PT1S", 1),
    ):
        made = serializer.deserialize(
            data=serializer.serialize(obj=text), obj_type=datetime.timedelta
        )
        assert made == datetime.timedelta(seconds=seconds)
    for text in ("P", "PT", "P1DT", "1D", "", "P999999999999D", "PT1.5M", "P1Y"):
        with pytest.raises(SerializationError, match="duration"):
            serializer.deserialize(data=serializer.serialize(obj=text), obj_type=datetime.timedelta)


@dataclass
class Hidden:
    shown: int
    given: InitVar[int] = 3
    total: int = field(init=False, default=0)
    shared: ClassVar[int] = 5
    fixed: Final[int] = 7  # type: ignore[misc]


@dataclass(slots=True, kw_only=True, frozen=True)
class Derived:
    width: float
    area: float = field(init=False)
    cache: dict[str, int] = field(init=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "area", self.width**2)


@dataclass
class Needs:
    shown: int
    given: InitVar[int]


@BOTH
def test_fields_that_do_not_travel_are_what_the_constructor_makes(serializer: Serializer) -> None:
    hidden, derived = Hidden(1), Derived(width=3.0)
    assert_comes_back(serializer, hidden)
    assert_comes_back(serializer, derived)
    derived.cache["x"] = 1  # of no account where instances are compared
    assert (
        serializer.deserialize(data=serializer.serialize(obj=derived), obj_type=Derived) == derived
    )
    hidden.total = 4
    error = refusal(serializer, {"of": [hidden]})
    assert error.details["path"] == "dict['of'][0].total"
    assert "makes it 0, not 4" in str(error)
    assert "InitVar" in str(refusal(serializer, Needs(1, 2)))


class Pair(NamedTuple, Generic[T]):  # type: ignore[misc]
    first: T
    second: T


@dataclass
class Deep(Generic[T]):
    inner: dict[datetime.date, Pair[T]]
    more: Page[T] | None = None
    again: Deep[T] | None = None


@BOTH
def test_generic_types_and_trees(serializer: Serializer) -> None:
    value: Deep[Any] = Deep({DAY: Pair({1}, {2})}, Page([{1}], {2}), Deep({}))
    assert_comes_back(serializer, holder(Deep[set[int]])(value))
    wrong: Deep[Any] = Deep({}, again=Deep({DAY: Pair({1}, {"x"})}))
    error = refusal(serializer, holder(Deep[set[int]])(wrong))
    assert error.details["path"] == ("Holder.value.again.inner[datetime.date(2026, 1, 2)][1][0]")
    assert_comes_back(serializer, Node(1, [Node(2), Node(3, [Node(4)])]))
    assert_comes_back(serializer, holder(deque[Sequence[int]])(deque([[1], []])))


@BOTH
def test_the_place_of_what_has_no_form_is_named(serializer: Serializer) -> None:
    class Odd:
        def __repr__(self) -> str:
            raise LookupError("no text")

    error = refusal(serializer, {"a": [Item("x"), Page([1, Odd()], 2)]})
    assert error.details["path"] == "dict['a'][1].entries[1]"
    assert "no plain form" in str(error)
    error = refusal(serializer, holder(int)(Odd()))
    assert "expected int, got Odd <Odd instance" in str(error)
    loop: list[Any] = [1]
    loop.append({"again": loop})
    refusal(serializer, loop)
    refusal(serializer, holder(list[Any])(loop))


def test_forms_of_the_application_are_its_own_business() -> None:
    """With a hook of its own it may write what no annotation tells."""

    def own(obj: Any) -> Any:
        if obj is DAY:
            return {"day": str(obj)}
        raise TypeError

    serializer = JSONSerializer(default=own)
    for kind in (int, datetime.date):
        data = serializer.serialize(holder(kind)(DAY))
        assert serializer.deserialize(data) == {"value": {"day": str(DAY)}}


class Kinds(enum.Enum):
    A = "a"
    B = datetime.date(2026, 1, 2)
    C = (datetime.date(2026, 1, 2), b"x")
    D = "2026-01-02"


@BOTH
def test_enumerations_whose_values_travel_as_something_else(serializer: Serializer) -> None:
    for member in (Kinds.A, Kinds.B, Kinds.C):
        assert_comes_back(serializer, holder(Kinds)(member))
    assert "expected Kinds" in str(refusal(serializer, holder(Kinds)(Kinds.D)))


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: JSONSerializer(default=5), "default"),
        (lambda: JSONSerializer(indent=1.5), "indent"),
        (lambda: JSONSerializer(separators=(1, 2)), "separators"),
        (lambda: JSONSerializer(cls="x"), "cls"),
        (lambda: MsgPackSerializer(pack_kwargs=5), "pack_kwargs"),  # type: ignore[arg-type]
        (lambda: MsgPackSerializer(unpack_kwargs="x"), "unpack_kwargs"),  # type: ignore[arg-type]
        (lambda: MsgPackSerializer(pack_kwargs={"default": 5}), "default"),
        (lambda: MsgPackSerializer(unpack_kwargs={"ext_hook": 5}), "ext_hook"),
        (lambda: ProtobufSerializer("x"), "message_class"),  # type: ignore[arg-type]
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_arguments_of_constructors_have_one_error(make: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        make()


# ------------------------------------------------- classes with ideas of their own


@dataclass
class Tree:
    name: str
    parent: typing.Self | None = None
    children: dict[str, list[typing.Self]] = field(default_factory=dict)
    marked: typing.Annotated[typing.Self | None, "any"] = None


@dataclass
class Branch(Tree):
    pass


class Chain(NamedTuple):
    value: datetime.date
    rest: typing.Self | None = None  # type: ignore[misc]


@BOTH
def test_self_is_the_class_that_it_stands_in(serializer: Serializer) -> None:
    tree = Tree("a", Tree("b"), {"c": [Tree("c", Tree("d"))]}, Tree("e"))
    assert_comes_back(serializer, tree)
    assert_comes_back(serializer, Branch("a", Branch("b")))
    assert_comes_back(serializer, Chain(DAY, Chain(DAY)))
    error = refusal(serializer, Branch("a", Branch("b", Tree("c"))))  # type: ignore[arg-type]
    assert error.details["path"] == "Branch.parent.parent"
    assert "expected Branch, got Tree" in str(error)


@dataclass
class Counts:
    number: int

    def __post_init__(self) -> None:
        self.number += 1


@dataclass
class Positive:
    number: int
    tags: typing.Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.number < 0:
            raise ValueError("it must be positive")
        self.tags = list(self.tags)


@dataclass
class OwnConstructor:
    number: int

    def __init__(self, half: int = 2) -> None:
        self.number = 2 * half


@BOTH
def test_what_the_constructor_would_make_otherwise_is_refused(serializer: Serializer) -> None:
    positive = Positive(1, ("a",))
    assert_comes_back(serializer, positive)
    positive.number = -1
    assert "it must be positive" in str(refusal(serializer, positive))
    error = refusal(serializer, holder(Counts)(Counts(1)))
    assert error.details["path"] == "Holder.value.number"
    assert "the constructor makes it 3, not 2" in str(error)
    assert "unexpected keyword" in str(refusal(serializer, OwnConstructor()))


class Broken(dict[str, int]):
    def items(self) -> Any:
        raise LookupError("out of order")

    __iter__ = items


@BOTH
def test_what_can_be_walked_once_only_is_refused(serializer: Serializer) -> None:
    for kind in (typing.Iterable[int], typing.Iterable[Any]):
        error = refusal(serializer, holder(kind)(iter([1, 2])))
        assert "expected Iterable" in str(error)
        assert_comes_back(serializer, holder(kind)([1, 2]))


@BOTH
def test_refusing_does_not_fail(serializer: Serializer) -> None:
    """Whatever the classes of the application do when one looks for the place."""
    for value in (Broken(a=1), holder(dict[str, int])(Broken(a=1))):
        with contextlib.suppress(SerializationError):
            serializer.serialize(obj=[value, object()])
    error = refusal(serializer, holder(typing.Mapping[str, int])(Broken(a=1)))
    assert error.details["path"] == "Holder.value"
    loop = Tree("a")
    loop.parent = loop
    assert "it contains itself or nests too deeply" in str(refusal(serializer, loop))
    deep: Tree | None = None
    for _ in range(5000):
        deep = Tree("a", deep)
    refusal(serializer, deep)
    wrong = Tree(5)  # type: ignore[arg-type]
    for _ in range(250):
        wrong = Tree("a", wrong)
    error = refusal(serializer, wrong)
    assert len(str(error)) < 700


def test_the_deepest_message_that_is_read_is_written() -> None:
    for serializer in (JSONSerializer(max_depth=200), MsgPackSerializer(max_depth=200)):
        deep: Tree | None = None
        for _ in range(198):
            deep = Tree("a", deep)
        assert isinstance(serializer, Serializer)
        assert_comes_back(serializer, deep)


class Chained(ChainMap[str, int]):
    pass


@BOTH
def test_what_is_read_as_no_class_without_a_rule_is_refused(serializer: Serializer) -> None:
    for kind, value in (
        (ChainMap, Chained({"a": 1})),
        (Tree, None),
        (numbers.Number, None),
        (typing.Hashable, DAY),
        (typing.Sized, Tree("a")),
    ):
        refusal(serializer, holder(kind)(value))
    assert_comes_back(serializer, holder(numbers.Number)(1.5))
    cls: Any = make_dataclass("Point", [("x", int)], frozen=True)
    error = refusal(serializer, holder(dict[cls, int])({cls(1): 1}))
    assert "Point cannot be a key" in str(error)


@dataclass
class First:
    name: str


@dataclass
class Second:
    name: str


@BOTH
def test_the_order_of_a_union_is_its_own(serializer: Serializer) -> None:
    """Python finds ``A | B`` and ``B | A`` equal; here the first that fits is chosen."""
    one, several = (serializer.serialize(obj=obj) for obj in ({"name": "x"}, [{"name": "x"}]))
    for first, second in ((First, Second), (Second, First)):
        union: Any = first | second
        assert serializer.deserialize(data=one, obj_type=union) == first("x")
        assert serializer.deserialize(data=several, obj_type=list[union]) == [first("x")]
        assert_comes_back(serializer, holder(dict[str, union])({"a": first("x")}))
        refusal(serializer, holder(union)(second("x")))
