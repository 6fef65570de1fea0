"""What carries the records of a connection: the protocol of a link."""

from __future__ import annotations

from typing import Protocol

from .._transport import SockAddr

__all__ = ["Link"]


class Link(Protocol):
    """A WebSocket, or another transport of whole records.

    It passes each record to ``QMuxConnection.receive``. After ``wants_to_send`` it calls
    ``next_record`` at the end of the turn, as often as it has room for more bytes, until that
    returns None. It calls ``handed_over`` when the kernel has taken bytes, and ``link_closed`` as
    the last call.
    """

    @property
    def local_address(self) -> SockAddr | None: ...
    @property
    def remote_address(self) -> SockAddr | None: ...
    @property
    def peer_certificate(self) -> bytes | None:
        """The certificate in DER form."""

    @property
    def server_name(self) -> str: ...
    @property
    def alpn(self) -> str: ...
    @property
    def unsent(self) -> int:
        """Bytes that were handed over and that the kernel has not taken."""

    def wants_to_send(self) -> None:
        """Call ``next_record`` at the end of this turn. Idempotent and cheap."""

    def close(self, code: int, reason: str = "") -> None:
        """Send what ``next_record`` still returns, and then a WebSocket Close.

        Args:
            code: Of the WebSocket Close.
            reason: Of the WebSocket Close.
        """

    def abort(self) -> None:
        """Drop the connection now, without sending anything."""

    def release(self) -> None:
        """Close the socket after the event loop was closed."""

    def pause_reading(self) -> None:
        """Read nothing from the socket until ``resume_reading``. Only for the legacy framing,
        which has no credit."""

    def resume_reading(self) -> None: ...

    def stats(self) -> dict[str, int | None]:
        """Counters by name, such as those of ``Transport.stats`` about packets and times."""
