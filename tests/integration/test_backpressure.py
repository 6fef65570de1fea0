"""A slow reader slows down only its writer, within the configured buffers."""

from __future__ import annotations

import asyncio

import pytest

from pywebtransport.session import WebTransportSession
from pywebtransport.stream import WebTransportReceiveStream, WebTransportSendStream
from tests.support.endpoints import PairOfSessions
from tests.support.payload import payload
from tests.support.steps import echo_bidirectional, round_trip, take, take_unidirectional, until

MIB = 1024 * 1024
PIECE = 16 * 1024
# What lies between the two buffers: headers, and the piece that crossed the mark.
SLACK = 2 * PIECE


class Writer:
    """Writes pieces of a payload until told to stop; counts what ``write`` has taken."""

    def __init__(self, stream: WebTransportSendStream, total: int) -> None:
        self.stream = stream
        self.data = payload(total)
        self.accepted = 0
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        for offset in range(0, len(self.data), PIECE):
            piece = self.data[offset : offset + PIECE]
            self.accepted += len(piece)
            await self.stream.write(piece)
        await self.stream.close()


async def settle(
    writers: list[Writer], near: WebTransportSession, far: WebTransportSession
) -> None:
    """Return once round trips pass on the same connection without any writer moving on."""
    quiet = 0
    while quiet < 10:
        before = [writer.accepted for writer in writers]
        await round_trip(near, far, b"ping")
        moved = before != [writer.accepted for writer in writers]
        quiet = 0 if moved else quiet + 1


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_writer_of_a_stopped_reader_blocks_after_the_configured_buffers(
    pair: PairOfSessions, direction: str
) -> None:
    async with pair() as (client, server):
        near, far = (client, server) if direction == "up" else (server, client)
        stream = await near.create_bidirectional_stream()
        writer = Writer(stream, 8 * MIB)
        await until(lambda: writer.accepted > MIB)
        other = await take(far)
        await settle([writer], near, far)
        assert not writer.task.done()
        # One buffer at each end: the receiver's window and the writer's queue.
        assert MIB < writer.accepted <= 2 * MIB + SLACK
        assert other._quic.buffered <= MIB
        assert stream.write_buffer_size <= MIB + PIECE
        assert await other.read_all() == writer.data
        await writer.task


@pytest.mark.parametrize(("window", "buffer"), [(64 * 1024, 64 * 1024), (MIB, 128 * 1024)])
async def test_smaller_buffers_bind_sooner(pair: PairOfSessions, window: int, buffer: int) -> None:
    async with pair(
        client={"max_write_buffer_size": buffer}, server={"max_read_buffer_size": window}
    ) as (near, far):
        writer = Writer(await near.create_unidirectional_stream(), 4 * MIB)
        other = await take_unidirectional(far)
        await settle([writer], near, far)
        assert writer.accepted <= window + buffer + SLACK
        assert other._quic.buffered <= window
        assert await other.read_all() == writer.data
        await writer.task


async def test_reader_sets_the_pace(pair: PairOfSessions) -> None:
    """However the reader continues, the writer is never further ahead than the buffers."""
    async with pair() as (near, far):
        writer = Writer(await near.create_unidirectional_stream(), 6 * MIB)
        other = await take_unidirectional(far)
        read = 0
        while data := await other.read(48 * 1024):
            read += len(data)
            assert writer.accepted - read <= 2 * MIB + SLACK
        assert read == len(writer.data)
        await writer.task


