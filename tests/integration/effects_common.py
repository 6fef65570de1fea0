"""Effects of the fields that clients and servers share; see ``effects.py``."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from typing import Any

import pytest

from pywebtransport import (
    ConfigurationError,
    HandshakeError,
    TimeoutError,
    WebTransportError,
    WebTransportSession,
)
from pywebtransport._loop.endpoint import UdpSocket
from pywebtransport._quic import QLOG_SUPPORTED
from pywebtransport.exceptions import UnreachableError
from pywebtransport.testing import Network
from pywebtransport.utils._budget import PROCESS
from tests.integration import raw_h3 as h3
from tests.integration.effects import Bed, Tap, effect, elapsed, engine_stats, refused
from tests.integration.raw_peer import linked, raw_server
from tests.support.steps import take, take_unidirectional, until

KIB = 1024


async def ping(near: WebTransportSession, far: WebTransportSession) -> None:
    """A datagram there and back."""
    await near.datagrams.send(b"ping")
    assert await far.datagrams.receive(timeout=20) == b"ping"
    await far.datagrams.send(b"pong")
    assert await near.datagrams.receive(timeout=20) == b"pong"


@effect("network")
async def packets_go_through_the_network(bed: Bed) -> None:
    network = Network()
    async with bed.pair(network=network, other={"network": network}) as (near, far):
        sent = network.packets_sent
        await ping(near, far)
        assert network.packets_sent >= sent + 2
    only_here: dict[str, Any] = {"network": network}
    if bed.side == "client":
        only_here["connect_timeout"] = 0.2
    with pytest.raises((TimeoutError, UnreachableError)):  # the other end has a UDP socket
        async with bed.pair(**only_here):
            pass


# ------------------------------------------------------------------- TLS and negotiation


@effect("alpn_protocols")
async def other_alpn_fails_the_handshake(bed: Bed) -> None:
    with pytest.raises(HandshakeError):
        async with bed.pair(alpn_protocols=["h3-29"]):
            pass
    async with bed.pair(alpn_protocols=["h3-29", "h3"]):
        pass


@effect("application_protocols")
async def first_common_application_protocol_is_used(bed: Bed) -> None:
    async with bed.pair(application_protocols=["b"], other={"application_protocols": ["a", "b"]}):
        pass
    for mine, theirs, expected in ((["b"], ["a", "b"], "b"), ([], ["a", "b"], None)):
        both = bed.pair(application_protocols=mine, other={"application_protocols": theirs})
        async with both as (near, far):
            assert near.application_protocol == far.application_protocol == expected


@effect("dialects")
async def a_narrower_choice_of_drafts_is_kept(bed: Bed) -> None:
    for dialects, expected in (([2], 2), ([2, 7], 7), ([2, 7, 14, 16], 16)):
        async with bed.pair(dialects=dialects) as (near, _):
            assert near.connection is not None
            assert near.connection.dialect == expected


@effect("keylog_file")
async def keys_are_logged(bed: Bed) -> None:
    path = bed.path / "keys.log"
    async with bed.pair(keylog_file=path):
        assert "CLIENT_HANDSHAKE_TRAFFIC_SECRET" in path.read_text()


@effect("qlog_dir")
async def qlog_is_written_or_refused(bed: Bed) -> None:
    if QLOG_SUPPORTED:
        async with bed.pair(qlog_dir=bed.path):
            pass
        assert any(bed.path.iterdir())
    else:
        with pytest.raises(ConfigurationError, match="qlog"):
            async with bed.pair(qlog_dir=bed.path):
                pass


# --------------------------------------------------------------------------------- logs


@effect("debug")
async def debug_logs_what_the_quic_library_does(bed: Bed) -> None:
    bed.logs.set_level(logging.DEBUG, logger="pywebtransport")
    for switch in (False, True):
        async with bed.pair(debug=switch):
            names = {record.name for record in bed.logs.records}
        assert ("pywebtransport.quic.trace" in names) == switch


@effect("log_level")
async def level_of_the_logger_follows(bed: Bed) -> None:
    logger = logging.getLogger("pywebtransport")
    logger.setLevel(logging.NOTSET)
    async with bed.pair():
        assert logger.level == logging.NOTSET
    for level in ("DEBUG", "ERROR", "WARNING"):
        async with bed.pair(log_level=level):
            assert logging.getLevelName(logger.level) == level
            assert logging.getLogger("pywebtransport.session").isEnabledFor(logger.level)
    # What the program set stays.
    logger.setLevel(logging.CRITICAL)
    async with bed.pair(log_level="DEBUG"):
        assert logger.level == logging.CRITICAL


# ------------------------------------------------------------------------------ timeouts


@effect("close_timeout")
async def closing_waits_for_a_peer_that_does_not_answer(bed: Bed) -> None:
    async def close_in_vain(seconds: float) -> float:
        soon = {"close_timeout": 0.05}
        fields = {"client": soon, "server": soon} | {bed.side: {"close_timeout": seconds}}
        arrived: asyncio.Queue[WebTransportSession] = asyncio.Queue()
        async with (
            bed.serving(arrived.put, **fields["server"]) as served,
            Tap((served.host, served.port)) as tap,
            bed.client(**fields["client"]) as client,
        ):
            ours = await client.connect(f"https://127.0.0.1:{tap.port}/")
            near = ours if bed.side == "client" else await arrived.get()
            tap.blocked = True
            await (await near.create_unidirectional_stream()).write_all(b"x")
            seconds = await elapsed(near.close())
            tap.blocked = False
            return seconds

    short, long = await close_in_vain(0.2), await close_in_vain(1.5)
    assert short >= 0.2
    assert long >= 1.5
    assert short < long


@effect("connection_idle_timeout", "keep_alive")
async def a_quiet_connection_is_lost(bed: Bed) -> None:
    off = {"keep_alive": False}
    async with bed.pair(connection_idle_timeout=0.3, keep_alive=False, other=off) as (near, _):
        connection = near.connection
        assert connection is not None
        await connection.wait_closed()
        assert type(connection.error).__name__ == "IdleTimeoutError"


@effect("connection_keepalive_timeout")
async def pings_are_sent_after_silence(bed: Bed) -> None:
    off = {"keep_alive": False}
    async with bed.pair(connection_keepalive_timeout=0.02, other=off) as (near, _):
        assert near.connection is not None
        before = near.connection.info.packets_sent
        await until(lambda: near.connection.info.packets_sent > before + 5)  # type: ignore[union-attr]


@effect("handshake_timeout")
async def a_peer_without_settings_is_given_up(bed: Bed) -> None:
    if bed.side == "server":
        serve = lambda *a, **k: bed.serving(*a, **k)  # noqa: E731
        async with linked(serve, settings=None, handshake_timeout=0.2) as it:
            assert await it.peer.closed() == 0x10A  # H3_MISSING_SETTINGS
        return
    async with raw_server(bed.certs) as server, bed.client(handshake_timeout=0.2) as client:
        attempt = asyncio.ensure_future(client.connect(server.url))
        peer = await server.accept(None)
        await refused(attempt, WebTransportError)
        peer.vanish()


@effect("read_timeout")
async def a_read_ends(bed: Bed) -> None:
    async with bed.pair(read_timeout=0.05) as (near, _):
        stream = await near.create_bidirectional_stream()
        assert (await refused(stream.read(), TimeoutError)).timeout_duration == 0.05


@effect("write_timeout")
async def a_write_ends(bed: Bed) -> None:
    async with bed.pair(write_timeout=0.05) as (near, _):
        stream = await near.create_unidirectional_stream()
        error = await refused(stream.write(bytes(16 * KIB * KIB)), TimeoutError)
        assert error.timeout_duration == 0.05


@effect("pending_event_ttl")
async def what_came_early_is_given_up(bed: Bed) -> None:
    if bed.side == "server":
        async with bed.raw(pending_event_ttl=0.1) as (peer, _):
            stream = peer.open_in_session(0, b"x")
            assert await peer.aborted(stream) == h3.BUFFERED_REJECTED
        return
    # A client asked for every session that it may be told of: only its own request counts.
    async with bed.raw(pending_event_ttl=0.05) as (peer, establish):
        peer.open_in_session(0, b"kept", unidirectional=True, fin=True)
        session = await establish()
        assert await (await take_unidirectional(session)).read_all() == b"kept"


# ----------------------------------------------------------------------------- datagrams


@effect("datagram_max_age")
async def old_datagrams_are_dropped(bed: Bed) -> None:
    async with bed.pair(datagram_max_age=0.02) as (near, far):
        assert near.datagrams.outgoing_max_age == near.datagrams.incoming_max_age == 0.02
        await far.datagrams.send(b"old")
        await until(lambda: near.datagrams.datagrams_received)
        deadline = asyncio.get_running_loop().time() + 0.03
        await until(lambda: asyncio.get_running_loop().time() > deadline)
        assert await near.datagrams.try_receive() is None
    async with bed.pair() as (near, _):
        assert near.datagrams.outgoing_max_age is near.datagrams.incoming_max_age is None


@effect("datagram_queue_size")
async def queues_of_datagrams_end(bed: Bed) -> None:
    async with bed.pair(datagram_queue_size=2) as (near, far):
        assert [await near.datagrams.try_send(b"x") for _ in range(3)] == [True, True, False]
        for number in range(5):
            await far.datagrams.send(b"%d" % number)
        stats = near.datagrams
        await until(lambda: stats.stats["receive_drops"] == 3)
        assert await stats.receive_multiple(max_count=10) == [b"3", b"4"]


@effect("max_session_memory")
async def datagrams_of_a_session_end_in_bytes(bed: Bed) -> None:
    async with bed.pair(max_session_memory=64 * KIB) as (near, far):
        await held_datagrams(near, far, 16 * KIB)


@effect("max_connection_memory")
async def datagrams_of_a_connection_end_in_bytes(bed: Bed) -> None:
    async with bed.pair(max_connection_memory=64 * KIB) as (near, far):
        await held_datagrams(near, far, 64 * KIB)


@effect("max_memory")
async def datagrams_of_the_process_end_in_bytes(bed: Bed) -> None:
    before = PROCESS.limit
    try:
        async with bed.pair(max_memory=64 * KIB) as (near, far):
            assert PROCESS.limit == 64 * KIB
            await held_datagrams(near, far, 64 * KIB)
            assert (await near.debug_state())["memory"]["used"] <= PROCESS.peak
    finally:
        PROCESS.limit = before
    assert PROCESS.used == 0


async def held_datagrams(near: WebTransportSession, far: WebTransportSession, limit: int) -> None:
    """Of 100 unread datagrams the last ones are kept, up to this many bytes."""
    count, size = 100, 1000
    for number in range(count):
        await far.datagrams.send(b"%03d" % number + bytes(size - 3))
    datagrams = near.datagrams
    await until(lambda: datagrams.datagrams_received == count)
    kept = datagrams.get_receive_buffer_size()
    assert (kept + 1) * size > limit - 4 * KIB  # other things are held, too
    assert kept * size <= limit
    assert datagrams.stats["receive_drops"] == count - kept
    got = await datagrams.receive_many(count)
    assert [data[:3] for data in got] == [b"%03d" % n for n in range(count - kept, count)]
    assert near.memory_budget.used <= 32 * KIB


@effect("max_datagram_size")
async def the_peer_sends_no_larger_datagram(bed: Bed) -> None:
    async with bed.pair(max_datagram_size=200) as (near, far):
        assert 150 < far.max_datagram_size < 200
        assert near.max_datagram_size > 1000


# ------------------------------------------------------------------------ early arrivals


@effect("max_early_streams")
async def early_streams_end(bed: Bed) -> None:
    async with bed.raw(max_early_streams=2) as (peer, establish):
        await some_are_kept(peer, establish)


@effect("max_pending_events_per_session")
async def early_arrivals_of_a_session_end(bed: Bed) -> None:
    async with bed.raw(max_pending_events_per_session=2) as (peer, establish):
        for number in range(5):
            peer.send_datagram(b"\x00%d" % number)
        session = await some_are_kept(peer, establish)
        assert await session.datagrams.receive_multiple(max_count=10) == [b"0", b"1"]
        report = await session.connection.diagnose_issues()
        dropped = "4 streams or datagrams were dropped: they came before their session"
        assert dropped in report["issues"]


@effect("max_total_pending_events")
async def early_arrivals_of_a_connection_end(bed: Bed) -> None:
    async with bed.raw(max_total_pending_events=3) as (peer, establish):
        peer.send_datagram(b"\x00only")
        await some_are_kept(peer, establish)


async def some_are_kept(peer: Any, establish: Any) -> WebTransportSession:
    """Two of three streams find room; the last is refused."""
    for _ in range(2):
        peer.open_in_session(0, b"x", unidirectional=True, fin=True)
    await peer.delivered()
    extra = peer.open_in_session(0, b"x", unidirectional=True)
    assert await peer.was_stopped(extra) == h3.BUFFERED_REJECTED
    session: WebTransportSession = await establish()
    for _ in range(2):
        assert await (await take_unidirectional(session)).read_all() == b"x"
    return session


@effect("max_early_bytes")
async def bytes_of_early_streams_and_datagrams_end(bed: Bed) -> None:
    async with bed.raw(max_early_bytes=2000) as (peer, establish):
        stream = peer.open_in_session(0, bytes(3000), unidirectional=True)
        assert await peer.was_stopped(stream) == h3.BUFFERED_REJECTED
        for _ in range(3):
            peer.send_datagram(b"\x00" + bytes(900))
        await peer.delivered()
        session = await establish()
        assert await session.datagrams.receive_multiple(max_count=10) == [bytes(900)] * 2


@effect("max_field_section_size")
async def larger_headers_are_refused(bed: Bed) -> None:
    if bed.side == "server":
        async with bed.serving(max_field_section_size=1024) as served, bed.client() as client:
            await refused(
                client.connect(served.url(), headers={"x": "x" * 2000}), WebTransportError
            )
            await client.connect(served.url())
        return

    async def accept(session: WebTransportSession) -> None:
        """Answer in time; the headers of the answer are the middleware's."""

    for size, fits in ((1024, False), (65536, True)):
        app_fields = {"middleware": [large_answer]}
        async with (
            bed.serving(accept, **app_fields) as served,
            bed.client(max_field_section_size=size) as client,
        ):
            error = await refused(client.connect(served.url()), WebTransportError)
            assert (getattr(error, "status_code", None) == 403) == fits


