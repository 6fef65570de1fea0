"""Conformance on the wire, the client's side: our client against a raw server.

The numbers are those of the project's list of conformance and negative cases.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from pywebtransport import ClientConfig, WebTransportClient, WebTransportSession, WebTransportStream
from pywebtransport.exceptions import (
    FlowControlError,
    ProtocolError,
    SessionClosedError,
    SessionRejectedError,
    StreamResetError,
    WebTransportError,
    WebTransportNotSupportedError,
)
from tests.integration import raw_h3 as h3
from tests.integration.raw_peer import RawPeer, raw_server
from tests.support.certificates import Certificates

SERVER16 = h3.DRAFT16 | {h3.CONNECT_PROTOCOL: 1}
SERVER14 = {
    h3.CONNECT_PROTOCOL: 1,
    h3.H3_DATAGRAM: 1,
    h3.WT_14: 10,
    h3.MAX_DATA: 1 << 20,
    h3.MAX_UNI: 100,
    h3.MAX_BIDI: 100,
}
SERVER07 = {h3.CONNECT_PROTOCOL: 1, h3.H3_DATAGRAM: 1, h3.WT_07: 10}
SERVER02 = {h3.H3_DATAGRAM_OLD: 1, h3.H3_DATAGRAM: 1, h3.WT_02: 1}


class Reached:
    """A raw server that our client has connected to, and the client's attempt."""

    def __init__(
        self, peer: RawPeer, client: WebTransportClient, attempt: asyncio.Task[WebTransportSession]
    ) -> None:
        self.peer = peer
        self.client = client
        self.attempt = attempt

    async def request(self) -> dict[str, str]:
        """The fields of the session request, on stream 0."""
        return await self.peer.headers(0)

    def respond(
        self, status: str = "200", fields: Iterable[tuple[str, str]] = (), *, fin: bool = False
    ) -> None:
        """Answer it."""
        self.peer.send(0, h3.encode_headers([(":status", status), *fields]), fin=fin)

    async def open(self) -> WebTransportSession:
        """Answer 200; the session."""
        await self.request()
        self.respond()
        return await self.attempt

    async def fails(self) -> WebTransportError:
        """What the attempt raises."""
        with pytest.raises(WebTransportError) as caught:
            await self.attempt
        return caught.value


Reach = Callable[..., AbstractAsyncContextManager[Reached]]


@pytest.fixture
def reach(certs: Certificates, client_config: Callable[..., ClientConfig]) -> Reach:
    """``async with reach(settings, **fields) as it``: fields are those of ClientConfig."""

    @asynccontextmanager
    async def reaching(
        settings: Mapping[int, int] | None = SERVER16, **fields: Any
    ) -> AsyncIterator[Reached]:
        async with (
            raw_server(certs) as server,
            WebTransportClient(config=client_config(close_timeout=1.0, **fields)) as client,
        ):
            attempt = asyncio.ensure_future(client.connect(server.url))
            attempt.add_done_callback(lambda done: done.cancelled() or done.exception())
            peer = await server.accept(settings)
            try:
                yield Reached(peer, client, attempt)
            finally:
                attempt.cancel()
                await asyncio.wait({attempt})
                # Gone at once: the client need not wait for an answer to its close.
                peer.vanish()

    return reaching


# ----------------------------------------------------------------- generations and the request


@pytest.mark.parametrize(
    ("settings", "draft", "protocol", "version"),
    [
        pytest.param(SERVER02, 2, "webtransport", "1", id="02"),
        pytest.param(SERVER07, 7, "webtransport", None, id="07"),
        pytest.param(SERVER14, 14, "webtransport", None, id="14"),
        pytest.param(SERVER16, 16, "webtransport-h3", None, id="16"),
        pytest.param(SERVER02 | SERVER07, 7, "webtransport", None, id="02+07"),
        pytest.param(SERVER02 | SERVER07 | SERVER16, 16, "webtransport-h3", None, id="all"),
    ],
)
async def test_request_of_each_generation(
    reach: Reach, settings: dict[int, int], draft: int, protocol: str, version: str | None
) -> None:
    async with reach(settings) as it:
        request = await it.request()
        assert request[":protocol"] == protocol
        assert (request[":method"], request[":scheme"], request[":path"]) == (
            "CONNECT",
            "https",
            "/",
        )
        assert request.get("sec-webtransport-http3-draft02") == version
        session = await it.open()
        assert session.connection is not None
        assert session.connection.dialect == draft


