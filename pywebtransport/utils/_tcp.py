"""What all connections over TCP need."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

__all__ = ["abort", "release"]


def release(transport: asyncio.WriteTransport) -> None:
    """Close the socket of a connection whose event loop is closed, and with it its transport.

    A transport of asyncio can do nothing without its loop, so this looks behind it. Those of
    uvloop end with their loop.
    """
    outer: Any = transport
    protocol = getattr(outer, "_ssl_protocol", None)
    inner = outer if protocol is None else protocol._transport
    sock = getattr(inner, "_sock", None)
    if sock is not None:
        inner._sock = None  # otherwise it warns that it was not closed
        sock.close()
        if protocol is not None:
            outer._closed = True


def abort(transport: asyncio.WriteTransport) -> None:
    """Close a connection without sending what waits; does nothing if it is gone."""
    with contextlib.suppress(AttributeError):  # asyncio's TLS transport, when it is closed already
        transport.abort()
