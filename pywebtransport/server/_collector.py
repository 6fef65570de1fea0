"""The garbage collector of a process that serves many sessions.

A full collection scans all live objects, and nothing else runs meanwhile: 10,000 idle sessions are
a million objects and take some 400 ms, again and again while sessions are opened. Objects that live
long need not be scanned each time: ``gc.freeze`` hides them from the collector. A frozen object is
still freed when its last reference goes. This is how sessions and connections are freed, since they
are not part of cycles when they end. Only cycles of the application that become garbage while they
are frozen have to wait for a full collection, which runs when it costs little.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

__all__ = ["Collector", "CollectorSeat", "collector", "frozen"]

_logger = logging.getLogger("pywebtransport.server")

# After a full collection that took this many seconds, the live objects are frozen: it found no
# garbage worth that time, and the next one would scan all of them again.
_LONG = 0.001
# Thresholds of the second and third generation: a collection of all that is not frozen comes
# after some 10,000 new objects, while that is a matter of a few milliseconds.
_SOON = (5, 1)
# Seconds between two checks of the sessions.
_LOOK = 1.0
# Sessions that have to end before everything is collected, or else as many as are open.
_FEW = 1000
# Collections of everything take at most this share of the time.
_SHARE = 0.001
# The share of a processor above which the process is busy, and how much longer it then waits.
_BUSY = 0.5
_PATIENCE = 4
# Seconds after which everything is collected when anything has ended at all.
_SELDOM = 3600.0


class Served(Protocol):
    """What the policy needs to know about a server."""

    sessions_over: int

    @property
    def open_session_count(self) -> int: ...


class Collector:
    """The policy ``server`` of this process, in force while a server with this setting listens.

    - At the start, and after every full collection that took a millisecond, everything alive is
      frozen. That collection has just removed what was garbage. It comes earlier than usual, when
      few objects are new.
    - When as many sessions have ended as are open, everything is thawed, collected and frozen
      again: in a quiet second, and for at most a thousandth of the time.
    - After that the memory of a peak goes back to the system, where the C library can do that.

    Args:
        clock: Gives the time in seconds.
        cpu: Gives the processor time of the process in seconds.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.process_time,
    ) -> None:
        self._clock = clock
        self._cpu = cpu
        self._servers: list[Served] = []
        self._began = 0.0
        self._thresholds: tuple[tuple[int, int, int], tuple[int, int, int]] | None = None
        # Seconds that a collection of all that is frozen would take.
        self._cost = 0.0
        self._own = False  # a collection by this class is running
        self._looked = (0.0, 0.0)
        self._collected_at = 0.0
        self._over_then = 0
        self._over_before = 0  # sessions of servers that do not take part anymore
        self._peak = 0
        self.freezes = 0
        self.collections = 0
        self.trims = 0

    @property
    def is_active(self) -> bool:
        """A server takes part."""
        return bool(self._servers)

    def join(self, server: Served) -> None:
        """A server listens; the first one begins with the policy."""
        self._servers.append(server)
        if len(self._servers) > 1:
            return
        self._cost = 0.0
        self._collected_at = self._clock()
        self._over_then = self._over
        self._peak = self._live
        self._looked = (self._clock(), self._cpu())
        gc.callbacks.append(self._on_collection)
        first, *others = usual = gc.get_threshold()
        soon = (first, min(others[0], _SOON[0]), min(others[1], _SOON[1]))
        self._thresholds = (usual, soon)
        gc.set_threshold(*soon)
        self._freeze()

    def leave(self, server: Served) -> None:
        """A server is closed; the last one restores the usual state of the collector."""
        if server not in self._servers:
            return
        self._over_before += server.sessions_over
        self._servers.remove(server)
        if not self._servers:
            gc.callbacks.remove(self._on_collection)
            if self._thresholds is not None and gc.get_threshold() == self._thresholds[1]:
                gc.set_threshold(*self._thresholds[0])
            gc.unfreeze()

    def look(self) -> None:
        """See whether everything should be collected now; called about once a second."""
        now, cpu = self._clock(), self._cpu()
        seconds = now - self._looked[0]
        if seconds < _LOOK / 2:
            return  # another server's
        busy = (cpu - self._looked[1]) / seconds > _BUSY
        self._looked = (now, cpu)
        live = self._live
        self._peak = max(self._peak, live)
        ended = self._over - self._over_then
        many = max(live, _FEW)
        since = now - self._collected_at
        if ended < many and not (ended and since >= _SELDOM):
            return
        # The part of the frozen objects that still exists.
        cost = self._cost * live / max(self._peak, 1)
        if since < cost / _SHARE or (busy and ended < _PATIENCE * many):
            return
        if gc.isenabled():  # an application that disabled it has its reasons
            self._collect_everything(now)
        if live <= self._peak / 2:
            self._peak = live
            self._trim()

    # ------------------------------------------------------------------ internal

    @property
    def _live(self) -> int:
        return sum(server.open_session_count for server in self._servers)

    @property
    def _over(self) -> int:
        return self._over_before + sum(server.sessions_over for server in self._servers)

    def _on_collection(self, phase: str, info: dict[str, Any]) -> None:
        """The collector begins or ends a run; only full runs count."""
        if info["generation"] != 2 or self._own:
            return
        # The time of this thread: others may use the processor meanwhile.
        if phase == "start":
            self._began = time.thread_time()
            return
        took = time.thread_time() - self._began
        if took >= _LONG:
            # This keeps no garbage: it has just been removed.
            gc.freeze()
            self._cost += took
            self.freezes += 1

    def _collect_everything(self, now: float) -> None:
        began = time.thread_time()
        gc.unfreeze()
        found = self._freeze()
        self._cost = time.thread_time() - began
        self._collected_at = now
        self._over_then = self._over
        self.collections += 1
        _logger.debug(
            "a full collection took %.0f ms and found %d objects", self._cost * 1e3, found
        )

    def _freeze(self) -> int:
        """Remove garbage and freeze the rest."""
        self._own = True
        try:
            found = gc.collect()
            gc.freeze()
            # The next one comes when what lives has grown by a quarter of what this one sees.
            gc.collect()
            self.freezes += 1
        finally:
            self._own = False
        return found

    def _trim(self) -> None:
        malloc_trim = _find_malloc_trim()
        if malloc_trim is not None:
            malloc_trim(0)
            self.trims += 1


@contextlib.contextmanager
def frozen(wanted: bool) -> Iterator[None]:
    """Freeze live objects, for processes that are copies of this one.

    Their collectors would write to every object, and so copy all of them in each process.

    Args:
        wanted: False: leave the collector alone.
    """
    if not wanted:
        yield
        return
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


class CollectorSeat:
    """One server's part in the policy, with a timer of its loop. Closed with the server."""

    def __init__(self, server: Served) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        collector.join(server)
        self._timer = self._loop.call_later(_LOOK, self._look)

    def rest(self) -> None:
        """The server is closing: what ends now is not worth a collection of everything."""
        self._timer.cancel()

    def close(self) -> None:
        """Take no part any more. Idempotent."""
        self._timer.cancel()
        collector.leave(self._server)

    def _look(self) -> None:
        self._timer = self._loop.call_later(_LOOK, self._look)
        collector.look()


@functools.cache
def _find_malloc_trim() -> Callable[[int], int] | None:
    """A function that only glibc has."""
    import ctypes  # not at the top: importing the package takes long enough

    try:
        function = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return None
    function.argtypes, function.restype = [ctypes.c_size_t], ctypes.c_int
    found: Callable[[int], int] = function
    return found


collector = Collector()
"""The policy of this process."""
