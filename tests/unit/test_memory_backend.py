"""The backend within one process."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywebtransport.events import EventBackend, MemoryBackend
from pywebtransport.events._memory import matches
from pywebtransport.exceptions import (
    ConfigurationError,
    ConnectionError,
    SerializationError,
    WebTransportError,
)
from tests.support.leaks import ExpectedLogs

Messages = list[tuple[str, bytes]]


async def test_messages_come_in_order_to_those_who_want_them() -> None:
    async with MemoryBackend() as backend:
        assert isinstance(backend, EventBackend)
        exact: Messages = []
        every: Messages = []
        await backend.subscribe("room.1", lambda *message: exact.append(message))
        await backend.subscribe("room.*", lambda *message: every.append(message))
        for number in range(3):
            await backend.publish("room.1", b"%d" % number)
        await backend.publish("room.2", b"x")
        await backend.publish("lobby", b"y")
        assert exact == [("room.1", b"0"), ("room.1", b"1"), ("room.1", b"2")]
        assert every == [*exact, ("room.2", b"x")]
        assert backend.get_stats() == {
            "subscriptions": 2,
            "published": 5,
            "delivered": 7,
            "errors": 0,
        }


async def test_unsubscribe_ends_one_subscription() -> None:
    async with MemoryBackend() as backend:
        first: Messages = []
        second: Messages = []
        one = await backend.subscribe("a", lambda *message: first.append(message))
        two = await backend.subscribe("a", lambda *message: second.append(message))
        glob = await backend.subscribe("*", lambda *message: first.append(message))
        await backend.unsubscribe(one)
        await backend.unsubscribe(one)
        await backend.unsubscribe(glob)
        await backend.unsubscribe("unknown")
        await backend.publish("a", b"")
        assert (first, second) == ([], [("a", b"")])
        await backend.unsubscribe(two)
        assert backend.get_stats()["subscriptions"] == 0


async def test_a_subscriber_may_end_another_while_a_message_is_delivered() -> None:
    async with MemoryBackend() as backend:
        heard: list[str] = []
        ids: list[str] = []

        def deliver(name: str) -> None:
            heard.append(name)
            # Takes effect at once: it does not wait for anything.
            with pytest.raises(StopIteration):
                backend.unsubscribe(ids[1]).send(None)

        ids.append(await backend.subscribe("a", lambda *message: deliver("first")))
        ids.append(await backend.subscribe("a", lambda *message: heard.append("second")))
        await backend.publish("a", b"")
        assert heard == ["first"]


async def test_a_subscriber_that_fails_is_logged_and_harms_nobody(
    expected_logs: ExpectedLogs,
) -> None:
    expected_logs("failed for a message on 'a'")
    async with MemoryBackend() as backend:
        heard: Messages = []

        def broken(channel: str, payload: bytes) -> None:
            raise LookupError("in a subscriber")

        await backend.subscribe("a", broken)
        await backend.subscribe("a", lambda *message: heard.append(message))
        await backend.publish("a", b"1")
        assert heard == [("a", b"1")]
        assert backend.get_stats()["errors"] == 1


async def test_nothing_works_before_start_and_after_close() -> None:
    backend = MemoryBackend()
    heard: Messages = []
    for _ in range(2):
        with pytest.raises(ConnectionError, match="not started"):
            await backend.publish("a", b"")
        with pytest.raises(ConnectionError, match="not started"):
            await backend.subscribe("a", lambda *message: None)
        await backend.start()
        await backend.start()
        await backend.subscribe("a", lambda *message: heard.append(message))
        await backend.close()
        await backend.close()
        await backend.start()
        await backend.publish("a", b"")
        assert heard == []
        await backend.close()


async def test_limits() -> None:
    async with MemoryBackend(max_payload_size=3, max_subscriptions=1) as backend:
        await backend.publish("a", b"123")
        with pytest.raises(SerializationError, match="4 bytes; max_payload_size is 3"):
            await backend.publish("a", b"1234")
        first = await backend.subscribe("a", lambda *message: None)
        with pytest.raises(WebTransportError, match="max_subscriptions is 1"):
            await backend.subscribe("a", lambda *message: None)
        await backend.unsubscribe(first)
        await backend.subscribe("b*", lambda *message: None)


@pytest.mark.parametrize("name", ["", "x" * 1025, b"bytes", None, 1, "\ud800"])
@pytest.mark.loops("asyncio")
async def test_names_that_are_no_channels(name: str) -> None:
    async with MemoryBackend() as backend:
        with pytest.raises(ConfigurationError, match=r"channel = .*expected a string"):
            await backend.publish(name, b"")
        with pytest.raises(ConfigurationError, match=r"pattern = .*expected a string"):
            await backend.subscribe(name, lambda *message: None)


async def test_a_publisher_in_a_loop_lets_others_run() -> None:
    async with MemoryBackend() as backend:
        turns = 0

        async def other() -> None:
            nonlocal turns
            for _ in range(10):
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        for _ in range(20):
            await backend.publish("a", b"")
        assert turns == 10
        await task


@pytest.mark.parametrize(
    ("pattern", "channel", "expected"),
    [
        ("*", "", True),
        ("*", "anything", True),
        ("**", "a", True),
        ("a*", "a", True),
        ("a*", "ba", False),
        ("*a", "ba", True),
        ("*a", "ab", False),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("a*b*c", "a-b-b-c", True),
        ("a*b*c", "a-c-b", False),
        ("a*bc*c", "abc", False),
        ("a*bc*c", "abcc", True),
        ("*ab*ab*", "ab", False),
        ("*ab*ab*", "abab", True),
        ("a[1]*", "a[1]b", True),
        ("a[1]*", "a1b", False),
        ("a?*", "ab", False),
    ],
)
def test_patterns(pattern: str, channel: str, expected: bool) -> None:
    assert matches(pattern.split("*"), channel) is expected


def naive(pattern: str, channel: str) -> bool:
    """The definition, without regard to time."""
    if not pattern:
        return not channel
    if pattern[0] == "*":
        return any(naive(pattern[1:], channel[start:]) for start in range(len(channel) + 1))
    return channel[:1] == pattern[0] and naive(pattern[1:], channel[1:])


@given(st.text("ab*", max_size=7).filter(lambda text: "*" in text), st.text("ab", max_size=8))
def test_patterns_match_what_their_definition_says(pattern: str, channel: str) -> None:
    assert matches(pattern.split("*"), channel) is naive(pattern, channel)


def test_a_pattern_of_many_stars_takes_no_long_time() -> None:
    """With backtracking this would take longer than the age of the universe."""
    assert not matches(("*a" * 500 + "b").split("*"), "a" * 1024)
