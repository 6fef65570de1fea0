"""The binding of the C engine: the only package that sees C."""

from __future__ import annotations

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
from .protocols import ConnectionHandler, GroupOwner, SockAddr, Waiter

__all__ = [
    "GNUTLS_VERSION",
    "NGTCP2_VERSION",
    "QLOG_SUPPORTED",
    "CloseInfo",
    "ConnectionHandler",
    "GroupOwner",
    "QuicConnection",
    "QuicEndpoint",
    "QuicGroup",
    "QuicSocket",
    "QuicStream",
    "QuicTls",
    "SockAddr",
    "Waiter",
    "live_objects",
]
