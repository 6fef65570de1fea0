"""Sessions: opening, facts about the request, closing from either end, draining, exporters."""

from __future__ import annotations

import asyncio

import pytest

from pywebtransport import SessionState, WebTransportClient
from pywebtransport.connection import WebTransportConnection
from pywebtransport.exceptions import (
    ConfigurationError,
    SessionClosedError,
    SessionError,
    SessionRejectedError,
    StreamResetError,
)
from pywebtransport.session import WebTransportSession
from pywebtransport.stream import WebTransportReceiveStream, WebTransportStream
from pywebtransport.types import EventType, SessionCloseInfo
from tests.support.endpoints import ClientFactory, PairOfSessions, Serving
from tests.support.steps import round_trip, take, until

ENDS = pytest.mark.parametrize("closer", ["client", "server"])


# ---------------------------------------------------------------------- opening


async def test_both_ends_agree_on_the_request(
    serving: Serving, client_config: ClientFactory
) -> None:
    seen: asyncio.Future[WebTransportSession] = asyncio.get_running_loop().create_future()

    async def handler(session: WebTransportSession) -> None:
        seen.set_result(session)

    config = client_config(headers={"X-Mine": "config"}, user_agent="tester/1")
    async with serving(handler) as served, WebTransportClient(config=config) as client:
        client.set_default_headers({"x-default": "yes", "x-mine": "default"})
        near = await client.connect(
            served.url("/room/7?who=me&x=%C3%A4"),
            headers={"X-Call": "call", "origin": "https://example.org"},
        )
        far = await seen
        assert near.path == far.path == "/room/7?who=me&x=%C3%A4"
        assert near.authority == far.authority == f"127.0.0.1:{served.port}"
        assert far.origin == "https://example.org"
        assert far.headers["x-default"] == "yes"
        assert far.headers["x-mine"] == "default"
        assert far.headers["x-call"] == "call"
        assert far.headers["user-agent"] == "tester/1"
        assert near.state is far.state is SessionState.CONNECTED
        assert near.is_ready
        assert not near.is_closed
        assert near.close_info is None
        assert far.path_params == ()
        assert near.session_id != far.session_id
        connection, other = near.connection, far.connection
        assert connection is not None
        assert other is not None
        assert near.remote_address == (served.host, served.port) == other.local_address
        assert far.remote_address == ("127.0.0.1", connection.local_address[1])
        await near.ready()
        await near.initialize()
        assert near.path in repr(near)


async def test_response_headers_reach_the_client(
    serving: Serving, client_config: ClientFactory
) -> None:
    async def middleware(session: WebTransportSession) -> bool:
        await session.accept(headers={"X-Served-By": "tests"})
        return True

    async with serving(None) as served, WebTransportClient(config=client_config()) as client:
        served.app.add_middleware(middleware)
        session = await client.connect(served.url())
        assert session.headers["x-served-by"] == "tests"
        assert served.server.sessions[0].is_ready


