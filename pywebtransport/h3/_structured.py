"""Structured field lists (RFC 8941/9651), as far as two WebTransport fields need them."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

__all__ = ["Member", "is_string", "parse_item", "parse_list", "serialize_string"]


class Member(NamedTuple):
    """One member of a list; parameters are checked and dropped."""

    kind: str
    """``string``, ``token``, or ``other``."""
    text: str
    """The value of a string or token."""


_STRING: Final = re.compile(r'"((?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_TOKEN: Final = re.compile(r"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*")
_OTHER: Final = re.compile(
    r"-?[0-9]{1,12}\.[0-9]{1,3}|-?[0-9]{1,15}|:[A-Za-z0-9+/=]*:|\?[01]|@-?[0-9]{1,15}"
    r'|%"(?:[\x20-\x21\x23-\x24\x26-\x7e]|%[0-9a-f]{2})*"'
)
_KEY: Final = re.compile(r"[a-z*][a-z0-9_\-.*]*")
_SPACES: Final = re.compile(r" *")
_COMMA: Final = re.compile(r"[ \t]*,[ \t]*")
_PRINTABLE: Final = re.compile(r"[\x20-\x7e]*")


class _Malformed(Exception):
    pass


def parse_list(text: str) -> list[Member] | None:
    """Read a list; None when it is malformed. An empty field is an empty list."""
    text = text.strip(" ")
    members: list[Member] = []
    if not text:
        return members
    pos = 0
    try:
        while True:
            if text.startswith("(", pos):
                pos = _inner_list(text, pos)
                members.append(Member("other", ""))
            else:
                member, pos = _bare_item(text, pos)
                members.append(member)
            pos = _parameters(text, pos)
            if pos == len(text):
                return members
            comma = _COMMA.match(text, pos)
            if comma is None or comma.end() == len(text):
                return None
            pos = comma.end()
    except _Malformed:
        return None


def parse_item(text: str) -> Member | None:
    """Read a single item; None when it is malformed."""
    text = text.strip(" ")
    try:
        member, pos = _bare_item(text, 0)
        return member if _parameters(text, pos) == len(text) else None
    except _Malformed:
        return None


def is_string(text: str) -> bool:
    """Return whether ``text`` can be written as a string: printable ASCII."""
    return _PRINTABLE.fullmatch(text) is not None


def serialize_string(text: str) -> str:
    """Write a string.

    Raises:
        ValueError: it contains anything but printable ASCII.
    """
    if not is_string(text):
        raise ValueError(f"{text!r} is not printable ASCII")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _bare_item(text: str, pos: int) -> tuple[Member, int]:
    if match := _STRING.match(text, pos):
        return Member("string", re.sub(r"\\(.)", r"\1", match[1])), match.end()
    if match := _TOKEN.match(text, pos):
        return Member("token", match[0]), match.end()
    if match := _OTHER.match(text, pos):
        return Member("other", ""), match.end()
    raise _Malformed


def _inner_list(text: str, pos: int) -> int:
    pos += 1
    while True:
        spaces = _SPACES.match(text, pos)
        after = pos if spaces is None else spaces.end()
        if text.startswith(")", after):
            return after + 1
        if after == pos and text[pos - 1] != "(":
            raise _Malformed
        pos = _parameters(text, _bare_item(text, after)[1])


def _parameters(text: str, pos: int) -> int:
    while text.startswith(";", pos):
        spaces = _SPACES.match(text, pos + 1)
        key = _KEY.match(text, pos + 1 if spaces is None else spaces.end())
        if key is None:
            raise _Malformed
        pos = key.end()
        if text.startswith("=", pos):
            pos = _bare_item(text, pos + 1)[1]
    return pos
