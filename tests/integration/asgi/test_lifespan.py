"""The ``lifespan`` scope: the order of things at the start and at the end, and failures."""

from __future__ import annotations

import asyncio
import logging
import pickle
import signal
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pywebtransport import ServerApp
from pywebtransport.asgi import AsgiMessageError, LifespanError
from pywebtransport.exceptions import ServerError
from tests.support.asgi_http import answer, asgi_served
from tests.support.certificates import Certificates
from tests.support.command_line import running
from tests.support.endpoints import make_server_config
from tests.support.http3 import http3
from tests.support.leaks import ExpectedLogs
from tests.support.steps import until

pytestmark = pytest.mark.loops("asyncio")


class Life:
    """An application that notes what happens to it.

    Args:
        story: Receives the notes.
    """

    def __init__(self, story: list[str]) -> None:
        self.story = story

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            self.story.append("request")
            await answer(send, repr(scope["state"]).encode())
            return
        assert scope["asgi"]["version"] == "3.0"
        assert await receive() == {"type": "lifespan.startup"}
        self.story.append("startup")
        scope["state"]["shared"] = []
        scope["state"]["number"] = 1
        await send({"type": "lifespan.startup.complete"})
        assert await receive() == {"type": "lifespan.shutdown"}
        self.story.append("shutdown")
        await send({"type": "lifespan.shutdown.complete"})


def ending(*answers: dict[str, Any], error: Exception | None = None) -> Any:
    """An application whose lifespan answers each event so, and then raises or returns."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await answer(send, b"served")
            return
        for message in answers:
            await receive()
            await send(message)
        if error is not None:
            raise error

    return app


COMPLETE = {"type": "lifespan.startup.complete"}
OVER = {"type": "lifespan.shutdown.complete"}


@asynccontextmanager
async def started(certs: Certificates, app: Any, **mount: Any) -> Any:
    """A server with a mounted application, whose lifespan counts."""
    async with asgi_served(certs, app, mount={"lifespan": "auto", **mount}) as asgi:
        yield asgi


async def start(certs: Certificates, app: Any, **mount: Any) -> ServerApp:
    """Start and stop a server, without a client."""
    target = ServerApp(config=make_server_config(certs))
    target.mount(app, **mount)
    async with target:
        await target.listen()
    return target


# ------------------------------------------------------------------------ start and end


@pytest.mark.loops("asyncio", "uvloop")
async def test_order_with_our_handlers(certs: Certificates) -> None:
    story: list[str] = []
    app = ServerApp(config=make_server_config(certs, drain_timeout=0))
    app.mount(Life(story))
    app.on_startup(lambda: story.append("our start"))
    app.on_shutdown(lambda: story.append("our end"))
    async with app:
        assert story == ["our start", "startup"]
        assert not app.server.is_serving
        await app.listen()
    assert story == ["our start", "startup", "shutdown", "our end"]


async def test_server_is_closed_before_shutdown(certs: Certificates) -> None:
    states = []
    app = ServerApp(config=make_server_config(certs, drain_timeout=0))

    async def noting(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(COMPLETE)
        await receive()
        states.append(app.server.is_serving)
        await send(OVER)

    app.mount(noting)
    async with app:
        await app.listen()
    assert states == [False]


async def test_each_request_has_a_shallow_copy_of_the_state(certs: Certificates) -> None:
    class Changing(Life):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                scope["state"]["number"] += 1
                scope["state"]["shared"].append(scope["path"])
            await super().__call__(scope, receive, send)

    async with started(certs, Changing([])) as asgi:
        assert (await asgi.client.get("/a")).body == b"{'shared': ['/a'], 'number': 2}"
        assert (await asgi.client.get("/b")).body == b"{'shared': ['/a', '/b'], 'number': 2}"


async def test_application_can_be_started_again(certs: Certificates) -> None:
    story: list[str] = []
    app = Life(story)
    for _ in range(2):
        await start(certs, app)
    assert story == ["startup", "shutdown"] * 2


async def test_off_does_not_call_the_application(certs: Certificates) -> None:
    story: list[str] = []
    await start(certs, Life(story), lifespan="off")
    assert story == []


# ------------------------------------------------------------- what it does not support


@pytest.mark.parametrize(
    ("app", "level"),
    [
        (ending(error=AssertionError("only http")), logging.INFO),
        (ending(), logging.INFO),
        (ending({"type": "http.response.start"}), logging.WARNING),
    ],
    ids=["raises", "returns", "misunderstands"],
)
async def test_application_without_lifespan(
    certs: Certificates, caplog: pytest.LogCaptureFixture, app: Any, level: int
) -> None:
    caplog.set_level(logging.INFO, "pywebtransport.asgi")
    async with started(certs, app) as asgi:
        assert (await asgi.client.get("/")).body == b"served"
    (record,) = [item for item in caplog.records if item.name == "pywebtransport.asgi"]
    assert "is served without lifespan" in record.getMessage()
    assert record.levelno == level
    with pytest.raises(LifespanError, match="does not support lifespan"):
        await start(certs, app, lifespan="on")


# -------------------------------------------------------------------- failures to start


async def test_failed_start_undoes_our_handlers(certs: Certificates) -> None:
    story: list[str] = []
    failed = {"type": "lifespan.startup.failed", "message": "no database\n"}
    app = ServerApp(config=make_server_config(certs))
    # Frameworks raise the error as well.
    app.mount(ending(failed, error=ValueError("no database")))
    app.on_startup(lambda: story.append("our start"))
    app.on_shutdown(lambda: story.append("our end"))
    with pytest.raises(ServerError, match=r"failed to start: no database\\n") as caught:
        async with app:
            raise AssertionError("it started")
    assert story == ["our start", "our end"]
    assert app.server.local_address is None
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), LifespanError)


@pytest.mark.loops("virtual")
async def test_start_has_a_limit(certs: Certificates) -> None:
    cancelled = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(LifespanError, match="within 5 seconds"):
        await start(certs, app, startup_timeout=5)
    assert cancelled.is_set()


async def test_cancelled_start_cancels_the_application(certs: Certificates) -> None:
    began, cancelled = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    starting = asyncio.create_task(start(certs, app))
    await began.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert cancelled.is_set()


async def test_messages_out_of_turn(certs: Certificates) -> None:
    refused = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def check(*messages: Any) -> None:
            for message in messages:
                with pytest.raises(AsgiMessageError) as caught:
                    await send(message)
                refused.append(str(caught.value))

        await check(COMPLETE)
        await receive()
        await check(OVER, {"type": "lifespan.startup.started"})
        await send(COMPLETE)
        await check(COMPLETE)
        await receive()
        await send(OVER)

    await start(certs, app)
    assert [text.split()[0] for text in refused] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
        "a",  # lifespan has no message of this type
        "lifespan.startup.complete",
    ]


# ------------------------------------------------------------------ failures at the end


async def test_failed_shutdown_is_logged(certs: Certificates, expected_logs: ExpectedLogs) -> None:
    expected_logs("the application failed to shut down: disk full")
    failed = {"type": "lifespan.shutdown.failed", "message": "disk full"}
    await start(certs, ending(COMPLETE, failed, error=OSError("disk full")))


async def test_error_at_the_end_is_logged(certs: Certificates, expected_logs: ExpectedLogs) -> None:
    expected_logs("lifespan of the application raised ValueError: oops")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(COMPLETE)
        await receive()
        raise ValueError("oops")

    await start(certs, app)


async def test_error_between_is_logged_at_once(
    certs: Certificates, expected_logs: ExpectedLogs, caplog: pytest.LogCaptureFixture
) -> None:
    expected_logs("lifespan of the application raised ValueError: oops")
    app = ending(COMPLETE, error=ValueError("oops"))
    async with started(certs, app) as asgi:
        await until(lambda: "oops" in caplog.text)
        assert (await asgi.client.get("/")).body == b"served"


@pytest.mark.loops("virtual")
async def test_shutdown_has_a_limit(certs: Certificates, expected_logs: ExpectedLogs) -> None:
    expected_logs("did not send lifespan.shutdown.complete within 5 seconds")
    cancelled = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(COMPLETE)
        await receive()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    await start(certs, app, shutdown_timeout=5)
    assert cancelled.is_set()


# -------------------------------------------------------------------------- processes

APPLICATION = r"""
import asyncio, os, signal
from pywebtransport import ServerApp, ServerConfig

