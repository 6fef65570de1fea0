"""The connections of workers and the hub between them, in one process: bounds, gaps, ends."""

from __future__ import annotations

import asyncio
import os
import socket
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pywebtransport.events import LocalBackend, MemoryBackend
from pywebtransport.events import _worker_link as worker_link
from pywebtransport.events._worker_frames import FrameKind, FrameSplitter, frame, message_frame
from pywebtransport.exceptions import ConfigurationError, ConnectionError, SerializationError
from pywebtransport.server._hub import Hub
from pywebtransport.utils._rounds import Round
from pywebtransport.utils._turns import Turns
from tests.support.steps import until

LIMIT = 1_000_000


class Workers:
    """Backends that believe to be in workers, and the hub of their supervisor.

    The hub runs in this loop, as long as it is not told to pause.
    """

    def __init__(self, hub: Hub, patch: pytest.MonkeyPatch) -> None:
        self.hub = hub
        self.paused = False
        self._patch = patch
        self._sockets: list[socket.socket] = []
        self._backends: list[LocalBackend] = []
        self.links: list[Any] = []

    async def start(self, *names: str) -> list[LocalBackend]:
        """Backends of one more worker."""
        _, theirs = self.hub.connect()
        self._sockets.append(theirs)
        # Each process has its own.
        self._patch.setattr(LocalBackend, "_places", weakref.WeakValueDictionary())
        worker_link.set_worker_link(theirs)
        self.links.append(worker_link.worker_link())
        backends = [LocalBackend(name) for name in names or ("",)]
        for backend in backends:
            await backend.start()
        self._backends += backends
        return backends

    async def run(self) -> None:
        while True:
            await asyncio.sleep(0)
            if not self.paused:
                self.hub.serve()

    async def close(self) -> None:
        for backend in self._backends:
            await backend.close()
        for sock in self._sockets:
            sock.close()


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    @asynccontextmanager
    async def make(limit: int = LIMIT) -> AsyncIterator[Workers]:
        hub = Hub(limit)
        made = Workers(hub, monkeypatch)
        running = asyncio.create_task(made.run())
        try:
            yield made
        finally:
            await made.close()
            running.cancel()
            await asyncio.wait([running])
            hub.close()
            worker_link.set_worker_link(None)

    return make


async def listen(backend: LocalBackend, pattern: str = "*") -> list[tuple[str, bytes]]:
    heard: list[tuple[str, bytes]] = []
    await backend.subscribe(pattern, lambda channel, payload: heard.append((channel, payload)))
    return heard


async def test_messages_reach_all_workers_in_order(workers: Any) -> None:
    async with workers() as made:
        ((one,), (two,), (three,)) = [await made.start() for _ in range(3)]
        heard = [await listen(backend) for backend in (one, two, three)]
        sent = [(f"channel {number}", bytes([number]) * number) for number in range(100)]
        for channel, payload in sent:
            await one.publish(channel, bytearray(payload))
        await until(lambda: all(each == sent for each in heard))
        assert [backend.get_stats()["received"] for backend in (one, two, three)] == [0, 100, 100]


async def test_a_large_message_passes_in_pieces(workers: Any) -> None:
    async with workers() as made:
        ((one,), (two,)) = [await made.start() for _ in range(2)]
        heard = await listen(two)
        await one.publish("a", bytes(1024 * 1024))
        await one.publish("b", b"after")
        await until(lambda: len(heard) == 2)
        assert [len(payload) for _, payload in heard] == [1024 * 1024, 5]
        with pytest.raises(SerializationError, match="max_payload_size"):
            await one.publish("a", bytes(1024 * 1024 + 1))


async def test_names_keep_backends_apart(workers: Any) -> None:
    async with workers() as made:
        (a, b, again) = await made.start("a", "b", "a")
        others = await made.start("a", "b", "a")
        heard = [await listen(backend) for backend in others]
        await a.publish("from", b"a")
        await b.publish("from", b"b")
        await again.publish("from", b"again")
        await until(lambda: all(heard))
        assert heard == [[("from", b"a")], [("from", b"b")], [("from", b"again")]]


async def test_a_place_is_free_again_when_its_backend_is_closed(workers: Any) -> None:
    """Otherwise the next one of this name would be connected with nobody."""
    async with workers() as made:
        (old,) = await made.start()
        await old.close()
        new = LocalBackend()
        await new.start()
        (other,) = await made.start()
        heard = await listen(other)
        await new.publish("a", b"1")
        await until(lambda: heard)
        await new.close()


