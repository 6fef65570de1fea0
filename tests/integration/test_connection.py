"""Connections: pooling, migration, key update, statistics, events."""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
from pathlib import Path

import pytest

from pywebtransport import ConnectionState, SessionState, WebTransportClient
from pywebtransport._core.endpoint import _KeyLog
from pywebtransport._quic import QLOG_SUPPORTED
from pywebtransport.connection import ConnectionPool, WebTransportConnection
from pywebtransport.exceptions import (
    ClientError,
    ConfigurationError,
    ConnectionError,
    SessionError,
    UnreachableError,
    WebTransportError,
)
from pywebtransport.session import WebTransportSession
from tests.support.endpoints import ClientFactory, PairOfSessions, ServerFactory, Serving
from tests.support.payload import payload
from tests.support.steps import echo_bidirectional, once_set, round_trip, take_unidirectional, until

from .relay import Faults, Relay


def connection_of(session: WebTransportSession) -> WebTransportConnection:
    """The connection of a session that is open."""
    assert session.connection is not None
    return session.connection


def contents(directory: Path) -> dict[str, bytes]:
    """The files of a directory; outside of coroutines, which must not block."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


# ---------------------------------------------------------------------- pooling


async def test_sessions_share_a_connection_only_when_pooling_is_allowed(
    serving: Serving, client_config: ClientFactory
) -> None:
    for pooling in (False, True):
        config = client_config(allow_pooling=pooling)
        async with serving() as served, WebTransportClient(config=config) as client:
            sessions = [await client.connect(served.url(f"/{n}")) for n in range(3)]
            connections = {connection_of(session) for session in sessions}
            assert len(connections) == (1 if pooling else 3)
            assert len(client.connections) == len(served.server.connections) == len(connections)
            assert {session.path for session in served.server.sessions} == {"/0", "/1", "/2"}
            for session in sessions:
                far = next(s for s in served.server.sessions if s.path == session.path)
                await round_trip(session, far, session.path.encode())


async def test_sessions_opened_at_once_share_one_connection(
    serving: Serving, client_config: ClientFactory
) -> None:
    config = client_config(allow_pooling=True)
    async with serving() as served, WebTransportClient(config=config) as client:
        sessions = await asyncio.gather(*(client.connect(served.url()) for _ in range(10)))
        assert len({connection_of(session) for session in sessions}) == 1
        assert len({session.session_id for session in sessions}) == 10
        assert connection_of(sessions[0]).sessions == tuple(sessions)


async def test_kept_connections_make_room_for_another_server(
    serving: Serving, client_config: ClientFactory
) -> None:
    config = client_config(allow_pooling=True, max_connections=2)
    async with (
        serving() as first,
        serving() as second,
        serving() as third,
        WebTransportClient(config=config) as client,
    ):
        kept = []
        for served in (first, second):
            session = await client.connect(served.url())
            kept.append(connection_of(session))
            await session.close()
        # Used last, so the other one has to go.
        session = await client.connect(first.url())
        assert connection_of(session) is kept[0]
        await client.connect(third.url())
        assert [connection.is_closed for connection in kept] == [False, True]
        with pytest.raises(ClientError, match="max_connections=2"):
            await client.connect(second.url())


async def test_pooled_connection_outlives_its_sessions(
    serving: Serving, client_config: ClientFactory
) -> None:
    config = client_config(allow_pooling=True)
    async with serving() as served, WebTransportClient(config=config) as client:
        first = await client.connect(served.url())
        connection = connection_of(first)
        await first.close()
        assert connection.is_connected
        second = await client.connect(served.url())
        assert connection_of(second) is connection
        # One that the server ends leaves it open, too.
        await served.server.sessions[0].close()
        await second.wait_closed()
        assert connection.is_connected
        third = await client.connect(served.url())
        assert connection_of(third) is connection


async def test_a_dead_connection_is_not_shared(
    serving: Serving, client_config: ClientFactory
) -> None:
    config = client_config(allow_pooling=True)
    async with serving() as served, WebTransportClient(config=config) as client:
        first = await client.connect(served.url())
        connection = connection_of(first)
        await connection.close()
        second = await client.connect(served.url())
        assert connection_of(second) is not connection


async def test_closing_one_of_two_sessions_keeps_the_connection(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        connection = connection_of(near)
        second = await connection.create_session("/second")
        await second.ready()
        await second.close(close_connection=True)
        assert connection.is_connected
        await round_trip(near, far, b"still here")
        await near.close(close_connection=False)
        assert connection.is_connected
        await near.close(close_connection=True)
        assert connection.is_closed


@pytest.mark.parametrize("is_cancelled", [False, True], ids=["waits", "cancelled"])
async def test_second_close_of_a_session_closes_the_connection(
    pair: PairOfSessions, is_cancelled: bool
) -> None:
    async with pair() as (near, _):
        connection = connection_of(near)
        stream = await near.create_unidirectional_stream()
        await stream.write(b"not acknowledged yet")
        await stream.close()
        first = asyncio.create_task(near.close(code=3, close_connection=False))
        await asyncio.sleep(0)
        assert near.state is SessionState.CLOSING
        second = asyncio.create_task(near.close())
        await asyncio.sleep(0)
        if is_cancelled:
            second.cancel()
        await first
        assert (await near.wait_closed()).code == 3
        await asyncio.gather(second, return_exceptions=True)
        assert second.cancelled() == is_cancelled
        if is_cancelled:  # only the wait has ended
            await connection.wait_closed()
        assert connection.is_closed


async def test_unpooled_connection_goes_with_its_last_session(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        connection = connection_of(near)
        await far.close()
        await connection.wait_closed()
        assert connection.state is ConnectionState.CLOSED
        assert near.connection is None
        assert connection.sessions == ()


async def test_max_connections_of_the_client(
    serving: Serving, client_config: ClientFactory
) -> None:
    config = client_config(max_connections=2)
    async with serving() as served, WebTransportClient(config=config) as client:
        first = await client.connect(served.url())
        await client.connect(served.url())
        with pytest.raises(ClientError, match="max_connections=2") as caught:
            await client.connect(served.url())
        assert caught.value.target_url == served.url()
        await first.close()
        await client.connect(served.url())


# -------------------------------------------------------------------- migration


async def test_migration_moves_to_a_new_address_in_the_middle_of_transfers(
    pair: PairOfSessions,
) -> None:
    data = payload(3 * 1024 * 1024)
    async with pair() as (near, far):
        echoing = asyncio.create_task(echo_bidirectional(far))
        connection = connection_of(near)
        before = connection.local_address
        stream = await near.create_bidirectional_stream()
        writing = asyncio.create_task(stream.write_all(data))
        first = await stream.readexactly(100_000)
        for _ in range(2):
            await connection.migrate()
        after = connection.local_address
        assert before is not None
        assert after is not None
        assert after[1] != before[1]
        assert first + await stream.read_all() == data
        await writing
        assert far.remote_address is not None
        assert far.remote_address[1] == after[1]
        await near.close()
        await echoing


@pytest.mark.parametrize("listening_on", ["127.0.0.1", "0.0.0.0", "::"])
async def test_migration_to_a_chosen_address(
    serving: Serving, client_config: ClientFactory, listening_on: str
) -> None:
    async with (
        serving(host=listening_on) as served,
        WebTransportClient(config=client_config()) as client,
    ):
        near = await client.connect(served.url(host="127.0.0.1"))
        far = served.server.sessions[0]
        connection = connection_of(near)
        await connection.migrate(local_host="127.0.0.2")
        assert connection.local_address is not None
        assert connection.local_address[0] == "127.0.0.2"
        await round_trip(near, far, b"moved")
        assert far.remote_address is not None
        assert far.remote_address[0].removeprefix("::ffff:") == "127.0.0.2"


async def test_impossible_migrations_leave_everything_as_it_was(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        connection = connection_of(near)
        with pytest.raises(UnreachableError, match=r"192\.0\.2\.1"):
            await connection.migrate(local_host="192.0.2.1")
        with pytest.raises(ConnectionError, match="only clients can"):
            await connection_of(far).migrate()
        moving = asyncio.create_task(connection.migrate())
        await asyncio.sleep(0)
        with pytest.raises(ConnectionError, match="under way"):
            await connection.migrate()
        await moving
        await round_trip(near, far, b"fine")
        await connection.close()
        with pytest.raises(ConnectionError, match="cannot migrate"):
            await connection.migrate()


async def test_migration_that_is_cut_off_ends_when_the_connection_does(
    serving: Serving, client_config: ClientFactory
) -> None:
    """A relay that lets nothing through keeps the new path from being validated."""
    async with (
        serving(close_timeout=0.1) as served,
        Relay(("127.0.0.1", served.port), seed=1, up=Faults()) as relay,
        WebTransportClient(config=client_config(close_timeout=0.1)) as client,
    ):
        session = await client.connect(f"https://127.0.0.1:{relay.port}/")
        connection = connection_of(session)
        relay.blocked = True
        moving = asyncio.create_task(connection.migrate())
        await asyncio.sleep(0)
        await connection.close()
        with pytest.raises(ConnectionError, match="not validated"):
            await moving
        await served.server.close(drain_timeout=0)


async def test_nat_rebinding_is_followed(serving: Serving, client_config: ClientFactory) -> None:
    async with (
        serving() as served,
        Relay(("127.0.0.1", served.port), seed=1, up=Faults()) as relay,
        WebTransportClient(config=client_config()) as client,
    ):
        session = await client.connect(f"https://127.0.0.1:{relay.port}/")
        far = served.server.sessions[0]
        before = far.remote_address
        await round_trip(session, far, b"before")
        await relay.rebind()
        await round_trip(session, far, b"after")
        await until(lambda: far.remote_address != before)
        await round_trip(session, far, b"and on")


# ------------------------------------------------------------------- key update


async def test_key_updates_from_both_ends(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        # Each end may update again only when its last update was confirmed and has aged.
        for session, other in ((near, far), (far, near)):
            connection, peer = connection_of(session), connection_of(other)
            await round_trip(near, far, b"before")
            updates = peer.get_stats()["key_updates"]
            assert updates is not None

            def updated(connection: WebTransportConnection = connection) -> bool:
                try:
                    connection.initiate_key_update()
                except ConnectionError:
                    return False
                return True

            await until(updated)
            # It counts once the keys of the next update are ready.
            while peer.get_stats()["key_updates"] == updates:
                await round_trip(near, far, b"after")
        connection = connection_of(near)
        await near.close()
        with pytest.raises(ConnectionError, match="cannot update keys"):
            connection.initiate_key_update()


# ---------------------------------------------------------------------- figures


async def test_figures_are_measured(pair: PairOfSessions) -> None:
    size = 500_000
    async with pair() as (near, far):
        stream = await near.create_unidirectional_stream()
        writing = asyncio.create_task(stream.write_all(bytes(size)))
        assert len(await (await take_unidirectional(far)).read_all()) == size
        await writing
        await stream.wait_acknowledged()
        info, other = connection_of(near).info, connection_of(far).info
        assert info.bytes_sent > size
        assert other.bytes_received > size
        assert info.packets_sent >= size // 1500
        assert info.rtt is not None
        assert info.min_rtt is not None
        assert 0 < info.min_rtt <= info.rtt < 30
        assert info.congestion_window > 10_000
        assert 1200 <= info.max_udp_payload <= 65535
        assert info.uptime > 0
        assert info.to_dict()["bytes_sent"] == info.bytes_sent
        connection = connection_of(near)
        summary = connection.get_summary()
        assert summary["id"] == connection.connection_id
        assert summary["bytes_sent"] >= info.bytes_sent
        assert connection.get_stats()["stream_bytes_sent"] >= size
        report = await connection.diagnose_issues()
        assert report["issues"] == []
        assert report["info"]["state"] == "connected"
        assert connection.error is None
        assert connection.peer_certificate is not None
        connection.record_activity()
        assert near.connection is connection
        await connection.close()
        assert connection.peer_certificate is None
        assert connection.info.bytes_sent > size
        assert connection.info.closed_at is not None
        assert (await connection.diagnose_issues())["issues"]
        assert "closed" in repr(connection)


async def test_monitoring_ends_with_the_connection(
    pair: PairOfSessions, caplog: pytest.LogCaptureFixture
) -> None:
    async with pair() as (near, _):
        connection = connection_of(near)
        watching = asyncio.create_task(connection.monitor_health(rtt_timeout=0.0))
        await until(lambda: caplog.records)
        await connection.close()
        await watching
    assert "round-trip time" in caplog.text


async def test_keylog_and_debug_log(
    pair: PairOfSessions, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "pywebtransport.quic")
    keylog = tmp_path / "keys.log"
    async with pair(client={"keylog_file": str(keylog), "debug": True}) as (near, far):
        await round_trip(near, far, b"x")
    lines = keylog.read_text().splitlines()
    labels = {line.split()[0] for line in lines}
    assert {"CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"} <= labels
    assert keylog.stat().st_mode & 0o077 == 0
    assert any(record.name == "pywebtransport.quic.trace" for record in caplog.records)


@pytest.mark.parametrize("how", ["full", "gone"])
async def test_keylog_that_fails_later_is_told_once(
    pair: PairOfSessions, tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """Each line is a write; the connection continues."""
    directory = tmp_path / "keys"
    directory.mkdir()
    path = Path("/dev/full") if how == "full" else directory / "keys.log"
    write = _KeyLog(str(path))
    if how == "gone":
        shutil.rmtree(directory)
    for _ in range(3):
        write("CLIENT_RANDOM 00 00\n")
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith(f"keylog_file '{path}' cannot be written: No ")
    caplog.clear()
    if how == "gone":
        directory.mkdir()
        write("again")
        assert path.read_text() == "again\n"
        assert path.stat().st_mode & 0o077 == 0
        return
    async with pair(client={"keylog_file": str(path)}) as (near, far):
        await round_trip(near, far, b"x")
    (told,) = [record.getMessage() for record in caplog.records if record.levelname != "INFO"]
    assert "No space left on device" in told


async def test_qlog_is_written_where_the_library_can(pair: PairOfSessions, tmp_path: Path) -> None:
    fields = {"qlog_dir": str(tmp_path)}
    if not QLOG_SUPPORTED:
        with pytest.raises(ConfigurationError, match="qlog"):
            await pair(client=fields).__aenter__()
        return
    async with pair(client=fields, server=fields) as (near, far):
        await round_trip(near, far, b"x")
    files = contents(tmp_path)
    # Both name the connection by the ID that the client chose first.
    ours, theirs = sorted(files)
    assert (ours, theirs) == (ours, ours.replace("_client.", "_server."))
    for name, content in files.items():
        trace, *events = [json.loads(record) for record in content.split(b"\x1e")[1:]]
        assert trace["trace"]["vantage_point"]["type"] in name
        assert trace["trace"]["common_fields"]["group_id"] in name
        kinds = {event["name"] for event in events}
        assert {"transport:packet_sent", "transport:packet_received"} <= kinds
        packets = {event["data"].get("header", {}).get("packet_type") for event in events}
        assert {"initial", "handshake", "1RTT"} <= packets
        assert all(isinstance(event["time"], int | float) for event in events)


@pytest.mark.parametrize("algorithm", ["cubic", "reno", "bbr"])
async def test_every_congestion_control_carries_a_transfer(
    pair: PairOfSessions, algorithm: str
) -> None:
    fields = {"congestion_control_algorithm": algorithm}
    data = payload(2 * 1024 * 1024)
    async with pair(client=fields, server=fields) as (near, far):
        for session, other in ((near, far), (far, near)):
            stream = await session.create_unidirectional_stream()
            writing = asyncio.create_task(stream.write_all(data))
            assert await (await take_unidirectional(other)).read_all() == data
            await writing


@pytest.mark.parametrize(
    "switches", [{"gso": False}, {"ecn": False}, {"pmtud": False}, {"retry": "always"}]
)
async def test_switches_keep_transfers_exact(
    pair: PairOfSessions, switches: dict[str, object]
) -> None:
    data = payload(1024 * 1024)
    client = {name: value for name, value in switches.items() if name != "retry"}
    async with pair(client=client, server=switches) as (near, far):
        stream = await near.create_unidirectional_stream()
        writing = asyncio.create_task(stream.write_all(data))
        assert await (await take_unidirectional(far)).read_all() == data
        await writing


# ------------------------------------------------------------- idle, loss, limits


@pytest.mark.loops("virtual")
async def test_idle_connection_ends_with_a_typed_error(
    serving: Serving, client_config: ClientFactory
) -> None:
    config = client_config(connection_idle_timeout=0.3, keep_alive=False)
    async with serving(keep_alive=False) as served, WebTransportClient(config=config) as client:
        session = await client.connect(served.url())
        connection = connection_of(session)
        info = await session.wait_closed()
        assert info.code is None
        await connection.wait_closed()
        assert connection.state is ConnectionState.FAILED
        assert type(connection.error).__name__ == "IdleTimeoutError"
        assert "idle" in str(connection.error)


@pytest.mark.loops("virtual")
async def test_keep_alive_keeps_a_quiet_connection(
    serving: Serving, client_config: ClientFactory
) -> None:
    """The idle timeout passes, by the loop's clock, without the end of the session."""
    config = client_config(connection_idle_timeout=2.0, connection_keepalive_timeout=0.25)
    async with serving() as served, WebTransportClient(config=config) as client:
        session = await client.connect(served.url())
        loop = asyncio.get_running_loop()
        passed = asyncio.Event()
        loop.call_later(2.5, passed.set)
        await passed.wait()
        await round_trip(session, served.server.sessions[0], b"awake")


