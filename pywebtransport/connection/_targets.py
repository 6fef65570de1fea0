"""Behind compatibility names: checks of hosts and ports, and a trial handshake."""

from __future__ import annotations

import asyncio
import builtins
from typing import Any

from .._core.connection import WebTransportConnection
from .._loop import Failures
from ..config import ClientConfig
from ..exceptions import TimeoutError, invalid_config
from ..utils._attempts import combine_errors
from ..utils._checks import validate_port
from ..utils._hosts import ascii_host, host_and_port

__all__ = ["check_target", "check_targets", "measure_handshake", "require_webtransport"]


async def measure_handshake(config: ClientConfig, host: str, port: int, timeout: float) -> float:
    """Connect, wait for SETTINGS that allow WebTransport, close.

    Returns:
        The round-trip time in seconds.

    Raises:
        WebTransportError: It did not work, or took longer than ``timeout`` seconds.

    Cancellation: safe.
    """
    connection = WebTransportConnection(config=config.update(connect_timeout=timeout))
    started = asyncio.get_running_loop().time()
    scope = asyncio.timeout(timeout)
    failures: Failures = []
    try:
        async with scope:
            await connection.establish(host, port, failures=failures)
            failures.clear()
            await require_webtransport(connection, timeout)
    except builtins.TimeoutError:
        if not scope.expired():
            raise
        late = TimeoutError(
            f"{host_and_port(host, port)} did not complete a QUIC and HTTP/3 handshake within "
            f"{timeout} s",
            timeout_duration=timeout,
            operation="handshake",
        )
        raise combine_errors([*failures, ("the other addresses", late)]) from None
    else:
        return connection.rtt or asyncio.get_running_loop().time() - started
    finally:
        await connection.close()


async def require_webtransport(connection: WebTransportConnection, timeout: float) -> None:
    """Wait for the SETTINGS of a connection that is made; the server has to speak WebTransport.

    Raises:
        WebTransportError: It does not, the connection ended, or nothing came in time.

    Cancellation: safe.
    """
    await connection.wait_ready(timeout=timeout)
    error = None if connection.layer is None else connection.layer.webtransport_error
    if error is not None:
        raise error


def check_target(host: Any, port: Any) -> None:
    """Check where to connect.

    Raises:
        ConfigurationError: The host is not a name or an address, or the port is out of range.
    """
    ascii_host(host)
    validate_port(port)


def check_targets(targets: Any) -> list[tuple[str, int]]:
    """Check several of them: pairs of host and port.

    Raises:
        ConfigurationError: It is not a list of such pairs.
    """
    if not isinstance(targets, list | tuple):
        raise invalid_config(key="targets", value=targets, reason="expected a list of (host, port)")
    pairs = []
    for target in targets:
        if not isinstance(target, list | tuple) or len(target) != 2:
            raise invalid_config(key="targets", value=target, reason="expected (host, port)")
        check_target(*target)
        pairs.append((target[0], target[1]))
    return pairs
