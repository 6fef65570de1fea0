"""Typed messages in datagrams."""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Mapping
from typing import Generic, Self, TypeVar, cast

from ..exceptions import DatagramError, SerializationError, SessionClosedError
from ..serializer._messages import MessageCodec
from ..serializer._protocol import Serializer
from ..utils import _clock as clock
from ..utils._checks import check_instance, check_timeout
from ..utils._closing import AsyncCloseable
from .datagram_transport import WebTransportDatagramTransport
from .heartbeats import is_heartbeat_datagram

__all__ = ["StructuredDatagramTransport"]

_TYPE_ID = struct.Struct("!H")
# How many datagrams are received before the clock is checked again.
_STEP = 16

MessageT = TypeVar("MessageT")


class StructuredDatagramTransport(AsyncCloseable, Generic[MessageT]):
    """Sends and receives objects as datagrams: unreliable, unordered, one object per datagram.

    A datagram is the type ID of the message (16 bits in network order), followed by the payload.
    The registry maps type IDs to classes and must be the same at both ends. With
    ``StructuredDatagramTransport[Position | Shot]``, a type checker knows what you receive.

    A datagram that cannot be decoded raises ``SerializationError`` and is consumed; you can
    receive the next one. Heartbeats of ``start_heartbeat`` are skipped. ``async for`` ends with
    the session.
    """

    __slots__ = ("_codec", "_received", "_transport", "_undecoded")

    def __init__(
        self,
        datagram_transport: WebTransportDatagramTransport,
        serializer: Serializer,
        registry: Mapping[int, type[MessageT]],
    ) -> None:
        """Use the datagrams of a session for messages from now on.

        Args:
            datagram_transport: ``session.datagrams``; do not receive from it elsewhere.
            serializer: Turns the objects into payloads and back.
            registry: The class of each type ID, 0 to 65535; the same at both ends.

        Raises:
            ConfigurationError: The registry is out of range.
        """
        check_instance("datagram_transport", datagram_transport, WebTransportDatagramTransport)
        self._codec = MessageCodec(serializer, registry)
        self._transport = datagram_transport
        # Datagrams of receivers that were cancelled before the message was decoded.
        self._undecoded: deque[bytes] = deque()
        self._received = 0

    @property
    def datagram_transport(self) -> WebTransportDatagramTransport:
        """The transport below."""
        return self._transport

    @property
    def is_closed(self) -> bool:
        """The session has ended, or ``close`` was called."""
        return self._transport.is_closed

    async def send_obj(self, obj: MessageT, *, priority: int = 0, ttl: float | None = None) -> None:
        """Send one message as one datagram; wait while the outgoing queue is full.

        Args:
            obj: An instance of a registered class (not of a subclass).
            priority: 0 to 2; datagrams with a higher priority leave the queue first.
            ttl: Seconds it may wait in the queue. Default ``outgoing_max_age``.

        Raises:
            SerializationError: Its class is not registered, or it cannot be serialized.
            DatagramTooLargeError: It does not fit into a datagram; ``max_size`` is the limit,
                including the two bytes of the type ID.
            Otherwise as ``send`` of the transport below.

        Cancellation: safe; a cancelled send was not queued.
        """
        type_id, payload = self._codec.encode(obj)
        await self._transport.send(_TYPE_ID.pack(type_id) + payload, priority=priority, ttl=ttl)

    async def receive_obj(self, *, timeout: float | None = None) -> MessageT:
        """Return the next message, waiting for it.

        Args:
            timeout: Seconds to wait; None waits until the session ends.

        Raises:
            SerializationError: The datagram is not a message of the registry; it is counted in
                ``stats["receive_errors"]``.
            TimeoutError: No message arrived in time.
            SessionClosedError: The session has ended and nothing is queued.
            DatagramError: The transport was closed.

        Cancellation: safe, no datagram is lost.
        """
        timeout = check_timeout("timeout", timeout)
        deadline = None if timeout is None else clock.monotonic() + timeout
        turns = self._transport.session.turns
        while True:
            self._received += 1
            if self._received % _STEP == 0:
                await turns.pause()
            if self._undecoded:
                data = self._undecoded.popleft()
            else:
                data = await self._transport.receive(timeout=timeout)
            try:
                type_id = self._type_id(data)
                if type_id is not None:
                    payload = data[_TYPE_ID.size :]
                    obj = await self._codec.decode_in_turns(type_id, payload, turns=turns)
                    return cast("MessageT", obj)
            except asyncio.CancelledError:
                self._undecoded.appendleft(data)
                raise
            except SerializationError:
                self._transport.refresh_stats().receive_errors += 1
                raise
            if deadline is not None:
                timeout = max(0.0, deadline - clock.monotonic())

    def __aiter__(self) -> Self:
        """Iterate over the messages until the session, or this transport, ends.

        A datagram that cannot be decoded ends the loop with ``SerializationError``;
        a new loop continues after it.
        """
        return self

    async def __anext__(self) -> MessageT:
        try:
            return await self.receive_obj()
        except (DatagramError, SessionClosedError):
            if not self.is_closed:
                raise
            raise StopAsyncIteration from None

    async def close(self) -> None:
        """Close the transport below; the session can no longer use datagrams."""
        await self._transport.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} over {self._transport!r}>"

    def _type_id(self, data: bytes) -> int | None:
        """Return the type ID of a datagram; None for a heartbeat."""
        if len(data) < _TYPE_ID.size:
            raise SerializationError(
                f"a datagram of {len(data)} bytes is too short for a type ID of {_TYPE_ID.size}",
                details={"size": len(data)},
            )
        (type_id,) = _TYPE_ID.unpack_from(data)
        if not self._codec.knows(type_id) and is_heartbeat_datagram(data=data):
            return None
        return cast("int", type_id)
