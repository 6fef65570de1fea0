"""The open streams of a session, by their ID."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar
from weakref import WeakSet

from ..constants import (
    DEFAULT_MAX_STREAMS,
    DEFAULT_STREAM_CLEANUP_INTERVAL,
    DEFAULT_STREAM_CREATION_TIMEOUT,
)
from ..exceptions import SessionError, StreamError, TimeoutError
from ..types import EventType, StreamId, StreamType
from ..utils.checks import check_count
from ..utils.registry import count_states
from ..utils.slots import Slots
from .utils import finish_stream

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ..events import Event
    from ..session import WebTransportSession
    from .send import WebTransportSendStream
    from .stream import WebTransportStream

    _Made = TypeVar("_Made", bound=WebTransportSendStream)

__all__ = ["StreamManager"]


class StreamManager:
    """A view of the open streams of a session, and a limit on those it creates.

    The session itself knows its streams and forgets each at its end, so the manager
    keeps nothing. ``session.stream_manager`` is one that is made when it is first asked
    for. Closing a manager finishes the streams it shows. Use as
    ``async with StreamManager(session) as manager:``.
    """

    def __init__(
        self,
        session: WebTransportSession,
        *,
        max_streams: int = DEFAULT_MAX_STREAMS,
        stream_cleanup_interval: float = DEFAULT_STREAM_CLEANUP_INTERVAL,
    ) -> None:
        """Look at the streams of ``session``.

        Args:
            session: Any session.
            max_streams: Streams created through this manager that may be open at a time.
            stream_cleanup_interval: Accepted for the contract; nothing polls.

        Raises:
            ConfigurationError: ``max_streams`` is below 1.
        """
        check_count("max_streams", max_streams)
        self._session = session
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

    async def create_bidirectional_stream(self) -> WebTransportStream:
        """Open a stream both ends send on; wait while ``max_streams`` are open.

        Callers are served in the order in which they came.

        Raises:
            TimeoutError: ``stream_creation_timeout`` passed without room for another one.
            SessionClosedError: The session is over.
            SessionError: The manager is shut down.

        Cancellation: safe; no stream is opened.
        """
        return await self._create(self._session.create_bidirectional_stream)

    async def create_unidirectional_stream(self) -> WebTransportSendStream:
        """As ``create_bidirectional_stream``; only this end sends on the stream."""
        return await self._create(self._session.create_unidirectional_stream)

    async def add_stream(self, stream: StreamType) -> None:
        """Show a stream of the session that was removed; others are shown anyway.

        Raises:
            StreamError: The stream is not open, or belongs to another session.

        Cancellation: does not wait, so there is nothing to cancel.
        """
        if self._session._streams.get(stream.stream_id) is not stream:
            raise StreamError(
                f"stream {stream.stream_id} is not an open stream of session "
                f"{self._session.session_id}",
                stream_id=stream.stream_id,
                stream_state=stream.state,
            )
        self._removed.discard(stream)

    async def get_stream(self, stream_id: StreamId) -> StreamType | None:
        """The open stream with an ID, or None."""
        stream = self._session._streams.get(stream_id)
        return None if stream is None or stream in self._removed else stream

    async def remove_stream(self, stream_id: StreamId) -> StreamType | None:
        """Show a stream no longer, and return it; it stays open. None if there is none."""
        stream = await self.get_stream(stream_id)
        if stream is not None:
            self._removed.add(stream)
        return stream

    async def get_all_streams(self) -> list[StreamType]:
        """All open streams, those of the peer as well."""
        return self._streams()

    async def cleanup_closed_streams(self) -> int:
        """Show streams no longer that ended but were not read to the end; return how many.

        Usually 0: a stream that is done and read leaves by itself.
        """
        closed = [stream for stream in self._streams() if stream.is_closed]
        self._removed.update(closed)
        return len(closed)

    async def get_stats(self) -> dict[str, Any]:
        """Counts.

        Returns:
            ``total_created`` and ``total_closed`` of the streams created here;
            ``active_streams``, ``states`` and ``directions`` of those open now;
            ``max_streams``, how many of them ``semaphore_value`` are left, and whether a
            caller would have to wait (``semaphore_locked``).
        """
        streams = self._streams()
        return {
            **self._stats,
            "active_streams": len(streams),
            "semaphore_locked": not self._slots.free,
            "semaphore_value": self._slots.free,
            "states": count_states(streams),
            "directions": dict(Counter(str(stream.direction) for stream in streams)),
            "max_streams": self._slots.count,
        }

    async def close_all_streams(self) -> None:
        """Finish every stream: close its sending side, stop its receiving side.

        What was written still arrives.

        Cancellation: does not wait, so there is nothing to cancel.
        """
        for stream in self._streams():
            finish_stream(stream)

    async def shutdown(self) -> None:
        """Finish every stream and create no more. Idempotent.

        Cancellation: does not wait, so there is nothing to cancel.
        """
        self._closed = True
        self._slots.fail(_closed_error)
        self._session.off(EventType.SESSION_CLOSED, self._session_closed)
        await self.close_all_streams()

    async def __aiter__(self) -> AsyncIterator[StreamType]:
        """Iterate over the streams that are open now."""
        for stream in self._streams():
            yield stream

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.shutdown()

    # ------------------------------------------------------------------ internal

    def _streams(self) -> list[StreamType]:
        removed = self._removed
        return [stream for stream in self._session._streams.values() if stream not in removed]

    async def _create(self, create: Callable[..., Awaitable[_Made]]) -> _Made:
        if self._closed:
            raise _closed_error()
        session = self._session
        timeout: float = getattr(
            session._config, "stream_creation_timeout", DEFAULT_STREAM_CREATION_TIMEOUT
        )
        if not self._listening:
            self._listening = True
            session.once(EventType.SESSION_CLOSED, self._session_closed)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        if not await self._slots.acquire(timeout):
            raise TimeoutError(
                f"max_streams={self._slots.count} streams of the manager stayed open for "
                f"{timeout} s; finish some, or raise the limit",
                timeout_duration=timeout,
                operation="open stream",
            )
        try:
            stream = await create(timeout=max(0.0, deadline - loop.time()))
            if self._closed:
                finish_stream(stream)
                raise _closed_error()
        except BaseException:
            self._slots.release()
            raise
        stream.once(EventType.STREAM_CLOSED, self._stream_closed)
        self._stats["total_created"] += 1
        return stream

    def _stream_closed(self, event: Event) -> None:
        self._stats["total_closed"] += 1
        self._slots.release()

    def _session_closed(self, event: Event) -> None:
        self._slots.fail(lambda: self._session._closed_error("no stream can be opened"))


def _closed_error() -> SessionError:
    return SessionError("the stream manager is shut down; make a new one")
