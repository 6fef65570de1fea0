"""Critical streams (RFC 9114 section 6.2): they must stay open as long as the connection."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from .._transport import Stream
from ..exceptions import StreamError
from ._constants import H3Error
from ._errors import H3ConnectionError
from ._parts import Connection

__all__ = ["LocalCritical", "PeerCritical", "read_piece"]

_CHUNK = 65536


def read_piece(stream: Stream, size: int = _CHUNK) -> bytes | None:
    """Read from a stream of the peer, even after its reset or the end of the connection.

    Returns:
        At most ``size`` bytes; ``b""`` at the FIN; None if nothing is available.
    """
    if not stream.is_reset and (stream.fin_received or not stream.is_closed):
        return stream.read(size)
    data = stream.peek(size)  # the stream can no longer be read normally
    stream.skip(len(data))
    return data or None


class LocalCritical:
    """One of our critical streams.

    Args:
        connection: What it belongs to.
        stream: The stream; its ``sink`` is :meth:`ready`.
    """

    __slots__ = ("_connection", "_stream")

    def __init__(self, connection: Connection, stream: Stream) -> None:
        self._connection = connection
        self._stream = stream

    def write(self, data: bytes) -> None:
        """Write QPACK instructions; nothing when the connection has ended.

        Raises:
            H3ConnectionError: the peer does not read them.
        """
        limit = self._connection.options.max_capsule_backlog
        if not data:
            return
        try:
            queued = self._stream.write(data)
        except StreamError:
            return  # stopped, or the connection ended: news of it follows
        if queued > limit:
            raise H3ConnectionError(H3Error.EXCESSIVE_LOAD, "the peer does not read QPACK streams")

    def ready(self, stream: Stream) -> None:
        """The stream has news."""
        self._connection.guard(self._check, stream)

    def _check(self, stream: Stream) -> None:
        if stream.is_stopped:
            raise H3ConnectionError(
                H3Error.CLOSED_CRITICAL_STREAM, "the peer stopped one of our critical streams"
            )


class PeerCritical:
    """One of the peer's critical streams.

    Args:
        connection: What it belongs to.
        name: For error messages.
        take: Handles bytes; returns False if it must continue in a later turn, before more.
        chunk: How many bytes it gets at most at once.
    """

    __slots__ = ("_chunk", "_connection", "_name", "_take", "_waits")

    def __init__(
        self,
        connection: Connection,
        name: str,
        take: Callable[[bytes], bool],
        chunk: int = _CHUNK,
    ) -> None:
        self._connection = connection
        self._name = name
        self._take = take
        self._chunk = chunk
        self._waits = False  # for a later turn

    def ready(self, stream: Stream) -> None:
        """The stream has news."""
        self._connection.guard(self.read, stream)

    def read(self, stream: Stream) -> None:
        """Read the stream, as far as the turn allows; it must never end.

        Raises:
            H3ConnectionError: it ended, or its data breaks a rule.
        """
        while not self._waits and not stream.is_reset:
            if self._connection.is_closed:
                return
            data = read_piece(stream, self._chunk)
            if data is None:
                return
            if not data:
                break
            if not self._take(data):
                self._put_off(stream)
        if self._waits:
            return
        raise H3ConnectionError(
            H3Error.CLOSED_CRITICAL_STREAM, f"the peer closed its {self._name} stream"
        )

    def _put_off(self, stream: Stream) -> None:
        self._waits = True
        self._connection.later(partial(self._go_on, stream))

    def _go_on(self, stream: Stream) -> None:
        self._waits = False
        if self._take(b""):
            self.read(stream)
        else:
            self._put_off(stream)
