"""Reads small messages, all that have arrived at a time."""

from __future__ import annotations

from .._core.structured_stream import MESSAGE_HEADER
from ..exceptions import SerializationError, StreamError, TimeoutError
from ..stream import WebTransportReceiveStream

__all__ = ["LARGE", "MessageReader"]

LARGE = 1024
"""Bytes of a message whose decoding may take as long as that of several small ones."""
_CHUNK = 16_384


class MessageReader:
    """Reads messages that are framed as by ``StructuredStream``.

    That class reads one message at a time, which costs more than a small message itself.

    Args:
        stream: The stream; nobody else reads it.
        max_size: Largest payload in bytes. Choose it small: what has arrived of a message counts
            towards no budget.
    """

    __slots__ = ("_buffer", "_max_size", "_stream")

    def __init__(self, stream: WebTransportReceiveStream, max_size: int) -> None:
        self._stream = stream
        self._max_size = max_size
        self._buffer = b""

    async def read(self) -> list[tuple[int, bytes]]:
        """Wait for messages, however long that takes.

        Returns:
            Type ID and payload of each message that has arrived; none at the end of the stream.

        Raises:
            SerializationError: A message is larger than ``max_size``.
            StreamError: The stream ended within a message; otherwise as ``stream.read``.

        Cancellation: not safe, messages may be lost.
        """
        while True:
            if self._buffer and (messages := self._split()):
                return messages
            try:
                data = await self._stream.read(_CHUNK)
            except TimeoutError:  # read_timeout: the peer may have nothing to say for hours
                continue
            if not data:
                if self._buffer:
                    raise StreamError("the peer finished the stream within a message")
                return []
            self._buffer = self._buffer + data if self._buffer else data

    def _split(self) -> list[tuple[int, bytes]]:
        """Take the complete messages from the buffer."""
        buffer = self._buffer
        length = len(buffer)
        messages: list[tuple[int, bytes]] = []
        start = 0
        while length - start >= MESSAGE_HEADER.size:
            type_id, size = MESSAGE_HEADER.unpack_from(buffer, start)
            if size > self._max_size:
                if messages:
                    break
                raise SerializationError(
                    f"a message of {size} bytes is larger than {self._max_size}",
                    details={"size": size, "max_size": self._max_size, "type_id": type_id},
                )
            begin = start + MESSAGE_HEADER.size
            end = begin + size
            if end > length:
                break
            messages.append((type_id, buffer[begin:end]))
            start = end
        self._buffer = buffer[start:]
        return messages
