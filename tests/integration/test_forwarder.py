"""The forwarder: client, forwarding server and upstream server, over real sockets."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple

import pytest

from pywebtransport import ClientConfig, ServerApp, WebTransportClient
from pywebtransport.exceptions import (
    ClientError,
    ConfigurationError,
    DatagramTooLargeError,
    SessionClosedError,
    SessionRejectedError,
    StreamError,
    StreamResetError,
    StreamStoppedError,
)
from pywebtransport.forwarder import WebTransportForwarder
from pywebtransport.forwarder.identity import forwarded_fields
from pywebtransport.forwarder.relay import Relay
from pywebtransport.server import WebTransportServer
from pywebtransport.session import WebTransportSession
from pywebtransport.types import EventType, SessionCloseInfo, SessionState
from tests.integration.bulk import KIB
from tests.integration.test_backpressure import MIB, Writer
from tests.support.endpoints import ClientFactory, PairOfSessions, Served, ServerFactory, Serving
from tests.support.payload import digest, payload
from tests.support.steps import (
    cancelled_at,
    echo_bidirectional,
    round_trip,
    take,
    take_unidirectional,
    until,
)


class Chain(NamedTuple):
    """A session through a forwarder, and what it runs on."""

    near: WebTransportSession  # the client's
    far: WebTransportSession  # the upstream server's
    forwarder: WebTransportForwarder
    front: Served
    client: WebTransportClient
    arrived: asyncio.Queue[WebTransportSession]


ChainFactory = Callable[..., AbstractAsyncContextManager[Chain]]


@pytest.fixture
def front(
    serving: Serving, server_config: ServerFactory, client_config: ClientFactory
) -> Callable[..., AbstractAsyncContextManager[tuple[Served, WebTransportForwarder]]]:
    """``async with front(upstream, **arguments)``: a server that forwards ``/``-patterns there."""

    @asynccontextmanager
    async def start(
        upstream: str,
        *,
        upstream_config: dict[str, Any] | None = None,
        server: dict[str, Any] | None = None,
        **arguments: Any,
    ) -> AsyncIterator[tuple[Served, WebTransportForwarder]]:
        app = ServerApp(config=server_config(**(server or {})))
        forwarder = WebTransportForwarder(
            upstream, config=client_config(**(upstream_config or {})), **arguments
        )
        app.pattern_route("/{path:path}")(forwarder)
        app.on_shutdown(forwarder.close)
        async with serving(app) as served:
            yield served, forwarder
        assert forwarder.is_closed
        assert forwarder.stats["sessions"] == 0

    return start


@pytest.fixture
def chain(serving: Serving, client_config: ClientFactory, front: Any) -> ChainFactory:
    """``async with chain(...) as it``: one session from end to end."""

    @asynccontextmanager
    async def start(
        *,
        client: dict[str, Any] | None = None,
        upstream: dict[str, Any] | None = None,
        **arguments: Any,
    ) -> AsyncIterator[Chain]:
        arrived: asyncio.Queue[WebTransportSession] = asyncio.Queue()

        async def accepted(session: WebTransportSession) -> None:
            arrived.put_nowait(session)

        async with (
            serving(accepted, **(upstream or {})) as back,
            front(back.url().rstrip("/"), **arguments) as (served, forwarder),
            WebTransportClient(config=client_config(**(client or {}))) as opener,
        ):
            near = await opener.connect(served.url("/room?who=me"))
            yield Chain(near, await arrived.get(), forwarder, served, opener, arrived)

    return start


# ---------------------------------------------------------------- establishment


async def test_request_and_response_pass(
    serving: Serving, client_config: ClientFactory, front: Any
) -> None:
    seen: asyncio.Future[WebTransportSession] = asyncio.get_running_loop().create_future()

    async def accept(session: WebTransportSession) -> bool:
        await session.accept(headers={"x-served-by": "upstream"}, application_protocol="b")
        seen.set_result(session)
        return True

    async with serving() as back:
        back.app.add_middleware(accept)
        async with (
            front(back.url().rstrip("/")) as (served, forwarder),
            WebTransportClient(
                config=client_config(application_protocols=["a", "b"], user_agent="tester/1")
            ) as client,
        ):
            near = await client.connect(
                served.url("/room/7?x=%C3%A4"),
                headers={
                    "authorization": "Bearer secret",
                    "origin": "https://example.org",
                    "proxy-authorization": "for the forwarder",
                    "x-forwarded-for": "forged",
                },
            )
            far = await seen
            assert near.application_protocol == far.application_protocol == "b"
            assert near.headers["x-served-by"] == "upstream"
            assert far.path == "/room/7?x=%C3%A4"
            assert far.origin == "https://example.org"
            assert list(far.offered_protocols) == ["a", "b"]
            assert far.authority == f"127.0.0.1:{back.port}"
            headers = far.headers
            assert headers["authorization"] == "Bearer secret"
            assert headers["user-agent"] == "tester/1"
            assert headers["x-forwarded-for"] == "127.0.0.1"
            assert headers["x-forwarded-host"] == f"127.0.0.1:{served.port}"
            assert "proxy-authorization" not in headers
            assert forwarder.stats["sessions"] == 1
            assert served.server.sessions[0].application_protocol == "b"


FORGED = (
    "forwarded",
    "x-forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-forwarded-anything",
    "x_forwarded_for",
    "x-forwarded_host",
    "x-real-ip",
    "x_real_ip",
    "x-client-ip",
    "true-client-ip",
)


@pytest.mark.parametrize("forwarded", [True, False])
@pytest.mark.parametrize("selected", [None, [*FORGED, "x-own"]], ids=["all", "named"])
async def test_a_client_cannot_say_who_it_is(
    serving: Serving,
    client_config: ClientFactory,
    front: Any,
    forwarded: bool,
    selected: list[str] | None,
) -> None:
    """Only the forwarder tells the upstream, once, and nothing of the client's is left."""
    arrived: asyncio.Queue[WebTransportSession] = asyncio.Queue()

    async def accepted(session: WebTransportSession) -> None:
        arrived.put_nowait(session)

    headers: dict[str, str | list[str]] = {name: ["forged", "twice"] for name in FORGED}
    async with (
        serving(accepted) as back,
        front(back.url(), headers=selected, forwarded=forwarded) as (served, _),
        WebTransportClient(config=client_config()) as client,
        client.connect(served.url("/x"), headers=headers | {"x-own": "1"}),
    ):
        got = (await arrived.get()).headers
        authority = f"127.0.0.1:{served.port}"
        told = {
            "forwarded": f'for=127.0.0.1;host="{authority}";proto=https',
            "x-forwarded-for": "127.0.0.1",
            "x-forwarded-host": authority,
            "x-forwarded-proto": "https",
            "x-real-ip": "127.0.0.1",
        }
        assert got["x-own"] == "1"
        for name in {*FORGED, *told}:
            expected = [told[name]] if forwarded and name in told else []
            assert got.get_all(name) == expected, name


