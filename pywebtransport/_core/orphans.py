"""Streams that the application dropped before they had ended."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, TypeAlias
from weakref import ref

from ..utils._checks import validate_stream_id
from ..utils._logs import shared_log
from ..utils._text import printable
from ..utils._waiters import running_loop

if TYPE_CHECKING:
    from .._states import StreamId
    from .._transport import Stream
    from .receive_stream import WebTransportReceiveStream
    from .send_stream import WebTransportSendStream
    from .session import WebTransportSession
    from .stream import WebTransportStream
    from .stream_base import _StreamBase

__all__ = ["Orphans", "get_stream", "open_streams"]

_AnyStream: TypeAlias = "WebTransportStream | WebTransportReceiveStream | WebTransportSendStream"

# If nobody reads an answer, its sender is told to stop after this many bytes.
_MAX_UNREAD = 65536


class Orphans:
    """Keeps dropped streams until they end, and ends those that nothing else would end.

    A session refers to its streams weakly: they are kept alive by their users. Usually a
    stream is dropped when both halves have ended and only an acknowledgement is missing, or
    when the peer has not ended its half yet; then it waits here. But if only the sending half
    is left and nobody has a reference to it, it would stay open as long as the session, and
    count towards the stream limit. If something was written on it, it is finished, and the
    data still arrives. If nothing was written, or if the peer reset its half, it is reset with
    code 0. Incoming data without a reader is dropped, and stopped with code 0 if there is
    much of it; then that half has ended, too.

    A stream that has listeners, or that the application looked up by its ID again, stays as it
    is.

    Attributes:
        streams: The streams that are kept.
        count: How many streams were ended here.
    """

    __slots__ = ("_fresh", "_loop", "_session", "_told", "count", "streams")

    def __init__(self, session: WebTransportSession, loop: asyncio.AbstractEventLoop) -> None:
        # Weak, or the session would live until the garbage collector runs.
        self._session = ref(session)
        self._loop = loop
        self._fresh: list[_StreamBase] = []
        self.streams: set[_StreamBase] = set()
        self._told = False
        self.count = 0

    def adopt(self, stream: _StreamBase) -> None:
        """Keep a stream from now on.

        The garbage collector calls this at any time, in any thread, even while the engine is
        working: the rest has to wait for a turn of the event loop.
        """
        fresh = self._fresh
        fresh.append(stream)
        if len(fresh) > 1:
            return
        try:
            if running_loop() is self._loop:
                self._loop.call_soon(self.settle)
            else:
                self._loop.call_soon_threadsafe(self.settle)
        except RuntimeError:  # the loop is closed, and the engine with it
            fresh.clear()

    def settle(self) -> None:
        """Take over the streams that were dropped since the last call."""
        fresh, self._fresh = self._fresh, []
        session = self._session()
        for stream in fresh:
            if session is None or session.close_info is not None:
                return
            if stream._done:  # meanwhile
                continue
            quic = stream._quic
            self.streams.add(stream)
            if not stream._has_owner():
                if quic.sink is None:
                    quic.sink = _has_news
                self.judge(stream)

    def judge(self, stream: _StreamBase) -> None:
        """Check whether this end has to end what is left of a stream, and end it."""
        quic = stream._quic
        quiet = stream._is_one_way()
        if quic.fin_received or quic.buffered > _MAX_UNREAD:
            stream._discard()
        if stream._is_orphan():
            self.count += 1
            if not quiet:
                self._tell(stream)
            stream._abandon()
        stream._check_done()

    def holds(self, stream: _StreamBase) -> bool:
        """Return whether only the session keeps this stream alive."""
        return stream in self.streams

    def release(self, stream: _StreamBase) -> None:
        """The application has the stream again; leave it alone until it ends."""
        if stream in self.streams and stream._quic.sink is _has_news:
            stream._quic.sink = None

    def clear(self) -> set[_StreamBase]:
        """The session and its streams have ended; return the streams that were kept."""
        self._fresh.clear()
        held, self.streams = self.streams, set()
        return held

    def _tell(self, stream: _StreamBase) -> None:
        session = self._session()
        if not self._told and session is not None:
            self._told = True
            shared_log(session._logger).tell(
                "dropped stream",
                logging.WARNING,
                "session %s (%s): stream %d was dropped with its sending half open and is "
                "ended; further ones are only counted",
                session.session_id,
                printable(session.path),
                stream.stream_id,
            )


def get_stream(session: WebTransportSession, stream_id: StreamId) -> _AnyStream | None:
    """Return the open stream with this ID, or None.

    Args:
        session: The session.
        stream_id: QUIC stream ID.
    """
    validate_stream_id(stream_id)
    orphans = session._orphans
    if orphans is not None:
        # It may have been dropped in this very turn; then it must not be taken over afterwards.
        orphans.settle()
    stream: _AnyStream | None = session._find_stream(stream_id)
    if stream is not None and orphans is not None:
        orphans.release(stream)
    return stream


def open_streams(session: WebTransportSession) -> list[_AnyStream]:
    """Return the open streams of both ends, in the order in which they were opened."""
    if session._orphans is not None:
        session._orphans.settle()
    return list(session._streams.values())


def _has_news(quic: Stream) -> None:
    """Data, an end, a reset or a stop arrived on a dropped stream (deliver phase)."""
    stream = None if quic.tag is None else quic.tag()
    orphans = None if stream is None else stream.session._orphans
    if orphans is not None:
        orphans.judge(stream)
