"""Streams of the public classes over a transport in Python, in a session of a real connection."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pywebtransport import WebTransportSession, WebTransportStream
from pywebtransport.exceptions import (
    SessionClosedError,
    StreamError,
    StreamResetError,
    StreamStoppedError,
    TimeoutError,
)
from pywebtransport.h3._error_codes import code_to_wire
from pywebtransport.testing import session_pair
from tests.support.steps import take, take_unidirectional, until

from .plain import Plain, Wire


class Layer:
    """In place of the HTTP/3 session: opens streams of a wire, and has no compiled shortcuts."""

    stream_way = None
    datagram_way = None

    def __init__(self, session: WebTransportSession, wire: Wire) -> None:
        self._below: Any = session._h3
        self._wire = wire
        self.refused = False
        self.finished: list[tuple[Plain, bool]] = []
        self.datagrams: list[bytes] = []
        session._h3 = self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._below, name)

    def open_stream(self, unidirectional: bool) -> Plain | None:
        if self.refused:
            return None
        return self._wire.stream(is_local=True, is_unidirectional=unidirectional)

    def stream_finished(self, stream: Plain, unidirectional: bool) -> None:
        self.finished.append((stream, unidirectional))

    def send_datagram(self, data: Any, priority: int, deadline: int | None) -> bool:
        self.datagrams.append(bytes(data))
        return True


@asynccontextmanager
async def room() -> AsyncIterator[tuple[WebTransportSession, Wire]]:
    """The server's session of a connection, and a wire."""
    async with session_pair() as (_, server):
        yield server, Wire()


async def arrive(session: WebTransportSession, quic: Plain) -> Any:
    """A stream of the peer comes to the application."""
    session.stream_received(quic, quic.is_unidirectional)
    return await (take_unidirectional if quic.is_unidirectional else take)(session)


async def started(awaitable: Any) -> asyncio.Task[Any]:
    """A task that waits for something now."""
    task = asyncio.create_task(awaitable)
    await asyncio.sleep(0)
    assert not task.done()
    return task


async def test_reading_waits_for_what_is_fed() -> None:
    async with room() as (session, wire):
        quic = wire.stream()
        stream = await arrive(session, quic)
        quic.feed(b"ready", False)
        wire.turn()
        assert await stream.read(3) == b"rea"
        assert await stream.read() == b"dy"
        reading = await started(stream.read())
        quic.feed(b"later", False)
        await asyncio.sleep(0)
        assert not reading.done()  # the deliver phase comes first
        wire.turn()
        assert await reading == b"later"
        exactly = await started(stream.readexactly(6))
        for piece in (b"ab", b"cd", b"efg"):
            quic.feed(piece, False)
            wire.turn()
        assert await exactly == b"abcdef"
        rest = await started(stream.read_all())
        quic.feed(b"end", True)
        wire.turn()
        assert await rest == b"gend"
        assert (wire.credit, quic.ends) == (20, 1)
        await stream.close()


async def test_a_cancelled_read_loses_nothing() -> None:
    async with room() as (session, wire):
        quic = wire.stream()
        stream = await arrive(session, quic)
        reading = await started(stream.readexactly(8))
        quic.feed(b"half", False)
        wire.turn()
        await until(lambda: wire.credit == 4)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        quic.feed(b"rest", True)
        assert await stream.readexactly(8) == b"halfrest"
        assert wire.credit == 8
        await stream.close()


async def test_a_read_times_out() -> None:
    async with room() as (session, wire):
        session._config = session._config.update(read_timeout=0.01)
        stream = await arrive(session, wire.stream())
        with pytest.raises(TimeoutError):
            await stream.read()
        await stream.abort()


async def test_writing_waits_for_room() -> None:
    async with room() as (session, wire):
        session.write_high_water, session.write_low_water = 1000, 100
        quic = wire.stream()
        stream = await arrive(session, quic)
        await stream.write(b"x" * 1000)
        writing = await started(stream.write(b"y" * 1000))
        assert stream.try_write(b"z") is False
        wire.take(quic, 1000)
        wire.turn()
        await asyncio.sleep(0)
        assert not writing.done()
        wire.take(quic, 900)
        wire.turn()
        await writing
        assert wire.take(quic) == b"y" * 100
        assert stream.try_write(b"z") is True
        await stream.write(bytearray(b"mutable"))
        await stream.write(b"last", end_stream=True)
        assert wire.take(quic) == b"zmutablelast"
        assert quic.fin_written
        acked = await started(stream.wait_acknowledged())
        quic.mark_acked()
        wire.turn()
        await acked
        assert stream.stats.bytes_sent == quic.bytes_written == 2012
        stream.stop_sending()


@pytest.mark.parametrize("unidirectional", [False, True])
async def test_a_stream_of_this_end_counts_until_it_is_done(unidirectional: bool) -> None:
    async with room() as (session, wire):
        layer = Layer(session, wire)
        create = (
            session.create_unidirectional_stream
            if unidirectional
            else session.create_bidirectional_stream
        )
        stream: Any = await create()
        quic = stream._quic
        assert isinstance(quic, Plain)
        assert session._open_count == 1
        assert session.get_stream(quic.stream_id) is stream
        await stream.write_all(b"all")
        assert (quic.out, quic.fin_written) == (b"all", True)
        if not unidirectional:
            quic.feed(b"answer", True)
            assert await stream.read_all() == b"answer"
        quic.close_stream()
        assert session._open_count == 1
        wire.turn()
        assert (session._open_count, session._counted_local) == (0, 0)
        assert layer.finished == [(quic, unidirectional)]
        layer.finished.clear()
        assert stream.is_closed


