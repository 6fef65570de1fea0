"""Sockets that were bound elsewhere: by the program, or by what started it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from pywebtransport import ServerApp, WebTransportClient
from pywebtransport.exceptions import CertificateError, ConfigurationError
from pywebtransport.server import WebTransportServer, inherited_sockets
from pywebtransport.session import WebTransportSession
from pywebtransport.types import EventType
from tests.support.certificates import Certificates
from tests.support.endpoints import ClientFactory, ServerFactory
from tests.support.processes import ROOT, ServerProcess, server_process

from .test_worker_generations import new_clients, wait_for
from .test_workers import MANY, PROGRAM, by_worker, fields, lost, open_many, pids, who

# Binds what ADDRESSES (JSON; port -1: that of the one before; "tcp" behind it: a TCP socket with
# the port of the one before) says, as user UID, and becomes the program with the sockets from
# descriptor 3 on, like systemd.
LAUNCHER = """
import json, os, socket, sys
addresses, uid, pid, *program = sys.argv[1:]
os.seteuid(int(uid))
made = []
for host, number, *tcp in json.loads(addresses):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
    if tcp:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        number = made[-1].getsockname()[1]
    elif number < 0:
        number = made[-1].getsockname()[1]
        for each in (made[-1], sock):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((host, number))
    if tcp:
        sock.listen()
    made.append(sock)
os.seteuid(os.getuid())
# Out of the way first: the descriptors from 3 on may be theirs.
high = [os.dup2(sock.fileno(), 100 + index) for index, sock in enumerate(made)]
for index, fd in enumerate(high):
    os.dup2(fd, 3 + index, inheritable=True)
    os.close(fd)
os.environ.update(
    LISTEN_FDS=str(len(made)),
    LISTEN_PID=str(os.getpid()) if pid == "own" else pid,
    LISTEN_FDNAMES=":".join("x" for _ in made),
)
os.execv(sys.executable, [sys.executable, *program])
"""


@contextmanager
def activated(
    certs: Certificates,
    loop_name: str,
    addresses: Sequence[tuple[str, int] | tuple[str, int, str]],
    *,
    uid: int | None = None,
    pid: str = "own",
    **changes: Any,
) -> Iterator[ServerProcess]:
    """A server process that was started for these sockets."""
    uid = os.getuid() if uid is None else uid
    program = ("-m", PROGRAM, fields(certs, **changes), loop_name)
    with server_process("-c", LAUNCHER, json.dumps(addresses), str(uid), pid, *program) as process:
        yield process


def bound(host: str = "127.0.0.1") -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    return sock


# ------------------------------------------------------------------- by the program


async def test_server_serves_sockets_that_it_is_given(
    server_config: ServerFactory, client_config: ClientFactory
) -> None:
    """They are closed with it."""
    app = ServerApp(config=server_config())

    @app.route("/")
    async def stay(session: WebTransportSession) -> None:
        await session.wait_closed()

    given = [bound(), bound("::1")]
    addresses = [sock.getsockname()[:2] for sock in given]
    async with app:
        await app.listen(sockets=given)
        assert app.server.local_addresses == addresses
        assert [sock.fileno() for sock in given] == [-1, -1]
        async with WebTransportClient(config=client_config()) as client:
            await client.connect(f"https://127.0.0.1:{addresses[0][1]}/")
            await client.connect(f"https://[::1]:{addresses[1][1]}/")
        # Further addresses of its own.
        await app.server.listen(host="127.0.0.1", port=0)
        assert len(app.server.local_addresses) == 3
    for host, port in addresses:
        with socket.socket(
            socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM
        ) as again:
            again.bind((host, port))


def unbound() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def closed() -> socket.socket:
    sock = bound()
    sock.close()
    return sock


def stream() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.bind(("127.0.0.1", 0))
    return sock


def connected() -> socket.socket:
    sock = bound()
    sock.connect(("127.0.0.1", 9))
    return sock


def local() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (unbound, "not bound to a port"),
        (closed, "it is closed"),
        (stream, "SOCK_DGRAM"),
        (connected, "it is connected"),
        (local, "AF_INET or AF_INET6"),
        (lambda: 3, "expected sockets"),
    ],
    ids=["unbound", "closed", "stream", "connected", "local", "number"],
)
async def test_sockets_that_cannot_be_served_are_refused(
    server_config: ServerFactory, make: Callable[[], Any], words: str
) -> None:
    """Nothing has happened then: what was good is the caller's."""
    good, bad = bound(), make()
    try:
        async with WebTransportServer(config=server_config()) as server:
            with pytest.raises(ConfigurationError, match=words) as caught:
                await server.listen(sockets=[good, bad])
            assert caught.value.config_key == "sockets"
            assert good.fileno() >= 0
            await server.listen(sockets=[good])
    finally:
        for sock in (good, bad):
            if isinstance(sock, socket.socket):
                sock.close()


