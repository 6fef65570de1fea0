"""A backend that connects processes and machines through Redis servers."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, Self

from ..exceptions import invalid_config
from ..utils._checks import check_callable, check_text, check_texts
from ..utils._closing import AsyncCloseable
from ._backend import (
    DEFAULT_MAX_PAYLOAD_SIZE,
    DEFAULT_MAX_SUBSCRIPTIONS,
    Deliver,
    GapListener,
    check_channel,
    check_room,
)
from ._kept import KeptOptions
from ._redis_server import RedisServer

__all__ = ["RedisBackend", "server_of_channel"]

_DEFAULT_URL = "redis://localhost:6379/0"
_MAX_SERVERS = 64


class RedisBackend(AsyncCloseable):
    """An :class:`EventBackend` on Redis ``PUBLISH`` and ``SUBSCRIBE``.

    Delivery is *at most once*: this process does not get messages that are published while it is
    not connected. It reconnects automatically, with growing, random pauses, and subscribes again.
    Each such gap is logged, counted in :meth:`get_stats`, and reported to ``on_gap`` and to
    listeners of :meth:`watch_gaps`, such as buses and brokers. Refused credentials and an
    unreachable server are logged as WARNING, at most once a minute. Messages are delivered as they
    arrive and are not queued here; a slow subscriber should have its own bounded queue, as
    :class:`EventBus` has.

    When one server is not enough, pass the URLs of several in ``urls``. They know nothing of each
    other: the name of a channel tells which of them has it, and a pattern with ``*`` is subscribed
    on each. So all processes need the same list in the same order. A server that you append to it
    takes over its share of the channels from the others, and no channel moves between those. While
    a server is lost, only its channels are. (A Redis Cluster does not help: each of its nodes
    carries every message.)

    Two connections to each server are used: one for subscriptions, one for publishing.

    Args:
        url: ``redis://``, ``rediss://`` (TLS) or ``unix://``, with user name,
            password and options of redis-py, such as ``?ssl_ca_certs=ca.pem``.
            The database number has no effect: channels belong to the server.
        urls: 1 to 64 such URLs, in place of ``url``.
        prefix: Prefix of every channel name on the server, to separate applications that share it.
        timeout: Longest wait for a connection, or for an answer, in seconds.
        reconnect_delay: Seconds before the first attempt to reconnect. It doubles with each
            failure, and is shortened at random by up to one half, so that many processes do not
            reconnect at the same time.
        max_reconnect_delay: Longest pause between two attempts, in seconds.
        ping_interval: Seconds of silence after which the server is pinged. Without an answer within
            ``timeout``, the connection is considered lost.
        max_payload_size: Bytes of one message; a larger one from elsewhere is
            dropped and counted.
        max_subscriptions: Subscriptions at a time.
        on_gap: Called after each gap, once messages arrive again, with its
            length in seconds. Runs on the event loop and must not block.

    Raises:
        ConfigurationError: redis-py is not installed
            (the extra ``redis``), or an argument is wrong.
    """

    def __init__(
        self,
        url: str = _DEFAULT_URL,
        *,
        urls: Sequence[str] | None = None,
        prefix: str = "pywebtransport:",
        timeout: float = 5.0,
        reconnect_delay: float = 0.1,
        max_reconnect_delay: float = 10.0,
        ping_interval: float = 15.0,
        max_payload_size: int = DEFAULT_MAX_PAYLOAD_SIZE,
        max_subscriptions: int = DEFAULT_MAX_SUBSCRIPTIONS,
        on_gap: Callable[[float], object] | None = None,
    ) -> None:
        self._options = KeptOptions(
            prefix=prefix,
            timeout=timeout,
            reconnect_delay=reconnect_delay,
            max_reconnect_delay=max_reconnect_delay,
            ping_interval=ping_interval,
            max_payload_size=max_payload_size,
            max_subscriptions=max_subscriptions,
            on_gap=on_gap,
        )
        self._servers = tuple(RedisServer(one, self._options) for one in _chosen(url, urls))
        self._ids = itertools.count(1)
        # Where each of them is in force.
        self._subscriptions: dict[str, list[tuple[RedisServer, str]]] = {}

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def start(self) -> None:
        """Connect; idempotent. From then on, lost connections are reestablished.

        Raises:
            AuthenticationError: A server refuses the credentials.
            ConnectionError: One cannot be reached in time.

        Cancellation: safe; nothing stays open.
        """
        fresh = [server for server in self._servers if not server.is_started]
        try:
            await _all(server.start() for server in fresh)
        except BaseException:
            for server in fresh:
                server.abandon()
            await _all(server.close() for server in fresh)
            raise

    async def close(self) -> None:
        """End every subscription and all connections; idempotent. You may start it again.

        Cancellation: safe; everything is released anyway.
        """
        self._subscriptions.clear()
        for server in self._servers:
            server.abandon()
        await _all(server.close() for server in self._servers)

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
        await self._server_of(channel).publish(channel, payload)

    async def subscribe(self, pattern: str, deliver: Deliver) -> str:
        """Call ``deliver`` for each message on the channels that ``pattern`` names.

        Args:
            pattern: A channel; ``*`` in it matches any characters.
            deliver: The function to call; must not block. Exceptions are logged.

        Returns:
            An identifier for :meth:`unsubscribe`. The servers have confirmed the subscription.

        Raises:
            AuthenticationError: The user may not subscribe to that.
            ConfigurationError: ``pattern`` is not a valid name.
            ConnectionError: A server is not connected now, or did not answer
                in time.
            WebTransportError: There are ``max_subscriptions`` already.

        Cancellation: safe; there is no subscription then.
        """
        check_channel("pattern", pattern)
        check_callable("deliver", deliver)
        check_room(len(self._subscriptions), self._options.max_subscriptions)
        servers = self._servers if "*" in pattern else (self._server_of(pattern),)
        subscription_id = str(next(self._ids))
        places = self._subscriptions[subscription_id] = []

        async def subscribe_at(server: RedisServer) -> None:
            places.append((server, await server.subscribe(pattern, deliver)))

        try:
            await _all(subscribe_at(server) for server in servers)
        except BaseException:
            await self.unsubscribe(subscription_id)
            raise
        return subscription_id

    async def unsubscribe(self, subscription_id: str) -> None:
        """End a subscription; an unknown identifier is ignored.

        Cancellation: the subscription ends anyway.
        """
        check_text("subscription_id", subscription_id)
        places = self._subscriptions.pop(subscription_id, ())
        replies = [server.begin_unsubscribing(one) for server, one in places]
        waiting = [reply for reply in replies if reply is not None]
        if waiting:
            await asyncio.wait(waiting, timeout=self._options.timeout)

    def watch_gaps(self, listener: GapListener) -> Callable[[], None]:
        """Call a listener when a gap begins and when it is over.

        With several servers, the gaps of each are reported.

        Args:
            listener: Called with None when a connection was lost, and with the length of
                the gap in seconds once messages arrive again. Runs on the event loop and
                must not block; what it raises is logged.

        Returns:
            A function that stops this.
        """
        stops = [server.watch_gaps(listener) for server in self._servers]

        def stop() -> None:
            for one in stops:
                one()

        return stop

    @property
    def last_error(self) -> Exception | None:
        """Why a server is not connected: its error, or that of the last attempt; None if all are.

        Of several, that of the first one in the list.
        """
        return next((one.last_error for one in self._servers if one.last_error is not None), None)

    def get_stats(self) -> dict[str, Any]:
        """State and counts, of all servers together.

        ``connected`` (to all of them), ``subscriptions``, ``published``, ``delivered``, ``errors``
        (of subscribers), ``oversize`` and ``malformed`` (messages dropped),
        ``gaps`` and ``gap_seconds`` (times without a connection that have begun,
        and how long those took that are over), ``failed_attempts`` to connect again.
        """
        each = self.get_server_stats()
        found = {name: sum(one[name] for one in each) for name in each[0]}
        found["connected"] = all(one["connected"] for one in each)
        found["subscriptions"] = len(self._subscriptions)
        return found

    def get_server_stats(self) -> list[dict[str, Any]]:
        """The same for each server, in the order of ``urls``; a pattern is subscribed on each."""
        return [server.get_stats() for server in self._servers]

    def _server_of(self, channel: str) -> RedisServer:
        return self._servers[server_of_channel(channel, len(self._servers))]


def server_of_channel(channel: str, count: int) -> int:
    """Return the index of the server that has a channel, of ``count`` servers.

    The server with the highest hash of channel and index wins (rendezvous hashing). So another
    server takes channels from the others, and those that stay do not move.
    """
    if count == 1:
        return 0
    name = channel.encode()
    return max(
        range(count), key=lambda index: blake2b(name, digest_size=8, key=b"%d" % index).digest()
    )


def _chosen(url: str, urls: Sequence[str] | None) -> tuple[str, ...]:
    if urls is None:
        return (url,)
    if url != _DEFAULT_URL:
        raise invalid_config(key="urls", value="(not shown)", reason="url was passed, too")
    chosen = check_texts("urls", urls)
    if not 1 <= len(chosen) <= _MAX_SERVERS:
        reason = f"expected 1 to {_MAX_SERVERS} URLs, got {len(chosen)}"
        raise invalid_config(key="urls", value="(not shown)", reason=reason)
    if len(set(chosen)) != len(chosen):
        raise invalid_config(key="urls", value="(not shown)", reason="a URL is there twice")
    return chosen


async def _all(coroutines: Any) -> None:
    """Run coroutines at the same time, each to its end; raise the first error, if there was one.

    Cancellation: all of them are cancelled, and have ended when it is over.
    """
    todo = list(coroutines)
    if len(todo) == 1:
        await todo[0]  # without a task
        return
    outcomes = await asyncio.gather(*todo, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
