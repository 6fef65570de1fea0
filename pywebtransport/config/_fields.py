"""Rules for configuration fields: one object per field says what it accepts.

A rule checks a value and returns it in its normal form (a new list, an upper-case level, the 32
bytes of a hash). So a configuration never shares mutable values with its caller, and each field has
one type.
"""

from __future__ import annotations

import base64
import math
import os
import re
import ssl
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn, Protocol
from urllib.parse import urlsplit

from .._header_map import HeaderMap
from .._plain import shorten
from ..constants import (
    CERTIFICATE_HASH_SIZE,
    HTTP3_SETTINGS,
    MAX_QUIC_LB_SERVER_ID,
    MAX_SHARED_SECRETS,
    MAX_VARINT,
    SHARED_SECRET_SIZE,
)
from ..exceptions import ConfigurationError, invalid_config
from ..utils._hosts import ascii_host
from ..utils._http_proxy import EXPECTED_PROXY, HttpProxy

__all__ = [
    "CertificateHashes",
    "Choice",
    "Choices",
    "Flag",
    "HeaderFields",
    "HttpProxyUrl",
    "Network",
    "Number",
    "Objects",
    "Origins",
    "Path",
    "Rule",
    "ServerId",
    "SettingNumbers",
    "SharedSecrets",
    "SniCertificates",
    "Text",
    "Texts",
    "VerifyMode",
    "unknown_field",
]


class Rule(Protocol):
    """What a field accepts."""

    @property
    def expected(self) -> str:
        """Description of the accepted values, with the unit."""

    def convert(self, key: str, value: Any) -> Any:
        """Return the normal form of ``value`` or raise :class:`ConfigurationError`."""

    def export(self, value: Any) -> Any:
        """Return a normal form as a JSON value; ``convert`` accepts the result."""


class _Rule:
    """What all rules share: the error, and the export of plain values."""

    expected: str

    def refuse(self, key: str, value: Any, why: str = "") -> NoReturn:
        reason = f"{why}; expected {self.expected}" if why else f"expected {self.expected}"
        raise invalid_config(key=key, value=value, reason=reason)

    def export(self, value: Any) -> Any:
        return list(value) if isinstance(value, list) else value


@dataclass(frozen=True)
class Number(_Rule):
    """A finite number within bounds.

    Attributes:
        low: Smallest accepted value.
        high: Largest accepted value.
        unit: What is counted: "seconds", "bytes", "streams" ...
        integer: Only whole numbers.
        above: ``low`` itself is not accepted.
        optional: None is accepted.
        zero: The value that zero stands for; None: zero has no special meaning.
        auto: The word "auto" is accepted.
    """

    low: float
    high: float
    unit: str
    integer: bool = False
    above: bool = False
    optional: bool = False
    zero: int | None = None
    auto: bool = False

    @property
    def expected(self) -> str:  # type: ignore[override]
        kind = "an integer" if self.integer else "a number"
        first = "greater than" if self.above else "from"
        join = "and at most" if self.above else "to"
        text = f"{kind} {first} {_digits(self.low)} {join} {_digits(self.high)} ({self.unit})"
        if self.zero is not None:
            text += f", or 0 for the default ({_digits(self.zero)})"
        if self.auto:
            text += ', or "auto"'
        return text + (", or None" if self.optional else "")

    def convert(self, key: str, value: Any) -> float | int | str | None:
        if value is None and self.optional:
            return None
        if self.auto and isinstance(value, str) and value == "auto":
            return value
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.refuse(key, value, f"{type(value).__name__} is not a number")
        if isinstance(value, float) and not math.isfinite(value):
            self.refuse(key, value)
        if self.integer:
            if value != int(value):
                self.refuse(key, value)
            value = int(value)
            if value == 0 and self.zero is not None:
                return self.zero
        if value < self.low or value > self.high or (self.above and value == self.low):
            self.refuse(key, value)
        return value if self.integer else float(value)


@dataclass(frozen=True)
class Flag(_Rule):
    """True or False."""

    expected: str = "True or False"

    def convert(self, key: str, value: Any) -> bool:
        if not isinstance(value, bool):
            self.refuse(key, value)
        return value


@dataclass(frozen=True)
class Choice(_Rule):
    """One of some words, in upper or lower case.

    Attributes:
        words: The words.
        optional: None is accepted.
    """

    words: Sequence[str]
    optional: bool = False

    @property
    def expected(self) -> str:  # type: ignore[override]
        words = ", ".join(repr(word) for word in self.words)
        return f"one of {words}" + (", or None" if self.optional else "")

    def convert(self, key: str, value: Any) -> str | None:
        if value is None and self.optional:
            return None
        if isinstance(value, str):
            for word in self.words:
                if word.lower() == value.lower():
                    return word
        self.refuse(key, value)


