"""The examples and the programs of the contract pass where UDP packets vanish.

The same tests as elsewhere run in a network namespace with a rule that drops UDP. The programs are
the same, too: ``startup/sitecustomize.py`` switches on what they need there.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.network import NoUdp, why_no_rules

ROOT = Path(__file__).resolve().parents[2]
STARTUP = Path(__file__).parent / "startup"
CONTRACT = sorted((ROOT / "tests" / "contract" / "programs").glob("test_*.py"))
INTEGRATION = Path("tests/integration")
FILES = [
    *(str(path.relative_to(ROOT)) for path in CONTRACT),
    *(f"{INTEGRATION}/test_{name}.py" for name in ("examples", "example_servers", "use_cases")),
    *(f"{INTEGRATION}/test_{name}.py" for name in ("chat_redis", "guides")),
    f"{INTEGRATION}/asgi/test_framework_examples.py",
    # Of other files, the tests of an example.
    f"{INTEGRATION}/test_datagram_broadcast.py::test_the_example_shows_its_ticks",
    f"{INTEGRATION}/test_rpc.py::test_the_example_runs",
    f"{INTEGRATION}/test_metrics.py::test_example_serves_metrics_and_ends_on_interrupt",
    f"{INTEGRATION}/test_fleet.py",
]

_BY_HAND = "a connection that is made by hand is one of QUIC; clients choose, connections do not"
_COUNTED = "it counts connections of QUIC; those over TCP are counted apart"
_RELAYS_UDP = "CONNECT-UDP is for UDP packets"
_NO_SESSION = "it opens no session"
SERVERS = "tests/contract/programs/test_servers.py"
EXAMPLES = "tests/integration/test_examples.py"
# Tests that are left out, with the reason.
LEFT_OUT: dict[str, str] = {
    "tests/contract/programs/test_connections.py": _BY_HAND,
    f"{SERVERS}::test_a_cluster": _COUNTED,
    f"{SERVERS}::test_a_server_with_events_instead_of_routes": _COUNTED,
    "tests/contract/programs/test_through_proxy.py": _RELAYS_UDP,
    f"{EXAMPLES}::test_chats_read_any_standard_input_to_its_end": _NO_SESSION,
    f"{EXAMPLES}::test_proxy_client_prints_what_it_sent": _RELAYS_UDP,
}


@pytest.fixture(scope="module")
def network() -> Iterator[NoUdp]:
    """Where UDP packets vanish."""
    if why_no_rules():
        pytest.skip(why_no_rules())
    with NoUdp() as without:
        yield without


def run(network: NoUdp, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python there."""
    path = os.pathsep.join([str(STARTUP), str(ROOT)])
    return subprocess.run(
        [*network.inside, sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "PYWEBTRANSPORT_TEST_WITHOUT_UDP": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


SEND = """
import socket
for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    with socket.socket(family, socket.SOCK_DGRAM) as receiver:
        receiver.bind((address, 0))
        receiver.settimeout(0.05)
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"anybody there?", receiver.getsockname()[:2])
        try:
            receiver.recv(100)
        except TimeoutError:
            print(address)
"""


def test_udp_packets_vanish(network: NoUdp) -> None:
    assert run(network, "-c", SEND).stdout.split() == ["127.0.0.1", "::1"]


@pytest.mark.parametrize("file", [file for file in FILES if file not in LEFT_OUT])
@pytest.mark.limit(180)
def test_programs_pass(network: NoUdp, file: str) -> None:
    left_out = [f"--deselect={name}" for name in LEFT_OUT if name.startswith(file)]
    options = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not virtual")
    done = run(network, *options, *left_out, file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\d+ passed", done.stdout, re.MULTILINE), done.stdout


def test_every_test_that_is_left_out_exists(network: NoUdp) -> None:
    done = run(network, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--collect-only", *FILES)
    found = done.stdout.splitlines()
    missing = [name for name in LEFT_OUT if not any(line.startswith(name) for line in found)]
    assert missing == []