async def large_answer(*, session: WebTransportSession) -> bool:
    try:
        session.reject(status_code=403, headers={"x": "x" * 2000})
    except ConfigurationError:  # more than the client takes
        session.reject(status_code=400)
    return False


# -------------------------------------------------------------------------- flow control


async def unread(bed: Bed, **fields: Any) -> int:
    """Bytes that one unread stream may receive, including its header of 3 bytes."""
    async with bed.pair(**fields) as (near, far):
        stream = await far.create_bidirectional_stream()
        await stream.write(bytes(4 * KIB * KIB), wait_flush=False)
        held = await take(near)  # one that nobody holds would be stopped
        arrived = await settled(near, far) + 3
        assert held.is_readable
        return arrived


async def settled(near: WebTransportSession, far: WebTransportSession) -> int:
    """What arrived on streams, once nothing more comes in several round trips."""
    last, quiet = -1, 0
    while quiet < 10:
        await ping(near, far)
        await ping(far, near)
        now = (await near.get_summary())["data"]["bytes_received"]
        last, quiet = now, quiet + 1 if now == last else 0
    return last


@effect("flow_control_window_size")
async def a_stream_brings_its_window(bed: Bed) -> None:
    assert await unread(bed, flow_control_window_size=64 * KIB) == 64 * KIB
    assert await unread(bed, flow_control_window_size=96 * KIB) == 96 * KIB


