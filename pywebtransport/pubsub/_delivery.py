"""One subscription at the broker: a bounded queue and the stream that it is sent on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from ..exceptions import TimeoutError, WebTransportError
from ..stream import WebTransportSendStream
from ..utils._turns import Turns
from ._exceptions import PubSubErrorCode
from ._messages import BackpressurePolicy, Dropped, Gap
from ._queue import MessageQueue
from ._room import Frame, SessionRoom, Totals

__all__ = ["Delivery"]

logger = logging.getLogger("pywebtransport.pubsub")


class Delivery:
    """Sends the messages of one subscription to its subscriber.

    If the subscriber keeps up, this takes no memory and no task: messages go directly to the
    stream. A task runs only while messages wait for room in the stream.

    Args:
        policy: What to do when the queue is full.
        max_queue: Messages that may wait.
        max_bytes: Bytes that may wait.
        room: Limit of the bytes that may wait for the whole session.
        totals: Counters of all subscriptions, which this one updates.
        encode: Encodes a notice about dropped messages or gaps as a frame.
        wants_gaps: Whether the subscriber asked for notices about gaps.
        on_end: Called once, when delivery ends.

    Attributes:
        delivered: Messages written to the stream.
        queue: Messages that wait.
    """

    __slots__ = (
        "_ahead",
        "_encode",
        "_ended",
        "_gaps",
        "_on_end",
        "_pump",
        "_room",
        "_stream",
        "_told",
        "_told_gaps",
        "_totals",
        "_wants_gaps",
        "delivered",
        "queue",
    )

    def __init__(
        self,
        *,
        policy: BackpressurePolicy,
        max_queue: int,
        max_bytes: int,
        room: SessionRoom,
        totals: Totals,
        encode: Callable[[Dropped | Gap], bytes],
        wants_gaps: bool,
        on_end: Callable[[], None],
    ) -> None:
        self.queue: MessageQueue[Frame] = MessageQueue(policy, max_queue, max_bytes, room)
        self.delivered = 0
        self._room = room
        self._totals = totals
        totals.subscriptions += 1
        # Bytes in the stream that count against the room of the session.
        self._ahead = 0
        self._encode = encode
        self._wants_gaps = wants_gaps
        self._gaps = self._told_gaps = 0
        self._on_end = on_end
        self._told = 0
        self._stream: WebTransportSendStream | None = None
        self._pump: asyncio.Task[None] | None = None
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether delivery has ended."""
        return self._ended

    def attach(self, stream: WebTransportSendStream) -> None:
        """Start to send on ``stream``, on which the opening was already written.

        The subscription ends when the subscriber stops reading.
        """
        self._stream = stream
        self._wake()
        stream.add_stop_callback(self.end)

    def push(self, frame: Frame) -> None:
        """Deliver one message, or drop one according to the policy. Never waits."""
        if self._ended or self._write(frame):
            return
        queue, totals = self.queue, self._totals
        dropped, waiting = queue.dropped, len(queue)
        fits = queue.push(frame, len(frame.data))
        totals.dropped += queue.dropped - dropped
        totals.waiting += len(queue) - waiting
        if fits:
            self._wake()
        else:
            self.end(PubSubErrorCode.TOO_SLOW)

    def settle(self) -> None:
        """Release the room of bytes that have left the stream."""
        unsent = 0 if self._stream is None or self._ended else self._stream.write_buffer_size
        if unsent < self._ahead:
            self._room.budget.give_back(self._ahead - unsent)
            self._ahead = unsent

    def tell_gap(self) -> None:
        """Tell the subscriber that messages may have been lost between servers."""
        if self._wants_gaps and not self._ended:
            self._gaps += 1
            self._wake()

    def end(self, code: int | None = None) -> None:
        """Stop delivering. Idempotent.

        Args:
            code: Reset the stream with this code. None: finish the stream, which is the normal end
                for the subscriber.
        """
        if self._ended:
            return
        self._ended = True
        totals = self._totals
        totals.subscriptions -= 1
        totals.delivered -= self.delivered
        totals.dropped -= self.queue.dropped
        totals.waiting -= len(self.queue)
        self.queue.clear()
        self.settle()
        pump, self._pump = self._pump, None
        # The pump ends by returning.
        if pump is not None and pump is not asyncio.current_task():
            pump.cancel()
        stream = self._stream
        if stream is not None:
            if code is not None:
                stream.reset(code)
            else:
                with contextlib.suppress(WebTransportError):  # it was stopped or has ended
                    stream.finish()
        self._on_end()

    def unsubscribe(self) -> None:
        """Stop delivering because the subscriber unsubscribed.

        Messages that do not fit into the stream are dropped: otherwise finished streams that are
        never read could add up beyond all limits.
        """
        unsent = self._stream is not None and self._stream.write_buffer_size > 0
        self.end(0 if unsent else None)

    def _write(self, frame: Frame) -> bool:
        """Write a message to the stream if no other waits and there is room."""
        stream, size = self._stream, len(frame.data)
        if stream is None or self._pump is not None or size > self.queue.max_bytes:
            return False
        if not self._room.take_bytes(size):
            return False
        try:
            written = stream.try_write(frame.data)
        except WebTransportError as error:
            # The stream is watched, so that mostly end() was first.
            logger.debug("a subscription ended: %s", error)
            self._room.budget.give_back(size)
            self.end()
            return True
        if written:
            self._ahead += size
            self._count_delivered()
        else:
            self._room.budget.give_back(size)
        return written

    def _count_delivered(self) -> None:
        self.delivered += 1
        self._totals.delivered += 1

    def _wake(self) -> None:
        if self._pump is None and self._stream is not None:
            self._pump = asyncio.create_task(self._run(self._stream), name="pubsub delivery")
            # With many subscriptions, only as many as fit into a turn run in it.
            Turns.of().woke()

    async def _run(self, stream: WebTransportSendStream) -> None:
        """Send the waiting messages, then end. Waits here for flow control of the subscriber."""
        queue = self.queue
        try:
            while not self._ended and (
                queue or self._told != queue.dropped or self._told_gaps != self._gaps
            ):
                if self._told != queue.dropped:
                    self._told = queue.dropped
                    await _send(stream, self._encode(Dropped(self._told)))
                    continue
                if self._told_gaps != self._gaps:
                    self._told_gaps = self._gaps
                    await _send(stream, self._encode(Gap(self._told_gaps)))
                    continue
                data = queue.pop().data
                self._totals.waiting -= 1
                self._count_delivered()
                # It took room in the queue until a moment ago, so take that without a check.
                self._room.budget.take_anyway(len(data))
                self._ahead += len(data)
                await _send(stream, data)
                self.settle()
        except WebTransportError as error:
            # The stream is watched, so that mostly end() was first.
            logger.debug("a subscription ended: %s", error)
            self.end()
        finally:
            if not self._ended:
                self._pump = None


async def _send(stream: WebTransportSendStream, frame: bytes) -> None:
    """Write a whole frame, however long the subscriber takes to make room."""
    await stream.write(frame, wait_flush=False)
    while True:
        try:
            # Wait until little is left: unsent bytes take memory, for each subscription.
            await stream.flush()
            return
        except TimeoutError:
            continue
