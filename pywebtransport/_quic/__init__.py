"""The binding of the C engine: the only package that sees C."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._core import (
    GNUTLS_VERSION,
    NGTCP2_VERSION,
    QLOG_SUPPORTED,
    CloseInfo,
    QuicConnection,
    QuicEndpoint,
    QuicGroup,
    QuicSocket,
    QuicStream,
    QuicTls,
    live_objects,
)

if TYPE_CHECKING:
    from ._core import ConnectionHandler, GroupOwner, SockAddr, Waiter

__all__ = [
    "GNUTLS_VERSION",
    "NGTCP2_VERSION",
    "QLOG_SUPPORTED",
    "CloseInfo",
    "QuicConnection",
    "QuicEndpoint",
    "QuicGroup",
    "QuicSocket",
    "QuicStream",
    "QuicTls",
    "live_objects",
]

if TYPE_CHECKING:
    __all__ += ["ConnectionHandler", "GroupOwner", "SockAddr", "Waiter"]
