"""One connection to a NATS server."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from ..exceptions import (
    AuthenticationError,
    ConnectionError,
    SerializationError,
    WebTransportError,
)
from ..utils._extras import require
from ..utils._text import printable

__all__ = ["NatsLink", "load_nats", "nats_error"]

_FAREWELL = 2.0
"""Seconds to wait for the end of a connection that is being closed."""
_RESETS = 3
"""Times that a connection is tried again which the server resets while it is made."""
_MAX_WAITING = 65_536
"""Messages that may wait for a subscriber."""
_MAX_WAITING_BYTES = 16 * 1024 * 1024
_REFUSED = re.compile(r'permissions violation for (?:publish|subscription) to "([^"]*)"')

OnMessage: TypeAlias = Callable[[str, bytes], Awaitable[None]]


def load_nats() -> Any:
    """Import nats-py.

    Raises:
        ConfigurationError: It is not installed.
    """
    require("nats.errors", extra="nats")
    return require("nats", extra="nats")


def nats_error(error: BaseException, what: str) -> WebTransportError:
    """Convert an error of nats-py or the system to an exception of this package."""
    errors = load_nats().errors
    message = f"{what}: {error}" if str(error) else f"{what}: {type(error).__name__}"
    refused = ("authorization violation", "authentication")
    if isinstance(error, errors.AuthorizationError) or any(
        text in str(error).lower() for text in refused
    ):
        return AuthenticationError(message, auth_method="nats")
    if isinstance(error, WebTransportError):
        return error
    return ConnectionError(message)


class NatsLink:
    """A connection that does not come back by itself: its end is noticed, and told once.

    Args:
        client: Of nats-py; not connected yet.
        timeout: Longest wait for an answer in seconds.
        on_slow: Called when a message was dropped because a subscriber is too slow.
    """

    def __init__(self, client: Any, *, timeout: float, on_slow: Callable[[], object]) -> None:
        self._client = client
        self._timeout = timeout
        self._on_slow = on_slow
        self._errors = load_nats().errors
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[BaseException] = self._loop.create_future()
        self._closing: asyncio.Task[None] | None = None
        self._last_error: BaseException | None = None
        # What was sent in one turn of the event loop shares one question to the server.
        self._asking: asyncio.Task[None] | None = None
        # Subjects of calls that wait for the server, and of those the ones that it refuses.
        self._open: Counter[str] = Counter()
        self._refused: dict[str, str] = {}

    @classmethod
    async def open(
        cls,
        servers: Sequence[str],
        *,
        timeout: float,
        ping_interval: float,
        tls: ssl.SSLContext | None,
        credentials: Path | None,
        on_slow: Callable[[], object],
    ) -> NatsLink:
        """Connect to one of several servers, in random order.

        Raises:
            AuthenticationError: All that answer refuse the credentials.
            ConnectionError: None can be reached in time.

        Cancellation: safe; nothing stays open.
        """
        found: WebTransportError | None = None
        # A server that refuses the login resets the connection, maybe before its answer is read.
        again = _RESETS
        waiting = random.sample(servers, len(servers))
        while waiting:
            server = waiting.pop()
            link = cls(load_nats().NATS(), timeout=timeout, on_slow=on_slow)
            try:
                async with asyncio.timeout(timeout):
                    await link._connect(server, ping_interval, tls, credentials)
            except BaseException as error:
                await link.close()
                if not isinstance(error, Exception):
                    raise
                reason = error if link._last_error is None else link._last_error
                if isinstance(reason, ConnectionResetError) and again:
                    again -= 1
                    waiting.append(server)
                    continue
                new = nats_error(reason, "the NATS server cannot be used")
                if found is None or isinstance(new, AuthenticationError):
                    found = new
            else:
                return link
        assert found is not None  # there is at least one server
        raise found

    async def _connect(
        self,
        server: str,
        ping_interval: float,
        tls: ssl.SSLContext | None,
        credentials: Path | None,
    ) -> None:
        options: dict[str, Any] = {}
        if tls is not None:
            options["tls"] = tls
        if credentials is not None:
            options["user_credentials"] = str(credentials)
        connecting = self._loop.create_task(
            self._client.connect(
                servers=[server],
                name="pywebtransport",
                allow_reconnect=False,
                # Otherwise, the first connection is attempted again and again.
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=self._timeout,
                ping_interval=ping_interval,
                max_outstanding_pings=1,
                error_cb=self._failed,
                closed_cb=self._ended,
                **options,
            )
        )
        try:
            # In its own task: asyncio.wait_for(), which nats-py uses, may swallow a cancellation.
            await asyncio.wait([connecting])
        except asyncio.CancelledError:
            connecting.cancel()
            await asyncio.wait([connecting])
            raise
        connecting.result()

    @property
    def ended(self) -> bool:
        """Whether the connection is gone."""
        return self._over.done() or not self._client.is_connected

    async def wait_ended(self) -> BaseException:
        """Wait for the end of the connection; return what ended it. Cancellation: safe."""
        await asyncio.wait([self._over])
        return self._over.result()

    async def publish(self, subject: str, payload: bytes) -> None:
        """Send a message; returns when the server has it.

        Raises:
            AuthenticationError: The user may not publish there.
            ConnectionError: The connection ended, or there was no answer.
            SerializationError: The server carries no message of this size.
        """
        async with self._asked(subject):
            try:
                await self._client.publish(subject, payload)
            except self._errors.MaxPayloadError as error:
                most = self._client.max_payload
                raise SerializationError(
                    f"the payload has {len(payload)} bytes; the NATS server carries {most}",
                    details={"size": len(payload), "max_payload_size": most},
                ) from error
            except Exception as error:
                raise nats_error(error, "NATS was lost") from error

    async def subscribe(self, subject: str, on_message: OnMessage) -> Any:
        """Subscribe; return what :meth:`unsubscribe` takes, when the server has confirmed it.

        Raises: as ``publish``.
        """

        async def take(message: Any) -> None:
            await on_message(message.subject, message.data)

        subscription = None
        try:
            async with self._asked(subject):
                try:
                    subscription = await self._client.subscribe(
                        subject,
                        cb=take,
                        pending_msgs_limit=_MAX_WAITING,
                        pending_bytes_limit=_MAX_WAITING_BYTES,
                    )
                except Exception as error:
                    raise nats_error(error, "NATS was lost") from error
        except BaseException:
            await self.unsubscribe(subscription)
            raise
        return subscription

    async def unsubscribe(self, subscription: Any) -> None:
        """End a subscription; does nothing when the connection is gone."""
        if subscription is not None and not self.ended:
            with contextlib.suppress(Exception):  # it has ended meanwhile
                await subscription.unsubscribe()

    def abort(self, error: Exception) -> None:
        """Abort the connection, without waiting."""
        if self._closing is None:
            if not self._over.done():
                self._over.set_result(error)
            self._closing = self._loop.create_task(self._close())

    async def close(self) -> None:
        """Disconnect; idempotent.

        Cancellation: safe; the connection is closed anyway.
        """
        self.abort(ConnectionError("the connection to NATS was closed"))
        assert self._closing is not None
        await asyncio.wait([self._closing])

    async def _close(self) -> None:
        # A server that hangs takes nothing more, and what waits for it is of no use now.
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_FAREWELL):
                await self._client.close()

    @contextlib.asynccontextmanager
    async def _asked(self, subject: str) -> Any:
        """Do something that the server may refuse; leaves when it has taken it."""
        key = subject.lower()  # as nats-py reports it
        self._open[key] += 1
        try:
            yield
            await self._confirmed()
            reason = self._refused.get(key)
            if reason is not None:
                raise AuthenticationError(f"NATS refuses it: {reason}", auth_method="nats")
        finally:
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key]
                self._refused.pop(key, None)

    async def _confirmed(self) -> None:
        asking = self._asking
        if asking is None:
            asking = self._asking = self._loop.create_task(self._ask())
        # Not awaited directly: cancelling one caller must not cancel it for the others.
        await asyncio.wait([asking])
        error = asking.exception()
        if error is not None:
            raise error

    async def _ask(self) -> None:
        self._asking = None  # what is sent from now on has to ask again
        if self.ended:
            raise ConnectionError("the connection to NATS was lost")
        try:
            flushing = self._loop.create_task(self._client.flush(self._timeout))
            try:
                await asyncio.wait([flushing, self._over], return_when=asyncio.FIRST_COMPLETED)
            finally:
                flushing.cancel()
            if flushing.done() and not flushing.cancelled():
                await flushing
            else:
                raise nats_error(self._over.result(), "the connection to NATS was lost")
        except self._errors.TimeoutError:
            error = ConnectionError(f"NATS did not answer within {self._timeout:g} seconds")
            self.abort(error)
            raise error from None
        except WebTransportError:
            raise
        except Exception as error:
            raise nats_error(error, "the connection to NATS was lost") from error

    async def _failed(self, error: Exception) -> None:
        """Something went wrong, which need not be the end."""
        if isinstance(error, self._errors.SlowConsumerError):
            self._on_slow()
            return
        refused = _REFUSED.search(str(error))
        if refused is None:
            self._last_error = error
        elif refused[1] in self._open:
            self._refused[refused[1]] = printable(error)

    async def _ended(self) -> None:
        if not self._over.done():
            error = self._last_error or self._client.last_error
            self._over.set_result(error or ConnectionError("NATS closed the connection"))
