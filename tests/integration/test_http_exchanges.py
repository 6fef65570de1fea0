"""HTTP exchanges over real QUIC: bodies of any size, order, credit, and the end of a connection."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from pywebtransport.connection import WebTransportConnection
from pywebtransport.exceptions import WebTransportError
from pywebtransport.h3._exchange import H3Exchange
from tests.integration import raw_h3 as h3
from tests.integration.raw_peer import RawPeer, raw_client
from tests.support.endpoints import Serving

pytestmark = pytest.mark.loops("asyncio")

MIB = 1 << 20
# Only the credit of the connection keeps a response back.
WIDE = {"max_data": MIB // 2, "max_stream_data": 8 * MIB}


class Talk:
    """An exchange whose events set futures.

    Attributes:
        end: The error of the end, or None.
    """

    def __init__(self, connection: WebTransportConnection, exchange: H3Exchange) -> None:
        loop = asyncio.get_running_loop()
        self.connection = connection
        self.exchange = exchange
        self.end: asyncio.Future[Exception | None] = loop.create_future()
        self._news = asyncio.Event()
        exchange.events = self

    def readable(self) -> None:
        self._news.set()

    writable = readable

    def exchange_over(self, error: Exception | None) -> None:
        self.end.set_result(error)
        self._news.set()

    async def read(self) -> bytes:
        """The next piece of the body; nothing at its end."""
        while (data := self.exchange.read()) is None:
            assert not self.exchange.is_over
            self._news.clear()
            await self._news.wait()
        return data

    async def send(self, data: bytes, fin: bool = False) -> None:
        """Send a piece of the response, and wait until there is room for more."""
        self.exchange.send(data, fin)
        while self.exchange.is_full:
            self._news.clear()
            await self._news.wait()


class Bed:
    """A server, and a client in the hands of the test."""

    def __init__(self, peer: RawPeer, requests: asyncio.Queue[Talk]) -> None:
        self.peer = peer
        self._requests = requests

    async def request(
        self,
        method: str = "GET",
        path: str = "/",
        lines: list[tuple[str, str]] | None = None,
        *,
        fin: bool = True,
    ) -> tuple[int, Talk]:
        """A request: its ID, and what the application has of it."""
        number = self.peer.open(header(method, path, lines), fin=fin)
        async with asyncio.timeout(10):
            return number, await self._requests.get()

    async def body(self, number: int) -> bytes:
        """The body of a complete response."""
        data = await self.peer.finished(number)
        return b"".join(f.payload for f in h3.read_frames(data) if f.type == h3.DATA)


def header(method: str, path: str = "/", lines: list[tuple[str, str]] | None = None) -> bytes:
    """A HEADERS frame."""
    pseudo = [(":method", method), (":scheme", "https"), (":authority", "a.org"), (":path", path)]
    return h3.literal_headers([*pseudo, *(lines or [])])


Open = Callable[..., AbstractAsyncContextManager[Bed]]


@pytest.fixture
def open_bed(serving: Serving) -> Open:
    """``async with open_bed(client={...}, **fields of ServerConfig) as bed``."""

    @asynccontextmanager
    async def opened(client: dict[str, Any] | None = None, **config: Any) -> AsyncIterator[Bed]:
        requests: asyncio.Queue[Talk] = asyncio.Queue()

        def requested(connection: WebTransportConnection, exchange: H3Exchange) -> None:
            requests.put_nowait(Talk(connection, exchange))

        async with serving(None, **({"close_timeout": 5.0} | config)) as served:
            served.server.serve_requests_with(requested)
            async with raw_client(served.port, **(client or {})) as peer:
                yield Bed(peer, requests)

    return opened


async def test_a_large_upload_is_pulled(open_bed: Open) -> None:
    pieces = [bytes([n]) * 65_000 for n in range(64)]
    sent = b"".join(pieces)
    async with open_bed() as bed:
        lines = [("content-length", str(len(sent)))]
        number, talk = await bed.request("POST", lines=lines, fin=False)
        for piece in pieces:
            bed.peer.send(number, h3.data(piece))
        bed.peer.send(number, b"", fin=True)
        received = hashlib.sha256()
        while data := await talk.read():
            assert len(data) <= 65536
            received.update(data)
        assert received.digest() == hashlib.sha256(sent).digest()
        talk.exchange.respond(200, [], b"thanks", fin=True)
        assert await bed.body(number) == b"thanks"
        assert await talk.end is None


async def test_a_large_response_waits_for_its_reader(open_bed: Open) -> None:
    async with open_bed() as bed:
        number, talk = await bed.request()
        talk.exchange.respond(200, [(b"content-length", b"%d" % (4 * MIB))])
        for count in range(4):
            await talk.send(bytes([count]) * MIB, count == 3)
        assert await bed.body(number) == b"".join(bytes([count]) * MIB for count in range(4))


async def test_urgent_responses_go_first(open_bed: Open) -> None:
    async with open_bed(client=WIDE) as bed:
        bed.peer.keep_credit()
        talks = {}
        for urgency in (6, 3, 0):
            number, talk = await bed.request(lines=[("priority", f"u={urgency}")])
            talks[number] = talk
        for talk in talks.values():
            talk.exchange.respond(200, [], bytes(MIB), fin=True)
        bed.peer.give_credit()
        for number in talks:
            assert len(await bed.body(number)) == MIB
        assert [number for what, number, _ in bed.peer.ends if what == "fin"] == [8, 4, 0]


async def test_the_client_changes_its_mind_about_what_is_urgent(open_bed: Open) -> None:
    async with open_bed(client=WIDE) as bed:
        bed.peer.keep_credit()
        first, talk = await bed.request()
        second, other = await bed.request(lines=[("priority", "u=5")])
        talk.exchange.respond(200, [], bytes(MIB), fin=True)
        other.exchange.respond(200, [], bytes(MIB), fin=True)
        bed.peer.control(h3.frame(0xF0700, h3.varint(second) + b"u=1"))
        await bed.peer.ping()
        bed.peer.give_credit()
        await bed.peer.finished(first)
        await bed.peer.finished(second)
        assert [number for what, number, _ in bed.peer.ends if what == "fin"] == [second, first]


async def test_closing_waits_for_open_requests(open_bed: Open) -> None:
    async with open_bed() as bed:
        number, talk = await bed.request()
        closing = asyncio.create_task(talk.connection.close())
        # The client hears that no more requests are served.
        control = bed.peer.streams[await bed.peer.opened(b"\x00\x04")]
        await bed.peer.until(
            lambda: any(f.type == h3.GOAWAY for f in h3.read_frames(control.data[1:]))
        )
        late = bed.peer.open(header("GET"), fin=True)
        assert await bed.peer.was_reset(late) == 0x10B
        assert not closing.done()
        talk.exchange.respond(200, [], bytes(MIB), fin=True)
        assert len(await bed.body(number)) == MIB
        assert await bed.peer.closed() == 0x100
        await closing


async def test_closing_waits_until_responses_have_arrived(open_bed: Open) -> None:
    async with open_bed() as bed:
        bed.peer.keep_credit()
        number, talk = await bed.request("POST", fin=False)
        talk.exchange.respond(200, [], bytes(2 * MIB), fin=True)
        closing = asyncio.create_task(talk.connection.close())
        await bed.peer.ping()
        bed.peer.give_credit()
        assert len(await bed.body(number)) == 2 * MIB
        await closing
        assert await bed.peer.closed() == 0x100


async def test_closing_gives_up_at_its_deadline(open_bed: Open) -> None:
    async with open_bed(close_timeout=0.2) as bed:
        _, talk = await bed.request()
        await talk.connection.close()
        assert isinstance(await talk.end, WebTransportError)
        assert talk.exchange.read() == b""
        with pytest.raises(WebTransportError, match="over"):
            talk.exchange.respond(200, [])
        assert await bed.peer.closed() == 0x100


async def test_closing_does_not_wait_for_a_client_that_is_gone(open_bed: Open) -> None:
    async with open_bed() as bed:
        _, talk = await bed.request()
        closing = asyncio.create_task(talk.connection.close())
        bed.peer.close(0x100)
        await closing
        assert isinstance(await talk.end, WebTransportError)


async def test_a_request_without_memory_for_it_is_refused(open_bed: Open) -> None:
    async with open_bed() as bed:
        number, talk = await bed.request()
        budget = talk.connection.memory_budget
        taken = budget.limit - budget.used
        budget.take_anyway(taken)
        refused = bed.peer.open(header("GET"), fin=True)
        headers = await bed.peer.headers(refused)
        assert (headers[":status"], headers["retry-after"]) == ("503", "1")
        budget.give_back(taken)
        talk.exchange.respond(200, [], b"ok", fin=True)
        assert await bed.body(number) == b"ok"