async def test_server_that_vanished_is_told_by_a_stateless_reset_or_timeout(
    serving: Serving, client_config: ClientFactory
) -> None:
    config = client_config(connection_idle_timeout=1.0, keep_alive=False)
    async with serving() as served, WebTransportClient(config=config) as client:
        session = await client.connect(served.url())
        connection = connection_of(session)
        far = served.server.connections[0]
        assert far._quic is not None
        far._quic.abandon()
        stream = await session.create_bidirectional_stream()
        await stream.write(b"is anybody there?")
        await connection.wait_closed()
        assert connection.state is ConnectionState.FAILED
        assert isinstance(connection.error, ConnectionError)
        assert "reset" in str(connection.error) or "idle" in str(connection.error)


async def test_connection_object_refuses_what_it_cannot_do(
    client_config: ClientFactory, server_config: ServerFactory
) -> None:
    server = WebTransportConnection(config=server_config())
    with pytest.raises(ConnectionError, match=r"only clients can connect\(\)"):
        await server.connect(host="127.0.0.1", port=1)
    idle = WebTransportConnection(config=client_config())
    assert idle.state is ConnectionState.IDLE
    assert idle.local_address is None
    assert idle.dialect is None
    assert idle.peer_certificate is None
    assert idle.get_stats() == {}
    with pytest.raises(WebTransportError):
        await idle.create_session()
    with pytest.raises(ConnectionError, match="cannot migrate"):
        await idle.migrate()
    await idle.close()
    assert idle.is_closed
    with pytest.raises(ConnectionError, match="closed"):
        await idle.wait_ready()
    with pytest.raises(ConnectionError, match="cannot connect"):
        await idle.connect(host="127.0.0.1", port=1)


