"""What ``import pywebtransport`` loads: nothing that takes long and is needed by few.

``python -m tests.benchmark.imports`` measures the time.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmark.imports import main, parse
from tests.support.scripts import ROOT

# Imported when first used: 16 MB for certificates, optional packages, and modules of Python.
LATER = {
    "cryptography": "certificates are made or explained",
    "uvloop": "a server starts",
    "orjson": "JSON is written",
    "msgspec": "JSON is written",
    "msgpack": "MessagePack is used",
    "google.protobuf": "Protobuf is used",
    "redis": "a backend is made",
    "prometheus_client": "metrics are collected",
    "opentelemetry": "spans are made",
    "certifi": "the system has no certificates",
    "numpy": "an application passes arrays",
    "rich": "the command line prints",
    "ctypes": "memory goes back to the system",
    "difflib": "a field is misspelled",
    "multiprocessing": "workers start",
    "tempfile": "a certificate is written",
    "shutil": "a development server ends",
    "concurrent.futures.process": "nobody",
    "email": "nobody",
    "http.client": "nobody",
    "urllib.request": "nobody",
    "unittest": "nobody",
    "pywebtransport.forwarder": "a forwarder is made",
    "pywebtransport.monitoring": "metrics are collected",
    "pywebtransport.rpc": "an application imports it",
    "pywebtransport.testing": "an application is tested",
    "pywebtransport.server": "a server is made",
    "pywebtransport.server._supervisor": "workers start",
}


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    """The modules of a new interpreter that has imported the package and nothing else."""
    program = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
before = set(sys.modules)
import pywebtransport
import json
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd="/"
    )
    names = set(json.loads(done.stdout))
    assert "pywebtransport.client" in names
    return names


@pytest.mark.parametrize("module", LATER)
def test_what_few_need_is_imported_when_it_is_used(module: str, loaded: set[str]) -> None:
    assert module not in loaded, f"it is needed when {LATER[module]}"


def test_names_that_are_imported_later_are_there() -> None:
    program = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
import pywebtransport
assert "pywebtransport.server" not in sys.modules
assert {{"serve", "server", "ServerApp", "connect"}} <= set(dir(pywebtransport))
server = pywebtransport.server
assert pywebtransport.serve is server.serve and pywebtransport.ServerApp is server.ServerApp
assert "multiprocessing" not in sys.modules
from pywebtransport.server import run_workers
assert run_workers is server.run_workers and "run_workers" in server.__all__
assert "pywebtransport.server._supervisor" in sys.modules
for module in (server, pywebtransport):
    try:
        module.no_such_name
    except AttributeError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd="/"
    )
    assert done.stdout.splitlines() == [
        "module 'pywebtransport.server' has no attribute 'no_such_name'",
        "module 'pywebtransport' has no attribute 'no_such_name'",
    ]


# ------------------------------------------------------------------------ the measurement

TEXT = """\
import time: self [us] | cumulative | imported package
import time:       100 |        100 |     asyncio.events
import time:       400 |        500 |   asyncio
import time:      1500 |       2000 | pywebtransport
"""


def test_times_are_read_as_python_writes_them() -> None:
    total, alone = parse(TEXT)
    assert total == 2.0
    assert alone == {"asyncio.events": 0.1, "asyncio": 0.4, "pywebtransport": 1.5}
    with pytest.raises(ValueError, match="was not imported"):
        parse("Traceback")


def test_the_benchmark_writes_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["--output", str(tmp_path), "--quick"]) == 0
    document = json.loads((tmp_path / "imports.json").read_text())
    assert len(document["totals"]) == 5
    assert document["modules"] > 100
    text = (tmp_path / "imports.md").read_text()
    assert f"| fastest | {min(document['totals']):.1f} |" in text
