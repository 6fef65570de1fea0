"""Compatibility names: helpers that open and test connections."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import sys
from collections.abc import Coroutine
from typing import Any

from .._core.connection import WebTransportConnection
from .._states import ConnectionState
from ..config import ClientConfig
from ..exceptions import (
    ConfigurationError,
    ConnectionError,
    WebTransportError,
    is_retriable_error,
)
from ..utils._attempts import furthest
from ..utils._checks import (
    check_count,
    check_instance,
    check_integer,
    check_number,
    check_text,
    check_timeout,
    validate_port,
)
from ..utils._hosts import ascii_host, host_and_port
from ._targets import check_target, check_targets, measure_handshake

__all__ = [
    "connect_with_retry",
    "create_multiple_connections",
    "ensure_connection",
    "test_multiple_connections",
    "test_tcp_connection",
]

_logger = logging.getLogger("pywebtransport.connection")

# How many handshakes test_multiple_connections runs at the same time.
_MAX_TESTS = 10


async def connect_with_retry(
    *,
    config: ClientConfig,
    host: str,
    port: int,
    path: str = "/",
    max_retries: int = 3,
    retry_delay: float = 1.0,
    backoff_factor: float = 2.0,
) -> WebTransportConnection:
    """Connect as ``WebTransportConnection.create_client``; retry while that may help.

    It retries only after errors for which ``is_retriable_error`` is true. The pause grows by
    ``backoff_factor`` up to ``config.max_retry_delay``. Each pause is shortened at random by
    up to a half, so that clients that failed at the same time do not all retry at the same
    time.

    Args:
        config: TLS, limits and timeouts; ``connect_timeout`` bounds each attempt.
        host: Host name or address; an IPv6 address without brackets.
        port: UDP port.
        path: Path and query of the session that is requested.
        max_retries: Attempts after the first one.
        retry_delay: Seconds of the first pause.
        backoff_factor: 1 or more.

    Returns:
        The connection; ``wait_for_ready_session`` gives the ID of its session.

    Raises:
        ConfigurationError: A value is out of range.
        Otherwise the error of the attempt that got furthest (of equal ones the last), see
            ``WebTransportConnection.connect``. ``details["tries"]`` describes all errors.

    Cancellation: safe, nothing stays open.
    """
    check_instance("config", config, ClientConfig)
    check_integer("max_retries", max_retries, 0, sys.maxsize)
    check_number("retry_delay", retry_delay, 0)
    check_number("backoff_factor", backoff_factor, 1)
    tries: list[WebTransportError] = []
    pause = retry_delay
    attempt = 0
    while True:
        try:
            return await WebTransportConnection.create_client(
                config=config, host=host, port=port, path=path
            )
        except WebTransportError as error:
            tries.append(error)
            if attempt >= max_retries or not is_retriable_error(exception=error):
                break
            attempt += 1
            delay = min(pause, config.max_retry_delay) * random.uniform(0.5, 1.0)
            _logger.info(
                "%s: %s; retry %d of %d in %.3f s",
                host_and_port(host, port),
                error,
                attempt,
                max_retries,
                delay,
            )
        await asyncio.sleep(delay)
        pause = min(pause * backoff_factor, config.max_retry_delay)
    tries.reverse()  # of equal ones the last
    chosen = tries[furthest(tries)]
    if len(tries) > 1:
        chosen.details["tries"] = [str(error) for error in reversed(tries)]
    raise chosen


async def create_multiple_connections(
    *,
    config: ClientConfig,
    targets: list[tuple[str, int]],
    path: str = "/",
    max_concurrent: int = 10,
) -> dict[str, WebTransportConnection]:
    """Connect to several servers concurrently, as ``WebTransportConnection.create_client``.

    Args:
        config: The configuration for all of them.
        targets: Host and port of each; a duplicate is connected only once.
        path: Path and query of the session that is requested on each.
        max_concurrent: How many handshakes may run at the same time.

    Returns:
        The connections by ``host:port`` (``[host]:port`` for IPv6), in the order of
        ``targets``. A target that cannot be reached is missing; a warning is logged.

    Raises:
        ConfigurationError: ``max_concurrent``, ``path`` or a port is out of range. No
            connection is left open.

    Cancellation: safe, nothing stays open.
    """
    check_instance("config", config, ClientConfig)
    targets = check_targets(targets)
    check_count("max_concurrent", max_concurrent)
    check_text("path", path)
    made: dict[str, WebTransportConnection] = {}
    limit = asyncio.Semaphore(max_concurrent)

    async def connect(host: str, port: int) -> None:
        async with limit:
            try:
                made[host_and_port(host, port)] = await WebTransportConnection.create_client(
                    config=config, host=host, port=port, path=path
                )
            except ConfigurationError:
                raise
            except WebTransportError as error:
                _logger.warning("no connection to %s: %s", host_and_port(host, port), error)

    unique = list(dict.fromkeys(targets))
    try:
        await _run_all([connect(host, port) for host, port in unique])
    except BaseException:
        for connection in made.values():
            connection.close_nowait()
        raise
    names = [host_and_port(host, port) for host, port in unique]
    return {name: made[name] for name in names if name in made}


async def ensure_connection(
    connection: WebTransportConnection,
    *,
    config: ClientConfig,
    host: str,
    port: int,
    path: str = "/",
    reconnect: bool = True,
) -> WebTransportConnection:
    """Return ``connection`` if it works, or a new one.

    Args:
        connection: Returned unchanged if it is connected and the server has not announced
            its end; otherwise it is closed.
        config: Configuration of a new connection.
        host: Host of a new connection.
        port: Port of a new connection.
        path: Path and query of the session that is requested on a new connection.
        reconnect: If False, raise an error instead of connecting again.

    Raises:
        ConnectionError: It does not work, and ``reconnect`` is False.
        Otherwise as ``WebTransportConnection.connect``.

    Cancellation: safe, nothing new stays open.
    """
    check_instance("connection", connection, WebTransportConnection)
    check_instance("config", config, ClientConfig)
    check_target(host, port)
    if connection.state is ConnectionState.CONNECTED:
        return connection
    if not reconnect:
        raise ConnectionError(
            f"the connection to {host_and_port(host, port)} is {connection.state}, and reconnect "
            "is False",
            remote_address=connection.remote_address,
        )
    await connection.close()
    return await WebTransportConnection.create_client(
        config=config, host=host, port=port, path=path
    )


async def test_multiple_connections(
    targets: list[tuple[str, int]],
    *,
    timeout: float = 10.0,  # noqa: PT028
) -> dict[str, bool]:
    """Return which servers answer a QUIC and HTTP/3 handshake.

    Certificates are not checked and no session is requested.

    Args:
        targets: Host and port of each.
        timeout: Seconds per server.

    Returns:
        By ``host:port`` (``[host]:port`` for IPv6), whether it answered.

    Raises:
        ConfigurationError: ``timeout`` is not above 0.

    Cancellation: safe, nothing stays open.
    """
    targets = check_targets(targets)
    config = ClientConfig(verify_mode=ssl.CERT_NONE, connect_timeout=timeout)
    results = {host_and_port(host, port): False for host, port in targets}
    limit = asyncio.Semaphore(_MAX_TESTS)

    async def look(host: str, port: int) -> None:
        async with limit:
            try:
                await measure_handshake(config, host, port, timeout)
            except WebTransportError as error:
                _logger.debug("%s does not answer: %s", host_and_port(host, port), error)
            else:
                results[host_and_port(host, port)] = True

    await _run_all([look(host, port) for host, port in dict.fromkeys(targets)])
    return results


async def test_tcp_connection(
    host: str,
    port: int,
    *,
    timeout: float = 10.0,  # noqa: PT028
) -> bool:
    """Return whether a TCP port accepts connections.

    WebTransport over HTTP/3 uses UDP, which this does not test: use it for TCP services
    next to it. ``test_multiple_connections`` tests WebTransport servers.

    Args:
        host: Host name or address; for a name that does not exist, the result is False.
        port: TCP port.
        timeout: Seconds.

    Raises:
        ConfigurationError: The host is not a string, or the port or timeout is out of range.

    Cancellation: safe.
    """
    check_text("host", host)
    validate_port(port)
    limit = check_timeout("timeout", timeout)
    try:
        name = ascii_host(host)
        async with asyncio.timeout(limit):
            _, writer = await asyncio.open_connection(name, port)
    except (OSError, ConfigurationError):  # the latter: no name can be like that
        return False
    writer.close()
    return True


# Compatibility names; tell pytest that these are not tests.
test_multiple_connections.__test__ = False  # type: ignore[attr-defined]
test_tcp_connection.__test__ = False  # type: ignore[attr-defined]


async def _run_all(coroutines: list[Coroutine[Any, Any, None]]) -> None:
    """Run all concurrently; the first error ends the others and is raised."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
