"""The chain of checks that a session request passes before it is accepted."""

from __future__ import annotations

import logging
import math
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .._states import EventType
from ..exceptions import ConfigurationError, SessionRejectedError, invalid_config
from ..utils import _clock as clock
from ..utils._checks import check_texts
from ..utils._closing import AsyncContext
from ..utils._failures import name_of
from ..utils._logs import shared_log
from ..utils._networks import client_network
from ..utils._text import printable, printable_path
from ._callables import check_auth_handler, check_middleware, result_of
from ._protocols import AuthHandlerProtocol, MiddlewareProtocol

if TYPE_CHECKING:
    from ..events import Event
    from ..session import WebTransportSession

__all__ = [
    "MiddlewareManager",
    "RateLimiter",
    "create_auth_middleware",
    "create_cors_middleware",
    "create_logging_middleware",
    "create_rate_limit_middleware",
]

_logger = logging.getLogger("pywebtransport.server")

_UNAUTHORIZED = 401
_FORBIDDEN = 403
_TOO_MANY_REQUESTS = 429
# Most clients that a rate limiter remembers; the least recent one is forgotten first.
_MAX_CLIENTS = 65536


class MiddlewareManager:
    """Runs middleware in the order it was added; the first refusal ends the chain."""

    def __init__(self) -> None:
        """Create an empty chain."""
        self._chain: list[MiddlewareProtocol] = []

    def add_middleware(self, middleware: MiddlewareProtocol) -> None:
        """Append ``async def middleware(session) -> bool``.

        Raises:
            ConfigurationError: It cannot be called as ``await middleware(session=session)``.
        """
        check_middleware(middleware)
        self._chain.append(middleware)

    def remove_middleware(self, middleware: MiddlewareProtocol) -> None:
        """Remove it from the chain; nothing happens if it is not there."""
        if middleware in self._chain:
            self._chain.remove(middleware)

    def get_middleware_count(self) -> int:
        """Number of middleware in the chain."""
        return len(self._chain)

    async def process_request(self, session: WebTransportSession) -> bool:
        """Run each middleware in turn.

        Returns:
            False as soon as one returns a false value, otherwise True. A value that is neither True
            nor False, such as None without a ``return``, is also logged.

        Raises:
            SessionRejectedError: A middleware refused with this status.
            Exception: Whatever else a middleware raised.

        Cancellation: as safe as the middleware.
        """
        for middleware in tuple(self._chain):
            answer = await result_of("middleware", middleware, middleware(session=session))
            given: object = answer
            if not isinstance(given, bool):
                shared_log(_logger).tell(
                    f"answer of {name_of(middleware)}",
                    logging.WARNING,
                    "middleware %s returned %s instead of True or False, which counts as %s",
                    name_of(middleware),
                    printable(type(given).__name__),
                    bool(given),
                )
            if not answer:
                return False
        return True


