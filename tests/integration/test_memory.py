"""What peers make this end hold is bounded in bytes, whatever they send."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from pywebtransport import WebTransportClient, WebTransportSession
from pywebtransport._quic import unread_bytes
from pywebtransport.exceptions import SessionRejectedError
from pywebtransport.h3._capsules import encode_capsule
from pywebtransport.h3._frames import encode_frame
from pywebtransport.utils._budget import PROCESS
from tests.support.endpoints import ClientFactory, PairOfSessions, Serving
from tests.support.steps import until

KIB = 1024
MIB = 1024 * KIB


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Whatever was taken of the process's budget was given back."""
    before, limit = PROCESS.used, PROCESS.limit
    yield
    PROCESS.limit = limit
    assert PROCESS.used == before


async def send_frames(session: WebTransportSession, data: bytes, times: int) -> None:
    """Bytes on the CONNECT stream of a session, past the library."""
    stream = session._h3.stream
    for _ in range(times):
        if session.is_closed or stream.write(data) < 300_000:
            continue
        await until(lambda: session.is_closed or stream.queued <= 100_000)
    session._connection.flush_nowait()


async def test_datagrams_in_capsules_are_bounded_in_bytes(pair: PairOfSessions) -> None:
    count, size = 400, 65_000
    async with pair() as (near, far):
        data = encode_frame(0, encode_capsule(0, bytes(size)))
        await send_frames(near, data, count)
        await until(lambda: far.datagrams.datagrams_received == count)
        limit = far._config.max_session_memory // 4
        kept = far.datagrams.get_receive_buffer_size()
        assert limit - size < kept * size <= limit
        assert limit <= far.memory_budget.used + size <= limit + size + 4 * KIB
        assert far.datagrams.stats["receive_drops"] == count - kept
        assert (await far.debug_state())["memory"]["used"] == far.memory_budget.used
        await far.datagrams.clear_receive_buffer()
        assert far.memory_budget.used <= 20 * KIB


async def test_sessions_of_a_connection_share_its_budget(
    serving: Serving, client_config: ClientFactory
) -> None:
    """Four sessions that read nothing hold no more than their connection may."""
    held: list[WebTransportSession] = []

    async def keep(session: WebTransportSession) -> None:
        held.append(session)
        await session.wait_closed()

    limit = 300 * KIB
    config: dict[str, Any] = {"max_connection_memory": limit, "max_session_memory": 4 * limit}
    async with (
        serving(keep, **config) as served,
        WebTransportClient(config=client_config(allow_pooling=True)) as client,
    ):
        sessions = [await client.connect(served.url("/x")) for _ in range(4)]
        assert len({session._connection for session in sessions}) == 1
        for session in sessions:
            await send_frames(session, encode_frame(0, encode_capsule(0, bytes(9000))), 30)
        await until(lambda: sum(s.datagrams.datagrams_received for s in held) == 120)
        connection = held[0]._connection
        assert connection.memory_budget.used <= limit
        assert connection.memory_budget.refused > 0
        assert sum(s.datagrams.get_receive_buffer_size() * 9000 for s in held) > limit // 2
        assert connection.get_summary()["memory"]["peak"] <= limit


async def test_request_headers_are_held_within_the_budget(
    serving: Serving, client_config: ClientFactory
) -> None:
    """Requests that a middleware keeps waiting, each with 40 KiB of fields."""
    asked = asyncio.Event()

    async def wait(*, session: WebTransportSession) -> bool:
        await asked.wait()
        return True

    async def keep(session: WebTransportSession) -> None:
        await session.wait_closed()

    async with (
        serving(keep, middleware=[wait], max_connection_memory=100 * KIB) as served,
        WebTransportClient(config=client_config(allow_pooling=True)) as client,
    ):
        headers = {"x": "x" * 40_000}
        opening = [
            asyncio.create_task(client.connect(served.url("/x"), headers=headers)) for _ in "1234"
        ]
        await asyncio.wait(opening, return_when=asyncio.FIRST_COMPLETED)
        asked.set()
        ends = await asyncio.gather(*opening, return_exceptions=True)
        refused = [end for end in ends if isinstance(end, SessionRejectedError)]
        assert {error.status_code for error in refused} == {503}
        assert len(refused) == 2


async def test_a_full_process_closes_the_connection_that_holds_the_most(
    serving: Serving, client_config: ClientFactory
) -> None:
    """And takes the one that is new."""

    async def keep(session: WebTransportSession) -> None:
        await session.wait_closed()

    async with (
        serving(keep) as served,
        WebTransportClient(config=client_config()) as client,
        WebTransportClient(config=client_config(allow_pooling=False)) as other,
    ):
        session = await client.connect(served.url("/x"))
        stream = await session.create_unidirectional_stream()
        await stream.write(bytes(MIB), wait_flush=False)
        await until(lambda: unread_bytes() > 200 * KIB)
        PROCESS.limit, refused = 128 * KIB, PROCESS.refused
        await other.connect(served.url("/x"))
        await session.wait_closed()
        error = session._connection.error
        assert error is not None
        assert error.error_code == 0x107
        assert PROCESS.refused == refused
        await until(lambda: unread_bytes() == 0)


@pytest.mark.parametrize("kind", ["capsules", "frames"])
async def test_a_peer_that_sends_nothing_but_headers_is_closed(
    serving: Serving, client_config: ClientFactory, kind: str
) -> None:
    data = {"capsules": encode_frame(0, b"\x17\0" * 30_000), "frames": b"\x21\0" * 30_000}[kind]

    async def keep(session: WebTransportSession) -> None:
        await session.wait_closed()

    async with (
        serving(keep) as served,
        WebTransportClient(config=client_config()) as hostile,
        WebTransportClient(config=client_config()) as honest,
    ):
        other = await honest.connect(served.url("/x"))
        session = await hostile.connect(served.url("/x"))
        await send_frames(session, data, 100)
        await session.wait_closed()
        error = session._connection.error
        assert error is not None
        assert error.error_code == 0x107
        assert not other.is_closed
