"""Reads annotations: the types of fields and members, without irrelevant parts."""

from __future__ import annotations

import types
import typing
from collections import Counter
from collections.abc import Iterable
from dataclasses import is_dataclass
from typing import Any, Literal, TypeVar, Union

from ..exceptions import SerializationError

__all__ = [
    "bare",
    "field_kinds",
    "hints_of",
    "is_alias",
    "is_fixed_tuple",
    "is_named_tuple",
    "mapping_kinds",
    "name_of",
    "named_tuple_kinds",
    "order_of",
    "union_members",
]


def order_of(kind: Any) -> str:
    """Second cache key: ``A | B`` and ``B | A`` are equal, but their order matters."""
    return "" if issubclass(type(kind), type) else str(kind)


def name_of(kind: Any) -> str:
    """A type in an error message."""
    return kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")


def is_alias(kind: Any) -> bool:
    """Whether a type is an alias made by a ``type`` statement."""
    return "TypeAliasType" in (type(kind).__name__, type(typing.get_origin(kind)).__name__)


def bare(kind: Any) -> Any:
    """A type without aliases, annotations and qualifiers."""
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
        elif type(origin).__name__ == "TypeAliasType":
            kind = origin.__value__[typing.get_args(kind)]
        else:
            return type(None) if kind is None else kind


def is_fixed_tuple(kind: Any) -> bool:
    """Whether a type is a tuple of members with a type each."""
    arguments = typing.get_args(kind)
    if (typing.get_origin(kind) or kind) is not tuple or arguments[1:] == (...,):
        return False
    return bool(arguments) or isinstance(kind, types.GenericAlias)


def is_named_tuple(kind: type) -> bool:
    """Whether a class is a NamedTuple."""
    return issubclass(kind, tuple) and hasattr(kind, "_fields")


def union_members(kind: Any) -> list[Any]:
    """The alternatives of a union, including those of nested unions."""
    members = []
    for member in map(bare, typing.get_args(kind)):
        if typing.get_origin(member) in (Union, types.UnionType):
            members += union_members(member)
        else:
            members.append(member)
    return members


def mapping_kinds(base: Any, arguments: tuple[Any, ...]) -> tuple[Any, Any]:
    """Types of the keys and values of a mapping."""
    if base is Counter:
        return (arguments[0] if arguments else Any), int
    return arguments if len(arguments) == 2 else (Any, Any)


def named_tuple_kinds(cls: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Types of the members of a NamedTuple."""
    hints = hints_of(cls)
    chosen = dict(zip(getattr(cls, "__parameters__", ()), arguments, strict=False))
    itself = cls[arguments] if arguments else cls
    return tuple(_filled_in(_named(hints.get(name, Any), itself), chosen) for name in cls._fields)


def field_kinds(cls: type, arguments: tuple[Any, ...], names: Iterable[str]) -> dict[str, Any]:
    """Types of the fields of a dataclass or TypedDict, with type variables replaced."""
    hints = hints_of(cls)
    chosen: dict[type, dict[Any, Any]] = {}
    _choose(cls, arguments, chosen)
    itself = cls[arguments] if arguments else cls  # type: ignore[index]
    return {
        name: _filled_in(_named(hints[name], itself), _chosen_for(cls, name, chosen))
        for name in names
    }


def hints_of(cls: type) -> dict[str, Any]:
    """The annotations of a class, with all strings resolved.

    Raises:
        SerializationError: One cannot be resolved.
    """
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except Exception as error:
        raise SerializationError(
            f"cannot resolve the annotations of {cls.__qualname__}: {error}",
            original_exception=error,
        ) from error


def _choose(cls: type, arguments: tuple[Any, ...], chosen: dict[type, dict[Any, Any]]) -> None:
    """Record the arguments for the type variables of a generic class and of its bases."""
    own = dict(zip(getattr(cls, "__parameters__", ()), arguments, strict=False))
    chosen[cls] = own
    for base in vars(cls).get("__orig_bases__", cls.__bases__):
        origin = typing.get_origin(base) or base
        if isinstance(origin, type) and origin is not typing.Generic:
            given = tuple(_filled_in(argument, own) for argument in typing.get_args(base))
            _choose(origin, given, chosen)


def _chosen_for(cls: type, name: str, chosen: dict[type, dict[Any, Any]]) -> dict[Any, Any]:
    """The type variables of the class that declares a field."""
    if not is_dataclass(cls):  # a TypedDict does not record which class declares a field
        return {key: kind for table in chosen.values() for key, kind in table.items()}
    field = cls.__dataclass_fields__[name]
    for base in reversed(cls.__mro__):
        if vars(base).get("__dataclass_fields__", {}).get(name) is field:
            return chosen.get(base, {})
    return {}


def _filled_in(hint: Any, chosen: dict[Any, Any]) -> Any:
    """A type with its variables replaced by arguments, as for ``Page[Item]``."""
    if isinstance(hint, TypeVar):
        return chosen.get(hint, hint)
    inner = getattr(hint, "__parameters__", ())
    if chosen and inner and typing.get_origin(hint) is not None:
        return hint[tuple(chosen.get(variable, variable) for variable in inner)]
    return hint


def _named(hint: Any, itself: Any) -> Any:
    """A type with ``Self`` replaced by the class that contains it."""
    if hint is typing.Self:
        return itself
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return hint
    if origin is typing.Annotated:
        return _named(arguments[0], itself)
    named = tuple(_named(argument, itself) for argument in arguments)
    if named == arguments:
        return hint
    if isinstance(hint, types.UnionType):
        return Union[named]  # noqa: UP007
    if isinstance(hint, types.GenericAlias):
        return types.GenericAlias(origin, named)
    return hint.copy_with(named)
