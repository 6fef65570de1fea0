"""Paths whose packet size falls and rises while a session is open, in network namespaces."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from pywebtransport.utils import generate_self_signed_cert
from tests.support.certificates import Pair
from tests.support.network import SERVER, Network, why_not

ROOT = Path(__file__).resolve().parents[2]
# Nothing waits for it but a failure.
LIMIT = 120.0
NARROW = 1300
# What a datagram may have at most in packets of 1,200 bytes, and more than that.
BASE, FULL = 1200, 1350
SENT = 100_000


class Process:
    """A program of ``tests.support.mtu_process`` in one of the hosts."""

    def __init__(self, inside: list[str], options: dict[str, Any]) -> None:
        self._popen = subprocess.Popen(
            [*inside, sys.executable, "-m", "tests.support.mtu_process", json.dumps(options)],
            cwd=ROOT,
            env={**os.environ, "PYTHONWARNINGS": "error"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def read(self) -> dict[str, Any]:
        """Its next line."""
        assert self._popen.stdout is not None
        deadline = time.monotonic() + LIMIT
        ready, _, _ = select.select([self._popen.stdout], [], [], deadline - time.monotonic())
        assert ready, "no answer: the session is dead, or the size did not change"
        line = self._popen.stdout.readline()
        assert line, "the program ended"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, command: str, number: int) -> dict[str, Any]:
        """Send a line and wait for the answer."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(f"{command} {number}\n")
        self._popen.stdin.flush()
        return self.read()

    def end(self) -> int:
        """End it; its exit status."""
        try:
            self._popen.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        return self._popen.returncode

    def kill(self) -> None:
        """End it without its cooperation."""
        if self._popen.poll() is None:
            self._popen.kill()
            self._popen.communicate()


@contextmanager
def session(network: Network, pair: Pair) -> Iterator[tuple[Process, Process]]:
    """Programs of client and server, their session open and full-size packets in use."""
    with ExitStack() as stack:
        server = Process(network.inside("server"), {"host": SERVER, **pair.files})
        stack.callback(server.kill)
        server.read()
        client = Process(network.inside("client"), {"host": SERVER, "hash": pair.hash.hex()})
        stack.callback(client.kill)
        client.read()
        every((client, server), "above", FULL)
        yield client, server
        assert client.end() == 0
        assert server.end() == 0


def every(ends: Sequence[Process], command: str, number: int) -> list[dict[str, Any]]:
    """Ask these ends at the same time."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda end: end.ask(command, number), ends))


@pytest.fixture
def network() -> Iterator[Network]:
    if why_not():
        pytest.skip(why_not())
    with Network() as it:
        yield it


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(*generate_self_signed_cert("localhost", str(tmp_path)))


@pytest.mark.parametrize(
    ("where", "silent", "falling"),
    [
        # One end's own interface: its kernel refuses what is too large. What comes from the other
        # end may still get in, in trains that the kernel has not cut up.
        pytest.param("client", False, [0], id="client's interface"),
        pytest.param("server", False, [1], id="server's interface"),
        # Routers that say so (ICMP), and routers that do not.
        pytest.param("middle", False, [0, 1], id="routers that tell"),
        pytest.param("middle", True, [0, 1], id="routers that do not tell"),
    ],
)
def test_packets_become_smaller_and_larger_with_the_path(
    network: Network, pair: Pair, where: str, silent: bool, falling: list[int]
) -> None:
    with session(network, pair) as ends:
        fallen = [ends[index] for index in falling]
        if silent:
            network.silence_routers()
        network.narrow(where, NARROW)
        # Every byte arrives, in both directions at the same time.
        every(ends, "send", SENT)
        for answer in every(fallen, "below", BASE):
            assert 1000 < answer["size"] < BASE
        assert not any(answer["taken"] for answer in every(fallen, "datagram", FULL))
        every(ends, "send", SENT)
        network.narrow(where)
        for answer in every(ends, "above", FULL):
            assert answer["size"] > FULL
        assert all(answer["taken"] for answer in every(ends, "datagram", FULL))
        every(ends, "send", SENT)


def test_datagrams_alone_find_that_the_path_is_narrow(network: Network, pair: Pair) -> None:
    with session(network, pair) as ends:
        network.silence_routers()
        network.narrow("middle", NARROW)
        every(ends, "refused", FULL)
        assert all(answer["taken"] for answer in every(ends, "datagram", 1000))
