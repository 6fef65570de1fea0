"""Typed messages over a stream."""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Mapping
from typing import Any, Generic, Self, TypeVar, cast

from .._states import StreamId
from ..constants import ErrorCodes
from ..exceptions import SerializationError, StreamError, invalid_config
from ..serializer._messages import MessageCodec
from ..serializer._protocol import Serializer
from ..utils import _clock as clock
from ..utils._checks import check_instance
from ..utils._holding import Holding
from ..utils._text import printable
from .receive_stream import WebTransportReceiveStream
from .send_stream import WebTransportSendStream

__all__ = [
    "DEFAULT_MAX_MESSAGE_SIZE",
    "MESSAGE_HEADER",
    "StructuredStream",
    "check_message_size",
]

DEFAULT_MAX_MESSAGE_SIZE = 4 * 1024 * 1024
"""The largest payload of a message in bytes."""

MESSAGE_HEADER = struct.Struct("!HI")
"""Type ID and length of the payload, before each message on a stream."""
_MAX_LENGTH = 2**32 - 1
# From this size on, a payload is not copied to its header.
_LARGE = 16384
# A smaller message takes less memory than the stream itself.
_COUNTED = 4096
# How many messages are received before the clock is checked again.
_STEP = 16

MessageT = TypeVar("MessageT")


def check_message_size(size: int) -> None:
    """Raise ConfigurationError if ``size`` is not a valid ``max_message_size``."""
    if type(size) is not int or not 0 < size <= _MAX_LENGTH:
        raise invalid_config(
            key="max_message_size",
            value=size,
            reason=f"max_message_size must be 1 to {_MAX_LENGTH} bytes, got {printable(size)}",
        )


