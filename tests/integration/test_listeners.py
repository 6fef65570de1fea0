"""Where a server listens, and that clients reach it there."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from pywebtransport import ServerApp, WebTransportClient
from pywebtransport.exceptions import ConfigurationError, ServerError, UnreachableError
from pywebtransport.server import WebTransportServer
from tests.support.endpoints import ClientFactory, ServerFactory, Serving
from tests.support.names import add_hosts
from tests.support.ports import free_port
from tests.support.steps import round_trip


async def test_localhost_is_both_loopback_addresses(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with serving(host="localhost") as served:
        addresses = served.server.local_addresses
        assert {host for host, _ in addresses} == {"127.0.0.1", "::1"}
        assert len({port for _, port in addresses}) == 1
        assert served.port != 0
        async with WebTransportClient(config=client_config()) as client:
            for host in ("127.0.0.1", "[::1]", "localhost"):
                session = await client.connect(served.url(host=host))
                far = next(s for s in served.server.sessions if s.authority == session.authority)
                await round_trip(session, far, host.encode())


@pytest.mark.parametrize("listening", ["127.0.0.1", "::1"])
async def test_localhost_falls_back_to_the_family_that_answers(
    serving: Serving, client_config: ClientFactory, listening: str
) -> None:
    async with (
        serving(host=listening) as served,
        WebTransportClient(config=client_config()) as client,
    ):
        session = await client.connect(served.url(host="localhost"))
        await round_trip(session, served.server.sessions[0], b"found")


async def test_fallback_when_one_family_swallows_packets(
    serving: Serving, client_config: ClientFactory
) -> None:
    """A socket on ::1 that never answers takes the first attempt; IPv4 wins beside it."""
    async with serving(host="127.0.0.1", bind_port=free_port()) as served:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as silent:
            silent.bind(("::1", served.port))
            config = client_config(happy_eyeballs_delay=0.01)
            async with WebTransportClient(config=config) as client:
                session = await client.connect(served.url(host="localhost"))
                assert session.remote_address == ("127.0.0.1", served.port)
                await round_trip(session, served.server.sessions[0], b"found")


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
async def test_family_can_be_chosen(
    serving: Serving, client_config: ClientFactory, family: str
) -> None:
    async with (
        serving(host="localhost") as served,
        WebTransportClient(config=client_config(ip_family=family)) as client,
    ):
        session = await client.connect(served.url(host="localhost"))
        assert session.remote_address is not None
        assert (":" in session.remote_address[0]) is (family == "ipv6")
        other = "[::1]" if family == "ipv4" else "127.0.0.1"
        with pytest.raises(UnreachableError):
            await client.connect(served.url(host=other))


@pytest.mark.parametrize("host", ["::", "0.0.0.0", ""])
async def test_wildcards_answer_from_the_address_that_was_asked(
    serving: Serving, client_config: ClientFactory, host: str
) -> None:
    async with serving(host=host) as served:
        targets = ["127.0.0.1"] if host == "0.0.0.0" else ["127.0.0.1", "[::1]"]
        async with WebTransportClient(config=client_config()) as client:
            for target in targets:
                session = await client.connect(served.url(host=target))
                far = next(s for s in served.server.sessions if s.authority == session.authority)
                await round_trip(session, far, b"here")


async def test_several_listeners_share_one_server(
    client_config: ClientFactory, server_config: ServerFactory
) -> None:
    app = ServerApp(config=server_config())
    app.router.set_default_handler(lambda session: session.wait_closed())
    async with app:
        for host in ("127.0.0.1", "127.0.0.2", "::1"):
            await app.listen(host=host, port=0)
        addresses = app.server.local_addresses
        assert [host for host, _ in addresses] == ["127.0.0.1", "127.0.0.2", "::1"]
        assert app.server.local_address == addresses[0]
        async with WebTransportClient(config=client_config(verify_mode=0)) as client:
            for host, port in addresses:
                shown = f"[{host}]" if ":" in host else host
                session = await client.connect(f"https://{shown}:{port}/")
                assert session.remote_address == (host, port)
            assert len(app.server.sessions) == 3
        await app.server.close(drain_timeout=0)
    assert app.server.local_addresses == []


async def test_address_in_use_is_named_with_what_to_do(
    serving: Serving, server_config: ServerFactory
) -> None:
    async with serving() as served:
        app = ServerApp(config=server_config())
        async with app:
            with pytest.raises(ServerError) as caught:
                await app.listen(host=served.host, port=served.port)
    assert caught.value.bind_address == (served.host, served.port)
    assert f"{served.host}:{served.port}" in str(caught.value)
    assert "choose another port" in str(caught.value)


@pytest.mark.parametrize(
    ("host", "port", "words"),
    [
        ("192.0.2.1", 0, "no such address"),
        ("127.0.0.1", 70_000, "70000"),
        ("nonexistent.invalid", 0, "nonexistent.invalid"),
    ],
)
async def test_addresses_that_cannot_be_bound(
    server_config: ServerFactory, host: str, port: int, words: str
) -> None:
    async with ServerApp(config=server_config()) as app:
        with pytest.raises((ConfigurationError, ServerError, UnreachableError), match=words):
            await app.listen(host=host, port=port)
        assert not app.server.is_serving
        # Nothing is left; the same server can still be told another address.
        await app.listen()
        assert app.server.is_serving


async def test_name_is_bound_on_its_addresses(
    serving: Serving, client_config: ClientFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_hosts(monkeypatch, {"this.machine.test": "127.0.0.3"})
    async with serving(host="this.machine.test") as served:
        assert served.host == "127.0.0.3"


async def test_names_that_are_looked_up_at_once_share_one_server(
    server_config: ServerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_hosts(monkeypatch, {"one.test": "127.0.0.3", "two.test": "127.0.0.4"})
    async with WebTransportServer(config=server_config()) as server:
        await asyncio.gather(server.listen(host="one.test"), server.listen(host="two.test"))
        assert {host for host, _ in server.local_addresses} == {"127.0.0.3", "127.0.0.4"}


async def test_server_closed_while_a_name_is_looked_up_does_not_listen(
    server_config: ServerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()
    add_hosts(monkeypatch, {"one.test": "127.0.0.3"})
    loop = asyncio.get_running_loop()
    lookup = loop.getaddrinfo

    async def slow_lookup(*arguments: Any, **options: Any) -> Any:
        asked.set()
        await answer.wait()
        return await lookup(*arguments, **options)

    monkeypatch.setattr(loop, "getaddrinfo", slow_lookup)
    server = WebTransportServer(config=server_config())
    listening = asyncio.create_task(server.listen(host="one.test"))
    await asked.wait()
    await server.close()
    answer.set()
    with pytest.raises(ServerError, match="closed"):
        await listening
    assert server.local_address is None


async def test_many_clients_connect_at_once(serving: Serving, client_config: ClientFactory) -> None:
    async with serving() as served:

        async def one(number: int) -> None:
            async with (
                WebTransportClient(config=client_config()) as client,
                client.connect(served.url(f"/{number}")) as session,
            ):
                far = next(s for s in served.server.sessions if s.path == session.path)
                await round_trip(session, far, session.path.encode())

        await asyncio.gather(*(one(number) for number in range(20)))
