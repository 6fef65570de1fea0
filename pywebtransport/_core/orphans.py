"""Streams that the application dropped before they were over."""

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

# Bytes of an answer that nobody reads before its sender is told to stop.
_MAX_UNREAD = 65536


class Orphans:
    """Holds dropped streams to their end, and ends those that nobody else would end.

    A session holds its streams weakly: a stream belongs to whoever uses it. Usually one is
    dropped when both halves are over and only an acknowledgement is missing, or when the
    peer has not ended its half yet; then it waits here. But a sending half that nobody holds,
    of a stream whose other half is over, would stay open for the life of the session, and
    cost the peer one stream of its limit. It is finished when something was written on it,
    which still arrives; it is reset with code 0 when nothing was, or when the peer reset its
    half. What arrives for nobody is dropped, and stopped with code 0 when it is much; then
    that half is over, too.

    A stream with listeners is theirs: it stays as it is. So does one that the application
    asks for by its ID again.

    Attributes:
        streams: Those that are held.
        count: Streams that were ended here.
    """

    __slots__ = ("_fresh", "_loop", "_session", "_told", "count", "streams")

    def __init__(self, session: WebTransportSession, loop: asyncio.AbstractEventLoop) -> None:
        # Weakly, or the session would outlive its end until the garbage collector comes.
        self._session = ref(session)
        self._loop = loop
        self._fresh: list[_StreamBase] = []
        self.streams: set[_StreamBase] = set()
        self._told = False
        self.count = 0

    def adopt(self, stream: _StreamBase) -> None:
        """Hold a stream from now on.

        The garbage collector calls this at any moment, in any thread, in the middle of the
        engine's work too: the rest has to wait for a turn of the event loop.
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
        """Take over what was dropped since the last time."""
        fresh, self._fresh = self._fresh, []
        session = self._session()
        for stream in fresh:
            if session is None or session.close_info is not None:
                return
            if stream._done:  # meanwhile
                continue
            quic = stream._quic
            # The garbage collector cleared the references before it let go of the stream.
            session._streams[quic.stream_id] = quic.tag = ref(stream)
            self.streams.add(stream)
            if not stream._has_owner():
                if quic.sink is None:
                    quic.sink = _has_news
                self.judge(stream)

    def judge(self, stream: _StreamBase) -> None:
        """See whether this end has to end what is left of a stream."""
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
        """Nobody but the session has this stream."""
        return stream in self.streams

    def release(self, stream: _StreamBase) -> None:
        """The application has the stream again; it stays until it is over."""
        if stream in self.streams and stream._quic.sink is _has_news:
            stream._quic.sink = None

    def clear(self) -> set[_StreamBase]:
        """The session is over, and every stream with it; returns those that were held."""
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
    """The open stream with an ID; None if there is none.

    Args:
        session: Which.
        stream_id: QUIC stream ID.
    """
    validate_stream_id(stream_id)
    reference = session._streams.get(stream_id)
    stream = None if reference is None else reference()
    if stream is not None and session._orphans is not None:
        session._orphans.release(stream)
    return stream


def open_streams(session: WebTransportSession) -> list[_AnyStream]:
    """The streams of both ends that are not over, in the order in which they were opened."""
    if session._orphans is not None:
        session._orphans.settle()
    return [s for reference in session._streams.values() if (s := reference()) is not None]


def _has_news(quic: Stream) -> None:
    """Data, an end, a reset or a stop came on a stream that nobody holds (deliver phase)."""
    stream = None if quic.tag is None else quic.tag()
    orphans = None if stream is None else stream.session._orphans
    if orphans is not None:
        orphans.judge(stream)
