"""A real ``nats-server`` for the tests: on this machine only, without persistence."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from tests.support.redis_server import ATTEMPTS, END_TIMEOUT, PORTS

PROGRAM = "nats-server"
READY = "Server is ready"
TAKEN = "address already in use"
LOOK = 0.01
"""Seconds between two looks into its log, which cannot be a pipe: without a reader it ends."""


class NatsServer:
    """A server process of its own, with a configuration of its own.

    Args:
        options: Lines of its configuration file.
        login: ``user:password@``, or empty; for ``url``.

    Attributes:
        port: TCP port on 127.0.0.1; the same after :meth:`restart`.
    """

    def __init__(self, *options: str, login: str = "") -> None:
        program = shutil.which(PROGRAM)
        assert program is not None, f"{PROGRAM} is not installed; run `make setup`"
        self._program = program
        self._options = options
        self._login = login
        self._directory = tempfile.TemporaryDirectory(prefix="pywebtransport-nats-")
        self._process: subprocess.Popen[bytes] | None = None
        self._log = ""
        self.port = 0
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """Where it is."""
        return f"nats://{self._login}127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Its process, while it runs."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it listens; does nothing while it runs."""
        if self._process is not None:
            return
        for _ in range(ATTEMPTS):
            port = self.port or random.choice(PORTS)
            if self._launch(port):
                self.port = port
                return
        raise AssertionError(f"{PROGRAM} did not start:\n{self._log}")

    def stop(self) -> None:
        """Kill it, as a crash would, and wait for its end; idempotent."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(END_TIMEOUT)

    def restart(self) -> None:
        """Kill it and start it again on the same port: clients lose their connections."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Suspend it: connections stay open, but get no answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        tasks = Path(f"/proc/{self._process.pid}/task")
        while not all(_is_stopped(one) for one in tasks.glob("*/stat")):
            pass  # its threads stop one by one

    def resume(self) -> None:
        """Let it run again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Kill it and remove its directory."""
        self.stop()
        self._directory.cleanup()

    def _launch(self, port: int) -> bool:
        """Start it on ``port`` and read its log until it listens; False when it ended instead."""
        config = Path(self._directory.name) / "nats.conf"
        config.write_text("\n".join([f"listen: 127.0.0.1:{port}", *self._options]))
        log = Path(self._directory.name) / "log"
        with log.open("w") as out:
            process = subprocess.Popen(
                [self._program, "-c", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        while READY not in (found := log.read_text()) and TAKEN not in found:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(LOOK)
                break
        self._log += found
        if READY in found:
            self._process = process
            return True
        process.kill()
        process.wait(END_TIMEOUT)
        return False


def _is_stopped(stat: Path) -> bool:
    return stat.read_text().rpartition(") ")[2].startswith("T")
