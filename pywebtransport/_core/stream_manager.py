"""The open streams of a session, by their ID."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Self, TypeVar
from weakref import WeakSet

from .._states import EventType, StreamId
from ..constants import (
    DEFAULT_MAX_STREAMS,
    DEFAULT_STREAM_CLEANUP_INTERVAL,
)
from ..exceptions import SessionError, StreamError, StreamLimitError
from ..utils._checks import (
    NEVER,
    check_count,
    check_instance,
    check_interface,
    check_timeout,
    validate_stream_id,
)
from ..utils._closing import AsyncContext
from ..utils._registry import count_states
from ..utils._slots import Slots
from .receive_stream import WebTransportReceiveStream
from .send_stream import WebTransportSendStream
from .stream import StreamType, finish_stream

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ..events import Event
    from .session import WebTransportSession
    from .stream import WebTransportStream

    _Made = TypeVar("_Made", bound=WebTransportSendStream)

__all__ = ["StreamManager"]


class StreamManager(AsyncContext):
    """A view of the open streams of a session, and a limit on the streams it creates.

    The session keeps track of its streams, so the manager stores nothing.
    ``session.stream_manager`` is created on first use. Closing a manager finishes the streams
    it shows. Use it as ``async with StreamManager(session) as manager:``.
    """

    def __init__(
        self,
        session: WebTransportSession,
        *,
        max_streams: int = DEFAULT_MAX_STREAMS,
        stream_cleanup_interval: float = DEFAULT_STREAM_CLEANUP_INTERVAL,
    ) -> None:
        """Create a manager for the streams of ``session``.

        Args:
            session: Any session.
            max_streams: How many streams created by this manager may be open at the same time.
            stream_cleanup_interval: Ignored; kept for compatibility.

        Raises:
            ConfigurationError: ``max_streams`` is below 1.
        """
        check_count("max_streams", max_streams)
        check_interface("session", session, "WebTransportSession", "incoming_streams")
        self.session = session
        self._slots = Slots(max_streams)
        self._removed: WeakSet[StreamType] = WeakSet()
        self._stats = {"total_created": 0, "total_closed": 0}
        self._listening = False
        self._closed = False

    @classmethod
    def create(
        cls,
        session: WebTransportSession,
        *,
        max_streams: int = DEFAULT_MAX_STREAMS,
        stream_cleanup_interval: float = DEFAULT_STREAM_CLEANUP_INTERVAL,
    ) -> Self:
        """The same as calling the class."""
        return cls(
            session, max_streams=max_streams, stream_cleanup_interval=stream_cleanup_interval
        )

    async def create_bidirectional_stream(
        self, *, timeout: float | None = None
    ) -> WebTransportStream:
        """Open a stream that both ends send on.

        Waiting callers are served in the order in which they called.

        Args:
            timeout: Seconds to wait for any limit. If it is None, the call waits
                ``stream_creation_timeout`` seconds for the peer's limit, and does not wait for
                ``max_streams`` of the manager.

        Raises:
            StreamLimitError: A limit was reached, and no stream was freed in time.
            SessionClosedError: The session has ended.
            SessionError: The manager is shut down.

        Cancellation: safe; no stream is opened.
        """
        return await self._create(self.session.create_bidirectional_stream, timeout)

    async def create_unidirectional_stream(
        self, *, timeout: float | None = None
    ) -> WebTransportSendStream:
        """As ``create_bidirectional_stream``; only this end sends on the stream."""
        return await self._create(self.session.create_unidirectional_stream, timeout)

    async def add_stream(self, stream: StreamType) -> None:
        """Show a stream again that was removed; all others are shown anyway.

        Raises:
            StreamError: The stream is not open, or belongs to another session.

        Cancellation: does not wait, so there is nothing to cancel.
        """
        check_instance("stream", stream, WebTransportReceiveStream, WebTransportSendStream)
        if self.session.get_stream(stream.stream_id) is not stream:
            raise StreamError(
                f"stream {stream.stream_id} is not an open stream of session "
                f"{self.session.session_id}",
                stream_id=stream.stream_id,
                stream_state=stream.state,
            )
        self._removed.discard(stream)

    async def get_stream(self, stream_id: StreamId) -> StreamType | None:
        """Return the open stream with this ID, or None."""
        validate_stream_id(stream_id)
        stream = self.session.get_stream(stream_id)
        return None if stream is None or stream in self._removed else stream

    async def remove_stream(self, stream_id: StreamId) -> StreamType | None:
        """Hide a stream and return it, or None if there is no such stream; it stays open."""
        stream = await self.get_stream(stream_id)
        if stream is not None:
            self._removed.add(stream)
        return stream

    async def get_all_streams(self) -> list[StreamType]:
        """Return all open streams, including those that the peer opened."""
        return self._streams()

    async def cleanup_closed_streams(self) -> int:
        """Hide streams that have ended but were not read to the end; return how many.

        Usually 0: a stream that was read to the end is removed without this.
        """
        closed = [stream for stream in self._streams() if stream.is_closed]
        self._removed.update(closed)
        return len(closed)

    async def get_stats(self) -> dict[str, Any]:
        """Return counts.

        Returns:
            ``total_created`` and ``total_closed`` of the streams created here;
            ``active_streams``, ``states`` and ``directions`` of the open streams;
            ``max_streams``, how many of these are free (``semaphore_value``), and whether a
            caller would have to wait (``semaphore_locked``).
        """
        streams = self._streams()
        return {
            **self._stats,
            "active_streams": len(streams),
            "semaphore_locked": not self._slots.free,
            "semaphore_value": self._slots.free,
            "states": await count_states(streams),
            "directions": dict(Counter(str(stream.direction) for stream in streams)),
            "max_streams": self._slots.count,
        }

    async def close_all_streams(self) -> None:
        """Finish every stream: close its sending side, stop its receiving side.

        Written data still arrives.

        Cancellation: does not wait, so there is nothing to cancel.
        """
        for stream in self._streams():
            finish_stream(stream)

    async def shutdown(self) -> None:
        """Finish every stream and create no new ones. Idempotent.

        Cancellation: does not wait, so there is nothing to cancel.
        """
        self._closed = True
        self._slots.fail(_closed_error)
        self.session.remove_watcher(EventType.SESSION_CLOSED, self._session_closed)
        await self.close_all_streams()

    async def __aiter__(self) -> AsyncIterator[StreamType]:
        """Iterate over the open streams."""
        for stream in self._streams():
            yield stream

    async def _end_block(self) -> None:
        await self.shutdown()

    # ------------------------------------------------------------------ internal

    def _streams(self) -> list[StreamType]:
        removed = self._removed
        return [stream for stream in self.session.open_streams() if stream not in removed]

    async def _create(
        self, create: Callable[..., Awaitable[_Made]], timeout: float | None
    ) -> _Made:
        limit = check_timeout("timeout", timeout)
        if self._closed:
            raise _closed_error()
        session = self.session
        wait = 0.0 if timeout is None else NEVER if limit is None else limit
        if not self._listening:
            self._listening = True
            session.add_watcher(EventType.SESSION_CLOSED, self._session_closed)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        if session.is_closed:
            raise session.closed_error("no stream can be opened")
        if not self._slots.take() and not (wait and await self._slots.acquire(wait)):
            raise StreamLimitError(
                f"stream limit reached: max_streams={self._slots.count} streams of the manager "
                f"{f'stayed open for {wait:g} s' if wait else 'are open'}; finish some, or "
                "raise the limit",
                timeout_duration=None if timeout is None else wait,
            )
        try:
            left = None if timeout is None else max(0.0, deadline - loop.time())
            stream = await create(timeout=left)
            if self._closed:
                finish_stream(stream)
                raise _closed_error()
        except BaseException:
            self._slots.release()
            raise
        stream.add_watcher(EventType.STREAM_CLOSED, self._stream_closed)
        self._stats["total_created"] += 1
        return stream

    def _stream_closed(self, event: Event) -> None:
        self._stats["total_closed"] += 1
        self._slots.release()

    def _session_closed(self, event: Event) -> None:
        self._slots.fail(lambda: self.session.closed_error("no stream can be opened"))


def _closed_error() -> SessionError:
    return SessionError("the stream manager is shut down; make a new one")
