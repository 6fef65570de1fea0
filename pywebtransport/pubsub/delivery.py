"""One subscription at the broker: a bounded queue and the stream it empties into."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from ..exceptions import TimeoutError, WebTransportError
from ..rpc.watch import watch
from ..stream import WebTransportSendStream
from .exceptions import PubSubErrorCode
from .messages import BackpressurePolicy, Dropped, Gap
from .queue import MessageQueue

__all__ = ["Delivery"]

logger = logging.getLogger("pywebtransport.pubsub")


class Delivery:
    """Carries the messages of one subscription to its subscriber.

    A subscriber that keeps up costs no memory: a task runs only while something
    waits to be sent.

    Args:
        policy: What to do when the queue is full.
        max_queue: Messages that may wait.
        max_bytes: Bytes that may wait.
        encode: Gives the frame of a notice: of how many messages were dropped, of gaps.
        wants_gaps: The subscriber asked to be told of gaps.
        on_end: Called once, when nothing will be delivered any more.

    Attributes:
        delivered: Messages that were handed to the stream.
        queue: Messages that wait.
    """

    __slots__ = (
        "_encode",
        "_ended",
        "_gaps",
        "_on_end",
        "_pump",
        "_stream",
        "_told",
        "_told_gaps",
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
        encode: Callable[[Dropped | Gap], bytes],
        wants_gaps: bool,
        on_end: Callable[[], None],
    ) -> None:
        self.queue: MessageQueue[bytes] = MessageQueue(policy, max_queue, max_bytes)
        self.delivered = 0
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
        """Nothing will be delivered any more."""
        return self._ended

    def attach(self, stream: WebTransportSendStream) -> None:
        """Begin to send on ``stream``, whose first message was written.

        When the subscriber stops reading it, the subscription ends.
        """
        self._stream = stream
        self._wake()
        watch(stream, self.end)

    def push(self, frame: bytes) -> None:
        """Deliver one message, or drop one as the policy says. Never waits."""
        if self._ended:
            return
        if self.queue.push(frame, len(frame)):
            self._wake()
        else:
            self.end(PubSubErrorCode.TOO_SLOW)

    def tell_gap(self) -> None:
        """Messages may have been lost on their way between servers."""
        if self._wants_gaps and not self._ended:
            self._gaps += 1
            self._wake()

    def end(self, code: int | None = None) -> None:
        """Stop delivering. Idempotent.

        Args:
            code: Reset the stream with it; None: finish it, which the subscriber
                sees as the normal end.
        """
        if self._ended:
            return
        self._ended = True
        self.queue.clear()
        pump, self._pump = self._pump, None
        # The pump itself ends by returning.
        if pump is not None and pump is not asyncio.current_task():
            pump.cancel()
        stream = self._stream
        if stream is not None:
            if code is not None:
                stream.reset(code)
            else:
                with contextlib.suppress(WebTransportError):  # it was stopped, or is over
                    stream._finish_send()
        self._on_end()

    def unsubscribe(self) -> None:
        """Stop delivering because the subscriber wants no more.

        What it has left no room for is dropped: finished streams that are never read would
        add up, beyond all limits.
        """
        unsent = self._stream is not None and self._stream.write_buffer_size > 0
        self.end(0 if unsent else None)

    def _wake(self) -> None:
        if self._pump is None and self._stream is not None:
            self._pump = asyncio.create_task(self._run(self._stream), name="pubsub delivery")

    async def _run(self, stream: WebTransportSendStream) -> None:
        """Send what waits, then end; flow control of the subscriber is where it stops."""
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
                frame = queue.pop()
                self.delivered += 1
                await _send(stream, frame)
        except WebTransportError as error:
            # The stream is watched, so that mostly end() was first.
            logger.debug("a subscription ended: %s", error)
            self.end()
        finally:
            if not self._ended:
                self._pump = None


async def _send(stream: WebTransportSendStream, frame: bytes) -> None:
    """Write one frame whole, however long the subscriber takes to make room for more."""
    try:
        await stream.write(frame)
    except TimeoutError:
        # The frame is queued; only the room for the next one is missing.
        while True:
            try:
                await stream.flush()
                return
            except TimeoutError:
                continue
