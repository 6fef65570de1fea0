"""A backend for the worker processes of one server."""

from __future__ import annotations

import asyncio
import itertools
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Self

from ..utils._checks import check_integer, check_text
from ._backend import (
    DEFAULT_MAX_PAYLOAD_SIZE,
    DEFAULT_MAX_SUBSCRIPTIONS,
    GapListener,
    GapListeners,
    check_channel,
)
from ._memory import MemoryBackend
from ._worker_link import WorkerLink, worker_link

__all__ = ["LocalBackend"]

_LARGEST = 8 * 1024 * 1024
"""Largest ``max_payload_size``: half of what may wait for a slow worker."""


class LocalBackend(MemoryBackend):
    """An :class:`EventBackend` for all workers of a server on one machine; no further server.

    In a worker process (``workers`` of ``ServerApp.run`` or ``run_workers``), it exchanges messages
    with the other workers through their common parent process, over inherited sockets: no port is
    opened, and no other program can connect. In any other process, it is a
    :class:`MemoryBackend`. A ``Broker`` without a backend uses one. A fork of a worker cannot
    publish with the backends of that worker.

    A subscriber in the process of the publisher gets a message before ``publish`` returns; other
    workers get it afterwards. Each worker gets all messages, whoever has subscribed to them.
    ``publish`` waits while 1 MiB of messages waits for the parent process. A worker that does not
    read loses messages once 16 MiB wait for it: this gap is counted, logged, and reported to
    listeners of :meth:`watch_gaps`, such as buses and brokers. A worker that replaces another one
    gets what is published after its backend was started.

    Backends are connected with those of the same name in other workers. If a process has several of
    one name, the first is connected with the first of the other workers, and so on. So create them
    in the same order in all workers, or give each a name of its own.

    Args:
        name: Tells the backends of a process apart.
        max_payload_size: Bytes of one message, at most 8 MiB.
        max_subscriptions: Subscriptions at a time, in each process.

    Raises:
        ConfigurationError: An argument is of another type, or out of range.
    """

    # Those that exist, by name and place among those of this name.
    _places: ClassVar[weakref.WeakValueDictionary[tuple[str, int], LocalBackend]] = (
        weakref.WeakValueDictionary()
    )

    def __init__(
        self,
        name: str = "",
        *,
        max_payload_size: int = DEFAULT_MAX_PAYLOAD_SIZE,
        max_subscriptions: int = DEFAULT_MAX_SUBSCRIPTIONS,
    ) -> None:
        check_text("name", name)
        if name:
            check_channel("name", name)
        check_integer("max_payload_size", max_payload_size, 1, _LARGEST)
        super().__init__(max_payload_size=max_payload_size, max_subscriptions=max_subscriptions)
        self._name = name
        self._place = self._take_place()
        self._link: WorkerLink | None = None
        self._starting = asyncio.Lock()
        self._listeners = GapListeners()
        self._errors = self._received = self._gaps = self._lost = 0
        self._gap_seconds = 0.0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def start(self) -> None:
        """Connect with the other workers, if this is a worker; idempotent.

        Raises:
            ConnectionError: The parent process is gone, or does not answer.
            ConfigurationError: Backends of this process were started in another event loop.

        Cancellation: safe; you may call it again.
        """
        async with self._starting:
            link = worker_link()
            if link is not None and self._link is None:
                if self._places.get(self._place) is not self:
                    self._place = self._take_place()  # it was closed before
                try:
                    await link.join(self._key, self)
                except BaseException:
                    await link.leave(self._key, self)
                    raise
                self._link = link
            await super().start()

    async def close(self) -> None:
        """End every subscription; idempotent. You may start it again."""
        link, self._link = self._link, None
        if link is not None:
            await link.leave(self._key, self)
        if self._places.get(self._place) is self:
            del self._places[self._place]
        await super().close()

    def begin_publishing(self, channel: str, payload: bytes) -> Awaitable[None] | None:
        """Advanced: as ``publish``, without a coroutine and without letting other tasks run.

        Returns:
            What to await until all subscribers of this process have the message, and the parent
            process takes more; None if this is so.

        Raises: as ``publish``.
        """
        self._check_message(channel, payload)
        link = self._link
        if link is not None:
            if link.is_full:
                return self._publish_later(link, channel, payload)
            link.send(self._key, channel, payload)
        self._published += 1
        return self._hand_over(channel, payload)

    def watch_gaps(self, listener: GapListener) -> Callable[[], None]:
        """Call a listener about messages of other workers that are lost.

        Args:
            listener: Called with None when the parent process is gone. After a gap, called with
                None and then with its length in seconds. Runs on the event loop and must not block;
                what it raises is logged.

        Returns:
            A function that stops this.
        """
        return self._listeners.add(listener)

    def get_stats(self) -> dict[str, Any]:
        """Return counters.

        ``subscriptions``, ``published``, ``delivered``, ``errors`` (of subscribers and listeners),
        ``received`` (from other workers), ``gaps``, ``lost`` (messages in them) and
        ``gap_seconds``; ``connected``: whether it is started in a worker.
        """
        stats = super().get_stats()
        stats["errors"] += self._errors
        return {
            **stats,
            "connected": self._link is not None,
            "received": self._received,
            "gaps": self._gaps,
            "lost": self._lost,
            "gap_seconds": self._gap_seconds,
        }

    # ---------------------------------------------------------- for the link

    def receive(self, channel: str, payload: bytes) -> Awaitable[object] | None:
        """Advanced: deliver a message of another worker; return what to wait for."""
        self._received += 1
        return self._hand_over(channel, payload)

    def lost(self, seconds: float | None, count: int) -> None:
        """Advanced: messages of other workers are lost.

        Args:
            seconds: How long they were lost; None when it begins.
            count: How many.
        """
        if seconds is None:
            self._gaps += 1
        else:
            self._gap_seconds += seconds
        self._lost += count
        self._errors += self._listeners.tell(seconds)

    # -------------------------------------------------------------- internal

    @property
    def _key(self) -> bytes:
        name, place = self._place
        return f"{place} {name}".encode()

    def _take_place(self) -> tuple[str, int]:
        for number in itertools.count():
            place = (self._name, number)
            if place not in self._places:
                self._places[place] = self
                return place
        raise AssertionError  # there is always a free one

    async def _publish_later(self, link: WorkerLink, channel: str, payload: bytes) -> None:
        await link.wait_room()
        waiting = self.begin_publishing(channel, payload)
        if waiting is not None:
            await waiting
