"""A handler that opens an upstream session for each of its sessions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Self

from .._header_map import HeaderMap
from .._states import URL
from ..client import WebTransportClient
from ..client._connecting import ConnectOverrides
from ..config import ClientConfig
from ..exceptions import (
    ClientError,
    SessionRejectedError,
    TimeoutError,
    WebTransportError,
)
from ..session import WebTransportSession
from ..utils._closing import AsyncCloseable
from ..utils._failures import describe_error
from ..utils._logs import BoundedLog
from ..utils._tasks import is_being_cancelled
from ..utils._text import printable_path
from ..utils._urls import build_webtransport_url, parse_webtransport_url
from ._identity import forwarded_fields, says_who
from ._relay import Relay

__all__ = ["WebTransportForwarder"]

_logger = logging.getLogger("pywebtransport.forwarder")

_BAD_GATEWAY = 502
_GATEWAY_TIMEOUT = 504
_MAX_CONNECTIONS = 10_000

# Fields of one hop, or fields that each end of a session sets itself.
_OWN_FIELDS = frozenset(
    {
        "capsule-protocol",
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "sec-webtransport-http3-draft",
        "sec-webtransport-http3-draft02",
        "te",
        "transfer-encoding",
        "upgrade",
        "wt-available-protocols",
        "wt-protocol",
    }
)


class WebTransportForwarder(AsyncCloseable):
    """Relays sessions to an upstream server: streams, datagrams, resets, drain and close.

    ::

        forwarder = WebTransportForwarder("https://backend.internal:4433")
        app.route("/chat")(forwarder)
        app.on_shutdown(forwarder.close)

    The client gets its answer after the upstream has answered, with the same application protocol
    and response fields, or the same status if the upstream refuses. The forwarder does not buffer:
    if one side does not read, flow control stops the other.
    """

    def __init__(
        self,
        upstream: URL,
        *,
        config: ClientConfig | None = None,
        headers: Collection[str] | None = None,
        forwarded: bool = True,
    ) -> None:
        """Create a forwarder without connections.

        Args:
            upstream: ``https://host[:port]`` keeps the path and query of each
                request. A path in ``upstream`` replaces that of the request, and the query is kept
                unless ``upstream`` has one.
            config: TLS, timeouts and limits towards the upstream. Default
                ``ClientConfig(max_connections=10000)``: one connection for each session.
            headers: Names of request fields to forward; default all except those for one hop only
                (such as ``proxy-authorization``).
            forwarded: Tell the upstream who the client is, in ``forwarded`` (RFC 7239),
                ``x-forwarded-for``, ``-host`` and ``-proto``, and ``x-real-ip``. Such fields
                of the client itself are never forwarded, whatever their spelling, even with False.

        Raises:
            ConfigurationError: The URL or a field of ``config`` cannot be used.
        """
        self._host, self._port, self._path = parse_webtransport_url(upstream)
        self._names = None if headers is None else {name.lower() for name in headers}
        self._forwarded = forwarded
        self._client = WebTransportClient(
            config=config if config is not None else ClientConfig(max_connections=_MAX_CONNECTIONS)
        )
        self._relays: set[Relay] = set()
        self._datagrams_dropped = 0
        self._log = BoundedLog(_logger)

    @property
    def is_closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._client.is_closed

    @property
    def stats(self) -> dict[str, int]:
        """Counters: current sessions and streams, attempts and failures, dropped datagrams."""
        attempts = self._client.stats["connections"]
        return {
            "sessions": len(self._relays),
            "streams": sum(relay.streams for relay in self._relays),
            "attempts": attempts["attempted"],
            "failures": attempts["failed"],
            "datagrams_dropped": self._datagrams_dropped
            + sum(relay.datagrams_dropped for relay in self._relays),
        }

    async def __call__(self, session: WebTransportSession) -> None:
        """Relay one session, which must not be answered yet, until it ends.

        This is the handler for a ``WebTransportServer``; ``ServerApp`` calls
        ``answer_request`` first.

        Raises: as ``answer_request``.

        Cancellation: both sessions are closed.
        """
        handler = await self.answer_request(session)
        await handler(session)

    async def answer_request(
        self, session: WebTransportSession
    ) -> Callable[[WebTransportSession], Awaitable[None]]:
        """Open the upstream session, and accept ``session`` in the same way.

        Args:
            session: In state CONNECTING.

        Returns:
            The handler that relays it.

        Raises:
            SessionRejectedError: With the upstream's status; 502 when it cannot be
                reached or does not speak WebTransport, 504 when it does not answer in time.
            ClientError: The client is gone.

        Cancellation: safe, nothing stays open.
        """
        upstream = await self._connect(session)
        try:
            session.accept(
                headers=_without(upstream.headers, _OWN_FIELDS),
                application_protocol=upstream.application_protocol,
            )
        except BaseException:
            await upstream.close()
            raise
        relay = Relay(session, upstream)
        self._relays.add(relay)

        async def handler(_: WebTransportSession) -> None:
            try:
                await relay.run()
            finally:
                self._relays.discard(relay)
                self._datagrams_dropped += relay.datagrams_dropped

        return handler

    async def close(self) -> None:
        """Close every upstream session, and with them the relayed ones. Idempotent.

        Cancellation: everything is released anyway.
        """
        self._log.flush()
        await self._client.close()

    async def __aenter__(self) -> Self:
        if self.is_closed:
            raise ClientError("the forwarder is closed; make a new one")
        return self

    # ------------------------------------------------------------------ internal

    async def _connect(self, session: WebTransportSession) -> WebTransportSession:
        """Open the upstream session, unless the client goes away meanwhile."""
        url = self._url(session.path)
        overrides = ConnectOverrides(application_protocols=tuple(session.offered_protocols))
        opening = asyncio.ensure_future(
            self._client.open_session(url, None, self._request_headers(session), overrides)
        )
        gone = asyncio.ensure_future(session.wait_closed())
        upstream: WebTransportSession | None = None
        try:
            await asyncio.wait({opening, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not opening.done():
                raise ClientError(
                    f"the client went away before {printable_path(url)} answered", target_url=url
                )
            upstream = opening.result()
            return upstream
        except SessionRejectedError as error:
            status = error.status_code if 300 <= error.status_code <= 599 else _BAD_GATEWAY
            raise SessionRejectedError(
                status_code=status, headers=_without(error.headers, _OWN_FIELDS)
            ) from error
        except TimeoutError as error:
            self._upstream_failed("no answer from upstream %s: %s", url, error)
            raise SessionRejectedError(status_code=_GATEWAY_TIMEOUT) from error
        except (WebTransportError, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and is_being_cancelled():
                raise
            if not gone.done():
                self._upstream_failed("upstream %s failed: %s", url, error)
            raise SessionRejectedError(status_code=_BAD_GATEWAY) from error
        finally:
            gone.cancel()
            if upstream is None:
                opening.cancel()
                (late,) = await asyncio.gather(opening, return_exceptions=True)
                if isinstance(late, WebTransportSession):  # too late for this one
                    await late.close()

    def _upstream_failed(self, message: str, url: URL, error: BaseException) -> None:
        """Log a failure; limited, because any client can cause it repeatedly."""
        shown = printable_path(url)
        self._log.tell("upstream", logging.WARNING, message, shown, describe_error(error))

    def _url(self, path: str) -> URL:
        if self._path != "/":
            query = path.partition("?")[2]
            path = self._path
            if query and "?" not in path:
                path += f"?{query}"
        return build_webtransport_url(host=self._host, port=self._port, path=path)

    def _request_headers(self, session: WebTransportSession) -> HeaderMap:
        headers = HeaderMap(
            (name, value)
            for name, value in _without(session.headers, _OWN_FIELDS).lines
            if (self._names is None or name in self._names) and not says_who(name)
        )
        if self._forwarded:
            remote = session.remote_address
            host = None if remote is None else remote[0]
            for name, value in forwarded_fields(host, session.authority).items():
                headers[name] = value
        return headers


def _without(headers: Mapping[str, str], names: Collection[str]) -> HeaderMap:
    """Return all lines of all other fields."""
    lines = headers.lines if isinstance(headers, HeaderMap) else headers.items()
    return HeaderMap((name, value) for name, value in lines if name not in names)