async def test_older_token_is_tried_once_where_the_server_shows_it(reach: Reach) -> None:
    async with reach(SERVER16 | SERVER07) as it:
        assert (await it.request())[":protocol"] == "webtransport-h3"
        it.respond("400", fin=True)
        again = await it.peer.headers(4)
        assert again[":protocol"] == "webtransport"
        it.peer.send(4, h3.encode_headers([(":status", "200")]))
        session = await it.attempt
        await session.datagrams.send(b"works")
        assert await it.peer.datagram() == b"\x01works"


async def test_server_that_shows_only_an_added_setting(reach: Reach) -> None:
    server = {h3.CONNECT_PROTOCOL: 1, h3.H3_DATAGRAM: 1, 0x2C7CF001: 1}
    async with reach(server, extra_enabling_settings={0x2C7CF001: 16}) as it:
        assert (await it.request())[":protocol"] == "webtransport-h3"
        session = await it.open()
        assert session.connection is not None
        assert session.connection.dialect == 16
        assert (await it.peer.settings())[0x2C7CF001] == 1
    async with reach(server) as it:
        assert isinstance(await it.fails(), WebTransportNotSupportedError)


async def test_settings_of_the_client(reach: Reach) -> None:
    async with reach() as it:
        settings = await it.peer.settings()
        assert settings[h3.H3_DATAGRAM] == settings[h3.WT_16] == settings[h3.WT_02] == 1
        assert settings[h3.WT_07] > 0
        assert all(settings[name] > 0 for name in (h3.MAX_DATA, h3.MAX_UNI, h3.MAX_BIDI))


# ------------------------------------------------------------------------- HTTP/3 connection


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        pytest.param(SERVER16 | {h3.H3_DATAGRAM: 2}, 0x109, id="008"),
        pytest.param(SERVER16 | {h3.WT_16: 2}, 0x109, id="010"),
        pytest.param(SERVER16 | {h3.WT_02: 2}, 0x109, id="011"),
        pytest.param(SERVER16 | {h3.CONNECT_PROTOCOL: 2}, 0x109, id="012"),
        pytest.param(SERVER16 | {0x04: 1}, 0x109, id="005"),
    ],
)
async def test_case_005_008_010_011_012_bad_settings(
    reach: Reach, settings: dict[int, int], code: int
) -> None:
    async with reach(settings) as it:
        assert await it.peer.closed() == code
        error = await it.fails()
        assert error.error_code == code


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        pytest.param(h3.settings_frame(SERVER16), 0x105, id="002"),
        pytest.param(h3.frame(h3.DATA, b"x"), 0x105, id="015"),
        pytest.param(h3.frame(0x0D, b"\x00"), 0x105, id="020"),
        pytest.param(
            h3.frame(h3.GOAWAY, h3.varint(8)) + h3.frame(h3.GOAWAY, h3.varint(12)), 0x108, id="021"
        ),
        pytest.param(h3.frame(h3.GOAWAY, h3.varint(3)), 0x108, id="022"),
        pytest.param(h3.frame(0xF0700, b"\x00u=1"), 0x105, id="025"),
    ],
)
async def test_case_002_015_020_021_022_025_bad_frame_on_control(
    reach: Reach, payload: bytes, code: int
) -> None:
    async with reach() as it:
        session = await it.open()
        it.peer.control(payload)
        assert await it.peer.closed() == code
        assert (await session.wait_closed()).code is None


@pytest.mark.parametrize("how", ["fin", "reset"])
async def test_case_014_control_stream_ends(reach: Reach, how: str) -> None:
    async with reach() as it:
        await it.open()
        if how == "fin":
            it.peer.send(it.peer.control_id, b"", fin=True)
        else:
            it.peer.reset(it.peer.control_id, 0x100)
        assert await it.peer.closed() == 0x104


