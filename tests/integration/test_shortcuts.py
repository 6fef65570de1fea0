"""``connect`` and ``serve``: a session and a server in one call."""

from __future__ import annotations

import asyncio
import base64
import errno
import gc
from pathlib import Path
from typing import Any

import pytest

import pywebtransport
from pywebtransport import (
    ClientConfig,
    ServerConfig,
    WebTransportSession,
    WebTransportStream,
    connect,
    serve,
)
from pywebtransport.exceptions import (
    CertificateError,
    ClientArgumentError,
    ConfigurationError,
    ServerError,
    SessionRejectedError,
    TimeoutError,
    UnreachableError,
)
from pywebtransport.utils import certificate_hash
from tests.support.certificates import Certificates
from tests.support.endpoints import ClientFactory, ServerFactory, Serving
from tests.support.leaks import open_descriptors
from tests.support.ports import free_port
from tests.support.steps import cancelled_at, until


def words(value: object) -> str:
    """A name of a test that is the same in every process."""
    return value if isinstance(value, str) else ""


async def echo(session: WebTransportSession) -> None:
    async for datagram in session.datagrams:
        session.datagrams.try_send(datagram)


async def stay(session: WebTransportSession) -> None:
    """Leaves the session to the client."""


# ------------------------------------------------------------------------- connect


async def test_a_session_in_one_call(certs: Certificates, serving: Serving) -> None:
    async with serving(echo) as served:
        before = open_descriptors()
        async with connect(served.url("/a?b=c"), ca_certs=certs.authority.certfile) as session:
            assert session.path == "/a?b=c"
            await session.datagrams.send(b"hello")
            assert await session.datagrams.receive() == b"hello"
            connection = session.connection
        assert session.is_closed
        assert connection is not None
        assert connection.is_closed
        await until(lambda: open_descriptors() == before)


