"""A client with the default configuration behind a real firewall, in a network namespace."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from tests.support.certificates import Certificates
from tests.support.network import why_not
from tests.support.processes import ROOT, environment


def why_no_firewall() -> str:
    """Why this machine gives us no firewall of our own; "" if it does."""
    return why_not() or ("" if shutil.which("nft") else "a firewall needs the program nft")


@pytest.mark.parametrize("rule", ["input drop", "output reject"])
def test_sessions_go_over_tcp_until_udp_is_open(rule: str, certs: Certificates) -> None:
    if why_no_firewall():
        pytest.skip(why_no_firewall())
    options = {"rule": rule, "ca_certs": certs.authority.certfile, **certs.server.files}
    command = [sys.executable, "-m", "tests.support.firewall_process", json.dumps(options)]
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *command],
        cwd=ROOT,
        env=environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    blocked, opened = (json.loads(line) for line in done.stdout.splitlines())
    assert blocked == {
        "transports": ["websocket", "websocket"],
        "stats": {"quic": 0, "websocket": 2, "fallbacks_tried": 2, "fallbacks_won": 2},
    }
    assert opened["transports"] == ["quic"]
    assert opened["stats"]["fallbacks_won"] == 0