async def test_a_slow_worker_costs_bounded_memory_and_is_told(
    workers: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with workers() as made:
        ((quick,), (slow,)) = [await made.start() for _ in range(2)]
        heard = await listen(slow)
        gaps: list[float | None] = []
        slow.watch_gaps(gaps.append)
        # It reads the next message when all its subscribers have this one.
        blocking = Round((), bool)
        await slow.subscribe("block", lambda *_: blocking)
        hub_link = list(made.hub._links.values())[1]
        await quick.publish("block", b"")
        await until(lambda: heard)
        for number in range(300):
            await quick.publish("a", number.to_bytes(2, "big") + bytes(20_000))
            assert hub_link.waiting <= LIMIT
        assert gaps == []
        blocking._serve(Turns.of())
        await until(lambda: gaps)
        assert gaps[0] is None
        assert gaps[1] is not None
        assert gaps[1] > 0
        stats = slow.get_stats()
        assert stats["gaps"] == 1
        text = f"this worker was too slow: {stats['lost']} messages of other workers are lost"
        assert text in caplog.text
        assert stats["lost"] + len(heard) == 301
        # What was not lost came in order, and what is published now comes, too.
        numbers = [payload[:2] for channel, payload in heard if channel == "a"]
        assert numbers == sorted(numbers)
        await quick.publish("after", b"")
        await until(lambda: heard[-1][0] == "after")


async def test_a_publisher_waits_while_the_supervisor_does_not_read(workers: Any) -> None:
    async with workers(100 * LIMIT) as made:
        ((one,), (two,)) = [await made.start() for _ in range(2)]
        heard = await listen(two)
        made.paused = True

        async def publish() -> None:
            for _ in range(50):
                await one.publish("a", bytes(100_000))

        publishing = asyncio.create_task(publish())
        done, _ = await asyncio.wait([publishing], timeout=0.05)
        assert not done
        assert one.get_stats()["published"] < 20
        made.paused = False
        await publishing
        await until(lambda: len(heard) == 50)


async def test_closing_waits_for_the_last_messages(workers: Any) -> None:
    async with workers(100 * LIMIT) as made:
        ((one,), (two,)) = [await made.start() for _ in range(2)]
        heard = await listen(two)
        made.paused = True
        for _ in range(10):
            await one.publish("a", bytes(100_000))
        closing = asyncio.create_task(one.close())
        await asyncio.sleep(0)
        assert not closing.done()
        made.paused = False
        await closing
        await until(lambda: len(heard) == 10)


async def test_closing_does_not_wait_long_for_the_supervisor(
    workers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_link, "_FLUSHING", 0.01)
    async with workers(100 * LIMIT) as made:
        ((one,), (two,)) = [await made.start() for _ in range(2)]
        heard = await listen(two)
        made.paused = True
        for _ in range(10):
            await one.publish("a", bytes(100_000))
        await one.close()
        made.paused = False
        # Half a message was sent; it is completed when there is a backend again.
        monkeypatch.setattr(worker_link, "_link", made.links[0])
        monkeypatch.setattr(LocalBackend, "_places", weakref.WeakValueDictionary())
        await one.start()
        await one.publish("after", b"")
        await until(lambda: heard and heard[-1][0] == "after")
        assert len(heard) == 11


async def test_what_was_published_before_a_start_does_not_arrive(workers: Any) -> None:
    async with workers() as made:
        (other,) = await made.start()
        (backend,) = await made.start()
        await backend.close()
        await other.publish("a", b"while it was closed")
        await backend.start()
        heard = await listen(backend)
        await other.publish("a", b"after")
        await until(lambda: heard)
        assert heard == [("a", b"after")]


async def test_the_end_of_the_supervisor(workers: Any) -> None:
    async with workers() as made:
        (backend,) = await made.start()
        gaps: list[float | None] = []
        backend.watch_gaps(gaps.append)
        made.hub.close()
        await until(lambda: gaps)
        assert gaps == [None]
        with pytest.raises(ConnectionError, match="supervisor of the workers is gone"):
            await backend.publish("a", b"")
        await backend.close()
        with pytest.raises(ConnectionError, match="supervisor of the workers is gone"):
            await backend.start()


async def test_a_supervisor_that_stands_still(
    workers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_link, "_TIMEOUT", 0.02)
    monkeypatch.setattr(worker_link, "_WELCOME_TIMEOUT", 0.02)
    monkeypatch.setattr(worker_link, "_FLUSHING", 0.01)
    async with workers() as made:
        (backend,) = await made.start()
        made.paused = True

        async def publish() -> None:
            for _ in range(50):
                await backend.publish("a", bytes(100_000))

        with pytest.raises(ConnectionError, match=r"read nothing for 0\.02 seconds"):
            await publish()
        with pytest.raises(ConnectionError, match=r"did not answer within 0\.02 seconds"):
            await made.start()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_fork_of_a_worker_is_no_worker() -> None:
    """Both would read the same socket."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        worker_link.set_worker_link(theirs)
        try:
            assert worker_link.worker_link() is not None
            child = os.fork()
            if not child:
                os._exit(worker_link.worker_link() is not None)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        finally:
            worker_link.set_worker_link(None)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
async def test_a_fork_of_a_worker_sends_nothing(workers: Any) -> None:
    """Its copies of the backends neither publish nor end what the worker has."""
    async with workers() as made:
        ((one,), (two,)) = [await made.start() for _ in range(2)]
        heard = await listen(two)
        child = os.fork()
        if not child:
            status = 1
            try:
                one.begin_publishing("a", b"from the fork")
            except ConnectionError as error:
                status = 2
                if "is a fork of a worker" in str(error):
                    closing = one.close()
                    try:
                        closing.send(None)
                    except StopIteration:
                        status = 0
            finally:
                os._exit(status)
        _, ended = await asyncio.to_thread(os.waitpid, child, 0)
        assert os.waitstatus_to_exitcode(ended) == 0
        back = await listen(one)
        await one.publish("a", b"from the worker")
        await two.publish("b", b"to the worker")
        await until(lambda: len(heard) == 2 and len(back) == 2)
        assert ("a", b"from the worker") in heard


async def test_a_worker_that_ended_is_heard_to_its_last_message(workers: Any) -> None:
    async with workers() as made:
        (other,) = await made.start()
        heard = await listen(other)
        made.paused = True
        link, theirs = made.hub.connect()
        theirs.send(message_frame(b"0 ", b"a", b"last"))
        theirs.close()
        made.hub.end(link)
        made.paused = False
        await until(lambda: heard)
        assert heard == [("a", b"last")]
        made.hub.end(link)


async def test_a_backend_in_memory_says_that_it_does_not_connect_workers(
    workers: Any, caplog: pytest.LogCaptureFixture
) -> None:
    text = "this MemoryBackend connects nothing outside of its worker process"
    with caplog.at_level("INFO", "pywebtransport.events"):
        async with MemoryBackend():
            assert text not in caplog.text
        async with workers() as made:
            await made.start()
            assert text not in caplog.text
            async with MemoryBackend() as backend:
                await backend.start()
    assert caplog.text.count(text) == 1


async def test_without_workers_it_is_a_backend_in_memory() -> None:
    async with LocalBackend() as one, LocalBackend() as other:
        heard, elsewhere = await listen(one), await listen(other)
        await one.publish("a", b"1")
        assert (heard, elsewhere) == ([("a", b"1")], [])
        assert one.get_stats()["connected"] is False
    with pytest.raises(ConnectionError, match=r"LocalBackend\.start"):
        await one.publish("a", b"1")


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"name": 5}, "name"),
        ({"name": "x" * 2000}, "name"),
        ({"max_payload_size": 0}, "max_payload_size"),
        ({"max_payload_size": 9 * 2**20}, "max_payload_size"),
        ({"max_subscriptions": True}, "max_subscriptions"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        LocalBackend(**options)
    assert caught.value.config_key == key


def test_frames_arrive_in_any_pieces() -> None:
    frames = [frame(FrameKind.LISTEN), message_frame(b"n", b"c", b"payload"), frame(FrameKind.DEAF)]
    data = b"".join(frames)
    for size in range(1, len(data) + 1):
        splitter = FrameSplitter()
        found = []
        for start in range(0, len(data), size):
            found += splitter.feed(data[start : start + size])
        assert found == [(1, frames[0]), (0, frames[1]), (2, frames[2])]
