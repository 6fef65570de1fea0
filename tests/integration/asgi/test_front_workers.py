"""The TCP side with worker processes: spread, deaths, replacements, certificates, ends.

Where chance decides which worker gets a connection, so many are made that a test fails by
chance less than once in 10**9 runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import pytest

from pywebtransport._loop import SharedPort
from tests.integration.test_workers import MANY, fields
from tests.support.asgi_tcp import RawTcp, tls_of
from tests.support.certificates import Certificates
from tests.support.processes import ROOT, ServerProcess, server_process
from tests.support.steps import until, until_true

from .test_front import serial_of, serial_over_tcp

PROGRAM = "tests.support.asgi_process"


class Answer(NamedTuple):
    """Who answered, and the header that sends clients to HTTP/3."""

    pid: int
    index: int
    alt_svc: str


@contextmanager
def workers(certs: Certificates, loop_name: str, **changes: Any) -> Iterator[ServerProcess]:
    """Run the program; it must end cleanly on SIGTERM."""
    with server_process("-m", PROGRAM, fields(certs, **changes), loop_name) as process:
        yield process


async def ask(
    process: ServerProcess, tls: ssl.SSLContext, path: str = "/who", host: str = "127.0.0.1"
) -> Answer:
    """Ask on a connection of its own."""
    reader, writer = await asyncio.open_connection(host, process.port, ssl=tls)
    raw = RawTcp(reader, writer)
    try:
        request = f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        await raw.send(request.encode())
        head, _, body = (await raw.rest()).decode().partition("\r\n\r\n")
    finally:
        raw.close()
    if not head:
        raise ConnectionError("no answer")
    headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:])
    pid, index = map(int, body.split())
    return Answer(pid, index, headers["alt-svc"])


async def answers_of(
    process: ServerProcess, tls: ssl.SSLContext, host: str = "127.0.0.1"
) -> list[Answer]:
    """The answers on many connections, none of which is lost."""
    return await asyncio.gather(*(ask(process, tls, host=host) for _ in range(MANY)))


async def ask_many(process: ServerProcess, tls: ssl.SSLContext, host: str = "127.0.0.1") -> Any:
    """The processes that answered, by their index; one for each."""
    answers = await answers_of(process, tls, host)
    found = {answer.index: answer.pid for answer in answers}
    assert all(found[answer.index] == answer.pid for answer in answers)
    return found


@pytest.mark.loops("uvloop")
async def test_connections_spread_over_the_workers(certs: Certificates, loop_name: str) -> None:
    """On all addresses of a name, with a port that the system chose for both protocols."""
    tls = tls_of(certs)
    with workers(certs, loop_name, bind_host="localhost") as process:
        on_v4 = await ask_many(process, tls)
        assert set(on_v4) == {0, 1}
        assert await ask_many(process, tls, "::1") == on_v4
        assert (await ask(process, tls)).alt_svc == f'h3=":{process.port}"; ma=86400'


async def test_a_dead_worker_gets_no_connections(certs: Certificates, loop_name: str) -> None:
    """Neither those that wait for it nor new ones; its successor gets some."""
    tls = tls_of(certs)
    with workers(certs, loop_name) as process:
        before = await ask_many(process, tls)
        with pytest.raises(ConnectionError):
            await ask(process, tls, "/exit")
        await asyncio.to_thread(process.wait_for, r"worker \d \(process \d+\) serves")
        after = await ask_many(process, tls)
        assert set(after) == {0, 1}
        assert len(set(before.values()) & set(after.values())) == 1


async def test_a_worker_that_leaves_finishes_its_requests(
    certs: Certificates, loop_name: str, tmp_path: Path
) -> None:
    """Others go on with HTTP/3, so its last answers say nothing else."""
    tls = tls_of(certs)
    sign = tmp_path / "go-on"
    with workers(certs, loop_name, drain_timeout=20) as process:
        before = await ask_many(process, tls)
        waiting = asyncio.ensure_future(ask(process, tls, f"/wait?{sign}"))
        await asyncio.to_thread(process.wait_for, "waiting")
        # Either of them has the request: all leave, one after the other.
        for pid in before.values():
            os.kill(pid, signal.SIGTERM)
        for _ in before:
            await asyncio.to_thread(process.wait_for, r"worker \d \(process \d+\) serves")

        async def are_replaced() -> bool:
            pids = {answer.pid for answer in await answers_of(process, tls)}
            return not pids & set(before.values())

        # Those that were accepted before are served by the old ones; after them come the new ones.
        await until_true(are_replaced)
        assert set(await ask_many(process, tls)) == {0, 1}
        sign.touch()
        answer = await waiting
        assert answer.pid == before[answer.index]
        assert answer.alt_svc == f'h3=":{process.port}"; ma=86400'


@pytest.mark.loops("asyncio")
async def test_the_end_of_all_workers(certs: Certificates, loop_name: str, tmp_path: Path) -> None:
    tls = tls_of(certs)
    sign = tmp_path / "go-on"
    with workers(certs, loop_name, drain_timeout=20) as process:
        port = process.port
        waiting = asyncio.ensure_future(ask(process, tls, f"/wait?{sign}"))
        await asyncio.to_thread(process.wait_for, "waiting")
        process.send_signal(signal.SIGTERM)
        await until_true(lambda: is_refused(port))
        sign.touch()
        answer = await waiting
        assert answer.index in (0, 1)
        await asyncio.to_thread(process.join)


async def is_refused(port: int) -> bool:
    """Whether nobody listens on a TCP port any more."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:
        return True
    writer.transport.abort()
    return False


