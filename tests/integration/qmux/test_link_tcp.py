"""Connections of the fallback over TCP: TLS with the rules of QUIC, proxies, and cancellation."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pywebtransport import ClientConfig, ServerConfig
from pywebtransport._header_map import HeaderMap
from pywebtransport._loop import (
    ClientLink,
    HttpProxy,
    LinkOptions,
    RemoteAddress,
    connect_proxy,
    dial,
)
from pywebtransport.exceptions import (
    CertificateError,
    CertificateHashError,
    ConfigurationError,
    ConnectionError,
    HandshakeError,
    ProxyError,
    TimeoutError,
    UnreachableError,
    is_retriable_error,
)
from pywebtransport.utils._tls_contexts import client_tls_over_tcp
from tests.support.certificates import Certificates, Pair

from .link_parts import Ends, Listener, connect, end, listening, until


async def attempt(
    listener: Listener, config: ClientConfig, *, server_name: str = "localhost"
) -> ClientLink:
    return await dial(
        listener.address,
        server_name=server_name,
        tls=client_tls_over_tcp(config),
        timeout=10.0,
    )


async def drop(link: ClientLink) -> None:
    """End a link without a connection above it."""
    await end(Ends(link))


# ------------------------------------------------------------------------- TLS


async def test_an_unknown_authority_is_refused(certs: Certificates) -> None:
    async with listening(ServerConfig(**certs.server.files)) as listener:
        with pytest.raises(CertificateError, match="not accepted") as caught:
            await attempt(listener, ClientConfig(ca_certs=certs.other.certfile))
        assert "localhost" in str(caught.value)
        assert "issuer" in (caught.value.certificate_error or "")


@pytest.mark.parametrize(
    ("pair", "text"), [("wrong_name", "ismatch"), ("expired", "expired"), ("self_signed", "self")]
)
async def test_wrong_certificates_are_refused(certs: Certificates, pair: str, text: str) -> None:
    async with listening(ServerConfig(**getattr(certs, pair).files)) as listener:
        with pytest.raises(CertificateError, match=text):
            await attempt(listener, ClientConfig(ca_certs=certs.authority.certfile))


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST.", "127.0.0.1", "::1"])
async def test_names_and_addresses_are_verified(certs: Certificates, name: str) -> None:
    async with listening(ServerConfig(**certs.server.files)) as listener:
        link = await attempt(
            listener, ClientConfig(ca_certs=certs.authority.certfile), server_name=name
        )
        assert link.peer_certificate == certs.server.der
        assert link.server_name == name
        await drop(link)


async def test_any_certificate_passes_without_verification(certs: Certificates) -> None:
    async with listening(ServerConfig(**certs.expired.files)) as listener:
        await drop(await attempt(listener, ClientConfig(verify_mode=ssl.CERT_NONE)))


async def test_the_certificate_itself_may_be_trusted(certs: Certificates) -> None:
    """As with QUIC, ca_certs may name the leaf."""
    for pair in (certs.server, certs.self_signed):
        async with listening(ServerConfig(**pair.files)) as listener:
            await drop(await attempt(listener, ClientConfig(ca_certs=pair.certfile)))


async def test_a_pinned_certificate_is_accepted(certs: Certificates) -> None:
    config = ClientConfig(server_certificate_hashes=[bytes(32), certs.self_signed.hash])
    async with listening(ServerConfig(**certs.self_signed.files)) as listener:
        await drop(await attempt(listener, config, server_name="any.example"))


@pytest.mark.parametrize(
    ("pair", "text"),
    [
        ("server", "matches none of the given hashes"),
        ("rsa", "RSA key"),
        ("long_lived", "valid for 30.0 days; a pinned one may be for 14 at most"),
        ("expired_self_signed", "expired on"),
    ],
)
async def test_the_rules_for_pinned_certificates(certs: Certificates, pair: str, text: str) -> None:
    served: Pair = getattr(certs, pair)
    hashes = [certs.self_signed.hash] if pair == "server" else [served.hash]
    async with listening(ServerConfig(**served.files)) as listener:
        with pytest.raises(CertificateHashError, match=text) as caught:
            await attempt(listener, ClientConfig(server_certificate_hashes=hashes))
        assert caught.value.details["certificate_hash"] == served.hash.hex()


async def test_client_certificates(certs: Certificates) -> None:
    config = ServerConfig(
        **certs.server.files,
        ca_certs=certs.authority.certfile,
        verify_mode=ssl.CERT_REQUIRED,
    )
    async with listening(config) as listener:
        known = ClientConfig(ca_certs=certs.authority.certfile, **certs.client.files)
        client, _ = await connect(listener, known)
        link = await listener.requests.get()
        assert link.peer_certificate == certs.client.der
        await end(client)
        for files in ({}, certs.stranger.files):
            # TLS 1.3 tells it only after the handshake.
            config_ = ClientConfig(ca_certs=certs.authority.certfile, **files)
            try:
                client, _ = await connect(listener, config_)
            except HandshakeError:
                continue
            error = await client.closed
            assert error is None or isinstance(error, ConnectionError)
        assert listener.requests.empty()


async def test_certificates_are_replaced_while_it_runs(certs: Certificates) -> None:
    trust = ClientConfig(ca_certs=certs.authority.certfile)
    async with listening(ServerConfig(**certs.server.files)) as listener:
        first = await attempt(listener, trust)
        assert listener.tls is not None
        listener.tls.reload(ServerConfig(**certs.replacement.files))
        second = await attempt(listener, trust)
        assert first.peer_certificate == certs.server.der
        assert second.peer_certificate == certs.replacement.der
        with pytest.raises(CertificateError):
            listener.tls.reload(
                ServerConfig(certfile=certs.server.certfile, keyfile=certs.client.keyfile)
            )
        await drop(first)
        await drop(second)


async def test_certificates_by_name(certs: Certificates) -> None:
    files = {
        "alpha.test": (certs.alpha.certfile, certs.alpha.keyfile),
        "*.beta.test": (certs.beta.certfile, certs.beta.keyfile),
    }
    config = ServerConfig(**certs.server.files, sni_certificates=files)
    trust = ClientConfig(ca_certs=certs.authority.certfile)
    async with listening(config) as listener:
        for name, pair in (("alpha.test", certs.alpha), ("x.beta.test", certs.beta)):
            link = await attempt(listener, trust, server_name=name)
            assert link.peer_certificate == pair.der
            await drop(link)


def test_files_that_cannot_be_used_are_named(certs: Certificates, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("nothing")
    with pytest.raises(CertificateError, match="broken"):
        client_tls_over_tcp(ClientConfig(ca_certs=str(broken)))
    with pytest.raises(CertificateError, match=r"server\.key|client\.key"):
        client_tls_over_tcp(
            ClientConfig(certfile=certs.server.certfile, keyfile=certs.client.keyfile)
        )


def test_an_encrypted_key_is_explained(certs: Certificates, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(Path(certs.client.keyfile).read_bytes(), None)
    path = tmp_path / "encrypted.key"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(CertificateError, match="encrypted; store it without a password"):
        client_tls_over_tcp(ClientConfig(certfile=certs.client.certfile, keyfile=str(path)))


def test_the_variables_of_openssl_name_the_authorities(
    certs: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", certs.authority.certfile)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    tls = client_tls_over_tcp(ClientConfig())
    assert len(tls.context.get_ca_certs()) == 1


def test_keys_are_logged(certs: Certificates, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    config = ClientConfig(ca_certs=certs.authority.certfile, keylog_file=str(path))
    assert client_tls_over_tcp(config).context.keylog_filename == str(path)


async def test_a_server_without_tls(certs: Certificates) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()

    async with serving(serve) as address:
        tls = client_tls_over_tcp(ClientConfig(ca_certs=certs.authority.certfile))
        with pytest.raises(HandshakeError, match=r"TLS failed with localhost .*WRONG_VERSION"):
            await dial(address, server_name="localhost", tls=tls, timeout=10.0)


@asynccontextmanager
async def serving(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[object]],
) -> AsyncIterator[RemoteAddress]:
    """A TCP server; connections end with the block."""
    tasks: set[asyncio.Task[Any]] = set()

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        # A handler that is cancelled is an error for asyncio's streams.
        with contextlib.suppress(asyncio.CancelledError, OSError, EOFError):
            await serve(reader, writer)
        writer.close()
        tasks.discard(task)

    server = await asyncio.start_server(run, "127.0.0.1", 0)
    try:
        yield RemoteAddress(socket.AF_INET, server.sockets[0].getsockname())
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await until(lambda: not tasks)


async def test_a_server_that_closes_in_the_handshake(certs: Certificates) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)

    async with serving(serve) as address:
        tls = client_tls_over_tcp(ClientConfig(ca_certs=certs.authority.certfile))
        with pytest.raises(ConnectionError, match="lost in the TLS handshake") as caught:
            await dial(address, server_name="localhost", tls=tls, timeout=10.0)
        assert is_retriable_error(caught.value)


async def test_a_server_that_is_silent_in_the_handshake(certs: Certificates) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(serve) as address:
        tls = client_tls_over_tcp(ClientConfig(ca_certs=certs.authority.certfile))
        with pytest.raises(TimeoutError, match=r"within 0\.1 seconds") as caught:
            await dial(address, server_name="localhost", tls=tls, timeout=0.1)
        assert caught.value.operation == "connect"
        assert caught.value.timeout_duration == 0.1


async def test_nothing_listens() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # it is ours, and nobody listens
        address = RemoteAddress(socket.AF_INET, sock.getsockname())
        with pytest.raises(UnreachableError, match="refused") as caught:
            await dial(address, server_name="localhost", tls=None, timeout=10.0)
        assert caught.value.remote_address == sock.getsockname()


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("with_proxy", [False, True])
async def test_cancelling_a_connect_at_each_await_leaves_nothing_open(
    certs: Certificates, with_proxy: bool
) -> None:
    tls = client_tls_over_tcp(ClientConfig(ca_certs=certs.authority.certfile))

    async def run(listener: Listener, proxy: RemoteAddress) -> ClientLink:
        sock = None
        if with_proxy:
            sock = await connect_proxy(
                proxy, HttpProxy("p", "p", 1), host="127.0.0.1", port=listener.port, timeout=10.0
            )
        return await dial(
            listener.address, server_name="localhost", tls=tls, timeout=10.0, sock=sock
        )

    async with (
        listening(ServerConfig(**certs.server.files)) as listener,
        serving(tunnel) as proxy,
    ):
        turns = 0
        while True:
            turns += 1
            task = asyncio.create_task(run(listener, proxy))
            for _ in range(turns):
                await asyncio.sleep(0)
            if task.done():
                break
            before = descriptors()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert turns > 3
        await drop(task.result())
        assert before  # the checks of the fixture count the descriptors that are left


# --------------------------------------------------------------------- proxies


async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A small HTTP proxy: serves one CONNECT."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    target = head.split(" ")[1]
    host, _, port = target.rpartition(":")
    try:
        far_reader, far_writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except OSError:
        writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        return
    writer.write(b"HTTP/1.0 200 Connection established\r\nVia: test\r\n\r\n")

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
            target.write_eof()

    try:
        await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))
    finally:
        far_writer.close()


async def test_a_session_through_a_proxy(certs: Certificates) -> None:
    trust = ClientConfig(ca_certs=certs.authority.certfile)
    async with (
        listening(ServerConfig(**certs.server.files)) as listener,
        serving(tunnel) as address,
    ):
        proxy = HttpProxy.parse(f"http://localhost:{address.sockaddr[1]}")
        sock = await connect_proxy(
            address, proxy, host="127.0.0.1", port=listener.port, timeout=10.0
        )
        link = await dial(
            address,
            server_name="localhost",
            tls=client_tls_over_tcp(trust),
            timeout=10.0,
            sock=sock,
        )
        client = Ends(link)
        link.request(
            path="/",
            authority="localhost",
            headers=HeaderMap(),
            subprotocols=["qmux-02"],
            on_answer=lambda *_: client.send(b"through"),
        )
        request = await listener.requests.get()
        server = Ends(request)
        request.accept("qmux-02", HeaderMap())
        assert await server.count(1) == [b"through"]
        client.link.close(1000)
        assert await server.closed is None
        assert await client.closed is None


@pytest.mark.parametrize(
    ("answer", "status", "text"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", 407, "wants them, the user name"),
        (b"HTTP/1.1 502 Bad\x1b[31m Gateway\r\n\r\n", 502, r"status 502 Bad\\x1b"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", 403, "status 403 Forbidden"),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", None, "it sent bytes"),
        (b"hello\r\n\r\n", None, "not HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 4000, None, "not HTTP/1.1"),
        (b"", None, "closed the connection without an answer"),
    ],
)
async def test_answers_of_proxies(answer: bytes, status: int | None, text: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.write_eof()
        await reader.read()

    async with serving(serve) as address:
        proxy = HttpProxy("http://proxy.test:3128", "proxy.test", 3128)
        with pytest.raises(ProxyError, match=text) as caught:
            await connect_proxy(address, proxy, host="far.test", port=443, timeout=10.0)
        assert caught.value.status_code == status
        assert caught.value.target == "far.test:443"
        assert "http://proxy.test:3128" in str(caught.value)


async def test_a_proxy_that_cannot_reach_the_target() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        async with serving(tunnel) as address:
            proxy = HttpProxy("http://p", "p", 80)
            with pytest.raises(ProxyError, match="status 502"):
                await connect_proxy(
                    address, proxy, host="127.0.0.1", port=sock.getsockname()[1], timeout=10.0
                )


async def test_a_proxy_that_is_silent() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(serve) as address:
        proxy = HttpProxy("http://p", "p", 80)
        with pytest.raises(TimeoutError) as caught:
            await connect_proxy(address, proxy, host="far.test", port=443, timeout=0.1)
        assert caught.value.operation == "proxy"


async def test_credentials_are_sent_and_not_shown() -> None:
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 407 No\r\n\r\n")
        await reader.read()

    async with serving(serve) as address:
        proxy = HttpProxy.parse("http://us%40er:s%C3%A9cret@localhost:1/")
        with pytest.raises(ProxyError, match="does not accept them") as caught:
            await connect_proxy(address, proxy, host="::1", port=443, timeout=10.0)
    expected = base64.b64encode("us@er:s\xe9cret".encode()).decode()
    assert heads[0].decode().splitlines() == [
        "CONNECT [::1]:443 HTTP/1.1",
        "Host: [::1]:443",
        f"Proxy-Authorization: Basic {expected}",
        "",
    ]
    for text in (str(caught.value), repr(proxy)):
        assert "cret" not in text
        assert expected not in text


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("http://proxy:3128", "proxy", 3128),
        ("http://[::1]:8080/", "::1", 8080),
        ("HTTP://10.0.0.1", "10.0.0.1", 80),
    ],
)
def test_urls_of_proxies(url: str, host: str, port: int) -> None:
    proxy = HttpProxy.parse(url)
    assert (proxy.host, proxy.port, proxy.authorization) == (host, port, "")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "proxy:3128",
        "https://proxy",
        "socks5://proxy",
        "http://",
        "http://proxy/path",
        "http://proxy?x",
        "http://proxy:99999",
        "http://proxy:x",
        "http://a:b@",
        "http://[::1",
        "http://pro xy",
        "http://us%3Aer:x@proxy",
        None,
    ],
)
def test_urls_that_are_no_proxies(url: Any) -> None:
    with pytest.raises(ConfigurationError, match="fallback_proxy"):
        HttpProxy.parse(url)


def test_a_bad_url_of_a_proxy_does_not_show_its_password() -> None:
    with pytest.raises(ConfigurationError) as caught:
        HttpProxy.parse("http://user:secret@proxy/path")
    assert "secret" not in str(caught.value)


async def test_limits_of_a_link_reach_it() -> None:
    async with listening() as listener:
        options = LinkOptions(close_timeout=0.05)
        link = await dial(
            listener.address, server_name="a", tls=None, timeout=10.0, options=options
        )
        ends = Ends(link)
        link.close(1000)
        await ends.closed
        await until(lambda: listener.links[0] in listener.ended)
