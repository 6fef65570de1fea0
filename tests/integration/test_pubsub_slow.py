"""Slow subscribers and hostile peers: bounded, counted, and no burden for others."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from pywebtransport import WebTransportClient
from pywebtransport.exceptions import (
    SerializationError,
    SessionClosedError,
    StreamResetError,
)
from pywebtransport.pubsub import (
    Broker,
    PubSubError,
    PubSubErrorCode,
    PubSubManager,
    SlowSubscriberError,
)
from pywebtransport.pubsub._messages import REGISTRY, Dropped, Opening, PubSubMessage
from pywebtransport.rpc import InvalidParamsError, RpcError, RpcManager
from pywebtransport.serializer import JSONSerializer
from pywebtransport.session import WebTransportSession
from pywebtransport.stream import StructuredStream, WebTransportReceiveStream
from tests.support.endpoints import ClientFactory, PairOfSessions, Serving
from tests.support.steps import take_unidirectional, until

pytestmark = pytest.mark.loops("virtual")

SIZE = 50_000
WRITE_BUFFER = 65_536
STREAM_HEADER = 3  # type 0x54 in two bytes, session ID 0 in one
Linked = Callable[..., AbstractAsyncContextManager[tuple[Broker, WebTransportSession]]]


def frame(type_id: int, value: Any) -> bytes:
    """A message on a delivery stream."""
    payload = json.dumps(value).encode()
    return struct.pack("!HI", type_id, len(payload)) + payload


@pytest.fixture
def linked(serving: Serving, client_config: ClientFactory) -> Linked:
    """A broker that is served and one session with it, whose windows are small."""

    @asynccontextmanager
    async def make(
        server: dict[str, Any] | None = None, **options: Any
    ) -> AsyncIterator[tuple[Broker, WebTransportSession]]:
        small = {"max_write_buffer_size": WRITE_BUFFER, **(server or {})}
        async with (
            Broker(**options) as broker,
            serving(broker.serve, **small) as served,
            WebTransportClient(config=client_config()) as client,
            client.connect(served.url()) as session,
        ):
            yield broker, session

    return make


class Raw:
    """A subscriber that reads its stream only when it is told to.

    Attributes:
        delivery: The subscription at the broker.
        dropped: How many messages were lost, as far as the broker told.
    """

    def __init__(
        self, broker: Broker, session: WebTransportSession, stream: WebTransportReceiveStream
    ) -> None:
        (client,) = broker._clients
        (self.delivery,) = client.subscriptions.values()
        self.dropped = 0
        self._broker = broker
        assert session.connection is not None
        self._window = session.connection.config.stream_window
        self._structured: StructuredStream[Any] = StructuredStream(
            stream, JSONSerializer(), REGISTRY
        )

    @property
    def stuck(self) -> bool:
        """The window of the stream is used up: until it is read, nothing leaves the broker."""
        stream = self.delivery._stream
        assert stream is not None
        sent = stream.stats.bytes_sent - stream.write_buffer_size
        return sent + STREAM_HEADER == self._window

    async def read(self, last: int) -> list[int]:
        """Numbers of the messages up to ``last``."""
        numbers: list[int] = []
        while last not in numbers:
            match await self._structured.receive_obj():
                case Opening(subscription=number):
                    assert number == 1
                case Dropped(total=total):
                    self.dropped = total
                case PubSubMessage(topic="news", data=data):
                    numbers.append(data[0])
        return numbers

    async def fill(self, *, beyond: int) -> int:
        """Publish numbered messages until ``beyond`` were dropped; returns how many there are.

        The window of the stream fills first, one message after the other, then the queue.
        """
        queue, count = self.delivery.queue, 0
        while not self.stuck:
            await self._broker.publish("news", [count, "x" * SIZE])
            count += 1
            await until(lambda: self.stuck or not queue)
        while queue.dropped < beyond and not self.delivery.ended:
            await self._broker.publish("news", [count, "x" * SIZE])
            count += 1
            assert len(queue) <= queue.max_messages
        return count


async def subscribe_raw(broker: Broker, rpc: RpcManager, *options: Any) -> Raw:
    """Subscribe to "news" with these further parameters."""
    await rpc.call("pubsub.subscribe", 1, "news", *options)
    return Raw(broker, rpc.session, await take_unidirectional(rpc.session))


# ------------------------------------------------------------------ queue of the broker


async def test_the_oldest_messages_are_dropped_and_counted(linked: Linked) -> None:
    async with linked() as (broker, session), RpcManager(session) as rpc:
        raw = await subscribe_raw(broker, rpc, "drop_oldest", 5)
        queue = raw.delivery.queue
        assert queue.max_messages == 5
        count = await raw.fill(beyond=10)
        assert len(queue) == 5
        numbers = await raw.read(count - 1)
        assert numbers == sorted(numbers)
        assert set(range(count - 5, count)) <= set(numbers)  # the newest are there
        assert len(numbers) == count - queue.dropped
        assert raw.dropped == queue.dropped >= 10
        await broker.publish("news", [-1])
        assert await raw.read(-1) == [-1]
        assert broker.get_stats()["dropped"] == raw.dropped


async def test_the_newest_messages_are_dropped_and_counted(linked: Linked) -> None:
    async with linked() as (broker, session), RpcManager(session) as rpc:
        raw = await subscribe_raw(broker, rpc, "drop_newest", 5)
        count = await raw.fill(beyond=10)
        kept = count - raw.delivery.queue.dropped
        assert await raw.read(kept - 1) == list(range(kept))
        await broker.publish("news", [-1])
        assert await raw.read(-1) == [-1]
        assert raw.dropped == raw.delivery.queue.dropped == 10


async def test_a_subscription_that_wants_all_or_nothing_ends(linked: Linked) -> None:
    async with linked() as (broker, session), RpcManager(session) as rpc:
        raw = await subscribe_raw(broker, rpc, "close", 5)
        await raw.fill(beyond=1)
        queue = raw.delivery.queue
        assert (raw.delivery.ended, len(queue), queue.size, queue.dropped) == (True, 0, 0, 0)
        with pytest.raises(StreamResetError) as caught:
            await raw.read(-1)
        assert caught.value.error_code == PubSubErrorCode.TOO_SLOW
        await until(lambda: broker.get_stats()["patterns"] == 0)
        again = await subscribe_raw(broker, rpc, "close")
        await broker.publish("news", [1])
        assert await again.read(1) == [1]


async def test_bytes_that_wait_are_limited_too(linked: Linked) -> None:
    limit = 3 * SIZE + 1000
    async with (
        linked(max_queue_bytes=limit) as (broker, session),
        RpcManager(session) as rpc,
    ):
        raw = await subscribe_raw(broker, rpc)
        await raw.fill(beyond=3)
        assert len(raw.delivery.queue) == 3
        assert raw.delivery.queue.size <= limit


async def test_a_slow_subscriber_delays_nobody(
    serving: Serving, client_config: ClientFactory
) -> None:
    """A subscriber that keeps up gets everything, although the queue of another one overflows."""
    async with (
        Broker(max_queue=4) as broker,
        serving(broker.serve, max_write_buffer_size=WRITE_BUFFER) as served,
        WebTransportClient(config=client_config()) as client,
        client.connect(served.url()) as slow_session,
        RpcManager(slow_session) as rpc,
    ):
        slow = await subscribe_raw(broker, rpc)
        async with (
            client.connect(served.url()) as quick_session,
            PubSubManager(quick_session) as quick,
            quick.subscribe("news") as ahead,
        ):
            count = 0
            while slow.delivery.queue.dropped < 5:
                await quick.publish("news", [count, "x" * SIZE])
                assert (await anext(ahead)).data[0] == count
                count += 1
            assert ahead.dropped == 0
        numbers = await slow.read(count - 1)
        assert len(numbers) == count - slow.dropped


async def test_write_timeout_does_not_end_a_subscription(linked: Linked) -> None:
    """A subscriber may be slow for as long as it likes: its policy says what it loses."""
    async with (
        linked(server={"write_timeout": 0.01}) as (broker, session),
        RpcManager(session) as rpc,
    ):
        raw = await subscribe_raw(broker, rpc, "drop_oldest", 5)
        stream, queue = raw.delivery._stream, raw.delivery.queue
        assert stream is not None
        count = await raw.fill(beyond=3)
        await until(lambda: stream.stats.flow_control_errors >= 3)
        assert not raw.delivery.ended
        numbers = await raw.read(count - 1)
        assert len(numbers) == count - queue.dropped == count - 3


# ------------------------------------------------------------------ queue of the client


async def test_a_program_that_does_not_iterate_loses_the_oldest(linked: Linked) -> None:
    async with (
        linked() as (broker, session),
        PubSubManager(session) as pubsub,
        pubsub.subscribe("news", max_queue=5) as subscription,
    ):
        for number in range(20):
            await pubsub.publish("news", [number])
            await until(lambda n=number: subscription.dropped + subscription.waiting == n + 1)
        assert (subscription.waiting, subscription.dropped) == (5, 15)
        assert [(await anext(subscription)).data for _ in range(5)] == [[n] for n in range(15, 20)]
        assert broker.get_stats()["dropped"] == 0


async def test_a_program_that_does_not_iterate_loses_the_newest(linked: Linked) -> None:
    async with (
        linked() as (_, session),
        PubSubManager(session) as pubsub,
        pubsub.subscribe("news", max_queue=5, policy="drop_newest") as subscription,
    ):
        for number in range(20):
            await pubsub.publish("news", [number])
        await until(lambda: subscription.dropped == 15)
        assert [(await anext(subscription)).data for _ in range(5)] == [[n] for n in range(5)]


async def test_a_program_that_does_not_iterate_is_told_the_end(linked: Linked) -> None:
    async with (
        linked() as (broker, session),
        PubSubManager(session) as pubsub,
    ):
        subscription = await pubsub.subscribe("news", policy="close", max_queue=5)
        for number in range(6):
            await pubsub.publish("news", [number])
        await until(lambda: subscription.is_closed)
        assert [(await anext(subscription)).data for _ in range(5)] == [[n] for n in range(5)]
        with pytest.raises(SlowSubscriberError) as caught:
            await anext(subscription)
        assert (caught.value.topic, caught.value.remote) == ("news", False)
        with pytest.raises(StopAsyncIteration):
            await anext(subscription)
        await until(lambda: broker.get_stats()["patterns"] == 0)


async def test_the_broker_tells_the_client_what_it_dropped(linked: Linked) -> None:
    async with (
        linked(max_queue_bytes=1000) as (broker, session),
        PubSubManager(session) as pubsub,
        pubsub.subscribe("news") as subscription,
    ):
        await broker.publish("news", "x" * 2000)  # larger than all the room there is
        await broker.publish("news", "fits")
        assert (await anext(subscription)).data == "fits"
        assert subscription.dropped == 1


async def test_a_topic_may_be_silent_for_longer_than_read_timeout(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with (
        Broker() as broker,
        serving(broker.serve) as served,
        WebTransportClient(config=client_config(read_timeout=0.001)) as client,
        client.connect(served.url()) as session,
        PubSubManager(session) as pubsub,
        pubsub.subscribe("news") as subscription,
    ):
        await until(lambda: subscription._stream is not None)
        stream = subscription._stream
        assert stream is not None
        await until(lambda: stream.stats.read_errors > 2)
        await broker.publish("news", 1)
        assert (await anext(subscription)).data == 1


@pytest.mark.loops("asyncio", "uvloop")  # it works without a pause: time has to pass
async def test_subscriptions_that_nobody_reads_do_not_stop_the_connection(
    linked: Linked,
) -> None:
    """Their windows would add up to the connection's, and no call would be answered."""
    async with linked() as (broker, session), PubSubManager(session) as pubsub:
        subscriptions = [await pubsub.subscribe("news") for _ in range(40)]
        sent = 0
        while sent < 100 or broker.get_stats()["delivered"] < 1000:
            await broker.publish("news", "x" * SIZE)
            sent += 1
        await pubsub.publish("news", "end", timeout=30)
        assert all(one.waiting * SIZE < 2_000_000 for one in subscriptions)