async def test_an_awaited_session_closes_what_it_opened(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving(echo) as served:
        before = open_descriptors()
        session = await connect(served.url(), config=client_config())
        await session.datagrams.send(b"hello")
        assert await session.datagrams.receive() == b"hello"
        assert open_descriptors() != before
        gc.collect()  # nobody but the connection knows the client
        assert not session.is_closed
        await session.close()
        await until(lambda: open_descriptors() == before)


async def test_a_session_that_the_peer_ends_leaves_nothing(
    serving: Serving, client_config: ClientFactory
) -> None:
    async def end(session: WebTransportSession) -> None:
        await session.close(code=5, reason="enough")

    async with serving(end) as served:
        before = open_descriptors()
        session = await connect(served.url(), config=client_config())
        assert (await session.wait_closed()).code == 5
        await until(lambda: open_descriptors() == before)


async def test_an_exception_closes_the_session_with_code_1(
    serving: Serving, client_config: ClientFactory
) -> None:
    ends: asyncio.Queue[int | None] = asyncio.Queue()

    async def note(session: WebTransportSession) -> None:
        ends.put_nowait((await session.wait_closed()).code)

    async with serving(note) as served:
        with pytest.raises(ZeroDivisionError):
            async with connect(served.url(), config=client_config()):
                raise ZeroDivisionError
        assert await ends.get() == 1


async def test_fields_go_into_the_request(serving: Serving, client_config: ClientFactory) -> None:
    """They replace those of ``config``, which does not change."""
    seen: list[tuple[str | None, list[str]]] = []

    async def note(session: WebTransportSession) -> None:
        seen.append((session.headers.get("x-room"), list(session.offered_protocols)))

    config = client_config(headers={"x-room": "old"}, application_protocols=["old"])
    async with serving(note, application_protocols=["new", "old"]) as served:
        async with connect(
            served.url(), config=config, headers={"x-room": "new"}, application_protocols=["new"]
        ) as session:
            assert session.application_protocol == "new"
        async with connect(served.url(), config=config) as session:
            assert session.application_protocol == "old"
    assert seen == [("new", ["new"]), ("old", ["old"])]


async def test_certificate_hashes_of_every_kind(certs: Certificates, serving: Serving) -> None:
    digest = certs.self_signed.hash
    async with serving(stay, **certs.self_signed.files) as served:
        for given in (
            digest,
            digest.hex(),
            ":".join(f"{byte:02X}" for byte in digest),
            base64.b64encode(digest).decode(),
            {"algorithm": "sha-256", "value": digest},
        ):
            async with connect(served.url(), server_certificate_hashes=[given]) as session:
                assert session.is_ready
        with pytest.raises(CertificateError):
            await connect(served.url(), server_certificate_hashes=["00" * 32])


async def test_failures_leave_nothing(
    serving: Serving, server_config: ServerFactory, client_config: ClientFactory
) -> None:
    app = pywebtransport.ServerApp(config=server_config())
    config = client_config()
    before = open_descriptors()
    with pytest.raises(UnreachableError):
        await connect(f"https://127.0.0.1:{free_port()}/", config=config)
    await until(lambda: open_descriptors() == before)
    async with serving(app) as served:
        before = open_descriptors()
        with pytest.raises(SessionRejectedError):
            async with connect(served.url("/nothing"), config=config):
                raise AssertionError
        await until(lambda: open_descriptors() == before)


async def test_timeout(serving: Serving, client_config: ClientFactory) -> None:
    released = asyncio.Event()

    async def wait(session: WebTransportSession) -> bool:
        await released.wait()
        return True

    async with serving(stay, middleware=[wait]) as served:
        with pytest.raises(TimeoutError):
            await connect(served.url(), config=client_config(), timeout=0.1)
        with pytest.raises(TimeoutError):
            await connect(served.url(), config=client_config(), connect_timeout=0.1)
        released.set()


async def test_cancelled_at_any_moment_it_leaves_nothing(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving(stay) as served:
        before = open_descriptors()

        async def one() -> None:
            async with connect(served.url(), config=client_config()):
                pass

        index, reached = 0, True
        while reached:
            reached = await cancelled_at(one, index)
            index += 1
        assert index > 3
        await until(lambda: open_descriptors() == before)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"connect_timout": 5}, "did you mean connect_timeout"),
        ({"connect_timeout": -1}, "connect_timeout"),
        ({"allow_pooling": True}, r"allow_pooling.*use WebTransportClient"),
        ({"auto_reconnect": True}, r"auto_reconnect.*use ReconnectingClient"),
        ({"config": ClientConfig(auto_reconnect=True)}, "auto_reconnect"),
        ({"config": ServerConfig()}, "config"),
        ({"config": {"connect_timeout": 5}}, "config"),
    ],
    ids=words,
)
def test_a_wrong_argument_is_refused_at_the_call(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        connect("https://localhost:1/", **arguments)


@pytest.mark.parametrize("timeout", [0, -1, "3", True, float("nan")])
async def test_a_wrong_timeout_is_refused(timeout: Any) -> None:
    with pytest.raises(ClientArgumentError, match=r"more than 0 seconds, or None.*got"):
        await connect("https://localhost:1/", timeout=timeout)


@pytest.mark.filterwarnings("ignore:coroutine '.*' was never awaited")
async def test_what_was_not_awaited_says_so() -> None:
    server, session = serve(echo, "localhost", 0), connect("https://localhost:1/")
    for given, name in ((server, "url"), (session, "datagrams")):
        assert "await it" in repr(given)
        with pytest.raises(AttributeError, match=f"no attribute '{name}'; .*await it"):
            getattr(given, name)
        assert not hasattr(given, "_closed")
        given.close()


async def test_a_wrong_url_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="https"):
        await connect("http://localhost/")


# --------------------------------------------------------------------------- serve


async def test_a_server_in_one_call(certs: Certificates) -> None:
    async with serve(echo, "localhost", 0, **certs.self_signed.files) as server:
        assert server.port == server.local_addresses[0][1] > 0
        assert server.url == f"https://localhost:{server.port}/"
        assert server.certificate_hash == certs.self_signed.hash
        async with connect(server.url, server_certificate_hashes=[server.certificate_hash]) as one:
            await one.datagrams.send(b"hello")
            assert await one.datagrams.receive() == b"hello"
    assert not server.is_serving
    with pytest.raises(ServerError, match="does not listen"):
        _ = server.port
    with pytest.raises(ServerError, match="does not listen"):
        _ = server.url


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", None])
async def test_a_development_certificate_on_this_machine(host: str | None) -> None:
    """It is gone when the server closes."""
    async with serve(stay, host, 0) as server:
        directory = Path(server.config.certfile).parent
        assert directory.stat().st_mode & 0o777 == 0o700
        assert certificate_hash(server.config.certfile) == server.certificate_hash
        shown = {"::1": "[::1]", None: "localhost"}.get(host, host)
        assert server.url == f"https://{shown}:{server.port}/"
        async with connect(server.url, server_certificate_hashes=[server.certificate_hash]) as one:
            assert one.is_ready
    assert not directory.exists()


async def test_a_server_that_was_awaited_listens_until_it_is_closed() -> None:
    server = await serve(echo, "localhost", 0)
    directory = Path(server.config.certfile).parent
    assert server.is_serving
    session = await connect(server.url, server_certificate_hashes=[server.certificate_hash])
    await session.datagrams.send(b"hello")
    assert await session.datagrams.receive() == b"hello"
    await session.close()
    assert directory.exists()
    await server.close()
    assert not server.is_serving
    assert repr(server) == "<WebTransportServer: closed>"
    with pytest.raises(ServerError, match="closed; make a new one"):
        await server.serve_forever()
    with pytest.raises(ServerError, match="closed; make a new one"):
        _ = server.url
    assert not directory.exists()
    await server.close()


