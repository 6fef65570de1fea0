"""The backend on a real Redis server, which is killed, stopped, and asked for passwords."""

from __future__ import annotations

import asyncio
import itertools
import sys
import urllib.parse
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from pywebtransport.events import EventBackend, MemoryBackend, RedisBackend
from pywebtransport.exceptions import (
    AuthenticationError,
    ConfigurationError,
    ConnectionError,
    SerializationError,
    WebTransportError,
)
from tests.support.certificates import Certificates, Pair
from tests.support.leaks import ExpectedLogs
from tests.support.redis_server import RedisServer
from tests.support.steps import cancelled_at, until

Messages = list[tuple[str, bytes]]
# Attempts to connect again come at once.
QUICK = {"reconnect_delay": 0.01, "max_reconnect_delay": 0.05}
MOST_AWAITS = 200


class Gaps(asyncio.Queue[float]):
    """``async with RedisBackend(url, **gaps.options)``; then ``await gaps.next()``."""

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of a backend that comes back at once and tells it here."""
        return {**QUICK, "on_gap": self.put_nowait}

    async def next(self) -> float:
        """Wait for the end of a gap."""
        return await self.get()


@pytest.fixture(scope="module")
def locked_server() -> Iterator[RedisServer]:
    """A server with a password."""
    server = RedisServer(password="open sesame/?#")
    yield server
    server.close()


# ------------------------------------------------------------------- messages


async def test_messages_come_in_order_to_those_who_want_them(redis_server: RedisServer) -> None:
    async with (
        RedisBackend(redis_server.url) as one,
        RedisBackend(redis_server.url) as two,
    ):
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
            "failed_attempts": 0,
            "gap_seconds": 0.0,
        }


async def test_publishers_at_a_time_keep_the_order_of_their_calls(
    redis_server: RedisServer,
) -> None:
    count = 3000  # more than may be under way at a time
    async with RedisBackend(redis_server.url) as backend:
        heard: list[bytes] = []
        await backend.subscribe("a", lambda channel, payload: heard.append(payload))
        await asyncio.gather(*(backend.publish("a", b"%d" % number) for number in range(count)))
        await until(lambda: len(heard) == count)
        assert heard == [b"%d" % number for number in range(count)]


async def test_large_messages(redis_server: RedisServer) -> None:
    payload = bytes(range(256)) * 4096
    async with RedisBackend(redis_server.url) as backend:
        heard: list[bytes] = []
        await backend.subscribe("a", lambda channel, payload: heard.append(payload))
        await asyncio.gather(*(backend.publish("a", payload) for _ in range(5)))
        await until(lambda: len(heard) == 5)
        assert heard == [payload] * 5


async def test_only_a_star_is_special_in_patterns(redis_server: RedisServer) -> None:
    async with RedisBackend(redis_server.url, prefix="p*[x]?\\:") as backend:
        heard: dict[str, list[str]] = {}
        for pattern in ("a?*", "[ab]*", "a\\*", "*", "é*", "^-]*"):
            heard[pattern] = []
            await backend.subscribe(
                pattern, lambda channel, payload, to=heard[pattern]: to.append(channel)
            )
        names = ["a?1", "ab1", "[ab]1", "b1", "a\\1", "éa", "^-]", "end"]
        for name in names:
            await backend.publish(name, b"")
        async with RedisBackend(redis_server.url, prefix="pAx?\\:") as stranger:
            await stranger.publish("not ours", b"")
        await backend.publish("end", b"")
        await until(lambda: heard["*"] == [*names, "end"])
        del heard["*"]
        assert heard == {
            "a?*": ["a?1"],
            "[ab]*": ["[ab]1"],
            "a\\*": ["a\\1"],
            "é*": ["éa"],
            "^-]*": ["^-]"],
        }


async def test_prefixes_keep_applications_apart(redis_server: RedisServer) -> None:
    async with (
        RedisBackend(redis_server.url, prefix="one:") as one,
        RedisBackend(redis_server.url, prefix="") as bare,
    ):
        mine: Messages = []
        every: Messages = []
        await one.subscribe("*", lambda *message: mine.append(message))
        await bare.subscribe("*", lambda *message: every.append(message))
        await bare.publish("two:a", b"")
        await one.publish("a", b"1")
        await until(lambda: len(every) == 2 and mine)
        assert mine == [("a", b"1")]
        assert every == [("two:a", b""), ("one:a", b"1")]


async def test_unsubscribe(redis_server: RedisServer) -> None:
    async with RedisBackend(redis_server.url) as backend:
        first: Messages = []
        second: Messages = []
        end: Messages = []
        one = await backend.subscribe("a", lambda *message: first.append(message))
        two = await backend.subscribe("a", lambda *message: second.append(message))
        await backend.subscribe("end", lambda *message: end.append(message))
        await backend.unsubscribe(one)
        await backend.publish("a", b"")
        await until(lambda: len(second) == 1)
        await backend.unsubscribe(two)
        await backend.unsubscribe(two)
        await backend.unsubscribe("unknown")
        assert redis_server.command("PUBSUB", "NUMSUB", "pywebtransport:a")[1] == 0
        await backend.publish("a", b"")
        # At once again, while the server has not said anything about it.
        again = [backend.subscribe("a", lambda *message: first.append(message)) for _ in range(2)]
        ids = await asyncio.gather(*again)
        await backend.publish("a", b"2")
        await backend.publish("end", b"")
        await until(lambda: end)
        assert (first, second) == ([("a", b"2")] * 2, [("a", b"")])
        assert len({one, two, *ids}) == 4


async def test_a_subscriber_that_fails_is_logged_and_harms_nobody(
    redis_server: RedisServer, expected_logs: ExpectedLogs
) -> None:
    expected_logs("failed for a message on 'a'")
    async with RedisBackend(redis_server.url) as backend:
        heard: Messages = []

        def broken(channel: str, payload: bytes) -> None:
            raise LookupError("in a subscriber")

        await backend.subscribe("a", broken)
        await backend.subscribe("a", lambda *message: heard.append(message))
        await backend.publish("a", b"1")
        await until(lambda: heard)
        assert backend.get_stats()["errors"] == 1


async def test_messages_of_other_programs_that_are_none_of_ours(
    redis_server: RedisServer,
) -> None:
    async with RedisBackend(redis_server.url, max_payload_size=10) as backend:
        heard: Messages = []
        await backend.subscribe("*", lambda *message: heard.append(message))
        redis_server.command("PUBLISH", "pywebtransport:a", b"x" * 11)
        redis_server.command("PUBLISH", b"pywebtransport:\xff", b"x")
        redis_server.command("PUBLISH", "pywebtransport:a", b"\x00\xff")
        await until(lambda: heard)
        assert heard == [("a", b"\x00\xff")]
        stats = backend.get_stats()
        assert (stats["oversize"], stats["malformed"]) == (1, 1)


async def test_limits(redis_server: RedisServer) -> None:
    async with RedisBackend(redis_server.url, max_payload_size=3, max_subscriptions=1) as backend:
        with pytest.raises(SerializationError, match="4 bytes; max_payload_size is 3"):
            await backend.publish("a", b"1234")
        first = await backend.subscribe("a", lambda *message: None)
        with pytest.raises(WebTransportError, match="max_subscriptions is 1"):
            await backend.subscribe("a", lambda *message: None)
        await backend.unsubscribe(first)
        await backend.subscribe("b", lambda *message: None)
        with pytest.raises(ConfigurationError, match="channel = ''"):
            await backend.publish("", b"")


async def test_a_flood_does_not_starve_the_loop(redis_server: RedisServer) -> None:
    async with RedisBackend(redis_server.url) as backend:
        heard = 0
        before: list[int] = []

        def count(channel: str, payload: bytes) -> None:
            nonlocal heard
            heard += 1

        async def others() -> None:
            while heard < 20_000:
                before.append(heard)
                await asyncio.sleep(0)

        await backend.subscribe("a", count)
        async with redis.asyncio.Redis.from_url(redis_server.url) as flood:
            pipeline = flood.pipeline(transaction=False)
            for _ in range(20_000):
                pipeline.publish("pywebtransport:a", b"")
            task = asyncio.create_task(others())
            await pipeline.execute()
            await task
        steps = [second - first for first, second in itertools.pairwise(before)]
        assert max(steps) <= 200


# ------------------------------------------------------------------------ gaps


async def test_a_restarted_server_is_found_again(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    gaps = Gaps()
    async with RedisBackend(redis_server.url, **gaps.options) as backend:
        heard: Messages = []
        ended: Messages = []
        await backend.subscribe("a", lambda *message: heard.append(message))
        await backend.subscribe("b*", lambda *message: heard.append(message))
        gone = await backend.subscribe("c", lambda *message: ended.append(message))
        for number in range(2):
            await backend.publish("a", b"before")
            await until(lambda count=3 * number + 1: len(heard) == count)  # type: ignore[misc]
            redis_server.restart()
            assert await gaps.next() > 0
            await backend.unsubscribe(gone)
            await backend.publish("c", b"")
            await backend.publish("a", b"after")
            await backend.publish("b1", b"after")
            await until(lambda count=3 * number + 3: len(heard) == count)  # type: ignore[misc]
        assert heard == 2 * [("a", b"before"), ("a", b"after"), ("b1", b"after")]
        assert ended == []
        stats = backend.get_stats()
        assert stats["gaps"] == 2
        assert stats["gap_seconds"] > 0
        assert stats["connected"] is True
    assert [record.levelname for record in caplog.records].count("WARNING") == 2
    assert "messages get lost" in caplog.text


async def test_without_a_server_nothing_can_be_sent_or_subscribed(
    redis_server: RedisServer,
) -> None:
    gaps = Gaps()
    async with RedisBackend(redis_server.url, **gaps.options) as backend:
        heard: Messages = []
        kept = await backend.subscribe("a", lambda *message: heard.append(message))
        gone = await backend.subscribe("b", lambda *message: heard.append(message))
        await backend.publish("a", b"1")
        redis_server.stop()
        await until(lambda: not backend.get_stats()["connected"])
        with pytest.raises(ConnectionError, match="not connected to Redis now"):
            await backend.publish("a", b"lost")
        with pytest.raises(ConnectionError, match="not connected to Redis now"):
            await backend.subscribe("c", lambda *message: None)
        await backend.unsubscribe(gone)
        await until(lambda: backend.get_stats()["failed_attempts"] >= 3)
        redis_server.start()
        await gaps.next()
        await backend.publish("b", b"")
        await backend.publish("a", b"2")
        await until(lambda: len(heard) == 2)
        assert heard == [("a", b"1"), ("a", b"2")]
        await backend.unsubscribe(kept)


async def test_what_is_under_way_when_the_server_dies_fails(redis_server: RedisServer) -> None:
    gaps = Gaps()
    async with RedisBackend(redis_server.url, **gaps.options) as backend:
        await backend.publish("a", b"1")
        redis_server.pause()
        publishers = [asyncio.create_task(backend.publish("a", b"2")) for _ in range(3)]
        subscriber = asyncio.create_task(backend.subscribe("a", lambda *message: None))
        await asyncio.sleep(0)
        redis_server.stop()
        outcomes = await asyncio.gather(*publishers, subscriber, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [ConnectionError] * 4
        assert backend.get_stats()["subscriptions"] == 0
        redis_server.start()
        await gaps.next()
        await backend.publish("a", b"3")


async def test_a_server_that_does_not_answer(redis_server: RedisServer) -> None:
    gaps = Gaps()
    async with RedisBackend(redis_server.url, **gaps.options) as backend:
        await backend.publish("a", b"1")
        redis_server.pause()
        backend._options.timeout = 0.2
        try:
            with pytest.raises(ConnectionError, match=r"did not answer within 0\.2 seconds"):
                await backend.publish("a", b"2")
            with pytest.raises(ConnectionError, match=r"did not answer within 0\.2 seconds"):
                await backend.subscribe("a", lambda *message: None)
            await until(lambda: not backend.get_stats()["connected"])
        finally:
            backend._options.timeout = 5.0
            redis_server.resume()
        await gaps.next()
        heard: Messages = []
        await backend.subscribe("a", lambda *message: heard.append(message))
        await backend.publish("a", b"3")
        await until(lambda: heard)
        # The one without an answer came after all: it is not known whether such a one does.
        assert heard[-1] == ("a", b"3")


async def test_a_frozen_server_is_noticed_by_who_only_listens(redis_server: RedisServer) -> None:
    gaps = Gaps()
    options = {**gaps.options, "ping_interval": 0.01, "timeout": 2.0}
    async with RedisBackend(redis_server.url, **options) as backend:
        heard: Messages = []
        await backend.subscribe("a", lambda *message: heard.append(message))
        redis_server.pause()
        try:
            await until(lambda: not backend.get_stats()["connected"])
        finally:
            redis_server.resume()
        await gaps.next()
        await backend.publish("a", b"1")
        await until(lambda: heard == [("a", b"1")])


async def test_a_server_that_has_nothing_to_say_is_kept(redis_server: RedisServer) -> None:
    async with RedisBackend(redis_server.url, ping_interval=0.01) as backend:
        link = backend._servers[0]._subscriber
        assert link is not None
        await until(lambda: link._heard >= 5)  # without subscriptions
        await backend.subscribe("a", lambda *message: None)
        count = link._heard
        await until(lambda: link._heard >= count + 5)
        assert backend._servers[0]._subscriber is link
        assert backend.get_stats()["gaps"] == 0


async def test_publishers_do_not_wait_for_the_failures_of_each_other(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with RedisBackend(redis_server.url) as backend:
        attempts = 0
        connect = backend._servers[0]._open

        async def counted(on_message: Callable[[list[Any]], None]) -> Any:
            nonlocal attempts
            attempts += 1
            return await connect(on_message)

        monkeypatch.setattr(backend._servers[0], "_open", counted)
        monkeypatch.setattr(backend._options, "timeout", 0.2)
        redis_server.pause()
        try:
            outcomes = await asyncio.gather(
                *(backend.publish("a", b"") for _ in range(10)), return_exceptions=True
            )
        finally:
            backend._options.timeout = 5.0
            redis_server.resume()
        assert {type(outcome) for outcome in outcomes} == {ConnectionError}
        assert attempts == 1
        await backend.publish("a", b"")


async def test_an_idle_publisher_that_the_server_dropped_is_replaced(
    redis_server: RedisServer,
) -> None:
    async with RedisBackend(redis_server.url) as backend:
        # One without subscriptions would be a normal connection to the server.
        await backend.subscribe("a", lambda *message: None)
        await backend.publish("a", b"1")
        for _ in range(3):
            publisher = backend._servers[0]._publisher
            assert publisher is not None
            redis_server.command("CLIENT", "KILL", "TYPE", "normal")
            await until(lambda link=publisher: link.ended)  # type: ignore[misc]
            await backend.publish("a", b"2")
        assert backend.get_stats()["gaps"] == 0


async def test_a_callback_that_fails_is_logged(
    redis_server: RedisServer, expected_logs: ExpectedLogs
) -> None:
    expected_logs("on_gap .* failed")
    told = asyncio.Event()

    def on_gap(seconds: float) -> None:
        told.set()
        raise LookupError("in on_gap")

    async with RedisBackend(redis_server.url, on_gap=on_gap, **QUICK) as backend:
        redis_server.restart()
        await told.wait()
        await backend.publish("a", b"")
        assert backend.get_stats()["errors"] == 1


async def test_close_during_a_gap(redis_server: RedisServer) -> None:
    backend = RedisBackend(redis_server.url, **QUICK)
    await backend.start()
    await backend.publish("a", b"")
    redis_server.stop()
    await until(lambda: not backend.get_stats()["connected"])
    await backend.close()
    with pytest.raises(ConnectionError, match="not started"):
        await backend.publish("a", b"")


async def test_close_and_start_again(redis_server: RedisServer) -> None:
    backend = RedisBackend(redis_server.url)
    await backend.close()
    for _ in range(2):
        with pytest.raises(ConnectionError, match="not started"):
            await backend.subscribe("a", lambda *message: None)
        await asyncio.gather(backend.start(), backend.start())
        heard: Messages = []
        await backend.subscribe("a", lambda *message, to=heard: to.append(message))
        await backend.publish("a", b"1")
        await until(lambda to=heard: to)  # type: ignore[misc]
        assert heard == [("a", b"1")]
        assert len(redis_server.command("CLIENT", "LIST", "TYPE", "pubsub").split(b"\n")) == 2
        await backend.close()
        await backend.close()


async def test_close_fails_those_who_wait(redis_server: RedisServer) -> None:
    backend = RedisBackend(redis_server.url)
    await backend.start()
    await backend.publish("a", b"")
    redis_server.pause()
    try:
        waiting = [
            asyncio.create_task(backend.publish("a", b"")),
            asyncio.create_task(backend.subscribe("a", lambda *message: None)),
        ]
        await until(lambda: backend.get_stats()["subscriptions"])
        await backend.close()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [ConnectionError] * 2
    finally:
        redis_server.resume()


class Relay:
    """Stands between a backend and its server, and spoils what the backend sends there.

    Attributes:
        url: Where it is.
        cut_at: Connections end when they send this.
        hold_at: Connections get no answer any more once they have sent this.
        held: A connection gets no answer any more.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self.cut_at = self.hold_at = b"\0never"
        self.held = asyncio.Event()
        self.url = ""

    async def __aenter__(self) -> Relay:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self._tasks = asyncio.TaskGroup()
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        await self._tasks.__aexit__(None, None, None)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._tasks.create_task(self._pass_on(reader, writer))

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_server = await asyncio.open_connection("127.0.0.1", self._port)
        back = asyncio.create_task(self._answer(to_server[0], writer))
        try:
            while data := await reader.read(65536):
                if self.cut_at in data:
                    break
                if self.hold_at in data:
                    back.cancel()
                    self.held.set()
                to_server[1].write(data)
        finally:
            back.cancel()
            for one in (to_server[1], writer):
                one.close()
            await asyncio.wait([back])

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()


