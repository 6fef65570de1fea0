"""Connect to a host with several addresses: one driver each, and the first to succeed wins."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .._loop import Failures, RemoteAddress, connect_staggered
from .driver import Driver

if TYPE_CHECKING:
    from .connection import WebTransportConnection

__all__ = ["race"]

_logger = logging.getLogger("pywebtransport.connection")


async def race(
    owner: WebTransportConnection,
    candidates: list[Driver],
    addresses: Sequence[RemoteAddress],
    start: Callable[[Driver, RemoteAddress], None],
    *,
    where: str,
    delay: float,
    failures: Failures,
) -> Driver:
    """Return the driver that completes its handshake first; close the others.

    Args:
        owner: The connection that the drivers are for.
        candidates: Receives the drivers of running attempts.
        addresses: In order of preference; never empty.
        start: Starts the handshake of one driver.
        where: The target for messages, such as ``example.org:443``.
        delay: Seconds between attempts.
        failures: Receives the attempts that failed. If another address answered, the
            failure is logged, because it costs time for each connection.

    Raises:
        WebTransportError: The error of the attempt that got furthest; see ``connect_staggered``.

    Cancellation: safe.
    """

    async def attempt(address: RemoteAddress) -> _Attempt:
        driver = Driver(owner, where=where)
        start(driver, address)
        candidates.append(driver)
        assert driver.handshake is not None
        try:
            await driver.handshake
        except asyncio.CancelledError:
            driver.quic.close(0)
            raise
        return _Attempt(driver)

    winner = await connect_staggered(addresses, attempt, delay=delay, failures=failures)
    for name, error in failures:
        _logger.info("%s: connected, but not at %s: %s", where, name, error)
    return winner.driver


class _Attempt:
    """The result of a connection attempt; ``close`` ends one that lost the race."""

    __slots__ = ("driver",)

    def __init__(self, driver: Driver) -> None:
        self.driver = driver

    def close(self) -> None:
        self.driver.quic.close(0)
