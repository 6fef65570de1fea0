"""The processes of one measurement: server, client, and the relay where there is one."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from .libraries import OURS
from .scenarios import Path as LossyPath

__all__ = ["Certificate", "Failure", "Measurement", "measure"]

HERE = Path(__file__).resolve().parent
_END_TIMEOUT = 2.0
_START_TIMEOUT = 15.0


class Failure(Exception):
    """A measurement that gave no figures; the message says why, in one line."""


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """Files in PEM, and the SHA-256 of the certificate in hex."""

    certfile: str
    keyfile: str
    hash: str


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What to run.

    Attributes:
        library: Of the server.
        python: The interpreter of its virtualenv.
        client: Library of the client; "" for the same.
        client_python: Its interpreter.
        busy_poll: Microseconds of both ends, if the library is this project.
    """

    library: str
    python: str
    loop: str
    congestion: str
    job: dict[str, Any]
    limit: float
    path: LossyPath | None = None
    seed: int = 0
    pythonpath: str = ""
    client: str = ""
    client_python: str = ""
    busy_poll: int = 0

    def end(self, role: str) -> tuple[str, str, str]:
        """Library, interpreter and congestion control of one end.

        Congestion controls are names of the server's library: a client of another keeps its own.
        """
        if role == "server" or not self.client:
            return self.library, self.python, self.congestion
        return self.client, self.client_python, ""


class _Process:
    """A child that prints JSON lines."""

    def __init__(self, command: list[str], errors: IO[str], pythonpath: str) -> None:
        self._errors = errors
        self._buffer = b""
        # A group of its own: Ctrl-C is for the runner, which ends it by its process id.
        self._popen = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=_environment(pythonpath),
            start_new_session=True,
        )

    def read(self, who: str, deadline: float) -> dict[str, Any]:
        """The next line of its output.

        Raises:
            Failure: It ended, or the deadline passed.
        """
        assert self._popen.stdout is not None
        poll = select.poll()
        poll.register(self._popen.stdout, select.POLLIN)
        while b"\n" not in self._buffer:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise Failure(f"the {who} gave no answer in time{self._complaint()}")
            data = self._popen.stdout.read1(65536)  # type: ignore[attr-defined]
            if not data:
                raise Failure(f"the {who} ended without an answer{self._complaint()}")
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError:
            raise Failure(f"the {who} printed {line[:80]!r}") from None
        return answer

    def finish(self) -> None:
        """Tell it to end: its standard input ends."""
        assert self._popen.stdin is not None
        with contextlib.suppress(OSError):
            self._popen.stdin.close()

    def end(self) -> None:
        """It has ended when this returns."""
        self.finish()
        try:
            self._popen.wait(_END_TIMEOUT)
        except BaseException:
            self._popen.kill()
            self._popen.wait()
            raise
        finally:
            assert self._popen.stdout is not None
            self._popen.stdout.close()

    def kill(self) -> None:
        """End it, without its cooperation where that takes long."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.end()

    def _complaint(self) -> str:
        """The last line of its standard error."""
        self._errors.flush()
        lines = Path(self._errors.name).read_text(errors="replace").strip().splitlines()
        return f": {lines[-1][:200]}" if lines else ""


def measure(measurement: Measurement, certificate: Certificate) -> dict[str, Any]:
    """Run server and client once; returns ``figures`` and versions.

    Raises:
        Failure: No figures, and why.
    """
    deadline = time.monotonic() + measurement.limit
    with tempfile.TemporaryDirectory(prefix="benchmark-") as directory:
        folder = Path(directory)
        port = _free_port()
        with _program(measurement, certificate, "server", port, folder) as server:
            ready = server.read("server", min(deadline, time.monotonic() + _START_TIMEOUT))
            with _relay(measurement, ready["port"], folder) as relay:
                port = ready["port"] if relay is None else relay.read("relay", deadline)["port"]
                with _program(measurement, certificate, "client", port, folder) as client:
                    answer = client.read("client", deadline)
                if relay is not None:
                    relay.finish()
                    ready["relay"] = relay.read("relay", deadline)
    if "error" in answer:
        raise Failure(answer["error"])
    return {**ready, "figures": answer["figures"]}


@contextmanager
def _program(
    measurement: Measurement, certificate: Certificate, role: str, port: int, folder: Path
) -> Iterator[_Process]:
    library, python, congestion = measurement.end(role)
    options = {
        "library": library,
        "role": role,
        "loop": measurement.loop,
        "port": port,
        "control": str(folder / "control"),
        "certfile": certificate.certfile,
        "keyfile": certificate.keyfile,
        "certificate_hash": certificate.hash,
        "congestion": congestion,
        "job": measurement.job,
        "busy_poll": measurement.busy_poll if library == OURS else 0,
    }
    command = [python, "-P", str(HERE / "program.py"), json.dumps(options)]
    # The checkout is for this project alone.
    pythonpath = measurement.pythonpath if library == OURS else ""
    with _process(command, folder / f"{role}.log", pythonpath) as process:
        yield process


@contextmanager
def _relay(measurement: Measurement, port: int, folder: Path) -> Iterator[_Process | None]:
    path = measurement.path
    if path is None:
        yield None
        return
    command = [sys.executable, "-P", str(HERE / "relay.py"), str(port)]
    command += [f"--loss={path.loss}", f"--delay={path.delay}", f"--seed={measurement.seed}"]
    with _process(command, folder / "relay.log") as process:
        yield process


@contextmanager
def _process(command: list[str], log: Path, pythonpath: str = "") -> Iterator[_Process]:
    with log.open("w") as errors:
        process = _Process(command, errors, pythonpath)
        try:
            yield process
        finally:
            process.kill()


def _environment(pythonpath: str) -> dict[str, str]:
    """As ours, but for what would change the child's Python."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**kept, "PYTHONPATH": pythonpath} if pythonpath else kept


def _free_port() -> int:
    """A UDP port that nobody uses, on all addresses, for libraries that do not take 0."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        probe.bind(("::", 0))
        port: int = probe.getsockname()[1]
        return port
