"""One application with the ASGI scope ``webtransport`` runs on another server and on this one."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pywebtransport import WebTransportClient
from pywebtransport.exceptions import SessionRejectedError, UnreachableError
from tests.benchmark.libraries import prepare
from tests.support.certificates import Certificates
from tests.support.command_line import command_line_environment
from tests.support.endpoints import ClientFactory
from tests.support.environments import foreign_environment
from tests.support.ports import free_port

pytestmark = [pytest.mark.loops("asyncio")]

APPLICATION = "scope_app:app"
HERE = Path(__file__).parent
PEREGRINE = "import peregrine, sys; peregrine.run(sys.argv[1:])"
TIMEOUT = 20.0


@contextlib.contextmanager
def ours(certs: Certificates, port: int, cache: Path) -> Iterator[None]:
    """``pywebtransport serve``."""
    command = [sys.executable, "-m", "pywebtransport", "serve", APPLICATION, "--no-tcp"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    command += ["--certfile", certs.server.certfile, "--keyfile", certs.server.keyfile]
    with started(command, command_line_environment(cache)):
        yield


@contextlib.contextmanager
def peregrine(certs: Certificates, port: int, cache: Path) -> Iterator[None]:
    """peregrine-server, which has an environment of its own."""
    try:
        python = prepare("peregrine-server")
    except FileNotFoundError as error:
        pytest.skip(f"peregrine-server: {error}")
    command = [python, "-c", PEREGRINE, "--host", "127.0.0.1", "--port", str(port), "--http3"]
    command += ["--tls-cert", certs.server.certfile, "--tls-key", certs.server.keyfile]
    command += ["--python-path", str(HERE), "--protocol", "asgi", APPLICATION]
    with started(command, foreign_environment()):
        yield


@contextlib.contextmanager
def started(command: list[str], environment: dict[str, str]) -> Iterator[None]:
    """A server process; what it prints is shown if the test fails."""
    with subprocess.Popen(command, cwd=HERE, env=environment) as process:
        try:
            yield
        finally:
            process.terminate()


@pytest.mark.parametrize("server", [ours, peregrine], ids=lambda server: str(server.__name__))
async def test_one_application_on_two_servers(
    server: object, certs: Certificates, client_config: ClientFactory, tmp_path: Path
) -> None:
    port = free_port()
    url = f"https://127.0.0.1:{port}"
    assert callable(server)
    with server(certs, port, tmp_path):
        async with WebTransportClient(config=client_config()) as client:
            async with asyncio.timeout(TIMEOUT):
                while True:
                    try:
                        session = await client.connect(f"{url}/here", timeout=1.0)
                    except (UnreachableError, TimeoutError):
                        continue  # it has not begun to listen
                    break
            data = bytes(range(256)) * 1000
            stream = await session.create_bidirectional_stream()
            await stream.write_all(data)
            assert await stream.read_all() == data
            await session.datagrams.send(b"there and back")
            assert await session.datagrams.receive(timeout=TIMEOUT) == b"there and back"
            await session.datagrams.send(b"open")
            opened = await anext(session.incoming_unidirectional_streams())
            assert await opened.read_all() == b"hello"
            with pytest.raises(SessionRejectedError) as caught:
                await client.connect(f"{url}/refuse")
            assert caught.value.status_code == 404
            await session.datagrams.send(b"close")
            async with asyncio.timeout(TIMEOUT):
                info = await session.wait_closed()
            assert info.remote
            # peregrine-server 1.2.0 closes the stream without the capsule that has the code.
            assert (info.code, info.reason) == ((7, "asked for") if server is ours else (0, ""))
