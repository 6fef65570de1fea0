"""Converts plain data to typed objects: dataclasses and their members.

Each type is compiled to a function once. Data must fit exactly: no missing or unknown fields, no
other types. Only types that JSON lacks are converted.
"""

from __future__ import annotations

import contextlib
import enum
import re
import types
import typing
from collections import Counter, OrderedDict, abc, deque
from collections.abc import Callable, Collection, Iterable, Set
from dataclasses import MISSING, fields, is_dataclass
from functools import lru_cache
from typing import Any, Literal, NoReturn, Union

from ..exceptions import SerializationError, invalid_config
from ..utils._turns import Turns
from ._kinds import (
    bare,
    field_kinds,
    hints_of,
    is_alias,
    is_fixed_tuple,
    is_named_tuple,
    mapping_kinds,
    name_of,
    named_tuple_kinds,
    order_of,
    union_members,
)
from ._texts import (
    BINARY,
    DISTINCT,
    TEXTUAL,
    Form,
    array_of_key,
    is_exactly,
    key_text,
    plain_value,
    shown,
)

__all__ = [
    "ARRAYS",
    "MAPPINGS",
    "MismatchError",
    "check_hashes",
    "check_type",
    "converter",
    "key_converter",
    "rebuild",
    "rebuild_in_turns",
    "wrong",
]

_Convert = Callable[[Any], Any]

_SCALARS = (str, int, bool, type(None))
ARRAYS: dict[Any, Callable[[Iterable[Any]], Any]] = {
    tuple: tuple,
    **dict.fromkeys((list, abc.Sequence, abc.MutableSequence), list),
    **dict.fromkeys((abc.Collection, abc.Iterable), list),
    deque: deque,
    **{set: set, frozenset: frozenset, abc.Set: frozenset, abc.MutableSet: set},
}
MAPPINGS: dict[Any, Callable[[Iterable[Any]], Any]] = {
    dict: dict,
    abc.Mapping: dict,
    abc.MutableMapping: dict,
    OrderedDict: OrderedDict,
    Counter: lambda pairs: Counter(dict(pairs)),
}
_INTEGER_KEY = re.compile(r"-?(0|[1-9][0-9]*)", re.ASCII)
_FLOAT_KEY = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)
_WORDS = {"null": None, "true": True, "false": False}
# Python hashes these with a secret; hashes of all other types are predictable.
_SAFE_KEYS = frozenset({str, bytes})
_FEW_KEYS = 100
_MAX_SAME_HASH = 32
_MAX_COMBINATIONS = 10_000
# Members of an array that are converted between two checks of the clock.
_STEP = 16


def rebuild(value: Any, obj_type: Any) -> Any:
    """Convert plain data to ``obj_type``.

    Args:
        value: Data from a parser; the caller limits its depth.
        obj_type: A dataclass, TypedDict, enumeration, ``list[...]``, ``A | B`` and so on.

    Raises:
        SerializationError: The data do not fit; the message and ``details["path"]`` say where.
    """
    try:
        return converter(obj_type)(value)
    except MismatchError as mismatch:
        raise _misfit(obj_type, mismatch) from mismatch.original
    except RecursionError as error:
        raise _too_deep_for(obj_type, error) from error


async def rebuild_in_turns(value: Any, obj_type: Any, turns: Turns | None = None) -> Any:
    """As ``rebuild``; a slice of the event loop's turn at a time, for what may be large.

    Args:
        value: What the parser made.
        obj_type: What it shall become.
        turns: Of the peer that sent it.

    Cancellation: safe.
    """
    convert = converter(obj_type)
    try:
        return await _in_turns(convert, value, turns or Turns.of())
    except MismatchError as mismatch:
        raise _misfit(obj_type, mismatch) from mismatch.original
    except RecursionError as error:
        raise _too_deep_for(obj_type, error) from error


async def _in_turns(convert: _Convert, value: Any, turns: Turns) -> Any:
    """Convert one value, with pauses if it is a container."""
    if type(value) is not dict and type(value) is not list:
        return convert(value)
    pausing = getattr(convert, "in_turns", None)
    return convert(value) if pausing is None else await pausing(value, turns)