@pytest.mark.loops("asyncio")
async def test_all_workers_reload_certificates(
    certs: Certificates, loop_name: str, tmp_path: Path
) -> None:
    files = {"certfile": str(tmp_path / "a.crt"), "keyfile": str(tmp_path / "a.key")}

    def install(pair: Any) -> None:
        for field, path in files.items():
            shutil.copy(getattr(pair, field), path)

    install(certs.server)
    tls = tls_of(certs)
    with workers(certs, loop_name, **files) as process:

        async def seen() -> set[str]:
            serials = (asyncio.to_thread(serial_over_tcp, process.port, tls) for _ in range(MANY))
            return set(await asyncio.gather(*serials))

        assert await seen() == {serial_of(certs.server.certfile)}
        install(certs.replacement)
        process.send_signal(signal.SIGHUP)
        for _ in range(2):
            await asyncio.to_thread(process.wait_for, "certificates reloaded")
        assert await seen() == {serial_of(certs.replacement.certfile)}


class Load:
    """Clients that ask again and again, each on a new connection.

    Attributes:
        answers: What they got.
        lost: Errors of connections that broke.
    """

    CLIENTS = 6

    def __init__(self, process: ServerProcess, tls: ssl.SSLContext) -> None:
        self._process = process
        self._tls = tls
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self.answers: list[Answer] = []
        self.lost: list[OSError] = []

    async def _ask(self) -> None:
        while not self._stopping:
            try:
                self.answers.append(await ask(self._process, self._tls))
            except OSError as error:
                self.lost.append(error)

    async def more(self) -> None:
        """Wait until each client could have had some more answers."""
        wanted = len(self.answers) + 5 * self.CLIENTS
        await until(lambda: len(self.answers) >= wanted)

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._ask()) for _ in range(self.CLIENTS)]
        await self.more()
        return self

    async def __aexit__(self, *error: object) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)


@pytest.mark.loops("asyncio")
async def test_killed_workers_under_load(certs: Certificates, loop_name: str) -> None:
    """Only the requests that a worker had when it was killed are lost."""
    tls = tls_of(certs)
    with workers(certs, loop_name) as process:
        async with Load(process, tls) as load:
            for round_ in range(1, 3):
                victim = load.answers[-1].pid
                os.kill(victim, signal.SIGKILL)
                await asyncio.to_thread(process.wait_for, r"worker \d \(process \d+\) serves")
                await load.more()
                assert len(load.lost) <= round_ * load.CLIENTS
                assert load.answers[-1].pid != victim
        assert not [error for error in load.lost if isinstance(error, ConnectionRefusedError)]


