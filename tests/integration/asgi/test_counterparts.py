"""HTTP/3 clients of others: libcurl (BoringSSL), niquests (qh3), aioquic, and ngtcp2's own.

On one port with TCP, libcurl and niquests go from TCP to HTTP/3 by ``alt-svc``.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import niquests
import pytest

from pywebtransport import ServerApp
from tests.support.asgi import Stage
from tests.support.certificates import Certificates
from tests.support.endpoints import make_server_config
from tests.support.steps import until

from .clients import AioquicClient, Request, WebSocket, perform
from .probe import Probe

pytestmark = [pytest.mark.loops("asyncio")]

BODY = bytes(range(256)) * 391  # 100 kB
# CURLALTSVC_H1, _H2 and _H3.
EVERY_VERSION = 1 << 3 | 1 << 4 | 1 << 5
TIMEOUT = 30.0


async def digest(scope: Any, receive: Any, send: Any) -> None:
    """Answer with method, version, size and hash of the body, in three pieces."""
    body = b""
    while True:
        event = await receive()
        body += event["body"]
        if not event["more_body"]:
            break
    words = [scope["method"], scope["http_version"], str(len(body)), _hash(body)]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-kind", b"test")]})
    for word in words[:-1]:
        piece = f"{word} ".encode()
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": words[-1].encode()})


def _hash(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@asynccontextmanager
async def serving(certs: Certificates, app: Any, *, tcp: bool = False) -> AsyncIterator[ServerApp]:
    """Our server, with or without TCP."""
    ours = ServerApp(config=make_server_config(certs))
    ours.mount(app, lifespan="off", tcp=tcp)
    async with ours:
        await ours.listen()
        try:
            yield ours
        finally:
            await ours.server.close(drain_timeout=0)


@asynccontextmanager
async def served(certs: Certificates, app: Any, *, tcp: bool = False) -> AsyncIterator[int]:
    """The same; yields its port."""
    async with serving(certs, app, tcp=tcp) as ours:
        yield ours.server.port


async def curl(request: Request, port: int, version: str, certs: Certificates, **more: Any) -> Any:
    """One request of libcurl in a thread."""
    cafile = certs.authority.certfile
    return await asyncio.to_thread(perform, request, port, version, cafile, **more)


async def test_libcurl_speaks_http3(certs: Certificates) -> None:
    async with served(certs, digest) as port:
        answer = await curl(Request("/"), port, "3", certs)
        assert (answer.status, answer.version) == (200, "3")
        assert answer.body == f"GET 3 0 {_hash(b'')}".encode()
        answer = await curl(Request("/", "POST", body=BODY), port, "3", certs)
        assert answer.body == f"POST 3 {len(BODY)} {_hash(BODY)}".encode()
        assert (b"x-kind", b"test") in answer.lines
        answer = await curl(Request("/", "HEAD"), port, "3", certs)
        assert (answer.status, answer.body) == (200, b"")


async def test_libcurl_follows_alt_svc_from_tcp(certs: Certificates, tmp_path: Path) -> None:
    cache = {"ALTSVC": str(tmp_path / "alt-svc"), "ALTSVC_CTRL": EVERY_VERSION}
    async with served(certs, digest, tcp=True) as port:
        answer = await curl(Request("/"), port, "1.1", certs, **cache)
        assert answer.version == "1.1"
        assert dict(answer.lines)[b"alt-svc"] == f'h3=":{port}"; ma=86400'.encode()
        answer = await curl(Request("/"), port, "any", certs, **cache)
        assert answer.version == "3"
        assert b"alt-svc" not in dict(answer.lines)
        assert answer.body.startswith(b"GET 3 ")


def _niquests(port: int, certs: Certificates, count: int, **options: Any) -> list[tuple[str, str]]:
    """Versions and bodies of some requests of one session."""
    with niquests.Session(**options) as session:
        if options:
            assert session.quic_cache_layer is not None
            session.quic_cache_layer.add_domain("localhost", port)
        found = []
        for _ in range(count):
            answer = session.post(
                f"https://localhost:{port}/",
                data=BODY,
                verify=certs.authority.certfile,
                timeout=TIMEOUT,
            )
            assert answer.status_code == 200
            assert answer.conn_info is not None
            assert answer.conn_info.http_version is not None
            found.append((answer.conn_info.http_version.value, answer.text or ""))
        return found


async def test_niquests_speaks_http3(certs: Certificates) -> None:
    async with served(certs, digest) as port:
        only = {"disable_http1": True, "disable_http2": True, "disable_ipv6": True}
        found = await asyncio.to_thread(_niquests, port, certs, 2, **only)
    assert found == [("HTTP/3.0", f"POST 3 {len(BODY)} {_hash(BODY)}")] * 2


async def test_niquests_follows_alt_svc_from_tcp(certs: Certificates) -> None:
    async with served(certs, digest, tcp=True) as port:
        found = await asyncio.to_thread(_niquests, port, certs, 3)
    assert [version for version, _ in found] == ["HTTP/1.1", "HTTP/3.0", "HTTP/3.0"]
    assert {text.split()[-1] for _, text in found} == {_hash(BODY)}


async def test_aioquic_gets_and_posts_on_one_connection(certs: Certificates) -> None:
    async with (
        served(certs, digest) as port,
        AioquicClient.connected(port, certs.authority.certfile) as client,
    ):
        answers = await asyncio.gather(
            client.fetch("GET", "/"),
            client.fetch("POST", "/", BODY),
            client.fetch("POST", "/", BODY[:1]),
        )
    for (lines, body), sent in zip(answers, (b"", BODY, BODY[:1]), strict=True):
        assert dict(lines)[b":status"] == b"200"
        assert body.split()[2:] == [str(len(sent)).encode(), _hash(sent).encode()]


async def test_aioquic_opens_a_websocket(certs: Certificates) -> None:
    """RFC 9220."""
    async with (
        served(certs, Probe()) as port,
        WebSocket.opened("3", port, certs.authority.certfile, "/plain") as socket,
    ):
        assert socket.status == 200
        assert await socket.echo("héllo" * 20_000) == "héllo" * 20_000
        assert await socket.pong()
        await socket.close(3001, "bye")
        assert socket.closed == (3001, "bye")


async def run(*command: str, **environment: str) -> bytes:
    """What a program prints; it must succeed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )
    async with asyncio.timeout(TIMEOUT):
        output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output


