"""Checks of single arguments."""

from __future__ import annotations

import inspect
import ipaddress
import math
import re
import sys
from collections.abc import Collection
from pickle import PickleBuffer
from typing import Any

from ..constants import MAX_APPLICATION_CODE, MAX_VARINT
from ..exceptions import ConfigurationError, invalid_config

__all__ = [
    "NEVER",
    "check_bind_address",
    "check_callable",
    "check_count",
    "check_data",
    "check_instance",
    "check_integer",
    "check_interface",
    "check_number",
    "check_seconds",
    "check_signature",
    "check_text",
    "check_texts",
    "check_timeout",
    "check_whole",
    "is_buffer",
    "validate_address",
    "validate_error_code",
    "validate_port",
    "validate_session_id",
    "validate_stream_id",
]


NEVER = 1e9
"""Longest time in seconds, which every event loop can still handle."""

# In the format of a buffer of structures (PEP 3118).
_FIELD_NAME = re.compile(":[^:]*:")


def validate_address(address: Any) -> None:
    """Check a (host, port) pair.

    Raises:
        ConfigurationError: It is not a pair of a non-empty string and a port from 0 to 65535.
    """
    match address:
        case (str() as host, int() as port) if isinstance(address, tuple):
            if host and not isinstance(port, bool) and 0 <= port <= 65535:
                return
    raise invalid_config(
        key="address", value=address, reason="expected (host, port) with a port from 0 to 65535"
    )


def validate_error_code(error_code: Any) -> None:
    """Check an application's error code.

    Raises:
        ConfigurationError: It is not a whole number from 0 to 4,294,967,295.
    """
    check_integer("error_code", error_code, 0, MAX_APPLICATION_CODE)


def validate_port(port: Any) -> None:
    """Check a UDP port.

    Raises:
        ConfigurationError: It is not a whole number from 1 to 65535.
    """
    check_integer("port", port, 1, 65535)


def validate_session_id(session_id: Any) -> None:
    """Check a session ID.

    Raises:
        ConfigurationError: It is not a non-empty, printable string.
    """
    if not isinstance(session_id, str) or not session_id or not session_id.isprintable():
        raise invalid_config(
            key="session_id", value=session_id, reason="expected a non-empty, printable string"
        )


def validate_stream_id(stream_id: Any) -> None:
    """Check the ID of a QUIC stream.

    Raises:
        ConfigurationError: It is not a whole number from 0 to 2**62 - 1.
    """
    check_integer("stream_id", stream_id, 0, MAX_VARINT)


def check_integer(key: str, value: Any, low: int, high: int) -> None:
    """Check a whole number within bounds.

    Raises:
        ConfigurationError: It is not a whole number, or out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise _not_whole(key, value, low, high)


def check_whole(key: str, value: Any, low: int, high: int = sys.maxsize) -> None:
    """Check for a whole number that fits into a message; the caller checks the range.

    Args:
        key: The name of the argument.
        value: The argument.
        low: What the caller accepts, for the message.
        high: What the caller accepts, for the message.

    Raises:
        ConfigurationError: It is not a whole number, or has very many digits.
    """
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > sys.maxsize:
        raise _not_whole(key, value, low, high)


def _not_whole(key: str, value: Any, low: int, high: int) -> ConfigurationError:
    limits = f" from {low} to {high}"
    if high == sys.maxsize:
        limits = "" if low == -sys.maxsize else f" of at least {low}"
    return invalid_config(key=key, value=value, reason=f"expected a whole number{limits}")


def check_bind_address(host: Any, port: Any) -> None:
    """Check where to listen; None means the value of the configuration.

    Only binding shows whether the system has this address and port.

    Raises:
        ConfigurationError: The host is not a string, or looks like a URL or ``host:port``; or the
            port is not a whole number from 0 to 65535.
    """
    if host is not None and not (isinstance(host, str) and _may_be_host(host)):
        raise invalid_config(
            key="host",
            value=host,
            reason="expected a host name or an address, without port and brackets",
        )
    if port is not None:
        if isinstance(port, str) and port.isascii() and port.isdigit():
            raise invalid_config(
                key="port", value=port, reason=f"expected a number, not a string; write {int(port)}"
            )
        check_integer("port", port, 0, 65535)


def _may_be_host(host: str) -> bool:
    if not any(mark in host for mark in ":[]/"):
        return True
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True


def check_count(key: str, value: Any) -> int:
    """Check a limit that is a count, and return it.

    Raises:
        ConfigurationError: It is not a whole number of at least 1.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise invalid_config(key=key, value=value, reason="expected a whole number of at least 1")
    return value


def check_number(key: str, value: Any, low: float = -math.inf, high: float = math.inf) -> None:
    """Check a finite number within bounds.

    Raises:
        ConfigurationError: It is not a number, not finite, or out of range.
    """
    if not (_is_number(value) and low <= value <= high and math.isfinite(_as_float(value))):
        limits = f" from {low:g} to {high:g}"
        if high == math.inf:
            limits = f" of at least {low:g}" if low > -math.inf else ""
        raise invalid_config(key=key, value=value, reason=f"expected a finite number{limits}")


