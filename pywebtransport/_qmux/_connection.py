"""One QMux connection: frames in, frames out, and the events between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._quic import CloseInfo
from .._transport import CallLater, ConnectionHandler, Group, GroupOwner, SockAddr, Turns
from ._limits import QMuxLimits
from ._link import Link
from ._stream import QMuxStream

__all__ = ["QMuxConnection"]

_Buffer = bytes | bytearray | memoryview


class QMuxConnection:
    """A transport over a link; satisfies ``Transport``.

    Args:
        link: Carries the records.
        limits: Limits and times.
        is_client: Which half of the stream IDs is ours.
        call_later: Starts timers.
        turns: Tells when other work gets its turn.
        on_error: Gets exceptions of handlers, sinks and waiters.

    Attributes:
        handler: Receives the events; None once the connection is closed. Set it before ``start``.
        on_ready: Called once when the parameters of the peer have arrived, before other events
            (with the legacy framing: by ``start``).
        on_drain: Called when the peer asks to end the session soon.
    """

    handler: ConnectionHandler | None
    on_ready: Callable[[], object] | None
    on_drain: Callable[[], object] | None

    def __init__(
        self,
        link: Link,
        limits: QMuxLimits,
        *,
        is_client: bool,
        call_later: CallLater,
        turns: Turns,
        on_error: Callable[[BaseException], object],
    ) -> None:
        raise NotImplementedError

    def start(self, draft: int) -> None:
        """Send the parameters; frames are accepted from now on.

        Args:
            draft: 1 or 2; 0: the legacy framing ``webtransport``.
        """
        raise NotImplementedError

    # What the link calls.

    def receive(self, record: bytes) -> None:
        """Process the frames of one record, and deliver what they bring. Never raises."""
        raise NotImplementedError

    def too_large(self) -> None:
        """A record is larger than ``limits.max_record_size``: FRAME_ENCODING_ERROR, Close 1009."""
        raise NotImplementedError

    def text_received(self) -> None:
        """A text message arrived: PROTOCOL_VIOLATION, Close 1003."""
        raise NotImplementedError

    def next_record(self) -> bytes | None:
        """Return the next record to send; None: there is none."""
        raise NotImplementedError

    def handed_over(self) -> None:
        """``link.unsent`` fell, or everything was taken at once."""
        raise NotImplementedError

    def link_closed(self, *, error: BaseException | None = None) -> None:
        """The link is gone; the last call.

        Args:
            error: Why; None if the other end closed it.
        """
        raise NotImplementedError

    # Transport: facts.

    @property
    def is_closed(self) -> bool:
        raise NotImplementedError

    @property
    def close_info(self) -> CloseInfo | None:
        raise NotImplementedError

    @property
    def local_address(self) -> SockAddr | None:
        raise NotImplementedError

    @property
    def remote_address(self) -> SockAddr | None:
        raise NotImplementedError

    @property
    def peer_certificate(self) -> bytes | None:
        raise NotImplementedError

    @property
    def alpn(self) -> str:
        raise NotImplementedError

    @property
    def server_name(self) -> str:
        raise NotImplementedError

    @property
    def resumed(self) -> bool:
        """Always False: the parameters of an earlier connection are not used."""
        return False

    @property
    def draft(self) -> int:
        """As given to ``start``."""
        raise NotImplementedError

    def stats(self) -> dict[str, int | None]:
        """Counters by the names of a QUIC connection; None: not known over TCP."""
        raise NotImplementedError

    # Transport: streams and datagrams.

    def open_stream(self, unidirectional: bool) -> QMuxStream | None:
        raise NotImplementedError

    def take_greeting(self) -> None:
        """There is no HTTP/3 here."""
        return None

    def streams_left(self, unidirectional: bool) -> int:
        raise NotImplementedError

    def new_group(self, owner: GroupOwner) -> Group:
        """The one session of the connection: its counters are those of the connection."""
        raise NotImplementedError

    @property
    def max_datagram_size(self) -> int:
        raise NotImplementedError

    @property
    def peer_max_datagram_frame_size(self) -> int:
        raise NotImplementedError

    @property
    def datagrams_queued(self) -> int:
        raise NotImplementedError

    def send_datagram(
        self,
        prefix: bytes,
        data: _Buffer,
        group: Any = None,
        priority: int = 0,
        deadline: int | None = None,
    ) -> bool:
        """As ``Transport.send_datagram``. What is in a record arrives: only the queue drops."""
        raise NotImplementedError

    # Transport: the rest.

    def export_keying_material(self, label: bytes, context: bytes, length: int) -> bytes:
        """Raises ConnectionError: not available."""
        raise NotImplementedError

    def initiate_key_update(self, now: int) -> None:
        """Raises ConnectionError: not available."""
        raise NotImplementedError

    def migrate(self, sock: Any, local: tuple[Any, ...], now: int) -> None:
        """Raises ConnectionError: not available."""
        raise NotImplementedError

    def send_drain(self) -> bool:
        """Ask the peer to end the session soon; False: it would not understand."""
        raise NotImplementedError

    def close(self, code: int, reason: str = "", *, application: bool = True) -> None:
        """Send CONNECTION_CLOSE, and close the link. Data that still waits is dropped."""
        raise NotImplementedError

    def abandon(self) -> None:
        raise NotImplementedError
