"""Each piece of Python in the documentation runs, as it is printed, over real connections.

The blocks of a page run one after the other in one namespace, as a reader would type them, beside
a server that echoes. A page says "here is a session"; ``Run`` says what that is. Values that only
stand for the reader's own (a port, a hash, a path) are replaced.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import contextlib
import inspect
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pywebtransport import ClientConfig, ServerApp, ServerConfig, WebTransportClient
from pywebtransport.datagram import DatagramReliabilityLayer
from pywebtransport.exceptions import UnreachableError, WebTransportError
from pywebtransport.media import FrameReceiver, FrameSender
from pywebtransport.server import echo_handler
from pywebtransport.session import WebTransportSession
from tests.support.certificates import Certificates
from tests.support.pages import PAGES, ROOT, blocks, relative
from tests.support.ports import free_port
from tests.support.steps import until

HASH = "5f1c…"
TIMEOUT = 30.0


@dataclass
class Run:
    """What the blocks of a page need.

    Attributes:
        before: Code that runs first: what the page calls given.
        replace: What stands for something of the reader's, and what takes its place.
        after: Code for after the block of that number: uses what the block defined.
    """

    before: str = ""
    replace: dict[str, str] = field(default_factory=dict)
    after: dict[int, str] = field(default_factory=dict)


RUNS = {
    "docs/howto/asgi.md": Run(
        before="""
            from pywebtransport import ClientConfig
            async def visit(server):
                where = f"https://localhost:{server.server.local_address[1]}/room/7"
                config = ClientConfig(server_certificate_hashes=[certificate_hash])
                async with WebTransportClient(config=config) as c, c.connect(where) as inside:
                    assert await inside.datagrams.receive() == b"this is 7"
                    await inside.datagrams.send(b"echo")
                    assert await inside.datagrams.receive() == b"echo"
            """,
        replace={"await server.listen()": "await server.listen(); await visit(server)"},
    ),
    "docs/howto/browsers.md": Run(after={1: "config.validate()"}),
    "docs/howto/certificates.md": Run(
        after={
            1: "assert os.path.exists(keyfile)",
            2: "async with WebTransportClient(config=config) as c, c.connect(url): pass",
            3: "config.validate(); assert config.bind_port == 443",
            4: "config.validate()",
        }
    ),
    "docs/howto/backpressure.md": Run(
        after={
            1: """
                await upload(session, bytes(200_000))
                """,
            2: """
                stream, updates = await session.create_unidirectional_stream(), asyncio.Queue()
                feeding = asyncio.create_task(feed(stream, updates))
                await updates.put(b"update")
                await until(lambda: stream.bytes_sent == 6)
                stream.reset()
                await feeding
                """,
        }
    ),
    "docs/howto/configuration.md": Run(
        after={
            1: "assert (quick.connect_timeout, both.read_timeout) == (1, 10); server.validate()",
            3: "assert 'did you mean connect_timeout' in str(caught)",
        },
        replace={"print(error)": "caught = error; print(error)"},
    ),
    "docs/howto/datagrams.md": Run(
        replace={"duration=5.0": "duration=0.1"},
        after={
            1: "assert update == b'position 4 7'; session = await client.connect(url + 'reliable')",
            2: "assert answer == b'move pawn e2 e4'; session = await client.connect(url)",
            3: "assert result['throughput_dps'] > 0",
        },
    ),
    "docs/howto/debugging.md": Run(
        after={
            1: "setup_logging(level='WARNING')",
            2: """
                config = config.update(server_certificate_hashes=[certificate_hash])
                async with WebTransportClient(config=config) as c, c.connect(url): pass
                assert os.path.getsize("session.keylog") > 0
                """,
        }
    ),
    "docs/howto/events.md": Run(after={1: "await main()"}),
    "docs/howto/media.md": Run(
        after={
            2: """
                for receive in (newest, one_after_the_other):
                    near = await client.connect(url + "frame")
                    await stream_video(near, pictures(b"one"))
                    assert [frame.data for frame in await receive(near)] == [b"one"]
                """,
        },
        before="""
            async def pictures(*data):
                for picture in data:
                    yield picture
            """,
    ),
    "docs/howto/numpy.md": Run(
        after={
            1: """
                sent = numpy.arange(6, dtype=numpy.float32).reshape(2, 3)
                await send_gradient(session, sent)
                assert (await receive_gradient(session, (2, 3)) == sent).all()
                """,
        }
    ),
    "docs/howto/monitoring.md": Run(
        replace={"https://example.org/chat": "{url}"},
        after={
            1: """
                serving = asyncio.create_task(serve(fresh_app))
                await until(lambda: fresh_app.server.is_serving)
                await fresh_app.server.close()
                await serving
                """,
            2: "await session.close(); await rpc.close()",
            3: "await pool.close(); await reconnecting.close(); await calls.close()",
        },
    ),
    "docs/howto/pooling.md": Run(
        after={
            1: """
                base = ClientConfig
                ClientConfig = lambda: base(server_certificate_hashes=[certificate_hash])
                assert await ask_often(url, [b"a", b"b"]) == [b"a", b"b"]
                """,
            2: """
                ClientConfig = lambda: base(server_certificate_hashes=[certificate_hash])
                assert await many_sessions(url) == 5
                """,
        }
    ),
    "docs/howto/reconnecting.md": Run(
        after={
            1: """
                watching = asyncio.create_task(watch(session))
                for one in app.server.sessions:
                    one.drain()
                await watching
                """,
            2: """
                config = ClientConfig(server_certificate_hashes=[certificate_hash])
                async with watched(url, config) as reconnecting:
                    assert await reconnecting.get_session(wait_timeout=20)
                """,
        }
    ),
    "docs/howto/short-forms.md": Run(
        after={
            1: "assert answer == b'hello'",
            4: """
                async with client.connect(url + "shout") as shouting:
                    stream = await shouting.create_bidirectional_stream()
                    await stream.write_all("hello")
                    assert await stream.read_all() == b"HELLO"
                """,
        }
    ),
    "docs/howto/routing.md": Run(
        after={
            5: """
                from pywebtransport.testing import serve as serve_app
                async with serve_app(app) as own, own.client() as guest:
                    async with guest.connect(own.url + "/room/caf%C3%A9?language=fr") as inside:
                        assert await inside.datagrams.receive() == "café, fr".encode()
                    async with guest.connect(own.url + "/v2/feed/news") as inside:
                        assert await inside.datagrams.receive() == b"news, version 2"
                    async with guest.connect(own.url + "/louder") as inside:
                        await inside.datagrams.send(b"hello")
                        assert await inside.datagrams.receive() == b"HELLO"
                """,
        }
    ),
    # tests/integration/test_pytest_plugin.py gives the whole page to pytest.
    "docs/howto/testing.md": Run(
        after={
            1: "await test_streams_come_back()",
            2: "await test_positions_may_be_lost()",
            3: "await asyncio.to_thread(test_a_dead_path_is_noticed)",
        }
    ),
    "docs/howto/websockets.md": Run(
        after={
            1: """
                async with client.connect(url + "shout") as shouting:
                    stream = await shouting.create_unidirectional_stream()
                    await stream.write_all("hello")
                    answers = aiter(shouting.incoming_unidirectional_streams())
                    assert await (await anext(answers)).read_all() == b"HELLO"
                """
        }
    ),
    "docs/reference/connection.md": Run(
        after={
            1: """
                async with ConnectionPool() as pool:
                    assert await ask(pool, client.config, port, b"how?") == b"how?"
                """
        }
    ),
}


@dataclass
class Program:
    """A block that is a whole program, for a process of its own.

    Attributes:
        before: What the page calls given.
        replace: As in ``Run``; ``{port}`` is a free port.
        signal: What ends it once a client was served; None for one that ends by itself.
        printed: What it prints.
    """

    before: str
    replace: dict[str, str] = field(default_factory=dict)
    signal: int | None = None
    printed: str = ""


CONFIG = """
import asyncio
from pywebtransport import EventType, ServerApp, ServerConfig
from pywebtransport.server import create_echo_server_app, echo_handler
config = ServerConfig(
    certfile="fullchain.pem", keyfile="privkey.pem", bind_port={port}, workers=2, access_log=False
)
app = create_echo_server_app(config=config.update(workers=1))

