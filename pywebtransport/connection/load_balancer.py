"""Compatibility name: connections to the best of several servers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from .._core.connection import WebTransportConnection
from .._states import ConnectionState, EventType
from ..config import ClientConfig
from ..exceptions import (
    CertificateError,
    ClientError,
    ConfigurationError,
    ConnectionError,
    WebTransportError,
    invalid_config,
)
from ..utils._attempts import attempt_facts, furthest
from ..utils._checks import check_instance, check_number, check_seconds, check_text, validate_port
from ..utils._closing import AsyncContext, close_all
from ..utils._home import HomeLoop
from ..utils._hosts import host_and_port
from ..utils._logs import shared_log
from ._targets import check_targets, measure_handshake, require_webtransport

if TYPE_CHECKING:
    from ..events import Event

__all__ = ["ConnectionLoadBalancer"]

_logger = logging.getLogger("pywebtransport.connection")

# Health checks under way at a time.
_MAX_CHECKS = 10


class _Target:
    """One server and its state."""

    __slots__ = (
        "active",
        "current",
        "failure",
        "host",
        "index",
        "latency",
        "name",
        "port",
        "weight",
    )

    def __init__(self, index: int, host: str, port: int) -> None:
        self.index = index
        self.host = host
        self.port = port
        self.name = host_and_port(host, port)
        self.weight = 1.0
        self.current = 0.0  # of the weighted turns
        self.latency: float | None = None  # seconds
        self.failure: Exception | None = None
        self.active: set[WebTransportConnection] = set()

    def refresh_latency(self) -> float:
        """The latency now; connections that are open measure it all the time."""
        measured = [rtt for connection in self.active if (rtt := connection.rtt) is not None]
        if measured:
            self.latency = min(measured)
        return -1.0 if self.latency is None else self.latency


class ConnectionLoadBalancer(AsyncContext):
    """Spreads client connections over several servers.

    A server that cannot be reached is set aside and tried last. From then on, a QUIC and
    HTTP/3 handshake checks it every ``health_check_interval`` seconds, with the
    configuration of the last ``get_connection``, until it answers. While no server is set
    aside and ``least_latency`` is not used, no checks run.

    Closing the balancer closes the connections that it returned. Use it as
    ``async with ConnectionLoadBalancer(targets) as balancer:``.
    """

    def __init__(
        self,
        targets: list[tuple[str, int]],
        *,
        health_check_interval: float = 30.0,
        health_check_timeout: float = 5.0,
    ) -> None:
        """Create a balancer without connections.

        Args:
            targets: Host (an IPv6 address without brackets) and port of each server.
            health_check_interval: Seconds between two checks of a server that is set
                aside; also, while ``least_latency`` is used, between two measurements of
                a server that has no open connection.
            health_check_timeout: Seconds that one check may take.

        Raises:
            ConfigurationError: There is no target, one is named twice, or a value is out
                of range.
        """
        health_check_interval = check_seconds("health_check_interval", health_check_interval)
        health_check_timeout = check_seconds("health_check_timeout", health_check_timeout)
        targets = check_targets(targets)
        if not targets:
            raise invalid_config(
                key="targets", value=targets, reason="expected at least one (host, port)"
            )
        self._targets: dict[tuple[str, int], _Target] = {}
        for host, port in targets:
            if (host, port) in self._targets:
                raise invalid_config(
                    key="targets",
                    value=host_and_port(host, port),
                    reason="expected different servers; it is named twice",
                )
            self._targets[host, port] = _Target(len(self._targets), host, port)
        self._interval = health_check_interval
        self._timeout = health_check_timeout
        self._active: dict[WebTransportConnection, _Target] = {}
        self._opening: set[WebTransportConnection] = set()
        self._last = -1  # index of the target that had the last turn
        self._config: ClientConfig | None = None  # of the last use: for the checks
        self._latency_used = False  # since the last checks
        self._timer: asyncio.TimerHandle | None = None
        self._checks: asyncio.Task[None] | None = None
        self._closed = False
        self._home = HomeLoop()
        self._strategies: dict[str, Callable[[list[_Target]], list[_Target]]] = {
            "round_robin": self._by_turn,
            "weighted": self._by_weight,
            "least_latency": self._by_latency,
        }

    @classmethod
    def create(
        cls,
        targets: list[tuple[str, int]],
        *,
        health_check_interval: float = 30.0,
        health_check_timeout: float = 5.0,
    ) -> Self:
        """The same as calling the class."""
        return cls(
            targets,
            health_check_interval=health_check_interval,
            health_check_timeout=health_check_timeout,
        )

    @property
    def is_checking(self) -> bool:
        """A health check is running or scheduled."""
        return self._timer is not None or self._checks is not None

    async def get_connection(
        self, config: ClientConfig, *, path: str = "/", strategy: str = "round_robin"
    ) -> WebTransportConnection:
        """Connect to one of the servers, and request a session on ``path``.

        The connection is new and the caller's; the server has sent SETTINGS that allow
        WebTransport. When a server fails, the next one is tried, those set aside last.
        As with ``WebTransportConnection.create_client``, the session has no object yet::

            session_id = await connection.wait_for_ready_session()
            session = WebTransportSession(connection, session_id=session_id)

        Closing that session closes the connection.

        Args:
            config: TLS, limits and timeouts; ``connect_timeout`` bounds each attempt.
            path: Path and query of the session.
            strategy: ``round_robin``: in turn. ``weighted``: in turn, in proportion to
                the weights. ``least_latency``: the lowest measured round-trip time; a
                server that was never measured comes first.

        Raises:
            ConfigurationError: The strategy is unknown, or ``config`` or ``path`` cannot
                be used.
            CertificateError: A certificate file of ``config`` cannot be used.
            ClientError: The balancer is closed, or ``config.max_connections`` of its
                connections are open.
            ConfigurationError: The balancer belongs to another event loop.
            ConnectionError: No server could be reached. The message begins with the one
                that got furthest; ``details["targets"]`` has the reason for each, and
                ``is_retriable_error`` is true if it is for all of them. The cause is a
                group of their errors.

        Cancellation: safe, nothing stays open.
        """
        check_instance("config", config, ClientConfig)
        check_text("path", path)
        check_text("strategy", strategy)
        self._home.enter()
        self._require_open()
        if len(self._active) + len(self._opening) >= config.max_connections:
            raise ClientError(
                f"max_connections={config.max_connections} connections of the load balancer are "
                "open; close some, or raise the limit"
            )
        order = self._order(strategy)
        self._config = config
        failures: dict[str, Exception] = {}
        for target in order:
            try:
                return await self._connect(target, config, path)
            except ConfigurationError:
                raise
            except WebTransportError as error:
                if self._closed:
                    raise _closed_error() from error
                if isinstance(error, CertificateError) and error.certificate_path is not None:
                    raise  # a file on this machine: not the fault of a server
                failures[target.name] = error
                self._set_aside(target, error)
        reasons = {name: str(error) for name, error in failures.items()}
        names = list(reasons)
        names.insert(0, names.pop(furthest(list(failures.values()))))
        raise ConnectionError(
            "no server could be reached: "
            + "; ".join(f"{name}: {reasons[name]}" for name in names),
            details={
                "targets": reasons,
                "attempts": [attempt_facts(name, error) for name, error in failures.items()],
            },
        ) from ExceptionGroup("one error per server", list(failures.values()))

    async def update_target_weight(self, *, host: str, port: int, weight: float) -> None:
        """Set the share of a server among those that ``weighted`` chooses from.

        Args:
            host: As in ``targets``.
            port: As in ``targets``.
            weight: 1 by default; 0: ``weighted`` does not use the server.

        Raises:
            ConfigurationError: There is no such server, or the weight is negative or not
                a finite number.
        """
        check_text("host", host)
        validate_port(port)
        target = self._targets.get((host, port))
        if target is None:
            raise invalid_config(
                key="target",
                value=host_and_port(host, port),
                reason=f"expected one of {[known.name for known in self._targets.values()]}",
            )
        check_number("weight", weight, 0)
        target.weight = float(weight)

    async def get_load_balancer_stats(self) -> dict[str, Any]:
        """Return counts of all servers, of those in use and set aside, and of connections."""
        failed = sum(target.failure is not None for target in self._targets.values())
        return {
            "total_targets": len(self._targets),
            "failed_targets": failed,
            "active_connections": len(self._active),
            "available_targets": len(self._targets) - failed,
        }

    async def get_target_stats(self) -> dict[str, Any]:
        """Return information on each server, by ``host:port`` (``[host]:port`` for IPv6).

        Returns:
            For each ``{"host", "port", "weight", "latency", "failed", "failure",
            "connected", "active_connections"}``; the latency in seconds, None before it
            was measured; ``failure`` says why the server is set aside.
        """
        stats = {}
        for target in self._targets.values():
            target.refresh_latency()
            stats[target.name] = {
                "host": target.host,
                "port": target.port,
                "weight": target.weight,
                "latency": target.latency,
                "failed": target.failure is not None,
                "failure": None if target.failure is None else str(target.failure),
                "connected": bool(target.active),
                "active_connections": len(target.active),
            }
        return stats

    async def close_all_connections(self) -> None:
        """Close every connection that the balancer returned; you can get new ones.

        Cancellation: they are closed anyway, without the wait.
        """
        await close_all(self._active)

    async def shutdown(self) -> None:
        """Close every connection and end the health checks. Idempotent.

        Cancellation: everything is released anyway, without the wait.
        """
        if self._home.is_gone:
            self._closed = True
            for connection in (*self._active, *self._opening):
                connection.abandon()
            return
        self._home.enter()
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._checks is not None:
            self._checks.cancel()
        for connection in list(self._opening):
            connection.close_nowait()
        await self.close_all_connections()
        if self._checks is not None:
            await asyncio.wait({self._checks})

    async def __aenter__(self) -> Self:
        self._require_open()
        return self

    async def _end_block(self) -> None:
        await self.shutdown()

    # ------------------------------------------------------------ choosing a server

    def _require_open(self) -> None:
        if self._closed:
            raise _closed_error()

    def _order(self, strategy: str) -> list[_Target]:
        """The servers in the order in which to try them."""
        name = strategy.lower().replace("-", "_") if isinstance(strategy, str) else ""
        choose = self._strategies.get(name)
        if choose is None:
            raise invalid_config(
                key="strategy",
                value=strategy,
                reason=f"expected one of {', '.join(self._strategies)}",
            )
        targets = list(self._targets.values())
        if name == "weighted":
            targets = [target for target in targets if target.weight]
            if not targets:
                raise invalid_config(
                    key="weight", value=0, reason="expected more than 0 for at least one server"
                )
        available = [target for target in targets if target.failure is None]
        failed = [target for target in targets if target.failure is not None]
        return (choose(available) if available else []) + failed

    def _by_turn(self, targets: list[_Target]) -> list[_Target]:
        count = len(self._targets)
        targets.sort(key=lambda target: (target.index - self._last - 1) % count)
        self._last = targets[0].index
        return targets

    def _by_weight(self, targets: list[_Target]) -> list[_Target]:
        """Turns in proportion to the weights, spread evenly: 5, 1, 1 gives a a b a c a a."""
        for target in targets:
            target.current += target.weight
        # A stable sort: the earlier one in the list wins a draw.
        targets.sort(key=lambda target: -target.current)
        targets[0].current -= sum(target.weight for target in targets)
        return targets

    def _by_latency(self, targets: list[_Target]) -> list[_Target]:
        self._latency_used = True
        self._arm()
        return sorted(targets, key=_Target.refresh_latency)

    # ------------------------------------------------------------------- connecting

    async def _connect(
        self, target: _Target, config: ClientConfig, path: str
    ) -> WebTransportConnection:
        connection = WebTransportConnection(config=config)
        self._opening.add(connection)
        started = asyncio.get_running_loop().time()
        try:
            await connection.connect(host=target.host, port=target.port, path=path)
            await require_webtransport(connection, config.connect_timeout)
            self._require_open()
        except BaseException:
            connection.close_nowait()
            raise
        finally:
            self._opening.discard(connection)
        target.latency = connection.rtt or asyncio.get_running_loop().time() - started
        target.failure = None
        target.active.add(connection)
        self._active[connection] = target
        connection.add_watcher(EventType.CONNECTION_CLOSED, self._connection_closed)
        return connection

    def _connection_closed(self, event: Event) -> None:
        connection: WebTransportConnection = event.source  # type: ignore[assignment]
        target = self._active.pop(connection)
        target.refresh_latency()
        target.active.discard(connection)
        if connection.state is ConnectionState.FAILED:
            shared_log(_logger).tell(
                "lost",
                logging.WARNING,
                "the connection to %s was lost: %s",
                target.name,
                connection.error,
            )

    # ---------------------------------------------------------------- health checks

    def _set_aside(self, target: _Target, error: Exception) -> None:
        if target.failure is None:
            _logger.warning("%s is set aside: %s", target.name, error)
        target.failure = error
        target.latency = None
        self._arm()

    def _arm(self) -> None:
        """Run one timer while there is something to check, and none otherwise."""
        if self._timer is None and self._checks is None and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(self._interval, self._start_checks)

    def _start_checks(self) -> None:
        self._timer = None
        due = [target for target in self._targets.values() if target.failure is not None]
        if self._latency_used:
            self._latency_used = False
            # An open connection measures it all the time.
            due += [
                target
                for target in self._targets.values()
                if target.failure is None and not target.active
            ]
        if due:
            self._checks = asyncio.get_running_loop().create_task(self._check_all(due))

    async def _check_all(self, targets: list[_Target]) -> None:
        limit = asyncio.Semaphore(_MAX_CHECKS)
        try:
            await asyncio.gather(*(self._check(target, limit) for target in targets))
        finally:
            self._checks = None
            if self._latency_used or any(target.failure for target in self._targets.values()):
                self._arm()

    async def _check(self, target: _Target, limit: asyncio.Semaphore) -> None:
        assert self._config is not None
        async with limit:
            try:
                target.latency = await measure_handshake(
                    self._config, target.host, target.port, self._timeout
                )
            except WebTransportError as error:
                self._set_aside(target, error)
            else:
                if target.failure is not None:
                    _logger.info("%s answers again", target.name)
                target.failure = None


def _closed_error() -> ClientError:
    return ClientError("the load balancer is closed; make a new one")