async def test_connect_may_be_awaited_or_entered(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served, WebTransportClient(config=client_config()) as client:
        async with client.connect(served.url()) as first:
            assert first.is_ready
        async with await client.connect(url=served.url()) as second:
            assert second.is_ready
        third = await asyncio.wait_for(client.connect(served.url()), 30)
        task = asyncio.create_task(client.connect(served.url()))
        fourth = await task
        assert first.is_closed
        assert second.is_closed
        assert third.is_ready
        assert fourth.is_ready
    assert third.close_info == SessionCloseInfo(code=0, reason="", remote=False)


async def test_connect_that_is_never_awaited_can_be_closed(
    client_config: ClientFactory,
) -> None:
    async with WebTransportClient(config=client_config()) as client:
        client.connect("https://127.0.0.1:1/").close()
        assert client.stats["connections_attempted"] == 0


async def test_session_of_the_connection_layer(
    serving: Serving, client_config: ClientFactory
) -> None:
    async def handler(session: WebTransportSession) -> None:
        stream = await session.create_unidirectional_stream()
        await stream.write_all(b"early bird")
        await session.datagrams.send(b"early datagram")

    async with (
        serving(handler) as served,
        await WebTransportConnection.create_client(
            config=client_config(), host="127.0.0.1", port=served.port, path="/x"
        ) as connection,
    ):
        session_id = await connection.wait_for_ready_session()
        assert connection.get_ready_session_id() == session_id
        session = WebTransportSession(connection, session_id=session_id)
        assert connection.get_ready_session_id() is None
        await session.ready()
        assert session.session_id == session_id
        async for stream in session.incoming_streams():
            assert await stream.read_all() == b"early bird"
            break
        assert await session.datagrams.receive() == b"early datagram"
        with pytest.raises(SessionError, match="no session"):
            WebTransportSession(connection, session_id=session_id)
        with pytest.raises(SessionError, match="no session was requested"):
            await connection.wait_for_ready_session()
    assert session.is_closed


async def test_rejected_session_of_the_connection_layer(
    serving: Serving, client_config: ClientFactory
) -> None:
    async def refuse(session: WebTransportSession) -> bool:
        return False

    async with serving() as served:
        served.app.add_middleware(refuse)
        connection = await WebTransportConnection.create_client(
            config=client_config(), host="127.0.0.1", port=served.port
        )
        async with connection:
            with pytest.raises(SessionRejectedError) as caught:
                await connection.wait_for_ready_session()
            assert caught.value.status_code == 403


async def test_streams_and_datagrams_before_the_answer_arrive(
    serving: Serving, client_config: ClientFactory
) -> None:
    may_answer = asyncio.Event()
    received: dict[str, bytes] = {}
    finished = asyncio.Event()

    async def hesitate(session: WebTransportSession) -> bool:
        if session.path == "/slow":
            await may_answer.wait()
        return True

    async def handler(session: WebTransportSession) -> None:
        if session.path != "/slow":
            return
        received["datagram"] = await session.datagrams.receive()
        async for stream in session.incoming_streams():
            received[str(stream.direction)] = await stream.read_all()
            if len(received) == 3:
                break
        finished.set()

    async with serving(handler) as served, WebTransportClient(config=client_config()) as client:
        served.app.add_middleware(hesitate)
        first = await client.connect(served.url("/first"))
        assert first.connection is not None
        early = await first.connection.create_session("/slow")
        assert early.state is SessionState.CONNECTING
        assert not early.is_ready
        both = await early.create_bidirectional_stream()
        await both.write_all(b"two ways")
        one = await early.create_unidirectional_stream()
        await one.write_all(b"one way")
        await early.datagrams.send(b"no way")
        # The other session's round trip shows that all of it was sent before the answer.
        far = next(session for session in served.server.sessions if session.path == "/first")
        await round_trip(first, far, b"ping")
        may_answer.set()
        await early.ready()
        await finished.wait()
    assert received == {
        "datagram": b"no way",
        "bidirectional": b"two ways",
        "receive_only": b"one way",
    }


# ---------------------------------------------------------------------- closing


@ENDS
async def test_code_and_reason_reach_the_other_end(pair: PairOfSessions, closer: str) -> None:
    async with pair() as (near, far):
        actor, other = (near, far) if closer == "client" else (far, near)
        await actor.close(code=4_000_000_000, reason="tschüß")
        assert await actor.wait_closed() == SessionCloseInfo(4_000_000_000, "tschüß", False)
        assert await other.wait_closed() == SessionCloseInfo(4_000_000_000, "tschüß", True)
        assert other.close_info == await other.wait_closed()
        assert near.state is far.state is SessionState.CLOSED
        assert near.connection is None


@ENDS
@pytest.mark.parametrize(("letter", "kept"), [("é", 512), ("€", 341), ("x", 1024), ("𝄞", 256)])
async def test_long_reason_is_cut_between_characters(
    pair: PairOfSessions, closer: str, letter: str, kept: int
) -> None:
    async with pair() as (near, far):
        actor, other = (near, far) if closer == "client" else (far, near)
        await actor.close(code=1, reason=letter * 2000)
        info = await other.wait_closed()
        assert info == SessionCloseInfo(code=1, reason=letter * kept, remote=True)


async def test_close_is_idempotent_and_may_run_twice_at_once(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        await asyncio.gather(near.close(code=5), near.close(code=6), near.close(code=7))
        await near.close(code=8)
        assert near.close_info == SessionCloseInfo(5, "", False)
        assert (await far.wait_closed()).code == 5


@pytest.mark.parametrize("code", [-1, 2**32])
async def test_close_code_out_of_range_is_refused(pair: PairOfSessions, code: int) -> None:
    async with pair() as (near, far):
        with pytest.raises(SessionError, match=str(code)):
            await near.close(code=code)
        await round_trip(near, far, b"still open")


async def test_leaving_the_block_closes_with_code_0_or_1(
    serving: Serving, client_config: ClientFactory
) -> None:
    ends: list[SessionCloseInfo] = []

    async def handler(session: WebTransportSession) -> None:
        ends.append(await session.wait_closed())

    async with serving(handler) as served, WebTransportClient(config=client_config()) as client:
        async with client.connect(served.url()):
            pass
        await until(lambda: len(ends) == 1)
        with pytest.raises(LookupError, match="mine"):
            async with client.connect(served.url()):
                raise LookupError("mine")
        await until(lambda: len(ends) == 2)
    assert [info.code for info in ends] == [0, 1]


@ENDS
async def test_everything_on_a_closed_session_says_who_closed_it_and_why(
    pair: PairOfSessions, closer: str
) -> None:
    async with pair() as (near, far):
        actor, other = (near, far) if closer == "client" else (far, near)
        streams = {session: await session.create_bidirectional_stream() for session in (near, far)}
        await actor.close(code=77, reason="enough")
        await other.wait_closed()
        for session, remote in ((actor, False), (other, True)):
            stream = streams[session]
            attempts = [
                session.create_bidirectional_stream,
                session.create_unidirectional_stream,
                lambda session=session: session.datagrams.send(b"x"),
                lambda session=session: session.datagrams.receive(),
                lambda stream=stream: stream.write(b"x"),
                lambda stream=stream: stream.read(),
            ]
            for attempt in attempts:
                with pytest.raises(SessionClosedError) as caught:
                    await attempt()
                assert caught.value.code == 77
                assert caught.value.reason == "enough"
                assert caught.value.remote is remote
            with pytest.raises(SessionError):
                session.export_keying_material("label")
            assert session.max_datagram_size == 0
            session.drain()
            assert [stream async for stream in session.incoming_streams()] == []


@ENDS
async def test_waiting_operations_wake_when_the_session_ends(
    pair: PairOfSessions, closer: str
) -> None:
    async with pair() as (near, far):
        actor, other = (near, far) if closer == "client" else (far, near)
        stream = await other.create_bidirectional_stream()

        async def drain_incoming() -> list[object]:
            return [item async for item in other.incoming_streams()]

        waiting = [
            asyncio.create_task(stream.read()),
            asyncio.create_task(other.datagrams.receive()),
            asyncio.create_task(other.datagrams.receive_many()),
        ]
        ending = [
            asyncio.create_task(drain_incoming()),
            asyncio.create_task(drain_incoming()),
        ]
        closed = [asyncio.create_task(other.wait_closed()) for _ in range(3)]
        await actor.close(code=3, reason="bye")
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(result, SessionClosedError) for result in results)
        assert await asyncio.gather(*ending) == [[], []]
        assert [info.code for info in await asyncio.gather(*closed)] == [3, 3, 3]


async def test_finished_streams_are_delivered_before_the_close(pair: PairOfSessions) -> None:
    data = bytes(range(256)) * 1024
    async with pair() as (near, far):
        for _ in range(8):
            stream = await near.create_unidirectional_stream()
            await stream.write_all(data)
        await near.close(code=9)
        received = [
            await stream.read_all() async for stream in far.incoming_unidirectional_streams()
        ]
        assert received == [data] * 8
        assert (await far.wait_closed()).code == 9


async def test_lost_connection_ends_the_session_without_a_code(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        assert near.connection is not None
        quic = near.connection._quic
        assert quic is not None
        quic.close(0x102, "made to fail")
        info = await far.wait_closed()
        assert info.code is None
        assert info.remote
        assert (await near.wait_closed()).code is None
        with pytest.raises(SessionClosedError, match="abruptly"):
            await far.create_bidirectional_stream()


# --------------------------------------------------------------------- draining


@ENDS
async def test_drain_tells_the_other_end_and_work_goes_on(
    pair: PairOfSessions, closer: str
) -> None:
    async with pair() as (near, far):
        actor, other = (near, far) if closer == "client" else (far, near)
        told = asyncio.create_task(other.wait_for(EventType.SESSION_DRAINING))
        await asyncio.sleep(0)
        await actor.drain()
        actor.drain()
        await told
        assert other.state is SessionState.DRAINING
        assert other.is_ready
        await round_trip(near, far, b"after the drain")
        await other.close(code=2)
        assert await actor.wait_closed() == SessionCloseInfo(2, "", True)


# ------------------------------------------------------------- incoming streams


async def test_incoming_streams_come_in_order_and_none_is_lost(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        for number in range(10):
            if number % 2:
                uni = await near.create_unidirectional_stream()
                await uni.write_all(bytes([number]))
            else:
                bidi = await near.create_bidirectional_stream()
                await bidi.write_all(bytes([number]))
        await until(lambda: len(far._streams) == 10)
        got = []
        async for stream in far.incoming_streams():
            expected = WebTransportReceiveStream if len(got) % 2 else WebTransportStream
            assert type(stream) is expected
            got.append(await stream.read_all())
            if len(got) == 10:
                break
        assert sorted(got) == [bytes([number]) for number in range(10)]


async def test_iterators_share_one_queue_per_kind(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        seen: list[tuple[str, bytes]] = []

        async def consume(name: str) -> None:
            async for stream in getattr(far, name)():
                seen.append((name, await stream.read_all()))

        names = [
            "incoming_streams",
            "incoming_bidirectional_streams",
            "incoming_unidirectional_streams",
        ]
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(consume(name))
            for number in range(20):
                if number % 2:
                    await (await near.create_unidirectional_stream()).write_all(bytes([number]))
                else:
                    await (await near.create_bidirectional_stream()).write_all(bytes([number]))
            await until(lambda: len(seen) == 20)
            await near.close()
        assert sorted(data for _, data in seen) == [bytes([number]) for number in range(20)]
        odd = {name for name, data in seen if data[0] % 2}
        even = {name for name, data in seen if not data[0] % 2}
        assert "incoming_bidirectional_streams" not in odd
        assert "incoming_unidirectional_streams" not in even


# --------------------------------------------- exporter, protocols, observability


async def test_exporter_gives_both_ends_the_same_bytes(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        assert near.connection is not None
        here, there = near.export_keying_material("label"), far.export_keying_material("label")
        assert here == there
        assert len(here) == 32
        context = near.export_keying_material(b"label", b"context", 48)
        assert context == far.export_keying_material("label", b"context", 48)
        assert len(context) == 48
        assert context[:32] != here
        assert near.export_keying_material("other") != here
        # Another session of the same connection has other keys.
        second = await near.connection.create_session("/second")
        await second.ready()
        assert second.export_keying_material("label") != here
        with pytest.raises(ConfigurationError, match="label"):
            near.export_keying_material("x" * 256)
        with pytest.raises(ConfigurationError, match="context"):
            near.export_keying_material("x", b"y" * 256)


@pytest.mark.parametrize(
    ("offered", "supported", "chosen"),
    [
        (["a", "b"], ["b", "a"], "a"),
        (["a", "b"], ["b"], "b"),
        (["a"], ["z"], None),
        ([], ["z"], None),
        (["a"], [], None),
    ],
)
async def test_application_protocol_is_the_clients_first_that_the_server_knows(
    pair: PairOfSessions, offered: list[str], supported: list[str], chosen: str | None
) -> None:
    async with pair(
        client={"application_protocols": offered}, server={"application_protocols": supported}
    ) as (near, far):
        assert near.application_protocol == far.application_protocol == chosen
        assert list(far.offered_protocols) == offered


async def test_accepting_an_application_protocol_that_was_not_offered_is_refused(
    serving: Serving, client_config: ClientFactory
) -> None:
    errors: list[Exception] = []

    async def middleware(session: WebTransportSession) -> bool:
        try:
            session.accept(application_protocol="made-up")
        except ConfigurationError as error:
            errors.append(error)
        return True

    config = client_config(application_protocols=["real"])
    async with serving() as served, WebTransportClient(config=config) as client:
        served.app.add_middleware(middleware)
        await client.connect(served.url())
    assert "made-up" in str(errors[0])
    assert "real" in str(errors[0])


async def test_answering_twice_or_from_the_client_is_refused(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        with pytest.raises(SessionError, match="only a server"):
            near.accept()
        with pytest.raises(SessionError, match="only a server"):
            near.reject()
        with pytest.raises(SessionError, match="cannot accept"):
            far.accept()
        with pytest.raises(SessionError, match="cannot reject"):
            far.reject(status_code=404)


async def test_figures_of_a_session_are_measured(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        await round_trip(near, far, b"x" * 5000)
        stream = await near.create_bidirectional_stream()
        stream.reset(1)
        await far.datagrams.send(b"12345")
        assert await near.datagrams.receive() == b"12345"
        stats = await near.get_session_stats()
        assert stats["streams_created"] == 3
        assert stats["unidirectional_streams"] == 2
        assert stats["bidirectional_streams"] == 1
        assert stats["datagrams_received"] == 1
        assert stats["active_streams"] >= 1
        assert stats["uptime"] > 0
        summary = await near.get_summary()
        assert summary["data"]["bytes_sent"] >= 5000
        assert summary["data"]["bytes_received"] >= 5000
        assert summary["streams"]["total_created"] == 3
        assert summary["path"] == near.path
        state = await near.debug_state()
        assert state["session"]["id"] == near.session_id
        assert state["session"]["dialect"] in (2, 7, 14, 16)
        assert state["connection"]["state"] == "connected"
        assert near.rtt is not None
        assert 0 < near.rtt < 10
        assert await near.diagnose_issues() == []
        await near.close()
        assert (await near.get_session_stats())["datagrams_received"] == 1
        assert any("closed" in issue for issue in await near.diagnose_issues())
        await far.wait_closed()
        sums = await far.get_summary()
        assert sums["data"]["datagrams_sent"] == 1


async def test_monitor_health_ends_with_the_session(
    pair: PairOfSessions, caplog: pytest.LogCaptureFixture
) -> None:
    async with pair(client={"datagram_queue_size": 2}) as (near, far):
        for number in range(20):
            await far.datagrams.send(bytes([number]))
        await until(lambda: near.datagrams.stats["receive_drops"] > 0)
        watching = asyncio.create_task(near.monitor_health(check_interval=1000))
        await until(lambda: caplog.records)
        await far.close()
        await watching
    assert any("dropped" in record.getMessage() for record in caplog.records)


async def test_ready_times_out_with_the_value_in_the_message(
    serving: Serving, client_config: ClientFactory
) -> None:
    may_answer = asyncio.Event()

    async def hesitate(session: WebTransportSession) -> bool:
        if session.path == "/slow":
            await may_answer.wait()
        return True

    async with serving() as served, WebTransportClient(config=client_config()) as client:
        served.app.add_middleware(hesitate)
        first = await client.connect(served.url())
        assert first.connection is not None
        second = await first.connection.create_session("/slow")
        with pytest.raises(TimeoutError, match=r"/slow.*0\.02 s"):
            await second.ready(timeout=0.02)
        waiting = asyncio.create_task(second.ready())
        await asyncio.sleep(0)
        await second.close()
        with pytest.raises(SessionClosedError, match="never became ready"):
            await waiting
        may_answer.set()


async def test_issues_name_what_looks_wrong(pair: PairOfSessions) -> None:
    async with pair(server={"max_incoming_streams": 4}) as (near, far):
        held = [await near.create_unidirectional_stream() for _ in range(4)]
        for stream in held:
            await stream.write(b"x")
        await until(lambda: len(far._streams) == 4)
        issues = await far.diagnose_issues()
        assert any("4 incoming streams wait" in issue for issue in issues)
        failed = await far.create_bidirectional_stream()
        await failed.write(b"x")
        other = await take(near)
        other.reset(1)
        with pytest.raises(StreamResetError):
            await failed.read()
        failed.reset(1)
        await until(lambda: failed.is_closed)
        issues = await far.diagnose_issues()
        assert any("1 streams ended with an error" in issue for issue in issues)


@pytest.mark.parametrize("status", [200, 299, 600, 100])
async def test_rejecting_needs_an_error_status(
    serving: Serving, client_config: ClientFactory, status: int
) -> None:
    errors: list[Exception] = []

    async def middleware(session: WebTransportSession) -> bool:
        try:
            session.reject(status_code=status)
        except SessionError as error:
            errors.append(error)
        return True

    async with serving() as served, WebTransportClient(config=client_config()) as client:
        served.app.add_middleware(middleware)
        session = await client.connect(served.url())
        assert session.is_ready
    assert f"got {status}" in str(errors[0])
