"""What all connections over TCP need."""

from __future__ import annotations

import asyncio
import contextlib

__all__ = ["abort"]


def abort(transport: asyncio.WriteTransport) -> None:
    """Close a connection without sending what waits; does nothing if it is gone."""
    with contextlib.suppress(AttributeError):  # asyncio's TLS transport, when it is closed already
        transport.abort()