@pytest.mark.loops("asyncio")
async def test_certificates_change_under_load(
    certs: Certificates, loop_name: str, tmp_path: Path
) -> None:
    """No handshake fails meanwhile."""
    files = {"certfile": str(tmp_path / "a.crt"), "keyfile": str(tmp_path / "a.key")}

    def install(pair: Any) -> None:
        for field, path in files.items():
            shutil.copy(getattr(pair, field), path)

    install(certs.server)
    tls = tls_of(certs)
    with workers(certs, loop_name, **files) as process:
        async with Load(process, tls) as load:
            for pair in (certs.replacement, certs.server):
                install(pair)
                process.send_signal(signal.SIGHUP)
                for _ in range(2):
                    await asyncio.to_thread(process.wait_for, "certificates reloaded")
                await load.more()
                found = await asyncio.to_thread(serial_over_tcp, process.port, tls)
                assert found == serial_of(pair.certfile)
        assert load.lost == []


@pytest.mark.loops("asyncio")
@pytest.mark.parametrize("patience", [20.0, 0.2], ids=["enough time", "little time"])
async def test_a_drain_with_slow_clients(
    certs: Certificates, loop_name: str, patience: float
) -> None:
    """One that reads gets its whole answer; those that do not are cut when the time is up."""
    tls = tls_of(certs)
    size = 8 << 20
    with workers(certs, loop_name, drain_timeout=patience) as process:

        async def begin() -> RawTcp:
            reader, writer = await asyncio.open_connection("127.0.0.1", process.port, ssl=tls)
            raw = RawTcp(reader, writer)
            await raw.send(f"GET /large?{size} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            await raw.head()
            raw.pause()
            return raw

        slow = [await begin() for _ in range(10)]
        process.send_signal(signal.SIGTERM)
        if patience > 1:
            await until_true(lambda: is_refused(process.port))
            for raw in slow[1:]:
                raw.close()
            transport: Any = slow[0].writer.transport
            transport.resume_reading()
            assert len(await slow[0].rest()) == size
        await asyncio.to_thread(process.join)
        for raw in slow:
            raw.close()


def test_a_worker_that_does_not_come_back_soon_gets_no_connections() -> None:
    """Its sockets stay with the supervisor, but do not listen until a successor says so."""
    port = SharedPort("127.0.0.1", 0, 2, tcp=True)
    address = port.addresses[0]
    (first,), (second,) = port.seat(0).tcp, port.seat(1).tcp
    successor = port.seat(3, 1).tcp  # in another slot, with the same index
    assert [sock.fileno() for sock in successor] == [second.fileno()]

    def accepted() -> list[int]:
        """How many of many new connections each of them gets."""
        clients = [socket.create_connection(address) for _ in range(MANY)]
        counts = []
        for sock in (first, second):
            counts.append(0)
            with contextlib.suppress(OSError):
                while True:
                    sock.accept()[0].close()
                    counts[-1] += 1
        for client in clients:
            client.close()
        return counts

    try:
        first.listen()
        second.listen()
        assert all(accepted())
        port.stop_tcp(0)
        port.stop_tcp(0)
        assert accepted() == [0, MANY]
        first.listen()
        assert all(accepted())
    finally:
        port.close()


WITHOUT = """
import json, sys
from pywebtransport import ServerApp, ServerConfig
from pywebtransport.server import run_workers
from tests.support.asgi_process import application
config = ServerConfig(**json.loads(sys.argv[1]))
app = ServerApp(config=config)
app.mount(application, lifespan="off", tcp=True)
async def main():
    async with app:
        await app.serve()
run_workers(main, config=config)
"""


def test_run_workers_without_tcp_sockets(certs: Certificates) -> None:
    """An application that needs TCP says what is missing."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, fields(certs)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "run_workers() has no TCP sockets for it, call it with tcp=True" in done.stderr
