"""Sessions over WebSocket: from a TCP connection to a connection of the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._core.fallback import serve_over

if TYPE_CHECKING:
    import asyncio

    from ._accepting import Place
    from .server import WebTransportServer

__all__ = ["make_link"]


def make_link(server: WebTransportServer, place: Place) -> asyncio.Protocol:
    """The protocol of a TCP connection whose first request asks for a session.

    Args:
        server: Gets the session.
        place: Of the connection.
    """
    raise NotImplementedError(serve_over)
