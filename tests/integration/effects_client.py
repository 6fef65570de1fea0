"""Effects of the fields of clients; see ``effects.py``."""

from __future__ import annotations

import socket
from typing import Any

from pywebtransport import (
    CertificateError,
    ClientConfig,
    ClientError,
    EventType,
    TimeoutError,
    WebTransportClient,
    WebTransportError,
    WebTransportSession,
)
from pywebtransport.client import ReconnectingClient
from pywebtransport.exceptions import SessionRejectedError, UnreachableError
from tests.integration.effects import Bed, effect, refused
from tests.support.endpoints import pair
from tests.support.tcp_door import black_hole, tcp_door
from tests.support.tcp_relay import http_proxy


@effect("allow_pooling", only="client")
async def sessions_share_a_connection(bed: Bed) -> None:
    for allowed in (False, True):
        async with bed.serving() as served, bed.client(allow_pooling=allowed) as client:
            for _ in range(2):
                await client.connect(served.url())
            assert len(client.connections) == (1 if allowed else 2)


@effect("auto_reconnect", only="client")
async def the_client_that_is_made_reconnects(bed: Bed) -> None:
    for switch, kind in ((False, WebTransportClient), (True, ReconnectingClient)):
        client = WebTransportClient.create(
            "https://localhost/", config=ClientConfig(auto_reconnect=switch)
        )
        assert type(client) is kind
        await client.close()


@effect("ca_certs", only="client")
async def only_these_authorities_are_trusted(bed: Bed) -> None:
    async with bed.serving() as served:
        async with bed.client(ca_certs=bed.certs.other.certfile) as client:
            await refused(client.connect(served.url()), CertificateError)
        async with bed.client(ca_certs=bed.certs.authority.certfile) as client:
            await client.connect(served.url())


@effect("certfile", "keyfile", only="client")
async def the_client_shows_a_certificate(bed: Bed) -> None:
    fields = {"ca_certs": bed.certs.authority.certfile, "verify_mode": "CERT_OPTIONAL"}
    for files, shown in (({}, None), (bed.certs.client.files, bed.certs.client.der)):
        async with pair(bed.certs, client=files, server=fields) as (_, far):
            assert far.connection is not None
            assert far.connection.peer_certificate == shown


@effect("connect_timeout", only="client")
async def connecting_ends(bed: Bed) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/"
        async with bed.client(connect_timeout=0.05) as client:
            error = await refused(client.connect(url), TimeoutError)
            assert error.timeout_duration == 0.05


NOT_FOUND = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"


@effect("fallback", only="client")
async def tcp_is_tried_where_udp_is_closed(bed: Bed) -> None:
    async with tcp_door(bed.certs.server, answer=NOT_FOUND) as door:
        url = f"https://127.0.0.1:{door.port}/"
        async with bed.client() as client:
            await refused(client.connect(url), UnreachableError)
        assert door.arrived == 0
        async with bed.client(fallback="websocket") as client:
            await refused(client.connect(url), SessionRejectedError)


@effect("fallback_delay", only="client")
async def quic_has_some_time_alone(bed: Bed) -> None:
    fields = {"fallback": "websocket"}
    async with tcp_door(bed.certs.server, answer=NOT_FOUND) as door, black_hole(door.port):
        url = f"https://127.0.0.1:{door.port}/"
        async with bed.client(fallback_delay=1000, connect_timeout=0.1, **fields) as client:
            await refused(client.connect(url), TimeoutError)
        assert door.arrived == 0
        async with bed.client(fallback_delay=0, **fields) as client:
            await refused(client.connect(url), SessionRejectedError)


@effect("fallback_proxy", only="client")
async def tcp_goes_through_the_proxy(bed: Bed) -> None:
    async with tcp_door(bed.certs.server, answer=NOT_FOUND) as door, http_proxy() as proxy:
        through = f"http://127.0.0.1:{proxy.port}"
        async with bed.client(fallback="websocket", fallback_proxy=through) as client:
            await refused(client.connect(f"https://127.0.0.1:{door.port}/"), SessionRejectedError)
        assert [line.split()[:2] for line in proxy.requests] == [
            ["CONNECT", f"127.0.0.1:{door.port}"]
        ]


@effect("happy_eyeballs_delay", only="client")
async def the_next_address_is_tried_after_a_while(bed: Bed) -> None:
    """localhost is ::1, where nobody answers, and 127.0.0.1."""
    async with bed.serving() as served:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as silent:
            silent.bind(("::1", served.port))
            url = served.url(host="localhost")
            async with bed.client(happy_eyeballs_delay=0.01) as client:
                await client.connect(url)
            async with bed.client(happy_eyeballs_delay=1000, connect_timeout=0.3) as client:
                await refused(client.connect(url), TimeoutError)


