"""Every program of the repository says how it is used, and refuses what it does not understand."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.scripts import ROOT

TIMEOUT = 50.0
URL = "https://localhost:1/"
HASH = "00" * 32

# Each program, and command lines that it must refuse.
WRONG: dict[str, list[list[str]]] = {
    "examples/acceleration.py": [["x"], ["--requests", "x"]],
    "examples/augmentation.py": [["x"], ["--images", "x"]],
    "examples/authentication.py": [["x"]],
    "examples/broadcast.py": [[], ["server", "x"], ["server", "99999"], ["client", URL, "zz"]],
    "examples/browser/browser_echo.py": [["x"]],
    "examples/browser/chat_page.py": [["x"], ["--port", "x"], ["--page-port", "99999"]],
    "examples/browser/dashboard.py": [["x"], ["--interval", "0"], ["--port", "99999"]],
    "examples/browser/game.py": [["x"], ["--page-port", "-1"]],
    "examples/browser/transfer.py": [
        [],
        ["serve"],
        ["--port", "x", "serve", "files"],
        ["send", "no-such-file", URL, HASH],
        ["send", __file__, "nowhere", HASH],
        ["send", __file__, URL, "zz"],
    ],
    "examples/browser/video.py": [["x"], ["--rate", "nan"]],
    "examples/browser/whiteboard.py": [["x"], ["--port", "x"]],
    "examples/chat.py": [[], ["server", "--port", "x"], ["client", "nowhere", HASH]],
    "examples/echo_client.py": [[], [URL], ["nowhere", HASH], [URL, "zz"]],
    "examples/echo_server.py": [["x"], ["99999"], ["4433", "x"]],
    "examples/edge.py": [["x"]],
    "examples/forwarder.py": [[], [URL, HASH, "x"], [URL, "zz", "0"], ["nowhere", HASH, "0"]],
    "examples/inference.py": [["nowhere.wav"], ["--speed", "x"]],
    "examples/metrics.py": [["x"], ["0", "x"], ["99999"]],
    "examples/microservices.py": [["x"], ["--orders", "x"]],
    "examples/proxy_client.py": [[], ["nowhere", URL]],
    "examples/reconnecting_client.py": [[], [URL, HASH, "x"], ["nowhere", HASH]],
    "examples/rpc.py": [["x"]],
    "examples/shared_room.py": [[], ["99999"], [URL], ["nowhere", HASH], ["0", "nowhere"]],
    "examples/structured_chat.py": [["x"], ["nowhere", HASH, "ann"]],
    "examples/telemetry.py": [["x"], ["--devices", "x"]],
    "examples/training.py": [["x"], ["--steps", "x"]],
    "examples/workers.py": [["x"], ["0", "-1"], ["99999", "2"]],
    "-m pywebtransport": [[], ["x"], ["serve"], ["probe", "nowhere"], ["cert", "check"]],
    "-m examples.demo": [["x"], ["--size", "x"], ["--size", "0"]],
    "-m examples.demo.browser": [["x"], ["--port", "x"], ["--port", "99999"], ["--size", "x"]],
    "-m examples.demo.client": [[], ["nowhere", HASH], [URL, "zz"], [URL, HASH, "--size", "x"]],
    "-m examples.demo.server": [["x"], ["--port", "99999"], ["--allow-origin", "x"]],
    "-m tests.attack": [["x"], ["--seconds", "x"]],
    "-m tests.browser.screenshots": [["x"], ["--output"]],
    "-m tests.benchmark": [["x"], ["--scenario", "x"]],
    "-m tests.benchmark.asgi": [["x"], ["--rounds", "x"]],
    "-m tests.benchmark.bus": [["x"], ["--bus", "x"]],
    "-m tests.benchmark.busy_poll": [["x"], ["--json"]],
    "-m tests.benchmark.collector": [["x"], ["--sessions", "x"]],
    "-m tests.benchmark.core": [[]],
    "-m tests.benchmark.fallback": [[], ["--output", "x", "--rounds", "x"]],
    "-m tests.benchmark.growth": [[]],
    "-m tests.benchmark.guard": [["x"]],
    "-m tests.benchmark.history": [["x"], ["--output"]],
    "-m tests.benchmark.imports": [[], ["--output", "x", "y"]],
    "-m tests.benchmark.instructions": [[], ["--output", "x", "y"]],
    "-m tests.benchmark.paths": [[], ["--output", "x", "--table", "x"]],
    "-m tests.benchmark.pubsub": [["x"], ["--json"]],
    "-m tests.benchmark.relay": [[], ["x"]],
    "-m tests.benchmark.workers": [["x"], ["--json"]],
    "-m tests.fuzz": [[], ["x"], ["run", "x"]],
    "-m tests.soak": [["x"], ["--scale", "x"]],
    "scripts/check_c.py": [["nowhere.c"]],
    "scripts/debian_root.py": [[], ["trixie"]],
    "scripts/fuzz.sh": [["x", "y"]],
    "scripts/image.py": [["x"]],
    "scripts/lint-shell.sh": [["x"]],
    "scripts/pythons.py": [["x"]],
    "scripts/requirements.py": [[], ["x"]],
    "scripts/sanitize.sh": [[]],
    "scripts/structure.py": [["x"], ["--package", "nowhere"]],
    "scripts/sync_libraries.py": [["x"]],
    "scripts/sync_readme.py": [["x"]],
    "scripts/system-packages.sh": [[], ["python9.9", "build"]],
    "scripts/system_packages.py": [[], ["x"]],
    "scripts/try_wheel.py": [[]],
    "scripts/wheel.py": [["x"], ["--extension"]],
    "scripts/virtualenv.sh": [[], ["check"], ["x", sys.executable, "nowhere"]],
    "vendor/requirements.py": [["x"]],
}

# Folders of tests with programs in them.
PROGRAMS = ("attack", "benchmark", "browser", "fuzz", "soak")


def run(program: str, arguments: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in a directory of its own."""
    if program.startswith("-m "):
        command = [sys.executable, *program.split()]
    elif program.endswith(".sh"):
        command = ["bash", str(ROOT / program)]
    else:
        command = [sys.executable, str(ROOT / program)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("DEMO_SIZE", None)
    return subprocess.run(
        [*command, *arguments],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


def test_every_program_is_here() -> None:
    found = {
        str(path.relative_to(ROOT))
        for pattern in ("examples/*.py", "examples/browser/*.py", "scripts/*", "vendor/*.py")
        for path in ROOT.glob(pattern)
        if path.is_file() and not path.name.startswith("_")
    }
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
        for folder in ("examples/demo", *(f"tests/{name}" for name in PROGRAMS))
        for path in (ROOT / folder).rglob("*.py")
        if 'if __name__ == "__main__"' in path.read_text() and "argparse" in path.read_text()
    }
    modules.add("pywebtransport")
    assert found | {f"-m {name}" for name in modules} == set(WRONG)


@pytest.mark.parametrize("program", WRONG)
def test_help_is_printed_and_nothing_else_happens(program: str, tmp_path: Path) -> None:
    done = run(program, ["--help"], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(
        "usage:" if not program.endswith(".sh") else ("Builds", "Fuzzes", *"TCIL")
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        pytest.param(program, arguments, id=f"{program} {' '.join(arguments)}")
        for program, lines in WRONG.items()
        for arguments in lines
    ],
)
def test_what_is_not_understood_is_refused(
    program: str, arguments: list[str], tmp_path: Path
) -> None:
    done = run(program, arguments, tmp_path)
    assert done.returncode not in (0, -9), done.stdout
    assert "Traceback" not in done.stderr
    assert done.stderr.strip() or done.stdout.strip()
