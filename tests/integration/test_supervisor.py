"""``run_workers`` called here: this process is the supervisor, the workers are its children.

What a worker sees is sent back through a pipe. Each ``main`` runs in the workers.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

import pytest

from pywebtransport import ServerConfig
from pywebtransport.exceptions import ConfigurationError, ServerError, WebTransportError
from pywebtransport.server import WebTransportServer, current_worker, run_workers
from pywebtransport.server import _supervisor as supervisor
from pywebtransport.server._supervisor import RestartPolicy
from tests.support.endpoints import ServerFactory
from tests.support.leaks import ExpectedLogs
from tests.support.steps import until

# The limit of a test is watched by a thread of the interpreter, which a fork does not copy.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")

Main = Callable[[], Awaitable[None]]


@pytest.fixture
def config(server_config: ServerFactory) -> ServerConfig:
    return server_config(workers=2, drain_timeout=0, close_timeout=0.1)


@pytest.fixture
def pipe() -> Iterator[tuple[Connection, Connection]]:
    receiver, sender = Pipe(duplex=False)
    with receiver, sender:
        yield receiver, sender


def received(pipe: tuple[Connection, Connection]) -> list[Any]:
    """What the workers sent; they have ended."""
    found = []
    while pipe[0].poll():
        found.append(pipe[0].recv())
    return found


def index() -> int:
    worker = current_worker()
    assert worker is not None
    return worker.index


async def serve(config: ServerConfig, then: Callable[[], object]) -> None:
    """Listen, do something, and serve until closed."""
    async with WebTransportServer(config=config) as server:
        await server.listen()
        then()
        await server.serve_forever()


def to_supervisor(number: int) -> None:
    os.kill(os.getppid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_server_without_application_runs_until_a_signal(
    config: ServerConfig, pipe: tuple[Connection, Connection], number: int
) -> None:
    async def main() -> None:
        worker = current_worker()
        assert worker is not None
        assert repr(worker) == f"<Worker {worker.index} of 2>"
        await serve(config, lambda: None if worker.index else to_supervisor(number))
        pipe[1].send((worker.index, worker.count))

    before = {name: signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGINT)}
    run_workers(main, config=config)
    assert sorted(received(pipe)) == [(0, 2), (1, 2)]
    assert {name: signal.getsignal(name) for name in before} == before


def test_main_that_does_not_end_is_cancelled(
    config: ServerConfig, pipe: tuple[Connection, Connection]
) -> None:
    async def main() -> None:
        async with WebTransportServer(config=config) as server:
            await server.listen()
            if index() == 0:
                to_supervisor(signal.SIGTERM)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                pipe[1].send(server.is_serving)
                raise

    run_workers(main, config=config)
    assert received(pipe) == [False, False]


def test_worker_that_ignores_everything_is_killed(
    config: ServerConfig,
    pipe: tuple[Connection, Connection],
    monkeypatch: pytest.MonkeyPatch,
    expected_logs: ExpectedLogs,
) -> None:
    async def main() -> None:
        if index() == 0:
            await serve(config, lambda: to_supervisor(signal.SIGTERM))
            return
        async with WebTransportServer(config=config) as server:
            await server.listen()
            signal.pause()

    config = config.update(shutdown_timeout=0.5)
    monkeypatch.setattr(supervisor, "_GRACE", 0.0)
    # On a busy machine the other one is not through with its 0.1 seconds either.
    expected_logs(r"workers \[(0, )?1\] did not end in time")
    run_workers(main, config=config)


def test_stop_comes_before_anything_listens(
    config: ServerConfig, pipe: tuple[Connection, Connection]
) -> None:
    async def main() -> None:
        if index() == 0:
            to_supervisor(signal.SIGTERM)
        try:
            await asyncio.Event().wait()
        finally:
            pipe[1].send("cleaned up")

    run_workers(main, config=config)
    # One may be told before its main began.
    assert set(received(pipe)) <= {"cleaned up"}


class Unspeakable(Exception):
    """Cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("no words")
        self.reason = lambda: None


