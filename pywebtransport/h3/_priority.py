"""Priorities of requests (RFC 9218): the field and the frames that carry them."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

__all__ = ["DEFAULT_URGENCY", "parse_urgency", "send_order"]

DEFAULT_URGENCY: Final = 3

_SHARED_COUNT: Final = 64
_MAX_FIELD: Final = 256
# One member of the dictionary. Members are not told from text in strings: it is only advice.
_URGENCY: Final = re.compile(rb"(?:^|,)[ \t]*u=([0-7])[ \t]*(?=$|[,;])")


def parse_urgency(value: bytes) -> int | None:
    """Read the urgency from a priority field value.

    Args:
        value: A structured dictionary, such as ``u=1, i``.

    Returns:
        0 (first) to 7; None if it names none, or is malformed.
    """
    return _shared_urgency(value) if len(value) <= _MAX_FIELD else None


@lru_cache(_SHARED_COUNT)
def _shared_urgency(value: bytes) -> int | None:
    found = _URGENCY.findall(value)
    return int(found[-1]) if found else None


def send_order(urgency: int) -> int:
    """Return the send order of a stream: 0 for the default urgency, more for what goes first."""
    return DEFAULT_URGENCY - urgency
