"""The environment variable ``SSLKEYLOGFILE``: in any program, and on the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pywebtransport._cli import main
from tests.support.aioquic_server import aioquic_http3_server
from tests.support.certificates import Certificates
from tests.support.command_line import ROOT

LABELS = [
    "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
    "CLIENT_TRAFFIC_SECRET_0",
    "EXPORTER_SECRET",
    "SERVER_HANDSHAKE_TRAFFIC_SECRET",
    "SERVER_TRAFFIC_SECRET_0",
]
PROGRAM = """
import asyncio, sys
from pywebtransport import connect

async def main():
    async with connect(sys.argv[1], ca_certs=sys.argv[2]):
        pass

asyncio.run(main())
"""


def labels(path: Path) -> list[str]:
    return sorted(line.split()[0] for line in path.read_text().splitlines())


def test_every_program_knows_the_variable(certs: Certificates, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    authority = certs.authority.certfile
    with aioquic_http3_server(**certs.server.files) as port:
        subprocess.run(
            [sys.executable, "-c", PROGRAM, f"https://127.0.0.1:{port}/wt", authority],
            env={**os.environ, "PYTHONPATH": str(ROOT), "SSLKEYLOGFILE": str(keys)},
            check=True,
            umask=0o022,
        )
    assert labels(keys) == LABELS
    assert keys.stat().st_mode & 0o777 == 0o644


def test_the_command_line_writes_each_secret_once_for_its_owner(
    certs: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tmp_path / "keys"
    monkeypatch.setenv("SSLKEYLOGFILE", str(keys))
    with aioquic_http3_server(**certs.server.files) as port:
        words = ["probe", f"https://127.0.0.1:{port}/wt", "--ca", certs.authority.certfile]
        assert main([*words, "--count", "0", "--json"]) == 0
    assert labels(keys) == LABELS
    assert keys.stat().st_mode & 0o777 == 0o600
