"""``pywebtransport serve``: banner, certificate, log, workers, reload, signals, errors."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pywebtransport import ServerApp, connect
from pywebtransport._cli import main
from pywebtransport.exceptions import ConfigurationError, SessionRejectedError
from pywebtransport.server import run_workers
from pywebtransport.utils import certificate_hash
from tests.support.certificates import Certificates
from tests.support.command_line import APP, ROOT, running

FACTORY = "pywebtransport.server:create_echo_server_app"


async def echo(banner: dict[str, Any], path: str = "") -> bytes:
    """Open a session by what the banner says, and echo a stream."""
    pin = banner["certificate"]["sha256"]
    async with connect(f"{banner['urls'][0]}{path}", server_certificate_hashes=[pin]) as session:
        stream = await session.create_bidirectional_stream()
        await stream.write_all(b"hello")
        return await stream.read_all()


def test_the_banner_has_all_that_a_client_needs_and_the_log_shows_requests(tmp_path: Path) -> None:
    with running(tmp_path, "serve", APP, "--port", "0", "--json") as program:
        banner = program.read_banner()
        assert asyncio.run(echo(banner, "echo")) == b"hello"
        pin = banner["certificate"]["sha256"]
        url = f"{banner['urls'][0]}forbidden"
        with pytest.raises(SessionRejectedError):
            asyncio.run(_open(url, pin))
        assert program.stop() == 0
    assert banner["development"] is True
    assert banner["workers"] == 1
    assert banner["certificate"]["key"] == "ECDSA P-256"
    assert f'new WebTransport("{banner["urls"][0]}"' in banner["javascript"]
    log = program.errors
    assert re.search(r'INFO pywebtransport\.access: \S+ "CONNECT /echo" 200 [\d.]+ms origin=-', log)
    assert '"CONNECT /forbidden" 403' in log
    assert "rejected /forbidden with status 403: the application refused it" in log
    assert "Traceback" not in log


async def _open(url: str, pin: str) -> None:
    async with connect(url, server_certificate_hashes=[pin]):
        pass


async def _wait_for_the_end(url: str, pin: str) -> None:
    async with connect(url, server_certificate_hashes=[pin]) as session:
        await session.wait_closed()


def test_the_development_certificate_is_kept_while_it_is_valid(tmp_path: Path) -> None:
    found = []
    for options in (["--json"], []):
        with running(tmp_path, "serve", FACTORY, "--factory", "--port", "0", *options) as program:
            if options:
                found.append(program.read_banner()["certificate"]["sha256"])
            else:
                lines = [program.read_line() for _ in range(7)]
            assert program.stop(signal.SIGINT) == 0
    directory = tmp_path / "pywebtransport" / "certificates"
    assert certificate_hash(directory / "localhost.crt").hex() == found[0]
    assert stat.S_IMODE((directory / "localhost.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    title, url, certificate, digest, script, hint, last = lines
    assert title.endswith(f"serves {FACTORY}")
    assert re.fullmatch(r"  URL +https://localhost:\d+/", url)
    assert "for development, localhost, 127.0.0.1, ::1; valid until" in certificate
    assert digest.split() == ["SHA-256", found[0]]
    assert script.startswith("  JavaScript   const session = new WebTransport(")
    assert hint.endswith("--dev")
    assert last == "Press Ctrl-C to stop."


def test_a_given_certificate_is_used(tmp_path: Path, certs: Certificates) -> None:
    files = ["--certfile", certs.server.certfile, "--keyfile", certs.server.keyfile]
    options = ["--port", "0", "--host", "127.0.0.1", "--json", "--json-logs"]
    with running(tmp_path, "serve", APP, *files, *options) as program:
        banner = program.read_banner()
        assert banner["certificate"]["sha256"] == certs.server.hash.hex()
        assert banner["development"] is False
        assert banner["urls"][0].startswith("https://127.0.0.1:")
        asyncio.run(echo(banner, "echo"))
        with pytest.raises(SessionRejectedError):
            asyncio.run(_open(f"{banner['urls'][0]}forbidden", certs.server.hash.hex()))
        asyncio.run(_wait_for_the_end(f"{banner['urls'][0]}failing", certs.server.hash.hex()))
        assert program.stop() == 0
    assert not (tmp_path / "pywebtransport").exists()
    records = [json.loads(line) for line in program.errors.splitlines()]
    assert {"time", "level", "logger", "message", "process"} <= records[0].keys()
    accesses = [item for item in records if item["logger"] == "pywebtransport.access"]
    assert [item["status"] for item in accesses] == [200, 403, 200]
    access = accesses[0]
    assert (access["path"], access["status"], access["process"]) == ("/echo", 200, program.pid)
    assert access["client"].startswith("127.0.0.1:")
    assert access["duration_ms"] >= 0
    (refused,) = [item for item in records if "reason" in item]
    assert (refused["path"], refused["status"]) == ("/forbidden", 403)
    assert (refused["reason"], refused["level"]) == ("the application refused it", "INFO")
    (failed,) = [item for item in records if "exception" in item]
    assert (failed["path"], failed["level"]) == ("/failing", "ERROR")
    assert "RuntimeError: no session today" in failed["exception"]


def test_workers_share_one_banner(tmp_path: Path) -> None:
    with running(tmp_path, "serve", APP, "--port", "0", "--workers", "2", "--json") as program:
        banner = program.read_banner()
        assert banner["workers"] == 2
        assert asyncio.run(echo(banner, "echo")) == b"hello"
        assert program.stop() == 0
    assert program.output.count("\n") == 1
    assert "with 2 workers" in program.errors


@pytest.mark.loops("asyncio")
async def test_sigterm_lets_sessions_finish(tmp_path: Path) -> None:
    with running(tmp_path, "serve", APP, "--port", "0", "--json") as program:
        banner = await asyncio.to_thread(program.read_banner)
        pin = banner["certificate"]["sha256"]
        url = f"{banner['urls'][0]}echo"
        async with connect(url, server_certificate_hashes=[pin]) as session:
            program.send_signal(signal.SIGTERM)
            assert await session.wait_draining()
            stream = await session.create_bidirectional_stream()
            await stream.write_all(b"still here")
            assert await stream.read_all() == b"still here"
        assert await asyncio.to_thread(program.join) == 0


def test_reload_starts_again_after_a_change(tmp_path: Path) -> None:
    """The certificate stays; a module that is broken for a while does not end it."""
    module = tmp_path / "shop.py"
    module.write_text(
        f"from {FACTORY.partition(':')[0]} import *\napp = create_echo_server_app()\n"
    )
    (tmp_path / "itself.py").symlink_to("itself.py")
    options = ["--port", "0", "--reload", "--json"]
    with running(tmp_path, "serve", "shop:app", *options, cwd=tmp_path) as program:
        first = program.read_banner()
        assert asyncio.run(echo(first)) == b"hello"
        module.write_text("import nothing_of_that_name\n")
        program.wait_for_error(r"shop\.py changed: starting the server again")
        program.wait_for_error("importing shop failed: ModuleNotFoundError")
        program.wait_for_error("the server ended with status 1; waiting for a change")
        module.write_text("from tests.support.command_line_app import app\n")
        second = program.read_banner()
        assert asyncio.run(echo(second, "echo")) == b"hello"
        assert second["certificate"] == first["certificate"]
        # Its output ends with the last process that has it.
        assert program.stop(signal.SIGINT) == 0
    assert "Traceback" not in program.errors


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory for modules, whose traces are removed."""
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", ["pywebtransport"])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield tmp_path
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == tmp_path:
            del sys.modules[name]


