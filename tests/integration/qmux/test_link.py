"""Links of the fallback: records over WebSocket, with real sockets and TLS."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import time

import pytest
from websockets.frames import Close, Frame, Opcode

from pywebtransport._loop import LinkOptions, dial
from pywebtransport._quic import EagerTurn
from pywebtransport.exceptions import ConnectionError, IdleTimeoutError, ProtocolError
from tests.support.certificates import Certificates

from .link_parts import Ends, linked, listening, raw_client, until

QUICK = LinkOptions(close_timeout=0.2)


@pytest.mark.parametrize("with_tls", [False, True])
async def test_records_go_both_ways_unchanged_and_in_order(
    certs: Certificates, with_tls: bool
) -> None:
    sizes = [0, 1, 125, 126, 127, 16382, 65534, 65535, 20000, 3]
    records = [random.randbytes(size) for size in sizes]
    async with linked(certs if with_tls else None) as (client, server):
        client.send(*records)
        server.send(*reversed(records))
        assert await server.count(len(records)) == records
        assert await client.count(len(records)) == records[::-1]
        assert client.link.alpn == server.link.alpn == ("http/1.1" if with_tls else "")
        assert client.link.peer_certificate == (certs.server.der if with_tls else None)
        assert client.link.remote_address == server.link.local_address
        assert client.link.local_address == server.link.remote_address


@pytest.mark.parametrize("with_tls", [False, True])
async def test_twenty_mebibytes_each_way_with_bounded_memory(
    certs: Certificates, with_tls: bool
) -> None:
    """Records are pulled only while the kernel takes them, however much there is to send."""
    total = 20 << 20
    record = random.randbytes(16 << 10)
    count = total // len(record)

    class Source(Ends):
        def next_record(self) -> bytes | None:
            if self.pulled == count:
                return None
            self.pulled += 1
            return record

        def handed_over(self) -> None:
            self.most_unsent = max(self.most_unsent, self.link.unsent)

    async with linked(certs if with_tls else None) as (client, server):
        ends = []
        for side in (client, server):
            source = Source(side.link)
            source.on_record = lambda data: data == record or pytest.fail("another record")
            ends.append(source)
            source.link.wants_to_send()
        for source in ends:
            await source.until(lambda source=source: source.received_bytes == total)
        assert [source.pulled for source in ends] == [count, count]


@pytest.mark.parametrize("with_tls", [False, True])
async def test_what_a_woken_task_sends_leaves_in_the_turn_that_woke_it(
    certs: Certificates, with_tls: bool
) -> None:
    loop = asyncio.get_running_loop()
    async with linked(certs if with_tls else None) as (client, server):
        await asyncio.sleep(0)
        order = server.events = []
        waiter = EagerTurn.of(loop).create_future(loop)

        async def answer() -> None:
            await waiter
            order.append("task")
            server.send(b"pong")

        def wake(_: bytes) -> None:
            loop.call_soon(order.append, "next turn")
            waiter.set_result(None)

        server.on_record = wake
        task = asyncio.create_task(answer())
        await asyncio.sleep(0)
        client.send(b"ping")
        assert await client.count(1) == [b"pong"]
        await task
        assert order == ["task", "handed over", "next turn"]


async def test_a_peer_that_does_not_read_is_not_written_to() -> None:
    async with raw_client() as (peer, server):
        peer.writer.transport.pause_reading()
        server.send(*[bytes(16 << 10)] * 4000)  # 64 MiB
        await server.until(lambda: "handed over" in server.events)
        pulled = -1
        while server.pulled != pulled or server.link.unsent == 0:
            pulled = server.pulled
            for _ in range(10):
                await asyncio.sleep(0)
        assert 0 < server.link.unsent <= 128 << 10
        handed_over = server.pulled * (16 << 10)
        # What the sockets of both ends hold, and one burst.
        assert handed_over < 16 << 20
        server.outgoing.clear()
        peer.writer.transport.resume_reading()
        received = 0
        while received < handed_over:
            opcode, payload = await peer.read_frame()
            assert opcode == Opcode.BINARY
            received += len(payload)
        await server.until(lambda: server.link.unsent == 0)


@pytest.mark.parametrize("with_tls", [False, True])
@pytest.mark.parametrize("first", ["client", "server"])
async def test_close_comes_after_the_last_record(
    certs: Certificates, with_tls: bool, first: str
) -> None:
    async with linked(certs if with_tls else None) as ends:
        one, other = ends if first == "client" else ends[::-1]
        one.outgoing.extend([b"record"] * 20)
        one.link.close(1000, "done")
        assert await other.closed is None
        assert other.received == [b"record"] * 20
        assert await one.closed is None
        assert (one.events[-1], other.events[-1]) == ("closed", "closed")


async def test_a_close_frame_has_code_and_reason() -> None:
    async with raw_client() as (peer, server):
        server.outgoing.append(b"last")
        server.link.close(1000, "\N{SNOWMAN}" * 50)  # of 3 bytes each; 123 have room
        assert await peer.read_frame() == (Opcode.BINARY, b"last")
        opcode, payload = await peer.read_frame()
        close = Close.parse(payload)
        assert (opcode, close.code, close.reason) == (Opcode.CLOSE, 1000, "\N{SNOWMAN}" * 41)
        peer.frame(Opcode.BINARY, b"on its way")
        peer.frame(Opcode.CLOSE, payload)
        assert await server.closed is None
        assert server.received == []
        assert await peer.reader.read() == b""


async def test_a_peer_that_does_not_answer_close_is_dropped() -> None:
    async with raw_client(QUICK) as (peer, server):
        server.link.close(1000)
        assert (await peer.read_frame())[0] == Opcode.CLOSE
        assert await server.closed is None
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await peer.reader.readexactly(1)


async def test_a_peer_that_leaves_without_close() -> None:
    async with raw_client() as (peer, server):
        peer.frame(Opcode.BINARY, b"a")
        peer.writer.write_eof()
        assert await server.closed is None
        assert server.received == [b"a"]


async def test_a_reset_connection_is_told_with_its_error() -> None:
    async with raw_client() as (peer, server):
        peer.frame(Opcode.BINARY, b"a")
        await server.count(1)
        peer.writer.transport.abort()
        server.send(*[bytes(1000)] * 1000)
        error = await server.closed
        assert error is None or isinstance(error, ConnectionError)


@pytest.mark.parametrize("with_tls", [False, True])
async def test_abort_ends_both_ends(certs: Certificates, with_tls: bool) -> None:
    async with linked(certs if with_tls else None) as (client, server):
        client.link.abort()
        client.link.abort()
        await client.closed
        await server.closed
        client.link.abort()
        client.link.close(1000)
        client.send(b"too late")


async def test_an_end_before_there_is_a_connection_above() -> None:
    """A client keeps a TCP connection until it knows whether it needs it."""
    async with listening() as listener:
        link = await dial(listener.address, server_name="a", tls=None, timeout=10.0)
        await until(lambda: bool(listener.links))
        listener.links[0].abort()
        await until(lambda: link.is_lost)
        ends = Ends(link)
        assert await ends.closed is None
        link.wants_to_send()
        link.close(1000)


async def test_fragments_are_joined() -> None:
    async with raw_client() as (peer, server):
        peer.frame(Opcode.BINARY, b"ab", fin=False)
        peer.frame(Opcode.PING, b"between")
        peer.frame(Opcode.CONT, b"", fin=False)
        peer.frame(Opcode.CONT, b"cd")
        peer.frame(Opcode.BINARY, b"")
        assert await server.count(2) == [b"abcd", b""]
        assert await peer.read_frame() == (Opcode.PONG, b"between")


@pytest.mark.parametrize(
    ("code", "data"),
    [
        pytest.param(1002, b"\xc2\x80\x00\x00\x00\x00", id="reserved bit 1"),
        pytest.param(1002, b"\xa2\x80\x00\x00\x00\x00", id="reserved bit 2"),
        pytest.param(1002, b"\x92\x80\x00\x00\x00\x00", id="reserved bit 3"),
        pytest.param(1002, b"\x83\x80\x00\x00\x00\x00", id="unknown opcode"),
        pytest.param(1002, b"\x8b\x80\x00\x00\x00\x00", id="unknown control opcode"),
        pytest.param(1002, b"\x82\x01a", id="not masked"),
        pytest.param(1002, b"\x80\x80\x00\x00\x00\x00", id="continuation of nothing"),
        pytest.param(1002, b"\x02\x80" + bytes(4) + b"\x82\x80" + bytes(4), id="no continuation"),
        pytest.param(1002, b"\x09\x80\x00\x00\x00\x00", id="fragmented ping"),
        pytest.param(1002, b"\x89\xfe\x00\x7e" + bytes(130), id="long ping"),
        pytest.param(1002, b"\x88\x81\x00\x00\x00\x00\x03", id="half a close code"),
        pytest.param(1002, b"\x88\x82\x00\x00\x00\x00\x03\xed", id="reserved close code"),
        pytest.param(1007, b"\x88\x83\x00\x00\x00\x00\x03\xe8\xff", id="close reason not UTF-8"),
    ],
)
async def test_broken_frames_get_close(code: int, data: bytes) -> None:
    """Row 60 of the negative cases."""
    async with raw_client(QUICK) as (peer, server):
        peer.frame(Opcode.BINARY, b"before")
        peer.send(data)
        peer.frame(Opcode.BINARY, b"after")
        opcode, payload = await peer.read_frame()
        assert (opcode, Close.parse(payload).code) == (Opcode.CLOSE, code)
        error = await server.closed
        assert isinstance(error, ProtocolError)
        assert server.received == [b"before"]
        assert await peer.reader.read() == b""


@pytest.mark.parametrize("in_pieces", [False, True])
async def test_a_message_that_is_too_large_is_not_buffered(in_pieces: bool) -> None:
    """Row 26: the violation is told in a last record, and then Close has 1009."""
    options = LinkOptions(max_record_size=1000, close_timeout=0.2)
    async with raw_client(options) as (peer, server):
        peer.frame(Opcode.BINARY, bytes(1000))
        if in_pieces:
            peer.frame(Opcode.BINARY, bytes(600), fin=False)
        size = 401 if in_pieces else 1 << 40
        # Only the head of the frame: nothing of it has to arrive.
        length = b"\xff" + size.to_bytes(8) if size > 65535 else b"\xfe" + size.to_bytes(2)
        peer.send((b"\x80" if in_pieces else b"\x82") + length)
        assert await peer.read_frame() == (Opcode.BINARY, server.last_record)
        opcode, payload = await peer.read_frame()
        assert (opcode, Close.parse(payload).code) == (Opcode.CLOSE, 1009)
        assert isinstance(await server.closed, ProtocolError)
        assert server.received == [bytes(1000)]
        assert server.events == ["too large", "closed"]
        assert await peer.reader.read() == b""


async def test_text_is_refused() -> None:
    """Row 28: the violation is told in a last record, and then Close has 1003."""
    async with raw_client(QUICK) as (peer, server):
        peer.frame(Opcode.TEXT, b"hello")
        peer.frame(Opcode.BINARY, b"after")
        assert await peer.read_frame() == (Opcode.BINARY, server.last_record)
        opcode, payload = await peer.read_frame()
        assert (opcode, Close.parse(payload).code) == (Opcode.CLOSE, 1003)
        assert server.events[0] == "text"
        peer.frame(Opcode.CLOSE, payload)
        await server.closed
        assert server.received == []


async def test_fragmented_text_is_refused() -> None:
    async with raw_client(QUICK) as (peer, server):
        peer.frame(Opcode.TEXT, b"half", fin=False)
        await server.until(lambda: "text" in server.events)
        assert server.received == []


@pytest.mark.parametrize(
    ("opcode", "data"),
    [(Opcode.PING, b""), (Opcode.PONG, b""), (Opcode.CONT, b""), (Opcode.CONT, b"x")],
)
async def test_a_flood_of_small_frames_ends_the_connection(opcode: Opcode, data: bytes) -> None:
    async with raw_client(QUICK) as (peer, server):
        if opcode is Opcode.CONT:
            peer.frame(Opcode.BINARY, b"x", fin=False)
        for _ in range(10_000):
            peer.frame(opcode, data, fin=opcode is not Opcode.CONT)
        error = await server.closed
        assert isinstance(error, ProtocolError)
        opcode_last, payload = (await peer.frames())[-1]
        assert (opcode_last, Close.parse(payload).code) == (Opcode.CLOSE, 1008)


async def test_pongs_for_a_peer_that_does_not_read_do_not_pile_up() -> None:
    async with raw_client() as (peer, server):
        peer.writer.transport.pause_reading()
        server.send(*[bytes(16 << 10)] * 4000)
        await until(lambda: server.link.unsent > 0)
        unsent = server.link.unsent
        for number in range(1000):
            peer.frame(Opcode.PING, b"%d" % number)
        peer.frame(Opcode.BINARY, b"end")
        await server.count(1)
        assert server.link.unsent <= unsent
        server.outgoing.clear()
        peer.writer.transport.resume_reading()
        opcode = Opcode.BINARY
        while opcode != Opcode.PONG:
            opcode, payload = await peer.read_frame()
        assert payload == b"999"


async def test_a_silent_peer_gets_pings_and_is_dropped() -> None:
    options = LinkOptions(ping_interval=0.02, silence=0.1)
    async with raw_client(options) as (peer, server):
        for _ in range(10):  # twice the time: its answers keep it
            assert await peer.read_frame() == (Opcode.PING, b"")
            peer.frame(Opcode.PONG)
        error = await server.closed
        assert isinstance(error, IdleTimeoutError)
        assert "sent nothing for 0.1 seconds" in str(error)


async def test_a_peer_that_takes_nothing_is_dropped() -> None:
    options = LinkOptions(ping_interval=0.02, silence=0.2)
    async with raw_client(options) as (peer, server):
        peer.writer.transport.pause_reading()
        server.send(*[bytes(16 << 10)] * 4000)
        while not server.closed.done():
            peer.frame(Opcode.PONG)
            await asyncio.sleep(0.01)
        error = server.closed.result()
        assert isinstance(error, IdleTimeoutError)
        assert "took nothing for 0.2 seconds" in str(error)


@pytest.mark.parametrize("end", ["close", "eof", "reset"])
async def test_other_work_gets_turns_between_many_records(end: str) -> None:
    """However much arrives at once; and nothing of it is lost when the peer leaves."""
    async with raw_client() as (peer, server):
        turns_at: list[int] = []
        turns = 0
        loop = asyncio.get_running_loop()

        def count() -> None:
            nonlocal turns
            turns += 1
            if not server.closed.done():
                loop.call_soon(count)

        def work(record: bytes) -> None:
            turns_at.append(turns)
            time.sleep(0.0005)  # longer than a slice of a turn

        loop.call_soon(count)
        server.on_record = work
        frame = Frame(Opcode.BINARY, bytes(1000)).serialize(mask=True)
        server.link.data_received(frame * 200)  # as a transport that had much to read
        assert len(turns_at) < 40
        if end == "close":
            peer.frame(Opcode.CLOSE, b"\x03\xe8")
        elif end == "eof":
            peer.writer.write_eof()
        else:
            sock = peer.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.writer.transport.abort()
        await server.closed
        assert len(turns_at) == 200
        assert turns_at == sorted(turns_at)
        if end != "reset":  # which is noticed in any turn
            assert len(set(turns_at)) >= 12


async def test_a_link_that_does_not_read() -> None:
    """For the legacy framing, whose only limit is the socket: silence is its own fault then."""
    options = LinkOptions(ping_interval=0.02, silence=0.06)
    async with raw_client(options) as (peer, server):
        server.link.pause_reading()
        peer.frame(Opcode.BINARY, b"a")
        await asyncio.sleep(0.2)
        assert server.received == []
        assert not server.closed.done()
        server.link.resume_reading()
        assert await server.count(1) == [b"a"]
        server.link.pause_reading()
        server.link.close(1000)
        peer.frame(Opcode.CLOSE, b"\x03\xe8")
        await server.closed
    server.link.pause_reading()
    server.link.resume_reading()


async def test_statistics_have_the_names_of_quic(certs: Certificates) -> None:
    async with linked(certs) as (client, server):
        client.send(*[bytes(50_000)] * 2)
        server.send(b"x")
        await server.count(2)
        await client.count(1)
        stats = client.link.stats()
        sent, received = stats["bytes_sent"], stats["bytes_received"]
        assert sent is not None
        assert received is not None
        assert 100_000 < sent < 101_000
        assert 0 < received < 1000
        rtt, window = stats["smoothed_rtt"], stats["cwnd"]
        assert rtt is not None
        assert window is not None
        assert 0 < rtt < 10**9
        assert window >= 1000
    assert client.link.stats() == {"bytes_sent": sent, "bytes_received": received}
