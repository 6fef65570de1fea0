"""Whatever goes wrong with a request: the client is answered, the slot is free, the log tells."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pywebtransport import ServerApp, WebTransportClient
from pywebtransport.events import Event
from pywebtransport.exceptions import (
    ConfigurationError,
    ServerError,
    SessionRejectedError,
    StreamResetError,
)
from pywebtransport.server import WebTransportServer
from pywebtransport.session import WebTransportSession
from pywebtransport.types import EventType, SessionCloseInfo
from tests.support.certificates import Certificates
from tests.support.endpoints import ClientFactory, ServerFactory, Serving
from tests.support.leaks import ExpectedLogs
from tests.support.processes import ROOT
from tests.support.steps import round_trip, until


class NoException(BaseException):
    """An exception that is not an ``Exception`` and does not end the program."""


async def own_cancellation() -> None:
    """Wait for something that is cancelled by the application itself."""
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


async def raises(error: BaseException) -> None:
    raise error


async def in_a_group(*errors: Exception) -> None:
    async with asyncio.TaskGroup() as group:
        for error in errors:
            group.create_task(raises(error))


def unfit_headers() -> Exception:
    return SessionRejectedError(status_code=403, headers={"bad name": "x"})


# What is run instead of answering, the status that it is answered with, and its log.
FAILURES: dict[str, tuple[Callable[[], Awaitable[object]], int, str]] = {
    "error": (lambda: raises(LookupError("forgot it")), 500, "LookupError: forgot it"),
    "own cancellation": (own_cancellation, 500, "CancelledError"),
    "group": (lambda: in_a_group(LookupError("a"), KeyError("b")), 500, "LookupError: a"),
    "rejection in a group": (lambda: in_a_group(SessionRejectedError(status_code=401)), 401, ""),
    "mixed group": (
        lambda: in_a_group(SessionRejectedError(status_code=401), LookupError("a")),
        500,
        "LookupError: a",
    ),
    "no exception": (lambda: raises(NoException("odd")), 500, "NoException: odd"),
    "generator exit": (lambda: raises(GeneratorExit()), 500, "GeneratorExit"),
    "stop iteration": (lambda: raises(StopIteration(1)), 500, "raised StopIteration"),
    "stop async iteration": (lambda: raises(StopAsyncIteration()), 500, "StopAsyncIteration"),
    "int header": (
        lambda: raises(SessionRejectedError(status_code=429, headers={"retry-after": 30})),
        429,
        "",
    ),
    "unfit header": (lambda: raises(unfit_headers()), 500, "ConfigurationError"),
    "reset of somebody's stream": (lambda: raises(StreamResetError(stream_id=4)), 500, ""),
}


async def assert_answered(
    client: WebTransportClient, server: WebTransportServer, url: str, status: int
) -> None:
    """The request is answered, and nothing of it is left."""
    with pytest.raises(SessionRejectedError) as caught:
        await client.connect(url)
    assert caught.value.status_code == status
    await until(lambda: not server.sessions and not server._tasks)


@pytest.mark.parametrize("place", ["middleware", "answer_request", "listener"])
@pytest.mark.parametrize("name", FAILURES)
async def test_a_request_that_fails_is_answered(
    serving: Serving,
    server_config: ServerFactory,
    client_config: ClientFactory,
    expected_logs: ExpectedLogs,
    place: str,
    name: str,
) -> None:
    fail, status, words = FAILURES[name]
    if place == "listener":
        # It answers with session.reject(); what it raises is its failure.
        status = 500
        if "rejection" in name or "header" in name:
            words = "SessionRejectedError"
    if words:
        expected_logs(words)

    class Answers:
        async def answer_request(self, session: WebTransportSession) -> None:
            await fail()

        async def __call__(self, session: WebTransportSession) -> None:
            """Never called."""

    async def middleware(session: WebTransportSession) -> bool:
        if place == "middleware":
            await fail()
        return True

    async def listener(event: Event) -> None:
        await fail()

    async with WebTransportClient(config=client_config()) as client:
        if place == "listener":
            async with WebTransportServer(config=server_config(max_sessions=1)) as server:
                server.on(EventType.SESSION_REQUEST, listener)
                await server.listen()
                assert server.local_address is not None
                url = f"https://127.0.0.1:{server.local_address[1]}/"
                for _ in range(2):
                    await assert_answered(client, server, url, status)
            return
        async with serving(Answers(), max_sessions=1) as served:
            served.app.add_middleware(middleware)
            for _ in range(2):
                await assert_answered(client, served.server, served.url(), status)
            stats = await served.server.get_server_stats()
            assert stats["handler_errors"] == (2 if status == 500 else 0)


@pytest.mark.parametrize("name", FAILURES)
async def test_a_handler_that_fails_closes_its_session(
    serving: Serving,
    client_config: ClientFactory,
    expected_logs: ExpectedLogs,
    name: str,
) -> None:
    fail, _, words = FAILURES[name]
    if "rejection" in name or "header" in name:
        words = "SessionRejectedError"
    if words:
        expected_logs(rf"handler of /a raised .*{words}.* \[session \S+, path /a, peer 127")

    async def handler(session: WebTransportSession) -> None:
        if session.path == "/a":
            await fail()

    async with (
        serving(handler, max_sessions=1) as served,
        WebTransportClient(config=client_config()) as client,
    ):
        for _ in range(2):
            session = await client.connect(served.url("/a"))
            assert await session.wait_closed() == SessionCloseInfo(1, "internal error", True)
            await until(lambda: not served.server.sessions and not served.server._tasks)
        async with client.connect(served.url("/b")) as session:
            await round_trip(session, served.server.sessions[0], b"goes on")
        assert (await served.server.get_server_stats())["handler_errors"] == 2


async def test_a_log_handler_that_fails_keeps_no_session_open(
    serving: Serving, client_config: ClientFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.name == "pywebtransport.server" and record.levelno == logging.ERROR:
                raise OSError("the disk is full")

    async def handler(session: WebTransportSession) -> None:
        raise LookupError("a mistake")

    reported: list[str] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: reported.append(str(context["exception"]))
    )
    broken = Broken()
    async with serving(handler) as served, WebTransportClient(config=client_config()) as client:
        logger = logging.getLogger("pywebtransport.server")
        monkeypatch.setattr(logger, "handlers", [broken])
        session = await client.connect(served.url())
        assert await session.wait_closed() == SessionCloseInfo(1, "internal error", True)
        await until(lambda: not served.server.sessions and not served.server._tasks)
        gc.collect()
    assert reported == ["the disk is full"]


@pytest.mark.parametrize("how", ["task.cancel", "gather"])
async def test_a_handler_that_cancels_itself_is_no_shutdown(
    serving: Serving,
    client_config: ClientFactory,
    caplog: pytest.LogCaptureFixture,
    expected_logs: ExpectedLogs,
    how: str,
) -> None:
    if how == "gather":
        expected_logs("handler of / raised CancelledError")

    async def handler(session: WebTransportSession) -> None:
        task = asyncio.current_task()
        assert task is not None
        if how == "task.cancel":
            task.cancel()
            await asyncio.sleep(0)
        else:
            waiting = asyncio.gather(asyncio.Event().wait(), asyncio.Event().wait())
            asyncio.get_running_loop().call_soon(waiting.cancel)
            await waiting

    async with serving(handler) as served, WebTransportClient(config=client_config()) as client:
        session = await client.connect(served.url())
        info = await session.wait_closed()
        assert (info.code, info.reason) == (1, "internal error")
        assert served.server.is_serving
    assert any(record.levelno >= logging.WARNING for record in caplog.records)


async def test_shutdown_is_told_as_such(serving: Serving, client_config: ClientFactory) -> None:
    """The other side of the distinction; a request that waits gets 503."""
    entered = asyncio.Event()

    async def middleware(session: WebTransportSession) -> bool:
        if session.path == "/waits":
            entered.set()
            await asyncio.Event().wait()
        return True

    async def handler(session: WebTransportSession) -> None:
        await asyncio.Event().wait()

    async with serving(handler) as served, WebTransportClient(config=client_config()) as client:
        served.app.add_middleware(middleware)
        session = await client.connect(served.url())
        waiting = asyncio.create_task(client.connect(served.url("/waits")))
        await entered.wait()
        await served.server.close(drain_timeout=0)
        assert (await session.wait_closed()).code == 0
        with pytest.raises(SessionRejectedError) as caught:
            await waiting
        assert caught.value.status_code == 503
        assert (await served.server.get_server_stats())["handler_errors"] == 0


@pytest.mark.parametrize("where", ["middleware", "handler"])
@pytest.mark.parametrize(("error", "status"), [("SystemExit(7)", 7), ("KeyboardInterrupt()", 130)])
def test_the_end_of_the_program_is_answered_and_told(
    certs: Certificates, where: str, error: str, status: int
) -> None:
    """SystemExit and KeyboardInterrupt end the program, but nobody waits for an answer."""
    program = _ENDING.replace("ERROR", error).replace("WHERE", where)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            program,
            certs.server.certfile,
            certs.server.keyfile,
            certs.authority.certfile,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert f"raised {error.split('(')[0]}" in done.stderr
    answer = "rejected 500" if where == "middleware" else "closed 1 internal error"
    assert done.stdout == f"{answer}\n"
    assert done.returncode in (status, -2)


_ENDING = """
import asyncio, multiprocessing, sys
from pywebtransport import ClientConfig, ServerApp, ServerConfig, WebTransportClient
from pywebtransport.exceptions import SessionRejectedError

