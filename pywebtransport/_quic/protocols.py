"""Shapes of the objects that the binding calls: handlers, group owners, waiters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ._core import CloseInfo, QuicStream

__all__ = ["ConnectionHandler", "GroupOwner", "SockAddr", "Waiter"]

SockAddr = tuple[str, int]


class Waiter(Protocol):
    """What a stream wakes: an ``asyncio.Future``, or anything shaped like one."""

    def done(self) -> bool: ...
    def set_result(self, result: None, /) -> None: ...


class ConnectionHandler(Protocol):
    """Facts about one connection.

    Called only in the deliver phase, never under an engine frame: a handler may
    do anything, closing the endpoint included. What it raises goes to the
    endpoint's ``on_error`` and stops nobody else.
    """

    def handshake_completed(self) -> None: ...

    def connection_closed(self, info: CloseInfo) -> None:
        """Last call; ``connection.handler`` is None from here on."""

    def stream_ready(self, stream: QuicStream) -> None:
        """Default sink of streams that the peer opened, until ``stream.sink`` is set."""

    def datagrams_received(self, datagrams: list[bytes]) -> None:
        """All datagrams of one turn, in order of arrival."""

    def streams_available(self, unidirectional: bool) -> None:
        """The peer allows more streams of this kind."""

    def datagram_writable(self) -> None:
        """The queue fell to half after ``send_datagram`` returned False."""

    def path_changed(self, validated: bool) -> None:
        """The path changed; False: a migration that we asked for failed."""

    def session_ticket(self, ticket: bytes) -> None: ...
    def new_token(self, token: bytes) -> None: ...


class GroupOwner(Protocol):
    """Who hears about the credit of a group."""

    def group_blocked(self, limit: int) -> None:
        """Bytes wait for ``send_limit``; once per limit."""

    def group_violated(self, received: int, limit: int) -> None:
        """The peer sent more than ``recv_limit``; once per limit."""

    def group_credit_due(self) -> None:
        """Consumed since ``recv_limit`` was set: at least ``credit_threshold`` bytes."""