async def answer(event):
    event.data["session"].accept()
    await echo_handler(event.data["session"])
"""

PROGRAMS = {
    ("docs/howto/deployment.md", 2): Program(
        CONFIG, {"port=443, workers=8": "port={port}, workers=2"}, signal.SIGTERM
    ),
    ("docs/howto/deployment.md", 3): Program(CONFIG, signal=signal.SIGTERM),
    ("docs/howto/uvloop.md", 1): Program(CONFIG, {"port=4433": "port={port}"}, signal.SIGINT),
    ("docs/howto/uvloop.md", 2): Program(
        "import asyncio\nasync def main(): print(type(asyncio.get_running_loop()).__module__)",
        printed="uvloop\n",
    ),
}


def pages_with_python() -> list[Path]:
    return [path for path in PAGES if blocks(path, "python")]


def pages_run_here() -> list[Path]:
    """The pages whose blocks are neither programs nor files that run unchanged."""
    return [
        path
        for path in pages_with_python()
        if path.name != "README.md"
        and any(
            (relative(path), number) not in PROGRAMS
            for number in range(1, len(blocks(path, "python")) + 1)
        )
    ]


def test_what_pages_are_run_with_names_blocks_that_exist() -> None:
    pages = {relative(path): path for path in pages_with_python()}
    assert set(RUNS) <= set(map(relative, pages_run_here()))
    for name, run in RUNS.items():
        assert set(run.after) <= set(range(1, len(blocks(pages[name], "python")) + 1)), name
    for name, number in PROGRAMS:
        assert number <= len(blocks(pages[name], "python")), name
    examples = {path.read_text() for path in (ROOT / "examples").glob("*.py")}
    assert set(blocks(ROOT / "README.md", "python")) <= examples | {readme_server()}


def readme_server() -> str:
    """The echo server of the README, which is no file of its own."""
    return blocks(ROOT / "README.md", "python")[0]


def test_echo_server_of_the_readme_is_short() -> None:
    assert len([line for line in readme_server().splitlines() if line.strip()]) <= 15


def test_echo_server_of_the_readme_serves_the_client_of_the_readme(tmp_path: Path) -> None:
    """Both run as they stand there, the server with another port; Ctrl-C ends it."""
    port = free_port()
    server, client = blocks(ROOT / "README.md", "python")
    options: dict[str, Any] = {
        "cwd": tmp_path,
        "env": {**os.environ, "PYTHONPATH": str(ROOT)},
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    }
    with subprocess.Popen(
        [sys.executable, "-c", server.replace("4433", str(port))], **options
    ) as process:
        try:
            assert process.stdout is not None
            url, digest = process.stdout.readline().split()
            assert url == f"https://localhost:{port}/"
            finished = subprocess.run(
                [sys.executable, "-c", client, url, digest], **options, timeout=TIMEOUT, check=False
            )
            assert (finished.returncode, finished.stderr) == (0, "")
            assert finished.stdout.splitlines() == ["b'hello, datagram'", "b'hello, stream'"]
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=TIMEOUT)
        finally:
            process.kill()
    assert (process.returncode, output) == (-signal.SIGINT, "")
    assert errors.splitlines()[-1] == "KeyboardInterrupt"
    assert "ERROR" not in errors
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def working_directory(tmp_path: Path, certs: Certificates, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the files are that pages name."""
    pair = certs.self_signed
    for name in ("fullchain.pem", "example.org.pem", "api.pem"):
        shutil.copy(pair.certfile, tmp_path / name)
    for name in ("privkey.pem", "example.org.key", "api.key"):
        shutil.copy(pair.keyfile, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


async def reliable_echo(session: WebTransportSession) -> None:
    """Both sides wrap the datagrams of their session."""
    with contextlib.suppress(WebTransportError):
        async with DatagramReliabilityLayer(session.datagrams) as layer:
            while True:
                await layer.send(await layer.receive())


async def return_frame(session: WebTransportSession) -> None:
    """Send the first frame back."""
    async with FrameReceiver(session) as receiver, FrameSender(session, deadline=5) as sender:
        sender.send((await anext(receiver)).data)
        await sender.flush()
    await session.close()


@pytest.mark.loops("asyncio")
@pytest.mark.parametrize("path", pages_run_here(), ids=relative)
async def test_python_of_a_page_runs(
    path: Path, working_directory: Path, certs: Certificates
) -> None:
    files, digest = certs.self_signed.files, certs.self_signed.hash.hex()

    def make_app() -> ServerApp:
        app = ServerApp(config=ServerConfig(**files, bind_port=0))
        app.route("/reliable")(reliable_echo)
        app.route("/frame")(return_frame)
        app.router.set_default_handler(echo_handler)
        return app

    run = RUNS.get(relative(path), Run())
    client = WebTransportClient(config=ClientConfig(server_certificate_hashes=[digest]))
    async with make_app() as app, client:
        await app.listen()
        assert app.server.local_address is not None
        port = app.server.local_address[1]
        url = f"https://localhost:{port}/"
        names: dict[str, Any] = {
            "__builtins__": builtins,  # numpy looks for them
            "app": app,
            "asyncio": asyncio,
            "certificate_hash": digest,
            "client": client,
            "fresh_app": make_app(),
            "os": os,
            "port": port,
            "session": await client.connect(url),
            "until": until,
            "url": url,
            "WebTransportClient": WebTransportClient,
        }
        await execute(run.before, names, "before")
        for number, body in enumerate(blocks(path, "python"), 1):
            if (relative(path), number) in PROGRAMS:
                continue
            for old, new in {HASH: digest, **run.replace}.items():
                body = body.replace(old, new.format(url=url, port=port))
            await execute(body, names, f"{relative(path)}:{number}")
            await execute(run.after.get(number, ""), names, f"after {relative(path)}:{number}")


async def execute(text: str, names: dict[str, Any], place: str) -> None:
    """Run statements, ``await`` among them, as a prompt of ``python -m asyncio`` does."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code = compile(textwrap.dedent(text), place, "exec", flags=flags)
    result = types.FunctionType(code, names)()
    if inspect.iscoroutine(result):
        await result


@pytest.mark.parametrize(("name", "number"), PROGRAMS, ids=str)
def test_program_of_a_page_runs(
    name: str, number: int, working_directory: Path, certs: Certificates
) -> None:
    program = PROGRAMS[name, number]
    port = free_port()
    text = program.before + "\n" + blocks(ROOT / name, "python")[number - 1]
    for old, new in {**program.replace, "{port}": str(port)}.items():
        text = text.replace(old, new)
    with subprocess.Popen(
        [sys.executable, "-c", text],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            if program.signal is not None:
                asyncio.run(ask(f"https://localhost:{port}/", certs.self_signed.hash))
                process.send_signal(program.signal)
            output, errors = process.communicate(timeout=TIMEOUT)
        finally:
            process.kill()
    assert (process.returncode, output, errors) == (0, program.printed, "")


async def ask(url: str, digest: bytes) -> None:
    """Have something echoed, as soon as the server listens."""
    config = ClientConfig(server_certificate_hashes=[digest])
    async with asyncio.timeout(TIMEOUT), WebTransportClient(config=config) as client:
        while True:
            try:
                session = await client.connect(url)
            except UnreachableError:
                continue
            stream = await session.create_bidirectional_stream()
            await stream.write_all(b"hello")
            assert await stream.read_all() == b"hello"
            return
