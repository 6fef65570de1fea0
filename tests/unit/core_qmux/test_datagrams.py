"""Datagrams over WebSocket: they arrive, in order, unless they wait too long to be sent."""

import asyncio
import os
from dataclasses import dataclass

import pytest

from pywebtransport import WebTransportSession
from pywebtransport.exceptions import DatagramTooLargeError, SessionClosedError
from pywebtransport.serializer import JSONSerializer
from tests.support.steps import until

from .bed import Bed

pytestmark = pytest.mark.loops("virtual")


async def echo(session: WebTransportSession) -> None:
    await session.accept()
    while True:
        try:
            data = await session.datagrams.receive()
        except SessionClosedError:
            return
        await session.datagrams.send(data)


async def stay(session: WebTransportSession) -> None:
    await session.accept()
    await session.wait_closed()


async def test_datagrams_go_both_ways_in_order() -> None:
    async with Bed(echo) as bed, bed.session() as session:
        sent = [b"%d" % number for number in range(200)]
        for data in sent:
            await session.datagrams.send(data)
        assert [await session.datagrams.receive() for _ in sent] == sent
        stats = session.datagrams.stats
        assert (stats["datagrams_sent"], stats["datagrams_received"]) == (200, 200)


async def test_the_largest_datagram_fits_and_no_larger_one() -> None:
    async with Bed(echo) as bed, bed.session() as session:
        size = session.max_datagram_size
        assert size > 16_000
        data = os.urandom(size)
        await session.datagrams.send(data)
        assert await session.datagrams.receive() == data
        with pytest.raises(DatagramTooLargeError) as caught:
            await session.datagrams.send(bytes(size + 1))
        assert (caught.value.datagram_size, caught.value.max_size) == (size + 1, size)
        await session.datagrams.send(b"")
        assert await session.datagrams.receive() == b""


async def test_datagrams_can_be_sent_before_the_answer() -> None:
    async with Bed(echo) as bed:
        connection, _ = await bed.dial()
        session = await connection.create_session("/")
        sending = asyncio.ensure_future(session.datagrams.send(b"early"))
        assert await session.datagrams.receive() == b"early"
        await sending
        await connection.close()


async def test_the_server_can_send_one_with_its_answer() -> None:
    async def handler(session: WebTransportSession) -> None:
        await session.accept()
        await session.datagrams.send(b"hello")
        await session.wait_closed()

    async with Bed(handler) as bed, bed.session() as session:
        assert await session.datagrams.receive() == b"hello"


async def test_a_datagram_that_waits_too_long_is_dropped_and_counted() -> None:
    async with Bed(echo) as bed:
        connection, link = await bed.dial()
        session = await connection.create_session("/")
        await session.ready()
        link.is_stuck = True
        await session.datagrams.send(b"old", ttl=0.5)
        await session.datagrams.send(b"new")
        await asyncio.sleep(1)
        link.unblock()
        assert await session.datagrams.receive() == b"new"
        stats = session.datagrams.stats
        assert stats["datagrams_expired"] == 1
        assert stats["send_drops"] == 1
        assert stats["datagrams_lost"] == 0
        await connection.close()


async def test_a_full_queue_makes_senders_wait() -> None:
    async with Bed(stay) as bed:
        connection, link = await bed.dial(datagram_queue_size=4)
        session = await connection.create_session("/")
        await session.ready()
        link.is_stuck = True
        for _ in range(4):
            assert await session.datagrams.try_send(b"x")
        assert not await session.datagrams.try_send(b"x")
        waiting = asyncio.ensure_future(session.datagrams.send(b"last"))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        assert session.datagrams.get_send_buffer_size() == 4
        link.unblock()
        await waiting
        far = bed.sessions[0].datagrams
        assert [await far.receive() for _ in range(5)] == [b"x"] * 4 + [b"last"]
        await connection.close()


async def test_a_session_may_have_a_smaller_queue_of_its_own() -> None:
    async with Bed(stay) as bed:
        connection, link = await bed.dial()
        session = await connection.create_session("/")
        await session.ready()
        session.datagrams.outgoing_high_water_mark = 2
        link.is_stuck = True
        assert [await session.datagrams.try_send(b"x") for _ in range(3)] == [True, True, False]
        assert await session.datagrams.clear_send_buffer() == 2
        assert session.datagrams.get_send_buffer_size() == 0
        link.unblock()
        await connection.close()


async def test_nobody_receives_after_the_end() -> None:
    async with Bed(stay) as bed, bed.session() as session:
        far = bed.sessions[0]
        await session.datagrams.send(b"1")
        await until(far.datagrams.get_receive_buffer_size)
        await session.close(code=4)
        with pytest.raises(SessionClosedError) as caught:
            await session.datagrams.send(b"2")
        assert caught.value.code == 4
        await far.wait_closed()
        assert await far.datagrams.receive() == b"1"
        with pytest.raises(SessionClosedError):
            await far.datagrams.receive()


@dataclass
class Point:
    x: int
    y: int


async def test_structured_datagrams() -> None:
    received: asyncio.Future[Point] = asyncio.get_running_loop().create_future()

    async def handler(session: WebTransportSession) -> None:
        await session.accept()
        points = await session.create_structured_datagram_transport(JSONSerializer(), {1: Point})
        received.set_result(await points.receive_obj())
        await session.wait_closed()

    async with Bed(handler) as bed, bed.session() as session:
        points = await session.create_structured_datagram_transport(JSONSerializer(), {1: Point})
        await points.send_obj(Point(1, 2))
        assert await received == Point(1, 2)
