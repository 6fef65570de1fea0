"""Reads JSON straight into simple dataclasses, by msgspec.

Only types for which msgspec has the same rules as ``_rebuild`` are read this way. A text that does
not fit is left to ``_rebuild``, whose errors say where.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable
from dataclasses import MISSING, InitVar, fields, is_dataclass
from functools import lru_cache
from typing import Any, Union

from ..exceptions import SerializationError
from ._kinds import bare, hints_of, union_members
from ._write import has_made_init

__all__ = ["Reader", "find_typed_reader"]

Reader = Callable[[bytes], Any]

_SCALARS = (str, int, float, bool, type(None))


def find_typed_reader() -> Callable[[Any], Reader | None] | None:
    """Return what makes the reader of a type, or None for other types; None without msgspec."""
    try:
        import msgspec  # noqa: F401
    except ImportError:
        return None
    return _reader_or_none


def _reader_or_none(kind: Any) -> Reader | None:
    try:
        return _reader(kind)
    except TypeError:  # an annotation can be unhashable
        return None


@lru_cache(maxsize=1024)
def _reader(kind: Any) -> Reader | None:
    import msgspec

    try:
        strict = _strict(kind, msgspec, {})
        if strict is kind:
            return None  # there is no dataclass in it
        # It refuses unknown fields, which the reader of the dataclass itself would skip.
        check = msgspec.json.Decoder(strict).decode
        read: Reader = msgspec.json.Decoder(kind).decode
    except (_Unfit, TypeError, SerializationError):
        return None

    def checked(data: bytes) -> Any:
        check(data)
        return read(data)

    return checked


class _Unfit(Exception):
    """msgspec may have other rules for the type."""


def _strict(kind: Any, msgspec: Any, made: dict[type, Any]) -> Any:
    """The type with a structure in place of each dataclass.

    Raises:
        _Unfit: There is something else in it.
    """
    # Annotations may hold instructions for msgspec.
    if bare(kind) is not kind and kind is not None:
        raise _Unfit
    if kind in (Any, None, *_SCALARS):
        return kind
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        members = [member for member in union_members(kind) if member is not type(None)]
        if len(members) != 1:
            raise _Unfit
        inner = _strict(members[0], msgspec, made)
        return kind if inner is members[0] else Union[inner, None]  # noqa: UP007
    if origin is list:
        inner = _strict(arguments[0], msgspec, made)
        return kind if inner is arguments[0] else list[inner]  # type: ignore[valid-type]
    if origin is dict and arguments[0] is str:
        inner = _strict(arguments[1], msgspec, made)
        return kind if inner is arguments[1] else dict[str, inner]  # type: ignore[valid-type]
    if kind in (list, dict):
        return kind
    if isinstance(kind, type) and is_dataclass(kind):
        return _structure(kind, msgspec, made)
    raise _Unfit


def _structure(cls: type, msgspec: Any, made: dict[type, Any]) -> Any:
    """The structure for a dataclass, which refuses unknown fields."""
    if made.get(cls, MISSING) is None:
        raise _Unfit  # it contains itself
    if cls not in made:
        made[cls] = None
        _check_class(cls)
        members: list[Any] = []
        kinds = hints_of(cls)  # with their annotations, as msgspec sees them
        for field in fields(cls):
            strict = _strict(kinds[field.name], msgspec, made)
            has_default = field.default is not MISSING or field.default_factory is not MISSING
            members.append((field.name, strict, None) if has_default else (field.name, strict))
        made[cls] = msgspec.defstruct(
            cls.__name__, members, kw_only=True, forbid_unknown_fields=True
        )
    return made[cls]


def _check_class(cls: Any) -> None:
    """Check that filling the fields of a dataclass does the same as calling it."""
    parameters = cls.__dataclass_params__
    names = [field.name for field in fields(cls)]
    if (
        not has_made_init(cls)
        or hasattr(cls, "__post_init__")
        or cls.__new__ is not object.__new__
        or (cls.__setattr__ is not object.__setattr__ and not parameters.frozen)
        or typing.get_origin(cls) is not None
        or getattr(cls, "__parameters__", None)
        or any(isinstance(field.type, InitVar) for field in cls.__dataclass_fields__.values())
        or any(name.startswith("_") for name in names)
        or not all(field.init for field in fields(cls))
        or len(names) != len(cls.__dataclass_fields__)  # ClassVar, InitVar
    ):
        raise _Unfit
    for name in names:
        attribute = inspect.getattr_static(cls, name, None)
        if hasattr(type(attribute), "__set__") and not isinstance(
            attribute, types.MemberDescriptorType
        ):
            raise _Unfit
