"""Sessions through a UDP proxy: client, proxy and server over real sockets."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from pywebtransport import WebTransportClient, WebTransportSession
from pywebtransport.client import WebTransportProxy
from pywebtransport.exceptions import (
    CertificateError,
    ClientError,
    ConfigurationError,
    ConnectionError,
    ProxyError,
    SessionClosedError,
    SessionRejectedError,
    TimeoutError,
    UnreachableError,
    is_fatal_error,
    is_retriable_error,
)
from pywebtransport.h3._tunnel import H3Tunnel
from pywebtransport.types import ConnectionState, SessionCloseInfo
from tests.support.certificates import Certificates
from tests.support.endpoints import ClientFactory, ServerFactory, Serving
from tests.support.payload import digest, payload
from tests.support.steps import cancelled_at, echo_bidirectional, round_trip, take, until
from tests.support.udp_proxy import UdpProxy, allow_all

MIB = 1024 * 1024
Proxying = Callable[..., AbstractAsyncContextManager[UdpProxy]]


@pytest.fixture
def proxying(server_config: ServerFactory) -> Proxying:
    """``async with proxying(**fields) as proxy``: a UDP proxy on a free port."""

    @asynccontextmanager
    async def start(policy: Any = allow_all, **fields: Any) -> AsyncIterator[UdpProxy]:
        proxy = UdpProxy(server_config(**fields), policy=policy)
        await proxy.listen()
        try:
            yield proxy
        finally:
            await proxy.close(drain_timeout=0)
            assert not proxy.relays

    return start


class Arrivals:
    """A handler that hands its sessions to the test."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[WebTransportSession] = asyncio.Queue()

    async def __call__(self, session: WebTransportSession) -> None:
        self.queue.put_nowait(session)


async def echo_once(session: WebTransportSession, text: bytes) -> bytes:
    stream = await session.create_bidirectional_stream()
    await stream.write_all(text)
    return await stream.read_all()


# ------------------------------------------------------------------- what works


async def test_session_through_the_proxy_has_everything(
    serving: Serving, proxying: Proxying, client_config: ClientFactory
) -> None:
    arrived = Arrivals()
    async with (
        serving(arrived) as served,
        proxying() as proxy,
        WebTransportProxy(proxy.url, config=client_config()) as tunnels,
    ):
        proxy.record = True
        assert tunnels.connection is None
        near = await tunnels.connect(served.url("/room?x=1"), headers={"x-own": "for the target"})
        far = await arrived.queue.get()
        assert far.path == "/room?x=1"
        assert far.headers["x-own"] == "for the target"
        assert tunnels.sessions == (near,)
        secret = b"nobody on the way can read this"
        for one, other in ((near, far), (far, near)):
            await round_trip(one, other, secret)
            stream = await one.create_bidirectional_stream()
            await stream.write(secret)
            answering = await take(other)
            assert await answering.read() == secret
            answering.reset(9)
            stream.reset(8)
            await one.datagrams.send(secret)
            assert await other.datagrams.receive(timeout=20) == secret
        # The address is the proxy's on this side, and the proxy's socket on the other.
        outer = tunnels.connection
        assert outer is not None
        assert near.remote_address == outer.remote_address == proxy.local_address
        assert near.connection is not None
        assert near.connection.local_address == outer.local_address
        assert far.remote_address != outer.local_address
        ((host, port, fields),) = proxy.requests
        assert (host, port) == (served.host, served.port)
        assert fields["capsule-protocol"] == "?1"
        assert "x-own" not in fields
        assert len(proxy.seen) > 8
        assert not any(secret in packet for packet in proxy.seen)
        await near.close(code=7, reason="done")
        info = await far.wait_closed()
        assert (info.code, info.reason) == (7, "done")
        await until(lambda: not proxy.relays)
        assert tunnels.stats["tunnels"] == 0
        assert tunnels.stats["tunnels_opened"] == 1
        # The last packet may arrive in the same turn as the end of the tunnel, which counts first.
        assert tunnels.stats["packets_sent"] - proxy.packets in (0, 1)
        assert tunnels.stats["packets_dropped"] == 0
        assert tunnels.connection is outer  # kept for the next tunnel


