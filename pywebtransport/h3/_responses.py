"""Headers of responses to HTTP requests: checked, encoded, and kept for the next response."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from ..exceptions import ConfigurationError
from ..utils._text import printable
from ._constants import MAX_FIELD_LINE, MAX_FIELD_NAME, FrameType
from ._fields import CONNECTION_FIELDS, MAX_LENGTH_DIGITS
from ._frames import encode_frame
from ._qpack import encode_static, section_size

__all__ = ["ResponseHead", "check_response_lines", "response_head"]

Lines = Sequence[tuple[bytes, bytes]]

_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_BAD_VALUE: Final = re.compile(rb"[\x00\r\n]")
# Servers send the same headers again and again; only ``date`` changes, once a second.
_SHARED_COUNT: Final = 256
_SHARED_SIZE: Final = 2048  # bytes of a header that is kept, counted as in RFC 9114


class ResponseHead(NamedTuple):
    """A header that can be sent."""

    fields: list[tuple[bytes, bytes]]
    """Field lines for QPACK."""
    size: int
    """Bytes, counted as in RFC 9114 section 4.2.2."""
    content_length: int
    """Bytes of the body; -1: the header does not tell."""
    frame: bytes
    """The HEADERS frame, encoded with the static table."""


_shared: dict[tuple[object, ...], ResponseHead] = {}


def response_head(status: int, lines: Lines, *, has_length: bool = True) -> ResponseHead:
    """Check the header of a response and encode it.

    Args:
        status: A number of three digits; 0: these are trailers.
        lines: Names and values.
        has_length: ``content-length`` may be sent; otherwise it is left out.

    Raises:
        ConfigurationError: A line cannot be sent.
    """
    try:
        lines = lines if isinstance(lines, list | tuple) else list(lines)
        key = (status, has_length, *lines)
        found = _shared.get(key)
    except TypeError:  # something that is no pair of bytes, or a pair in a list
        return _build(status, lines, has_length)
    if found is None:
        found = _build(status, lines, has_length)
        if found.size <= _SHARED_SIZE:
            if len(_shared) >= _SHARED_COUNT:
                _shared.clear()
            _shared[key] = found
    return found


def _build(status: int, lines: Lines, has_length: bool) -> ResponseHead:
    fields = check_response_lines(lines)
    length = -1
    if not has_length:
        fields = [line for line in fields if line[0] != b"content-length"]
    else:
        length = next((int(value) for name, value in fields if name == b"content-length"), -1)
    if status:
        fields.insert(0, (b":status", b"%d" % status))
    frame = encode_frame(FrameType.HEADERS, encode_static(fields))
    return ResponseHead(fields, section_size(fields), length, frame)


def check_response_lines(lines: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Check field lines of a response, and return them as they are sent.

    Names become lower case. Fields that HTTP/3 forbids, such as ``connection``, are left out,
    and so are repeated lines of ``content-length`` with the same value.

    Raises:
        ConfigurationError: A line cannot be sent.
    """
    checked: list[tuple[bytes, bytes]] = []
    length: bytes | None = None
    try:
        pairs = [(name, value) for name, value in lines]
    except (TypeError, ValueError):
        raise _bad("", "expected a sequence of pairs of bytes: name and value") from None
    for name, value in pairs:
        if not isinstance(name, bytes) or not isinstance(value, bytes):
            raise _bad(name, "expected bytes, both as name and as value")
        name = name.lower()
        if len(name) > MAX_FIELD_NAME:
            raise _bad(name, f"the name has {len(name)} bytes: 1 to {MAX_FIELD_NAME} are accepted")
        if not _NAME.fullmatch(name):
            raise _bad(name, "the name must be a token of RFC 9110")
        if _BAD_VALUE.search(value):
            raise _bad(name, "the value must not contain a line break or NUL")
        if len(name) + len(value) > MAX_FIELD_LINE:
            raise _bad(
                name,
                f"{len(value)} bytes: name and value may have 0 to {MAX_FIELD_LINE} bytes together",
            )
        value = value.strip(b" \t")
        if name in CONNECTION_FIELDS:
            continue
        if name == b"content-length":
            if not value.isdigit() or len(value) > MAX_LENGTH_DIGITS:
                raise _bad(name, "must be a number of bytes in decimal digits")
            if length is not None:
                if value != length:
                    raise _bad(name, "there are two different values")
                continue
            length = value
        checked.append((name, value))
    return checked


def _bad(name: object, rule: str) -> ConfigurationError:
    # The message shows no value: it may be a credential.
    return ConfigurationError(
        f'response header "{printable(name)}": {rule}', config_key="lines", config_value=name
    )
