"""``pywebtransport.testing``: sessions over a network in memory, and servers for a block."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from pywebtransport import (
    ClientConfig,
    ConfigurationError,
    EventType,
    ServerApp,
    ServerConfig,
    StreamError,
    TimeoutError,
    WebTransportClient,
    WebTransportSession,
)
from pywebtransport.client import ReconnectingClient
from pywebtransport.exceptions import ServerError, SessionRejectedError, UnreachableError
from pywebtransport.testing import Network, certificate, serve, session_pair
from pywebtransport.types import SessionCloseInfo
from pywebtransport.utils import certificate_hash
from tests.support.payload import payload
from tests.support.steps import echo_bidirectional, round_trip, take, take_unidirectional

every_loop = pytest.mark.loops("asyncio", "uvloop", "virtual")
virtual = pytest.mark.loops("virtual")


def now() -> float:
    return asyncio.get_running_loop().time()


def sockets() -> int:
    """Sockets of this process."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            found += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    return found


# ------------------------------------------------------------------- pairs of sessions


@every_loop
async def test_everything_goes_through_a_pair() -> None:
    before = sockets()
    async with session_pair(path="/room?name=a", headers={"x-token": "t"}) as (client, server):
        assert sockets() == before
        assert server.path == "/room?name=a"
        assert server.headers["x-token"] == "t"
        # Streams of both kinds, from both ends.
        for near, far in ((client, server), (server, client)):
            await round_trip(near, far, b"there and back")
            one_way = await near.create_unidirectional_stream()
            await one_way.write_all(b"one way")
            assert await (await take_unidirectional(far)).read_all() == b"one way"
            await near.datagrams.send(b"datagram")
            assert await far.datagrams.receive(timeout=10) == b"datagram"
        # A reset carries its code.
        stream = await client.create_bidirectional_stream()
        await stream.write(b"half")
        other = await take(server)
        await stream.abort(code=7)
        with pytest.raises(StreamError) as caught:
            await other.read_all()
        assert caught.value.error_code == 7
        # So does the end of the session, and drain comes first.
        drained = asyncio.Event()
        client.on(event_type=EventType.SESSION_DRAINING, handler=lambda _: drained.set())
        await server.drain()
        await drained.wait()
        await server.close(code=42, reason="enough")
        assert await client.wait_closed() == SessionCloseInfo(code=42, reason="enough", remote=True)


@virtual
async def test_a_delay_is_that_of_the_network() -> None:
    async with session_pair(network=Network(delay=0.25)) as (client, server):
        started = now()
        await client.datagrams.send(b"x")
        await server.datagrams.receive()
        assert now() - started == pytest.approx(0.25, abs=0.005)
        assert client.connection is not None
        assert client.connection.rtt == pytest.approx(0.5, abs=0.05)


@virtual
@pytest.mark.limit(3600)
async def test_streams_are_byte_exact_over_a_bad_network() -> None:
    network = Network(delay=0.02, jitter=0.01, loss=0.1, reorder=0.1, duplicate=0.1, seed=3)
    async with session_pair(network=network) as (client, server):
        data = payload(256 * 1024)
        stream = await client.create_bidirectional_stream()
        async with asyncio.TaskGroup() as group:
            group.create_task(stream.write_all(data))
            far = await take(server)
            assert await far.read_all() == data
            group.create_task(far.write_all(data))
            assert await stream.read_all() == data
    assert network.packets_lost > 10
    assert network.packets_reordered > 10
    assert network.packets_duplicated > 10
    assert network.packets_sent > network.packets_lost


@virtual
async def test_lost_datagrams_are_missed_by_nobody_but_the_receiver() -> None:
    network = Network()
    async with session_pair(network=network) as (client, server):
        network.loss = 1.0
        await client.datagrams.send(b"lost")
        started = now()
        with pytest.raises(TimeoutError):
            await server.datagrams.receive(timeout=5)
        assert now() - started == pytest.approx(5)
        network.loss = 0.0
        await client.datagrams.send(b"found")
        assert await server.datagrams.receive(timeout=5) == b"found"


