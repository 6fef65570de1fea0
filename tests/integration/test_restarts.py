"""A server that was started again tells its clients at once, and knows them when they come back.

Servers are processes of their own that are killed without a word.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pywebtransport import WebTransportClient, WebTransportSession
from pywebtransport.connection import WebTransportConnection
from pywebtransport.exceptions import WebTransportError
from tests.support.certificates import Certificates
from tests.support.endpoints import ClientFactory
from tests.support.ports import free_port
from tests.support.processes import ServerProcess
from tests.support.steps import until

PROGRAM = "tests.support.worker_process"
SECRET = bytes(range(32)).hex()
OTHER = bytes(range(100, 140)).hex()
# How the secret is given, before and after the restart, and whether the second knows the first.
FORMS = {
    "default": (None, None, True),
    "bytes": ({"hex": SECRET}, {"hex": SECRET}, True),
    "file": ("made-here", "made-here", True),
    "changed": ({"hex": SECRET}, [{"hex": OTHER}, {"hex": SECRET}], True),
    "other": ({"hex": SECRET}, {"hex": OTHER}, False),
}


class Server:
    """A server on one port that can be killed and started again."""

    def __init__(self, certs: Certificates, **fields: Any) -> None:
        self.port = free_port()
        self._fields: dict[str, Any] = {
            "bind_host": "127.0.0.1",
            "bind_port": self.port,
            "access_log": False,
            "drain_timeout": 0,
            "close_timeout": 0.5,
            **certs.server.files,
            **fields,
        }
        self.process = self._start()

    def _start(self) -> ServerProcess:
        return ServerProcess("-m", PROGRAM, json.dumps(self._fields))

    def url(self, path: str = "/stats") -> str:
        return f"https://127.0.0.1:{self.port}{path}"

    def kill(self) -> None:
        """All processes at once: workers would end in order if only the first one died."""
        pid = self.process.pid
        workers = [int(text) for text in _children(pid).read_text().split()]
        for worker in workers:
            os.kill(worker, signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        self.process.join()

    def restart(self, **fields: Any) -> None:
        self.kill()
        self._fields |= fields
        self.process = self._start()


def _children(pid: int) -> Path:
    return Path(f"/proc/{pid}/task/{pid}/children")


@contextmanager
def running(certs: Certificates, **fields: Any) -> Iterator[Server]:
    server = Server(certs, **fields)
    try:
        yield server
    except BaseException:
        server.process.kill()
        raise
    server.process.stop()
    server.process.assert_clean_end()


def given(form: object, directory: Path) -> object:
    return str(directory / form) if isinstance(form, str) else form


async def stats(session: WebTransportSession) -> dict[str, int]:
    stream = await session.create_bidirectional_stream()
    await stream.write_all(b"?")
    found: dict[str, int] = json.loads(await stream.read_all())
    return found


def connection_of(session: WebTransportSession) -> WebTransportConnection:
    assert session.connection is not None
    return session.connection


def resumed(session: WebTransportSession) -> bool:
    quic = connection_of(session)._quic
    assert quic is not None
    return quic.resumed


async def hears_of_it(session: WebTransportSession, connection: WebTransportConnection) -> None:
    """With its next packet, which this sends, whatever it is."""
    try:
        await session.datagrams.send(b"?")
    except WebTransportError:
        assert session.is_closed
    await session.wait_closed()
    assert "stateless reset" in str(connection.error)


@pytest.mark.loops("asyncio")
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("form", FORMS)
async def test_clients_of_a_killed_server_hear_of_it_and_come_back(
    certs: Certificates, client_config: ClientFactory, tmp_path: Path, form: str, workers: int
) -> None:
    """Retry is for clients without a token: a client with a token of the first server gets none.

    The time of a failed attempt without any secret would be the idle timeout: an hour here.
    """
    before, after, knows = FORMS[form]
    config = client_config(
        connection_idle_timeout=3600.0, keep_alive=False, read_timeout=None, close_timeout=0.5
    )
    first = {"shared_secret": given(before, tmp_path), "connection_idle_timeout": 3600.0}
    with running(certs, workers=workers, retry="always", **first) as server:
        async with WebTransportClient(config=config) as client:
            session = await client.connect(server.url())
            connection = connection_of(session)
            assert not resumed(session)
            await until(lambda: connection.session_ticket and connection.address_token)
            server.restart(shared_secret=given(after, tmp_path))
            if knows:
                async with asyncio.timeout(20):
                    await hears_of_it(session, connection)
            else:
                connection._shut()
            again = await client.connect(server.url())
            # A ticket has one key: that of the first secret of the list.
            assert resumed(again) == (knows and form != "changed")
            figures = await stats(again)
            if workers == 1:
                assert figures["retries_sent"] == (0 if knows else 1)


@pytest.mark.loops("asyncio")
async def test_a_pending_read_ends_when_the_client_pings(
    certs: Certificates, client_config: ClientFactory
) -> None:
    """A client that only waits hears of it by its keep-alive."""
    config = client_config(connection_keepalive_timeout=0.5, read_timeout=None)
    with running(certs) as server:
        async with WebTransportClient(config=config) as client:
            session = await client.connect(server.url())
            stream = await session.create_bidirectional_stream()
            await stream.write(b"?")
            reading = asyncio.ensure_future(stream.read(1))
            connection = connection_of(session)
            await until(lambda: connection.session_ticket)
            server.restart()
            async with asyncio.timeout(20):
                with pytest.raises(WebTransportError):
                    await reading
            assert "stateless reset" in str(connection.error)


@pytest.mark.loops("asyncio")
@pytest.mark.parametrize("workers", [1, 2])
async def test_sighup_changes_the_secret_under_living_connections(
    certs: Certificates, client_config: ClientFactory, tmp_path: Path, workers: int
) -> None:
    """New tickets are of the new secret, and clients of before still hear of a restart."""
    files = [tmp_path / "current", tmp_path / "previous"]
    for number, file in enumerate(files):
        file.write_bytes(bytes([number]) * 32)
        file.chmod(0o600)
    secrets = [str(file) for file in files]
    with running(certs, workers=workers, shared_secret=secrets) as server:
        async with WebTransportClient(config=client_config(read_timeout=None)) as client:
            old = await client.connect(server.url())
            old_connection = connection_of(old)
            await until(lambda: old_connection.session_ticket)
            os.replace(files[0], files[1])
            files[0].write_bytes(bytes([9]) * 32)
            files[0].chmod(0o600)
            server.process.send_signal(signal.SIGHUP)
            for _ in range(workers):
                server.process.wait_for("certificates reloaded")
            assert await stats(old)  # it goes on
            new = await client.connect(server.url())
            assert not resumed(new)
            await until(lambda: connection_of(new).session_ticket)
            new_connection = connection_of(new)
            server.restart()
            async with asyncio.timeout(20):
                await hears_of_it(old, old_connection)
                await hears_of_it(new, new_connection)
            assert resumed(await client.connect(server.url()))


@pytest.mark.loops("asyncio")
async def test_a_file_that_is_bad_at_a_reload_changes_nothing(
    certs: Certificates, client_config: ClientFactory, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    with running(certs, shared_secret=str(file)) as server:
        assert file.stat().st_mode & 0o777 == 0o600
        secret = file.read_bytes()
        assert len(secret) == 32
        async with WebTransportClient(config=client_config()) as client:
            session = await client.connect(server.url())
            connection = connection_of(session)
            file.write_bytes(b"short")
            server.process.send_signal(signal.SIGHUP)
            server.process.wait_for("were not reloaded: .*it has 5 bytes; expected 32 to 4096")
            assert await stats(session)
            file.write_bytes(secret)
            server.restart()
            async with asyncio.timeout(20):
                await hears_of_it(session, connection)
