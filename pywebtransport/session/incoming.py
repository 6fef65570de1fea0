"""Iterators over the streams that the peer opens."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from ..stream import WebTransportReceiveStream, WebTransportStream

if TYPE_CHECKING:
    from .._quic import QuicStream
    from .session import WebTransportSession

__all__ = ["IncomingStreams", "arrived"]

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


def arrived(
    session: WebTransportSession, quic: QuicStream, unidirectional: bool
) -> WebTransportStream | WebTransportReceiveStream:
    """Queue a stream that the peer opened."""
    session._arrivals = arrival = session._arrivals + 1
    if unidirectional:
        if session._incoming_uni is None:
            session._incoming_uni = deque()
        one_way = WebTransportReceiveStream._attach(session, quic, arrival)
        session._incoming_uni.append(one_way)
        return one_way
    if session._incoming_bidi is None:
        session._incoming_bidi = deque()
    two_way = WebTransportStream._attach(session, quic, arrival)
    session._incoming_bidi.append(two_way)
    return two_way


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