@effect("max_read_buffer_size", "max_stream_buffer_size")
async def the_window_has_a_ceiling(bed: Bed) -> None:
    assert await unread(bed, max_read_buffer_size=64 * KIB) == 64 * KIB
    assert await unread(bed, max_stream_buffer_size=96 * KIB) == 96 * KIB


@effect("flow_control_window_auto_scale")
async def the_window_grows_while_the_reader_keeps_up(bed: Bed) -> None:
    async def after_a_transfer(grows: bool) -> int:
        fields = {"flow_control_window_size": 64 * KIB, "flow_control_window_auto_scale": grows}
        async with bed.pair(**fields) as (near, far):
            stream = await far.create_unidirectional_stream()
            size = 16 * KIB * KIB
            writing = asyncio.ensure_future(stream.write(bytes(size + 4 * KIB * KIB)))
            reader = await take_unidirectional(near)
            left = size
            while left > 0:
                left -= len(await reader.read(64 * KIB))
            waiting = await settled(near, far) - (size - left)
            writing.cancel()
            await asyncio.wait({writing})
            return waiting

    assert await after_a_transfer(False) <= 64 * KIB
    assert await after_a_transfer(True) > 64 * KIB


@effect("initial_max_data")
async def a_session_brings_its_window(bed: Bed) -> None:
    async with bed.pair(initial_max_data=100 * KIB) as (near, far):
        streams = [await far.create_unidirectional_stream() for _ in range(2)]
        for stream in streams:
            await stream.write(bytes(80 * KIB), wait_flush=False)
        assert await settled(near, far) == 100 * KIB