@dataclass(frozen=True)
class Choices(_Rule):
    """A non-empty set of given numbers, kept sorted."""

    numbers: Sequence[int]

    @property
    def expected(self) -> str:  # type: ignore[override]
        return "a non-empty list out of " + ", ".join(str(number) for number in self.numbers)

    def convert(self, key: str, value: Any) -> list[int]:
        items = self._items(key, value)
        if not items or any(type(i) not in (int, float) or i not in self.numbers for i in items):
            self.refuse(key, value)
        return sorted({int(item) for item in items})

    def _items(self, key: str, value: Any) -> list[Any]:
        if isinstance(value, str | bytes) or not isinstance(value, Collection):
            self.refuse(key, value)
        return list(value)


@dataclass(frozen=True)
class Text(_Rule):
    """A string of one line."""

    what: str = "text"

    @property
    def expected(self) -> str:  # type: ignore[override]
        return f"{self.what} on one line"

    def convert(self, key: str, value: Any) -> str:
        if not isinstance(value, str):
            self.refuse(key, value)
        if _CONTROL.search(value):
            self.refuse(key, value, "control characters are not allowed")
        return value


@dataclass(frozen=True)
class Texts(_Rule):
    """A list of different, non-empty, printable ASCII strings.

    Attributes:
        what: What one member is called in messages.
        longest: Longest member, in characters.
        empty: The list may be empty.
    """

    what: str
    longest: int
    empty: bool = True

    @property
    def expected(self) -> str:  # type: ignore[override]
        first = "a list" if self.empty else "a non-empty list"
        return (
            f"{first} of different {self.what}s, each 1 to {self.longest} "
            "printable ASCII characters"
        )

    def convert(self, key: str, value: Any) -> list[str]:
        if isinstance(value, str | bytes) or not isinstance(value, Collection):
            self.refuse(key, value)
        items = list(value)
        for item in items:
            if not isinstance(item, str) or not _PRINTABLE.fullmatch(item):
                self.refuse(key, value, f"bad member {shorten(item, 100)}")
            if len(item) > self.longest:
                self.refuse(key, value, f"member {item[:20]!r}... has {len(item)} characters")
        if len(set(items)) != len(items) or not (items or self.empty):
            self.refuse(key, value)
        return items


@dataclass(frozen=True)
class Path(_Rule):
    """A path of a file or directory; :meth:`exists` checks that it exists.

    Attributes:
        kind: "file" (must exist), "directory" (must exist) or "new file" (its
            directory must exist).
        none: What stands for "not set": None or "".
    """

    kind: str = "file"
    none: str | None = None

    @property
    def expected(self) -> str:  # type: ignore[override]
        return f"the path of a {self.kind}, or {self.none!r}"

    def convert(self, key: str, value: Any) -> str | None:
        if value is None or value == "":
            return self.none
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if not isinstance(value, str) or "\0" in value:
            self.refuse(key, value)
        return value

    def exists(self, key: str, value: str | None) -> None:
        """Raise :class:`ConfigurationError` when the path cannot be used."""
        if not value:
            return
        if self.kind == "file" and not os.path.isfile(value):
            found = "it is a directory" if os.path.isdir(value) else "no such file"
            self.refuse(key, value, found)
        if self.kind == "directory" and not os.path.isdir(value):
            self.refuse(key, value, "no such directory")
        if self.kind == "new file" and not os.path.isdir(os.path.dirname(value) or "."):
            self.refuse(key, value, "its directory does not exist")


@dataclass(frozen=True)
class VerifyMode(_Rule):
    """An ``ssl.VerifyMode``, its name, or its number."""

    optional: bool = False

    @property
    def expected(self) -> str:  # type: ignore[override]
        names = ", ".join(mode.name for mode in ssl.VerifyMode)
        return f"an ssl.VerifyMode or its name ({names})" + (", or None" if self.optional else "")

    def convert(self, key: str, value: Any) -> ssl.VerifyMode | None:
        if value is None and self.optional:
            return None
        try:
            if isinstance(value, str):
                return ssl.VerifyMode[value.upper()]
            if isinstance(value, int) and not isinstance(value, bool):
                return ssl.VerifyMode(value)
        except (KeyError, ValueError):
            pass
        self.refuse(key, value)

    def export(self, value: ssl.VerifyMode | None) -> str | None:
        return None if value is None else value.name