async def ask(port):
    async with WebTransportClient(config=ClientConfig(ca_certs=sys.argv[3])) as client:
        try:
            session = await client.connect(f"https://127.0.0.1:{port}/")
        except SessionRejectedError as error:
            print("rejected", error.status_code, flush=True)
        else:
            info = await session.wait_closed()
            print("closed", info.code, info.reason, flush=True)

async def serve(started):
    config = ServerConfig(
        certfile=sys.argv[1], keyfile=sys.argv[2], drain_timeout=0, close_timeout=0.5
    )
    app = ServerApp(config=config)

    @app.middleware
    async def middleware(session):
        if "WHERE" == "middleware":
            raise ERROR
        return True

    @app.route("/")
    async def handler(session):
        raise ERROR

    async with app:
        await app.listen(host="127.0.0.1", port=0)
        started.send(app.server.local_address[1])
        await app.server.serve_forever()

here, there = multiprocessing.Pipe()
client = multiprocessing.get_context("fork").Process(
    target=lambda: asyncio.run(ask(there.recv())), daemon=True
)
client.start()
try:
    asyncio.run(serve(here))
finally:
    client.join(20)
"""


async def test_hooks_whose_own_work_is_cancelled(
    server_config: ServerFactory, expected_logs: ExpectedLogs
) -> None:
    expected_logs("shutdown handler .*cancelled_hook raised CancelledError")
    app = ServerApp(config=server_config())
    calls: list[str] = []
    app.on_shutdown(lambda: calls.append("last"))

    @app.on_shutdown
    async def cancelled_hook() -> None:
        await own_cancellation()

    async with app:
        pass
    assert calls == ["last"]

    failing = ServerApp(config=server_config())
    failing.on_startup(own_cancellation)
    with pytest.raises(ServerError, match=r"start-up handler .*own_cancellation.* was cancelled"):
        await failing.startup()


async def test_a_start_that_is_cancelled_is_cancelled(server_config: ServerFactory) -> None:
    app = ServerApp(config=server_config())
    entered = asyncio.Event()

    @app.on_startup
    async def waits() -> None:
        entered.set()
        await asyncio.Event().wait()

    starting = asyncio.create_task(app.startup())
    await entered.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting


@pytest.mark.parametrize(
    ("answer", "status", "log"),
    [
        (None, 403, "returned NoneType instead of True or False, which counts as False"),
        (0, 403, "returned int"),
        ("yes", 200, "returned str instead of True or False, which counts as True"),
    ],
)
async def test_middleware_that_gives_no_bool(
    serving: Serving,
    client_config: ClientFactory,
    caplog: pytest.LogCaptureFixture,
    answer: Any,
    status: int,
    log: str,
) -> None:
    async def odd(session: WebTransportSession) -> Any:
        return answer

    async with serving() as served, WebTransportClient(config=client_config()) as client:
        served.app.add_middleware(odd)
        if status == 200:
            await client.connect(served.url())
        else:
            await assert_answered(client, served.server, served.url(), status)
    assert log in caplog.text


async def test_middleware_whose_answer_is_no_truth(
    serving: Serving, client_config: ClientFactory, expected_logs: ExpectedLogs
) -> None:
    expected_logs("raised RuntimeError: ambiguous")

    class Ambiguous:
        def __bool__(self) -> bool:
            raise RuntimeError("ambiguous")

    async def odd(session: WebTransportSession) -> Any:
        return Ambiguous()

    async with serving() as served, WebTransportClient(config=client_config()) as client:
        served.app.add_middleware(odd)
        await assert_answered(client, served.server, served.url(), 500)


@pytest.mark.parametrize(
    "arguments",
    [
        {"status_code": 200},
        {"status_code": 600},
        {"status_code": "403"},
        {"status_code": 403.0},
        {"status_code": True},
        {"status_code": None},
        {"headers": "a: b"},
        {"headers": [("a", "b")]},
        {"headers": {1: "a"}},
        {"headers": {"a": None}},
        {"headers": {"a": 1.5}},
        {"headers": {"a": True}},
    ],
    ids=str,
)
def test_a_rejection_is_checked_where_it_is_made(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(arguments))):
        SessionRejectedError(**arguments)


def test_what_a_peer_answered_is_not_checked() -> None:
    assert SessionRejectedError(status_code=999, remote=True).status_code == 999
    assert SessionRejectedError(headers={"retry-after": 30}).headers == {"retry-after": "30"}
