"""Paths with placeholders: ``/room/{name}`` and ``/item/{number:int}``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NoReturn, TypeAlias
from uuid import UUID

from ..exceptions import ConfigurationError
from ..utils._text import printable
from ._paths import decoded_path

__all__ = ["TYPES", "Rank", "has_placeholders", "parse_template"]

TYPES: dict[str, tuple[str, Callable[[str], Any]]] = {
    "uuid": (r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", UUID),
    # Numbers of 128 bits have 39 digits. Making an integer takes time with the square of them.
    "int": (r"-?[0-9]{1,39}", int),
    "float": (r"-?[0-9]{1,39}(?:\.[0-9]{1,39})?", float),
    "str": (r"[^/]+", str),
    "path": (r"(?s:.+)", str),
}
"""What a placeholder of each type matches in a decoded path, and what makes its value.

The first matches the fewest paths, the last the most.
"""

_ORDER = {kind: number for number, kind in enumerate(TYPES)}
# What a segment is, the length of its text (negative: more text comes first), the type, the text.
_SegmentRank: TypeAlias = tuple[int, int, int, str, str]
Rank: TypeAlias = tuple[_SegmentRank, ...]
_TEXT, _MIXED, _PLACEHOLDER = range(3)

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SEGMENT = re.compile(r"(?P<before>[^{}]*)\{(?P<inside>[^{}]*)\}(?P<after>[^{}]*)")


def has_placeholders(path: str) -> bool:
    """Whether a path is a template; literal braces in a path are percent-encoded."""
    return "{" in path or "}" in path


def parse_template(path: str) -> tuple[re.Pattern[str], dict[str, Callable[[str], Any]], Rank]:
    """Read a path with placeholders.

    A segment has one placeholder at most, which may have text before and after it. One of type
    ``path`` takes the rest of the path, slashes included, so nothing follows it. In each segment,
    from the left, text comes before a placeholder with text around it, before one with a type,
    before a plain one, before one of type ``path``.

    Returns:
        An expression for the whole of a decoded path, what makes the value of each name, and
        the rank: routes of a smaller one are tried first, and two of equal rank match the same
        paths.

    Raises:
        ConfigurationError: A brace has no partner, or a name or a type is not possible.
    """
    converters: dict[str, Callable[[str], Any]] = {}
    expressions: list[str] = []
    rank: list[_SegmentRank] = []
    segments = path.split("/")
    for number, segment in enumerate(segments, 1):
        if not has_placeholders(segment):
            text = decoded_path(segment)
            expressions.append(re.escape(text))
            rank.append((_TEXT, 0, 0, text, ""))
            continue
        found = _SEGMENT.fullmatch(segment)
        if found is None:
            _refuse(
                path,
                f"segment '{printable(segment)}' has more than one placeholder, or a brace without "
                "its partner; write braces of the path itself as %7B and %7D",
            )
        before, after = decoded_path(found["before"]), decoded_path(found["after"])
        name, colon, kind = found["inside"].partition(":")
        if not _NAME.fullmatch(name):
            _refuse(path, f"'{printable(name)}' is not a placeholder name; write {{name}}")
        if name in converters:
            _refuse(path, f"two placeholders have the name {name!r}")
        kind = kind if colon else "str"
        if kind not in TYPES:
            _refuse(
                path,
                f"unknown type '{printable(kind)}' of {name!r}; use one of {', '.join(TYPES)}",
            )
        if kind == "path" and (after or number < len(segments)):
            _refuse(path, f"{name!r} takes the rest of the path, so nothing can follow it")
        expression, converters[name] = TYPES[kind]
        expressions.append(f"{re.escape(before)}(?P<{name}>{expression}){re.escape(after)}")
        rank.append(_rank(before, kind, after))
    return re.compile("/".join(expressions)), converters, tuple(rank)


def _rank(before: str, kind: str, after: str) -> _SegmentRank:
    text = len(before) + len(after)
    return (_MIXED if text else _PLACEHOLDER, -text, _ORDER[kind], before, after)


def _refuse(path: str, reason: str) -> NoReturn:
    raise ConfigurationError(
        f"path '{printable(path)}': {reason}", config_key="path", config_value=path
    )
