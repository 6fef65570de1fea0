"""How the end of a session looks on the wire: the CONNECT stream first, then its streams.

Control frames would go before stream data, and a browser would then report the end of a
stream instead of the end of the session.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from pywebtransport import ClientConfig, WebTransportClient, WebTransportSession
from pywebtransport._quic import live_objects
from pywebtransport.exceptions import SessionClosedError
from tests.integration import raw_h3 as h3
from tests.integration.raw_peer import Linked, RawPeer, linked, raw_server
from tests.support.certificates import Certificates
from tests.support.steps import until

Link = Callable[..., AbstractAsyncContextManager[Linked]]

SERVER16 = h3.DRAFT16 | {h3.CONNECT_PROTOCOL: 1}


@pytest.fixture
def link(serving: Callable[..., Any]) -> Link:
    """``async with link(...) as it``: see ``linked``."""
    return functools.partial(linked, serving)


class Busy:
    """A session in the middle of transfers, and its raw peer.

    Attributes:
        peer: The other end.
        number: ID of the CONNECT stream.
        session: Ours.
        streams: IDs of the streams that end with it: those that we reset, and that we stop.
    """

    def __init__(self, peer: RawPeer, number: int, session: WebTransportSession) -> None:
        self.peer = peer
        self.number = number
        self.session = session
        self.resets: set[int] = set()
        self.stops: set[int] = set()
        self._tasks: list[asyncio.Task[object]] = []

    async def begin(self, count: int = 3) -> None:
        """Open ``count`` streams of each end and kind, and write on ours without end."""
        for number in range(2 * count):
            unidirectional = bool(number % 2)
            theirs = self.peer.open_in_session(self.number, b"begun", unidirectional=unidirectional)
            self.stops.add(theirs)
            if not unidirectional:
                self.resets.add(theirs)
        arrivals = self.session.incoming_streams()
        for _ in range(2 * count):
            arrived = await anext(arrivals)
            assert await arrived.readexactly(5) == b"begun"
            self._tasks.append(asyncio.create_task(arrived.read(1)))
        for _ in range(count):
            for ours in (
                await self.session.create_bidirectional_stream(),
                await self.session.create_unidirectional_stream(),
            ):
                self.resets.add(ours.stream_id)
                if ours.stream_id % 4 < 2:
                    self.stops.add(ours.stream_id)
                self._tasks.append(asyncio.create_task(_write_without_end(ours)))
        ids = self.resets
        await self.peer.until(lambda: all(self.peer.streams[n].data for n in ids - self.stops))
        self.peer.ends.clear()

    async def ended(self) -> list[tuple[str, int, int]]:
        """Wait for the end of everything; what came first, and when."""
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        assert {type(result) for result in results} == {SessionClosedError}
        await self.peer.until(
            lambda: (
                {n for kind, n, _ in self.peer.ends if kind == "reset"} >= self.resets
                and {n for kind, n, _ in self.peer.ends if kind == "stop"} >= self.stops
            )
        )
        return self.peer.ends

    def check_order(self, kind: str = "fin") -> None:
        """The end of the CONNECT stream came in a packet before those of the streams."""
        first = self.peer.ends[0]
        assert first[:2] == (kind, self.number)
        others = [end for end in self.peer.ends if end[1] in self.resets | self.stops]
        assert min(packet for _, _, packet in others) > first[2]
        codes = {self.peer.streams[number].reset for number in self.resets}
        codes |= {self.peer.streams[number].stopped for number in self.stops}
        assert codes == {h3.SESSION_GONE}


async def _write_without_end(stream: Any) -> None:
    while True:
        await stream.write(bytes(16384))


@contextlib.asynccontextmanager
async def server_role(link: Link, **fields: Any) -> AsyncIterator[Busy]:
    async with link(**fields) as it:
        yield Busy(it.peer, *await it.open())


@contextlib.asynccontextmanager
async def client_role(
    certs: Certificates, client_config: Callable[..., ClientConfig]
) -> AsyncIterator[Busy]:
    async with (
        raw_server(certs) as server,
        WebTransportClient(config=client_config(close_timeout=1.0, allow_pooling=True)) as client,
    ):
        attempt = asyncio.create_task(client.connect(server.url))
        peer = await server.accept(SERVER16)
        await peer.headers(0)
        peer.send(0, h3.encode_headers([(":status", "200")]))
        yield Busy(peer, 0, await attempt)
        peer.vanish()


@pytest.fixture(params=["server", "client"])
def busy(
    request: pytest.FixtureRequest,
    link: Link,
    certs: Certificates,
    client_config: Callable[..., ClientConfig],
) -> Callable[[], AbstractAsyncContextManager[Busy]]:
    """A session whose own end is a server or a client."""
    if request.param == "server":
        return functools.partial(server_role, link)
    return functools.partial(client_role, certs, client_config)


BusyFactory = Callable[[], AbstractAsyncContextManager[Busy]]


@pytest.mark.parametrize("count", [3, 20])
async def test_close_goes_before_the_resets(busy: BusyFactory, count: int) -> None:
    async with busy() as it:
        await it.begin(count)
        await it.session.close(code=42, reason="bye", close_connection=False)
        await it.ended()
        it.check_order()
        (close,) = [c for c in it.peer.streams[it.number].capsules if c.type == h3.CLOSE]
        assert close.payload == (42).to_bytes(4, "big") + b"bye"


async def test_close_of_the_connection(busy: BusyFactory) -> None:
    """Closing the connection closes its sessions first, in the same order."""
    async with busy() as it:
        await it.begin()
        connection = it.session.connection
        assert connection is not None
        closing = asyncio.create_task(connection.close())
        await it.ended()
        it.check_order()
        it.peer.send(it.number, b"", fin=True)
        await closing
        assert await it.peer.closed() == 0x100


async def test_words_of_a_peer_that_leaves_at_once(busy: BusyFactory) -> None:
    """CONNECTION_CLOSE comes right behind the capsule, in the same batch of packets."""
    async with busy() as it:
        await it.begin()
        it.peer.send(it.number, h3.data(h3.close_capsule(77, b"enough")), fin=True)
        it.peer.close(error_code=0x100)
        info = await it.session.wait_closed()
        assert (info.code, info.reason, info.remote) == (77, "enough", True)
        for task in it._tasks:
            assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], Exception)


async def test_answer_to_a_close_of_the_peer(busy: BusyFactory) -> None:
    async with busy() as it:
        await it.begin()
        it.peer.send(it.number, h3.data(h3.close_capsule(5, b"x")), fin=True)
        await it.ended()
        it.check_order()


async def test_reset_of_the_peer(busy: BusyFactory) -> None:
    async with busy() as it:
        await it.begin()
        it.peer.reset(it.number, 0x10C)
        await it.ended()
        it.check_order("reset")


async def test_session_that_breaks_a_rule(busy: BusyFactory) -> None:
    async with busy() as it:
        await it.begin()
        it.peer.send(it.number, h3.data(h3.capsule(h3.DRAIN, b"x")))
        await it.ended()
        it.check_order("reset")


async def test_shutdown_of_the_server(link: Link) -> None:
    async with link() as it:
        number, session = await it.open()
        begun = Busy(it.peer, number, session)
        await begun.begin()
        closing = asyncio.create_task(it.server.close(drain_timeout=0))
        await begun.ended()
        begun.check_order()
        it.peer.send(number, b"", fin=True)
        await closing


async def test_the_end_is_blocked_by_the_credit_of_the_connection(link: Link) -> None:
    """What waits then goes a probe timeout later: it is what frees the credit."""
    async with server_role(link, client={"max_data": 100_000}) as it:
        it.peer.keep_credit()
        stream = await it.session.create_unidirectional_stream()
        writing = asyncio.create_task(_write_without_end(stream))
        await it.peer.until(lambda: it.peer.credit_used >= 100_000)
        await it.session.close(code=3, close_connection=False)
        assert isinstance(
            (await asyncio.gather(writing, return_exceptions=True))[0], SessionClosedError
        )
        assert await it.peer.was_reset(stream.stream_id) == h3.SESSION_GONE
        assert not it.peer.streams[it.number].fin
        it.peer.give_credit()
        await it.peer.finished(it.number)
        (close,) = [c for c in it.peer.streams[it.number].capsules if c.type == h3.CLOSE]
        assert close.payload == (3).to_bytes(4, "big")


async def test_nothing_is_left_of_sessions(link: Link) -> None:
    """Five sessions with 13 streams each; this function may hold on to the last one."""
    async with link() as it:
        for _ in range(5):
            number, session = await it.open()
            begun = Busy(it.peer, number, session)
            await begun.begin()
            await session.close(close_connection=False)
            await begun.ended()
            it.peer.send(number, b"", fin=True)
        await it.peer.delivered()

        def is_gone() -> bool:
            gc.collect()  # errors that were raised hold the frames they went through
            return live_objects()["groups"] <= 1 and live_objects()["streams"] < 2 * 13

        await until(is_gone)
