"""A server in one call: ``await serve(handler, host, port)``, or ``async with serve(...)``."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Unpack

from ..config import ServerConfig, ServerFields
from ..exceptions import ConfigurationError, invalid_config
from ..utils._awaitable import AwaitableContext
from ..utils._certificates import generate_self_signed_cert
from ..utils._tasks import named
from ._callables import check_handler
from ._passed import check_where
from .app import ServerApp
from .router import SessionHandler
from .server import WebTransportServer, check_server_config

__all__ = ["serve"]


def serve(
    handler: SessionHandler,
    host: str | None = None,
    port: int | None = None,
    *,
    config: ServerConfig | None = None,
    **fields: Unpack[ServerFields],
) -> AwaitableContext[WebTransportServer]:
    """Serve every session with ``handler``: use it in ``async with``, or ``await`` it.

    ::

        async def echo(session):
            async for datagram in session.datagrams:
                session.datagrams.try_send(datagram)

        async with serve(echo, "localhost", 4433) as server:
            print(server.url, server.certificate_hash.hex())
            await server.serve_forever()

    The server listens when the block begins; leaving the block closes it as
    ``WebTransportServer.close`` does. If you ``await`` it instead, you get a server that listens;
    close it with ``await server.close()``. For routes, middleware and worker processes use
    ``ServerApp``.

    Without a certificate, a server on this machine's own addresses (``localhost``, ``127.0.0.1``,
    ``::1``) makes one for development, which is gone when it closes. Clients accept it by its
    hash, ``server.certificate_hash``. Any other host needs ``certfile`` and ``keyfile``.

    Args:
        handler: ``async def handler(session)``. Every path leads to it; ``session.path`` tells
            which it was.
        host: Name or address to listen on; default ``bind_host``, which is ``localhost``.
        port: UDP port; 0 chooses a free one, see ``server.port``. Default ``bind_port``, which
            is 4433.
        config: Default ``ServerConfig()``.
        **fields: Fields of ``ServerConfig``, such as ``certfile`` and ``keyfile`` (PEM files).
            They replace those of ``config``.

    Returns:
        The ``WebTransportServer``, which listens.

    Raises:
        ConfigurationError: The handler cannot be called with a session, a field is unknown or
            its value is not accepted, ``host`` or ``port`` is given twice, or there is no
            certificate for ``host``.
        ServerError: The address cannot be bound (when it is awaited or the block begins).
        CertificateError: The certificate or key cannot be used (when it is awaited or the block
            begins).

    Cancellation: safe, nothing stays open.
    """
    check_handler(handler)
    check_where(host, port, None)
    check_server_config(config)
    given: Mapping[str, object] = fields
    for key, field, value in (("host", "bind_host", host), ("port", "bind_port", port)):
        if value is not None and field in given:
            raise invalid_config(
                key=field, value=given[field], reason=f"{key} = {value!r} is given, too; pass one"
            )
    if host is not None:
        fields["bind_host"] = host
    if port is not None:
        fields["bind_port"] = port
    chosen = (ServerConfig() if config is None else config).update(**fields)
    host = chosen.bind_host
    if not chosen.certfile and not _is_local(host):
        raise ConfigurationError(
            f"a server on {host!r} needs certfile and keyfile; for development "
            "pywebtransport.utils.generate_self_signed_cert() makes both, and on 'localhost' "
            "serve() makes them itself",
            config_key="certfile",
            config_value=chosen.certfile,
        )
    return AwaitableContext(named("serve", _start(handler, chosen)))


class _DevelopmentServer(WebTransportServer):
    """A server whose certificate is gone when it is closed."""

    def __init__(self, config: ServerConfig) -> None:
        import tempfile

        self._directory = tempfile.TemporaryDirectory(
            prefix="pywebtransport-", ignore_cleanup_errors=True
        )
        certfile, keyfile = generate_self_signed_cert(
            hostname=config.bind_host, output_dir=self._directory.name
        )
        super().__init__(config.update(certfile=certfile, keyfile=keyfile))

    async def close(
        self, *, drain_timeout: float | None = None, spread: float | None = None
    ) -> None:
        """As ``WebTransportServer.close``."""
        try:
            await super().close(drain_timeout=drain_timeout, spread=spread)
        finally:
            self._directory.cleanup()


async def _start(handler: SessionHandler, config: ServerConfig) -> WebTransportServer:
    server = (WebTransportServer if config.certfile else _DevelopmentServer)(config)
    app = ServerApp(config=config)
    app.router.set_default_handler(handler)
    app.attach(server)
    try:
        await server.listen()
    except BaseException:
        await server.close()
        raise
    return server


def _is_local(host: str) -> bool:
    """Whether only this machine can reach a host: ``localhost``, or a loopback address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
