"""One connection to a Redis server, with many commands in progress at a time."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from ..exceptions import AuthenticationError, ConnectionError, WebTransportError, invalid_config
from ..utils._extras import require
from ..utils._text import printable
from ..utils._turns import Turns

__all__ = ["OnMessage", "RedisLink", "load_redis", "parse_redis_url", "redis_error"]

_TURN = 100
"""Replies handled before other tasks get a turn of the loop: a flood must not starve them."""
_STEP = 10
"""Replies handled between two checks of the clock, for the same reason."""
_FAREWELL = 2.0
"""Seconds to wait for the end of a connection that is being closed."""
_MESSAGES = (b"message", b"pmessage")

OnMessage: TypeAlias = Callable[[list[Any]], Awaitable[None]]
"""Handles a message as the server sent it; the next one is read when this one is done."""


def load_redis() -> Any:
    """Import redis-py.

    Raises:
        ConfigurationError: It is not installed.
    """
    require("redis.asyncio.connection", extra="redis")
    return require("redis", extra="redis")


def parse_redis_url(url: str) -> dict[str, Any]:
    """Convert a URL to the arguments of a redis-py connection, including its class.

    Raises:
        ConfigurationError: It is not the URL of a Redis server. The message does not show the URL,
            which may contain a password.
    """
    connections = load_redis().asyncio.connection
    try:
        arguments: dict[str, Any] = {
            "connection_class": connections.Connection,
            "client_name": "pywebtransport",
            **connections.parse_url(url),
            # Replies and messages come as plain arrays of bytes, and reading waits for them.
            "protocol": 2,
            "decode_responses": False,
            "socket_timeout": None,
            "health_check_interval": 0,
        }
        if arguments["connection_class"] is connections.SSLConnection:
            # Older versions of redis-py accept a certificate for any other name by default.
            checked = arguments.get("ssl_cert_reqs") != "none"
            arguments.setdefault("ssl_check_hostname", checked)
        make_connection(arguments)
    except Exception as error:
        reason = (
            "expected redis://, rediss:// or unix://, with options of redis-py: "
            f"{type(error).__name__}"
        )
        raise invalid_config(key="url", value="(not shown)", reason=reason) from None
    return arguments


def make_connection(arguments: dict[str, Any]) -> Any:
    """Create a redis-py connection that is not connected."""
    rest = dict(arguments)
    return rest.pop("connection_class")(**rest)


def redis_error(error: BaseException, what: str) -> WebTransportError:
    """Convert an error of redis-py or the system to an exception of this package."""
    exceptions = load_redis().exceptions
    message = f"{what}: {error}" if str(error) else f"{what}: {type(error).__name__}"
    if isinstance(
        error,
        exceptions.AuthenticationError
        | exceptions.AuthenticationWrongNumberOfArgsError
        | exceptions.AuthorizationError
        | exceptions.NoPermissionError,
    ):
        return AuthenticationError(message, auth_method="redis")
    return ConnectionError(message)


class RedisLink:
    """A connection that is always being read, so that its end is noticed at once.

    Commands are sent in the order of :meth:`request`, several at once when they
    come fast, and the server answers in that order.
    """

    def __init__(self, connection: Any, on_message: OnMessage) -> None:
        self._connection = connection
        self._on_message = on_message
        self._loop = asyncio.get_running_loop()
        self._unsent: list[bytes] = []
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._sender: asyncio.Task[None] | None = None
        self._error: BaseException | None = None
        self._heard = 0  # messages and replies
        self._replied = load_redis().exceptions.ResponseError
        self._reader = self._loop.create_task(self._read())

    @classmethod
    async def open(
        cls,
        arguments: dict[str, Any],
        *,
        timeout: float,
        on_message: OnMessage,
    ) -> RedisLink:
        """Connect and log in.

        Args:
            arguments: From :func:`parse_redis_url`.
            timeout: Longest wait for the server in seconds.
            on_message: Handles a message as the server sent it.

        Raises:
            AuthenticationError: The server refuses the credentials.
            ConnectionError: It cannot be reached, or refuses for another reason.

        Cancellation: safe; nothing stays open.
        """
        connection = make_connection(arguments)
        try:
            async with asyncio.timeout(timeout):
                await connection.connect()
        except BaseException as error:
            await _disconnect(connection)
            if not isinstance(error, Exception):
                raise
            raise redis_error(error, "the Redis server cannot be used") from error
        return cls(connection, on_message)

    @property
    def ended(self) -> bool:
        """Whether the connection is gone; requests fail then."""
        return self._error is not None

    async def wait_ended(self, *, ping_interval: float, timeout: float) -> BaseException:
        """Wait for the end of the connection; return what ended it.

        A server that hangs or vanishes does not end it. So the server is pinged after silence, and
        the connection is closed if there is no answer.

        Args:
            ping_interval: Seconds of silence.
            timeout: Seconds to wait for the answer.

        Cancellation: safe.
        """
        while not self._reader.done():
            heard = self._heard
            await asyncio.wait([self._reader], timeout=ping_interval)
            if self.ended or self._heard != heard:
                continue
            await asyncio.wait(
                [self._reader, self.request("PING")],
                timeout=timeout,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if self._heard == heard:
                self.abort(ConnectionError(f"Redis said nothing within {timeout:g} seconds"))
        return self._error or ConnectionError("the link ended")

    def request(self, *command: str | bytes) -> asyncio.Future[Any]:
        """Send a command.

        Returns:
            A future for the reply. If the server refuses, or the connection ends first, its
            *result* is an exception. You may drop it.
        """
        reply: asyncio.Future[Any] = self._loop.create_future()
        if self._error is not None:
            reply.set_result(self._error)
            return reply
        self._waiting.append(reply)
        self._unsent += self._connection.pack_command(*command)
        if self._sender is None:
            self._sender = self._loop.create_task(self._send())
        return reply

    def abort(self, error: Exception) -> None:
        """Abort the connection, without waiting."""
        if self._error is None:
            self._error = error
            # Not before its first step: a task that never ran would release nothing.
            self._loop.call_soon(self._reader.cancel)

    async def close(self) -> None:
        """Disconnect; idempotent.

        Cancellation: safe; the connection is closed anyway.
        """
        self.abort(ConnectionError("the connection to Redis was closed"))
        await asyncio.wait([self._reader])

    async def _send(self) -> None:
        try:
            while self._unsent:
                packed, self._unsent = self._unsent, []
                await self._connection.send_packed_command(packed, check_health=False)
        except Exception as error:
            self.abort(error)
        finally:
            self._sender = None

    async def _read(self) -> None:
        try:
            while True:
                try:
                    reply = await self._connection.read_response(disconnect_on_error=False)
                except self._replied as error:
                    reply = error
                if isinstance(reply, list) and reply and reply[0] in _MESSAGES:
                    # Do not read faster than messages are passed on: the server keeps the rest.
                    await self._on_message(reply)
                elif self._waiting:
                    future = self._waiting.popleft()
                    if not future.done():
                        future.set_result(reply)
                else:
                    raise ConnectionError(
                        f"the Redis server sent a reply without a request: {printable(reply)}"
                    )
                self._heard += 1
                if self._heard % _TURN == 0:
                    await asyncio.sleep(0)
                elif self._heard % _STEP == 0:
                    await Turns.of(self._loop).pause()
        except Exception as error:
            self._error = self._error or error
        except asyncio.CancelledError:
            # By abort(), which has set the reason, or because the loop ends.
            self._error = self._error or ConnectionError("the connection to Redis was cancelled")
        finally:
            await self._finish()

    async def _finish(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(self._error)
        self._waiting.clear()
        self._unsent.clear()
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.wait([self._sender])
        await _disconnect(self._connection)


async def _disconnect(connection: Any) -> None:
    # It may be broken already, and a peer that is gone does not answer the close.
    with contextlib.suppress(Exception):
        async with asyncio.timeout(_FAREWELL):
            await connection.disconnect()
