"""``pywebtransport serve`` with ASGI applications: what is served, TCP or not, workers, reload."""

from __future__ import annotations

import signal
import socket
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from pywebtransport._cli import main
from tests.support.command_line import Program, running

APP = "tests.support.asgi_process:application"
TARGETS = """
from tests.support.asgi_process import application
from pywebtransport import ServerApp

class Raw:
    async def __call__(self, scope, receive, send):
        await application(scope, receive, send)

raw = Raw()
plain = ServerApp()
mounted = ServerApp()
mounted.mount(application, tcp=False)

def make():
    return application

def wsgi(environ, start_response):
    return []

def old(scope):
    return None
"""


@pytest.fixture
def targets(tmp_path: Path) -> Path:
    """A directory with a module of all kinds of objects."""
    (tmp_path / "shop.py").write_text(TARGETS)
    return tmp_path


@pytest.fixture
def modules(targets: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run in that directory, in this process."""
    monkeypatch.chdir(targets)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", ["pywebtransport"])
    monkeypatch.setenv("XDG_CACHE_HOME", str(targets / "cache"))
    yield
    sys.modules.pop("shop", None)


def client(cache: Path, **options: Any) -> httpx.Client:
    """A client that trusts the development certificate."""
    file = cache / "pywebtransport" / "certificates" / "localhost.crt"
    tls = ssl.create_default_context(cafile=str(file))
    return httpx.Client(verify=tls, trust_env=False, timeout=20, **options)


def wait_for_refusal(port: int | None) -> None:
    """Wait until nobody listens on a TCP port."""
    while True:
        try:
            socket.create_connection(("127.0.0.1", port or 0)).close()
        except ConnectionRefusedError:
            return
        except ConnectionResetError:
            pass  # it was about to be accepted when the server ceased to listen


def ask(program: Program, cache: Path, **options: Any) -> tuple[dict[str, Any], httpx.Response]:
    """Read the banner, and ask who serves."""
    banner = program.read_banner()
    with client(cache, **options) as http:
        return banner, http.get(f"{banner['urls'][0]}who")


def test_an_asgi_application_is_served_over_both(tmp_path: Path) -> None:
    with running(tmp_path, "serve", APP, "--port", "0", "--json") as program:
        banner, response = ask(program, tmp_path)
        port = banner["addresses"][0][1]
        assert response.text == f"{program.pid} None"
        assert response.headers["alt-svc"] == f'h3=":{port}"; ma=86400'
        assert program.stop() == 0
    assert banner["tcp"] is True
    log = program.errors
    assert f"HTTP/1.1 and WebSocket over TCP on 127.0.0.1 port {port}" in log
    assert '"GET /who HTTP/1.1" 200' in log
    assert "Traceback" not in log
    assert "uvicorn" not in log


def test_without_tcp(tmp_path: Path) -> None:
    with running(tmp_path, "serve", APP, "--no-tcp", "--port", "0", "--json") as program:
        banner = program.read_banner()
        with client(tmp_path) as http, pytest.raises(httpx.ConnectError):
            http.get(banner["urls"][0])
        assert program.stop() == 0
    assert banner["tcp"] is False


def test_http2_and_workers(tmp_path: Path) -> None:
    words = ["serve", APP, "--http2", "--workers", "2", "--port", "0", "--json"]
    with running(tmp_path, *words) as program:
        banner, response = ask(program, tmp_path, http2=True)
        assert response.http_version == "HTTP/2"
        pid, index = response.text.split()
        assert pid != str(program.pid)
        assert index in ("0", "1")
        assert program.stop() == 0
    assert (banner["tcp"], banner["workers"]) == (True, 2)
    assert "for UDP and TCP with 2 workers" in program.errors


def test_a_server_app_decides_itself_and_options_decide_for_it(targets: Path) -> None:
    words = ["serve", "shop:mounted", "--port", "0", "--json"]
    with running(targets, *words, cwd=targets) as program:
        assert program.read_banner()["tcp"] is False
        assert program.stop() == 0
    with running(targets, *words, "--tcp", cwd=targets) as program:
        banner, response = ask(program, targets)
        assert (banner["tcp"], response.status_code) == (True, 200)
        assert program.stop() == 0


def test_reload_serves_the_changed_application(targets: Path) -> None:
    words = ["serve", "shop:make", "--factory", "--reload", "--port", "0", "--json"]
    with running(targets, *words, cwd=targets) as program:
        first, response = ask(program, targets)
        assert response.status_code == 200
        changed = TARGETS.replace(
            "    return application",
            "    async def app(scope, receive, send):\n"
            "        await send({'type': 'http.response.start', 'status': 418})\n"
            "        await send({'type': 'http.response.body'})\n"
            "    return app",
        )
        (targets / "shop.py").write_text(changed)
        second, response = ask(program, targets)
        assert response.status_code == 418
        assert first["tcp"] is second["tcp"] is True
        assert program.stop(signal.SIGINT) == 0


def test_the_banner_names_both_transports_and_a_request_finishes(tmp_path: Path) -> None:
    sign = tmp_path / "go-on"
    with running(tmp_path, "serve", APP, "--port", "0") as program:
        lines = [program.read_line() for _ in range(8)]
        url = lines[1].split()[1]
        with (
            client(tmp_path) as http,
            http.stream("GET", f"{url}wait?{sign}") as response,
        ):
            program.send_signal(signal.SIGTERM)
            wait_for_refusal(urlsplit(url).port)
            sign.touch()
            assert response.read() == f"{program.pid} None".encode()
        assert program.join() == 0
    assert lines[2].split(maxsplit=1) == [
        "protocols",
        "HTTP/3 and WebTransport over UDP; HTTP/1.1 and WebSocket over TCP",
    ]
    assert lines[6].split()[:4] == ["try", "it", "curl", "--cacert"]


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("shop:wsgi", "wrap it in asgiref.wsgi.WsgiToAsgi"),
        ("shop:old", "wrap it in asgiref.compatibility.guarantee_single_callable"),
        ("shop:Raw", "not a class; name an object of this class"),
        ("shop:make", "use --factory"),
        ("shop:plain --tcp", "shop:plain: no ASGI application is mounted, so there is nothing"),
        ("shop:plain --http2", "nothing to serve over TCP"),
    ],
)
def test_what_cannot_be_served_is_named(
    words: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", *words.split(), "--port", "0"]) == 2
    captured = capsys.readouterr()
    assert text in captured.err
    assert captured.err.startswith("pywebtransport serve: error: shop:")
    assert "Traceback" not in captured.err


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize(
    ("module", "option", "command"),
    [
        ("uvicorn", "--tcp", 'or in a checkout of pywebtransport: pip install ".[asgi]"'),
        ("hypercorn", "--http2", 'pip install "hypercorn'),
    ],
)
def test_a_missing_package_is_named(
    module: str,
    option: str,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["serve", "shop:raw", option, "--port", "0"]) == 2
    text = capsys.readouterr().err
    assert f"{module} cannot be imported: " in text
    assert command in text
    assert text.endswith("or serve HTTP/3 alone with --no-tcp\n")


def test_http2_without_tcp_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["serve", APP, "--http2", "--no-tcp"])
    assert caught.value.code == 2
    assert "--http2 needs TCP" in capsys.readouterr().err
