"""Worker processes on one port, and the process that looks after them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing

# multiprocessing itself imports it between making pipes and the fork: when no descriptor is left,
# that fails, and the pipes stay.
import multiprocessing.resource_tracker
import os
import pickle
import select
import signal
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeAlias

from .._core.settings import lb_config
from .._loop import SharedPort, Steering
from .._states import Address
from ..config import ServerConfig
from ..exceptions import ConfigurationError, ServerError
from ..utils._checks import check_callable, check_instance
from ..utils._failures import describe_error
from ..utils._logs import apply_log_level
from ..utils._system import explain_os_error, require_descriptors
from ._collector import frozen
from ._exiting import STUCK_STATUS, time_to_end
from ._hub import Hub, HubLink
from ._loops import LoopFactory, choose_loop
from ._passed import check_where, inherited_sockets, split_sockets
from ._shared_secret import load_shared_secret
from ._worker import CONTROL_BYTES, SIGNALS, Worker

__all__ = ["OnListening", "RestartPolicy", "run_workers"]

OnListening: TypeAlias = Callable[[list[Address]], object]
"""Called with the addresses on which a server listens."""

# Seconds that a worker gets beyond the timeouts to end by itself, before it is killed.
_GRACE = 5.0
# Descriptors needed to start a worker: two pairs of sockets and two pipes.
_PROCESS_DESCRIPTORS = 8

_fork = multiprocessing.get_context("fork")


def run_workers(
    main: Callable[[], Awaitable[None]],
    *,
    config: ServerConfig,
    host: str | None = None,
    port: int | None = None,
    sockets: Sequence[socket.socket] | None = None,
    loop_factory: LoopFactory | None = None,
    on_listening: OnListening | None = None,
    tcp: bool = False,
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

    A connection stays with its worker, even if the client changes its address. A worker that dies
    is replaced: at once the first time, then after 0.5, 1, 2, 4, 8 and 8 seconds. Until then the
    other workers accept new clients, and its old clients get a stateless reset with their next
    packet. If a worker dies 8 times in a row, each time within 10 seconds of its start, it is
    started only once a minute, while the others continue. If this happens to all workers and none
    is alive, everything ends.

    SIGTERM to one worker closes its servers gracefully. Its successor is started first, and the old
    worker gets no new clients.

    SIGINT and SIGTERM close all servers gracefully. If code of the application does not end when
    ``drain_spread``, ``drain_timeout``, ``close_timeout`` and ``shutdown_timeout`` have passed, its
    worker names it in the log and ends with status 70, see ``ServerApp.run``; then this process
    does so, too (``SystemExit``). A worker that has not ended 5 seconds later is killed. A second
    such signal kills all workers at once. SIGHUP reloads the certificates and the files of
    ``shared_secret`` in all workers, as ``reload_certificates()`` in one of them does.

    Args:
        main: Called in each worker, in its event loop.
        config: ``workers`` and the timeouts are read here.
        host: Default ``config.bind_host``.
        port: Default ``config.bind_port``; 0 lets the system choose one for all.
        sockets: Bound UDP sockets to serve instead, and TCP sockets of the same ports if something
            is served over TCP; by default what systemd passed, see ``inherited_sockets``. From now
            on they belong to the workers. If no further UDP sockets can be bound to their
            addresses, for instance because another user created them, all workers read the same
            sockets and pass packets to each other. All workers accept connections on the TCP
            sockets.
        loop_factory: Creates the event loops; by default chosen as by ``ServerApp.run``.
        on_listening: Called once with the addresses, in this process, when all workers listen. An
            exception that it raises ends everything.
        tcp: Share the TCP port of the same number, too, for ASGI applications that are mounted with
            ``ServerApp.mount``. It is also shared if ``config.websocket`` is set.

    Raises:
        ConfigurationError: Called in an event loop or not in the main thread, or a bad argument.
        ServerError: The address cannot be bound, the system cannot start that many processes, or
            all workers keep dying.
        WebTransportError: The error that ended a worker before it could listen, such as a
            ``CertificateError``; then all workers are stopped.
    """
    check_caller("run_workers")
    check_where(host, port, sockets)
    check_instance("config", config, ServerConfig)
    if on_listening is not None:
        check_callable("on_listening", on_listening)
    config.validate()
    apply_log_level(config.log_level)
    if sockets is None:
        sockets = inherited_sockets()
    tcp = tcp or config.websocket
    udp, passed_tcp = split_sockets(sockets, tcp=tcp) if sockets else ([], [])
    _Supervisor(
        main,
        config,
        config.bind_host if host is None else host,
        config.bind_port if port is None else port,
        choose_loop(loop_factory, logging.getLogger("pywebtransport.server")),
        udp,
        on_listening,
        tcp=tcp,
        passed_tcp=passed_tcp,
    ).run()


