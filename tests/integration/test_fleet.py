"""The fleet of ``examples/fleet``: three servers, one bus; one of them is killed."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pywebtransport import ClientConfig, WebTransportClient
from pywebtransport.pubsub import PubSubManager
from tests.integration.test_signals import get
from tests.support.nats_server import NatsServer
from tests.support.ports import free_port
from tests.support.processes import ROOT
from tests.support.redis_server import RedisServer
from tests.support.steps import until_true

pytestmark = pytest.mark.loops("asyncio")
FLEET = ROOT / "examples" / "fleet"
END_TIMEOUT = 30.0


class Server:
    """One server of the fleet."""

    def __init__(self, bus: str, number: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", str(FLEET / "fleet_server.py")],
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "BUS": bus,
                "PORT": str(free_port()),
                "METRICS_PORT": "0",
                "QUIC_LB_SERVER_ID": f"0x0{number}",
                "DRAIN": "0",
            },
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url, self.hash = self.line().split()
        self.metrics = self.line().removeprefix("metrics at ")

    def line(self) -> str:
        """The next line it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def close(self) -> None:
        """End it, if it runs."""
        self.process.kill()
        self.process.wait(END_TIMEOUT)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture(params=["nats", "redis"])
def servers(request: pytest.FixtureRequest) -> Iterator[list[Server]]:
    """Three servers on one bus."""
    bus: Any = NatsServer() if request.param == "nats" else RedisServer()
    found: list[Server] = []
    try:
        for number in range(3):
            found.append(Server(bus.url, number + 1))
        yield found
    finally:
        for server in found:
            server.close()
        bus.close()


async def test_a_room_across_three_servers_of_which_one_is_killed(servers: list[Server]) -> None:
    async with WebTransportClient(
        config=ClientConfig(
            server_certificate_hashes=[bytes.fromhex(server.hash) for server in servers]
        )
    ) as client:
        rooms = []
        for server in servers:
            ready = server.metrics.replace("/metrics", "/ready")
            await until_true(lambda url=ready: is_ready(url))  # type: ignore[misc]
            session = await client.connect(server.url)
            pubsub = await PubSubManager(session).__aenter__()
            rooms.append((pubsub, await pubsub.subscribe("rooms.a")))
        for number, (pubsub, _) in enumerate(rooms):
            await pubsub.publish("rooms.a", number)
        for _, subscription in rooms:
            heard = {(await anext(subscription)).data for _ in rooms}
            assert heard == {0, 1, 2}

        servers[0].process.kill()
        await rooms[1][0].publish("rooms.a", "still here")
        for _, subscription in rooms[1:]:
            assert (await anext(subscription)).data == "still here"
        for pubsub, subscription in rooms[1:]:
            await subscription.close()
            await pubsub.close()

    load = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pywebtransport", "bench", "--duration", "0.3", "--fallback"),
        *("--certificate-hash", servers[1].hash, servers[1].url.replace("/chat", "/echo")),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert await load.wait() == 0


async def is_ready(url: str) -> bool:
    try:
        return (await get(url))[0] == 200
    except OSError:
        return False


def test_compose_file_starts_what_is_there() -> None:
    found = yaml.safe_load((FLEET / "compose.yaml").read_text())
    services = found["services"]
    assert set(services) == {"bus", "certificates", "one", "two", "three", "prometheus", "load"}
    source = (FLEET / "fleet_server.py").read_text()
    ids = set()
    for name in ("one", "two", "three"):
        service = services[name]
        environment = service["environment"]
        assert set(environment) <= set(re.findall(r'environ\.get\("(\w+)"', source))
        (port,) = service["ports"]
        assert port == f"{environment['PORT']}:{environment['PORT']}/udp"
        ids.add(environment["QUIC_LB_SERVER_ID"])
        assert service["entrypoint"][-1] == "/fleet/fleet_server.py"
    assert len(ids) == 3
    for volume in services["prometheus"]["volumes"]:
        assert (FLEET / volume.split(":")[0]).is_file()
    scraped = yaml.safe_load((FLEET / "prometheus.yml").read_text())["scrape_configs"][0]
    assert scraped["static_configs"] == [{"targets": ["one:9464", "two:9464", "three:9464"]}]
    for name in ("certificates", "load"):
        command = [sys.executable, "-m", "pywebtransport", *services[name]["command"][:1], "--help"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)


def test_manifest_agrees_with_the_server() -> None:
    documents = list(yaml.safe_load_all((FLEET / "kubernetes.yaml").read_text()))
    (chat,) = (one for one in documents if one["kind"] == "StatefulSet")
    pod = chat["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    values = {one["name"]: one["value"] for one in container["env"]}
    source = (FLEET / "fleet_server.py").read_text()
    assert set(values) <= set(re.findall(r'environ\.get\("(\w+)"', source))
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    assert ports == {"webtransport": int(values["PORT"]), "metrics": int(values["METRICS_PORT"])}
    paths = {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("readiness", "liveness")}
    assert paths == {"/ready", "/live"}
    assert pod["terminationGracePeriodSeconds"] > float(values["DRAIN"]) + 5 + 10
    mounts = {one["mountPath"] for one in container["volumeMounts"]}
    for name in ("CERTFILE", "KEYFILE", "SHARED_SECRET"):
        assert str(Path(values[name]).parent) in mounts
    assert shlex.join(container["command"]) == "python /fleet/fleet_server.py"
