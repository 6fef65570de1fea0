"""Ends of sessions without close(): abrupt, with the connection, in the turn of the answer."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from pywebtransport import SessionState, WebTransportClient, WebTransportSession
from pywebtransport.connection import WebTransportConnection
from pywebtransport.constants import ErrorCodes
from pywebtransport.exceptions import (
    ClientError,
    ConfigurationError,
    SessionClosedError,
    StreamError,
)
from pywebtransport.server import WebTransportServer
from tests.support.endpoints import ClientFactory, PairOfSessions, ServerFactory, Serving
from tests.support.steps import take, until

ENDS = pytest.mark.parametrize("opener", ["client", "server"])


def in_order(
    opener: str, near: WebTransportSession, far: WebTransportSession
) -> tuple[WebTransportSession, WebTransportSession]:
    return (near, far) if opener == "client" else (far, near)


# ---------------------------------------------------------------------------- abort


async def test_the_words_of_the_peer_are_escaped_in_messages(pair: PairOfSessions) -> None:
    """They can neither drive a terminal nor forge a line of a log."""
    async with pair() as (client, server):
        await server.close(code=7, reason="gone\x1b[2J\nfine")
        await client.wait_closed()
        with pytest.raises(SessionClosedError) as caught:
            await client.create_bidirectional_stream()
        assert caught.value.reason == "gone\x1b[2J\nfine"
        assert caught.value.message.isprintable()
        assert r"with code 7 (gone\x1b[2J\nfine)" in caught.value.message


@ENDS
@pytest.mark.parametrize("dialect", [2, 7, 14, 16])
async def test_abort_ends_at_once_and_without_words(
    pair: PairOfSessions, opener: str, dialect: int
) -> None:
    async with pair(client={"dialects": [dialect]}) as (near, far):
        own, peer = in_order(opener, near, far)
        stream = await own.create_bidirectional_stream()
        await stream.write(b"!")
        other = await take(peer)
        assert await other.read() == b"!"
        reading = asyncio.create_task(other.read())
        await asyncio.sleep(0)

        await own.abort()
        assert own.state is SessionState.CLOSED
        info = own.close_info
        assert info is not None
        assert (info.code, info.reason, info.remote) == (None, "", False)
        with pytest.raises(SessionClosedError, match="this side closed the session abruptly"):
            await stream.write(b"more")
        own.abort()  # again: nothing happens

        info = await peer.wait_closed()
        assert (info.code, info.remote) == (None, True)
        with pytest.raises((SessionClosedError, StreamError)):
            await reading


async def test_abort_tells_the_peer_the_code(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        far.abort(ErrorCodes.H3_EXCESSIVE_LOAD)
        await near.wait_closed()
        assert near._error is not None
        assert getattr(near._error, "error_code", None) == ErrorCodes.H3_EXCESSIVE_LOAD


async def test_abort_of_the_last_session_ends_a_clients_connection(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        connection = near.connection
        assert connection is not None
        near.abort()
        await connection.wait_closed()
        await far.wait_closed()


async def test_abort_leaves_other_sessions_alone(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with (
        serving() as served,
        WebTransportClient(config=client_config(allow_pooling=True)) as client,
    ):
        first, second = [await client.connect(served.url()) for _ in range(2)]
        first.abort()
        assert (await second.create_bidirectional_stream()).is_writable
        await until(lambda: len(served.server.sessions) == 1)


async def test_abort_before_the_answer(serving: Serving, client_config: ClientFactory) -> None:
    arrived: asyncio.Future[WebTransportSession] = asyncio.get_running_loop().create_future()
    go_on = asyncio.Event()

    async def hold(session: WebTransportSession) -> bool:
        if session.path == "/held":
            arrived.set_result(session)
            await go_on.wait()
        return True

    async with serving() as served, WebTransportClient(config=client_config()) as client:
        served.app.add_middleware(hold)
        first = await client.connect(served.url("/first"))
        connection = first.connection
        assert connection is not None
        own = await connection.create_session("/held")
        deciding = asyncio.create_task(own.ready())
        far = await arrived
        own.abort()
        with pytest.raises(SessionClosedError, match="this side closed"):
            await deciding
        assert (await far.wait_closed()).code is None
        go_on.set()


async def test_a_server_that_aborts_a_request_gives_no_answer(
    serving: Serving, client_config: ClientFactory
) -> None:
    async def refuse(session: WebTransportSession) -> bool:
        session.abort(ErrorCodes.H3_REQUEST_REJECTED)
        return True

    async with serving() as served, WebTransportClient(config=client_config()) as client:
        served.app.add_middleware(refuse)
        with pytest.raises(ClientError) as caught:
            await client.connect(served.url())
        assert caught.value.error_code == ErrorCodes.H3_REQUEST_REJECTED


async def test_abort_while_close_waits(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        stream = await near.create_unidirectional_stream()
        await stream.write(bytes(8_000_000), end_stream=True, wait_flush=False)  # nobody reads it
        closing = asyncio.create_task(near.close())
        await asyncio.sleep(0)
        near.abort()
        await closing
        assert (await far.wait_closed()).code is None


# --------------------------------------------------------- the end of the connection


@ENDS
async def test_the_words_of_a_connection_close_are_those_of_its_sessions(
    pair: PairOfSessions, opener: str
) -> None:
    async with pair() as (near, far):
        own, peer = in_order(opener, near, far)
        quic = own._connection._quic
        assert quic is not None
        quic.close(ErrorCodes.H3_NO_ERROR, "maintenance at noon")
        info = await peer.wait_closed()
        assert (info.code, info.reason, info.remote) == (None, "maintenance at noon", True)
        with pytest.raises(SessionClosedError, match=r"abruptly \(maintenance at noon\)") as caught:
            await peer.create_bidirectional_stream()
        assert caught.value.reason == "maintenance at noon"


@ENDS
async def test_close_of_a_connection_gives_its_sessions_code_and_reason(
    pair: PairOfSessions, opener: str
) -> None:
    async with pair() as (near, far):
        own, peer = in_order(opener, near, far)
        connection = own.connection
        assert connection is not None
        for wrong in ({"code": 2**32}, {"code": "1"}, {"reason": KeyError()}):
            with pytest.raises(ConfigurationError):
                await connection.close(**wrong)  # type: ignore[arg-type]
        assert connection.is_connected
        await connection.close(code=3, reason="maintenance")
        info = await peer.wait_closed()
        assert (info.code, info.reason, info.remote) == (3, "maintenance", True)


# ------------------------------------------------------------ accepted and over at once


@pytest.mark.parametrize("how", ["close", "abort", "connection"])
async def test_a_session_that_ends_with_its_answer_is_handed_over_first(
    serving: Serving, client_config: ClientFactory, how: str
) -> None:
    async def brief(session: WebTransportSession) -> bool:
        session.accept()
        if how == "close":
            session.close_nowait(4, "so soon")
        elif how == "abort":
            session.abort()
        else:  # in the next turn: within this one, the end would leave without the answer
            asyncio.get_running_loop().call_soon(session._connection.close_nowait, 4, "so soon")
        return True

    async with serving() as served, WebTransportClient(config=client_config()) as client:
        served.app.add_middleware(brief)
        if how == "abort":  # the reset may overtake the answer
            with pytest.raises(ClientError):
                await client.connect(served.url())
            return
        session = await client.connect(served.url())
        assert session.state is SessionState.CONNECTED
        assert session.close_info is None
        info = await session.wait_closed()
        assert (info.code, info.reason, info.remote) == (4, "so soon", True)


async def test_closing_a_session_whose_end_is_on_its_way_keeps_the_peers_words(
    serving: Serving, client_config: ClientFactory
) -> None:
    async def brief(session: WebTransportSession) -> bool:
        session.accept()
        session.close_nowait(4, "so soon")
        return True

    async with serving() as served, WebTransportClient(config=client_config()) as client:
        served.app.add_middleware(brief)
        session = await client.connect(served.url())
        await session.close(code=9)
        info = session.close_info
        assert info is not None
        assert (info.code, info.reason, info.remote) == (4, "so soon", True)


# --------------------------------------------------------------- another event loop


async def as_coroutine(call: Callable[[], Any]) -> None:
    call()


def elsewhere(call: Callable[[], Any]) -> BaseException | None:
    """Run a coroutine in a loop of another thread; what it raised."""
    raised: list[BaseException] = []

    def work() -> None:
        try:
            asyncio.run(call())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "it hangs"
    return raised[0] if raised else None


async def test_another_event_loop_is_told_so(pair: PairOfSessions) -> None:
    async with pair(server={"initial_max_streams_uni": 1}) as (near, _):
        stream = await near.create_bidirectional_stream()
        only = await near.create_unidirectional_stream()
        connection = near.connection
        assert connection is not None

        def incoming() -> Any:
            return anext(aiter(near.incoming_streams()))

        calls: list[Callable[[], Any]] = [
            stream.read,
            stream.read_all,
            stream.flush,
            lambda: stream.write(b"x"),
            near.wait_closed,
            near.datagrams.receive,
            lambda: near.datagrams.send(b"x"),
            lambda: near.create_unidirectional_stream(timeout=10),
            incoming,
            connection.wait_closed,
            lambda: as_coroutine(near.drain),
            lambda: as_coroutine(near.abort),
            lambda: near.close(code=1),
            lambda: connection.close(code=1),
        ]
        for call in calls:
            error = await asyncio.to_thread(elsewhere, call)
            assert isinstance(error, ConfigurationError), call
            assert error.config_key == "loop"
            assert "run_coroutine_threadsafe" in str(error)
        assert near.state is SessionState.CONNECTED
        assert connection.is_connected
        await only.write(b"and here it works")


async def test_a_thread_without_a_loop_is_told_so(pair: PairOfSessions) -> None:
    async with pair() as (near, _):
        for call in (near.drain, near.abort):
            with pytest.raises(ConfigurationError, match="run_coroutine_threadsafe"):
                await asyncio.to_thread(call)
        assert near.state is SessionState.CONNECTED


async def test_a_request_is_answered_in_its_own_loop(
    serving: Serving, client_config: ClientFactory
) -> None:
    async def from_a_thread(*, session: WebTransportSession) -> bool:
        for call in (session.accept, session.reject):
            with pytest.raises(ConfigurationError, match="run_coroutine_threadsafe"):
                await asyncio.to_thread(call)
        return True

    async with serving() as served, WebTransportClient(config=client_config()) as client:
        served.app.add_middleware(from_a_thread)
        async with await client.connect(served.url()):
            pass


async def test_a_server_is_closed_in_its_own_loop(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served, WebTransportClient(config=client_config()) as client:
        session = await client.connect(served.url())
        server = served.app.server
        for call in (
            server.close,
            served.app.shutdown,
            server.serve_forever,
            lambda: server.listen(host="127.0.0.1", port=0),
        ):
            error = await asyncio.to_thread(elsewhere, call)
            assert isinstance(error, ConfigurationError), call
            assert error.config_key == "loop"
        assert server.is_serving
        assert session.state is SessionState.CONNECTED


def test_a_server_whose_loop_has_ended_gives_its_socket_back(server_config: ServerFactory) -> None:
    server = WebTransportServer(server_config())
    asyncio.run(server.listen(host="127.0.0.1", port=0))
    address = server.local_address
    asyncio.run(server.close())
    assert not server.is_serving
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(address)


def test_a_loop_that_has_ended_is_named(certs: Any) -> None:
    from tests.support.endpoints import pair

    kept: list[WebTransportSession] = []

    async def open_one() -> None:
        async with pair(certs) as (near, _):
            kept.append(near)

    asyncio.run(open_one())
    kept[0]._close_info = None  # as if it had been left open
    with pytest.raises(ConfigurationError, match="has ended"):
        asyncio.run(_wait(kept[0]))


async def _wait(session: WebTransportSession) -> None:
    await session.wait_closed()


async def test_a_connection_made_outside_of_a_loop_belongs_to_the_first_that_uses_it(
    client_config: ClientFactory,
) -> None:
    connection = await asyncio.to_thread(WebTransportConnection, client_config())
    waiting = asyncio.create_task(connection.wait_closed())
    await asyncio.sleep(0)
    error = await asyncio.to_thread(elsewhere, connection.wait_closed)
    assert isinstance(error, ConfigurationError)
    await connection.close()
    await waiting


# --------------------------------------------------------------------------- counts


async def test_datagrams_count_when_send_returns_and_move_when_dropped(
    pair: PairOfSessions,
) -> None:
    async with pair() as (near, _):
        transport = near.datagrams
        for count in range(1, 4):
            await transport.send(b"x")
            assert transport.datagrams_sent == count
        assert (await near.get_session_stats())["datagrams_sent"] == 3
        assert (await near.get_summary())["data"]["datagrams_sent"] == 3
        assert await transport.clear_send_buffer() == 3
        stats = transport.stats
        assert (stats["datagrams_sent"], stats["send_drops"]) == (0, 3)
        await transport.send(b"y")
        await until(lambda: not transport.get_send_buffer_size())
        stats = transport.stats
        assert (stats["datagrams_sent"], stats["send_drops"]) == (1, 3)
        await transport.send(b"z")
        near.abort()  # in the same turn: it was never in a packet
        stats = transport.stats
        assert (stats["datagrams_sent"], stats["send_drops"]) == (1, 4)