@virtual
@pytest.mark.limit(3600)
async def test_a_path_that_is_cut_ends_the_session_after_the_idle_timeout() -> None:
    network = Network()
    config = ClientConfig(connection_idle_timeout=40.0, keep_alive=False)
    async with session_pair(network=network, client_config=config) as (client, _):
        started = now()
        network.loss = 1.0
        info = await client.wait_closed()
        assert info.code is None
        assert 39 < now() - started < 41


@virtual
async def test_a_datagram_that_waits_too_long_expires() -> None:
    async with session_pair() as (client, server):
        server.datagrams.incoming_max_age = 5.0
        await client.datagrams.send(b"old")
        await asyncio.sleep(10)
        assert await server.datagrams.try_receive() is None
        assert server.datagrams.stats["receive_drops"] == 1


@virtual
async def test_connections_migrate() -> None:
    async with session_pair() as (client, server):
        connection, far = client.connection, server.connection
        assert connection is not None
        assert far is not None
        before = connection.local_address
        await connection.migrate()
        assert connection.local_address != before
        await round_trip(client, server, b"from elsewhere")
        assert far.remote_address == connection.local_address
        with pytest.raises(UnreachableError):
            await connection.migrate(local_host="127.0.0.1", local_port=far.local_address[1])


@virtual
async def test_the_configuration_of_both_ends_holds() -> None:
    client_config = ClientConfig(application_protocols=["b", "a"])
    server_config = ServerConfig(application_protocols=["a"])
    async with session_pair(client_config=client_config, server_config=server_config) as (
        client,
        server,
    ):
        assert client.application_protocol == server.application_protocol == "a"
    assert client_config.network is None  # what was given stays as it was


@virtual
async def test_pairs_side_by_side_have_networks_of_their_own() -> None:
    good, bad = Network(), Network()
    async with session_pair(network=good) as (one, far_one), session_pair(network=bad) as (two, _):
        bad.loss = 1.0
        await round_trip(one, far_one, b"not cut")
        assert not two.is_closed
        bad.loss = 0.0


# -------------------------------------------------------------------------- networks