async def test_stopped_stream_does_not_stop_the_others(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        stuck = Writer(await near.create_unidirectional_stream(), 4 * MIB)
        other = await take_unidirectional(far)
        await settle([stuck], near, far)
        echoing = asyncio.create_task(echo_bidirectional(far))
        data = payload(5 * MIB)
        stream = await near.create_bidirectional_stream()
        async with asyncio.TaskGroup() as group:
            group.create_task(stream.write_all(data))
            answer = group.create_task(stream.read_all())
        assert answer.result() == data
        assert not stuck.task.done()
        assert await other.read_all() == stuck.data
        await stuck.task
        await near.close()
        await echoing


async def test_many_stopped_streams_are_bounded_by_the_session_window(
    pair: PairOfSessions,
) -> None:
    window = 2 * MIB
    async with pair(
        server={"initial_max_data": window}, client={"max_write_buffer_size": 64 * 1024}
    ) as (near, far):
        writers = [Writer(await near.create_unidirectional_stream(), MIB) for _ in range(8)]
        readers: list[WebTransportReceiveStream] = []
        async for other in far.incoming_unidirectional_streams():
            readers.append(other)
            if len(readers) == len(writers):
                break
        # Round trips need credit of the session themselves: datagrams do not.
        quiet = 0
        while quiet < 10:
            before = [writer.accepted for writer in writers]
            await near.datagrams.send(b"ping")
            await far.datagrams.receive()
            await far.datagrams.send(b"pong")
            await near.datagrams.receive()
            buffered = sum(reader._quic.buffered for reader in readers)
            still = before == [writer.accepted for writer in writers]
            # On a busy machine they also wait for acknowledgements, and go on.
            quiet = quiet + 1 if still and buffered > window // 2 else 0
        assert window // 2 < buffered <= window
        assert not any(writer.task.done() for writer in writers)
        received = await asyncio.gather(*(reader.read_all() for reader in readers))
        await asyncio.gather(*(writer.task for writer in writers))
        assert sorted(received) == sorted(writer.data for writer in writers)


async def test_stopped_session_does_not_stop_another_of_the_same_connection(
    pair: PairOfSessions,
) -> None:
    async with pair(server={"initial_max_data": MIB}) as (near, far):
        assert near.connection is not None
        assert far.connection is not None
        second = await near.connection.create_session("/second")
        await second.ready()
        other = next(session for session in far.connection.sessions if session is not far)
        stuck = Writer(await near.create_unidirectional_stream(), 8 * MIB)
        await settle([stuck], second, other)
        assert not stuck.task.done()
        data = payload(3 * MIB)
        stream = await second.create_unidirectional_stream()
        writing = asyncio.create_task(stream.write_all(data))
        assert await (await take_unidirectional(other)).read_all() == data
        await writing
        assert await (await take_unidirectional(far)).read_all() == stuck.data
        await stuck.task


async def test_several_writers_of_one_stream_all_wake(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        stream = await near.create_unidirectional_stream()
        writing = [asyncio.create_task(stream.write(bytes([n]) * MIB)) for n in range(6)]
        other = await take_unidirectional(far)
        reading = asyncio.create_task(other.read_all())
        await asyncio.gather(*writing)
        await stream.close()
        data = await reading
        assert data == b"".join(bytes([n]) * MIB for n in range(6))


async def test_streams_nobody_takes_are_bounded(pair: PairOfSessions) -> None:
    async with pair(
        server={"initial_max_streams_uni": 10, "max_incoming_streams": 5},
        client={"stream_creation_timeout": 0.05},
    ) as (near, far):
        for _ in range(5):
            stream = await near.create_unidirectional_stream()
            await stream.write_all(b"x")
        with pytest.raises(TimeoutError):
            await near.create_unidirectional_stream()
        for _ in range(5):
            assert await (await take_unidirectional(far)).read_all() == b"x"
        await round_trip(near, far, b"ping")


async def test_queued_datagrams_are_bounded_while_streams_are_stuck(
    pair: PairOfSessions,
) -> None:
    async with pair(server={"datagram_queue_size": 100}) as (near, far):
        stuck = Writer(await near.create_unidirectional_stream(), 4 * MIB)
        other = await take_unidirectional(far)
        await settle([stuck], near, far)
        for _ in range(1000):
            await near.datagrams.send(bytes(1000))
        await until(
            lambda: (
                far.datagrams.stats["datagrams_received"] + near.datagrams.stats["datagrams_lost"]
                >= 1000
            )
        )
        kept = far.datagrams.get_queue_stats()["incoming"]
        assert kept["size"] == kept["max_size"] <= 400
        assert await other.read_all() == stuck.data
        await stuck.task