@pytest.mark.parametrize(
    ("target", "status", "text"),
    [
        ("shop", 2, "expected MODULE:NAME, such as shop:app"),
        ("shop.py", 2, "a module, not a file"),
        ("nowhere:app", 2, "there is no module 'nowhere' in "),
        ("shop:nothing", 2, "module 'shop' has no 'nothing'"),
        ("shop:number", 2, "expected a ServerApp or an ASGI application, not a int"),
        ("shop:make", 2, "use --factory"),
        ("shop:number --factory", 2, "it is no function that --factory could call"),
        ("shop:failing --factory", 1, "RuntimeError: no application today"),
        ("broken:app", 1, "importing broken failed: ZeroDivisionError: division by zero"),
        ("ending:app", 1, "importing ending ended the program with status 3"),
        ("lacking:app", 1, "importing lacking failed: ModuleNotFoundError"),
        ("wrong:app", 1, "SyntaxError"),
        ("startup:app", 1, "startup:app failed: ValueError: not today ("),
    ],
)
def test_what_cannot_be_served_is_named(
    modules: Path, target: str, status: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (modules / "shop.py").write_text("from tests.support.command_line_app import *\n")
    (modules / "broken.py").write_text("1 / 0\n")
    (modules / "ending.py").write_text("import sys\nsys.exit(3)\n")
    (modules / "lacking.py").write_text("import nothing_of_that_name\n")
    (modules / "wrong.py").write_text("def\n")
    (modules / "startup.py").write_text(
        "from pywebtransport import ServerApp\napp = ServerApp()\n@app.on_startup\n"
        "def fail():\n    raise ValueError('not today')\n"
    )
    assert main(["serve", *target.split(), "--port", "0"]) == status
    captured = capsys.readouterr()
    assert text in captured.err
    assert captured.err.startswith("pywebtransport serve: error: ")
    assert "Traceback" not in captured.err


def test_a_port_that_is_taken(modules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        words = ["serve", FACTORY, "--factory", "--host", "127.0.0.1"]
        assert main([*words, "--port", str(taken.getsockname()[1])]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""  # no banner of a server that does not listen
    assert "in use" in captured.err


@pytest.mark.parametrize(
    "options",
    [
        ["--certfile", "x"],
        ["--keyfile", "x"],
        ["--port", "70000"],
        ["--workers", "x"],
        ["--reload", "--workers", "2"],
        ["--log-level", "loud"],
        ["--nonsense"],
    ],
    ids=" ".join,
)
def test_wrong_options_are_refused(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["serve", "shop:app", *options])
    assert caught.value.code == 2
    assert "usage: pywebtransport" in capsys.readouterr().err


def test_on_listening_has_to_be_a_function(certs: Certificates) -> None:
    app = ServerApp()
    with pytest.raises(ConfigurationError, match="on_listening = 3"):
        app.run(on_listening=3, **certs.server.files)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="on_listening = 'x'"):
        run_workers(_nothing, config=app.server.config, on_listening="x")  # type: ignore[arg-type]


def test_an_exception_of_on_listening_ends_the_server(certs: Certificates) -> None:
    found: list[Any] = []

    def refuse(addresses: list[Any]) -> None:
        found.append(addresses)
        raise LookupError("not here")

    app = ServerApp()
    with pytest.raises(LookupError, match="not here"):
        app.run(host="127.0.0.1", port=0, on_listening=refuse, **certs.server.files)
    assert [[host for host, _ in addresses] for addresses in found] == [["127.0.0.1"]]
    assert not app.server.is_serving
    program = (
        "import sys\nfrom pywebtransport import ServerApp\n"
        "ServerApp().run(host='127.0.0.1', port=0, workers=2, certfile=sys.argv[1],"
        " keyfile=sys.argv[2], on_listening=lambda addresses: 1 / 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *certs.server.files.values()],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


def test_sockets_of_systemd_are_in_the_banner(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as passed:
        passed.bind(("127.0.0.1", 0))
        port = passed.getsockname()[1]
        starter = (
            "import os, sys\nos.dup2(int(sys.argv[1]), 3)\n"
            "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))\n"
            "os.execv(sys.executable, [sys.executable, '-m', 'pywebtransport', *sys.argv[2:]])\n"
        )
        words = ["serve", APP, "--host", "localhost", "--port", "1", "--json"]
        with running(
            tmp_path,
            str(passed.fileno()),
            *words,
            program=("-c", starter),
            pass_fds=(passed.fileno(),),
        ) as program:
            banner = program.read_banner()
            assert banner["urls"] == [f"https://127.0.0.1:{port}/"]
            assert asyncio.run(echo(banner, "echo")) == b"hello"
            assert program.stop() == 0


async def _nothing() -> None:
    raise AssertionError("no worker may start")