@pytest.mark.parametrize(
    ("host", "authority", "value"),
    [
        ("2001:db8::1", "a.test", 'for="[2001:db8::1]";host="a.test";proto=https'),
        ("fe80::1%eth0", "[::1]:4", 'for="[fe80::1]";host="[::1]:4";proto=https'),
        ("::ffff:192.0.2.1", "a.test", 'for=192.0.2.1;host="a.test";proto=https'),
        (None, 'a";for=192.0.2.9', "for=unknown;proto=https"),
    ],
)
def test_the_forwarded_field(host: str | None, authority: str, value: str) -> None:
    assert forwarded_fields(host, authority)["forwarded"] == value


async def test_path_of_the_upstream_and_selected_fields(
    serving: Serving, client_config: ClientFactory, front: Any
) -> None:
    arrived: asyncio.Queue[WebTransportSession] = asyncio.Queue()

    async def accepted(session: WebTransportSession) -> None:
        arrived.put_nowait(session)

    async with (
        serving(accepted) as back,
        WebTransportClient(config=client_config()) as client,
    ):
        own = {"x-a": "1", "x-b": "2"}
        async with (
            front(back.url("/fixed"), headers=["X-A"], forwarded=False) as (served, _),
            client.connect(served.url("/any?q=1"), headers=own),
        ):
            far = await arrived.get()
            assert far.path == "/fixed?q=1"
            assert far.headers["x-a"] == "1"
            assert far.headers.keys().isdisjoint({"x-b", "x-forwarded-for"})
        async with (
            front(back.url("/fixed?q=2")) as (served, _),
            client.connect(served.url("/any?q=1"), headers=own),
        ):
            assert (await arrived.get()).path == "/fixed?q=2"


