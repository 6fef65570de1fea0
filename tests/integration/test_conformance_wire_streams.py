"""Conformance on the wire, data streams and datagrams: a raw client against our server.

The numbers are those of the project's list of conformance and negative cases.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from pywebtransport import WebTransportReceiveStream, WebTransportSession, WebTransportStream
from pywebtransport._quic import live_objects
from pywebtransport.exceptions import (
    DatagramTooLargeError,
    SessionClosedError,
    StreamResetError,
    StreamStoppedError,
)
from tests.integration import raw_h3 as h3
from tests.integration.raw_peer import Linked, linked
from tests.support.steps import until

Link = Callable[..., AbstractAsyncContextManager[Linked]]

BOTH = pytest.mark.parametrize("unidirectional", [False, True], ids=["bidi", "uni"])


@pytest.fixture
def link(serving: Callable[..., Any]) -> Link:
    """``async with link(...) as it``: see ``linked``."""
    return functools.partial(linked, serving)


async def arrival(session: WebTransportSession) -> WebTransportReceiveStream:
    """The next stream of the client, of either kind."""
    async for stream in session.incoming_streams():
        return stream
    raise AssertionError("the session ended")


# -------------------------------------------------------------------- browsers as they are

BROWSERS = {
    "chrome": (h3.CHROME, [("sec-webtransport-http3-draft02", "1")], 7),
    "firefox": (h3.FIREFOX, [("sec-webtransport-http3-draft02", "1")], 2),
    "safari": (h3.SAFARI, [], 14),
}


@pytest.mark.parametrize("browser", BROWSERS)
async def test_client_shaped_like_a_browser_is_served(link: Link, browser: str) -> None:
    settings, fields, draft = BROWSERS[browser]
    fields = [("origin", "https://app.example"), *fields]
    async with link(settings=settings) as it:
        it.peer.control(h3.frame(h3.GREASE, b"grease"))
        request = it.peer.open(
            h3.connect("/chat?x=1", protocol="webtransport", fields=fields)
            + h3.data(h3.capsule(0x29 * 1000 + 0x17, b"at once"))
        )
        headers = await it.peer.headers(request)
        assert headers[":status"] == "200"
        has_version = "sec-webtransport-http3-draft" in headers
        assert has_version == (browser != "safari")
        session = await it.sessions.get()
        assert (session.path, session.origin) == ("/chat?x=1", "https://app.example")
        assert session.connection is not None
        assert session.connection.dialect == draft

        stream = it.peer.open_in_session(request, b"question", fin=True)
        arrived = await arrival(session)
        assert isinstance(arrived, WebTransportStream)
        assert await arrived.read_all() == b"question"
        await arrived.write_all(b"answer")
        assert await it.peer.finished(stream) == b"answer"

        it.peer.open_in_session(request, b"one way", unidirectional=True, fin=True)
        assert await (await arrival(session)).read_all() == b"one way"
        ours = await session.create_unidirectional_stream()
        await ours.write_all(b"other way")
        number = await it.peer.opened(h3.stream_header(request, unidirectional=True))
        assert await it.peer.finished(number) == b"\x40\x54\x00other way"
        both = await session.create_bidirectional_stream()
        await both.write(b"!")
        number = await it.peer.opened(h3.stream_header(request, unidirectional=False))
        it.peer.send(number, b"?", fin=True)
        assert await both.read_all() == b"?"

        await it.still_works(request, session)
        it.peer.send(request, h3.data(h3.close_capsule(4000, b"bye")), fin=True)
        info = await session.wait_closed()
        assert (info.code, info.reason, info.remote) == (4000, "bye", True)


async def test_settings_satisfy_every_browser(link: Link) -> None:
    async with link() as it:
        settings = await it.peer.settings()
        assert settings[h3.CONNECT_PROTOCOL] == 1
        assert settings[h3.H3_DATAGRAM] == settings[h3.H3_DATAGRAM_OLD] == 1
        assert settings[h3.WT_02] == settings[h3.WT_16] == 1
        assert settings[h3.WT_07] > 0
        assert settings[h3.WT_14] > 0
        # Safari refuses WT_MAX_SESSIONS of draft-14 without these, and cannot send if one is 0.
        assert all(settings[name] > 0 for name in (h3.MAX_DATA, h3.MAX_UNI, h3.MAX_BIDI))


# ------------------------------------------------------------------------- session IDs, limits


@pytest.mark.parametrize("session_id", [1, 2, 3])
@BOTH
async def test_case_087_088_session_id_that_is_none(
    link: Link, session_id: int, unidirectional: bool
) -> None:
    async with link() as it:
        await it.open()
        it.peer.open_in_session(session_id, b"x", unidirectional=unidirectional)
        assert await it.peer.closed() == 0x108


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(h3.varint(2**60), id="089-2^60"),
        pytest.param(h3.varint(2**62 - 1) + b"data", id="089-largest"),
        pytest.param(b"", id="090-empty"),
        pytest.param(b"\x40", id="090-cut"),
        pytest.param(b"\xc0\0\0\0\0\0\0", id="090-cut-long"),
    ],
)
async def test_case_089_090_bad_quarter_stream_id(link: Link, payload: bytes) -> None:
    async with link() as it:
        await it.open()
        it.peer.send_datagram(payload)
        assert await it.peer.closed() == 0x33


@pytest.mark.parametrize("quarter", [100_000, 2**60 - 1])
async def test_case_091_quarter_stream_id_beyond_the_stream_limit(link: Link, quarter: int) -> None:
    async with link() as it:
        await it.open()
        it.peer.send_datagram(h3.varint(quarter) + b"x")
        assert await it.peer.closed() == 0x108


async def test_case_092_datagram_larger_than_we_accept(link: Link) -> None:
    async with link(max_datagram_size=200) as it:
        await it.open()
        it.peer.send_datagram(bytes(300))
        assert await it.peer.closed_by_transport() == 0x0A


async def test_case_093_zero_length_datagram(link: Link) -> None:
    async with link() as it:
        _, session = await it.open()
        it.peer.send_datagram(b"\x00")
        assert await session.datagrams.receive(timeout=20) == b""
        await session.datagrams.send(b"")
        assert await it.peer.datagram() == b"\x00"


async def test_varints_longer_than_needed_are_read(link: Link) -> None:
    async with link() as it:
        _, session = await it.open()
        it.peer.open(b"\x80\0\0\x54" + b"\xc0" + bytes(7) + b"uni", unidirectional=True, fin=True)
        assert await (await arrival(session)).read_all() == b"uni"
        it.peer.open(b"\xc0\0\0\0\0\0\0\x41" + b"\x40\x00" + b"bidi", fin=True)
        assert await (await arrival(session)).read_all() == b"bidi"
        it.peer.send_datagram(b"\x40\x00datagram")
        assert await session.datagrams.receive(timeout=20) == b"datagram"


# ----------------------------------------------------------------------------- early arrivals


async def test_case_094_streams_for_a_future_session_keep_their_order(link: Link) -> None:
    async with link() as it:
        request = it.peer.open_stream()
        for number in range(10):
            it.peer.open_in_session(
                request, b"%d" % number, unidirectional=number % 3 == 0, fin=True
            )
        it.peer.send_datagram(h3.varint(request // 4) + b"early")
        await it.peer.delivered()
        it.peer.send(request, h3.connect())
        assert (await it.peer.headers(request))[":status"] == "200"
        session = await it.sessions.get()
        texts = [await (await arrival(session)).read_all() for _ in range(10)]
        assert texts == [b"%d" % number for number in range(10)]
        assert await session.datagrams.receive(timeout=20) == b"early"


@BOTH
async def test_case_095_early_buffer_is_full(link: Link, unidirectional: bool) -> None:
    async with link(max_early_streams=5) as it:
        request = it.peer.open_stream()
        streams = [
            it.peer.open_in_session(request, b"x", unidirectional=unidirectional, fin=True)
            for _ in range(5)
        ]
        await it.peer.delivered()
        extra = it.peer.open_in_session(request, b"x", unidirectional=unidirectional)
        if unidirectional:
            assert await it.peer.was_stopped(extra) == h3.BUFFERED_REJECTED
        else:
            assert await it.peer.aborted(extra) == h3.BUFFERED_REJECTED
        it.peer.send(request, h3.connect())
        session = await it.sessions.get()
        assert [(await arrival(session)).stream_id for _ in streams] == streams
        await it.still_works(request, session)


async def test_case_095_early_stream_with_too_many_bytes(link: Link) -> None:
    async with link(max_early_bytes=4096) as it:
        request = it.peer.open_stream()
        stream = it.peer.open_in_session(request, bytes(5000), unidirectional=True)
        assert await it.peer.was_stopped(stream) == h3.BUFFERED_REJECTED
        it.peer.send(request, h3.connect())
        session = await it.sessions.get()
        await it.still_works(request, session)


async def test_early_stream_whose_session_never_comes(link: Link) -> None:
    async with link(pending_event_ttl=0.2) as it:
        request = it.peer.open_stream()
        stream = it.peer.open_in_session(request, b"x")
        assert await it.peer.aborted(stream) == h3.BUFFERED_REJECTED
        it.peer.send(request, h3.connect())
        session = await it.sessions.get()
        await it.still_works(request, session)


# ---------------------------------------------------------------------------- closed sessions


@BOTH
async def test_case_096_097_arrivals_for_a_closed_session(link: Link, unidirectional: bool) -> None:
    async with link() as it:
        session_id, session = await it.open()
        other = await it.open()
        it.peer.send(session_id, h3.data(h3.close_capsule(0)), fin=True)
        await session.wait_closed()
        stream = it.peer.open_in_session(session_id, b"late", unidirectional=unidirectional)
        if unidirectional:
            assert await it.peer.was_stopped(stream) == h3.SESSION_GONE
        else:
            assert await it.peer.aborted(stream) == h3.SESSION_GONE
        it.peer.send_datagram(h3.varint(session_id // 4) + b"late")
        await it.still_works(*other)


async def test_case_109_session_closed_with_a_hundred_open_streams(link: Link) -> None:
    async with link() as it:
        session_id, session = await it.open()
        ours = [
            it.peer.open_in_session(session_id, b"x", unidirectional=bool(number % 2))
            for number in range(100)
        ]
        arrived = [await arrival(session) for _ in ours]
        for stream in arrived:
            assert await stream.read(1) == b"x"
        sending = [await session.create_unidirectional_stream() for _ in range(20)]
        for stream in sending:
            await stream.write(b"y")
        await it.peer.until(lambda: sum(1 for number in it.peer.streams if number % 4 == 3) >= 21)
        readers = [asyncio.create_task(stream.read(1)) for stream in arrived]
        await asyncio.sleep(0)  # the readers wait now
        it.peer.send(session_id, h3.data(h3.close_capsule(5, b"all")), fin=True)
        results = await asyncio.gather(*readers, return_exceptions=True)
        assert all(isinstance(error, SessionClosedError) for error in results)
        assert {error.code for error in results if isinstance(error, SessionClosedError)} == {5}
        for stream in sending:
            with pytest.raises(SessionClosedError):
                await stream.write(b"z")
        for number in ours:
            assert await it.peer.was_stopped(number) == h3.SESSION_GONE
            if number % 4 == 0:
                assert await it.peer.was_reset(number) == h3.SESSION_GONE
        for number, stream in list(it.peer.streams.items()):
            if number % 4 == 3 and stream.data.startswith(b"\x40\x54"):
                assert await it.peer.was_reset(number) == h3.SESSION_GONE
        await it.still_works(*await it.open())


# ----------------------------------------------------------- streams cut in or at their header


@pytest.mark.parametrize("how", ["fin", "reset"], ids=["098", "099"])
@pytest.mark.parametrize("head", [b"\x40", b"\x40\x54", b"\x40\x54\x80\0"])
@BOTH
async def test_case_098_099_stream_ends_inside_its_header(
    link: Link, how: str, head: bytes, unidirectional: bool
) -> None:
    head = head if unidirectional else head.replace(b"\x54", b"\x41")
    async with link() as it:
        session_id, session = await it.open()
        before = live_objects()
        if how == "fin":
            number = it.peer.open(head, unidirectional=unidirectional, fin=True)
        else:
            number = it.peer.open(head, unidirectional=unidirectional)
            await it.peer.delivered()
            it.peer.reset(number, h3.stream_code(1))
        if not unidirectional:
            assert await it.peer.was_reset(number) == 0x10D
        await it.still_works(session_id, session)
        await it.peer.delivered()
        await until(lambda: live_objects() == before)
        it.peer.open_in_session(session_id, b"next", unidirectional=True, fin=True)
        assert await (await arrival(session)).read_all() == b"next"


async def test_case_104_header_then_fin_is_an_empty_stream(link: Link) -> None:
    async with link() as it:
        session_id, session = await it.open()
        number = it.peer.open_in_session(session_id, fin=True)
        stream = await arrival(session)
        assert isinstance(stream, WebTransportStream)
        assert await stream.read() == b""
        assert stream.at_eof()
        await stream.write_all(b"answer")
        assert await it.peer.finished(number) == b"answer"


async def test_case_106_unknown_first_frame_is_http3(link: Link) -> None:
    async with link() as it:
        grease = h3.frame(h3.GREASE, b"not WebTransport")
        request = it.peer.open(grease + h3.connect())
        assert (await it.peer.headers(request))[":status"] == "200"
        await it.still_works(request, await it.sessions.get())


# ----------------------------------------------------------------------- reset and stop codes


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        pytest.param(0x52E4A40FA8DB, 0, id="100-first"),
        pytest.param(0x52E4A40FA8FA, 30, id="100-after-a-gap"),
        pytest.param(0x52E5AC983162, 2**32 - 1, id="100-last"),
        pytest.param(0x10C, None, id="101"),
        pytest.param(0x52E4A40FA8F9, None, id="102"),
        pytest.param(0x52E5AC983163, None, id="102-beyond"),
        pytest.param(0, None, id="102-zero"),
    ],
)
@BOTH
async def test_case_100_101_102_reset_after_the_header(
    link: Link, wire: int, code: int | None, unidirectional: bool
) -> None:
    async with link() as it:
        session_id, session = await it.open()
        number = it.peer.open_in_session(session_id, unidirectional=unidirectional)
        stream = await arrival(session)
        it.peer.reset(number, wire)
        with pytest.raises(StreamResetError) as caught:
            await stream.read()
        assert caught.value.error_code == code
        await it.still_works(session_id, session)


@pytest.mark.parametrize(
    ("wire", "code"), [(0x52E4A40FACE4, 1000), (0x10C, None), (0x52E4A40FA8F9, None)]
)
async def test_case_103_stop_sending(link: Link, wire: int, code: int | None) -> None:
    async with link() as it:
        session_id, session = await it.open()
        stream = await session.create_unidirectional_stream()
        await stream.write(b"x")
        number = await it.peer.opened(h3.stream_header(session_id, unidirectional=True) + b"x")
        it.peer.stop(number, wire)
        # The reset answers with the same code.
        assert await it.peer.was_reset(number) == wire
        with pytest.raises(StreamStoppedError) as caught:
            await stream.write(b"y")
        assert caught.value.error_code == code
        await it.still_works(session_id, session)


@pytest.mark.parametrize("code", [0, 1, 29, 30, 255, 256, 65535, 2**31 - 1, 2**32 - 1])
async def test_our_reset_and_stop_codes_on_the_wire(link: Link, code: int) -> None:
    async with link() as it:
        session_id, session = await it.open()
        number = it.peer.open_in_session(session_id, b"x")
        stream = await arrival(session)
        assert isinstance(stream, WebTransportStream)
        await stream.abort(code)
        assert await it.peer.aborted(number) == h3.stream_code(code)
        ours = await session.create_unidirectional_stream()
        await ours.write(b"x")
        number = await it.peer.opened(h3.stream_header(session_id, unidirectional=True))
        ours.reset(code)
        assert await it.peer.was_reset(number) == h3.stream_code(code)


@pytest.mark.parametrize("settings", [h3.FIREFOX, h3.CHROME, h3.SAFARI], ids=["02", "07", "14"])
async def test_codes_have_32_bits_for_older_dialects(link: Link, settings: dict[int, int]) -> None:
    async with link(settings=settings) as it:
        session_id, session = await it.open(protocol="webtransport")
        number = it.peer.open_in_session(session_id, b"x")
        await it.peer.delivered()
        it.peer.reset(number, h3.stream_code(80_000))
        stream = await arrival(session)
        assert isinstance(stream, WebTransportStream)
        with pytest.raises(StreamResetError) as caught:
            await stream.read_all()
        assert caught.value.error_code == 80_000
        number = it.peer.open_in_session(session_id, b"y")
        stream = await arrival(session)
        assert isinstance(stream, WebTransportStream)
        await stream.abort(70_000)
        assert await it.peer.aborted(number) == h3.stream_code(70_000)


async def test_case_107_stop_sending_on_a_stream_we_only_receive_on(link: Link) -> None:
    async with link() as it:
        session_id, session = await it.open()
        number = it.peer.open_in_session(session_id, b"x", unidirectional=True)
        await arrival(session)
        it.peer.stop(number, h3.stream_code(1))
        assert await it.peer.closed_by_transport() == 0x05
        assert (await session.wait_closed()).code is None


async def test_case_110_datagram_too_large_here(link: Link) -> None:
    async with link() as it:
        session_id, session = await it.open()
        largest = session.max_datagram_size
        with pytest.raises(DatagramTooLargeError) as caught:
            await session.datagrams.send(bytes(largest + 100_000))
        assert caught.value.max_size == session.max_datagram_size
        await it.still_works(session_id, session)
        assert not it.peer.datagrams
        await session.datagrams.send(bytes(largest))
        assert await it.peer.datagram() == b"\x00" + bytes(largest)
