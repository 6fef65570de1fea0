"""``attach``: HTTP/3 and WebTransport in the process of another ASGI server."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from pywebtransport import connect
from pywebtransport.asgi import attach
from pywebtransport.exceptions import ConfigurationError
from tests.support.asgi_tcp import tls_of
from tests.support.attached_app import application
from tests.support.certificates import Certificates
from tests.support.endpoints import make_server_config
from tests.support.http3 import http3
from tests.support.leaks import ExpectedLogs
from tests.support.ports import free_port
from tests.support.processes import ROOT

APP = "tests.support.attached_app:app"
Log = pytest.LogCaptureFixture

# How the servers of others are started.
COMMANDS = {
    "uvicorn": (
        f"uvicorn {APP} --no-access-log --port {{port}} --ssl-certfile {{certfile}} "
        "--ssl-keyfile {keyfile}"
    ),
    "hypercorn": (
        f"hypercorn {APP} --bind 127.0.0.1:{{port}} --certfile {{certfile}} --keyfile {{keyfile}}"
    ),
}


@contextmanager
def started(certs: Certificates, program: str, port: int) -> Iterator[subprocess.Popen[str]]:
    """Start the server of somebody else."""
    values = {"port": port, **certs.server.files}
    fields = {"bind_host": "127.0.0.1", "bind_port": port, "drain_timeout": 5, **certs.server.files}
    process = subprocess.Popen(
        [sys.executable, "-m", *COMMANDS[program].format(**values).split()],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "ATTACHED": json.dumps(fields)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


async def wait_for_tcp(port: int) -> None:
    """Wait until somebody listens on a TCP port."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.01)
        else:
            writer.transport.abort()
            return


@pytest.mark.loops("asyncio")
@pytest.mark.parametrize("program", COMMANDS)
async def test_beside_the_server_of_somebody_else(certs: Certificates, program: str) -> None:
    """Pages over TCP and HTTP/3, a session, and a graceful end."""
    port = free_port(socket.SOCK_STREAM)
    with started(certs, program, port) as process:
        await wait_for_tcp(port)
        async with httpx.AsyncClient(verify=tls_of(certs), trust_env=False) as client:
            response = await client.get(f"https://127.0.0.1:{port}/")
        assert response.text == "HTTP/1.1 open"
        assert response.headers["alt-svc"] == f'h3=":{port}"; ma=86400'
        async with http3(certs, port=port) as http:
            answer = await http.get("/")
            assert (answer.body, answer.get("alt-svc")) == (b"HTTP/3 open", None)
        url = f"https://127.0.0.1:{port}/chat"
        async with connect(url, server_certificate_hashes=[certs.server.hash]) as session:
            stream = await session.create_bidirectional_stream()
            await stream.write_all(b"hello")
            assert await stream.read_all() == b"hello"
            process.send_signal(signal.SIGTERM)
            assert await session.wait_draining()
        output, errors = await asyncio.to_thread(process.communicate)
    assert output.split() == ["lifespan.startup", "lifespan.shutdown"]
    assert process.returncode in (0, -signal.SIGTERM), errors
    assert "Traceback" not in errors


