"""One Redis server that a backend uses: its connections, and the subscriptions there."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from collections.abc import Callable
from typing import Any, Self

from ..exceptions import AuthenticationError, ConnectionError
from ..utils._checks import check_callable, check_count, check_seconds, check_text
from ..utils._closing import AsyncCloseable
from ..utils._logs import BoundedLog
from ..utils._text import printable
from ._backend import (
    Deliver,
    GapListener,
    GapListeners,
    Handing,
    call_listener,
    check_channel,
    check_payload,
    check_room,
)
from ._redis_link import OnMessage, RedisLink, parse_redis_url, redis_error

__all__ = ["RedisServer"]

logger = logging.getLogger("pywebtransport.events")

_LOG_INTERVAL = 60.0
"""Seconds between two log lines about attempts that fail in the same way."""
_MAX_UNDER_WAY = 1000
"""Messages that may be published at a time; more of them wait for their turn."""


class _Channel:
    """A channel or pattern on the server, and its subscribers."""

    __slots__ = ("confirmed", "delivers", "key", "pattern")

    def __init__(self, pattern: str, prefix: str) -> None:
        self.pattern = pattern
        self.delivers: dict[str, Deliver] = {}
        # The reply to SUBSCRIBE on the current connection.
        self.confirmed: asyncio.Future[Any] | None = None
        if "*" in pattern:
            parts = [_escape(part) for part in pattern.split("*")]
            self.key = (b"pmessage", (_escape(prefix) + "*".join(parts)).encode())
        else:
            self.key = (b"message", (prefix + pattern).encode())

    def ask(self, link: RedisLink) -> asyncio.Future[Any]:
        """Subscribe on the server; return the reply."""
        self.confirmed = link.request(*self.command("SUBSCRIBE"))
        return self.confirmed

    def command(self, verb: str) -> tuple[str, bytes]:
        """``SUBSCRIBE`` or ``UNSUBSCRIBE``, or the same for patterns."""
        kind, name = self.key
        return (f"P{verb}" if kind == b"pmessage" else verb), name


class RedisServer(AsyncCloseable):
    """The connections to one Redis server, and the subscriptions there.

    Two connections are used: one for subscriptions, one for publishing. The arguments are those of
    :class:`~pywebtransport.events.RedisBackend`.

    Args:
        url: Of the server.
        prefix: As there.
        timeout: As there.
        reconnect_delay: As there.
        max_reconnect_delay: As there.
        ping_interval: As there.
        max_payload_size: As there.
        max_subscriptions: As there.
        on_gap: As there.

    Raises:
        ConfigurationError: As there.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str,
        timeout: float,
        reconnect_delay: float,
        max_reconnect_delay: float,
        ping_interval: float,
        max_payload_size: int,
        max_subscriptions: int,
        on_gap: Callable[[float], object] | None,
    ) -> None:
        for key, value in (
            ("timeout", timeout),
            ("reconnect_delay", reconnect_delay),
            ("max_reconnect_delay", max_reconnect_delay),
            ("ping_interval", ping_interval),
        ):
            check_seconds(key, value)
        if on_gap is not None:
            check_callable("on_gap", on_gap)
        check_text("prefix", prefix)
        self._arguments = parse_redis_url(url)
        self._prefix = prefix and check_channel("prefix", prefix)
        self._timeout = timeout
        self._delay = reconnect_delay
        self._max_delay = max_reconnect_delay
        self._ping_interval = ping_interval
        self._max_payload_size = check_count("max_payload_size", max_payload_size)
        self._max_subscriptions = check_count("max_subscriptions", max_subscriptions)
        self._on_gap = on_gap
        self._gap_listeners = GapListeners()
        self._last_error: Exception | None = None
        # Attempts may fail for days.
        self._log = BoundedLog(logger, interval=_LOG_INTERVAL)
        self._ids = itertools.count(1)
        # By subscription; and by kind of message and name on the server.
        self._subscriptions: dict[str, _Channel] = {}
        self._channels: dict[tuple[bytes, bytes], _Channel] = {}
        self._subscriber: RedisLink | None = None
        self._publisher: RedisLink | None = None
        self._keeper: asyncio.Task[None] | None = None
        # What ``close`` waits for.
        self._ending: tuple[asyncio.Task[None], list[RedisLink]] | None = None
        # Starting and ending; making the connection for publishing.
        self._life = asyncio.Lock()
        self._opening = asyncio.Lock()
        self._failed_openings = 0
        self._room = asyncio.Semaphore(_MAX_UNDER_WAY)
        self._counts = dict.fromkeys(
            (
                *("published", "errors", "oversize", "malformed"),
                *("gaps", "failed_attempts"),
            ),
            0,
        )
        self._handing = Handing()
        self._gap_seconds = 0.0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    @property
    def is_started(self) -> bool:
        """``start`` was called, and ``close`` was not."""
        return self._keeper is not None

    async def start(self) -> None:
        """Connect; idempotent. From then on, lost connections are reestablished.

        Raises:
            AuthenticationError: The server refuses the credentials.
            ConnectionError: It cannot be reached in time.

        Cancellation: safe; nothing stays open.
        """
        async with self._life:
            if self._keeper is None:
                try:
                    link = await self._open(self._take_message)
                except (AuthenticationError, ConnectionError) as error:
                    self._failed(error)
                    raise
                self._last_error = None
                self._subscriber = link
                self._keeper = asyncio.get_running_loop().create_task(self._keep_connected(link))

    def abandon(self) -> None:
        """End every subscription and both connections without waiting for it; idempotent."""
        self._subscriptions.clear()
        self._channels.clear()
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            # Not left to the keeper: if cancelled before its first step, it releases nothing.
            links = [one for one in (self._subscriber, self._publisher) if one is not None]
            for link in links:
                link.abort(ConnectionError("the backend was closed"))
            self._ending = keeper, links

    async def close(self) -> None:
        """End every subscription and both connections; idempotent. You may start it again.

        Cancellation: safe; everything is released anyway.
        """
        self.abandon()
        if self._ending is not None:
            (keeper, links), self._ending = self._ending, None
            await asyncio.gather(asyncio.wait([keeper]), *(link.close() for link in links))
            self._subscriber = self._publisher = None

    async def publish(self, channel: str, payload: bytes) -> None:
        """Send ``payload`` to the subscribers of ``channel``; returns when the server has it.

        Raises:
            AuthenticationError: The user may not publish there.
            ConfigurationError: ``channel`` is not a valid name.
            ConnectionError: The server is not connected now, or did not answer
                in time; it is not known then whether anybody gets the message.
            SerializationError: The payload is larger than ``max_payload_size``.

        Cancellation: the message may have been sent, or not.
        """
        check_channel("channel", channel)
        check_payload(payload, self._max_payload_size)
        name = (self._prefix + channel).encode()
        async with self._room:
            link = await self._link_for_publishing()
            await self._answer(link, link.request("PUBLISH", name, payload))
        self._counts["published"] += 1

    async def subscribe(self, pattern: str, deliver: Deliver) -> str:
        """Call ``deliver`` for each message on the channels that ``pattern`` names.

        Args:
            pattern: A channel; ``*`` in it matches any characters.
            deliver: The function to call; must not block. Exceptions are logged.

        Returns:
            An identifier for :meth:`unsubscribe`. The server has confirmed the subscription.

        Raises:
            AuthenticationError: The user may not subscribe to that.
            ConfigurationError: ``pattern`` is not a valid name.
            ConnectionError: The server is not connected now, or did not answer
                in time.
            WebTransportError: There are ``max_subscriptions`` already.

        Cancellation: safe; there is no subscription then.
        """
        check_channel("pattern", pattern)
        check_callable("deliver", deliver)
        check_room(len(self._subscriptions), self._max_subscriptions)
        link = self._check_connected()
        channel = _Channel(pattern, self._prefix)
        channel = self._channels.setdefault(channel.key, channel)
        subscription_id = str(next(self._ids))
        channel.delivers[subscription_id] = deliver
        self._subscriptions[subscription_id] = channel
        try:
            reply = channel.confirmed
            # A subscription that was refused may be allowed by now.
            if reply is None or (reply.done() and isinstance(reply.result(), BaseException)):
                reply = channel.ask(link)
            await self._answer(link, reply)
        except BaseException:
            self._forget(subscription_id)
            raise
        return subscription_id

    def begin_unsubscribing(self, subscription_id: str) -> asyncio.Future[Any] | None:
        """End a subscription; return the reply of the server, if it has to know."""
        return self._forget(subscription_id)

    def watch_gaps(self, listener: GapListener) -> Callable[[], None]:
        """Call a listener when a gap begins and when it is over.

        Args:
            listener: Called with None when the connection was lost, and with the length of
                the gap in seconds once messages arrive again. Runs on the event loop and
                must not block; what it raises is logged.

        Returns:
            A function that stops this.
        """
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
            "subscriptions": len(self._subscriptions),
            **self._counts,
            "delivered": self._handing.delivered,
            "errors": self._counts["errors"] + self._handing.errors,
            "gap_seconds": self._gap_seconds,
        }

    # ------------------------------------------------------------- connections

    async def _open(self, on_message: OnMessage) -> RedisLink:
        return await RedisLink.open(self._arguments, timeout=self._timeout, on_message=on_message)

    async def _keep_connected(self, link: RedisLink) -> None:
        """Manage the connections: wait for the end of one, create the next, until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                error = await link.wait_ended(
                    ping_interval=self._ping_interval, timeout=self._timeout
                )
                lost = loop.time()
                self._subscriber = None
                self._counts["gaps"] += 1
                self._last_error = redis_error(error, "the connection to Redis was lost")
                logger.warning(
                    "the connection to Redis was lost; messages get lost: %s", printable(error)
                )
                self._tell_listeners(None)
                # Publishing probably cannot reach the server, either; if it can, the next message
                # shows it.
                if self._publisher is not None:
                    self._publisher.abort(ConnectionError("the connection to Redis was lost"))
                link = await self._connect_again()
                self._tell_gap(loop.time() - lost)
        finally:
            await self._close_links(link)

    async def _connect_again(self) -> RedisLink:
        delay = self._delay
        while True:
            await asyncio.sleep(min(delay, self._max_delay) * random.uniform(0.5, 1.0))
            try:
                link = await self._open(self._take_message)
            except (AuthenticationError, ConnectionError) as error:
                self._failed(error)
            else:
                self._subscriber = link
                if await self._subscribe_again(link):
                    return link
            self._counts["failed_attempts"] += 1
            delay = min(2 * delay, self._max_delay)

    async def _subscribe_again(self, link: RedisLink) -> bool:
        """Whether the server knows all subscriptions again; otherwise the link has ended."""
        replies = [(channel, channel.ask(link)) for channel in self._channels.values()]
        for channel, reply in replies:
            try:
                await self._answer(link, reply)
            except AuthenticationError as error:
                self._counts["errors"] += 1
                self._log.tell(
                    "refused subscription",
                    logging.ERROR,
                    "Redis refuses the subscription to '%s': %s",
                    printable(channel.pattern),
                    printable(error),
                )
            except ConnectionError as error:
                logger.debug("Redis was lost while subscribing again: %s", printable(error))
                self._subscriber = None
                await link.close()
                return False
            except BaseException:
                await link.close()
                raise
        return True

    def _failed(self, error: Exception) -> None:
        """An attempt to connect failed: log every kind of failure, but not every time."""
        self._last_error = error
        if isinstance(error, AuthenticationError):
            # Waiting does not fix this.
            kind, what = "refused", "Redis refuses to let this process in"
        else:
            kind, what = "unreachable", "Redis cannot be reached"
        self._log.tell(kind, logging.WARNING, f"{what}: %s", printable(error, 500))

    def _tell_gap(self, seconds: float) -> None:
        self._gap_seconds += seconds
        self._last_error = None
        self._log.flush()
        logger.info("connected to Redis again after %.3f seconds", seconds)
        if self._on_gap is not None and not call_listener("on_gap", self._on_gap, seconds):
            self._counts["errors"] += 1
        self._tell_listeners(seconds)

    def _tell_listeners(self, seconds: float | None) -> None:
        self._counts["errors"] += self._gap_listeners.tell(seconds)

    async def _close_links(self, link: RedisLink) -> None:
        publisher, self._publisher, self._subscriber = self._publisher, None, None
        await asyncio.gather(*(one.close() for one in (link, publisher) if one is not None))

    def _check_connected(self) -> RedisLink:
        link = self._subscriber
        if link is None or link.ended:
            why = "not started" if self._keeper is None else "not connected to Redis now"
            raise ConnectionError(f"the backend is {why}")
        return link

    async def _link_for_publishing(self) -> RedisLink:
        self._check_connected()
        failed = self._failed_openings
        async with self._opening:
            if self._publisher is not None and self._publisher.ended:
                await self._publisher.close()
                self._publisher = None
            if self._publisher is None:
                if self._failed_openings != failed:
                    # All callers share one attempt: theirs would run one after the other.
                    raise ConnectionError("Redis could not be reached for publishing")
                try:
                    link = await self._open(_ignore)
                except (AuthenticationError, ConnectionError) as error:
                    self._failed_openings += 1
                    self._failed(error)
                    raise
                self._last_error = None
                if self._subscriber is None:
                    await link.close()
                    raise ConnectionError("the backend was closed or lost Redis meanwhile")
                self._publisher = link
            return self._publisher

    async def _answer(self, link: RedisLink, reply: asyncio.Future[Any]) -> None:
        # Not awaited directly: cancelling one caller must not cancel it for the others.
        await asyncio.wait([reply], timeout=self._timeout)
        if not reply.done():
            error = ConnectionError(f"Redis did not answer within {self._timeout:g} seconds")
            link.abort(error)
            raise error
        result = reply.result()
        if isinstance(result, BaseException):
            raise redis_error(result, "Redis refused the command") from result

    # ---------------------------------------------------------------- messages

    async def _take_message(self, message: list[Any]) -> None:
        # [b"message", channel, payload] or [b"pmessage", pattern, channel, payload]
        channel = self._channels.get((message[0], message[1]))
        if channel is None:
            return  # it was unsubscribed meanwhile
        name, payload = message[-2:]
        if len(payload) > self._max_payload_size:
            self._counts["oversize"] += 1
            return
        try:
            text = name.decode()[len(self._prefix) :]
        except UnicodeDecodeError:
            self._counts["malformed"] += 1
            return
        delivers = channel.delivers
        await self._handing.hand_over(tuple(delivers), delivers.get, text, payload)

    def _forget(self, subscription_id: str) -> asyncio.Future[Any] | None:
        """Remove a subscription; return the reply if the server has to know."""
        channel = self._subscriptions.pop(subscription_id, None)
        if channel is None:
            return None
        del channel.delivers[subscription_id]
        if channel.delivers:
            return None
        del self._channels[channel.key]
        if self._subscriber is None:
            return None
        return self._subscriber.request(*channel.command("UNSUBSCRIBE"))


def _escape(text: str) -> str:
    """``text`` with the special characters of Redis patterns escaped."""
    for special in "\\*?[]":
        text = text.replace(special, "\\" + special)
    return text


async def _ignore(message: list[Any]) -> None:
    """The connection for publishing has no subscriptions."""
