"""MessagePack, through the ``msgpack`` package."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from typing import Any

from ..exceptions import ConfigurationError, SerializationError
from ..utils._extras import require
from ..utils._turns import finish
from ._limits import (
    CONTAINER,
    DEFAULT_MAX_DEPTH,
    DEFAULT_MAX_ITEMS,
    DEFAULT_MAX_SIZE,
    HIGHEST_DEPTH,
    HIGHEST_ITEMS,
    HIGHEST_SIZE,
    NAME,
    PIECE,
    check_hook,
    check_limit,
    check_size,
    check_value_depth,
    checked_bytes,
    memory_of,
    too_many_items,
    value_depth_steps,
)
from ._plain import plain_hook
from ._protocol import Serializer
from ._rebuild import check_hashes, rebuild
from ._write import record_to_plain, refused

__all__ = ["MsgPackSerializer"]

# The first bytes of arrays and maps are 0x80-0x9f and 0xdc-0xdf. Other bytes can have these values
# too.
_NOT_CONTAINERS = bytes(set(range(256)) - {*range(0x80, 0xA0), *range(0xDC, 0xE0)})


# The message of an unpacker about a length above its limit.
_TOO_LONG = re.compile("exceeds max_(array|map)_len")

_ABOUT_KEYS = {"strict_map_key", "object_hook", "object_pairs_hook"}


class MsgPackSerializer(Serializer):
    """Converts objects to MessagePack and back.

    As ``JSONSerializer``, but bytes, NaN and Infinity are written as such, and integers are limited
    to 64 bits. ``deserialize`` returns strings, lists and dictionaries. A timestamp extension
    becomes an aware ``datetime``; any other extension type is refused. Keys of maps keep their
    type, and arrays as keys become tuples. A peer could choose numbers that collide, so a map with
    many keys of the same hash is refused.
    """

    def __init__(
        self,
        *,
        pack_kwargs: dict[str, Any] | None = None,
        unpack_kwargs: dict[str, Any] | None = None,
        max_size: int = DEFAULT_MAX_SIZE,
        max_depth: int = DEFAULT_MAX_DEPTH,
        max_items: int = DEFAULT_MAX_ITEMS,
    ) -> None:
        """Create a serializer.

        Args:
            pack_kwargs: As for ``msgpack.packb`` (``default``, ``use_single_float``, ...).
            unpack_kwargs: As for ``msgpack.unpackb`` (``ext_hook``, ``raw``, ...).
            max_size: Largest size of a message in bytes, both ways.
            max_depth: Largest number of nested levels of arrays and maps, 1 to 200, both ways.
            max_items: Largest number of values in a message, both ways. An array or map counts as
                four, a key as two. ``deserialize`` of a message at the limit takes some
                milliseconds.

        Raises:
            ConfigurationError: A limit is out of range, the package does not accept a keyword, or
                it is missing (the extra ``msgpack``).
        """
        self._max_size = check_limit("max_size", max_size, HIGHEST_SIZE)
        self._max_depth = check_limit("max_depth", max_depth, HIGHEST_DEPTH)
        self._max_items = check_limit("max_items", max_items, HIGHEST_ITEMS)
        self._msgpack = msgpack = require("msgpack", extra="msgpack")
        # The pure Python version starts from the beginning with every piece.
        self._resumes = msgpack.Unpacker.__module__ != "msgpack.fallback"
        for name, options in (("pack_kwargs", pack_kwargs), ("unpack_kwargs", unpack_kwargs)):
            if options is not None and not isinstance(options, Mapping):
                raise ConfigurationError(
                    f"{name} must map names to values, got {options!r}",
                    config_key=name,
                    config_value=options,
                )
        pack = dict(pack_kwargs or {})
        check_hook("default", pack.get("default"))
        self._own_hook = pack.get("default") is not None
        pack["default"] = plain_hook(pack.get("default"), binary=True)
        pack["autoreset"] = True
        self._pack_options = pack
        self._unpack_options: dict[str, Any] = {
            "timestamp": 3,
            "ext_hook": _refuse_extension,
            **(unpack_kwargs or {}),
        }
        try:
            # Creating a packer takes longer than packing, so unused packers are kept here.
            self._packers = [msgpack.Packer(**pack)]
            msgpack.unpackb(b"\xc0", **self._unpack_options)
        except Exception as error:  # hooks of the application may raise anything
            raise ConfigurationError(
                f"the options {sorted(pack_kwargs or {})} and {sorted(unpack_kwargs or {})} are "
                f"not accepted by msgpack: {error}",
                config_key="pack_kwargs, unpack_kwargs",
            ) from error

    def serialize(self, obj: Any) -> bytes:
        """Write ``obj`` as MessagePack.

        Args:
            obj: See the class.

        Raises:
            SerializationError: An object in it has no form in MessagePack or could not be read back
                (``details["path"]`` says where), or it is too large, too deep, has too many items,
                or contains itself.
        """
        try:
            packer = self._packers.pop()
        except IndexError:  # a hook or another thread is serializing too
            packer = self._msgpack.Packer(**self._pack_options)
        try:
            plain = obj
            if not self._own_hook and hasattr(type(obj), "__dataclass_fields__"):
                plain = record_to_plain(obj, binary=True)
            data: bytes = packer.pack(plain)
        except Exception as error:  # hooks and properties of the application may raise anything
            encode = self._msgpack.Packer(**self._pack_options).pack
            raise refused(obj, "MessagePack", encode, error) from error
        self._packers.append(packer)
        check_size(len(data), self._max_size)
        if _may_exceed(data, self._max_items):
            finish(self._count_steps(data))
        if len(data.translate(None, _NOT_CONTAINERS)) > self._max_depth:
            # What a hook of the application has returned is visible only in the result.
            if self._own_hook:
                plain = finish(self._parse_steps(data, {"ext_hook": _any_extension}))
            check_value_depth(plain, self._max_depth)
        return data

    @property
    def max_items(self) -> int:
        """Largest number of items in a message."""
        return self._max_items

    def decoded_size(self, data: bytes) -> int:
        """Upper bound of the memory that a message takes once it is decoded, in bytes.

        Args:
            data: All of its bytes; they are not parsed.
        """
        # A value takes at least a byte, and so does a key.
        few = len(data) < self._max_items
        containers = len(data.translate(None, _NOT_CONTAINERS)) if few else 0
        return memory_of(len(data), self._max_items, len(data), containers)

    def _size_steps(self, data: bytes) -> Generator[None, None, int]:
        """``decoded_size`` in steps between which other tasks can run."""
        return self.decoded_size(data)
        yield

    def deserialize(self, data: bytes, obj_type: Any = None) -> Any:
        """Read one MessagePack object.

        Args:
            data: All of its bytes.
            obj_type: As for ``JSONSerializer.deserialize``.

        Raises:
            SerializationError: The bytes are malformed, too many or nested too deeply, have too
                many items, or do not fit ``obj_type``; ``details["path"]`` says where.
        """
        data = checked_bytes(data, self._max_size)
        if len(data) <= PIECE and not _may_exceed(data, self._max_items):
            # Nearly every message takes this path.
            try:
                checker = self._msgpack.Unpacker(max_buffer_size=len(data))
                checker.feed(data)
                checker.skip()
                value = self._msgpack.unpackb(data, **self._unpack_options)
            except Exception:  # read again, with other keys or for the error message
                value = finish(self._plain_steps(data))
            else:
                if len(data.translate(None, _NOT_CONTAINERS)) > self._max_depth:
                    check_value_depth(value, self._max_depth)
        else:
            value = finish(self._plain_steps(data))
        return value if obj_type is None else rebuild(value, obj_type)

    def _plain_steps(self, data: bytes) -> Generator[None, None, Any]:
        """``deserialize`` to plain data, in steps between which other tasks can run."""
        data = checked_bytes(data, self._max_size)
        try:
            # First skip the object without creating anything, to check the lengths it claims.
            yield from self._take_steps(data, "skip", {})
            if _may_exceed(data, self._max_items):
                yield from self._count_steps(data)
            value = yield from self._parse_steps(data, self._unpack_options)
        except SerializationError:
            raise
        except Exception as error:  # the package and hooks of the application raise many kinds
            reason = str(error) or type(error).__name__
            raise SerializationError(
                f"malformed MessagePack ({len(data)} bytes): {reason}", original_exception=error
            ) from error
        yield
        if len(data.translate(None, _NOT_CONTAINERS)) > self._max_depth:
            yield from value_depth_steps(value, self._max_depth)
        return value

    def _count_steps(self, data: bytes) -> Generator[None, None, None]:
        """Raise SerializationError when there are too many items; does not keep them."""
        most = self._max_items
        count = 1

        def add(items: list[Any], each: int = 1) -> None:
            nonlocal count
            count += CONTAINER + each * len(items) - bool(items)
            if count > most:
                raise too_many_items(None, most)

        options = {
            # No memory is reserved for containers that claim more members.
            "max_array_len": most,
            "max_map_len": most,
            "list_hook": add,
            "object_pairs_hook": lambda pairs: add(pairs, 1 + NAME),
            "ext_hook": _any_extension,
            "raw": True,
            "strict_map_key": False,
        }
        try:
            yield from self._take_steps(data, "unpack", options)
        except ValueError as error:
            if not _TOO_LONG.search(str(error)):
                raise
            raise too_many_items(None, most) from None

    def _parse_steps(self, data: bytes, options: dict[str, Any]) -> Generator[None, None, Any]:
        try:
            return (yield from self._take_steps(data, "unpack", options))
        except ValueError as error:
            if "strict_map_key" not in str(error) or not options.keys().isdisjoint(_ABOUT_KEYS):
                raise
        # Keys that are not strings: slower, because a peer could choose keys that collide.
        own = {**options, "strict_map_key": False, "object_pairs_hook": _table}
        return (yield from self._take_steps(data, "unpack", own))

    def _take_steps(
        self, data: bytes, action: str, options: dict[str, Any]
    ) -> Generator[None, None, Any]:
        """``skip`` or ``unpack`` one object, a piece of its bytes at a time."""
        size = len(data)
        unpacker = self._msgpack.Unpacker(max_buffer_size=size, **options)
        act = getattr(unpacker, action)
        step = PIECE if self._resumes else size
        end = min(size, step)
        unpacker.feed(data if end == size else data[:end])
        while True:
            try:
                value = act()
                break
            except self._msgpack.OutOfData:
                if end == size:
                    raise
            yield
            start, end = end, min(size, end + step)
            unpacker.feed(data[start:end])
        if action == "unpack" and unpacker.tell() < size:
            raise self._msgpack.ExtraData(value, data[unpacker.tell() :])
        return value


def _may_exceed(data: bytes, max_items: int) -> bool:
    """Whether there may be more items: each takes at least a byte, and a member two."""
    most = (1 + NAME) * len(data) // 2
    return most > max_items or (
        most + CONTAINER * len(data.translate(None, _NOT_CONTAINERS)) > max_items
    )


def _table(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    keys = [_frozen(key) for key, _ in pairs]
    check_hashes(keys)
    return dict(zip(keys, (item for _, item in pairs), strict=True))


def _frozen(key: Any) -> Any:
    """Convert a key that is an array to a tuple, which has a hash."""
    return tuple(map(_frozen, key)) if isinstance(key, list) else key


def _any_extension(code: int, data: bytes) -> Any:
    return None


def _refuse_extension(code: int, data: bytes) -> Any:
    raise ValueError(
        f"extension type {code} of {len(data)} bytes; unpack_kwargs={{'ext_hook': ...}} accepts it"
    )
