"""Datagrams: sizes, queues with limits and ages, counters, JSON, heartbeats."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from pywebtransport.datagram import WebTransportDatagramTransport
from pywebtransport.datagram.utils import create_heartbeat_datagram, is_heartbeat_datagram
from pywebtransport.exceptions import (
    DatagramError,
    DatagramTooLargeError,
    SessionClosedError,
    TimeoutError,
)
from pywebtransport.types import EventType
from tests.support.endpoints import PairOfSessions
from tests.support.steps import cancelled_at, round_trip, until

SENDERS = pytest.mark.parametrize("sender", ["client", "server"])


@SENDERS
async def test_datagrams_of_every_size_arrive(pair: PairOfSessions, sender: str) -> None:
    async with pair() as (client, server):
        near, far = (client, server) if sender == "client" else (server, client)
        largest = near.datagrams.max_datagram_size
        assert largest == near.max_datagram_size
        assert largest >= 1150
        for size in (0, 1, 2, 100, 1000, largest - 1, largest):
            data = bytes([size % 251]) * size
            await near.datagrams.send(data)
            assert await far.datagrams.receive() == data


@SENDERS
async def test_oversize_datagram_is_refused_with_the_limit(
    pair: PairOfSessions, sender: str
) -> None:
    async with pair() as (client, server):
        near, far = (client, server) if sender == "client" else (server, client)
        size = near.max_datagram_size + 1
        attempts = [
            lambda: near.datagrams.send(bytes(size)),
            lambda: near.datagrams.try_send(bytes(size)),
            lambda: near.datagrams.send_multiple([b"fits", bytes(size), b"not sent"]),
        ]
        for attempt in attempts:
            with pytest.raises(DatagramTooLargeError) as caught:
                await attempt()
            assert caught.value.max_size == near.max_datagram_size
            assert str(near.max_datagram_size) in str(caught.value)
            assert str(size) in str(caught.value)
        assert await far.datagrams.receive() == b"fits"
        assert near.datagrams.stats["send_failures"] == 3


async def test_every_kind_of_data_can_be_sent(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        mutable = bytearray(b"bytearray")
        await near.datagrams.send(mutable)
        mutable[:] = b"rewritten"
        await near.datagrams.send(memoryview(b"..view")[2:])
        await near.datagrams.send("täxt")
        await near.datagrams.send(data=b"keyword", priority=1)
        got = [await far.datagrams.receive() for _ in range(4)]
        assert sorted(got) == sorted([b"bytearray", b"view", "täxt".encode(), b"keyword"])


async def test_the_transport_is_also_awaitable(pair: PairOfSessions) -> None:
    async with pair() as (near, _):
        transport = await near.datagrams
        assert transport is near.datagrams
        assert transport.session is near
        assert transport.session_id == near.session_id
        await transport.initialize()
        assert transport.is_readable
        assert transport.is_writable
        assert not transport.is_closed


async def test_a_session_has_one_transport_whoever_asks_first(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        transport = WebTransportDatagramTransport(near, high_water_mark=3, sender_get_timeout=1.0)
        await transport.initialize()
        assert near.datagrams is transport
        for source, sink in ((near, far), (far, near)):
            await WebTransportDatagramTransport(source).send(b"x")
            assert await WebTransportDatagramTransport(sink).receive(timeout=20) == b"x"
        assert far.datagrams is WebTransportDatagramTransport(far)
        waiting = asyncio.create_task(transport.receive())
        await near.close()
        with pytest.raises(SessionClosedError):
            await waiting
        assert transport.is_closed


async def test_a_transport_that_came_before_the_application_takes_its_limit(
    pair: PairOfSessions,
) -> None:
    async with pair() as (near, far):
        for number in range(5):
            await near.datagrams.send(b"%d" % number)
        await until(lambda: far.datagrams.datagrams_received == 5)
        transport = WebTransportDatagramTransport(far, high_water_mark=2)
        assert transport.outgoing_high_water_mark == 2
        assert transport.get_queue_stats()["incoming"] == {"size": 2, "max_size": 2}
        assert transport.stats["receive_drops"] == 3
        assert await transport.receive_many() == [b"3", b"4"]
        await near.datagrams.send(b"5")
        assert await transport.receive() == b"5"
        with pytest.raises(DatagramError, match="high_water_mark"):
            WebTransportDatagramTransport(far, high_water_mark=0)

        class Own(WebTransportDatagramTransport):
            pass

        with pytest.raises(DatagramError, match="not a Own"):
            Own(far)


async def test_receiving_many_takes_what_there_is(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        sent = [bytes([number]) * 10 for number in range(100)]
        assert await near.datagrams.send_multiple(list(sent)) == 100
        got: list[bytes] = []
        while len(got) < 100:
            batch = await far.datagrams.receive_many(30)
            assert 1 <= len(batch) <= 30
            got += batch
        assert got == sent
        assert await far.datagrams.try_receive() is None
        await near.datagrams.send(b"one more")
        assert await far.datagrams.receive_multiple(max_count=5) == [b"one more"]
        with pytest.raises(DatagramError, match="max_count"):
            await far.datagrams.receive_many(0)


async def test_waiting_receivers_each_get_one(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        receivers = [asyncio.create_task(far.datagrams.receive()) for _ in range(5)]
        await asyncio.sleep(0)
        for number in range(5):
            await near.datagrams.send(bytes([number]))
        assert sorted(await asyncio.gather(*receivers)) == [bytes([n]) for n in range(5)]


async def test_receivers_cancelled_together_leave_the_datagram_to_the_next(
    pair: PairOfSessions,
) -> None:
    async with pair() as (client, server):
        datagrams = server.datagrams
        receivers = [asyncio.create_task(datagrams.receive()) for _ in range(4)]
        await until(lambda: len(datagrams._receivers or ()) == 4)

        def cancel(event: object) -> None:
            # The first has its wake-up and the second has none.
            receivers[0].cancel()
            receivers[1].cancel()

        server.datagrams.once(EventType.DATAGRAM_RECEIVED, cancel)
        await client.datagrams.send(b"only one")
        assert await receivers[2] == b"only one"
        await client.datagrams.send(b"another")
        assert await receivers[3] == b"another"
        assert [task.cancelled() for task in receivers[:2]] == [True, True]


async def test_receive_times_out_with_the_value_in_the_message(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        for attempt in (
            far.datagrams.receive,
            far.datagrams.receive_many,
            far.datagrams.receive_multiple,
            far.datagrams.receive_json,
            far.datagrams.receive_with_metadata,
        ):
            with pytest.raises(TimeoutError, match=r"timeout=0\.01") as caught:
                await attempt(timeout=0.01)
            assert caught.value.timeout_duration == 0.01
        await near.datagrams.send(b"still works")
        assert await far.datagrams.receive(timeout=30) == b"still works"


async def test_json(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        value = {"ä": [1, 2.5, None, True]}
        await near.datagrams.send_json(value)
        assert await far.datagrams.receive_json() == value
        with pytest.raises(DatagramError, match="JSON"):
            await near.datagrams.send_json({"x": object()})
        for bad in (b"{", b"\xff\xff", b"[" * 1000):
            await near.datagrams.send(bad)
            with pytest.raises(DatagramError, match="is not JSON"):
                await far.datagrams.receive_json()
        assert far.datagrams.stats["receive_errors"] == 3


async def test_metadata(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        await near.datagrams.send(b"zero")
        await near.datagrams.send(b"12345")
        await far.datagrams.receive()
        message = await far.datagrams.receive_with_metadata()
        assert message["data"] == b"12345"
        metadata = message["metadata"]
        assert metadata["size"] == 5
        assert metadata["sequence"] == 2 == far.datagrams.receive_sequence
        assert metadata["timestamp"] <= metadata["receive_time"]
        assert near.datagrams.send_sequence == 2
        assert json.dumps(metadata)


# ----------------------------------------------------------------------- queues


async def test_metadata_tells_when_each_one_came(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        between: list[float] = []
        for number in range(3):
            await near.datagrams.send(bytes([number]))
            await until(lambda count=number + 1: far.datagrams.datagrams_received == count)
            between.append(time.time())
        came = []
        for number in range(3):
            message = await far.datagrams.receive_with_metadata()
            assert message["data"] == bytes([number])
            came.append(message["metadata"]["timestamp"])
        assert came[0] < between[0] < came[1] < between[1] < came[2] < between[2]


async def test_the_outgoing_queue_is_bounded(pair: PairOfSessions) -> None:
    """In one turn of the loop nothing leaves the queue: it fills, then refuses."""
    async with pair(client={"datagram_queue_size": 10}) as (near, _):
        accepted = [await near.datagrams.try_send(bytes([number])) for number in range(15)]
        assert accepted == [True] * 10 + [False] * 5
        assert near.datagrams.get_send_buffer_size() == 10
        assert near.datagrams.get_queue_stats()["outgoing"] == {"size": 10, "max_size": 10}
        waiting = asyncio.create_task(near.datagrams.send(b"patient"))
        await waiting
        stats = near.datagrams.stats
        assert stats["send_drops"] == 5
        assert any("before sending" in issue for issue in await near.datagrams.diagnose_issues())


async def test_senders_that_wait_take_turns(pair: PairOfSessions) -> None:
    """None of them, sending without a pause, keeps the others from the queue."""
    count = 2000
    async with pair(client={"datagram_queue_size": 32}) as (client, _):
        sent = [0, 0, 0]

        async def send(number: int) -> None:
            for _ in range(count):
                await client.datagrams.send(bytes(500))
                sent[number] += 1

        senders = [asyncio.create_task(send(number)) for number in range(len(sent))]
        await asyncio.wait(senders, return_when=asyncio.FIRST_COMPLETED)
        assert min(sent) > count // 2
        await asyncio.gather(*senders)


async def test_clearing_the_outgoing_queue_drops_and_counts(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        for number in range(7):
            await near.datagrams.try_send(bytes([number]))
        assert await near.datagrams.clear_send_buffer() == 7
        assert near.datagrams.get_send_buffer_size() == 0
        await near.datagrams.send(b"after")
        assert await far.datagrams.receive() == b"after"
        stats = near.datagrams.stats
        assert stats["datagrams_sent"] == 1
        assert stats["send_drops"] == 7


async def test_the_incoming_queue_drops_the_oldest(pair: PairOfSessions) -> None:
    async with pair(server={"datagram_queue_size": 4}) as (near, far):
        limit = far.datagrams.get_queue_stats()["incoming"]["max_size"]
        total = limit + 6
        for number in range(total):
            await near.datagrams.send(bytes([number]))
        await until(lambda: far.datagrams.stats["datagrams_received"] == total)
        assert far.datagrams.get_queue_stats()["incoming"]["size"] == limit
        assert far.datagrams.get_receive_buffer_size() == limit
        assert await far.datagrams.receive_many() == [bytes([n]) for n in range(6, total)]
        assert far.datagrams.stats["receive_drops"] == 6
        issues = await far.datagrams.diagnose_issues()
        assert any("reads too slowly" in issue for issue in issues)


async def test_clearing_the_incoming_queue_drops_and_counts(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        for number in range(3):
            await near.datagrams.send(bytes([number]))
        await until(lambda: far.datagrams.get_receive_buffer_size() == 3)
        assert await far.datagrams.clear_receive_buffer() == 3
        assert far.datagrams.stats["receive_drops"] == 3
        assert await far.datagrams.try_receive() is None


async def test_high_water_mark_can_change(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        transport = near.datagrams
        assert transport.outgoing_high_water_mark == 4096
        transport.outgoing_high_water_mark = 2
        assert [await transport.try_send(b"x") for _ in range(3)] == [True, True, False]
        transport.outgoing_high_water_mark = 4
        assert [await transport.try_send(b"x") for _ in range(3)] == [True, True, False]
        with pytest.raises(DatagramError, match="outgoing_high_water_mark must be >= 1, got 0"):
            transport.outgoing_high_water_mark = 0
        await until(lambda: far.datagrams.get_receive_buffer_size() == 4)


async def test_old_incoming_datagrams_expire(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        far.datagrams.incoming_max_age = 1e-9
        await near.datagrams.send(b"too old")
        await until(lambda: far.datagrams.stats["datagrams_received"] == 1)
        with pytest.raises(TimeoutError):
            await far.datagrams.receive(timeout=0.01)
        assert far.datagrams.stats["receive_drops"] == 1
        far.datagrams.incoming_max_age = 1000
        await near.datagrams.send(b"young")
        assert await far.datagrams.receive() == b"young"
        far.datagrams.incoming_max_age = None
        await near.datagrams.send(b"ageless")
        assert await far.datagrams.receive() == b"ageless"


async def test_old_outgoing_datagrams_expire(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        await near.datagrams.send(b"too old", ttl=1e-9)
        near.datagrams.outgoing_max_age = 1e-9
        await near.datagrams.send(b"too old as well")
        near.datagrams.outgoing_max_age = None
        await near.datagrams.send(b"ageless", ttl=1000)
        assert await far.datagrams.receive() == b"ageless"
        stats = near.datagrams.stats
        assert stats["datagrams_expired"] == 2
        assert stats["datagrams_sent"] == 1


async def test_higher_priority_leaves_first(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        for number in range(30):
            await near.datagrams.send(bytes([number]), priority=number % 3)
        got = [(await far.datagrams.receive())[0] for _ in range(30)]
        assert got == sorted(range(30), key=lambda number: (-(number % 3), number))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"priority": 3}, "priority must be 0 to 2, got 3"),
        ({"priority": -1}, "priority must be 0 to 2, got -1"),
        ({"ttl": 0}, "ttl must be > 0 seconds, got 0"),
        ({"ttl": -1.5}, r"ttl must be > 0 seconds, got -1\.5"),
        ({"ttl": float("nan")}, "ttl must be > 0 seconds, got nan"),
    ],
)
async def test_bad_arguments_are_refused(
    pair: PairOfSessions, arguments: dict[str, float], message: str
) -> None:
    async with pair() as (near, far):
        with pytest.raises(DatagramError, match=message):
            await near.datagrams.send(b"x", **arguments)
        for name in ("incoming_max_age", "outgoing_max_age"):
            with pytest.raises(DatagramError, match=f"{name} must be > 0"):
                setattr(near.datagrams, name, 0)
            with pytest.raises(DatagramError, match=f"{name} must be > 0"):
                setattr(near.datagrams, name, float("nan"))
        for interval in (0, float("nan")):
            with pytest.raises(DatagramError, match="interval"):
                near.datagrams.start_heartbeat(interval=interval)
        await near.datagrams.send(b"fine")
        assert await far.datagrams.receive() == b"fine"


async def test_the_longest_ages_are_never(pair: PairOfSessions) -> None:
    """Also where the clock of the engine could not hold them."""
    async with pair() as (near, far):
        near.datagrams.outgoing_max_age = 1e-9
        for seconds in (float("inf"), 1e300, 1e12):
            await near.datagrams.send(str(seconds), ttl=seconds)
            assert await far.datagrams.receive() == str(seconds).encode()


# --------------------------------------------------------------------- counters


async def test_counters_add_up(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        for number in range(50):
            await near.datagrams.send(bytes(number))
        for _ in range(50):
            await far.datagrams.receive()
        await until(lambda: near.datagrams.stats["datagrams_acknowledged"] == 50)
        stats = near.datagrams.stats
        total = sum(range(50))
        assert near.datagrams.datagrams_sent == stats["datagrams_sent"] == 50
        assert near.datagrams.bytes_sent == stats["bytes_sent"] == total
        assert far.datagrams.datagrams_received == 50
        assert far.datagrams.bytes_received == total
        assert stats["datagrams_lost"] == stats["datagrams_expired"] == 0
        assert stats["min_datagram_size"] == 0
        assert stats["max_datagram_size"] == 49
        assert stats["avg_datagram_size"] == total / 50
        assert stats["send_success_rate"] == 1
        assert far.datagrams.stats["receive_success_rate"] == 1
        assert near.datagrams.debug_state()["statistics"] == near.datagrams.stats
        assert await near.datagrams.diagnose_issues() == []


async def test_sessions_of_one_connection_have_their_own_datagrams(
    pair: PairOfSessions,
) -> None:
    async with pair() as (near, far):
        assert near.connection is not None
        assert far.connection is not None
        second = await near.connection.create_session("/second")
        await second.ready()
        other = next(session for session in far.connection.sessions if session is not far)
        await second.datagrams.send(b"second")
        await near.datagrams.send(b"first")
        await other.datagrams.send(b"second back")
        assert await far.datagrams.receive() == b"first"
        assert await other.datagrams.receive() == b"second"
        assert await second.datagrams.receive() == b"second back"
        assert near.datagrams.get_receive_buffer_size() == 0
        assert far.datagrams.stats["datagrams_received"] == 1


# ------------------------------------------------------------------------ ending


async def test_closing_the_transport_ends_datagrams_only(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        receiving = asyncio.create_task(near.datagrams.receive())
        beating = near.datagrams.start_heartbeat(interval=1000)
        assert is_heartbeat_datagram(data=await far.datagrams.receive())
        async with near.datagrams:
            pass
        assert near.datagrams.is_closed
        assert not near.datagrams.is_readable
        assert not near.datagrams.is_writable
        assert beating.done()
        with pytest.raises(DatagramError, match="the datagrams of this session were closed"):
            await receiving
        with pytest.raises(DatagramError, match="were closed"):
            await near.datagrams.send(b"x")
        await far.datagrams.send(b"nobody reads this")
        await round_trip(near, far, b"streams work")
        await until(lambda: near.datagrams.stats["receive_drops"] == 1)
        await near.datagrams.close()


async def test_what_has_arrived_can_be_read_after_the_end(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        await near.datagrams.send(b"last words")
        await until(lambda: far.datagrams.get_receive_buffer_size() == 1)
        await near.close()
        await far.wait_closed()
        assert far.datagrams.is_readable
        assert await far.datagrams.receive() == b"last words"
        with pytest.raises(SessionClosedError):
            await far.datagrams.receive()
        assert await far.datagrams.clear_send_buffer() == 0
        assert far.datagrams.get_send_buffer_size() == 0


async def test_heartbeat_ends_with_the_session(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        beating = near.datagrams.start_heartbeat(interval=0.001)
        for _ in range(3):
            assert is_heartbeat_datagram(data=await far.datagrams.receive())
        assert not is_heartbeat_datagram(data=b"x" + create_heartbeat_datagram())
        await near.close()
        await asyncio.wait({beating})
        assert beating.cancelled() or beating.exception() is None


async def test_events_of_datagrams(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        sent = asyncio.create_task(near.datagrams.wait_for(EventType.DATAGRAM_SENT))
        received = asyncio.create_task(far.datagrams.wait_for(EventType.DATAGRAM_RECEIVED))
        await asyncio.sleep(0)
        await near.datagrams.send(b"123")
        assert (await sent).data["size"] == 3
        event = await received
        assert event.data["data"] == b"123"
        assert event.source is far.datagrams


async def test_try_send_acts_before_it_is_awaited(pair: PairOfSessions) -> None:
    """Its result is true or false as it stands, and when awaited, by whatever means."""
    async with pair(client={"datagram_queue_size": 3}) as (near, far):
        transport = near.datagrams
        sent = transport.try_send(b"0")
        assert transport.get_send_buffer_size() == 1
        tasks = [asyncio.create_task(transport.try_send(bytes([number]))) for number in (1, 2)]
        assert transport.get_send_buffer_size() == 3
        refused = transport.try_send(b"3")
        assert sent
        assert not refused
        assert (sent, refused) == (True, False)
        assert (repr(sent), {sent: 1}[True]) == ("True", 1)
        assert sent != refused
        assert sent != 5
        assert await asyncio.gather(*tasks) == [True, True]
        assert await asyncio.gather(sent, refused, sent) == [True, False, True]
        assert await asyncio.wait_for(refused, 5) is False
        assert (await sent, await sent) == (True, True)
        with pytest.raises(DatagramError):
            transport.try_send(b"", priority=5)
        with pytest.raises(DatagramTooLargeError):
            transport.try_send(bytes(70_000))
        assert await far.datagrams.receive_many() == [b"0", b"\x01", b"\x02"]
        assert transport.stats["send_drops"] == 1


@pytest.mark.parametrize("end", ["near", "far", "transport", "lost"])
async def test_a_loop_over_the_datagrams_ends_quietly(pair: PairOfSessions, end: str) -> None:
    async with pair() as (near, far):
        seen: list[bytes] = []

        async def collect() -> None:
            async for datagram in far.datagrams:
                seen.append(datagram)

        task = asyncio.create_task(collect())
        for number in range(3):
            await near.datagrams.send(bytes([number]))
        await until(lambda: len(seen) == 3)
        if end == "transport":
            await far.datagrams.close()
        elif end == "lost":
            near.abort()
        else:
            await (near if end == "near" else far).close()
        await task
        assert seen == [b"\x00", b"\x01", b"\x02"]


async def test_loops_over_the_datagrams_share_them(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        seen: list[list[bytes]] = [[], []]

        async def collect(number: int) -> None:
            async for datagram in await far.datagrams:
                seen[number].append(datagram)

        tasks = [asyncio.create_task(collect(number)) for number in range(2)]
        # One that comes when all are here takes all.
        await until(lambda: len(far.datagrams._receivers or ()) == 2)
        for number in range(20):
            await near.datagrams.send(bytes([number]))
        await until(lambda: len(seen[0]) + len(seen[1]) == 20)
        assert sorted(seen[0] + seen[1]) == [bytes([number]) for number in range(20)]
        assert seen[0]
        assert seen[1]
        await near.close()
        await asyncio.gather(*tasks)


async def test_a_cancelled_loop_over_the_datagrams_loses_none(pair: PairOfSessions) -> None:
    async with pair() as (near, far):

        async def wait() -> bytes:
            return await anext(aiter(far.datagrams))

        assert await cancelled_at(wait, 0)
        await near.datagrams.send(b"kept")
        assert await anext(aiter(far.datagrams)) == b"kept"
