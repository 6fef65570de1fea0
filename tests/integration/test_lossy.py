"""Two processes with a relay between them that loses, delays, reorders and duplicates packets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from pywebtransport import ClientConfig, WebTransportClient
from pywebtransport.session import WebTransportSession
from pywebtransport.types import SessionCloseInfo
from tests.support.certificates import Certificates
from tests.support.echo_process import CLOSE_CODE, CLOSE_REASON
from tests.support.endpoints import ClientFactory
from tests.support.payload import digest, payload
from tests.support.processes import ServerProcess, server_process
from tests.support.steps import until

from .relay import Faults, Relay

LOSSY = Faults(drop=0.05, duplicate=0.02, reorder=0.05, delay=0.001)
SEEDS = (1, 20, 300)
SIZE = 512 * 1024


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def server(request: pytest.FixtureRequest, certs: Certificates) -> Iterator[ServerProcess]:
    """A server process; its own loop is of either kind."""
    pair = certs.server
    with server_process(
        "-m", "tests.support.echo_process", pair.certfile, pair.keyfile, request.param
    ) as process:
        yield process


@asynccontextmanager
async def over_relay(
    server: ServerProcess, config: ClientConfig, seed: int, path: str, faults: Faults = LOSSY
) -> AsyncIterator[tuple[WebTransportSession, Relay]]:
    """A session through a relay."""
    async with (
        Relay(("127.0.0.1", server.port), seed=seed, up=faults) as relay,
        WebTransportClient(config=config) as client,
    ):
        session = await client.connect(f"https://127.0.0.1:{relay.port}{path}")
        yield session, relay


@pytest.mark.parametrize("seed", SEEDS)
async def test_upload_is_byte_exact_at_5_percent_loss(
    server: ServerProcess, client_config: ClientFactory, seed: int
) -> None:
    data = payload(SIZE, seed)
    async with over_relay(server, client_config(), seed, "/sink") as (session, relay):
        stream = await session.create_bidirectional_stream()
        await stream.write_all(data)
        answer = await stream.read_all()
    assert answer == len(data).to_bytes(8, "big") + digest(data)
    assert relay.counts["up-dropped"] > 0


@pytest.mark.parametrize("seed", SEEDS)
async def test_download_is_byte_exact_at_5_percent_loss(
    server: ServerProcess, client_config: ClientFactory, seed: int
) -> None:
    async with over_relay(server, client_config(), seed, "/source") as (session, relay):
        stream = await session.create_bidirectional_stream()
        await stream.write_all(SIZE.to_bytes(8, "big"))
        data = await stream.read_all()
    assert digest(data) == digest(payload(SIZE))
    assert relay.counts["down-dropped"] > 0


@pytest.mark.loops("asyncio")
async def test_both_directions_at_once_over_several_streams(
    server: ServerProcess, client_config: ClientFactory
) -> None:
    async def echo(session: WebTransportSession, number: int) -> None:
        data = payload(64 * 1024, number)
        stream = await session.create_bidirectional_stream()
        async with asyncio.TaskGroup() as group:
            group.create_task(stream.write_all(data))
            received = group.create_task(stream.read_all())
        assert received.result() == data

    async with (
        over_relay(server, client_config(), 7, "/echo") as (session, _),
        asyncio.TaskGroup() as group,
    ):
        for number in range(12):
            group.create_task(echo(session, number))


@pytest.mark.loops("uvloop")
async def test_unidirectional_streams_there_and_back(
    server: ServerProcess, client_config: ClientFactory
) -> None:
    sent = sorted(payload(2000 + number, number) for number in range(40))
    async with over_relay(server, client_config(), 8, "/echo") as (session, _):
        for data in sent:
            stream = await session.create_unidirectional_stream()
            await stream.write_all(data)
        received = []
        async for back in session.incoming_unidirectional_streams():
            received.append(await back.read_all())
            if len(received) == len(sent):
                break
    assert sorted(received) == sent


async def test_code_and_reason_of_the_server_survive_loss(
    server: ServerProcess, client_config: ClientFactory
) -> None:
    faults = Faults(drop=0.2, duplicate=0.1, reorder=0.2)
    for seed in range(5):
        async with over_relay(server, client_config(), seed, "/close", faults) as (session, _):
            stream = await session.create_unidirectional_stream()
            await stream.write_all(b"close, please")
            info = await session.wait_closed()
        assert info == SessionCloseInfo(code=CLOSE_CODE, reason=CLOSE_REASON, remote=True)


async def test_datagrams_that_arrive_are_whole_and_counts_add_up(
    server: ServerProcess, client_config: ClientFactory
) -> None:
    async with over_relay(server, client_config(), 9, "/echo") as (session, _):
        sent = {number.to_bytes(4, "big") * 250 for number in range(500)}
        for data in sent:
            await session.datagrams.send(data)
        settled = ("datagrams_acknowledged", "datagrams_lost", "datagrams_expired", "send_drops")
        await until(lambda: sum(session.datagrams.stats[name] for name in settled) == len(sent))
        # A stream that comes back behind them: what survived is here, or nearly.
        stream = await session.create_bidirectional_stream()
        await stream.write_all(b"last")
        assert await stream.read_all() == b"last"
        received = []
        while (data := await session.datagrams.try_receive()) is not None:
            received.append(data)
        stats = session.datagrams.stats
    assert set(received) <= sent
    assert received
    assert stats["datagrams_sent"] + stats["datagrams_expired"] + stats["send_drops"] == len(sent)
    assert stats["datagrams_acknowledged"] + stats["datagrams_lost"] == stats["datagrams_sent"]
    assert stats["datagrams_lost"] > 0


async def test_rebinding_of_the_clients_address_in_the_middle_of_a_transfer(
    server: ServerProcess, client_config: ClientFactory
) -> None:
    data = payload(SIZE)
    async with over_relay(server, client_config(), 10, "/sink", Faults(drop=0.01)) as (
        session,
        relay,
    ):
        stream = await session.create_bidirectional_stream()
        half = len(data) // 2
        await stream.write(data[:half])
        await stream.flush()
        await relay.rebind()
        await stream.write_all(data[half:])
        answer = await stream.read_all()
    assert answer == len(data).to_bytes(8, "big") + digest(data)


async def test_same_seed_gives_the_same_fates() -> None:
    class Sent:
        def __init__(self) -> None:
            self.packets: list[bytes] = []

        def is_closing(self) -> bool:
            return False

        def sendto(self, data: bytes, addr: object = None) -> None:
            self.packets.append(data)

    def fates(seed: int) -> list[bytes]:
        sent = Sent()
        relay = Relay(("127.0.0.1", 9), seed=seed, up=Faults(drop=0.3))
        relay._front = sent  # type: ignore[assignment]
        for number in range(200):
            relay.from_server(bytes([number]), ("127.0.0.1", 1))
        return sent.packets

    assert fates(5) == fates(5)
    assert fates(5) != fates(6)
    assert 100 < len(fates(5)) < 180
