"""Worker processes on one port: spread, migration, deaths, certificates, ends.

Where chance decides which worker gets a connection, so many are made that a test fails by
chance less than once in 10**9 runs.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pywebtransport import ServerApp, WebTransportClient
from pywebtransport.connection import WebTransportConnection
from pywebtransport.exceptions import ConfigurationError, ConnectionError, SessionError
from pywebtransport.server import current_worker, run_workers
from pywebtransport.session import WebTransportSession
from pywebtransport.types import EventType, SessionCloseInfo
from tests.support.certificates import Certificates, Pair
from tests.support.endpoints import ClientFactory, ServerFactory
from tests.support.processes import ROOT, ServerProcess, server_process
from tests.support.steps import until

# All on one of two workers: 2 * 2**-MANY = 2e-12.
MANY = 40
PROGRAM = "tests.support.worker_process"


class Answer(NamedTuple):
    """The worker that serves a session."""

    pid: int
    index: int
    connections: int


def fields(certs: Certificates, **changes: Any) -> str:
    """What the program takes."""
    defaults: dict[str, Any] = {
        "bind_host": "127.0.0.1",
        "bind_port": 0,
        "workers": 2,
        "retry": "off",
        "access_log": False,
        "drain_timeout": 0,
        "close_timeout": 0.5,
        **certs.server.files,
    }
    return json.dumps(defaults | changes)


@contextmanager
def workers(certs: Certificates, loop_name: str, **changes: Any) -> Iterator[ServerProcess]:
    """Run the program; it must end cleanly on SIGTERM."""
    with server_process("-m", PROGRAM, fields(certs, **changes), loop_name) as process:
        yield process


async def ask(session: WebTransportSession) -> bytes:
    """What the server answers on a stream."""
    stream = await session.create_bidirectional_stream()
    await stream.write_all(b"?")
    return await stream.read_all()


async def who(session: WebTransportSession) -> Answer:
    """The worker that serves this session now."""
    return Answer(*map(int, (await ask(session)).split()))


async def open_many(
    client: WebTransportClient, port: int, count: int = MANY, host: str = "127.0.0.1"
) -> list[WebTransportSession]:
    """Sessions on connections of their own, all at once."""
    url = f"https://{host}:{port}/who"
    return await asyncio.gather(*(client.connect(url) for _ in range(count)))


async def by_worker(sessions: list[WebTransportSession]) -> dict[int, list[WebTransportSession]]:
    """Sessions by the index of their worker; each worker is one process."""
    answers = await asyncio.gather(*map(who, sessions))
    found: dict[int, list[WebTransportSession]] = {}
    for session, answer in zip(sessions, answers, strict=True):
        found.setdefault(answer.index, []).append(session)
    assert len({answer.pid for answer in answers}) == len(found)
    return found


async def pids(sessions: dict[int, list[WebTransportSession]]) -> dict[int, int]:
    """The process of each worker."""
    return {index: (await who(some[0])).pid for index, some in sessions.items()}


async def lost(session: WebTransportSession, connection: WebTransportConnection | None) -> None:
    """The worker died: the client is told by a stateless reset with its next packet."""
    assert connection is not None
    with pytest.raises((ConnectionError, SessionError)):
        await ask(session)
    await session.wait_closed()
    assert isinstance(connection.error, ConnectionError)
    assert "stateless reset" in str(connection.error)


def exists(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# ----------------------------------------------------------------------- spread


async def test_sessions_spread_over_the_workers(
    certs: Certificates, client_config: ClientFactory, loop_name: str
) -> None:
    """On all addresses of a name, with a port that the system chose."""
    with workers(certs, loop_name, bind_host="localhost") as process:
        async with WebTransportClient(config=client_config()) as client:
            sessions = await open_many(client, process.port, MANY)
            sessions += await open_many(client, process.port, MANY, "[::1]")
            on_v4 = await by_worker(sessions[:MANY])
            on_v6 = await by_worker(sessions[MANY:])
            assert set(on_v4) == set(on_v6) == {0, 1}
            assert await pids(on_v4) == await pids(on_v6)
            # Each connection exists in one worker only.
            counts = [(await who(some[0])).connections for some in on_v4.values()]
            assert sum(counts) == len(sessions)


async def test_retry_and_the_next_packet_meet_at_one_worker(
    certs: Certificates, client_config: ClientFactory, loop_name: str
) -> None:
    with workers(certs, loop_name, retry="always") as process:
        async with WebTransportClient(config=client_config()) as client:
            found = await by_worker(await open_many(client, process.port))
            assert set(found) == {0, 1}
            retries: dict[int, int] = {}
            for _ in range(MANY):
                session = await client.connect(f"https://127.0.0.1:{process.port}/stats")
                figures = json.loads(await ask(session))
                retries[figures["index"]] = figures["retries_sent"]
                await session.close()
            assert set(retries) == {0, 1}
            assert sum(retries.values()) >= MANY


async def test_tickets_of_one_worker_resume_at_another(
    certs: Certificates, client_config: ClientFactory, loop_name: str
) -> None:
    """Each connection uses the ticket of the one before."""
    indexes = []
    with workers(certs, loop_name) as process:
        async with WebTransportClient(config=client_config()) as client:
            for number in range(MANY):
                (session,) = await open_many(client, process.port, 1)
                connection = session.connection
                assert connection is not None
                assert connection._quic is not None
                assert connection._quic.resumed is (number > 0)
                indexes.append((await who(session)).index)
                await until(lambda c=connection: c.session_ticket is not None)
                await session.close()
    assert {(0, 1), (1, 0)} <= set(itertools.pairwise(indexes))


# -------------------------------------------------------------------- migration


async def test_migrating_clients_keep_their_worker_and_their_session(
    certs: Certificates, client_config: ClientFactory, loop_name: str
) -> None:
    """By address alone, each of these moves would meet another worker half of the time."""

    async def move(session: WebTransportSession) -> None:
        before = await who(session)
        connection = session.connection
        assert connection is not None
        ports = set()
        for number in range(3):
            await connection.migrate()
            assert connection.local_address is not None
            ports.add(connection.local_address[1])
            assert (await who(session))[:2] == before[:2]
            await session.datagrams.send(str(number).encode())
            assert await session.datagrams.receive() == str(number).encode()
        assert len(ports) == 3

    with workers(certs, loop_name) as process:
        async with WebTransportClient(config=client_config()) as client:
            found = await by_worker(await open_many(client, process.port))
            assert set(found) == {0, 1}
            await asyncio.gather(*(move(session) for some in found.values() for session in some))
            again = await by_worker([session for some in found.values() for session in some])
            assert {index: set(some) for index, some in again.items()} == {
                index: set(some) for index, some in found.items()
            }


# ----------------------------------------------------------------------- deaths


@pytest.mark.parametrize("index", [0, 1])
async def test_killed_worker_is_replaced_and_its_clients_hear_of_it(
    certs: Certificates, client_config: ClientFactory, loop_name: str, index: int
) -> None:
    with workers(certs, loop_name) as process:
        # Without a stateless reset, the clients would wait for ten minutes.
        config = client_config(connection_idle_timeout=600.0)
        async with WebTransportClient(config=config) as client:
            found = await by_worker(await open_many(client, process.port))
            before = await pids(found)
            orphans, others = found[index], found[1 - index]
            connections = [session.connection for session in orphans]
            os.kill(before[index], signal.SIGKILL)
            process.wait_for(rf"worker {index} \(process {before[index]}\) was killed by SIGKILL")
            after = int(process.wait_for(rf"worker {index} \(process (\d+)\) serves")[1])
            assert after != before[index]

            await asyncio.gather(*map(lost, orphans, connections))
            # The other worker noticed nothing, and both serve new clients.
            assert {(await who(session)).pid for session in others} == {before[1 - index]}
            again = await by_worker(await open_many(client, process.port))
            assert await pids(again) == {index: after, 1 - index: before[1 - index]}


async def test_dead_workers_are_counted_by_all(
    certs: Certificates, client_config: ClientFactory, loop_name: str
) -> None:
    """Also by those that took their place."""
    with workers(certs, loop_name) as process:
        for deaths in (1, 2):
            async with WebTransportClient(config=client_config()) as client:
                (victim, *_) = (await by_worker(await open_many(client, process.port))).values()
                os.kill((await who(victim[0])).pid, signal.SIGKILL)
                process.wait_for(r"worker \d \(process \d+\) serves")
            async with WebTransportClient(config=client_config()) as client:
                url = f"https://127.0.0.1:{process.port}/stats"
                sessions = await asyncio.gather(*(client.connect(url) for _ in range(MANY)))
                figures = [json.loads(await ask(session)) for session in sessions]
                assert {item["index"] for item in figures} == {0, 1}
                assert {item["workers_died"] for item in figures} == {deaths}


async def test_worker_that_ends_by_itself_is_replaced(
    certs: Certificates, client_config: ClientFactory, loop_name: str
) -> None:
    with workers(certs, loop_name) as process:
        async with WebTransportClient(config=client_config()) as client:
            session = await client.connect(f"https://127.0.0.1:{process.port}/exit")
            connection = session.connection
            stream = await session.create_bidirectional_stream()
            await stream.write_all(b"!")
            await asyncio.sleep(0)  # what was written leaves at the end of the turn
            await asyncio.sleep(0)
            process.wait_for(r"ended with status 3; replacing it now")
            process.wait_for(r"worker \d \(process \d+\) serves")
            await lost(session, connection)
            # In order this time: it drains, and another takes its place.
            found = await by_worker(await open_many(client, process.port))
            before = await pids(found)
            os.kill(before[1], signal.SIGTERM)
            # Its clients hear of it meanwhile: one that answers nothing is not waited for.
            for line in (
                rf"worker 1 \(process {before[1]}\) leaves; another takes its place",
                r"worker 1 \(process \d+\) serves",
                rf"worker 1 \(process {before[1]}\) ended with status 0",
            ):
                await asyncio.to_thread(process.wait_for, line)
            for session in found[1]:
                assert await session.wait_closed() == SessionCloseInfo(0, "server shutdown", True)


async def test_workers_end_when_the_supervisor_is_killed(
    certs: Certificates, client_config: ClientFactory, loop_name: str
) -> None:
    process = ServerProcess("-m", PROGRAM, fields(certs), loop_name)
    try:
        async with WebTransportClient(config=client_config()) as client:
            found = await by_worker(await open_many(client, process.port))
            handles = [os.pidfd_open(pid) for pid in (await pids(found)).values()]
            process.kill()
            for some in found.values():
                for session in some:
                    assert (await session.wait_closed()).reason == "server shutdown"
            for handle in handles:
                select.select([handle], [], [])
                os.close(handle)
    finally:
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert process.output.count("the supervisor is gone") == 2
    assert process.errors == ""


# ----------------------------------------------------------------- certificates


async def certificates_in_use(
    client: WebTransportClient, port: int, trusted: Pair
) -> dict[int, list[WebTransportSession]]:
    """New connections on all workers, which must show this certificate."""
    sessions = await open_many(client, port)
    for session in sessions:
        assert session.connection is not None
        assert session.connection.peer_certificate == trusted.der
    found = await by_worker(sessions)
    assert set(found) == {0, 1}
    return found


async def test_sighup_reloads_certificates_in_all_workers(
    certs: Certificates, client_config: ClientFactory, loop_name: str, tmp_path: Path
) -> None:
    files = {"certfile": str(tmp_path / "a.crt"), "keyfile": str(tmp_path / "a.key")}

    def install(pair: Pair) -> None:
        for name, path in pair.files.items():
            shutil.copy(path, files[name])

    install(certs.server)
    with workers(certs, loop_name, **files) as process:
        async with WebTransportClient(config=client_config()) as client:
            await certificates_in_use(client, process.port, certs.server)
        install(certs.replacement)
        process.send_signal(signal.SIGHUP)
        for _ in range(2):
            process.wait_for("certificates reloaded")
        async with WebTransportClient(config=client_config()) as client:
            await certificates_in_use(client, process.port, certs.replacement)
        # A bad file changes nothing.
        shutil.copy(__file__, files["keyfile"])
        process.send_signal(signal.SIGHUP)
        for _ in range(2):
            process.wait_for(r"worker \d keeps its certificates: .*a\.key")
        async with WebTransportClient(config=client_config()) as client:
            await certificates_in_use(client, process.port, certs.replacement)
        install(certs.replacement)


async def test_sighup_reloads_certificates_without_workers(
    certs: Certificates, client_config: ClientFactory, loop_name: str, tmp_path: Path
) -> None:
    files = {"certfile": str(tmp_path / "a.crt"), "keyfile": str(tmp_path / "a.key")}
    for name, path in certs.server.files.items():
        shutil.copy(path, files[name])
    with workers(certs, loop_name, workers=1, **files) as process:
        shutil.copy(certs.replacement.certfile, files["certfile"])
        process.send_signal(signal.SIGHUP)
        process.wait_for(r"the certificates were not reloaded: .*a\.key")
        shutil.copy(certs.replacement.keyfile, files["keyfile"])
        process.send_signal(signal.SIGHUP)
        process.wait_for("certificates reloaded")
        async with WebTransportClient(config=client_config()) as client:
            (session,) = await open_many(client, process.port, 1)
            assert session.connection is not None
            assert session.connection.peer_certificate == certs.replacement.der


async def test_certificates_reloaded_by_one_worker_are_used_by_all(
    certs: Certificates, client_config: ClientFactory, loop_name: str
) -> None:
    """Later workers use them as well."""
    new = certs.replacement
    with workers(certs, loop_name) as process:
        async with WebTransportClient(config=client_config()) as client:
            session = await client.connect(f"https://127.0.0.1:{process.port}/certificates")
            stream = await session.create_bidirectional_stream()
            await stream.write_all(f"{new.certfile}\n{new.keyfile}\n")
            assert await stream.read_all() == b"done"
        for _ in range(2):
            process.wait_for("certificates reloaded")
        async with WebTransportClient(config=client_config()) as client:
            found = await certificates_in_use(client, process.port, new)
            for index, pid in (await pids(found)).items():
                os.kill(pid, signal.SIGKILL)
                process.wait_for(rf"worker {index} \(process \d+\) serves")
        async with WebTransportClient(config=client_config()) as client:
            await certificates_in_use(client, process.port, new)


# ------------------------------------------------------------------------- ends


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_ends_everything_in_order(
    certs: Certificates, client_config: ClientFactory, loop_name: str, number: signal.Signals
) -> None:
    """Sessions that end in time are not cut off; no process stays."""
    with workers(certs, loop_name, drain_timeout=600) as process:
        async with WebTransportClient(config=client_config()) as client:
            found = await by_worker(await open_many(client, process.port))
            before = await pids(found)
            draining = [
                asyncio.create_task(session.wait_for(EventType.SESSION_DRAINING))
                for some in found.values()
                for session in some
            ]
            await asyncio.sleep(0)
            # A terminal sends Ctrl-C to all of them.
            process.send_signal(number)
            if number == signal.SIGINT:
                for pid in before.values():
                    os.kill(pid, number)
            await asyncio.gather(*draining)
            for index, some in found.items():
                assert (await who(some[0])).pid == before[index]
                for session in some:
                    await session.close()
        process.join()
    assert process.returncode == 0
    for pid in before.values():
        assert not exists(pid)
        assert f"started in {pid}\n" in process.output
        assert f"ended in {pid}\n" in process.output


async def test_second_signal_ends_everything_at_once(
    certs: Certificates, client_config: ClientFactory, loop_name: str
) -> None:
    process = ServerProcess("-m", PROGRAM, fields(certs, drain_timeout=600), loop_name)
    try:
        async with WebTransportClient(config=client_config(close_timeout=0.1)) as client:
            found = await by_worker(await open_many(client, process.port))
            before = await pids(found)
            draining = asyncio.create_task(found[0][0].wait_for(EventType.SESSION_DRAINING))
            await asyncio.sleep(0)
            process.send_signal(signal.SIGTERM)
            await draining
            process.stop()
    finally:
        process.kill()
    assert (process.returncode, process.errors) == (-signal.SIGTERM, "")
    assert not any(map(exists, before.values()))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"keyfile": "WRONG"}, "CertificateError: .*replacement.key"),
        ({"bind_host": "192.0.2.1"}, "ServerError: .*this machine has no such address"),
    ],
)
def test_start_is_all_or_nothing(certs: Certificates, changes: Any, words: str) -> None:
    """The error is the one that a server without workers raises."""
    if "keyfile" in changes:
        changes = {"keyfile": certs.replacement.keyfile}
    ended = subprocess.run(
        [sys.executable, "-m", PROGRAM, fields(certs, **changes)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 1
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("pywebtransport.exceptions.")
    assert re.search(words, last)
    assert "listening" not in ended.stdout


# ------------------------------------------------------------ where there is none


async def test_event_loop_cannot_start_workers(server_config: ServerFactory) -> None:
    assert current_worker() is None
    async with ServerApp(config=server_config(workers=2)) as app:
        with pytest.raises(ConfigurationError, match=r"workers=2: .*ServerApp\.run") as caught:
            await app.listen()
        assert caught.value.config_key == "workers"
        with pytest.raises(ConfigurationError, match="in an event loop"):
            app.run()


def test_only_the_main_thread_starts_workers(server_config: ServerFactory) -> None:
    async def run() -> None:
        raise AssertionError("never called")

    async def elsewhere() -> None:
        with pytest.raises(ConfigurationError, match="main thread"):
            await asyncio.to_thread(run_workers, run, config=server_config(workers=2))

    asyncio.run(elsewhere())