@pytest.mark.parametrize("where", ["listen", "serve", "run", "run_workers"])
async def test_wrong_arguments_are_told_everywhere(
    server_config: ServerFactory, where: str
) -> None:
    with bound() as sock:
        app = ServerApp(config=server_config())
        for arguments in (
            {"sockets": sock},
            {"sockets": []},
            {"sockets": "eth0"},
            {"sockets": [sock, sock]},
            {"sockets": [sock], "port": 4433},
            {"sockets": [sock], "host": "::1"},
        ):
            with pytest.raises(ConfigurationError, match="sockets"):
                await asyncio.to_thread(_call, app, where, arguments)
        assert sock.fileno() >= 0


def _call(app: ServerApp, where: str, arguments: dict[str, Any]) -> None:
    """In a process whose main thread it thinks to be."""
    if where in ("listen", "serve"):
        asyncio.run(getattr(app, where)(**arguments))
        return
    from pywebtransport.server._passed import check_where

    check_where(arguments.get("host"), arguments.get("port"), arguments["sockets"])


async def test_server_that_cannot_start_leaves_the_sockets_alone(
    server_config: ServerFactory, certs: Certificates
) -> None:
    config = server_config(keyfile=certs.replacement.keyfile)
    with bound() as sock:
        async with WebTransportServer(config=config) as server:
            with pytest.raises(CertificateError):
                await server.listen(sockets=[sock])
        assert sock.getsockname()[1] > 0


# --------------------------------------------------------------- by what started it


async def test_started_for_a_socket(
    certs: Certificates, client_config: ClientFactory, loop_name: str
) -> None:
    """One process on two sockets, whatever its configuration says."""
    addresses = [("127.0.0.1", 0), ("::1", 0)]
    with activated(certs, loop_name, addresses, workers=1, bind_port=1) as process:
        port6 = int(process.wait_for(r"listening on ::1 port (\d+)")[1])
        async with WebTransportClient(config=client_config()) as client:
            await client.connect(f"https://127.0.0.1:{process.port}/who")
            await client.connect(f"https://[::1]:{port6}/who")


async def test_workers_started_for_a_socket(
    certs: Certificates, client_config: ClientFactory, loop_name: str
) -> None:
    """Of the same user: each worker has a socket of its own beside it."""
    addresses = [("127.0.0.1", 0), ("::1", 0)]
    with activated(certs, loop_name, addresses, bind_port=1) as process:
        assert "all workers read the same sockets" not in process.output
        async with WebTransportClient(config=client_config()) as client:
            found = await by_worker(await open_many(client, process.port))
            assert set(found) == {0, 1}


# Only root can make a socket of another user, beside which no other can be bound.
SHARED = {"several of one address": ([("127.0.0.1", 0), ("127.0.0.1", -1)], os.getuid())}
if os.getuid() == 0:
    SHARED["of another user"] = ([("127.0.0.1", 0)], 65534)