async def test_case_024_bidirectional_stream_without_webtransport(reach: Reach) -> None:
    async with reach({h3.CONNECT_PROTOCOL: 1}) as it:
        assert isinstance(await it.fails(), WebTransportNotSupportedError)
        it.peer.open_in_session(0, b"x")
        assert await it.peer.closed() in (0x100, 0x103)


async def test_case_030_control_stream_silent(reach: Reach) -> None:
    async with reach(None, handshake_timeout=0.3) as it:
        assert await it.peer.closed() == 0x10A
        await it.fails()


async def test_case_048_server_without_webtransport(reach: Reach) -> None:
    async with reach({h3.CONNECT_PROTOCOL: 1, h3.H3_DATAGRAM: 1}) as it:
        error = await it.fails()
        assert isinstance(error, WebTransportNotSupportedError)
        assert error.error_code == h3.REQUIREMENTS
        await it.peer.closed()
        assert not it.peer.streams[0].data


# ----------------------------------------------------------------------------------- response


@pytest.mark.parametrize("status", ["204", "205", "206"])
async def test_case_042_success_without_content(reach: Reach, status: str) -> None:
    async with reach() as it:
        await it.request()
        it.respond(status)
        assert await it.peer.was_reset(0) == 0x10E
        error = await it.fails()
        assert error.error_code == 0x10E


async def test_case_043_interim_response_first(reach: Reach) -> None:
    async with reach() as it:
        await it.request()
        it.respond("103", [("link", "</x>; rel=preload")])
        it.respond("100")
        session = await it.open()
        assert session.is_ready


async def test_case_044_redirection_is_reported(reach: Reach) -> None:
    async with reach() as it:
        await it.request()
        it.respond("308", [("location", "https://elsewhere.example/")], fin=True)
        error = await it.fails()
        assert isinstance(error, SessionRejectedError)
        assert error.status_code == 308
        assert error.headers["location"] == "https://elsewhere.example/"
        await it.peer.closed()
        assert sorted(number for number in it.peer.streams if number % 4 == 0) == [0]


@pytest.mark.parametrize("status", ["400", "403", "404", "405", "429", "500", "503"])
async def test_rejection_carries_status_and_headers(reach: Reach, status: str) -> None:
    async with reach() as it:
        await it.request()
        it.respond(status, [("retry-after", "7")], fin=True)
        error = await it.fails()
        assert isinstance(error, SessionRejectedError)
        assert error.status_code == int(status)
        assert error.headers["retry-after"] == "7"


@pytest.mark.parametrize(
    ("fields", "required", "chosen"),
    [
        pytest.param([("wt-protocol", '"b"')], True, "b", id="offered"),
        pytest.param([("wt-protocol", '"x"')], False, None, id="057"),
        pytest.param([], True, None, id="058"),
        pytest.param([("wt-protocol", "b")], True, None, id="058-malformed"),
    ],
)
async def test_case_057_058_application_protocol(
    reach: Reach, fields: list[tuple[str, str]], required: bool, chosen: str | None
) -> None:
    async with reach(application_protocols=["a", "b"], require_application_protocol=required) as it:
        assert (await it.request())["wt-available-protocols"] == '"a", "b"'
        it.respond(fields=fields)
        if chosen is not None:
            assert (await it.attempt).application_protocol == chosen
            return
        assert await it.peer.was_reset(0) == h3.ALPN
        error = await it.fails()
        assert error.error_code == h3.ALPN


@pytest.mark.parametrize(
    "settings", [SERVER02, SERVER07, SERVER02 | SERVER07], ids=["2", "7", "2+7"]
)
@pytest.mark.parametrize("answer", ['"b"', "b"])
async def test_older_servers_get_strings_and_answer_in_either_form(
    reach: Reach, settings: dict[int, int], answer: str
) -> None:
    async with reach(settings, application_protocols=["a", "b"]) as it:
        assert (await it.request())["wt-available-protocols"] == '"a", "b"'
        it.respond(fields=[("wt-protocol", answer)])
        assert (await it.attempt).application_protocol == "b"


# --------------------------------------------------------------------- CONNECT stream content


