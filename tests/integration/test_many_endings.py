"""What ends with a session or a connection ends in slices; counted in turns of the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pywebtransport import WebTransportClient
from pywebtransport._states import ConnectionState, EventType, SessionCloseInfo, SessionState
from pywebtransport.connection import WebTransportConnection
from pywebtransport.exceptions import ConnectionError, SessionClosedError, WebTransportError
from pywebtransport.server._draining import close_all
from pywebtransport.session import WebTransportSession
from pywebtransport.testing import Network
from pywebtransport.utils._stuck import end_tasks
from pywebtransport.utils._tasks import cancel_in_turns
from pywebtransport.utils._turns import Turns
from tests.support.endpoints import ClientFactory, PairOfSessions, Serving
from tests.support.steps import until
from tests.support.turns import Clock

MOST = 3 * 128
"""Coroutines that go on in one turn: as many as the engine woke in the turn before, as many as it
wakes in this one, which continue at once, and as many as others wake."""
STREAMS = 900  # as many as the peer allows a session at defaults, nearly
FIELDS: dict[str, Any] = {
    "initial_max_streams_bidi": STREAMS + 10,
    "initial_max_streams_uni": STREAMS + 10,
}


class Turn:
    """Numbers the turns of the loop, and counts what happened in each."""

    def __init__(self) -> None:
        self.number = 0
        self.counts: Counter[int] = Counter()

    def happened(self) -> None:
        self.counts[self.number] += 1

    async def count(self) -> None:
        while True:
            await asyncio.sleep(0)
            self.number += 1


@asynccontextmanager
async def turns() -> AsyncIterator[Turn]:
    turn = Turn()
    task = asyncio.create_task(turn.count())
    try:
        yield turn
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def wait(turn: Turn, work: Any) -> BaseException | None:
    """The error with which it ends, counted in the turn in which it does."""
    try:
        await work
    except WebTransportError as error:
        turn.happened()
        return error
    return None


@pytest.mark.parametrize("by", ["this end", "the peer", "connection"])
async def test_readers_of_many_streams_go_on_some_in_each_turn(
    pair: PairOfSessions, by: str
) -> None:
    async with (
        pair(
            client={"max_streams": STREAMS + 10, **FIELDS},
            server={"max_streams_per_connection": STREAMS + 10, **FIELDS},
        ) as (client, server),
        turns() as turn,
    ):
        streams = [await client.create_unidirectional_stream() for _ in range(STREAMS)]
        for stream in streams:
            await stream.write(b"x")
        incoming = []
        async for arrived in server.incoming_unidirectional_streams():
            incoming.append(arrived)
            if len(incoming) == STREAMS:
                break
        for one in incoming:
            assert await one.read() == b"x"
        readers = [asyncio.create_task(wait(turn, one.read())) for one in incoming]
        await until(lambda: all(one._read_waiter is not None for one in incoming))
        begun = turn.number
        if by == "this end":
            await server.close(code=7)
        elif by == "the peer":
            await client.close(code=7, close_connection=False)
        else:
            client._connection._shut()
        # One that is not told yet knows of the end all the same.
        await server.wait_closed()
        assert incoming[-1].is_closed
        assert not incoming[-1].is_readable
        errors = await asyncio.gather(*readers)
        assert all(isinstance(error, SessionClosedError) for error in errors)
        assert max(turn.counts.values()) <= MOST
        assert turn.number - begun >= STREAMS / MOST
        assert len(server._streams) == 0


async def test_sessions_of_a_lost_connection_hear_of_it_in_order(
    serving: Serving, client_config: ClientFactory
) -> None:
    """Callers that wait for the connection continue when all of its sessions have ended."""
    count = 300
    sessions: list[WebTransportSession] = []

    async def hold(session: WebTransportSession) -> None:
        sessions.append(session)
        await session.wait_closed()

    async with (
        serving({"/": hold}, **FIELDS, max_sessions_per_address=None) as server,
        WebTransportClient(config=client_config(**FIELDS)) as client,
    ):
        first = await client.connect(server.url("/"))
        connection = first._connection
        others = [await connection.create_session(path="/") for _ in range(count - 1)]
        await until(lambda: len(sessions) == count and all(one.is_ready for one in others))
        # One that became ready in this turn would be told of its end behind the connection.
        await until(lambda: all(one._ended_early is None for one in others))
        far = sessions[0]._connection
        connection._endpoint.close()  # type: ignore[union-attr]
        assert connection.is_closed == (not connection.sessions)
        await connection.wait_closed()
        assert not connection.sessions
        assert first.is_closed
        await far.close()
        assert all(session.is_closed for session in sessions)


async def test_sessions_that_are_not_told_yet_say_that_the_connection_is_lost(
    serving: Serving, client_config: ClientFactory
) -> None:
    """With many sessions, those at the end of the list are told some turns later."""
    count = 300
    sessions: list[WebTransportSession] = []
    infos: list[SessionCloseInfo] = []
    errors: dict[str, BaseException] = {}
    lost: list[object] = []

    async def hold(session: WebTransportSession) -> None:
        sessions.append(session)
        await session.wait_closed()

    def expect(name: str, action: Callable[[], Any]) -> None:
        with pytest.raises(WebTransportError) as failed:
            action()
        errors[name] = failed.value

    def first_is_told(_: object) -> None:
        """In this turn, nobody else knows of it yet."""
        waiting = [session for session in sessions if session.close_info is None]
        assert len(waiting) == count - 1
        # They say so already to whoever asks.
        assert {session.state for session in waiting} == {SessionState.CLOSING}
        closed, aborted, asked, sent, created, used = waiting[-6:]
        closed.close_nowait(5, "a clean end")
        aborted.abort()
        expect("open", lambda: asked._open_stream(True))
        expect("send", lambda: sent.datagrams.try_send(b"x"))
        steps = created.create_unidirectional_stream()
        expect("create", lambda: steps.send(None))
        expect("write", lambda: streams[used].write(b"x").send(None))
        for session in (closed, aborted, asked, sent, created):
            assert session.close_info is not None
            infos.append(session.close_info)

    async with (
        serving({"/": hold}, **FIELDS, max_sessions_per_address=None) as server,
        WebTransportClient(config=client_config(**FIELDS)) as client,
    ):
        first = await client.connect(server.url("/"))
        connection = first._connection
        for _ in range(count - 1):
            await connection.create_session(path="/")
        await until(lambda: len(sessions) == count)
        streams = {one: await one.create_unidirectional_stream() for one in sessions[-10:]}
        far = sessions[0]._connection
        far.add_watcher(EventType.CONNECTION_LOST, lost.append)
        sessions[0].add_watcher(EventType.SESSION_CLOSED, first_is_told)
        assert connection._quic is not None
        connection._quic.close(0x107, "overloaded")
        await until(lambda: infos)
        # So is whoever closes the connection now.
        await far.close()
        assert all(session.is_closed for session in sessions)
        assert far.state is ConnectionState.FAILED
        assert lost
    assert len(infos) == 5
    assert set(infos) == {SessionCloseInfo(code=None, reason="overloaded", remote=True)}
    for name, error in errors.items():
        assert isinstance(error, SessionClosedError), name
        assert "overloaded" in str(error), name
    assert isinstance(sessions[-6].error, ConnectionError)


async def test_cancelled_tasks_take_their_steps_some_in_each_turn() -> None:
    async with turns() as turn:

        async def work() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                turn.happened()

        tasks = [asyncio.create_task(work()) for _ in range(2000)]
        await asyncio.sleep(0)
        cancel_in_turns(tasks)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert all(task.cancelled() for task in tasks)
        assert turn.counts.total() == 2000
        assert max(turn.counts.values()) <= 128 + 8


CONNECTIONS = 150


class PerTurn:
    """Counts what happens in a turn of the loop, without a callback in each: time may be virtual.

    Attributes:
        most: Of one turn.
        total: Of all.
    """

    def __init__(self) -> None:
        self.most = self.total = self._now = 0

    def happened(self) -> None:
        if not self._now:
            asyncio.get_running_loop().call_soon(self._next_turn)
        self._now += 1
        self.total += 1
        self.most = max(self.most, self._now)

    def _next_turn(self) -> None:
        self._now = 0


@pytest.mark.loops("virtual")
@pytest.mark.parametrize("drain_timeout", [0.0, 1.0])
@pytest.mark.parametrize("peers", ["answer", "vanished"])
async def test_connections_of_a_server_that_closes_end_some_in_each_turn(
    serving: Serving,
    client_config: ClientFactory,
    monkeypatch: pytest.MonkeyPatch,
    peers: str,
    drain_timeout: float,
) -> None:
    """Each takes a tenth of a millisecond: all of them would be a long turn."""
    clock, begun, ended = Clock.installed(monkeypatch), PerTurn(), PerTurn()
    begin, end = WebTransportConnection.close_until, WebTransportConnection.close_nowait

    async def close_until(self: WebTransportConnection, *args: Any, **kwargs: Any) -> None:
        clock.work(0.0001)
        begun.happened()
        await begin(self, *args, **kwargs)

    def close_nowait(self: WebTransportConnection, *args: Any, **kwargs: Any) -> None:
        if not self.is_closed:
            clock.work(0.0001)
            ended.happened()
        end(self, *args, **kwargs)

    path = Network()
    async with serving(
        network=path, close_timeout=2.0, max_connections_per_address=None, retry="off"
    ) as served:
        config = client_config(network=path, close_timeout=0.1)
        clients = [WebTransportClient(config=config) for _ in range(CONNECTIONS)]
        for client in clients:
            await client.connect(served.url())
        path.loss = 1.0 if peers == "vanished" else 0.0
        with monkeypatch.context() as patch:
            patch.setattr(WebTransportConnection, "close_until", close_until)
            patch.setattr(WebTransportConnection, "close_nowait", close_nowait)
            await served.server.close(drain_timeout=drain_timeout)
        for client in clients:
            await client.close()
    assert begun.total >= CONNECTIONS
    assert begun.most <= 16
    if peers == "vanished":  # the others end their connections themselves
        assert ended.total >= CONNECTIONS
        assert ended.most <= 16


@pytest.mark.loops("virtual")
async def test_a_server_does_not_begin_to_close_connections_after_its_time(
    serving: Serving, client_config: ClientFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes half of the time that there is; those that did not begin end at once."""
    begun = PerTurn()
    begin = WebTransportConnection.close_until
    loop = asyncio.get_running_loop()

    async def close_until(self: WebTransportConnection, *args: Any, **kwargs: Any) -> None:
        begun.happened()
        await begin(self, *args, **kwargs)

    async def pause(self: Turns, slices: int = 1) -> None:
        await asyncio.sleep(0.8)

    path = Network()
    async with serving(network=path, close_timeout=2.0) as served:
        config = client_config(network=path)
        clients = [WebTransportClient(config=config) for _ in range(8)]
        for client in clients:
            await client.connect(served.url())
        connections = list(served.server._connections)
        started = loop.time()
        with monkeypatch.context() as patch:
            patch.setattr(WebTransportConnection, "close_until", close_until)
            patch.setattr(Turns, "pause", pause)
            await close_all(connections, "enough", started + 1.6)
        for client in clients:
            await client.close()
    assert begun.total <= 3


async def test_tasks_that_are_waited_for_are_cancelled_some_in_each_turn() -> None:
    async with turns() as turn:

        async def work() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                turn.happened()

        tasks = [asyncio.create_task(work()) for _ in range(2000)]
        await asyncio.sleep(0)
        await end_tasks(tasks, timeout=20.0, logger=logging.getLogger("tests"), what="tasks")
        assert all(task.cancelled() for task in tasks)
        assert turn.counts.total() == 2000
        assert max(turn.counts.values()) <= 128 + 8
