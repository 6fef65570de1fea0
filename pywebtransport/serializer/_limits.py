"""How large and how deep a message may be, and how much it may become."""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Generator
from dataclasses import fields
from itertools import accumulate, chain
from operator import sub
from typing import Any

from ..exceptions import SerializationError
from ..utils._checks import check_callable, check_integer
from ..utils._turns import finish

__all__ = [
    "CONTAINER",
    "DEFAULT_MAX_DEPTH",
    "DEFAULT_MAX_ITEMS",
    "DEFAULT_MAX_SIZE",
    "HIGHEST_DEPTH",
    "HIGHEST_ITEMS",
    "HIGHEST_SIZE",
    "NAME",
    "PIECE",
    "check_hook",
    "check_json_depth",
    "check_json_items",
    "check_limit",
    "check_size",
    "check_value_depth",
    "checked_bytes",
    "finite_steps",
    "json_items",
    "json_memory_steps",
    "memory_of",
    "too_deep",
    "too_many_items",
    "value_depth_steps",
]

DEFAULT_MAX_SIZE = 4 * 1024 * 1024
"""Largest size of a message in bytes."""
DEFAULT_MAX_DEPTH = 64
"""Largest number of nested levels of arrays and objects."""

DEFAULT_MAX_ITEMS = 131_072
"""Largest number of items in a message. Creating an item takes 20 to 40 ns, so this keeps the turns
of the event loop short, and it keeps 1 MiB of text from becoming 30 MiB of objects."""
CONTAINER = 4
"""Items that an array or an object counts as: creating one takes as long as four numbers."""
NAME = 2
"""Items that the name of a member counts as: it is hashed and looked up."""

PIECE = 16_384
"""Bytes scanned before other tasks get a turn: a fraction of a millisecond."""

HIGHEST_SIZE = 2**32 - 1
HIGHEST_ITEMS = 2**32 - 1
# Bytes in memory: of a short string and its slot in a container (a float takes 32); what an empty
# container takes in addition; of a name and its share of a hash table.
_ITEM = 56
_CONTAINER = 72
_NAME = 64
# Rebuilding needs up to three Python frames for each level, and Python allows a thousand.
HIGHEST_DEPTH = 200

_NOT_STRUCTURE = bytes(set(range(256)) - set(b'"[]{}'))
_NOT_ITEMS = bytes(set(range(256)) - set(b'"[{,:'))
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_LEAVES = frozenset({str, int, float, bool, bytes, type(None)})
_WORTH_IT = 16
# Values examined per step.
_STEP = 4096
_OPENING = re.compile(rb"\[+")
_CLOSING = re.compile(rb"\]+")


def check_limit(key: str, value: int, highest: int) -> int:
    """Check a limit and return it.

    Raises:
        ConfigurationError: It is not a whole number from 1 to ``highest``.
    """
    check_integer(key, value, 1, highest)
    return value


def check_hook(key: str, value: Any) -> None:
    """Check a function of the application.

    Raises:
        ConfigurationError: It is neither callable nor None.
    """
    if value is not None:
        check_callable(key, value)


def check_size(size: int, max_size: int) -> None:
    """Raise SerializationError when a message of ``size`` bytes is too large."""
    if size > max_size:
        raise SerializationError(
            f"the message of {size} bytes is larger than max_size={max_size}",
            details={"size": size, "max_size": max_size},
        )


def checked_bytes(data: Any, max_size: int) -> bytes:
    """Check the size of ``data`` and return it as bytes.

    Raises:
        SerializationError: It is too large, or not bytes.
    """
    if not isinstance(data, bytes):
        if not isinstance(data, bytearray | memoryview):
            raise SerializationError(f"expected bytes, got {type(data).__qualname__}")
        check_size(memoryview(data).nbytes, max_size)
        return bytes(data)
    check_size(len(data), max_size)
    return data


def memory_of(size: int, max_items: int, items: int, containers: int = 0, names: int = 0) -> int:
    """Estimate the memory that a message takes once it is decoded, in bytes.

    Args:
        size: Its size in bytes.
        max_items: The limit; a message with more items is not decoded.
        items: Upper bound of its values, including containers.
        containers: How many of them are arrays or objects.
        names: Of members of objects.
    """
    made = _ITEM * items + _CONTAINER * containers + _NAME * names
    return size + min(made, _ITEM * max_items)


def json_memory_steps(data: bytes, max_items: int) -> Generator[None, None, int]:
    """``memory_of`` a JSON text; scans one piece per step."""
    items, containers, names = 1, 0, 0
    for start in range(0, len(data), PIECE):
        if start:
            yield
        piece = data[start : start + PIECE] if len(data) > PIECE else data
        items += piece.count(b",")
        containers += piece.count(b"[") + piece.count(b"{")
        names += piece.count(b":")
        if items + containers + names > max_items:
            break  # the maximum already
    return memory_of(len(data), max_items, items, containers, names)