async def test_wait_ready_waits_for_settings(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served:
        connection = WebTransportConnection(config=client_config())
        async with connection:
            waiting = asyncio.create_task(connection.wait_ready())
            with pytest.raises(TimeoutError, match=r"0\.01 s"):
                await connection.wait_ready(timeout=0.01)
            await connection.connect(host="127.0.0.1", port=served.port)
            await waiting
            await connection.wait_ready()
            assert connection.dialect == 16
            await connection.wait_for_ready_session()
        assert connection.is_closed


async def test_connection_failure_is_typed(client_config: ClientFactory) -> None:
    connection = WebTransportConnection(config=client_config(verify_mode=ssl.CERT_NONE))
    with pytest.raises(UnreachableError):
        await connection.connect(host="127.0.0.1", port=9)
    assert connection.state is ConnectionState.FAILED
    assert isinstance(connection.error, UnreachableError)


# ----------------------------------------------------------------- the object itself


async def test_connection_of_its_own_endpoint_migrates_and_closes(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served:
        connection = await WebTransportConnection.create_client(
            config=client_config(), host="127.0.0.1", port=served.port
        )
        async with connection:
            session_id = await connection.wait_for_ready_session()
            session = WebTransportSession(connection, session_id=session_id)
            for _ in range(2):
                await connection.migrate()
                await round_trip(session, served.server.sessions[0], b"moved")
            assert connection._endpoint is not None
            assert len(connection._endpoint.sockets) == 1
            assert not connection.is_closing
            closing = [asyncio.create_task(connection.close(code=3)) for _ in range(3)]
            await asyncio.sleep(0)
            assert connection.is_closing
            await asyncio.gather(*closing)
        assert (await session.wait_closed()).code == 3


async def test_facts_before_the_session_object_are_kept(
    serving: Serving, client_config: ClientFactory
) -> None:
    """Draining, streams, datagrams and the end itself reach an object that is made late."""
    arrived = asyncio.Event()

    async def handler(session: WebTransportSession) -> None:
        await session.drain()
        await session.datagrams.send(b"datagram")
        stream = await session.create_unidirectional_stream()
        await stream.write_all(b"stream")
        await stream.wait_acknowledged()
        await session.close(code=8, reason="over")
        arrived.set()

    async with serving(handler) as served:
        connection = await WebTransportConnection.create_client(
            config=client_config(), host="127.0.0.1", port=served.port
        )
        async with connection:
            session_id = await connection.wait_for_ready_session()
            await arrived.wait()
            await until(lambda: len(next(iter(connection._pending.values()))._facts) >= 5)
            session = WebTransportSession(connection, session_id=session_id)
            info = await session.wait_closed()
            assert (info.code, info.reason, info.remote) == (8, "over", True)
            assert await (await take_unidirectional(session)).read_all() == b"stream"
            assert await session.datagrams.receive() == b"datagram"


async def test_waiting_for_a_session_times_out(
    serving: Serving, client_config: ClientFactory
) -> None:
    may_answer = asyncio.Event()

    async with serving() as served:
        served.app.add_middleware(once_set(may_answer))
        connection = await WebTransportConnection.create_client(
            config=client_config(), host="127.0.0.1", port=served.port
        )
        async with connection:
            with pytest.raises(TimeoutError, match=r"0\.02 s"):
                await connection.wait_for_ready_session(timeout=0.02)
            assert connection.get_ready_session_id() is None
            may_answer.set()
            await connection.wait_for_ready_session()


@pytest.mark.parametrize("pooled", [False, True])
async def test_session_that_is_closed_while_somebody_waits_for_it(
    serving: Serving, client_config: ClientFactory, pooled: bool
) -> None:
    may_answer = asyncio.Event()

    async with serving() as served:
        served.app.add_middleware(once_set(may_answer))
        async with ConnectionPool() as pool:
            connection = await pool.get_connection(
                config=client_config(), host="127.0.0.1", port=served.port
            )
            waiting = asyncio.create_task(connection.wait_for_ready_session())
            await asyncio.sleep(0)
            if pooled:
                await pool.return_connection(connection)
            else:
                await connection.close()
            with pytest.raises(WebTransportError) as caught:
                await waiting
            assert isinstance(caught.value, ConnectionError | SessionError), caught.value
        may_answer.set()


async def test_draining_connection_says_so(serving: Serving, client_config: ClientFactory) -> None:
    async with serving() as served, WebTransportClient(config=client_config()) as client:
        session = await client.connect(served.url())
        connection = connection_of(session)
        closing = asyncio.create_task(served.server.close(drain_timeout=1000))
        await until(lambda: connection.state is ConnectionState.DRAINING)
        report = await connection.diagnose_issues()
        assert any("going away" in issue for issue in report["issues"])
        await session.close()
        await closing


async def test_keylog_that_cannot_be_written(
    serving: Serving, client_config: ClientFactory, tmp_path: Path
) -> None:
    config = client_config(keylog_file=str(tmp_path / "keys.log"))
    (tmp_path / "keys.log").mkdir()
    async with serving() as served:
        with pytest.raises(ConfigurationError, match="keylog_file"):
            async with WebTransportClient(config=config) as client:
                await client.connect(served.url())


async def test_client_closed_while_it_connects(
    serving: Serving, client_config: ClientFactory
) -> None:
    may_answer = asyncio.Event()

    async with serving() as served:
        served.app.add_middleware(once_set(may_answer))
        client = WebTransportClient(config=client_config())
        early = asyncio.create_task(client.connect(served.url()))
        late = asyncio.create_task(client.connect(served.url()))
        await until(lambda: served.server.sessions)
        just_begun = asyncio.create_task(client.connect(served.url()))
        await asyncio.sleep(0)
        await client.close()
        results = await asyncio.gather(early, late, just_begun, return_exceptions=True)
        assert all(isinstance(result, WebTransportError) for result in results)
        may_answer.set()
        await until(lambda: not served.server.connections)


async def test_sessions_share_a_connection_without_session_flow_control(
    serving: Serving, client_config: ClientFactory
) -> None:
    """Draft-07 has none, and allows it."""
    config = client_config(allow_pooling=True)
    async with (
        serving(max_sessions=100, dialects=[7]) as served,
        WebTransportClient(config=config) as client,
    ):
        sessions = [await client.connect(served.url()) for _ in range(3)]
        assert len({connection_of(session) for session in sessions}) == 1
        assert len({session.session_id for session in sessions}) == 3
