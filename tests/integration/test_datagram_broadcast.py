"""One datagram to many sessions: counts, slow receivers, ends; a thousand sessions with figures."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pywebtransport import WebTransportClient, WebTransportDatagramTransport
from pywebtransport.datagram import DatagramBroadcaster
from pywebtransport.exceptions import DatagramError, SessionClosedError
from pywebtransport.session import WebTransportSession
from pywebtransport.utils import certificate_hash, generate_self_signed_cert
from tests.support.certificates import Certificates
from tests.support.endpoints import ClientFactory, PairOfSessions, Serving
from tests.support.memory import Memory
from tests.support.processes import ROOT
from tests.support.steps import cancelled_at, until
from tests.support.turns import Clock

from .relay import Faults, Relay
from .test_examples import EXAMPLES, load

SESSIONS = 1000
BROADCASTS = 100
SIZE = 1000
AHEAD = 3

Sessions = list[WebTransportSession]


@asynccontextmanager
async def several(
    serving: Serving, client_config: ClientFactory, count: int, **fields: object
) -> AsyncIterator[tuple[Sessions, Sessions]]:
    """``count`` sessions on connections of their own: the servers' ends and the clients'."""
    servers: Sessions = []

    async def accepted(session: WebTransportSession) -> None:
        servers.append(session)

    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(serving(accepted, **fields))
        client = await stack.enter_async_context(
            WebTransportClient(config=client_config(allow_pooling=False))
        )
        clients = []
        for number in range(count):
            clients.append(await client.connect(served.url(f"/{number}")))
            await until(lambda wanted=number + 1: len(servers) == wanted)
        yield servers, clients


async def test_everybody_gets_it(serving: Serving, client_config: ClientFactory) -> None:
    async with (
        several(serving, client_config, 5) as (servers, clients),
        DatagramBroadcaster.create() as broadcaster,
    ):
        for session in servers:
            await broadcaster.add_transport(transport=session.datagrams)
            await broadcaster.add_transport(session.datagrams)
        assert await broadcaster.get_transport_count() == 5
        for data in (b"bytes", bytearray(b"bytearray"), "täxt"):
            assert await broadcaster.broadcast(data=data) == 5
        for session in clients:
            got = [await session.datagrams.receive() for _ in range(3)]
            assert got == [b"bytes", b"bytearray", "täxt".encode()]
        await broadcaster.remove_transport(transport=servers[0].datagrams)
        await broadcaster.remove_transport(servers[0].datagrams)
        assert await broadcaster.broadcast(b"to four") == 4
        assert broadcaster.stats == {
            "transports": 4,
            "broadcasts": 4,
            "sent": 19,
            "dropped": 0,
            "too_large": 0,
            "errors": 0,
            "removed": 0,
        }
        counts = broadcaster.get_transport_stats(transport=servers[1].datagrams)
        assert counts == {"sent": 4, "dropped": 0, "too_large": 0, "errors": 0}
        with pytest.raises(DatagramError, match="not part of the broadcaster"):
            broadcaster.get_transport_stats(servers[0].datagrams)
    assert broadcaster.is_closed
    assert await broadcaster.get_transport_count() == 0
    for attempt in (
        lambda: broadcaster.broadcast(b"x"),
        lambda: broadcaster.add_transport(servers[0].datagrams),
    ):
        with pytest.raises(DatagramError, match="the broadcaster is closed"):
            await attempt()


async def test_slow_receivers_are_dropped_and_counted(
    serving: Serving, client_config: ClientFactory
) -> None:
    """One has a queue of two, and nothing leaves a queue before the loop turns."""
    async with several(serving, client_config, 3) as (servers, clients):
        broadcaster = DatagramBroadcaster()
        for session in servers:
            await broadcaster.add_transport(session.datagrams)
        slow = servers[1].datagrams
        slow.outgoing_high_water_mark = 2
        assert await slow.try_send(b"filler")
        assert await slow.try_send(b"filler")
        assert await broadcaster.broadcast(b"news") == 2
        assert broadcaster.get_transport_stats(slow)["dropped"] == 1
        assert broadcaster.get_transport_stats(servers[0].datagrams)["dropped"] == 0
        assert broadcaster.stats["dropped"] == slow.stats["send_drops"] == 1
        await until(lambda: slow.get_send_buffer_size() == 0)
        assert await broadcaster.broadcast(b"more news", priority=2, ttl=100) == 3
        assert await clients[0].datagrams.receive() == b"news"
        assert await clients[0].datagrams.receive() == b"more news"
        slow_got = [await clients[1].datagrams.receive() for _ in range(3)]
        assert slow_got == [b"filler", b"filler", b"more news"]
        await broadcaster.close()


async def test_a_blocked_path_costs_the_others_nothing(
    serving: Serving, client_config: ClientFactory
) -> None:
    servers: Sessions = []

    async def accepted(session: WebTransportSession) -> None:
        servers.append(session)

    async with (
        serving(accepted) as served,
        Relay(("127.0.0.1", served.port), seed=1, up=Faults()) as relay,
        WebTransportClient(config=client_config(allow_pooling=False)) as client,
        DatagramBroadcaster() as broadcaster,
    ):
        fast = await client.connect(served.url("/fast"))
        slow = await client.connect(f"https://127.0.0.1:{relay.port}/slow")
        await until(lambda: len(servers) == 2)
        for session in servers:
            await broadcaster.add_transport(session.datagrams)
        blocked = next(session for session in servers if session.path == "/slow").datagrams
        blocked.outgoing_high_water_mark = 8
        relay.blocked = True
        for _ in range(100):
            await broadcaster.broadcast(bytes(1000))
        for _ in range(100):
            await fast.datagrams.receive()
        counts = broadcaster.get_transport_stats(blocked)
        # What congestion control lets go, and the queue.
        assert counts["dropped"] > 0
        assert counts["sent"] + counts["dropped"] == 100
        assert broadcaster.stats["dropped"] == counts["dropped"]
        relay.blocked = False
        await slow.datagrams.receive()


async def test_what_does_not_fit_one_path_is_counted_for_it(
    certs: Certificates, pair: PairOfSessions
) -> None:
    async with (
        pair() as (_, wide),
        pair(client={"max_datagram_size": 1000}) as (_, narrow),
        DatagramBroadcaster() as broadcaster,
    ):
        await broadcaster.add_transport(wide.datagrams)
        await broadcaster.add_transport(narrow.datagrams)
        size = narrow.max_datagram_size + 1
        assert size <= wide.max_datagram_size
        assert await broadcaster.broadcast(bytes(size)) == 1
        assert broadcaster.get_transport_stats(narrow.datagrams)["too_large"] == 1
        assert broadcaster.stats["too_large"] == 1


async def test_closed_transports_leave_at_once(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with several(serving, client_config, 4) as (servers, clients):
        broadcaster = DatagramBroadcaster()
        for session in servers:
            await broadcaster.add_transport(session.datagrams)
        await clients[0].close()
        await servers[0].wait_closed()
        assert await broadcaster.get_transport_count() == 3
        await servers[1].datagrams.close()
        assert await broadcaster.get_transport_count() == 2
        closing = asyncio.create_task(servers[2].close())
        assert await broadcaster.broadcast(b"x") == 2
        await closing
        assert broadcaster.stats["transports"] == 1
        assert broadcaster.stats["removed"] == 3
        with pytest.raises(SessionClosedError, match="cannot take part"):
            await broadcaster.add_transport(servers[0].datagrams)
        with pytest.raises(DatagramError, match="cannot take part"):
            await broadcaster.add_transport(servers[1].datagrams)
        await broadcaster.remove_transport(servers[0].datagrams)
        await broadcaster.close()
        assert servers[3].datagrams._close_watchers == []


class Noting(DatagramBroadcaster):
    """Remembers in which order it served the sessions."""

    def __init__(self) -> None:
        super().__init__()
        self.order: list[str] = []

    def _hand_over(
        self,
        targets: Iterable[tuple[WebTransportDatagramTransport, Any]],
        payload: bytes,
        priority: int,
        ttl: float | None,
    ) -> int:
        sent = 0
        for target in targets:
            self.order.append(target[0].session_id)
            sent += super()._hand_over([target], payload, priority, ttl)
        return sent


async def test_the_first_in_the_order_changes(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with several(serving, client_config, 3) as (servers, _), Noting() as broadcaster:
        for session in servers:
            await broadcaster.add_transport(session.datagrams)
        for _ in range(3):
            await broadcaster.broadcast(b"x")
        everybody = sorted(session.session_id for session in servers)
        assert sorted(broadcaster.order[::3]) == everybody
        for start in (0, 3, 6):
            assert sorted(broadcaster.order[start : start + 3]) == everybody


async def test_who_leaves_between_two_turns_gets_nothing(
    serving: Serving, client_config: ClientFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many transports take several turns of the loop; here the slice of a turn is empty."""
    monkeypatch.setattr("pywebtransport.datagram.broadcaster._STEP", 1)
    monkeypatch.setattr("pywebtransport.utils._turns._SLICE_NS", 0)
    async with several(serving, client_config, 3) as (servers, _), Noting() as broadcaster:
        for session in servers:
            await broadcaster.add_transport(session.datagrams)
        broadcasting = asyncio.create_task(broadcaster.broadcast(b"x"))
        await asyncio.sleep(0)
        assert len(broadcaster.order) == 2  # the first look at the clock begins the slice
        last = next(s for s in servers if s.session_id not in broadcaster.order)
        await broadcaster.remove_transport(last.datagrams)
        assert await broadcasting == 2
        assert broadcaster.stats["sent"] == 2
        assert last.datagrams.send_sequence == 0