@effect("headers", "user_agent", only="client")
async def requests_have_the_fields(bed: Bed) -> None:
    fields = {"headers": {"X-Token": "secret"}, "user_agent": "me/1"}
    async with pair(bed.certs, client=fields) as (_, far):
        assert (far.headers["x-token"], far.headers["user-agent"]) == ("secret", "me/1")
    async with pair(bed.certs, client={"user_agent": ""}) as (_, far):
        assert "user-agent" not in far.headers


@effect("max_connections", only="client")
async def connections_of_a_client_end(bed: Bed) -> None:
    async with bed.serving() as served, bed.client(max_connections=1) as client:
        await client.connect(served.url())
        await refused(client.connect(served.url()), ClientError, "max_connections=1")


@effect("max_streams", only="client")
async def streams_of_a_session_end(bed: Bed) -> None:
    async with pair(bed.certs, client={"max_streams": 1}) as (near, _):
        await near.create_unidirectional_stream()
        await refused(near.create_bidirectional_stream(timeout=0.05), WebTransportError, "max_str")


async def delays(bed: Bed, **fields: Any) -> list[float | None]:
    """Pauses of a client that reconnects to a port that is closed, until it gives up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    found: list[float | None] = []
    config = bed.client_config(**fields)
    client = ReconnectingClient(f"https://127.0.0.1:{port}/", config=config)
    client.on(EventType.CONNECTION_FAILED, lambda event: found.append(event.data["delay"]))
    async with client:
        await refused(client.get_session(wait_timeout=50), ClientError)
    return found


@effect("max_retries", only="client")
async def tries_end(bed: Bed) -> None:
    for count in (0, 3):
        pauses = await delays(bed, max_retries=count, retry_delay=0.001, max_retry_delay=0.001)
        assert len(pauses) == count + 1
        assert pauses[-1] is None


@effect("retry_delay", "retry_backoff", "max_retry_delay", only="client")
async def pauses_follow_the_configuration(bed: Bed) -> None:
    """Each is chosen at random below a bound; the chance that none comes near it is nil."""

    async def longest(**fields: Any) -> float:
        return max(pause for pause in await delays(bed, **fields) if pause is not None)

    steady = {"max_retries": 30, "retry_backoff": 1.0}
    assert 0.0002 < await longest(retry_delay=0.001, **steady) <= 0.001
    assert 0.001 < await longest(retry_delay=0.005, **steady) <= 0.005
    assert 0.001 < await longest(retry_delay=0.001, retry_backoff=1.5, max_retries=10) <= 0.06
    capped = {"retry_backoff": 1000.0, "max_retry_delay": 0.002, "max_retries": 10}
    assert await longest(retry_delay=0.001, **capped) <= 0.002


@effect("require_application_protocol", only="client")
async def a_session_without_protocol_is_closed(bed: Bed) -> None:
    offer = {"application_protocols": ["a"]}
    async with pair(bed.certs, client=offer) as (near, _):
        assert near.application_protocol is None
    async with (
        bed.serving() as served,
        bed.client(require_application_protocol=True, **offer) as client,
    ):
        await refused(client.connect(served.url()), WebTransportError)


@effect("server_certificate_hashes", only="client")
async def a_pinned_certificate_is_accepted(bed: Bed) -> None:
    own = bed.certs.self_signed
    async with bed.serving(**own.files) as served:
        for digest, accepted in ((own.hash, True), (bytes(32), False)):
            config = ClientConfig(server_certificate_hashes=[digest])
            async with WebTransportClient(config=config) as client:
                if accepted:
                    await client.connect(served.url())
                else:
                    await refused(client.connect(served.url()), CertificateError)


@effect("stream_creation_timeout", only="client")
async def waiting_for_a_stream_ends(bed: Bed) -> None:
    fields = {"client": {"stream_creation_timeout": 0.05}, "server": {"max_incoming_streams": 1}}
    async with pair(bed.certs, **fields) as (near, _):
        await near.create_bidirectional_stream()
        error = await refused(near.create_bidirectional_stream(), WebTransportError)
        assert "0.05" in str(error)


@effect("verify_mode", only="client")
async def checking_can_be_switched_off(bed: Bed) -> None:
    async def connect(**fields: Any) -> WebTransportSession:
        async with WebTransportClient(config=ClientConfig(**fields)) as client:
            return await client.connect(url)

    async with bed.serving() as served:
        url = served.url()
        await connect(verify_mode="CERT_NONE")
        for mode in ("CERT_REQUIRED", "CERT_OPTIONAL", None):
            await refused(connect(verify_mode=mode), CertificateError)