class StructuredStream(Generic[MessageT]):
    """Sends and receives objects over a stream, in order and reliably.

    On the wire, a message is its type ID (16 bits) and the length of its payload (32 bits),
    both in network order, followed by the payload. The registry maps type IDs to classes and
    must be the same at both ends. With ``StructuredStream[Join | Say]``, a type checker knows
    what the stream carries.

    Any number of coroutines may send and receive. Messages are never mixed, and each goes to
    one receiver, in the order of the calls. ``async for message in stream`` ends when the
    peer finishes its side.

    A message that cannot be decoded (unknown type ID, malformed payload) raises
    ``SerializationError`` and is consumed; you can receive the next one. A message that is
    longer than ``max_message_size``, or that does not fit into ``max_session_memory``, raises
    the same error before any of its payload is kept, and ends the receiving half
    (STOP_SENDING with ``ErrorCodes.APP_INVALID_REQUEST``); you can still send.

    While a message arrives, it counts towards ``max_session_memory``. A loop over messages
    that are already here gives other tasks a turn from time to time, and so does decoding a
    large message.

    Like the stream below, it is an asynchronous context manager. Over a unidirectional
    stream, only one of ``send_obj`` and ``receive_obj`` works.
    """

    __slots__ = (
        "_codec",
        "_header",
        "_max_message_size",
        "_partial",
        "_receive_lock",
        "_received",
        "_stream",
        "_undecoded",
    )

    def __init__(
        self,
        stream: WebTransportReceiveStream | WebTransportSendStream,
        serializer: Serializer,
        registry: Mapping[int, type[MessageT]],
        *,
        max_message_size: int = DEFAULT_MAX_MESSAGE_SIZE,
    ) -> None:
        """Use ``stream`` for messages from now on.

        Args:
            stream: A stream that either end opened; do not read or write it elsewhere.
            serializer: Turns the objects into payloads and back.
            registry: The class of each type ID, 0 to 65535; the same at both ends.
            max_message_size: The largest payload in bytes, in both directions. (The serializer
                has a limit of its own, too.)

        Raises:
            ConfigurationError: The registry or the limit is out of range.
        """
        check_instance("stream", stream, WebTransportReceiveStream, WebTransportSendStream)
        check_message_size(max_message_size)
        self._codec = MessageCodec(serializer, registry)
        self._stream = stream
        self._max_message_size = max_message_size
        self._receive_lock = asyncio.Lock()
        # What a cancelled receive had read: the header, and the bytes after it.
        self._header: tuple[int, int] | None = None
        self._partial = bytearray()
        # Messages whose receiver was cancelled before they were decoded.
        self._undecoded: deque[tuple[int, bytes | bytearray]] = deque()
        self._received = 0

    # ------------------------------------------------------------- properties

    @property
    def stream(self) -> WebTransportReceiveStream | WebTransportSendStream:
        """The stream below."""
        return self._stream

    @property
    def stream_id(self) -> StreamId:
        """QUIC stream ID."""
        return self._stream.stream_id

    @property
    def is_closed(self) -> bool:
        """Both directions are finished or reset, or the session has ended."""
        return self._stream.is_closed

    # --------------------------------------------------------------- messages

    async def send_obj(self, obj: MessageT) -> None:
        """Send one message; wait while the write buffer is full, like ``write``.

        Args:
            obj: An instance of a registered class (not of a subclass).

        Raises:
            SerializationError: Its class is not registered, it cannot be serialized, or it is
                larger than ``max_message_size``. Nothing was sent.
            StreamError: The stream can only be received from; otherwise as ``write``.

        Cancellation: safe; the message is sent completely or, if cancelled before it ran, not
        at all.
        """
        await self.send_encoded(*self.encode(obj))

    async def receive_obj(self) -> MessageT:
        """Return the next message, waiting for it.

        Raises:
            SerializationError: It is unknown, malformed or too long; see the class.
            StreamError: The peer finished its side between messages
                (``details["end_of_stream"]`` is True) or within one (it is False). Or you can
                only send on this stream; otherwise as ``read``.

        Cancellation: safe, no byte is lost.
        """
        with self.holding() as holding:
            message = await self.receive_held(holding)
        if message is None:
            raise StreamError(
                f"the peer finished stream {self.stream_id}: there are no more messages",
                stream_id=self.stream_id,
                stream_state=self._stream.state,
                details={"end_of_stream": True},
            )
        return cast("MessageT", message[0])

    def __aiter__(self) -> Self:
        """Iterate over the messages until the peer finishes its side.

        A message that cannot be decoded ends the loop with ``SerializationError``;
        a new loop continues after it.
        """
        return self

    async def __anext__(self) -> MessageT:
        with self.holding() as holding:
            message = await self.receive_held(holding)
        if message is None:
            raise StopAsyncIteration
        return cast("MessageT", message[0])

    # ------------------------------------------------------------------ ending

    async def close(self) -> None:
        """Finish sending, like ``close`` of the stream below; you can still receive messages."""
        await self._stream.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: Any) -> None:
        """Finish and stop the halves of the stream below; abort them after an error."""
        await self._stream.__aexit__(*exc_info)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} over {self._stream!r}>"

    # ---------------------------------------------------------------- internal

    def encode(self, obj: MessageT) -> tuple[bytes, bytes]:
        """Advanced: return header and payload of a message for ``send_encoded``; send nothing.

        Raises: as ``send_obj``.
        """
        if not isinstance(self._stream, WebTransportSendStream):
            raise self._one_way("received from")
        type_id, payload = self._codec.encode(obj)
        size = len(payload)
        if size > self._max_message_size:
            raise SerializationError(
                f"the {type(obj).__qualname__} message of {size} bytes is larger than "
                f"max_message_size={self._max_message_size}",
                details={"size": size, "max_size": self._max_message_size, "type_id": type_id},
            )
        return MESSAGE_HEADER.pack(type_id, size), payload

    async def send_encoded(self, header: bytes, payload: bytes) -> None:
        """Advanced: send what ``encode`` returned.

        Raises and cancellation: as ``send_obj``.
        """
        stream = cast("WebTransportSendStream", self._stream)
        if len(payload) < _LARGE:
            await stream.write(header + payload)
        else:
            # The first write never waits, so that no other message gets in between.
            await stream.write(header, wait_flush=False)
            await stream.write(payload)

    def holding(self) -> Holding:
        """Advanced: return a context manager that accounts for the memory of one message."""
        return Holding(self._stream.session.memory_budget, least=_COUNTED)

    async def receive_held(
        self, holding: Holding, timeout: float | None = None
    ) -> tuple[object] | None:
        """Advanced: return the next message in a tuple; None at the end of the stream.

        Args:
            holding: Accounts for the memory that the message takes.
            timeout: Seconds that the peer may take; waiting for room does not count.

        Raises:
            builtins.TimeoutError: The message did not arrive in time.
            Otherwise as ``receive_obj``.
        """
        turns = self._stream.session.turns
        self._received += 1
        if self._received % _STEP == 0:
            await turns.pause(small=True)
        message = await self.receive_encoded(holding, timeout)
        if message is None:
            return None
        type_id, payload = message
        try:
            if len(payload) > _LARGE:
                await turns.pause()
            payload = bytes(payload)
            memory = await self._codec.decoded_size_in_turns(payload, turns)
            if not holding.least and not await holding.acquire(memory):
                raise self._no_room(type_id, memory, "in memory", holding)
            return (await self._codec.decode_in_turns(type_id, payload, memory, turns),)
        except asyncio.CancelledError:
            self._undecoded.appendleft(message)
            raise
        finally:
            holding.decoded()

    async def receive_encoded(
        self, holding: Holding, timeout: float | None = None
    ) -> tuple[int, bytes | bytearray] | None:
        """Advanced: return type ID and payload of the next message; None at the end.

        The payload is returned as it arrived: copying some megabytes takes a while, and happens
        in the turn in which it is decoded.

        Args, errors and cancellation: as ``receive_held``.
        """
        async with self._receive_lock:
            if self._undecoded:
                return self._undecoded.popleft()
            header = self._header
            if header is None:
                started = clock.monotonic()
                data = await self._fill_within(MESSAGE_HEADER.size, timeout)
                if timeout is not None:
                    timeout = max(0.0, timeout - (clock.monotonic() - started))
                if not data:
                    return None
                header = MESSAGE_HEADER.unpack(data)
                if header[1] > self._max_message_size:
                    raise self._too_long(*header)
                self._header = header
            type_id, size = header
            counted = holding if size > holding.least else None
            if counted is not None and not counted.fits(size):
                raise self._no_room(type_id, size, "long", holding)
            payload = await self._fill_within(size, timeout, counted) if size else b""
            self._header = None
            return type_id, payload

    async def _fill_within(
        self, size: int, timeout: float | None, holding: Holding | None = None
    ) -> bytes | bytearray:
        """As ``_fill``.

        Raises:
            TimeoutError: The builtin: the bytes did not arrive in time.
        """
        if timeout is None:
            return await self._fill(size, holding)
        async with asyncio.timeout(timeout):
            return await self._fill(size, holding)

    async def _fill(self, size: int, holding: Holding | None = None) -> bytes | bytearray:
        """Read ``size`` bytes, or none if the stream ends before a header.

        Bytes that were read before a cancellation are kept for the next call.

        Args:
            size: How many bytes to read.
            holding: Accounts for the bytes; None: too few to count.
        """
        stream = self._stream
        if not isinstance(stream, WebTransportReceiveStream):
            raise self._one_way("sent to")
        partial = self._partial
        self._hold(len(partial), size, holding)
        while True:
            data = await stream.read(size - len(partial))
            if not data:
                if partial or self._header is not None:
                    raise self._cut_off(len(partial), size)
                return b""
            self._hold(len(data), size, holding)
            if not partial and len(data) == size:
                return data
            # One growing buffer: if a peer sends single bytes, a list of the pieces would
            # take many times their size.
            partial += data
            if len(partial) == size:
                self._partial = bytearray()
                return partial

    def _hold(self, read: int, size: int, holding: Holding | None) -> None:
        if holding is not None and not holding.take(read):
            self._partial = bytearray()
            type_id = 0 if self._header is None else self._header[0]
            raise self._no_room(type_id, size, "long, besides the data already held,", holding)

    def _too_long(self, type_id: int, size: int) -> SerializationError:
        cast("WebTransportReceiveStream", self._stream).stop_sending(ErrorCodes.APP_INVALID_REQUEST)
        return SerializationError(
            f"the peer announced a message of {size} bytes with type ID {type_id}, more than "
            f"max_message_size={self._max_message_size}; reading stream {self.stream_id} was "
            "stopped",
            details={"size": size, "max_size": self._max_message_size, "type_id": type_id},
        )

    def _no_room(self, type_id: int, size: int, what: str, holding: Holding) -> SerializationError:
        cast("WebTransportReceiveStream", self._stream).stop_sending(ErrorCodes.APP_INVALID_REQUEST)
        budget = holding.budget
        return SerializationError(
            f"a message of the peer with type ID {type_id} is {size} bytes {what} "
            f"for which {budget.name}={budget.limit} has no room; reading stream "
            f"{self.stream_id} was stopped",
            details={"size": size, budget.name: budget.limit, "type_id": type_id},
        )

    def _cut_off(self, size: int, expected: int) -> StreamError:
        part = "header" if self._header is None else "payload"
        return StreamError(
            f"the peer finished stream {self.stream_id} within a message: "
            f"after {size} of {expected} bytes of its {part}",
            stream_id=self.stream_id,
            stream_state=self._stream.state,
            details={"end_of_stream": False, "received": size, "expected": expected},
        )

    def _one_way(self, other: str) -> StreamError:
        return StreamError(
            f"stream {self.stream_id} is unidirectional and can only be {other}",
            stream_id=self.stream_id,
            stream_state=self._stream.state,
        )