async def test_a_transport_that_fails_keeps_nobody_from_the_datagram(
    pair: PairOfSessions,
) -> None:
    """The engine can refuse for reasons of its own, such as a lack of memory."""

    class Failing(WebTransportDatagramTransport):
        def submit(self, payload: bytes, priority: int, ttl: float | None) -> bool:
            raise DatagramError("out of memory")

    async with pair() as (near, far), DatagramBroadcaster() as broadcaster:
        failing = Failing(near)
        await broadcaster.add_transport(failing)
        await broadcaster.add_transport(far.datagrams)
        assert await broadcaster.broadcast(b"x") == 1
        assert broadcaster.get_transport_stats(failing)["errors"] == 1
        assert broadcaster.stats["errors"] == 1
        assert await near.datagrams.receive() == b"x"


async def test_a_broadcast_needs_no_turn_of_the_loop(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with several(serving, client_config, 3) as (servers, clients), Noting() as broadcaster:
        for session in servers:
            await broadcaster.add_transport(session.datagrams)
        with pytest.raises(StopIteration) as ended:
            broadcaster.broadcast(b"first").send(None)
        assert ended.value.value == 3
        assert all(session.datagrams.get_send_buffer_size() == 1 for session in servers)
        # The second one in a turn lets the first one leave.
        assert await broadcaster.broadcast(b"second") == 3
        assert all(session.datagrams.get_send_buffer_size() == 1 for session in servers)
        for session in clients:
            assert await session.datagrams.receive() == b"first"
            assert await session.datagrams.receive() == b"second"


@pytest.mark.parametrize(("seconds", "first"), [(0.001, 4), (0.0005, 6), (0.003, 2)])
async def test_a_long_broadcast_goes_on_in_the_next_turn(
    serving: Serving,
    client_config: ClientFactory,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    first: int,
) -> None:
    """Four milliseconds of a turn are for it, and one step that began before their end."""
    clock = Clock.installed(monkeypatch)
    monkeypatch.setattr("pywebtransport.datagram.broadcaster._STEP", 1)

    class Slow(Noting):
        def _hand_over(self, *arguments: Any) -> int:
            clock.work(seconds)
            return super()._hand_over(*arguments)

    async with several(serving, client_config, 6) as (servers, _), Slow() as broadcaster:
        for session in servers:
            await broadcaster.add_transport(session.datagrams)
        await asyncio.sleep(0)
        broadcasting = asyncio.create_task(broadcaster.broadcast(b"x"))
        await asyncio.sleep(0)
        # The first question begins the slice, after the first step.
        assert len(broadcaster.order) in (first, first + 1)
        assert broadcasting.done() == (len(broadcaster.order) == 6)
        assert await broadcasting == 6


async def test_a_closed_broadcaster_refuses_what_waits_for_the_next_turn(
    pair: PairOfSessions,
) -> None:
    async with pair() as (_, server):
        broadcaster = DatagramBroadcaster()
        await broadcaster.add_transport(server.datagrams)
        assert await broadcaster.broadcast(b"x") == 1
        waiting = broadcaster.broadcast(b"y")
        assert waiting.send(None) is None  # in the same turn as the first one
        await broadcaster.close()
        with pytest.raises(DatagramError, match="the broadcaster is closed"):
            waiting.send(None)
        assert broadcaster.stats["broadcasts"] == 1


async def test_a_cancelled_broadcast_was_handed_over(
    serving: Serving, client_config: ClientFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of a long one; here the slice of a turn is no time."""
    monkeypatch.setattr("pywebtransport.datagram.broadcaster._STEP", 1)
    monkeypatch.setattr("pywebtransport.utils._turns._SLICE_NS", 0)
    async with several(serving, client_config, 3) as (servers, clients), Noting() as broadcaster:
        for session in servers:
            await broadcaster.add_transport(session.datagrams)
        assert await cancelled_at(lambda: broadcaster.broadcast(b"x"), 0)
        assert len(broadcaster.order) == broadcaster.stats["sent"] == 2
        assert await broadcaster.broadcast(b"y") == 3
        got = [await session.datagrams.receive() for session in clients]
        assert sorted(got) == [b"x", b"x", b"y"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"priority": 3}, "priority must be 0 to 2, got 3"),
        ({"ttl": 0}, "ttl must be > 0 seconds, got 0"),
    ],
)
async def test_bad_arguments_are_refused(arguments: dict[str, int], message: str) -> None:
    async with DatagramBroadcaster() as broadcaster:
        with pytest.raises(DatagramError, match=message):
            await broadcaster.broadcast(b"x", **arguments)
        assert await broadcaster.broadcast(b"to nobody") == 0


async def test_the_example_shows_its_ticks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example = load(EXAMPLES / "broadcast.py")
    certfile, keyfile = generate_self_signed_cert(hostname="localhost", output_dir=str(tmp_path))
    async with (
        DatagramBroadcaster() as broadcaster,
        example.make_app(certfile, keyfile, broadcaster) as app,
    ):
        await app.listen(host="localhost", port=0)
        ticking = asyncio.create_task(example.tick(broadcaster))
        url = f"https://localhost:{app.server.local_address[1]}/ticker"
        await example.watch(url, certificate_hash(certfile).hex(), count=2)
        ticking.cancel()
        await asyncio.wait({ticking})
    first, second = map(float, capsys.readouterr().out.split())
    assert first < second


@pytest.mark.limit(120)
async def test_a_thousand_sessions(
    serving: Serving,
    certs: Certificates,
    loop_name: str,
    record_figures: Callable[..., None],
) -> None:
    """Each datagram is handed over or counted, and arrives unless QUIC lost it.

    At most ``AHEAD`` broadcasts are on their way at a time: the receivers share one process, and
    one UDP socket that would overflow.
    """
    sessions: Sessions = []
    all_there = asyncio.get_running_loop().create_future()

    async def accepted(session: WebTransportSession) -> None:
        sessions.append(session)
        if len(sessions) == SESSIONS:
            all_there.set_result(None)

    async with serving(accepted, max_connections=2 * SESSIONS) as served:
        before = Memory.now()
        connecting = time.perf_counter()
        receivers = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.support.broadcast_receivers"),
            *(served.url("/"), certs.authority.certfile, str(SESSIONS), loop_name),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        assert receivers.stdout is not None
        assert await receivers.stdout.readline() == b"ready\n"
        await all_there
        connecting = time.perf_counter() - connecting
        after = Memory.now()

        async with DatagramBroadcaster() as broadcaster:
            for session in sessions:
                await broadcaster.add_transport(session.datagrams)
            first = sessions[0].datagrams
            started, cpu, handing = time.perf_counter(), time.process_time(), 0.0
            for number in range(BROADCASTS):
                await until(lambda least=number - AHEAD: fates(first) > least)
                data = number.to_bytes(4, "big") + bytes(SIZE - 4)
                began = time.process_time()
                assert await broadcaster.broadcast(data) <= SESSIONS
                handing += time.process_time() - began
            # Until the last one has left its queue.
            await until(lambda: not any(s.datagrams.get_send_buffer_size() for s in sessions))
            elapsed, cpu = time.perf_counter() - started, time.process_time() - cpu
            totals = broadcaster.stats
            await until(lambda: settled(sessions))
        figures = [session.datagrams.stats for session in sessions]
        for session in sessions:
            await session.close()
        report = json.loads(await receivers.stdout.read())
        assert await receivers.wait() == 0

    sent = sum(figure["datagrams_sent"] for figure in figures)
    acknowledged = sum(figure["datagrams_acknowledged"] for figure in figures)
    received = sum(int(count) * times for count, times in report["received"].items())
    assert totals["sent"] + totals["dropped"] == SESSIONS * BROADCASTS
    assert totals["sent"] == sent
    assert totals["too_large"] == totals["errors"] == totals["removed"] == 0
    assert sum(report["received"].values()) == SESSIONS
    assert acknowledged <= received <= sent
    assert report["wrong"] == 0
    record_figures(
        sessions=SESSIONS,
        broadcasts=BROADCASTS,
        bytes=SIZE,
        broadcasts_per_second=round(BROADCASTS / elapsed),
        deliveries_per_second=round(received / elapsed),
        server_cpu_seconds=round(cpu, 2),
        of_it_in_broadcast=round(handing, 2),
        cpu_us_per_datagram=round(cpu / sent * 1e6, 1),
        delivered=received,
        dropped=totals["dropped"],
        lost=sent - received,
        server_heap_kib_per_session=round((after.heap - before.heap) / SESSIONS / 1024, 1),
        server_python_blocks_per_session=round((after.blocks - before.blocks) / SESSIONS),
        connections_per_second=round(SESSIONS / connecting),
    )


def fates(transport: WebTransportDatagramTransport) -> int:
    """Datagrams that were sent and of which it is known whether they arrived."""
    stats = transport.refresh_stats()
    return stats.datagrams_acknowledged + stats.datagrams_lost


def settled(sessions: Sessions) -> bool:
    """What became of every datagram is known."""
    return all(fates(session.datagrams) == session.datagrams.datagrams_sent for session in sessions)
