"""Checks of single values."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pywebtransport.constants import MAX_APPLICATION_CODE, MAX_VARINT
from pywebtransport.exceptions import invalid_config

__all__ = [
    "check_count",
    "check_instance",
    "check_number",
    "check_seconds",
    "check_text",
    "check_texts",
    "validate_address",
    "validate_error_code",
    "validate_port",
    "validate_session_id",
    "validate_stream_id",
]


def validate_address(address: Any) -> None:
    """Check a (host, port) pair.

    Raises:
        ConfigurationError: It is not a pair of a non-empty string and a port of 0 to 65535.
    """
    match address:
        case (str() as host, int() as port) if isinstance(address, tuple):
            if host and not isinstance(port, bool) and 0 <= port <= 65535:
                return
    raise invalid_config(
        key="address", value=address, reason="expected (host, port) with a port of 0 to 65535"
    )


def validate_error_code(error_code: Any) -> None:
    """Check an application's error code.

    Raises:
        ConfigurationError: It is not a whole number of 0 to 4,294,967,295.
    """
    _check_integer("error_code", error_code, 0, MAX_APPLICATION_CODE)


def validate_port(port: Any) -> None:
    """Check a UDP port.

    Raises:
        ConfigurationError: It is not a whole number of 1 to 65535.
    """
    _check_integer("port", port, 1, 65535)


def validate_session_id(session_id: Any) -> None:
    """Check the identifier of a session.

    Raises:
        ConfigurationError: It is not a non-empty, printable string.
    """
    if not isinstance(session_id, str) or not session_id or not session_id.isprintable():
        raise invalid_config(
            key="session_id", value=session_id, reason="expected a non-empty, printable string"
        )


def validate_stream_id(stream_id: Any) -> None:
    """Check the identifier of a QUIC stream.

    Raises:
        ConfigurationError: It is not a whole number of 0 to 2**62 - 1.
    """
    _check_integer("stream_id", stream_id, 0, MAX_VARINT)


def check_count(key: str, value: Any) -> None:
    """Check a limit that is counted.

    Raises:
        ConfigurationError: It is not a whole number from 1 up.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise invalid_config(key=key, value=value, reason="expected a whole number from 1 up")


def check_seconds(key: str, value: Any) -> None:
    """Check a time that has to pass.

    Raises:
        ConfigurationError: It is not more than 0 seconds.
    """
    if not (isinstance(value, int | float) and value > 0):  # NaN is not, either
        raise invalid_config(key=key, value=value, reason="expected more than 0 seconds")


def check_texts(key: str, values: Any) -> tuple[str, ...]:
    """Check several texts; one alone is no list of its characters.

    Raises:
        ConfigurationError: They are no collection of texts.
    """
    if isinstance(values, Collection) and not isinstance(values, str):
        texts = tuple(values)
        if all(isinstance(text, str) for text in texts):
            return texts
    raise invalid_config(key=key, value=values, reason="expected a list of texts")


def _check_integer(key: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise invalid_config(
            key=key, value=value, reason=f"expected a whole number of {low} to {high}"
        )


def check_instance(key: str, value: Any, kind: type, *, optional: bool = False) -> None:
    """Check an object's class.

    Args:
        key: Name of the argument.
        value: What was given for it.
        kind: The class.
        optional: None is accepted as well.

    Raises:
        ConfigurationError: It is of another class.
    """
    if not (isinstance(value, kind) or (optional and value is None)):
        raise invalid_config(key=key, value=value, reason=f"expected an object of {kind.__name__}")


def check_number(key: str, value: Any) -> None:
    """Check that a value is a number and no bool; its range is the caller's.

    Raises:
        ConfigurationError: It is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise invalid_config(key=key, value=value, reason="expected a number of seconds")


def check_text(key: str, value: Any) -> None:
    """Check that a value is a text.

    Raises:
        ConfigurationError: It is none.
    """
    if not isinstance(value, str):
        raise invalid_config(key=key, value=value, reason="expected a text")