def json_items(data: bytes) -> int:
    """Upper bound of the items in a JSON text; also counts characters within strings."""
    containers = data.count(b"[") + data.count(b"{")
    return 1 + data.count(b",") + NAME * data.count(b":") + CONTAINER * containers


def check_json_items(data: bytes, max_items: int) -> None:
    """Raise SerializationError when a JSON text has too many items; builds none of them.

    A text whose quotes do not match is left to the parser.
    """
    # Nearly every message ends here.
    items = json_items(data)
    if items > max_items and b'"' in data:
        items = json_items(_outside_strings(data))
    if items > max_items:
        raise too_many_items(items, max_items)


def _outside_strings(data: bytes) -> bytes:
    """Return the characters of a JSON text that count as items, without its strings."""
    # Remove escaped quotes, then everything that is not a quote and does not count, then strings.
    text = data.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _NOT_ITEMS)
    return b"".join(text.replace(b'""', b"").split(b'"')[::2])


def too_many_items(items: int | None, max_items: int, note: str = "") -> SerializationError:
    """Create the exception for a message with too many items.

    Args:
        items: How many it has, with containers weighted; None: the scan stopped early.
        max_items: The limit.
        note: What else counts as several of them, if that is why.
    """
    details = {"max_items": max_items}
    if items is not None:
        details["items"] = items
    found = "" if items is None else f"{items} items, "
    return SerializationError(
        f"the message has {found}more than max_items={max_items} "
        f"(an array or object counts as {CONTAINER}, the name of a member as {NAME}{note})",
        details=details,
    )


def check_json_depth(data: bytes, max_depth: int) -> None:
    """Raise SerializationError when a JSON text nests too deeply; builds none of its values.

    A text whose brackets do not match is left to the parser.
    """
    # Nearly every message returns here: it has fewer brackets than levels allowed.
    if data.count(b"[") + data.count(b"{") <= max_depth:
        return
    # Remove escaped quotes, then everything but quotes and brackets, then the strings.
    text = data.replace(b"\\\\", b"").replace(b'\\"', b"").translate(_BRACKETS, _NOT_STRUCTURE)
    # Most strings are empty by now. Remove these; splitting at quotes then finds the others.
    text = b"".join(text.replace(b'""', b"").split(b'"')[::2])
    # Each pass removes the innermost level, which is quick while that is a large part.
    levels, removed = 0, len(text)
    while levels < max_depth and removed * _WORTH_IT >= len(text):
        size = len(text)
        text = text.replace(b"[]", b"")
        if len(text) in (0, size):
            return
        removed = size - len(text)
        levels += 1
    # The level rises by each run of opening brackets and falls by the closing ones before it.
    up, down = map(len, _OPENING.findall(text)), map(len, _CLOSING.findall(text))
    if levels + max(accumulate(map(sub, up, chain((0,), down))), default=0) > max_depth:
        raise too_deep(max_depth)


def check_value_depth(value: Any, max_depth: int) -> None:
    """Raise SerializationError when containers, including dataclasses, nest too deeply."""
    finish(value_depth_steps(value, max_depth))


def finite_steps(value: Any) -> Generator[None, None, None]:
    """Look for infinite floats in plain lists and dictionaries, in steps.

    Raises:
        ValueError: There is an infinite float.
    """
    level = [value]
    while level:
        inner: list[Any] = []
        for count, item in enumerate(level, 1):
            if not count % _STEP:
                yield
            kind = type(item)
            if kind is float:
                if not math.isfinite(item):
                    raise ValueError("a number is too large")
            elif kind is dict:
                inner += item.values()
            elif kind is list:
                inner += item
        level = inner


def value_depth_steps(value: Any, max_depth: int) -> Generator[None, None, None]:
    """As ``check_value_depth``, in steps between which other tasks can run."""
    level = [value]
    for _ in range(max_depth + 1):
        containers = False
        inner: list[Any] = []
        for count, item in enumerate(level, 1):
            if not count % _STEP:
                yield
            kind = type(item)
            if kind in _LEAVES:
                continue
            if kind is dict:
                inner += item.values()
            elif kind is list:
                inner += item
            elif isinstance(item, dict):
                inner += item.values()
            elif isinstance(item, list | tuple | set | frozenset | deque):
                inner += item
            elif hasattr(kind, "__dataclass_fields__"):
                inner += [getattr(item, field.name) for field in fields(item) if field.init]
            else:
                continue
            containers = True
        if not containers:
            return
        level = inner
    raise too_deep(max_depth)


def too_deep(max_depth: int) -> SerializationError:
    return SerializationError(
        f"the message nests deeper than max_depth={max_depth} levels",
        details={"max_depth": max_depth},
    )
