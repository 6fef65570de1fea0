"""The TCP side of a mounted application: HTTP/1.1 and WebSocket by uvicorn, HTTP/2 by hypercorn."""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from pywebtransport import ServerApp, connect
from pywebtransport.exceptions import CertificateError, ConfigurationError, ServerError
from tests.support.asgi_http import answer, by_path, echo, hello, start
from tests.support.asgi_tcp import tcp_served
from tests.support.certificates import Certificates
from tests.support.endpoints import make_server_config
from tests.support.http3 import http3
from tests.support.leaks import ExpectedLogs
from tests.support.network import why_not
from tests.support.ports import free_port
from tests.support.processes import ROOT
from tests.support.steps import until

DRIVERS = pytest.mark.parametrize("http2", [False, True], ids=["uvicorn", "hypercorn"])
Log = pytest.LogCaptureFixture


def accesses(log: Log) -> list[str]:
    """The lines of the access log, without what differs each time."""
    return [
        re.sub(r"\S+ms", "_ms", re.sub(r"^\S+:\d+", "client", record.getMessage()))
        for record in log.records
        if record.name == "pywebtransport.access"
    ]


# ------------------------------------------------------------------------- requests


@DRIVERS
async def test_one_application_over_tcp_and_http3(
    certs: Certificates, http2: bool, caplog: Log
) -> None:
    """One port number, one log, one set of statistics."""
    caplog.set_level(logging.INFO, "pywebtransport")
    scopes: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            assert (await receive())["type"] == "lifespan.startup"
            scope["state"]["database"] = database
            await send({"type": "lifespan.startup.complete"})
            assert (await receive())["type"] == "lifespan.shutdown"
            await send({"type": "lifespan.shutdown.complete"})
            return
        scopes.append(scope)
        await echo(scope, receive, send)

    database = object()
    mount = {"lifespan": "on", "http2": http2, "root_path": "/shop"}
    async with tcp_served(certs, app, mount=mount) as tcp:
        port = tcp.server.port
        async with tcp.http(http2=http2) as client:
            response = await client.post("/a%20b?q=1", content=b"x" * 100_000)
            assert response.content == b"x" * 100_000
            assert response.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
            assert response.headers["alt-svc"] == f'h3=":{port}"; ma=86400'
            assert response.headers["date"].endswith("GMT")
            assert "server" not in response.headers
        async with http3(certs, tcp.served) as client3:
            response3 = await client3.get("/a%20b?q=1")
            assert (response3.status, response3.get("alt-svc")) == (200, None)
        stats = tcp.server.refresh_stats()
        assert (stats.requests, stats.responses_2xx) == (2, 2)
        assert (stats.request_bytes, stats.response_bytes) == (100_000, 100_000)
        assert (stats.tcp_connections_accepted, stats.connections_accepted) == (1, 1)
    over_tcp, over_quic = scopes
    assert over_tcp["http_version"] == ("2" if http2 else "1.1")
    for name in ("type", "scheme", "path", "raw_path", "query_string", "root_path", "server"):
        assert over_tcp[name] == over_quic[name], name
    assert over_tcp["path"] == "/shop/a b"
    assert over_tcp["state"] == over_quic["state"] == {"database": database}
    assert over_tcp["state"] is not over_quic["state"]
    version = "2" if http2 else "1.1"
    assert accesses(caplog) == [
        f'client "POST /a%20b?… HTTP/{version}" 200 _ms origin=-',
        'client "GET /a%20b?… HTTP/3" 200 _ms origin=-',
    ]
    uvicorn_lines = [r for r in caplog.records if r.name.startswith(("uvicorn", "hypercorn"))]
    assert uvicorn_lines == []