async def test_a_server_lost_while_subscribing_again(redis_server: RedisServer) -> None:
    gaps = Gaps()
    async with (
        Relay(redis_server.port) as relay,
        RedisBackend(relay.url, **gaps.options) as backend,
    ):
        heard: Messages = []
        await backend.subscribe("a", lambda *message: heard.append(message))
        relay.cut_at = b"SUBSCRIBE"
        redis_server.command("CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: backend.get_stats()["failed_attempts"] >= 2)
        relay.cut_at = b"\0never"
        await gaps.next()
        await backend.publish("a", b"1")
        await until(lambda: heard)
        assert backend.get_stats()["gaps"] == 1


async def test_close_while_subscribing_again(redis_server: RedisServer) -> None:
    async with (
        Relay(redis_server.port) as relay,
        RedisBackend(relay.url, **QUICK) as backend,
    ):
        await backend.subscribe("a", lambda *message: None)
        relay.hold_at = b"SUBSCRIBE"
        redis_server.command("CLIENT", "KILL", "TYPE", "pubsub")
        await relay.held.wait()


async def test_close_while_connecting_for_publishing(redis_server: RedisServer) -> None:
    backend = RedisBackend(redis_server.url)
    await backend.start()
    publisher = asyncio.create_task(backend.publish("a", b""))
    await asyncio.sleep(0)
    await backend.close()
    with pytest.raises(ConnectionError, match="closed or lost"):
        await publisher


# ------------------------------------------------------------ who may, and where


async def test_passwords(locked_server: RedisServer) -> None:
    async with RedisBackend(locked_server.url) as backend:
        await backend.publish("a", b"")
    for password in ("", "wrong"):
        backend = RedisBackend(locked_server.url_for(password=password))
        with pytest.raises(AuthenticationError) as caught:
            await backend.start()
        assert caught.value.auth_method == "redis"
        assert not backend.get_stats()["connected"]
        await backend.close()


async def test_password_that_is_wrong_later_is_a_warning(
    locked_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    locked_server.command("ACL", "SETUSER", "later", "on", ">old", "+@all", "~*", "&*")
    gaps = Gaps()
    url = locked_server.url_for(user="later", password="old")
    async with RedisBackend(url, **gaps.options) as backend:
        locked_server.command("ACL", "SETUSER", "later", "resetpass", ">new")
        locked_server.command("CLIENT", "KILL", "USER", "later")
        await until(lambda: backend.get_stats()["failed_attempts"] >= 3)
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len([text for text in warnings if "Redis refuses to let this process in" in text]) == 1


async def test_what_a_user_may_not_do(
    locked_server: RedisServer, expected_logs: ExpectedLogs
) -> None:
    expected_logs("Redis refuses the subscription to 'mine'")

    def allow(*channels: str) -> None:
        rules = ("resetchannels", *(f"&pywebtransport:{name}" for name in channels))
        locked_server.command("ACL", "SETUSER", "app", "on", ">secret", "+@all", "~*", *rules)

    gaps = Gaps()
    allow("mine", "more")
    url = locked_server.url_for(user="app", password="secret")
    async with RedisBackend(url, **gaps.options) as backend:
        heard: Messages = []
        for name in ("mine", "more"):
            await backend.subscribe(name, lambda *message: heard.append(message))
        for refused in (
            backend.publish("yours", b""),
            backend.subscribe("yours", lambda *message: None),
            backend.subscribe("*", lambda *message: None),
        ):
            with pytest.raises(AuthenticationError, match="permission"):
                await refused
        await backend.publish("mine", b"1")
        await until(lambda: heard)
        assert backend.get_stats()["subscriptions"] == 2
        # A user who is gone may come back, with fewer rights.
        locked_server.command("ACL", "DELUSER", "app")
        await until(lambda: backend.get_stats()["failed_attempts"] >= 2)
        allow("more")
        await gaps.next()
        await backend.publish("more", b"2")
        await until(lambda: len(heard) == 2)
        assert heard == [("mine", b"1"), ("more", b"2")]
        # And get them back.
        with pytest.raises(AuthenticationError, match="permission"):
            await backend.subscribe("mine", lambda *message: None)
        allow("mine", "more")
        await backend.subscribe("mine", lambda *message: None)
        await backend.publish("mine", b"3")
        await until(lambda: len(heard) == 3)


async def test_a_server_that_is_not_there(redis_server: RedisServer) -> None:
    redis_server.stop()
    backend = RedisBackend(redis_server.url)
    with pytest.raises(ConnectionError, match="the Redis server cannot be used"):
        await backend.start()
    await backend.close()


async def test_a_server_that_says_nothing() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        backend = RedisBackend(f"redis://127.0.0.1:{port}", timeout=0.1)
        with pytest.raises(ConnectionError, match="TimeoutError"):
            await backend.start()


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$-77\r\n", b"+OK\r\n" * 99]
)
async def test_a_server_that_is_no_redis(answer: bytes) -> None:
    async def strange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(strange, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        backend = RedisBackend(f"redis://127.0.0.1:{port}", timeout=5, **QUICK)

        async def use() -> None:
            async with backend:
                await backend.subscribe("a", lambda *message: None)
                await backend.publish("a", b"")

        with pytest.raises(ConnectionError):
            await use()


@contextmanager
def tls_server(certs: Certificates, pair: Pair) -> Iterator[str]:
    """The URL of a server that speaks TLS."""
    server = RedisServer(
        *("--tls-cert-file", pair.certfile, "--tls-key-file", pair.keyfile),
        *("--tls-auth-clients", "no", "--tls-ca-cert-file", certs.authority.certfile),
        tls=True,
    )
    try:
        yield f"rediss://127.0.0.1:{server.port}"
    finally:
        server.close()


async def test_tls(certs: Certificates) -> None:
    trust = f"?ssl_ca_certs={urllib.parse.quote(certs.authority.certfile)}"
    with tls_server(certs, certs.server) as url:
        async with RedisBackend(url + trust) as backend:
            heard: Messages = []
            await backend.subscribe("a", lambda *message: heard.append(message))
            await backend.publish("a", b"1")
            await until(lambda: heard)
        with pytest.raises(ConnectionError, match="the Redis server cannot be used"):
            await RedisBackend(url).start()
    with tls_server(certs, certs.wrong_name) as url:
        with pytest.raises(ConnectionError, match="the Redis server cannot be used"):
            await RedisBackend(url + trust).start()
        async with RedisBackend(url + trust + "&ssl_check_hostname=false") as backend:
            await backend.publish("a", b"1")


async def test_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    server = RedisServer("--unixsocket", str(path))
    try:
        async with RedisBackend(f"unix://{path}") as backend:
            heard: Messages = []
            await backend.subscribe("a", lambda *message: heard.append(message))
            await backend.publish("a", b"1")
            await until(lambda: heard)
    finally:
        server.close()


@pytest.mark.parametrize(
    "url",
    [
        "http://:secret@localhost",
        "secret",
        "redis://:secret@localhost:port",
        "redis://:secret@localhost/?socket_connect_timeout=soon",
        "redis://:secret@localhost/?unknown_option=1",
        "",
        None,
    ],
)
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(ConfigurationError, match="redis://, rediss:// or unix://") as caught:
        RedisBackend(url)
    assert caught.value.config_key == "url"
    assert "secret" not in repr(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "key", ["timeout", "reconnect_delay", "max_reconnect_delay", "ping_interval"]
)
@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), "1", None])
def test_times_that_are_none(key: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{key} = .* expected more than 0 seconds"):
        RedisBackend(**{key: value})


@pytest.mark.parametrize("key", ["max_payload_size", "max_subscriptions"])
@pytest.mark.parametrize("backend", [RedisBackend, MemoryBackend])
@pytest.mark.parametrize("value", [0, 1.5, True, None])
def test_limits_that_are_none(backend: Callable[..., EventBackend], key: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{key} = .* whole number of at least 1"):
        backend(**{key: value})


def test_options_of_the_url_do_not_break_the_protocol() -> None:
    backend = RedisBackend("redis://localhost/?protocol=3&decode_responses=yes&client_name=mine")
    assert backend._servers[0]._arguments["protocol"] == 2
    assert backend._servers[0]._arguments["decode_responses"] is False
    assert backend._servers[0]._arguments["client_name"] == "mine"


def test_without_redis_py(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("redis", "redis.asyncio", "redis.asyncio.connection"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigurationError, match=r'pip install "redis>=5\.0\.1"'):
        RedisBackend()


# ---------------------------------------------------------------- cancellation


async def each_await(attempt: Callable[[int], Coroutine[Any, Any, bool]]) -> None:
    """Call ``attempt(0)``, ``attempt(1)``, ... until it says that the await was not reached."""
    for index in range(MOST_AWAITS):
        if not await attempt(index):
            assert index > 0
            return
    raise AssertionError(f"still cancelled at await {MOST_AWAITS}")


async def test_cancelled_start(redis_server: RedisServer) -> None:
    async def attempt(index: int) -> bool:
        backend = RedisBackend(redis_server.url)
        reached = await cancelled_at(backend.start, index)
        await backend.start()
        await backend.publish("a", b"")
        await backend.close()
        return reached

    await each_await(attempt)


async def test_cancelled_publish(redis_server: RedisServer) -> None:
    async def attempt(index: int) -> bool:
        async with RedisBackend(redis_server.url) as backend:
            reached = await cancelled_at(lambda: backend.publish("a", b"1"), index)
            await backend.publish("a", b"2")
            return reached

    await each_await(attempt)


async def test_cancelled_subscribe_and_unsubscribe(redis_server: RedisServer) -> None:
    async with RedisBackend(redis_server.url) as backend:
        heard: Messages = []

        async def both() -> None:
            await backend.unsubscribe(
                await backend.subscribe("a", lambda *message: heard.append(message))
            )

        async def attempt(index: int) -> bool:
            # One that waits for the same answer is not cancelled with it.
            other = asyncio.create_task(backend.subscribe("a", lambda *message: None))
            reached = await cancelled_at(both, index)
            await backend.unsubscribe(await other)
            assert backend.get_stats()["subscriptions"] == 0
            assert redis_server.command("PUBSUB", "NUMSUB", "pywebtransport:a")[1] == 0
            return reached

        await each_await(attempt)
        await backend.publish("a", b"")
        assert heard == []


async def test_cancelled_close(redis_server: RedisServer) -> None:
    async def attempt(index: int) -> bool:
        backend = RedisBackend(redis_server.url)
        await backend.start()
        keeper = backend._servers[0]._keeper
        assert keeper is not None
        await backend.publish("a", b"")
        reached = await cancelled_at(backend.close, index)
        await asyncio.wait([keeper])
        return reached

    await each_await(attempt)
