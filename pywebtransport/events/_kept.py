"""A connection to a message server that is made again whenever it is lost."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from ..exceptions import AuthenticationError, ConnectionError, WebTransportError
from ..utils._checks import check_callable, check_count, check_seconds, check_text
from ..utils._closing import AsyncCloseable
from ..utils._logs import BoundedLog
from ..utils._text import printable
from ._backend import GapListener, GapListeners, Handing, call_listener, check_channel

__all__ = ["KeptConnection", "KeptOptions", "Link"]

logger = logging.getLogger("pywebtransport.events")

_LOG_INTERVAL = 60.0
"""Seconds between two log lines about attempts that fail in the same way."""


class Link(Protocol):
    """A connection that is made."""

    @property
    def ended(self) -> bool: ...
    def abort(self, error: Exception) -> None: ...
    async def close(self) -> None: ...


_Link = TypeVar("_Link", bound=Link)


@dataclass(slots=True, kw_only=True)
class KeptOptions:
    """Options of a backend that holds for each of its servers; see :class:`RedisBackend`.

    Raises:
        ConfigurationError: One is wrong.
    """

    prefix: str
    timeout: float
    reconnect_delay: float
    max_reconnect_delay: float
    ping_interval: float
    max_payload_size: int
    max_subscriptions: int
    on_gap: Callable[[float], object] | None

    def __post_init__(self) -> None:
        for key in ("timeout", "reconnect_delay", "max_reconnect_delay", "ping_interval"):
            check_seconds(key, getattr(self, key))
        if self.on_gap is not None:
            check_callable("on_gap", self.on_gap)
        if check_text("prefix", self.prefix):
            check_channel("prefix", self.prefix)
        check_count("max_payload_size", self.max_payload_size)
        check_count("max_subscriptions", self.max_subscriptions)


class KeptConnection(AsyncCloseable, Generic[_Link]):
    """Keeps one connection for subscriptions, and tells about the gaps in which it was lost.

    Args:
        options: Of the backend.
    """

    server_name: ClassVar[str]
    """What messages call the server."""

    def __init__(self, options: KeptOptions) -> None:
        self._options = options
        self._gap_listeners = GapListeners()
        self._last_error: Exception | None = None
        # Attempts may fail for days.
        self._log = BoundedLog(logger, interval=_LOG_INTERVAL)
        self._ids = itertools.count(1)
        self._subscriber: _Link | None = None
        self._keeper: asyncio.Task[None] | None = None
        # What ``close`` waits for.
        self._ending: tuple[asyncio.Task[None], list[_Link]] | None = None
        self._life = asyncio.Lock()  # starting and ending
        self._counts = dict.fromkeys(
            ("published", "errors", "oversize", "malformed", "gaps", "failed_attempts"), 0
        )
        self._handing = Handing()
        self._gap_seconds = 0.0

    # What the kind of server decides.

    @abstractmethod
    async def _open_subscriber(self) -> _Link:
        """Connect.

        Raises:
            AuthenticationError: The server refuses the credentials.
            ConnectionError: It cannot be reached in time.

        Cancellation: safe; nothing stays open.
        """

    @abstractmethod
    async def _wait_ended(self, link: _Link) -> BaseException:
        """Wait for the end of the connection; return what ended it."""

    @abstractmethod
    async def _subscribe_again(self, link: _Link) -> bool:
        """Whether the server knows all subscriptions again; otherwise the link has ended."""

    @abstractmethod
    def _error_from(self, error: BaseException, what: str) -> WebTransportError:
        """Convert an error of the library to one of this package."""

    @abstractmethod
    def _forget_subscriptions(self) -> None:
        """Remove all of them here."""

    @abstractmethod
    def _count_subscriptions(self) -> int:
        """How many there are."""

    def _other_links(self) -> list[_Link]:
        """Return the links beside the one that is kept."""
        return []

    # The life of the connection.

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    @property
    def is_started(self) -> bool:
        """``start`` was called, and ``close`` was not."""
        return self._keeper is not None

    async def start(self) -> None:
        """Connect; idempotent. From then on, a lost connection is reestablished.

        Raises:
            AuthenticationError: The server refuses the credentials.
            ConnectionError: It cannot be reached in time.

        Cancellation: safe; nothing stays open.
        """
        async with self._life:
            if self._keeper is None:
                try:
                    link = await self._open_subscriber()
                except (AuthenticationError, ConnectionError) as error:
                    self._failed(error)
                    raise
                self._last_error = None
                self._subscriber = link
                self._keeper = asyncio.get_running_loop().create_task(self._keep_connected(link))

    def abandon(self) -> None:
        """End all subscriptions and connections without waiting for it; idempotent."""
        self._forget_subscriptions()
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            # Not left to the keeper: if cancelled before its first step, it releases nothing.
            links = self._other_links()
            if self._subscriber is not None:
                links.append(self._subscriber)
            for link in links:
                link.abort(ConnectionError("the backend was closed"))
            self._ending = keeper, links

    async def close(self) -> None:
        """End all subscriptions and connections; idempotent. You may start it again.

        Cancellation: safe; everything is released anyway.
        """
        self.abandon()
        if self._ending is not None:
            (keeper, links), self._ending = self._ending, None
            await asyncio.gather(asyncio.wait([keeper]), *(link.close() for link in links))
            self._subscriber = None

    def watch_gaps(self, listener: GapListener) -> Callable[[], None]:
        """Call a listener when a gap begins and when it is over; return what stops this."""
        return self._gap_listeners.add(listener)

    @property
    def last_error(self) -> Exception | None:
        """Why there is no connection: its error, or that of the last attempt; None if connected."""
        return self._last_error

    def get_stats(self) -> dict[str, Any]:
        """State and counts.

        ``connected``, ``subscriptions``, ``published``, ``delivered``, ``errors``
        (of subscribers), ``oversize`` and ``malformed`` (messages dropped),
        ``gaps`` and ``gap_seconds`` (times without a connection that have begun,
        and how long those took that are over), ``failed_attempts`` to connect again.
        """
        return {
            "connected": self._subscriber is not None,
            "subscriptions": self._count_subscriptions(),
            **self._counts,
            "delivered": self._handing.delivered,
            "errors": self._counts["errors"] + self._handing.errors,
            "gap_seconds": self._gap_seconds,
        }

    async def _keep_connected(self, link: _Link) -> None:
        """Manage the connections: wait for the end of one, create the next, until cancelled."""
        loop = asyncio.get_running_loop()
        name = self.server_name
        try:
            while True:
                error = await self._wait_ended(link)
                lost = loop.time()
                self._subscriber = None
                self._counts["gaps"] += 1
                self._last_error = self._error_from(error, f"the connection to {name} was lost")
                logger.warning(
                    "the connection to %s was lost; messages get lost: %s", name, printable(error)
                )
                self._tell_listeners(None)
                # They probably do not reach the server, either; if they do, the next message
                # shows it.
                for other in self._other_links():
                    other.abort(ConnectionError(f"the connection to {name} was lost"))
                link = await self._connect_again()
                self._tell_gap(loop.time() - lost)
        finally:
            self._subscriber = None
            await asyncio.gather(*(one.close() for one in (link, *self._other_links())))

    async def _connect_again(self) -> _Link:
        delay, most = self._options.reconnect_delay, self._options.max_reconnect_delay
        while True:
            await asyncio.sleep(min(delay, most) * random.uniform(0.5, 1.0))
            try:
                link = await self._open_subscriber()
            except (AuthenticationError, ConnectionError) as error:
                self._failed(error)
            else:
                self._subscriber = link
                if await self._subscribe_again(link):
                    return link
            self._counts["failed_attempts"] += 1
            delay = min(2 * delay, most)

    def _refused_again(self, pattern: str, error: Exception) -> None:
        """The server refuses a subscription that it had allowed before."""
        self._counts["errors"] += 1
        self._log.tell(
            "refused subscription",
            logging.ERROR,
            "%s refuses the subscription to '%s': %s",
            self.server_name,
            printable(pattern),
            printable(error),
        )

    def _failed(self, error: Exception) -> None:
        """An attempt to connect failed: log every kind of failure, but not every time."""
        self._last_error = error
        if isinstance(error, AuthenticationError):
            # Waiting does not fix this.
            kind, what = "refused", "refuses to let this process in"
        else:
            kind, what = "unreachable", "cannot be reached"
        self._log.tell(
            kind, logging.WARNING, "%s %s: %s", self.server_name, what, printable(error, 500)
        )

    def _tell_gap(self, seconds: float) -> None:
        self._gap_seconds += seconds
        self._last_error = None
        self._log.flush()
        logger.info("connected to %s again after %.3f seconds", self.server_name, seconds)
        on_gap = self._options.on_gap
        if on_gap is not None and not call_listener("on_gap", on_gap, seconds):
            self._counts["errors"] += 1
        self._tell_listeners(seconds)

    def _tell_listeners(self, seconds: float | None) -> None:
        self._counts["errors"] += self._gap_listeners.tell(seconds)

    def _check_connected(self) -> _Link:
        link = self._subscriber
        if link is None or link.ended:
            name = self.server_name
            why = "not started" if self._keeper is None else f"not connected to {name} now"
            raise ConnectionError(f"the backend is {why}")
        return link
