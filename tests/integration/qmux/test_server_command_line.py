"""``pywebtransport serve --websocket``."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest

from tests.support.command_line import APP, Program, running

ASGI = "tests.support.asgi_process:application"


def answer_of(program: Program, cache: Path, port: int, path: str) -> bytes:
    """What the server answers over TCP."""
    file = cache / "pywebtransport" / "certificates" / "localhost.crt"
    tls = ssl.create_default_context(cafile=str(file))
    with (
        socket.create_connection(("127.0.0.1", port)) as sock,
        tls.wrap_socket(sock, server_hostname="localhost") as connection,
    ):
        connection.sendall(f"GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: connection.recv(4096), b""))


@pytest.mark.parametrize(
    ("target", "options", "spoken", "status"),
    [
        (APP, (), "WebTransport in WebSockets", b"404"),
        (ASGI, (), "HTTP/1.1 and WebSocket, WebTransport in WebSockets", b"200"),
        (ASGI, ("--no-tcp",), "WebTransport in WebSockets", b"404"),
        (APP, ("--workers", "2"), "WebTransport in WebSockets", b"404"),
    ],
    ids=["sessions", "an application", "no pages", "workers"],
)
def test_the_banner_tells_what_is_served_over_tcp(
    tmp_path: Path, target: str, options: tuple[str, ...], spoken: str, status: bytes
) -> None:
    with running(tmp_path, "serve", target, "--port", "0", "--websocket", *options) as program:
        port = int(program.wait_for(r"URL +https://localhost:(\d+)/")[1])
        line = program.wait_for("protocols").string
        assert line.endswith(f"over UDP; {spoken} over TCP\n")
        program.wait_for("Ctrl-C")
        assert answer_of(program, tmp_path, port, "/who").split()[1] == status
        assert program.stop() == 0