class Misleading(Exception):
    """Can be pickled but not rebuilt."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


class Rebuilt(Exception):
    """Becomes something that cannot be raised."""

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, ("something else",)


@pytest.mark.parametrize(
    ("error", "expected", "words"),
    [
        (ConfigurationError("of the application"), ConfigurationError, "of the application"),
        (Unspeakable(), RuntimeError, "Unspeakable: no words"),
        (Misleading(1, 2), TypeError, "two"),
        (Rebuilt("itself"), RuntimeError, "something else"),
        (ValueError("w" * (1 << 16)), RuntimeError, "^ValueError: w+$"),
        (ValueError("w" * (1 << 20)), RuntimeError, "^ValueError: w+$"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_error_before_listening_is_raised_by_the_supervisor(
    config: ServerConfig, error: Exception, expected: type[Exception], words: str
) -> None:
    async def main() -> None:
        if index() == 1:
            raise error
        await serve(config, lambda: None)

    with pytest.raises(expected, match=words):
        run_workers(main, config=config)


def test_silent_death_before_listening_stops_everything(config: ServerConfig) -> None:
    async def main() -> None:
        if index() == 1:
            os._exit(7)
        await serve(config, lambda: None)

    with pytest.raises(ServerError, match=r"worker 1 \(process \d+\) ended with status 7 before"):
        run_workers(main, config=config)


def test_others_go_on_while_a_worker_keeps_dying(
    config: ServerConfig,
    pipe: tuple[Connection, Connection],
    monkeypatch: pytest.MonkeyPatch,
    expected_logs: ExpectedLogs,
) -> None:
    """It is tried rarely then, and serves when it can."""
    read_end, write_end = os.pipe()
    first = os.getpid()

    async def main() -> None:
        async with WebTransportServer(config=config) as server:
            await server.listen()
            pipe[1].send((index(), os.getpid()))
            if index() == 1:
                await asyncio.to_thread(os.read, read_end, 1)
                worker = current_worker()
                assert worker is not None
                if worker.deaths < 6:
                    os.kill(os.getpid(), signal.SIGKILL)
                pipe[1].send(("served after", worker.deaths))
                os.kill(first, signal.SIGTERM)
            else:
                os.write(write_end, b"12345678")
            await server.serve_forever()

    monkeypatch.setattr(
        supervisor,
        "RestartPolicy",
        lambda: RestartPolicy(limit=4, first=0.01, longest=0.02, rarely=0.03),
    )
    expected_logs(r"worker 1 \(process \d+\) was killed by SIGKILL; worker 1 keeps dying")
    try:
        run_workers(main, config=config)
    finally:
        os.close(read_end)
        os.close(write_end)
    told = received(pipe)
    assert told[-1] == ("served after", 6)
    assert [item[0] for item in told[:-1]].count(1) == 7
    # One process for the other one, from the start to the end.
    assert [item[0] for item in told].count(0) == 1


def test_worker_that_closes_its_server_is_replaced_while_it_lives(
    config: ServerConfig, pipe: tuple[Connection, Connection]
) -> None:
    (first_read, first_write), (next_read, next_write) = os.pipe(), os.pipe()

    async def main() -> None:
        async with WebTransportServer(config=config) as server:
            await server.listen()
            if index() == 0:
                os.write(first_write, b"!")
            elif not pipe[0].poll():
                pipe[1].send("the first")
                await asyncio.to_thread(os.read, first_read, 1)
                await server.close()
                # It goes on until its successor is there.
                await asyncio.to_thread(os.read, next_read, 1)
                to_supervisor(signal.SIGTERM)
                return
            else:
                os.write(next_write, b"!")
            await server.serve_forever()

    try:
        run_workers(main, config=config)
    finally:
        for end in (first_read, first_write, next_read, next_write):
            os.close(end)
    assert received(pipe) == ["the first"]


def test_everything_ends_when_all_keep_dying(
    config: ServerConfig, monkeypatch: pytest.MonkeyPatch, expected_logs: ExpectedLogs
) -> None:
    pipes = [os.pipe(), os.pipe()]

    async def main() -> None:
        def then() -> None:
            # Both listen before one dies: until then a death would be another failure.
            os.write(pipes[1 - index()][1], bytes(100))
            os.read(pipes[index()][0], 1)
            os._exit(9)

        await serve(config, then)

    monkeypatch.setattr(
        supervisor, "RestartPolicy", lambda: RestartPolicy(limit=4, first=0.01, longest=0.02)
    )
    expected_logs(r"worker \d \(process \d+\) ended with status 9; worker \d keeps dying")
    try:
        with pytest.raises(ServerError, match=r"no worker is left: .* ended with status 9"):
            run_workers(main, config=config)
    finally:
        for end in (*pipes[0], *pipes[1]):
            os.close(end)


def test_system_without_room_for_a_process_is_asked_again(
    config: ServerConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    read_end, write_end = os.pipe()
    starts = 0

    class Full(supervisor._fork.Process):  # type: ignore[name-defined,misc]
        def start(self) -> None:
            nonlocal starts
            starts += 1
            if starts == 3:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            super().start()

    async def main() -> None:
        def then() -> None:
            if starts == 4:
                to_supervisor(signal.SIGTERM)
            elif index() == 0:
                os.write(write_end, b"!")
            else:
                os.read(read_end, 1)
                os.kill(os.getpid(), signal.SIGKILL)

        await serve(config, then)

    monkeypatch.setattr(supervisor._fork, "Process", Full)
    try:
        run_workers(main, config=config)
        starts_in_all, starts = starts, 1
        with pytest.raises(ServerError, match="worker 1 could not be started: "):
            run_workers(main, config=config)
    finally:
        os.close(read_end)
        os.close(write_end)
    said = [record.message for record in caplog.records if "replacing" in record.message]
    assert len(said) == 2
    assert said[1].startswith("worker 1 could not be started: ")
    assert starts_in_all == 4


def test_failure_while_serving_is_logged_and_replaced(
    config: ServerConfig, pipe: tuple[Connection, Connection], capfd: pytest.CaptureFixture[str]
) -> None:
    read_end, write_end = os.pipe()

    async def main() -> None:
        async with WebTransportServer(config=config) as server:
            await server.listen()
            if index() == 0:
                # The first worker 1 failed once its successor writes here, and is gone a bit later.
                await asyncio.to_thread(os.read, read_end, 1)
                worker = current_worker()
                assert worker is not None
                await until(lambda: worker.deaths == 1)
                to_supervisor(signal.SIGTERM)
            elif not pipe[0].poll():
                pipe[1].send("first")
                raise RuntimeError("on purpose")
            else:
                os.write(write_end, b"!")
            await server.serve_forever()

    try:
        run_workers(main, config=config)
    finally:
        os.close(read_end)
        os.close(write_end)
    assert received(pipe) == ["first"]


def test_only_the_shared_address_is_served_by_workers(
    config: ServerConfig, pipe: tuple[Connection, Connection], tmp_path: Path
) -> None:
    def ready() -> set[str]:
        """The workers that are so far; this one is, now."""
        (tmp_path / str(index())).touch()
        return {path.name for path in tmp_path.iterdir()}

    async def main() -> None:
        async with WebTransportServer(config=config) as server:
            await refused(server.listen(port=1), "this worker shares the host and port")
            await server.listen()
            async with WebTransportServer(config=config) as other:
                await refused(other.listen(), "another server of this worker")
            async with WebTransportServer(config=config.update(workers=1)) as own:
                # Not shared, and not steered.
                await own.listen(host="127.0.0.2")
            await until(lambda: {"0", "1"} <= ready())
            if index() == 0:
                to_supervisor(signal.SIGHUP)
                to_supervisor(signal.SIGTERM)
            await server.serve_forever()

    async def refused(call: Awaitable[None], words: str) -> None:
        with pytest.raises(WebTransportError, match=words):
            await call
        pipe[1].send(words)

    run_workers(main, config=config)
    assert len(received(pipe)) == 4


def test_one_worker_is_a_group_too(
    config: ServerConfig, pipe: tuple[Connection, Connection]
) -> None:
    alone = config.update(workers=1)

    async def main() -> None:
        await serve(alone, lambda: to_supervisor(signal.SIGTERM))
        pipe[1].send(index())

    run_workers(main, config=alone)
    assert received(pipe) == [0]


def test_taken_port_is_told_before_anything_starts(config: ServerConfig) -> None:
    async def main() -> NoReturn:
        raise AssertionError("never called")

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(ServerError, match="choose another port"):
            run_workers(main, config=config, port=port)
        with pytest.raises(ConfigurationError, match="expected a whole number from 0 to 65535"):
            run_workers(main, config=config, port=-1)
