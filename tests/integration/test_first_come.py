"""Callers that wait for something that only one can have get it in the order of their calls.

Shares are counted: of those who want the same again and again, nobody gets more than one more
than another one. Nothing depends on the speed of the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pywebtransport import WebTransportClient, WebTransportSession
from pywebtransport._core.datagram_message import DatagramMessage
from pywebtransport.datagram import DatagramQueue, DatagramReliabilityLayer
from pywebtransport.exceptions import SessionClosedError, StreamLimitError, TimeoutError
from pywebtransport.stream import (
    StreamBuffer,
    WebTransportReceiveStream,
    WebTransportSendStream,
    WebTransportStream,
)
from tests.support.endpoints import ClientFactory, PairOfSessions, Serving
from tests.support.steps import take, take_unidirectional, until

Work = Callable[[int], Awaitable[None]]


class Shares:
    """How often each of several tasks got its turn.

    Every task works until ``total`` turns were had by all of them together. A task whose
    turns lag more than one behind those of another one fails at once.
    """

    def __init__(self, count: int, total: int) -> None:
        self.counts = [0] * count
        self.total = total
        self.widest = 0

    async def run(self, work: Work) -> None:
        async def go_on(number: int) -> None:
            while sum(self.counts) < self.total:
                await work(number)
                self.counts[number] += 1
                self.widest = max(self.widest, max(self.counts) - min(self.counts))

        async with asyncio.TaskGroup() as group:
            for number in range(len(self.counts)):
                group.create_task(go_on(number))


async def drop_streams(session: WebTransportSession) -> None:
    """Read every unidirectional stream to its end, all at a time."""
    async with asyncio.TaskGroup() as group:
        async for stream in session.incoming_unidirectional_streams():
            group.create_task(read_quietly(stream))


async def read_quietly(stream: WebTransportReceiveStream) -> None:
    with contextlib.suppress(SessionClosedError):
        await stream.read_all()


# ------------------------------------------------------------------------------- streams


@pytest.mark.parametrize("dialect", [7, 16])
@pytest.mark.parametrize("limit", [1, 8])
async def test_openers_have_equal_shares(pair: PairOfSessions, dialect: int, limit: int) -> None:
    """The limit of the connection (draft-07), and that of the session (draft-16)."""
    fields = {"initial_max_streams_uni": limit, "dialects": [dialect]}
    async with pair(server=fields) as (near, far):
        reading = asyncio.create_task(drop_streams(far))
        held: list[WebTransportSendStream] = []
        if dialect == 7:  # what QUIC allows beside
            held = [await near.create_unidirectional_stream() for _ in range(15)]
        shares = Shares(20, 600)

        async def use(_: int) -> None:
            stream = await near.create_unidirectional_stream(timeout=20)
            await stream.write_all(b"abc")

        await shares.run(use)
        # All begin before the limit is reached: the first ones had their turn then.
        assert shares.widest <= 1 + limit
        assert max(shares.counts) - min(shares.counts) <= 1 + limit
        for stream in held:
            await stream.write_all(b"")
        await near.close()
        await reading


async def test_openers_share_a_limit_of_their_own_end(pair: PairOfSessions) -> None:
    """Both kinds count for it, and are served in one order."""
    async with pair(client={"max_streams": 4}) as (near, far):
        reading = asyncio.create_task(drop_streams(far))
        answering = asyncio.create_task(answer_streams(far))
        shares = Shares(10, 300)

        async def use(number: int) -> None:
            if number % 2:
                stream = await near.create_unidirectional_stream(timeout=20)
                await stream.write_all(b"abc")
            else:
                both = await near.create_bidirectional_stream(timeout=20)
                await both.write_all(b"abc")
                assert await both.read_all() == b"abc"

        await shares.run(use)
        # One that waits for its answer has its next turn later.
        assert min(shares.counts) * 4 >= max(shares.counts)
        await near.close()
        await asyncio.gather(reading, answering)


async def answer_streams(session: WebTransportSession) -> None:
    async for stream in session.incoming_bidirectional_streams():
        await stream.write_all(await stream.read_all())


@pytest.mark.parametrize("where", ["near", "far"])
async def test_sessions_of_a_connection_have_equal_shares(
    serving: Serving, client_config: ClientFactory, where: str
) -> None:
    """Of the streams that QUIC allows to the connection, or its own limit to a server."""
    sessions: asyncio.Queue[WebTransportSession] = asyncio.Queue()

    async def keep(session: WebTransportSession) -> None:
        sessions.put_nowait(session)

    # With draft-07 only QUIC has limits.
    limits: dict[str, Any] = {"initial_max_streams_uni": 8, "dialects": [7]}
    if where == "far":
        limits = {"max_streams_per_connection": 5}
    count = 6
    async with (
        serving(keep, **limits) as served,
        WebTransportClient(config=client_config(allow_pooling=True)) as client,
    ):
        nears = [await client.connect(served.url()) for _ in range(count)]
        assert len({near.connection for near in nears}) == 1
        fars = [await sessions.get() for _ in range(count)]
        openers, readers = (nears, fars) if where == "near" else (fars, nears)
        async with asyncio.TaskGroup() as group:
            readings = [group.create_task(drop_streams(reader)) for reader in readers]
            # Several tasks in the first session, one in each other.
            owners = [openers[0]] * 5 + openers[1:]
            shares = Shares(len(owners), 600)

            async def use(number: int) -> None:
                stream = await owners[number].create_unidirectional_stream(timeout=20)
                await stream.write_all(b"abc")

            await shares.run(use)
            for near in nears:
                await near.close(close_connection=False)
            await asyncio.gather(*readings)
        assert max(shares.counts) - min(shares.counts) <= 26  # streams before any limit
        assert min(shares.counts) >= 600 // len(owners) - 26


async def test_a_session_at_its_own_limit_does_not_hold_up_others(
    serving: Serving, client_config: ClientFactory
) -> None:
    async def stay(session: WebTransportSession) -> None:
        await session.wait_closed()

    async with (
        serving(stay) as served,
        WebTransportClient(config=client_config(allow_pooling=True, max_streams=2)) as client,
    ):
        first, second = [await client.connect(served.url()) for _ in range(2)]
        held = [await first.create_unidirectional_stream() for _ in range(2)]
        waiting = asyncio.create_task(first.create_unidirectional_stream(timeout=20))
        await until(lambda: first._connection._stream_gates)
        other = await second.create_unidirectional_stream()
        assert other.is_writable
        assert not waiting.done()
        held[0].reset(0)
        assert (await waiting).is_writable


async def test_hundreds_of_openers_with_cancellation_in_the_middle(pair: PairOfSessions) -> None:
    """No turn is lost, none is had twice, and the order is that of the calls."""
    choose = random.Random(7)
    count = 400
    async with pair(server={"initial_max_streams_uni": 3}) as (near, far):
        order: list[int] = []

        async def use(number: int) -> None:
            stream = await near.create_unidirectional_stream(timeout=20)
            order.append(number)
            await stream.write_all(number.to_bytes(2, "big"))

        tasks = [asyncio.create_task(use(number)) for number in range(count)]
        await asyncio.sleep(0)
        arrived: list[int] = []
        while not all(task.done() for task in tasks):
            if choose.random() < 0.7:
                tasks[choose.randrange(count)].cancel()
            if choose.random() < 0.2:
                # In the turn in which they are served, too.
                near.once("session_max_streams_uni_updated", lambda _: cancel_first(tasks, order))
            if len(arrived) < len(order):
                stream = await take_unidirectional(far)
                arrived.append(int.from_bytes(await stream.read_all(), "big"))
            else:
                await asyncio.sleep(0)
        while len(arrived) < len(order):
            stream = await take_unidirectional(far)
            arrived.append(int.from_bytes(await stream.read_all(), "big"))
        assert order == sorted(order)
        assert len(order) > count // 4
        assert set(order) == {n for n, task in enumerate(tasks) if not task.cancelled()}
        assert sorted(arrived) == order
        assert not near._connection._stream_gates
        # All the credit there was is there again.
        for _ in range(3):
            assert await near.create_unidirectional_stream(timeout=20)


def cancel_first(tasks: list[asyncio.Task[None]], order: list[int]) -> None:
    waiting = [task for number, task in enumerate(tasks) if not task.done() and number not in order]
    if waiting:
        waiting[0].cancel()


async def test_the_end_of_a_session_lets_all_its_openers_go_on(
    serving: Serving, client_config: ClientFactory
) -> None:
    """Also callers behind those of another session, which continue to wait."""

    async def stay(session: WebTransportSession) -> None:
        await session.wait_closed()

    async with (
        serving(stay, initial_max_streams_uni=1, dialects=[7]) as served,
        WebTransportClient(config=client_config(allow_pooling=True)) as client,
    ):
        first, second = [await client.connect(served.url()) for _ in range(2)]
        for _ in range(16):
            held = await first.create_unidirectional_stream()
        waiting = [
            asyncio.create_task(session.create_unidirectional_stream(timeout=20))
            for session in (first, second, second, first, second)
        ]
        await until(lambda: len(gate_of(first, True)) == 5)
        await second.close(close_connection=False)
        for number in (1, 2, 4):
            with pytest.raises(Exception, match="no stream can be opened"):
                await waiting[number]
        assert [task.done() for task in waiting] == [False, True, True, False, True]
        await held.write_all(b"over")
        # Nobody reads there: a reset ends a stream without a reader.
        for task in (waiting[0], waiting[3]):
            task.cancel()
        await asyncio.wait(waiting)


def gate_of(session: WebTransportSession, unidirectional: bool) -> list[object]:
    """The callers that wait for a QUIC stream."""
    gates = session._connection._stream_gates
    if gates is None:
        return []
    return [
        place
        for key, gate in gates._gates.items()
        if key == (None, unidirectional)
        for place in gate.waiting.values()
    ]


# ---------------------------------------------------------------- what the error says


async def test_the_error_names_the_limit_of_the_session(pair: PairOfSessions) -> None:
    async with pair(server={"initial_max_streams_bidi": 3}) as (near, _):
        for _ in range(3):
            await near.create_bidirectional_stream()
        for _ in range(2):
            await near.create_unidirectional_stream()
        with pytest.raises(StreamLimitError, match=r"WT_MAX_STREAMS_BIDI, is 3 .* 3 are") as caught:
            await near.create_bidirectional_stream(timeout=0.01)
        assert caught.value.details == {
            "limit": "WT_MAX_STREAMS_BIDI",
            "value": 3,
            "open": 3,
            "ahead": 0,
        }
        assert "came before" not in str(caught.value)


async def test_the_error_names_the_limit_of_the_connection(
    serving: Serving, client_config: ClientFactory
) -> None:
    async def stay(session: WebTransportSession) -> None:
        await session.wait_closed()

    async with (
        serving(stay, initial_max_streams_uni=10) as served,
        WebTransportClient(config=client_config(allow_pooling=True)) as client,
    ):
        first, second, third = [await client.connect(served.url()) for _ in range(3)]
        for session, count in ((first, 10), (second, 10), (third, 5)):
            for _ in range(count):
                await session.create_unidirectional_stream()
        # 26 for the connection, of which one is the control stream.
        with pytest.raises(
            StreamLimitError, match=r"QUIC MAX_STREAMS_UNI, is 26 .* 25 such"
        ) as caught:
            await third.create_unidirectional_stream(timeout=0.01)
        assert caught.value.details == {
            "limit": "MAX_STREAMS_UNI",
            "value": 26,
            "open": 25,
            "ahead": 0,
        }


async def test_the_error_counts_those_who_came_before(pair: PairOfSessions) -> None:
    async with pair(server={"initial_max_streams_uni": 1}) as (near, _):
        await near.create_unidirectional_stream()
        patient = [
            asyncio.create_task(near.create_unidirectional_stream(timeout=20)) for _ in range(4)
        ]
        await asyncio.sleep(0)
        with pytest.raises(StreamLimitError, match="4 local callers came before") as caught:
            await near.create_unidirectional_stream(timeout=0.01)
        assert caught.value.details["ahead"] == 4
        for task in patient:
            task.cancel()
        await asyncio.wait(patient)


async def test_a_session_that_lacks_a_stream_for_its_request_says_so(
    serving: Serving, client_config: ClientFactory
) -> None:
    """Each session takes one of the streams that the connection may have."""

    async def stay(session: WebTransportSession) -> None:
        await session.wait_closed()

    config = client_config(allow_pooling=True, connect_timeout=5.0)
    async with (
        serving(stay, initial_max_streams_bidi=1, dialects=[7]) as served,
        WebTransportClient(config=config) as client,
    ):
        first = await client.connect(served.url())
        for _ in range(64):
            await first.create_bidirectional_stream()
        assert first.connection is not None
        second = await first.connection.create_session("/")
        with pytest.raises(TimeoutError, match=r"it was not sent because .*MAX_STREAMS_BIDI"):
            await second.ready(timeout=0.01)
        with pytest.raises(StreamLimitError, match=r"was not requested yet: .*MAX_STREAMS_BIDI"):
            await second.create_unidirectional_stream(timeout=0.01)
        await second.close(close_connection=False)


# ------------------------------------------------------------------------------- datagrams


@pytest.mark.parametrize("queue", [1, 32])
async def test_datagram_senders_have_equal_shares(pair: PairOfSessions, queue: int) -> None:
    async with pair(client={"datagram_queue_size": queue}) as (near, _):
        shares = Shares(30, 1500)

        async def send(_: int) -> None:
            await near.datagrams.send(bytes(200))

        await shares.run(send)
        # Before the queue was full for the first time, each sent what it could.
        assert shares.widest <= queue + 1


async def test_datagrams_of_the_sessions_of_a_connection_have_equal_shares(
    serving: Serving, client_config: ClientFactory
) -> None:
    async def stay(session: WebTransportSession) -> None:
        await session.wait_closed()

    config = client_config(allow_pooling=True, datagram_queue_size=8)
    async with serving(stay) as served, WebTransportClient(config=config) as client:
        sessions = [await client.connect(served.url()) for _ in range(5)]
        assert len({session.connection for session in sessions}) == 1
        owners = [sessions[0]] * 6 + sessions[1:]
        shares = Shares(len(owners), 1000)

        async def send(number: int) -> None:
            await owners[number].datagrams.send(bytes(200))

        await shares.run(send)
        assert shares.widest <= 9


async def test_try_send_leaves_the_room_to_those_who_wait(pair: PairOfSessions) -> None:
    async with pair(client={"datagram_queue_size": 4}) as (near, _):
        for _ in range(4):
            assert await near.datagrams.try_send(b"full")
        waiting = asyncio.create_task(near.datagrams.send(b"patient"))
        await asyncio.sleep(0)
        # One never gives it a chance to come first.
        while not waiting.done():
            sent = await near.datagrams.try_send(b"pushing")
            assert not sent or waiting.done() or not near._connection._datagram_gates
            await asyncio.sleep(0)
        await waiting


async def test_cancelled_senders_leave_their_turn_to_the_next(pair: PairOfSessions) -> None:
    choose = random.Random(11)
    async with pair(client={"datagram_queue_size": 2}) as (near, _):
        done: list[int] = []

        async def send(number: int) -> None:
            await near.datagrams.send(number.to_bytes(2, "big"))
            done.append(number)

        tasks = [asyncio.create_task(send(number)) for number in range(300)]
        while not all(task.done() for task in tasks):
            tasks[choose.randrange(len(tasks))].cancel()
            await asyncio.sleep(0)
        assert done == sorted(done)
        assert near.datagrams.send_sequence == len(done)
        assert not near._connection._datagram_gates


async def test_receivers_have_equal_shares(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        got: Counter[int] = Counter()
        order: list[bytes] = []

        async def receive(number: int) -> None:
            while True:
                order.append(await far.datagrams.receive())
                got[number] += 1

        tasks = [asyncio.create_task(receive(number)) for number in range(8)]
        await asyncio.sleep(0)
        sent = 0
        for _ in range(20):  # bursts, which one of them could take alone
            for _ in range(16):
                await near.datagrams.send(sent.to_bytes(2, "big"))
                sent += 1
            await until(lambda: len(order) == sent)  # noqa: B023
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert order == [number.to_bytes(2, "big") for number in range(sent)]
        assert max(got.values()) - min(got.values()) <= 1


async def test_a_batch_leaves_others_what_is_theirs(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        greedy = asyncio.create_task(far.datagrams.receive_many(64))
        modest = asyncio.create_task(far.datagrams.receive())
        await asyncio.sleep(0)
        for number in range(5):
            await near.datagrams.try_send(bytes([number]))
        first, one = await asyncio.gather(greedy, modest)
        rest = 5 - len(first) - 1
        await until(lambda: far.datagrams.get_receive_buffer_size() == rest)
        assert first[0] == b"\0"
        assert len(one) == 1


async def test_reliable_senders_have_equal_shares(pair: PairOfSessions) -> None:
    async with (
        pair() as (near, far),
        DatagramReliabilityLayer(near.datagrams, window=32) as sender,
        DatagramReliabilityLayer(far.datagrams, window=32) as receiver,
    ):
        shares = Shares(12, 600)

        async def receive() -> None:
            while True:
                await receiver.receive()

        receiving = asyncio.create_task(receive())

        async def send(_: int) -> None:
            await sender.send(b"x")

        await shares.run(send)
        assert shares.widest <= 33
        await sender.flush()
        receiving.cancel()
        await asyncio.wait({receiving})


# -------------------------------------------------------------------- writers of one stream


async def test_writers_of_one_stream_have_equal_shares(pair: PairOfSessions) -> None:
    fields = {"max_write_buffer_size": 65536, "stream_buffer_size": 16384}
    async with pair(client=fields) as (near, far):
        stream = await near.create_unidirectional_stream()
        shares = Shares(10, 1000)

        async def count() -> int:
            arriving = await take_unidirectional(far)
            return sum([len(data) async for data in arriving])

        reading = asyncio.create_task(count())

        async def write(number: int) -> None:
            await stream.write(bytes([number]) * 4096)

        await shares.run(write)
        await stream.close()
        assert await reading == 4096 * sum(shares.counts)
        # Before the buffer was full for the first time, the first one filled it.
        assert shares.widest <= 17 + 1


async def test_flush_ends_while_others_go_on_writing(pair: PairOfSessions) -> None:
    fields = {"max_write_buffer_size": 65536, "stream_buffer_size": 16384}
    async with pair(client=fields) as (near, far):
        stream = await near.create_unidirectional_stream()
        over = asyncio.Event()

        async def read() -> None:
            async for _ in await take_unidirectional(far):
                continue

        async def write() -> None:
            while not over.is_set():
                await stream.write(bytes(8192))
                await asyncio.sleep(0)

        reading = asyncio.create_task(read())
        writing = [asyncio.create_task(write()) for _ in range(3)]
        for _ in range(20):
            await stream.flush()
        over.set()
        await asyncio.gather(*writing)
        await stream.close()
        await reading


@pytest.mark.parametrize("kind", [bytes, bytearray])
async def test_a_write_stays_together_and_in_the_order_of_the_calls(
    pair: PairOfSessions, kind: Callable[[bytes], bytes]
) -> None:
    fields = {"max_write_buffer_size": 65536, "stream_buffer_size": 16384}
    async with pair(client=fields) as (near, far):
        stream = await near.create_unidirectional_stream()
        writes = [kind(bytes([number]) * (700_000 + number)) for number in range(12)]

        async def read() -> bytes:
            return await (await take_unidirectional(far)).read_all()

        reading = asyncio.create_task(read())
        async with asyncio.TaskGroup() as group:
            for number, data in enumerate(writes):
                if number == 6:  # it never waits, and comes behind those before all the same
                    group.create_task(stream.write(data, wait_flush=False))
                else:
                    group.create_task(stream.write(data))
            await asyncio.sleep(0)
            await stream.close()
        assert await reading == b"".join(map(bytes, writes))


async def test_a_cancelled_write_takes_no_turn_of_others(pair: PairOfSessions) -> None:
    choose = random.Random(3)
    fields = {"max_write_buffer_size": 8192, "stream_buffer_size": 4096}
    async with pair(client=fields) as (near, far):
        stream = await near.create_unidirectional_stream()
        data = bytes(5000)

        async def write() -> None:
            for _ in range(20):
                await stream.write(data)

        async def read() -> int:
            return len(await (await take_unidirectional(far)).read_all())

        reading = asyncio.create_task(read())
        tasks = [asyncio.create_task(write()) for _ in range(100)]
        await asyncio.sleep(0)
        for task in choose.sample(tasks, 50):
            task.cancel()
            await asyncio.sleep(0)
        await asyncio.wait(tasks)
        assert sum(not task.cancelled() for task in tasks) >= 50
        await stream.close()
        assert await reading == stream.stats.bytes_sent


# ----------------------------------------------------------------------- incoming streams


async def test_acceptors_have_equal_shares(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        got: Counter[int] = Counter()

        async def accept(number: int) -> None:
            async for stream in far.incoming_unidirectional_streams():
                got[number] += 1
                await stream.read_all()

        tasks = [asyncio.create_task(accept(number)) for number in range(10)]
        await asyncio.sleep(0)
        for _ in range(5):
            for _ in range(40):
                stream = await near.create_unidirectional_stream()
                await stream.write_all(b"x")
        await until(lambda: got.total() == 200)
        await near.close()
        await asyncio.gather(*tasks)
        assert got.total() == 200
        assert max(got.values()) <= 2 * min(got.values())


async def take_any(
    session: WebTransportSession,
) -> WebTransportStream | WebTransportReceiveStream:
    return await anext(aiter(session.incoming_streams()))


async def test_acceptors_of_all_kinds_stand_in_one_order(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        both = asyncio.create_task(take_any(far))
        await asyncio.sleep(0)
        uni = asyncio.create_task(take_unidirectional(far))
        bidi = asyncio.create_task(take(far))
        await asyncio.sleep(0)
        stream = await near.create_unidirectional_stream()
        await stream.write(b"1")
        assert (await both).stream_id == stream.stream_id
        assert not uni.done()
        assert not bidi.done()
        second = await near.create_unidirectional_stream()
        await second.write(b"2")
        assert (await uni).stream_id == second.stream_id
        third = await near.create_bidirectional_stream()
        await third.write(b"3")
        assert (await bidi).stream_id == third.stream_id


async def test_a_cancelled_acceptor_leaves_its_stream_to_the_next(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        tasks = [asyncio.create_task(take_any(far)) for _ in range(4)]
        await asyncio.sleep(0)

        def cancel(event: object) -> None:
            tasks[0].cancel()
            tasks[1].cancel()

        far.once("stream_opened", cancel)
        stream = await near.create_unidirectional_stream()
        await stream.write(b"x")
        assert (await tasks[2]).stream_id == stream.stream_id
        other = await near.create_bidirectional_stream()
        await other.write(b"x")
        assert (await tasks[3]).stream_id == other.stream_id
        assert [task.cancelled() for task in tasks] == [True, True, False, False]
        assert far._acceptors is not None
        assert not far._acceptors.bidirectional
        assert not far._acceptors.unidirectional


# ------------------------------------------------------------------------------- services


async def test_getters_of_a_queue_have_equal_shares() -> None:
    queue = DatagramQueue()
    got: Counter[int] = Counter()

    async def get(number: int) -> None:
        while True:
            await queue.get()
            got[number] += 1

    tasks = [asyncio.create_task(get(number)) for number in range(7)]
    await asyncio.sleep(0)
    for _ in range(10):
        for _ in range(14):
            await queue.put(DatagramMessage(data=b"x"))
        await until(queue.empty)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert got.total() == 140
    assert max(got.values()) - min(got.values()) <= 1


async def test_readers_of_a_buffer_are_served_in_turn() -> None:
    buffer = StreamBuffer()
    order: list[int] = []

    async def read(number: int) -> None:
        for _ in range(3):
            await buffer.read(1)
            order.append(number)

    tasks = [asyncio.create_task(read(number)) for number in range(4)]
    await asyncio.sleep(0)
    await buffer.feed_data(bytes(12))
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3] * 3
