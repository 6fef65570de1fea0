"""Protocol Buffers, through the ``protobuf`` package."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..exceptions import ConfigurationError, SerializationError
from ..utils._extras import require
from ._limits import (
    DEFAULT_MAX_ITEMS,
    DEFAULT_MAX_SIZE,
    HIGHEST_ITEMS,
    HIGHEST_SIZE,
    check_limit,
    check_size,
    checked_bytes,
    memory_of,
)
from ._protobuf_items import check_protobuf_items, heaviest
from ._protocol import Serializer

if TYPE_CHECKING:
    from google.protobuf.message import Message

__all__ = ["ProtobufSerializer"]


class ProtobufSerializer(Serializer):
    """Protocol Buffers messages in the binary format.

    Messages nested deeper than the 100 levels that the package reads are refused both ways, and so
    are strings that are not UTF-8. Unknown fields are kept, as the format requires.
    """

    def __init__(
        self,
        message_class: type[Message],
        *,
        max_size: int = DEFAULT_MAX_SIZE,
        max_items: int = DEFAULT_MAX_ITEMS,
    ) -> None:
        """Create a serializer.

        Args:
            message_class: The class of the messages. For a registry of several classes, give the
                base class ``google.protobuf.message.Message``: it permits every class, and you pass
                the class to ``deserialize`` as ``obj_type``.
            max_size: Largest size of a message in bytes, both ways.
            max_items: Largest number of fields in a message and its nested messages, both ways. A
                nested message counts as four plus a quarter of the fields of its class, and eight
                packed numbers count as one.

        Raises:
            ConfigurationError: It is not a message class, a limit is out of range, or the package
                is missing (the extra ``protobuf``).
        """
        base = require("google.protobuf.message", extra="protobuf").Message
        if not isinstance(message_class, type) or not issubclass(message_class, base):
            raise ConfigurationError(
                f"message_class must be a class of protobuf messages, got {message_class!r}",
                config_key="message_class",
                config_value=message_class,
            )
        self._max_size = check_limit("max_size", max_size, HIGHEST_SIZE)
        self._max_items = check_limit("max_items", max_items, HIGHEST_ITEMS)
        self._message_class = message_class
        self._default_class = None if message_class is base else message_class

    def serialize(self, obj: Any) -> bytes:
        """Write a message.

        Args:
            obj: An instance of ``message_class``.

        Raises:
            SerializationError: It is not such an instance, lacks a required field, is too large or
                too deep, or has too many items.
        """
        if not isinstance(obj, self._message_class):
            raise SerializationError(
                f"expected a {self._message_class.__name__} message, got {type(obj).__qualname__}"
            )
        try:
            data: bytes = obj.SerializeToString()
            if _may_nest(obj.DESCRIPTOR):
                # The package writes messages that nest deeper than it can read.
                type(obj)().ParseFromString(data)
        except Exception as error:  # EncodeError, and others, depending on the implementation
            raise SerializationError(
                f"cannot write {type(obj).__name__}: {error}", original_exception=error
            ) from error
        check_size(len(data), self._max_size)
        check_protobuf_items(data, obj.DESCRIPTOR, self._max_items)
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
        cls = self._default_class
        # If every class is permitted, the largest one is unknown.
        weight = self._max_items if cls is None else heaviest(cls.DESCRIPTOR)
        return memory_of(len(data), self._max_items, 1 + len(data) // 2 * weight)

    def deserialize(self, data: bytes, obj_type: Any = None) -> Message:
        """Read a message.

        Args:
            data: All of its bytes.
            obj_type: ``message_class`` or a class derived from it; default ``message_class``.

        Raises:
            SerializationError: The bytes are malformed or too many, have too many items, a required
                field is missing, or ``obj_type`` is another class.
        """
        cls = self._default_class if obj_type is None else obj_type
        if cls is not self._default_class and not self._accepts(cls):
            raise SerializationError(
                f"expected a class of {self._message_class.__name__} messages as obj_type, "
                f"got {obj_type!r}"
            )
        if cls is None:
            raise SerializationError(
                "a ProtobufSerializer for every class of messages needs obj_type to read a message"
            )
        data = checked_bytes(data, self._max_size)
        check_protobuf_items(data, cls.DESCRIPTOR, self._max_items)
        try:
            message: Message = cls()
            message.ParseFromString(data)
            missing = [] if message.IsInitialized() else message.FindInitializationErrors()
        except Exception as error:  # DecodeError, and others, depending on the implementation
            raise SerializationError(
                f"malformed {cls.__name__} message ({len(data)} bytes): {error}",
                original_exception=error,
            ) from error
        if missing:
            raise SerializationError(
                f"the {cls.__name__} message lacks required fields: {', '.join(missing[:10])}",
                details={"missing": missing},
            )
        return message

    def _accepts(self, cls: Any) -> bool:
        base = self._message_class
        return isinstance(cls, type) and issubclass(cls, base) and cls is not base


@lru_cache(maxsize=1024)
def _may_nest(descriptor: Any) -> bool:
    """Whether messages of a type can nest without limit."""
    path: set[str] = set()
    done: set[str] = set()

    def nests(kind: Any) -> bool:
        name = kind.full_name
        if name in path or name in done:
            return name in path
        path.add(name)
        found = any(nests(field.message_type) for field in kind.fields if field.message_type)
        path.discard(name)
        done.add(name)
        return found

    return nests(descriptor)
