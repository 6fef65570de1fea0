"""The binding of the C engine: the only package that sees C.

An extension that cannot be loaded raises an ImportError that says what to do about it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .missing import check_versions, explained

try:
    from ._core import (
        GNUTLS_VERSION,
        NGTCP2_BUILD_VERSION,
        NGTCP2_VERSION,
        QLOG_SUPPORTED,
        STREAMS_AT_ONCE,
        CloseInfo,
        ConnectionPort,
        DatagramPort,
        DatagramQueuePort,
        DatagramRoutes,
        EagerTurn,
        IncomingPort,
        PlainStream,
        QuicConnection,
        QuicEndpoint,
        QuicGroup,
        QuicSocket,
        QuicStream,
        QuicTls,
        SessionPort,
        StreamPort,
        StreamRoutes,
        TransportStream,
        held_by_connections,
        library_bytes,
        live_objects,
        unread_bytes,
        watch_memory,
    )
except ImportError as error:
    raise explained(error) from error
from .._transport import ConnectionHandler, GroupOwner, SockAddr, Waiter

check_versions({"ngtcp2": NGTCP2_VERSION, "GnuTLS": GNUTLS_VERSION}, NGTCP2_BUILD_VERSION)

__all__ = [
    "GNUTLS_VERSION",
    "NGTCP2_VERSION",
    "QLOG_SUPPORTED",
    "STREAMS_AT_ONCE",
    "CloseInfo",
    "ConnectionHandler",
    "ConnectionPort",
    "DatagramPort",
    "DatagramQueuePort",
    "DatagramRoutes",
    "EagerTurn",
    "GroupOwner",
    "IncomingPort",
    "PlainStream",
    "QuicConnection",
    "QuicEndpoint",
    "QuicGroup",
    "QuicSocket",
    "QuicStream",
    "QuicTls",
    "SessionPort",
    "SockAddr",
    "StreamPort",
    "StreamRoutes",
    "TransportStream",
    "Waiter",
    "held_by_connections",
    "library_bytes",
    "live_objects",
    "unread_bytes",
    "watch_memory",
]

if TYPE_CHECKING:
    from .._transport import CloseInfo as CloseInfoShape
    from .._transport import Group, Stream, Transport

    def _shapes(
        connection: QuicConnection, stream: QuicStream, group: QuicGroup, info: CloseInfo
    ) -> tuple[Transport, Stream, Group, CloseInfoShape]:
        """Let mypy check that the classes of the binding match these protocols."""
        return connection, stream, group, info
