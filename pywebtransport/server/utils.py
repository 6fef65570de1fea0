"""Ready-made handlers and applications, for development and tests."""

from __future__ import annotations

import asyncio
import contextlib
import json
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import ServerConfig
from ..exceptions import (
    DatagramError,
    DatagramTooLargeError,
    SessionError,
    StreamError,
    TimeoutError,
)
from ..stream import WebTransportReceiveStream, WebTransportStream
from ..stream.utils import copy_stream_data, echo_stream
from ..utils._certificates import generate_self_signed_cert
from ..utils._timing import get_timestamp
from .app import ServerApp

if TYPE_CHECKING:
    from ..session import WebTransportSession

__all__ = [
    "create_development_server",
    "create_echo_server_app",
    "create_simple_app",
    "echo_handler",
    "health_check_handler",
]

# Seconds that an echo waits to open a stream.
_ANSWER_TIMEOUT = 10.0


async def echo_handler(session: WebTransportSession) -> None:
    """Echo everything until the session ends.

    Datagrams are sent back as datagrams, a bidirectional stream on the same stream, and a
    unidirectional stream on a new one. A datagram that is too large for the way back is dropped. An
    error of one stream does not affect others.
    """
    async with asyncio.TaskGroup() as tasks:
        datagrams = tasks.create_task(_echo_datagrams(session))
        async for stream in session.incoming_streams():
            tasks.create_task(_echo_one(session, stream))
        datagrams.cancel()


async def _echo_datagrams(session: WebTransportSession) -> None:
    with contextlib.suppress(SessionError, DatagramError):
        while True:
            for data in await session.datagrams.receive_many():
                with contextlib.suppress(DatagramTooLargeError):
                    await session.datagrams.send(data)


async def _echo_one(session: WebTransportSession, stream: WebTransportReceiveStream) -> None:
    # The peer may reset a stream, stall or leave at any time: that ends only this echo.
    with contextlib.suppress(StreamError, SessionError, TimeoutError):
        if isinstance(stream, WebTransportStream):
            await echo_stream(stream=stream)
        else:
            try:
                # With a timeout, so that it also waits when a local limit is reached.
                answer = await session.create_unidirectional_stream(timeout=_ANSWER_TIMEOUT)
            except BaseException:
                stream.stop_sending(0)
                raise
            await copy_stream_data(source=stream, destination=answer, chunk_size=65536)


async def health_check_handler(session: WebTransportSession) -> None:
    """Send JSON ``{"status": "healthy", "timestamp": ...}`` on a new stream, and close."""
    report = json.dumps({"status": "healthy", "timestamp": get_timestamp()})
    stream = await session.create_unidirectional_stream()
    await stream.write_all(report.encode())
    await session.close()


def create_simple_app() -> ServerApp:
    """Create an application with ``/health`` and ``/echo``; pass a certificate to ``run``."""
    app = ServerApp()
    app.route("/health")(health_check_handler)
    app.route("/echo")(echo_handler)
    return app


def create_echo_server_app(config: ServerConfig | None = None) -> ServerApp:
    """Create an application that echoes on every path.

    Args:
        config: Configuration of the server; default ``ServerConfig()``.
    """
    app = ServerApp(config=config)
    app.router.set_default_handler(echo_handler)
    return app


def create_development_server(
    *, host: str = "localhost", port: int = 4433, generate_certs: bool = True
) -> ServerApp:
    """Create an application with a development certificate, ready for routes and ``run()``.

    Args:
        host: Where ``run`` listens, and the name in the certificate.
        port: UDP port.
        generate_certs: Create a new certificate (P-256, 13 days) in a private
            temporary directory; False expects ``HOST.crt`` and ``HOST.key`` in
            the working directory.

    Raises:
        ConfigurationError: ``generate_certs`` is False and the files are missing.
    """
    import shutil
    import tempfile

    directory = "."
    if generate_certs:
        directory = tempfile.mkdtemp(prefix="pywebtransport-")
        generate_self_signed_cert(hostname=host, output_dir=directory)
    config = ServerConfig.create_for_development(
        host=host,
        port=port,
        certfile=str(Path(directory, f"{host}.crt")),
        keyfile=str(Path(directory, f"{host}.key")),
    )
    app = ServerApp(config=config)
    if generate_certs:
        weakref.finalize(app, shutil.rmtree, directory, ignore_errors=True)
    return app
