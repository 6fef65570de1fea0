"""This process as a worker: what it tells the supervisor, and what it does when told."""

from __future__ import annotations

import asyncio
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pywebtransport import ServerApp, ServerConfig, WebTransportClient
from pywebtransport._loop import SharedPort
from pywebtransport.exceptions import ConfigurationError
from pywebtransport.server import WebTransportServer, Worker, current_worker
from pywebtransport.server import _worker as module
from pywebtransport.types import SessionCloseInfo
from tests.support.certificates import Certificates
from tests.support.endpoints import ClientFactory, ServerFactory
from tests.support.leaks import ExpectedLogs
from tests.support.processes import ROOT

HOST = "127.0.0.1"


class Seat:
    """A worker of one, and the supervisor's end of its control socket."""

    def __init__(self, worker: Worker, control: socket.socket, config: ServerConfig) -> None:
        self.worker = worker
        self.control = control
        self.config = config

    def tell(self, *message: Any) -> None:
        """As the supervisor."""
        self.control.send(pickle.dumps(message))

    async def hear(self) -> Any:
        """The worker's next message."""
        data = await asyncio.get_running_loop().sock_recv(self.control, 65536)
        return pickle.loads(data)


Sit = Callable[..., Seat]


@pytest.fixture
def sit(server_config: ServerFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sit]:
    """Make this process a worker until the test ends."""
    monkeypatch.setattr(module, "_current", None)
    port = SharedPort(HOST, 0, 1)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for sock in (ours, theirs):
        sock.setblocking(False)

    def make(certificates: tuple[str | None, str | None] = (None, None)) -> Seat:
        worker = Worker(port.seat(0), (HOST, 0), theirs, certificates, 0.05)
        assert current_worker() is worker
        return Seat(worker, ours, server_config(workers=2, drain_timeout=0, close_timeout=0.1))

    yield make
    for sock in (ours, theirs):
        sock.close()
    port.close()


@pytest.mark.parametrize("how", ["message", "end of the supervisor", "signal"])
async def test_application_ends_in_order(sit: Sit, client_config: ClientFactory, how: str) -> None:
    seat = sit()
    app = ServerApp(config=seat.config)
    order: list[str] = []
    app.on_startup(lambda: order.append("startup"))
    app.on_shutdown(lambda: order.append("shutdown"))

    @app.route("/")
    async def stay(session: object) -> None:
        """Leaves it open."""

    life = asyncio.create_task(seat.worker._life(lambda: app._run(None, None)))
    kind, ((host, port),) = await seat.hear()
    assert (kind, host) == ("listening", HOST)
    async with WebTransportClient(config=client_config()) as client:
        session = await client.connect(f"https://{HOST}:{port}/")
        assert order == ["startup"]
        if how == "message":
            seat.tell("stop")
            seat.tell("stop")
        elif how == "signal":
            os.kill(os.getpid(), signal.SIGTERM)
            # No new client may come before it takes no more.
            assert await seat.hear() == ("leaving",)
            assert app.server.is_serving
            seat.tell("stop")
        else:
            seat.control.close()
        await life
        assert await session.wait_closed() == SessionCloseInfo(0, "server shutdown", True)
    assert order == ["startup", "shutdown"]


async def test_reloading_is_told_to_the_others_but_not_again(
    sit: Sit, client_config: ClientFactory, certs: Certificates, expected_logs: ExpectedLogs
) -> None:
    new = certs.replacement
    seat = sit()
    app = ServerApp(config=seat.config)
    app.router.set_default_handler(lambda _: asyncio.sleep(0))
    life = asyncio.create_task(seat.worker._life(lambda: app._run(None, None)))
    _, ((_, port),) = await seat.hear()

    async def in_use() -> bytes | None:
        async with (
            WebTransportClient(config=client_config()) as client,
            client.connect(f"https://{HOST}:{port}/") as session,
        ):
            assert session.connection is not None
            return session.connection.peer_certificate

    app.server.reload_certificates(**new.files)
    assert await seat.hear() == ("reload", new.certfile, new.keyfile)
    assert await in_use() == new.der
    # As told by the supervisor: nothing is said in return.
    old = certs.server
    seat.tell("reload", old.certfile, old.keyfile)
    seat.tell("reload", None, None)
    expected_logs("worker 0 keeps its certificates")
    seat.tell("reload", new.certfile, old.keyfile)
    assert await in_use() == old.der
    seat.tell("stop")
    await life
    assert await seat.hear() == ("closed",)
    with pytest.raises(BlockingIOError):
        seat.control.recv(1)


