"""Converts dataclasses to plain data according to their annotations, so that they can be rebuilt.

Values that ``_rebuild`` could not restore are refused here, by the same rules: a value whose type
differs from that of its field, a value that a union would read as another alternative, or two keys
that are equal in JSON. Each type is compiled to a function once.
"""

from __future__ import annotations

import contextlib
import datetime
import enum
import types
import typing
from collections import Counter, OrderedDict, abc, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, InitVar, fields, is_dataclass
from functools import lru_cache, partial
from typing import Any, Literal, NamedTuple, Union

from ..exceptions import SerializationError
from ._kinds import (
    bare,
    field_kinds,
    is_alias,
    is_fixed_tuple,
    is_named_tuple,
    mapping_kinds,
    name_of,
    named_tuple_kinds,
    order_of,
    union_members,
)
from ._rebuild import ARRAYS, MAPPINGS, MismatchError, converter, key_converter, wrong
from ._texts import BINARY, TEXTUAL, is_exactly, key_text, plain_value, shown, text_of

__all__ = ["has_made_init", "named_keys", "record_to_plain", "refused"]

_Write = Callable[[Any], Any]

_SCALARS = (str, int, float, bool, type(None))
_NATIVE = (str, int, float, list, tuple, Mapping, set, frozenset, deque, *TEXTUAL, enum.Enum)
_NAMES = frozenset({str})
_NO_ARRAYS = (str, bytes, bytearray, memoryview, Mapping)
# More levels than any message may have: an object that contains itself would never end.
_MAX_STEPS = 300
# Characters of a path in an error message.
_MAX_PATH = 500


def record_to_plain(obj: Any, *, binary: bool) -> dict[str, Any]:
    """Convert the fields of a dataclass, and of nested ones, to a dictionary.

    Values whose type no annotation tells may need the hook of the encoder again.

    Args:
        obj: An instance.
        binary: Whether the format has bytes, and keys that are not strings.

    Raises:
        MismatchError: The written form could not be read back.
    """
    try:
        kind: Any = type(obj)
        return _record(kind, (), "", binary)(obj)
    except MismatchError as mismatch:
        mismatch.owner = obj
        raise