async def test_a_server_that_was_awaited_can_be_used_in_a_block(certs: Certificates) -> None:
    async with await serve(echo, "localhost", 0, **certs.self_signed.files) as server:
        with pytest.raises(ServerError) as caught:
            await serve(echo, "localhost", server.port, **certs.self_signed.files)
        assert caught.value.details["errno"] == errno.EADDRINUSE
    assert not server.is_serving


async def test_a_development_certificate_is_gone_after_a_failure() -> None:
    made: list[Path] = []

    async with serve(stay, "127.0.0.1", 0) as server:
        with pytest.raises(ServerError) as caught:
            async with serve(stay, "127.0.0.1", server.port) as other:
                made.append(Path(other.config.certfile))
        assert caught.value.details["errno"] == errno.EADDRINUSE
    assert made == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "server.example", "192.0.2.1"])
def test_other_hosts_need_a_certificate(host: str) -> None:
    with pytest.raises(ConfigurationError, match="generate_self_signed_cert") as caught:
        serve(stay, host)
    assert caught.value.config_key == "certfile"


async def test_url_of_a_server_on_every_address(certs: Certificates) -> None:
    async with serve(stay, "", 0, **certs.self_signed.files) as server:
        assert server.url == f"https://localhost:{server.port}/"
        async with connect(server.url, server_certificate_hashes=[server.certificate_hash]) as one:
            assert one.is_ready


async def test_configuration_and_fields_of_a_server(
    server_config: ServerFactory, client_config: ClientFactory
) -> None:
    config = server_config(max_sessions=5)
    async with serve(stay, config=config, max_sessions=1) as server:
        assert (server.config.max_sessions, config.max_sessions) == (1, 5)
        async with connect(server.url, config=client_config()):
            with pytest.raises(SessionRejectedError) as caught:
                await connect(server.url, config=client_config())
        assert caught.value.status_code == 429


async def test_every_path_leads_to_the_handler(client_config: ClientFactory) -> None:
    async def tell(session: WebTransportSession) -> None:
        stream: WebTransportStream = await session.create_bidirectional_stream()
        await stream.write_all(session.path.encode())

    async with serve(tell, "localhost", 0) as server:
        for path in ("", "a/b", "%7Bx%7D?y=z"):
            async with connect(
                server.url + path, server_certificate_hashes=[server.certificate_hash]
            ) as session:
                stream = await anext(aiter(session.incoming_bidirectional_streams()))
                assert (await stream.read_all()).decode() == f"/{path}"


async def test_serving_for_ever_ends_with_its_task() -> None:
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def program() -> None:
        async with serve(echo, "localhost", 0) as server:
            listening.set_result(server.url)
            await server.serve_forever()

    task = asyncio.create_task(program())
    await listening
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"handler": None}, "cannot be called"),
        ({"handler": lambda: None}, "parameters are"),
        ({"port": "4433"}, "write 4433"),
        ({"port": 70000}, "port"),
        ({"host": 5}, "host"),
        ({"port": -1}, "port = -1: expected a whole number from 0 to 65535"),
        ({"host": "localhost:80"}, "host = 'localhost:80': .* without port and brackets"),
        ({"host": "[::1]"}, r"host = '\[::1\]': .* without port and brackets"),
        ({"bind_host": "::1"}, "bind_host = '::1': host = 'localhost' is given, too"),
        ({"bind_port": 1}, "bind_port = 1: port = 0 is given, too"),
        ({"handler": 3}, "handler = 3: it cannot be called"),
        ({"config": ClientConfig()}, "expected a ServerConfig"),
        ({"certificate": "a.crt"}, "has no field 'certificate'"),
        ({"certfile": "a.crt"}, "certfile needs its keyfile"),
    ],
    ids=words,
)
def test_a_wrong_argument_of_a_server_is_refused_at_the_call(
    arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        serve(**{"handler": stay, "host": "localhost", "port": 0} | arguments)


async def test_a_certificate_that_is_missing(tmp_path: Path) -> None:
    server = serve(stay, certfile=tmp_path / "a.crt", keyfile=tmp_path / "a.key")
    with pytest.raises(ConfigurationError, match="no such file"):
        async with server:
            raise AssertionError


def test_a_server_without_a_certificate_has_no_hash() -> None:
    with pytest.raises(ServerError, match="certfile is not set"):
        _ = pywebtransport.ServerApp().server.certificate_hash
