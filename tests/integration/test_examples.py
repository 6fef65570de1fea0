"""The programs of ``examples/`` run, and print what the documentation says they print."""

import asyncio
import importlib.util
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from pywebtransport import ClientConfig, WebTransportClient, WebTransportSession
from pywebtransport.exceptions import UnreachableError
from pywebtransport.stream.utils import echo_stream
from pywebtransport.utils import certificate_hash
from tests.support.certificates import Certificates
from tests.support.endpoints import ClientFactory, ServerFactory, Serving
from tests.support.ports import free_port
from tests.support.udp_proxy import UdpProxy

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
TIMEOUT = 60.0


def load(path: Path) -> ModuleType:
    """Import an example without running it as a program."""
    specification = importlib.util.spec_from_file_location(f"example_{path.stem}", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh directory: examples leave their certificate where they run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["example"])
    return tmp_path


@pytest.mark.parametrize("server_file", ["echo_server.py", "browser/browser_echo.py"])
async def test_echo_client_prints_what_it_sent(
    server_file: str, working_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = load(EXAMPLES / server_file)
    client = load(EXAMPLES / "echo_client.py")
    async with server.app as app:
        await app.listen(host="localhost", port=0)
        url = f"https://localhost:{app.server.local_address[1]}/echo"
        await client.main(url, certificate_hash(server.certfile).hex())
    assert capsys.readouterr().out.splitlines() == ["b'hello, datagram'", "b'hello, stream'"]


async def test_reconnecting_client_restores_its_state(
    serving: Serving, certs: Certificates, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each session answers the log-in and one question; then the server ends it."""

    async def handler(session: WebTransportSession) -> None:
        streams = aiter(session.incoming_bidirectional_streams())
        for _ in range(2):
            await echo_stream(stream=await anext(streams))
        await session.close(reason="restart", close_connection=False)

    client = load(EXAMPLES / "reconnecting_client.py")
    async with serving(handler, **certs.self_signed.files) as served:
        await client.main(served.url(), certs.self_signed.hash.hex())
    lines = capsys.readouterr().out.splitlines()
    one = ["this is Ada", "one", "lost: restart"]
    two = ["this is Ada", "two", "lost: restart"]
    assert lines[:8] == [*one, *two, "this is Ada", "three"]


async def test_forwarder_relays_the_echo_server(
    working_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = load(EXAMPLES / "echo_server.py")
    forwarder = load(EXAMPLES / "forwarder.py")
    client = load(EXAMPLES / "echo_client.py")
    digest = certificate_hash(server.certfile).hex()
    async with server.app as back:
        await back.listen(host="localhost", port=0)
        upstream = f"https://localhost:{back.server.local_address[1]}"
        async with forwarder.make_app(upstream, digest, server.certfile, server.keyfile) as front:
            await front.listen(host="localhost", port=0)
            url = f"https://localhost:{front.server.local_address[1]}/echo"
            await client.main(url, digest)
    assert capsys.readouterr().out.splitlines() == ["b'hello, datagram'", "b'hello, stream'"]


async def test_proxy_client_prints_what_it_sent(
    working_directory: Path,
    capsys: pytest.CaptureFixture[str],
    server_config: ServerFactory,
    client_config: ClientFactory,
) -> None:
    server = load(EXAMPLES / "echo_server.py")
    client = load(EXAMPLES / "proxy_client.py")
    target = ClientConfig(server_certificate_hashes=[certificate_hash(server.certfile)])
    async with server.app as app, UdpProxy(server_config()) as proxy:
        await app.listen(host="localhost", port=0)
        await proxy.listen()
        url = f"https://localhost:{app.server.local_address[1]}/echo"
        await client.main(proxy.url, url, client_config(), target)
        await proxy.close(drain_timeout=0)
    assert capsys.readouterr().out.splitlines() == ["b'hello, datagram'", "b'hello, stream'"]


def test_echo_server_runs_as_a_program_and_ends_on_interrupt(
    working_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client = load(EXAMPLES / "echo_client.py")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    port = free_port()
    with subprocess.Popen(
        [sys.executable, str(EXAMPLES / "echo_server.py"), str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            match = re.fullmatch(rf"(https://localhost:{port}/echo) ([0-9a-f]{{64}})\n", line)
            assert match is not None, line

            async def run() -> None:
                async with asyncio.timeout(TIMEOUT):
                    while True:  # it prints its address just before it listens
                        try:
                            await client.main(match[1], match[2])
                        except UnreachableError:
                            continue
                        return

            asyncio.run(run())
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=TIMEOUT)
        finally:
            process.kill()
    assert process.returncode == 0
    assert output == ""
    assert [line for line in errors.splitlines() if "ERROR" in line or "Traceback" in line] == []
    assert capsys.readouterr().out.splitlines() == ["b'hello, datagram'", "b'hello, stream'"]


READ_INPUT = """
import asyncio, runpy, sys
program = runpy.run_path(sys.argv.pop(1))
async def read():
    return [line async for line in program[sys.argv.pop(1)]()]
print(asyncio.run(read()))
"""


@pytest.mark.parametrize(
    ("kind", "text"), [("null", ""), ("file", ""), ("file", "one\ntwo"), ("pipe", "one\ntwo\n")]
)
@pytest.mark.parametrize(
    ("program", "function"),
    [
        ("chat.py", "standard_input"),
        ("shared_room.py", "typed_lines"),
        ("structured_chat.py", "typed_lines"),
    ],
)
def test_chats_read_any_standard_input_to_its_end(
    program: str, function: str, kind: str, text: str, working_directory: Path
) -> None:
    """Of a file and of /dev/null, too, which the event loop cannot wait for."""
    path = Path(os.devnull) if kind == "null" else working_directory / "input.txt"
    if kind != "null":
        path.write_text(text)
    with path.open() as file:
        finished = subprocess.run(
            [sys.executable, "-c", READ_INPUT, str(EXAMPLES / program), function],
            **({"input": text} if kind == "pipe" else {"stdin": file}),
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    assert (finished.stdout.rstrip(), finished.stderr) == (repr(text.splitlines()), "")


def test_demo_checks_everything_and_ends_with_zero() -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "examples.demo"],
        cwd=ROOT,
        env={**os.environ, "DEMO_SIZE": "3MiB"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    for check in (
        "session open",
        "datagram echo",
        "bidirectional stream echo",
        "unidirectional stream echo",
        "ping-pong",
        "upload, 3 MiB, checksum verified",
        "download, 3 MiB, checksum verified",
        "server process ended with exit code 0",
    ):
        assert check in finished.stdout


def test_demo_says_what_is_wrong_with_its_size() -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "examples.demo"],
        cwd=ROOT,
        env={**os.environ, "DEMO_SIZE": "lots"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert finished.returncode == 2
    assert "size 'lots': expected a number like" in finished.stderr


def test_workers_example_serves_with_two_processes(working_directory: Path) -> None:
    port = free_port()
    with subprocess.Popen(
        [sys.executable, str(EXAMPLES / "workers.py"), str(port), "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        try:
            assert process.stdout is not None
            url, digest = process.stdout.readline().split()
            answers = asyncio.run(ask_who(url, digest))
            process.send_signal(signal.SIGTERM)
            output, errors = process.communicate(timeout=TIMEOUT)
        finally:
            process.kill()
    assert (process.returncode, output, errors) == (0, "", "")
    # All on one of two: 2 * 2**-40.
    assert {answer.split(",")[0] for answer in answers} == {"worker 0", "worker 1"}
    assert len(set(answers)) == 2


async def ask_who(url: str, digest: str) -> list[str]:
    """What 40 sessions are told."""
    config = ClientConfig(server_certificate_hashes=[bytes.fromhex(digest)])
    async with WebTransportClient(config=config) as client:

        async def one() -> str:
            async with client.connect(url) as session:
                stream = await session.create_bidirectional_stream()
                await stream.close()
                return (await stream.read_all()).decode()

        while True:
            try:
                first = await one()
                break
            except UnreachableError:
                continue  # it does not listen yet
        return [first, *await asyncio.gather(*(one() for _ in range(39)))]