class RateLimiter(AsyncContext):
    """Middleware that limits the session requests of each client address.

    A request over the limit is answered 429 with ``retry-after``. For IPv6 only the first 64 bits
    of an address count, because a client usually has the whole network. Memory is bounded: each
    request makes it forget the addresses whose window has passed, and it remembers at most the
    65,536 most recent addresses.
    """

    def __init__(
        self, *, max_requests: int = 100, window_seconds: int = 60, cleanup_interval: int = 300
    ) -> None:
        """Limit each address to ``max_requests`` in any ``window_seconds``.

        Args:
            max_requests: At least 1.
            window_seconds: Seconds, at least 1.
            cleanup_interval: Ignored; kept for compatibility.

        Raises:
            ConfigurationError: A value is out of range.
        """
        whole = (int,)
        for key, value, kinds in (
            ("max_requests", max_requests, whole),
            ("window_seconds", window_seconds, (int, float)),
            ("cleanup_interval", cleanup_interval, (int, float)),
        ):
            if isinstance(value, bool) or not isinstance(value, kinds):
                wanted = "a whole number" if kinds is whole else "a number of seconds"
                raise invalid_config(key=key, value=value, reason=f"expected {wanted}, at least 1")
            if not 1 <= value < math.inf:  # NaN is not, either
                raise ConfigurationError(
                    f"{key} must be >= 1, got {value}", config_key=key, config_value=value
                )
        self._max_requests = max_requests
        self._window = window_seconds
        self._seen: OrderedDict[str, deque[float]] = OrderedDict()

    async def __call__(self, session: WebTransportSession) -> bool:
        """Count the request.

        Raises:
            SessionRejectedError: 429, the limit is reached.
        """
        remote = session.remote_address
        host = client_network(remote[0]) if remote is not None else ""
        now = clock.monotonic()
        self._forget(now - self._window)
        times = self._seen.setdefault(host, deque())
        while times and times[0] <= now - self._window:
            times.popleft()
        if len(times) >= self._max_requests:
            wait = max(1, round(times[0] + self._window - now))
            raise SessionRejectedError(
                status_code=_TOO_MANY_REQUESTS, headers={"retry-after": str(wait)}
            )
        times.append(now)
        self._seen.move_to_end(host)
        while len(self._seen) > _MAX_CLIENTS:
            self._seen.popitem(last=False)
        return True

    def _forget(self, limit: float) -> None:
        """Drop the addresses whose last admitted request was at ``limit`` or before.

        They are in this order, so this checks at most one that stays.
        """
        while self._seen:
            host, times = next(iter(self._seen.items()))
            if times[-1] > limit:
                break
            del self._seen[host]

    async def _end_block(self) -> None:
        self._seen.clear()


def create_rate_limit_middleware(
    *, max_requests: int = 100, window_seconds: int = 60, cleanup_interval: int = 300
) -> RateLimiter:
    """Create a ``RateLimiter`` with these arguments."""
    return RateLimiter(
        max_requests=max_requests,
        window_seconds=window_seconds,
        cleanup_interval=cleanup_interval,
    )


def create_auth_middleware(auth_handler: AuthHandlerProtocol) -> MiddlewareProtocol:
    """Create middleware that calls ``await auth_handler(headers=...)``.

    If it returns a false value, the request is refused with 401. If it raises, the answer is 500,
    and the exception is logged.

    Args:
        auth_handler: Gets the request's header fields, lower-case names.

    Raises:
        ConfigurationError: It cannot be called as ``await auth_handler(headers=headers)``.
    """
    check_auth_handler(auth_handler)

    async def authenticate(*, session: WebTransportSession) -> bool:
        answer = auth_handler(headers=session.headers)
        if not await result_of("auth_handler", auth_handler, answer):
            raise SessionRejectedError(status_code=_UNAUTHORIZED)
        return True

    return authenticate


def create_cors_middleware(allowed_origins: Sequence[str]) -> MiddlewareProtocol:
    """Create middleware that accepts only browsers of some origins; others get 403.

    Requests without ``origin`` (not from a browser) are accepted.

    Args:
        allowed_origins: Such as ``https://example.org``; ``*`` accepts all.

    Raises:
        ConfigurationError: The argument is not a list of strings.
    """
    allowed = {origin.lower() for origin in check_texts("allowed_origins", allowed_origins)}

    async def check_origin(*, session: WebTransportSession) -> bool:
        origin = session.origin
        if origin is None or "*" in allowed or origin.lower() in allowed:
            return True
        raise SessionRejectedError(status_code=_FORBIDDEN)

    return check_origin


def create_logging_middleware() -> MiddlewareProtocol:
    """Create middleware that logs begin and end of sessions (INFO, ``pywebtransport.sessions``)."""
    logger = logging.getLogger("pywebtransport.sessions")

    async def log_session(*, session: WebTransportSession) -> bool:
        remote = session.remote_address
        client = f"{remote[0]}:{remote[1]}" if remote is not None else "-"
        path = printable_path(session.path)
        logger.info("%s requested %s", client, path)

        def ended(event: Event) -> None:
            data = event.data or {}
            logger.info(
                "%s ended %s: code %s %s",
                client,
                path,
                data.get("code"),
                printable(data.get("reason", "")),
            )

        session.add_watcher(EventType.SESSION_CLOSED, ended)
        return True

    return log_session