# -------------------------------------------------------------------- hostile clients


async def test_a_client_that_stops_reading_is_unsubscribed_at_once(linked: Linked) -> None:
    async with linked() as (broker, session), RpcManager(session) as rpc:
        await rpc.call("pubsub.subscribe", 1, "news")
        assert broker.get_stats()["subscriptions"] == 1
        stream = await take_unidirectional(session)
        stream.stop_sending(3)
        await until(lambda: broker.get_stats()["subscriptions"] == 0)
        await until(lambda: broker.get_stats()["patterns"] == 0)
        await broker.publish("news", 1)


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ((1, "a..b"), PubSubErrorCode.INVALID_TOPIC),
        ((1, "x" * 10_000), PubSubErrorCode.INVALID_TOPIC),
        ((-1, "a"), PubSubErrorCode.INVALID_SUBSCRIPTION),
        ((2**31, "a"), PubSubErrorCode.INVALID_SUBSCRIPTION),
        ((5, "a"), PubSubErrorCode.INVALID_SUBSCRIPTION),
        ((1, "a", "block"), PubSubErrorCode.INVALID_SUBSCRIPTION),
        ((1, "a", "close", 0), PubSubErrorCode.INVALID_SUBSCRIPTION),
    ],
)
async def test_unusable_subscriptions_are_refused(
    linked: Linked, params: tuple[Any, ...], code: PubSubErrorCode
) -> None:
    async with linked() as (broker, session), RpcManager(session) as rpc:
        await rpc.call("pubsub.subscribe", 5, "taken")
        with pytest.raises(RpcError) as caught:
            await rpc.call("pubsub.subscribe", *params)
        assert caught.value.error_code == code
        assert broker.get_stats()["subscriptions"] == 1
        await rpc.call("pubsub.unsubscribe", 77)
        await rpc.call("pubsub.unsubscribe", 5)
        assert broker.get_stats()["subscriptions"] == 0


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("subscribe", ("1", "a")),
        ("subscribe", (True, "a")),
        ("subscribe", (1, 5)),
        ("subscribe", (1, "a", 5)),
        ("subscribe", (1, "a", "close", 1.5)),
        ("unsubscribe", (None,)),
        ("publish", (5, 1)),
        ("publish", ()),
    ],
)
async def test_parameters_of_other_types_are_refused(
    linked: Linked, method: str, params: tuple[Any, ...]
) -> None:
    async with linked() as (broker, session), RpcManager(session) as rpc:
        with pytest.raises(InvalidParamsError):
            await rpc.call(f"pubsub.{method}", *params)
        assert broker.get_stats()["subscriptions"] == 0


