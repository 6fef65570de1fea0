"""Messages that are encoded once and sent to many subscribers."""

from __future__ import annotations

from typing import Any

from .._core.structured_stream import MESSAGE_HEADER
from ..exceptions import SerializationError
from ..serializer._messages import MessageCodec
from ..serializer._protocol import Serializer
from ._messages import MESSAGE_TYPE, WIRE_REGISTRY

__all__ = [
    "CALL_ROOM",
    "DEFAULT_MAX_MESSAGE_SIZE",
    "MAX_FRAME",
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


class FrameCodec:
    """Encodes objects as ``StructuredStream`` does, and recognises such frames.

    Args:
        serializer: The serializer of all servers and clients.
        max_size: Largest payload in bytes.
    """

    __slots__ = ("_codec", "_max_size")

    def __init__(self, serializer: Serializer, max_size: int) -> None:
        self._codec = MessageCodec(serializer, WIRE_REGISTRY)
        self._max_size = max_size

    def encode(self, message: Any) -> bytes:
        """Return the header and payload of a message.

        Raises:
            SerializationError: It cannot be serialized, or is too large.
        """
        type_id, payload = self._codec.encode(message)
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