async def test_case_061_headers_after_the_response(reach: Reach) -> None:
    async with reach() as it:
        session = await it.open()
        it.respond()
        assert await it.peer.closed() == 0x105
        assert (await session.wait_closed()).code is None


async def test_case_062_webtransport_signal_on_the_connect_stream(reach: Reach) -> None:
    async with reach() as it:
        await it.open()
        it.peer.send(0, h3.stream_header(0, unidirectional=False))
        assert await it.peer.closed() == 0x106


async def test_case_064_capsules_with_the_response(reach: Reach) -> None:
    async with reach() as it:
        await it.request()
        ended = h3.encode_headers([(":status", "200")]) + h3.data(h3.close_capsule(3, b"at once"))
        it.peer.send(0, ended, fin=True)
        session = await it.attempt
        info = await session.wait_closed()
        assert (info.code, info.reason, info.remote) == (3, "at once", True)


@pytest.mark.parametrize(
    ("capsules", "code", "kind"),
    [
        pytest.param(h3.capsule(h3.CLOSE, b"\0"), 0x10E, ProtocolError, id="067"),
        pytest.param(h3.close_capsule(0, b"\xff"), 0x10E, ProtocolError, id="069"),
        pytest.param(h3.capsule(h3.DRAIN, b"x"), 0x10E, ProtocolError, id="073"),
        pytest.param(
            h3.capsule(h3.CAP_MAX_DATA, h3.varint(1)), h3.FLOW_CONTROL, FlowControlError, id="076"
        ),
        pytest.param(
            h3.capsule(h3.CAP_MAX_UNI, h3.varint(2**60 + 1)),
            h3.FLOW_CONTROL,
            FlowControlError,
            id="077",
        ),
    ],
)
async def test_case_067_069_073_076_077_bad_capsule(
    reach: Reach, capsules: bytes, code: int, kind: type[WebTransportError]
) -> None:
    async with reach() as it:
        session = await it.open()
        it.peer.send(0, h3.data(capsules))
        assert await it.peer.was_reset(0) == code
        assert (await session.wait_closed()).code is None
        with pytest.raises(SessionClosedError):
            await session.create_bidirectional_stream()


@pytest.mark.parametrize("with_capsule", [True, False], ids=["071", "072"])
async def test_case_071_072_end_of_the_session(reach: Reach, with_capsule: bool) -> None:
    async with reach(allow_pooling=True) as it:
        session = await it.open()
        it.peer.send(0, h3.data(h3.close_capsule(9, b"bye")) if with_capsule else b"", fin=True)
        info = await session.wait_closed()
        assert (info.code, info.reason, info.remote) == (
            (9, "bye", True) if with_capsule else (0, "", True)
        )
        await it.peer.finished(0)


async def test_connection_goes_with_its_only_session(reach: Reach) -> None:
    async with reach() as it:
        session = await it.open()
        it.peer.send(0, h3.data(h3.close_capsule(1)), fin=True)
        assert (await session.wait_closed()).code == 1
        assert await it.peer.closed() == 0x100


async def test_drain_and_goaway_show_as_draining(reach: Reach) -> None:
    async with reach() as it:
        session = await it.open()
        drained = asyncio.Event()
        session.on(event_type="session_draining", handler=lambda event: drained.set())
        it.peer.control(h3.frame(h3.GOAWAY, h3.varint(2**62 - 4)))
        await drained.wait()
        assert session.state == "draining"
        await session.datagrams.send(b"still here")
        assert await it.peer.datagram() == b"\x00still here"


async def test_case_085_close_of_the_client(reach: Reach) -> None:
    async with reach() as it:
        session = await it.open()
        closing = asyncio.create_task(session.close(code=77, reason="é" * 1000))
        value = await it.peer.capsule(0, h3.CLOSE)
        assert value == (77).to_bytes(4, "big") + "é".encode() * 512
        await it.peer.finished(0)
        it.peer.send(0, b"", fin=True)
        # The connection goes only after the capsule has arrived.
        assert await it.peer.closed() == 0x100
        await closing


# ---------------------------------------------------------------------- streams and datagrams