async def test_stream_of_the_contract_is_end_to_end(
    serving: Serving, proxying: Proxying, client_config: ClientFactory
) -> None:
    async with (
        serving(echo_bidirectional) as served,
        proxying() as proxy,
        WebTransportProxy.create(proxy_url=proxy.url, config=client_config()) as tunnels,
    ):
        stream = await tunnels.connect_through_proxy(
            target_url=served.url("/x"), proxy_headers={"Proxy-Authorization": "Basic x"}
        )
        await stream.write_all(b"end to end")
        assert await stream.read_all() == b"end to end"
        assert proxy.requests[0][2]["proxy-authorization"] == "Basic x"
        await stream.session.close()
        assert not tunnels.sessions


async def test_large_transfers_both_ways_at_once(
    serving: Serving, proxying: Proxying, client_config: ClientFactory
) -> None:
    async with (
        serving(echo_bidirectional) as served,
        proxying() as proxy,
        WebTransportProxy(proxy.url, config=client_config()) as tunnels,
    ):
        session = await tunnels.connect(served.url())
        stream = await session.create_bidirectional_stream()
        data = payload(8 * MIB)
        writing = asyncio.ensure_future(stream.write_all(data))
        assert digest(await stream.read_all()) == digest(data)
        await writing
        assert session.connection is not None
        assert session.connection.info.max_udp_payload == 1200
        assert tunnels.connection is not None
        assert tunnels.connection.info.max_udp_payload == 1280


async def test_tunnels_share_one_connection_and_end_one_by_one(
    serving: Serving, proxying: Proxying, client_config: ClientFactory
) -> None:
    async with (
        serving(echo_bidirectional) as one,
        serving(echo_bidirectional) as two,
        proxying() as proxy,
        WebTransportProxy(proxy.url, config=client_config()) as tunnels,
    ):
        first, second, third = await asyncio.gather(
            tunnels.connect(one.url()), tunnels.connect(two.url()), tunnels.connect(two.url())
        )
        assert len(proxy.connections) == 1
        assert len(proxy.relays) == tunnels.stats["tunnels"] == 3
        texts = [payload(100_000, seed) for seed in range(3)]
        echoed = await asyncio.gather(
            *(echo_once(s, t) for s, t in zip((first, second, third), texts, strict=True))
        )
        assert echoed == texts
        await first.close()
        await until(lambda: len(proxy.relays) == 2)
        assert await echo_once(second, b"left alone") == b"left alone"
        await third.close()
        await second.close()
        await until(lambda: not proxy.relays)
        assert len(proxy.connections) == 1
        assert await echo_once(await tunnels.connect(one.url()), b"again") == b"again"
        assert len(proxy.connections) == 1


async def test_sessions_share_a_tunnel_with_pooling(
    serving: Serving, proxying: Proxying, client_config: ClientFactory
) -> None:
    async with (
        serving(echo_bidirectional) as served,
        proxying() as proxy,
        WebTransportProxy(
            proxy.url, config=client_config(), target_config=client_config(allow_pooling=True)
        ) as tunnels,
    ):
        first = await tunnels.connect(served.url("/a"))
        second = await tunnels.connect(served.url("/b"))
        assert first.connection is second.connection
        assert len(proxy.requests) == 1
        await first.close()
        assert await echo_once(second, b"left alone") == b"left alone"


async def test_proxy_resolves_the_name_and_template_says_where(
    serving: Serving, proxying: Proxying, client_config: ClientFactory
) -> None:
    async with serving(echo_bidirectional, host="127.0.0.1") as served, proxying() as proxy:
        template = proxy.url + "/.well-known/masque/udp/{target_host}/{target_port}/"
        async with WebTransportProxy(template, config=client_config()) as tunnels:
            assert tunnels.proxy_url == template
            await tunnels.connect(served.url(host="localhost"))
            assert proxy.requests[0][:2] == ("localhost", served.port)
        elsewhere = proxy.url + "/elsewhere{?target_host,target_port}"
        async with WebTransportProxy(elsewhere, config=client_config()) as tunnels:
            with pytest.raises(ProxyError) as caught:
                await tunnels.connect(served.url())
            assert caught.value.status_code == 404


