"""Whom the rate limiter counts as one."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass

import pytest

from pywebtransport.exceptions import SessionRejectedError
from pywebtransport.server import RateLimiter


@dataclass
class Request:
    """All that the limiter asks of a session."""

    remote_address: tuple[str, int] | None


async def admitted(limiter: RateLimiter, host: str | None) -> bool:
    try:
        return await limiter(Request(None if host is None else (host, 4433)))  # type: ignore[arg-type]
    except SessionRejectedError as error:
        return error.status_code != 429


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:0:ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("2001:db8:1::1", "2001:db8:2::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("::1", "::1", True),
        ("::1", "127.0.0.1", False),
        (None, None, True),
        ("no address", "no address", True),
    ],
)
async def test_who_counts_as_one(first: str | None, second: str | None, same: bool) -> None:
    limiter = RateLimiter(max_requests=1, window_seconds=1000)
    assert await admitted(limiter, first)
    assert await admitted(limiter, second) is not same


@pytest.mark.loops("asyncio")
async def test_memory_is_bounded_however_many_ask() -> None:
    limiter = RateLimiter(max_requests=100, window_seconds=1000)

    async def ask(first: int, count: int) -> None:
        for number in range(first, first + count):
            assert await admitted(limiter, f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::1")

    await ask(0, 65536)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    await ask(65536, 10_000)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert len(limiter._seen) == 65536
    # What is new is traced and what it took the place of is not: about 1 KiB each.
    assert grown < 10_000 * 1500