@effect("extra_enabling_settings")
async def a_setting_is_shown_and_understood(bed: Bed) -> None:
    number = 0x2C7CF001
    async with bed.pair(extra_enabling_settings={number: 16}, dialects=[16]) as (_, far):
        shown = far.connection._driver.layer.peer_settings  # type: ignore[union-attr]
        assert number in shown
    async with bed.pair(dialects=[16]) as (_, far):
        shown = far.connection._driver.layer.peer_settings  # type: ignore[union-attr]
        assert number not in shown


@effect("initial_max_streams_bidi", "initial_max_streams_uni", "max_incoming_streams")
async def the_peer_opens_no_more_streams(bed: Bed) -> None:
    fields = {"initial_max_streams_bidi": 2, "initial_max_streams_uni": 3}
    async with bed.pair(**fields) as (_, far):
        for create, limit in (
            (far.create_bidirectional_stream, 2),
            (far.create_unidirectional_stream, 3),
        ):
            for _ in range(limit):
                await create()
            await refused(create(timeout=0.05), WebTransportError)
    async with bed.pair(max_incoming_streams=1) as (_, far):
        for create in (far.create_bidirectional_stream, far.create_unidirectional_stream):
            await create()
            await refused(create(timeout=0.05), WebTransportError)


@effect("stream_flow_control_increment_bidi", "stream_flow_control_increment_uni")
async def stream_credit_comes_in_increments(bed: Bed) -> None:
    async def first_raise(kind: str, increment: int) -> int:
        """By how many streams the limit is raised first."""
        fields = {f"stream_flow_control_increment_{kind}": increment}
        fields[f"initial_max_streams_{kind}"] = 40
        limits: list[int] = []
        async with bed.pair(**fields) as (near, far):
            far.on(
                f"session_max_streams_{kind}_updated",
                lambda event: limits.append(event.data["limit"]),
            )
            while not limits:
                if kind == "bidi":
                    stream = await far.create_bidirectional_stream()
                    await stream.write_all(b"x")
                    end = await take(near)
                    await end.write_all(await end.read_all())
                    await stream.read_all()
                else:
                    await (await far.create_unidirectional_stream()).write_all(b"x")
                    await (await take_unidirectional(near)).read_all()
        return limits[0] - 40

    for kind in ("bidi", "uni"):
        for increment in (1, 5):
            assert await first_raise(kind, increment) == increment


