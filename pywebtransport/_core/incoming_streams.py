"""Streams that the peer opens, until the application takes them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Generic, Self, TypeVar

from ..utils._waiters import Line, Turn, require_loop
from .receive_stream import WebTransportReceiveStream
from .stream import WebTransportStream

if TYPE_CHECKING:
    from .session import WebTransportSession

__all__ = ["Acceptors", "IncomingStreams"]

_AT_ONCE: Final = 16
"""How many streams an iterator takes per turn of the event loop: each may start a task."""

_AnyStream = WebTransportStream | WebTransportReceiveStream
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


class IncomingStreams(Generic[_StreamT]):
    """Iterates over streams that the peer opened; several iterators take turns."""

    __slots__ = (
        "_acceptors",
        "_bidirectional",
        "_first",
        "_second",
        "_taken",
        "_unidirectional",
        "session",
    )

    def __init__(
        self, session: WebTransportSession, *, bidirectional: bool, unidirectional: bool
    ) -> None:
        self.session = session
        self._bidirectional = bidirectional
        self._unidirectional = unidirectional
        self._acceptors: Acceptors | None = None
        self._taken = 0  # without waiting
        # The queues of callers for the wanted kinds; created by the first caller that waits.
        self._first: Line | None = None
        self._second: Line | None = None
        if session._acceptors is not None:
            self._know(session._acceptors)

    def _know(self, acceptors: Acceptors) -> None:
        self._acceptors = acceptors
        self._first = acceptors.bidirectional if self._bidirectional else acceptors.unidirectional
        self._second = acceptors.unidirectional if self._unidirectional else self._first

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _StreamT:
        session = self.session
        if self._taken >= _AT_ONCE:
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
                or session.is_closed
            ):
                stream = _take(session, self._bidirectional, self._unidirectional)
                if stream is not None:
                    self._taken += 1
                    return stream  # type: ignore[return-value]
                if session.is_closed:
                    raise StopAsyncIteration
            if self._acceptors is None:
                if session._acceptors is None:
                    session._acceptors = Acceptors()
                self._know(session._acceptors)
                continue
            self._taken = 0
            stream = await self._wait(self._acceptors)
            if stream is not None:
                return stream  # type: ignore[return-value]

    async def _wait(self, acceptors: Acceptors) -> _AnyStream | None:
        """Wait in order for a stream; return None if the session has ended."""
        session = self.session
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
            stream = _take(session, self._bidirectional, self._unidirectional)
            if line.turns:
                acceptors.serve(session, self._unidirectional)  # callers that came meanwhile
            return stream
        bidi, uni = acceptors.bidirectional, acceptors.unidirectional
        bidi.leave(turn)
        uni.leave(turn)
        # A stream of the other kind may have arrived first.
        stream = _take(
            session,
            len(session._incoming_bidi or ()) > bidi.served,
            len(session._incoming_uni or ()) > uni.served,
        )
        acceptors.serve(session, False)
        acceptors.serve(session, True)
        return stream


def _take(
    session: WebTransportSession, bidirectional: bool, unidirectional: bool
) -> _AnyStream | None:
    """Take the stream of these kinds that arrived first, or return None."""
    bidi = session._incoming_bidi if bidirectional else None
    uni = session._incoming_uni if unidirectional else None
    stream: _AnyStream
    if bidi and (not uni or bidi[0]._arrival < uni[0]._arrival):
        stream = bidi.popleft()
    elif uni:
        stream = uni.popleft()
    else:
        return None
    stream._arrival = 0  # it belongs to the application now
    if session._close_info is not None:
        stream._session = session  # see _end_stream
    if stream._quic.is_closed:
        stream._check_done()
    return stream
