"""Streams that the peer opens, until the application takes them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from .._quic import STREAMS_AT_ONCE, IncomingPort
from ..utils._waiters import Line, Turn, require_loop
from .receive_stream import WebTransportReceiveStream

if TYPE_CHECKING:
    from .session import WebTransportSession

__all__ = ["Acceptors", "IncomingStreams"]

_StreamT = TypeVar("_StreamT", bound=WebTransportReceiveStream)


class Acceptors:
    """The callers that wait for streams of the peer, in order, whichever kinds they want.

    It does not refer to the session, which would otherwise live until the next garbage collection.
    """

    __slots__ = ("bidirectional", "unidirectional")

    def __init__(self) -> None:
        # A caller that wants both kinds waits in both queues.
        self.bidirectional = Line()
        self.unidirectional = Line()

    def serve(self, session: WebTransportSession, unidirectional: bool) -> None:
        """Wake the callers that can have a stream of this kind of ``session``."""
        line = self.unidirectional if unidirectional else self.bidirectional
        if line.turns:
            streams = session._incoming_uni if unidirectional else session._incoming_bidi
            while streams and line.turns and len(streams) > line.served:
                line.serve()

    def end(self) -> None:
        """The session has ended: wake all callers."""
        self.bidirectional.serve_all()
        self.unidirectional.serve_all()


class IncomingStreams(IncomingPort, Generic[_StreamT]):
    """Iterates over streams that the peer opened; several iterators take turns."""

    __slots__ = ("_acceptors",)

    def __init__(
        self, session: WebTransportSession, *, bidirectional: bool, unidirectional: bool
    ) -> None:
        self.session = session
        self._bidirectional = bidirectional
        self._unidirectional = unidirectional
        self._acceptors: Acceptors | None = None
        if session._acceptors is not None:
            self._know(session._acceptors)

    def _know(self, acceptors: Acceptors) -> None:
        self._acceptors = acceptors
        self._first = acceptors.bidirectional if self._bidirectional else acceptors.unidirectional
        self._second = acceptors.unidirectional if self._unidirectional else self._first

    def __aiter__(self) -> Self:
        return self

    if TYPE_CHECKING:

        def __anext__(self) -> Coroutine[Any, Any, _StreamT]: ...

    async def _next(self) -> _StreamT:
        """As ``__anext__``, if there is no stream, or others come first."""
        session = self.session
        if self._taken >= STREAMS_AT_ONCE:
            self._taken = 0
            if session._incoming_bidi or session._incoming_uni:
                # Let the tasks for those streams, and everything else in this loop, run first.
                await asyncio.sleep(0)
        while True:
            first, second = self._first, self._second
            if (
                first is None
                or second is None
                or not (first.turns or first.served or second.turns or second.served)
                or session._is_over
            ):
                stream: _StreamT | None
                stream = session._take_stream(self._bidirectional, self._unidirectional)
                if stream is not None:
                    self._taken += 1
                    return stream
                if session._is_over:
                    raise StopAsyncIteration
            if self._acceptors is None:
                if session._acceptors is None:
                    session._acceptors = Acceptors()
                self._know(session._acceptors)
                continue
            self._taken = 0
            stream = await self._wait(self._acceptors)
            if stream is not None:
                return stream

    async def _wait(self, acceptors: Acceptors) -> _StreamT | None:
        """Wait in order for a stream; return None if the session has ended."""
        session = self.session
        stream: _StreamT | None
        loop = asyncio.get_running_loop()
        if loop is not session._loop:
            require_loop(session._loop, loop)
        turn: Turn = session._eager.create_future(loop)
        if self._bidirectional:
            acceptors.bidirectional.join(turn)
        if self._unidirectional:
            acceptors.unidirectional.join(turn)
        try:
            await turn
        except BaseException:
            acceptors.bidirectional.leave(turn)
            acceptors.unidirectional.leave(turn)
            acceptors.serve(session, False)
            acceptors.serve(session, True)
            raise
        if self._bidirectional != self._unidirectional:
            line = acceptors.bidirectional if self._bidirectional else acceptors.unidirectional
            line.leave(turn)
            stream = session._take_stream(self._bidirectional, self._unidirectional)
            if line.turns:
                acceptors.serve(session, self._unidirectional)  # callers that came meanwhile
            return stream
        bidi, uni = acceptors.bidirectional, acceptors.unidirectional
        bidi.leave(turn)
        uni.leave(turn)
        # A stream of the other kind may have arrived first.
        stream = session._take_stream(
            len(session._incoming_bidi or ()) > bidi.served,
            len(session._incoming_uni or ()) > uni.served,
        )
        acceptors.serve(session, False)
        acceptors.serve(session, True)
        return stream
