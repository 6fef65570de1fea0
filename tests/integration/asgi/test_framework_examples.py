"""The examples of frameworks, started as their pages say: requests, WebSockets and sessions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pywebtransport import WebTransportClient, WebTransportSession
from pywebtransport.exceptions import SessionRejectedError
from tests.support.certificates import Certificates
from tests.support.command_line import ROOT, Program, running
from tests.support.endpoints import make_client_config
from tests.support.network import HAS_UDP

from .clients import AioquicClient, Answer, Request, WebSocket, perform

pytestmark = [pytest.mark.loops("asyncio")]

EXAMPLES = ROOT / "examples" / "frameworks"


class Example:
    """A running example.

    Attributes:
        program: Its process.
        port: Where it listens, on UDP and TCP.
    """

    def __init__(self, program: Program, port: int, cafile: str) -> None:
        self.program = program
        self.port = port
        self.cafile = cafile

    async def get(self, path: str) -> tuple[int, str]:
        """Status and body over HTTP/3; over TCP where there is no UDP."""
        return await self.fetch("GET", path)

    async def fetch(self, method: str, path: str, body: bytes = b"") -> tuple[int, str]:
        """The same for any method."""
        if not HAS_UDP:
            request = Request(path, method=method, body=body or None)
            answer = perform(request, self.port, "1.1", self.cafile)
            return answer.status, answer.body.decode()
        async with AioquicClient.connected(self.port, self.cafile) as client:
            lines, received = await client.fetch(method, path, body)
        return int(dict(lines)[b":status"]), received.decode()

    def over_tcp(self, path: str) -> Answer:
        """A request over HTTP/1.1."""
        return perform(Request(path), self.port, "1.1", self.cafile)

    async def shouts(self, path: str) -> None:
        """A WebSocket answers in capitals, over TCP and over HTTP/3."""
        for version in ("1.1", "3") if HAS_UDP else ("1.1",):
            async with WebSocket.opened(version, self.port, self.cafile, path) as socket:
                assert await socket.echo("hello") == "HELLO"
                await socket.close()


@contextmanager
def started(name: str, cache: Path, certs: Certificates) -> Iterator[Example]:
    """Run ``pywebtransport serve NAME:app`` in the directory of the examples."""
    certificate = ("--certfile", certs.server.certfile, "--keyfile", certs.server.keyfile)
    arguments = ("serve", f"{name}:app", "--host", "localhost", "--port", "0", "--json")
    with running(cache, *arguments, *certificate, cwd=EXAMPLES) as program:
        port = program.read_banner()["addresses"][0][1]
        yield Example(program, port, certs.authority.certfile)
        assert program.stop() == 0
        assert "Traceback" not in program.errors, program.errors


@pytest.fixture
def client(certs: Certificates) -> WebTransportClient:
    """Trusts the certificate of the examples; leave it with ``async with``."""
    return WebTransportClient(config=make_client_config(certs))


async def echo(session: WebTransportSession, data: str) -> bytes:
    """A datagram, and the one that comes back."""
    await session.datagrams.send(data)
    return await session.datagrams.receive(timeout=20)


async def test_fastapi(tmp_path: Path, certs: Certificates, client: WebTransportClient) -> None:
    with started("fastapi_app", tmp_path, certs) as example:
        status, page = await example.get("/")
        assert (status, page[:15]) == (200, "<!doctype html>")
        assert await example.get("/api/lines") == (200, "[]")
        assert example.over_tcp("/").body.decode() == page
        await example.shouts("/echo")
        url = f"https://localhost:{example.port}/chat"
        async with client, client.connect(url) as ann, client.connect(url) as bob:
            # Bob is told what he says once he is among those who are told.
            for session, line in (bob, "first"), (ann, "<b>second</b>"):
                stream = await session.create_unidirectional_stream()
                await stream.write_all(line)
                told = await anext(bob.incoming_unidirectional_streams())
                assert await told.read_all() == line.encode()
            with pytest.raises(SessionRejectedError):
                await client.connect(f"https://localhost:{example.port}/nowhere")
        assert json.loads((await example.get("/api/lines"))[1]) == ["first", "<b>second</b>"]
    log = example.program.errors
    assert re.search(r'"GET /api/lines HTTP/%s" 200' % ("3" if HAS_UDP else r"1\.1"), log), log
    assert re.search(r'"GET / HTTP/1\.1" 200', log), log
    assert re.search(r'"CONNECT /chat%s" 200' % ("" if HAS_UDP else " WebSocket"), log), log


async def test_starlette(tmp_path: Path, certs: Certificates, client: WebTransportClient) -> None:
    with started("starlette_app", tmp_path, certs) as example:
        assert await example.fetch("POST", "/upload", bytes(300_000)) == (200, "300000 bytes")
        assert await example.get("/events?to=2") == (200, "data: 0\n\ndata: 1\n\n")
        assert (await example.get("/nowhere"))[0] == 404
        await example.shouts("/shout")
        async with client, client.connect(f"https://localhost:{example.port}/echo") as session:
            assert await echo(session, "there and back") == b"there and back"


async def test_quart(tmp_path: Path, certs: Certificates, client: WebTransportClient) -> None:
    with started("quart_app", tmp_path, certs) as example:
        assert await example.get("/hello/z%C3%B6e") == (200, "hello, zöe")
        assert await example.fetch("POST", "/upload", bytes(300_000)) == (200, "300000 bytes")
        await example.shouts("/shout")
        async with client, client.connect(f"https://localhost:{example.port}/room/7") as session:
            assert await session.datagrams.receive(timeout=20) == b"this is 7"
            assert await echo(session, "echo") == b"echo"


async def test_litestar(tmp_path: Path, certs: Certificates, client: WebTransportClient) -> None:
    with started("litestar_app", tmp_path, certs) as example:
        assert await example.get("/hello") == (200, '{"hello":"world"}')
        assert await example.fetch("POST", "/upload", bytes(300_000)) == (200, '{"bytes":300000}')
        await example.shouts("/shout")
        async with client, client.connect(f"https://localhost:{example.port}/reverse") as session:
            stream = await session.create_bidirectional_stream()
            await stream.write_all(b"abc")
            assert await stream.read_all() == b"cba"


async def test_channels(tmp_path: Path, certs: Certificates, client: WebTransportClient) -> None:
    with started("channels_app", tmp_path, certs) as example:
        assert await example.get("/hello/ann") == (200, "hello, ann")
        assert await example.fetch("POST", "/upload", bytes(300_000)) == (200, "300000 bytes")
        await example.shouts("/shout")
        async with client, client.connect(f"https://localhost:{example.port}/room/7") as session:
            assert await echo(session, "hello") == b"7: hello"
            stream = await session.create_bidirectional_stream()
            await stream.write_all(b"abc" * 50_000)
            assert await stream.read_all() == b"abc" * 50_000
