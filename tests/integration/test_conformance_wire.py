"""Conformance on the wire, connection and request: a raw client against our server.

The numbers are those of the project's list of conformance and negative cases. CE is an
application error that closes the connection, SE one that aborts a CONNECT stream.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from aioquic.tls import SessionTicket

from pywebtransport import ServerApp, WebTransportSession
from pywebtransport.exceptions import StreamResetError
from tests.integration import raw_h3 as h3
from tests.integration.raw_peer import Linked, linked, raw_client
from tests.support.steps import until

Link = Callable[..., AbstractAsyncContextManager[Linked]]

OFF = {h3.H3_DATAGRAM: 1, h3.WT_16: 1}
"""SETTINGS of a draft-16 client without session flow control."""


@pytest.fixture
def link(serving: Callable[..., Any]) -> Link:
    """``async with link(...) as it``: see ``linked``."""
    return functools.partial(linked, serving)


# ----------------------------------------------------------------- QUIC and HTTP/3 connection


async def test_case_001_first_control_frame_is_not_settings(link: Link) -> None:
    async with link(settings=None) as it:
        it.peer.control(h3.frame(h3.GOAWAY, h3.varint(0)))
        assert await it.peer.closed() == 0x10A


async def test_case_002_second_settings(link: Link) -> None:
    async with link() as it:
        it.peer.control(h3.settings_frame(h3.DRAFT16))
        assert await it.peer.closed() == 0x105


async def test_case_003_settings_on_a_request_stream(link: Link) -> None:
    async with link() as it:
        it.peer.open(h3.settings_frame(h3.DRAFT16))
        assert await it.peer.closed() == 0x105


async def test_case_004_duplicate_setting(link: Link) -> None:
    async with link(settings=None) as it:
        payload = h3.settings_payload({h3.H3_DATAGRAM: 1}) * 2
        it.peer.control(h3.frame(h3.SETTINGS, payload))
        assert await it.peer.closed() == 0x109


@pytest.mark.parametrize("setting", [0x00, 0x02, 0x03, 0x04, 0x05])
async def test_case_005_setting_of_http2(link: Link, setting: int) -> None:
    async with link(settings=h3.DRAFT16 | {setting: 1}) as it:
        assert await it.peer.closed() == 0x109


async def test_case_006_truncated_settings(link: Link) -> None:
    async with link(settings=None) as it:
        it.peer.control(h3.frame(h3.SETTINGS, h3.varint(h3.WT_16)))
        assert await it.peer.closed() == 0x106


async def test_case_007_unknown_setting_is_ignored(link: Link) -> None:
    async with link(settings=h3.DRAFT16 | {h3.GREASE: 12345, 0xF0F0: 0}) as it:
        await it.still_works(*await it.open())


@pytest.mark.parametrize(
    "setting", [h3.H3_DATAGRAM, h3.WT_02, h3.CONNECT_PROTOCOL], ids=["008", "011", "012"]
)
async def test_case_008_011_012_switch_with_the_value_two(link: Link, setting: int) -> None:
    async with link(settings=h3.DRAFT16 | {setting: 2}) as it:
        assert await it.peer.closed() == 0x109


async def test_case_009_h3_datagram_without_transport_parameter(link: Link) -> None:
    async with link(client={"max_datagram_frame_size": None}) as it:
        assert await it.peer.aborted(it.peer.open(h3.connect())) == 0x10E
        assert it.sessions.empty()


@pytest.mark.parametrize("kind", [0x00, 0x02, 0x03])
async def test_case_013_second_critical_stream(link: Link, kind: int) -> None:
    async with link() as it:
        it.peer.open(h3.varint(kind), unidirectional=True)
        assert await it.peer.closed() == 0x103


@pytest.mark.parametrize("stream_id", [2, 6, 10], ids=["control", "encoder", "decoder"])
@pytest.mark.parametrize("how", ["fin", "reset"])
async def test_case_014_critical_stream_ends(link: Link, stream_id: int, how: str) -> None:
    async with link() as it:
        await it.open()
        if how == "fin":
            it.peer.send(stream_id, b"", fin=True)
        else:
            it.peer.reset(stream_id, 0x100)
        assert await it.peer.closed() == 0x104


@pytest.mark.parametrize("frame_type", [h3.DATA, h3.HEADERS])
async def test_case_015_request_frame_on_control(link: Link, frame_type: int) -> None:
    async with link() as it:
        it.peer.control(h3.frame(frame_type, b"x"))
        assert await it.peer.closed() == 0x105


@pytest.mark.parametrize("frame_type", [0x02, 0x06, 0x08, 0x09])
@pytest.mark.parametrize("where", ["control", "request", "session"])
async def test_case_016_frame_of_http2(link: Link, frame_type: int, where: str) -> None:
    async with link() as it:
        frame = h3.frame(frame_type, bytes(8))
        if where == "control":
            it.peer.control(frame)
        elif where == "request":
            it.peer.open(frame)
        else:
            session_id, _ = await it.open()
            it.peer.send(session_id, frame)
        assert await it.peer.closed() == 0x105


async def test_case_017_push_stream_of_a_client(link: Link) -> None:
    async with link() as it:
        it.peer.open(b"\x01\x00", unidirectional=True)
        assert await it.peer.closed() == 0x103


async def test_case_018_unknown_unidirectional_stream(link: Link) -> None:
    async with link() as it:
        stream = it.peer.open(h3.varint(0x1F * 7 + 0x21) + b"grease", unidirectional=True)
        assert await it.peer.was_stopped(stream) == 0x103
        await it.still_works(*await it.open())


async def test_case_019_push_promise_of_a_client(link: Link) -> None:
    async with link() as it:
        it.peer.open(h3.frame(0x05, b"\x00\x00\x00"))
        assert await it.peer.closed() == 0x105


async def test_case_021_goaway_grows(link: Link) -> None:
    async with link() as it:
        it.peer.control(h3.frame(h3.GOAWAY, h3.varint(4)))
        it.peer.control(h3.frame(h3.GOAWAY, h3.varint(8)))
        assert await it.peer.closed() == 0x108


@pytest.mark.parametrize("frame_type", [0x03, 0x07, 0x0D])
async def test_case_023_control_frame_on_a_request_stream(link: Link, frame_type: int) -> None:
    async with link() as it:
        it.peer.open(h3.frame(frame_type, b"\x00"))
        assert await it.peer.closed() == 0x105


@pytest.mark.parametrize("frame_type", [0xF0700, 0xF0701])
async def test_case_025_priority_update_off_control(link: Link, frame_type: int) -> None:
    async with link() as it:
        it.peer.open(h3.frame(frame_type, b"\x00u=1"))
        assert await it.peer.closed() == 0x105


async def test_case_026_qpack_bad_static_index(link: Link) -> None:
    async with link() as it:
        it.peer.open(h3.frame(h3.HEADERS, b"\x00\x00\xff\x24"))  # 99: one past the table
        assert await it.peer.closed() == 0x200


async def test_case_027_field_section_over_the_limit(link: Link) -> None:
    async with link(max_field_section_size=1024) as it:
        stream = it.peer.open(h3.connect(fields=[("x-long", "a" * 2000)]))
        assert (await it.peer.headers(stream))[":status"] == "431"
        await it.still_works(*await it.open())


async def test_case_028_frame_cut_by_fin(link: Link) -> None:
    async with link() as it:
        it.peer.open(h3.connect()[:-5], fin=True)
        assert await it.peer.closed() == 0x106


async def test_case_029_unknown_connection_error_code(link: Link) -> None:
    async with link() as it:
        _, session = await it.open()
        it.peer.close(0xDEADBEEF, "whatever")
        info = await session.wait_closed()
        assert (info.code, info.remote) == (None, True)


@pytest.mark.parametrize("with_request", [False, True], ids=["030", "032"])
async def test_case_030_032_settings_never_come(link: Link, with_request: bool) -> None:
    async with link(settings=None, handshake_timeout=0.3) as it:
        if with_request:
            it.peer.open(h3.connect())
        assert await it.peer.closed() == 0x10A
        assert it.sessions.empty()


# --------------------------------------------------------------- CONNECT request and response


async def test_case_031_request_before_settings_is_held_then_served(link: Link) -> None:
    async with link(settings=None) as it:
        request = it.peer.open(h3.connect())
        stream = it.peer.open_in_session(request, b"early", unidirectional=True, fin=True)
        it.peer.send_datagram(b"\x00early")
        await it.peer.delivered()
        assert not it.peer.streams[request].data
        assert it.sessions.empty()
        it.peer.start()
        session = await it.sessions.get()
        assert (await it.peer.headers(request))[":status"] == "200"
        async for arrived in session.incoming_unidirectional_streams():
            assert arrived.stream_id == stream
            assert await arrived.read_all() == b"early"
            break
        assert await session.datagrams.receive(timeout=20) == b"early"


@pytest.mark.parametrize(
    "request_frame",
    [
        pytest.param(
            h3.encode_headers(
                [
                    (":method", "CONNECT"),
                    (":scheme", "https"),
                    (":authority", "localhost"),
                    (":path", "/"),
                ]
            ),
            id="033",
        ),
        pytest.param(h3.connect(method="GET"), id="034"),
        pytest.param(h3.connect(scheme="http"), id="036"),
        pytest.param(h3.connect(path=None), id="037-no-path"),
        pytest.param(h3.connect(path=""), id="037-empty-path"),
        pytest.param(h3.connect(authority=None), id="037-no-authority"),
        pytest.param(h3.connect(authority=""), id="037-empty-authority"),
        pytest.param(h3.connect(fields=[(":path", "/")]), id="038"),
        pytest.param(
            h3.encode_headers(
                [
                    (":method", "CONNECT"),
                    ("x", "y"),
                    (":scheme", "https"),
                    (":authority", "localhost"),
                    (":path", "/"),
                    (":protocol", "webtransport-h3"),
                ]
            ),
            id="039",
        ),
        pytest.param(h3.connect(fields=[("X-Upper", "1")]), id="040-uppercase"),
        pytest.param(h3.connect(fields=[("x-value", "a\rb")]), id="040-cr"),
        pytest.param(h3.connect(fields=[("x-value", "a\nb")]), id="040-lf"),
        pytest.param(h3.connect(fields=[("x-value", "a\0b")]), id="040-nul"),
        pytest.param(h3.connect(fields=[("content-length", "0")]), id="041"),
    ],
)
async def test_case_033_to_041_malformed_request(link: Link, request_frame: bytes) -> None:
    async with link() as it:
        assert await it.peer.aborted(it.peer.open(request_frame)) == 0x10E
        assert it.sessions.empty()
        await it.still_works(*await it.open())


async def test_case_035_unknown_protocol(link: Link) -> None:
    async with link() as it:
        stream = it.peer.open(h3.connect(protocol="websocket"))
        assert (await it.peer.headers(stream))[":status"] == "501"
        assert it.sessions.empty()


async def test_case_045_origin_not_allowed(link: Link) -> None:
    async with link(allowed_origins=["https://good.example"]) as it:
        stream = it.peer.open(h3.connect(fields=[("origin", "https://bad.example")]))
        assert (await it.peer.headers(stream))[":status"] == "403"
        assert it.sessions.empty()
        _, session = await it.open(fields=[("origin", "https://good.example")])
        assert session.origin == "https://good.example"


@pytest.mark.parametrize(
    ("settings", "protocol", "status"),
    [(h3.DRAFT16, "webtransport-h3", "405"), (h3.FIREFOX, "webtransport", "404")],
    ids=["draft16", "draft02"],
)
async def test_case_046_no_webtransport_on_path(
    link: Link, settings: dict[int, int], protocol: str, status: str
) -> None:
    async def never(session: WebTransportSession) -> None:
        raise AssertionError(session.path)

    async with link(settings=settings, target={"/there": never}) as it:
        stream = it.peer.open(h3.connect("/here", protocol=protocol))
        assert (await it.peer.headers(stream))[":status"] == status


@pytest.mark.parametrize("protocol", ["webtransport", "webtransport-h3"])
async def test_case_047_both_tokens(link: Link, protocol: str) -> None:
    async with link() as it:
        await it.still_works(*await it.open(protocol=protocol))


async def test_case_049_client_without_h3_datagram(link: Link) -> None:
    settings = {key: value for key, value in h3.DRAFT16.items() if key != h3.H3_DATAGRAM}
    async with link(settings=settings) as it:
        assert await it.peer.aborted(it.peer.open(h3.connect())) == 0x10E
        assert it.sessions.empty()


@pytest.mark.parametrize("first", [b"", h3.frame(0x21, b"grease")], ids=["empty", "grease"])
async def test_case_050_fin_before_headers(link: Link, first: bytes) -> None:
    async with link() as it:
        assert await it.peer.was_reset(it.peer.open(first, fin=True)) == 0x10D
        await it.still_works(*await it.open())


async def test_case_051_request_in_0rtt_runs_after_the_handshake(
    serving: Callable[..., Any],
) -> None:
    sessions: asyncio.Queue[WebTransportSession] = asyncio.Queue()
    tickets: list[SessionTicket] = []
    async with serving(sessions.put) as served:
        async with raw_client(served.port, on_ticket=tickets.append) as peer:
            await peer.session()
            await sessions.get()
            await peer.until(lambda: tickets)
        ticket = tickets[0]
        # A client may try, whatever the ticket says.
        ticket.max_early_data_size = 0xFFFFFFFF
        async with raw_client(served.port, ticket=ticket, settings=None) as peer:
            peer.start()
            request = peer.open(h3.connect())
            assert sessions.empty()
            await peer.wait_connected()
            assert peer._quic.tls._session_resumed
            assert not peer._quic.tls.early_data_accepted
            assert (await peer.headers(request))[":status"] == "200"
            await sessions.get()
            assert sessions.empty()


async def test_case_052_request_after_goaway(serving: Callable[..., Any]) -> None:
    sessions: asyncio.Queue[WebTransportSession] = asyncio.Queue()
    async with serving(sessions.put) as served, raw_client(served.port) as peer:
        first = await peer.session()
        session = await sessions.get()
        closing = asyncio.create_task(served.server.close(drain_timeout=20))
        control = peer.streams[await peer.opened(b"\x00\x04")]

        def goaways() -> list[int]:
            found = h3.read_frames(control.data[1:])
            return [h3.read_varint(f.payload)[0] for f in found if f.type == h3.GOAWAY]

        await peer.until(lambda: len(goaways()) == 2)
        assert goaways() == [2**62 - 4, 4]
        assert await peer.aborted(peer.open(h3.connect())) == 0x10B
        it = Linked(peer, sessions, served.server)
        await it.still_works(first, session)
        peer.send(first, b"", fin=True)
        assert await peer.closed() == 0x100
        await closing


async def test_case_053_second_session_without_flow_control(link: Link) -> None:
    async with link(settings=OFF) as it:
        first = await it.open()
        assert await it.peer.aborted(it.peer.open(h3.connect())) == 0x10B
        assert it.sessions.empty()
        await it.still_works(*first)


async def test_case_054_flood_of_sessions(link: Link) -> None:
    async with link(settings=OFF) as it:
        await it.open()
        for _ in range(100):
            request = it.peer.open(h3.connect())
        assert await it.peer.aborted(request) == 0x10B
        it.peer.open(h3.connect())
        assert await it.peer.closed() == 0x107


@pytest.mark.parametrize(
    ("lines", "offered"),
    [
        pytest.param(['"a", 1'], (), id="055-integer"),
        pytest.param(['"a", b'], (), id="055-token"),
        pytest.param(['"a"; q=0.5, "b";x'], ("a", "b"), id="056-parameters"),
        pytest.param(['"a"', '"b", "c"'], ("a", "b", "c"), id="059-lines"),
    ],
)
async def test_case_055_056_059_available_protocols(
    link: Link, lines: list[str], offered: tuple[str, ...]
) -> None:
    async with link(application_protocols=["c", "b", "x"]) as it:
        fields = [("wt-available-protocols", line) for line in lines]
        request = it.peer.open(h3.connect(fields=fields))
        headers = await it.peer.headers(request)
        session = await it.sessions.get()
        assert session.offered_protocols == offered
        assert headers.get("wt-protocol") == ('"b"' if offered else None)
        assert session.application_protocol == ("b" if offered else None)


@pytest.mark.parametrize(
    "settings",
    [
        {h3.H3_DATAGRAM: 1},
        {h3.H3_DATAGRAM: 1, 0x2C7CF00F: 1},
        {h3.H3_DATAGRAM: 1, 0x2C7CF00F: 1, h3.MAX_DATA: 1 << 20, h3.MAX_UNI: 9, h3.MAX_BIDI: 9},
    ],
    ids=["none", "unknown", "unknown with limits"],
)
@pytest.mark.parametrize(("token", "dialect"), [("webtransport-h3", 16), ("webtransport", 7)])
async def test_token_decides_for_a_client_that_shows_nothing_known(
    link: Link, settings: dict[int, int], token: str, dialect: int
) -> None:
    async with link(settings=settings, application_protocols=["b"]) as it:
        fields = [("wt-available-protocols", '"a", "b"')]
        request = it.peer.open(h3.connect(protocol=token, fields=fields))
        assert (await it.peer.headers(request))["wt-protocol"] == '"b"'
        session = await it.sessions.get()
        assert session.connection is not None
        assert session.connection.dialect == dialect
        await it.still_works(request, session)


@pytest.mark.parametrize(
    "settings",
    [h3.FIREFOX, h3.CHROME, {h3.H3_DATAGRAM: 1, h3.WT_07: 1}, {h3.H3_DATAGRAM: 1}],
    ids=["02", "02+07", "07", "none"],
)
@pytest.mark.parametrize(
    ("offer", "answer"), [('"one-1", "two-2"', '"two-2"'), ("one-1, two-2", "two-2")]
)
async def test_older_clients_are_answered_in_the_form_of_their_offer(
    link: Link, settings: dict[int, int], offer: str, answer: str
) -> None:
    async with link(settings=settings, application_protocols=["two-2"]) as it:
        fields = [("wt-available-protocols", offer)]
        request = it.peer.open(h3.connect(protocol="webtransport", fields=fields))
        assert (await it.peer.headers(request))["wt-protocol"] == answer
        session = await it.sessions.get()
        assert session.application_protocol == "two-2"
        assert list(session.offered_protocols) == ["one-1", "two-2"]


async def test_server_shows_and_understands_an_added_setting(link: Link) -> None:
    settings = {h3.H3_DATAGRAM: 1, h3.WT_02: 1, 0x2C7CF001: 1}
    async with link(settings=settings, extra_enabling_settings={0x2C7CF001: 16}) as it:
        shown = await it.peer.settings()
        assert shown[0x2C7CF001] == shown[h3.WT_16] == 1
        session_id, session = await it.open()
        assert session.connection is not None
        assert session.connection.dialect == 16
        await it.still_works(session_id, session)


async def test_case_060_same_path_twice_is_two_sessions(link: Link) -> None:
    async with link() as it:
        one, two = await it.open("/same"), await it.open("/same")
        assert one[1].path == two[1].path == "/same"
        await it.still_works(*one)
        await it.still_works(*two)
        it.peer.send(one[0], h3.data(h3.close_capsule(1)), fin=True)
        assert (await one[1].wait_closed()).code == 1
        await it.still_works(*two)


# --------------------------------------------------------------------- CONNECT stream content


@pytest.mark.parametrize("frame", [b"\x01\x00", h3.connect()], ids=["empty", "full"])
async def test_case_061_headers_after_connect(link: Link, frame: bytes) -> None:
    async with link() as it:
        session_id, session = await it.open()
        it.peer.send(session_id, frame)
        assert await it.peer.closed() == 0x105
        assert (await session.wait_closed()).code is None


@pytest.mark.parametrize("later", [True, False], ids=["062", "105"])
async def test_case_062_105_webtransport_signal_on_connect_stream(link: Link, later: bool) -> None:
    async with link() as it:
        signal = h3.stream_header(0, unidirectional=False)
        if later:
            session_id, _ = await it.open()
            it.peer.send(session_id, signal)
        else:
            it.peer.open(h3.connect() + signal)
        assert await it.peer.closed() == 0x106


async def test_case_063_grease_frame_is_skipped(link: Link) -> None:
    async with link() as it:
        session_id, session = await it.open()
        it.peer.send(session_id, h3.frame(0x1F * 99 + 0x21, bytes(5000)))
        it.peer.send(session_id, h3.data(h3.capsule(h3.DRAIN)))
        await until(lambda: session.state == "draining")
        await it.still_works(session_id, session)


async def test_case_064_capsules_before_the_answer(
    serving: Callable[..., Any], server_config: Callable[..., Any]
) -> None:
    app = ServerApp(config=server_config())
    requests: asyncio.Queue[WebTransportSession] = asyncio.Queue()
    sessions: asyncio.Queue[WebTransportSession] = asyncio.Queue()
    decisions: asyncio.Queue[bool] = asyncio.Queue()

    @app.middleware
    async def ask(session: WebTransportSession) -> bool:
        requests.put_nowait(session)
        return await decisions.get()

    app.router.set_default_handler(sessions.put)
    capsules = h3.data(h3.capsule(h3.DRAIN)) + h3.data(h3.close_capsule(7, b"early"))
    async with serving(app) as served, raw_client(served.port) as peer:
        accepted = peer.open(h3.connect() + capsules)
        pending = await requests.get()
        await peer.delivered()
        assert pending.state == "connecting"
        decisions.put_nowait(True)
        session = await sessions.get()
        info = await session.wait_closed()
        assert (info.code, info.reason, info.remote) == (7, "early", True)
        assert (await peer.headers(accepted))[":status"] == "200"

        rejected = peer.open(h3.connect() + capsules)
        pending = await requests.get()
        decisions.put_nowait(False)
        assert (await peer.headers(rejected))[":status"] == "403"
        await peer.finished(rejected)
        info = await pending.wait_closed()
        assert info.code is None
        assert sessions.empty()
        assert peer.terminated is None


@pytest.mark.parametrize("size", [0, 7, 1 << 20])
async def test_case_065_grease_capsule_is_skipped(link: Link, size: int) -> None:
    async with link() as it:
        session_id, session = await it.open()
        body = h3.varint(0x29 * 4321 + 0x17) + h3.varint(size) + bytes(size)
        for start in range(0, len(body), 1 << 16):
            it.peer.send(session_id, h3.data(body[start : start + (1 << 16)]))
        it.peer.send(session_id, h3.data(h3.capsule(h3.DRAIN)))
        await until(lambda: session.state == "draining")
        await it.still_works(session_id, session)


async def test_case_066_capsule_byte_by_byte(link: Link) -> None:
    async with link() as it:
        session_id, session = await it.open()
        for byte in h3.capsule(h3.DRAIN) + h3.close_capsule(0x01020304, "Grüße".encode()):
            it.peer.send(session_id, h3.data(bytes([byte])))
        info = await session.wait_closed()
        assert (info.code, info.reason, info.remote) == (0x01020304, "Grüße", True)


@pytest.mark.parametrize(
    "capsules",
    [
        pytest.param(h3.capsule(h3.CLOSE, b"\0\0\0"), id="067"),
        pytest.param(h3.close_capsule(0, bytes(1025)), id="068"),
        pytest.param(h3.close_capsule(0, b"\xff\xfe"), id="069"),
        pytest.param(h3.capsule(h3.DRAIN, b"x"), id="073"),
        pytest.param(h3.capsule(h3.CAP_MAX_DATA, h3.varint(1 << 30) + b"\0"), id="075"),
        pytest.param(h3.capsule(h3.CAP_MAX_DATA), id="075-empty"),
        pytest.param(h3.capsule(h3.CAP_MAX_STREAM_DATA, b"\x00\x40\x40"), id="079-max"),
        pytest.param(h3.capsule(h3.CAP_STREAM_DATA_BLOCKED, b"\x00\x40\x40"), id="079-blocked"),
    ],
)
async def test_case_067_069_073_075_079_malformed_capsule(link: Link, capsules: bytes) -> None:
    async with link() as it:
        session_id, session = await it.open()
        it.peer.send(session_id, h3.data(capsules))
        assert await it.peer.aborted(session_id) == 0x10E
        info = await session.wait_closed()
        assert (info.code, info.remote) == (None, False)
        await it.still_works(*await it.open())


@pytest.mark.parametrize("together", [True, False], ids=["same-packet", "later"])
async def test_case_070_data_after_close(link: Link, together: bool) -> None:
    async with link() as it:
        session_id, session = await it.open()
        close, more = h3.data(h3.close_capsule(3, b"done")), h3.data(h3.capsule(h3.DRAIN))
        if together:
            it.peer.send(session_id, close + more)
        else:
            it.peer.send(session_id, close)
            await session.wait_closed()
            it.peer.send(session_id, more)
        assert await it.peer.was_stopped(session_id) == 0x10E
        info = await session.wait_closed()
        assert (info.code, info.reason) == (3, "done")


@pytest.mark.parametrize("reason", [b"", b"bye", "é".encode() * 512])
async def test_case_071_close_and_fin_in_one_packet(link: Link, reason: bytes) -> None:
    async with link() as it:
        session_id, session = await it.open()
        it.peer.send(session_id, h3.data(h3.close_capsule(0xFFFFFFFF, reason)), fin=True)
        info = await session.wait_closed()
        assert (info.code, info.reason, info.remote) == (0xFFFFFFFF, reason.decode(), True)
        await it.peer.finished(session_id)


async def test_case_072_fin_alone(link: Link) -> None:
    async with link() as it:
        session_id, session = await it.open()
        it.peer.send(session_id, b"", fin=True)
        info = await session.wait_closed()
        assert (info.code, info.reason, info.remote) == (0, "", True)
        await it.peer.finished(session_id)


async def test_case_074_capsule_cut_by_fin(link: Link) -> None:
    async with link() as it:
        session_id, session = await it.open()
        it.peer.send(session_id, h3.data(h3.close_capsule(1, b"abc")[:-1]), fin=True)
        assert await it.peer.was_reset(session_id) == 0x10E
        assert (await session.wait_closed()).code is None


@pytest.mark.parametrize(
    "capsules",
    [
        pytest.param(h3.capsule(h3.CAP_MAX_DATA, h3.varint((1 << 24) - 1)), id="076-smaller"),
        pytest.param(h3.capsule(h3.CAP_MAX_DATA, h3.varint(1 << 24)), id="076-equal"),
        pytest.param(h3.capsule(h3.CAP_MAX_BIDI, h3.varint(100)), id="076-equal-streams"),
        pytest.param(
            h3.capsule(h3.CAP_MAX_UNI, h3.varint(200)) + h3.capsule(h3.CAP_MAX_UNI, h3.varint(150)),
            id="076-after-growth",
        ),
        pytest.param(h3.capsule(h3.CAP_MAX_BIDI, h3.varint(2**60 + 1)), id="077-bidi"),
        pytest.param(h3.capsule(h3.CAP_MAX_UNI, h3.varint(2**60 + 1)), id="077-uni"),
        pytest.param(h3.capsule(h3.CAP_BIDI_BLOCKED, h3.varint(2**60 + 1)), id="078-bidi"),
        pytest.param(h3.capsule(h3.CAP_UNI_BLOCKED, h3.varint(2**60 + 1)), id="078-uni"),
    ],
)
async def test_case_076_077_078_bad_limit(link: Link, capsules: bytes) -> None:
    async with link() as it:
        session_id, session = await it.open()
        it.peer.send(session_id, h3.data(capsules))
        assert await it.peer.aborted(session_id) == h3.FLOW_CONTROL
        assert (await session.wait_closed()).code is None
        await it.still_works(*await it.open())


async def test_case_080_flow_control_capsules_without_flow_control(link: Link) -> None:
    async with link(settings=h3.FIREFOX) as it:
        session_id, session = await it.open(protocol="webtransport")
        for kind in (h3.CAP_MAX_DATA, h3.CAP_MAX_BIDI, h3.CAP_MAX_UNI, h3.CAP_BIDI_BLOCKED):
            it.peer.send(session_id, h3.data(h3.capsule(kind, h3.varint(0)) * 2))
            it.peer.send(session_id, h3.data(h3.capsule(kind, b"nonsense")))
        await it.still_works(session_id, session)


@pytest.mark.parametrize("unidirectional", [False, True], ids=["bidi", "uni"])
async def test_case_081_one_stream_over_the_limit(link: Link, unidirectional: bool) -> None:
    async with link(initial_max_streams_bidi=3, initial_max_streams_uni=3) as it:
        session_id, session = await it.open()
        for _ in range(3):
            it.peer.open_in_session(session_id, b"x", unidirectional=unidirectional)
        await it.still_works(session_id, session)
        it.peer.open_in_session(session_id, b"x", unidirectional=unidirectional)
        assert await it.peer.aborted(session_id) == h3.FLOW_CONTROL
        assert (await session.wait_closed()).code is None


async def test_case_082_083_one_body_byte_over_the_limit(link: Link) -> None:
    async with link(initial_max_data=10_000) as it:
        session_id, session = await it.open()
        # Exactly the limit: the headers of the ten streams and the capsule do not count.
        it.peer.send(session_id, h3.data(h3.capsule(0x17, bytes(5000))))
        for number in range(10):
            stream = it.peer.open_in_session(
                session_id, bytes(1000), unidirectional=bool(number % 2)
            )
        await it.peer.delivered()
        await it.still_works(session_id, session)
        it.peer.send(stream, b"!")
        assert await it.peer.aborted(session_id) == h3.FLOW_CONTROL
        assert (await session.wait_closed()).code is None


async def test_case_084_reset_stream_counts_by_final_size(link: Link) -> None:
    async with link(initial_max_data=10_000) as it:
        session_id, session = await it.open()
        stream = it.peer.open_in_session(session_id, bytes(9000), unidirectional=True)
        await it.peer.delivered()
        it.peer.reset(stream, h3.stream_code(5))
        await it.peer.delivered()
        async for arrived in session.incoming_unidirectional_streams():
            with pytest.raises(StreamResetError, match="code 5"):
                await arrived.read_all()
            break
        # New credit: 9000 body bytes and the window, the header not counted.
        value = await it.peer.capsule(session_id, h3.CAP_MAX_DATA)
        assert h3.read_varint(value)[0] == 19_000


async def test_session_credit_is_what_was_read_and_the_window(link: Link) -> None:
    async with link(initial_max_data=10_000) as it:
        session_id, session = await it.open()
        it.peer.open_in_session(session_id, bytes(9000), unidirectional=True, fin=True)
        await it.peer.delivered()
        await it.still_works(session_id, session)
        assert not it.peer.streams[session_id].capsules  # nothing was read yet
        async for arrived in session.incoming_unidirectional_streams():
            assert await arrived.read_all() == bytes(9000)
            break
        value = await it.peer.capsule(session_id, h3.CAP_MAX_DATA)
        assert h3.read_varint(value)[0] == 19_000


async def test_case_085_long_reason_is_cut_at_a_character(link: Link) -> None:
    async with link() as it:
        session_id, session = await it.open()
        closing = asyncio.create_task(session.close(code=9, reason="€" * 2000))
        value = await it.peer.capsule(session_id, h3.CLOSE)
        assert value == (9).to_bytes(4, "big") + "€".encode() * 341
        await it.peer.finished(session_id)
        await closing


async def test_case_086_both_sides_close_at_once(link: Link) -> None:
    async with link() as it:
        session_id, session = await it.open()
        ends: list[object] = []
        session.on(event_type="session_closed", handler=lambda event: ends.append(event.data))
        it.peer.send(session_id, h3.data(h3.close_capsule(1, b"peer")), fin=True)
        await session.close(code=2, reason="server")
        await it.peer.finished(session_id)
        await it.peer.delivered()
        assert len(ends) == 1
        assert session.close_info is not None
        assert session.close_info.code == 2
        await it.still_works(*await it.open())
