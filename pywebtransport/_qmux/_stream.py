"""One stream of a QMux connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._quic import PlainStream

if TYPE_CHECKING:
    from ._connection import QMuxConnection

__all__ = ["QMuxStream"]

_Buffer = bytes | bytearray | memoryview


class QMuxStream(PlainStream):
    """A stream: received bytes are kept by the base class, bytes to send here.

    Attributes:
        connection: The connection.
        queued: Bytes accepted but not in a record yet.
    """

    __slots__ = ("connection", "queued")

    connection: QMuxConnection
    queued: int

    @property
    def is_crowded(self) -> bool:
        """All streams together have too much queued."""
        raise NotImplementedError

    @property
    def unacked(self) -> int:
        """Bytes in records that the kernel has not taken."""
        raise NotImplementedError

    def write(self, data: _Buffer, fin: bool = False) -> int:
        """Queue bytes; returns ``queued`` after it. Raises as ``Stream.write``."""
        raise NotImplementedError

    def reset(self, code: int) -> None:
        """Send RESET_STREAM, or RESET_STREAM_AT after ``set_reliable_size`` if the peer can."""
        raise NotImplementedError

    def stop_sending(self, code: int) -> None:
        raise NotImplementedError

    def hold_for(self, until: QMuxStream) -> None:
        raise NotImplementedError

    def set_reliable_size(self, n: int) -> None:
        raise NotImplementedError

    def set_send_order(self, order: int) -> None:
        """Streams with a higher order send first."""
        raise NotImplementedError

    def join_group(self, group: Any, send_header: int, recv_header: int) -> None:
        """Nothing to do: the credit of a session is that of the connection."""

    def open_in(self, group: Any, header: bytes) -> None:
        """Tell the peer of a new stream of this end; ``header`` is written (may be empty)."""
        raise NotImplementedError

    def accept_in(self, group: Any, header_size: int) -> None:
        raise NotImplementedError
