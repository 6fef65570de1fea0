"""Events are emitted where they say, once, with their facts."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from pywebtransport import WebTransportClient
from pywebtransport.connection import WebTransportConnection
from pywebtransport.events import Event, EventEmitter
from pywebtransport.exceptions import DatagramTooLargeError, StreamResetError, UnreachableError
from pywebtransport.server import WebTransportServer
from pywebtransport.session import WebTransportSession
from pywebtransport.types import EventType
from tests.support.endpoints import ClientFactory, PairOfSessions, ServerFactory, Serving
from tests.support.leaks import ExpectedLogs
from tests.support.steps import round_trip, take, take_unidirectional, until


def documented_keys() -> dict[str, set[str]]:
    """What the reference says is in ``data``, by type."""
    page = Path(__file__).parents[2] / "docs" / "reference" / "events.md"
    rows = re.findall(r"^\| `([A-Z_]+)` \|.*\| (.+) \|$", page.read_text(), re.MULTILINE)
    return {EventType[name].value: set(re.findall(r"`(\w+)`", keys)) for name, keys in rows}


DOCUMENTED = documented_keys()


class Recorder:
    """Keeps the events of an emitter, and checks that they are as documented."""

    def __init__(self, *emitters: EventEmitter) -> None:
        self.events: list[Event] = []
        for emitter in emitters:
            emitter.on_any(self._record)

    def _record(self, event: Event) -> None:
        # A failure is logged, and an ERROR log fails the test.
        assert set(event.data) == DOCUMENTED[event.type]
        self.events.append(event)

    def types(self) -> list[str]:
        """What happened, in order."""
        return [str(event.type) for event in self.events]

    def of(self, event_type: EventType) -> list[Event]:
        """The events of one type."""
        return [event for event in self.events if event.type == event_type]


def test_every_event_type_is_documented_once() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "events.md"
    rows = re.findall(r"^\| `([A-Z_]+)` \|", page.read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(EventType.__members__)


async def test_events_of_a_connection(serving: Serving, client_config: ClientFactory) -> None:
    async with serving() as served:
        connection = WebTransportConnection(config=client_config())
        recorder = Recorder(connection)
        async with connection:
            await connection.connect(host="127.0.0.1", port=served.port)
            await connection.wait_for_ready_session()
        assert recorder.types() == [
            EventType.CONNECTION_ESTABLISHED,
            EventType.SETTINGS_RECEIVED,
            EventType.CONNECTION_CLOSED,
        ]
        established = recorder.events[0]
        assert established.source is connection
        assert established.data["remote_address"] == ("127.0.0.1", served.port)
        assert established.is_connection_event
        assert recorder.events[1].data["settings"]
        assert recorder.events[2].data["state"] == "closed"


async def test_events_of_a_failed_connection(client_config: ClientFactory) -> None:
    connection = WebTransportConnection(config=client_config())
    recorder = Recorder(connection)
    with pytest.raises(UnreachableError):
        await connection.connect(host="127.0.0.1", port=9)
    assert recorder.types() == [EventType.CONNECTION_CLOSED, EventType.CONNECTION_FAILED]
    assert recorder.events[1].is_error_event


async def test_events_of_a_lost_connection(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        assert near.connection is not None
        assert far.connection is not None
        recorder = Recorder(far.connection)
        quic = near.connection._quic
        assert quic is not None
        quic.close(0x102, "broken on purpose")
        await far.wait_closed()
        await until(lambda: recorder.of(EventType.CONNECTION_LOST))
        assert "broken on purpose" in recorder.of(EventType.CONNECTION_LOST)[0].data["error"]
        assert recorder.of(EventType.CONNECTION_CLOSED)[0].data["state"] == "failed"


async def test_peer_that_breaks_the_protocol_is_reported(pair: PairOfSessions) -> None:
    """A second control stream is forbidden (RFC 9114 section 6.2.1)."""
    async with pair() as (near, far):
        assert near.connection is not None
        assert far.connection is not None
        recorder = Recorder(far.connection)
        quic = near.connection._quic
        assert quic is not None
        stream = quic.open_stream(True)
        assert stream is not None
        stream.write(b"\x00\x04\x00")
        await far.wait_closed()
        await until(lambda: recorder.of(EventType.PROTOCOL_ERROR))
        assert "error" in recorder.of(EventType.PROTOCOL_ERROR)[0].data
        stream.release()


async def test_events_of_a_session(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        recorder = Recorder(far)
        await near.drain()
        await until(lambda: recorder.of(EventType.SESSION_DRAINING))
        stream = await near.create_bidirectional_stream()
        await stream.write_all(b"x")
        other = await take(far)
        opened = recorder.of(EventType.STREAM_OPENED)[0]
        assert opened.data == {"stream_id": stream.stream_id, "stream": other, "remote": True}
        assert opened.is_stream_event
        assert await other.read_all() == b"x"
        await other.close()
        await until(lambda: recorder.of(EventType.STREAM_CLOSED))
        await near.close(code=12, reason="done")
        await far.wait_closed()
        closed = recorder.of(EventType.SESSION_CLOSED)
        assert [event.data for event in closed] == [
            {"session_id": far.session_id, "code": 12, "reason": "done", "remote": True}
        ]
        assert closed[0].is_session_event
        capsules = [event.data["type"] for event in recorder.of(EventType.CAPSULE_RECEIVED)]
        assert 0x78AE in capsules
        assert 0x2843 in capsules
        assert recorder.types()[-1] == EventType.SESSION_CLOSED


async def test_session_ready_is_emitted_on_both_ends(
    serving: Serving, client_config: ClientFactory
) -> None:
    recorded: list[Event] = []
    may_answer = asyncio.Event()

    async def hesitate(session: WebTransportSession) -> bool:
        session.on(EventType.SESSION_READY, recorded.append)
        if session.path == "/second":
            await may_answer.wait()
        return True

    async with serving() as served, WebTransportClient(config=client_config()) as client:
        served.app.add_middleware(hesitate)
        first = await client.connect(served.url("/first"))
        assert first.connection is not None
        second = await first.connection.create_session("/second")
        second.once(EventType.SESSION_READY, recorded.append)
        may_answer.set()
        await second.ready()
        assert [event.source.path for event in recorded] == ["/first", "/second", "/second"]
        assert recorded[-1].data == {"session_id": second.session_id}


async def test_credit_updates_are_events(pair: PairOfSessions) -> None:
    limits = {
        "initial_max_streams_uni": 2,
        "initial_max_streams_bidi": 2,
        "initial_max_data": 100_000,
        "max_read_buffer_size": 32_768,
    }
    async with pair(server=limits) as (near, far):
        recorder = Recorder(near)
        for _ in range(6):
            await round_trip(near, far, bytes(30_000))
            stream = await near.create_bidirectional_stream()
            await stream.write_all(b"")
            other = await take(far)
            assert await other.read_all() == b""
            await other.close()
            assert await stream.read_all() == b""
        for event_type in (
            EventType.SESSION_MAX_DATA_UPDATED,
            EventType.SESSION_MAX_STREAMS_BIDI_UPDATED,
            EventType.SESSION_MAX_STREAMS_UNI_UPDATED,
        ):
            updates = recorder.of(event_type)
            assert updates, event_type
            raised = [event.data["limit"] for event in updates]
            assert raised == sorted(set(raised))


async def test_stream_closed_is_emitted_by_stream_and_session(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        stream = await near.create_bidirectional_stream()
        recorder = Recorder(near, stream)
        await stream.write_all(b"x")
        other = await take(far)
        await other.write_all(await other.read_all())
        assert await stream.read_all() == b"x"
        await until(lambda: len(recorder.of(EventType.STREAM_CLOSED)) == 2)
        sources = {event.source for event in recorder.of(EventType.STREAM_CLOSED)}
        assert sources == {near, stream}


async def test_stream_opened_tells_who_opened_it(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        here, there = Recorder(near), Recorder(far)
        stream = await near.create_bidirectional_stream()
        one_way = await near.create_unidirectional_stream()
        await stream.write(b"!")
        await one_way.write(b"!")
        await until(lambda: len(there.of(EventType.STREAM_OPENED)) == 2)
        opened = [event.data for event in here.of(EventType.STREAM_OPENED)]
        assert opened == [
            {"stream_id": stream.stream_id, "stream": stream, "remote": False},
            {"stream_id": one_way.stream_id, "stream": one_way, "remote": False},
        ]
        assert all(event.data["remote"] for event in there.of(EventType.STREAM_OPENED))


async def test_arriving_stream_data_is_an_event(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        stream = await near.create_bidirectional_stream()
        await stream.write(b"early")
        other = await take(far)
        read: list[bytes] = []
        sizes: list[int] = []

        async def handler(event: Event) -> None:
            assert event.source is other
            assert event.data["stream_id"] == other.stream_id
            sizes.append(event.data["size"])
            read.append(await event.source.read(event.data["size"]))

        # What came before the first listener counts as new.
        other.on(EventType.STREAM_DATA_RECEIVED, handler)
        await until(lambda: read == [b"early"])
        for part in (b"more", b"and the rest"):
            await stream.write(part)
            await until(lambda part=part: read[-1] == part)  # type: ignore[misc]
        assert sizes == [5, 4, 12]
        told = asyncio.create_task(other.wait_for(EventType.STREAM_DATA_RECEIVED))
        other.off(EventType.STREAM_DATA_RECEIVED)
        await asyncio.sleep(0)
        await stream.write_all(b"!")
        event = await told
        assert event.data["size"] == 1
        assert await other.read_all() == b"!"
        assert sizes == [5, 4, 12]


async def test_arriving_stream_data_is_heard_by_listeners_of_everything(
    pair: PairOfSessions,
) -> None:
    async with pair() as (near, far):
        stream = await near.create_unidirectional_stream()
        await stream.write(b"1")
        other = await take_unidirectional(far)
        assert await other.read() == b"1"
        recorder = Recorder(other)
        await stream.write_all(bytes(200_000))
        assert len(await other.read_all()) == 200_000
        told = recorder.of(EventType.STREAM_DATA_RECEIVED)
        assert sum(event.data["size"] for event in told) == 200_000
        assert [event.data["fin"] for event in told][-1] is True
        assert recorder.types()[-1] == EventType.STREAM_CLOSED


async def test_the_engine_calls_nobody_for_stream_data_without_listeners(
    pair: PairOfSessions,
) -> None:
    """This is why arriving data cost nothing extra without listeners."""
    async with pair() as (near, far):
        stream = await near.create_bidirectional_stream()
        await stream.write(b"1")
        other = await take(far)
        assert other._quic.sink is None
        other.on(EventType.STREAM_ERROR, print)
        assert other._quic.sink is None
        heard: list[Event] = []
        other.on(EventType.STREAM_DATA_RECEIVED, heard.append)
        assert other._quic.sink is not None
        other.off(EventType.STREAM_DATA_RECEIVED, heard.append)
        assert await other.read() == b"1"
        await stream.write(b"2")
        assert await other.read() == b"2"
        assert other._quic.sink is None
        assert heard == []


async def test_handlers_that_fail_are_logged_and_harm_nobody(
    pair: PairOfSessions, expected_logs: ExpectedLogs
) -> None:
    expected_logs("failed for event")
    async with pair() as (near, far):
        calls: list[str] = []

        def broken(event: Event) -> None:
            raise LookupError("in a handler")

        async def broken_later(event: Event) -> None:
            calls.append("async")
            raise LookupError("in an async handler")

        near.on(EventType.STREAM_OPENED, broken)
        near.on(EventType.STREAM_OPENED, broken_later)
        near.on(EventType.STREAM_OPENED, lambda event: calls.append("sync"))
        await round_trip(near, far, b"works")
        # One stream was opened here, and one by the peer.
        await until(lambda: len(calls) == 4)
        assert sorted(calls) == ["async", "async", "sync", "sync"]


async def test_server_emits_session_requests(
    serving: Serving, client_config: ClientFactory
) -> None:
    """Only where no application handles them; the application is a handler itself."""
    async with serving() as served, WebTransportClient(config=client_config()) as client:
        recorder = Recorder(served.server)
        await client.connect(served.url())
        assert recorder.of(EventType.SESSION_REQUEST) == []


async def test_a_server_without_an_application_emits_session_requests(
    server_config: ServerFactory, client_config: ClientFactory
) -> None:
    async with WebTransportServer(config=server_config()) as server:
        recorder = Recorder(server)

        async def accept(event: Event) -> None:
            await event.data["session"].accept()

        server.on(EventType.SESSION_REQUEST, accept)
        await server.listen()
        assert server.local_address is not None
        async with WebTransportClient(config=client_config()) as client:
            session = await client.connect(f"https://127.0.0.1:{server.local_address[1]}/any")
            assert recorder.of(EventType.SESSION_REQUEST)[0].data["session"].path == "/any"
            await session.close()


async def test_datagrams_are_events(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        here, there = Recorder(near.datagrams), Recorder(far.datagrams)
        await near.datagrams.send(b"four")
        assert await far.datagrams.receive() == b"four"
        assert [event.data for event in here.of(EventType.DATAGRAM_SENT)] == [{"size": 4}]
        received = there.of(EventType.DATAGRAM_RECEIVED)
        assert [event.data for event in received] == [{"data": b"four", "size": 4}]
        assert received[0].is_datagram_event


async def test_failed_operations_are_events_too(pair: PairOfSessions) -> None:
    async with pair(server={"read_timeout": 0.02}) as (near, far):
        stream = await near.create_bidirectional_stream()
        await stream.write(b"!")
        other = await take(far)
        recorder = Recorder(stream, other, near.datagrams)
        assert await other.read() == b"!"
        with pytest.raises(TimeoutError):
            await other.read()
        assert recorder.of(EventType.TIMEOUT_ERROR)[0].data["stream_id"] == other.stream_id
        other.reset(5)
        with pytest.raises(StreamResetError):
            await stream.read()
        error = recorder.of(EventType.STREAM_ERROR)[0]
        assert error.source is stream
        assert error.data["error"].error_code == 5
        assert error.is_error_event
        with pytest.raises(DatagramTooLargeError):
            await near.datagrams.send(bytes(70_000))
        assert recorder.of(EventType.DATAGRAM_ERROR)[0].data["error"].datagram_size == 70_000
