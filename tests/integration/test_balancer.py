"""Servers behind a balancer that routes by connection IDs (draft-ietf-quic-load-balancers)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pywebtransport import ServerApp, ServerConfig, WebTransportClient
from pywebtransport.connection import WebTransportConnection
from pywebtransport.exceptions import ConfigurationError, ConnectionError
from tests.integration.test_workers import ask, who, workers
from tests.support.balancer import Balancer
from tests.support.certificates import Certificates
from tests.support.endpoints import ClientFactory, ServerFactory
from tests.support.steps import echo_bidirectional, until

CLIENTS = 12
MOVES = 40
SECRET = bytes(range(32)).hex()


@asynccontextmanager
async def fleet(
    certs: Certificates, loop_name: str, *server_ids: bytes, **changes: Any
) -> AsyncIterator[Balancer]:
    """Servers of two workers each, behind a balancer."""
    with ExitStack() as stack:
        ports = {
            server_id: stack.enter_context(
                workers(certs, loop_name, quic_lb_server_id=server_id.hex(), **changes)
            ).port
            for server_id in server_ids
        }
        balancer = Balancer(ports, changes.get("quic_lb_config_id", 0))
        try:
            yield balancer
        finally:
            balancer.close()


async def moved(connection: WebTransportConnection) -> bool:
    """Migrate; False if it came too soon after the last time."""
    try:
        await connection.migrate()
    except ConnectionError as error:
        if connection.is_closed:
            raise
        assert "no spare connection ID yet" in str(error) or "not validated" in str(error)  # noqa: PT017
        return False
    return True


async def test_a_client_moves_soon_after_its_nat_changed(
    client_config: ClientFactory, server_config: ServerFactory
) -> None:
    """The server does not know yet that the path before is gone: three in a row."""
    app = ServerApp(config=server_config())
    app.route("/")(echo_bidirectional)
    async with app, WebTransportClient(config=client_config()) as client:
        await app.server.listen()
        nat = Balancer({b"": app.server.port})
        try:
            session = await client.connect(f"https://127.0.0.1:{nat.port}/")
            connection = session.connection
            assert connection is not None
            for _ in range(5):
                nat.rebind()
                assert await ask(session) == b"?"
                while not await moved(connection):
                    assert await ask(session) == b"?"
                assert await ask(session) == b"?"
        finally:
            nat.close()


async def test_clients_that_move_keep_their_sessions(
    certs: Certificates, client_config: ClientFactory, loop_name: str
) -> None:
    """Two servers of two workers each; each client changes its address again and again."""
    shared = {"shared_secret": [{"hex": SECRET}], "quic_lb_config_id": 3}
    async with (
        fleet(certs, loop_name, b"\x01\x00", b"\x02\x00", **shared) as balancer,
        WebTransportClient(config=client_config()) as client,
    ):
        url = f"https://127.0.0.1:{balancer.port}/who"

        async def stay(_: int) -> int:
            own = WebTransportClient(config=client_config())
            async with own, own.connect(url) as session:
                home = (await who(session)).pid
                connection = session.connection
                assert connection is not None
                for number in range(MOVES):
                    if number < MOVES / 2:  # as a NAT does it
                        balancer.rebind(connection.local_address)
                    else:  # with another connection ID
                        while not await moved(connection):
                            await who(session)
                    assert (await who(session)).pid == home
                return home

        homes = await asyncio.gather(*map(stay, range(CLIENTS)))
        assert len(set(homes)) > 1
        assert set(balancer.routed) == set(balancer.servers)
        # Only the first packets of a client go where its address says.
        assert balancer.hashed < sum(balancer.routed.values()) / 10
        # A packet for a server that the balancer sends elsewhere ends nothing there.
        session = await client.connect(url)
        home = (await who(session)).pid
        one, two = balancer.servers
        balancer.servers = {one: balancer.servers[two], two: balancer.servers[one]}
        balancer.rebind()
        asking = asyncio.create_task(who(session))
        routed = sum(balancer.routed.values())
        await until(lambda: sum(balancer.routed.values()) > routed + 1)
        balancer.servers = {one: balancer.servers[two], two: balancer.servers[one]}
        balancer.rebind()
        assert (await asking).pid == home


async def test_servers_of_one_secret_accept_what_the_others_gave(
    certs: Certificates, client_config: ClientFactory, loop_name: str, tmp_path: Path
) -> None:
    """Address tokens and session tickets, also while the secret is being changed."""
    for name, byte in (("old", b"o"), ("new", b"n")):
        path = tmp_path / name
        path.write_bytes(byte * 32)
        path.chmod(0o600)
    old, new = str(tmp_path / "old"), str(tmp_path / "new")
    first, second = b"\x01", b"\x02"
    with ExitStack() as stack:

        def start(server_id: bytes, *secrets: str) -> int:
            process = workers(
                certs,
                loop_name,
                quic_lb_server_id=server_id.hex(),
                shared_secret=secrets,
                retry="always",
            )
            return stack.enter_context(process).port

        # Both know both, and the second issues with the new one already.
        balancer = Balancer({first: start(first, old, new)})
        stack.callback(balancer.close)
        others = {"same": start(second, old, new), "changed": start(second, new, old)}
        url = f"https://127.0.0.1:{balancer.port}/who"
        port = balancer.servers[first]

        async def visit(client: WebTransportClient) -> tuple[bool, bool]:
            """Whether TLS was resumed, and whether the client had to prove its address."""
            retries = balancer.retries
            async with client.connect(url) as session:
                await who(session)
                connection = session.connection
                assert connection is not None
                await until(lambda: connection.session_ticket and connection.address_token)
                return connection.is_resumed, balancer.retries > retries

        for other, resumes in (("same", True), ("changed", False)):
            async with WebTransportClient(config=client_config()) as client:
                balancer.servers = {first: port}
                assert await visit(client) == (False, True)
                balancer.servers = {second: others[other]}
                assert await visit(client) == (resumes, False)


async def test_the_environment_names_the_server(
    certs: Certificates, client_config: ClientFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_LBC_QUIC_SERVER_ID", "AQIDBAUGBwg=")
    config = ServerConfig(**certs.server.files)
    assert config.lb_server_id == bytes(range(1, 9))
    assert ServerConfig(quic_lb_server_id="0xff").lb_server_id == b"\xff"
    for wrong in ("x", "AQ", "AAAAAAAAAAAAAAAAAAAAAAAA"):
        monkeypatch.setenv("AWS_LBC_QUIC_SERVER_ID", wrong)
        with pytest.raises(ConfigurationError, match=r"AWS_LBC_QUIC_SERVER_ID = .* base64"):
            _ = config.lb_server_id


@pytest.mark.parametrize("value", [b"", bytes(14), "", "0x", "xyz", "0x123", 5, [1], "00" * 14])
def test_server_ids_that_are_none(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="quic_lb_server_id = "):
        ServerConfig(quic_lb_server_id=value)


def test_long_ids_leave_no_room_for_workers() -> None:
    assert ServerConfig(quic_lb_server_id=bytes(13)).lb_server_id == bytes(13)
    assert ServerConfig(quic_lb_server_id=bytes(12), workers=2).workers == 2
    with pytest.raises(ConfigurationError, match="with workers, at most 12 bytes have room"):
        ServerConfig(quic_lb_server_id=bytes(13), workers=2)
    with pytest.raises(ConfigurationError, match="quic_lb_config_id = 7"):
        ServerConfig(quic_lb_config_id=7)
