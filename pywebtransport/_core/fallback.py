"""Connections over WebSocket, for networks without UDP: QMux in place of QUIC and HTTP/3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..config import ClientConfig, ServerConfig
    from .connection import WebTransportConnection
    from .driver import Driver

__all__ = ["attach_qmux", "establish_over", "serve_over"]


def attach_qmux(
    driver: Driver, link: Any, config: ClientConfig | ServerConfig, *, is_client: bool
) -> Any:
    """Build a QMux connection and its session on a link, and attach both to a driver.

    Args:
        driver: The driver of the connection, which is not connected yet.
        link: A ``ServerLink`` whose upgrade request is complete, or a ``ClientLink`` whose TLS
            connection is up.
        config: Limits and timeouts.
        is_client: This end is the client.
    """
    raise NotImplementedError


def serve_over(connection: WebTransportConnection, link: Any, network: str) -> None:
    """Server: serve a new connection on a link that has an upgrade request.

    Set ``on_request`` and ``on_closed`` of the connection before: ``on_request`` is called from
    here, with the session that the request asks for.

    Args:
        connection: A new one.
        link: The ``ServerLink``; its answer is that of the session.
        network: The value of ``client_network``.
    """
    raise NotImplementedError


async def establish_over(
    connection: WebTransportConnection, link: Any, host: str, port: int
) -> None:
    """Client: use a link whose TLS connection is up. The connection is CONNECTED then.

    ``create_session`` sends the upgrade request, once.

    Args:
        connection: A new one.
        link: The ``ClientLink``.
        host: Host name or IP address of the server.
        port: Its TCP port.

    Raises:
        ConnectionError: The connection was used before, or the link is closed already.

    Cancellation: never waits.
    """
    raise NotImplementedError
