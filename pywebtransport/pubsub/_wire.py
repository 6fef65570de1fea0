"""Messages that are encoded once and sent to many subscribers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._core.structured_stream import MESSAGE_HEADER
from ..exceptions import SerializationError
from ..serializer._messages import MessageCodec
from ..serializer._protocol import Serializer
from ._messages import MESSAGE_TYPE, WIRE_REGISTRY

__all__ = [
    "CALL_ROOM",
    "DEFAULT_MAX_MESSAGE_SIZE",
    "MAX_ANSWER",
    "MAX_FRAME",
    "MAX_PUBLICATION",
    "MAX_SUBSCRIPTION_NUMBER",
    "FrameCodec",
]

DEFAULT_MAX_MESSAGE_SIZE = 65_536
"""Largest size of a delivered message in bytes: topic and data, serialized."""

CALL_ROOM = 4096
"""Bytes that the call to publish a message may take in addition."""
MAX_SUBSCRIPTION_NUMBER = 2**31 - 1
MAX_FRAME = 2**32 - 1
"""Largest payload whose length fits into the header."""


MAX_PUBLICATION = 16_384
"""Largest payload on a stream of publications; larger messages are published by calls."""
MAX_ANSWER = 16_384
"""Largest payload of an answer on such a stream."""


class FrameCodec:
    """Encodes objects as ``StructuredStream`` does, and recognises such frames.

    Args:
        serializer: The serializer of all servers and clients.
        max_size: Largest payload in bytes.
        registry: The classes of the messages.
    """

    __slots__ = ("_codec", "_max_size")

    def __init__(
        self,
        serializer: Serializer,
        max_size: int,
        registry: Mapping[int, type[Any]] = WIRE_REGISTRY,
    ) -> None:
        self._codec = MessageCodec(serializer, registry)
        self._max_size = max_size

    def encode(self, message: Any) -> bytes:
        """Return the header and payload of a message.

        Raises:
            SerializationError: It cannot be serialized, or is too large.
        """
        return self.framed(*self._codec.encode(message))

    def decode(self, type_id: int, payload: bytes) -> Any:
        """Return the message of a type ID and payload.

        Raises:
            SerializationError: The type ID is unknown, or the payload is malformed.
        """
        return self._codec.decode(type_id, payload)

    def framed(self, type_id: int, payload: bytes) -> bytes:
        """Return header and payload.

        Raises:
            SerializationError: The payload is too large.
        """
        if len(payload) > self._max_size:
            raise SerializationError(
                f"a message of {len(payload)} bytes is larger than "
                f"max_message_size={self._max_size}",
                details={"size": len(payload), "max_size": self._max_size},
            )
        return MESSAGE_HEADER.pack(type_id, len(payload)) + payload

    def is_message(self, frame: bytes) -> bool:
        """Whether the bytes are framed as one published message.

        Other programs may use the same backend for other data.
        """
        if len(frame) < MESSAGE_HEADER.size:
            return False
        type_id, size = MESSAGE_HEADER.unpack_from(frame)
        whole: bool = size == len(frame) - MESSAGE_HEADER.size and size <= self._max_size
        return whole and type_id == MESSAGE_TYPE
