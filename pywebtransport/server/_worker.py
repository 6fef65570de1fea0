"""The worker side of a worker process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pickle
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

from .._loop import WorkerSockets
from ..events._worker_link import set_worker_link
from ..exceptions import ConfigurationError, ServerError, WebTransportError
from ..utils._failures import log_application_error
from ._exiting import ExitGuard, run_to_end
from ._loops import LoopFactory

if TYPE_CHECKING:
    from .._states import Address
    from ..config import ServerConfig

__all__ = ["CONTROL_BYTES", "SIGNALS", "Worker", "current_worker", "no_seat"]

# Longest message between a worker and the supervisor.
CONTROL_BYTES = 1 << 16
# Longest text, in characters, of an error that cannot be pickled.
_LONGEST_TEXT = 4096
# Signals that supervisor and workers handle; blocked while a process starts.
SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD})

_current: Worker | None = None


def current_worker() -> Worker | None:
    """Return the worker of this process; None outside of worker processes.

    Use it for work that only one worker should do, such as a periodic job:
    ``current_worker() is None or current_worker().index == 0``.
    """
    return _current


class _Server(Protocol):
    """The part of ``WebTransportServer`` that its worker process uses."""

    async def close(self) -> None: ...
    def load_certificates(self, certfile: str | None, keyfile: str | None) -> None: ...


class Worker:
    """One of the processes that share a port. Made by ``run_workers``.

    Attributes:
        index: Number of this worker, from 0. The replacement of a worker has the same index.
        count: Number of workers.
        deaths: Number of worker processes that ended unexpectedly since the start.
    """

    def __init__(
        self,
        seat: WorkerSockets,
        address: Address,
        control: socket.socket,
        certificates: tuple[str | None, str | None],
        grace: float,
        deaths: int = 0,
        hub: socket.socket | None = None,
    ) -> None:
        """Create it in the new process, before its event loop.

        Args:
            seat: Its sockets.
            address: The shared host and port.
            control: To the supervisor.
            certificates: See ``certificates``.
            grace: Seconds for ``main`` after the servers were closed.
            deaths: See the class.
            hub: To the supervisor, for messages to the other workers.
        """
        global _current
        set_worker_link(hub)
        self.index = seat.index
        self.count = seat.count
        self.deaths = deaths
        self.on_stop: Callable[[], None] | None = None
        # Called when the process should end; in a real worker this is its guard.
        self.ending: Callable[[], object] = bool
        self._seat = seat
        self._address = address
        self._control = control
        self._certificates = certificates
        self._grace = grace
        self._logger = logging.getLogger("pywebtransport.server")
        self._servers: list[_Server] = []
        self._main: asyncio.Future[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._leaving = False
        self._stopping = False
        self._listens = False
        _current = self

    def __repr__(self) -> str:
        return f"<Worker {self.index} of {self.count}>"

    # ------------------------------------------------------------- for servers

    @property
    def certificates(self) -> tuple[str | None, str | None]:
        """Files that replaced those of the configuration since the start, or None."""
        return self._certificates

    @property
    def all_end(self) -> bool:
        """Whether all workers end, and nothing will serve the port any more."""
        return self._seat.steering.ends

    def seat_for(self, address: Address) -> WorkerSockets | None:
        """The sockets of this worker, if the shared port was bound for this host and port."""
        return self._seat if address == self._address else None

    def listening(self, server: _Server, addresses: list[Address]) -> None:
        """Note that a server serves the shared port."""
        self._servers.append(server)
        self._listens = True
        self._tell("listening", addresses)

    def serves(self, server: _Server) -> bool:
        """Whether a server of this worker serves the shared port."""
        return server in self._servers

    def closing(self, server: _Server) -> None:
        """A server of this worker accepts no new clients anymore: the other workers do."""
        if self.serves(server) and not self._stopping:
            self._tell("closing")

    def closed(self, server: _Server) -> None:
        """A server of this worker does not read anymore."""
        if self.serves(server):
            self._tell("closed")

    def reloaded(self, certfile: str | None, keyfile: str | None) -> None:
        """A server of this worker has new certificates: the other workers load them, too."""
        self._tell("reload", certfile, keyfile)

    # -------------------------------------------------------------- life cycle

    def run(
        self,
        main: Callable[[], Awaitable[None]],
        loop_factory: LoopFactory | None,
        config: ServerConfig,
    ) -> None:
        """Run ``main`` to its end. An exception ends the process with status 1."""
        guard = ExitGuard(lambda: config, self._logger)
        guard.listen()
        self.ending = guard.arm
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # Until the loop takes over; the supervisor starts workers with these blocked.
        signal.signal(signal.SIGTERM, self._on_early_stop)
        signal.signal(signal.SIGHUP, _ignore)
        # Ctrl-C in a terminal reaches every process; the supervisor decides.
        signal.signal(signal.SIGINT, _ignore)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        try:
            run_to_end(lambda: self._life(main), guard=guard, loop_factory=loop_factory)
        except (Exception, asyncio.CancelledError) as error:
            # Only ``stop`` cancels ``main``: another cancellation comes from the application.
            if self._listens:
                log_application_error(self._logger, f"worker {self.index} failed: main", error)
            else:
                self._fail(error)
            sys.exit(1)

    def leave(self) -> None:
        """Stop as soon as no new clients come here; at once if called again."""
        if self._listens and not self._leaving:
            self._leaving = True
            self._tell("leaving")
        else:
            self.stop()

    def stop(self) -> None:
        """Close the servers gracefully; then ``main`` ends by itself, or is cancelled."""
        self.ending()
        if self._stopping or self._main is None:
            self._stopping = True
            return
        self._stopping = True
        if self.on_stop is not None:
            self.on_stop()
            return
        task = asyncio.get_running_loop().create_task(self._close_servers(self._main))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    # ---------------------------------------------------------------- internal

    async def _life(self, main: Callable[[], Awaitable[None]]) -> None:
        loop = asyncio.get_running_loop()
        running = self._main = asyncio.ensure_future(main())
        loop.add_reader(self._control.fileno(), self._on_control)
        loop.add_signal_handler(signal.SIGTERM, self.leave)
        loop.add_signal_handler(signal.SIGHUP, self._reload, None, None)
        try:
            if self._stopping:
                running.cancel()
            await asyncio.wait({running})
        finally:
            loop.remove_reader(self._control.fileno())
            for task in self._closing:
                task.cancel()
            await asyncio.gather(*self._closing, return_exceptions=True)
        if not (running.cancelled() and self._stopping):
            running.result()

    async def _close_servers(self, main: asyncio.Future[None]) -> None:
        if self._servers:
            await asyncio.gather(
                *(server.close() for server in self._servers), return_exceptions=True
            )
            await asyncio.wait({main}, timeout=self._grace)
        main.cancel()

    def _on_early_stop(self, number: int, frame: object) -> None:
        self._stopping = True
        self.ending()

    def _on_control(self) -> None:
        try:
            data = self._control.recv(CONTROL_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            # The supervisor is gone: nothing would supervise this process.
            asyncio.get_running_loop().remove_reader(self._control.fileno())
            self._logger.warning("worker %d: the supervisor is gone", self.index)
            self._seat.steer(self._seat.steering.ended())
            self.stop()
            return
        kind, *values = pickle.loads(data)
        if kind == "stop":
            self.stop()
        elif kind == "steer":
            self._seat.steer(*values)
        elif kind == "deaths":
            (self.deaths,) = values
        else:
            self._reload(*values)

    def _reload(self, certfile: str | None, keyfile: str | None) -> None:
        if certfile is not None or keyfile is not None:
            old = self._certificates
            self._certificates = (certfile or old[0], keyfile or old[1])
        for server in self._servers:
            try:
                server.load_certificates(certfile, keyfile)
            except WebTransportError as error:
                self._logger.error("worker %d keeps its certificates: %s", self.index, error)

    def _fail(self, error: BaseException) -> None:
        """The start failed: send the error to the supervisor, which raises it."""
        if isinstance(error, asyncio.CancelledError):
            error = ServerError(
                f"worker {self.index} could not start: something that it waited for was cancelled"
            )
        try:
            message = pickle.dumps(("failed", error))
        except Exception:
            # Not every exception can be pickled, and pickling may raise any exception.
            message = b""
        if not 0 < len(message) <= CONTROL_BYTES:
            text = f"{type(error).__name__}: {error}"[:_LONGEST_TEXT]
            message = pickle.dumps(("failed", RuntimeError(text)))
        self._send(message)

    def _tell(self, *message: Any) -> None:
        self._send(pickle.dumps(message))

    def _send(self, message: bytes) -> None:
        with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            self._control.send(message)


def no_seat(workers: int, worker: Worker | None) -> ConfigurationError:
    """Create the error for a server with ``workers`` that cannot listen here."""
    if worker is None:
        how = (
            "workers are processes of their own, which an event loop cannot start; call "
            "ServerApp.run(workers=N) or pywebtransport.server.run_workers() in the main program"
        )
    else:
        how = (
            "this worker shares the host and port, or the sockets, that run_workers() was given, "
            "and no others"
        )
    return ConfigurationError(
        f"workers={workers}: {how}", config_key="workers", config_value=workers
    )


def _ignore(number: int, frame: object) -> None:
    """Do nothing; unlike SIG_IGN, a handler is not inherited by programs that the worker starts."""
