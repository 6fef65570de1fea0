"""Deno's own WebTransport, client and server, as far as it goes (Deno 2.9).

It sends neither the end of a stream nor a reset or a stop, shows codes as they stand on the wire,
knows no capsules, so that its session is the connection, and offers no application protocols. It
is the same between two of its own; see docs/howto/browsers.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from pywebtransport import ClientConfig, WebTransportClient, WebTransportSession
from pywebtransport.h3._error_codes import code_to_wire
from tests.support.certificates import Certificates
from tests.support.steps import take, take_unidirectional

from .deno_peer import ScriptSession, script_client, script_server
from .link import Digest, Link

Linked = Callable[..., AbstractAsyncContextManager[Link]]

pytestmark = pytest.mark.usefixtures("deno_there")

CODES = [0, 30, 256, 4_294_967_295]


@pytest.fixture(params=["client", "server"])
def linked(
    request: pytest.FixtureRequest,
    certs: Certificates,
    serving: Callable[..., Any],
    client_config: Callable[..., ClientConfig],
) -> Linked:
    """``async with linked() as link``: a session whose other end is Deno, in the named role."""

    @asynccontextmanager
    async def they_connect() -> AsyncIterator[Link]:
        sessions: asyncio.Queue[WebTransportSession] = asyncio.Queue()
        async with (
            serving({"/deno": sessions.put}) as served,
            script_client("deno", certs, served.port, "/deno", ["unseen"]) as far,
        ):
            yield Link(await sessions.get(), far)

    @asynccontextmanager
    async def we_connect() -> AsyncIterator[Link]:
        config = client_config(close_timeout=2.0)
        async with (
            script_server("deno", certs) as server,
            WebTransportClient(config=config) as client,
        ):
            url = f"https://127.0.0.1:{server.port}/deno"
            ours, far = await asyncio.gather(client.connect(url), server.accept())
            yield Link(ours, far)

    return they_connect if request.param == "client" else we_connect


async def test_session_opens(linked: Linked) -> None:
    async with linked() as link:
        assert link.ours.is_ready
        assert link.ours.path == "/deno"
        assert link.ours.offered_protocols == ()
        assert link.ours.connection is not None
        assert link.ours.connection.dialect == 7


async def test_streams_both_ways(linked: Linked) -> None:
    async with linked() as link:
        for unidirectional in (False, True):
            ours = (
                await link.ours.create_unidirectional_stream()
                if unidirectional
                else await link.ours.create_bidirectional_stream()
            )
            await ours.write_all(b"there")
            number = await link.far.accept_stream(unidirectional=unidirectional)
            assert await link.far.receive(number) == Digest.of(b"there")
            number = await link.far.open_stream(unidirectional=unidirectional)
            await link.far.send(number, b"back")
            theirs = await (take_unidirectional if unidirectional else take)(link.ours)
            assert await theirs.readexactly(4) == b"back"


async def test_many_streams_at_once(linked: Linked) -> None:
    async with linked() as link:

        async def exchange(number: int) -> None:
            stream = await link.ours.create_unidirectional_stream()
            await stream.write_all(bytes(5000 + number))

        await asyncio.gather(*(exchange(number) for number in range(40)))
        arrived = [await link.far.accept_stream(unidirectional=True) for _ in range(40)]
        received = await asyncio.gather(*(link.far.receive(number) for number in arrived))
        assert set(received) == {Digest.of(bytes(5000 + number)) for number in range(40)}


async def test_datagrams_both_ways(linked: Linked) -> None:
    async with linked() as link:
        await link.ours.datagrams.send(b"there")
        assert await link.far.receive_datagram() == b"there"
        await link.far.send_datagram(b"back")
        assert await link.ours.datagrams.receive(timeout=30) == b"back"


async def test_reset_and_stop_sent_here(linked: Linked) -> None:
    async with linked() as link:
        for code in CODES:
            ours = await link.ours.create_bidirectional_stream()
            await ours.write(b"begin")
            number = await link.far.accept_stream(unidirectional=False)
            ours.reset(code)
            assert await link.far.was_reset(number) == code_to_wire(code)
            ours.stop_sending(code)
            assert await link.far.was_stopped(number) == code_to_wire(code)


async def test_its_writers_and_readers_say_nothing_at_their_end(linked: Linked) -> None:
    async with linked() as link:
        number = await link.far.open_stream(unidirectional=False)
        await link.far.send(number, b"begin", fin=True)
        await link.far.stop(number, 7)
        stream = await take(link.ours)
        assert await stream.readexactly(5) == b"begin"
        await stream.write(b"anybody there")
        # What comes after it on the connection is here, so it would be here too.
        await link.far.send(await link.far.open_stream(unidirectional=True), b"later")
        assert await (await take_unidirectional(link.ours)).readexactly(5) == b"later"
        assert stream.is_readable
        assert stream.is_writable


async def test_close_sent_there_is_the_end_of_the_connection(linked: Linked) -> None:
    async with linked() as link:
        await link.far.close(4002, "done there")
        info = await link.ours.wait_closed()
        assert info.remote
        # No session was closed, so there is no code; the reason is that of the connection.
        assert info.code is None
        assert info.reason == "done there"


async def test_close_sent_here_reaches_it_with_the_connection(linked: Linked) -> None:
    async with linked() as link:
        assert isinstance(link.far, ScriptSession)
        connection = link.ours.connection
        assert connection is not None
        await link.ours.close(code=4001, reason="done here")
        await connection.close()
        code, _ = await link.far.was_closed()
        assert code == 0x100
