"""Streams that the peer opens, until the application takes them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from ..stream import WebTransportReceiveStream, WebTransportStream
from ..utils.waiters import Line, Turn, require_loop

if TYPE_CHECKING:
    from .session import WebTransportSession

__all__ = ["Acceptors", "IncomingStreams"]

_AnyStream = WebTransportStream | WebTransportReceiveStream
_Kinds = tuple[bool, bool]  # bidirectional ones, unidirectional ones
_StreamT = TypeVar("_StreamT", bound=WebTransportReceiveStream)


class Acceptors:
    """Who waits for streams of the peer: in the order of coming, whichever kinds they want.

    Args:
        session: Whose streams they are.
    """

    __slots__ = ("_lines", "_session")

    def __init__(self, session: WebTransportSession) -> None:
        self._session = session
        self._lines = (Line(), Line())  # by bool(unidirectional); some stand in both

    def are_before(self, wanted: _Kinds) -> bool:
        """Others have a claim to streams of one of these kinds."""
        return any(want and line for want, line in zip(wanted, self._lines, strict=True))

    def serve(self, unidirectional: bool) -> None:
        """Tell those who can have a stream of this kind."""
        line = self._lines[unidirectional]
        while self._has_more(unidirectional) and line.serve():
            pass

    def end(self) -> None:
        """The session is over: nobody waits any more."""
        for line in self._lines:
            line.serve_all()

    async def wait(self, wanted: _Kinds) -> _AnyStream | None:
        """Stand in line for a stream; None: the session is over."""
        session, lines = self._session, self._lines
        loop = asyncio.get_running_loop()
        require_loop(session._loop, loop)
        turn: Turn = loop.create_future()
        served = False
        try:
            for want, line in zip(wanted, lines, strict=True):
                if want:
                    line.join(turn)
            self.serve(False)
            self.serve(True)
            await turn
            served = True
        finally:
            for line in lines:
                line.leave(turn)
            if not served:
                self.serve(False)
                self.serve(True)
        bidirectional, unidirectional = wanted
        stream = _take(
            session,
            bidirectional and self._has_more(False),
            unidirectional and self._has_more(True),
        )
        if bidirectional and unidirectional:  # it may be one of the other kind that came first
            self.serve(False)
            self.serve(True)
        return stream

    def _has_more(self, unidirectional: bool) -> bool:
        """There are streams that nobody was told of yet."""
        session = self._session
        streams = session._incoming_uni if unidirectional else session._incoming_bidi
        return streams is not None and len(streams) > self._lines[unidirectional].served


class IncomingStreams(Generic[_StreamT]):
    """Iterates over streams the peer opened; several iterators share the queues, in turn."""

    __slots__ = ("_session", "_wanted")

    def __init__(
        self, session: WebTransportSession, *, bidirectional: bool, unidirectional: bool
    ) -> None:
        self._session = session
        self._wanted = (bidirectional, unidirectional)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _StreamT:
        session = self._session
        acceptors = session._acceptors
        while True:
            if session.is_closed or acceptors is None or not acceptors.are_before(self._wanted):
                stream = _take(session, *self._wanted)
                if stream is not None:
                    return stream  # type: ignore[return-value]
                if session.is_closed:
                    raise StopAsyncIteration
            if acceptors is None:
                acceptors = session._acceptors = Acceptors(session)
            stream = await acceptors.wait(self._wanted)
            if stream is not None:
                return stream  # type: ignore[return-value]


def _take(
    session: WebTransportSession, bidirectional: bool, unidirectional: bool
) -> _AnyStream | None:
    """The stream of these kinds that came first, or None."""
    bidi = session._incoming_bidi if bidirectional else None
    uni = session._incoming_uni if unidirectional else None
    stream: _AnyStream
    if bidi and (not uni or bidi[0]._arrival < uni[0]._arrival):
        stream = bidi.popleft()
    elif uni:
        stream = uni.popleft()
    else:
        return None
    stream._arrival = 0  # it is the application's
    if stream._quic.is_closed:
        stream._check_done()
    return stream
