"""Objects to plain data: what the encoders ask when they meet something they do not know."""

from __future__ import annotations

import base64
import datetime
import decimal
import enum
import uuid
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import lru_cache
from typing import Any

__all__ = ["plain_hook", "to_plain"]

_TEXTUAL = (uuid.UUID, decimal.Decimal)
_DATES = (datetime.date, datetime.time)  # a datetime is a date
_BYTES = (bytes, bytearray, memoryview)


@lru_cache(maxsize=1024)
def _field_names(cls: Any) -> tuple[str, ...]:
    """Fields that travel: those the constructor takes."""
    return tuple(field.name for field in fields(cls) if field.init)


def to_plain(obj: Any) -> Any:
    """Replace one object by plainer data; what is inside may need it again.

    Raises:
        TypeError: There is no rule for its class.
    """
    cls: Any = type(obj)
    if hasattr(cls, "__dataclass_fields__"):
        return {name: getattr(obj, name) for name in _field_names(cls)}
    if isinstance(obj, enum.Enum):
        return obj.value
    if isinstance(obj, _DATES):
        return obj.isoformat()
    if isinstance(obj, _TEXTUAL):
        return str(obj)
    if isinstance(obj, _BYTES):  # only JSON asks: the others have bytes
        return base64.b64encode(obj).decode()
    if isinstance(obj, set | frozenset | tuple):
        return list(obj)
    if isinstance(obj, float):
        return float(obj)
    if isinstance(obj, Mapping):
        return dict(obj)
    raise TypeError(f"{cls.__module__}.{cls.__qualname__} has no plain form")


def plain_hook(own: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    """``to_plain``, behind the application's hook when it has one.

    The application's hook says that it has no answer by raising TypeError.
    """
    if own is None:
        return to_plain

    def hook(obj: Any) -> Any:
        try:
            return own(obj)
        except TypeError:
            return to_plain(obj)

    return hook
