"""What the HTTP/3 layer needs from below: the shape of a QUIC connection.

The compiled classes ``QuicConnection``, ``QuicStream`` and ``QuicGroup`` have
this shape; tests put an in-memory connection in their place. The HTTP/3 layer
does no I/O, starts no task, and asks for time only through ``CallLater`` and ``Turns``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["CallLater", "Group", "GroupOwner", "QuicTransport", "Stream", "TimerHandle", "Turns"]


class TimerHandle(Protocol):
    def cancel(self) -> None: ...


class CallLater(Protocol):
    """``call_later(seconds, callback, *args)`` -> handle; the shape of ``loop.call_later``."""

    def __call__(
        self, delay: float, callback: Callable[..., object], /, *args: Any
    ) -> TimerHandle: ...


class Turns(Protocol):
    """Shares the time of the event loop; the shape of ``utils.turns.Turns``."""

    @property
    def is_over(self) -> bool:
        """Others have to have their turn now."""

    def later(self, work: Callable[[], object]) -> None:
        """Go on with ``work`` in a later turn."""


class GroupOwner(Protocol):
    """Who hears about the credit of a group (one WebTransport session)."""

    def group_blocked(self, limit: int) -> None: ...
    def group_violated(self, received: int, limit: int) -> None: ...
    def group_credit_due(self) -> None: ...


class Group(Protocol):
    """Streams of one session that share send and receive credit; ``None`` is no limit."""

    send_limit: int | None
    recv_limit: int | None
    datagram_limit: int | None
    credit_threshold: int

    def stats(self) -> dict[str, int | None]: ...
    def clear_datagrams(self) -> int: ...
    def close(self) -> None: ...


class Stream(Protocol):
    """One QUIC stream; see ``_quic/_core.pyi`` for the full contract of each member."""

    sink: Callable[[Any], object] | None
    on_closed: Callable[[Any], object] | None
    tag: Any

    @property
    def stream_id(self) -> int: ...
    @property
    def is_unidirectional(self) -> bool: ...
    @property
    def is_local(self) -> bool: ...
    @property
    def is_closed(self) -> bool: ...
    @property
    def buffered(self) -> int: ...
    @property
    def fin_received(self) -> bool: ...
    @property
    def at_eof(self) -> bool: ...
    @property
    def is_reset(self) -> bool: ...
    @property
    def reset_code(self) -> int | None: ...
    @property
    def is_stopped(self) -> bool: ...
    @property
    def stop_code(self) -> int | None: ...
    def peek(self, n: int) -> bytes: ...
    def skip(self, n: int) -> None: ...
    def read(self, n: int = -1) -> bytes | None: ...
    def write(self, data: bytes, fin: bool = False) -> int: ...
    def hold_for(self, until: Any) -> None: ...  # until: Stream
    def set_reliable_size(self, n: int) -> None: ...
    def set_send_order(self, order: int) -> None: ...
    def reset(self, code: int) -> None: ...
    def stop_sending(self, code: int) -> None: ...
    def join_group(self, group: Any, send_header: int, recv_header: int) -> None: ...
    def release(self) -> None: ...


class QuicTransport(Protocol):
    """One QUIC connection."""

    @property
    def is_closed(self) -> bool: ...
    def open_stream(self, unidirectional: bool) -> Any: ...  # Stream | None
    def streams_left(self, unidirectional: bool) -> int: ...
    @property
    def max_datagram_size(self) -> int: ...
    @property
    def peer_max_datagram_frame_size(self) -> int: ...
    def send_datagram(
        self,
        prefix: bytes,
        data: bytes | bytearray | memoryview,
        group: Any = None,
        priority: int = 0,
        deadline: int | None = None,
    ) -> bool: ...
    def close(self, code: int, reason: str = "", *, application: bool = True) -> None: ...
    def new_group(self, owner: GroupOwner) -> Any: ...  # Group
    def export_keying_material(self, label: bytes, context: bytes, length: int) -> bytes: ...
