"""A real ``redis-server`` for the tests: on this machine only, without persistence."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import tempfile
from urllib.parse import quote

import redis

PROGRAM = "redis-server"
END_TIMEOUT = 20.0
READY = "Ready to accept connections"
# A port may be taken: by another run of the tests, or by another program.
ATTEMPTS = 50
# Below the ports that the system gives to clients: else one of them may sit on the port of a
# server that is being restarted, and a client that tries to connect may meet itself.
PORTS = range(20_000, 32_000)


class RedisServer:
    """A server process of its own, with a temporary directory of its own.

    Args:
        options: Further options of ``redis-server``, as on its command line.
        password: What clients have to say; empty: nothing.
        tls: Its port speaks TLS; the options say with which certificate.

    Attributes:
        password: As given.
        port: TCP port on 127.0.0.1; the same after :meth:`restart`.
    """

    def __init__(self, *options: str, password: str = "", tls: bool = False) -> None:
        program = shutil.which(PROGRAM)
        assert program is not None, f"{PROGRAM} is not installed; run `make setup`"
        self._program = program
        self._options = options
        self._directory = tempfile.TemporaryDirectory(prefix="pywebtransport-redis-")
        self._process: subprocess.Popen[str] | None = None
        self._log = ""
        self.password = password
        self._tls = tls
        self.port = 0
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """Where it is, with its password."""
        return self.url_for(password=self.password)

    def url_for(self, *, user: str = "", password: str = "", database: int = 0) -> str:
        """Where it is, with a name and a password of the caller's choice."""
        login = f"{user}:{quote(password, safe='')}@" if password else ""
        return f"redis://{login}127.0.0.1:{self.port}/{database}"

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

    def resume(self) -> None:
        """Let it run again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Kill it and remove its directory."""
        self.stop()
        self._directory.cleanup()

    def command(self, *arguments: str | bytes) -> object:
        """Run one command on a connection of its own, and return the answer."""
        with redis.Redis.from_url(self.url) as client:
            return client.execute_command(*arguments)

    def _launch(self, port: int) -> bool:
        """Start it on ``port`` and read its log until it listens; False when it ended instead."""
        process = subprocess.Popen(
            [
                self._program,
                *("--bind", "127.0.0.1", "--dir", self._directory.name),
                *(("--port", "0", "--tls-port", str(port)) if self._tls else ("--port", str(port))),
                *("--save", "", "--appendonly", "no", "--logfile", ""),
                *(("--requirepass", self.password) if self.password else ()),
                *self._options,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        # What it logs later goes nowhere: it ignores that nobody reads any more.
        with process.stdout as lines:
            for line in lines:
                self._log += line
                if READY in line:
                    self._process = process
                    return True
        process.wait(END_TIMEOUT)
        return False
