"""What is special about the peers that speak QMux over WebSocket: names, codes, old versions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pywebtransport import ClientConfig, WebTransportClient, WebTransportSession
from pywebtransport.exceptions import (
    SessionRejectedError,
    StreamResetError,
    StreamStoppedError,
    WebTransportError,
)
from tests.support.certificates import Certificates
from tests.support.steps import take, take_unidirectional
from tests.support.tcp_relay import tcp_relay

from .link import Digest, pattern
from .process import PeerSession, program
from .qmux_peer import qmux_client, qmux_server
from .test_interop import write_on_and_on
from .zmuxio_peer import zmuxio_client

pytestmark = pytest.mark.usefixtures("node_there")

CODES = [0, 30, 255, 256, 4_294_967_295]
_MOQ_RS = Path(__file__).parent / "peers" / "moq_rs_program.py"


class Arrivals:
    """A handler that hands its sessions to the test."""

    def __init__(self) -> None:
        self.sessions: asyncio.Queue[WebTransportSession] = asyncio.Queue()

    async def __call__(self, session: WebTransportSession) -> None:
        await self.sessions.put(session)


@pytest.fixture
def fallback_config(client_config: Callable[..., ClientConfig]) -> Callable[..., ClientConfig]:
    """A configuration for servers that have TCP only."""

    def make(**fields: Any) -> ClientConfig:
        return client_config(
            **{"fallback": "websocket", "fallback_delay": 0.0, "close_timeout": 2.0, **fields}
        )

    return make


# ------------------------------------------------------------------------------- the request


async def test_a_session_of_theirs_says_what_it_goes_over(
    certs: Certificates, serving: Callable[..., Any]
) -> None:
    arrivals = Arrivals()
    async with (
        serving({"/chat": arrivals}, websocket=True) as served,
        qmux_client(certs, served.port, "/chat?room=7"),
    ):
        session = await arrivals.sessions.get()
        assert session.transport == "websocket"
        assert session.reliability == "reliable-only"
        assert session.path == "/chat?room=7"
        assert session.authority == f"127.0.0.1:{served.port}"
        assert session.origin is None
        assert session.offered_protocols == ()
        assert session.application_protocol is None


async def test_the_request_of_ours_reaches_their_server(
    certs: Certificates, fallback_config: Callable[..., ClientConfig]
) -> None:
    config = fallback_config(headers={"x-token": "secret"})
    async with qmux_server(certs) as server, WebTransportClient(config=config) as client:
        url = f"https://127.0.0.1:{server.port}/chat?room=7"
        session, far = await asyncio.gather(client.connect(url), server.accept())
        headers = await far.call("headers")
        assert headers["x-token"] == "secret"
        assert headers["host"] == f"127.0.0.1:{server.port}"
        assert headers["sec-websocket-protocol"].replace(" ", "") == "qmux-02,qmux-01"
        assert "sec-websocket-extensions" not in headers
        assert await far.call("url") == "/chat?room=7"
        # What belongs to the upgrade is no business of the application.
        assert not {"connection", "upgrade", "sec-websocket-accept"} & set(session.headers)
        assert session.transport == "websocket"


async def test_the_protocol_that_we_choose(
    certs: Certificates, serving: Callable[..., Any]
) -> None:
    arrivals = Arrivals()
    async with (
        serving(
            {"/": arrivals}, websocket=True, application_protocols=["chat-2", "chat-1"]
        ) as served,
        qmux_client(certs, served.port, "/", ["other", "chat-1", "chat-2"]) as far,
    ):
        session = await arrivals.sessions.get()
        assert session.offered_protocols == ("other", "chat-1", "chat-2")
        assert session.application_protocol == "chat-1"
        assert await far.call("protocol") == "chat-1"


async def test_the_protocol_that_they_choose(
    certs: Certificates, fallback_config: Callable[..., ClientConfig]
) -> None:
    config = fallback_config(application_protocols=["other", "chat-1"])
    async with (
        qmux_server(certs, ["chat-2", "chat-1"]) as server,
        WebTransportClient(config=config) as client,
    ):
        url = f"https://127.0.0.1:{server.port}/"
        session, far = await asyncio.gather(client.connect(url), server.accept())
        assert session.application_protocol == "chat-1"
        assert await far.call("protocol") == "chat-1"


async def test_a_rejection_is_an_http_status(
    certs: Certificates, serving: Callable[..., Any], zmuxio_python: str
) -> None:
    async with serving({"/chat": Arrivals()}, websocket=True) as served:
        with pytest.raises(ConnectionError, match="WebSocket"):  # browsers tell pages no more
            async with qmux_client(certs, served.port, "/elsewhere"):
                pass
        with pytest.raises(ConnectionError, match="404"):
            async with zmuxio_client(zmuxio_python, certs, served.port, "/elsewhere"):
                pass


async def test_a_rejection_of_theirs_has_its_status(
    certs: Certificates, fallback_config: Callable[..., ClientConfig]
) -> None:
    async with (
        qmux_server(certs, refuse=403) as server,
        WebTransportClient(config=fallback_config()) as client,
    ):
        with pytest.raises(SessionRejectedError) as caught:
            await client.connect(f"https://127.0.0.1:{server.port}/")
        assert caught.value.status_code == 403


# ------------------------------------------------------------------------------------- codes


@asynccontextmanager
async def with_peer(
    peer: str, python: str, certs: Certificates, serving: Callable[..., Any]
) -> AsyncIterator[tuple[WebTransportSession, PeerSession]]:
    """A session whose client is that peer."""
    arrivals = Arrivals()
    async with serving({"/": arrivals}, websocket=True) as served:
        client = (
            qmux_client(certs, served.port, "/")
            if peer == "qmux"
            else zmuxio_client(python, certs, served.port, "/")
        )
        async with client as far:
            yield await arrivals.sessions.get(), far


@pytest.mark.parametrize("peer", ["qmux", "zmuxio"])
async def test_all_codes_of_streams_both_ways(
    peer: str, certs: Certificates, serving: Callable[..., Any], zmuxio_python: str
) -> None:
    async with with_peer(peer, zmuxio_python, certs, serving) as (session, far):
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


@pytest.mark.parametrize("peer", ["qmux", "zmuxio"])
async def test_close_with_streams_in_flight(
    peer: str, certs: Certificates, serving: Callable[..., Any], zmuxio_python: str
) -> None:
    async with with_peer(peer, zmuxio_python, certs, serving) as (session, far):
        held = []  # a stream that nobody holds is ended
        for _ in range(10):
            stream = await session.create_unidirectional_stream()
            held.append(stream)
            await stream.write(bytes(10_000))
            number = await far.open_stream(unidirectional=True)
            await far.send(number, b"begin")
            assert await (await take_unidirectional(session)).readexactly(5) == b"begin"
        await session.close(code=4_294_967_295, reason="bye é")
        assert await far.was_closed() == (4_294_967_295, "bye é")


@pytest.mark.parametrize("peer", ["qmux", "zmuxio"])
async def test_200_streams_at_once(
    peer: str, certs: Certificates, serving: Callable[..., Any], zmuxio_python: str
) -> None:
    async with with_peer(peer, zmuxio_python, certs, serving) as (session, far):

        async def exchange(number: int) -> None:
            stream = await session.create_unidirectional_stream()
            await stream.write_all(pattern(1000 + number, number))

        sending = asyncio.gather(*(exchange(number) for number in range(200)))
        received = set()
        for _ in range(200):
            number = await far.accept_stream(unidirectional=True)
            received.add(await far.receive(number))
        await sending
        assert received == {Digest.of(pattern(1000 + number, number)) for number in range(200)}


# ------------------------------------------------------------------------------ old versions


async def test_the_older_framing_is_served_where_it_is_switched_on(
    certs: Certificates, serving: Callable[..., Any]
) -> None:
    arrivals = Arrivals()
    package = "@moq/web-transport-ws"
    async with (
        serving({"/": arrivals}, websocket=True, websocket_legacy=True) as served,
        qmux_client(certs, served.port, "/", package=package) as far,
    ):
        session = await arrivals.sessions.get()
        assert session.transport == "websocket"
        number = await far.open_stream(unidirectional=False)
        await far.send(number, b"question", fin=True)
        stream = await take(session)
        assert await stream.read_all() == b"question"
        await stream.write_all(b"answer")
        assert await far.receive(number) == Digest.of(b"answer")
        ours = await session.create_unidirectional_stream()
        await ours.write_all(b"there")
        number = await far.accept_stream(unidirectional=True)
        assert await far.receive(number) == Digest.of(b"there")
        await far.close(77, "bye é")
        info = await session.wait_closed()
        assert (info.code, info.reason) == (77, "bye é")


@pytest.mark.parametrize("package", ["@moq/web-transport-ws", "qmux-0.0.6"])
async def test_older_framings_are_refused_by_default(
    package: str, certs: Certificates, serving: Callable[..., Any]
) -> None:
    async with serving({"/": Arrivals()}, websocket=True) as served:
        with pytest.raises(ConnectionError, match=r"closed|Closed|WebSocket"):
            async with qmux_client(certs, served.port, "/", package=package):
                pass


async def test_streams_of_a_broken_version_are_a_protocol_violation(
    certs: Certificates, serving: Callable[..., Any]
) -> None:
    """@moq/qmux 0.1.3 sends every STREAM frame with the offset 0."""
    arrivals = Arrivals()
    async with (
        serving({"/": arrivals}, websocket=True) as served,
        qmux_client(certs, served.port, "/", package="qmux-0.1.3") as far,
    ):
        session = await arrivals.sessions.get()
        number = await far.open_stream(unidirectional=True)
        await far.send(number, b"begin")
        stream = await take_unidirectional(session)
        assert await stream.readexactly(5) == b"begin"
        await far.send(number, b"again")
        with pytest.raises(WebTransportError):
            await stream.read()
        info = await session.wait_closed()
        assert info.code is None


# ------------------------------------------------------------------------------------ moq-rs


@pytest.mark.loops("asyncio")
async def test_moq_rs_opens_a_session(
    certs: Certificates, serving: Callable[..., Any], zmuxio_python: str
) -> None:
    arrivals = Arrivals()
    async with (
        serving({"/live": arrivals}, websocket=True, application_protocols=["moq-lite-05"]) as it,
        tcp_relay(it.port) as relay,
        program(zmuxio_python, str(_MOQ_RS), environment={}, session=PeerSession) as far,
    ):
        await far.call(
            "connect", port=relay.port, path="/live?x=1", cafile=certs.authority.certfile
        )
        session = await arrivals.sessions.get()
        assert session.transport == "websocket"
        assert session.path == "/live?x=1"
        assert session.application_protocol == "moq-lite-05"
        assert len(session.offered_protocols) > 10
        stream = await take(session)
        assert await stream.read(1)
        await far.call("was_connected")
        await session.close(code=77, reason="enough")
        assert (await far.was_closed())[1]