@dataclass(frozen=True)
class HeaderFields(_Rule):
    """HTTP header fields; names are converted to lower case, as HTTP/3 requires."""

    expected: str = (
        "a dictionary of header names and values (a list becomes several lines), without "
        "pseudo-headers, connection-specific fields or line breaks"
    )
    # RFC 9114 section 4.2, and a CONNECT request has no content (RFC 9110 section 9.3.6).
    forbidden: ClassVar[frozenset[str]] = frozenset(
        {
            "connection",
            "content-length",
            "host",
            "keep-alive",
            "proxy-connection",
            "transfer-encoding",
            "upgrade",
        }
    )

    def convert(self, key: str, value: Any) -> HeaderMap:
        if not isinstance(value, Mapping):
            self.refuse(key, value)
        # Messages show names only: values may be credentials.
        names = list(value)
        result = HeaderMap()
        for name, content in value.items():
            named = shorten(name, 100)
            if not isinstance(name, str) or not _TOKEN.fullmatch(name):
                self.refuse(key, names, f"bad name {named}")
            if name.lower() in self.forbidden:
                self.refuse(key, names, f"{named} is not allowed in HTTP/3")
            lines = value.get_all(name) if isinstance(value, HeaderMap) else content
            texts = lines if isinstance(lines, list | tuple) else [lines]
            if not all(isinstance(line, str) and not _CONTROL.search(line) for line in texts):
                self.refuse(key, names, f"the value of {named} is not one line of text")
            known = result.get_all(name.lower())
            result.set_all(name.lower(), known + [line.strip(" \t") for line in texts])
        return result

    def export(self, value: Mapping[str, Any]) -> dict[str, str | list[str]]:
        lines = HeaderMap.of(value)
        return {
            name: several if len(several := lines.get_all(name)) > 1 else lines[name]
            for name in lines
        }


@dataclass(frozen=True)
class HttpProxyUrl(_Rule):
    """The URL of an HTTP proxy."""

    expected: str = f"{EXPECTED_PROXY}, or None"

    def convert(self, key: str, value: Any) -> str | None:
        if value is None:
            return None
        HttpProxy.parse(value, key)
        return str(value)


@dataclass(frozen=True)
class SettingNumbers(_Rule):
    """HTTP/3 settings by number, each with one of some values."""

    values: Sequence[int]

    @property
    def expected(self) -> str:  # type: ignore[override]
        return (
            "a dictionary: numbers of HTTP/3 settings that are not in use, 9 to "
            f"{MAX_VARINT:,} (or strings such as '0x2c7cf001'), and one of "
            f"{', '.join(map(str, self.values))} for each"
        )

    def convert(self, key: str, value: Any) -> dict[int, int]:
        if not isinstance(value, Mapping):
            self.refuse(key, value)
        return {self._number(key, name): self._value(key, name, of) for name, of in value.items()}

    def _number(self, key: str, name: Any) -> int:
        if isinstance(name, str):  # JSON has no other keys
            try:
                name = int(name, 0)
            except ValueError:
                self.refuse(key, name)
        if isinstance(name, bool) or not isinstance(name, int) or not 0 <= name <= MAX_VARINT:
            self.refuse(key, name)
        if name in HTTP3_SETTINGS:
            self.refuse(key, name, f"setting 0x{name:x} has another meaning")
        if name >= 0x21 and (name - 0x21) % 0x1F == 0:
            self.refuse(key, name, f"setting 0x{name:x} is reserved: peers send it at random")
        return name

    def _value(self, key: str, name: Any, value: Any) -> int:
        if isinstance(value, bool) or value not in self.values:
            self.refuse(key, {name: value})
        return int(value)

    def export(self, value: dict[int, int]) -> dict[str, int]:
        return {f"0x{name:x}": of for name, of in value.items()}