async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        os.write(1, b"starting %d\n" % os.getpid())
        if {failing!r} == "fails":
            await send({{"type": "lifespan.startup.failed", "message": "no database"}})
            return
        if {failing!r} == "hangs":
            await asyncio.Event().wait()
        scope["state"]["pid"] = os.getpid()
        await send({{"type": "lifespan.startup.complete"}})
        await receive()
        os.write(1, b"ending %d\n" % os.getpid())
        await send({{"type": "lifespan.shutdown.complete"}})
        return
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    body = str(scope["state"]["pid"]).encode()
    await send({{"type": "http.response.body", "body": body}})

app = ServerApp(config=ServerConfig(drain_timeout=0))
app.mount(asgi)
"""


def write_app(directory: Path, failing: str = "") -> None:
    """Write the application above as ``lifespan_app.py``."""
    (directory / "lifespan_app.py").write_text(APPLICATION.format(failing=failing))


def serve(directory: Path, certs: Certificates, *options: str) -> Any:
    """``pywebtransport serve`` with it."""
    files = ["--certfile", certs.server.certfile, "--keyfile", certs.server.keyfile]
    place = ["--host", "127.0.0.1", "--port", "0"]
    return running(directory, "serve", "lifespan_app:app", *files, *place, *options, cwd=directory)


def test_failed_start_ends_the_process_with_3(tmp_path: Path, certs: Certificates) -> None:
    write_app(tmp_path, "fails")
    for options in ([], ["--workers", "2"]):
        with serve(tmp_path, certs, *options) as program:
            assert program.join() == 3
        assert "error: the application failed to start: no database" in program.errors
        assert "Traceback" not in program.errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_cancels_the_start(
    tmp_path: Path, certs: Certificates, number: signal.Signals
) -> None:
    write_app(tmp_path, "hangs")
    with serve(tmp_path, certs) as program:
        assert program.read_line().startswith("starting")
        assert program.stop(number) == 0
    assert "ending" not in program.output


@pytest.mark.loops("asyncio")
async def test_each_worker_has_a_lifespan(tmp_path: Path, certs: Certificates) -> None:
    write_app(tmp_path)
    with serve(tmp_path, certs, "--workers", "2", "--json") as program:
        first = [await asyncio.to_thread(program.read_line) for _ in range(2)]
        pids = {line.split()[1] for line in first if line.startswith("starting")}
        assert len(pids) == 2
        port = program.read_banner()["addresses"][0][1]
        answered = set()
        while answered < pids:  # the kernel chooses the worker by the client's address
            async with http3(certs, port=port) as client:
                answered.add((await client.get("/")).body.decode())
        assert answered == pids
        assert await asyncio.to_thread(program.stop) == 0
    endings = [line.split()[1] for line in program.output.splitlines() if "ending" in line]
    assert sorted(endings) == sorted(pids)
