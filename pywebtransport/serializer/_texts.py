"""Types that are written as strings, and keys of JSON objects as strings."""

from __future__ import annotations

import base64
import datetime
import decimal
import enum
import json
import math
import re
import reprlib
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = [
    "BINARY",
    "DISTINCT",
    "TEXTUAL",
    "Form",
    "array_of_key",
    "is_exactly",
    "key_text",
    "plain_value",
    "shown",
    "text_of",
]

_DURATION = re.compile(
    r"(-?)P(?:(\d{1,9})D)?(?:T(?=\d)(?:(\d{1,9})H)?(?:(\d{1,9})M)?"
    r"(?:(\d{1,9})(?:\.(\d{1,6}))?S)?)?",
    re.ASCII,
)


class Form(NamedTuple):
    """How a type is written as a string."""

    name: str
    parse: Callable[[str], Any]
    write: Callable[[Any], str]


def _parse_datetime(text: str) -> datetime.datetime:
    value = datetime.datetime.fromisoformat(text)
    try:
        datetime.date.fromisoformat(text)
    except ValueError:
        return value
    raise ValueError("a date has no time")


def _parse_duration(text: str) -> datetime.timedelta:
    match = _DURATION.fullmatch(text)
    if match is None or text[-1] in "PT":
        raise ValueError("not a duration of days, hours, minutes and seconds")
    sign, *parts = match.groups()
    days, hours, minutes, seconds = (int(part or 0) for part in parts[:4])
    micros = int((parts[4] or "").ljust(6, "0"))
    value = datetime.timedelta(days, seconds, micros, minutes=minutes, hours=hours)
    return -value if sign else value


def _duration(value: datetime.timedelta) -> str:
    sign, size = ("-", -value) if value < datetime.timedelta(0) else ("", value)
    micros = f".{size.microseconds:06}" if size.microseconds else ""
    return f"{sign}P{size.days}DT{size.seconds}{micros}S"


def _parse_base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _base64(value: Any) -> str:
    return base64.b64encode(value).decode()


def _isoformat(value: Any) -> str:
    text: str = value.isoformat()
    return text


# In the order in which a union tries them. Ordinary strings rarely look like the first types.
DISTINCT: dict[type, Form] = {
    uuid.UUID: Form("UUID", uuid.UUID, str),
    datetime.date: Form("date (ISO 8601)", datetime.date.fromisoformat, _isoformat),
    datetime.datetime: Form("date and time (ISO 8601)", _parse_datetime, _isoformat),
    datetime.time: Form("time (ISO 8601)", datetime.time.fromisoformat, _isoformat),
    datetime.timedelta: Form("duration (ISO 8601)", _parse_duration, _duration),
}
BINARY: dict[type, Form] = {
    bytes: Form("bytes (in JSON base64)", _parse_base64, _base64),
    bytearray: Form("bytes (in JSON base64)", lambda text: bytearray(_parse_base64(text)), _base64),
    memoryview: Form("bytes (in JSON base64)", lambda t: memoryview(_parse_base64(t)), _base64),
}
TEXTUAL: dict[type, Form] = {
    **DISTINCT,
    decimal.Decimal: Form("decimal number", decimal.Decimal, str),
    **BINARY,
}
_CLASSES = (datetime.datetime, *TEXTUAL)  # datetime is a subclass of date


def text_of(value: Any) -> str | None:
    """The string for a value of one of these types; None for other types."""
    form = TEXTUAL.get(type(value))
    if form is None:
        base = next((cls for cls in _CLASSES if isinstance(value, cls)), None)
        if base is None:
            return None
        form = TEXTUAL[base]
    return form.write(value)


def shown(value: Any) -> str:
    """A short form of a value for error messages; never raises."""
    try:
        return reprlib.repr(value)
    except Exception:  # a __repr__ that fails, or an integer with more digits than Python writes
        return f"<{type(value).__name__}>"


def is_exactly(value: Any, kind: type) -> bool:
    """Whether a value is an instance of a type; here a datetime is not a date."""
    if isinstance(value, kind):
        return kind is not datetime.date or not isinstance(value, datetime.datetime)
    return False


def plain_value(value: Any, *, binary: bool) -> Any:
    """The plain form of a value listed in a ``Literal`` or an enumeration.

    Args:
        value: Scalars, types that are written as strings, and tuples and lists of these.
        binary: The format has bytes.

    Raises:
        TypeError: It has no plain form.
    """
    if isinstance(value, enum.Enum):
        return plain_value(value.value, binary=binary)
    for kind in (bool, str, int, float):
        if isinstance(value, kind):
            return kind(value)
    if value is None:
        return None
    if isinstance(value, tuple | list | frozenset):
        return [plain_value(item, binary=binary) for item in value]
    if binary and isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    text = text_of(value)
    if text is None:
        raise TypeError(f"{type(value).__qualname__} has no plain form")
    return text


def key_text(plain: Any) -> str:
    """The name of a key in a JSON object.

    Args:
        plain: The key in its plain form.

    Raises:
        TypeError: The key has no such name.
    """
    if isinstance(plain, str):
        return str(plain)
    if plain is None or isinstance(plain, bool):
        return {None: "null", True: "true", False: "false"}[plain]
    if isinstance(plain, int):
        return int.__repr__(plain)
    if isinstance(plain, float) and math.isfinite(plain):
        return float.__repr__(plain)
    if isinstance(plain, list | tuple):
        return json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    raise TypeError(f"{type(plain).__qualname__} {shown(plain)} cannot be a key")


def array_of_key(text: str) -> list[Any]:
    """Parse a key that ``key_text`` made from an array.

    Raises:
        ValueError: It is not such a string.
    """
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("it nests too deeply") from None
    if type(value) is not list:
        raise ValueError("not an array")
    return value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
