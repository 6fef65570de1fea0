"""Servers and pairs of sessions for the duration of a block."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from ..client import WebTransportClient
from ..config import ClientConfig, ServerConfig
from ..constants import SHARED_SECRET_SIZE
from ..exceptions import invalid_config
from ..server import ServerApp
from ..utils._checks import check_callable, check_instance, check_text
from ._certificates import Certificate, default_certificate
from ._network import Network

if TYPE_CHECKING:
    from .._states import HeadersToSend
    from .._transport import PacketNetwork
    from ..server.router import SessionHandler
    from ..session import WebTransportSession

__all__ = ["Served", "serve", "session_pair"]


class Served:
    """A running server.

    Attributes:
        app: The application.
        certificate: The certificate that clients have to trust.
        host: The address on which it listens.
        port: The port on which it listens.
        network: The network of the server; None: it uses a UDP socket.
    """

    def __init__(
        self, app: ServerApp, certificate: Certificate, network: PacketNetwork | None
    ) -> None:
        address = app.server.local_address
        assert address is not None
        self.app = app
        self.certificate = certificate
        self.host, self.port = address
        self.network = network
        self._url = app.server.url.removesuffix("/")

    @property
    def url(self) -> str:
        """``https://127.0.0.1:54321``, with the host that ``serve`` was given; add the path."""
        return self._url

    @property
    def certificate_hash(self) -> bytes:
        """SHA-256 hash of the certificate."""
        return self.certificate.hash

    def client_config(self, config: ClientConfig | None = None) -> ClientConfig:
        """Return a client configuration that reaches this server and trusts its certificate.

        Args:
            config: What else it says; one with ``ca_certs`` or ``server_certificate_hashes`` of
                its own trusts those.

        Raises:
            ConfigurationError: ``config`` is not a ``ClientConfig``.
        """
        if config is not None:
            check_instance("config", config, ClientConfig)
        config = ClientConfig() if config is None else config
        fields: dict[str, Any] = {"network": self.network}
        if config.ca_certs is None and not config.server_certificate_hashes:
            fields["server_certificate_hashes"] = [self.certificate.hash]
        return config.update(**fields)

    def client(self, config: ClientConfig | None = None) -> WebTransportClient:
        """Return a client for this server: ``async with served.client() as client``.

        Args:
            config: See ``client_config``.
        """
        return WebTransportClient(config=self.client_config(config))


@asynccontextmanager
async def serve(
    target: ServerApp | SessionHandler,
    *,
    config: ServerConfig | None = None,
    certificate: Certificate | None = None,
    network: Network | None = None,
    host: str = "127.0.0.1",
) -> AsyncIterator[Served]:
    """Run a server on a free port while the block runs.

    ::

        async with serve(app) as served, served.client() as client:
            session = await client.connect(f"{served.url}/chat")

    Start-up and shutdown handlers of the application run. At the end of the block sessions that
    are still open are closed at once.

    Args:
        target: An application, or a handler for the sessions of every path.
        config: Configuration for a handler; an application has its own.
        certificate: Default: that of the application or ``config``, else one that all servers of
            this process share.
        network: Carries the packets instead of a UDP socket.
        host: Address to listen on.

    Raises:
        ConfigurationError: An argument is out of range.
        ServerError: The address cannot be bound.

    Cancellation: safe; the server is closed.
    """
    if certificate is not None:
        check_instance("certificate", certificate, Certificate)
    app = _app(target, config)
    settings = app.server.config
    fields: dict[str, Any] = {"network": settings.network if network is None else network}
    if certificate is None:
        if settings.certfile and settings.keyfile:
            certificate = Certificate.load(settings.certfile, settings.keyfile)
        else:
            certificate = default_certificate()
    fields.update(certfile=certificate.certfile, keyfile=certificate.keyfile)
    if settings.shared_secret is None:
        # Not the secret of the user, which is for servers that restart.
        fields["shared_secret"] = secrets.token_bytes(SHARED_SECRET_SIZE)
    try:
        await app.listen(host=host, port=0, **fields)
        yield Served(app, certificate, app.server.config.network)
    finally:
        await app.shutdown(drain_timeout=0)


@asynccontextmanager
async def session_pair(
    *,
    network: Network | None = None,
    path: str = "/",
    headers: HeadersToSend | None = None,
    client_config: ClientConfig | None = None,
    server_config: ServerConfig | None = None,
) -> AsyncIterator[tuple[WebTransportSession, WebTransportSession]]:
    """Open a session over a network in memory; yields the client's and the server's side.

    ::

        async with session_pair(network=Network(loss=0.1, seed=7)) as (client, server):
            await client.datagrams.send(b"hello")

    Everything but the network is real. On a ``VirtualClockLoop`` delays and timeouts take no
    time.

    Args:
        network: Default: one without faults and with a delay of a millisecond.
        path: Path of the session, which begins with a slash and may have a query.
        headers: Header fields of the request.
        client_config: Configuration of the client.
        server_config: Configuration of the server.

    Raises:
        ConfigurationError: An argument is out of range.
        TimeoutError: The connection failed because of the conditions of the network.

    Cancellation: safe; everything is closed.
    """
    if network is None:
        network = Network()
    check_instance("network", network, Network)
    check_text("path", path)
    if not path.startswith("/"):
        raise invalid_config(key="path", value=path, reason="expected a slash at its beginning")
    if client_config is not None:
        check_instance("client_config", client_config, ClientConfig)
    if server_config is not None:
        check_instance("server_config", server_config, ServerConfig)
    arrived: asyncio.Future[WebTransportSession] = asyncio.get_running_loop().create_future()

    async def accepted(session: WebTransportSession) -> None:
        if not arrived.done():
            arrived.set_result(session)

    async with (
        serve(accepted, config=server_config, network=network) as served,
        served.client(client_config) as opener,
    ):
        session = await opener.connect(f"{served.url}{path}", headers=headers)
        yield session, await arrived


def _app(target: ServerApp | SessionHandler, config: ServerConfig | None) -> ServerApp:
    if isinstance(target, ServerApp):
        if config is not None:
            raise invalid_config(
                key="config", value=config, reason="an application has its own configuration"
            )
        return target
    check_callable("target", target)
    app = ServerApp(config=config)
    app.router.set_default_handler(target)
    return app
