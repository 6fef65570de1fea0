"""Argument checks of the datagram classes."""

from __future__ import annotations

import sys
from collections.abc import Collection
from typing import Any

from ..exceptions import DatagramArgumentError, invalid_config
from ..utils._checks import check_data, check_whole, is_buffer

__all__ = [
    "MAX_PRIORITY",
    "check_age",
    "check_limit",
    "check_payload",
    "check_payloads",
    "check_priority",
    "check_wait",
]

MAX_PRIORITY = 2


def check_payload(data: Any) -> bytes:
    """Return the bytes of one datagram.

    Raises:
        ConfigurationError: ``data`` is neither a buffer nor a string.
    """
    return bytes(check_data("data", data))


def check_payloads(datagrams: Any) -> list[bytes]:
    """Return the bytes of several datagrams.

    Raises:
        ConfigurationError: ``datagrams`` is a single datagram or not a collection, or an item
            is neither a buffer nor a string. Any buffer is one datagram, even if it can be
            iterated over, as an array can.
    """
    one = isinstance(datagrams, str) or is_buffer(datagrams)
    if one or not isinstance(datagrams, Collection):
        kind = type(datagrams).__name__
        raise _wrong(
            f"datagrams must be a sequence of datagrams, got {'one ' if one else ''}{kind}",
            "datagrams",
            datagrams,
        )
    return [data if data.__class__ is bytes else check_payload(data) for data in datagrams]


def check_priority(priority: Any) -> None:
    """Raise ConfigurationError when ``priority`` is not 0, 1 or 2."""
    check_whole("priority", priority, 0, MAX_PRIORITY)
    if not 0 <= priority <= MAX_PRIORITY:
        raise _wrong(f"priority must be 0 to {MAX_PRIORITY}, got {priority}", "priority", priority)


def check_age(name: str, seconds: Any, *, optional: bool = False) -> None:
    """Raise ConfigurationError if ``seconds`` is not a number above 0."""
    if seconds is None and optional:
        return
    _check_number(name, seconds, "more than 0 seconds" + (", or None" if optional else ""))
    if not seconds > 0:
        raise _wrong(
            f"{name} must be > 0 seconds{' or None' if optional else ''}, got {seconds}",
            name,
            seconds,
        )


def check_wait(name: str, seconds: Any) -> None:
    """Raise ConfigurationError if ``seconds`` is not a number of 0 or more."""
    _check_number(name, seconds, "0 or more seconds")
    if not seconds >= 0:
        raise _wrong(f"{name} must be >= 0 seconds, got {seconds}", name, seconds)


def check_limit(name: str, count: Any, least: int = 1) -> None:
    """Raise ConfigurationError if ``count`` is not an integer of at least ``least``."""
    check_whole(name, count, least)
    if count < least:
        raise _wrong(f"{name} must be >= {least}, got {count}", name, count)


def _wrong(message: str, name: str, value: Any) -> DatagramArgumentError:
    return DatagramArgumentError(message, config_key=name, config_value=value)


def _check_number(name: str, value: Any, wanted: str) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or (isinstance(value, int) and abs(value) > sys.maxsize):
        raise invalid_config(key=name, value=value, reason=f"expected {wanted}")
