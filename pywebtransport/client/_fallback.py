"""Connects by QUIC or, where that does not get through, by TCP for a session over a WebSocket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from .._core.fallback import link_options
from .._loop import RemoteAddress, connect_staggered, resolve
from .._loop.tcp import connect_proxy, dial
from .._loop.websocket import require_websockets
from ..config import ClientConfig
from ..utils._checks import NEVER
from ..utils._hosts import host_and_port
from ..utils._tls_contexts import ClientTls, client_tls_over_tcp
from ..utils._waiters import Waiters
from ._connecting import Progress
from ._racing import Lane, Memory, run_race

if TYPE_CHECKING:
    from .._loop.websocket_client import ClientLink
    from ._stats import ClientStats

__all__ = ["QUIC_HINT", "TCP_HINT", "Fallback", "TcpDialer"]

_logger = logging.getLogger("pywebtransport.client")

QUIC_HINT = "no QUIC handshake; check host and port, and that UDP is not blocked"
TCP_HINT = "no connection by TCP and TLS; check that the server takes them at this port"

_Origin = tuple[str, int]
_ConnectQuic = Callable[[Progress, Sequence[RemoteAddress] | None], Coroutine[Any, Any, object]]


class Fallback:
    """The races of one client.

    Args:
        config: The client's, with ``fallback``.
        stats: Counts the races.

    Raises:
        ConfigurationError: The extra ``fallback`` is not installed.
    """

    def __init__(self, config: ClientConfig, stats: ClientStats) -> None:
        self._dialer = TcpDialer(config)
        self._config = config
        self._stats = stats
        self._memory = Memory()
        self._attempts: set[asyncio.Task[Any]] = set()

    async def race(
        self, origin: _Origin, progress: Progress, connect_quic: _ConnectQuic
    ) -> ClientLink | None:
        """Connect by the transport that works first.

        Args:
            origin: Host and port.
            progress: Gets the progress by each transport.
            connect_quic: Connects by QUIC, to addresses that are resolved already or None. The
                caller closes the connection if this method returns a link, or raises.

        Returns:
            None: QUIC won. Otherwise the link, whose session is not requested yet.

        Raises:
            WebTransportError: No transport worked, see ``run_race``.

        Cancellation: safe; nothing is left of the connection by TCP.
        """
        config, loop = self._config, asyncio.get_running_loop()
        addresses: Sequence[RemoteAddress] | None = None
        if config.http_proxy is None:  # which would resolve the name
            addresses = await resolve(*origin, family=config.address_family)
        progress.advance("handshake", QUIC_HINT)
        quic = progress.add_lane("QUIC", "handshake", QUIC_HINT)

        def connect_tcp() -> Coroutine[Any, Any, ClientLink]:
            before = progress.lanes.get("TCP")
            self._stats.fallbacks_tried += before is None
            lane = progress.add_lane("TCP", "tcp", TCP_HINT)
            lane.error = None if before is None else before.error
            return self._dialer.dial(origin, addresses, lane)

        def failed(lane: Lane, error: BaseException) -> None:
            progress.lanes[lane].error = error

        link = await run_race(
            lambda: connect_quic(quic, addresses),
            connect_tcp,
            delay=self._memory.delay(origin, config.fallback_delay, loop.time()),
            discard=_discard,
            tasks=self._attempts,
            failed=failed,
        )
        winner: Lane = "QUIC" if link is None else "TCP"
        self._memory.record(origin, winner, loop.time())
        progress.failures = progress.lanes[winner].failures
        progress.aside = ""
        if link is not None:
            self._stats.fallbacks_won += 1
            why = "there was no answer yet" if quic.error is None else str(quic.error)
            progress.aside = f"connected by TCP and not by QUIC: {why}"
            _logger.info("%s: %s", host_and_port(*origin), progress.aside)
        return link

    def close(self) -> None:
        """End the running attempts, since the client closes."""
        for task in tuple(self._attempts):
            task.cancel()

    async def finish(self, deadline: float) -> None:
        """As ``TcpDialer.finish``."""
        await self._dialer.finish(deadline)


class TcpDialer:
    """Connects one client by TCP and TLS, through the proxy of its configuration if it has one.

    Args:
        config: The client's.

    Raises:
        ConfigurationError: The extra ``fallback`` is not installed.
    """

    def __init__(self, config: ClientConfig) -> None:
        require_websockets()
        self._config = config
        self._tls: ClientTls | None = None
        self._links: set[ClientLink] = set()
        self._link_ended = Waiters()

    async def dial(
        self, origin: _Origin, addresses: Sequence[RemoteAddress] | None, progress: Progress
    ) -> ClientLink:
        """Connect to a server.

        Args:
            origin: Its host and port.
            addresses: Its addresses; None with a proxy, which resolves the name.
            progress: Gets the addresses that fail, and the stage of the proxy.

        Raises:
            ConfigurationError: The files of the certificates cannot be used.
            WebTransportError: No address worked, see ``connect_staggered``.

        Cancellation: safe, nothing stays open.
        """
        config, proxy = self._config, self._config.http_proxy
        host, port = origin
        tls = self._tls
        if tls is None:
            tls = self._tls = client_tls_over_tcp(config)
        if proxy is not None:
            progress.advance("proxy", f"no connection through the proxy {proxy.name}")
            addresses = await resolve(proxy.host, proxy.port, family=config.address_family)
        assert addresses is not None

        async def attempt(address: RemoteAddress) -> _Dialled:
            sock = None
            if proxy is not None:
                sock = await connect_proxy(address, proxy, host=host, port=port, timeout=NEVER)
            link = await dial(
                address,
                server_name=host,
                tls=tls,
                timeout=NEVER,
                options=link_options(config),
                sock=sock,
            )
            return _Dialled(link)

        dialled = await connect_staggered(
            addresses, attempt, delay=config.happy_eyeballs_delay, failures=progress.failures
        )
        link = dialled.link
        if not link.is_lost:
            self._links.add(link)
            link.on_lost = partial(self._lost, link)
        return link

    async def finish(self, deadline: float) -> None:
        """Wait until all TCP connections have ended; those that have not by then are dropped.

        Args:
            deadline: By the clock of the running event loop.

        Cancellation: they are dropped at once.
        """
        loop = asyncio.get_running_loop()
        try:
            while self._links and (left := deadline - loop.time()) > 0:
                await self._link_ended.wait(left)
        finally:
            for link in tuple(self._links):
                link.abort()

    def _lost(self, link: ClientLink) -> None:
        self._links.discard(link)
        self._link_ended.wake()


class _Dialled:
    """The result of an attempt; ``close`` ends one that is not needed."""

    __slots__ = ("link",)

    def __init__(self, link: ClientLink) -> None:
        self.link = link

    def close(self) -> None:
        self.link.abort()


def _discard(link: ClientLink) -> None:
    link.abort()
