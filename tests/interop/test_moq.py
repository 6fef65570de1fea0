"""What @moq/web-transport does that other peers cannot: its application protocols, all codes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from pywebtransport import ClientConfig, WebTransportClient, WebTransportSession
from pywebtransport.exceptions import StreamResetError, StreamStoppedError
from tests.support.certificates import Certificates
from tests.support.steps import take, take_unidirectional

from .deno_peer import script_client, script_server
from .test_interop import write_on_and_on

pytestmark = pytest.mark.usefixtures("moq_there")

CODES = [0, 30, 255, 256, 4_294_967_295]


async def test_the_protocol_that_the_server_chooses(
    certs: Certificates, serving: Callable[..., Any]
) -> None:
    # It kills its session over an answer in another form than its offer.
    sessions: asyncio.Queue[WebTransportSession] = asyncio.Queue()
    async with (
        serving({"/": sessions.put}, application_protocols=["moqt-16", "moqt-15"]) as served,
        script_client("moq", certs, served.port, "/", ["other", "moqt-15", "moqt-16"]) as far,
    ):
        session = await sessions.get()
        assert session.offered_protocols == ("other", "moqt-15", "moqt-16")
        assert session.application_protocol == "moqt-15"
        assert await far.call("protocol") == "moqt-15"
        await session.datagrams.send(b"alive")
        assert await far.receive_datagram() == b"alive"
        assert session.connection is not None
        assert session.connection.dialect == 7


async def test_an_offer_to_its_server(
    certs: Certificates, client_config: Callable[..., ClientConfig]
) -> None:
    # Its server reads the offer and tells nobody; what it cannot read it refuses.
    config = client_config(application_protocols=["moqt-16"], close_timeout=2.0)
    async with script_server("moq", certs) as server, WebTransportClient(config=config) as client:
        url = f"https://127.0.0.1:{server.port}/"
        session, far = await asyncio.gather(client.connect(url), server.accept())
        await session.datagrams.send(b"alive")
        assert await far.receive_datagram() == b"alive"


async def test_all_codes_of_streams_both_ways(
    certs: Certificates, serving: Callable[..., Any]
) -> None:
    sessions: asyncio.Queue[WebTransportSession] = asyncio.Queue()
    async with (
        serving({"/": sessions.put}) as served,
        script_client("moq", certs, served.port, "/") as far,
    ):
        session = await sessions.get()
        for code in CODES:
            ours = await session.create_bidirectional_stream()
            await ours.write(b"begin")
            number = await far.accept_stream(unidirectional=False)
            ours.reset(code)
            assert await far.was_reset(number) == code
            ours.stop_sending(code)
            assert await far.was_stopped(number) == code

            number = await far.open_stream(unidirectional=False)
            await far.send(number, b"begin")
            theirs = await take(session)
            assert await theirs.readexactly(5) == b"begin"
            await far.reset(number, code)
            with pytest.raises(StreamResetError) as reset:
                await theirs.read()
            await far.stop(number, code)
            with pytest.raises(StreamStoppedError) as stopped:
                await write_on_and_on(theirs)
            assert (reset.value.error_code, stopped.value.error_code) == (code, code)


async def test_close_with_streams_in_flight(
    certs: Certificates, serving: Callable[..., Any]
) -> None:
    sessions: asyncio.Queue[WebTransportSession] = asyncio.Queue()
    async with (
        serving({"/": sessions.put}) as served,
        script_client("moq", certs, served.port, "/") as far,
    ):
        session = await sessions.get()
        held = []  # a stream that nobody holds is ended
        for _ in range(20):
            stream = await session.create_unidirectional_stream()
            held.append(stream)
            await stream.write(bytes(100_000))
            number = await far.open_stream(unidirectional=True)
            await far.send(number, b"begin")
            assert await (await take_unidirectional(session)).readexactly(5) == b"begin"
        await session.close(code=4242, reason="in flight")
        assert await far.was_closed() == (4242, "in flight")