class Ends:
    """Two addresses of a network, and what arrived at the second."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.arrived: list[tuple[float, int]] = []
        loop = asyncio.get_running_loop()
        self.near = network.attach(("127.0.0.1", 0), lambda packets: None, loop)
        self.far = network.attach(("127.0.0.1", 0), self._receive, loop)
        self.started = now()

    def _receive(self, packets: list[Any]) -> None:
        for local, remote, data in packets:
            assert (local, remote) == (self.far, self.near)
            self.arrived.append((now() - self.started, int.from_bytes(data, "big")))

    async def send(self, count: int) -> list[int]:
        """Numbers of the packets that arrived, in their order."""
        self.network.send([(self.near, self.far, i.to_bytes(4, "big")) for i in range(count)])
        await asyncio.sleep(60)
        return [number for _, number in self.arrived]

    def close(self) -> None:
        self.network.detach(self.near)
        self.network.detach(self.far)


@asynccontextmanager
async def ends(**conditions: Any) -> AsyncIterator[Ends]:
    both = Ends(Network(**conditions))
    try:
        yield both
    finally:
        both.close()


@virtual
@pytest.mark.limit(1000)
async def test_the_seed_decides_what_becomes_of_packets() -> None:
    async def fates(seed: int | str) -> list[int]:
        async with ends(loss=0.2, reorder=0.1, duplicate=0.1, seed=seed) as both:
            return await both.send(1000)

    assert await fates(1) == await fates(1)
    assert await fates("a") == await fates("a")
    assert await fates(1) != await fates(2)


@virtual
@pytest.mark.limit(1000)
@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
async def test_loss_and_duplication_are_as_frequent_as_asked(share: float) -> None:
    async with ends(loss=share) as both:
        arrived = await both.send(4000)
        assert len(arrived) == pytest.approx(4000 * (1 - share), abs=120)
        assert both.network.packets_lost == 4000 - len(arrived)
        assert arrived == sorted(arrived)
    async with ends(duplicate=share) as both:
        arrived = await both.send(4000)
        assert len(arrived) == pytest.approx(4000 * (1 + share), abs=120)
        assert both.network.packets_duplicated == len(arrived) - 4000
        assert set(arrived) == set(range(4000))


@virtual
@pytest.mark.limit(1000)
async def test_reordered_packets_are_overtaken_and_jitter_reorders_nothing() -> None:
    async with ends(delay=0.01, reorder=0.1) as both:
        arrived = await both.send(1000)
        assert sorted(arrived) == list(range(1000)) != arrived
        late = [when for when, _ in both.arrived if when > 0.015]
        assert len(late) == both.network.packets_reordered
        assert late == pytest.approx([0.02] * len(late))
    async with ends(delay=0.01, jitter=0.05) as both:
        assert await both.send(1000) == list(range(1000))
        times = [when for when, _ in both.arrived]
        assert 0.01 <= min(times) <= max(times) <= 0.061
        assert max(times) > 0.05


@virtual
@pytest.mark.limit(1000)
async def test_changing_one_condition_leaves_the_fates_of_others() -> None:
    async with ends(loss=0.2, seed=5) as both:
        alone = await both.send(500)
    async with ends(loss=0.2, duplicate=0.5, jitter=0.01, seed=5) as both:
        assert sorted(set(await both.send(500))) == alone


@virtual
async def test_wrong_conditions_are_refused() -> None:
    network = Network()
    for name in ("delay", "jitter", "loss", "reorder", "duplicate"):
        for value in (-0.1, 3601.0, float("nan"), "0.1", None, True):
            with pytest.raises(ConfigurationError) as caught:
                Network(**{name: value})
            assert caught.value.config_key == name
            with pytest.raises(ConfigurationError):
                setattr(network, name, value)
        setattr(network, name, 0.5)
        assert getattr(network, name) == 0.5
    with pytest.raises(ConfigurationError, match="seed"):
        Network(seed=1.5)  # type: ignore[arg-type]
    assert "loss=0.5" in repr(network)
    for config in (ClientConfig, ServerConfig):
        with pytest.raises(ConfigurationError) as caught:
            config(network="network")
        assert caught.value.config_key == "network"
    with pytest.raises(ConfigurationError):
        async with session_pair(network=3):  # type: ignore[arg-type]
            pass


def test_a_network_serves_one_loop_after_the_other() -> None:
    network = Network()

    async def use() -> None:
        async with session_pair(network=network) as (client, server):
            await round_trip(client, server, b"x")

    for _ in range(2):
        with asyncio.Runner() as runner:
            runner.run(use())


@virtual
async def test_a_network_does_not_serve_two_loops_at_a_time() -> None:
    network = Network()

    def elsewhere() -> None:
        with asyncio.Runner() as runner:
            runner.run(session_pair(network=network).__aenter__())

    async with session_pair(network=network):
        with pytest.raises(ConfigurationError, match="another event loop"):
            await asyncio.to_thread(elsewhere)


# --------------------------------------------------------------------------- servers


async def name_path(session: WebTransportSession) -> None:
    stream = await session.create_unidirectional_stream()
    await stream.write_all(session.path.encode())


@every_loop
async def test_a_handler_is_served_on_this_machine() -> None:
    async with serve(name_path) as served, served.client() as client:
        assert served.host == "127.0.0.1"
        assert served.url == f"https://127.0.0.1:{served.port}"
        assert served.certificate_hash == certificate_hash(served.certificate.certfile)
        session = await client.connect(f"{served.url}/a")
        assert await (await take_unidirectional(session)).read_all() == b"/a"
    # The hash is what another client needs.
    async with (
        serve(name_path, host="::1") as served,
        WebTransportClient(
            config=ClientConfig(server_certificate_hashes=[served.certificate_hash])
        ) as other,
    ):
        assert served.url == f"https://[::1]:{served.port}"
        await other.connect(served.url)


@pytest.mark.parametrize("path", ["nope", "", "?room=1", 5])
@virtual
async def test_path_of_a_pair_begins_with_a_slash(path: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"path = .*expected") as refused:
        async with session_pair(path=path):
            raise AssertionError
    assert refused.value.config_key == "path"


@every_loop
async def test_url_of_a_served_application_has_the_host_that_was_given() -> None:
    async with serve(name_path, host="localhost") as served:
        assert served.url == f"https://localhost:{served.port}"
    network = Network()
    for host, shown in (("chat.test", "chat.test"), ("::", "localhost"), ("::1", "[::1]")):
        async with serve(name_path, network=network, host=host) as served:
            assert served.url == f"https://{shown}:{served.port}"
            async with served.client() as client:
                session = await client.connect(f"{served.url}/a")
                assert session.authority == f"{shown}:{served.port}"


@virtual
async def test_a_served_application_takes_a_certificate_of_its_kind_alone() -> None:
    with pytest.raises(ConfigurationError, match="expected a Certificate") as refused:
        async with serve(name_path, certificate="a.crt"):  # type: ignore[arg-type]
            raise AssertionError
    assert refused.value.config_key == "certificate"


@every_loop
async def test_an_application_is_served_with_its_hooks_and_its_certificate(
    tmp_path: Path,
) -> None:
    own = certificate(directory=tmp_path)
    app = ServerApp(config=ServerConfig(certfile=own.certfile, keyfile=own.keyfile))
    happened = []
    app.on_startup(lambda: happened.append("startup"))
    app.on_shutdown(lambda: happened.append("shutdown"))
    app.route("/name")(name_path)
    async with serve(app) as served, served.client() as client:
        assert happened == ["startup"]
        assert served.app is app
        assert served.certificate_hash == own.hash
        await client.connect(f"{served.url}/name")
        with pytest.raises(SessionRejectedError):
            await client.connect(f"{served.url}/other")
    assert happened == ["startup", "shutdown"]
    with pytest.raises(ConfigurationError):
        async with serve(app, config=ServerConfig()):
            pass
    with pytest.raises(ConfigurationError):
        async with serve(3):  # type: ignore[arg-type]
            pass


@virtual
async def test_a_server_in_memory_has_names_and_many_clients() -> None:
    network = Network()
    config = ServerConfig(max_connections=10)
    async with serve(
        echo_bidirectional, config=config, network=network, host="chat.test"
    ) as served:
        url = f"https://chat.test:{served.port}"
        for _ in range(3):
            async with served.client() as client:
                session = await client.connect(url)
                stream = await session.create_bidirectional_stream()
                await stream.write_all(b"hello")
                assert await stream.read_all() == b"hello"
        async with served.client() as client:
            with pytest.raises(UnreachableError, match="other"):
                await client.connect(f"https://other.test:{served.port}")
            started = now()
            with pytest.raises(TimeoutError):
                await client.connect(f"https://127.0.0.1:{served.port + 1}", timeout=20)
            assert now() - started == pytest.approx(20)
        with pytest.raises(ServerError):
            async with serve(echo_bidirectional, network=network, host="chat.test") as other:
                await other.app.server.listen(host="chat.test", port=served.port)


@virtual
async def test_localhost_and_wildcards_are_known_in_memory() -> None:
    network = Network()
    for host in ("localhost", "::", "0.0.0.0", "::1"):
        async with (
            serve(echo_bidirectional, network=network, host=host) as served,
            served.client() as client,
        ):
            await client.connect(f"https://localhost:{served.port}")


@virtual
@pytest.mark.limit(3600)
async def test_a_client_reconnects_over_a_network_that_comes_back() -> None:
    network = Network()
    config = ClientConfig(
        connection_idle_timeout=30.0, connect_timeout=10.0, max_retries=50, max_retry_delay=60.0
    )
    async with (
        serve(echo_bidirectional, network=network) as served,
        ReconnectingClient(served.url, config=served.client_config(config)) as client,
    ):
        first = await client.get_session()
        assert first is not None
        network.loss = 1.0
        await first.wait_closed()
        await asyncio.sleep(100)
        assert not client.is_connected
        network.loss = 0.0
        second = await client.get_session(wait_timeout=120)
        assert second is not None
        assert second is not first
        assert second.is_ready


# ---------------------------------------------------------------------- certificates


def test_a_certificate_without_directory_goes_with_its_object(tmp_path: Path) -> None:
    made = certificate("example.test")
    directory = Path(made.certfile).parent
    assert certificate_hash(made.certfile) == made.hash
    assert Path(made.keyfile).stat().st_mode & 0o777 == 0o600
    del made
    assert not directory.exists()
    kept = certificate(directory=tmp_path / "kept")
    assert Path(kept.certfile).parent == tmp_path / "kept"
    with pytest.raises(ConfigurationError):
        certificate("")


async def test_the_secret_of_the_user_stays_alone(own_state_directory: Path) -> None:
    def files() -> list[Path]:
        return sorted(own_state_directory.rglob("*"))

    before = files()
    async with serve(name_path):
        assert files() == before