async def test_later_worker_begins_with_the_present_certificates(
    sit: Sit, certs: Certificates
) -> None:
    seat = sit((certs.replacement.certfile, certs.replacement.keyfile))
    async with WebTransportServer(config=seat.config) as server:
        await server.listen()
        assert server.config.certfile == certs.replacement.certfile
        assert server.config.keyfile == certs.replacement.keyfile
        assert seat.worker.serves(server)
        with pytest.raises(ConfigurationError, match="this worker shares"):
            await server.listen(host="127.0.0.2")


async def test_one_file_reloaded_before_listening_keeps_the_other(
    sit: Sit, certs: Certificates
) -> None:
    seat = sit((certs.replacement.certfile, certs.replacement.keyfile))
    seat.worker._reload(certs.replacement.certfile, None)
    async with WebTransportServer(config=seat.config) as server:
        await server.listen()
        assert server.config.keyfile == certs.replacement.keyfile


async def test_server_alone_closes_and_main_goes_on(sit: Sit) -> None:
    seat = sit()
    order: list[str] = []

    async def main() -> None:
        async with WebTransportServer(config=seat.config) as server:
            await server.listen()
            await server.serve_forever()
            order.append("closed")

    life = asyncio.create_task(seat.worker._life(main))
    assert (await seat.hear())[0] == "listening"
    seat.worker.stop()
    seat.worker.stop()
    await life
    assert order == ["closed"]


async def test_main_that_goes_on_is_cancelled(sit: Sit) -> None:
    seat = sit()
    cancelled = asyncio.Event()

    async def main() -> None:
        try:
            async with WebTransportServer(config=seat.config) as server:
                await server.listen()
                await asyncio.Event().wait()
        finally:
            cancelled.set()

    life = asyncio.create_task(seat.worker._life(main))
    await seat.hear()
    seat.tell("stop")
    await life
    assert cancelled.is_set()


async def test_stop_before_the_loop_runs(sit: Sit) -> None:
    seat = sit()
    seat.worker._on_early_stop(signal.SIGTERM, None)
    await seat.worker._life(asyncio.Event().wait)  # type: ignore[arg-type]


async def test_error_of_main_is_the_workers(sit: Sit) -> None:
    async def main() -> None:
        raise LookupError("on purpose")

    with pytest.raises(LookupError):
        await sit().worker._life(main)


async def test_deaths_of_other_workers_are_a_finding(sit: Sit) -> None:
    seat = sit()
    async with WebTransportServer(config=seat.config) as server:
        await server.listen()
        assert await server.diagnose_issues() == []
        seat.tell("deaths", 3)
        seat.worker._on_control()
        assert (await server.get_server_stats())["workers_died"] == 3
        assert "3 worker processes died" in await server.diagnose_issues()


@pytest.mark.parametrize("listens", [False, True])
def test_main_whose_own_work_is_cancelled(listens: bool) -> None:
    """It failed, with a word why; it is not the end that ``stop`` asked for."""
    process = subprocess.run(
        [sys.executable, "-c", _CANCELLED, str(int(listens))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if listens:
        assert re.search(r"worker \d failed: main raised CancelledError", process.stderr)
        assert "in main" in process.stderr
    else:
        why = r"ServerError: worker \d could not start: something that it waited for was cancelled"
        assert re.search(why, process.stderr)
    assert process.returncode == 1


_CANCELLED = """
import asyncio, sys, tempfile
from pywebtransport import ServerConfig
from pywebtransport.exceptions import ServerError
from pywebtransport.server import WebTransportServer, run_workers
from pywebtransport.server import _supervisor as supervisor
from pywebtransport.utils import generate_self_signed_cert

policy = supervisor.RestartPolicy
supervisor.RestartPolicy = lambda: policy(limit=1)
certfile, keyfile = generate_self_signed_cert("localhost", tempfile.mkdtemp())
config = ServerConfig(
    certfile=certfile, keyfile=keyfile, bind_host="127.0.0.1", bind_port=0, workers=2
)

async def main():
    async with WebTransportServer(config=config) as server:
        if sys.argv[1] == "1":
            await server.listen()
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

run_workers(main, config=config)
"""
