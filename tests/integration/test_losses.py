"""What a server refuses or loses is told: a line with reason and peer, a counter, a finding."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

from pywebtransport import WebTransportClient, WebTransportSession
from pywebtransport.exceptions import SessionRejectedError, WebTransportError
from pywebtransport.server._certificates import expiry_finding, next_look
from pywebtransport.utils._logs import SHARED_BURST
from tests.integration import raw_h3 as h3
from tests.integration.raw_peer import raw_client
from tests.support.certificates import Certificates
from tests.support.endpoints import ClientFactory, Serving
from tests.support.leaks import ExpectedLogs
from tests.support.steps import until


def lines(caplog: pytest.LogCaptureFixture, words: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if words in record.getMessage()]


async def rejected(client: WebTransportClient, url: str, **options: object) -> int:
    with pytest.raises(SessionRejectedError) as caught:
        await client.connect(url, **options)
    return caught.value.status_code


async def test_rejections(
    serving: Serving, client_config: ClientFactory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pywebtransport.server")

    async def refuses(session: WebTransportSession) -> bool:
        return session.path != "/refused"

    async with (
        serving(max_sessions=1, allowed_origins=["https://good.example"]) as served,
        WebTransportClient(config=client_config()) as client,
    ):
        served.app.add_middleware(refuses)
        assert await rejected(client, served.url("/refused")) == 403
        headers = {"origin": "https://evil.example"}
        assert await rejected(client, served.url("/origin"), headers=headers) == 403
        async with client.connect(served.url("/one")):
            assert await rejected(client, served.url("/two")) == 429
        stats = await served.server.get_server_stats()
        assert stats["sessions_rejected"] == 3
        assert stats["sessions_limited"] == 1
        assert stats["origins_rejected"] == 1
        issues = "\n".join(await served.server.diagnose_issues())
    (refused,) = lines(caplog, "rejected /refused with status 403: the application refused it")
    assert "(origin -, peer 127.0.0.1 port " in refused
    (origin,) = lines(caplog, "rejected /origin with status 403: its origin is not among")
    assert "(origin https://evil.example, peer 127.0.0.1 port " in origin
    (limit,) = lines(caplog, "rejected /two with status 429: max_sessions=1 is reached")
    assert "peer 127.0.0.1 port " in limit
    assert "3 of 4 session requests were rejected; the last: rejected /two" in issues
    assert "1 sessions were refused for max_sessions" in issues
    assert "1 requests came from an origin that is not allowed" in issues


async def test_many_rejections_are_few_lines(
    serving: Serving, client_config: ClientFactory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pywebtransport.server")
    async with (
        serving({"/a": lambda session: session.wait_closed()}) as served,
        WebTransportClient(config=client_config(allow_pooling=True)) as client,
    ):
        started = asyncio.get_running_loop().time()
        for _ in range(50):
            assert await rejected(client, served.url("/none")) in (404, 405)
        seconds = asyncio.get_running_loop().time() - started
        stats = await served.server.get_server_stats()
        assert stats["sessions_rejected"] >= 50
    told = lines(caplog, "rejected /none")
    assert all("no route has this path" in line for line in told)
    assert 1 <= len(told) <= 2 * (seconds + 1)
    shown = lines(caplog, "not shown")
    assert shown


async def test_early_streams_and_datagrams(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pywebtransport.server")
    async with (
        serving(
            max_early_streams=1, max_pending_events_per_session=1, pending_event_ttl=60
        ) as served,
        raw_client(served.port) as peer,
    ):
        for _ in range(3):
            peer.open_in_session(0, b"early", unidirectional=True)
        for _ in range(4):
            peer.send_datagram(h3.varint(0) + b"early")
        await until(lambda: served.server._stats.early_datagrams_dropped == 3)
        await until(lambda: served.server._stats.early_streams_dropped == 2)
        stats = await served.server.get_server_stats()
        assert (stats["early_streams_dropped"], stats["early_datagrams_dropped"]) == (2, 3)
        issues = "\n".join(await served.server.diagnose_issues())
    assert len(lines(caplog, "dropped a stream of 127.0.0.1 port")) == 1
    assert len(lines(caplog, "dropped a datagram of 127.0.0.1 port")) == 1
    assert "2 streams that came before their session were dropped; the last: dropped" in issues
    assert "3 datagrams that came before their session were dropped" in issues


async def test_a_session_that_does_not_come_in_time(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(pending_event_ttl=0.05) as served, raw_client(served.port) as peer:
        peer.open_in_session(0, b"early", unidirectional=True)
        peer.send_datagram(h3.varint(0) + b"early")
        stats = served.server._stats
        await until(lambda: (stats.early_streams_dropped, stats.early_datagrams_dropped) == (1, 1))


async def test_connections_that_fail_or_ask_for_nothing(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pywebtransport.server")
    async with serving() as served:
        async with raw_client(served.port) as peer:
            await peer.delivered()
        async with raw_client(served.port, settings=None) as peer:
            peer.control(h3.frame(h3.GOAWAY, h3.varint(0)))  # instead of SETTINGS
            await peer.closed()
        await until(lambda: not served.server.connections)
        stats = await served.server.get_server_stats()
        assert (stats["connections_unused"], stats["connection_errors"]) == (1, 1)
        issues = "\n".join(await served.server.diagnose_issues())
    (unused,) = lines(caplog, "ended without a session request")
    assert "of 127.0.0.1 port " in unused
    (failed,) = lines(caplog, " failed: ")
    assert "of 127.0.0.1 port " in failed
    assert "1 connections ended without a session request" in issues
    assert "1 connections broke a protocol rule" in issues


# ----------------------------------------------------------------------- certificates


NOW = datetime(2030, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("start", "end", "kind"),
    [
        (-1, 89, None),
        (-61, 29, None),
        (-73, 17, "soon"),
        (-365, 36, None),
        (-365, 29, "soon"),
        (-1, 12, None),
        (-11, 2, "soon"),
        (-10, 0, "expired"),
        (-10, -5, "expired"),
        (1, 90, "early"),
    ],
)
def test_when_a_certificate_is_worth_a_word(start: int, end: int, kind: str | None) -> None:
    first, last = NOW + timedelta(days=start), NOW + timedelta(days=end)
    found = expiry_finding("a.crt", first, last, NOW)
    assert (found and found[0]) == kind
    if found is not None:
        assert "'a.crt'" in found[1]


def test_the_next_look_is_when_something_changes_and_within_a_day() -> None:
    day = timedelta(days=1)
    assert next_look([], NOW) == day
    assert next_look([(NOW - day, NOW + 90 * day)], NOW) == day
    assert next_look([(NOW - 9 * day, NOW + day / 2)], NOW) == day / 2
    assert next_look([(NOW + day / 4, NOW + 90 * day)], NOW) == day / 4
    assert next_look([(NOW - 9 * day, NOW - day)], NOW) == day


async def test_certificates_that_are_old_at_the_start_and_after_a_reload(
    serving: Serving, certs: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(**certs.expired.files) as served:
        (told,) = lines(caplog, "expired on")
        assert certs.expired.certfile in told
        assert told in await served.server.diagnose_issues()
        served.server.reload_certificates(**certs.server.files)
        assert await served.server.diagnose_issues() == []
        served.server.reload_certificates(**certs.expired.files)
        assert len(lines(caplog, "expired on")) == 2
        with pytest.raises(Exception, match="nowhere"):
            served.server.reload_certificates(certfile="nowhere")
        assert told in await served.server.diagnose_issues()


async def test_sni_certificates_are_watched(
    serving: Serving, certs: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    pair = (certs.expired.certfile, certs.expired.keyfile)
    async with serving(sni_certificates={"a.test": pair}) as served:
        (issue,) = await served.server.diagnose_issues()
        assert certs.expired.certfile in issue
    assert lines(caplog, "expired on")


async def test_a_certificate_that_expires_while_serving(
    serving: Serving, certs: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told when it happens, without a handshake."""
    lasting = timedelta(days=5)
    pair = certs.authority.leaf(
        "short",
        "localhost",
        valid_from=timedelta(seconds=2) - lasting,
        valid_for=lasting,
    )
    async with serving(**pair.files) as served:
        await until(lambda: lines(caplog, "short.crt' expired on"))
        issues = await served.server.diagnose_issues()
    assert any("expired on" in issue for issue in issues)


