"""One Redis server that a backend uses: its connections, and the subscriptions there."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from ..exceptions import AuthenticationError, ConnectionError, WebTransportError
from ..utils._checks import check_callable
from ..utils._text import printable
from ._backend import (
    Deliver,
    check_channel,
    check_payload,
    check_room,
)
from ._kept import KeptConnection, KeptOptions
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


class RedisServer(KeptConnection[RedisLink]):
    """The connections to one Redis server, and the subscriptions there.

    Two connections are used: one for subscriptions, one for publishing.

    Args:
        url: Of the server.
        options: Of the backend.

    Raises:
        ConfigurationError: redis-py is not installed, or the URL is wrong.
    """

    server_name = "Redis"

    def __init__(self, url: str, options: KeptOptions) -> None:
        self._arguments = parse_redis_url(url)
        super().__init__(options)
        # By subscription; and by kind of message and name on the server.
        self._subscriptions: dict[str, _Channel] = {}
        self._channels: dict[tuple[bytes, bytes], _Channel] = {}
        self._publisher: RedisLink | None = None
        self._opening = asyncio.Lock()  # the connection for publishing
        self._failed_openings = 0
        self._room = asyncio.Semaphore(_MAX_UNDER_WAY)

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
        check_payload(payload, self._options.max_payload_size)
        name = (self._options.prefix + channel).encode()
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
        check_room(len(self._subscriptions), self._options.max_subscriptions)
        link = self._check_connected()
        channel = _Channel(pattern, self._options.prefix)
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

    # ------------------------------------------------------------- connections

    async def _open(self, on_message: OnMessage) -> RedisLink:
        return await RedisLink.open(
            self._arguments, timeout=self._options.timeout, on_message=on_message
        )

    async def _open_subscriber(self) -> RedisLink:
        return await self._open(self._take_message)

    async def _wait_ended(self, link: RedisLink) -> BaseException:
        options = self._options
        return await link.wait_ended(ping_interval=options.ping_interval, timeout=options.timeout)

    async def _subscribe_again(self, link: RedisLink) -> bool:
        replies = [(channel, channel.ask(link)) for channel in self._channels.values()]
        for channel, reply in replies:
            try:
                await self._answer(link, reply)
            except AuthenticationError as error:
                self._refused_again(channel.pattern, error)
            except ConnectionError as error:
                logger.debug("Redis was lost while subscribing again: %s", printable(error))
                self._subscriber = None
                await link.close()
                return False
            except BaseException:
                await link.close()
                raise
        return True

    def _error_from(self, error: BaseException, what: str) -> WebTransportError:
        return redis_error(error, what)

    def _forget_subscriptions(self) -> None:
        self._subscriptions.clear()
        self._channels.clear()

    def _count_subscriptions(self) -> int:
        return len(self._subscriptions)

    def _other_links(self) -> list[RedisLink]:
        return [] if self._publisher is None else [self._publisher]

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
        timeout = self._options.timeout
        await asyncio.wait([reply], timeout=timeout)
        if not reply.done():
            error = ConnectionError(f"Redis did not answer within {timeout:g} seconds")
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
        if len(payload) > self._options.max_payload_size:
            self._counts["oversize"] += 1
            return
        try:
            text = name.decode()[len(self._options.prefix) :]
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
