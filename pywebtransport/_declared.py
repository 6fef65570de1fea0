"""Exceptions with declared fields: attributes with a type and a default, as in a dataclass.

A dataclass itself would not do: an exception is neither compared nor serialised by its fields, and
applications derive from ours with constructors and annotations of their own.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from inspect import Parameter, Signature
from typing import Any, NamedTuple, TypeVar, dataclass_transform

__all__ = ["declared", "field", "fields_of"]

_Class = TypeVar("_Class", bound=type[BaseException])


class _Field(NamedTuple):
    default: Any
    init: bool
    kw_only: bool
    alias: str | None


def field(
    *,
    default: Any = Parameter.empty,
    init: bool = True,
    kw_only: bool = True,
    alias: str | None = None,
) -> Any:
    """Declare a field that is not simply a keyword with a default.

    Args:
        default: Its value if the argument is not given; without one, the argument is required.
        init: Whether it is an argument of the constructor.
        kw_only: Whether the argument can be given as a keyword only.
        alias: Declares what the constructor accepts for the field of this name, which is declared
            with ``init=False`` and the type that it gets from ``_complete``.
    """
    return _Field(default, init, kw_only, alias)


@dataclass_transform(eq_default=False, kw_only_default=True, field_specifiers=(field,))
def declared(cls: _Class) -> _Class:
    """Give an exception class a constructor with its fields and those of its bases.

    The constructor sets the attributes and calls ``_complete``, which may convert them.
    """
    own: dict[str, Parameter] = {}
    for name, annotation in inspect.get_annotations(cls).items():
        found = vars(cls).get(name, Parameter.empty)
        if isinstance(found, _Field):
            delattr(cls, name)
        else:
            found = _Field(found, not annotation.startswith("ClassVar"), True, None)
        if found.init:
            name = found.alias or name
            kind = Parameter.KEYWORD_ONLY if found.kw_only else Parameter.POSITIONAL_OR_KEYWORD
            own[name] = Parameter(name, kind, default=found.default, annotation=annotation)
    setattr(cls, "__own_fields__", own)  # noqa: B010
    setattr(cls, "__init__", _constructor(cls))  # noqa: B010
    return cls


def fields_of(cls: type[BaseException]) -> Mapping[str, Any]:
    """The fields of an exception class with their defaults, those of its bases first."""
    known: Mapping[str, Any] | None = vars(cls).get("__all_fields__")
    if known is None:
        known = {name: parameter.default for name, parameter in _parameters(cls).items()}
        setattr(cls, "__all_fields__", known)  # noqa: B010
    return known


def _parameters(cls: type[BaseException]) -> dict[str, Parameter]:
    found: dict[str, Parameter] = {}
    for base in reversed(cls.__mro__):
        found |= vars(base).get("__own_fields__", {})
    return found


def _signature(cls: type[BaseException]) -> Signature:
    first = Parameter("self", Parameter.POSITIONAL_OR_KEYWORD)
    return Signature([first, *_parameters(cls).values()], return_annotation="None")


def _constructor(cls: type[BaseException]) -> Any:
    def __init__(self: Any, *message: Any, **given: Any) -> None:
        # A class that derives from several of ours has the fields of all of them.
        fields = fields_of(type(self))
        values = {**fields, **given}
        if len(message) == 1 and "message" not in given:
            values["message"] = message[0]
        elif message or values["message"] is Parameter.empty:
            _signature(type(self)).bind(self, *message, **given)  # raises the TypeError
        if len(values) > len(fields):
            _signature(type(self)).bind(self, *message, **given)
        vars(self).update(values)
        self._complete()

    __init__.__qualname__ = f"{cls.__qualname__}.__init__"
    __init__.__module__ = cls.__module__
    __init__.__annotations__ = {name: each.annotation for name, each in _parameters(cls).items()}
    setattr(__init__, "__signature__", _signature(cls))  # noqa: B010
    return __init__