class RestartPolicy:
    """How long to wait before a worker that died is replaced.

    Args:
        settled: Seconds after which a worker counts as healthy.
        limit: Early deaths in a row after which it is rarely started.
        first: Seconds before the second replacement in a row; doubles each time.
        longest: Longest wait in seconds before ``limit`` is reached.
        rarely: Seconds between attempts after that.
    """

    def __init__(
        self,
        *,
        settled: float = 10.0,
        limit: int = 8,
        first: float = 0.5,
        longest: float = 8.0,
        rarely: float = 60.0,
    ) -> None:
        self._settled = settled
        self._limit = limit
        self._first = first
        self._longest = longest
        self._rarely = rarely
        self._early = 0

    @property
    def is_hopeless(self) -> bool:
        """Whether the last workers all died early."""
        return self._early >= self._limit

    def delay(self, lived: float) -> float:
        """Seconds to wait after the death of a worker that lived this long."""
        if lived >= self._settled:
            self._early = 0
        self._early += 1
        if self.is_hopeless:
            return self._rarely
        if self._early == 1:
            return 0.0
        return min(self._first * 2.0 ** (self._early - 2), self._longest)


class _Member:
    """One worker process, from its start to its end."""

    def __init__(self, slot: _Slot, number: int, control: socket.socket, hub: HubLink) -> None:
        self.hub = hub
        self.slot = slot
        self.number = number  # of its slot
        self.control: socket.socket | None = control
        self.process: multiprocessing.process.BaseProcess | None = None
        self.started_at = time.monotonic()
        self.reads = False  # it has a server that reads its sockets
        # Set when it was told to end: when it will be reminded, and when it will be killed.
        self.alarm_at: float | None = None
        self.deadline: float | None = None
        self.error: BaseException | None = None

    @property
    def pid(self) -> int | None:
        return None if self.process is None else self.process.pid

    def __str__(self) -> str:
        return f"worker {self.slot.index} (process {self.pid})"

    def send(self, *message: Any) -> None:
        if self.control is not None:
            # A worker that does not read anymore is about to die.
            with contextlib.suppress(OSError):
                self.control.send(pickle.dumps(message))

    def drop_control(self) -> None:
        if self.control is not None:
            self.control.close()
            self.control = None