@effect("max_write_buffer_size", "stream_buffer_size")
async def a_write_waits_above_its_buffer(bed: Bed) -> None:
    async def waits(**fields: Any) -> int | None:
        """Bytes that are left when a write of 200 KiB continues; None: it did not wait."""
        slow = {"flow_control_window_size": 16 * KIB, "flow_control_window_auto_scale": False}
        async with bed.pair(other=slow, **fields) as (near, far):
            stream = await near.create_unidirectional_stream()
            await stream.write(b"x")
            reader = await take_unidirectional(far)
            writing = asyncio.ensure_future(stream.write(bytes(200 * KIB)))
            await ping(near, far)
            if writing.done():
                return None
            while not writing.done():
                await reader.read(KIB)
            return stream.write_buffer_size

    assert await waits() is None
    early = await waits(max_write_buffer_size=128 * KIB, stream_buffer_size=60 * KIB)
    late = await waits(max_write_buffer_size=128 * KIB, stream_buffer_size=KIB)
    assert early is not None
    assert late is not None
    assert early > 30 * KIB > late


# ------------------------------------------------------------------------------ the path


async def tapped(bed: Bed, **fields: Any) -> tuple[list[tuple[int, int]], dict[str, int]]:
    """Size and mark of each packet that one side sends in a transfer, and its statistics."""
    arrived: asyncio.Queue[WebTransportSession] = asyncio.Queue()
    mine = {"client": {}, "server": {}} | {bed.side: fields}
    async with (
        bed.serving(arrived.put, **mine["server"]) as served,
        Tap((served.host, served.port)) as tap,
        bed.client(**mine["client"]) as client,
    ):
        ours = await client.connect(f"https://127.0.0.1:{tap.port}/")
        theirs = await arrived.get()
        near, far = (ours, theirs) if bed.side == "client" else (theirs, ours)
        for _ in range(20):
            stream = await near.create_unidirectional_stream()
            await stream.write_all(bytes(100 * KIB))
            await (await take_unidirectional(far)).read_all()
        return list(tap.seen(bed.side)), engine_stats(near)


