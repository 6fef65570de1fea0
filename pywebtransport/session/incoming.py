"""Iterators over the streams that the peer opens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Self, TypeVar

from ..stream import WebTransportReceiveStream, WebTransportStream

if TYPE_CHECKING:
    from .session import WebTransportSession

__all__ = ["IncomingStreams"]

_StreamT = TypeVar("_StreamT", bound=WebTransportReceiveStream)


class IncomingStreams(Generic[_StreamT]):
    """Iterates over streams the peer opened; several iterators share the queues."""

    __slots__ = ("_bidirectional", "_session", "_unidirectional")

    def __init__(
        self, session: WebTransportSession, *, bidirectional: bool, unidirectional: bool
    ) -> None:
        self._session = session
        self._bidirectional = bidirectional
        self._unidirectional = unidirectional

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _StreamT:
        session = self._session
        while True:
            stream = _take(session, self._bidirectional, self._unidirectional)
            if stream is not None:
                return stream  # type: ignore[return-value]
            if session.is_closed:
                raise StopAsyncIteration
            await session._incoming_waiters.wait()


def drop_unread(session: WebTransportSession) -> None:
    """The session is over: of streams that nobody took, what did not come whole is worth nothing.

    They and the session hold each other, so their bytes would stay until the garbage collector
    comes by.
    """
    for streams in (session._incoming_bidi, session._incoming_uni):
        for stream in streams or ():
            if not stream._quic.fin_received:
                stream._quic.skip(stream._quic.buffered)


def _take(
    session: WebTransportSession, bidirectional: bool, unidirectional: bool
) -> WebTransportStream | WebTransportReceiveStream | None:
    """The stream of these kinds that came first, or None."""
    bidi = session._incoming_bidi if bidirectional else None
    uni = session._incoming_uni if unidirectional else None
    stream: WebTransportStream | WebTransportReceiveStream
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