@DRIVERS
async def test_websockets_over_tcp(certs: Certificates, http2: bool, caplog: Log) -> None:
    caplog.set_level(logging.INFO, "pywebtransport")
    async with tcp_served(certs, echo, mount={"http2": http2}) as tcp:
        async with tcp.websocket("/chat?room=1", origin="https://example.org") as socket:
            assert socket.response.headers["alt-svc"] == f'h3=":{tcp.server.port}"; ma=86400'
            await socket.send("text")
            assert await socket.recv() == "text"
            await socket.send(b"\x00" * 70_000)
            assert await socket.recv() == b"\x00" * 70_000
            assert tcp.server.measure()["active_requests"] == 1
            assert tcp.server.measure()["active_tcp_connections"] == 1
        await until(lambda: tcp.server.measure()["active_tcp_connections"] == 0)
    assert accesses(caplog) == [
        'client "GET /chat?… HTTP/1.1" 101 _ms origin=https://example.org',
    ]


async def test_a_websocket_can_be_refused(certs: Certificates, caplog: Log) -> None:
    caplog.set_level(logging.INFO, "pywebtransport")

    async def closes(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.close"})

    async def answers(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.http.response.start", "status": 418, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"tea"})

    async with tcp_served(certs, by_path(closes=closes, answers=answers)) as tcp:
        for path, status in (("/closes", 403), ("/answers", 418)):
            with pytest.raises(websockets.InvalidStatus) as caught:
                async with tcp.websocket(path):
                    pass
            assert caught.value.response.status_code == status
        assert caught.value.response.body == b"tea"
        assert "alt-svc" in caught.value.response.headers
    assert [line.split()[4] for line in accesses(caplog)] == ["403", "418"]


@pytest.mark.loops("uvloop")
@DRIVERS
async def test_a_connection_has_many_requests(certs: Certificates, http2: bool) -> None:
    """More than the 1000 after which hypercorn would end it."""
    async with tcp_served(certs, hello, mount={"http2": http2}) as tcp, await tcp.raw() as raw:
        for _ in range(11):
            await raw.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 100)
            for _ in range(100):
                assert (await raw.head()).startswith(b"HTTP/1.1 200 ")
                assert await raw.reader.readexactly(5) == b"hello"
        assert tcp.server.refresh_stats().responses_2xx == 1100


async def test_an_application_may_set_alt_svc_itself(certs: Certificates) -> None:
    """Where the port has another number outside."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"", 200, (b"Alt-Svc", b'h3=":443"'), (b"content-length", b"0"))

    async with tcp_served(certs, app) as tcp, tcp.http() as client:
        response = await client.get("/")
        assert response.headers.get_list("alt-svc") == ['h3=":443"']


@DRIVERS
async def test_errors_of_the_application(
    certs: Certificates, http2: bool, expected_logs: ExpectedLogs
) -> None:
    expected_logs("http request for /raises: the application raised RuntimeError: not today")
    expected_logs("http request for /half: the application raised RuntimeError: in the middle")
    expected_logs("http request for /silent: the application returned without a complete answer")
    expected_logs("websocket request for /socket: the application raised KeyError")
    expected_logs("websocket request for /open: the application raised ValueError: x")
    expected_logs("the application may not know the scope type 'websocket'")

    async def raises(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("not today")

    async def half(scope: Any, receive: Any, send: Any) -> None:
        await send(start(200, (b"content-length", b"10")))
        await send({"type": "http.response.body", "body": b"12345", "more_body": True})
        raise RuntimeError("in the middle")

    async def silent(scope: Any, receive: Any, send: Any) -> None:
        return

    async def socket(scope: Any, receive: Any, send: Any) -> None:
        raise KeyError(scope["type"])

    async def opened(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        raise ValueError("x")

    app = by_path(raises=raises, half=half, silent=silent, socket=socket, open=opened)
    async with tcp_served(certs, app, mount={"http2": http2}) as tcp, tcp.http() as client:
        for path in ("/raises", "/silent"):
            response = await client.get(path)
            assert response.status_code == 500
            assert "alt-svc" in response.headers
        for version in {False, http2}:
            async with tcp.http(http2=version) as other:
                with pytest.raises(httpx.RemoteProtocolError):
                    await other.get("/half")
        with pytest.raises(websockets.InvalidStatus) as caught:
            async with tcp.websocket("/socket"):
                pass
        assert caught.value.response.status_code == 500
        async with tcp.websocket("/open") as found:
            with pytest.raises(websockets.ConnectionClosedError):
                await found.recv()
            assert found.close_code == 1011
        assert tcp.server.refresh_stats().handler_errors == 5 + http2


@DRIVERS
async def test_headers_that_belong_to_http1_are_left_out(certs: Certificates, http2: bool) -> None:
    """Some libraries set them on each response."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        connection = [(b"Connection", b"keep-alive"), (b"keep-alive", b"timeout=5")]
        await answer(send, b"hello", 200, *connection, (b"x-last", b"1"))

    async with (
        tcp_served(certs, app, mount={"http2": http2}) as tcp,
        tcp.http(http2=http2) as client,
    ):
        response = await client.get("/")
        assert (response.content, response.headers["x-last"]) == (b"hello", "1")
        assert ("connection" in response.headers) is not http2


@DRIVERS
async def test_the_application_learns_that_the_client_left(
    certs: Certificates, http2: bool, caplog: Log
) -> None:
    caplog.set_level(logging.INFO, "pywebtransport")
    events: list[str] = []
    started = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        started.set()
        while not events or events[-1] != "http.disconnect":
            events.append((await receive())["type"])

    async with tcp_served(certs, app, mount={"http2": http2}) as tcp:
        async with await tcp.raw() as raw:
            await raw.send(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n")
            await started.wait()
        await until(lambda: tcp.server.refresh_stats().requests_cancelled == 1)
    assert events == ["http.request", "http.disconnect"]
    assert accesses(caplog) == ['client "GET /wait HTTP/1.1" 499 _ms origin=-']


# --------------------------------------------------------------------------- limits


@DRIVERS
async def test_limits_of_requests(certs: Certificates, http2: bool) -> None:
    """As over HTTP/3: how many, how large, and how slow."""
    entered, leave = asyncio.Event(), asyncio.Event()

    async def wait(scope: Any, receive: Any, send: Any) -> None:
        entered.set()
        await leave.wait()
        await hello(scope, receive, send)

    async def collect(scope: Any, receive: Any, send: Any) -> None:
        size, more = 0, True
        while more:
            event = await receive()
            if event["type"] == "http.disconnect":
                return
            size, more = size + len(event["body"]), event["more_body"]
        await answer(send, b"%d" % size)

    fields = {"max_requests": 1, "max_request_body": 1000, "request_timeout": 0.5}
    app = by_path(wait=wait, collect=collect)
    async with (
        tcp_served(certs, app, mount={"http2": http2}, **fields) as tcp,
        tcp.http(http2=http2) as client,
        tcp.http() as other,
    ):
        waiting = asyncio.ensure_future(client.get("/wait"))
        await entered.wait()
        refused = await other.get("/collect")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
        leave.set()
        assert (await waiting).content == b"hello"
        assert tcp.server.refresh_stats().requests_limited == 1

        async def pieces() -> Any:
            for _ in range(3):
                yield b"x" * 500

        for body in (b"x" * 1001, pieces()):
            async with tcp.http(http2=http2) as large:
                assert (await large.post("/collect", content=body)).status_code == 413
        async with await tcp.raw() as raw:
            await raw.send(b"POST /collect HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n12345")
            assert (await raw.head()).startswith(b"HTTP/1.1 408 ")
            await raw.rest()
        assert (await client.post("/collect", content=b"x" * 1000)).content == b"1000"


@DRIVERS
async def test_the_rest_of_a_request_can_follow_its_answer(
    certs: Certificates, http2: bool
) -> None:
    """Over HTTP/2, the connection and its other requests go on."""

    async def early(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await answer(send, b"enough", 413)

    async with (
        tcp_served(certs, by_path(early=early, hello=hello), mount={"http2": http2}) as tcp,
        tcp.http(http2=http2) as client,
    ):

        async def pieces() -> Any:
            yield b"x"
            await until(lambda: not tcp.server.measure()["active_requests"])
            yield b"y"
            yield b"z"

        response = await client.post("/early", content=pieces())
        assert (response.status_code, response.content) == (413, b"enough")
        again = await client.get("/hello")
        assert again.content == b"hello"
        if http2:
            assert tcp.server.refresh_stats().tcp_connections_accepted == 1


async def test_limits_of_connections(certs: Certificates) -> None:
    async with tcp_served(certs, hello, max_connections=2) as tcp:
        first, second = await tcp.raw(), await tcp.raw()
        await until(lambda: tcp.server.measure()["active_tcp_connections"] == 2)
        with pytest.raises(ConnectionError):  # before its TLS handshake
            await tcp.raw()
        assert tcp.server.refresh_stats().tcp_connections_rejected == 1
        second.close()
        await until(lambda: tcp.server.measure()["active_tcp_connections"] == 1)
        async with tcp.http() as client:
            assert (await client.get("/")).content == b"hello"
        first.close()


async def test_connections_count_before_their_handshake(certs: Certificates) -> None:
    async with tcp_served(certs, hello, max_connections=2, handshake_timeout=0.3) as tcp:
        where = (tcp.served.host, tcp.served.port)
        silent = [await asyncio.open_connection(*where) for _ in range(2)]
        await until(lambda: tcp.server.measure()["active_tcp_connections"] == 2)
        with pytest.raises(ConnectionError):
            await tcp.raw()
        for reader, writer in silent:
            assert await reader.read() == b""
            writer.close()
        await until(lambda: tcp.server.measure()["active_tcp_connections"] == 0)
        async with tcp.http() as client:
            assert (await client.get("/")).content == b"hello"
        stats = tcp.server.refresh_stats()
        assert (stats.tcp_connections_accepted, stats.tcp_connections_rejected) == (1, 1)
        assert stats.tcp_handshakes_failed == 2


async def test_limits_of_connections_of_one_address(certs: Certificates) -> None:
    async with tcp_served(certs, hello, max_connections_per_address=1) as tcp:
        async with await tcp.raw() as first:
            await first.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert (await first.head()).startswith(b"HTTP/1.1 200 ")
            with pytest.raises(ConnectionError):
                await tcp.raw()
        await until(lambda: tcp.server.measure()["active_tcp_connections"] == 0)
        async with await tcp.raw() as third:
            await third.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert (await third.head()).startswith(b"HTTP/1.1 200 ")


async def test_a_client_that_reads_nothing(certs: Certificates) -> None:
    """It is cut after ``write_timeout``, also when the application has ended."""

    async def large(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, bytes(16 << 20))

    async with tcp_served(certs, large, write_timeout=0.2) as tcp:
        raw = await tcp.raw()
        raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
        raw.writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await until(lambda: tcp.server.refresh_stats().requests == 1)
        await until(lambda: tcp.server.measure()["active_tcp_connections"] == 0)
        raw.close()


async def test_a_head_that_is_too_large_or_too_slow(certs: Certificates) -> None:
    async with tcp_served(certs, hello, max_field_section_size=4096) as tcp, await tcp.raw() as raw:
        await raw.send(b"GET / HTTP/1.1\r\nx: " + b"y" * 5000)
        assert (await raw.head()).startswith(b"HTTP/1.1 431 ")
    async with tcp_served(certs, hello, handshake_timeout=0.2) as tcp:
        slow, silent = await tcp.raw(), await tcp.raw()
        await slow.send(b"GET / HTTP/1.1\r\nx: y")
        assert (await slow.rest()).startswith(b"HTTP/1.1 408 ")
        assert await silent.rest() == b""
        reader, writer = await asyncio.open_connection(tcp.served.host, tcp.served.port)
        assert await reader.read() == b""  # it does not even begin the TLS handshake
        writer.close()
        slow.close()
        silent.close()


@pytest.mark.loops("asyncio")
async def test_garbage_is_answered_and_hardly_logged(certs: Certificates, caplog: Log) -> None:
    caplog.set_level(logging.INFO)
    async with tcp_served(certs, hello) as tcp:
        for _ in range(30):
            async with await tcp.raw() as raw:
                await raw.send(b"\x16\x03\x01\x00\r\n\r\n")
                assert (await raw.rest()).startswith(b"HTTP/1.1 400 ")
    lines = [record for record in caplog.records if "Invalid HTTP request" in record.getMessage()]
    assert 1 <= len(lines) < 30
    assert {line.name for line in lines} == {"pywebtransport.asgi"}


# ------------------------------------------------------------------------ certificates


def serial_over_tcp(port: int, tls: ssl.SSLContext, name: str = "localhost") -> str:
    """The serial number of the certificate that a new TCP connection gets."""
    with (
        socket.create_connection(("127.0.0.1", port)) as sock,
        tls.wrap_socket(sock, server_hostname=name) as connection,
    ):
        certificate = connection.getpeercert()
        assert certificate is not None
        return str(certificate["serialNumber"])


def serial_of(certfile: str) -> str:
    from cryptography import x509

    number = x509.load_pem_x509_certificates(Path(certfile).read_bytes())[0].serial_number
    text = f"{number:X}"
    return text.zfill(len(text) + len(text) % 2)


@DRIVERS
async def test_both_sides_see_a_new_certificate(
    certs: Certificates, http2: bool, tmp_path: Path
) -> None:
    certfile, keyfile = tmp_path / "a.crt", tmp_path / "a.key"

    def install(pair: Any) -> None:
        shutil.copy(pair.certfile, certfile)
        shutil.copy(pair.keyfile, keyfile)

    install(certs.server)
    files = {"certfile": str(certfile), "keyfile": str(keyfile)}
    async with tcp_served(certs, hello, mount={"http2": http2}, **files) as tcp:

        async def over_tcp() -> str:
            return await asyncio.to_thread(serial_over_tcp, tcp.server.port, tcp.tls)

        async def over_quic(pair: Any) -> None:
            url = tcp.url("/nothing")
            with pytest.raises(Exception, match="status 403"):
                async with connect(url, server_certificate_hashes=[pair.hash]):
                    pass

        assert await over_tcp() == serial_of(certs.server.certfile)
        async with tcp.http() as client:
            assert (await client.get("/")).content == b"hello"
            install(certs.replacement)
            tcp.server.reload_certificates()
            assert (await client.get("/")).content == b"hello"  # on the old connection
        assert await over_tcp() == serial_of(certs.replacement.certfile)
        await over_quic(certs.replacement)
        keyfile.write_text("no key")
        with pytest.raises(CertificateError):
            tcp.server.reload_certificates()
        assert await over_tcp() == serial_of(certs.replacement.certfile)
        await over_quic(certs.replacement)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_certificates_by_name(certs: Certificates, version: ssl.TLSVersion) -> None:
    names = {
        "alpha.test": (certs.alpha.certfile, certs.alpha.keyfile),
        "*.beta.test": (certs.beta.certfile, certs.beta.keyfile),
    }
    async with tcp_served(certs, hello, sni_certificates=names) as tcp:
        tcp.tls.maximum_version = version

        async def serial(name: str) -> str:
            return await asyncio.to_thread(serial_over_tcp, tcp.server.port, tcp.tls, name)

        assert await serial("alpha.test") == serial_of(certs.alpha.certfile)
        assert await serial("Any.Beta.test") == serial_of(certs.beta.certfile)
        assert await serial("127.0.0.1") == serial_of(certs.server.certfile)


async def test_client_certificates(certs: Certificates) -> None:
    fields = {"verify_mode": ssl.CERT_REQUIRED, "ca_certs": certs.authority.certfile}
    async with tcp_served(certs, hello, **fields) as tcp:
        async with tcp.http() as client:
            with pytest.raises(httpx.TransportError):
                await client.get("/")
        tcp.tls.load_cert_chain(certs.client.certfile, certs.client.keyfile)
        async with tcp.http(verify=tcp.tls) as client:
            assert (await client.get("/")).content == b"hello"


# ------------------------------------------------------------------------------- ports


def listener(port: int = 0) -> Any:
    """A TCP server of somebody else."""
    return socket.create_server(("127.0.0.1", port))


async def test_a_tcp_port_that_is_taken(certs: Certificates) -> None:
    port = free_port(socket.SOCK_STREAM)
    app = ServerApp(config=make_server_config(certs, network=None))
    app.mount(hello, lifespan="off")
    with listener(port):
        async with app:
            with pytest.raises(ServerError, match=rf"cannot bind TCP 127.0.0.1:{port}: .*in use"):
                await app.listen(host="127.0.0.1", port=port)
            # And nothing stays: neither the UDP port nor a server.
            assert not app.server.is_serving
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.bind(("127.0.0.1", port))
    quic_alone = ServerApp(config=make_server_config(certs, network=None))
    quic_alone.mount(hello, lifespan="off", tcp=False)
    with listener(port):
        async with quic_alone:
            await quic_alone.listen(host="127.0.0.1", port=port)


CHOOSES = """
import socket
from pywebtransport._loop import bind_addresses, bind_udp_sockets
taken = socket.create_server(("127.0.0.1", 40000))
for _ in range(5):
    tcp = []
    udp = bind_udp_sockets(bind_addresses("127.0.0.1", 0), tcp)
    assert [sock.getsockname()[1] for sock in udp + tcp] == [40001] * 2
    for sock in udp + tcp:
        sock.close()
taken.close()
"""


def test_a_free_port_is_free_for_both_protocols() -> None:
    """In a network of its own, the system chooses between two ports, and one is taken for TCP."""
    if why_not():
        pytest.skip(why_not())
    script = (
        "ip link set lo up && echo 40000 40001 > /proc/sys/net/ipv4/ip_local_port_range && "
        'exec "$0" -W error -c "$1"'
    )
    done = subprocess.run(
        ["unshare", "--net", "sh", "-ec", script, sys.executable, CHOOSES],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


async def test_a_close_while_it_begins_to_listen(certs: Certificates) -> None:
    """At every step: nothing stays open."""
    ends: set[str] = set()
    for steps in range(12):
        app = ServerApp(config=make_server_config(certs, network=None, drain_timeout=0))
        app.mount(hello, lifespan="off", tcp=True)
        listening = asyncio.ensure_future(app.listen(host="localhost", port=0))
        for _ in range(steps):
            await asyncio.sleep(0)
        await app.server.close()
        (error,) = await asyncio.gather(listening, return_exceptions=True)
        assert error is None or isinstance(error, ServerError)
        ends.add(type(error).__name__)
        assert not app.server.is_serving
    assert ends == {"NoneType", "ServerError"}


async def test_all_addresses_of_a_host_and_further_ones(certs: Certificates) -> None:
    app = ServerApp(config=make_server_config(certs, network=None, drain_timeout=0))
    app.mount(hello, lifespan="off", tcp=True)
    async with app:
        await app.listen(host="localhost", port=0)
        await app.listen(host="127.0.0.2", port=0)
        ports = {host: port for host, port in app.server.local_addresses}
        assert ports["127.0.0.1"] == ports["::1"]
        tls = ssl.create_default_context(cafile=certs.authority.certfile)
        tls.check_hostname = False
        async with httpx.AsyncClient(verify=tls, trust_env=False) as client:
            for host in ("127.0.0.1", "[::1]", "127.0.0.2"):
                port = ports[host.strip("[]")]
                response = await client.get(f"https://{host}:{port}/")
                assert response.headers["alt-svc"] == f'h3=":{port}"; ma=86400'


async def test_passed_sockets_get_tcp_beside_them(certs: Certificates) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as passed:
        passed.bind(("127.0.0.1", 0))
        port = passed.getsockname()[1]
        app = ServerApp(config=make_server_config(certs, network=None, drain_timeout=0))
        app.mount(hello, lifespan="off", tcp=True)
        async with app:
            await app.listen(sockets=[passed])
            tls = ssl.create_default_context(cafile=certs.authority.certfile)
            async with httpx.AsyncClient(verify=tls, trust_env=False) as client:
                assert (await client.get(f"https://127.0.0.1:{port}/")).content == b"hello"


# ------------------------------------------------------------------------- what is wanted


async def test_without_the_packages_there_is_no_tcp(
    certs: Certificates, caplog: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "pywebtransport")
    monkeypatch.setitem(sys.modules, "httptools", None)
    async with tcp_served(certs, hello, mount={"tcp": None}) as tcp:
        async with http3(certs, tcp.served) as client:
            assert (await client.get("/")).body == b"hello"
        with pytest.raises(ConnectionRefusedError):
            await tcp.raw()
    (line,) = [record.getMessage() for record in caplog.records if "TCP" in record.getMessage()]
    assert line.startswith("no TCP side, clients need HTTP/3: httptools cannot be imported: pip")
    assert 'pip install ".[asgi]"' in line
    with pytest.raises(ConfigurationError, match="httptools cannot be imported"):
        async with tcp_served(certs, hello):
            pass
    monkeypatch.setitem(sys.modules, "hypercorn", None)
    with pytest.raises(ConfigurationError, match="hypercorn cannot be imported"):
        async with tcp_served(certs, hello, mount={"tcp": None, "http2": True}):
            pass


@pytest.mark.parametrize(
    ("options", "key"),
    [({"tcp": "yes"}, "tcp"), ({"http2": 1}, "http2"), ({"tcp": False, "http2": True}, "http2")],
    ids=str,
)
def test_wrong_arguments_are_refused(options: dict[str, Any], key: str) -> None:
    app = ServerApp()
    with pytest.raises(ConfigurationError) as caught:
        app.mount(hello, **options)
    assert caught.value.config_key == key
    app.mount(hello)  # nothing was mounted


@DRIVERS
async def test_signals_are_left_alone(certs: Certificates, http2: bool) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    async with tcp_served(certs, hello, mount={"http2": http2}) as tcp, tcp.http() as client:
        assert (await client.get("/")).content == b"hello"
        assert [signal.getsignal(number) for number in numbers] == before


# ------------------------------------------------------------------------------- the end


@DRIVERS
async def test_a_request_in_flight_finishes(certs: Certificates, http2: bool) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def wait(scope: Any, receive: Any, send: Any) -> None:
        entered.set()
        await leave.wait()
        await hello(scope, receive, send)

    async with tcp_served(certs, wait, mount={"http2": http2}) as tcp:
        async with tcp.http(http2=http2) as client:
            waiting = asyncio.ensure_future(client.get("/"))
            idle = await tcp.raw()
            await entered.wait()
            closing = asyncio.ensure_future(tcp.server.close(drain_timeout=20))
            assert await idle.rest() == b""
            with pytest.raises(ConnectionRefusedError):
                await tcp.raw()
            assert not closing.done()
            leave.set()
            response = await waiting
            assert (response.status_code, response.content) == (200, b"hello")
            # HTTP/3 ends here, too: clients must not try it.
            assert response.headers["alt-svc"] == "clear"
            await closing
        idle.close()


async def test_a_connection_that_waits_at_the_end_is_served(certs: Certificates) -> None:
    """The kernel has accepted it; nobody else knows of it yet."""
    async with tcp_served(certs, hello) as tcp:
        waiting = socket.create_connection((tcp.served.host, tcp.served.port))
        closing = asyncio.ensure_future(tcp.server.close(drain_timeout=20))

        def ask() -> bytes:
            with waiting, tcp.tls.wrap_socket(waiting, server_hostname="localhost") as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
                return b"".join(iter(lambda: connection.recv(4096), b""))

        response = await asyncio.to_thread(ask)
        assert response.startswith(b"HTTP/1.1 200 ")
        assert response.endswith(b"hello")
        assert b"connection: close\r\n" in response
        await closing


@DRIVERS
async def test_a_request_that_does_not_end_is_cancelled(
    certs: Certificates, http2: bool, caplog: Log
) -> None:
    caplog.set_level(logging.INFO, "pywebtransport")
    entered = asyncio.Event()
    ended: list[str] = []

    async def stuck(scope: Any, receive: Any, send: Any) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    async with (
        tcp_served(certs, stuck, mount={"http2": http2}) as tcp,
        tcp.http(http2=http2) as client,
    ):
        waiting = asyncio.ensure_future(client.get("/stuck"))
        await entered.wait()
        await tcp.server.close(drain_timeout=0.05)
        assert ended == ["cancelled"]
        with pytest.raises(httpx.TransportError):
            await waiting
    assert accesses(caplog) == [
        f'client "GET /stuck HTTP/{"2" if http2 else "1.1"}" 499 _ms origin=-'
    ]


@DRIVERS
async def test_a_client_that_reads_slowly_is_cut(certs: Certificates, http2: bool) -> None:
    """It would hold the server as long as it likes."""

    async def large(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, bytes(16 << 20))

    async with tcp_served(certs, large, mount={"http2": http2}) as tcp:
        raw = await tcp.raw()
        raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
        raw.writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await until(lambda: tcp.server.refresh_stats().requests == 1)
        await tcp.server.close(drain_timeout=0.05)
        assert tcp.server.measure()["active_tcp_connections"] == 0
        raw.close()


async def test_a_response_that_the_client_still_reads_is_delivered(certs: Certificates) -> None:
    size = 16 << 20

    async def large(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, bytes(size), 200, (b"content-length", b"%d" % size))

    async with tcp_served(certs, large) as tcp, await tcp.raw() as raw:
        await raw.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await raw.head()
        closing = asyncio.ensure_future(tcp.server.close(drain_timeout=20))
        assert len(await raw.reader.readexactly(size)) == size
        await closing


@DRIVERS
async def test_websockets_are_closed(certs: Certificates, http2: bool) -> None:
    async with (
        tcp_served(certs, echo, mount={"http2": http2}) as tcp,
        tcp.websocket() as socket,
    ):
        closing = asyncio.ensure_future(tcp.server.close(drain_timeout=20))
        with pytest.raises(websockets.ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1012
        await closing


async def test_the_server_can_listen_on_the_same_port_again(certs: Certificates) -> None:
    """Connections of the old one do not keep it."""
    async with tcp_served(certs, hello) as tcp, tcp.http() as client:
        assert (await client.get("/")).content == b"hello"
        port = tcp.server.port
    async with tcp_served(certs, hello, bind_port=port) as tcp, tcp.http() as client:
        assert (await client.get("/")).content == b"hello"


@DRIVERS
@pytest.mark.parametrize("turns", range(1, 8))
async def test_a_close_that_is_cancelled_at_any_turn_cuts_everything(
    certs: Certificates, http2: bool, turns: int
) -> None:
    entered = asyncio.Event()

    async def stuck(scope: Any, receive: Any, send: Any) -> None:
        entered.set()
        await asyncio.Event().wait()

    async with tcp_served(certs, stuck, mount={"http2": http2}) as tcp:
        raw = await tcp.raw()
        await raw.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await entered.wait()
        closing = asyncio.ensure_future(tcp.server.close(drain_timeout=1000))
        for _ in range(turns):
            await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await until(lambda: tcp.server.tcp is not None and tcp.server.tcp.open_count == 0)
        raw.close()


async def test_a_cancelled_close_cuts_everything(certs: Certificates) -> None:
    entered = asyncio.Event()

    async def stuck(scope: Any, receive: Any, send: Any) -> None:
        entered.set()
        await asyncio.Event().wait()

    async with tcp_served(certs, stuck) as tcp:
        raw = await tcp.raw()
        await raw.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await entered.wait()
        closing = asyncio.ensure_future(tcp.server.close(drain_timeout=1000))
        await until(lambda: not tcp.server.is_serving)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await until(lambda: tcp.server.tcp is not None and tcp.server.tcp.open_count == 0)
        raw.close()
