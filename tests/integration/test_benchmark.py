"""The benchmarks run: real processes, tiny amounts of work, no figures compared."""

import json
import select
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pywebtransport.utils import certificate_hash, generate_self_signed_cert
from tests.benchmark.processes import Certificate, Failure, Measurement, measure
from tests.benchmark.relay import DropSequence
from tests.benchmark.scenarios import SCENARIOS

ROOT = Path(__file__).resolve().parents[2]
TINY = {
    "seconds": 0.05,
    "warmup": 0.01,
    "settle": 0.01,
    "count": 5,
    "warmup_count": 2,
    "at_once": 3,
}
WITHOUT_LOSS = [name for name, scenario in SCENARIOS.items() if scenario.path is None]


def measured(certs: Certificate, name: str, job: dict[str, Any] = TINY) -> dict[str, Any]:
    scenario = SCENARIOS[name]
    return measure(
        Measurement(
            library="ours",
            python=sys.executable,
            loop="asyncio",
            congestion="",
            job={**scenario.job_for(True), **job},
            limit=30.0,
            path=scenario.path,
            pythonpath=str(ROOT),
        ),
        certs,
    )


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    folder = tmp_path_factory.mktemp("benchmark")
    certfile, keyfile = generate_self_signed_cert(hostname="localhost", output_dir=str(folder))
    digest = certificate_hash(certfile).hex()
    return Certificate(certfile=certfile, keyfile=keyfile, hash=digest)


@pytest.mark.parametrize("name", [*WITHOUT_LOSS, "upload-loss-0.1"])
def test_every_measurement_gives_the_figures_that_are_shown(
    certificate: Certificate, name: str
) -> None:
    answer = measured(certificate, name)
    shown = {metric.name for metric in SCENARIOS[name].metrics}
    used = {"client_cpu", "server_cpu", "client_peak", "server_peak"}
    assert shown | used <= answer["figures"].keys()
    assert answer["version"]


@pytest.mark.limit(120)
def test_the_command_writes_json_and_report(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.benchmark", "--quick", "--here", "--loop", "both"]
    command += ["--scenario", "ping-pong", "--library", "ours", "--output", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    document = json.loads((tmp_path / "results.json").read_text())
    assert [cell.get("error") for cell in document["cells"]] == [None, None]
    assert document["complete"]
    assert [(one["loop"], one["metrics"]["rate"]["count"]) for one in document["outcomes"]] == [
        ("asyncio", 1),
        ("uvloop", 1),
    ]
    text = (tmp_path / "results.md").read_text()
    assert "### ping-pong, 64 B on one stream" in text
    assert "## What failed" not in text


@pytest.mark.limit(120)
def test_workers_are_compared(tmp_path: Path) -> None:
    """For a moment, without shares of a processor; what comes out is not judged."""
    file = tmp_path / "workers.json"
    command = [sys.executable, "-m", "tests.benchmark.workers", "--share", "0", "--rounds", "1"]
    command += ["--clients", "1", "--seconds", "0.2", "--json", str(file)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert "| connects per second |" in done.stdout
    rounds = json.loads(file.read_text())
    assert set(rounds) == {"1", "2"}
    for (figures,) in rounds.values():
        assert figures["connects"]["rate"] > 0
        assert figures["streams"]["rate"] > 0


def test_publishing_and_delivering_are_measured(tmp_path: Path) -> None:
    """For a moment; what comes out is not judged."""
    file = tmp_path / "pubsub.json"
    command = [sys.executable, "-m", "tests.benchmark.pubsub", "--rounds", "1"]
    command += ["--sessions", "3", "--messages", "100", "--json", str(file)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert "| delivery |" in done.stdout
    (figures,) = json.loads(file.read_text())
    assert {name.rpartition(", ")[0] for name in figures} == {
        "publish, one at a time",
        "publish, 100 at a time",
        "delivery",
        "stream write",
    }
    assert min(figures.values()) > 0


def test_asgi_servers_are_compared(tmp_path: Path) -> None:
    """For a moment; what comes out is not judged."""
    command = [sys.executable, "-m", "tests.benchmark.asgi", "--rounds", "1", "--seconds", "0.1"]
    command += ["--only", "requests", "--server", "bare", "uvicorn-h1"]
    done = subprocess.run(
        [*command, "--output", str(tmp_path)], cwd=ROOT, check=True, capture_output=True, text=True
    )
    (figures,) = json.loads((tmp_path / "asgi.json").read_text())["rounds"]
    assert [name for name, found in figures.items() if "error" in found] == []
    for name in ("bare", "uvicorn-h1"):
        assert figures[f"requests/{name}"]["count"] > 0
        assert figures[f"requests/{name}"]["cpu"] > 0
    assert "| uvicorn, HTTP/1.1, bare ASGI |" in done.stdout
    assert (tmp_path / "asgi.md").read_text() == done.stdout


def test_sessions_over_websocket_are_compared(tmp_path: Path) -> None:
    """For a moment; what comes out is not judged."""
    command = [sys.executable, "-m", "tests.benchmark.fallback", "--output", str(tmp_path)]
    command += ["--rounds", "1", "--seconds", "0.05", "--sessions", "5"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    rounds = json.loads((tmp_path / "fallback.json").read_text())["rounds"]
    assert set(rounds) == {"session over WebSocket", "plain WebSocket"}
    for (figures,) in rounds.values():
        rates = [value for name, value in figures.items() if not name.startswith("idle")]
        assert len(rates) == 9
        assert min(rates) > 0
    assert "| ping-pong, 64 B |" in done.stdout
    assert (tmp_path / "fallback.md").read_text() == done.stdout


def test_a_client_that_fails_says_why(certificate: Certificate) -> None:
    with pytest.raises(Failure, match="ContentError: only 0 operations ended in time"):
        measured(certificate, "ping-pong", {**TINY, "seconds": -1.0})


def test_a_server_that_fails_says_why(certificate: Certificate) -> None:
    with pytest.raises(Failure, match="the server ended without an answer: AttributeError"):
        measured(certificate, "ping-pong", {"serve": "nothing"})


def test_relay_loses_what_its_seed_says_and_keeps_the_order() -> None:
    loss, count, burst = 0.2, 400, 20
    lost = set(DropSequence(loss, "5 up").take(count))
    command = [sys.executable, "-P", str(ROOT / "tests" / "benchmark" / "relay.py")]
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        options = [str(port), f"--loss={loss}", "--delay=0.001", "--seed=5"]
        with subprocess.Popen(
            [*command, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as relay:
            assert relay.stdin is not None
            assert relay.stdout is not None
            client.connect(("127.0.0.1", json.loads(relay.stdout.readline())["port"]))
            arrived = []
            for start in range(0, count, burst):
                numbers = range(start, start + burst)
                for number in numbers:
                    client.send(number.to_bytes(4, "big"))
                for _ in set(numbers) - lost:
                    assert select.select([server], [], [], 10.0)[0]
                    arrived.append(int.from_bytes(server.recv(100), "big"))
            relay.stdin.close()
            counts = json.loads(relay.stdout.readline())
    assert arrived == [number for number in range(count) if number not in lost]
    assert counts["up"] == {"packets": count, "lost": len(lost), "overflow": 0}
