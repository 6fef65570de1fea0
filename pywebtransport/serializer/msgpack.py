"""MessagePack, through the ``msgpack`` package."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from typing import Any

from ..exceptions import ConfigurationError, SerializationError
from ..utils.extras import require
from ..utils.turns import finish
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

# First bytes of arrays and maps: 0x80-0x9f, 0xdc-0xdf. Others may have these values too.
_NOT_CONTAINERS = bytes(set(range(256)) - {*range(0x80, 0xA0), *range(0xDC, 0xE0)})


# What an unpacker says of such a claim.
_TOO_LONG = re.compile("exceeds max_(array|map)_len")

_ABOUT_KEYS = {"strict_map_key", "object_hook", "object_pairs_hook"}


class MsgPackSerializer(Serializer):
    """Objects as MessagePack.

    As ``JSONSerializer``, with bytes as they are, NaN and Infinity as the floats that they
    are, and integers of 64 bits. ``deserialize`` gives strings, lists and dictionaries; a
    timestamp extension gives an aware ``datetime``, any other extension type is refused.
    Keys of maps are what they are, arrays come as tuples; a peer could choose numbers that
    collide, so a map of many keys with one hash is refused.
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
        """Choose the limits and the options of the package.

        Args:
            pack_kwargs: As for ``msgpack.packb`` (``default``, ``use_single_float``, ...).
            unpack_kwargs: As for ``msgpack.unpackb`` (``ext_hook``, ``raw``, ...).
            max_size: Most bytes of one message, both ways.
            max_depth: Most levels of arrays and maps within each other, 1 to 200, both ways.
            max_items: Most values in one message, both ways; an array or map counts as four,
                a key as two. ``deserialize`` of a message at the limit takes some milliseconds.

        Raises:
            ConfigurationError: A limit is out of range, the package knows no such keyword, or
                it is missing (``pip install "pywebtransport[msgpack]"``).
        """
        self._max_size = check_limit("max_size", max_size, HIGHEST_SIZE)
        self._max_depth = check_limit("max_depth", max_depth, HIGHEST_DEPTH)
        self._max_items = check_limit("max_items", max_items, HIGHEST_ITEMS)
        self._msgpack = msgpack = require("msgpack", extra="msgpack")
        # The one in pure Python begins anew with every piece.
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
            # Making a packer costs more than packing: those not in use wait here.
            self._packers = [msgpack.Packer(**pack)]
            msgpack.unpackb(b"\xc0", **self._unpack_options)
        except Exception as error:  # hooks of the application may raise anything
            raise ConfigurationError(
                f"the options {sorted(pack_kwargs or {})} and {sorted(unpack_kwargs or {})} are "
                f"not those of msgpack: {error}",
                config_key="pack_kwargs, unpack_kwargs",
            ) from error

    def serialize(self, obj: Any) -> bytes:
        """Write ``obj`` as MessagePack.

        Args:
            obj: See the class.

        Raises:
            SerializationError: Something in it has no form in MessagePack or could not be read
                back (``details["path"]`` names the place), or it is too large, too deep, has
                too many items, or contains itself.
        """
        try:
            packer = self._packers.pop()
        except IndexError:  # a hook, or another thread, serializes too
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
            # What a hook of the application's made of its objects is seen only in the result.
            if self._own_hook:
                plain = finish(self._parse_steps(data, {"ext_hook": _any_extension}))
            check_value_depth(plain, self._max_depth)
        return data

    @property
    def max_items(self) -> int:
        """Most items of one message."""
        return self._max_items

    def decoded_size(self, data: bytes) -> int:
        """Bytes that a message takes in memory once it is decoded, at most.

        Args:
            data: All of its bytes; they are not parsed.
        """
        # A value takes a byte, and so does the name of one.
        few = len(data) < self._max_items
        containers = len(data.translate(None, _NOT_CONTAINERS)) if few else 0
        return memory_of(len(data), self._max_items, len(data), containers)

    def _size_steps(self, data: bytes) -> Generator[None, None, int]:
        """``decoded_size`` in steps between which others may have their turn."""
        return self.decoded_size(data)
        yield

    def deserialize(self, data: bytes, obj_type: Any = None) -> Any:
        """Read one MessagePack object.

        Args:
            data: All of its bytes.
            obj_type: As for ``JSONSerializer.deserialize``.

        Raises:
            SerializationError: The bytes are malformed, too many or nested too deeply, have too
                many items, or do not fit ``obj_type``: ``details["path"]`` names the place.
        """
        data = checked_bytes(data, self._max_size)
        if len(data) <= PIECE and not _may_exceed(data, self._max_items):
            # Nearly every message.
            try:
                checker = self._msgpack.Unpacker(max_buffer_size=len(data))
                checker.feed(data)
                checker.skip()
                value = self._msgpack.unpackb(data, **self._unpack_options)
            except Exception:  # read again with other keys, or to tell what is wrong
                value = finish(self._plain_steps(data))
            else:
                if len(data.translate(None, _NOT_CONTAINERS)) > self._max_depth:
                    check_value_depth(value, self._max_depth)
        else:
            value = finish(self._plain_steps(data))
        return value if obj_type is None else rebuild(value, obj_type)

    def _plain_steps(self, data: bytes) -> Generator[None, None, Any]:
        """``deserialize`` to plain data, in steps between which others may have their turn."""
        data = checked_bytes(data, self._max_size)
        try:
            # First without making anything: the lengths it claims must be there.
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
        """Raise SerializationError when there are too many items; keeps none of them."""
        most = self._max_items
        count = 1

        def add(items: list[Any], each: int = 1) -> None:
            nonlocal count
            count += CONTAINER + each * len(items) - bool(items)
            if count > most:
                raise too_many_items(None, most)

        options = {
            # What claims more members is not even made room for.
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
        # Keys that are no strings: slower, for a peer could choose such ones that collide.
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
    """Whether there may be more items: each takes a byte, and a member two."""
    most = (1 + NAME) * len(data) // 2
    return most > max_items or (
        most + CONTAINER * len(data.translate(None, _NOT_CONTAINERS)) > max_items
    )


def _table(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    keys = [_frozen(key) for key, _ in pairs]
    check_hashes(keys)
    return dict(zip(keys, (item for _, item in pairs), strict=True))


def _frozen(key: Any) -> Any:
    """A key that is an array as a tuple, which has a hash."""
    return tuple(map(_frozen, key)) if isinstance(key, list) else key


def _any_extension(code: int, data: bytes) -> Any:
    return None


def _refuse_extension(code: int, data: bytes) -> Any:
    raise ValueError(
        f"extension type {code} of {len(data)} bytes; unpack_kwargs={{'ext_hook': ...}} accepts it"
    )