@dataclass(frozen=True)
class CertificateHashes(_Rule):
    """SHA-256 hashes of certificates, as bytes, hex, or the dictionaries of the W3C API."""

    expected: str = (
        "a list of SHA-256 hashes: 32 bytes, 64 hex digits (colons allowed), base64, or "
        "{'algorithm': 'sha-256', 'value': ...}"
    )

    def convert(self, key: str, value: Any) -> list[bytes]:
        if isinstance(value, str | bytes | Mapping) or not isinstance(value, Collection):
            self.refuse(key, value)
        return [self._hash(key, item) for item in value]

    def _hash(self, key: str, item: Any) -> bytes:
        given = item
        if isinstance(item, Mapping):
            algorithm = item.get("algorithm")
            if not isinstance(algorithm, str) or algorithm.lower() != "sha-256":
                self.refuse(key, given, f"algorithm {shorten(algorithm, 100)} is not supported")
            item = item.get("value")
        if isinstance(item, str):
            if len(item.rstrip("=")) == _BASE64_HASH_LENGTH and not _HEX.fullmatch(item):
                item = self._from_base64(key, given, item)
            else:
                item = self._from_hex(key, given, item)
        if not isinstance(item, bytes | bytearray | memoryview):
            self.refuse(key, given)
        result = bytes(item)
        if len(result) != CERTIFICATE_HASH_SIZE:
            self.refuse(key, given, f"{len(result)} byte{'s' * (len(result) != 1)}")
        return result

    def _from_base64(self, key: str, given: Any, text: str) -> bytes:
        """Of both alphabets (RFC 4648), with padding or without."""
        text = text.rstrip("=").replace("-", "+").replace("_", "/")
        try:
            return base64.b64decode(f"{text}=", validate=True)
        except ValueError:
            self.refuse(key, given, "not base64")

    def _from_hex(self, key: str, given: Any, text: str) -> bytes:
        try:
            return bytes.fromhex(text.replace(":", ""))
        except ValueError:
            self.refuse(key, given, "not hex digits")

    def export(self, value: list[bytes]) -> list[str]:
        return [item.hex() for item in value]


@dataclass(frozen=True)
class ServerId(_Rule):
    """1 to 13 bytes, or as many hexadecimal digits; None."""

    expected: str = (
        f"None, 1 to {MAX_QUIC_LB_SERVER_ID} bytes, or their hexadecimal digits, such as "
        "'0x0123456789abcdef'"
    )

    def convert(self, key: str, value: Any) -> bytes | None:
        if value is None:
            return None
        if isinstance(value, str):
            try:
                value = bytes.fromhex(value.removeprefix("0x"))
            except ValueError:
                self.refuse(key, value)
        if not isinstance(value, bytes | bytearray | memoryview):
            self.refuse(key, value)
        found = bytes(value)
        if not 1 <= len(found) <= MAX_QUIC_LB_SERVER_ID:
            self.refuse(key, value)
        return found

    def export(self, value: bytes | None) -> str | None:
        return None if value is None else value.hex()


@dataclass(frozen=True)
class SharedSecrets(_Rule):
    """Secrets, or files that contain them; None: the server makes one."""

    expected: str = (
        f"None, or up to {MAX_SHARED_SECRETS} secrets, the newest first: bytes, at least "
        f"{SHARED_SECRET_SIZE}, or the path of a file that contains them"
    )

    def convert(self, key: str, value: Any) -> list[bytes | str] | None:
        if value is None:
            return None
        if isinstance(value, str | bytes | bytearray | memoryview | os.PathLike | Mapping):
            value = [value]
        if not isinstance(value, Collection):
            self.refuse(key, type(value).__name__)
        if not 1 <= len(value) <= MAX_SHARED_SECRETS:
            self.refuse(key, f"{len(value)} secrets")
        return [self._item(key, item) for item in value]

    def _item(self, key: str, item: Any) -> bytes | str:
        # Messages do not show the values.
        if isinstance(item, Mapping):
            try:
                item = bytes.fromhex(item["hex"])
            except (KeyError, TypeError, ValueError):
                self.refuse(key, "a dictionary")
        if isinstance(item, bytes | bytearray | memoryview):
            secret = bytes(item)
            if len(secret) < SHARED_SECRET_SIZE:
                self.refuse(key, f"{len(secret)} bytes")
            return secret
        path = os.fspath(item) if isinstance(item, os.PathLike) else item
        if not isinstance(path, str) or not path or "\0" in path:
            self.refuse(key, type(item).__name__ if not isinstance(path, str) else path)
        return path

    def export(self, value: list[bytes | str] | None) -> list[str | dict[str, str]] | None:
        if value is None:
            return None
        return [item if isinstance(item, str) else {"hex": item.hex()} for item in value]

    def exists(self, key: str, value: list[bytes | str] | None) -> None:
        """Raise :class:`ConfigurationError` if a file is missing; the first one may be created."""
        for index, item in enumerate(value or ()):
            if isinstance(item, str):
                Path("file" if index else "new file").exists(key, item)