def _misfit(obj_type: Any, mismatch: MismatchError) -> SerializationError:
    path = getattr(obj_type, "__name__", None) or str(obj_type)
    path += "".join(reversed(mismatch.path))
    return SerializationError(
        f"{path}: {mismatch.reason}",
        details={"path": path},
        original_exception=mismatch.original,
    )


def _too_deep_for(obj_type: Any, error: RecursionError) -> SerializationError:
    return SerializationError(
        f"the message nests too deeply for {obj_type!r}", original_exception=error
    )


def check_type(key: str, kind: Any) -> None:
    """Check a target type.

    Raises:
        ConfigurationError: Messages cannot be rebuilt as this type.
    """
    try:
        converter(kind)
    except SerializationError as error:
        raise invalid_config(key=key, value=kind, reason=error.message) from error


class MismatchError(Exception):
    """The data do not fit; each container adds its step of the path while the exception passes."""

    def __init__(self, reason: str, original: Exception | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.original = original
        self.path: list[str] = []
        # When writing: the object at which the path begins.
        self.owner: Any = None


def wrong(expected: str, value: Any) -> MismatchError:
    found = "null" if value is None else f"{type(value).__name__} {shown(value)}"
    return MismatchError(f"expected {expected}, got {found}")


def converter(kind: Any) -> _Convert:
    """Return the function that converts values to a type."""
    try:
        return _cached(kind, order_of(kind))
    except TypeError:  # an annotation can be unhashable
        return _make(kind)


def _make(kind: Any) -> _Convert:
    if is_alias(kind):
        return _alias(kind)
    kind = bare(kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any or kind is object:
        return _same
    if origin in (Union, types.UnionType):
        return _Union(kind)
    if origin is Literal:
        return _one_of(name_of(kind), arguments)
    base = origin or kind
    if not isinstance(base, type):
        raise SerializationError(f"messages cannot be rebuilt as {kind!r}: no such kind of type")
    if base in _SCALARS:
        return _exactly(base)
    if base in _CONVERTERS:
        return _CONVERTERS[base]
    if is_dataclass(base) or typing.is_typeddict(base):
        return _Record(base, arguments)
    if issubclass(base, enum.Enum):
        return _enumeration(base)
    if is_fixed_tuple(kind):
        return _FixedTuple(arguments)
    if base in ARRAYS:
        return _Array(ARRAYS[base], arguments[0] if arguments else Any)
    if is_named_tuple(base):
        return _NamedTuple(base, arguments)
    if base in MAPPINGS:
        return _Mapping(MAPPINGS[base], *mapping_kinds(base, arguments))
    return _instance(base)


@lru_cache(maxsize=1024)
def _cached(kind: Any, order: str) -> _Convert:
    return _make(kind)


def _alias(kind: Any) -> _Convert:
    """Resolve an alias only with the first value: it may refer to itself."""

    def convert(value: Any) -> Any:
        return converter(bare(kind))(value)

    return convert


def _same(value: Any) -> Any:
    return value


def _exactly(kind: type) -> _Convert:
    name = "null" if kind is type(None) else kind.__name__

    def convert(value: Any) -> Any:
        if type(value) is kind:
            return value
        raise wrong(name, value)

    return convert


def _instance(kind: type) -> _Convert:
    """A class without a rule: an extension of the parser may have created the object."""

    def convert(value: Any) -> Any:
        with contextlib.suppress(Exception):  # some classes raise in isinstance()
            if isinstance(value, kind):
                return value
        raise wrong(f"{kind.__name__} (which cannot be rebuilt: it is not a dataclass)", value)

    return convert


def _float(value: Any) -> float:
    if type(value) is float:
        return value
    if type(value) is int:  # JSON and MessagePack may write 1.0 as 1
        try:
            return float(value)
        except OverflowError as error:
            raise MismatchError(str(error), error) from None
    raise wrong("float", value)


def _textual(kind: type, form: Form) -> _Convert:
    """A type that is written as a string."""
    raw = kind in BINARY

    def convert(value: Any) -> Any:
        if is_exactly(value, kind):
            return value
        if raw and type(value) is bytes:
            return kind(value)
        if type(value) is str:
            try:
                return form.parse(value)
            except (ValueError, ArithmeticError) as error:
                raise MismatchError(
                    f"expected {form.name}, got str {shown(value)}", error
                ) from None
        raise wrong(form.name, value)

    return convert


# In the order in which a union tries them: types that accept fewer strings first.
_CONVERTERS: dict[type, _Convert] = {
    float: _float,
    **{kind: _textual(kind, form) for kind, form in TEXTUAL.items()},
}


def _one_of(name: str, accepted: Iterable[Any]) -> _Convert:
    """A set of values, distinguished by type as well: 1 is not True."""
    table: dict[Any, Any] = {}
    for item in accepted:
        for binary in (False, True):
            with contextlib.suppress(TypeError):  # a value without a plain form never matches
                table.setdefault(_key(plain_value(item, binary=binary)), item)

    def convert(value: Any) -> Any:
        try:
            return table[_key(value)]
        except (KeyError, TypeError):
            raise wrong(name, value) from None

    return convert


def _key(value: Any) -> Any:
    """A dictionary key that distinguishes 1 from True."""
    if isinstance(value, list | tuple):
        return (list, *map(_key, value))
    return type(value), value


def _enumeration(cls: type[enum.Enum]) -> _Convert:
    members = cls.__members__.values()
    listed = _one_of(cls.__name__, members)
    bits = 0
    if issubclass(cls, enum.Flag):
        for member in members:
            bits |= member.value

    def convert(value: Any) -> Any:
        if isinstance(value, cls):
            return value
        if bits and type(value) is int and 0 <= value == value & bits:
            # Python keeps every combination of flags ever created, as long as the class exists.
            known = cls._value2member_map_
            if value in known or len(known) < _MAX_COMBINATIONS:
                return cls(value)
            raise MismatchError(
                f"{cls.__name__} {value} would be one of more than {_MAX_COMBINATIONS} combinations"
            )
        return listed(value)

    return convert


class _Array:
    """Arrays, read as any of Python's classes for them."""

    __slots__ = ("_convert", "_fit", "_make", "_name")

    def __init__(self, make: Callable[[Iterable[Any]], Any], kind: Any) -> None:
        self._make = make
        self._convert = converter(kind)
        self._fit = _all_fit(kind)
        self._name = getattr(make, "__name__", "array")

    def __call__(self, value: Any) -> Any:
        if not self._is_done(value):
            items = []
            for index, item in enumerate(value):
                try:
                    items.append(self._convert(item))
                except MismatchError as mismatch:
                    mismatch.path.append(f"[{index}]")
                    raise
            value = items
        return self._made(value)

    async def in_turns(self, value: Any, turns: Turns) -> Any:
        """As calling it, with pauses."""
        if not self._is_done(value):
            items = []
            for index, item in enumerate(value):
                try:
                    items.append(await _in_turns(self._convert, item, turns))
                except MismatchError as mismatch:
                    mismatch.path.append(f"[{index}]")
                    raise
                if index % _STEP == 0:
                    await turns.pause()
            value = items
        return self._made(value)

    def _is_done(self, value: Any) -> bool:
        if not isinstance(value, list | tuple):
            raise wrong(self._name, value)
        return self._fit(value)

    def _made(self, items: Any) -> Any:
        make = self._make
        try:
            if make is set or make is frozenset:
                check_hashes(items)
            return items if type(items) is make else make(items)
        except TypeError as error:  # members of a set must be hashable
            raise MismatchError(f"expected {self._name}: {error}", error) from None


class _NamedTuple:
    """A NamedTuple; its members are examined with the first value."""

    __slots__ = ("_arguments", "_cls", "_convert")

    def __init__(self, cls: Any, arguments: tuple[Any, ...]) -> None:
        self._cls = cls
        self._arguments = arguments
        self._convert: _FixedTuple | None = None

    def __call__(self, value: Any) -> Any:
        return self._made(self._converter()(value))

    async def in_turns(self, value: Any, turns: Turns) -> Any:
        """As calling it, with pauses."""
        return self._made(await self._converter().in_turns(value, turns))

    def _converter(self) -> _FixedTuple:
        if self._convert is None:
            self._convert = _FixedTuple(named_tuple_kinds(self._cls, self._arguments))
        return self._convert

    def _made(self, items: tuple[Any, ...]) -> Any:
        try:
            return self._cls._make(items)
        except TypeError as error:  # a __new__ of the application
            raise MismatchError(f"{self._cls.__name__} refuses the values: {error}", error) from (
                None
            )


class _FixedTuple:
    """An array with a type for each member."""

    __slots__ = ("_converters",)

    def __init__(self, kinds: tuple[Any, ...]) -> None:
        self._converters = [converter(kind) for kind in kinds]

    def __call__(self, value: Any) -> tuple[Any, ...]:
        items = []
        for index, (convert, item) in enumerate(self._pairs(value)):
            try:
                items.append(convert(item))
            except MismatchError as mismatch:
                mismatch.path.append(f"[{index}]")
                raise
        return tuple(items)

    async def in_turns(self, value: Any, turns: Turns) -> tuple[Any, ...]:
        """As calling it, with pauses."""
        items = []
        for index, (convert, item) in enumerate(self._pairs(value)):
            try:
                items.append(await _in_turns(convert, item, turns))
            except MismatchError as mismatch:
                mismatch.path.append(f"[{index}]")
                raise
        return tuple(items)

    def _pairs(self, value: Any) -> Iterable[tuple[_Convert, Any]]:
        converters = self._converters
        if not isinstance(value, list | tuple) or len(value) != len(converters):
            raise wrong(f"array of {len(converters)}", value)
        return zip(converters, value, strict=True)


class _Mapping:
    """Mappings, read as any of Python's classes for them."""

    __slots__ = ("_convert_key", "_convert_value", "_keys_fit", "_make", "_values_fit")

    def __init__(
        self, make: Callable[[Iterable[Any]], Any], key_kind: Any, value_kind: Any
    ) -> None:
        self._make = make
        self._convert_key, self._convert_value = key_converter(key_kind), converter(value_kind)
        self._keys_fit, self._values_fit = _all_fit(key_kind), _all_fit(value_kind)

    def __call__(self, value: Any) -> Any:
        if self._is_done(value):
            return self._unchanged(value)
        pairs = []
        for key, item in value.items():
            try:
                pairs.append((self._convert_key(key), self._convert_value(item)))
            except MismatchError as mismatch:
                mismatch.path.append(f"[{shown(key)}]")
                raise
        return self._made(pairs)

    async def in_turns(self, value: Any, turns: Turns) -> Any:
        """As calling it, with pauses."""
        if self._is_done(value):
            return self._unchanged(value)
        pairs = []
        for index, (key, item) in enumerate(value.items()):
            try:
                made = self._convert_key(key)
                pairs.append((made, await _in_turns(self._convert_value, item, turns)))
            except MismatchError as mismatch:
                mismatch.path.append(f"[{shown(key)}]")
                raise
            if index % _STEP == 0:
                await turns.pause()
        return self._made(pairs)

    def _is_done(self, value: Any) -> bool:
        if type(value) is not dict:
            raise wrong("object", value)
        return self._keys_fit(value) and self._values_fit(value.values())

    def _unchanged(self, value: dict[Any, Any]) -> Any:
        return value if self._make is dict else self._make(value.items())

    def _made(self, pairs: list[tuple[Any, Any]]) -> Any:
        try:
            check_hashes([key for key, _ in pairs])
            made = self._make(pairs)
        except TypeError as error:  # a signalling NaN has no hash
            raise MismatchError(f"expected object: {error}", error) from None
        if len(made) != len(pairs):
            raise MismatchError("two of its keys are equal")
        return made


def key_converter(kind: Any) -> _Convert:
    """Return the function for the keys of a mapping, which are always strings in JSON."""
    kind = bare(kind)
    convert, from_text = converter(kind), _key_reader(kind)

    def convert_key(key: Any) -> Any:
        if type(key) is not str:
            return convert(key)
        try:
            return from_text(key)
        except (ValueError, ArithmeticError) as error:
            raise MismatchError(f"no key of type {name_of(kind)}: {error}", error) from None

    return _same if convert is _same else convert_key


def _key_reader(kind: Any) -> Callable[[str], Any]:
    """Return the function that reads a key of a type from its name in JSON."""
    kind = bare(kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    base = origin or kind
    convert = converter(kind)
    if origin in (Union, types.UnionType):
        return _union_key(arguments)
    if kind in (int, float):
        grammar = _INTEGER_KEY if kind is int else _FLOAT_KEY
        return lambda text: _number_key(kind, grammar, text)
    if kind in (bool, type(None)):
        return lambda text: convert(_WORDS.get(text, text))
    if origin is Literal or (isinstance(base, type) and issubclass(base, enum.Enum)):
        return _listed_key(base, convert, arguments)
    if isinstance(base, type) and (base in ARRAYS or issubclass(base, tuple)):
        return lambda text: convert(_frozen(array_of_key(text)))
    return convert


def _number_key(kind: Any, grammar: re.Pattern[str], text: str) -> Any:
    if grammar.fullmatch(text) is None:
        raise ValueError(f"{text[:40]!r} is not a number")
    value = kind(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:40]!r} is too large")
    return value


def _listed_key(base: Any, convert: _Convert, arguments: tuple[Any, ...]) -> Callable[[str], Any]:
    """Keys of a Literal or an enumeration."""
    listed = arguments if base is Literal else base.__members__.values()
    table: dict[str, Any] = {}
    for item in listed:
        with contextlib.suppress(TypeError, ValueError):
            table.setdefault(key_text(plain_value(item, binary=False)), item)

    def read(text: str) -> Any:
        if text in table:
            return table[text]
        return convert(int(text) if _INTEGER_KEY.fullmatch(text) else text)  # flags

    return read


def _union_key(kinds: Iterable[Any]) -> Callable[[str], Any]:
    """Keys of a union: tries types that accept fewer names first, and str last."""
    readers = [(_key_rank(kind), _key_reader(kind), kind) for kind in map(bare, kinds)]
    readers.sort(key=lambda entry: entry[0])

    def read(text: str) -> Any:
        for _, reader, kind in readers:
            try:
                key = reader(text)
            except (MismatchError, ValueError, ArithmeticError):
                continue
            if kind not in DISTINCT or DISTINCT[kind].write(key) == text:
                return key
        raise ValueError(f"{text[:40]!r} is not a key of any of the types")

    return read


def _key_rank(kind: Any) -> int:
    base = typing.get_origin(kind) or kind
    order = (type(None), bool, int, float, *DISTINCT, *ARRAYS, str, *TEXTUAL)
    if base is Literal or (isinstance(base, type) and issubclass(base, enum.Enum)):
        return -1
    return order.index(base) if base in order else len(order)


def _frozen(value: Any) -> Any:
    """Convert arrays to tuples, which can be keys."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def check_hashes(keys: Collection[Any]) -> None:
    """Refuse keys chosen to have the same hash: a table of n of them takes n * n steps."""
    if len(keys) <= _FEW_KEYS or _SAFE_KEYS.issuperset(map(type, keys)):
        return
    if max(Counter(map(hash, keys)).values()) <= _MAX_SAME_HASH:
        return
    known: dict[int, list[Any]] = {}
    for key in keys:
        same = known.setdefault(hash(key), [])
        if key not in same:
            if len(same) == _MAX_SAME_HASH:
                raise MismatchError(f"more than {_MAX_SAME_HASH} keys have the same hash")
            same.append(key)


def _all_fit(kind: Any) -> Callable[[Iterable[Any]], bool]:
    """Whether all values can stay as they are; if False, each must be examined."""
    kind = bare(kind)
    if kind is Any or kind is object:
        return lambda values: True
    if kind in _SCALARS:
        exact = {kind}
        return lambda values: exact.issuperset(map(type, values))
    return lambda values: False


class _Record:
    """A dataclass or TypedDict; its fields are examined with the first value."""

    __slots__ = ("_arguments", "_cls", "_fields", "_names", "_required")

    def __init__(self, cls: type, arguments: tuple[Any, ...]) -> None:
        self._cls = cls
        self._arguments = arguments
        # By name: the class that needs no conversion, and the function for other values.
        self._fields: dict[str, tuple[type | None, _Convert]] | None = None
        self._names: frozenset[str] = frozenset()
        self._required: frozenset[str] = frozenset()

    def is_of(self, kind: Any) -> bool:
        """Whether this is the record of a type."""
        cls, arguments = typing.get_origin(kind) or kind, typing.get_args(kind)
        return self._cls is cls and self._arguments == arguments

    def fits(self, names: Set[Any]) -> bool:
        """Whether the names are right; does not check the values."""
        if self._fields is None:
            self._prepare()
        return self._required <= names <= self._names

    def __call__(self, value: Any) -> Any:
        if type(value) is not dict:
            return self._instance(value)
        table = self._fields or self._prepare()
        made: dict[str, Any] = {}
        for name, item in value.items():
            exact, convert = table.get(name) or self._unknown(name)
            if type(item) is exact:
                made[name] = item
                continue
            try:
                made[name] = convert(item)
            except MismatchError as mismatch:
                mismatch.path.append(f".{name}")
                raise
        return self._made(made)

    async def in_turns(self, value: Any, turns: Turns) -> Any:
        """As calling it, with pauses."""
        if type(value) is not dict:
            return self._instance(value)
        table = self._fields or self._prepare()
        made: dict[str, Any] = {}
        for name, item in value.items():
            exact, convert = table.get(name) or self._unknown(name)
            if type(item) is exact:
                made[name] = item
                continue
            try:
                made[name] = await _in_turns(convert, item, turns)
            except MismatchError as mismatch:
                mismatch.path.append(f".{name}")
                raise
        return self._made(made)

    def _instance(self, value: Any) -> Any:
        """Accept an instance that an extension of the parser created."""
        if is_dataclass(self._cls) and isinstance(value, self._cls):
            return value
        raise wrong(f"object ({self._cls.__name__})", value)

    def _unknown(self, name: Any) -> NoReturn:
        accepted = ", ".join(sorted(self._names)) or "none"
        raise MismatchError(
            f"unknown field {shown(name)}; the fields of {self._cls.__name__} are {accepted}"
        )

    def _made(self, made: dict[str, Any]) -> Any:
        cls = self._cls
        if not made.keys() >= self._required:
            missing = ", ".join(sorted(self._required - made.keys()))
            raise MismatchError(f"missing field {missing} of {cls.__name__}")
        if not is_dataclass(cls):
            return made
        try:
            return cls(**made)
        except Exception as error:  # __post_init__ is the application's
            raise MismatchError(f"{cls.__name__} refuses the values: {error}", error) from None

    def _prepare(self) -> dict[str, tuple[type | None, _Convert]]:
        cls = self._cls
        hints = hints_of(cls)
        if is_dataclass(cls):
            own = [field for field in fields(cls) if field.init]
            names = [field.name for field in own]
            required = {
                field.name
                for field in own
                if field.default is MISSING and field.default_factory is MISSING
            }
        else:
            names = list(hints)
            required = {name for name, hint in hints.items() if _is_required(cls, name, hint)}
        table: dict[str, tuple[type | None, _Convert]] = {}
        for name, kind in field_kinds(cls, self._arguments, names).items():
            scalar = bare(kind)
            table[name] = (scalar if scalar in _SCALARS else None, converter(kind))
        self._names, self._required, self._fields = frozenset(names), frozenset(required), table
        return table


def _is_required(cls: Any, name: str, hint: Any) -> bool:
    """Whether a TypedDict requires the key; the class knows only if annotations are not strings."""
    origin = typing.get_origin(hint)
    if origin in (typing.Required, typing.NotRequired):
        return origin is typing.Required
    return name in cls.__required_keys__


class _Union:
    """One of several types. The choice depends on the outermost value only and is final.

    If each alternative were tried completely, the time would double with each level.
    """

    __slots__ = (
        "_any",
        "_array",
        "_exact",
        "_leaves",
        "_mapping",
        "_name",
        "_texts",
        "listed",
        "records",
        "unmistakable",
    )

    def __init__(self, kind: Any) -> None:
        self._name = name_of(kind)
        self._any = False
        self._exact: set[type] = set()
        self.listed: list[_Convert] = []
        self._texts: list[tuple[type, Form]] = []
        self._leaves: list[_Convert] = []
        self.records: list[_Record] = []
        self._array: _Convert | None = None
        self._mapping: _Convert | None = None
        self._add(kind)
        ranks = {convert: rank for rank, convert in enumerate(_CONVERTERS.values())}
        self._leaves.sort(key=lambda convert: ranks.get(convert, -1))
        # Values of these classes cannot be read as any other type.
        self.unmistakable = (
            set() if self.listed else self._exact - ({str} if self._texts else set())
        )
        order = list(DISTINCT)
        self._texts.sort(key=lambda entry: order.index(entry[0]))

    def _add(self, kind: Any) -> None:
        for member in union_members(kind):
            base = typing.get_origin(member) or member
            convert = converter(member)
            if base is Literal or (isinstance(base, type) and issubclass(base, enum.Enum)):
                self.listed.append(convert)
                continue
            if member in DISTINCT:
                self._texts.append((member, DISTINCT[member]))
            if member in _SCALARS or member is float:
                self._exact.add(member)
            if isinstance(convert, _Record):
                self.records.append(convert)
            elif convert is _same:
                self._any = True
            elif base in ARRAYS or isinstance(convert, _NamedTuple):
                self._array = self._single(self._array, convert)
            elif base in MAPPINGS:
                self._mapping = self._single(self._mapping, convert)
            else:
                self._leaves.append(convert)

    def _single(self, present: _Convert | None, convert: _Convert) -> _Convert:
        if present is not None:
            raise SerializationError(
                f"messages cannot be rebuilt as {self._name}: two alternatives look alike"
            )
        return convert

    def __call__(self, value: Any) -> Any:
        kind = type(value)
        for listed in self.listed:
            try:
                return listed(value)
            except MismatchError:
                continue
        if kind is str:
            for _, form in self._texts:
                # Accept only the exact written form; other strings stay strings.
                with contextlib.suppress(ValueError, ArithmeticError):
                    made = form.parse(value)
                    if form.write(made) == value:
                        return made
        if kind in self._exact:
            return value
        if kind is dict and self.records:
            for record in self.records:
                if record.fits(value.keys()):
                    return record(value)
            if len(self.records) == 1 and self._mapping is None and not self._any:
                return self.records[0](value)  # raises the right error
        if kind is dict and self._mapping is not None:
            return self._mapping(value)
        if isinstance(value, list | tuple) and self._array is not None:
            return self._array(value)
        for leaf in self._leaves:
            try:
                return leaf(value)
            except MismatchError:
                continue
        for record in self.records:
            if kind is not dict:
                try:
                    return record(value)
                except MismatchError:
                    continue
        if self._any:
            return value
        raise wrong(self._name, value)

    async def in_turns(self, value: Any, turns: Turns) -> Any:
        """As calling it, with pauses."""
        convert: _Convert | None = None
        if type(value) is dict:
            fitting = (record for record in self.records if record.fits(value.keys()))
            convert = next(fitting, self._mapping)
        elif type(value) is list:
            convert = self._array
        # A list may be one of the listed values.
        if convert is None or self.listed:
            return self(value)
        return await _in_turns(convert, value, turns)