async def test_target_with_an_ipv6_address(
    serving: Serving, proxying: Proxying, client_config: ClientFactory
) -> None:
    async with (
        serving(echo_bidirectional, host="::1") as served,
        proxying() as proxy,
        WebTransportProxy(proxy.url, config=client_config()) as tunnels,
    ):
        session = await tunnels.connect(served.url())
        assert proxy.requests[0][:2] == ("::1", served.port)
        assert await echo_once(session, b"over IPv4 and IPv6") == b"over IPv4 and IPv6"


async def test_session_survives_migration_of_the_connection_to_the_proxy(
    serving: Serving, proxying: Proxying, client_config: ClientFactory
) -> None:
    async with (
        serving(echo_bidirectional) as served,
        proxying() as proxy,
        WebTransportProxy(proxy.url, config=client_config()) as tunnels,
    ):
        session = await tunnels.connect(served.url())
        outer = tunnels.connection
        assert outer is not None
        before = outer.local_address
        await outer.migrate()
        assert outer.local_address != before
        assert await echo_once(session, b"still here") == b"still here"
        assert session.connection is not None
        with pytest.raises(ConnectionError, match="through a proxy"):
            await session.connection.migrate()
        assert await echo_once(session, b"and here") == b"and here"


# -------------------------------------------------------------------- refusals


@pytest.mark.parametrize(("status", "again"), [(403, False), (407, False), (503, True)])
async def test_refused_tunnel_is_a_typed_error(
    serving: Serving,
    proxying: Proxying,
    client_config: ClientFactory,
    status: int,
    again: bool,
) -> None:
    def policy(host: str, port: int, headers: Mapping[str, str]) -> int:
        return 200 if "x-pass" in headers else status

    async with (
        serving(echo_bidirectional) as served,
        proxying(policy) as proxy,
        WebTransportProxy(proxy.url, config=client_config()) as tunnels,
    ):
        with pytest.raises(ProxyError) as caught:
            await tunnels.connect(served.url())
        error = caught.value
        assert error.status_code == status
        assert "proxy-status" in error.headers
        assert error.proxy_url == proxy.url
        assert error.target == f"127.0.0.1:{served.port}"
        assert error.remote
        for text in (proxy.url, error.target, str(status)):
            assert text in str(error)
        assert is_retriable_error(exception=error) is again
        assert is_fatal_error(exception=error) is not again
        assert tunnels.stats["tunnels"] == 0
        session = await tunnels.connect(served.url(), proxy_headers={"x-pass": "yes"})
        assert await echo_once(session, b"x") == b"x"
        assert len(proxy.connections) == 1


