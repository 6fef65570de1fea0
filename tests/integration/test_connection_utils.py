"""The connection helpers: retries, several servers at a time, reachability."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Any

import pytest

from pywebtransport.connection import WebTransportConnection
from pywebtransport.connection import utils as connection_utils
from pywebtransport.connection.utils import (
    connect_with_retry,
    create_multiple_connections,
    ensure_connection,
    test_multiple_connections,
    test_tcp_connection,
)
from pywebtransport.exceptions import (
    CertificateError,
    ConfigurationError,
    ConnectionError,
    UnreachableError,
)
from tests.support.certificates import Certificates
from tests.support.endpoints import ClientFactory, Serving
from tests.support.pooling import ask, closed_port, open_session, silent_port
from tests.support.steps import cancelled_at, echo_bidirectional, until

from .raw_peer import raw_server

# ------------------------------------------------------------------------ retries


async def test_retry_until_the_server_is_there(
    serving: Serving, client_config: ClientFactory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pywebtransport.connection")
    port = closed_port()
    connecting = asyncio.create_task(
        connect_with_retry(
            config=client_config(),
            host="127.0.0.1",
            port=port,
            path="/late",
            max_retries=100_000,
            retry_delay=0.01,
            backoff_factor=1.0,
        )
    )
    await until(lambda: "retry 3 of" in caplog.text)
    async with serving(echo_bidirectional, bind_port=port), await connecting as connection:
        session = await open_session(connection)
        assert session.path == "/late"
        assert await ask(session, b"at last") == b"at last"


async def test_pauses_grow_are_capped_and_vary(
    client_config: ClientFactory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pywebtransport.connection")
    config = client_config(retry_delay=0.001, max_retry_delay=0.004)
    with pytest.raises(UnreachableError):
        await connect_with_retry(
            config=config, host="127.0.0.1", port=closed_port(), max_retries=6, retry_delay=0.001
        )
    pauses = [float(text) for text in re.findall(r"in ([0-9.]+) s$", caplog.text, re.MULTILINE)]
    assert len(pauses) == 6
    for pause, full in zip(pauses, [0.001, 0.002, 0.004, 0.004, 0.004, 0.004], strict=True):
        assert full / 2 - 0.0005 <= pause <= full + 0.0005


async def test_only_what_may_help_is_tried_again(
    serving: Serving, client_config: ClientFactory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pywebtransport.connection")
    async with serving() as served:
        with pytest.raises(CertificateError):
            await connect_with_retry(
                config=client_config(ca_certs=None), host=served.host, port=served.port
            )
    with pytest.raises(UnreachableError):
        await connect_with_retry(
            config=client_config(), host="127.0.0.1", port=closed_port(), max_retries=0
        )
    assert "retry" not in caplog.text


@pytest.mark.parametrize(
    ("field", "value"), [("max_retries", -1), ("retry_delay", -0.1), ("backoff_factor", 0.5)]
)
async def test_bad_retry_values_are_named(
    field: str, value: float, client_config: ClientFactory
) -> None:
    with pytest.raises(ConfigurationError, match=field):
        await connect_with_retry(
            config=client_config(),
            host="127.0.0.1",
            port=1,
            **{field: value},  # type: ignore[arg-type]
        )


async def test_retrying_may_be_cancelled(serving: Serving, client_config: ClientFactory) -> None:
    async with serving() as served:

        async def connect() -> None:
            connection = await connect_with_retry(
                config=client_config(), host=served.host, port=served.port
            )
            connection.close_nowait()

        index = 0
        while await cancelled_at(connect, index):
            index += 1
        assert index > 0


# -------------------------------------------------------------- several at a time


async def test_several_connections_by_name(
    serving: Serving, client_config: ClientFactory, caplog: pytest.LogCaptureFixture
) -> None:
    port = closed_port()
    async with serving() as first, serving(host="::1") as second:
        targets = [("::1", second.port), ("127.0.0.1", port), ("127.0.0.1", first.port)]
        made = await create_multiple_connections(
            config=client_config(), targets=[*targets, targets[0]], path="/all", max_concurrent=1
        )
        assert list(made) == [f"[::1]:{second.port}", f"127.0.0.1:{first.port}"]
        assert f"no connection to 127.0.0.1:{port}" in caplog.text
        for connection in made.values():
            async with connection:
                assert (await open_session(connection)).path == "/all"


async def test_several_connections_leave_nothing_open_on_an_error(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving() as served:
        targets = [(served.host, served.port), ("127.0.0.1", 9)]
        with pytest.raises(ConfigurationError, match="path"):
            await create_multiple_connections(
                config=client_config(), targets=targets, path="no slash"
            )
        with pytest.raises(ConfigurationError, match="max_concurrent"):
            await create_multiple_connections(
                config=client_config(), targets=targets, max_concurrent=0
            )
        await until(lambda: not served.server.connections)


async def test_several_connections_may_be_cancelled(
    serving: Serving, client_config: ClientFactory
) -> None:
    with silent_port() as silent:
        async with serving() as served:
            connecting = asyncio.create_task(
                create_multiple_connections(
                    config=client_config(),
                    targets=[(served.host, served.port), ("127.0.0.1", silent)],
                )
            )
            await until(lambda: served.server.connections)
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
            await until(lambda: not served.server.connections)


# ------------------------------------------------------------------------- ensure


async def test_ensure_connection(serving: Serving, client_config: ClientFactory) -> None:
    config = client_config()
    async with serving() as served:
        where: dict[str, Any] = {"config": config, "host": served.host, "port": served.port}
        connection = await WebTransportConnection.create_client(**where)
        assert await ensure_connection(connection=connection, **where) is connection
        await connection.close()
        with pytest.raises(ConnectionError, match="reconnect is False"):
            await ensure_connection(connection, **where, reconnect=False)
        async with await ensure_connection(connection, **where, path="/again") as other:
            assert other is not connection
            assert (await open_session(other)).path == "/again"

            # A server that is going away: the connection works, but not for long.
            (far,) = served.server.connections
            assert far._driver is not None
            far._driver.layer.send_goaway()
            far.flush_nowait()
            await until(lambda: other.state == "draining")
            async with await ensure_connection(other, **where) as third:
                assert other.is_closed
                assert third.is_connected


# ------------------------------------------------------------------- reachability


async def test_servers_answer_or_not(serving: Serving, certs: Certificates) -> None:
    port = closed_port()
    async with serving() as served, serving(host="::1") as other:
        targets = [(served.host, served.port), ("127.0.0.1", port), ("::1", other.port)]
        assert await test_multiple_connections(targets=targets) == {
            f"127.0.0.1:{served.port}": True,
            f"127.0.0.1:{port}": False,
            f"[::1]:{other.port}": True,
        }
        await until(lambda: not served.server.connections)
    with pytest.raises(ConfigurationError, match="timeout"):
        await test_multiple_connections(targets=targets, timeout=0)


async def test_quic_alone_is_no_answer(certs: Certificates) -> None:
    with silent_port() as silent:
        async with raw_server(certs) as raw:
            targets = [("127.0.0.1", raw.port), ("127.0.0.1", silent)]
            # This server says nothing above QUIC, the other nothing at all.
            looking = asyncio.create_task(test_multiple_connections(targets, timeout=1.5))
            await raw.accept(None)
            assert list((await looking).values()) == [False, False]

            looking = asyncio.create_task(test_multiple_connections(targets[:1]))
            await raw.accept({})  # HTTP/3 without WebTransport
            assert list((await looking).values()) == [False]


async def test_tcp_port_accepts_or_not() -> None:
    accepted = asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        accepted.set()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await test_tcp_connection(host="127.0.0.1", port=port)
        await accepted.wait()
    assert not await test_tcp_connection(host="127.0.0.1", port=port)
    for host in ("a" * 64, "a..b", "a\0b"):  # names that cannot exist
        assert not await test_tcp_connection(host, port)
    with pytest.raises(ConfigurationError, match="port = 65536"):
        await test_tcp_connection("127.0.0.1", 65536)


def test_helpers_are_no_tests() -> None:
    for name in connection_utils.__all__:
        if name.startswith("test_"):
            assert getattr(connection_utils, name).__test__ is False
