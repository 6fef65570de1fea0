"""The HTTP requests of a server: limits, counters, and their lines in the access log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from ..exceptions import StreamError
from ..utils import _clock as clock
from ..utils._logs import BoundedLog
from ..utils._tasks import cancel_in_turns, start_task
from ..utils._text import printable_path
from ..utils._timing import get_timestamp
from ._access import access_logger, log_access
from ._losses import peer_name
from ._origins import is_allowed

if TYPE_CHECKING:
    from .._states import Address
    from ..config import ServerConfig
    from ..connection import WebTransportConnection
    from ..h3._exchange import H3Exchange
    from ._stats import ServerStats

__all__ = ["CLIENT_CLOSED_REQUEST", "RETRY_LATER", "RequestHandler", "Requests"]

RequestHandler = Callable[["WebTransportConnection", "H3Exchange"], object]

CLIENT_CLOSED_REQUEST: Final = 499
"""The status that other servers log when the client left before the answer."""
RETRY_LATER: Final = "10"
"""Seconds until a refused client may try again: a place may be free by then."""
_FORBIDDEN = 403
_CONTENT_TOO_LARGE = 413
_SERVICE_UNAVAILABLE = 503


class Requests:
    """Serves HTTP requests with a handler, such as an ASGI application, within limits.

    Args:
        config: Configuration of the server.
        logger: Its logger.
        stats: Its statistics.

    Attributes:
        handler: Gets each request; None: the HTTP/3 layer answers with 404 or 405.
        accepts_websockets: The handler takes requests for WebSockets (RFC 9220), too.
        timeout: Seconds that an application waits for more of a request; None: no limit.
        write_timeout: Seconds that an application waits to send more; None: no limit.
        max_body: Largest request body in bytes; None: no limit.
        tasks: The tasks of requests that are being served, by an object of their own.
        received: Bytes of request bodies that applications have read.
        sent: Bytes of response bodies.
        on_end: Called after each request.
        over_tcp: Requests that are being served over TCP.
    """

    __slots__ = (
        "_limit",
        "_log",
        "_logs",
        "_origins",
        "_stats",
        "_statuses",
        "accepts_websockets",
        "handler",
        "max_body",
        "on_end",
        "over_tcp",
        "received",
        "sent",
        "tasks",
        "timeout",
        "write_timeout",
    )

    def __init__(self, config: ServerConfig, logger: logging.Logger, stats: ServerStats) -> None:
        self._log = BoundedLog(logger)
        self._stats = stats
        self._statuses = [0] * 10  # by the first digit
        self.handler: RequestHandler | None = None
        self.accepts_websockets = False
        self.tasks: dict[object, asyncio.Task[None]] = {}
        self.received = self.sent = self.over_tcp = 0
        self.on_end: Callable[[], object] | None = None
        self.configure(config)

    def configure(self, config: ServerConfig) -> None:
        """Take the limits of another configuration."""
        self._limit = config.max_requests
        self._logs = config.access_log
        self._origins = config.allowed_origins
        self.timeout = config.request_timeout
        self.max_body = config.max_request_body
        self.write_timeout = config.write_timeout

    def requested(
        self, connection: WebTransportConnection, exchange: H3Exchange, *, closing: bool
    ) -> None:
        """A request has arrived (deliver phase).

        Args:
            connection: The connection.
            exchange: The request.
            closing: The server accepts no more requests.
        """
        connection.request_count += 1
        self._stats.requests += 1
        if self.handler is None:
            exchange.cancel()
        elif closing:
            self._refuse(connection, exchange, _SERVICE_UNAVAILABLE, "the server is closing")
        elif self.open_count >= self._limit:
            self._stats.requests_limited += 1
            reason = f"max_requests={self._limit} is reached"
            self._refuse(connection, exchange, _SERVICE_UNAVAILABLE, reason)
        elif exchange.request.protocol == "websocket" and not self.accepts_origin(
            exchange.request.headers.get("origin")
        ):
            reason = "the origin of the WebSocket is not among allowed_origins"
            self._refuse(connection, exchange, _FORBIDDEN, reason)
        elif self.max_body is not None and (exchange.request.content_length or 0) > self.max_body:
            reason = f"max_request_body={self.max_body} is exceeded"
            self._refuse(connection, exchange, _CONTENT_TOO_LARGE, reason)
        else:
            self.handler(connection, exchange)

    @property
    def open_count(self) -> int:
        """How many requests are being served."""
        return len(self.tasks) + self.over_tcp

    def accepts_origin(self, origin: str | None) -> bool:
        """Whether a page may open a WebSocket; counts it if not.

        Browsers send cookies with WebSockets, also for pages of others.

        Args:
            origin: Of the page; None: the client is no browser.
        """
        if origin is None or self._origins is None or is_allowed(origin, self._origins):
            return True
        self._stats.origins_rejected += 1
        return False

    def arrived_over_tcp(self) -> bool:
        """Count a request over TCP; False: it must be refused, ``max_requests`` is reached."""
        self._stats.requests += 1
        if self.open_count < self._limit:
            self.over_tcp += 1
            return True
        self._stats.requests_limited += 1
        return False

    def unreadable_over_tcp(self, client: Address | None, status: int) -> None:
        """Count and log a request over TCP that is answered although it could not be read.

        Args:
            client: Address of the client.
            status: 400, 408 or 431.
        """
        self._stats.requests += 1
        if self.count(status):
            log_access(client, "-", "-", status, get_timestamp(), origin=None, version="HTTP/1.1")

    def start(self, key: object, work: Coroutine[Any, Any, None]) -> None:
        """Start the task of a request; ``key`` leaves ``tasks`` when it ends.

        Args:
            key: Stands for the task; it is passed to :meth:`ended`.
            work: What the task runs; it calls :meth:`ended` at its end.
        """
        task = start_task(asyncio.get_running_loop(), work)
        if not task.done():
            self.tasks[key] = task

    def ended(self, key: object) -> None:
        """The task of a request is about to end."""
        self.tasks.pop(key, None)
        if self.on_end is not None:
            self.on_end()

    def answered(
        self, connection: WebTransportConnection, exchange: H3Exchange, status: int, started: float
    ) -> None:
        """Count a request, and log it.

        Args:
            connection: The connection.
            exchange: The request.
            status: What the client got; ``CLIENT_CLOSED_REQUEST`` if it left before.
            started: When the request came, Unix time in seconds.
        """
        if self.count(status):
            request = exchange.request
            log_access(
                connection.remote_address,
                request.method,
                request.path,
                status,
                started,
                origin=request.headers.get("origin"),
                version="HTTP/3",
            )

    def count(self, status: int) -> bool:
        """Count a request that was answered with a status; return whether it is to be logged."""
        self._statuses[status // 100] += 1
        if status == CLIENT_CLOSED_REQUEST:
            self._stats.requests_cancelled += 1
        return self._logs and access_logger.isEnabledFor(logging.INFO)

    def failed(self) -> None:
        """Count an error of the application."""
        self._stats.handler_errors += 1

    async def finish(self, seconds: float) -> None:
        """Wait until all requests have ended, for a limited time.

        A request that waits here itself is left out.
        """
        deadline = clock.monotonic() + seconds
        while (tasks := self._others()) and (left := deadline - clock.monotonic()) > 0:
            await asyncio.wait(tasks, timeout=left)

    def cancel(self) -> None:
        """Cancel all requests, some in each turn of the event loop; they are answered with 503."""
        cancel_in_turns(self._others())

    def _others(self) -> list[asyncio.Task[None]]:
        current = asyncio.current_task()
        return [task for task in self.tasks.values() if task is not current]

    def refresh(self, stats: ServerStats) -> None:
        """Write the counters into the statistics."""
        stats.responses_2xx, stats.responses_3xx = self._statuses[2:4]
        stats.responses_4xx, stats.responses_5xx = self._statuses[4:6]
        stats.request_bytes, stats.response_bytes = self.received, self.sent

    def close(self) -> None:
        """Log how many refusals were not logged."""
        self._log.flush()

    def _refuse(
        self, connection: WebTransportConnection, exchange: H3Exchange, status: int, reason: str
    ) -> None:
        self._log.tell(
            f"refused {status}",
            logging.WARNING,
            "refused %s with status %d: %s (peer %s)",
            printable_path(exchange.request.path),
            status,
            reason,
            peer_name(connection.remote_address),
        )
        self.answered(connection, exchange, status, get_timestamp())
        lines = [(b"content-length", b"0")]
        if status == _SERVICE_UNAVAILABLE:
            lines.append((b"retry-after", RETRY_LATER.encode()))
        try:
            exchange.respond(status, lines, fin=True)
        except StreamError:  # the client is gone, or accepts no header of any size
            exchange.cancel()
