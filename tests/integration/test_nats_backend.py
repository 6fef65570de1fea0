"""The backend on a real NATS server, which is killed, stopped, and asked for passwords."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywebtransport.events import Event, EventBackend, EventBus, NatsBackend
from pywebtransport.events._nats_subjects import channel_of, subject_of, subjects_of
from pywebtransport.exceptions import (
    AuthenticationError,
    ConfigurationError,
    ConnectionError,
    SerializationError,
    WebTransportError,
)
from tests.support.leaks import ExpectedLogs
from tests.support.nats_server import NatsServer
from tests.support.steps import cancelled_at, until

Messages = list[tuple[str, bytes]]
QUICK: dict[str, Any] = {"reconnect_delay": 0.01, "max_reconnect_delay": 0.05}
MOST_AWAITS = 200


@pytest.fixture(scope="module")
def nats() -> Iterator[NatsServer]:
    """A running server."""
    server = NatsServer("max_payload: 100000")
    yield server
    server.close()


@pytest.fixture(scope="module")
def locked() -> Iterator[NatsServer]:
    """A server with a user who may not do everything."""
    server = NatsServer(
        "authorization { users: [{ user: me, password: sesame, permissions: { "
        'publish: ["app.open.>"], subscribe: ["app.open.>"] } }] }',
        login="me:sesame@",
    )
    yield server
    server.close()


async def test_messages_come_in_order_to_those_who_want_them(nats: NatsServer) -> None:
    async with NatsBackend(nats.url) as one, NatsBackend([nats.url]) as two:
        assert isinstance(one, EventBackend)
        exact: Messages = []
        every: Messages = []
        both: Messages = []
        await one.subscribe("room.1", lambda *message: exact.append(message))
        await one.subscribe("room.1", lambda *message: both.append(message))
        await two.subscribe("room.*", lambda *message: every.append(message))
        for number in range(3):
            await two.publish("room.1", b"%d" % number)
        await one.publish("lobby", b"y")
        await one.publish("room.2", b"x")
        await until(lambda: len(every) == 4 and len(both) == 3)
        assert exact == both == [("room.1", b"0"), ("room.1", b"1"), ("room.1", b"2")]
        assert every == [*exact, ("room.2", b"x")]
        assert one.get_stats() == {
            "connected": True,
            "subscriptions": 2,
            "published": 2,
            "delivered": 6,
            "errors": 0,
            "oversize": 0,
            "malformed": 0,
            "gaps": 0,
            "gap_seconds": 0.0,
            "failed_attempts": 0,
        }


@pytest.mark.parametrize(
    ("pattern", "fits", "misses"),
    [
        ("a*", ["a", "ab", "a.b", "a. b"], ["b", "ba"]),
        ("*", ["a", "a.b.c", ">", " ", "é"], []),
        ("a.*.c", ["a..c", "a.b.c", "a.b.b.c"], ["a.c", "b.b.c"]),
        ("a.b.*", ["a.b.", "a.b.c", "a.b.>"], ["a.b", "ab.c"]),
        ("ü/*x", ["ü/x", "ü/ x"], ["u/x"]),
        ("a.>", ["a.>"], ["a.b"]),
    ],
)
async def test_patterns(nats: NatsServer, pattern: str, fits: list[str], misses: list[str]) -> None:
    async with NatsBackend(nats.url) as backend:
        heard: Messages = []
        await backend.subscribe(pattern, lambda *message: heard.append(message))
        end: Messages = []
        await backend.subscribe("the end", lambda *message: end.append(message))
        for channel in (*misses, *fits):
            await backend.publish(channel, channel.encode())
        await until(lambda: len(heard) >= len(fits))
        await backend.publish("the end", b"")
        await until(lambda: end)
        assert [one for one in heard if one[0] != "the end"] == [
            (channel, channel.encode()) for channel in fits
        ]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50))
def test_subjects_are_valid_and_stand_for_one_channel(channel: str) -> None:
    subject = subject_of(channel)
    assert subject.isascii()
    assert subject.isprintable()
    assert not set(subject) & set(" *>")
    assert all(subject.split("."))
    assert channel_of(subject) == channel


def test_a_pattern_asks_for_as_little_as_the_server_can_tell() -> None:
    assert subjects_of("a.b.c*") == "a.b.>"
    assert subjects_of("*") == ">"
    assert subjects_of("x y.*") == "x%20y.>"


async def test_subscriptions_end(nats: NatsServer) -> None:
    async with NatsBackend(nats.url, max_subscriptions=2) as backend:
        heard: Messages = []
        one = await backend.subscribe("a", lambda *message: heard.append(message))
        two = await backend.subscribe("a", lambda *message: None)
        with pytest.raises(WebTransportError, match="max_subscriptions is 2"):
            await backend.subscribe("b", lambda *message: None)
        await backend.unsubscribe(one)
        await backend.unsubscribe(one)
        await backend.publish("a", b"1")
        await until(lambda: backend.get_stats()["delivered"] == 1)
        await backend.unsubscribe(two)
        again = await backend.subscribe("a", lambda *message: heard.append(message))
        await backend.publish("a", b"2")
        await until(lambda: heard == [("a", b"2")])
        await backend.unsubscribe(again)
        assert backend.get_stats()["subscriptions"] == 0


async def test_a_server_that_comes_back(nats: NatsServer) -> None:
    told: list[float | None] = []
    ended: asyncio.Queue[float] = asyncio.Queue()
    async with NatsBackend(nats.url, on_gap=ended.put_nowait, **QUICK) as backend:
        backend.watch_gaps(told.append)
        heard: Messages = []
        await backend.subscribe("a", lambda *message: heard.append(message))
        await backend.subscribe("b.*", lambda *message: heard.append(message))
        nats.stop()
        try:
            await until(lambda: not backend.get_stats()["connected"])
            assert told == [None]
            assert isinstance(backend.last_error, ConnectionError)
            with pytest.raises(ConnectionError, match="not connected to NATS now"):
                await backend.publish("a", b"lost")
            with pytest.raises(ConnectionError, match="not connected to NATS now"):
                await backend.subscribe("c", lambda *message: None)
        finally:
            nats.start()
        assert told == [None, await ended.get()]
        await backend.publish("a", b"1")
        await backend.publish("b.c", b"2")
        await until(lambda: len(heard) == 2)
        assert sorted(heard) == [("a", b"1"), ("b.c", b"2")]
        assert backend.last_error is None


async def test_a_server_that_does_not_answer(nats: NatsServer) -> None:
    ended: asyncio.Queue[float] = asyncio.Queue()
    async with NatsBackend(nats.url, on_gap=ended.put_nowait, **QUICK) as backend:
        heard: Messages = []
        await backend.subscribe("a", lambda *message: heard.append(message))
        nats.pause()
        backend._subscriber._timeout = 0.2  # type: ignore[union-attr]
        try:
            outcomes = await asyncio.gather(
                *(backend.publish("a", b"") for _ in range(10)), return_exceptions=True
            )
            assert {type(outcome) for outcome in outcomes} == {ConnectionError}
            assert "did not answer within 0.2 seconds" in str(outcomes[0])
        finally:
            nats.resume()
        await ended.get()
        await backend.publish("a", b"3")
        await until(lambda: ("a", b"3") in heard)


async def test_a_frozen_server_is_noticed_by_who_only_listens(nats: NatsServer) -> None:
    ended: asyncio.Queue[float] = asyncio.Queue()
    options = {**QUICK, "ping_interval": 0.01, "timeout": 2.0}
    async with NatsBackend(nats.url, on_gap=ended.put_nowait, **options) as backend:
        nats.pause()
        try:
            await until(lambda: not backend.get_stats()["connected"])
        finally:
            nats.resume()
        await ended.get()


async def test_another_server_of_the_list(nats: NatsServer) -> None:
    servers = ["nats://127.0.0.1:1", nats.url, "nats://127.0.0.1:2"]
    for _ in range(5):  # in random order
        async with NatsBackend(servers) as backend:
            await backend.publish("a", b"")


async def test_no_server() -> None:
    backend = NatsBackend("nats://127.0.0.1:1")
    with pytest.raises(ConnectionError, match=r"the NATS server cannot be used: .*Errno 111"):
        await backend.start()
    with pytest.raises(ConnectionError, match="the backend is not started"):
        await backend.publish("a", b"")
    await backend.close()


async def test_logins_and_permissions(locked: NatsServer) -> None:
    for url in (f"nats://127.0.0.1:{locked.port}", f"nats://me:wrong@127.0.0.1:{locked.port}"):
        with pytest.raises(AuthenticationError, match="cannot be used"):
            await NatsBackend(url).start()
    async with NatsBackend(locked.url, prefix="app") as backend:
        heard: Messages = []
        with pytest.raises(AuthenticationError, match="NATS refuses it"):
            await backend.publish("Closed", b"")
        with pytest.raises(AuthenticationError, match="NATS refuses it"):
            await backend.subscribe("closed", lambda *message: None)
        await backend.subscribe("open.a", lambda *message: heard.append(message))
        await backend.publish("open.a", b"1")
        await until(lambda: heard == [("open.a", b"1")])
        assert backend.get_stats()["subscriptions"] == 1
        assert backend.get_stats()["gaps"] == 0


async def test_large_messages(nats: NatsServer) -> None:
    async with NatsBackend(nats.url) as one, NatsBackend(nats.url, max_payload_size=1000) as two:
        heard: list[int] = []
        await one.subscribe("a", lambda channel, payload: heard.append(len(payload)))
        await two.subscribe("a", lambda *message: None)
        with pytest.raises(SerializationError, match="NATS server carries 100000"):
            await one.publish("a", bytes(100_001))
        with pytest.raises(SerializationError, match="max_payload_size is 1000"):
            await two.publish("a", bytes(1001))
        await one.publish("a", bytes(100_000))
        await until(lambda: heard == [100_000] and two.get_stats()["oversize"] == 1)
        with pytest.raises(ConfigurationError, match="NATS carries 3500"):
            await one.publish("€" * 1024, b"")


async def test_a_subscriber_that_raises(nats: NatsServer, expected_logs: ExpectedLogs) -> None:
    expected_logs("subscriber .* failed for a message on 'a'")
    async with NatsBackend(nats.url) as backend:
        heard: Messages = []

        def fail(channel: str, payload: bytes) -> None:
            raise ValueError(channel)

        await backend.subscribe("a", fail)
        await backend.subscribe("a", lambda *message: heard.append(message))
        await backend.publish("a", b"1")
        await backend.publish("a", b"2")
        await until(lambda: len(heard) == 2)
        assert backend.get_stats()["errors"] == 2


async def test_buses_of_two_processes(nats: NatsServer) -> None:
    async with EventBus(NatsBackend(nats.url)) as one, EventBus(NatsBackend(nats.url)) as two:
        heard: asyncio.Queue[Any] = asyncio.Queue()
        two.subscribe("greeting", lambda event: heard.put_nowait(event.data))
        await one.publish(Event(type="greeting", data={"text": "hello"}))
        assert await heard.get() == {"text": "hello"}


# ---------------------------------------------------------------- cancellation


async def each_await(attempt: Callable[[int], Coroutine[Any, Any, bool]]) -> None:
    for index in range(MOST_AWAITS):
        if not await attempt(index):
            assert index > 0
            return
    raise AssertionError(f"still cancelled at await {MOST_AWAITS}")


async def test_cancelled_start_and_close(nats: NatsServer) -> None:
    async def attempt(index: int) -> bool:
        backend = NatsBackend(nats.url)
        reached = await cancelled_at(backend.start, index)
        await backend.start()
        await backend.publish("a", b"")
        reached |= await cancelled_at(backend.close, index)
        await backend.close()
        return reached

    await each_await(attempt)


async def test_cancelled_publish_and_subscribe(nats: NatsServer) -> None:
    async with NatsBackend(nats.url) as backend:

        async def both() -> None:
            found = await backend.subscribe("a", lambda *message: None)
            await backend.publish("a", b"1")
            await backend.unsubscribe(found)

        async def attempt(index: int) -> bool:
            other = asyncio.create_task(backend.subscribe("a", lambda *message: None))
            reached = await cancelled_at(both, index)
            await backend.unsubscribe(await other)
            assert backend.get_stats()["subscriptions"] <= 1
            for left in list(backend._subscriptions):
                await backend.unsubscribe(left)
            await backend.publish("a", b"2")
            return reached

        await each_await(attempt)


# ------------------------------------------------------------ wrong arguments


@pytest.mark.parametrize(
    "servers", ["", "localhost", "http://localhost", "nats://", "nats://h:port", [], [1], None]
)
def test_servers_that_are_none(servers: Any) -> None:
    with pytest.raises(ConfigurationError, match="servers = "):
        NatsBackend(servers)


@pytest.mark.parametrize(
    "options", [{"tls": True}, {"credentials": 1}, {"timeout": 0}, {"prefix": 1}, {"on_gap": 1}]
)
def test_options_that_are_none(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"{next(iter(options))} = "):
        NatsBackend(**options)


def test_without_nats_py(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("nats", "nats.errors"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigurationError, match=r'pip install "nats-py>=2\.6"'):
        NatsBackend()
