"""Field sections as messages: the rules of RFC 9114 sections 4.2 to 4.4 and RFC 9220."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, NamedTuple

from .._header_map import HeaderMap
from .._states import HeadersToSend
from ..exceptions import ConfigurationError, SessionArgumentError, invalid_config
from ..utils._text import printable
from ._constants import MAX_FIELD_LINE, MAX_FIELD_NAME
from ._errors import MessageError
from ._priority import parse_urgency
from ._qpack import section_size

__all__ = [
    "CONNECTION_FIELDS",
    "MAX_LENGTH_DIGITS",
    "Request",
    "Response",
    "check_fields",
    "check_rejection",
    "check_section_size",
    "check_target",
    "check_trailers",
    "encode_fields",
    "parse_request",
    "parse_response",
]

_Fields = Sequence[tuple[bytes, bytes]]

_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_BAD_VALUE: Final = re.compile(rb"[\x00\r\n]")
_METHOD: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*")
_AUTHORITY: Final = re.compile(r"[^\x00-\x20\x7f-\xff/?#@\\]+")
_PATH: Final = re.compile(r"[!-~]+")
_STATUS: Final = re.compile(rb"[1-9][0-9]{2}")
CONNECTION_FIELDS: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)
_RESERVED_FIELDS: Final = frozenset({b"te", b"host", b"content-length"})
_SPECIAL_FIELDS: Final = _RESERVED_FIELDS | {b"priority"}
_REQUEST_PSEUDO: Final = frozenset({b":method", b":scheme", b":authority", b":path", b":protocol"})
_SHARED_COUNT: Final = 256
_SHARED_VALUE: Final = 256
_SHARED_NAME: Final = 64
MAX_LENGTH_DIGITS: Final = 18  # of a content-length; no stream carries more
_RESPONSE_PSEUDO: Final = frozenset({b":status"})


class _Parts(NamedTuple):
    """A field section."""

    pseudo: dict[str, str]
    lines: list[tuple[bytes, bytes]]
    """The regular fields."""
    special: dict[bytes, bytes]
    """Those of ``_SPECIAL_FIELDS``."""


@dataclass(slots=True)
class Request:
    """A well-formed request. Requests with a small header are shared, so do not change one.

    Attributes:
        method: The method; it is case-sensitive.
        scheme: ``:scheme``; empty in a plain CONNECT.
        authority: ``:authority``, or else the field ``host``.
        path: Path and query; empty in a plain CONNECT.
        protocol: ``:protocol`` of an extended CONNECT.
        lines: The regular fields as received: in order, with duplicates. Spaces around a value
            are removed, and repeated lines of ``content-length`` are left out.
        content_length: Bytes that the body must have; None: not announced.
        urgency: Of the field ``priority``: 0 (first) to 7; None: there is none.
        memo: Free for the layer above: what it derived from the header; shared with the request.
    """

    method: str
    scheme: str
    authority: str
    path: str
    protocol: str | None
    lines: tuple[tuple[bytes, bytes], ...]
    content_length: int | None = None
    urgency: int | None = None
    memo: Any = field(default=None, repr=False, compare=False)
    _headers: HeaderMap | None = field(default=None, repr=False, compare=False)

    @property
    def is_extended_connect(self) -> bool:
        return self.method == "CONNECT" and self.protocol is not None

    @property
    def headers(self) -> HeaderMap:
        """The regular fields by name; created when first used."""
        if self._headers is None:
            self._headers = _header_map(self.lines)
        return self._headers


@dataclass(frozen=True, slots=True)
class Response:
    """A well-formed response header."""

    status: int
    headers: HeaderMap


def parse_request(fields: _Fields) -> Request:
    """Validate the header of a request.

    Args:
        fields: A tuple is a small field section that others may repeat exactly: the result is
            cached and shared, and must not be changed.

    Raises:
        MessageError: it is malformed.
    """
    return _shared_request(fields) if isinstance(fields, tuple) else _request(fields)


def _request(fields: _Fields) -> Request:
    pseudo, lines, special = _split(fields, _REQUEST_PSEUDO)
    length = special.get(b"content-length")
    host = special[b"host"].decode("latin-1") if b"host" in special else None
    method = pseudo.get(":method", "")
    if not _METHOD.fullmatch(method):
        raise MessageError(f":method is {method!r}" if method else ":method is missing")
    protocol = pseudo.get(":protocol")
    scheme, path = pseudo.get(":scheme"), pseudo.get(":path")
    authority = pseudo.get(":authority")
    if authority and host is not None and host != authority:
        raise MessageError(f"host {host!r} and :authority {authority!r} differ")
    if method == "CONNECT":
        _check_connect(scheme, path, authority, protocol)
        if protocol is not None and length is not None:
            raise MessageError("a CONNECT request has a content-length")
    else:
        if protocol is not None:
            raise MessageError(":protocol is only for CONNECT")
        if not scheme or not path:
            raise MessageError(":scheme or :path is missing")
        if not _SCHEME.fullmatch(scheme):
            raise MessageError(f":scheme is {scheme!r}")
        if not path.startswith("/") and not (path == "*" and method == "OPTIONS"):
            raise MessageError(f":path is {path!r}: must begin with a slash")
        if scheme.lower() in ("http", "https") and (authority == "" or not (authority or host)):
            raise MessageError(":authority is missing or empty")
        authority = authority or host or ""
    if path and protocol in (None, "websocket") and not _PATH.fullmatch(path):
        raise MessageError(f":path is {path!r}: must be ASCII without spaces")
    if authority and not _AUTHORITY.fullmatch(authority):
        what = "user information" if "@" in authority else "a forbidden character"
        raise MessageError(f":authority has {what}")
    return Request(
        method,
        scheme or "",
        authority or "",
        path or "",
        protocol,
        tuple(lines),
        None if length is None else int(length),
        None if b"priority" not in special else parse_urgency(special[b"priority"]),
    )


def _check_connect(
    scheme: str | None, path: str | None, authority: str | None, protocol: str | None
) -> None:
    if not authority:
        raise MessageError(":authority is missing or empty")
    if protocol is None:
        if scheme is not None or path is not None:
            raise MessageError("CONNECT without :protocol has :scheme or :path")
        return
    if not protocol:
        raise MessageError(":protocol is empty")
    if scheme != "https":
        raise MessageError(f":scheme is {scheme!r}: must be https")
    if not path or not path.startswith("/"):
        raise MessageError(f":path is {path!r}: must begin with a slash")


def check_trailers(fields: _Fields) -> None:
    """Validate trailers.

    Raises:
        MessageError: they are malformed; they may have no pseudo-fields.
    """
    _split(fields, frozenset())


def parse_response(fields: _Fields) -> Response:
    """Validate the header of a response to an extended CONNECT.

    Args:
        fields: As for :func:`parse_request`.

    Raises:
        MessageError: it is malformed, or a 2xx that cannot be the answer to one.
    """
    return _shared_response(fields) if isinstance(fields, tuple) else _response(fields)


def _response(fields: _Fields) -> Response:
    pseudo, lines, special = _split(fields, _RESPONSE_PSEUDO)
    text = pseudo.get(":status", "")
    if not _STATUS.fullmatch(text.encode("latin-1")) or text == "101":
        raise MessageError(f":status is {text!r}")
    status = int(text)
    if status in (204, 205, 206):
        raise MessageError(f"status {status} cannot open a session")
    if 200 <= status < 300 and b"content-length" in special:
        raise MessageError(f"a {status} response to CONNECT has a content-length")
    return Response(status, _header_map(lines))


_shared_request = lru_cache(_SHARED_COUNT)(_request)
_shared_response = lru_cache(_SHARED_COUNT)(_response)


def _split(fields: _Fields, allowed: frozenset[bytes]) -> _Parts:
    pseudo: dict[str, str] = {}
    lines: list[tuple[bytes, bytes]] = []
    special: dict[bytes, bytes] = {}
    values = b"".join([value for _, value in fields])
    if b"\r" in values or b"\n" in values or b"\0" in values:
        name = next(name for name, value in fields if _BAD_VALUE.search(value))
        raise MessageError(f"the value of {name!r} has a forbidden character")
    for name, value in fields:
        value = value.strip(b" \t")
        if name.startswith(b":"):
            if name not in allowed:
                raise MessageError(f"unknown pseudo-field {name!r}")
            key = name.decode("ascii")
            if key in pseudo:
                raise MessageError(f"{key} appears twice")
            if lines:
                raise MessageError(f"{key} comes after a regular field")
            pseudo[key] = value.decode("latin-1")
            continue
        is_special = _shared_name(name) if len(name) <= _SHARED_NAME else _check_received_name(name)
        if is_special and not _keep(special, name, value):
            continue
        lines.append((name, value))
    return _Parts(pseudo, lines, special)


def _keep(special: dict[bytes, bytes], name: bytes, value: bytes) -> bool:
    """Check a line of a field that has rules of its own; return whether it is not a repetition."""
    earlier = special.get(name)
    if name == b"te":
        if value.lower() != b"trailers":
            raise MessageError(f"te is {value!r} in HTTP/3")
    elif name == b"host":
        if earlier is not None:
            raise MessageError("host appears twice")
    elif name == b"priority":
        value = value if earlier is None else earlier + b", " + value
    elif not value.isdigit() or len(value) > MAX_LENGTH_DIGITS:
        raise MessageError(f"content-length is {value!r}")
    elif earlier is not None:
        if earlier != value:
            raise MessageError(f"content-length is {earlier!r} and {value!r}")
        return False
    special[name] = value
    return True


def _check_received_name(name: bytes) -> bool:
    """Check the name of a regular field; return whether its value has rules, too."""
    if not _NAME.fullmatch(name):
        raise MessageError(f"bad field name {name!r}")
    if name in CONNECTION_FIELDS:
        raise MessageError(f"field {name!r} is forbidden in HTTP/3")
    return name in _SPECIAL_FIELDS


_shared_name = lru_cache(_SHARED_COUNT)(_check_received_name)


def _header_map(lines: _Fields) -> HeaderMap:
    return HeaderMap((name.decode("ascii"), value.decode("latin-1")) for name, value in lines)


def check_fields(headers: HeadersToSend) -> HeaderMap:
    """Check fields given by the application; return them with names in lower case.

    Args:
        headers: A string, an integer, or a list of these for each name; one line per value.

    Raises:
        ConfigurationError: a name or value cannot be sent in HTTP/3.
    """
    if not isinstance(headers, Mapping):
        raise invalid_config(
            key="headers", value=headers, reason="expected a dictionary of names and values"
        )
    checked = HeaderMap()
    if not headers:
        return checked
    single = not isinstance(headers, HeaderMap) or len(headers.lines) == len(headers)
    for name, value in headers.items():
        if single and type(name) is str and type(value) is str and len(value) <= _SHARED_VALUE:
            lowered, text = _checked_line(name, value)
            if lowered not in checked:
                checked[lowered] = text
                continue
        _check_name(name, value)
        lines = headers.get_all(name) if isinstance(headers, HeaderMap) else value
        several = lines if isinstance(lines, list | tuple) else [lines]
        texts = [_check_value(name, line) for line in several]
        lowered = name.lower()
        checked.set_all(lowered, checked.get_all(lowered) + texts)
    return checked


@lru_cache(_SHARED_COUNT)
def _checked_line(name: str, value: str) -> tuple[str, str]:
    """Cached, because most sessions send the same few lines."""
    _check_name(name, value)
    return name.lower(), _check_value(name, value)


def _check_name(name: str, value: object) -> None:
    if not isinstance(name, str):
        raise _bad_header(name, value, "the name must be a string")
    raw = name.lower().encode("ascii", "replace")  # a question mark is in no name
    if not _NAME.fullmatch(raw):
        raise _bad_header(name, value, "the name must be a token of RFC 9110")
    if len(raw) > MAX_FIELD_NAME:
        raise _bad_header(
            name, value, f"the name has {len(raw)} bytes: 1 to {MAX_FIELD_NAME} are accepted"
        )
    if raw in CONNECTION_FIELDS or raw in _RESERVED_FIELDS:
        raise _bad_header(name, value, "cannot be set on a WebTransport session")


def _check_value(name: str, value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            value = str(int(value))
        except ValueError:  # more digits than the interpreter converts
            raise _bad_header(name, value, "the number is too large") from None
    if not isinstance(value, str):
        kind = type(value).__name__
        raise _bad_header(
            name, value, f"expected a string, an integer, or a list of these, got {kind}"
        )
    try:
        raw = value.encode("latin-1")
    except UnicodeEncodeError:
        raise _bad_header(name, value, "the value must be Latin-1") from None
    if _BAD_VALUE.search(raw):
        raise _bad_header(name, value, "the value must not contain a line break or NUL")
    if len(name) + len(raw) > MAX_FIELD_LINE:
        raise _bad_header(
            name,
            value,
            f"{len(raw)} bytes: name and value may have 0 to {MAX_FIELD_LINE} bytes together",
        )
    return value.strip(" \t")


def check_rejection(status: int) -> None:
    """Check the status of an answer that refuses a request.

    Raises:
        SessionArgumentError: it is not a status of this kind.
    """
    if isinstance(status, bool) or not isinstance(status, int) or not 300 <= status <= 599:
        raise SessionArgumentError(
            f"status_code must be 300 to 599, got {printable(status)}",
            config_key="status_code",
            config_value=status,
        )


def check_target(name: str, value: str) -> None:
    """Check what a request is for.

    Args:
        name: ``authority`` or ``path``.
        value: What the application gave for it.

    Raises:
        ConfigurationError: it cannot be sent.
    """
    rule = ""
    if not isinstance(value, str):
        rule = f"must be a string, got {type(value).__name__}"
    elif len(value) > MAX_FIELD_LINE:
        rule = f"must have 1 to {MAX_FIELD_LINE} characters, has {len(value)}"
    elif not value.isascii() or any(c <= " " or c == "\x7f" for c in value):
        rule = "only printable ASCII without spaces can be sent"
    elif name == "path" and not value.startswith("/"):
        rule = "it must begin with a slash"
    elif name == "authority" and (not value or "@" in value):
        rule = "it must be a host with an optional port"
    if rule:
        raise ConfigurationError(
            f"{name} = '{printable(value)}' cannot be sent in a request: {rule}",
            config_key=name,
            config_value=value,
        )


def _bad_header(name: object, value: object, rule: str) -> ConfigurationError:
    # The message shows no value: it may be a credential.
    return ConfigurationError(
        f'header "{printable(name)}": {rule}', config_key="headers", config_value={name: value}
    )


def check_section_size(fields: _Fields, limit: int | None) -> None:
    """Check a header that is to be sent against the peer's SETTINGS_MAX_FIELD_SECTION_SIZE.

    Args:
        fields: Pseudo-fields and fields.
        limit: Bytes, counted as in RFC 9114 section 4.2.2; None: there is no limit.

    Raises:
        ConfigurationError: it is larger.
    """
    if limit is not None and (size := section_size(fields)) > limit:
        largest = max(fields, key=lambda line: len(line[0]) + len(line[1]))
        raise ConfigurationError(
            f"the header has {size} bytes, the largest field, "
            f'"{printable(largest[0])}", {len(largest[1])}: the peer accepts 0 to {limit} bytes',
            config_key="headers",
            config_value=size,
        )


def encode_fields(
    pseudo: Mapping[str, str], headers: Mapping[str, str]
) -> list[tuple[bytes, bytes]]:
    """Return field lines for QPACK, pseudo-fields first."""
    return [
        (name.encode("ascii"), value.encode("latin-1"))
        for part in (pseudo, headers)
        for name, value in (part.lines if isinstance(part, HeaderMap) else part.items())
    ]