@pytest.mark.loops("asyncio", "uvloop")  # it works without a pause: time has to pass
async def test_what_a_client_never_reads_goes_when_it_unsubscribes(linked: Linked) -> None:
    async with linked() as (broker, session), RpcManager(session) as rpc:
        raw = await subscribe_raw(broker, rpc)
        stream = raw.delivery._stream
        assert stream is not None
        assert session.connection is not None
        # More than ever leaves while nobody reads.
        while raw.delivery.delivered * SIZE <= session.connection.config.stream_window:
            await broker.publish("news", [0, "x" * SIZE])
        assert stream.write_buffer_size > 0
        await rpc.call("pubsub.unsubscribe", 1)
        assert stream.write_buffer_size == 0
        with pytest.raises(StreamResetError) as caught:
            await raw.read(-1)
        assert caught.value.error_code == 0


async def test_unsubscribing_while_subscribing(linked: Linked) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def authorize(session: WebTransportSession, action: str, topic: str) -> bool:
        asked.set()
        await go_on.wait()
        return True

    async with linked(authorize=authorize) as (broker, session), RpcManager(session) as rpc:
        call = asyncio.create_task(rpc.call("pubsub.subscribe", 1, "a"))
        await asked.wait()
        await rpc.call("pubsub.unsubscribe", 1)
        go_on.set()
        with pytest.raises(RpcError, match="ended meanwhile"):
            await call
        await until(lambda: broker.get_stats()["patterns"] == 0)
        with pytest.raises(StreamResetError):
            await (await take_unidirectional(session)).read_all()


