"""Publish/subscribe over real sessions: topics, fan-out, ends, authorisation, limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from pywebtransport import WebTransportClient
from pywebtransport.events import MemoryBackend
from pywebtransport.exceptions import (
    ConfigurationError,
    ConnectionError,
    SerializationError,
    SessionClosedError,
    WebTransportError,
)
from pywebtransport.pubsub import (
    BackpressurePolicy,
    Broker,
    InvalidTopicError,
    PubSubError,
    PubSubErrorCode,
    PubSubManager,
    PubSubMessage,
    Subscription,
    SubscriptionLimitError,
    TopicForbiddenError,
)
from pywebtransport.rpc import MethodNotFoundError, RpcError, RpcManager
from pywebtransport.serializer import MsgPackSerializer
from pywebtransport.session import WebTransportSession
from tests.support.endpoints import ClientFactory, Serving
from tests.support.leaks import ExpectedLogs
from tests.support.steps import cancelled_at, until

pytestmark = pytest.mark.loops("virtual")


class Room:
    """A broker that is served, and clients of it."""

    def __init__(self, broker: Broker, url: str, client: WebTransportClient) -> None:
        self.broker = broker
        self.stack = AsyncExitStack()
        self._url = url
        self._client = client

    async def join(self, **options: Any) -> PubSubManager:
        """One more client, for as long as the room lives."""
        session = await self.stack.enter_async_context(self._client.connect(self._url))
        return await self.stack.enter_async_context(PubSubManager(session, **options))

    def stats(self, *names: str) -> tuple[int, ...]:
        """Some statistics of the broker."""
        stats = self.broker.get_stats()
        return tuple(stats[name] for name in names)


Rooms = Callable[..., AbstractAsyncContextManager[Room]]


@pytest.fixture
def rooms(serving: Serving, client_config: ClientFactory) -> Rooms:
    """``async with rooms(authorize=..., server={...}, client={...}) as room``."""

    @asynccontextmanager
    async def make(
        backend: Any = None,
        *,
        server: dict[str, Any] | None = None,
        client: dict[str, Any] | None = None,
        **options: Any,
    ) -> AsyncIterator[Room]:
        async with (
            Broker(backend, **options) as broker,
            serving(broker.serve, **(server or {})) as served,
            WebTransportClient(config=client_config(**(client or {}))) as opener,
        ):
            room = Room(broker, served.url(), opener)
            async with room.stack:
                yield room
        assert room.stats("sessions", "subscriptions", "patterns") == (0, 0, 0)

    return make


async def receive(subscription: Subscription, count: int) -> list[Any]:
    """Topic and data of the next messages."""
    messages = [await anext(subscription) for _ in range(count)]
    return [(message.topic, message.data) for message in messages]


# ------------------------------------------------------------------------- messages


async def test_messages_reach_those_who_subscribed(rooms: Rooms) -> None:
    async with rooms() as room:
        first, second = await room.join(), await room.join()
        async with (
            first.subscribe("rooms.*") as wide,
            second.subscribe("rooms.python") as narrow,
            second.subscribe("**") as everything,
        ):
            await second.publish("rooms.c", {"n": 1})
            await first.publish("rooms.python", [2])
            await first.publish("other", None)
            assert await receive(wide, 2) == [("rooms.c", {"n": 1}), ("rooms.python", [2])]
            assert await receive(narrow, 1) == [("rooms.python", [2])]
            assert await receive(everything, 3) == [
                ("rooms.c", {"n": 1}),
                ("rooms.python", [2]),
                ("other", None),
            ]
            assert (wide.received, wide.dropped) == (2, 0)
            assert room.stats("sessions", "subscriptions", "patterns") == (2, 3, 3)
            assert room.stats("published", "delivered", "dropped", "waiting") == (3, 6, 0, 0)
        await until(lambda: room.stats("subscriptions", "patterns") == (0, 0))


async def test_the_application_publishes_too(rooms: Rooms) -> None:
    async with rooms() as room:
        member = await room.join()
        async with member.subscribe("news") as subscription:
            await room.broker.publish("news", "from the server")
            assert await anext(subscription) == PubSubMessage("news", "from the server")
        with pytest.raises(InvalidTopicError):
            await room.broker.publish("news.*", 1)
        with pytest.raises(SerializationError):
            await room.broker.publish("news", object())


async def test_messages_of_one_publisher_arrive_in_order(rooms: Rooms) -> None:
    async with rooms(max_queue=1000) as room:
        publisher, subscriber = await room.join(), await room.join()
        async with subscriber.subscribe("numbers", max_queue=300) as subscription:
            for number in range(300):
                await publisher.publish("numbers", number)
            assert await receive(subscription, 300) == [("numbers", n) for n in range(300)]


async def test_data_are_rebuilt_as_a_type(rooms: Rooms) -> None:
    @dataclass
    class Line:
        author: str
        text: str

    async with rooms() as room:
        member = await room.join()
        async with member.subscribe("chat", data_type=Line) as subscription:
            await member.publish("chat", Line("ann", "hi"))
            await member.publish("chat", {"author": "bob"})
            await member.publish("chat", {"author": "bob", "text": "ho"})
            assert (await anext(subscription)).data == Line("ann", "hi")
            with pytest.raises(SerializationError, match="missing field text"):
                await anext(subscription)
            assert (await anext(subscription)).data == Line("bob", "ho")


async def test_msgpack_carries_bytes(rooms: Rooms) -> None:
    async with rooms(serializer=MsgPackSerializer()) as room:
        member = await room.join(serializer=MsgPackSerializer())
        async with member.subscribe("raw") as subscription:
            await member.publish("raw", b"\x00\xff")
            assert await receive(subscription, 1) == [("raw", b"\x00\xff")]


async def test_a_thousand_subscriptions_of_one_topic_are_one_of_the_backend(
    rooms: Rooms,
) -> None:
    backend = MemoryBackend()
    async with rooms(backend, max_subscriptions=250, server={"max_sessions": 10}) as room:
        members = [await room.join() for _ in range(4)]
        subscriptions = [await member.subscribe("all") for member in members for _ in range(250)]
        assert backend.get_stats()["subscriptions"] == 1
        await members[0].publish("all", "hello")
        assert {(await anext(one)).data for one in subscriptions} == {"hello"}
        assert room.stats("published", "delivered") == (1, 1000)
        assert backend.get_stats()["delivered"] == 1


async def test_calls_and_messages_share_a_session(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with Broker() as broker:

        async def handler(session: WebTransportSession) -> None:
            rpc = RpcManager(session)
            rpc.register(lambda a, b: a + b, name="add")
            await broker.serve(session, rpc=rpc)

        async with (
            serving(handler) as served,
            WebTransportClient(config=client_config()) as client,
            client.connect(served.url()) as session,
            RpcManager(session) as rpc,
        ):
            async with PubSubManager(rpc=rpc) as pubsub, pubsub.subscribe("sums") as subscription:
                await pubsub.publish("sums", await rpc.call("add", 1, 2))
                assert await receive(subscription, 1) == [("sums", 3)]
                assert pubsub.rpc is rpc
                assert pubsub.session is session
            assert await rpc.call("add", 3, 4) == 7


# ----------------------------------------------------------------------- life cycle


async def test_closing_a_subscription_ends_its_iteration(rooms: Rooms) -> None:
    async with rooms() as room:
        member = await room.join()
        subscription = await member.subscribe("a")
        assert member.subscriptions == (subscription,)
        assert subscription.topic == "a"

        async def read() -> list[PubSubMessage]:
            return [message async for message in subscription]

        reading = asyncio.create_task(read())
        await member.publish("a", 1)
        await until(lambda: subscription.received == 1)
        await subscription.close()
        await subscription.close()
        assert await reading == [PubSubMessage("a", 1)]
        assert subscription.is_closed
        assert member.subscriptions == ()
        assert room.stats("subscriptions", "patterns") == (0, 0)
        assert [message async for message in subscription] == []


async def test_unsubscribing_by_pattern(rooms: Rooms) -> None:
    async with rooms() as room:
        member = await room.join()
        twice = [await member.subscribe("a"), await member.subscribe("a")]
        other = await member.subscribe("b")
        await member.unsubscribe("a")
        await member.unsubscribe("unknown")
        assert [one.is_closed for one in (*twice, other)] == [True, True, False]
        assert room.stats("subscriptions", "patterns") == (1, 1)


async def test_subscribing_again_after_the_last_one_left(rooms: Rooms) -> None:
    async with rooms() as room:
        member = await room.join()
        for number in range(5):
            async with member.subscribe("a.*") as subscription:
                await member.publish("a.b", number)
                assert await receive(subscription, 1) == [("a.b", number)]


async def test_closing_the_manager_ends_its_subscriptions(rooms: Rooms) -> None:
    async with rooms() as room:
        member = await room.join()
        subscription = await member.subscribe("a")
        reading = asyncio.create_task(anext(subscription))
        await until(lambda: subscription._stream is not None)
        await member.close()
        await member.close()
        with pytest.raises(StopAsyncIteration):
            await reading
        assert member.is_over
        assert not member.session.is_closed
        await until(lambda: room.stats("subscriptions", "patterns") == (0, 0))
        with pytest.raises(ConfigurationError, match="cannot be started again"):
            await member.start()
        with pytest.raises(ConfigurationError, match="not running"):
            await member.subscribe("a")


async def test_closing_while_subscribing(rooms: Rooms) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def authorize(session: WebTransportSession, action: str, topic: str) -> bool:
        asked.set()
        await go_on.wait()
        return True

    async with rooms(authorize=authorize) as room:
        member = await room.join()
        subscription = member.subscribe("a")
        subscribing = asyncio.create_task(subscription._subscribe())
        await asked.wait()
        closing = asyncio.create_task(subscription.close())
        # The broker has heard of it while it still asks.
        await until(lambda: room.stats("subscriptions") == (0,))
        assert subscription.is_closed
        go_on.set()
        await closing
        with pytest.raises(PubSubError, match="ended meanwhile"):
            await subscribing
        assert [message async for message in subscription] == []
        await until(lambda: room.stats("subscriptions", "patterns") == (0, 0))


async def test_a_manager_that_was_never_started(rooms: Rooms) -> None:
    async with rooms() as room:
        member = await room.join()
        idle = PubSubManager(member.session)
        with pytest.raises(ConfigurationError, match="not running"):
            await idle.subscribe("a")
        await idle.close()


async def test_the_session_s_end_frees_everything_at_the_broker(rooms: Rooms) -> None:
    async with rooms() as room:
        member, other = await room.join(), await room.join()
        subscriptions = [await member.subscribe(pattern) for pattern in ("a", "a.*", "**")]
        await other.subscribe("a")
        await member.session.close(code=9)
        # This side closed the session: a normal end.
        assert [message async for message in subscriptions[0]] == []
        await until(lambda: room.stats("sessions", "subscriptions", "patterns") == (1, 1, 1))


@pytest.mark.parametrize(("code", "error"), [(0, StopAsyncIteration), (5, SessionClosedError)])
async def test_the_end_of_the_session_by_the_server(
    rooms: Rooms, code: int, error: type[Exception]
) -> None:
    async with rooms() as room:
        member = await room.join()
        subscription = await member.subscribe("a")
        await member.publish("a", 1)
        await until(lambda: subscription.waiting == 1)
        (client,) = room.broker._clients
        await client.session.close(code=code, reason="over", close_connection=False)
        await until(lambda: subscription.is_closed)
        assert (await anext(subscription)).data == 1  # it had arrived
        with pytest.raises(error):
            await anext(subscription)
        with pytest.raises(StopAsyncIteration):
            await anext(subscription)


async def test_the_end_of_the_broker_ends_subscriptions_quietly(rooms: Rooms) -> None:
    async with rooms() as room:
        member = await room.join()
        subscription = await member.subscribe("a")
        await member.publish("a", 1)
        await room.broker.close()
        assert [message.data async for message in subscription] == [1]
        for operation in (member.subscribe("a")._subscribe(), member.publish("a")):
            with pytest.raises(PubSubError) as caught:
                await operation
            assert caught.value.error_code == PubSubErrorCode.UNAVAILABLE
        with pytest.raises(ConfigurationError, match="closed"):
            await room.broker.serve(member.session)
        with pytest.raises(ConfigurationError, match="cannot be started again"):
            await room.broker.start()


async def test_cancelling_the_subscription_at_every_await(rooms: Rooms) -> None:
    async with rooms() as room:
        member = await room.join()
        index = 0

        async def once() -> None:
            async with member.subscribe("a.*"):
                pass

        while await cancelled_at(once, index):
            index += 1
        assert index > 1
        await until(lambda: room.stats("subscriptions", "patterns") == (0, 0))
        async with member.subscribe("a.*") as subscription:
            await member.publish("a.b", 1)
            assert await receive(subscription, 1) == [("a.b", 1)]


async def test_a_cancelled_iteration_loses_nothing(rooms: Rooms) -> None:
    async with rooms() as room:
        member = await room.join()
        async with member.subscribe("a") as subscription:
            reading = asyncio.create_task(anext(subscription))
            await until(lambda: subscription._stream is not None)
            await asyncio.sleep(0)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            await member.publish("a", 1)
            assert await receive(subscription, 1) == [("a", 1)]


async def test_iterating_before_subscribing(rooms: Rooms) -> None:
    async with rooms() as room:
        member = await room.join()
        subscription = member.subscribe("a")
        with pytest.raises(PubSubError, match="does not exist yet"):
            await anext(subscription)
        assert await subscription is await subscription is subscription


# ---------------------------------------------------------------------- authorisation


async def test_authorisation_sees_session_action_and_topic(rooms: Rooms) -> None:
    asked: list[tuple[str, str]] = []

    async def authorize(session: WebTransportSession, action: str, topic: str) -> bool:
        assert session.path == "/"
        await asyncio.sleep(0)
        asked.append((action, topic))
        return topic.startswith("open.") or (action, topic) == ("subscribe", "closed.*")

    async with rooms(authorize=authorize) as room:
        member = await room.join()
        async with member.subscribe("closed.*") as subscription:
            await member.publish("open.a", 1)
            with pytest.raises(TopicForbiddenError, match=r"may not publish 'closed\.a'") as no:
                await member.publish("closed.a", 1)
            assert (no.value.topic, no.value.remote) == ("closed.a", True)
            with pytest.raises(TopicForbiddenError, match="may not subscribe"):
                await member.subscribe("**")
            await room.broker.publish("closed.a", "the application may")
            assert await receive(subscription, 1) == [("closed.a", "the application may")]
        assert asked == [
            ("subscribe", "closed.*"),
            ("publish", "open.a"),
            ("publish", "closed.a"),
            ("subscribe", "**"),
        ]
        assert room.stats("subscriptions", "patterns") == (0, 0)


async def test_a_plain_function_may_authorise(rooms: Rooms) -> None:
    async with rooms(authorize=lambda session, action, topic: action == "publish") as room:
        member = await room.join()
        await member.publish("a")
        with pytest.raises(TopicForbiddenError):
            await member.subscribe("a")


# ---------------------------------------------------------------------------- limits


async def test_subscriptions_of_a_session_are_limited(rooms: Rooms) -> None:
    async with rooms(max_subscriptions=2) as room:
        member, other = await room.join(), await room.join()
        first = await member.subscribe("a")
        await member.subscribe("b")
        with pytest.raises(SubscriptionLimitError, match="may have 2 subscriptions") as caught:
            await member.subscribe("c")
        assert caught.value.topic == "c"
        await other.subscribe("c")
        await first.close()
        await member.subscribe("c")


@pytest.mark.parametrize("limit", [1, 20])
async def test_streams_of_the_client_are_a_limit_that_is_told_at_once(
    rooms: Rooms, limit: int
) -> None:
    async with rooms(client={"initial_max_streams_uni": limit}) as room:
        member = await room.join()
        held = [await member.subscribe(f"topic{number}") for number in range(limit)]
        began = asyncio.get_running_loop().time()
        with pytest.raises(SubscriptionLimitError, match="initial_max_streams_uni") as caught:
            await member.subscribe("one.more")
        # Long before a stream's own timeout (10 s) and that of a call (30 s).
        assert asyncio.get_running_loop().time() - began < 5
        assert (caught.value.topic, caught.value.remote) == ("one.more", True)
        assert room.stats("subscriptions") == (limit,)
        await held[0].close()
        async with member.subscribe("one.more") as subscription:
            await member.publish("one.more", 1)
            assert await receive(subscription, 1) == [("one.more", 1)]


@pytest.mark.loops("asyncio")
async def test_sessions_that_share_a_connection_share_its_streams(rooms: Rooms) -> None:
    options = {"allow_pooling": True, "initial_max_streams_uni": 130}
    async with rooms(client=options, server={"max_sessions": 10}) as room:
        first, second = await room.join(), await room.join()
        assert first.session.connection is second.session.connection
        for number in range(100):
            await first.subscribe(f"a{number}")
        with pytest.raises(SubscriptionLimitError, match="may have 100 subscriptions"):
            await first.subscribe("a100")

        async def subscribe_until_refused() -> None:
            for number in range(100):
                await second.subscribe(f"b{number}")

        with pytest.raises(SubscriptionLimitError, match="shared by its sessions"):
            await subscribe_until_refused()
        (made,) = room.stats("subscriptions")
        assert 130 <= made < 200


async def test_subscriptions_of_the_backend_are_limited(rooms: Rooms) -> None:
    async with rooms(MemoryBackend(max_subscriptions=1)) as room:
        member = await room.join()
        await member.subscribe("a")
        await member.subscribe("a")
        with pytest.raises(SubscriptionLimitError, match="reached its limit of subscriptions"):
            await member.subscribe("b")
        assert room.stats("subscriptions", "patterns") == (2, 1)


async def test_message_size_is_limited_at_both_ends(rooms: Rooms) -> None:
    async with rooms(max_message_size=500) as room:
        strict, loose = await room.join(max_message_size=500), await room.join()
        async with strict.subscribe("a") as subscription:
            with pytest.raises(PubSubError, match="larger than max_message_size=500") as caught:
                await loose.publish("a", "x" * 500)
            assert caught.value.error_code == PubSubErrorCode.TOO_LARGE
            # Larger than any call that the broker reads: the same error.
            huge = await room.join(max_message_size=10**6)
            with pytest.raises(PubSubError, match="max_message_size") as caught:
                await huge.publish("a", "x" * 100_000)
            assert caught.value.error_code == PubSubErrorCode.TOO_LARGE
            with pytest.raises(SerializationError):
                await strict.publish("a", "x" * 5000)
            await loose.publish("a", "x" * 400)
            assert await receive(subscription, 1) == [("a", "x" * 400)]


async def test_a_message_of_the_largest_size_fits_into_the_queues(rooms: Rooms) -> None:
    size = 2 * 1024 * 1024
    backend = MemoryBackend(max_payload_size=2 * size)
    async with rooms(backend, max_message_size=size) as room:
        member = await room.join(max_message_size=size)
        async with member.subscribe("a") as subscription:
            text = "x" * (size - len('{"topic":"a","data":""}'))
            await member.publish("a", text)
            await until(lambda: subscription.waiting or subscription.dropped)
            assert subscription.dropped == 0
            assert await receive(subscription, 1) == [("a", text)]


@pytest.mark.parametrize("topic", ["", "a..b", "a.*", "x" * 300])
async def test_malformed_topics_are_refused_before_they_are_sent(rooms: Rooms, topic: str) -> None:
    async with rooms() as room:
        member = await room.join()
        with pytest.raises(InvalidTopicError) as caught:
            await member.publish(topic)
        assert caught.value.remote is None


async def test_arguments_out_of_range(rooms: Rooms) -> None:
    async with rooms() as room:
        member, other = await room.join(), await room.join()
        for options, key in (
            ({"policy": "block"}, "policy"),
            ({"max_queue": 0}, "max_queue"),
            ({"max_queue": True}, "max_queue"),
        ):
            with pytest.raises(ConfigurationError) as caught:
                member.subscribe("a", **options)  # type: ignore[arg-type]
            assert caught.value.config_key == key
        with pytest.raises(InvalidTopicError):
            member.subscribe("**.a")
        with pytest.raises(ConfigurationError, match="needs a session"):
            PubSubManager()
        with pytest.raises(ConfigurationError, match="another session"):
            PubSubManager(member.session, rpc=other.rpc)
        with pytest.raises(ConfigurationError, match="another serializer"):
            PubSubManager(rpc=other.rpc, serializer=MsgPackSerializer())
        with pytest.raises(ConfigurationError, match="another session"):
            await room.broker.serve(member.session, rpc=other.rpc)
    for key in ("max_message_size", "max_subscriptions", "max_queue", "max_queue_bytes"):
        with pytest.raises(ConfigurationError) as caught:
            Broker(**{key: 0})  # type: ignore[arg-type]
        assert caught.value.config_key == key
    with pytest.raises(ConfigurationError, match="no wildcard"):
        Broker(prefix="a*")
    for options in (
        {"prefix": 5},
        {"prefix": "x" * 513},
        {"backend": 5},
        {"backend": MemoryBackend},
        {"authorize": 5},
        {"authorize": lambda session: True},
        {"serializer": 5},
        {"max_queue": "5"},
        {"max_subscriptions": True},
    ):
        with pytest.raises(ConfigurationError, match=next(iter(options))):
            Broker(**options)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="session"):
        await Broker().serve(5)  # type: ignore[arg-type]


@pytest.mark.loops("asyncio")
async def test_wrong_arguments_of_a_member(rooms: Rooms) -> None:
    async with rooms() as room:
        member = await room.join()
        for topic in ("", 5, None, "a b", "x" * 256, "a\n", b"a", ["a"]):
            for ask in (member.subscribe, member.unsubscribe, member.publish):
                with pytest.raises(InvalidTopicError):
                    await ask(topic)  # type: ignore[operator]
            with pytest.raises(InvalidTopicError):
                await room.broker.publish(topic, 1)  # type: ignore[arg-type]
        for options in (
            {"policy": "none"},
            {"policy": ["close"]},
            {"policy": None},
            {"max_queue": 0},
            {"max_queue": "5"},
            {"max_queue": True},
            {"data_type": 5},
            {"data_type": "int"},
        ):
            with pytest.raises(ConfigurationError, match=next(iter(options))):
                member.subscribe("a", **options)  # type: ignore[arg-type]
        for seconds in (-1, "5", float("nan")):
            with pytest.raises(ConfigurationError, match="timeout"):
                await member.publish("a", 1, timeout=seconds)  # type: ignore[arg-type]
        for options in ({"max_message_size": "5"}, {"rpc": 5}, {"session": 5}, {"serializer": 5}):
            arguments: dict[str, Any] = {"session": member.session, **options}
            with pytest.raises(ConfigurationError, match=next(iter(options))):
                PubSubManager(**arguments)
        assert member.subscriptions == ()


async def test_whatever_authorize_raises_is_an_error_of_the_call(
    rooms: Rooms, expected_logs: ExpectedLogs
) -> None:
    expected_logs("handler of 'pubsub.subscribe' raised CancelledError")
    expected_logs("handler of 'pubsub.publish' raised ValueError: broken")

    async def authorize(session: WebTransportSession, action: str, topic: str) -> bool:
        if action == "publish":
            raise ValueError("broken")
        raise asyncio.CancelledError

    async with rooms(authorize=authorize) as room:
        member = await room.join()
        with pytest.raises(RpcError, match="internal error"):
            await member.subscribe("a")
        with pytest.raises(RpcError, match="internal error"):
            await member.publish("a", 1)
        assert room.stats("subscriptions", "patterns") == (0, 0)


# --------------------------------------------------------------------------- backends


class Failing(MemoryBackend):
    """A backend that can lose its connection."""

    def __init__(self) -> None:
        super().__init__()
        self.broken = False

    def _check(self) -> None:
        if self.broken:
            raise ConnectionError("no connection")

    async def publish(self, channel: str, payload: bytes) -> None:
        self._check()
        await super().publish(channel, payload)

    async def subscribe(self, pattern: str, deliver: Any) -> str:
        self._check()
        return await super().subscribe(pattern, deliver)

    async def unsubscribe(self, subscription_id: str) -> None:
        await super().unsubscribe(subscription_id)
        if self.broken:
            raise WebTransportError("no connection")


async def test_a_backend_without_connection(rooms: Rooms) -> None:
    backend = Failing()
    async with rooms(backend) as room:
        member = await room.join()
        existing = await member.subscribe("a")
        backend.broken = True
        for operation in (member.subscribe("b")._subscribe(), member.publish("a", 1)):
            with pytest.raises(PubSubError, match="message bus is not available") as caught:
                await operation
            assert caught.value.error_code == PubSubErrorCode.UNAVAILABLE
        await existing.close()
        assert room.stats("subscriptions", "patterns") == (0, 0)
        backend.broken = False
        async with member.subscribe("a") as subscription:
            await member.publish("a", 2)
            assert await receive(subscription, 1) == [("a", 2)]


async def test_two_brokers_share_a_backend(rooms: Rooms) -> None:
    backend = MemoryBackend()
    async with rooms(backend) as one, rooms(backend) as two:
        near, far = await one.join(), await two.join()
        async with near.subscribe("a.*") as first, far.subscribe("a.b") as second:
            await near.publish("a.b", "from near")
            await far.publish("a.b", "from far")
            expected = [("a.b", "from near"), ("a.b", "from far")]
            assert await receive(first, 2) == await receive(second, 2) == expected


async def test_prefixes_keep_applications_apart(rooms: Rooms) -> None:
    backend = MemoryBackend()
    async with rooms(backend, prefix="one:") as one, rooms(backend, prefix="two:") as two:
        near, far = await one.join(), await two.join()
        async with near.subscribe("**") as first, far.subscribe("**") as second:
            await near.publish("a", 1)
            await far.publish("b", 2)
            assert await receive(first, 1) == [("a", 1)]
            assert await receive(second, 1) == [("b", 2)]


async def test_what_others_put_on_the_channels_is_ignored(
    rooms: Rooms, caplog: pytest.LogCaptureFixture
) -> None:
    backend = MemoryBackend()
    async with rooms(backend) as room:
        member = await room.join()
        async with member.subscribe("a.*") as subscription:
            for payload in (b"", b"hello", b"\x00\x11\x00\x00\x00\x05{}"):
                await backend.publish("pubsub:a.b", payload)
            await backend.publish("pubsub:a.b.c", b"not a topic of the pattern")
            await member.publish("a.b", 1)
            assert await receive(subscription, 1) == [("a.b", 1)]
    assert caplog.text.count("ignored data on channel 'pubsub:a.b' that is not a message") == 3


async def test_a_server_without_a_broker(serving: Serving, client_config: ClientFactory) -> None:
    async def handler(session: WebTransportSession) -> None:
        await RpcManager(session).serve()

    async with (
        serving(handler) as served,
        WebTransportClient(config=client_config()) as client,
        client.connect(served.url()) as session,
        PubSubManager(session) as pubsub,
    ):
        with pytest.raises(MethodNotFoundError):
            await pubsub.publish("a")
        with pytest.raises(MethodNotFoundError):
            await pubsub.subscribe("a")
        assert pubsub.subscriptions == ()
        assert BackpressurePolicy("close") is BackpressurePolicy.CLOSE
