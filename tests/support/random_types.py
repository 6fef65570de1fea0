"""Random types for messages, with values of them."""

from __future__ import annotations

import datetime
import decimal
import enum
import typing
import uuid
from collections import Counter, OrderedDict, deque
from collections.abc import Sequence
from dataclasses import field, make_dataclass
from typing import Any, Literal, NamedTuple, NewType

from hypothesis import strategies as st

from tests.support.messages import Address, Colour, Item, Level, Page, Rights, Slotted

__all__ = ["Place", "Shade", "kinds", "records", "values_of"]


class Shade(enum.StrEnum):
    DARK = "dark"
    LIGHT = "light"


class Odd(enum.Enum):
    """Values that travel as something else, or look like another."""

    DAY = datetime.date(2026, 1, 2)
    NOTHING = None
    NUMBER = 1
    RAW = b"\x00"
    PAIR = (1, "a")


class Place(NamedTuple):
    name: str
    at: tuple[float, float]
    since: datetime.date | None = None


def unambiguous(moment: datetime.datetime) -> bool:
    """Whether clocks showed it once: other times equal none of another zone (PEP 495)."""
    return moment.replace(fold=0).utcoffset() == moment.replace(fold=1).utcoffset()


Name = NewType("Name", str)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
# Text that looks like something else.
_LOOKALIKES = (
    "2026-01-02 2026-01-02T03:04:05 03:04:05 P1DT2S 1 1.5 12.50 AAE= text dark null true NaN "
    '[1] [1,2] ["a"] 00000000-0000-0000-0000-000000000007'
)
lookalikes = st.sampled_from(_LOOKALIKES.split())
SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    str: texts | lookalikes,
    int: st.integers(-(2**63), 2**64 - 1) | st.integers(-3, 3),
    float: st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([1.0, -0.0, 1e300]),
    bool: st.booleans(),
    None: st.none(),
    bytes: st.binary(max_size=4),
    bytearray: st.binary(max_size=4).map(bytearray),
    memoryview: st.binary(max_size=4).map(memoryview),
    uuid.UUID: st.uuids(),
    datetime.date: st.dates(),
    datetime.datetime: st.datetimes() | st.datetimes(timezones=st.timezones()).filter(unambiguous),
    datetime.time: st.times(),
    datetime.timedelta: st.timedeltas(),
    decimal.Decimal: st.decimals(allow_nan=False, allow_infinity=False, places=3),
    Colour: st.sampled_from(Colour),
    Level: st.sampled_from(Level),
    Rights: st.sampled_from([Rights(0), Rights.READ, Rights.READ | Rights.WRITE]),
    Shade: st.sampled_from(Shade),
    Odd: st.sampled_from(Odd),
    Name: texts,
    Literal["on", 1, True, None]: st.sampled_from(["on", 1, True, None]),
}
RECORDS: dict[Any, st.SearchStrategy[Any]] = {
    Item: st.builds(Item, texts, st.floats(-1e9, 1e9)),
    Slotted: st.builds(Slotted, st.integers(0, 9), st.integers(0, 9)),
    Address: st.fixed_dictionaries({"street": texts}, optional={"number": st.integers(0, 9)}),
    Place: st.builds(
        Place, texts, st.tuples(*[st.floats(-9, 9)] * 2), st.none() | SCALARS[datetime.date]
    ),
    Page[datetime.date]: st.builds(
        Page, st.lists(SCALARS[datetime.date], max_size=2), SCALARS[datetime.date]
    ),
    Page[int | str]: st.builds(
        Page, st.lists(SCALARS[int] | texts, max_size=2), SCALARS[int] | texts
    ),
}
KEYS = [kind for kind in SCALARS if kind not in (bytearray, memoryview)]


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Values of one of the types that ``kinds`` makes."""
    if kind is type(None):
        return st.none()
    made = SCALARS.get(kind) if kind in SCALARS else RECORDS.get(kind)
    if made is not None:
        return made
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, type(int | str)):
        return st.one_of([values_of(one) for one in arguments])
    if origin is tuple and arguments[1:] != (...,):
        return st.tuples(*map(values_of, arguments))
    if origin in (dict, OrderedDict):
        return st.dictionaries(*map(values_of, arguments), max_size=3).map(origin)
    if origin is Counter:
        return st.dictionaries(values_of(arguments[0]), st.integers(0, 9), max_size=3).map(Counter)
    if origin in (set, frozenset):
        return st.sets(values_of(arguments[0]), max_size=3).map(origin)
    lists = st.lists(values_of(arguments[0]), max_size=3)
    return lists.map(origin) if origin in (tuple, deque) else lists


def _union(some: list[Any]) -> Any:
    return typing.Union[tuple(some)]  # noqa: UP007


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keys = st.recursive(
        st.sampled_from(KEYS),
        lambda key: (
            st.lists(key, min_size=1, max_size=2).map(lambda some: tuple[tuple(some)])
            | key.map(lambda one: frozenset[one])
        ),
        max_leaves=2,
    )
    unions = st.lists(inner, min_size=2, max_size=3).map(_union)
    return st.one_of(
        inner.map(lambda one: list[one]),
        inner.map(lambda one: deque[one]),
        inner.map(lambda one: Sequence[one]),
        inner.map(lambda one: tuple[one, ...]),
        inner.map(lambda one: _union([one, None])),
        st.lists(inner, min_size=1, max_size=3).map(lambda some: tuple[tuple(some)]),
        keys.map(lambda one: set[one]),
        keys.map(lambda one: Counter[one]),
        st.builds(lambda key, one: dict[key, one], keys, inner),
        st.builds(lambda key, one: OrderedDict[key, one], keys, inner),
        st.builds(
            lambda some, one: dict[_union(some), one],
            st.lists(keys, min_size=2, max_size=3),
            inner,
        ),
        unions,
    )


kinds = st.recursive(st.sampled_from([*SCALARS, *RECORDS]), _containers, max_leaves=4)


@st.composite
def records(draw: st.DrawFn) -> tuple[type, Any]:
    """A new dataclass, and an instance."""
    types = draw(st.lists(kinds, min_size=1, max_size=4))
    options = {
        name: draw(st.booleans()) for name in ("frozen", "slots", "kw_only") if draw(st.booleans())
    }
    with_default = draw(st.booleans())
    entries: list[Any] = [(f"field{number}", kind) for number, kind in enumerate(types)]
    if with_default:
        entries.append(("extra", list[int], field(default_factory=list)))
        entries.append(("hidden", int, field(init=False, default=3)))
    cls: Any = make_dataclass("Random", entries, **options)
    values = {f"field{number}": draw(values_of(kind)) for number, kind in enumerate(types)}
    return cls, cls(**values)
