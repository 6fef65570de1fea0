"""Typed objects of plain data: exact, and errors name the place."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import decimal
import enum
import json
import sys
import typing
from dataclasses import dataclass
from typing import Any, Literal, NewType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywebtransport import SerializationError
from pywebtransport.serializer import JSONSerializer, _rebuild
from tests.support.messages import (
    Address,
    Checked,
    Colour,
    Everything,
    Item,
    Left,
    Level,
    Node,
    Order,
    Page,
    Right,
    Rights,
    everything,
)

T = typing.TypeVar("T")


def rebuild(value: Any, kind: Any) -> Any:
    """Make an object in one go; made in slices it is the same, or refused for the same reason."""
    refused: SerializationError | None = None
    try:
        made = _rebuild.rebuild(value, kind)
    except SerializationError as error:
        refused = error
    if refused is not None:
        with pytest.raises(SerializationError) as caught:
            asyncio.run(_rebuild.rebuild_in_turns(value, kind))
        assert (str(caught.value), caught.value.details) == (str(refused), refused.details)
        raise refused
    again = asyncio.run(_rebuild.rebuild_in_turns(value, kind))
    assert type(again) is type(made)
    assert repr(again) == repr(made) or again == made
    return made


@dataclass
class Catalogue(Page[Item]):
    total: int = 0


CATALOGUE = Catalogue([Item("s")], Item("t"))


@dataclass
class Book(Page[int], typing.Generic[T]):
    """Its T is another one than that of Page."""

    cover: T | None = None


class Listed(typing.TypedDict, typing.Generic[T]):
    items: list[T]


class Labelled(Listed[Item]):
    note: str


class Modes(enum.IntFlag):
    READ = 1
    WRITE = 2


# Statements like ``type Number = int`` make these, from Python 3.12 on.
ALIASES: list[tuple[Any, Any, Any]] = []
if sys.version_info >= (3, 12):
    ALIASES.append((1, typing.TypeAliasType("Number", int), 1))

ORDER = {"id": 1, "customer": "c", "express": True, "items": [{"name": "a", "price": 1.5}]}


def refusal(value: Any, kind: Any) -> SerializationError:
    with pytest.raises(SerializationError) as caught:
        rebuild(value, kind)
    return caught.value


def test_nested_dataclasses() -> None:
    assert rebuild(ORDER, Order) == Order(1, "c", True, [Item("a", 1.5)])
    assert rebuild({"id": 2, "customer": ""}, Order) == Order(2, "")


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        ({"items": [{"name": "a", "price": "x"}]}, "Order.items[0].price", "float, got str 'x'"),
        ({"items": [{"name": "a"}, {"price": 1}]}, "Order.items[1]", "missing field name"),
        ({"items": [{"name": "a", "prise": 1}]}, "Order.items[0]", "unknown field 'prise'"),
        ({"items": {"name": "a"}}, "Order.items", "expected list, got dict"),
        ({"items": [None]}, "Order.items[0]", "got null"),
        ({"id": True}, "Order.id", "expected int, got bool True"),
        ({"id": 1.0}, "Order.id", "expected int, got float 1.0"),
        ({"express": 1}, "Order.express", "expected bool, got int 1"),
        ({"customer": None}, "Order.customer", "expected str, got null"),
        ({"x" * 1000: 1}, "Order", "unknown field"),
    ],
)
def test_what_does_not_fit_is_named_with_its_path(
    change: dict[str, Any], path: str, words: str
) -> None:
    error = refusal(ORDER | change, Order)
    assert error.details["path"] == path
    assert str(error).startswith(f"{path}: ")
    assert words in str(error)
    assert len(str(error)) < 200


def test_a_path_through_every_container() -> None:
    kind = dict[str, tuple[int, list[set[tuple[int, ...]]]]]
    error = refusal({"k": [1, [[], [[1, "x"]]]]}, kind)
    assert error.details["path"] == "dict['k'][1][1][0][1]"
    assert rebuild({"k": [1, [[], [[1, 2]]]]}, kind) == {"k": (1, [set(), {(1, 2)}])}


def test_a_long_value_is_shortened_in_the_message() -> None:
    assert len(str(refusal({"id": "x" * 10**6, "customer": ""}, Order))) < 200
    assert len(str(refusal([list(range(10**5))], list[int]))) < 200


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (1, float, 1.0),
        ([1, 2.5], list[float], [1.0, 2.5]),
        ([1, 2], tuple, (1, 2)),
        ([1, 2], list, [1, 2]),
        ([1, 2], typing.List, [1, 2]),  # noqa: UP006
        ([[1], [2]], set[tuple[int]], {(1,), (2,)}),
        ({"1": "a", "-2": "b"}, dict[int, str], {1: "a", -2: "b"}),
        ({1: "a"}, dict[int, str], {1: "a"}),
        ({"a": 1}, dict, {"a": 1}),
        ({"red": 1}, dict[Colour, int], {Colour.RED: 1}),
        ([1, 2], Colour, Colour.PAIR),
        (2, Colour, Colour.GREEN),
        (2, Level, Level.HIGH),
        (3, Rights, Rights.READ | Rights.WRITE),
        (3, Literal["on", 3], 3),
        ("red", Literal[Colour.RED], Colour.RED),
        (None, None, None),
        ({"a": 1}, Any, {"a": 1}),
        ({"a": 1}, object, {"a": 1}),
        ("2026-02-03", datetime.date | datetime.datetime, datetime.date(2026, 2, 3)),
        ("2026-02-03T00:00", datetime.date | datetime.datetime, datetime.datetime(2026, 2, 3)),
        ("AAE=", bytes | int, b"\x00\x01"),
        ("text", bytes | str, "text"),
        ({"street": "s"}, Address, {"street": "s"}),
        ({"street": "s", "number": 3}, Address | Item, {"street": "s", "number": 3}),
        ({"name": "s"}, Address | Item, Item("s")),
        ({"other": 1}, Item | dict[str, int], {"other": 1}),
        ({"other": 1}, Item | Any, {"other": 1}),
        ([{"name": "s"}], Item | list[Item] | None, [Item("s")]),
        (1, float | str, 1.0),
        ({"entries": [1], "first": 2}, Page[int], Page([1], 2)),
        ({"entries": ["x"], "first": 2}, Page, Page(["x"], 2)),
        ({"entries": [{"name": "s"}], "first": {"name": "t"}}, Catalogue, CATALOGUE),
        ({"entries": [1], "first": 2, "cover": "x"}, Book[str], Book([1], 2, "x")),
        ({"items": [{"name": "s"}], "note": "n"}, Labelled, {"items": [Item("s")], "note": "n"}),
        (Item("made already"), Item, Item("made already")),
        (Colour.RED, Colour, Colour.RED),
        (1j, complex, 1j),
        ("a", NewType("Name", int | str) | None, "a"),  # type: ignore[operator]
        *ALIASES,
    ],
    ids=str,
)
def test_kinds_of_types(value: Any, kind: Any, expected: Any) -> None:
    made = rebuild(value, kind)
    assert made == expected
    assert type(made) is type(expected)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (True, float),
        (10**400, float),
        ([1, 2, 3], tuple[int, int]),
        ([1], tuple[()]),
        ("ab", list[str]),
        ([[1], [2]], set[Any]),
        ({"01": 1}, dict[int, int]),
        ({"1" * 5000: 1}, dict[int, int]),
        ([], dict[str, int]),
        (True, Level),
        (1.0, Level),
        ([[]], Colour),
        ({}, Colour),
        (64, Rights),
        (True, Rights),
        (4, Modes),
        (-1, Modes),
        (1, Literal[True]),
        ("AAE", bytes),
        ("ä", bytes),
        (1, bytes),
        ("tomorrow", datetime.date),
        (5, datetime.datetime),
        ("", Item | int),
        ({"nam": ""}, Item | int | None),
        ({"nam": ""}, Item | Order),
        ({"street": 1}, Address),
        ({}, Address),
        ({"street": "", "zip": 1}, Address),
        ([], Address),
        ({"percent": 101}, Checked),
        ({"entries": ["x"], "first": 2}, Page[int]),
        ({"entries": ["x"], "first": {"name": "t"}}, Catalogue),
        ({"entries": ["x"], "first": 2, "cover": "x"}, Book[str]),
        ({}, complex),
        ({1: 2}, Item),
        (1, list[int] | tuple[int, ...]),
        (1, dict[str, int] | dict[int, int]),
        (1, typing.ParamSpec("P")),
        (1, "Item"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(value: Any, kind: Any) -> None:
    refusal(value, kind)


@pytest.mark.parametrize("kind", [int, decimal.Decimal], ids=str)
def test_keys_chosen_to_have_one_hash_are_refused(kind: Any) -> None:
    """A table of them would take a number of steps that is the square of theirs."""
    chosen = [number * (2**61 - 1) for number in range(2000)]
    texts = [str(number) for number in chosen]
    refusal(dict.fromkeys(texts, 1), dict[kind, int])
    refusal(chosen if kind is int else texts, set[kind])


def test_many_small_sets_of_one_hash_are_refused_too() -> None:
    """Each is quick, but all of those that fit into one message would take a second."""
    refusal([[n * (2**61 - 1) for n in range(150)]], list[set[int]])


def test_a_peer_does_not_make_more_combinations_of_flags_than_fit_into_memory() -> None:
    """Python keeps every combination that was ever made."""
    wide = enum.IntFlag("wide", [f"bit{number}" for number in range(20)])
    assert rebuild([*range(9000)], list[wide])[8999] == 8999  # type: ignore[valid-type]
    assert "combinations" in str(refusal([*range(20_000)], list[wide]))  # type: ignore[valid-type]
    assert len(wide._value2member_map_) <= 10_000
    assert rebuild(8999, wide) == 8999


def test_many_keys_and_the_same_members_again_and_again() -> None:
    assert rebuild({str(n): n for n in range(2000)}, dict[int, int]) == {n: n for n in range(2000)}
    assert rebuild([-1, -2] * 1000, set[int]) == {-1, -2}
    assert rebuild([str(n) for n in range(2000)], frozenset[str]) == {str(n) for n in range(2000)}


def test_a_key_without_a_hash_is_refused() -> None:
    refusal({"sNaN": 1}, dict[decimal.Decimal, int])


def test_an_error_of_the_class_itself_is_kept() -> None:
    error = refusal({"percent": 101}, Checked)
    assert isinstance(error.original_exception, KeyError)
    assert "101" in str(error)


def test_annotations_that_lead_nowhere_are_named() -> None:
    @dataclass
    class Local:
        item: Unknown  # type: ignore[name-defined]  # noqa: F821

    assert "Unknown" in str(refusal({"item": 1}, Local))


def test_a_tree_of_itself() -> None:
    value: dict[str, Any] = {"value": 0, "children": []}
    for number in range(1, 60):
        value = {"value": number, "children": [value, {"value": -number}]}
    node = rebuild(value, Node)
    assert node.children[1] == Node(-59)
    assert node.children[0].value == 58


def test_a_union_never_takes_a_choice_back() -> None:
    """Trying each alternative to the bottom would take 2**64 steps here."""
    value: Any = 5
    for _ in range(64):
        value = {"inner": value}
    error = refusal(value, Left)
    assert error.details["path"] == "Left" + ".inner" * 64
    assert rebuild({"inner": {"inner": {}, "extra": 1}}, Left) == Left(Right(Left(), 1))


def test_unhashable_annotations_work_without_the_cache() -> None:
    kind = typing.Annotated[list[int], ["unhashable"]]
    assert rebuild([1], kind) == [1]
    refusal(["x"], kind)


def test_beyond_the_stack_is_an_error_of_the_message() -> None:
    value: Any = []
    for _ in range(100_000):
        value = {"value": 1, "children": [value]}
    assert isinstance(refusal(value, Node).original_exception, RecursionError)
    while value:  # taken apart from the outside, which takes no stack
        value = value["children"].pop()


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=20,
)
kinds = st.sampled_from(
    [Order, Everything, Node, Left, Colour, Rights, Checked, Address, Page[int], Item | list[Any]]
)


@given(plain, kinds)
def test_any_data_are_rebuilt_or_refused(value: Any, kind: Any) -> None:
    with contextlib.suppress(SerializationError):
        rebuild(value, kind)


names = st.sampled_from([*Everything.__dataclass_fields__, "other"])


@given(st.dictionaries(names, plain, max_size=3))
def test_a_wrong_field_among_right_ones_is_named(changes: dict[str, Any]) -> None:
    whole = json.loads(JSONSerializer().serialize(everything()))
    try:
        made = rebuild(whole | changes, Everything)
    except SerializationError as error:
        path = error.details["path"]
        assert path == "Everything" or any(
            path.startswith(f"Everything.{name}") for name in changes
        )
    else:
        assert isinstance(made, Everything)
