"""Sessions over WebSocket: the connections that become one, from their request to their end."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Callable
from typing import TYPE_CHECKING

from .._core.fallback import link_options, serve_over
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
        self._open: dict[ServerLink, Place] = {}
        self._all_gone = asyncio.Event()
        # The same for all: a server has many links.
        self._calls = self._requested, self._is_wanted, self._ended
        self._options: LinkOptions | None = None

    def make(self, place: Place) -> asyncio.Protocol:
        """The protocol of a TCP connection whose first request asks for a session.

        Args:
            place: Of the connection.
        """
        if self._options is None:
            self._options = link_options(self._config())
        requested, is_wanted, ended = self._calls
        link = ServerLink(requested, self._options, is_wanted=is_wanted, on_end=ended)
        self._open[link] = place
        return link

    def _is_wanted(self, name: str) -> bool:
        return offers_qmux([name], legacy=self._config().websocket_legacy)

    def _ended(self, link: ServerLink) -> None:
        """The TCP connection has ended."""
        self._open.pop(link).leave()
        if not self._open:
            self._all_gone.set()

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

    def _requested(self, link: ServerLink) -> None:
        """The upgrade request is complete."""
        connection = WebTransportConnection(config=self._config())
        self._take_over(connection)
        serve_over(connection, link, self._open[link].network)