def check_seconds(key: str, value: Any) -> float:
    """Check a duration, and return one that an event loop can handle.

    Returns:
        Seconds, at most 30 years.

    Raises:
        ConfigurationError: It is not a finite number above 0.
    """
    # False for NaN, too.
    if not (_is_number(value) and value > 0 and value != math.inf):
        raise invalid_config(key=key, value=value, reason="expected more than 0 seconds")
    return float(min(value, NEVER))


def check_timeout(key: str, value: float | None) -> float | None:
    """Check a timeout, and return one that an event loop can handle.

    Returns:
        Seconds; None for no limit, and for infinity and more than 30 years.

    Raises:
        ConfigurationError: It is neither None nor a number of 0 or more seconds.
    """
    if value is None:
        return None
    if not (_is_number(value) and value >= 0):
        raise invalid_config(
            key=key, value=value, reason="expected 0 or more seconds, or None for no limit"
        )
    return None if value >= NEVER else value


def check_text(key: str, value: Any) -> str:
    """Check a string.

    Raises:
        ConfigurationError: It is not a ``str``.
    """
    if not isinstance(value, str):
        hint = f"; write str({key})" if isinstance(value, BaseException) else ""
        raise invalid_config(key=key, value=value, reason=f"expected a string (str){hint}")
    return value


def check_texts(key: str, values: Any) -> tuple[str, ...]:
    """Check a collection of strings; a single string is refused.

    Raises:
        ConfigurationError: It is not a collection of strings.
    """
    if isinstance(values, Collection) and not isinstance(values, str):
        texts = tuple(values)
        if all(isinstance(text, str) for text in texts):
            return texts
    raise invalid_config(key=key, value=values, reason="expected a list of strings")


def check_data(key: str, value: Any) -> bytes | memoryview:
    """Check data to send, and return it in a form that can be sent.

    Returns:
        ``bytes`` unchanged, strings as UTF-8, other buffers as a view of their bytes.

    Raises:
        ConfigurationError: It is neither a C-contiguous buffer of plain values nor a string, or
            UTF-8 cannot encode it.
    """
    if isinstance(value, bytes):
        return value
    try:
        if isinstance(value, str):
            return value.encode()
        view = memoryview(value)
        if not view.c_contiguous:
            raise _unsuitable(key, value, "C-contiguous", "numpy.ascontiguousarray()")
        if "O" in view.format and "O" in _FIELD_NAME.sub("", view.format):
            raise _unsuitable(key, value, "of plain values, not Python objects", "astype()")
        # Views of no bytes that have several dimensions cannot be cast.
        return view.cast("B") if view.nbytes else PickleBuffer(view).raw()
    except UnicodeEncodeError as error:
        raise invalid_config(
            key=key, value=value, reason=f"expected a string that UTF-8 can encode ({error})"
        ) from None
    except ConfigurationError:
        raise
    except (TypeError, ValueError, BufferError):
        raise invalid_config(
            key=key,
            value=value,
            reason="expected bytes, bytearray, a contiguous memoryview, or str",
        ) from None


def is_buffer(value: Any) -> bool:
    """Whether an object has the buffer interface (PEP 3118)."""
    try:
        memoryview(value).release()
    except (TypeError, ValueError, BufferError):
        return False
    return True


def _unsuitable(key: str, value: Any, kind: str, remedy: str) -> ConfigurationError:
    return invalid_config(
        key=key, value=value, reason=f"expected a buffer that is {kind}; {remedy} makes one"
    )


def check_instance(key: str, value: Any, *classes: type) -> None:
    """Check that an object is an instance of one of some classes.

    Raises:
        ConfigurationError: It is not.
    """
    if not isinstance(value, classes):
        names = " or ".join(one.__name__ for one in classes)
        article = "an" if names[0] in "AEIOU" else "a"
        raise invalid_config(key=key, value=value, reason=f"expected {article} {names}")


def check_interface(key: str, value: Any, kind: str, method: str) -> None:
    """Check that an object is an instance of a class that this layer cannot import.

    Args:
        key: The name of the argument.
        value: The argument.
        kind: The name of the class.
        method: One that only this class has.

    Raises:
        ConfigurationError: It is not such an object.
    """
    if not callable(getattr(type(value), method, None)):
        raise invalid_config(key=key, value=value, reason=f"expected a {kind}")


def check_callable(key: str, value: Any) -> None:
    """Check that an object can be called.

    Raises:
        ConfigurationError: It cannot.
    """
    if not callable(value):
        raise invalid_config(key=key, value=value, reason="expected a function")


def check_signature(key: str, value: Any, shape: str, *arguments: Any) -> None:
    """Check that an object can be called with some arguments.

    Args:
        key: The name of the argument.
        value: The argument.
        shape: Description of the expected function.
        *arguments: Examples of its arguments; it is not called here.

    Raises:
        ConfigurationError: It cannot.
    """
    check_callable(key, value)
    try:
        # Of the decorated function itself, not of what it wraps: that is what is called.
        inspect.signature(value, follow_wrapped=False).bind(*arguments)
    except TypeError as error:
        raise invalid_config(key=key, value=value, reason=f"expected {shape}: {error}") from None
    except ValueError:  # Python knows no signature for it
        pass


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf
