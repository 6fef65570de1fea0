"""Compatibility names: helpers for bytes, strings, dictionaries and identifiers."""

from __future__ import annotations

import hashlib
import secrets
import sys
from collections.abc import Mapping
from typing import Any

from pywebtransport._states import Buffer
from pywebtransport.exceptions import ConfigurationError, invalid_config
from pywebtransport.utils.checks import check_count, check_instance, check_integer, check_text
from pywebtransport.utils.text import printable

__all__ = [
    "calculate_checksum",
    "chunked_read",
    "ensure_bytes",
    "ensure_str",
    "format_bytes",
    "generate_connection_id",
    "generate_request_id",
    "generate_session_id",
    "merge_configs",
    "normalize_headers",
]


def ensure_bytes(data: Buffer | str, *, encoding: str = "utf-8") -> bytes:
    """Give ``data`` as ``bytes``; text is encoded.

    Raises:
        ConfigurationError: ``data`` is neither text nor a buffer, or the encoding is
            not known or has no such characters.
    """
    if isinstance(data, bytes):
        return data
    if isinstance(data, str):
        try:
            return data.encode(check_text("encoding", encoding))
        except (LookupError, ValueError) as error:  # ValueError: a NUL in the encoding's name
            raise _bad_coding(data, encoding, error) from error
    return bytes(_buffer(data))


def ensure_str(data: Buffer | str, *, encoding: str = "utf-8") -> str:
    """Give ``data`` as text; buffers are decoded.

    Raises:
        ConfigurationError: ``data`` is neither text nor a buffer, the bytes are no text
            in this encoding, or it is not known.
    """
    if isinstance(data, str):
        return data
    try:
        return bytes(_buffer(data)).decode(check_text("encoding", encoding))
    except (LookupError, ValueError) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise _bad_coding(data, encoding, error) from error


def calculate_checksum(data: Buffer, *, algorithm: str = "sha256") -> str:
    """Give the hex digest of ``data``.

    Args:
        data: What to digest.
        algorithm: A name of :data:`hashlib.algorithms_guaranteed` with a fixed length.

    Raises:
        ConfigurationError: The algorithm is not known, or ``data`` is no buffer.
    """
    view = _buffer(data)
    check_text("algorithm", algorithm)
    known = {name for name in hashlib.algorithms_guaranteed if not name.startswith("shake_")}
    if algorithm not in known:
        names = ", ".join(sorted(known))
        raise invalid_config(key="algorithm", value=algorithm, reason=f"expected one of {names}")
    return hashlib.new(algorithm, view, usedforsecurity=False).hexdigest()


def chunked_read(data: bytes, *, chunk_size: int = 8192) -> list[bytes]:
    """Cut ``data`` into pieces of ``chunk_size`` bytes, the last one shorter.

    Raises:
        ConfigurationError: ``chunk_size`` is not at least 1, or ``data`` is no buffer.
    """
    _buffer(data)
    check_count("chunk_size", chunk_size)
    return [data[start : start + chunk_size] for start in range(0, len(data), chunk_size)]


def format_bytes(data: bytes, *, max_length: int = 100) -> str:
    """Show ``data`` for a log: at most ``max_length`` bytes, and the size when cut.

    Raises:
        ConfigurationError: ``data`` is no buffer, or ``max_length`` is negative.
    """
    _buffer(data)
    check_integer("max_length", max_length, 0, sys.maxsize)
    if len(data) <= max_length:
        return repr(data)
    return f"{data[:max_length]!r}... ({len(data)} bytes)"


def merge_configs(
    *, base_config: dict[str, Any], override_config: dict[str, Any]
) -> dict[str, Any]:
    """Merge two dictionaries; the second wins, dictionaries inside are merged too.

    Raises:
        ConfigurationError: One of them is none.
    """
    check_instance("base_config", base_config, dict)
    check_instance("override_config", override_config, dict)
    result = dict(base_config)
    for key, value in override_config.items():
        current = result.get(key)
        if isinstance(current, dict) and isinstance(value, dict):
            value = merge_configs(base_config=current, override_config=value)
        result[key] = value
    return result


def normalize_headers(headers: Mapping[str, Any]) -> dict[str, str]:
    """Give header fields with names in lower case and values as text.

    Bytes are decoded as UTF-8, or as Latin-1 where they are not that.

    Raises:
        ConfigurationError: They are no mapping, or a value has no text.
    """
    check_instance("headers", headers, Mapping)
    return {_header_text(name).lower(): _header_text(value) for name, value in headers.items()}


def _buffer(data: Any) -> Buffer:
    if not isinstance(data, bytes | bytearray | memoryview):
        raise invalid_config(
            key="data",
            value=data,
            reason=f"expected bytes, bytearray, memoryview or str, not {type(data).__name__}",
        )
    return data


def _bad_coding(data: object, encoding: str, error: Exception) -> ConfigurationError:
    key, value = ("data", data) if isinstance(error, UnicodeError) else ("encoding", encoding)
    return invalid_config(key=key, value=value, reason=printable(error))


def _header_text(value: Any) -> str:
    if not isinstance(value, bytes | bytearray | memoryview):
        try:
            return str(value).strip(" \t")
        except Exception as error:  # somebody else's __str__
            reason = "expected values that can be texts"
            raise invalid_config(key="headers", value=value, reason=reason) from error
    raw = bytes(value)
    try:
        return raw.decode().strip(" \t")
    except UnicodeDecodeError:
        return raw.decode("latin-1").strip(" \t")


def generate_connection_id() -> str:
    """Make a random name for a connection: 16 hex digits."""
    return secrets.token_hex(8)


def generate_request_id() -> str:
    """Make a random name for a request: 16 hex digits."""
    return secrets.token_hex(8)


def generate_session_id() -> str:
    """Make a random name for a session: 32 hex digits."""
    return secrets.token_hex(16)
