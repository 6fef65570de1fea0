"""Estimates the decoded size of a Protocol Buffers message before it is parsed."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from ._limits import CONTAINER, too_many_items

__all__ = ["check_protobuf_items", "heaviest"]

_MESSAGE, _GROUP = 11, 10  # FieldDescriptor.TYPE_MESSAGE, TYPE_GROUP
_LENGTHY = frozenset({9, 11, 12})  # strings, messages, bytes: never packed
_PACKED = 8
"""Numbers of a packed field that count as one item: no objects are created for them."""
_UNKNOWN = (0, None)


def check_protobuf_items(data: bytes, descriptor: Any, max_items: int) -> None:
    """Raise SerializationError when a message has too many items; builds none of them.

    Each field counts as one item, and a nested message as more, depending on its class. Malformed
    bytes are left to the parser.

    Args:
        data: The message.
        descriptor: The descriptor of its class.
        max_items: The limit.
    """
    # Nearly every message returns here: a field takes at least two bytes.
    if 1 + len(data) // 2 * heaviest(descriptor) <= max_items:
        return
    count = 1
    parts = [(0, len(data), descriptor)]
    while parts:
        position, end, kind = parts.pop()
        fields = _fields(kind)
        while position < end:
            # Nearly all numbers here have one byte: handle them without a call.
            tag = data[position]
            position += 1
            if tag > 0x7F:
                tag, position = _varint(data, position - 1, end)
            count += 1
            wire = tag & 7
            if wire == 2 and position < end:
                size = data[position]
                position += 1
                if size > 0x7F:
                    size, position = _varint(data, position - 1, end)
                weight, inner = fields.get(tag >> 3, _UNKNOWN)
                count += weight if inner is not None else size // _PACKED * weight
                if inner is not None and size:
                    parts.append((position, min(end, position + size), inner))
                position += size
            elif wire == 0:
                _, position = _varint(data, position, end)
            elif wire == 3:
                count += CONTAINER
            elif wire in (1, 5):
                position += 8 if wire == 1 else 4
            if count > max_items:
                raise too_many_items(None, max_items)


@lru_cache(maxsize=1024)
def heaviest(descriptor: Any) -> int:
    """The largest number of items that a field can count as, including nested messages."""
    seen: dict[str, Any] = {}
    todo = [descriptor]
    most = 1
    while todo:
        for field in todo.pop().fields:
            inner = field.message_type
            if inner is not None and inner.full_name not in seen:
                seen[inner.full_name] = inner
                most = max(most, 1 + _weight(inner))
                todo.append(inner)
    return most


def _weight(descriptor: Any) -> int:
    """Items that a message counts as: it takes memory for all fields of its class at once."""
    return CONTAINER + len(descriptor.fields) // 4


@lru_cache(maxsize=1024)
def _fields(descriptor: Any) -> dict[int, tuple[int, Any]]:
    """By field number: additional items that a field counts as, and the class of its messages."""
    table: dict[int, tuple[int, Any]] = {}
    for field in descriptor.fields:
        inner = field.message_type if field.type in (_MESSAGE, _GROUP) else None
        packed = int(field.type not in _LENGTHY)
        table[field.number] = (packed if inner is None else _weight(inner), inner)
    return table


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """A number and the position after it; a truncated number ends there."""
    value = shift = 0
    while position < end:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80 or shift > 63:
            break
        shift += 7
    return value, position
