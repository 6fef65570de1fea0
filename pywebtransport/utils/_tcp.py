"""What all connections over TCP need."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

__all__ = ["abort", "release"]


def release(transport: asyncio.WriteTransport) -> None:
    """Close the socket of a connection whose event loop is closed, and with it its transport.

    A transport of asyncio can do nothing without its loop, and has no public way to be given up, so
    this changes its attributes, where they are as expected. Those of uvloop end with their loop.
    """
    outer = _attributes(transport)
    tls = outer.get("_ssl_protocol")
    inner = outer if tls is None else _attributes(_attributes(tls).get("_transport"))
    sock = inner.get("_sock")
    if isinstance(sock, socket.socket):
        inner["_sock"] = None  # otherwise it warns that it was not closed
        sock.close()
        if tls is not None:
            outer["_closed"] = True


def _attributes(thing: object) -> dict[str, Any]:
    return getattr(thing, "__dict__", {})


def abort(transport: asyncio.WriteTransport) -> None:
    """Close a connection without sending what waits; does nothing if it is gone."""
    with contextlib.suppress(AttributeError):  # asyncio's TLS transport, when it is closed already
        transport.abort()