async def test_server_that_is_no_proxy_says_so(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served:
        async with WebTransportProxy(served.url("/"), config=client_config()) as tunnels:
            with pytest.raises(ProxyError) as caught:
                await tunnels.connect(served.url())
        assert caught.value.status_code == 501


async def test_proxy_with_datagrams_too_small_for_quic_is_refused(
    serving: Serving, proxying: Proxying, client_config: ClientFactory
) -> None:
    async with (
        serving() as served,
        proxying(max_datagram_size=1000) as proxy,
        WebTransportProxy(proxy.url, config=client_config()) as tunnels,
    ):
        with pytest.raises(ProxyError, match="cannot carry QUIC"):
            await tunnels.connect(served.url())
        await until(lambda: not proxy.relays)


async def test_target_that_refuses_the_session_is_not_the_proxys_fault(
    serving: Serving, proxying: Proxying, client_config: ClientFactory
) -> None:
    async with (
        serving({"/known": echo_bidirectional}) as served,
        proxying() as proxy,
        WebTransportProxy(proxy.url, config=client_config()) as tunnels,
    ):
        with pytest.raises(SessionRejectedError) as caught:
            await tunnels.connect(served.url("/unknown"))
        assert caught.value.status_code == 404
        await until(lambda: not proxy.relays)


async def test_wrong_certificates_are_told_apart(
    serving: Serving, proxying: Proxying, client_config: ClientFactory, certs: Certificates
) -> None:
    async with (
        serving(echo_bidirectional, **certs.wrong_name.files) as wrong,
        serving(echo_bidirectional) as right,
        proxying() as proxy,
        proxying(**certs.expired.files) as bad_proxy,
    ):
        async with WebTransportProxy(proxy.url, config=client_config()) as tunnels:
            with pytest.raises(CertificateError) as caught:
                await tunnels.connect(wrong.url())
            assert f"127.0.0.1:{wrong.port}" in str(caught.value)
            assert "proxy_url" not in caught.value.details
            await until(lambda: not proxy.relays)
            assert await echo_once(await tunnels.connect(right.url()), b"x") == b"x"
        async with WebTransportProxy(bad_proxy.url, config=client_config()) as tunnels:
            with pytest.raises(CertificateError) as caught:
                await tunnels.connect(right.url())
            assert caught.value.details["proxy_url"] == bad_proxy.url
            assert caught.value.details["target"] == f"127.0.0.1:{right.port}"
            assert bad_proxy.url in caught.value.__notes__[0]
            assert not bad_proxy.requests


async def test_two_configurations(
    serving: Serving, proxying: Proxying, client_config: ClientFactory, certs: Certificates
) -> None:
    async with (
        serving(echo_bidirectional, **certs.self_signed.files) as served,
        proxying() as proxy,
        WebTransportProxy(
            proxy.url,
            config=client_config(),
            target_config=client_config(
                ca_certs=None, server_certificate_hashes=[certs.self_signed.hash]
            ),
        ) as tunnels,
    ):
        assert await echo_once(await tunnels.connect(served.url()), b"x") == b"x"


async def test_unreachable_proxy_and_silent_target(
    serving: Serving, proxying: Proxying, client_config: ClientFactory
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        nobody = f"https://127.0.0.1:{port}"
        async with (
            proxying() as proxy,
            WebTransportProxy(proxy.url, config=client_config()) as tunnels,
            WebTransportProxy(nobody, config=client_config()) as mute,
        ):
            with pytest.raises(TimeoutError) as late:
                await tunnels.connect(nobody, timeout=1.0)
            assert late.value.operation == "handshake"
            assert "the tunnel through" in str(late.value)
            await until(lambda: not proxy.relays)
            with pytest.raises(TimeoutError) as late:
                await mute.connect("https://127.0.0.1:9/", timeout=0.3)
            assert late.value.operation == "proxy"
            silent.close()
            with pytest.raises(UnreachableError) as caught:
                await mute.connect("https://127.0.0.1:9/")
            assert caught.value.details["proxy_url"] == nobody


@pytest.mark.parametrize(
    "url", ["http://proxy", "https://proxy/path", "https://proxy/{target_host}/", "", "proxy:443"]
)
def test_url_of_a_proxy_is_checked(url: str) -> None:
    with pytest.raises(ConfigurationError):
        WebTransportProxy(url)


async def test_what_is_given_is_checked(proxying: Proxying, client_config: ClientFactory) -> None:
    with pytest.raises(ConfigurationError, match="1280"):
        WebTransportProxy("https://proxy", config=client_config(udp_payload_size=1200))
    async with proxying() as proxy:
        async with WebTransportProxy(proxy.url, config=client_config()) as tunnels:
            with pytest.raises(ConfigurationError):
                await tunnels.connect("http://target/")
            with pytest.raises(ConfigurationError):
                await tunnels.connect("https://target/", proxy_headers={"connection": "close"})
            assert tunnels.connection is None
        with pytest.raises(ClientError, match="closed"):
            await tunnels.connect("https://target/")
        with pytest.raises(ClientError, match="closed"):
            async with tunnels:
                pass
        await tunnels.close()


# -------------------------------------------------------------------------- loss


async def test_proxy_that_goes_away_ends_the_sessions_with_its_name(
    serving: Serving, proxying: Proxying, client_config: ClientFactory
) -> None:
    async with (
        serving(echo_bidirectional, close_timeout=0.1) as served,
        proxying() as proxy,
        proxying() as other,
        WebTransportProxy(proxy.url, config=client_config()) as tunnels,
        WebTransportProxy(other.url, config=client_config()) as others,
    ):
        session = await tunnels.connect(served.url())
        connection = session.connection
        assert connection is not None
        unaffected = await others.connect(served.url())
        url = proxy.url
        stream = await session.create_bidirectional_stream()
        reading = asyncio.ensure_future(stream.read())
        await proxy.close(drain_timeout=0)
        with pytest.raises(SessionClosedError) as closed:
            await reading
        assert url in str(closed.value)
        assert (await session.wait_closed()).code is None
        error = connection.error
        assert isinstance(error, ProxyError)
        assert error.target == f"127.0.0.1:{served.port}"
        assert error.target in str(error)
        assert error.status_code is None
        assert is_retriable_error(exception=error)
        assert not is_fatal_error(exception=error)
        assert connection.state is ConnectionState.FAILED
        assert tunnels.connection is None
        assert await echo_once(unaffected, b"unaffected") == b"unaffected"
        with pytest.raises(UnreachableError):
            await tunnels.connect(served.url())


@pytest.mark.parametrize("orderly", [True, False])
async def test_one_tunnel_that_ends_leaves_the_others(
    serving: Serving, proxying: Proxying, client_config: ClientFactory, orderly: bool
) -> None:
    async with (
        serving(echo_bidirectional, close_timeout=0.1) as served,
        proxying() as proxy,
        WebTransportProxy(proxy.url, config=client_config()) as tunnels,
    ):
        first = await tunnels.connect(served.url())
        (relay,) = proxy.relays
        second = await tunnels.connect(served.url())
        connection = first.connection
        assert connection is not None
        if orderly:
            relay.tunnel.close()
        else:
            relay.tunnel.aborted(ClientError("cut", error_code=0x10F))
        assert (await first.wait_closed()).code is None
        assert isinstance(connection.error, ProxyError)
        assert connection.error.error_code == (None if orderly else 0x10F)
        assert await echo_once(second, b"left alone") == b"left alone"
        assert tunnels.stats["tunnels"] == 1


async def test_tunnel_lost_during_the_handshake_inside(
    serving: Serving, proxying: Proxying, client_config: ClientFactory
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        async with (
            proxying() as proxy,
            WebTransportProxy(proxy.url, config=client_config()) as tunnels,
        ):
            url = f"https://127.0.0.1:{silent.getsockname()[1]}/"
            connecting = asyncio.ensure_future(tunnels.connect(url))
            await until(lambda: proxy.packets)
            for relay in tuple(proxy.relays):
                relay.tunnel.close()
            with pytest.raises(ProxyError, match="was lost"):
                await connecting


async def test_proxy_lost_before_it_answers(
    serving: Serving, proxying: Proxying, client_config: ClientFactory
) -> None:
    async with proxying() as proxy:
        asked = asyncio.Event()
        # Takes the request, and never answers.
        proxy._requested = lambda tunnel: asked.set()  # type: ignore[method-assign]
        async with WebTransportProxy(proxy.url, config=client_config()) as tunnels:
            connecting = asyncio.ensure_future(tunnels.connect("https://127.0.0.1:9/"))
            await asked.wait()
            await proxy.close(drain_timeout=0)
            with pytest.raises(ProxyError, match="before the proxy answered"):
                await connecting


async def test_limit_of_requests_of_the_proxy_is_a_typed_error(
    proxying: Proxying, client_config: ClientFactory
) -> None:
    async with proxying(initial_max_streams_bidi=1) as proxy:
        waiting: list[object] = []
        proxy._requested = waiting.append  # type: ignore[method-assign]
        async with WebTransportProxy(
            proxy.url, config=client_config(max_connections=1000)
        ) as tunnels:
            attempts: list[asyncio.Future[WebTransportSession]] = []
            limited: list[BaseException] = []
            while not limited:  # the proxy allows 65 requests
                assert len(attempts) < 70
                attempts.append(asyncio.ensure_future(tunnels.connect("https://127.0.0.1:9/")))
                await until(lambda: len(waiting) == len(attempts) or attempts[-1].done())
                if attempts[-1].done():
                    limited.append(attempts[-1].exception() or AssertionError("connected"))
            assert isinstance(limited[0], ProxyError)
            assert "allows no further request" in str(limited[0])
            for attempt in attempts:
                attempt.cancel()
            await asyncio.gather(*attempts, return_exceptions=True)
            assert tunnels.stats["tunnels"] == 0


async def test_new_connection_after_the_proxy_said_goaway(
    serving: Serving, proxying: Proxying, client_config: ClientFactory
) -> None:
    async with (
        serving(echo_bidirectional, close_timeout=0.1) as served,
        proxying() as proxy,
        WebTransportProxy(proxy.url, config=client_config()) as tunnels,
    ):
        first = await tunnels.connect(served.url())
        outer = tunnels.connection
        assert outer is not None
        for connection in proxy.connections:
            assert connection._driver is not None
            connection._driver.layer.send_goaway()
        await until(lambda: outer.state is ConnectionState.DRAINING)
        second = await tunnels.connect(served.url())
        assert tunnels.connection is not outer
        assert len(proxy.connections) == 2
        for session in (first, second):
            assert await echo_once(session, b"both work") == b"both work"


# ------------------------------------------------------------------ cancellation


@pytest.mark.limit(120)
async def test_cancelled_at_any_await_nothing_stays_open(
    serving: Serving, proxying: Proxying, client_config: ClientFactory
) -> None:
    async with serving(echo_bidirectional) as served, proxying() as proxy:
        index = 0
        reached = True
        while reached:
            async with WebTransportProxy(proxy.url, config=client_config()) as tunnels:
                opening = (
                    tunnels.connect(served.url())
                    if index % 2
                    else tunnels.connect_through_proxy(served.url())
                )
                reached = await cancelled_at(lambda opening=opening: opening, index)
                if reached:
                    await until(lambda tunnels=tunnels: not tunnels.stats["tunnels"])
                    assert not tunnels.sessions
                    session = await tunnels.connect(served.url())
                    assert await echo_once(session, b"unharmed") == b"unharmed"
            index += 1
        assert index > 3
        await until(lambda: not proxy.relays and not served.server.sessions)


async def test_close_during_connect(
    serving: Serving, proxying: Proxying, client_config: ClientFactory
) -> None:
    async with proxying() as proxy:
        asked = asyncio.Event()
        proxy._requested = lambda tunnel: asked.set()  # type: ignore[method-assign]
        tunnels = WebTransportProxy(proxy.url, config=client_config())
        connecting = asyncio.ensure_future(tunnels.connect("https://127.0.0.1:9/"))
        await asked.wait()
        await tunnels.close()
        with pytest.raises(ClientError, match="closed"):
            await connecting
        assert tunnels.is_closed


async def test_direct_client_beside_the_proxy(
    serving: Serving, proxying: Proxying, client_config: ClientFactory
) -> None:
    """A proxy of ours is a WebTransport server, too."""
    async with (
        serving(echo_bidirectional) as served,
        proxying() as proxy,
        WebTransportProxy(proxy.url, config=client_config()) as tunnels,
        WebTransportClient(config=client_config()) as client,
    ):
        through = await tunnels.connect(served.url())
        direct = await client.connect(served.url())
        for session in (through, direct):
            assert await echo_once(session, b"same server") == b"same server"


# ------------------------------------------------------- how the proxy ended a tunnel


async def finish(proxy: UdpProxy, tunnel: H3Tunnel) -> None:
    tunnel.close()


async def reset(proxy: UdpProxy, tunnel: H3Tunnel) -> None:
    tunnel.aborted(ClientError("cut", error_code=0x10F))


async def stop(proxy: UdpProxy, tunnel: H3Tunnel) -> None:
    assert tunnel._request is not None
    tunnel._request.stream.stop_sending(0x10C)


async def too_large_capsule(proxy: UdpProxy, tunnel: H3Tunnel) -> None:
    assert tunnel._request is not None
    # DATA frame of 5 bytes: a DATAGRAM capsule of 65,536 bytes begins.
    tunnel._request.stream.write(b"\x00\x05\x00\x80\x01\x00\x00", False)


async def half_a_capsule(proxy: UdpProxy, tunnel: H3Tunnel) -> None:
    assert tunnel._request is not None
    tunnel._request.stream.write(b"\x00\x02\x00\x05", True)


async def close_the_connection(proxy: UdpProxy, tunnel: H3Tunnel) -> None:
    await proxy.connections[0].close(reason="maintenance\ntonight")


async def shut_down(proxy: UdpProxy, tunnel: H3Tunnel) -> None:
    await proxy.close(drain_timeout=0)


@pytest.mark.parametrize(
    ("ending", "code", "words"),
    [
        (finish, None, "the peer finished the stream of the tunnel"),
        (reset, 0x10F, "the peer reset the tunnel (code 0x10f)"),
        (stop, 0x10C, "the peer stopped the tunnel (code 0x10c)"),
        (too_large_capsule, 0x33, "a DATAGRAM capsule of 65536 bytes"),
        (half_a_capsule, 0x10E, "the stream ended inside a capsule"),
        (close_the_connection, 0x100, "maintenance\\ntonight"),
        (shut_down, 0x100, "server shutdown"),
    ],
)
async def test_a_tunnel_that_the_proxy_ended_says_so(
    serving: Serving,
    proxying: Proxying,
    client_config: ClientFactory,
    caplog: pytest.LogCaptureFixture,
    ending: Callable[[UdpProxy, H3Tunnel], Awaitable[None]],
    code: int | None,
    words: str,
) -> None:
    caplog.set_level(logging.INFO, logger="pywebtransport.proxy")
    # Nothing in this test waits for a timeout of theirs.
    config = client_config(connection_idle_timeout=300.0)
    async with (
        serving(echo_bidirectional, close_timeout=0.1) as served,
        proxying() as proxy,
        WebTransportProxy(proxy.url, config=config) as tunnels,
    ):
        url = proxy.url
        session = await tunnels.connect(served.url())
        connection = session.connection
        assert connection is not None
        stream = await session.create_bidirectional_stream()
        operations = [
            asyncio.ensure_future(stream.read()),
            asyncio.ensure_future(session.datagrams.receive()),
        ]
        await until(lambda: proxy.packets)
        await ending(proxy, next(iter(proxy.relays)).tunnel)
        for one in proxy.connections:
            one.flush_nowait()
        info = await session.wait_closed()
        error = connection.error
        assert isinstance(error, ProxyError)
        assert (error.error_code, error.remote, error.proxy_url) == (code, True, url)
        assert error.target == f"127.0.0.1:{served.port}"
        for text in (str(error), info.reason):
            assert "the proxy ended it" in text
            assert words in text
            assert url in text
        assert (info.code, info.remote) == (None, True)
        for operation in operations:
            with pytest.raises(SessionClosedError, match="the proxy ended it"):
                await operation
        with pytest.raises(SessionClosedError, match="the proxy ended it"):
            await session.create_bidirectional_stream()
    told = [one.getMessage() for one in caplog.records if one.name == "pywebtransport.proxy"]
    assert len(told) == 1
    assert words in told[0]


async def test_a_tunnel_that_this_end_ends_is_not_told_as_lost(
    serving: Serving,
    proxying: Proxying,
    client_config: ClientFactory,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="pywebtransport.proxy")
    async with (
        serving(echo_bidirectional) as served,
        proxying() as proxy,
        WebTransportProxy(proxy.url, config=client_config()) as tunnels,
    ):
        session = await tunnels.connect(served.url())
        await session.close(code=3)
        assert await session.wait_closed() == SessionCloseInfo(3, "", False)
    assert not [one for one in caplog.records if one.name == "pywebtransport.proxy"]