def named_keys(value: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Convert the keys of a mapping without an annotation to strings, as JSON needs.

    Raises:
        TypeError: A key has no string form, or two keys have the same one.
    """
    if all(type(key) is str for key in value):
        return value
    named = {key_text(plain_value(key, binary=False)): item for key, item in value.items()}
    if len(named) != len(value):
        raise TypeError("two of its keys have the same name in JSON")
    return named


def refused(
    obj: Any, form: str, encode: Callable[[Any], object], error: Exception
) -> SerializationError:
    """Create the exception for an object that an encoder refused, with the path; slow.

    Args:
        obj: The object to write.
        form: Name of the format.
        encode: Raises for objects that cannot be written.
        error: The exception that it raised for ``obj``.
    """
    name = type(obj).__name__
    steps: list[str] = []
    if isinstance(error, MismatchError):
        with contextlib.suppress(RecursionError):
            steps += _steps_to(error.owner, obj, set()) or []
        steps += reversed(error.path)
    else:
        seen = {id(obj)}
        for _ in range(_MAX_STEPS):
            for step, part in _parts(obj):
                if id(part) in seen:  # it contains itself
                    continue
                seen.add(id(part))
                try:
                    encode(part)
                except Exception as inner:
                    steps.append(step)
                    obj, error = part, inner
                    break
            else:
                break
    path = name + "".join(steps)
    where = f"{path[:_MAX_PATH]}: " if steps else ""
    reason: object = error
    if isinstance(error, RecursionError):
        reason = "it contains itself or nests too deeply"
    return SerializationError(
        f"cannot write {name} as {form}: {where}{reason}",
        details={"path": path},
        original_exception=error,
    )


def _steps_to(wanted: Any, obj: Any, seen: set[int]) -> list[str] | None:
    """The path from an object to one that it contains."""
    if obj is wanted:
        return []
    if id(obj) not in seen:
        seen.add(id(obj))
        for step, part in _parts(obj):
            steps = _steps_to(wanted, part, seen)
            if steps is not None:
                return [step, *steps]
    return None


def _parts(obj: Any) -> list[tuple[str, Any]]:
    """What an object contains, as far as it can be read."""
    found: list[tuple[str, Any]] = []
    with contextlib.suppress(Exception):
        found.extend(_held(obj))
    return found


def _held(obj: Any) -> Iterator[tuple[str, Any]]:
    if is_dataclass(obj) and not isinstance(obj, type):
        for field in fields(obj):
            if field.init:
                with contextlib.suppress(Exception):  # a property of the application
                    yield f".{field.name}", getattr(obj, field.name)
    elif isinstance(obj, Mapping):
        for key, item in obj.items():
            step = f"[{shown(key)}]"
            if item is not None:
                yield step, {key: None}
            yield step, item
    elif isinstance(obj, list | tuple | set | frozenset | deque):
        for index, item in enumerate(obj):
            yield f"[{index}]", item


# ------------------------------------------------------------------- dataclasses


@lru_cache(maxsize=1024)
def _record(
    cls: Any, arguments: tuple[Any, ...], order: str, binary: bool
) -> Callable[[Any], dict[str, Any]]:
    """Return the function for a dataclass; it is compiled with the first instance."""
    names = [field.name for field in fields(cls) if field.init]
    try:
        kinds = field_kinds(cls, arguments, names)
    except SerializationError:
        # Annotations that cannot be resolved: the peer may still be able to rebuild it.
        kinds = dict.fromkeys(names, Any)
    table = [(name, exact_types(kind), writer(kind, binary)) for name, kind in kinds.items()]
    check = _remainder(cls)

    def write_record(obj: Any) -> dict[str, Any]:
        made = {}
        for name, exact, write in table:
            value = getattr(obj, name)
            if type(value) not in exact and write is not None:
                try:
                    value = write(value)
                except MismatchError as mismatch:
                    mismatch.path.append(f".{name}")
                    raise
            made[name] = value
        if check is not None:
            check(obj)
        return made

    return write_record


def exact_types(kind: Any) -> frozenset[type]:
    """The classes of a type whose direct instances are written unchanged."""
    kind = bare(kind)
    if kind in (str, int, bool, float, type(None)):
        return frozenset({kind})
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if (origin or kind) is list and (not arguments or bare(arguments[0]) in (Any, object)):
        return frozenset({list})
    if origin in (Union, types.UnionType):
        with contextlib.suppress(SerializationError):
            return frozenset(getattr(converter(kind), "unmistakable", ()))
    return frozenset()


def _remainder(cls: Any) -> Callable[[Any], None] | None:
    """Return the check that the constructor restores the fields that are not written."""
    taken = [field.name for field in fields(cls) if field.init]
    compared = [field.name for field in fields(cls) if field.compare]
    needed = [
        name
        for name, field in cls.__dataclass_fields__.items()
        if _is_init_var(field) and field.default is MISSING
    ]
    if needed and cls.__dataclass_params__.init:

        def refuse(obj: Any) -> None:
            raise MismatchError(
                f"{cls.__name__} cannot be rebuilt: its constructor needs {needed[0]}, an "
                "InitVar, whose value is not kept"
            )

        return refuse
    if compared == taken and not hasattr(cls, "__post_init__") and has_made_init(cls):
        return None

    def check(obj: Any) -> None:
        try:
            again = cls(**{name: getattr(obj, name) for name in taken})
        except Exception as error:  # __post_init__ is the application's
            raise MismatchError(f"{cls.__name__} refuses its own values: {error}", error) from None
        for name in compared:
            old, new = getattr(obj, name, MISSING), getattr(again, name, MISSING)
            if not _is_same(new, old, strict=True):
                mismatch = MismatchError(f"the constructor makes it {shown(new)}, not {shown(old)}")
                mismatch.path.append(f".{name}")
                raise mismatch

    return check


def has_made_init(cls: Any) -> bool:
    """Whether the constructor was generated by ``dataclass``, so that it is in no file."""
    code = getattr(cls.__init__, "__code__", None)
    return getattr(code, "co_filename", None) == "<string>"


def _is_init_var(field: Any) -> bool:
    return isinstance(field.type, InitVar) or "_FIELD_INITVAR" in repr(field._field_type)


# ------------------------------------------------------------------------- types


def writer(kind: Any, binary: bool) -> _Write | None:
    """Return the function for a type; None: values are written unchanged."""
    try:
        return _cached(kind, order_of(kind), binary)
    except TypeError:  # an annotation can be unhashable
        return _make(kind, binary)


def _make(kind: Any, binary: bool) -> _Write | None:
    if is_alias(kind):
        return lambda value: _written(writer(bare(kind), binary), value)
    kind = bare(kind)
    if kind is Any or kind is object:
        return None
    try:
        read = converter(kind)
    except SerializationError as error:
        return _refusing(error.message)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return _optional(kind, read, binary) or _UnionWriter(kind, read, binary)
    base = origin or kind
    if base is Literal or issubclass(base, enum.Enum):
        return _listed(base, read, name_of(kind), binary)
    if base in (str, int, bool, type(None)):
        return _scalar(base)
    if base is float:
        return _float
    if base in TEXTUAL:
        return _textual(base, binary)
    if is_dataclass(base):
        return _instance(base, arguments, binary)
    if typing.is_typeddict(base):
        return _TypedDictWriter(base, arguments, read, binary)
    if is_fixed_tuple(kind):
        return _fixed(tuple, arguments, binary)
    if base in ARRAYS:
        return _array(base, arguments[0] if arguments else Any, binary)
    if is_named_tuple(base):
        return _named_tuple(base, arguments, binary)
    if base in MAPPINGS:
        return _mapping(base, *mapping_kinds(base, arguments), binary)
    return _unknown(base)


@lru_cache(maxsize=1024)
def _cached(kind: Any, order: str, binary: bool) -> _Write | None:
    return _make(kind, binary)


def _written(write: _Write | None, value: Any) -> Any:
    return value if write is None else write(value)


def _refusing(reason: str) -> _Write:
    def write(value: Any) -> Any:
        raise MismatchError(reason)

    return write


def _unknown(kind: type) -> _Write:
    """A class without a rule: hooks of the application may handle it."""

    def write(value: Any) -> Any:
        with contextlib.suppress(Exception):  # some classes raise in isinstance()
            if type(value) in _SCALARS and isinstance(value, kind):
                return value
        if value is None or isinstance(value, _NATIVE) or is_dataclass(value):
            raise MismatchError(
                f"{type(value).__name__} would not be read as {kind.__name__}, which is not a type "
                "that can be rebuilt"
            )
        return value

    return write


def _scalar(kind: type) -> _Write:
    name = "None" if kind is type(None) else kind.__name__

    def write(value: Any) -> Any:
        if isinstance(value, kind) and (kind is not int or not isinstance(value, bool)):
            return value
        raise wrong(name, value)

    return write


def _float(value: Any) -> Any:
    if isinstance(value, float):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            if float(value) == value:
                return value
        raise MismatchError("no float is this whole number")
    raise wrong("float", value)


def _textual(kind: type, binary: bool) -> _Write:
    name, text_form, raw = TEXTUAL[kind].name, TEXTUAL[kind].write, kind in BINARY
    # MessagePack has bytes, and may have its own form of times.
    as_it_is = binary and (raw or kind is datetime.datetime)

    def write(value: Any) -> Any:
        if type(value) is kind and kind is not memoryview:
            return value if as_it_is else text_form(value)
        if not (isinstance(value, tuple(BINARY)) if raw else is_exactly(value, kind)):
            raise wrong(name, value)
        if isinstance(value, memoryview) and (value.format != "B" or value.ndim != 1):
            raise MismatchError(f"a memoryview of format {value.format!r} would be read as bytes")
        return value if as_it_is else text_of(value)

    return write


def _listed(base: Any, read: _Write, name: str, binary: bool) -> _Write:
    # Cache: members of an enumeration that were written before, by name.
    known: dict[str, Any] = {}

    def write(value: Any) -> Any:
        if type(value) is base and value._name_ in known:
            return known[value._name_]
        if base is Literal or isinstance(value, base):
            with contextlib.suppress(TypeError, MismatchError):
                plain = plain_value(value, binary=binary)
                if _is_same(read(plain), value, strict=True):
                    if base is not Literal and value._name_ in base.__members__:
                        known[value._name_] = plain
                    return plain
        raise wrong(name, value)

    return write


def _instance(cls: Any, arguments: tuple[Any, ...], binary: bool) -> _Write:
    record = partial(
        _record, cls, arguments, str(arguments), binary
    )  # later: a class may contain itself

    def write(value: Any) -> Any:
        if type(value) is not cls:
            raise wrong(cls.__name__, value)
        return record()(value)

    return write


class _TypedDictWriter:
    """A TypedDict; its fields are examined with the first value."""

    def __init__(self, cls: Any, arguments: tuple[Any, ...], read: Any, binary: bool) -> None:
        self._cls = cls
        self._arguments = arguments
        self._read = read
        self._binary = binary
        self._table: dict[str, _Write | None] | None = None

    def __call__(self, value: Any) -> Any:
        cls = self._cls
        if not isinstance(value, dict):
            raise wrong(cls.__name__, value)
        table = self._table
        if table is None:
            kinds = field_kinds(cls, self._arguments, cls.__annotations__)
            table = {name: writer(kind, self._binary) for name, kind in kinds.items()}
            self._table = table
        if not self._read.fits(value.keys()):
            raise MismatchError(f"its keys are not those of {cls.__name__}: {shown(list(value))}")
        made = {}
        for key, item in value.items():
            try:
                made[key] = _written(table[key], item)
            except MismatchError as mismatch:
                mismatch.path.append(f".{key}")
                raise
        return made


def _array(base: Any, kind: Any, binary: bool) -> _Write:
    is_set = issubclass(base, abc.Set)
    write_item = writer(kind, binary)
    if is_set and write_item is None:
        write_item = _member
    exact = exact_types(kind)
    # An iterator can be read only once, so it would be empty in a second pass.
    wanted = abc.Collection if base is abc.Iterable else base

    def write(value: Any) -> Any:
        if type(value) is not base and (
            not isinstance(value, wanted) or isinstance(value, _NO_ARRAYS)
        ):
            raise wrong(base.__name__, value)
        if write_item is None or (exact and exact.issuperset(map(type, value))):
            return value if isinstance(value, list | tuple) else list(value)
        return [_item(write_item, index, item) for index, item in enumerate(value)]

    return write


def _item(write: _Write | None, index: int, value: Any) -> Any:
    if write is None:
        return value
    try:
        return write(value)
    except MismatchError as mismatch:
        mismatch.path.append(f"[{index}]")
        raise


def _member(value: Any) -> Any:
    """Check a member of a set without annotation: arrays would come back as lists."""
    if value is None or isinstance(value, str | int | float | bytes):
        return value
    raise MismatchError(
        f"{type(value).__name__} would not come back from a set whose members have no annotation"
    )


def _fixed(base: Any, kinds: tuple[Any, ...], binary: bool) -> _Write:
    writers = [writer(kind, binary) for kind in kinds]

    def write(value: Any) -> Any:
        if not isinstance(value, base) or len(value) != len(writers):
            raise wrong(f"{base.__name__} of {len(writers)}", value)
        pairs = zip(writers, value, strict=True)
        return [_item(one, index, item) for index, (one, item) in enumerate(pairs)]

    return write


def _named_tuple(cls: Any, arguments: tuple[Any, ...], binary: bool) -> _Write:
    def write(value: Any) -> Any:
        if type(value) is not cls:
            raise wrong(cls.__name__, value)
        return _fixed(cls, named_tuple_kinds(cls, arguments), binary)(value)

    return write


def _mapping(base: Any, key_kind: Any, value_kind: Any, binary: bool) -> _Write:
    write_key, write_value = writer(key_kind, binary), writer(value_kind, binary)
    read_key = key_converter(key_kind)
    plain_keys = bare(key_kind) in (str, Any, object)
    exact = exact_types(value_kind)
    wanted = base if base in (OrderedDict, Counter) else Mapping
    usual = dict if wanted is Mapping else wanted  # asking an abstract class takes long

    def write(value: Any) -> Any:
        if type(value) is usual:
            if not value:
                return value
        elif not isinstance(value, wanted):
            raise wrong(base.__name__, value)
        as_they_are = plain_keys and _NAMES.issuperset(map(type, value))
        if as_they_are and (write_value is None or exact.issuperset(map(type, value.values()))):
            return value if isinstance(value, dict) else dict(value)
        made = {}
        for key, item in value.items():
            try:
                name = key if as_they_are else _key(write_key, read_key, key, binary)
                made[name] = _written(write_value, item)
            except MismatchError as mismatch:
                mismatch.path.append(f"[{shown(key)}]")
                raise
        if len(made) != len(value):
            raise MismatchError("two of its keys would be equal")
        return made

    return write


def _key(write: _Write | None, read: _Write, key: Any, binary: bool) -> Any:
    """The plain form of a key, if it is read back as the same key."""
    if is_dataclass(key):
        raise MismatchError(f"{type(key).__name__} cannot be a key")
    try:
        plain = plain_value(_written(write, key), binary=binary)
        made = _as_key(plain) if binary else key_text(plain)
        back = read(made)
    except MismatchError:
        raise
    except (TypeError, ValueError, ArithmeticError) as error:
        raise MismatchError(f"cannot be a key: {error}", error) from None
    if not _is_same(back, key):
        raise MismatchError(
            f"the {type(key).__name__} key {shown(key)} would be read as "
            f"{type(back).__name__} {shown(back)}"
        )
    return made


def _as_key(plain: Any) -> Any:
    return tuple(map(_as_key, plain)) if isinstance(plain, list) else plain


def _optional(kind: Any, read: Any, binary: bool) -> _Write | None:
    """Return the function for a union of None and one other type that cannot be mistaken."""
    others = [member for member in union_members(kind) if member is not type(None)]
    if len(others) != 1 or any(_accepts(listed, None) for listed in read.listed):
        return None
    write = writer(others[0], binary)
    return None if write is None else lambda value: None if value is None else write(value)


class _Member(NamedTuple):
    kind: Any
    base: Any
    write: _Write | None


class _UnionWriter:
    """A union: writes the alternative that the value is, if it would be read as the same."""

    def __init__(self, kind: Any, read: Any, binary: bool) -> None:
        self._name = name_of(kind)
        self._read = read
        self._binary = binary
        self._members = [
            _Member(member, typing.get_origin(member) or member, writer(member, binary))
            for member in union_members(kind)
        ]
        self._bases = {member.base for member in self._members}
        self._exact = read.unmistakable

    def __call__(self, value: Any) -> Any:
        kind = type(value)
        if kind in self._exact:
            return value
        failure: MismatchError | None = None
        for member in self._order(kind):
            try:
                plain = _written(member.write, value)
                self._check(member, value, plain)
            except MismatchError as mismatch:
                # The message for its own class says most.
                if failure is None or member.base is kind:
                    failure = mismatch
                continue
            return plain
        if failure is None or kind not in self._bases:
            raise wrong(self._name, value)
        raise failure

    def _order(self, kind: type) -> list[_Member]:
        return sorted(self._members, key=lambda member: member.base is not kind)

    def _check(self, member: _Member, value: Any, plain: Any) -> None:
        """Check that the reader would choose this alternative; does not check its members."""
        read = self._read
        if isinstance(value, Mapping) or is_dataclass(value):
            names = value.keys() if isinstance(value, Mapping) else _names(type(value))
            chosen = next((record for record in read.records if record.fits(names)), None)
            wanted = is_dataclass(member.base) or typing.is_typeddict(member.base)
            if wanted if chosen is None else not chosen.is_of(member.kind):
                raise self._mistaken(value, "another alternative")
            return
        if member.base in (Any, object) and not isinstance(value, str | int | float | None):
            return
        if isinstance(plain, list | tuple) and member.base not in (Literal,):
            if any(_accepts(listed, plain) for listed in read.listed) and not _is_enum(value):
                raise self._mistaken(value, "a value that is listed")
            if not _is_enum(value):
                return
        if isinstance(plain, _NATIVE) or plain is None or text_of(plain) is not None:
            seen = plain
            if not isinstance(plain, str) and (not self._binary or not isinstance(plain, bytes)):
                text = None if isinstance(plain, bytes | bytearray | memoryview) else text_of(plain)
                seen = plain if text is None else text
            back = read(bytes(seen) if isinstance(seen, bytearray | memoryview) else seen)
            if not _is_same(back, value, strict=type(value) in self._bases):
                raise self._mistaken(value, f"{type(back).__name__} {shown(back)}")

    def _mistaken(self, value: Any, what: str) -> MismatchError:
        return MismatchError(
            f"{type(value).__name__} {shown(value)} would be read as {what} in {self._name}"
        )


def _names(cls: Any) -> set[str]:
    return {field.name for field in fields(cls) if field.init}


def _is_enum(value: Any) -> bool:
    return isinstance(value, enum.Enum)


def _accepts(read: _Write, plain: Any) -> bool:
    try:
        read(plain)
    except MismatchError:
        return False
    return True


def _is_same(back: Any, value: Any, *, strict: bool = False) -> bool:
    """Whether a value came back; an instance of a subclass may come back as the class itself."""
    if back is value:
        return True
    if type(back) is not type(value):
        whole = type(back) is float and type(value) is int
        if strict or isinstance(value, bool) or not (whole or isinstance(value, type(back))):
            return False
    try:
        # NaN is not equal to itself, and some comparisons raise.
        return bool(back == value) or shown(back) == shown(value)
    except Exception:
        return shown(back) == shown(value)
