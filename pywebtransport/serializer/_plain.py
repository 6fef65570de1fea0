"""Converts objects that an encoder does not know to plain data."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from math import isfinite
from typing import Any

from ._texts import text_of
from ._write import named_keys, record_to_plain

__all__ = ["has_other_keys", "is_plain", "plain_hook", "plain_tree"]

_NAMES = frozenset({str})
_PLAIN = frozenset({str, int, bool, type(None)})
_LEAVES = frozenset({str, int, float, bool, bytes, type(None)})
# Deeper than any message may be.
_MAX_LEVELS = 300


def _to_plain(obj: Any, *, binary: bool, checked: bool = True) -> Any:
    """Convert one object to plainer data; its members may have to be converted too.

    Args:
        obj: An object that the encoder does not know.
        binary: Whether the format has bytes.
        checked: Write fields according to their annotations; otherwise unchanged, for applications
            that write objects in their own way.

    Raises:
        TypeError: There is no rule for its class.
        MismatchError: The written form could not be read back.
    """
    cls: Any = type(obj)
    if hasattr(cls, "__dataclass_fields__"):
        if checked:
            return record_to_plain(obj, binary=binary)
        return {field.name: getattr(obj, field.name) for field in fields(obj) if field.init}
    if isinstance(obj, enum.Enum):
        return obj.value
    text = text_of(obj)  # only JSON needs this for bytes
    if text is not None:
        return text
    if isinstance(obj, set | frozenset | tuple | deque):
        return list(obj)
    if isinstance(obj, float):
        return float(obj)
    if isinstance(obj, Mapping):
        return dict(obj)
    if isinstance(obj, int):
        raise TypeError("an integer of more than 64 bits has no form in MessagePack")
    raise TypeError(f"{cls.__module__}.{cls.__qualname__} has no plain form")


def plain_hook(own: Callable[[Any], Any] | None, *, binary: bool) -> Callable[[Any], Any]:
    """Create the hook of the encoder, which calls the hook of the application first.

    The hook of the application raises TypeError if it has no answer.

    Args:
        own: The hook of the application.
        binary: Whether the format has bytes, and keys that are not strings.
    """
    to_plain = partial(_to_plain, binary=binary, checked=own is None)
    if own is None:
        return to_plain

    def hook(obj: Any) -> Any:
        try:
            return own(obj)
        except TypeError:
            return to_plain(obj)

    return hook


def has_other_keys(obj: Any) -> bool:
    """Whether a mapping in lists and dictionaries has keys that are not strings.

    Data that contains itself counts as having such keys.
    """
    level = [obj]
    for _ in range(_MAX_LEVELS):
        inner: list[Any] = []
        for item in level:
            if type(item) in _LEAVES:
                continue
            if isinstance(item, dict):
                if not _NAMES.issuperset(map(type, item)):
                    return True
                inner += item.values()
            elif isinstance(item, list | tuple):
                inner += item
        if not inner:
            return False
        level = inner
    return True


def is_plain(obj: Any) -> bool:
    """Whether an object is made of plain values alone: every writer writes these by one rule.

    These are direct instances of lists, dictionaries with strings as keys, strings, booleans, None,
    and finite numbers.
    """
    level = [obj]
    for _ in range(_MAX_LEVELS):
        inner: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is float:
                if not isfinite(item):
                    return False
            elif kind is dict:
                if not _NAMES.issuperset(map(type, item)):
                    return False
                inner += item.values()
            elif kind is list:
                inner += item
            elif kind not in _PLAIN:
                return False
        if not inner:
            return True
        level = inner
    return False


def plain_tree(obj: Any, hook: Callable[[Any], Any]) -> Any:
    """Convert an object completely to plain data, with names as keys, for JSON.

    Args:
        obj: Anything.
        hook: Makes one object plainer.

    Raises:
        TypeError: An object has no plain form, or a key has no unique name.
    """
    if obj is None or isinstance(obj, str | int | float):
        return obj
    if isinstance(obj, dict):
        return {key: plain_tree(item, hook) for key, item in named_keys(obj).items()}
    if isinstance(obj, list | tuple):
        return [plain_tree(item, hook) for item in obj]
    return plain_tree(hook(obj), hook)
