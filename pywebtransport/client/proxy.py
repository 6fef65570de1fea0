"""WebTransport through a proxy: CONNECT-UDP over HTTP/3 (MASQUE, RFC 9298)."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from .._core.endpoint import tunnel_endpoint
from .._core.settings import client_tls, h3_options
from .._loop import RemoteAddress
from .._states import URL, ConnectionState, HeadersToSend
from ..config import ClientConfig
from ..connection import WebTransportConnection
from ..exceptions import (
    ClientError,
    ConfigurationError,
    ProtocolError,
    ProxyError,
    WebTransportError,
    invalid_config,
)
from ..h3._errors import H3StreamError
from ..h3._fields import check_fields
from ..h3._tunnel import H3Tunnel
from ..utils._checks import check_instance
from ..utils._closing import AsyncCloseable
from ..utils._tasks import named
from ..utils._text import printable
from ._connecting import Connecting, ConnectOverrides, Progress
from ._proxy_template import ProxyTemplate
from .client import WebTransportClient

if TYPE_CHECKING:
    from .._loop import Failures, TunnelEndpoint
    from .._quic import QuicTls
    from ..h3._options import H3Options
    from ..session import WebTransportSession
    from ..stream import WebTransportStream

__all__ = ["WebTransportProxy"]

_logger = logging.getLogger("pywebtransport.proxy")

# The smallest packet size that QUIC needs (RFC 9000 section 14), and the size of an outer packet #
# that carries one with its headers and still passes every common link.
_INNER_SIZE = 1200
_OUTER_SIZE = 1280
# Packets of one tunnel that wait in the queue of the connection to the proxy.
_TUNNEL_QUEUE = 128


class WebTransportProxy(AsyncCloseable):
    """Opens sessions through a UDP proxy (CONNECT-UDP over HTTP/3, RFC 9298).

    Each connection to a target has its own tunnel; all tunnels share one connection to the proxy.
    QUIC and TLS are end to end: the proxy only sees the name of the target and encrypted packets.
    The proxy resolves the name. Use as ``async with WebTransportProxy(...) as proxy:``; leaving the
    block closes every session.
    """

    def __init__(
        self,
        proxy_url: URL,
        *,
        config: ClientConfig | None = None,
        target_config: ClientConfig | None = None,
    ) -> None:
        """Create a proxy object without a connection.

        Args:
            proxy_url: ``https://host:port``, or a URI template with
                ``{target_host}`` and ``{target_port}`` (RFC 9298 section 2).
            config: TLS, timeouts and limits of the connection to the proxy.
                ``udp_payload_size`` defaults to 1280 here: the path to the proxy
                must carry that, since the packets inside have 1200 bytes.
            target_config: The same for the connections through it; default ``config``.

        Raises:
            ConfigurationError: The URL or a field of a configuration cannot be used.
        """
        for key, given in (("config", config), ("target_config", target_config)):
            if given is not None:
                check_instance(key, given, ClientConfig)
                if given.fallback is not None:
                    raise invalid_config(
                        key="fallback",
                        value=given.fallback,
                        reason="a proxy for UDP carries no TCP; use None here, or "
                        "WebTransportClient with fallback_proxy",
                    )
        self._template = ProxyTemplate.parse(proxy_url)
        self._url = proxy_url
        self._shown = printable(proxy_url)
        own = config if config is not None else ClientConfig()
        self._target_config = own if target_config is None else target_config
        size = own.udp_payload_size or _OUTER_SIZE
        if size < _OUTER_SIZE:
            raise ConfigurationError(
                f"udp_payload_size={size}: a tunnel needs {_OUTER_SIZE} or more",
                config_key="udp_payload_size",
                config_value=size,
            )
        self._config = own.update(udp_payload_size=size)
        self._client = WebTransportClient(config=self._target_config)
        self._current: WebTransportConnection | None = None
        self._connections: set[WebTransportConnection] = set()
        self._connecting = asyncio.Lock()
        self._paths: set[_Path] = set()
        self._tls: QuicTls | None = None
        self._options: H3Options | None = None
        self._tunnels_opened = 0
        self._packets_sent = 0
        self._packets_dropped = 0

    @classmethod
    def create(cls, proxy_url: URL, *, config: ClientConfig | None = None) -> Self:
        """Same as the constructor."""
        return cls(proxy_url, config=config)

    # -------------------------------------------------------------- properties

    @property
    def is_closed(self) -> bool:
        """``close`` was called."""
        return self._client.is_closed

    @property
    def proxy_url(self) -> URL:
        """URL or template of the proxy."""
        return self._url

    @property
    def connection(self) -> WebTransportConnection | None:
        """The connection to the proxy; None before the first tunnel and after it was lost."""
        current = self._current
        return current if current is not None and current.is_connected else None

    @property
    def sessions(self) -> tuple[WebTransportSession, ...]:
        """The sessions that are alive."""
        return tuple(session for inner in self._client.connections for session in inner.sessions)

    @property
    def stats(self) -> dict[str, Any]:
        """Counters: tunnels now and in total, packets sent into them, packets dropped here."""
        tunnels = [path.tunnel for path in self._paths]
        return {
            "tunnels": len(tunnels),
            "tunnels_opened": self._tunnels_opened,
            "packets_sent": self._packets_sent + sum(t.packets_sent for t in tunnels),
            "packets_dropped": self._packets_dropped + sum(t.packets_dropped for t in tunnels),
            "sessions": self._client.stats,
        }

    # -------------------------------------------------------------- connecting

    def connect(
        self,
        target_url: URL,
        *,
        timeout: float | None = None,
        headers: HeadersToSend | None = None,
        proxy_headers: HeadersToSend | None = None,
    ) -> Connecting:
        """Open a session through the proxy: ``await`` it, or use it in ``async with``.

        Args:
            target_url: ``https://host[:port]/path?query``.
            timeout: Seconds for everything: the connection to the proxy, the
                tunnel, the connection inside and the server's answer; default
                ``connect_timeout`` of the target's configuration.
            headers: Extra fields of the session request, for the target.
            proxy_headers: Extra fields of the tunnel request, for the proxy,
                such as ``proxy-authorization``.

        Returns:
            The ready session. Leaving ``async with`` closes it.

        Raises:
            ConfigurationError: The URL is malformed, or a header cannot be sent.
            ProxyError: The proxy refused the tunnel (``status_code``, ``headers``),
                offers no CONNECT-UDP, or was lost.
            UnreachableError, CertificateError, HandshakeError: With the proxy or with
                the target; the message names it, and ``details["proxy_url"]`` is set if it was the
                proxy.
            SessionRejectedError: The target refused the session.
            TimeoutError: There was no answer in time; ``operation`` says from whom.
            ClientError: ``close`` was called.

        Cancellation: safe, nothing stays open.
        """
        opening = self._open(target_url, proxy_headers, timeout, headers)
        return Connecting(named("WebTransportProxy.connect", opening))

    async def connect_through_proxy(
        self,
        target_url: URL,
        *,
        proxy_headers: HeadersToSend | None = None,
        timeout: float = 10.0,
    ) -> WebTransportStream:
        """Open a session through the proxy, and a bidirectional stream on it.

        The stream is end to end, to the target; ``stream.session`` is its
        session, and closing that ends both. ``connect`` gives the session alone.

        Args:
            target_url: ``https://host[:port]/path?query``.
            proxy_headers: Extra fields of the tunnel request, for the proxy.
            timeout: Seconds for everything.

        Raises: as ``connect``.

        Cancellation: safe, nothing stays open.
        """
        session = await self._open(target_url, proxy_headers, timeout, None)
        try:
            return await session.create_bidirectional_stream(timeout=timeout)
        except BaseException:
            await session.close()
            raise

    async def _open(
        self,
        target_url: URL,
        proxy_headers: HeadersToSend | None,
        timeout: float | None,
        headers: HeadersToSend | None,
    ) -> WebTransportSession:
        fields = check_fields(proxy_headers or {})
        overrides = ConnectOverrides(dial=partial(self._dial, fields))
        return await self._client.open_session(target_url, timeout, headers, overrides)

    # ------------------------------------------------------------------- closing

    async def close(self) -> None:
        """Close every session, every tunnel and the connection to the proxy. Idempotent.

        Takes at most about ``close_timeout`` seconds.

        Cancellation: everything is released anyway.
        """
        seconds = self._config.close_timeout
        deadline = asyncio.get_running_loop().time() + seconds
        try:
            if self._client.home_loop.is_gone:
                await self._client.close()
            else:
                self._client.home_loop.enter()
                # This goes through the tunnels, so close these afterwards.
                await self._client.close_until(deadline - seconds / 5)
        finally:
            for path in tuple(self._paths):
                path.give_up()
            self._current = None
            try:
                await asyncio.gather(
                    *(connection.close_until(deadline) for connection in self._connections),
                    return_exceptions=True,
                )
            finally:
                for connection in tuple(self._connections):
                    connection.close_nowait()

    async def __aenter__(self) -> Self:
        if self.is_closed:
            raise ClientError("the proxy is closed; make a new one")
        return self

    # ------------------------------------------------------------------ internal

    async def _dial(
        self,
        proxy_headers: HeadersToSend,
        connection: WebTransportConnection,
        host: str,
        port: int,
        progress: Progress,
    ) -> None:
        """Connect to a target through a new tunnel."""
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        progress.advance(
            "proxy", f"the proxy {self._shown} did not complete the connection; check its URL"
        )
        try:
            outer = await self._connected(progress.failures)
        except WebTransportError as error:
            error.details.update(proxy_url=self._url, target=target)
            error.add_note(f"while connecting to the proxy {self._shown} for {target}")
            raise
        progress.advance(
            "tunnel", f"the proxy {self._shown} did not answer the request for a tunnel"
        )
        path = _Path(self, connection, outer, target)
        try:
            await path.open(self._template.expand(host, port), proxy_headers)
            progress.advance(
                "handshake",
                f"the tunnel through {self._shown} is open, but {target} completed no QUIC "
                "handshake",
            )
            await path.connect(host, port)
        except BaseException:
            path.close()
            raise

    async def _connected(self, failures: Failures) -> WebTransportConnection:
        """The connection to the proxy; a new one when there is none that takes requests."""
        async with self._connecting:
            current = self._current
            if current is not None and current.state is ConnectionState.CONNECTED:
                return current
            if self.is_closed:
                raise ClientError("the proxy is closed; make a new one")
            connection = WebTransportConnection(config=self._config)
            connection.on_closed = self._connections.discard
            self._connections.add(connection)
            try:
                await connection.establish(
                    self._template.host, self._template.port, failures=failures
                )
                await connection.wait_ready(timeout=self._config.handshake_timeout)
            except BaseException:
                connection.close_nowait()
                raise
            self._current = connection
            return connection

    def _tls_and_options(self) -> tuple[QuicTls, H3Options]:
        if self._tls is None or self._options is None:
            self._tls = client_tls(self._target_config)
            self._options = h3_options(self._target_config)
        return self._tls, self._options

    def _path_closed(self, path: _Path) -> None:
        if path in self._paths:
            self._paths.remove(path)
            self._packets_sent += path.tunnel.packets_sent
            self._packets_dropped += path.tunnel.packets_dropped


class _Path:
    """Connects a tunnel through the proxy to the endpoint of the connection inside."""

    tunnel: H3Tunnel

    def __init__(
        self,
        proxy: WebTransportProxy,
        inner: WebTransportConnection,
        outer: WebTransportConnection,
        target: str,
    ) -> None:
        self._proxy = proxy
        self._inner = inner
        self._outer = outer
        self._target = target
        self._endpoint: TunnelEndpoint | None = None
        self._answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended_here = False

    async def open(self, path: str, headers: HeadersToSend) -> None:
        """Ask the proxy for the tunnel and wait for its answer."""
        h3 = self._outer.h3
        assert h3 is not None  # it is connected
        try:
            self.tunnel = H3Tunnel.open(
                h3,
                authority=self._outer.authority,
                path=path,
                headers=headers,
                events=self,
            )
        except ConfigurationError:
            raise
        except WebTransportError as error:
            raise self._error("is not possible", error) from error
        self._proxy._paths.add(self)
        self._proxy._tunnels_opened += 1
        self.tunnel.queue_limit = _TUNNEL_QUEUE
        await self._answer
        if self.tunnel.max_packet_size < _INNER_SIZE:
            raise self._error(
                "cannot carry QUIC: the proxy accepts packets of "
                f"{self.tunnel.max_packet_size} bytes, and {_INNER_SIZE} are needed"
            )

    async def connect(self, host: str, port: int) -> None:
        """Run the QUIC handshake with the target through the tunnel."""
        config = self._proxy._target_config
        size = min(config.udp_payload_size or _INNER_SIZE, self.tunnel.max_packet_size)
        tls, options = self._proxy._tls_and_options()
        near, far = self._outer.local_address, self._outer.remote_address
        if self.tunnel.is_closed or near is None or far is None:
            raise self._error("was lost")
        self._endpoint = tunnel_endpoint(
            config.update(udp_payload_size=size),
            tls,
            send=self.tunnel.send,
            local=near,
            on_close=self.close,
        )
        family = socket.AF_INET6 if ":" in far[0] else socket.AF_INET
        await self._inner.establish(
            host,
            port,
            endpoint=self._endpoint,
            owns_endpoint=True,
            options=options,
            addresses=[RemoteAddress(family, far)],
        )

    def give_up(self) -> None:
        """As ``close``; callers that wait for the answer of the proxy get an error."""
        if not self._answer.done():
            self._answer.set_exception(self._error("was given up"))
        self.close()

    def close(self) -> None:
        """End the tunnel: the connection inside ended, or never existed. Idempotent."""
        endpoint, self._endpoint = self._endpoint, None
        if endpoint is not None:
            endpoint.close()
        if hasattr(self, "tunnel") and not self.tunnel.is_closed:
            # Send the last packets of the connection inside before the tunnel ends.
            self._ended_here = True
            self._outer.flush_nowait()
            self.tunnel.close()
        self._proxy._path_closed(self)

    # --------------------------------------------------- facts about the tunnel

    def tunnel_established(self) -> None:
        """The proxy opened the tunnel."""
        if not self._answer.done():
            self._answer.set_result(None)

    def tunnel_rejected(
        self, status: int | None, headers: Mapping[str, str], error: Exception
    ) -> None:
        """The proxy refused, or was lost before it answered."""
        if self._answer.done():
            return
        if status is None:
            self._answer.set_exception(self._error("was lost before the proxy answered", error))
            return
        self._answer.set_exception(
            ProxyError(
                f"the proxy {self._proxy._shown} refused the tunnel to {self._target} with "
                f"HTTP status {status}",
                proxy_url=self._proxy.proxy_url,
                target=self._target,
                status_code=status,
                headers=headers,
                remote=True,
            )
        )

    def packets_received(self, packets: list[bytes]) -> None:
        """Packets of the target."""
        if self._endpoint is not None:
            self._endpoint.packets_received(packets)

    def tunnel_writable(self) -> None:
        """The queue to the proxy has room again."""
        if self._endpoint is not None:
            self._endpoint.writable()

    def tunnel_closed(self, error: Exception | None) -> None:
        """The tunnel has ended, and so has the connection inside."""
        if self._ended_here:
            return
        lost = self._error("was lost", error if error is not None else _FINISHED)
        _logger.info("%s", lost)
        self._inner.path_lost(lost)
        self.close()

    def _error(self, what: str, cause: Exception | None = None) -> ProxyError:
        remote = getattr(cause, "remote", None)
        if isinstance(cause, H3StreamError):  # the proxy sent something invalid
            remote = True
        if remote:
            what += ": the proxy ended it"
        text = f"the tunnel through {self._proxy._shown} to {self._target} {what}{_told(cause)}"
        error = ProxyError(
            text,
            proxy_url=self._proxy.proxy_url,
            target=self._target,
            error_code=getattr(cause, "error_code", None),
            remote=remote,
        )
        error.reason = str(error)  # the sessions inside end with it
        return error


_FINISHED = ProtocolError("the peer finished the stream of the tunnel", remote=True)


def _told(cause: Exception | None) -> str:
    """What is known about the end, to append to a message."""
    if cause is None:
        return ""
    # The messages of our own errors are escaped where they are made.
    return f": {cause.message if isinstance(cause, WebTransportError) else printable(cause)}"