@pytest.mark.parametrize("status", [403, 404, 429, 503])
async def test_refusal_of_the_upstream_reaches_the_client(
    serving: Serving, client_config: ClientFactory, front: Any, status: int
) -> None:
    async def refuse(session: WebTransportSession) -> bool:
        raise SessionRejectedError(status_code=status, headers={"retry-after": "9"})

    async with serving() as back:
        back.app.add_middleware(refuse)
        async with (
            front(back.url().rstrip("/")) as (served, forwarder),
            WebTransportClient(config=client_config()) as client,
        ):
            with pytest.raises(SessionRejectedError) as caught:
                await client.connect(served.url("/x"))
            assert caught.value.status_code == status
            assert caught.value.headers["retry-after"] == "9"
            assert forwarder.stats["failures"] == 1
            assert forwarder.stats["sessions"] == 0


async def test_upstream_that_is_down_is_502_and_one_that_is_silent_504(
    client_config: ClientFactory, front: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        async with WebTransportClient(config=client_config()) as client:
            async with front(
                f"https://127.0.0.1:{port}", upstream_config={"connect_timeout": 0.2}
            ) as (served, _):
                with pytest.raises(SessionRejectedError) as caught:
                    await client.connect(served.url("/x"))
                assert caught.value.status_code == 504
            silent.close()
            with caplog.at_level(logging.WARNING, "pywebtransport.forwarder"):
                async with front(f"https://127.0.0.1:{port}") as (served, _):
                    with pytest.raises(SessionRejectedError) as caught:
                        await client.connect(served.url("/x"))
                    assert caught.value.status_code == 502
            assert "cannot be reached" in caplog.text


async def test_certificate_of_the_upstream_is_verified(
    serving: Serving, client_config: ClientFactory, server_config: ServerFactory
) -> None:
    async with serving() as back:
        app = ServerApp(config=server_config())
        forwarder = WebTransportForwarder(back.url())  # trusts the system's authorities only
        app.route("/")(forwarder)
        app.on_shutdown(forwarder.close)
        async with serving(app) as served, WebTransportClient(config=client_config()) as client:
            with pytest.raises(SessionRejectedError) as caught:
                await client.connect(served.url("/"))
            assert caught.value.status_code == 502


async def test_client_that_goes_away_ends_the_attempt(
    serving: Serving, client_config: ClientFactory, front: Any
) -> None:
    asked, withdrawn = asyncio.Event(), asyncio.Event()

    async def hold(session: WebTransportSession) -> bool:
        asked.set()
        await session.wait_closed()
        withdrawn.set()
        return False

    async with serving() as back:
        back.app.add_middleware(hold)
        async with (
            front(back.url().rstrip("/")) as (served, forwarder),
            WebTransportClient(config=client_config()) as client,
        ):
            opening = asyncio.ensure_future(client.connect(served.url("/x")))
            await asked.wait()
            opening.cancel()
            await asyncio.wait({opening})
            await withdrawn.wait()
            await until(lambda: not served.server.sessions)
            assert forwarder.stats["failures"] == 1
            assert forwarder.stats["sessions"] == 0


async def test_middleware_that_rejects_by_itself_keeps_the_upstream_out_of_it(
    serving: Serving, client_config: ClientFactory, front: Any
) -> None:
    async def reject(session: WebTransportSession) -> bool:
        await session.reject(status_code=451)
        return True

    async with (
        serving() as back,
        front(back.url()) as (served, forwarder),
        WebTransportClient(config=client_config()) as client,
    ):
        served.app.add_middleware(reject)
        with pytest.raises(SessionRejectedError) as caught:
            await client.connect(served.url("/x"))
        assert caught.value.status_code == 451
        assert forwarder.stats["attempts"] == 0


async def test_forwarder_is_a_handler_without_a_framework(
    serving: Serving, server_config: ServerFactory, client_config: ClientFactory
) -> None:
    async with (
        serving(echo_bidirectional) as back,
        WebTransportForwarder(back.url(), config=client_config()) as forwarder,
        WebTransportServer(config=server_config()) as server,
        WebTransportClient(config=client_config()) as client,
    ):

        async def forward(event: Any) -> None:
            await forwarder(event.data["session"])

        server.on(event_type=EventType.SESSION_REQUEST, handler=forward)
        await server.listen()
        assert server.local_address is not None
        near = await client.connect(f"https://127.0.0.1:{server.local_address[1]}/")
        stream = await near.create_bidirectional_stream()
        await stream.write_all(b"through")
        assert await stream.read_all() == b"through"
        await near.close()
        await server.close(drain_timeout=5)


async def test_closed_forwarder_refuses(
    serving: Serving, client_config: ClientFactory, front: Any
) -> None:
    async with (
        serving() as back,
        front(back.url()) as (served, forwarder),
        WebTransportClient(config=client_config()) as client,
    ):
        await forwarder.close()
        with pytest.raises(ClientError, match="closed"):
            async with forwarder:
                pass
        with pytest.raises(SessionRejectedError) as caught:
            await client.connect(served.url("/x"))
        assert caught.value.status_code == 502


def test_upstream_has_to_be_a_url() -> None:
    with pytest.raises(ConfigurationError, match="scheme"):
        WebTransportForwarder("http://backend")
    assert WebTransportForwarder("https://backend")._client.config == ClientConfig(
        max_connections=10_000
    )


# ---------------------------------------------------------------------- streams


async def test_streams_of_both_kinds_pass_from_both_ends(chain: ChainFactory) -> None:
    async with chain() as it:
        for one, other in ((it.near, it.far), (it.far, it.near)):
            await round_trip(one, other, b"there and back")
            stream = await one.create_bidirectional_stream()
            await stream.write(b"question")
            answering = await take(other)
            assert await answering.read() == b"question"
            await answering.write_all(b"answer")
            assert await stream.read_all() == b"answer"
            await stream.write_all(b" more")  # half-closed the other way only
            assert await answering.read_all() == b" more"
        await until(lambda: it.forwarder.stats["streams"] == 0)


async def test_large_transfers_pass_whole_both_ways_at_once(chain: ChainFactory) -> None:
    async with chain() as it:
        up, down = payload(8 * MIB, 1), payload(8 * MIB, 2)
        stream = await it.near.create_bidirectional_stream()

        async def answer() -> bytes:
            other = await take(it.far)
            sending = asyncio.ensure_future(other.write_all(down))
            received = await other.read_all()
            await sending
            return received

        answering = asyncio.ensure_future(answer())
        writing = asyncio.ensure_future(stream.write_all(up))
        assert digest(await stream.read_all()) == digest(down)
        assert digest(await answering) == digest(up)
        await writing


@pytest.mark.parametrize("code", [0, 29, 30, 255, 65_536, 2**32 - 1])
async def test_resets_and_stops_keep_their_code(chain: ChainFactory, code: int) -> None:
    async with chain() as it:
        for one, other in ((it.near, it.far), (it.far, it.near)):
            stream = await one.create_bidirectional_stream()
            await stream.write(b"x")
            counterpart = await take(other)
            assert await counterpart.read() == b"x"
            stream.reset(code)
            with pytest.raises(StreamResetError) as reset:
                await counterpart.read()
            assert reset.value.error_code == code
            stream.stop_sending(code)  # while nobody writes
            await until(lambda quic=counterpart._quic: quic.is_stopped)
            with pytest.raises(StreamStoppedError) as stopped:
                await counterpart.write(b"y")
            assert stopped.value.error_code == code
        await until(lambda: it.forwarder.stats["streams"] == 0)


@pytest.mark.parametrize("bidirectional", [True, False])
async def test_reset_passes_while_the_other_side_reads_nothing(
    chain: ChainFactory, bidirectional: bool
) -> None:
    """What waits for room holds data up, and not the end of the stream."""
    async with chain() as it:
        for one, other in ((it.near, it.far), (it.far, it.near)):
            if bidirectional:
                stream = await one.create_bidirectional_stream()
            else:
                stream = await one.create_unidirectional_stream()
            writer = Writer(stream, 64 * MIB)
            counterpart = await (take(other) if bidirectional else take_unidirectional(other))
            quiet = 0
            while quiet < 10:  # as long as round trips pass without the writer moving on
                before = writer.accepted
                await round_trip(one, other, b"ping")
                quiet = 0 if writer.accepted != before else quiet + 1
            stream.reset(7)
            with pytest.raises(StreamError):
                await writer.task
            await until(lambda quic=counterpart._quic: quic.is_reset)
            with pytest.raises(StreamResetError) as reset:
                await counterpart.read()
            assert reset.value.error_code == 7
            if bidirectional:  # the way back is open
                await counterpart.write_all(b"answer")
                assert await stream.read_all() == b"answer"
        await until(lambda: it.forwarder.stats["streams"] == 0)


async def test_reset_and_stop_without_an_application_code_stay_without_one(
    chain: ChainFactory,
) -> None:
    async with chain() as it:
        stream = await it.near.create_bidirectional_stream()
        await stream.write(b"x")
        counterpart = await take(it.far)
        assert await counterpart.read() == b"x"
        stream._quic.reset(0x52E4A40FA8F9)  # a code that the mapping skips
        with pytest.raises(StreamResetError) as reset:
            await counterpart.read()
        assert reset.value.error_code is None
        assert reset.value.details["code"] == 0x52E4A40FA8F9
        stream._quic.stop_sending(0x10C)
        await until(lambda: counterpart._quic.is_stopped)
        assert counterpart._quic.stop_code == 0x10C


async def test_stop_that_is_there_before_the_stream_was_taken_passes(
    chain: ChainFactory,
) -> None:
    async with chain() as it:
        for one, other in ((it.near, it.far), (it.far, it.near)):
            stream = await one.create_bidirectional_stream()
            stream.stop_sending(5)
            await stream.write_all(b"one way only")
            counterpart = await take(other)
            assert await counterpart.read_all() == b"one way only"
            await until(lambda quic=counterpart._quic: quic.is_stopped)
            with pytest.raises(StreamStoppedError) as stopped:
                await counterpart.write(b"x")
            assert stopped.value.error_code == 5
        await until(lambda: it.forwarder.stats["streams"] == 0)


async def test_stop_ends_a_transfer_in_full_flight(chain: ChainFactory) -> None:
    async with chain() as it:
        stream = await it.near.create_unidirectional_stream()
        writer = Writer(stream, 64 * MIB)
        receiving = await take_unidirectional(it.far)
        assert await receiving.read()
        receiving.stop_sending(77)
        with pytest.raises(StreamStoppedError) as stopped:
            await writer.task
        assert stopped.value.error_code == 77


async def test_timeouts_of_the_configurations_do_not_end_idle_streams(
    chain: ChainFactory,
) -> None:
    short = {
        "read_timeout": 0.001,
        "write_timeout": 0.001,
        "max_write_buffer_size": 4096,
        "stream_buffer_size": 1024,
    }
    async with chain(upstream_config=short, server=short) as it:
        stream = await it.near.create_bidirectional_stream()
        writer = Writer(stream, 4 * MIB)
        counterpart = await take(it.far)
        for _ in range(100):
            await it.near.datagrams.send(b"ping")
            assert await it.far.datagrams.receive(timeout=20) == b"ping"
        assert digest(await counterpart.read_all()) == digest(writer.data)
        await counterpart.write_all(b"late answer")
        assert await stream.read_all() == b"late answer"
        await writer.task


async def test_session_that_drains_already_when_it_is_accepted(
    serving: Serving, client_config: ClientFactory, front: Any
) -> None:
    async def draining(session: WebTransportSession) -> None:
        session.drain()

    async with (
        serving(draining) as back,
        front(back.url()) as (served, _),
        WebTransportClient(config=client_config()) as client,
    ):
        near = await client.connect(served.url("/x"))
        await until(lambda: near.state is SessionState.DRAINING)


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_reader_that_stops_bounds_the_memory_of_all(
    chain: ChainFactory, direction: str
) -> None:
    small = {
        "max_read_buffer_size": 128 * 1024,
        "max_write_buffer_size": 64 * 1024,
        "flow_control_window_size": 64 * 1024,
        "flow_control_window_auto_scale": False,
    }
    # Two receive windows, three write buffers, and the piece that the relay holds.
    bound = 2 * (64 + 64) * 1024 + 2 * 64 * 1024
    async with chain(client=small, upstream=small, upstream_config=small, server=small) as it:
        near, far = (it.near, it.far) if direction == "up" else (it.far, it.near)
        writer = Writer(await near.create_unidirectional_stream(), 8 * MIB)
        receiving = await take_unidirectional(far)
        quiet = 0
        while quiet < 10:  # as long as round trips pass without the writer moving on
            before = writer.accepted
            await round_trip(near, far, b"ping")
            quiet = 0 if writer.accepted != before else quiet + 1
        assert not writer.task.done()
        assert writer.accepted <= bound
        assert digest(await receiving.read_all()) == digest(writer.data)
        await writer.task


async def test_streams_share_what_may_wait(pair: PairOfSessions) -> None:
    """The more there are, the less each of them holds; what was given up comes back."""
    async with pair() as (client, server):
        sessions = (server, client)
        marks = [session.write_high_water for session in sessions]
        relay = Relay(server, client)

        def highest() -> list[int]:
            return [session.write_high_water for session in sessions]

        for _ in range(1000):
            relay._count_stream(1)
            share = max(16 * KIB, 16 * MIB // relay.streams)
            assert relay._share == share
            assert highest() == [
                min(mark, max(share, session.write_low_water))
                for session, mark in zip(sessions, marks, strict=True)
            ]
        # Below a stream's own mark, and together not more than all of them may hold.
        assert all(now < mark for now, mark in zip(highest(), marks, strict=True))
        assert relay._share * relay.streams <= 16 * MIB
        for _ in range(4000):
            relay._count_stream(1)
        assert relay._share == 16 * KIB
        for _ in range(5000):
            relay._count_stream(-1)
        assert (relay.streams, highest()) == (0, marks)


async def test_limit_of_streams_of_one_side_holds_the_other_up(chain: ChainFactory) -> None:
    async with chain(
        upstream={"initial_max_streams_uni": 2},
        upstream_config={"stream_creation_timeout": 0.001},
    ) as it:
        streams = [await it.near.create_unidirectional_stream() for _ in range(8)]
        for number, stream in enumerate(streams):
            await stream.write_all(b"%d" % number)
        for _ in range(100):  # while the relay waits, the rest goes on
            await it.near.datagrams.send(b"ping")
            assert await it.far.datagrams.receive(timeout=20) == b"ping"
        received = [await (await take_unidirectional(it.far)).read_all() for _ in streams]
        assert sorted(received) == [b"%d" % number for number in range(8)]


# -------------------------------------------------------------------- datagrams


async def test_datagrams_pass_both_ways(chain: ChainFactory) -> None:
    async with chain() as it:
        for one, other in ((it.near, it.far), (it.far, it.near)):
            for number in range(50):
                await one.datagrams.send(b"%d" % number)
            received = [await other.datagrams.receive(timeout=20) for _ in range(50)]
            assert received == [b"%d" % number for number in range(50)]


async def test_datagram_too_large_for_the_other_side_is_dropped_and_counted(
    chain: ChainFactory,
) -> None:
    async with chain(
        client={"udp_payload_size": 1452}, upstream_config={"udp_payload_size": 1200}
    ) as it:
        large = bytes(it.near.max_datagram_size)
        assert len(large) > 1300
        await it.near.datagrams.send(large)
        await it.near.datagrams.send(b"small")
        assert await it.far.datagrams.receive(timeout=20) == b"small"
        assert it.forwarder.stats["datagrams_dropped"] == 1
        with pytest.raises(DatagramTooLargeError):
            await it.near.datagrams.send(large + b"x")


# ---------------------------------------------------------------------- the end


@pytest.mark.parametrize("closer", ["near", "far"])
async def test_close_passes_with_code_and_reason_after_what_was_sent(
    chain: ChainFactory, closer: str
) -> None:
    async with chain() as it:
        one, other = (it.near, it.far) if closer == "near" else (it.far, it.near)
        stream = await one.create_unidirectional_stream()
        await stream.write_all(payload(MIB))
        await one.close(code=4_000_000_000, reason="that is äll")
        receiving = await take_unidirectional(other)
        assert digest(await receiving.read_all()) == digest(payload(MIB))
        assert await other.wait_closed() == SessionCloseInfo(
            code=4_000_000_000, reason="that is äll", remote=True
        )
        await until(lambda: it.forwarder.stats["sessions"] == 0)
        assert not it.forwarder._client.connections


async def test_drain_passes_both_ways(chain: ChainFactory) -> None:
    async with chain() as it:
        for one, other in ((it.near, it.far), (it.far, it.near)):
            one.drain()
            await until(lambda other=other: other.state is SessionState.DRAINING)
            await round_trip(one, other, b"still works")


async def test_upstream_that_is_lost_ends_the_session_abruptly(chain: ChainFactory) -> None:
    async with chain() as it:
        stream = await it.near.create_bidirectional_stream()
        await stream.write(b"x")
        await take(it.far)
        it.far._h3.abort(0x10F)
        info = await it.near.wait_closed()
        assert info.code is None
        assert info.remote
        with pytest.raises((SessionClosedError, StreamResetError)):
            await stream.read()
        await until(lambda: it.forwarder.stats["sessions"] == 0)


async def test_closing_the_forwarder_ends_its_sessions(chain: ChainFactory) -> None:
    async with chain() as it:
        await it.forwarder.close()
        assert (await it.near.wait_closed()).remote
        assert (await it.far.wait_closed()).remote


async def test_server_shutdown_ends_both_sessions(chain: ChainFactory) -> None:
    async with chain() as it:
        stream = await it.near.create_bidirectional_stream()
        await stream.write(b"x")
        await take(it.far)
        await it.front.server.close(drain_timeout=0)
        assert (await it.near.wait_closed()).remote
        assert (await it.far.wait_closed()).remote


async def test_many_sessions_share_nothing_but_the_forwarder(chain: ChainFactory) -> None:
    async with chain() as it:
        others = []
        for _ in range(5):
            near = await it.client.connect(it.front.url("/room"))
            others.append((near, await it.arrived.get()))
        assert it.forwarder.stats["sessions"] == 6
        await asyncio.gather(
            *(round_trip(near, far, b"%d" % n) for n, (near, far) in enumerate(others))
        )
        for near, far in others:
            await near.close()
            assert (await far.wait_closed()).code == 0
        await round_trip(it.near, it.far, b"left alone")


async def test_cancelled_at_any_await_it_leaves_nothing(
    serving: Serving, client_config: ClientFactory, server_config: ServerFactory
) -> None:
    reached: list[bool] = []

    async def handle(event: Any) -> None:
        session = event.data["session"]
        reached.append(await cancelled_at(lambda: forwarder(session), len(reached)))
        if session.state is SessionState.CONNECTING:
            session.reject(status_code=418)

    async with (
        serving() as back,
        WebTransportForwarder(back.url(), config=client_config()) as forwarder,
        WebTransportServer(config=server_config()) as server,
        WebTransportClient(config=client_config()) as client,
    ):
        server.on(event_type=EventType.SESSION_REQUEST, handler=handle)
        await server.listen()
        assert server.local_address is not None
        url = f"https://127.0.0.1:{server.local_address[1]}/"
        statuses = []
        while not reached or reached[-1]:
            count = len(reached)
            try:
                session = await client.connect(url)
            except SessionRejectedError as error:
                statuses.append(error.status_code)
            else:
                await session.close()
            await until(lambda count=count: len(reached) > count)
            await until(lambda: not back.server.sessions and not server.sessions)
            assert forwarder.stats["sessions"] == 0
        assert set(statuses) == {418}
        assert len(reached) > len(statuses) + 1