async def test_the_peer_has_no_room_for_a_stream() -> None:
    async with room() as (session, wire):
        layer = Layer(session, wire)
        layer.refused = True
        with pytest.raises(TimeoutError):
            await session.create_bidirectional_stream(timeout=0.01)
        assert session._open_count == 0


async def test_datagrams_go_the_long_way() -> None:
    async with room() as (session, wire):
        layer = Layer(session, wire)
        await session.datagrams.send(b"one")
        assert await session.datagrams.send_multiple(datagrams=[b"two", b"three"]) == 2
        assert layer.datagrams == [b"one", b"two", b"three"]


async def test_the_peer_ends_both_directions() -> None:
    async with room() as (session, wire):
        quic = wire.stream()
        stream = await arrive(session, quic)
        quic.feed(b"lost", False)
        reset = await started(stream.wait_stopped())
        quic.peer_reset(code_to_wire(5))
        quic.peer_stopped(code_to_wire(6))
        wire.turn()
        assert await reset == 6
        with pytest.raises(StreamResetError) as caught:
            await stream.read()
        assert caught.value.error_code == 5
        with pytest.raises(StreamStoppedError) as stopped:
            await stream.write(b"x")
        assert stopped.value.error_code == 6
        assert (wire.credit, quic.ends) == (4, 1)
        await stream.abort()


async def test_this_end_ends_both_directions() -> None:
    async with room() as (session, wire):
        quic = wire.stream()
        stream = await arrive(session, quic)
        reading = await started(stream.read())
        await stream.abort(7)
        assert (quic.resets, quic.stops) == ([code_to_wire(7)], [code_to_wire(7)])
        wire.turn()
        with pytest.raises(StreamError):
            await reading
        quic.close_stream()
        wire.turn()
        assert session._open_count == 0


async def test_the_end_of_the_connection_ends_a_read() -> None:
    async with room() as (session, wire):
        quic = wire.stream()
        stream = await arrive(session, quic)
        reading = await started(stream.read())
        quic.close_stream()
        wire.turn()
        with pytest.raises(SessionClosedError):
            await reading
        with pytest.raises(SessionClosedError):
            await stream.write(b"x")
        await stream.abort()


async def test_the_end_of_the_session_wakes_everybody() -> None:
    async with room() as (session, wire):
        quic = wire.stream()
        stream = await arrive(session, quic)
        waiting = wire.stream(is_unidirectional=True)
        session.stream_received(waiting, True)  # nobody accepts it
        reading = await started(stream.read())
        await session.close()
        with pytest.raises(SessionClosedError):
            await reading
        quic.close_stream()
        waiting.close_stream()
        wire.turn()


# ------------------------------------------------------------------ who outlives whom


async def test_the_application_drops_its_stream_first() -> None:
    async with room() as (session, wire):
        quic = wire.stream()
        stream: WebTransportStream | None = await arrive(session, quic)
        assert quic.tag() is stream
        assert stream is not None
        await stream.write(b"all", end_stream=True)
        reference = weakref.ref(stream)
        quic.feed(b"unread", True)
        assert await stream.read_all() == b"unread"
        del stream
        # The session keeps it: an acknowledgement is missing.
        held = reference()
        assert held is not None
        assert session._open_count == 1
        del held
        quic.close_stream()
        wire.turn()
        assert session._open_count == 0
        gc.collect()
        assert reference() is None
        assert quic.tag is None
        quic.feed(b"", True)
        quic.deliver()


async def test_a_dropped_stream_is_ended() -> None:
    async with room() as (session, wire):
        quic = wire.stream()
        stream: WebTransportStream | None = await arrive(session, quic)
        assert stream is not None
        await stream.write(b"part")
        quic.feed(b"unread", True)
        wire.turn()
        with pytest.warns(ResourceWarning, match="dropped with its sending half open"):
            del stream
        await until(lambda: quic.fin_written)
        assert (wire.credit, quic.ends) == (6, 1)
        quic.close_stream()
        wire.turn()
        assert session._open_count == 0


async def test_the_transport_drops_its_stream_first() -> None:
    async with room() as (session, wire):
        quic: Plain | None = wire.stream()
        assert quic is not None
        stream = await arrive(session, quic)
        quic.feed(b"kept", True)
        quic.finish_written(0, True)
        quic.close_stream()
        wire.turn()
        stream_id = quic.stream_id
        reference = weakref.ref(quic)
        del quic
        gc.collect()
        assert reference() is not None
        assert await stream.read_all() == b"kept"
        assert (session._open_count, wire.ended) == (0, [stream_id])
        del stream
        gc.collect()
        assert reference() is None


async def test_a_circle_of_both_is_collected() -> None:
    async with room() as (session, wire):
        quic = wire.stream()
        stream = await arrive(session, quic)
        await stream.write(b"", end_stream=True)
        quic.feed(b"", True)
        assert await stream.read_all() == b""
        quic.sink = lambda _, stream=stream: stream
        quic.close_stream()
        wire.turn()
        references = weakref.ref(quic), weakref.ref(stream)
        del quic, stream
        gc.collect()
        assert [reference() for reference in references] == [None, None]