# ------------------------------------------------------------------------- handshakes


async def fails(port: int, **fields: Any) -> None:
    """A client that gets no connection."""
    with pytest.raises((ConnectionError, ssl.SSLError, TimeoutError)):
        async with raw_client(port, **fields):
            raise AssertionError("it was connected")


async def lies_about_the_version(port: int) -> None:
    """A long header of an unknown version."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(("127.0.0.1", port))
        packet = b"\xc0" + b"\x1a\x2a\x3a\x4a" + b"\x08" + bytes(8) + b"\x08" + bytes(8)
        sock.send(packet.ljust(1200, b"\0"))
        answer = await asyncio.get_running_loop().sock_recv(sock, 2000)
        assert answer[1:5] == bytes(4)


async def no_common_protocol(port: int) -> None:
    await fails(port, alpn_protocols=["other"])


async def does_not_trust(port: int) -> None:
    await fails(port, verify_mode=ssl.CERT_REQUIRED)


HANDSHAKES = {
    "version": (lies_about_the_version, "it offers no QUIC version in common (v1, v2)"),
    "protocol": (no_common_protocol, "no common application protocol"),
    "distrust": (
        does_not_trust,
        "it sent alert 42 (bad certificate); it did not accept the certificate of this server",
    ),
}


@pytest.mark.parametrize("name", HANDSHAKES)
async def test_handshakes_that_fail(
    serving: Serving, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    caplog.set_level(logging.INFO, "pywebtransport.server")
    attempt, words = HANDSHAKES[name]
    async with serving() as served:
        await attempt(served.port)
        await until(lambda: lines(caplog, "handshake with"))
        if name != "version":
            engine = (await served.server.get_server_stats())["engine"]
            assert engine["handshake_failed"] == 1
            (issue,) = await served.server.diagnose_issues()
            assert issue.startswith("1 handshakes failed; the last: handshake with 127.0.0.1 port")
            assert words in issue
    (told,) = lines(caplog, "handshake with")
    assert told.startswith("handshake with 127.0.0.1 port ")
    assert words in told


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        ("stranger", "its certificate was not accepted"),
        ("nothing", "its certificate was not accepted: the peer sent no certificate"),
    ],
)
async def test_client_certificates(
    serving: Serving,
    client_config: ClientFactory,
    certs: Certificates,
    caplog: pytest.LogCaptureFixture,
    shown: str,
    words: str,
) -> None:
    caplog.set_level(logging.INFO, "pywebtransport.server")
    files = certs.stranger.files if shown == "stranger" else {}
    async with (
        serving(ca_certs=certs.authority.certfile, verify_mode=ssl.CERT_REQUIRED) as served,
        WebTransportClient(config=client_config(**files)) as client,
    ):
        with pytest.raises(WebTransportError):
            await client.connect(served.url())
        await until(lambda: lines(caplog, "handshake with 127.0.0.1 port"))
    assert words in lines(caplog, "handshake with")[0]


async def test_a_client_that_goes_silent(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    """It sent its first packet and is never heard of again."""
    caplog.set_level(logging.INFO, "pywebtransport.server")
    async with serving(handshake_timeout=0.3) as served:
        loop = asyncio.get_running_loop()
        quic = QuicConnection(
            configuration=QuicConfiguration(is_client=True, alpn_protocols=["h3"])
        )
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            quic.connect(("127.0.0.1", served.port), now=loop.time())
            for packet, _ in quic.datagrams_to_send(now=loop.time()):
                sock.sendto(packet, ("127.0.0.1", served.port))
        await until(lambda: lines(caplog, "failed: it did not complete the handshake in time"))


async def test_connections_that_are_refused(
    serving: Serving, client_config: ClientFactory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pywebtransport.server")
    async with (
        serving(max_connections=1) as served,
        WebTransportClient(config=client_config()) as client,
    ):
        await client.connect(served.url())
        with pytest.raises(ConnectionError):
            await client.connect(served.url())
        issues = "\n".join(await served.server.diagnose_issues())
    told = lines(caplog, "too many connections")
    assert told
    assert "of 127.0.0.1 port " in told[0]
    assert "connections were refused" in issues


async def test_a_flood_of_failures_is_few_lines(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pywebtransport.server")
    async with serving() as served:
        loop = asyncio.get_running_loop()
        started = loop.time()
        for _ in range(20):
            await lies_about_the_version(served.port)
        seconds = loop.time() - started
    assert 1 <= len(lines(caplog, "no QUIC version in common")) <= 2 + seconds
    assert lines(caplog, "not shown")


async def test_requests_that_make_a_handler_fail_are_few_lines(
    serving: Serving, client_config: ClientFactory, expected_logs: ExpectedLogs
) -> None:
    """A peer that found a mistake of the application can repeat it as often as it likes."""
    expected_logs("handler of /boom raised")

    async def boom(session: WebTransportSession) -> None:
        raise ValueError(session.headers["x-text"])

    records: list[str] = []

    class Counter(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record.getMessage())

    counter = Counter()
    logger = logging.getLogger("pywebtransport")
    logger.addHandler(counter)
    try:
        async with (
            serving({"/boom": boom}, access_log=False) as served,
            WebTransportClient(config=client_config(allow_pooling=True)) as client,
        ):
            started = asyncio.get_running_loop().time()
            for number in range(100):
                headers = {"x-text": f"text of the peer's {number}"}
                async with client.connect(served.url("/boom"), headers=headers) as session:
                    await session.wait_closed()
            seconds = asyncio.get_running_loop().time() - started
            assert (await served.server.get_server_stats())["handler_errors"] == 100
    finally:
        logger.removeHandler(counter)
    told = [line for line in records if "handler of /boom raised" in line]
    assert 1 <= len(told) <= SHARED_BURST + seconds + 1
    assert len(records) <= len(told) + 10
