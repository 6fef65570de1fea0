"""Scans a large JSON text before it is parsed, a piece at a time.

A parser cannot be interrupted, but it is quick: with a hostile text, the scan takes most of the
time. These functions are generators that yield between two pieces, so that other tasks can run.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from itertools import accumulate, chain
from operator import sub

from ._limits import CONTAINER, NAME, PIECE, too_deep, too_many_items

__all__ = [
    "half_pair_steps",
    "hard_number_steps",
    "has_long_integer",
    "json_scan_steps",
    "large_number_steps",
]

_NOT_STRUCTURE = bytes(set(range(256)) - set(b'"[]{},:'))
_TO_BRACKETS = bytes.maketrans(b"{}", b"[]")
_OPENING = re.compile(rb"\[+")
_CLOSING = re.compile(rb"\]+")
# While a pass over the brackets removes at least this fraction, another pass is worthwhile.
_WORTH_IT = 16
_PASSES = 8

# The quick parsers turn integers beyond 64 bits, which have 19 digits or more, into floats.
_DIGITS = bytes(48 if chr(code).isdecimal() else 32 for code in range(128)) + b" " * 128
_LONG = b"0" * 19
_FIGURES = b"0123456789"
_LONG_INTEGER = re.compile(rb"(?<![.0-9])[0-9]{19,}(?![0-9.eE])")
# Parsers do not accept numbers with more than some thousand digits.
_MOST_DIGITS = 8192
# With fewer digits, and a two-digit exponent, a number is below 1e308.
_HUGE = b"0" * 209
# The time to create an integer grows with the square of its digits.
_VERY_LONG = re.compile(rb"[0-9]{128,}")
_SQUARE = 8192
# Only numbers with such an exponent can be too large for a float.
_LARGE = re.compile(rb"[eE]\+?[0-9]{3}")
_LARGE_OVERLAP = 320
# The parser of the standard library takes up to 500 ns for a number with such an exponent, four
# times as long as for others.
_HARD = re.compile(rb"[eE][-+]?0*[1-9][0-9]{2}")
_HARD_ITEMS = 8
# In a text without escaped backslashes.
_HALF_PAIR = re.compile(
    rb"\\u[dD](?:[89abAB]..(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..\\u[dD])[c-fC-F])"
)
# How many bytes before and after its start the expression examines.
_AROUND = 12

Steps = Generator[None, None, bool]


def json_scan_steps(data: bytes, max_items: int, max_depth: int) -> Steps:
    """Check a JSON text against the limits without creating its values.

    A text whose quotes or brackets do not match is left to the parser.

    Returns:
        Whether there may be an integer of 19 digits or more.

    Raises:
        SerializationError: It has too many items or nests too deeply.
    """
    items, level, within, is_long = 1, 0, 0, False
    before = b""
    for piece in _pieces(data):
        text = piece.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in piece else piece
        seen = before + piece
        if _LONG in seen.translate(_DIGITS):
            outside = before + b'"'.join(text.split(b'"')[within::2])
            # A number may continue in the next piece, which then scans all of it.
            outside = outside.rstrip(_FIGURES)
            if _LONG_INTEGER.search(outside) is not None:
                is_long = True
                items += sum(len(run) ** 2 // _SQUARE for run in _VERY_LONG.findall(outside))
        # Most strings are empty by now. Remove these; splitting at quotes then finds the others.
        text = text.translate(None, _NOT_STRUCTURE).replace(b'""', b"")
        parts = text.split(b'"')
        text = b"".join(parts[within::2])
        within ^= (len(parts) - 1) & 1
        # The character before the digits shows whether they are a fraction.
        run = len(seen) - len(seen.rstrip(_FIGURES))
        before = b"" if within else seen[-1 - min(run, _MOST_DIGITS) :]
        brackets = text.translate(_TO_BRACKETS, b",:")
        opened = brackets.count(b"[")
        items += text.count(b",") + NAME * text.count(b":") + CONTAINER * opened
        if items > max_items:
            raise too_many_items(None, max_items)
        if level + opened > max_depth and level + _rise(brackets, max_depth - level) > max_depth:
            raise too_deep(max_depth)
        level += 2 * opened - len(brackets)
        yield
    return is_long or has_long_integer(before)


def has_long_integer(data: bytes) -> bool:
    """Whether there may be an integer of 19 digits or more, and not just a long fraction."""
    return _LONG in data.translate(_DIGITS) and _LONG_INTEGER.search(data) is not None


def large_number_steps(data: bytes) -> Steps:
    """Whether a number may be too large for a float."""
    for start in range(0, len(data), PIECE):
        piece = data[max(0, start - _LARGE_OVERLAP) : start + PIECE]
        if _LARGE.search(piece) is not None or _HUGE in piece.translate(_DIGITS):
            return True
        yield
    return False


def hard_number_steps(data: bytes, max_items: int) -> Generator[None, None, None]:
    """Count numbers that take the parser of the standard library long.

    Raises:
        SerializationError: They are too many items, each of them counted as eight.
    """
    items, within = 0, 0
    for piece in _pieces(data):
        parts = piece.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        items += _HARD_ITEMS * len(_HARD.findall(b'"'.join(parts[within::2])))
        if items > max_items:
            note = f", a number with an exponent of three digits as {_HARD_ITEMS}"
            raise too_many_items(None, max_items, note)
        within ^= (len(parts) - 1) & 1
        yield


def half_pair_steps(data: bytes) -> Steps:
    """Whether an escape is half of a surrogate pair, which is not a character."""
    text, first = b"", 0
    for piece in _pieces(data):
        text = text[-2 * _AROUND :] + piece.replace(rb"\\", b"  ")
        # The last bytes are scanned with the next piece.
        for found in _HALF_PAIR.finditer(text, first):
            if found.start() < len(text) - _AROUND:
                return True
        first = min(_AROUND, len(text))
        yield
    return _HALF_PAIR.search(text, max(0, len(text) - _AROUND)) is not None


def _pieces(data: bytes) -> Iterator[bytes]:
    """The text in pieces, none of which ends within an escape."""
    start = 0
    while start < len(data):
        piece = data[start : start + PIECE]
        if (len(piece) - len(piece.rstrip(b"\\"))) & 1:
            piece = data[start : start + PIECE + 1]
        yield piece
        start += len(piece)


def _rise(brackets: bytes, room: int) -> int:
    """How many levels brackets rise above their start; not exact if below ``room``."""
    # Each pass removes the innermost level, which is quick while that is a large part.
    text, passes = brackets, 0
    while text and passes < _PASSES:
        shorter = text.replace(b"[]", b"")
        if (len(text) - len(shorter)) * _WORTH_IT < len(text):
            break
        text = shorter
        passes += 1
    most = passes + max(0, _highest(text))
    return most if most <= room or not passes else _highest(brackets)


def _highest(brackets: bytes) -> int:
    """The level rises by each run of opening brackets and falls by the closing ones before it."""
    up, down = map(len, _OPENING.findall(brackets)), map(len, _CLOSING.findall(brackets))
    before = down if brackets.startswith(b"]") else chain((0,), down)
    return max(accumulate(map(sub, up, before)), default=0)
