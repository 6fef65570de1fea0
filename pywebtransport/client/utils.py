"""Compatibility names: measurements of a server, made by a client."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from .._states import URL
from ..config import ClientConfig
from ..exceptions import WebTransportError, get_error_category
from ..utils._checks import check_count, check_instance
from ..utils._timing import get_timestamp
from ..utils._urls import parse_webtransport_url
from .client import WebTransportClient

if TYPE_CHECKING:
    from ..session import WebTransportSession

__all__ = ["benchmark_client_performance", "test_client_connectivity"]


async def benchmark_client_performance(
    url: URL,
    *,
    config: ClientConfig | None = None,
    num_requests: int = 100,
    concurrent_requests: int = 10,
) -> dict[str, Any]:
    """Measure how fast one client opens sessions.

    Args:
        url: ``https://host[:port]/path?query``.
        config: Default ``ClientConfig()``; ``max_connections`` is raised to
            ``concurrent_requests`` if it is below.
        num_requests: Total number of sessions to open.
        concurrent_requests: Sessions to open at a time.

    Returns:
        ``url``, ``total_requests``, ``concurrent_requests``,
        ``successful_requests``, ``failed_requests``, ``errors`` (failures by
        category), ``total_time`` (seconds), ``requests_per_second`` (successful
        ones), and ``connect_time``: ``min``, ``avg``, ``p50``, ``p95``, ``p99``
        and ``max`` of the seconds from ``connect`` to a ready session, each
        None when no session was opened.

    Raises:
        ConfigurationError: A malformed URL, or a number below 1. A failed
            request is counted, not raised.

    Cancellation: safe, nothing stays open.
    """
    parse_webtransport_url(url)
    if config is not None:
        check_instance("config", config, ClientConfig)
    check_count("num_requests", num_requests)
    check_count("concurrent_requests", concurrent_requests)
    workers = min(num_requests, concurrent_requests)
    if config is not None:
        check_instance("config", config, ClientConfig)
    config = ClientConfig() if config is None else config
    config = config.update(max_connections=max(config.max_connections, workers))
    times: list[float] = []
    errors: Counter[str] = Counter()
    numbers = iter(range(num_requests))

    async def work(client: WebTransportClient) -> None:
        for _ in numbers:
            began = time.perf_counter()
            try:
                session = await client.connect(url)
            except WebTransportError as error:
                errors[get_error_category(exception=error)] += 1
                continue
            times.append(time.perf_counter() - began)
            await session.close()

    async with WebTransportClient(config=config) as client:
        began = time.perf_counter()
        tasks = [asyncio.create_task(work(client)) for _ in range(workers)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        elapsed = time.perf_counter() - began
    return {
        "url": url,
        "total_requests": num_requests,
        "concurrent_requests": workers,
        "successful_requests": len(times),
        "failed_requests": errors.total(),
        "errors": dict(errors),
        "total_time": elapsed,
        "requests_per_second": len(times) / elapsed,
        "connect_time": _distribution(times),
    }


async def test_client_connectivity(
    url: URL,
    *,
    config: ClientConfig | None = None,  # noqa: PT028
    timeout: float = 10.0,  # noqa: PT028
) -> dict[str, Any]:
    """Try to open a session, and report the result.

    Args:
        url: ``https://host[:port]/path?query``.
        config: Default ``ClientConfig()``.
        timeout: Seconds for everything.

    Returns:
        ``success``, ``url``, ``connect_time`` (seconds until the session was ready or had failed),
        ``handshake_time`` (the part of it for name resolution and the QUIC handshake, in seconds),
        ``rtt`` (smoothed, seconds), ``dialect`` (draft generation), ``protocol`` (the application
        protocol that was selected), ``remote_address``,
        ``max_datagram_size``, ``error``: None, or the dictionary of
        ``WebTransportError.to_dict``. Unknown values are None.

    Raises:
        ConfigurationError: A malformed URL, or a field out of range. A failed
            connection is reported, not raised.

    Cancellation: safe, nothing stays open.
    """
    parse_webtransport_url(url)
    result: dict[str, Any] = {
        "success": False,
        "url": url,
        "connect_time": None,
        "handshake_time": None,
        "rtt": None,
        "dialect": None,
        "protocol": None,
        "remote_address": None,
        "max_datagram_size": None,
        "error": None,
    }
    async with WebTransportClient(config=config) as client:
        started = get_timestamp()
        began = time.perf_counter()
        try:
            session = await client.connect(url, timeout=timeout)
        except WebTransportError as error:
            result["connect_time"] = time.perf_counter() - began
            result["error"] = error.to_dict()
        else:
            result["connect_time"] = time.perf_counter() - began
            result["success"] = True
            result |= _properties(session, started)
    return result


# Because of its name, pytest would collect it as a test wherever it is imported.
test_client_connectivity.__test__ = False  # type: ignore[attr-defined]


def _properties(session: WebTransportSession, started: float) -> dict[str, Any]:
    # None when the server ended the session as soon as it was open.
    connection = session.connection
    established = None if connection is None else connection.info.established_at
    return {
        "handshake_time": None if established is None else established - started,
        "rtt": session.rtt,
        "dialect": session.dialect,
        "protocol": session.application_protocol,
        "remote_address": session.remote_address,
        "max_datagram_size": session.max_datagram_size,
    }


def _distribution(values: list[float]) -> dict[str, float | None]:
    """Smallest, mean, percentiles by the nearest-rank method, largest."""
    if not values:
        return dict.fromkeys(("min", "avg", "p50", "p95", "p99", "max"))
    ordered = sorted(values)

    def rank(percent: int) -> float:
        return ordered[math.ceil(percent / 100 * len(ordered)) - 1]

    return {
        "min": ordered[0],
        "avg": math.fsum(ordered) / len(ordered),
        "p50": rank(50),
        "p95": rank(95),
        "p99": rank(99),
        "max": ordered[-1],
    }