async def subscribe_often(rpc: RpcManager) -> None:
    """The client does not accept the streams, so there is no credit for further ones."""
    for number in range(100):
        await rpc.call("pubsub.subscribe", number, "a", timeout=0.5)


async def test_a_client_that_allows_no_stream_gets_no_subscription(
    serving: Serving, client_config: ClientFactory
) -> None:
    """Its call ends with its own timeout, and the broker forgets it."""
    async with (
        Broker() as broker,
        serving(broker.serve) as served,
        WebTransportClient(config=client_config(initial_max_streams_uni=8)) as client,
        client.connect(served.url()) as session,
        RpcManager(session) as rpc,
    ):
        with pytest.raises(RpcError):
            await subscribe_often(rpc)
        before = broker.get_stats()["subscriptions"]
        assert 0 < before < 20
        await rpc.call("pubsub.publish", "a", 1)


# -------------------------------------------------------------------- hostile brokers


class FakeBroker:
    """The server's end, by hand: it says yes to every subscription."""

    def __init__(self, session: WebTransportSession) -> None:
        self.session = session
        self.rpc = RpcManager(session)
        self.numbers: list[int] = []
        self.rpc.register(self._subscribe, name="pubsub.subscribe")
        self.rpc.register(lambda number: None, name="pubsub.unsubscribe")

    def _subscribe(self, number: int, *rest: Any) -> None:
        self.numbers.append(number)

    async def send(self, *frames: bytes, finish: bool = False) -> Any:
        stream = await self.session.create_unidirectional_stream()
        await stream.write(b"".join(frames), end_stream=finish)
        return stream


