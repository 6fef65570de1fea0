"""Message types for the tests of serializers and structured messages."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, Literal, NewType, NotRequired, TypedDict, TypeVar

T = TypeVar("T")
CustomerId = NewType("CustomerId", int)


class Colour(enum.Enum):
    RED = "red"
    GREEN = 2
    PAIR = (1, 2)


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass
class Item:
    name: str
    price: float = 0.0


@dataclass
class Order:
    id: int
    customer: str
    express: bool = False
    items: list[Item] = field(default_factory=list)


@dataclass
class Everything:
    """A field of every kind that can be rebuilt."""

    text: str
    number: float
    when: datetime.datetime
    day: datetime.date
    at: datetime.time
    key: uuid.UUID
    amount: decimal.Decimal
    raw: bytes
    colour: Colour
    level: Level
    rights: Rights
    mode: Literal["on", "off", 3, True, None]
    point: tuple[int, str]
    row: tuple[float, ...]
    empty: tuple[()]
    tags: set[str]
    frozen: frozenset[int]
    names: Sequence[str]
    by_number: dict[int, Item]
    by_name: Mapping[str, float]
    maybe: Item | None
    either: int | str | list[int] | Item | None
    customer: CustomerId
    noted: Annotated[int, "a note"]
    address: Address
    anything: Any = None
    nothing: None = None


class Address(TypedDict):
    street: str
    number: NotRequired[int]


@dataclass
class Node:
    """A tree, of itself."""

    value: int
    children: list[Node] = field(default_factory=list)


@dataclass
class Left:
    inner: Left | Right | None = None


@dataclass
class Right:
    inner: Left | Right | None = None
    extra: int = 0


@dataclass
class Page(Generic[T]):
    entries: list[T]
    first: T


@dataclass
class Checked:
    """Refuses values in its own way."""

    percent: int

    def __post_init__(self) -> None:
        if not 0 <= self.percent <= 100:
            raise KeyError(self.percent)


@dataclass(slots=True, frozen=True)
class Slotted:
    a: int
    _private: int
    length: int = field(init=False, default=0)


def everything() -> Everything:
    return Everything(
        text="täxt \U0001f600",
        number=1.5,
        when=datetime.datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=datetime.UTC),
        day=datetime.date(2026, 2, 3),
        at=datetime.time(4, 5, 6),
        key=uuid.UUID(int=5),
        amount=decimal.Decimal("12.50"),
        raw=b"\x00\xff",
        colour=Colour.RED,
        level=Level.HIGH,
        rights=Rights.READ | Rights.WRITE,
        mode="on",
        point=(1, "a"),
        row=(1.0, 2.0),
        empty=(),
        tags={"x", "y"},
        frozen=frozenset({1, 2}),
        names=["n"],
        by_number={-7: Item("seven", 7.0)},
        by_name={"a": 1.0},
        maybe=Item("i"),
        either=[1, 2],
        customer=CustomerId(9),
        noted=3,
        address={"street": "Main"},
        anything={"a": [1, None]},
    )
