"""The client's side of one subscription."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator
from typing import Any, Protocol, Self

from ..exceptions import (
    SerializationError,
    SessionClosedError,
    StreamError,
    StreamResetError,
    TimeoutError,
    WebTransportError,
)
from ..serializer._messages import MessageCodec
from ..serializer._rebuild import rebuild_in_turns
from ..session import WebTransportSession
from ..stream import StructuredStream, WebTransportReceiveStream
from ..utils._closing import AsyncCloseable
from ..utils._failures import log_application_error
from ..utils._gates import ONLY, Gates
from ..utils._text import printable
from ._exceptions import PubSubError, PubSubErrorCode, SlowSubscriberError
from ._messages import DROPPED_TYPE, GAP_TYPE, BackpressurePolicy, PubSubMessage
from ._queue import DEFAULT_MAX_QUEUE, MessageQueue, queue_bytes
from ._room import ReceivedRoom

__all__ = ["Subscription"]

# Messages between two readings of the clock.
_STEP = 16

logger = logging.getLogger("pywebtransport.pubsub")


class _Manager(Protocol):
    """The part of ``PubSubManager`` that subscriptions use."""

    max_message_size: int
    room: ReceivedRoom
    codec: MessageCodec

    @property
    def session(self) -> WebTransportSession: ...
    @property
    def is_over(self) -> bool: ...
    def session_error(self) -> SessionClosedError | None: ...
    async def announce(self, subscription: Any) -> None: ...
    async def withdraw(self, number: int) -> None: ...
    def forget(self, number: int) -> None: ...


class Subscription(AsyncCloseable):
    """The messages of a topic or pattern. Created by ``PubSubManager.subscribe``.

    Use it with ``async with``, or ``await`` it and ``close`` it later. Then iterate. The iteration
    ends when the subscription ends: closed here, by the broker, or with the session.

    Messages wait in bounded queues, here and at the broker; the policy decides what happens when
    one is full. Messages are decoded when you take them.

    Attributes:
        topic: The topic or pattern, as passed.
        policy: What happens when a queue is full.
        received: Messages that the iteration has returned.
        gaps: How often the broker reported that messages may have been lost between servers; it
            does so only if you pass ``on_gap``.
    """

    def __init__(
        self,
        manager: _Manager,
        number: int,
        topic: str,
        *,
        policy: BackpressurePolicy,
        max_queue: int | None,
        data_type: Any,
        on_gap: Callable[[Subscription], object] | None,
    ) -> None:
        self.topic = topic
        self.gaps = 0
        self.on_gap = on_gap
        self.policy = policy
        self.received = 0
        self._manager = manager
        self.number = number
        self.max_queue = max_queue
        self._data_type = data_type
        # Reading never stops: otherwise the windows of unread streams could add up to the window of
        # the connection, and then no other stream could receive data.
        self._queue: MessageQueue[tuple[int, bytes]] = MessageQueue(
            policy,
            max_queue or DEFAULT_MAX_QUEUE,
            queue_bytes(manager.max_message_size),
            manager.room,
        )
        self._stream: WebTransportReceiveStream | None = None
        self.reader: asyncio.Task[None] | None = None
        self._takers = Gates()
        self._dropped_there = 0
        self._asked = 0
        self._subscribed = False
        self._closed = False
        self._error: WebTransportError | None = None

    @property
    def dropped(self) -> int:
        """Messages that were dropped here, and those that the broker has reported as dropped.

        The broker reports them with the next message that it sends.
        """
        return self._queue.dropped + self._dropped_there

    @property
    def waiting(self) -> int:
        """Messages that wait here."""
        return len(self._queue)

    @property
    def is_closed(self) -> bool:
        """No more messages arrive; you can still read waiting ones."""
        return self._closed

    # ---------------------------------------------------------------- life cycle

    def __await__(self) -> Generator[Any, None, Self]:
        return self._subscribe().__await__()

    async def __aenter__(self) -> Self:
        return await self._subscribe()

    async def close(self) -> None:
        """End the subscription, and wait until the broker confirms. Idempotent.

        Ends a running iteration. Never raises: a broker that cannot be reached, or does not answer
        within 5 seconds, notices the end of the stream.

        Cancellation: safe; the subscription has ended on this side.
        """
        self._queue.clear()
        if not self._closed:
            self.end()
            await self._manager.withdraw(self.number)
        if self.reader is not None:
            await asyncio.wait({self.reader})

    # ----------------------------------------------------------------- iteration

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> PubSubMessage:
        """The next message.

        Raises:
            SlowSubscriberError: The policy is ``close`` and the queue was full.
            SessionClosedError: The session ended abnormally.
            SerializationError: The broker sent something that is not a message, or its data do not
                fit ``data_type``; you can read the next message.
            PubSubError: The subscription does not exist yet, or the broker ended it.

        Tasks that wait at the same time are served in order.

        Cancellation: safe; no message is lost.
        """
        if not self._subscribed and not self._closed:
            raise PubSubError(
                "the subscription does not exist yet: await it, or enter it",
                error_code=PubSubErrorCode.INVALID_SUBSCRIPTION,
                topic=self.topic,
            )
        self._asked += 1
        if self._asked % _STEP == 0:
            await self._manager.session.turns.pause()
        taken = None if self._takers else self._take()
        if taken is None:
            taken = await self._takers.wait(ONLY, self, self._take)
        try:
            message = await self._decoded(*taken)
        except asyncio.CancelledError:
            self._queue.put_back(taken, len(taken[1]))
            self._takers.open(ONLY)
            raise
        self.received += 1
        return message

    # ------------------------------------------------------------------- internal

    def _take(self) -> tuple[int, bytes] | None:
        """Take the oldest message; None if there is none yet."""
        if self._stream is None and not self._closed and self._manager.is_over:
            # The session ended before the broker opened the stream. Otherwise the reader of the
            # stream says how it ended, once it has everything that arrived.
            self.end(self._manager.session_error())
        if self._queue:
            return self._queue.pop()
        if self._closed:
            error, self._error = self._error, None
            if error is not None:
                raise error
            raise StopAsyncIteration
        return None

    async def _subscribe(self) -> Self:
        if self._subscribed or self._closed:
            return self
        try:
            await self._manager.announce(self)
        except BaseException:
            self.end()
            raise
        self._subscribed = True
        return self

    def deliver_from(
        self, stream: WebTransportReceiveStream, structured: StructuredStream[Any]
    ) -> bool:
        """Advanced: read the messages of a stream that the broker opened.

        Args:
            stream: The stream.
            structured: The same stream, for reading messages.

        Returns:
            False if this subscription has ended or already has a stream.
        """
        if self._closed or self._stream is not None:
            return False
        self._stream = stream
        self.reader = asyncio.create_task(self._read(structured), name="pubsub subscription")
        return True

    async def _read(self, structured: StructuredStream[Any]) -> None:
        """Move messages from the stream to the queue, until either ends."""
        try:
            count = 0
            while (received := await _next(structured)) is not None:
                count += 1
                if count % _STEP == 0:
                    await self._manager.session.turns.pause()
                type_id, payload = received
                if type_id == DROPPED_TYPE:
                    self._dropped_there = self._manager.codec.decode(type_id, payload).total
                elif type_id == GAP_TYPE:
                    self.gaps = self._manager.codec.decode(type_id, payload).total
                    self._tell_gap()
                elif self._queue.push(received, len(payload)):
                    self._takers.open(ONLY)
                else:
                    self.end(self._too_slow(remote=False))
                    return
            self.end()
        except WebTransportError as error:
            self.end(self._explained(error))

    def _tell_gap(self) -> None:
        if self.on_gap is None:
            return
        try:
            self.on_gap(self)
        except (Exception, asyncio.CancelledError) as error:
            what = f"on_gap of the subscription to '{printable(self.topic)}'"
            log_application_error(logger, what, error, session=self._manager.session)

    def end(self, error: WebTransportError | None = None) -> None:
        """Advanced: end the subscription on this side only. Idempotent.

        Args:
            error: Raised by the iteration. None, or the normal end of a session: the iteration just
                ends.
        """
        if self._closed:
            return
        self._closed = True
        self._error = None if error is None or _is_normal_end(error) else error
        self._manager.forget(self.number)
        if self._stream is not None:
            self._stream.stop_sending(0)
        if self.reader is not None and self.reader is not asyncio.current_task():
            self.reader.cancel()
        self._takers.open(ONLY)

    def look_again(self) -> None:
        """Advanced: wake a waiting iteration because the session has ended."""
        self._takers.open(ONLY)

    async def _decoded(self, type_id: int, payload: bytes) -> PubSubMessage:
        turns = self._manager.session.turns
        message = await self._manager.codec.decode_in_turns(type_id, payload, turns=turns)
        if isinstance(message, PubSubMessage):
            if self._data_type is not None:
                message.data = await rebuild_in_turns(message.data, self._data_type, turns)
            return message
        raise SerializationError(
            f"the broker sent a {type(message).__name__} instead of a message", remote=True
        )

    def _too_slow(self, *, remote: bool) -> SlowSubscriberError:
        return SlowSubscriberError(
            "the subscription ended: messages were not taken in time",
            topic=self.topic,
            remote=remote,
        )

    def _explained(self, error: WebTransportError) -> WebTransportError:
        if isinstance(error, StreamResetError):
            if error.error_code == PubSubErrorCode.TOO_SLOW:
                return self._too_slow(remote=True)
            return PubSubError(
                f"the broker ended the subscription (code {error.error_code})",
                error_code=PubSubErrorCode.UNAVAILABLE,
                topic=self.topic,
                remote=True,
            )
        if type(error) is StreamError:
            return PubSubError(error.message, topic=self.topic, remote=True)
        return error


async def _next(structured: StructuredStream[Any]) -> tuple[int, bytes] | None:
    """Return the next message, however long that takes: topics may be silent for hours."""
    while True:
        try:
            with structured.holding() as holding:
                received = await structured.receive_encoded(holding)
            return None if received is None else (received[0], bytes(received[1]))
        except TimeoutError:  # read_timeout of the streams
            continue


def _is_normal_end(error: WebTransportError) -> bool:
    """Whether the session was closed normally: by this side, or by the peer without an error."""
    if not isinstance(error, SessionClosedError) or error.code is None:
        return False
    return error.code == 0 or error.remote is False