@pytest.mark.loops("asyncio")
async def test_a_udp_port_that_is_taken_stops_the_other_server(certs: Certificates) -> None:
    """After the application has cleaned up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        with started(certs, "uvicorn", taken.getsockname()[1]) as process:
            output, errors = await asyncio.to_thread(process.communicate)
    assert output.split() == ["lifespan.startup", "lifespan.shutdown"]
    assert process.returncode == 3
    assert "HTTP/3 cannot be served: cannot bind UDP 127.0.0.1:" in errors
    assert "several processes" in errors


class Host:
    """An ASGI server that the test plays."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.state: dict[str, Any] = {}
        self.events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def tell(self, kind: str) -> dict[str, Any]:
        """Send a lifespan event; returns the answer."""
        if self._task is None:
            scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": self.state}
            self._task = asyncio.ensure_future(self.app(scope, self.events.get, self.sent.put))
        self.events.put_nowait({"type": f"lifespan.{kind}"})
        answer = asyncio.ensure_future(self.sent.get())
        await asyncio.wait([self._task, answer], return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            answer.cancel()
            await self._task
            raise AssertionError("it returned without an answer")
        return answer.result()

    async def end(self) -> None:
        """Wait for the end of the call."""
        assert self._task is not None
        await self._task

    async def get(self) -> dict[str, Any]:
        """Make a request over TCP; returns the start of the response."""
        messages: list[dict[str, Any]] = []

        async def send(message: dict[str, Any]) -> None:
            messages.append(message)

        scope = {"type": "http", "http_version": "1.1", "state": self.state, "path": "/"}
        await self.app(scope, self.events.get, send)
        return messages[0]


def alt_svc(start: dict[str, Any]) -> list[bytes]:
    return [value for name, value in start["headers"] if name == b"alt-svc"]


async def test_it_listens_after_the_start_and_ends_before_the_shutdown(
    certs: Certificates, caplog: Log
) -> None:
    order: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await application(scope, receive, send)
            return
        await receive()
        order.append(f"start {attached.server}")
        scope["state"]["shop"] = "open"
        await send({"type": "lifespan.startup.complete"})
        await receive()
        order.append(f"shutdown {attached.server}")
        await send({"type": "lifespan.shutdown.complete"})

    attached = attach(app, make_server_config(certs, network=None, drain_timeout=0))
    assert attached.app is app
    host = Host(attached)
    assert (await host.tell("startup"))["type"] == "lifespan.startup.complete"
    assert attached.server is not None
    port = attached.server.port
    assert alt_svc(await host.get()) == [b'h3=":%d"; ma=86400' % port]
    async with http3(certs, port=port) as http:
        assert (await http.get("/")).body == b"HTTP/3 open"
    assert (await host.tell("shutdown"))["type"] == "lifespan.shutdown.complete"
    await host.end()
    assert order == ["start None", "shutdown None"]
    assert alt_svc(await host.get()) == []


async def test_an_application_without_lifespan(certs: Certificates, caplog: Log) -> None:
    caplog.set_level(logging.INFO, "pywebtransport")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http", scope["type"]
        await application({**scope, "state": {"shop": "simple"}}, receive, send)

    attached = attach(app, make_server_config(certs, network=None, drain_timeout=0))
    host = Host(attached)
    assert (await host.tell("startup"))["type"] == "lifespan.startup.complete"
    assert attached.server is not None
    async with http3(certs, port=attached.server.port) as http:
        assert (await http.get("/")).body == b"HTTP/3 simple"
    assert (await host.tell("shutdown"))["type"] == "lifespan.shutdown.complete"
    await host.end()
    assert "the application does not support lifespan: AssertionError: lifespan" in caplog.text


async def test_a_start_that_fails(certs: Certificates, expected_logs: ExpectedLogs) -> None:
    """That of the application is its own; ours lets the application clean up."""

    async def failing(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    host = Host(attach(failing, make_server_config(certs, network=None)))
    assert (await host.tell("startup"))["message"] == "no database"
    await host.end()
    assert host.app.server is None

    async def raising(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise LookupError("no database")

    host = Host(attach(raising, make_server_config(certs, network=None)))
    with pytest.raises(LookupError):
        await host.tell("startup")

    expected_logs("HTTP/3 cannot be served: .*certfile and keyfile")
    host = Host(
        attach(application, make_server_config(certs, network=None, certfile="", keyfile=""))
    )
    answer = await host.tell("startup")
    assert answer["type"] == "lifespan.startup.failed"
    assert "certfile and keyfile" in answer["message"]
    await host.end()
    assert host.sent.empty()


async def test_a_server_without_lifespan_is_warned(certs: Certificates, caplog: Log) -> None:
    host = Host(attach(application, make_server_config(certs, network=None)))
    host.state["shop"] = "open"
    for _ in range(3):
        assert alt_svc(await host.get()) == []
    assert caplog.text.count("the other server does not use lifespan") == 1


async def test_a_second_server_at_the_same_time_is_refused(
    certs: Certificates, expected_logs: ExpectedLogs
) -> None:
    """The first one goes on; when it has ended, the next one may start the application."""
    expected_logs("HTTP/3 cannot be served: another server has started this application already")
    attached = attach(application, make_server_config(certs, network=None, drain_timeout=0))
    first, second, third = Host(attached), Host(attached), Host(attached)
    assert (await first.tell("startup"))["type"] == "lifespan.startup.complete"
    server = attached.server
    answer = await second.tell("startup")
    assert answer["type"] == "lifespan.startup.failed"
    assert "attach it once for each server" in answer["message"]
    await second.end()
    assert attached.server is server is not None
    async with http3(certs, port=server.port) as http:
        assert (await http.get("/")).status == 200
    await first.tell("shutdown")
    await first.end()
    assert (await third.tell("startup"))["type"] == "lifespan.startup.complete"
    await third.tell("shutdown")
    await third.end()


async def test_a_cancelled_lifespan_closes_the_server(certs: Certificates) -> None:
    host = Host(attach(application, make_server_config(certs, network=None, drain_timeout=0)))
    await host.tell("startup")
    assert host._task is not None
    host._task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await host.end()
    assert host.app.server is None


def plain(scope: Any, receive: Any, send: Any) -> None:
    """What a WSGI programmer may write."""


def test_wrong_arguments_are_refused(certs: Certificates) -> None:
    config = make_server_config(certs, network=None)
    with pytest.raises(ConfigurationError, match="expected an ASGI 3 application"):
        attach(7, config)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="it is not an async function"):
        attach(plain, config)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="config"):
        attach(application, None)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="workers = 2"):
        attach(application, config.update(workers=2))
    with pytest.raises(ConfigurationError, match="websocket = True"):
        attach(application, config.update(websocket=True))