@effect("congestion_control_algorithm")
async def the_algorithm_decides(bed: Bed) -> None:
    """As the QUIC library's own trace tells; both ends write to one logger."""
    bed.logs.set_level(logging.DEBUG, logger="pywebtransport")
    traces = []
    for algorithm in ("cubic", "reno", "bbr"):
        bed.logs.clear()
        await tapped(bed, congestion_control_algorithm=algorithm, debug=True)
        lines = [record.getMessage() for record in bed.logs.records]
        traces.append({re.sub(r"\d+|^\S+ \S+", "", line) for line in lines if " cca " in line})
    cubic, reno, bbr = traces
    assert any("bbr" in line for line in bbr)
    assert not any("bbr" in line for line in cubic | reno)
    assert cubic != reno


@effect("ecn")
async def packets_are_marked(bed: Bed) -> None:
    for switch in (True, False):
        packets, _ = await tapped(bed, ecn=switch)
        assert any(mark for _, mark in packets) == switch


@effect("pmtud")
async def larger_packets_are_tried(bed: Bed) -> None:
    for switch in (True, False):
        packets, _ = await tapped(bed, pmtud=switch)
        assert any(size > 1200 for size, _ in packets) == switch


@effect("udp_payload_size")
async def packets_have_the_size_that_is_known(bed: Bed) -> None:
    packets, _ = await tapped(bed, udp_payload_size=1333)
    assert max(size for size, _ in packets) == 1333


@effect("gso")
async def packets_share_system_calls(bed: Bed) -> None:
    calls = []
    for switch in (False, True):
        async with bed.pair(gso=switch) as (near, _):
            assert bool(_socket(near).quic.features & {"gso", "gro"}) == switch
        calls.append((await tapped(bed, gso=switch))[1]["send_calls"])
    assert calls[0] > calls[1]


def _socket(session: WebTransportSession) -> UdpSocket:
    """The UDP socket of one end."""
    assert session.connection is not None
    assert session.connection._endpoint is not None
    return session.connection._endpoint.sockets[0]


@effect("socket_buffer_size")
async def the_kernel_is_asked_for_room(bed: Bed) -> None:
    granted = []
    for size in (32 * KIB, 128 * KIB):
        async with bed.pair(socket_buffer_size=size) as (near, _):
            sock = _socket(near).sock
            options = (socket.SO_RCVBUF, socket.SO_SNDBUF)
            granted.append([sock.getsockopt(socket.SOL_SOCKET, each) for each in options])
    assert granted[0] < granted[1]
    assert granted[0][1] < granted[1][1]


@effect("busy_poll_us")
async def the_loop_stays_awake_after_packets(bed: Bed) -> None:
    for microseconds in (0, 10_000):
        async with bed.pair(busy_poll_us=microseconds) as (near, far):
            assert near.connection is not None
            assert near.connection._endpoint is not None
            poll = near.connection._endpoint._poll
            if not microseconds:
                assert poll is None
                continue
            assert poll is not None
            await ping(near, far)
            # The processor may be taken from one poll, but not from each.
            while not poll.is_active:
                await ping(near, far)
            await until(lambda poll=poll: not poll.is_active)


@effect("ip_family")
async def one_family_is_used(bed: Bed) -> None:
    for family, host in (("ipv4", "127.0.0.1"), ("ipv6", "::1")):
        mine: dict[str, dict[str, Any]] = {"client": {}, "server": {"bind_host": "localhost"}}
        mine[bed.side]["ip_family"] = family
        async with bed.serving(**mine["server"]) as served, bed.client(**mine["client"]) as client:
            hosts = {address for address, _ in served.server.local_addresses}
            assert hosts == ({host} if bed.side == "server" else {"127.0.0.1", "::1"})
            session = await client.connect(served.url(host="localhost"))
            assert session.remote_address is not None
            assert session.remote_address[0] == host
