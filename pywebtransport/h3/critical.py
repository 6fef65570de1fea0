"""Critical streams (RFC 9114 section 6.2): as long as the connection lives, they do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .constants import H3Error
from .errors import H3ConnectionError
from .transport import Stream

if TYPE_CHECKING:
    from .connection import H3Connection

__all__ = ["LocalCritical", "PeerCritical"]

_CHUNK = 65536


class LocalCritical:
    """One of our critical streams.

    Args:
        connection: What it belongs to.
        stream: The stream; its ``sink`` is :meth:`ready`.
    """

    __slots__ = ("_connection", "_stream")

    def __init__(self, connection: H3Connection, stream: Stream) -> None:
        self._connection = connection
        self._stream = stream

    def write(self, data: bytes) -> None:
        """Write QPACK instructions.

        Raises:
            H3ConnectionError: the peer does not read them.
        """
        limit = self._connection.options.max_capsule_backlog
        if data and self._stream.write(data) > limit:
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
        feed: Takes the bytes.
    """

    __slots__ = ("_connection", "_feed", "_name")

    def __init__(
        self, connection: H3Connection, name: str, feed: Callable[[bytes], object]
    ) -> None:
        self._connection = connection
        self._name = name
        self._feed = feed

    def ready(self, stream: Stream) -> None:
        """The stream has news."""
        self._connection.guard(self.read, stream)

    def read(self, stream: Stream) -> None:
        """Read all that the stream holds; it must never end.

        Raises:
            H3ConnectionError: it ended, or what it says breaks a rule.
        """
        while not stream.is_reset:
            if self._connection.is_closed:
                return
            data = stream.read(_CHUNK)
            if data is None:
                return
            if not data:
                break
            self._feed(data)
        raise H3ConnectionError(
            H3Error.CLOSED_CRITICAL_STREAM, f"the peer closed its {self._name} stream"
        )
