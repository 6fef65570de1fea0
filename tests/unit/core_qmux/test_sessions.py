"""A session over WebSocket: its request and answer, its end, and what only QUIC has."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from pywebtransport import WebTransportSession
from pywebtransport.constants import MAX_APPLICATION_CODE
from pywebtransport.exceptions import (
    ClientError,
    ConfigurationError,
    ConnectionError,
    ProtocolError,
    SessionClosedError,
    SessionError,
    SessionRejectedError,
)
from pywebtransport.types import ConnectionState, SessionState

from .bed import Bed


async def accept(session: WebTransportSession) -> None:
    await session.accept()


async def accept_and_stay(session: WebTransportSession) -> None:
    await session.accept()
    await session.wait_closed()


class Ended:
    """Accepts a session, and gets how it ended."""

    def __init__(self) -> None:
        self.info: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def __call__(self, session: WebTransportSession) -> None:
        await session.accept()
        self.info.set_result(await session.wait_closed())


async def test_both_ends_know_what_carries_the_session() -> None:
    async with Bed(accept_and_stay) as bed, bed.session("/a?b=1") as session:
        (far,) = bed.sessions
        for one in (session, far):
            assert one.state is SessionState.CONNECTED
            assert one.transport == "websocket"
            assert one.reliability == "reliable-only"
            assert one.dialect is None
            assert one.stream_id == 0
            assert one.path == "/a?b=1"
            assert one.authority == "example.org"
            connection = one.connection
            assert connection is not None
            assert (connection.transport, connection.reliability) == ("websocket", "reliable-only")
            assert connection.info.transport == "websocket"
            assert connection.info.to_dict()["reliability"] == "reliable-only"
            assert connection.get_summary()["transport"] == "websocket"
            assert connection.h3 is None
            assert connection.dialect is None
            assert connection.sessions == (one,)
        assert far.client_network == "192.0.2.1"


async def test_a_connection_that_is_not_connected_yet_is_pending() -> None:
    async with Bed(accept) as bed:
        connection, _ = await bed.dial()
        assert connection.transport == "websocket"
        await connection.close()
    from pywebtransport import ClientConfig
    from pywebtransport.connection import WebTransportConnection

    idle = WebTransportConnection(config=ClientConfig())
    assert (idle.transport, idle.reliability) == (None, "pending")


async def test_headers_go_both_ways() -> None:
    seen: dict[str, Any] = {}

    async def handler(session: WebTransportSession) -> None:
        seen.update(headers=session.headers, origin=session.origin)
        await session.accept(headers={"x-answer": ["1", "2"]})
        await session.wait_closed()

    async with Bed(handler) as bed:
        headers = {"X-Ask": "yes", "origin": "https://a.example"}
        async with bed.session("/", headers=headers) as session:
            assert session.headers.get_all("x-answer") == ["1", "2"]
    assert seen["headers"]["x-ask"] == "yes"
    assert seen["headers"]["origin"] == "https://a.example"
    assert seen["origin"] == "https://a.example"


@pytest.mark.parametrize("name", ["Sec-WebSocket-Protocol", "upgrade", "connection", "host"])
async def test_a_header_of_the_upgrade_cannot_be_set(name: str) -> None:
    async with Bed(accept) as bed:
        connection, _ = await bed.dial()
        with pytest.raises(ConfigurationError, match="cannot be set") as caught:
            await connection.create_session("/", headers={name: "x"})
        assert caught.value.config_key == "headers"
        # Nothing was sent: the connection can still have its session.
        session = await connection.create_session("/")
        await session.ready()
        await connection.close()


async def test_the_server_chooses_an_application_protocol() -> None:
    async def handler(session: WebTransportSession) -> None:
        assert session.offered_protocols == ("chat", "b")
        await session.accept(application_protocol="b")
        assert session.application_protocol == "b"
        await session.wait_closed()

    offer = ["chat", "b"]
    async with Bed(handler) as bed, bed.session("/", application_protocols=offer) as session:
        assert session.application_protocol == "b"


async def test_a_session_without_application_protocol() -> None:
    offer = ["chat"]
    async with Bed(accept_and_stay) as bed, bed.session("/", application_protocols=offer) as near:
        assert near.application_protocol is None


async def test_a_protocol_that_was_not_offered_cannot_be_accepted() -> None:
    async def handler(session: WebTransportSession) -> None:
        with pytest.raises(ConfigurationError, match="not offered"):
            await session.accept(application_protocol="other")
        await session.accept(application_protocol="chat")
        await session.wait_closed()

    async with Bed(handler) as bed, bed.session("/", application_protocols=["chat"]) as session:
        assert session.application_protocol == "chat"


async def test_a_required_protocol_that_is_not_chosen_ends_the_session() -> None:
    ended = Ended()
    async with Bed(ended) as bed:
        connection, _ = await bed.dial()
        session = await connection.create_session(
            "/room", application_protocols=["chat"], require_application_protocol=True
        )
        with pytest.raises(ProtocolError, match=r"no application protocol .*/room.* one of chat"):
            await session.ready()
        await connection.wait_closed()
        assert (await ended.info).code is None


async def test_a_name_that_is_no_token_cannot_be_offered() -> None:
    async with Bed(accept) as bed:
        connection, _ = await bed.dial()
        with pytest.raises(ConfigurationError, match="letters, digits"):
            await connection.create_session("/", application_protocols=["two words"])
        await connection.close()


@pytest.mark.parametrize("status", [403, 404, 429, 503])
async def test_a_rejection_is_a_status(status: int) -> None:
    async def handler(session: WebTransportSession) -> None:
        session.reject(status_code=status, headers={"retry-after": "1"})

    async with Bed(handler) as bed:
        connection, _ = await bed.dial()
        session = await connection.create_session("/x")
        with pytest.raises(SessionRejectedError) as caught:
            await session.ready()
        assert caught.value.status_code == status
        assert caught.value.headers["retry-after"] == "1"
        assert caught.value.target_url == "https://example.org/x"
        await connection.wait_closed()
        (far,) = bed.connections
        await far.wait_closed()
        assert (connection.state, far.state) == (ConnectionState.CLOSED, ConnectionState.CLOSED)


async def test_a_connection_carries_one_session() -> None:
    async with Bed(accept_and_stay) as bed:
        connection, _ = await bed.dial()
        session = await connection.create_session("/")
        await session.ready()
        with pytest.raises(SessionError, match="carries one session"):
            await connection.create_session("/")
        await connection.close()
        with pytest.raises(ConnectionError):
            await connection.create_session("/")


async def test_only_the_client_opens_sessions() -> None:
    async with Bed(accept_and_stay) as bed, bed.session():
        (far,) = bed.connections
        with pytest.raises(ClientError, match="only clients"):
            await far.create_session("/")


@pytest.mark.parametrize("code", [0, 1, 77, MAX_APPLICATION_CODE])
async def test_the_code_and_reason_of_the_client_arrive(code: int) -> None:
    ended = Ended()
    async with Bed(ended) as bed, bed.session() as session:
        await session.close(code=code, reason="bye é")
        info = await ended.info
        assert (info.code, info.reason, info.remote) == (code, "bye é", True)
        assert session.close_info is not None
        assert (session.close_info.code, session.close_info.remote) == (code, False)
        (far,) = bed.connections
        await far.wait_closed()
        assert far.state is ConnectionState.CLOSED


@pytest.mark.parametrize("code", [0, 77, MAX_APPLICATION_CODE])
async def test_the_code_and_reason_of_the_server_arrive(code: int) -> None:
    async def handler(session: WebTransportSession) -> None:
        await session.accept()
        await session.close(code=code, reason="x" * 2000)

    async with Bed(handler) as bed, bed.session() as session:
        info = await session.wait_closed()
        assert (info.code, info.reason, info.remote) == (code, "x" * 1024, True)
        assert session.connection is None
        assert session.error is None


async def test_a_reason_is_cut_between_characters() -> None:
    ended = Ended()
    async with Bed(ended) as bed, bed.session() as session:
        await session.close(code=1, reason="ab" + "é" * 1000)
        assert (await ended.info).reason == "ab" + "é" * 511


async def test_a_code_out_of_range_changes_nothing() -> None:
    async with Bed(accept_and_stay) as bed, bed.session() as session:
        with pytest.raises(ConfigurationError):
            await session.close(code=MAX_APPLICATION_CODE + 1)
        assert session.is_ready


async def test_a_code_that_no_application_has_is_none() -> None:
    ended = Ended()
    async with Bed(ended) as bed, bed.session() as session:
        session.connection._quic.close(2**32, "too much")  # type: ignore[union-attr]
        info = await ended.info
        assert (info.code, info.reason, info.remote) == (None, "too much", True)
        await session.wait_closed()


async def test_an_end_without_a_code_is_abrupt() -> None:
    ended = Ended()
    async with Bed(ended) as bed:
        connection, link = await bed.dial()
        session = await connection.create_session("/")
        await session.ready()
        link.cut()
        info, own = await ended.info, await session.wait_closed()
        assert (info.code, own.code) == (None, None)
        await connection.wait_closed()
        assert connection.state is ConnectionState.FAILED
        assert isinstance(connection.error, ConnectionError)
        with pytest.raises(SessionClosedError):
            await session.create_bidirectional_stream()


async def test_an_error_of_the_transport_is_abrupt() -> None:
    ended = Ended()
    async with Bed(ended) as bed, bed.session() as session:
        session.connection._quic.close(10, "broken", application=False)  # type: ignore[union-attr]
        info = await ended.info
        assert (info.code, info.reason, info.remote) == (None, "broken", True)
        await session.wait_closed()


async def test_the_client_may_leave_before_the_answer() -> None:
    asked = asyncio.Event()
    left: list[BaseException] = []

    async def handler(session: WebTransportSession) -> None:
        asked.set()
        await session.wait_closed()
        try:
            await session.accept()
        except SessionError as error:
            left.append(error)

    async with Bed(handler) as bed:
        connection, _ = await bed.dial()
        session = await connection.create_session("/")
        await asked.wait()
        await session.close()
        await connection.close()
        await bed.connections[0].wait_closed()
        assert bed.sessions[0].close_info is not None
        assert bed.sessions[0].close_info.code is None
    assert len(left) == 1


async def test_the_server_may_close_a_session_that_it_did_not_accept() -> None:
    async def handler(session: WebTransportSession) -> None:
        await session.close(code=5)

    async with Bed(handler) as bed:
        connection, _ = await bed.dial()
        session = await connection.create_session("/")
        with pytest.raises(SessionRejectedError) as caught:
            await session.ready()
        assert caught.value.status_code == 503
        await connection.wait_closed()


async def test_either_end_can_ask_the_other_to_finish() -> None:
    async with Bed(accept_and_stay) as bed, bed.session() as session:
        (far,) = bed.sessions
        far.drain()
        assert await session.wait_draining()
        assert session.state is SessionState.DRAINING
        assert session.connection is not None
        assert session.connection.state is ConnectionState.DRAINING
        # It still works.
        stream = await session.create_bidirectional_stream()
        await stream.write(b"x", end_stream=True)
        session.drain()
        assert await far.wait_draining()


async def test_the_connection_asks_for_the_end_of_its_session() -> None:
    async with Bed(accept_and_stay) as bed, bed.session() as session:
        layer = bed.connections[0].layer
        assert layer is not None
        layer.send_goaway()
        layer.finish_goaway()
        assert await session.wait_draining()


@pytest.mark.parametrize(
    "attempt",
    [
        lambda session: session.export_keying_material("label"),
        lambda session: session.connection.initiate_key_update(),
    ],
    ids=["exporter", "key update"],
)
async def test_what_only_quic_has_is_a_typed_error(
    attempt: Callable[[WebTransportSession], object],
) -> None:
    async with Bed(accept_and_stay) as bed, bed.session() as session:
        with pytest.raises((SessionError, ConnectionError), match="over WebSocket"):
            attempt(session)
        assert session.is_ready


async def test_a_connection_cannot_migrate() -> None:
    async with Bed(accept_and_stay) as bed, bed.session() as session:
        connection = session.connection
        assert connection is not None
        with pytest.raises(ConnectionError, match="cannot migrate"):
            await connection.migrate()


async def test_closing_the_connection_gives_its_session_the_code() -> None:
    ended = Ended()
    async with Bed(ended) as bed, bed.session() as session:
        connection = session.connection
        assert connection is not None
        await connection.close(code=9, reason="all")
        info = await ended.info
        assert (info.code, info.reason) == (9, "all")
        assert connection.state is ConnectionState.CLOSED


async def test_a_connection_without_a_session_can_be_closed() -> None:
    async with Bed(accept) as bed:
        connection, _ = await bed.dial()
        await connection.close()
        assert connection.state is ConnectionState.CLOSED
        assert bed.connections == []


async def test_an_answer_with_another_subprotocol_fails() -> None:
    async def handler(session: WebTransportSession) -> None:
        session._h3._upgrade.accept("qmux-09", session.headers)  # type: ignore[attr-defined]

    async with Bed(handler) as bed:
        connection, _ = await bed.dial()
        session = await connection.create_session("/")
        with pytest.raises(ProtocolError, match="chose the subprotocol 'qmux-09'"):
            await session.ready()
        await connection.wait_closed()
        bed.connections[0].abandon()
        await bed.connections[0].wait_closed()


async def test_a_request_without_qmux_gets_400() -> None:
    called: list[WebTransportSession] = []

    async def handler(session: WebTransportSession) -> None:
        called.append(session)

    async with Bed(handler) as bed:
        connection, link = await bed.dial()
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        link.request(
            path="/",
            authority="example.org",
            headers=type(link.far.headers)(),
            subprotocols=["graphql-ws"],
            on_answer=lambda status, headers, name: answer.set_result(status),
        )
        assert await answer == 400
        await connection.wait_closed()
        await bed.connections[0].wait_closed()
    assert called == []


async def test_a_client_that_offers_no_bare_name_needs_a_protocol() -> None:
    refused: list[BaseException] = []

    async def handler(session: WebTransportSession) -> None:
        try:
            await session.accept()
        except SessionClosedError as error:
            refused.append(error)

    async with Bed(handler) as bed:
        connection, link = await bed.dial()
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        link.request(
            path="/",
            authority="example.org",
            headers=type(link.far.headers)(),
            subprotocols=["qmux-02.chat"],
            on_answer=lambda status, headers, name: answer.set_result(status),
        )
        assert await answer == 400
        await connection.wait_closed()
    assert "chat" in str(refused[0])


async def test_the_story_of_a_session_has_nothing_of_quic(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "pywebtransport")
    async with Bed(accept_and_stay) as bed, bed.session("/a") as session:
        (far,) = bed.sessions
        far.drain()
        assert await session.wait_draining()
    text = caplog.text
    assert "established with 192.0.2.2:2, WebSocket" in text
    assert "/a requested with 192.0.2.2:2" in text
    assert "the peer goes away: no new sessions" in text
    assert "ended by this end, code 0" in text
    for word in ("QUIC", "SETTINGS", "draft"):
        assert word not in text