async def test_streams_that_belong_to_nobody_are_stopped(pair: PairOfSessions) -> None:
    async with pair() as (client, server), PubSubManager(client) as pubsub:
        fake = FakeBroker(server)
        async with fake.rpc:
            subscription = await pubsub.subscribe("a")
            (number,) = fake.numbers
            opening = frame(16, {"subscription": number})
            bad = [
                await fake.send(data)
                for data in (
                    frame(16, {"subscription": 99}),
                    frame(16, {"subscription": "x"}),
                    frame(17, {"topic": "a"}),
                    frame(99, {}),
                    b"\x00\x10\xff\xff\xff\xff",
                )
            ]
            bad.append(await fake.send(b"\x00", finish=True))
            good = await fake.send(opening, frame(17, {"topic": "a", "data": 1}))
            twice = await fake.send(opening)
            assert (await anext(subscription)).data == 1
            await until(lambda: all(not one.is_writable for one in (*bad, twice)))
            assert good.is_writable


@pytest.mark.parametrize(
    "data", [frame(16, {"subscription": 1}), frame(99, {}), frame(17, {"topic": 5})]
)
async def test_what_is_no_message_is_passed_over(pair: PairOfSessions, data: bytes) -> None:
    async with pair() as (client, server), PubSubManager(client) as pubsub:
        fake = FakeBroker(server)
        async with fake.rpc:
            subscription = await pubsub.subscribe("a")
            opening = frame(16, {"subscription": fake.numbers[0]})
            stream = await fake.send(opening, data, frame(17, {"topic": "a", "data": 1}))
            with pytest.raises(SerializationError):
                await anext(subscription)
            assert (await anext(subscription)).data == 1
            assert stream.is_writable


@pytest.mark.parametrize("data", [frame(18, {"total": "many"}), b"\x00\x11\xff\xff\xff\xff"])
async def test_what_cannot_be_read_on_ends_the_subscription(
    pair: PairOfSessions, data: bytes
) -> None:
    async with pair() as (client, server), PubSubManager(client) as pubsub:
        fake = FakeBroker(server)
        async with fake.rpc:
            subscription = await pubsub.subscribe("a")
            stream = await fake.send(frame(16, {"subscription": fake.numbers[0]}), data)
            with pytest.raises(SerializationError):
                await anext(subscription)
            assert subscription.is_closed
            await until(lambda: not stream.is_writable)


@pytest.mark.parametrize(("code", "error"), [(0, StopAsyncIteration), (5, SessionClosedError)])
async def test_the_end_of_the_session_before_the_stream_came(
    pair: PairOfSessions, code: int, error: type[Exception]
) -> None:
    async with pair() as (client, server), PubSubManager(client) as pubsub:
        fake = FakeBroker(server)
        async with fake.rpc:
            subscription = await pubsub.subscribe("a")
            reading = asyncio.create_task(anext(subscription))
            await asyncio.sleep(0)
            await server.close(code=code, close_connection=False)
            with pytest.raises(error):
                await reading
            assert subscription.is_closed


@pytest.mark.parametrize("code", [PubSubErrorCode.UNAVAILABLE, 77])
async def test_a_reset_of_the_broker_is_an_error(pair: PairOfSessions, code: int) -> None:
    async with pair() as (client, server), PubSubManager(client) as pubsub:
        fake = FakeBroker(server)
        async with fake.rpc:
            subscription = await pubsub.subscribe("a")
            stream = await fake.send(frame(16, {"subscription": fake.numbers[0]}))
            await until(lambda: subscription._stream is not None)
            stream.reset(code)
            with pytest.raises(PubSubError, match=f"code {int(code)}"):
                await anext(subscription)


async def test_a_stream_that_ends_within_a_message(pair: PairOfSessions) -> None:
    async with pair() as (client, server), PubSubManager(client) as pubsub:
        fake = FakeBroker(server)
        async with fake.rpc:
            subscription = await pubsub.subscribe("a")
            message = frame(17, {"topic": "a", "data": 1})
            await fake.send(frame(16, {"subscription": fake.numbers[0]}), message[:-1], finish=True)
            with pytest.raises(PubSubError, match="within a message"):
                await anext(subscription)
