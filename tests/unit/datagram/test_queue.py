"""The queue of datagrams: priorities, limits, ages, waiting."""

import asyncio
import time

import pytest

from pywebtransport.datagram import DatagramMessage, DatagramQueue
from pywebtransport.exceptions import ConfigurationError, DatagramError, TimeoutError


def message(data: bytes, priority: int = 0, **fields: float) -> DatagramMessage:
    return DatagramMessage(data=data, priority=priority, **fields)


async def drain(queue: DatagramQueue) -> list[bytes]:
    taken = []
    while (datagram := await queue.get_nowait()) is not None:
        taken.append(datagram.data)
    return taken


async def test_higher_priorities_come_first_and_in_order() -> None:
    queue = DatagramQueue()
    await queue.initialize()
    for number in range(9):
        assert await queue.put(datagram=message(bytes([number]), number % 3))
    assert queue.get_stats() == {
        "size": 9,
        "max_size": 1000,
        "bytes": 9,
        "max_bytes": 16 * 1024 * 1024,
        "priority_0": 3,
        "priority_1": 3,
        "priority_2": 3,
    }
    assert await drain(queue) == [bytes([n]) for n in (2, 5, 8, 1, 4, 7, 0, 3, 6)]
    assert queue.empty()
    assert queue.qsize() == 0


async def test_a_full_queue_drops_the_oldest_of_the_lowest_priority() -> None:
    queue = DatagramQueue(max_size=3)
    for data, priority in ((b"low 1", 0), (b"middle", 1), (b"low 2", 0)):
        assert await queue.put(message(data, priority))
    assert await queue.put(message(b"low 3", 0))
    assert await queue.put(message(b"high", 2))
    assert await queue.put_nowait(message(b"high 2", 2))
    assert queue.dropped == 3
    assert await queue.put(message(b"too low", 0)) is False
    assert queue.dropped == 4
    assert await drain(queue) == [b"high", b"high 2", b"middle"]


async def test_bytes_are_limited_like_numbers() -> None:
    queue = DatagramQueue(max_size=100, max_bytes=10)
    for data, priority in ((b"low", 0), (b"midd", 1), (b"lo2", 0)):
        assert await queue.put(message(data, priority))
    assert queue.get_stats()["bytes"] == 10
    # As many as it takes are dropped, the oldest of the lowest priority first.
    assert await queue.put(message(b"high5", 2))
    assert queue.dropped == 2
    assert queue.get_stats()["bytes"] == 9
    # One that has no room beside those above it is refused, and so is one that never fits.
    assert await queue.put(message(b"xy", 0)) is False
    assert await queue.put(message(bytes(11), 2)) is False
    assert queue.dropped == 4
    assert queue.qsize() == 2
    assert await queue.put(message(b"x", 0))
    assert await drain(queue) == [b"high5", b"midd", b"x"]
    assert queue.get_stats()["bytes"] == 0
    # Empty datagrams take none, and what is cleared gives its bytes back.
    assert await queue.put(message(bytes(10)))
    assert await queue.put(message(b""))
    await queue.clear()
    assert queue.get_stats()["bytes"] == 0
    assert await queue.put(message(bytes(10), 0))


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "10"])
def test_a_limit_of_bytes_is_a_positive_number(limit: object) -> None:
    with pytest.raises((DatagramError, ConfigurationError), match="max_bytes"):
        DatagramQueue(max_bytes=limit)  # type: ignore[arg-type]


async def test_expired_datagrams_are_never_handed_out() -> None:
    queue = DatagramQueue(max_age=100)
    now = time.time()
    assert await queue.put(message(b"old", timestamp=now - 101)) is False
    assert await queue.put(message(b"past its ttl", timestamp=now - 2, ttl=1)) is False
    assert queue.expired == 2
    short = message(b"short", ttl=1000)
    assert await queue.put(short)
    assert await queue.put(message(b"long"))
    short.timestamp = now - 2000
    assert queue.qsize() == 2
    assert (await queue.get()).data == b"long"
    assert queue.expired == 3


async def test_getting_waits_for_one_each() -> None:
    queue = DatagramQueue()
    getters = [asyncio.create_task(queue.get()) for _ in range(3)]
    await asyncio.sleep(0)
    for number in range(3):
        await queue.put(message(bytes([number])))
    assert sorted(got.data for got in await asyncio.gather(*getters)) == [b"\0", b"\1", b"\2"]


async def test_getting_times_out() -> None:
    queue = DatagramQueue()
    with pytest.raises(TimeoutError, match=r"timeout=0\.01") as caught:
        await queue.get(timeout=0.01)
    assert caught.value.timeout_duration == 0.01


async def test_a_cancelled_getter_loses_nothing() -> None:
    queue = DatagramQueue()
    first, second = (asyncio.create_task(queue.get()) for _ in range(2))
    await asyncio.sleep(0)
    await queue.put(message(b"x"))
    first.cancel()
    assert (await second).data == b"x"
    assert first.cancelled()


async def test_closing_wakes_and_leaves_what_waits() -> None:
    async with DatagramQueue() as queue:
        getter = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
    with pytest.raises(DatagramError, match="closed and empty"):
        await getter
    with pytest.raises(DatagramError, match="closed"):
        await queue.put(message(b"x"))
    other = DatagramQueue()
    await other.put(message(b"last"))
    await other.close()
    assert (await other.get()).data == b"last"


async def test_clearing_counts() -> None:
    queue = DatagramQueue()
    for number in range(4):
        await queue.put(message(b"x", number % 3))
    await queue.clear()
    assert queue.empty()
    assert queue.dropped == 4


async def test_bad_arguments_are_refused() -> None:
    with pytest.raises(DatagramError, match="max_size must be >= 1, got 0"):
        DatagramQueue(max_size=0)
    with pytest.raises(DatagramError, match="max_age must be > 0"):
        DatagramQueue(max_age=0)
    with pytest.raises(DatagramError, match="priority must be 0 to 2, got 3"):
        await DatagramQueue().put(message(b"x", 3))
