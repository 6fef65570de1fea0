"""Frames with deadlines over real sessions: which are sent, dropped, cut, returned."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest

from pywebtransport.exceptions import ConfigurationError, SessionClosedError
from pywebtransport.media import Frame, FrameOrder, FrameReceiver, FrameSender, MediaCode
from pywebtransport.testing import Network, session_pair
from tests.support.endpoints import PairOfSessions
from tests.support.steps import cancelled_at, until

pytestmark = pytest.mark.loops("virtual")

SEQUENCE = FrameOrder.SEQUENCE
# Windows so small that one frame fills them.
NARROW = {"max_read_buffer_size": 16_384}


def header(sequence: int, timestamp: int = 0) -> bytes:
    return struct.pack("!QQ", sequence, timestamp)


async def test_frames_arrive_with_number_and_timestamp(pair: PairOfSessions) -> None:
    async with (
        pair() as (client, server),
        FrameSender(client, deadline=5) as sender,
        FrameReceiver(server, order=SEQUENCE) as receiver,
    ):
        assert sender.is_idle
        assert sender.send(b"one", timestamp=1.5) == 0
        await sender.flush()
        assert sender.send(bytearray(b"two"), deadline=1.0, timestamp=2) == 1
        await sender.flush()
        large = bytes(200_000)
        assert sender.send(large, timestamp=3) == 2
        await sender.flush()
        assert sender.send(b"") == 3
        frames = [await anext(receiver) for _ in range(4)]
        assert frames[:3] == [Frame(0, 1.5, b"one"), Frame(1, 2.0, b"two"), Frame(2, 3.0, large)]
        assert frames[3].data == b""
        assert frames[3].timestamp > 1e9  # since the epoch
        await sender.flush()
        sent, got = sender.stats, receiver.stats
        assert (sent.sent, sent.bytes_sent, sent.in_flight, sent.bytes_in_flight) == (
            4,
            200_006,
            0,
            0,
        )
        assert (sent.dropped, sent.cut, sent.refused, sent.lost) == (0, 0, 0, 0)
        assert 0 < sent.delay_last <= sent.delay_max < 5
        assert (got.received, got.returned, got.bytes_received) == (4, 4, 200_006)
        assert (got.overtaken, got.cut, got.missing, got.bytes_held) == (0, 0, 0, 0)
        await client.close()
        with pytest.raises(StopAsyncIteration):
            await anext(receiver)
        with pytest.raises(SessionClosedError):
            sender.send(b"x")


async def test_a_newer_frame_replaces_the_one_that_waits(pair: PairOfSessions) -> None:
    async with (
        pair() as (client, server),
        FrameSender(client, deadline=5, max_in_flight=1) as sender,
        FrameReceiver(server, order=SEQUENCE, patience=0) as receiver,
    ):
        for number in range(10):
            sender.send(b"%d" % number)
        await sender.flush()
        assert (sender.stats.sent, sender.stats.dropped, sender.stats.superseded) == (1, 9, 9)
        assert await anext(receiver) == Frame(9, pytest.approx(0, abs=1e12), b"9")  # type: ignore[arg-type]
        assert receiver.stats.missing == 9


async def test_a_frame_is_cut_at_its_deadline(pair: PairOfSessions) -> None:
    """The receiver does not read: the frame cannot be sent in time."""
    loop = asyncio.get_running_loop()
    async with pair(server=NARROW) as (client, server):
        async with FrameSender(client, max_in_flight=1) as sender:
            began = loop.time()
            sender.send(bytes(100_000), deadline=0.5)
            await until(lambda: sender.stats.in_flight == 1)
            sender.send(b"it has no room", deadline=0.25)
            await sender.flush()
            assert 0.49 < loop.time() - began < 0.6
            stats = sender.stats
            assert (stats.sent, stats.cut, stats.dropped, stats.superseded) == (0, 1, 1, 0)
            assert (stats.in_flight, stats.bytes_in_flight) == (0, 0)
            assert 0 <= stats.lateness_max < 0.1
        stream = await anext(aiter(server.incoming_unidirectional_streams()))
        with pytest.raises(Exception, match="the peer reset") as caught:
            await stream.read_all()
        assert getattr(caught.value, "error_code", None) == MediaCode.LATE


async def test_a_frame_that_finds_no_stream_is_dropped(pair: PairOfSessions) -> None:
    async with pair(server={"initial_max_streams_uni": 4}) as (client, _):
        held = [await client.create_unidirectional_stream() for _ in range(4)]
        with pytest.raises(TimeoutError):
            await client.create_unidirectional_stream(timeout=0.2)
        async with FrameSender(client) as sender:
            sender.send(b"old", deadline=0.2)
            sender.send(b"new", deadline=0.4)
            await sender.flush()
            stats = sender.stats
            assert (stats.dropped, stats.superseded, stats.sent, stats.cut) == (2, 1, 0, 0)
        assert all(stream.is_writable for stream in held)


async def test_newer_frames_go_first(pair: PairOfSessions) -> None:
    """Of two frames under way, the newer one has the higher send order."""
    async with pair() as (client, server), FrameSender(client, send_order=7) as sender:
        for _ in range(2):
            sender.send(bytes(50_000), deadline=30)
            await until(lambda: sender.stats.in_flight + sender.stats.sent == sender._sequence)
        orders = {frame.sequence: frame.stream.send_order for frame in sender._in_flight}  # type: ignore[union-attr]
        assert all(order == 7 + sequence for sequence, order in orders.items())
        async with FrameReceiver(server) as receiver:
            assert (await anext(receiver)).sequence in (0, 1)
            await sender.flush()


async def test_memory_of_the_sender_is_bounded(pair: PairOfSessions) -> None:
    async with (
        pair(server=NARROW) as (client, _),
        FrameSender(client, deadline=1, max_bytes=100_000) as sender,
    ):
        for _ in range(20):
            sender.send(bytes(40_000))
            await asyncio.sleep(0.01)
            assert sender.stats.bytes_in_flight <= 100_000
        assert sender.stats.in_flight == 2
        with pytest.raises(ConfigurationError, match="at most max_bytes=100000"):
            sender.send(bytes(100_001))


async def test_a_buffer_may_change_after_the_call(pair: PairOfSessions) -> None:
    async with (
        pair() as (client, server),
        FrameSender(client, deadline=5) as sender,
        FrameReceiver(server) as receiver,
    ):
        data = bytearray(b"a" * 50_000)
        sender.send(data)
        data[:] = b"b" * 50_000
        assert (await anext(receiver)).data == b"a" * 50_000
        whole = bytes(100_000)
        sender.send(memoryview(whole)[50_000:])
        assert (await anext(receiver)).data == bytes(50_000)


async def test_the_newest_frame_is_returned(pair: PairOfSessions) -> None:
    async with (
        pair() as (client, server),
        FrameSender(client, deadline=5) as sender,
        FrameReceiver(server) as receiver,
    ):
        for number in range(5):
            sender.send(b"%d" % number)
            await sender.flush()
        await until(lambda: receiver.stats.received == 5)
        assert (await anext(receiver)).data == b"4"
        assert (receiver.stats.returned, receiver.stats.overtaken) == (1, 4)
        # An older one that comes later is stopped.
        late = await client.create_unidirectional_stream()
        await late.write(header(2) + b"late")
        assert await late.wait_stopped() == MediaCode.UNWANTED
        await until(lambda: receiver.stats.overtaken == 5)
        assert receiver.stats.bytes_held == 0


async def test_order_waits_for_missing_frames_and_not_for_ever(pair: PairOfSessions) -> None:
    loop = asyncio.get_running_loop()
    async with (
        pair() as (client, server),
        FrameReceiver(server, order=SEQUENCE, patience=0.5) as receiver,
    ):
        streams = [await client.create_unidirectional_stream() for _ in range(6)]
        await streams[1].write(header(1) + b"1", end_stream=True)
        await until(lambda: receiver.stats.received == 1)
        await streams[0].write(header(0) + b"0", end_stream=True)
        assert [(await anext(receiver)).data for _ in range(2)] == [b"0", b"1"]
        # One that is cut is not waited for, one that never came is, once.
        await streams[2].write(header(2))
        await until(lambda: receiver.stats.bytes_held > 0)
        streams[2].reset(MediaCode.LATE)
        await streams[3].write(header(3) + b"3", end_stream=True)
        began = loop.time()
        assert (await anext(receiver)).data == b"3"
        assert loop.time() - began < 0.3
        await streams[5].write(header(5) + b"5", end_stream=True)
        assert (await anext(receiver)).data == b"5"
        assert 0.4 < loop.time() - began < 0.8
        await streams[4].write(header(4) + b"4")
        assert await streams[4].wait_stopped() == MediaCode.UNWANTED
        stats = receiver.stats
        assert (stats.cut, stats.missing, stats.overtaken, stats.returned) == (1, 2, 1, 4)


async def test_a_frame_that_stops_arriving_is_cut(pair: PairOfSessions) -> None:
    loop = asyncio.get_running_loop()
    async with (
        pair(server={"read_timeout": 0.2}) as (client, server),
        FrameReceiver(server, order=SEQUENCE, patience=60) as receiver,
    ):
        stalled = [await client.create_unidirectional_stream() for _ in range(2)]
        await stalled[0].write(header(0) + b"0")
        await stalled[1].write(header(1)[:5])
        sender = await client.create_unidirectional_stream()
        await sender.write(header(1) + b"1", end_stream=True)
        began = loop.time()
        assert (await anext(receiver)).sequence == 1
        assert loop.time() - began < 30
        assert [await stream.wait_stopped() for stream in stalled] == [MediaCode.LATE] * 2
        stats = receiver.stats
        assert (stats.cut, stats.missing, stats.bytes_held) == (2, 1, 0)


async def test_end_of_the_session_returns_what_is_here(pair: PairOfSessions) -> None:
    async with (
        pair() as (client, server),
        FrameReceiver(server, order=SEQUENCE, patience=60) as receiver,
    ):
        for number in (3, 1):
            stream = await client.create_unidirectional_stream()
            await stream.write(header(number) + b"x", end_stream=True)
        await until(lambda: receiver.stats.received == 2)
        await client.close()
        assert [frame.sequence async for frame in receiver] == [1, 3]


async def test_hostile_frames_are_bounded(pair: PairOfSessions) -> None:
    async with (
        pair() as (client, server),
        FrameReceiver(
            server, order=SEQUENCE, patience=3600, max_frame_size=10_000, max_bytes=20_000
        ) as receiver,
    ):
        large = await client.create_unidirectional_stream()
        await large.write(header(1) + bytes(20_000))
        assert await large.wait_stopped() == MediaCode.TOO_LARGE
        short = await client.create_unidirectional_stream()
        await short.write(b"short", end_stream=True)
        await until(lambda: receiver.stats.malformed == 1)
        # Complete ones give way to newer ones, and empty ones take room as well.
        for number in range(5, 105):
            stream = await client.create_unidirectional_stream()
            await stream.write(header(number), end_stream=True)
            await stream.wait_acknowledged()
        await until(lambda: receiver.stats.received == 100)
        assert receiver.stats.bytes_held <= 20_000
        assert len(receiver._ready) < 40
        # The same number twice is one frame.
        for _ in range(2):
            stream = await client.create_unidirectional_stream()
            await stream.write(header(200) + b"x", end_stream=True)
        await until(lambda: receiver.stats.received == 102)
        assert receiver.stats.too_large == 1


async def test_closing_and_aborting(pair: PairOfSessions) -> None:
    async with pair(server=NARROW) as (client, server):
        sender = FrameSender(client, deadline=60, max_in_flight=1)
        sender.send(bytes(100_000))
        await until(lambda: sender.stats.in_flight == 1)
        sender.send(b"waits")
        closing = asyncio.create_task(sender.close())
        await asyncio.sleep(0.01)
        assert sender.is_closed
        with pytest.raises(ConfigurationError, match="is closed"):
            sender.send(b"x")
        sender.abort()
        await closing
        assert (sender.stats.lost, sender.stats.dropped, sender.is_idle) == (1, 1, True)
        receiver = FrameReceiver(server)
        with pytest.raises(ConfigurationError, match="not started"):
            await anext(receiver)
        async with receiver:
            waiting = asyncio.create_task(anext(receiver))  # type: ignore[arg-type]
            await asyncio.sleep(0)
            await receiver.close()
            await receiver.close()
            with pytest.raises(StopAsyncIteration):
                await asyncio.shield(_value(waiting))
            with pytest.raises(ConfigurationError, match="cannot be started again"):
                await receiver.__aenter__()
        assert receiver.is_closed


async def _value(task: asyncio.Task[Any]) -> Any:
    await asyncio.wait([task])
    raise task.exception() or AssertionError("it returned a frame")


async def test_a_session_that_ends_under_way(pair: PairOfSessions) -> None:
    async with (
        pair(server=NARROW) as (client, server),
        FrameSender(client, deadline=60) as sender,
    ):
        sender.send(bytes(100_000))
        await until(lambda: sender.stats.in_flight == 1)
        await server.close(code=3)
        await sender.flush()
        assert (sender.stats.lost, sender.stats.sent) == (1, 0)


async def test_receiving_can_be_cancelled_at_every_await(pair: PairOfSessions) -> None:
    async with (
        pair() as (client, server),
        FrameSender(client, deadline=5) as sender,
        FrameReceiver(server, order=SEQUENCE) as receiver,
    ):
        for step in range(20):
            frames: list[Frame] = []

            async def receive(frames: list[Frame] = frames) -> None:
                sender.send(b"x")
                frames.append(await anext(receiver))

            if not await cancelled_at(receive, step):
                assert len(frames) == 1
                break
            assert frames == []
            await anext(receiver)  # nothing was lost
        else:
            raise AssertionError("it did not end")


async def test_closing_a_sender_can_be_cancelled_at_every_await(pair: PairOfSessions) -> None:
    async with pair(server=NARROW) as (client, _):
        for step in range(20):
            sender = FrameSender(client, deadline=0.5)
            sender.send(bytes(50_000))
            await until(lambda sender=sender: sender.stats.in_flight == 1)  # type: ignore[misc]
            was_cancelled = await cancelled_at(sender.close, step)
            assert sender.is_idle
            await sender.close()
            assert sender.stats.cut + sender.stats.lost == 1
            if not was_cancelled:
                return
        raise AssertionError("it did not end")


async def test_a_bad_network_costs_frames_and_no_delay() -> None:
    """Every frame is counted once, and what arrives is whole."""
    network = Network(loss=0.1, delay=0.02, seed=5)
    async with (
        session_pair(network=network) as (client, server),
        FrameSender(client, deadline=0.11) as sender,
        FrameReceiver(server, order=SEQUENCE) as receiver,
    ):
        for number in range(60):
            sender.send(bytes([number]) * 20_000)
            await asyncio.sleep(0.03)
        await sender.flush()
        stats = sender.stats
        assert stats.sent + stats.dropped + stats.cut == 60
        assert stats.sent > 20
        assert stats.cut > 0
        assert stats.delay_max <= 0.12
        await client.close()
        frames = [frame async for frame in receiver]
        assert all(frame.data == bytes([frame.sequence]) * 20_000 for frame in frames)
        numbers = [frame.sequence for frame in frames]
        assert numbers == sorted(set(numbers))
        got = receiver.stats
        assert got.received >= stats.sent
        assert got.returned == len(frames) == got.received - got.overtaken


@pytest.mark.loops("asyncio", "uvloop")
async def test_frames_over_real_sockets(pair: PairOfSessions) -> None:
    async with (
        pair() as (client, server),
        FrameSender(client, deadline=30) as sender,
        FrameReceiver(server, order=SEQUENCE) as receiver,
    ):
        for number in range(20):
            sender.send(bytes([number]) * 30_000)
            assert (await anext(receiver)).data == bytes([number]) * 30_000
        await sender.flush()
        assert sender.stats.sent == 20


async def test_wrong_arguments(pair: PairOfSessions) -> None:
    async with pair() as (client, _):
        sender = FrameSender(client)
        for arguments, key in (
            ({"data": 5}, "data"),
            ({"data": b"", "deadline": 0}, "deadline"),
            ({"data": b"", "timestamp": -1}, "timestamp"),
            ({"data": b"", "timestamp": "now"}, "timestamp"),
        ):
            with pytest.raises(ConfigurationError) as caught:
                sender.send(**arguments)  # type: ignore[arg-type]
            assert caught.value.config_key == key
        assert sender.is_idle
        for cls, arguments, key in (
            (FrameSender, {"deadline": 0}, "deadline"),
            (FrameSender, {"max_in_flight": 0}, "max_in_flight"),
            (FrameSender, {"max_bytes": 1.5}, "max_bytes"),
            (FrameSender, {"send_order": "x"}, "send_order"),
            (FrameReceiver, {"order": "newest"}, "order"),
            (FrameReceiver, {"patience": -1}, "patience"),
            (FrameReceiver, {"max_frame_size": 0}, "max_frame_size"),
            (FrameReceiver, {"max_bytes": 0}, "max_bytes"),
            (FrameReceiver, {"max_in_flight": 0}, "max_in_flight"),
        ):
            with pytest.raises(ConfigurationError) as caught:
                cls(client, **arguments)  # type: ignore[operator]
            assert caught.value.config_key == key
            with pytest.raises(ConfigurationError):
                cls(None)  # type: ignore[operator]
