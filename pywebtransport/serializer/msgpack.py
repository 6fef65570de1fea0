"""MessagePack, through the ``msgpack`` package."""

from __future__ import annotations

from typing import Any

from ..exceptions import ConfigurationError, SerializationError
from ..types import Serializer
from ..utils.extras import require
from ._limits import (
    DEFAULT_MAX_DEPTH,
    DEFAULT_MAX_SIZE,
    HIGHEST_DEPTH,
    HIGHEST_SIZE,
    check_limit,
    check_size,
    check_value_depth,
    checked_bytes,
)
from ._plain import plain_hook
from ._rebuild import rebuild

__all__ = ["MsgPackSerializer"]

# First bytes of arrays and maps: 0x80-0x9f, 0xdc-0xdf. Others may have these values too.
_NOT_CONTAINERS = bytes(set(range(256)) - {*range(0x80, 0xA0), *range(0xDC, 0xE0)})


class MsgPackSerializer(Serializer):
    """Objects as MessagePack.

    As ``JSONSerializer``, with bytes as they are, NaN and Infinity as the floats that they
    are, and integers of 64 bits. ``deserialize`` gives strings, lists and dictionaries; a
    timestamp extension gives an aware ``datetime``, any other extension type is refused.
    Keys of maps must be strings or bytes; other ones let a peer choose keys that collide,
    so they need ``unpack_kwargs={"strict_map_key": False}``.
    """

    def __init__(
        self,
        *,
        pack_kwargs: dict[str, Any] | None = None,
        unpack_kwargs: dict[str, Any] | None = None,
        max_size: int = DEFAULT_MAX_SIZE,
        max_depth: int = DEFAULT_MAX_DEPTH,
    ) -> None:
        """Choose the limits and the options of the package.

        Args:
            pack_kwargs: As for ``msgpack.packb`` (``default``, ``use_single_float``, ...).
            unpack_kwargs: As for ``msgpack.unpackb`` (``ext_hook``, ``raw``, ...).
            max_size: Most bytes of one message, both ways.
            max_depth: Most levels of arrays and maps within each other, 1 to 200, in what is
                read; what is written may have the 511 of the package.

        Raises:
            ConfigurationError: A limit is out of range, the package knows no such keyword, or
                it is missing (``pip install "pywebtransport[msgpack]"``).
        """
        self._max_size = check_limit("max_size", max_size, HIGHEST_SIZE)
        self._max_depth = check_limit("max_depth", max_depth, HIGHEST_DEPTH)
        self._msgpack = msgpack = require("msgpack", extra="msgpack")
        pack = dict(pack_kwargs or {})
        pack["default"] = plain_hook(pack.get("default"))
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
        except (TypeError, ValueError) as error:
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
            SerializationError: Something in it has no form in MessagePack, or it is too large,
                or contains itself.
        """
        try:
            packer = self._packers.pop()
        except IndexError:  # a hook, or another thread, serializes too
            packer = self._msgpack.Packer(**self._pack_options)
        try:
            data: bytes = packer.pack(obj)
        except Exception as error:  # hooks and properties of the application may raise anything
            raise SerializationError(
                f"cannot write {type(obj).__name__} as MessagePack: {error}",
                original_exception=error,
            ) from error
        self._packers.append(packer)
        check_size(len(data), self._max_size)
        return data

    def deserialize(self, data: bytes, obj_type: Any = None) -> Any:
        """Read one MessagePack object.

        Args:
            data: All of its bytes.
            obj_type: As for ``JSONSerializer.deserialize``.

        Raises:
            SerializationError: The bytes are malformed, too many or nested too deeply, or do not
                fit ``obj_type``: ``details["path"]`` names the place.
        """
        data = checked_bytes(data, self._max_size)
        size = len(data)
        try:
            # First without making anything: the lengths it claims must be there.
            checker = self._msgpack.Unpacker(max_buffer_size=size)
            checker.feed(data)
            checker.skip()
            value = self._msgpack.unpackb(data, **self._unpack_options)
        except Exception as error:  # the package and hooks of the application raise many kinds
            reason = str(error) or type(error).__name__
            raise SerializationError(
                f"malformed MessagePack ({size} bytes): {reason}", original_exception=error
            ) from error
        if len(data.translate(None, _NOT_CONTAINERS)) > self._max_depth:
            check_value_depth(value, self._max_depth)
        return value if obj_type is None else rebuild(value, obj_type)


def _refuse_extension(code: int, data: bytes) -> Any:
    raise ValueError(
        f"extension type {code} of {len(data)} bytes; unpack_kwargs={{'ext_hook': ...}} accepts it"
    )