@pytest.mark.parametrize("kind", SHARED)
async def test_workers_that_read_the_same_socket(
    certs: Certificates, client_config: ClientFactory, loop_name: str, kind: str
) -> None:
    """No client is lost, either."""
    addresses, uid = SHARED[kind]
    with activated(certs, loop_name, addresses, uid=uid, workers=3, drain_timeout=600) as process:
        assert "all workers read the same sockets" in process.output
        async with (
            WebTransportClient(config=client_config(max_connections=1000)) as client,
            new_clients(process, client_config(connect_timeout=5.0)) as stream,
        ):
            found = await by_worker(await open_many(client, process.port, 2 * MANY))
            assert set(found) == {0, 1, 2}
            session = found[0][0]
            assert session.connection is not None
            await session.connection.migrate()
            assert (await who(session)).index == 0
            before = await pids(found)
            # One drains, and its sessions go on.
            draining = asyncio.create_task(session.wait_for(EventType.SESSION_DRAINING))
            await asyncio.sleep(0)
            os.kill(before[0], signal.SIGTERM)
            await wait_for(process, r"worker 0 \(process \d+\) serves")
            await draining
            assert before[0] not in {answer.pid for answer in await stream.more(60)}
            assert {(await who(each)).pid for each in found[0]} == {before[0]}
            # One is killed, and its sessions hear of it.
            # They may hear of it at any time, and have no connection then.
            killed = [(each, each.connection) for each in found[1]]
            os.kill(before[1], signal.SIGKILL)
            stream.exempt_those_under_way()
            await wait_for(process, r"worker 1 \(process \d+\) serves")
            for each, connection in killed:
                await lost(each, connection)
            await client.close()


def test_variables_are_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own, since descriptors from 3 on are this one's."""
    text = (
        "import os, subprocess, sys\n"
        "from pywebtransport.server import inherited_sockets\n"
        "(sock,) = inherited_sockets()\n"
        "assert sock.fileno() == 3 and not sock.get_inheritable()\n"
        "assert inherited_sockets() == []\n"
        "assert not [name for name in os.environ if name.startswith('LISTEN_')]\n"
        "code = 'import os; os.fstat(3)'\n"
        "assert subprocess.run([sys.executable, '-c', code], close_fds=False, "
        "stderr=subprocess.DEVNULL).returncode == 1\n"
        "sock.close()\n"
    )
    arguments = [json.dumps([("127.0.0.1", 0)]), str(os.getuid()), "own", "-c", text]
    subprocess.run(
        [sys.executable, "-X", "dev", "-c", LAUNCHER, *arguments],
        cwd=ROOT,
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_variables_of_another_process_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert inherited_sockets() == []
    monkeypatch.setenv("LISTEN_PID", str(os.getpid() + 1))
    assert inherited_sockets() == []
    assert os.environ["LISTEN_FDS"] == "1"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LISTEN_PID", "me"),
        ("LISTEN_PID", "0"),
        ("LISTEN_PID", "9" * 100),
        ("LISTEN_FDS", ""),
        ("LISTEN_FDS", "-1"),
        ("LISTEN_FDS", "٣"),
        ("LISTEN_FDS", "65537"),
    ],
)
def test_variables_that_are_no_numbers(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=name) as caught:
        inherited_sockets()
    assert caught.value.config_key == name


def test_descriptors_that_are_no_udp_sockets() -> None:
    text = (
        "import os, sys\n"
        "from pywebtransport.exceptions import ConfigurationError\n"
        "from pywebtransport.server import inherited_sockets\n"
        "os.dup2(os.open('/dev/null', os.O_RDONLY), 4)\n"
        "os.environ['LISTEN_FDS'] = sys.argv[1]\n"
        "try:\n"
        "    inherited_sockets()\n"
        "except ConfigurationError as error:\n"
        "    assert 'descriptor 4 is not a socket' in str(error), error\n"
        "else:\n"
        "    raise AssertionError\n"
    )
    arguments = [json.dumps([("127.0.0.1", 0)]), str(os.getuid()), "own", "-c", text, "2"]
    subprocess.run(
        [sys.executable, "-c", LAUNCHER, *arguments],
        cwd=ROOT,
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