class _Slot:
    """The slot of one worker: which process serves it, and which one will next."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.policy = RestartPolicy()
        self.serving: _Member | None = None
        self.starting: _Member | None = None
        self.restart_at: float | None = None

    @property
    def is_vacant(self) -> bool:
        """Whether no process serves it, and none starts or will start."""
        return self.serving is None and self.starting is None and self.restart_at is None


class _Supervisor:
    """The parent: no event loop, no engine; it waits for signals, messages and deaths."""

    def __init__(
        self,
        main: Callable[[], Awaitable[None]],
        config: ServerConfig,
        host: str,
        port: int,
        loop_factory: LoopFactory | None,
        sockets: Sequence[socket.socket] = (),
        on_listening: OnListening | None = None,
        *,
        tcp: bool = False,
        passed_tcp: Sequence[socket.socket] = (),
    ) -> None:
        self._main = main
        self._config = config
        self._address = (host, port)
        self._loop_factory = loop_factory
        self._sockets = sockets
        self._tell_listening = on_listening
        self._tcp = tcp
        self._passed_tcp = passed_tcp
        self._logger = logging.getLogger("pywebtransport.server")
        self._slots = [_Slot(index) for index in range(config.workers)]
        self._members: list[_Member] = []
        self._hub = Hub()
        self._certificates: tuple[str | None, str | None] = (None, None)
        self._all_listen = False
        self._deaths = 0
        self._deadline: float | None = None  # set once stopping
        self._failure: BaseException | None = None
        self._last_signal: int | None = None
        self._is_stuck = False

    def run(self) -> None:
        # Before the workers start, which then find it.
        load_shared_secret(self._config)
        self._port = SharedPort(
            *self._address,
            self._config.workers,
            family=self._config.address_family,
            sockets=self._sockets,
            tcp=self._tcp,
            lb=lb_config(self._config),
            passed_tcp=self._passed_tcp,
        )
        if self._port.unsteered is not None and self._config.workers > 1:
            self._logger.warning(
                "all workers read the same sockets and pass packets to each other, which costs "
                "throughput: %s",
                self._port.unsteered,
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
            self._hub.close()
            self._port.close()
        if self._last_signal is not None:
            # End as a process without workers would.
            signal.raise_signal(self._last_signal)
        if self._failure is not None:
            raise self._failure
        if self._is_stuck:
            raise SystemExit(STUCK_STATUS)

    # ------------------------------------------------------------------ waiting

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Let signals wake the supervisor, which acts on them outside of signal handlers."""
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
        """Wait for an event and act on it; False if all workers have ended."""
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        for member in self._members:
            if member.control is not None:
                poll.register(member.control, select.POLLIN)
        self._hub.register(poll)
        found = poll.poll(self._patience())
        for_hub = [self._hub.handle(descriptor, event) for descriptor, event in found]
        if found and all(for_hub):
            # Messages between workers; deaths and the like make another descriptor readable.
            self._act_on_time(time.monotonic())
            return True
        for number in self._take_signals():
            self._on_signal(number)
        if self._last_signal is not None:
            return False
        # Read all messages before deaths are handled: they belong to the verdict.
        dead = [
            member
            for member in self._members
            if member.process is not None and member.process.exitcode is not None
        ]
        for member in list(self._members):
            self._read(member)
        for member in dead:
            self._bury(member)
        self._act_on_time(time.monotonic())
        self._stop_idle_tcp(time.monotonic())
        return self._deadline is None or bool(self._members)

    def _patience(self) -> float | None:
        """Milliseconds until the next timer is due."""
        due = [slot.restart_at for slot in self._slots]
        for member in self._members:
            due += [member.alarm_at, member.deadline]
        due.append(self._deadline)
        times = [time for time in due if time is not None]
        return None if not times else max(0.0, min(times) - time.monotonic()) * 1000

    def _act_on_time(self, now: float) -> None:
        for slot in self._slots:
            if slot.restart_at is not None and slot.restart_at <= now:
                self._restart(slot)
        for member in self._members:
            if member.alarm_at is not None and member.alarm_at <= now:
                member.alarm_at = None
                if member.pid is not None:
                    # A blocked loop has not noticed that it should end.
                    os.kill(member.pid, signal.SIGALRM)
        if self._deadline is not None and self._deadline <= now:
            late = [member.slot.index for member in self._members]
            self._logger.error("workers %s did not end in time; killing them", sorted(late))
            self._kill()
        for member in self._members:
            if member.deadline is not None and member.deadline <= now and member.process:
                self._logger.error("%s did not end in time; killing it", member)
                member.deadline = None
                member.process.kill()

    def _stop_idle_tcp(self, now: float) -> None:
        """Take no TCP connections for workers that are not there, and will not be soon."""
        for slot in self._slots:
            if not self._has_life(slot) and (slot.restart_at is None or slot.restart_at > now):
                self._port.stop_tcp(slot.index)

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
                self._start(slot, slot.index)
            except OSError as error:
                raise ServerError(
                    f"worker {slot.index} could not be started: {explain_os_error(error)}"
                ) from error
            # The backends of those that run already wait for an answer.
            self._hub.serve()

    def _start(self, slot: _Slot, number: int) -> None:
        """Start a process in this slot; signals wait until it has its own handlers."""
        require_descriptors(_PROCESS_DESCRIPTORS)
        hub, their_hub = self._hub.connect()
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except BaseException:
            self._hub.drop(hub)
            their_hub.close()
            raise
        for sock in (ours, theirs):
            sock.setblocking(False)
        member = _Member(slot, number, ours, hub)
        process = _fork.Process(
            target=self._in_worker, args=(member, theirs, their_hub), name=f"worker-{slot.index}"
        )
        self._members.append(member)
        slot.starting = member
        slot.restart_at = None
        old = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            process.start()
            member.process = process
        except BaseException:
            self._forget(member)
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, old)
            theirs.close()
            their_hub.close()

    def _in_worker(self, own: _Member, control: socket.socket, hub: socket.socket) -> None:
        """In the new process: close everything of the supervisor, then run."""
        for member in self._members:
            member.drop_control()
        self._hub.close()
        for sock in (self._wake, self._woken):
            sock.close()
        self._port.keep_only(own.number, own.slot.index)
        worker = Worker(
            self._port.seat(own.number, own.slot.index),
            self._address,
            control,
            self._certificates,
            # The time for main itself; when cancelled, it needs some of it, too.
            min(self._config.close_timeout, self._config.shutdown_timeout / 2),
            self._deaths,
            hub,
        )
        worker.run(self._main, self._loop_factory, self._config)

    def _free_seat(self) -> int | None:
        taken = {member.number for member in self._members}
        return next((seat for seat in range(self._port.seats) if seat not in taken), None)

    def _forget(self, member: _Member) -> None:
        """It has no process any more."""
        member.drop_control()
        self._hub.end(member.hub)
        self._members.remove(member)
        slot = member.slot
        if slot.serving is member:
            slot.serving = None
        if slot.starting is member:
            slot.starting = None

    def _steer(self) -> None:
        """Update which workers receive packets, and which ones accept new clients."""
        if not self._all_listen or self._deadline is not None:
            return
        steering = self._steering()
        self._port.steer(steering)
        self._broadcast("steer", steering)
        if steering.open:
            for number in range(self._port.seats):
                if number not in steering.alive:
                    self._port.rescue(number)

    def _steering(self) -> Steering:
        return Steering(
            tuple(None if slot.serving is None else slot.serving.number for slot in self._slots),
            frozenset(member.number for member in self._members if member.reads),
        )

    def _read(self, member: _Member) -> None:
        """Handle a message of a worker; ``SIGCHLD`` reports its end."""
        while member.control is not None:
            try:
                data = member.control.recv(CONTROL_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if data:
                self._hear(member, data)
            else:
                member.drop_control()

    def _hear(self, member: _Member, data: bytes) -> None:
        try:
            kind, *values = pickle.loads(data)
        except Exception as error:
            # An exception of the application that cannot be unpickled.
            kind, values = "failed", [error]
        if kind == "failed" and not isinstance(values[0], BaseException):
            values = [RuntimeError(f"a worker could not start: {values[0]!r}")]
        if kind == "listening":
            self._on_listening(member, *values)
        elif kind == "reload":
            self._on_reloaded(member, *values)
        elif kind == "leaving":
            self._on_leaving(member)
        elif kind == "closing":
            self._on_closing(member)
        elif kind == "closed":
            member.reads = False
            self._steer()
        else:
            member.error = values[0]

    def _on_listening(self, member: _Member, addresses: list[tuple[str, int]]) -> None:
        slot = member.slot
        member.reads = True
        if slot.starting is not member:
            return  # told to end meanwhile
        slot.starting = None
        old, slot.serving = slot.serving, member
        if self._all_listen:
            self._logger.info("%s serves", member)
            self._steer()
            if old is not None:
                self._release(old)
            return
        self._logger.debug("%s serves", member)
        if all(each.serving is not None for each in self._slots):
            self._all_listen = True
            self._steer()
            for address in addresses:
                both = " for UDP and TCP" if self._tcp else ""
                self._logger.info(
                    "listening on %s port %d%s with %d workers", *address, both, len(self._slots)
                )
            if self._tell_listening is not None:
                self._tell_listening(addresses)

    def _on_reloaded(self, member: _Member, certfile: str | None, keyfile: str | None) -> None:
        if certfile is not None or keyfile is not None:
            old = self._certificates
            self._certificates = (certfile or old[0], keyfile or old[1])
        self._broadcast("reload", certfile, keyfile, but=member)

    def _on_leaving(self, member: _Member) -> None:
        """It was asked to end: start another one in its place first, if there is a socket slot."""
        slot = member.slot
        if self._deadline is not None or slot.serving is not member or not self._all_listen:
            self._release(member)
        elif slot.starting is None:
            self._logger.info("%s leaves; another takes its place", member)
            self._restart(slot)
            if slot.starting is None:
                self._leave_vacant(slot)

    def _on_closing(self, member: _Member) -> None:
        """Its server closes on its own."""
        slot = member.slot
        if self._deadline is not None or slot.serving is not member or not self._all_listen:
            return
        slot.serving = None
        self._steer()
        if slot.is_vacant:
            self._replace(slot, f"{member} closes its server", time.monotonic() - member.started_at)

    def _leave_vacant(self, slot: _Slot) -> None:
        """Release a worker without a successor, if other workers accept its clients."""
        member = slot.serving
        if member is not None and any(
            other.serving is not None for other in self._slots if other is not slot
        ):
            slot.serving = None
            self._steer()
            self._release(member)

    def _release(self, member: _Member) -> None:
        """It gets no new clients anymore: let it drain and end."""
        if member.deadline is None:
            member.alarm_at = time.monotonic() + time_to_end(self._config)
            member.deadline = member.alarm_at + _GRACE
            member.send("stop")

    def _bury(self, member: _Member) -> None:
        """A process ended: replace it, unless this was done before, or everything ends."""
        process, slot = member.process, member.slot
        assert process is not None
        process.join()
        how = _describe(process.exitcode)
        is_clean = process.exitcode == 0
        self._is_stuck = self._is_stuck or process.exitcode == STUCK_STATUS
        who = str(member)
        process.close()
        held = slot.serving is member or slot.starting is member
        self._forget(member)
        if self._deadline is not None:
            if not is_clean:
                self._logger.error("%s %s", who, how)
            return
        if not self._all_listen:
            self._give_up(member.error or ServerError(f"{who} {how} before it could listen"))
            return
        self._steer()
        if member.deadline is not None and is_clean:
            self._logger.info("%s %s", who, how)
        else:
            self._deaths += 1
            self._broadcast("deaths", self._deaths)
        if member.error is not None:
            how = f"{how}: {describe_error(member.error)}"
        if not held and not slot.is_vacant:
            if member.deadline is None or not is_clean:
                self._logger.warning("%s %s", who, how)
            return
        if member.deadline is not None:
            self._restart(slot)
            return
        if slot.starting is None:
            self._replace(slot, f"{who} {how}", time.monotonic() - member.started_at)
        if slot.serving is not None:
            self._leave_vacant(slot)

    def _replace(self, slot: _Slot, what: str, lived: float) -> None:
        """Start another process soon, or later if the last one died early."""
        delay = slot.policy.delay(lived)
        when = f"in {delay:g} s" if delay else "now"
        if slot.policy.is_hopeless:
            self._logger.error("%s; worker %d keeps dying, next attempt %s", what, slot.index, when)
            if all(each.policy.is_hopeless and not self._has_life(each) for each in self._slots):
                self._give_up(
                    ServerError(f"no worker is left: all of them keep dying; the last: {what}")
                )
                return
        else:
            self._logger.warning("%s; replacing it %s", what, when)
        slot.restart_at = time.monotonic() + delay

    @staticmethod
    def _has_life(slot: _Slot) -> bool:
        return slot.serving is not None or slot.starting is not None

    def _restart(self, slot: _Slot) -> None:
        slot.restart_at = None
        seat = self._free_seat()
        if seat is None:
            return  # the slot is filled when one of the draining workers has ended
        try:
            self._start(slot, seat)
        except OSError as error:
            # The system cannot start another process at the moment.
            what = f"worker {slot.index} could not be started: {explain_os_error(error)}"
            self._replace(slot, what, 0.0)

    def _give_up(self, failure: BaseException) -> None:
        self._failure = failure
        self._stop()

    def _stop(self) -> None:
        """Tell all workers to end, without replacing them."""
        now = time.monotonic()
        self._deadline = now + time_to_end(self._config) + _GRACE
        for slot in self._slots:
            slot.restart_at = None
        for member in self._members:
            if member.deadline is None:
                member.alarm_at = now + time_to_end(self._config)
            member.deadline = None
        self._broadcast("steer", self._steering().ended())
        self._broadcast("stop")

    def _broadcast(self, *message: Any, but: _Member | None = None) -> None:
        for member in self._members:
            if member is not but:
                member.send(*message)

    def _kill(self) -> None:
        """Kill the workers that still run."""
        for member in self._members:
            if member.process is not None:
                member.process.kill()
        for member in list(self._members):
            if member.process is not None:
                member.process.join()
                member.process.close()
                member.process = None
            self._forget(member)


def check_caller(name: str) -> None:
    """Check for the main thread without an event loop, which signals and new processes need.

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
        where = "outside of the main thread, which receives the signals"
    else:
        where = "in an event loop"
    raise ConfigurationError(
        f"{name}() cannot be called {where}; call it in the main program, or serve with one "
        "process by awaiting ServerApp.serve() in your event loop"
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
    """Do nothing: the wakeup descriptor reports the signal, but a handler has to exist."""
