"""Compatibility name: several servers in one process that start and stop together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Self

from ..config import ServerConfig
from ..exceptions import invalid_config
from ..utils._checks import check_bind_address
from ..utils._closing import AsyncContext
from .app import ServerApp
from .server import WebTransportServer, check_server_config

__all__ = ["ServerCluster"]


class ServerCluster(AsyncContext):
    """Several servers, each with its own configuration, that start and stop together.

    For instance a public one and one with client certificates::

        async with ServerCluster(configs=[public, internal], app=app):
            await asyncio.Event().wait()

    All servers share one process and its event loop. To serve one port with several processes, use
    ``ServerApp.run(workers=N)`` instead.
    """

    def __init__(self, configs: Sequence[ServerConfig], *, app: ServerApp | None = None) -> None:
        """Create a cluster that does not run yet.

        Args:
            configs: One server for each; host and port from ``bind_host`` and ``bind_port``.
            app: Its routes and middleware serve the sessions of all servers;
                its start-up handlers run before they start, its shutdown
                handlers after they stopped. Its own ``server`` is not used.
                None: each server emits ``SESSION_REQUEST``, see ``get_servers``.

        Raises:
            ConfigurationError: ``configs`` or ``app`` has the wrong type, or a field of a
                configuration is out of range.
        """
        if not isinstance(configs, Sequence):
            raise invalid_config(
                key="configs", value=configs, reason="expected a list of ServerConfig"
            )
        if app is not None and not isinstance(app, ServerApp):
            raise invalid_config(key="app", value=app, reason="expected a ServerApp")
        for config in configs:
            _check(config)
        self._configs = list(configs)
        self._app = app
        self._servers: list[tuple[ServerConfig, WebTransportServer]] = []
        self._is_running = False
        # Only one change of the set of servers at a time.
        self._lock = asyncio.Lock()

    @property
    def is_running(self) -> bool:
        """Whether the cluster runs: between ``start_all`` and ``stop_all``."""
        return self._is_running

    async def __aenter__(self) -> Self:
        await self.start_all()
        return self

    async def _end_block(self) -> None:
        await self.stop_all()

    async def start_all(self) -> None:
        """Start every server; if one cannot start, stop those that did.

        Does nothing while the cluster runs. You may call it again after ``stop_all``.

        Raises:
            ServerError: An address cannot be bound.
            CertificateError: A certificate or key cannot be used.
            ConfigurationError: A configuration has no certificate.

        Cancellation: safe; nothing stays open.
        """
        async with self._lock:
            if self._is_running:
                return
            try:
                if self._app is not None:
                    await self._app.startup()
                for config in self._configs:
                    self._servers.append((config, await self._start(config)))
            except BaseException:
                await self._stop()
                raise
            self._is_running = True

    async def stop_all(self) -> None:
        """Stop all servers gracefully, at the same time. Idempotent.

        Cancellation: the servers are closed anyway, without their drain time.
        """
        async with self._lock:
            self._is_running = False
            await self._stop()

    async def add_server(self, config: ServerConfig) -> WebTransportServer | None:
        """Add a server; it starts immediately if the cluster runs.

        Args:
            config: Configuration of the new server.

        Returns:
            The server, or None if the cluster does not run: then it starts with the others.

        Raises: as ``start_all``; then the cluster does not change.

        Cancellation: safe; then the cluster does not change.
        """
        _check(config)
        async with self._lock:
            if not self._is_running:
                self._configs.append(config)
                return None
            server = await self._start(config)
            self._configs.append(config)
            self._servers.append((config, server))
            return server

    async def remove_server(self, *, host: str, port: int) -> bool:
        """Stop a server gracefully and remove it.

        Args:
            host: An address that it listens on, or the ``bind_host`` of its configuration.
            port: Its port, or the ``bind_port`` of its configuration.

        Returns:
            False if there is no such server.

        Raises:
            ConfigurationError: ``host`` is not a string, or ``port`` is not a whole number.

        Cancellation: the server is closed anyway, without its drain time.
        """
        check_bind_address(host, port)
        wanted = (host, port)
        async with self._lock:
            for entry in self._servers:
                config, server = entry
                if wanted in (*server.local_addresses, config.get_bind_address()):
                    self._servers.remove(entry)
                    self._configs.remove(config)
                    await server.close()
                    return True
            if not self._is_running:
                for config in self._configs:
                    if wanted == config.get_bind_address():
                        self._configs.remove(config)
                        return True
        return False

    async def get_server_count(self) -> int:
        """Number of running servers."""
        return len(self._servers)

    async def get_servers(self) -> list[WebTransportServer]:
        """The running servers."""
        return [server for _, server in self._servers]

    async def get_cluster_stats(self) -> dict[str, Any]:
        """Return the statistics of all servers together, and of each.

        Returns:
            ``server_count``; ``total_NAME`` for each counter NAME of
            ``ServerStats`` and for ``active_connections`` and
            ``active_sessions``; ``servers``, a list with the result of ``get_server_stats`` of
            each, and its ``local_address``.
        """
        servers = []
        totals: dict[str, int] = {}
        for server in await self.get_servers():
            stats = await server.get_server_stats()
            for name, value in stats.items():
                if isinstance(value, int):
                    totals[f"total_{name}"] = totals.get(f"total_{name}", 0) + value
            servers.append({"local_address": server.local_address, **stats})
        return {"server_count": len(servers), **totals, "servers": servers}

    # ------------------------------------------------------------------ internal

    async def _start(self, config: ServerConfig) -> WebTransportServer:
        server = WebTransportServer(config=config)
        if self._app is not None:
            self._app.attach(server)
        try:
            await server.listen()
        except BaseException:
            await server.close(drain_timeout=0)
            raise
        return server

    async def _stop(self) -> None:
        servers, self._servers = await self.get_servers(), []
        try:
            results = await asyncio.gather(
                *(server.close() for server in servers), return_exceptions=True
            )
        finally:
            if self._app is not None:
                await self._app.shutdown()
        for result in results:
            if isinstance(result, BaseException):
                raise result


def _check(config: ServerConfig) -> None:
    if config is None:
        raise invalid_config(key="config", value=config, reason="expected a ServerConfig")
    check_server_config(config)
    config.validate()
