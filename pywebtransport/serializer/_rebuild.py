"""Plain data back to typed objects: dataclasses and what they are made of.

Each type becomes a function once. Data must fit exactly: no missing, unknown or
differently typed field, and nothing is converted but what JSON lacks.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import decimal
import enum
import re
import reprlib
import types
import typing
import uuid
from collections import abc
from collections.abc import Callable, Collection, Iterable
from dataclasses import MISSING, fields, is_dataclass
from functools import lru_cache
from typing import Any, Literal, TypeVar, Union

from ..exceptions import SerializationError

__all__ = ["rebuild"]

_Convert = Callable[[Any], Any]

_SCALARS = (str, int, bool, type(None))
_LISTS = (list, abc.Sequence, abc.MutableSequence, abc.Collection, abc.Iterable)
_SETS = {set: set, frozenset: frozenset, abc.Set: frozenset, abc.MutableSet: set}
_MAPPINGS = (dict, abc.Mapping, abc.MutableMapping)
_INTEGER_KEY = re.compile(r"-?(0|[1-9][0-9]{0,99})", re.ASCII)
# Python hashes these with a secret; the hashes of all others are known to everybody.
_SAFE_KEYS = frozenset({str, bytes})
_FEW_KEYS = 100
_MAX_SAME_HASH = 32
_MAX_COMBINATIONS = 10_000


def rebuild(value: Any, obj_type: Any) -> Any:
    """Make an ``obj_type`` of plain data.

    Args:
        value: What a parser gave; its depth is bounded by the caller.
        obj_type: A dataclass, TypedDict, enumeration, ``list[...]``, ``A | B`` and so on.

    Raises:
        SerializationError: The data do not fit; the message and ``details["path"]`` name where.
    """
    try:
        return _converter(obj_type)(value)
    except _MismatchError as mismatch:
        path = getattr(obj_type, "__name__", None) or str(obj_type)
        path += "".join(reversed(mismatch.path))
        raise SerializationError(
            f"{path}: {mismatch.reason}",
            details={"path": path},
            original_exception=mismatch.original,
        ) from mismatch.original
    except RecursionError as error:
        raise SerializationError(
            f"the message nests too deeply for {obj_type!r}", original_exception=error
        ) from error


class _MismatchError(Exception):
    """The data do not fit; on the way up each container adds its step of the path."""

    def __init__(self, reason: str, original: Exception | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.original = original
        self.path: list[str] = []


def _wrong(expected: str, value: Any) -> _MismatchError:
    shown = "null" if value is None else f"{type(value).__name__} {reprlib.repr(value)}"
    return _MismatchError(f"expected {expected}, got {shown}")


def _name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")


def _converter(kind: Any) -> _Convert:
    """The function for a type."""
    try:
        return _cached(kind)
    except TypeError:  # an annotation can be unhashable
        return _make(kind)


def _make(kind: Any) -> _Convert:
    kind = _bare(kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any or kind is object:
        return _same
    if origin in (Union, types.UnionType):
        return _Union(kind)
    if origin is Literal:
        return _one_of(_name(kind), arguments)
    base = origin or kind
    if not isinstance(base, type):
        raise SerializationError(f"messages cannot be rebuilt as {kind!r}: no such kind of type")
    if base in _SCALARS:
        return _exactly(base)
    if base in _TEXTUAL:
        return _TEXTUAL[base]
    if is_dataclass(base) or typing.is_typeddict(base):
        return _Record(base, arguments)
    if issubclass(base, enum.Enum):
        return _enumeration(base)
    fixed = arguments[1:] != (...,) and (arguments or isinstance(kind, types.GenericAlias))
    if base is tuple and fixed:
        return _fixed_tuple(arguments)
    if base is tuple:
        return _array(tuple, arguments[0] if arguments else Any)
    if base in _SETS:
        return _array(_SETS[base], arguments[0] if arguments else Any)
    if base in _LISTS:
        return _array(list, arguments[0] if arguments else Any)
    if base in _MAPPINGS:
        return _mapping(*(arguments or (Any, Any)))
    return _instance(base)


_cached = lru_cache(maxsize=1024)(_make)


def _bare(kind: Any) -> Any:
    """A type without what does not matter here: aliases, annotations, qualifiers."""
    while True:
        origin = typing.get_origin(kind)
        if origin in (typing.Annotated, typing.Required, typing.NotRequired, typing.Final):
            kind = typing.get_args(kind)[0]
        elif isinstance(kind, typing.NewType):
            kind = kind.__supertype__
        elif isinstance(kind, TypeVar):
            kind = kind.__bound__ or Any
        elif type(kind).__name__ == "TypeAliasType":
            kind = kind.__value__
        else:
            return type(None) if kind is None else kind


def _same(value: Any) -> Any:
    return value


def _exactly(kind: type) -> _Convert:
    name = "null" if kind is type(None) else kind.__name__

    def convert(value: Any) -> Any:
        if type(value) is kind:
            return value
        raise _wrong(name, value)

    return convert


def _instance(kind: type) -> _Convert:
    """A class without a rule: an extension of the parser may have made the object."""

    def convert(value: Any) -> Any:
        if isinstance(value, kind):
            return value
        raise _wrong(f"{kind.__name__} (which cannot be rebuilt: no dataclass)", value)

    return convert


def _float(value: Any) -> float:
    if type(value) is float:
        return value
    if type(value) is int:  # JSON and MsgPack write 1.0 as 1 at times
        try:
            return float(value)
        except OverflowError as error:
            raise _MismatchError(str(error), error) from None
    raise _wrong("float", value)


def _textual(kind: type, parse: Callable[[str], Any], form: str) -> _Convert:
    """A type that JSON writes as a string."""

    def convert(value: Any) -> Any:
        if isinstance(value, kind):
            return value
        if type(value) is str:
            try:
                return parse(value)
            except (ValueError, ArithmeticError) as error:
                raise _MismatchError(
                    f"expected {form}, got str {reprlib.repr(value)}", error
                ) from None
        raise _wrong(form, value)

    return convert


def _parse_base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


# In the order in which a union tries them: what accepts fewer strings is first.
_TEXTUAL: dict[type, _Convert] = {
    float: _float,
    uuid.UUID: _textual(uuid.UUID, uuid.UUID, "UUID"),
    datetime.date: _textual(datetime.date, datetime.date.fromisoformat, "date (ISO 8601)"),
    datetime.datetime: _textual(
        datetime.datetime, datetime.datetime.fromisoformat, "date and time (ISO 8601)"
    ),
    datetime.time: _textual(datetime.time, datetime.time.fromisoformat, "time (ISO 8601)"),
    decimal.Decimal: _textual(decimal.Decimal, decimal.Decimal, "decimal number"),
    bytes: _textual(bytes, _parse_base64, "bytes (in JSON base64)"),
}


def _one_of(name: str, accepted: Iterable[Any]) -> _Convert:
    """A set of values, told apart by type too: 1 is not True."""
    table: dict[tuple[type, Any], Any] = {}
    for item in accepted:
        with contextlib.suppress(TypeError):  # an unhashable value has no form here
            table[_key(item.value if isinstance(item, enum.Enum) else item)] = item

    def convert(value: Any) -> Any:
        try:
            return table[_key(value)]
        except (KeyError, TypeError):
            raise _wrong(name, value) from None

    return convert


def _key(value: Any) -> tuple[type, Any]:
    """A dictionary key that tells 1 from True; a tuple comes as a list."""
    if type(value) is list:
        value = tuple(value)
    hash(value)
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
            # Python keeps every combination that was ever made, as long as the class lives.
            known = cls._value2member_map_
            if value in known or len(known) < _MAX_COMBINATIONS:
                return cls(value)
            raise _MismatchError(
                f"{cls.__name__} {value} would be one of more than {_MAX_COMBINATIONS} combinations"
            )
        return listed(value)

    return convert


def _array(make: Callable[[Iterable[Any]], Any], kind: Any) -> _Convert:
    convert_item = _converter(kind)
    fit = _all_fit(kind)
    name = getattr(make, "__name__", "array")

    def convert(value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise _wrong(name, value)
        if not fit(value):
            items = []
            for index, item in enumerate(value):
                try:
                    items.append(convert_item(item))
                except _MismatchError as mismatch:
                    mismatch.path.append(f"[{index}]")
                    raise
            value = items
        try:
            if make is set or make is frozenset:
                _check_hashes(value)
            return value if type(value) is make else make(value)
        except TypeError as error:  # members of a set must be hashable
            raise _MismatchError(f"expected {name}: {error}", error) from None

    return convert


def _fixed_tuple(kinds: tuple[Any, ...]) -> _Convert:
    converters = [_converter(kind) for kind in kinds]

    def convert(value: Any) -> Any:
        if not isinstance(value, list | tuple) or len(value) != len(converters):
            raise _wrong(f"array of {len(converters)}", value)
        items = []
        for index, (convert_item, item) in enumerate(zip(converters, value, strict=True)):
            try:
                items.append(convert_item(item))
            except _MismatchError as mismatch:
                mismatch.path.append(f"[{index}]")
                raise
        return tuple(items)

    return convert


def _mapping(key_kind: Any, value_kind: Any) -> _Convert:
    convert_key, convert_value = _converter(key_kind), _converter(value_kind)
    keys_fit, values_fit = _all_fit(key_kind), _all_fit(value_kind)
    integer_keys = _bare(key_kind) is int

    def convert(value: Any) -> Any:
        if type(value) is not dict:
            raise _wrong("object", value)
        if keys_fit(value) and values_fit(value.values()):
            return value
        pairs = []
        for key, item in value.items():
            try:
                if integer_keys and type(key) is str and _INTEGER_KEY.fullmatch(key):
                    key = int(key)  # the names of JSON are strings
                pairs.append((convert_key(key), convert_value(item)))
            except _MismatchError as mismatch:
                mismatch.path.append(f"[{reprlib.repr(key)}]")
                raise
        try:
            _check_hashes([key for key, _ in pairs])
            return dict(pairs)
        except TypeError as error:  # a signalling NaN has no hash
            raise _MismatchError(f"expected object: {error}", error) from None

    return convert


def _check_hashes(keys: Collection[Any]) -> None:
    """Refuse keys chosen to have one hash: a table of n of them takes n * n steps."""
    if len(keys) <= _FEW_KEYS or _SAFE_KEYS.issuperset(map(type, keys)):
        return
    known: dict[int, list[Any]] = {}
    for key in keys:
        same = known.setdefault(hash(key), [])
        if key not in same:
            if len(same) == _MAX_SAME_HASH:
                raise _MismatchError(f"more than {_MAX_SAME_HASH} keys have the same hash")
            same.append(key)


def _all_fit(kind: Any) -> Callable[[Iterable[Any]], bool]:
    """Whether values can stay as they are; False says only that each must be looked at."""
    kind = _bare(kind)
    if kind is Any or kind is object:
        return lambda values: True
    if kind in _SCALARS:
        exact = {kind}
        return lambda values: exact.issuperset(map(type, values))
    return lambda values: False


class _Record:
    """A dataclass or TypedDict; its fields are looked at when the first one comes."""

    __slots__ = ("_arguments", "_cls", "_fields", "_names", "_required")

    def __init__(self, cls: type, arguments: tuple[Any, ...]) -> None:
        self._cls = cls
        self._arguments = arguments
        # By name: the class that needs no conversion, and the function for all others.
        self._fields: dict[str, tuple[type | None, _Convert]] | None = None
        self._names: frozenset[str] = frozenset()
        self._required: frozenset[str] = frozenset()

    def fits(self, value: dict[Any, Any]) -> bool:
        """The names are right; says nothing about the values."""
        if self._fields is None:
            self._prepare()
        return self._required <= value.keys() <= self._names

    def __call__(self, value: Any) -> Any:
        cls = self._cls
        if type(value) is not dict:
            if is_dataclass(cls) and isinstance(value, cls):
                return value
            raise _wrong(f"object ({cls.__name__})", value)
        table = self._fields or self._prepare()
        made: dict[str, Any] = {}
        for name, item in value.items():
            known = table.get(name)
            if known is None:
                accepted = ", ".join(sorted(table)) or "none"
                raise _MismatchError(
                    f"unknown field {reprlib.repr(name)}; the fields of {cls.__name__} are "
                    f"{accepted}"
                )
            exact, convert = known
            if type(item) is exact:
                made[name] = item
                continue
            try:
                made[name] = convert(item)
            except _MismatchError as mismatch:
                mismatch.path.append(f".{name}")
                raise
        if not made.keys() >= self._required:
            missing = ", ".join(sorted(self._required - made.keys()))
            raise _MismatchError(f"missing field {missing} of {cls.__name__}")
        if not is_dataclass(cls):
            return made
        try:
            return cls(**made)
        except Exception as error:  # __post_init__ is the application's
            raise _MismatchError(f"{cls.__name__} refuses the values: {error}", error) from None

    def _prepare(self) -> dict[str, tuple[type | None, _Convert]]:
        cls = self._cls
        try:
            hints = typing.get_type_hints(cls, include_extras=True)
        except Exception as error:
            raise SerializationError(
                f"cannot resolve the annotations of {cls.__qualname__}: {error}",
                original_exception=error,
            ) from error
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
        chosen: dict[type, dict[Any, Any]] = {}
        _choose(cls, self._arguments, chosen)
        table: dict[str, tuple[type | None, _Convert]] = {}
        for name in names:
            kind = _bare(_filled_in(hints[name], _chosen_for(cls, name, chosen)))
            table[name] = (kind if kind in _SCALARS else None, _converter(kind))
        self._names, self._required, self._fields = frozenset(names), frozenset(required), table
        return table


def _choose(cls: type, arguments: tuple[Any, ...], chosen: dict[type, dict[Any, Any]]) -> None:
    """Note what stands for the type variables of a generic class and of its bases."""
    own = dict(zip(getattr(cls, "__parameters__", ()), arguments, strict=False))
    chosen[cls] = own
    for base in vars(cls).get("__orig_bases__", cls.__bases__):
        origin = typing.get_origin(base) or base
        if isinstance(origin, type) and origin is not typing.Generic:
            given = tuple(_filled_in(argument, own) for argument in typing.get_args(base))
            _choose(origin, given, chosen)


def _chosen_for(cls: type, name: str, chosen: dict[type, dict[Any, Any]]) -> dict[Any, Any]:
    """The type variables of the class that declares a field."""
    if not is_dataclass(cls):  # a TypedDict does not know who declares what
        return {key: kind for table in chosen.values() for key, kind in table.items()}
    field = cls.__dataclass_fields__[name]
    for base in reversed(cls.__mro__):
        if vars(base).get("__dataclass_fields__", {}).get(name) is field:
            return chosen.get(base, {})
    return {}


def _filled_in(hint: Any, chosen: dict[Any, Any]) -> Any:
    """A type with what was chosen for its variables: of ``Page[Item]``, for instance."""
    if isinstance(hint, TypeVar):
        return chosen.get(hint, hint)
    inner = getattr(hint, "__parameters__", ())
    if chosen and inner and typing.get_origin(hint) is not None:
        return hint[tuple(chosen.get(variable, variable) for variable in inner)]
    return hint


def _is_required(cls: Any, name: str, hint: Any) -> bool:
    """A TypedDict must have the key. The class knows it only of annotations that are no text."""
    origin = typing.get_origin(hint)
    if origin in (typing.Required, typing.NotRequired):
        return origin is typing.Required
    return name in cls.__required_keys__


class _Union:
    """One of several types. The choice looks at the outside only and is never taken back.

    Trying each alternative to the bottom would take a time that doubles with each level.
    """

    __slots__ = ("_any", "_array", "_exact", "_leaves", "_mapping", "_name", "_records")

    def __init__(self, kind: Any) -> None:
        self._name = _name(kind)
        self._any = False
        self._exact: set[type] = set()
        self._leaves: list[_Convert] = []
        self._records: list[_Record] = []
        self._array: _Convert | None = None
        self._mapping: _Convert | None = None
        self._add(kind)
        ranks = {convert: rank for rank, convert in enumerate(_TEXTUAL.values())}
        self._leaves.sort(key=lambda convert: ranks.get(convert, -1))

    def _add(self, kind: Any) -> None:
        for member in map(_bare, typing.get_args(kind)):
            base = typing.get_origin(member) or member
            if base in (Union, types.UnionType):
                self._add(member)
                continue
            convert = _converter(member)
            if member in _SCALARS or member is float:
                self._exact.add(member)
            if isinstance(convert, _Record):
                self._records.append(convert)
            elif convert is _same:
                self._any = True
            elif base is tuple or base in _LISTS or base in _SETS:
                self._array = self._single(self._array, convert)
            elif base in _MAPPINGS:
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
        if kind in self._exact:
            return value
        if kind is dict and self._records:
            for record in self._records:
                if record.fits(value):
                    return record(value)
            if len(self._records) == 1 and self._mapping is None and not self._any:
                return self._records[0](value)  # says what is wrong
        if kind is dict and self._mapping is not None:
            return self._mapping(value)
        if isinstance(value, list | tuple) and self._array is not None:
            return self._array(value)
        for leaf in self._leaves:
            try:
                return leaf(value)
            except _MismatchError:
                continue
        for record in self._records:
            if kind is not dict:
                try:
                    return record(value)
                except _MismatchError:
                    continue
        if self._any:
            return value
        raise _wrong(self._name, value)
