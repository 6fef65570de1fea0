"""Worker processes on one port, and the process that looks after them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import pickle
import select
import signal
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from .._loop import SharedPort
from ..config import ServerConfig
from ..exceptions import ConfigurationError, ServerError
from ..utils.checks import check_bind_address
from ..utils.failures import describe_error
from ..utils.logs import apply_log_level
from ..utils.system import explain_os_error, require_descriptors
from .collector import frozen
from .exiting import STUCK_STATUS
from .worker import CONTROL_BYTES, SIGNALS, Worker

__all__ = ["RestartPolicy", "run_workers"]

# What a worker may need beyond the timeouts, to end by itself, before it is killed; seconds.
_GRACE = 5.0
# What it takes to start one: two sockets and two pipes.
_PROCESS_DESCRIPTORS = 6

_fork = multiprocessing.get_context("fork")


def run_workers(
    main: Callable[[], Awaitable[None]],
    *,
    config: ServerConfig,
    host: str | None = None,
    port: int | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> None:
    """Run ``main`` in ``config.workers`` processes that share one UDP port. Blocks.

    ``ServerApp.run`` does this for applications. Each process is a copy of this
    one (fork), with an event loop and a QUIC engine of its own. ``main`` makes a
    ``WebTransportServer(config=config)``, lets it ``listen()`` on the shared
    host and port, and ends when the server is closed::

        async def main():
            async with WebTransportServer(config=config) as server:
                server.on(event_type=EventType.SESSION_REQUEST, handler=answer)
                await server.listen()
                await server.serve_forever()

        run_workers(main, config=config)

    A connection stays with its worker, also when the client changes its
    address. A worker that dies is replaced: at once the first time, then after
    0.5, 1, 2, 4, 8, 8 and 8 seconds; its clients hear of it (stateless reset)
    with their next packet. When one dies 8 times in a row, each time within 10
    seconds of its start, everything ends.

    SIGINT and SIGTERM close all servers gracefully. A worker in which code of the
    application does not end names it in the log when ``drain_timeout``,
    ``close_timeout`` and ``shutdown_timeout`` have passed, and ends with status 70,
    see ``ServerApp.run``; this process then does, too (``SystemExit``). A worker
    that has not ended 5 seconds later is killed. A second such signal kills all
    workers at once. SIGHUP reloads the certificates in all workers, as
    ``reload_certificates()`` in one of them does.

    Args:
        main: Called in each worker, in its event loop.
        config: ``workers`` and the timeouts are read here.
        host: Default ``config.bind_host``.
        port: Default ``config.bind_port``; 0 lets the system choose one for all.
        loop_factory: Makes the event loops, such as ``uvloop.new_event_loop``.

    Raises:
        ConfigurationError: Called in an event loop or not in the main thread.
        ServerError: The address cannot be bound, there is no room for so many
            processes, or a worker keeps dying.
        WebTransportError: What ended a worker before it could listen, such as
            a ``CertificateError``; then all workers are stopped.
    """
    check_caller("run_workers")
    check_bind_address(host, port)
    config.validate()
    apply_log_level(config.log_level)
    _Supervisor(
        main,
        config,
        config.bind_host if host is None else host,
        config.bind_port if port is None else port,
        loop_factory,
    ).run()


class RestartPolicy:
    """How long to wait before a worker that died is replaced.

    Args:
        settled: Seconds after which a worker counts as healthy.
        limit: So many early deaths in a row are given up on.
        first: Seconds before the second replacement in a row; doubles each time.
        longest: Longest wait in seconds.
    """

    def __init__(
        self,
        *,
        settled: float = 10.0,
        limit: int = 8,
        first: float = 0.5,
        longest: float = 8.0,
    ) -> None:
        self._settled = settled
        self._limit = limit
        self._first = first
        self._longest = longest
        self._early = 0

    def delay(self, lived: float) -> float | None:
        """Seconds to wait after a worker died that lived so long; None: give up."""
        if lived >= self._settled:
            self._early = 0
        self._early += 1
        if self._early >= self._limit:
            return None
        if self._early == 1:
            return 0.0
        return min(self._first * 2.0 ** (self._early - 2), self._longest)


class _Slot:
    """One worker's place: the process that has it now, and when the next one starts."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.policy = RestartPolicy()
        self.process: multiprocessing.process.BaseProcess | None = None
        self.control: socket.socket | None = None
        self.started_at = 0.0
        self.restart_at: float | None = None
        self.listens = False
        self.error: BaseException | None = None

    def send(self, *message: Any) -> None:
        if self.control is not None:
            # A worker that reads nothing any more is about to die.
            with contextlib.suppress(OSError):
                self.control.send(pickle.dumps(message))

    def drop_control(self) -> None:
        if self.control is not None:
            self.control.close()
            self.control = None


