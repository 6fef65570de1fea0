"""Names as a client has them: international ones, and addresses with a zone."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from pywebtransport import ClientConfig, WebTransportClient
from pywebtransport import exceptions as errors
from pywebtransport.connection import ConnectionPool, WebTransportConnection
from pywebtransport.connection.utils import test_tcp_connection as tcp_answers
from pywebtransport.utils import (
    build_webtransport_url,
    generate_self_signed_cert,
    resolve_address,
)
from tests.support.certificates import Certificates
from tests.support.endpoints import ClientFactory, Serving
from tests.support.names import add_hosts

NAME, ASCII = "Faß.example", "xn--fa-hia.example"


@pytest.fixture
def international(tmp_path: Path) -> dict[str, str]:
    """Fields of a server whose certificate is for the name."""
    certfile, keyfile = generate_self_signed_cert(NAME, str(tmp_path))
    return {"certfile": certfile, "keyfile": keyfile}


async def test_international_name_is_that_of_browsers_everywhere(
    serving: Serving,
    client_config: ClientFactory,
    certs: Certificates,
    international: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The resolver, SNI, the certificate and :authority all get the one form."""
    add_hosts(monkeypatch, {ASCII: "127.0.0.1", f"{ASCII}.": "127.0.0.1"})
    pair = (international["certfile"], international["keyfile"])
    config = client_config(ca_certs=international["certfile"])
    async with (
        serving(sni_certificates={NAME: pair}) as served,
        WebTransportClient(config=config) as client,
        ConnectionPool() as pool,
    ):
        for name in (NAME, ASCII, "FAß.EXAMPLE."):
            session = await client.connect(f"https://{name}:{served.port}/")
            authority = (
                f"{ASCII}.:{served.port}" if name.endswith(".") else f"{ASCII}:{served.port}"
            )
            assert session.authority == authority
            assert served.server.sessions[-1].authority == authority
            await session.close()
        connection = await pool.get_connection(config=config, host=NAME, port=served.port)
        await connection.wait_for_ready_session()
        await pool.return_connection(connection)
        assert await pool.get_connection(config=config, host=ASCII, port=served.port) is connection


async def test_the_other_name_is_another(
    client_config: ClientFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name by IDNA 2003 may belong to another owner."""
    asked: list[str] = []
    loop = asyncio.get_running_loop()

    async def getaddrinfo(host: str, *args: Any, **options: Any) -> Any:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    async with WebTransportClient(config=client_config()) as client:
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: client.connect(f"https://{NAME}/"),
            lambda: WebTransportConnection(client.config).connect(host=NAME, port=1),
            lambda: resolve_address(NAME, 1),
        ]
        for call in calls:
            with pytest.raises(errors.UnreachableError):
                await call()
    assert not await tcp_answers(NAME, 1)
    assert {name.lower() for name in asked} == {ASCII}


@pytest.mark.parametrize("host", ["xn--a", "a b", "", "[::1", "1.2.3", "\u202ea.example", 3, None])
async def test_host_that_is_none(client_config: ClientFactory, host: Any) -> None:
    connection = WebTransportConnection(config=client_config())
    with pytest.raises(errors.ConfigurationError, match="host = "):
        await connection.connect(host=host, port=1)
    assert connection.state == "idle"
    async with ConnectionPool() as pool:
        with pytest.raises(errors.ConfigurationError, match="host = "):
            await pool.get_connection(config=client_config(), host=host, port=1)


@pytest.mark.parametrize("name", ["localhost", "LocalHost.", "a.b.localhost", "app.LOCALHOST."])
async def test_names_of_this_machine_need_no_name_service(
    serving: Serving,
    client_config: ClientFactory,
    certs: Certificates,
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    caplog.set_level("INFO", "pywebtransport.access")
    config = client_config(server_certificate_hashes=[certs.server.hash])
    async with (
        serving(host="::1", access_log=True, **certs.server.files) as served,
        WebTransportClient(config=config) as client,
        client.connect(f"https://{name}:{served.port}/") as session,
    ):
        assert session.authority == f"{name.lower()}:{served.port}"
        (line,) = [record.getMessage() for record in caplog.records]
        assert line.startswith("[::1]:")


async def test_lines_of_the_configuration(serving: Serving, client_config: ClientFactory) -> None:
    config = client_config(headers={"X-A": ["1", "2"], "cookie": ("a=1", "b=2"), "x-b": "3"})
    plain = config.to_dict()["headers"]
    assert plain == {"x-a": ["1", "2"], "cookie": ["a=1", "b=2"], "x-b": "3"}
    for one in (
        config,
        config.copy(),
        ClientConfig.from_dict(config.to_dict()),
        config.merge({"headers": {"x-a": ["1", "2"], "cookie": ["a=1", "b=2"]}}),
    ):
        async with serving() as served, WebTransportClient(config=one) as client:
            await client.connect(served.url())
            headers = served.server.sessions[0].headers
            assert headers.get_all("x-a") == ["1", "2"]
            assert headers.get_all("cookie") == ["a=1", "b=2"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "::ffff:0.0.0.0"])
async def test_address_to_listen_at_is_none_to_connect_to(
    serving: Serving, client_config: ClientFactory, host: str
) -> None:
    """Its packets would arrive, and the answers come from another address: silence."""
    async with serving(host="0.0.0.0") as served, WebTransportClient(config=client_config()) as c:
        url = build_webtransport_url(host=host, port=served.port)
        with pytest.raises(errors.ConfigurationError, match="localhost"):
            await c.connect(url)


async def test_name_that_a_filter_answers_for(
    client_config: ClientFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_hosts(monkeypatch, {"blocked.example": "0.0.0.0"})
    async with WebTransportClient(config=client_config()) as client:
        with pytest.raises(errors.UnreachableError, match="filtering name server"):
            await client.connect("https://blocked.example:1/")


async def test_ipv4_address_in_the_form_of_ipv6(
    serving: Serving, client_config: ClientFactory, certs: Certificates
) -> None:
    config = client_config(server_certificate_hashes=[certs.server.hash])
    async with (
        serving(host="::ffff:127.0.0.1", **certs.server.files) as served,
        WebTransportClient(config=config) as client,
        client.connect(f"https://[::ffff:127.0.0.1]:{served.port}/") as session,
    ):
        assert session.remote_address == ("127.0.0.1", served.port)


async def test_zone_is_for_this_machine_only(
    serving: Serving, client_config: ClientFactory
) -> None:
    """The socket gets it; certificate, SNI and :authority do not (RFC 6874)."""
    zone = socket.if_nametoindex("lo")
    async with serving(host="::1") as served, WebTransportClient(config=client_config()) as client:
        url = f"https://[::1%25{zone}]:{served.port}/"
        session = await client.connect(url)
        assert session.remote_address is not None
        assert session.remote_address[0].startswith("::1%")
        assert session.authority == f"[::1]:{served.port}"
        assert served.server.sessions[0].authority == f"[::1]:{served.port}"


async def test_zone_that_this_machine_has_not(client_config: ClientFactory) -> None:
    async with WebTransportClient(config=client_config()) as client:
        with pytest.raises(errors.UnreachableError, match="network interface after the '%'"):
            await client.connect("https://[fe80::1%25nosuch0]:4433/")
