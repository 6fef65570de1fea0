"""Reliable datagrams through real sockets: loss, limits, hostile peers, ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pywebtransport import ClientConfig, DatagramReliabilityLayer, WebTransportClient
from pywebtransport.datagram._reliable_frames import encode_ack, encode_data
from pywebtransport.exceptions import (
    DatagramError,
    DatagramTooLargeError,
    SessionClosedError,
    TimeoutError,
)
from pywebtransport.session import WebTransportSession
from tests.support.endpoints import ClientFactory, PairOfSessions, Serving
from tests.support.steps import cancelled_at, until

from .relay import Faults, Relay

LOSSY = Faults(drop=0.2, duplicate=0.1, reorder=0.1, delay=0.001)
COUNT = 150


@asynccontextmanager
async def over_relay(
    serving: Serving, config: ClientConfig, seed: int
) -> AsyncIterator[tuple[WebTransportSession, WebTransportSession, Relay]]:
    """Both ends of a session through a relay that is lossy from now on."""
    arrived: asyncio.Future[WebTransportSession] = asyncio.get_running_loop().create_future()

    async def accepted(session: WebTransportSession) -> None:
        arrived.set_result(session)

    async with (
        serving(accepted) as served,
        Relay(("127.0.0.1", served.port), seed=seed, up=Faults()) as relay,
        WebTransportClient(config=config) as client,
    ):
        session = await client.connect(f"https://127.0.0.1:{relay.port}/")
        server = await arrived
        relay.change(LOSSY)
        yield session, server, relay
        relay.change(Faults())


def numbered(count: int, size: int = 300) -> list[bytes]:
    return [number.to_bytes(4, "big") * (size // 4) for number in range(count)]


async def send_all(layer: DatagramReliabilityLayer, payloads: list[bytes]) -> None:
    for payload in payloads:
        await layer.send(payload)
    await layer.flush()


async def receive_all(layer: DatagramReliabilityLayer, count: int) -> list[bytes]:
    return [await layer.receive() for _ in range(count)]


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
@pytest.mark.parametrize("seed", [1, 20])
async def test_both_directions_at_20_percent_loss(
    serving: Serving, client_config: ClientFactory, seed: int, ordered: bool
) -> None:
    payloads = numbered(COUNT)
    async with (
        over_relay(serving, client_config(), seed) as (client, server, relay),
        DatagramReliabilityLayer(client.datagrams, ordered=ordered, max_retries=10) as near,
        DatagramReliabilityLayer(server.datagrams, ordered=ordered, max_retries=10) as far,
    ):
        _, there, _, back = await asyncio.gather(
            send_all(near, payloads),
            receive_all(far, COUNT),
            send_all(far, payloads),
            receive_all(near, COUNT),
        )
        for got in (there, back):
            assert (got if ordered else sorted(got)) == payloads
        assert relay.counts["up-dropped"] > 0
        assert near.stats["datagrams_acknowledged"] == COUNT
        assert near.stats["unacknowledged"] == near.stats["bad_frames"] == 0
        assert far.stats["datagrams_received"] == COUNT
        assert near.stats["retransmissions"] + far.stats["retransmissions"] > 0
        assert near.stats["rtt"] > 0


async def test_a_clean_path(pair: PairOfSessions) -> None:
    async with pair() as (client, server):
        near = DatagramReliabilityLayer.create(datagram_transport=client.datagrams)
        far = DatagramReliabilityLayer(server.datagrams)
        async with near, far:
            await near.send(data="täxt")
            await near.send(b"")
            await near.send(bytearray(near.max_datagram_size))
            assert await far.receive() == "täxt".encode()
            assert await far.receive(timeout=30) == b""
            assert await far.receive() == bytes(near.max_datagram_size)
            await near.flush(timeout=30)
            size = near.max_datagram_size + 1
            with pytest.raises(DatagramTooLargeError) as caught:
                await near.send(bytes(size))
            assert caught.value.max_size == size - 1
        assert near.is_closed
        assert client.datagrams.outgoing_high_water_mark == 4096


async def test_a_sender_waits_for_the_reader(pair: PairOfSessions) -> None:
    """Window of the sender, window of the receiver, and no more."""
    async with (
        pair() as (client, server),
        DatagramReliabilityLayer(client.datagrams, window=32) as near,
        DatagramReliabilityLayer(server.datagrams, window=32) as far,
    ):
        sending = asyncio.create_task(send_all(near, numbered(200)))
        await until(lambda: far.stats["waiting"] == 32)
        await until(lambda: near.stats["unacknowledged"] == 0)
        assert near.stats["datagrams_sent"] == 32
        assert not sending.done()
        assert await receive_all(far, 200) == numbered(200)
        await sending
        assert far.stats["beyond_window"] == 0


async def test_senders_that_wait_take_turns(pair: PairOfSessions) -> None:
    count = 1000
    async with (
        pair() as (client, server),
        DatagramReliabilityLayer(client.datagrams, window=32) as near,
        DatagramReliabilityLayer(server.datagrams, window=32) as far,
    ):
        sent = [0, 0, 0]

        async def send(number: int) -> None:
            for _ in range(count):
                await near.send(bytes([number]))
                sent[number] += 1

        senders = [asyncio.create_task(send(number)) for number in range(len(sent))]
        receiver = asyncio.create_task(receive_all(far, count * len(sent)))
        await asyncio.wait(senders, return_when=asyncio.FIRST_COMPLETED)
        assert min(sent) > count // 2
        await asyncio.gather(*senders)
        got = await receiver
        assert [got.count(bytes([number])) for number in range(len(sent))] == [count] * len(sent)


async def test_receiving_times_out_and_loses_nothing(pair: PairOfSessions) -> None:
    async with (
        pair() as (client, server),
        DatagramReliabilityLayer(client.datagrams) as near,
        DatagramReliabilityLayer(server.datagrams) as far,
    ):
        with pytest.raises(TimeoutError, match=r"timeout=0\.01"):
            await far.receive(timeout=0.01)
        await near.send(b"x")
        assert await far.receive() == b"x"


async def test_a_silent_peer_ends_everybody_who_waits(pair: PairOfSessions) -> None:
    async with pair() as (client, _):
        layer = DatagramReliabilityLayer(client.datagrams, ack_timeout=0.02, max_retries=1)
        await layer.send(b"nobody acknowledges this")
        receiving = asyncio.create_task(layer.receive())
        with pytest.raises(DatagramError, match=r"acknowledged nothing for 0\.04 s: 1 datagrams"):
            await layer.flush()
        with pytest.raises(DatagramError, match="may not have arrived") as caught:
            await receiving
        assert caught.value.details["unacknowledged"] == 1
        with pytest.raises(DatagramError, match="acknowledged nothing"):
            await layer.send(b"x")
        assert layer.is_closed
        await layer.close()
        assert client.datagrams.outgoing_high_water_mark == 4096


async def test_closing_gives_up_after_its_timeout(pair: PairOfSessions) -> None:
    async with pair() as (client, _):
        layer = DatagramReliabilityLayer(client.datagrams, close_timeout=0.01)
        await layer.send(b"nobody acknowledges this")
        with pytest.raises(TimeoutError, match="1 datagrams not acknowledged"):
            await layer.flush(timeout=0.01)
        await layer.close()
        assert layer.stats["unacknowledged"] == 1
        for attempt in (layer.receive, layer.flush, lambda: layer.send(b"x")):
            with pytest.raises(DatagramError, match="the reliability layer is closed"):
                await attempt()
        await layer.close()


async def test_an_exception_in_the_block_does_not_wait(pair: PairOfSessions) -> None:
    async with pair() as (client, _):
        layer = DatagramReliabilityLayer(client.datagrams, close_timeout=1000)

        async def fail() -> None:
            async with layer:
                await layer.send(b"nobody acknowledges this")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        assert layer.is_closed


async def test_the_end_of_the_session_ends_the_layer(pair: PairOfSessions) -> None:
    async with pair() as (client, server):
        near = DatagramReliabilityLayer(client.datagrams)
        far = DatagramReliabilityLayer(server.datagrams)
        await near.send(b"last words")
        async with far:
            await near.flush()
            waiting = asyncio.create_task(near.receive())
            await until(lambda: far.stats["waiting"] == 1)
            await client.close()
            await server.wait_closed()
            with pytest.raises(SessionClosedError):
                await waiting
            assert await far.receive() == b"last words"
            with pytest.raises(SessionClosedError):
                await far.receive()
        with pytest.raises(SessionClosedError):
            await near.send(b"x")
        await near.close()


async def test_hostile_frames_are_counted_and_dropped(pair: PairOfSessions) -> None:
    """The peer does not use the layer, and sends arbitrary datagrams."""
    async with (
        pair() as (client, server),
        DatagramReliabilityLayer(server.datagrams, window=32, close_timeout=0) as layer,
    ):
        peer = client.datagrams
        far_away = encode_data(1 << 61, b"x")
        bad = [b"", b"plain", encode_ack(1, 32, 0), encode_ack(0, 32, 1), b"\x12" + bytes(400)]
        for _ in range(50):
            await peer.send_multiple([*bad, far_away, encode_data(0, b"once")])
        for number in range(2, 100):
            await peer.send(encode_data(number, b"behind a gap"))
        await peer.send_multiple([encode_data(1, b"now"), encode_data(31, b"again")])
        beating = peer.start_heartbeat(interval=1000)
        await until(lambda: layer.stats["duplicates"] == 50)
        got = await receive_all(layer, 32)
        assert got == [b"once", b"now"] + [b"behind a gap"] * 30
        stats = layer.stats
        assert stats["bad_frames"] == 50 * len(bad)
        assert stats["beyond_window"] == 50 + 68
        assert stats["datagrams_received"] == 32
        beating.cancel()
        # Acknowledgements that came are those of the layer.
        assert all(frame[0] == 0x12 for frame in await peer.receive_many())


async def test_cancelled_calls_lose_nothing(pair: PairOfSessions) -> None:
    async with (
        pair() as (client, server),
        DatagramReliabilityLayer(client.datagrams, window=32) as near,
        DatagramReliabilityLayer(server.datagrams, window=32) as far,
    ):
        sent = 0

        async def fill() -> None:
            nonlocal sent
            while True:
                await near.send(sent.to_bytes(4, "big"))
                sent += 1

        assert await cancelled_at(far.receive, 0)
        got: list[bytes] = []
        for _ in range(4):
            assert await cancelled_at(fill, 0)
            got += await receive_all(far, sent - len(got))
        assert got == [number.to_bytes(4, "big") for number in range(sent)]
        assert await cancelled_at(far.receive, 0)


async def test_closing_can_be_cancelled(pair: PairOfSessions) -> None:
    async with pair() as (client, _):
        layer = DatagramReliabilityLayer(client.datagrams, close_timeout=1000)
        await layer.send(b"nobody acknowledges this")
        assert await cancelled_at(layer.close, 0)
        assert layer.is_closed


async def test_a_full_outgoing_queue_only_delays(pair: PairOfSessions) -> None:
    """The transport refuses frames; the layer continues once there is room."""
    async with (
        pair(client={"datagram_queue_size": 2}) as (client, server),
        DatagramReliabilityLayer(client.datagrams) as near,
        DatagramReliabilityLayer(server.datagrams) as far,
    ):
        _, got = await asyncio.gather(send_all(near, numbered(100)), receive_all(far, 100))
        assert got == numbered(100)


@pytest.mark.parametrize("error", ["narrow", "other"])
async def test_a_frame_that_cannot_be_sent_ends_the_layer(
    pair: PairOfSessions, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the path became narrower after the datagram was accepted."""
    async with pair() as (client, server):
        layer = DatagramReliabilityLayer(client.datagrams, close_timeout=0)
        receiving = asyncio.create_task(layer.receive())
        await asyncio.sleep(0)
        expected: type[DatagramError] = DatagramTooLargeError
        if error == "narrow":
            layer._sender.submit(bytes(100_000))
            layer._pump()
        else:

            async def fail(max_count: int) -> list[bytes]:
                raise DatagramError("out of memory")

            expected = DatagramError
            monkeypatch.setattr(
                "pywebtransport.WebTransportDatagramTransport.receive_many", lambda *_: fail(1)
            )
            await server.datagrams.send(b"whatever")
        with pytest.raises(expected) as caught:
            await receiving
        assert type(caught.value) is expected
        assert layer.is_closed
        await layer.close()


async def test_closing_the_transport_ends_the_layer(pair: PairOfSessions) -> None:
    async with pair() as (client, _):
        layer = DatagramReliabilityLayer(client.datagrams)
        receiving = asyncio.create_task(layer.receive())
        await asyncio.sleep(0)
        await client.datagrams.close()
        with pytest.raises(DatagramError, match="were closed"):
            await receiving
        await layer.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ack_timeout": 0}, "ack_timeout must be > 0 seconds, got 0"),
        ({"ack_timeout": float("nan")}, "ack_timeout must be > 0 seconds, got nan"),
        ({"max_retries": -1}, "max_retries must be >= 0, got -1"),
        ({"window": 31}, "window must be 32 to 1024, got 31"),
        ({"window": 1025}, "window must be 32 to 1024, got 1025"),
        ({"close_timeout": -1}, "close_timeout must be >= 0 seconds, got -1"),
    ],
)
async def test_bad_arguments_are_refused(
    pair: PairOfSessions, arguments: dict[str, float], message: str
) -> None:
    async with pair() as (client, _):
        with pytest.raises(DatagramError, match=message):
            DatagramReliabilityLayer(client.datagrams, **arguments)  # type: ignore[arg-type]
