"""Without file descriptors everything fails with an error of ours that says what to do.

Each operation is tried with 0, 1, 2 ... free descriptors until it works: whichever of its steps
is the one that finds none, the error is typed, names the limit, and nothing stays open.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from pywebtransport import ServerApp, WebTransportClient
from pywebtransport.client import ReconnectingClient
from pywebtransport.exceptions import ServerError, WebTransportError, is_retriable_error
from pywebtransport.server import create_development_server, run_workers
from pywebtransport.types import EventType
from pywebtransport.utils import (
    certificate_hash,
    generate_self_signed_cert,
    load_certificate,
    resolve_address,
)
from tests.support.certificates import Certificates
from tests.support.descriptors import free_descriptors
from tests.support.endpoints import ClientFactory, ServerFactory, Serving
from tests.support.steps import until

MOST = 40


class Enough(Exception):
    """The process got as far as its application."""


async def try_with_few(operation: Callable[[], Awaitable[object]]) -> list[WebTransportError]:
    """The errors that came before it worked."""
    errors = []
    for count in range(MOST):
        before = len(os.listdir("/proc/self/fd"))
        with free_descriptors(count):
            try:
                await operation()
            except WebTransportError as error:
                errors.append(error.with_traceback(None))
            else:
                break
        assert len(os.listdir("/proc/self/fd")) == before
    else:
        pytest.fail(f"{MOST} descriptors were not enough")
    assert errors, "it needs none"
    assert all("ulimit -n" in str(error) for error in errors)
    return errors


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_connecting(serving: Serving, client_config: ClientFactory, host: str) -> None:
    """Later attempts may work: a reconnecting client continues."""
    async with serving(host=host) as served:

        async def connect() -> None:
            async with WebTransportClient(config=client_config()) as client:
                await client.connect(served.url(host=host))

        errors = await try_with_few(connect)
    assert all(isinstance(error, ConnectionError) for error in errors)
    assert all(map(is_retriable_error, errors))


async def test_a_name_that_cannot_be_looked_up(client_config: ClientFactory) -> None:
    """The resolver says that there is no such name, or that there is no answer."""
    async with WebTransportClient(config=client_config()) as client:
        # Its TLS configuration is made.
        with pytest.raises(WebTransportError):
            await client.connect("https://127.0.0.1:1/", timeout=0.001)
        with free_descriptors(0):
            with pytest.raises(WebTransportError, match="ulimit -n"):
                await client.connect("https://example.invalid/")
            with pytest.raises(WebTransportError, match="ulimit -n"):
                await resolve_address(host="example.invalid", port=443)


async def test_reconnecting_goes_on(serving: Serving, client_config: ClientFactory) -> None:
    config = client_config(retry_delay=0.01, max_retry_delay=0.01, max_retries=1000)
    async with serving() as served:
        client = ReconnectingClient(served.url(), config=config)
        failed: list[object] = []
        client.on(EventType.CONNECTION_FAILED, failed.append)
        with free_descriptors(0):
            await client.__aenter__()
            await until(lambda: failed)
        async with client:
            assert await client.get_session(wait_timeout=None) is not None


async def test_migrating(serving: Serving, client_config: ClientFactory) -> None:
    async with serving() as served, WebTransportClient(config=client_config()) as client:
        session = await client.connect(served.url())
        connection = session.connection
        assert connection is not None
        assert len(await try_with_few(connection.migrate)) == 2
        assert connection.is_connected


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", ""])
async def test_listening(server_config: ServerFactory, host: str) -> None:
    async def listen() -> None:
        async with ServerApp(config=server_config(bind_host=host)) as app:
            await app.listen()

    await try_with_few(listen)


async def test_certificates(serving: Serving, certs: Certificates, tmp_path: Path) -> None:
    files = {"certfile": certs.server.certfile, "keyfile": certs.server.keyfile}

    async def load() -> None:
        load_certificate(**files)

    async def hashed() -> None:
        certificate_hash(files["certfile"])

    async def generate() -> None:
        generate_self_signed_cert(hostname="localhost", output_dir=str(tmp_path))

    async def develop() -> None:
        create_development_server()

    async with serving() as served:

        async def reload() -> None:
            served.server.reload_certificates()

        for operation in (load, hashed, generate, develop, reload):
            await try_with_few(operation)


@pytest.mark.parametrize("how", ["run", "run_workers"])
def test_running(server_config: ServerFactory, how: str) -> None:
    """From the event loop and the sockets of workers to the process itself."""

    async def main() -> None:
        raise Enough

    def run() -> None:
        config = server_config()
        if how == "run_workers":
            run_workers(main, config=config)
            return
        app = ServerApp(config=config)
        app.on_startup(main)
        app.run()

    errors: list[str] = []
    for count in range(MOST):
        before = len(os.listdir("/proc/self/fd"))
        with free_descriptors(count):
            try:
                run()
            except Enough:
                break
            except ServerError as error:
                errors.append(str(error))
        assert len(os.listdir("/proc/self/fd")) == before
    else:
        pytest.fail(f"{MOST} descriptors were not enough")
    assert errors
    assert all("ulimit -n" in error for error in errors)


async def test_a_server_without_descriptors_accepts(
    serving: Serving, client_config: ClientFactory
) -> None:
    """Connections of a server need none."""
    async with serving() as served, WebTransportClient(config=client_config()) as client:
        await client.connect(served.url())
        with free_descriptors(0):
            for _ in range(3):
                async with asyncio.timeout(30):
                    session = await client.connect(served.url())
                    await session.close(close_connection=False)