@dataclass(frozen=True)
class Origins(_Rule):
    """Web origins (RFC 6454) that may open sessions; None accepts all."""

    expected: str = (
        "None (any origin) or a list of origins such as 'https://example.org' or "
        "'https://example.org:8443', 'null', or '*'"
    )

    def convert(self, key: str, value: Any) -> list[str] | None:
        if value is None:
            return None
        if isinstance(value, str | bytes) or not isinstance(value, Collection):
            self.refuse(key, value)
        return [self._origin(key, item) for item in value]

    def _origin(self, key: str, item: Any) -> str:
        if item in ("*", "null"):
            return str(item)
        if not isinstance(item, str):
            self.refuse(key, item)
        try:
            parts = urlsplit(item)
            port = parts.port
        except ValueError as error:
            self.refuse(key, item, str(error))
        if not parts.scheme or not parts.hostname or parts.username is not None:
            self.refuse(key, item)
        if parts.path or parts.query or parts.fragment or item.endswith(("?", "#")):
            self.refuse(key, item, "an origin has no path, query or fragment")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        if not host.isascii():
            host = _ascii_name(self, key, item, host)  # as browsers write it
        # A browser leaves the scheme's own port out of the Origin header.
        if port is None or port == {"https": 443, "http": 80}.get(parts.scheme):
            return f"{parts.scheme}://{host}"
        return f"{parts.scheme}://{host}:{port}"


@dataclass(frozen=True)
class SniCertificates(_Rule):
    """Certificates by server name."""

    expected: str = (
        "a dictionary of server names ('example.org' or '*.example.org') and "
        "(certfile, keyfile) pairs"
    )

    def convert(self, key: str, value: Any) -> dict[str, tuple[str, str]]:
        if not isinstance(value, Mapping):
            self.refuse(key, value)
        result = {}
        for name, pair in value.items():
            if isinstance(name, str) and not name.isascii():
                name = _ascii_name(self, key, value, name)
            if not isinstance(name, str) or not _SERVER_NAME.fullmatch(name):
                self.refuse(key, value, f"bad server name {shorten(name, 100)}")
            if isinstance(pair, str | bytes) or not isinstance(pair, Sequence) or len(pair) != 2:
                self.refuse(key, value, f"bad pair for {shorten(name, 100)}")
            file = Path()
            files = [file.convert(key, item) for item in pair]
            if None in files:
                self.refuse(key, value, f"bad pair for {shorten(name, 100)}")
            result[name.lower()] = (str(files[0]), str(files[1]))
        return result

    def export(self, value: dict[str, tuple[str, str]]) -> dict[str, list[str]]:
        return {name: list(pair) for name, pair in value.items()}

    def exists(self, key: str, value: dict[str, tuple[str, str]]) -> None:
        """Raise :class:`ConfigurationError` when a file is missing."""
        for name, pair in value.items():
            for item in pair:
                Path().exists(f"{key}[{shorten(name, 100)}]", item)


@dataclass(frozen=True)
class Objects(_Rule):
    """A list of callables."""

    expected: str = "a list of callables"

    def convert(self, key: str, value: Any) -> list[Callable[..., Any]]:
        if isinstance(value, str | bytes) or not isinstance(value, Collection):
            self.refuse(key, value)
        items = list(value)
        for item in items:
            if not callable(item):
                self.refuse(key, value, f"{shorten(item, 100)} is not callable")
        return items


@dataclass(frozen=True)
class Network(_Rule):
    """A network in memory, or None."""

    expected: str = "a pywebtransport.testing.Network, or None"

    def convert(self, key: str, value: Any) -> Any:
        if value is not None and not (
            callable(getattr(value, "attach", None)) and callable(getattr(value, "send", None))
        ):
            self.refuse(key, value)
        return value


def unknown_field(key: str, value: Any, names: Iterable[str], owner: str) -> ConfigurationError:
    """Create the error for a field that does not exist, with the most similar names."""
    shown = shorten(key, 100)
    near = []
    if isinstance(key, str) and len(key) < 100:
        import difflib

        near = difflib.get_close_matches(key, list(names), n=2, cutoff=0.6)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return ConfigurationError(
        f"{owner} has no field {shown}{hint}",
        config_key=key if isinstance(key, str) else shown,
        config_value=value,
    )


_HEX = re.compile("[0-9A-Fa-f:]*")
# Characters of 32 bytes in base64, without padding.
_BASE64_HASH_LENGTH = 43
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_PRINTABLE = re.compile(r"[\x20-\x7e]+")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SERVER_NAME = re.compile(r"(\*\.)?[0-9A-Za-z_]([0-9A-Za-z_.-]{0,251}[0-9A-Za-z_])?")


def _ascii_name(rule: _Rule, key: str, value: Any, name: str) -> str:
    """An international name in ASCII, with or without ``*.`` in front."""
    star = "*." if name.startswith("*.") else ""
    try:
        return star + ascii_host(name.removeprefix("*."))
    except ConfigurationError as error:
        rule.refuse(key, value, error.reason)


def _digits(number: float) -> str:
    return f"{int(number):,}" if number == int(number) else f"{number:g}"
