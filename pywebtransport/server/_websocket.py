"""Sessions over WebSocket: the connections that become one, from their request to their end."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from .._core.fallback import qmux_limits, serve_over
from .._loop import LinkOptions, ServerLink
from .._qmux._names import offers_qmux
from ..connection import WebTransportConnection

if TYPE_CHECKING:
    from ..config import ServerConfig
    from ._accepting import Place

__all__ = ["Links"]

# Seconds for the event loop to report that a connection was cut.
_LAST_TURNS = 1.0


class Links:
    """The WebSockets of a server.

    Args:
        config: Returns the configuration in force.
        take_over: Called with each new connection, before its session is requested.
    """

    def __init__(
        self,
        config: Callable[[], ServerConfig],
        take_over: Callable[[WebTransportConnection], object],
    ) -> None:
        self._config = config
        self._take_over = take_over
        self._open: set[ServerLink] = set()
        self._all_gone = asyncio.Event()

    def make(self, place: Place) -> asyncio.Protocol:
        """The protocol of a TCP connection whose first request asks for a session.

        Args:
            place: Of the connection.
        """
        config = self._config()

        def ended(link: ServerLink) -> None:
            place.leave()
            self._open.discard(link)
            if not self._open:
                self._all_gone.set()

        link = ServerLink(
            partial(self._requested, place),
            _link_options(config),
            is_wanted=lambda name: offers_qmux([name], legacy=config.websocket_legacy),
            on_end=ended,
        )
        self._open.add(link)
        return link

    async def end(self, timeout: float) -> None:
        """Wait until all are closed, then cut those that are left.

        Args:
            timeout: Seconds.

        Cancellation: they are cut without the wait.
        """
        try:
            if self._open and timeout > 0:
                await self._wait(timeout)
        finally:
            for link in list(self._open):
                link.abort()
        if self._open:
            await self._wait(_LAST_TURNS)

    async def _wait(self, seconds: float) -> None:
        self._all_gone.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._all_gone.wait()
        except builtins.TimeoutError:
            pass

    def _requested(self, place: Place, link: ServerLink) -> None:
        """The upgrade request is complete."""
        connection = WebTransportConnection(config=self._config())
        self._take_over(connection)
        serve_over(connection, link, place.network)


def _link_options(config: ServerConfig) -> LinkOptions:
    """The limits of a link."""
    return LinkOptions(
        max_record_size=qmux_limits(config).max_record_size,
        handshake_timeout=config.handshake_timeout,
        close_timeout=config.close_timeout,
    )
