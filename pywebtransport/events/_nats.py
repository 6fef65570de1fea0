"""A backend that connects processes and machines through NATS."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..exceptions import (
    AuthenticationError,
    ConnectionError,
    WebTransportError,
    invalid_config,
)
from ..utils._checks import check_callable, check_instance, check_text, check_texts
from ..utils._text import printable
from ._backend import (
    DEFAULT_MAX_PAYLOAD_SIZE,
    DEFAULT_MAX_SUBSCRIPTIONS,
    Deliver,
    GapListener,
    check_channel,
    check_payload,
    check_room,
)
from ._kept import KeptConnection, KeptOptions
from ._memory import matches
from ._nats_link import NatsLink, load_nats, nats_error
from ._nats_subjects import channel_of, check_subject, subject_of, subjects_of

__all__ = ["NatsBackend"]

logger = logging.getLogger("pywebtransport.events")

_DEFAULT_URL = "nats://localhost:4222"
_SCHEMES = ("nats", "tls", "ws", "wss")
_MAX_UNDER_WAY = 1000
"""Messages that may be published at a time; more of them wait for their turn."""
_SLOW_FOR = 1.0
"""Seconds of a gap because of a slow subscriber: how long what follows belongs to the same."""


class _Interest:
    """A channel or pattern, and its subscribers."""

    __slots__ = ("asking", "delivers", "link", "parts", "pattern", "subject", "subscription")

    def __init__(self, pattern: str, subject: str) -> None:
        self.pattern = pattern
        self.subject = subject
        self.parts = pattern.split("*") if "*" in pattern else None
        self.delivers: dict[str, Deliver] = {}
        # The subscription on the current connection.
        self.link: NatsLink | None = None
        self.subscription: Any = None
        self.asking = asyncio.Lock()


class NatsBackend(KeptConnection[NatsLink]):
    """An :class:`EventBackend` on the subjects of a NATS server, or of a cluster of them.

    Delivery is *at most once*, as with :class:`RedisBackend`: this process does not get messages
    that are published while it is not connected. It reconnects automatically, with growing, random
    pauses, to any of the servers, and subscribes again. Each such gap is logged, counted in
    :meth:`get_stats`, and reported to ``on_gap`` and to listeners of :meth:`watch_gaps`, such as
    buses and brokers. So is the loss of messages because a subscriber does not take them: at most
    65,536 messages and 16 MiB wait for one.

    A channel becomes a subject: its dots separate tokens, and bytes that mean something to NATS are
    written as ``%`` and two digits, so that other clients of NATS can take part. A pattern is
    subscribed with the tokens before its first ``*``, and compared here: ``room.*.chat`` asks the
    server for ``room.>``. So let patterns begin with as many whole tokens as possible.

    Args:
        servers: URL of a server, or of several of one cluster: ``nats://`` or ``tls://``, with user
            name and password, or with a token as user name.
        prefix: Tokens before each subject, to separate applications that share a server.
        tls: For ``tls://``; default: the trust store of the system.
        credentials: Path of a ``.creds`` file (JWT and key); needs the package nkeys.
        timeout: Longest wait for a connection, or for an answer, in seconds.
        reconnect_delay: Seconds before the first attempt to reconnect. It doubles with each
            failure, and is shortened at random by up to one half.
        max_reconnect_delay: Longest pause between two attempts, in seconds.
        ping_interval: Seconds between two pings. When two are not answered, the connection is
            considered lost.
        max_payload_size: Bytes of one message; the server has a limit, too (``max_payload``).
        max_subscriptions: Subscriptions at a time.
        on_gap: Called after each gap, once messages arrive again, with its
            length in seconds. Runs on the event loop and must not block.

    Raises:
        ConfigurationError: nats-py is not installed (the extra ``nats``), or an argument is wrong.
    """

    server_name = "NATS"

    def __init__(
        self,
        servers: str | Sequence[str] = _DEFAULT_URL,
        *,
        prefix: str = "pywebtransport",
        tls: ssl.SSLContext | None = None,
        credentials: str | PathLike[str] | None = None,
        timeout: float = 5.0,
        reconnect_delay: float = 0.1,
        max_reconnect_delay: float = 10.0,
        ping_interval: float = 15.0,
        max_payload_size: int = DEFAULT_MAX_PAYLOAD_SIZE,
        max_subscriptions: int = DEFAULT_MAX_SUBSCRIPTIONS,
        on_gap: Callable[[float], object] | None = None,
    ) -> None:
        load_nats()
        self._urls = _checked_urls(servers)
        if tls is not None:
            check_instance("tls", tls, ssl.SSLContext)
        self._tls = tls
        self._credentials = None
        if credentials is not None:
            check_instance("credentials", credentials, str, PathLike)
            self._credentials = Path(credentials)
        super().__init__(
            KeptOptions(
                prefix=prefix,
                timeout=timeout,
                reconnect_delay=reconnect_delay,
                max_reconnect_delay=max_reconnect_delay,
                ping_interval=ping_interval,
                max_payload_size=max_payload_size,
                max_subscriptions=max_subscriptions,
                on_gap=on_gap,
            )
        )
        self._stem = f"{prefix}." if prefix else ""
        self._subscriptions: dict[str, _Interest] = {}
        self._interests: dict[str, _Interest] = {}
        self._room = asyncio.Semaphore(_MAX_UNDER_WAY)
        self._slow: asyncio.TimerHandle | None = None

    async def publish(self, channel: str, payload: bytes) -> None:
        """Send ``payload`` to the subscribers of ``channel``; returns when the server has it.

        Raises:
            AuthenticationError: The user may not publish there.
            ConfigurationError: ``channel`` is not a valid name, or too long for NATS.
            ConnectionError: No server is connected now, or it did not answer
                in time; it is not known then whether anybody gets the message.
            SerializationError: The payload is larger than ``max_payload_size``, or than the server
                carries.

        Cancellation: the message may have been sent, or not.
        """
        check_channel("channel", channel)
        check_payload(payload, self._options.max_payload_size)
        subject = check_subject("channel", channel, subject_of(self._stem + channel))
        async with self._room:
            await self._check_connected().publish(subject, payload)
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
            ConfigurationError: ``pattern`` is not a valid name, or too long for NATS.
            ConnectionError: No server is connected now, or it did not answer
                in time.
            WebTransportError: There are ``max_subscriptions`` already.

        Cancellation: safe; there is no subscription then.
        """
        check_channel("pattern", pattern)
        check_callable("deliver", deliver)
        check_room(len(self._subscriptions), self._options.max_subscriptions)
        name = self._stem + pattern
        subject = check_subject(
            "pattern", pattern, subjects_of(name) if "*" in pattern else subject_of(name)
        )
        link = self._check_connected()
        interest = self._interests.setdefault(pattern, _Interest(pattern, subject))
        subscription_id = str(next(self._ids))
        interest.delivers[subscription_id] = deliver
        self._subscriptions[subscription_id] = interest
        try:
            await self._ask(link, interest)
        except BaseException:
            await self.unsubscribe(subscription_id)
            raise
        return subscription_id

    async def unsubscribe(self, subscription_id: str) -> None:
        """End a subscription; an unknown identifier is ignored.

        Cancellation: the subscription ends anyway.
        """
        check_text("subscription_id", subscription_id)
        interest = self._subscriptions.pop(subscription_id, None)
        if interest is None:
            return
        del interest.delivers[subscription_id]
        if interest.delivers:
            return
        del self._interests[interest.pattern]
        if interest.link is not None and interest.link is self._subscriber:
            await interest.link.unsubscribe(interest.subscription)

    def watch_gaps(self, listener: GapListener) -> Callable[[], None]:
        """Call a listener when a gap begins and when it is over.

        Args:
            listener: Called with None when the connection was lost, or a message was dropped,
                and with the length of the gap in seconds once messages arrive again. Runs on the
                event loop and must not block; what it raises is logged.

        Returns:
            A function that stops this.
        """
        return super().watch_gaps(listener)

    def abandon(self) -> None:
        """End all subscriptions and connections without waiting for it; idempotent."""
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None
        super().abandon()

    # ------------------------------------------------------------- connections

    async def _open_subscriber(self) -> NatsLink:
        return await NatsLink.open(
            self._urls,
            timeout=self._options.timeout,
            ping_interval=self._options.ping_interval,
            tls=self._tls,
            credentials=self._credentials,
            on_slow=self._too_slow,
        )

    async def _wait_ended(self, link: NatsLink) -> BaseException:
        return await link.wait_ended()

    async def _subscribe_again(self, link: NatsLink) -> bool:
        interests = tuple(self._interests.values())
        try:
            outcomes = await asyncio.gather(
                *(self._ask(link, interest) for interest in interests), return_exceptions=True
            )
        except BaseException:
            await link.close()
            raise
        for interest, outcome in zip(interests, outcomes, strict=True):
            if isinstance(outcome, AuthenticationError):
                self._refused_again(interest.pattern, outcome)
            elif isinstance(outcome, ConnectionError):
                logger.debug("NATS was lost while subscribing again: %s", printable(outcome))
                self._subscriber = None
                await link.close()
                return False
            elif outcome is not None:
                raise outcome
        return True

    async def _ask(self, link: NatsLink, interest: _Interest) -> None:
        """Subscribe on a connection, unless that was done."""
        async with interest.asking:
            if interest.link is link or not interest.delivers:
                return

            async def take(subject: str, payload: bytes) -> None:
                await self._take_message(interest, subject, payload)

            interest.subscription = await link.subscribe(interest.subject, take)
            interest.link = link

    def _error_from(self, error: BaseException, what: str) -> WebTransportError:
        return nats_error(error, what)

    def _forget_subscriptions(self) -> None:
        self._subscriptions.clear()
        self._interests.clear()

    def _count_subscriptions(self) -> int:
        return len(self._subscriptions)

    # ---------------------------------------------------------------- messages

    async def _take_message(self, interest: _Interest, subject: str, payload: bytes) -> None:
        if len(payload) > self._options.max_payload_size:
            self._counts["oversize"] += 1
            return
        try:
            channel = channel_of(subject)[len(self._stem) :]
        except UnicodeDecodeError:
            self._counts["malformed"] += 1
            return
        if interest.parts is not None and not matches(interest.parts, channel):
            return
        delivers = interest.delivers
        await self._handing.hand_over(tuple(delivers), delivers.get, channel, payload)

    def _too_slow(self) -> None:
        """A message was dropped."""
        if self._slow is not None:
            return
        self._counts["gaps"] += 1
        logger.warning("messages of NATS get lost: a subscriber of this process is too slow")
        self._tell_listeners(None)
        self._slow = asyncio.get_running_loop().call_later(_SLOW_FOR, self._slow_over)

    def _slow_over(self) -> None:
        self._slow = None
        self._tell_gap(_SLOW_FOR)


def _checked_urls(servers: str | Sequence[str]) -> tuple[str, ...]:
    given = (servers,) if isinstance(servers, str) else check_texts("servers", servers)
    for url in given or ("",):
        try:
            parts = urlsplit(url)
            fine = parts.scheme in _SCHEMES and parts.hostname and parts.port != 0
        except ValueError:
            fine = False
        if not fine:
            # It may contain a password.
            reason = "expected nats://host:port, or tls://"
            raise invalid_config(key="servers", value="(not shown)", reason=reason)
    return tuple(given)
