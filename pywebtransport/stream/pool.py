"""Compatibility name: bidirectional streams that carry one request after another."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

from .._core.stream import WebTransportStream, finish_stream
from .._states import EventType
from ..constants import DEFAULT_STREAM_CREATION_TIMEOUT
from ..exceptions import SessionError
from ..utils._checks import NEVER, check_count, check_instance, check_interface, check_timeout
from ..utils._closing import AsyncContext
from ..utils._pooling import Leaving, Lender

if TYPE_CHECKING:
    from .._core.session import WebTransportSession
    from ..events import Event

__all__ = ["StreamPool"]


class StreamPool(AsyncContext):
    """Lends bidirectional streams of one session, for requests that share streams.

    A stream belongs to one user at a time: ``async with pool.stream()`` lends one for a
    block; ``get_stream`` and ``return_stream`` do the same in two steps. **Reuse means
    that both requests are bytes of the same stream.** The peer sees one stream that goes
    on, so requests and responses need their own framing (a length, a separator), the peer
    must answer each without finishing the stream, and a user returns the stream only after
    reading its response to the end.

    A stream that either end finished, reset or stopped, that has bytes nobody read, or
    whose user was interrupted or read no answer to what it wrote, is not used again: its
    next user would get the answer of the one before. It is finished, and another one is
    opened when one is wanted.
    Opening a stream costs no round trip: a pool saves the per-stream work at both ends
    and keeps within the peer's stream limit. Where requests can have a stream each,
    ``session.create_bidirectional_stream`` is simpler and one lost packet delays only
    one of them.

    Use as ``async with StreamPool(session) as pool:``; leaving the block finishes its
    streams, those in use as well.
    """

    def __init__(
        self,
        session: WebTransportSession,
        *,
        pool_size: int = 10,
        maintenance_interval: float = 60.0,
    ) -> None:
        """A pool without streams; they are opened when they are wanted.

        Args:
            session: Where the streams are opened.
            pool_size: Streams at a time, idle or in use.
            maintenance_interval: Ignored; kept for compatibility.

        Raises:
            ConfigurationError: ``pool_size`` is below 1.
        """
        check_count("pool_size", pool_size)
        check_interface("session", session, "WebTransportSession", "incoming_streams")
        self.session = session
        self._lender: Lender[None, WebTransportStream] = Lender(
            pool_size,
            noun="stream",
            size_name="pool_size",
            ending=EventType.STREAM_CLOSED,
            left=self._left,
            closed_error=_closed_error,
        )
        # Of those in use, the bytes sent and read before; see _is_answered.
        self._before: dict[WebTransportStream, tuple[int, int]] = {}
        session.add_watcher(EventType.SESSION_CLOSED, self._session_closed)

    @classmethod
    def create(cls, session: WebTransportSession, *, pool_size: int = 10) -> Self:
        """The same as calling the class."""
        return cls(session, pool_size=pool_size)

    @property
    def waiting_callers(self) -> int:
        """How many callers wait for a stream, because all are in use."""
        return self._lender.waiting

    def get_stats(self) -> dict[str, int]:
        """Counts: idle streams, active ones (in use or being opened), and their limit."""
        return {
            "idle_streams": len(self._lender.idle),
            "active_streams": self._lender.in_use,
            "pool_size": self._lender.size,
        }

    async def get_stream(self, *, timeout: float | None = None) -> WebTransportStream:
        """Take a stream: one that was returned and still works, or else a new one.

        While ``pool_size`` are in use, callers wait in the order in which they came.

        Args:
            timeout: Seconds to wait for a stream of the pool, and for the peer's stream
                limit; default ``stream_creation_timeout``.

        Raises:
            TimeoutError: None became free, or the peer allowed no more streams in time.
            SessionClosedError: The session is over.
            SessionError: The pool is closed.

        Cancellation: safe; no stream and no place in the pool is lost.
        """
        limit = check_timeout("timeout", timeout)
        if timeout is None:
            timeout = float(
                getattr(
                    self.session.config,
                    "stream_creation_timeout",
                    DEFAULT_STREAM_CREATION_TIMEOUT,
                )
            )
        else:
            timeout = NEVER if limit is None else limit
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        stream = await self._lender.lend(
            None,
            timeout,
            where="of the pool",
            limit=f"{timeout}",
            reuse=lambda stream: stream.is_reusable,
            create=lambda: self.session.create_bidirectional_stream(
                timeout=max(0.0, deadline - loop.time())
            ),
        )
        self._before[stream] = (stream.bytes_sent, stream.bytes_read)
        return stream

    @asynccontextmanager
    async def stream(self, *, timeout: float | None = None) -> AsyncIterator[WebTransportStream]:
        """``async with pool.stream() as stream``: lend a stream for the length of the block.

        A block that an exception or a cancellation ends may have left an answer on its
        way: its stream is finished and not lent again.

        Args:
            timeout: As for ``get_stream``.

        Raises: as ``get_stream``.

        Cancellation: safe; no stream and no place in the pool is lost.
        """
        stream = await self.get_stream(timeout=timeout)
        try:
            yield stream
        except BaseException:
            self._give_back(stream, interrupted=True)
            raise
        self._give_back(stream, interrupted=False)

    async def return_stream(self, stream: WebTransportStream) -> None:
        """Give a stream back that ``get_stream`` gave.

        One that cannot be used again is finished: its sending side is closed (what was
        written still arrives) and its receiving side stopped. So is one that does not
        come from this pool, since nobody else is going to do it. One that was returned
        already is left alone.

        In a ``finally`` or ``except`` block that an exception led to, the stream counts as
        interrupted and is finished: the answer to what was written may still be on its way.

        Cancellation: does not wait, so there is nothing to cancel.
        """
        check_instance("stream", stream, WebTransportStream)
        self._give_back(stream, interrupted=sys.exc_info()[0] is not None)

    async def close_all(self) -> None:
        """Finish every stream, in use or not, and the pool with them. Idempotent.

        Callers that wait for a stream get ``SessionError``.

        Cancellation: does not wait, so there is nothing to cancel.
        """
        self._lender.close()
        self.session.remove_watcher(EventType.SESSION_CLOSED, self._session_closed)
        for stream in self._lender.items:
            self._lender.remove(stream)

    async def __aenter__(self) -> Self:
        self._lender.require_open()
        return self

    async def _end_block(self) -> None:
        await self.close_all()

    # ------------------------------------------------------------------ internal

    def _give_back(self, stream: WebTransportStream, *, interrupted: bool) -> None:
        if stream in self._lender.idle:
            return
        before = self._before.pop(stream, None)
        if before is None:
            finish_stream(stream)
            return
        fit = not interrupted and stream.is_reusable and _is_answered(stream, *before)
        self._lender.give_back(stream, fit=fit)

    def _left(self, stream: WebTransportStream, key: None, why: Leaving) -> None:
        """A stream left the pool; one that ended at both ends need not be returned."""
        self._before.pop(stream, None)
        if why is Leaving.UNFIT:
            finish_stream(stream)

    def _session_closed(self, event: Event) -> None:
        self._lender.fail(lambda: self.session.closed_error("no stream can be opened"))
        for stream in self._lender.items:
            self._lender.remove(stream, Leaving.ENDED)


def _is_answered(stream: WebTransportStream, sent: int, read: int) -> bool:
    """The last user wrote nothing, or read something of the peer.

    A user whose wait for the answer timed out returns the stream like any other.
    """
    return stream.bytes_sent == sent or stream.bytes_read != read


def _closed_error() -> SessionError:
    return SessionError("the stream pool is closed; make a new one")
