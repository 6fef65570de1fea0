"""JSON (RFC 8259), with the quickest parser that is installed."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Generator
from typing import Any

from ..exceptions import ConfigurationError, SerializationError
from ..utils._turns import finish
from ._limits import (
    DEFAULT_MAX_DEPTH,
    DEFAULT_MAX_ITEMS,
    DEFAULT_MAX_SIZE,
    HIGHEST_DEPTH,
    HIGHEST_ITEMS,
    HIGHEST_SIZE,
    check_hook,
    check_json_depth,
    check_json_items,
    check_limit,
    check_size,
    checked_bytes,
    finite_steps,
    json_memory_steps,
)
from ._plain import has_other_keys, is_plain, plain_hook, plain_tree
from ._protocol import Serializer
from ._rebuild import rebuild
from ._scan import (
    half_pair_steps,
    hard_number_steps,
    has_long_integer,
    json_scan_steps,
    large_number_steps,
)
from ._typed import find_typed_reader
from ._write import record_to_plain, refused

__all__ = ["JSONSerializer"]

# Texts of at least this size are scanned a piece at a time.
_LARGE = 65_536
# Up to this many floats are checked one by one as they are created.
_MANY_FLOATS = 4096

_Parse = Callable[[bytes], Any]


class JSONSerializer(Serializer):
    """Converts objects to UTF-8 JSON and back.

    You can write dataclasses (the fields that their constructor takes), mappings, lists, tuples,
    sets, strings, numbers, booleans, None and enumerations (by value). Dates, times and durations
    (ISO 8601), UUID, Decimal and bytes (base64) are written as strings. Pass ``obj_type`` to
    ``deserialize`` to get the same types back. A dataclass is written according to its annotations:
    values that could not be read back are refused.

    ``msgspec`` and ``orjson`` are used when they are installed. ``msgspec`` reads texts straight
    into simple dataclasses: their fields are strings, numbers, booleans, lists, dictionaries with
    strings as keys, and further such dataclasses, each of which may be optional. ``orjson`` reads
    and writes everything else; without it ``msgspec`` reads, and the standard library does the
    rest. All of them give the same objects and refuse the same texts: a number that is not finite
    (NaN, Infinity) is refused in both directions, an integer may be of any size, a text must be
    UTF-8 without a byte order mark, and if two members have the same name, the last one counts.
    """

    def __init__(
        self,
        *,
        max_size: int = DEFAULT_MAX_SIZE,
        max_depth: int = DEFAULT_MAX_DEPTH,
        max_items: int = DEFAULT_MAX_ITEMS,
        **kwargs: Any,
    ) -> None:
        """Create a serializer.

        Args:
            max_size: Largest size of a message in bytes, both ways.
            max_depth: Largest number of nested levels of arrays and objects, 1 to 200, both ways.
            max_items: Largest number of values in a message, both ways. An array or object counts
                as four, the name of a member as two. In a text of 64 KiB or more, an integer of N
                digits (if N is 128 or more) counts as N * N / 8192. In such a text, if the standard
                library reads it (no other parser is installed, or there is an integer of 19 digits
                or more), a number with an exponent of three digits counts as eight. A message at
                the limit takes some milliseconds, in which the event loop does nothing else.
            **kwargs: As for ``json.dumps`` (``default``, ``sort_keys``, ``indent``, ``cls``,
                ...); with any of them the standard library writes. ``allow_nan=True``
                permits NaN and Infinity both ways, which is not JSON.

        Raises:
            ConfigurationError: A limit is out of range, or ``json.dumps`` does not accept a
                keyword.
        """
        self._max_size = check_limit("max_size", max_size, HIGHEST_SIZE)
        self._max_depth = check_limit("max_depth", max_depth, HIGHEST_DEPTH)
        self._max_items = check_limit("max_items", max_items, HIGHEST_ITEMS)
        self._finite = not kwargs.get("allow_nan", False)
        self._encoder, self._hook = _make_encoder(kwargs)
        # An encoder of the application has its own rules.
        own = type(self._encoder) is not json.JSONEncoder or self._encoder.skipkeys
        self._names_keys = not own
        own_hook = type(self._encoder) is not json.JSONEncoder or kwargs.get("default") is not None
        self._by_annotations = not own_hook
        constant = _no_constant if self._finite else None
        # The second one is three times as fast, but turns numbers that are too large into infinity.
        self._decode_large = json.JSONDecoder(
            parse_float=_finite_float if self._finite else float, parse_constant=constant
        ).decode
        self._decode_text = json.JSONDecoder(parse_constant=constant).decode
        self._quick_dumps: Callable[[Any], bytes] | None = None
        if not kwargs:
            self._quick_dumps = _find_dumps()
        self._quick_loads: _Parse | None = _find_loads() if self._finite else None
        self._typed_reader = find_typed_reader() if self._finite else None

    def serialize(self, obj: Any) -> bytes:
        """Write ``obj`` as JSON.

        Args:
            obj: See the class.

        Raises:
            SerializationError: An object in it has no form in JSON or could not be read back
                (``details["path"]`` says where), or it is too large, too deep, has too many items,
                or contains itself.
        """
        try:
            data = self._dumps(obj)
        except Exception as error:  # hooks and properties of the application may raise anything
            raise refused(obj, "JSON", self._encode, error) from error
        check_size(len(data), self._max_size)
        check_json_items(data, self._max_items)
        check_json_depth(data, self._max_depth)
        return data

    @property
    def max_items(self) -> int:
        """Largest number of items in a message."""
        return self._max_items

    def decoded_size(self, data: bytes) -> int:
        """Upper bound of the memory that a message takes once it is decoded, in bytes.

        Args:
            data: The whole text; it is not parsed.
        """
        return finish(self._size_steps(data))

    def _size_steps(self, data: bytes) -> Generator[None, None, int]:
        """``decoded_size`` in steps between which other tasks can run."""
        return json_memory_steps(data, self._max_items)

    def deserialize(self, data: bytes, obj_type: Any = None) -> Any:
        """Read one JSON text.

        Args:
            data: The whole text.
            obj_type: The type to return: a dataclass, or a type made of dataclasses, TypedDicts,
                lists, dictionaries, unions and so on. None returns plain data.

        Raises:
            SerializationError: The text is malformed, too large or too deep, has too many items, or
                does not fit ``obj_type``; ``details["path"]`` says where, such as
                ``Order.items[3].price``.
        """
        data = checked_bytes(data, self._max_size)
        quick = self._quick_loads
        if len(data) < _LARGE and quick is not None and not has_long_integer(data):
            # Nearly every message takes this path.
            check_json_items(data, self._max_items)
            check_json_depth(data, self._max_depth)
            if obj_type is not None and self._typed_reader is not None:
                typed = self._typed_reader(obj_type)
                if typed is not None:
                    # What does not fit is read again below, for an error that says where.
                    with contextlib.suppress(ValueError, RecursionError):
                        return typed(data)
            try:
                value = quick(data)
            except (ValueError, RecursionError) as error:
                raise _malformed(data, error) from error
        else:
            value = finish(self._plain_steps(data))
        return value if obj_type is None else rebuild(value, obj_type)

    def _plain_steps(self, data: bytes) -> Generator[None, None, Any]:
        """``deserialize`` to plain data, in steps between which other tasks can run."""
        data = checked_bytes(data, self._max_size)
        if len(data) < _LARGE:
            check_json_items(data, self._max_items)
            check_json_depth(data, self._max_depth)
            is_long = has_long_integer(data)
        else:
            is_long = yield from json_scan_steps(data, self._max_items, self._max_depth)
            yield  # before the parser, which cannot be interrupted
        quick = self._quick_loads
        try:
            if quick is not None and not is_long:
                return quick(data)
            if len(data) >= _LARGE:
                yield from hard_number_steps(data, self._max_items)
            is_large = yield from large_number_steps(data)
            # With many floats, one call for each would take too long without a pause.
            many = is_large and sum(map(data.count, (b".", b"e", b"E"))) > _MANY_FLOATS
            decode = self._decode_large if is_large and not many else self._decode_text
            value = decode(str(data, "utf-8"))
            yield
            if many and self._finite:
                yield from finite_steps(value)
            if b"\\u" in data and (yield from half_pair_steps(data)):
                raise ValueError("an escape is half of a surrogate pair")
        except (ValueError, RecursionError) as error:
            raise _malformed(data, error) from error
        return value

    def _dumps(self, obj: Any) -> bytes:
        if self._by_annotations and hasattr(type(obj), "__dataclass_fields__"):
            obj = record_to_plain(obj, binary=False)
        if self._quick_dumps is None:
            return self._encode(obj)
        try:
            data = self._quick_dumps(obj)
        except Exception:  # the standard library writes it or raises the right error
            return self._encode(obj)
        if b"null" in data and not is_plain(obj):
            # The quick writer also writes null for NaN, which this encoder refuses.
            self._encoder.encode(obj)
        return data

    def _encode(self, obj: Any) -> bytes:
        if self._names_keys and has_other_keys(obj):
            obj = plain_tree(obj, self._hook)
        return self._encoder.encode(obj).encode()


def _make_encoder(kwargs: dict[str, Any]) -> tuple[json.JSONEncoder, Callable[[Any], Any]]:
    """Create the standard library's encoder, strict and compact by default, and its hook."""
    options = dict(kwargs)
    cls = options.pop("cls", None) or json.JSONEncoder
    own = options.get("default")
    check_hook("default", own)
    options.setdefault("ensure_ascii", False)
    options.setdefault("allow_nan", False)
    if options.get("indent") is None:
        options.setdefault("separators", (",", ":"))
    try:
        encoder: json.JSONEncoder = cls(**options)
        encoder.encode({"a": [1]})
    except Exception as error:  # the encoder may be the application's
        raise ConfigurationError(
            f"the keywords {sorted(kwargs)} are not accepted by json.dumps: {error}",
            config_key="kwargs",
            config_value=kwargs,
        ) from error
    if own is not None or cls is not json.JSONEncoder:
        own = encoder.default
    hook = plain_hook(own, binary=False)

    def default(obj: Any) -> Any:
        plain = hook(obj)
        return plain_tree(plain, hook) if has_other_keys(plain) else plain

    vars(encoder)["default"] = hook if encoder.skipkeys else default
    return encoder, hook


def _find_dumps() -> Callable[[Any], bytes] | None:
    """Return the quick writer, if any. (That of msgspec has its own rules for classes.)"""
    try:
        import orjson
    except ImportError:
        return None
    dumps, hook = orjson.dumps, plain_hook(None, binary=False)
    # Dataclasses and dates are written by our rules, the same with every writer.
    options = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
    return lambda obj: dumps(obj, hook, options)


def _find_loads() -> _Parse | None:
    """Return the quick reader, if any."""
    try:
        import orjson
    except ImportError:
        pass
    else:
        loads: _Parse = orjson.loads
        return loads
    try:
        import msgspec
    except ImportError:
        return None
    decode: _Parse = msgspec.json.Decoder().decode
    return decode


def _malformed(data: bytes, error: Exception) -> SerializationError:
    return SerializationError(
        f"malformed JSON ({len(data)} bytes): {error}", original_exception=error
    )


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:40]} is too large")
    return value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