class _Supervisor:
    """The parent: no event loop, no engine; it waits for signals, messages and deaths."""

    def __init__(
        self,
        main: Callable[[], Awaitable[None]],
        config: ServerConfig,
        host: str,
        port: int,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None,
    ) -> None:
        self._main = main
        self._config = config
        self._address = (host, port)
        self._loop_factory = loop_factory
        self._logger = logging.getLogger("pywebtransport.server")
        self._slots = [_Slot(index) for index in range(config.workers)]
        self._certificates: tuple[str | None, str | None] = (None, None)
        self._all_listen = False
        self._deaths = 0
        self._deadline: float | None = None  # set once stopping
        self._alarm_at: float | None = None
        self._failure: BaseException | None = None
        self._last_signal: int | None = None
        self._is_stuck = False

    def run(self) -> None:
        self._port = SharedPort(
            *self._address, self._config.workers, family=self._config.address_family
        )
        try:
            self._wake, self._woken = socket.socketpair()
        except OSError as error:
            self._port.close()
            text = f"workers cannot be started: {explain_os_error(error)}"
            raise ServerError(text, details={"errno": error.errno}) from error
        try:
            with self._signals(), frozen(self._config.gc_policy != "off"):
                try:
                    self._start_all()
                    while self._step():
                        pass
                finally:
                    self._kill()
        finally:
            for sock in (self._wake, self._woken):
                sock.close()
            self._port.close()
        if self._last_signal is not None:
            # As a process without workers would end.
            signal.raise_signal(self._last_signal)
        if self._failure is not None:
            raise self._failure
        if self._is_stuck:
            raise SystemExit(STUCK_STATUS)

    # ------------------------------------------------------------------ waiting

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Signals wake the supervisor up and are acted upon outside of handlers."""
        for sock in (self._wake, self._woken):
            sock.setblocking(False)
        previous = {number: signal.signal(number, _note) for number in SIGNALS}
        old_fd = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(old_fd)
            for number, handler in previous.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _step(self) -> bool:
        """Wait for something to happen and act on it; False: all is over."""
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        for slot in self._slots:
            if slot.control is not None:
                poll.register(slot.control, select.POLLIN)
        poll.poll(self._patience())
        for number in self._take_signals():
            self._on_signal(number)
        if self._last_signal is not None:
            return False
        # Deaths are judged by all that was said before them.
        dead = [
            slot
            for slot in self._slots
            if slot.process is not None and slot.process.exitcode is not None
        ]
        for slot in self._slots:
            self._read(slot)
        for slot in dead:
            self._bury(slot)
        self._act_on_time(time.monotonic())
        return self._deadline is None or any(slot.process is not None for slot in self._slots)

    def _patience(self) -> float | None:
        """Milliseconds until something is due."""
        due = [slot.restart_at for slot in self._slots if slot.restart_at is not None]
        if self._deadline is not None:
            due.append(self._deadline if self._alarm_at is None else self._alarm_at)
        return None if not due else max(0.0, min(due) - time.monotonic()) * 1000

    def _act_on_time(self, now: float) -> None:
        for slot in self._slots:
            if slot.restart_at is not None and slot.restart_at <= now:
                slot.restart_at = None
                self._restart(slot)
        if self._alarm_at is not None and self._alarm_at <= now:
            self._alarm_at = None
            for slot in self._slots:
                if slot.process is not None and slot.process.pid is not None:
                    # A loop that is blocked has not heard that it is to end.
                    os.kill(slot.process.pid, signal.SIGALRM)
        if self._deadline is not None and self._deadline <= now:
            late = [slot.index for slot in self._slots if slot.process is not None]
            self._logger.error("workers %s did not end in time; killing them", late)
            self._kill()

    def _take_signals(self) -> bytes:
        try:
            return self._woken.recv(4096)
        except BlockingIOError:
            return b""

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGHUP:
            self._logger.info("reloading certificates in all workers")
            self._broadcast("reload", None, None)
        elif number in (signal.SIGINT, signal.SIGTERM):
            if self._deadline is None:
                self._stop()
            else:
                self._last_signal = number

    # ------------------------------------------------------------------ workers

    def _start_all(self) -> None:
        for slot in self._slots:
            try:
                self._start(slot)
            except OSError as error:
                raise ServerError(
                    f"worker {slot.index} could not be started: {explain_os_error(error)}"
                ) from error

    def _start(self, slot: _Slot) -> None:
        """A new process in this place; signals wait until it has its own handlers."""
        require_descriptors(_PROCESS_DESCRIPTORS)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for sock in (ours, theirs):
            sock.setblocking(False)
        process = _fork.Process(
            target=self._in_worker, args=(slot, theirs), name=f"worker-{slot.index}"
        )
        slot.control = ours
        slot.error = None
        slot.listens = False
        slot.started_at = time.monotonic()
        old = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, old)
            theirs.close()
        slot.process = process

    def _in_worker(self, own: _Slot, control: socket.socket) -> None:
        """In the new process: close what is the supervisor's, then run."""
        for slot in self._slots:
            slot.drop_control()
        for sock in (self._wake, self._woken):
            sock.close()
        self._port.keep_only(own.index)
        worker = Worker(
            self._port.seat(own.index),
            self._address,
            control,
            self._certificates,
            # What main has for itself; cancelled, it needs some of that time, too.
            min(self._config.close_timeout, self._config.shutdown_timeout / 2),
            self._deaths,
        )
        worker.run(self._main, self._loop_factory, self._config)

    def _read(self, slot: _Slot) -> None:
        """What a worker says; its end is noticed by ``SIGCHLD``."""
        while slot.control is not None:
            try:
                data = slot.control.recv(CONTROL_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if data:
                self._hear(slot, data)
            else:
                slot.drop_control()

    def _hear(self, slot: _Slot, data: bytes) -> None:
        try:
            kind, *values = pickle.loads(data)
        except Exception as error:
            # An exception of the application that cannot be rebuilt.
            kind, values = "failed", [error]
        if kind == "failed" and not isinstance(values[0], BaseException):
            values = [RuntimeError(f"a worker could not start: {values[0]!r}")]
        if kind == "listening":
            self._on_listening(slot, *values)
        elif kind == "reload":
            self._on_reloaded(slot, *values)
        else:
            slot.error = values[0]

    def _on_listening(self, slot: _Slot, addresses: list[tuple[str, int]]) -> None:
        assert slot.process is not None
        slot.listens = True
        pid = slot.process.pid
        if self._all_listen:
            self._logger.info("worker %d (process %d) serves", slot.index, pid)
            return
        self._logger.debug("worker %d (process %d) serves", slot.index, pid)
        if all(each.listens for each in self._slots):
            self._all_listen = True
            for address in addresses:
                self._logger.info(
                    "listening on %s port %d with %d workers", *address, len(self._slots)
                )

    def _on_reloaded(self, slot: _Slot, certfile: str | None, keyfile: str | None) -> None:
        if certfile is not None or keyfile is not None:
            old = self._certificates
            self._certificates = (certfile or old[0], keyfile or old[1])
        self._broadcast("reload", certfile, keyfile, but=slot)

    def _bury(self, slot: _Slot) -> None:
        """A process ended: replace it, unless everything ends."""
        process = slot.process
        assert process is not None
        process.join()
        how = _describe(process.exitcode)
        self._is_stuck = self._is_stuck or process.exitcode == STUCK_STATUS
        pid = process.pid
        process.close()
        slot.process = None
        slot.drop_control()
        if self._deadline is not None:
            if how != _describe(0):
                self._logger.error("worker %d (process %d) %s", slot.index, pid, how)
            return
        if not self._all_listen:
            self._give_up(
                slot.error
                or ServerError(f"worker {slot.index} (process {pid}) {how} before it could listen")
            )
            return
        self._deaths += 1
        self._broadcast("deaths", self._deaths)
        if slot.error is not None:
            how = f"{how}: {describe_error(slot.error)}"
        self._replace(slot, f"(process {pid}) {how}")

    def _replace(self, slot: _Slot, what: str) -> None:
        """Let another process take the place soon, if the last ones did not die too early."""
        now = time.monotonic()
        delay = slot.policy.delay(now - slot.started_at)
        if delay is None:
            self._logger.error("worker %d %s; giving up", slot.index, what)
            self._give_up(ServerError(f"worker {slot.index} keeps dying; the last: {what}"))
            return
        when = f"in {delay:g} s" if delay else "now"
        self._logger.warning("worker %d %s; replacing it %s", slot.index, what, when)
        slot.restart_at = now + delay

    def _restart(self, slot: _Slot) -> None:
        try:
            self._start(slot)
        except OSError as error:
            # The system has no room for a process at the moment.
            slot.drop_control()
            self._replace(slot, f"could not be started: {explain_os_error(error)}")

    def _give_up(self, failure: BaseException) -> None:
        self._failure = failure
        self._stop()

    def _stop(self) -> None:
        """Tell all workers to end, and nobody takes their place."""
        config = self._config
        patience = config.drain_timeout + config.close_timeout + config.shutdown_timeout
        self._alarm_at = time.monotonic() + patience
        self._deadline = self._alarm_at + _GRACE
        for slot in self._slots:
            slot.restart_at = None
        self._broadcast("stop")

    def _broadcast(self, *message: Any, but: _Slot | None = None) -> None:
        for slot in self._slots:
            if slot is not but:
                slot.send(*message)

    def _kill(self) -> None:
        """End what still runs, without its cooperation."""
        for slot in self._slots:
            if slot.process is not None:
                slot.process.kill()
        for slot in self._slots:
            if slot.process is not None:
                slot.process.join()
                slot.process.close()
                slot.process = None
            slot.drop_control()


def check_caller(name: str) -> None:
    """Signals and new processes need the main thread of a program that runs no event loop.

    Args:
        name: Of the function that needs it.

    Raises:
        ConfigurationError: It was called elsewhere.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        if threading.current_thread() is threading.main_thread():
            return
        where = "outside of the main thread, which gets the signals"
    else:
        where = "in an event loop"
    raise ConfigurationError(
        f"{name}() cannot be called {where}; call it in the main program, or serve with one "
        "process by awaiting ServerApp.serve() in the loop that you have"
    )


def _describe(exitcode: int | None) -> str:
    if exitcode is None or exitcode >= 0:
        return f"ended with status {exitcode}"
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = f"signal {-exitcode}"
    return f"was killed by {name}"


def _note(number: int, frame: object) -> None:
    """The wakeup descriptor tells; a handler has to exist."""