@pytest.mark.parametrize("session_id", [1, 2, 3])
@pytest.mark.parametrize("unidirectional", [False, True], ids=["bidi", "uni"])
async def test_case_087_088_session_id_that_is_none(
    reach: Reach, session_id: int, unidirectional: bool
) -> None:
    async with reach() as it:
        await it.open()
        it.peer.open_in_session(session_id, b"x", unidirectional=unidirectional)
        assert await it.peer.closed() == 0x108


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        pytest.param(h3.varint(2**60), 0x33, id="089"),
        pytest.param(b"", 0x33, id="090-empty"),
        pytest.param(b"\x40", 0x33, id="090-cut"),
        pytest.param(h3.varint(77), 0x108, id="091"),
    ],
)
async def test_case_089_090_091_bad_datagram(reach: Reach, payload: bytes, code: int) -> None:
    async with reach() as it:
        await it.open()
        it.peer.send_datagram(payload)
        assert await it.peer.closed() == code


async def test_case_092_datagram_larger_than_we_accept(reach: Reach) -> None:
    async with reach(max_datagram_size=200) as it:
        await it.open()
        it.peer.send_datagram(bytes(300))
        assert await it.peer.closed_by_transport() == 0x0A


async def test_case_094_108_streams_and_datagrams_before_the_response(reach: Reach) -> None:
    async with reach() as it:
        await it.request()
        it.peer.open_in_session(0, b"one", unidirectional=True, fin=True)
        it.peer.open_in_session(0, b"two", fin=True)
        it.peer.send_datagram(b"\x00three")
        await it.peer.delivered()
        assert not it.attempt.done()
        session = await it.open()
        texts = []
        async for stream in session.incoming_streams():
            texts.append(await stream.read_all())
            if len(texts) == 2:
                break
        assert texts == [b"one", b"two"]
        assert await session.datagrams.receive(timeout=20) == b"three"


async def test_case_095_early_buffer_is_full(reach: Reach) -> None:
    async with reach(max_early_streams=3) as it:
        await it.request()
        for _ in range(3):
            it.peer.open_in_session(0, b"x", unidirectional=True, fin=True)
        await it.peer.delivered()
        extra = it.peer.open_in_session(0, b"x", unidirectional=True)
        assert await it.peer.was_stopped(extra) == h3.BUFFERED_REJECTED
        session = await it.open()
        assert session.is_ready


async def test_streams_of_a_rejected_session_are_aborted(reach: Reach) -> None:
    async with reach() as it:
        await it.request()
        stream = it.peer.open_in_session(0, b"x")
        await it.peer.delivered()
        it.respond("404", fin=True)
        error = await it.fails()
        assert isinstance(error, SessionRejectedError)
        # Aborted, or gone with the connection that has no other use.
        ended = it.peer.streams[stream]
        await it.peer.until(lambda: ended.reset is not None or it.peer.terminated)


@pytest.mark.parametrize(("wire", "code"), [(h3.stream_code(12), 12), (0x10C, None)])
async def test_case_100_101_reset_after_the_header(
    reach: Reach, wire: int, code: int | None
) -> None:
    async with reach() as it:
        session = await it.open()
        number = it.peer.open_in_session(0, unidirectional=True)
        async for stream in session.incoming_streams():
            it.peer.reset(number, wire)
            with pytest.raises(StreamResetError) as caught:
                await stream.read()
            assert caught.value.error_code == code
            break


async def test_case_109_session_closed_with_open_streams(reach: Reach) -> None:
    async with reach(allow_pooling=True) as it:
        session = await it.open()
        streams: list[WebTransportStream] = []
        for _ in range(50):
            streams.append(await session.create_bidirectional_stream())
            await streams[-1].write(b"x")
        await it.peer.until(lambda: len(it.peer.streams[200].data) == 4)
        readers = [asyncio.create_task(stream.read()) for stream in streams]
        await asyncio.sleep(0)  # the readers wait now
        it.peer.send(0, h3.data(h3.close_capsule(6)), fin=True)
        results = await asyncio.gather(*readers, return_exceptions=True)
        assert {error.code for error in results if isinstance(error, SessionClosedError)} == {6}
        assert len(results) == 50
        for stream in streams:
            assert await it.peer.aborted(stream.stream_id) == h3.SESSION_GONE
