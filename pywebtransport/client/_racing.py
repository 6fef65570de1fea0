"""QUIC against TCP: which attempt starts when, which one wins, and when both have lost."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Literal, TypeAlias, TypeVar

from ..exceptions import CertificateError, ClientError, WebTransportError, is_fatal_error
from ..utils._attempts import attempt_facts, furthest, lost_to_network
from ..utils._text import one_line

__all__ = ["LANES", "Lane", "Memory", "Race", "join_errors", "run_race"]

Lane: TypeAlias = Literal["QUIC", "TCP"]
LANES: tuple[Lane, Lane] = ("QUIC", "TCP")
"""In order of preference."""

# Seconds for which a client remembers that it needed TCP, and for how many servers.
_REMEMBERED = 600.0
_MAX_ORIGINS = 256
# Seconds before TCP is tried again while QUIC gets no answer; doubles up to the second.
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 2.0

_Origin = tuple[str, int]
_T = TypeVar("_T")


class Memory:
    """Remembers the servers that were last reached by TCP, for ten minutes each."""

    def __init__(self) -> None:
        self._won: OrderedDict[_Origin, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._won)

    def prefers_tcp(self, origin: _Origin, now: float) -> bool:
        """Whether TCP won the last race, at most ten minutes ago.

        Args:
            origin: Host and port.
            now: Seconds on the clock that ``record`` got.
        """
        since = self._won.get(origin)
        return since is not None and now - since <= _REMEMBERED

    def delay(self, origin: _Origin, delay: float, now: float) -> float:
        """Seconds that QUIC has alone: ``delay``, or none for a server that was reached by TCP."""
        return 0.0 if self.prefers_tcp(origin, now) else delay

    def record(self, origin: _Origin, winner: Lane, now: float) -> None:
        """Note the result of a race; QUIC makes a server forgotten."""
        self._won.pop(origin, None)
        if winner == "TCP":
            self._won[origin] = now
            if len(self._won) > _MAX_ORIGINS:
                self._won.popitem(last=False)


class Race:
    """The decisions of one race. It starts nothing and reads no clock.

    QUIC runs from the beginning. TCP starts when its time has come, or as soon as QUIC has failed
    because of the network. When TCP fails because of the network, it is tried again as long as QUIC
    gets no answer: where UDP is blocked, nothing else tells when a server is back. An answer of the
    server, a certificate that is not accepted, and any error that another transport would not help
    against end the race at once.

    Args:
        began: Time of the beginning, seconds.
        delay: Seconds that QUIC runs alone.
    """

    def __init__(self, began: float, delay: float) -> None:
        self._tcp_due: float | None = began + delay  # None: it runs, or never will
        self._pause = _FIRST_PAUSE
        self._final: BaseException | None = None
        self.errors: dict[Lane, BaseException] = {}

    def starts_tcp(self, now: float) -> bool:
        """Whether to start TCP now; true once for each attempt."""
        if self._tcp_due is None or now < self._tcp_due:
            return False
        self._tcp_due = None
        self.errors.pop("TCP", None)
        return True

    def wait(self, now: float) -> float | None:
        """Seconds until something is due; None: wait for the attempts alone."""
        return None if self._tcp_due is None else max(self._tcp_due - now, 0.0)

    def fail(self, lane: Lane, error: BaseException, now: float) -> None:
        """Note that an attempt has failed."""
        self.errors[lane] = error
        if not _leaves_hope(lane, error):
            self._final, self._tcp_due = error, None
        elif lane == "QUIC":
            if self._tcp_due is not None:
                self._tcp_due = None if "TCP" in self.errors else now
        elif "QUIC" not in self.errors and lost_to_network(error):
            self._tcp_due = now + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    @property
    def is_lost(self) -> bool:
        """Whether no attempt can win any more."""
        return self._final is not None or len(self.errors) == len(LANES)

    def error(self) -> BaseException:
        """The error of a race that is lost."""
        if self._final is not None:
            return self._final
        return join_errors([(lane, self.errors[lane]) for lane in LANES])


def _leaves_hope(lane: Lane, error: BaseException) -> bool:
    """Whether the other transport may still work after an error of this one."""
    if lane == "QUIC":
        return lost_to_network(error)
    return isinstance(error, WebTransportError) and not isinstance(
        error, CertificateError | ValueError
    )


async def run_race(
    quic: Callable[[], Coroutine[Any, Any, object]],
    tcp: Callable[[], Coroutine[Any, Any, _T]],
    *,
    delay: float,
    discard: Callable[[_T], object],
    tasks: set[asyncio.Task[Any]],
    failed: Callable[[Lane, BaseException], object],
) -> _T | None:
    """Run the attempts until one has won; the other one is cancelled, and has ended on return.

    Args:
        quic: Connects by QUIC. The caller closes the connection if this function raises.
        tcp: Connects by TCP; is not called if QUIC is fast enough, and again if it fails early.
        delay: Seconds that QUIC runs alone.
        discard: Closes a result of ``tcp`` that is not needed.
        tasks: Holds the running attempts. Cancelling all of them ends the race.
        failed: Called with each attempt that fails.

    Returns:
        None: QUIC won. Otherwise the result of ``tcp``, which won.

    Raises:
        WebTransportError: Both failed, or one failed in such a way that the other one does not
            matter. See ``join_errors``.

    Cancellation: safe; both attempts have ended, and there is no result of ``tcp``.
    """
    loop = asyncio.get_running_loop()
    race = Race(loop.time(), delay)
    running: dict[Lane, asyncio.Task[Any]] = {"QUIC": loop.create_task(quic())}
    winner: Lane | None = None
    try:
        while not race.is_lost:
            now = loop.time()
            if race.starts_tcp(now):
                tasks.discard(running.get("TCP"))  # the one before
                running["TCP"] = loop.create_task(tcp())
            tasks.update(running.values())
            pending = [task for task in running.values() if not task.done()]
            await asyncio.wait(pending, timeout=race.wait(now), return_when=asyncio.FIRST_COMPLETED)
            for lane, task in running.items():  # if both are done, QUIC is first
                if not task.done() or lane in race.errors:
                    continue
                error = _error_of(task)
                if error is None:
                    winner = lane
                    return None if lane == "QUIC" else task.result()
                race.fail(lane, error, loop.time())
                failed(lane, error)
    finally:
        await _end(running, winner, discard)
        tasks.difference_update(running.values())
    raise race.error()


async def _end(
    running: dict[Lane, asyncio.Task[Any]], winner: Lane | None, discard: Callable[[Any], object]
) -> None:
    """Cancel the attempts that have not won, and wait for their end."""

    def discard_result(task: asyncio.Task[Any]) -> None:
        # This also takes an exception that nobody else looks at.
        if _error_of(task) is None and task is running.get("TCP"):
            discard(task.result())

    for lane, task in running.items():
        if lane != winner:
            task.add_done_callback(discard_result)
            task.cancel()
    try:
        await asyncio.wait(running.values())
    except asyncio.CancelledError:
        if winner is not None:
            discard_result(running[winner])
        raise


def join_errors(errors: Sequence[tuple[str, BaseException]]) -> BaseException:
    """Make one error of those of several transports; its message has all of them.

    It is fatal only if all are: if one transport may work later, a client should try again.

    Args:
        errors: Name of the transport and its error; at least one.

    Returns:
        Of the errors that are not fatal, if there are any, the one that says most (``furthest``).
        ``details["transports"]`` has all of them.
    """
    if len(errors) == 1:
        return errors[0][1]
    facts = [_facts(name, error) for name, error in errors]
    hopeful = [error for _, error in errors if not _is_fatal(error)]
    candidates = hopeful or [error for _, error in errors]
    chosen = candidates[furthest(candidates)]
    if isinstance(chosen, WebTransportError):
        chosen.message = one_line("; ".join(f"by {name}: {error}" for name, error in errors))
        chosen.details["transports"] = facts
    return chosen


def _is_fatal(error: BaseException) -> bool:
    return not isinstance(error, Exception) or is_fatal_error(error)


def _facts(name: str, error: BaseException) -> dict[str, Any]:
    """What is known about the failure of a transport, as ``details["attempts"]`` of an error."""
    facts = attempt_facts("", error)
    del facts["address"]
    inner = error.details.get("attempts") if isinstance(error, WebTransportError) else None
    return {"transport": name, **facts} | ({"attempts": inner} if inner else {})


def _error_of(task: asyncio.Task[Any]) -> BaseException | None:
    if task.cancelled():
        return ClientError("connecting was cancelled from within")
    return task.exception()