async def test_client_of_ngtcp2_downloads_and_uploads(certs: Certificates, tmp_path: Path) -> None:
    program = shutil.which("gtlsclient")
    if program is None:
        pytest.skip("gtlsclient is not installed (Debian: ngtcp2-client of the backports)")
    (tmp_path / "body").write_bytes(BODY)
    async with served(certs, digest) as port:
        uri = f"https://localhost:{port}/answer"
        options = ("-q", "--exit-on-all-streams-close", f"--download={tmp_path}")
        await run(program, *options, "127.0.0.1", str(port), uri)
        assert (tmp_path / "answer").read_text() == f"GET 3 0 {_hash(b'')}"
        upload = ("-d", str(tmp_path / "body"), "-m", "POST")
        await run(program, *options, *upload, "127.0.0.1", str(port), uri)
        assert (tmp_path / "answer").read_text() == f"POST 3 {len(BODY)} {_hash(BODY)}"


PYCURL = """
import io, sys, pycurl
url, cafile = sys.argv[1:]
body = io.BytesIO()
handle = pycurl.Curl()
handle.setopt(pycurl.URL, url)
handle.setopt(pycurl.CAINFO, cafile)
handle.setopt(pycurl.HTTP_VERSION, 31)  # HTTP/3 and nothing else
handle.setopt(pycurl.POSTFIELDS, "x" * 100_000)
handle.setopt(pycurl.WRITEDATA, body)
handle.perform()
print(handle.getinfo(pycurl.RESPONSE_CODE), body.getvalue().decode())
"""


async def test_pycurl_on_gnutls_speaks_http3(certs: Certificates) -> None:
    """libcurl over ngtcp2, nghttp3 and GnuTLS, by the system's Python."""
    program = "/usr/bin/python3"
    check = "import pycurl, sys; sys.exit('nghttp3' not in pycurl.version)"
    process = await asyncio.create_subprocess_exec(
        program, "-c", check, stderr=asyncio.subprocess.DEVNULL
    )
    if await process.wait():
        pytest.skip("the system's Python has no pycurl with HTTP/3 (Debian: python3-pycurl)")
    async with served(certs, digest) as port:
        url = f"https://localhost:{port}/"
        output = await run(program, "-c", PYCURL, url, certs.authority.certfile)
    body = b"x" * 100_000
    assert output.decode() == f"200 POST 3 {len(body)} {_hash(body)}\n"


async def errors_of(app: ServerApp) -> int:
    """How many connections have ended with an error, once its one client has left."""
    await until(lambda: not app.server.connections)
    stats = await app.server.get_server_stats()
    assert stats["connections_accepted"] == 1
    return int(stats["connection_errors"])


@pytest.mark.parametrize("request_", [Request("/"), Request("/", "POST", body=BODY)])
async def test_end_of_libcurl_is_no_error(
    certs: Certificates, caplog: pytest.LogCaptureFixture, request_: Request
) -> None:
    """It ends its connections with the transport code NO_ERROR."""
    caplog.set_level(logging.DEBUG, "pywebtransport.connection")
    async with serving(certs, digest) as ours:
        answer = await curl(request_, ours.server.port, "3", certs)
        assert answer.status == 200
        assert await errors_of(ours) == 0
    assert "closed after 0 sessions" in caplog.text
    assert "with transport code 0x0" in caplog.text


@pytest.mark.parametrize("code", [0x0, 0x1])
async def test_end_by_transport_no_error_is_clean_between_requests(
    certs: Certificates, code: int
) -> None:
    """Without the acknowledgement of the response, too: aioquic sends it with the end."""
    async with serving(certs, digest) as ours:
        async with AioquicClient.connected(ours.server.port, certs.authority.certfile) as client:
            await client.fetch("GET", "/")
            client.end(code)
        assert await errors_of(ours) == (code != 0)


async def test_end_by_transport_no_error_fails_an_open_request(certs: Certificates) -> None:
    stage = Stage()
    async with serving(certs, stage) as ours:
        async with AioquicClient.connected(ours.server.port, certs.authority.certfile) as client:
            client.request(
                [
                    (b":method", b"GET"),
                    (b":scheme", b"https"),
                    (b":authority", b"localhost"),
                    (b":path", b"/"),
                ]
            )
            call = await stage.next()
            assert (await call.receive())["type"] == "http.request"
            client.end(0)
        assert (await call.receive())["type"] == "http.disconnect"
        call.end()
        assert await errors_of(ours) == 1
