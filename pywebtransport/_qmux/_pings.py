"""When a connection is idle, and QX_PING."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Final

from .._transport import CallLater, TimerHandle

__all__ = ["Pulse"]

_PARTS: Final = 6
"""The timer fires at least this often in an idle timeout: so no record need set it anew."""
_QUIET: Final = 2
"""A ping is sent after so many periods without sending: after a third of the timeout at first."""


class Pulse:
    """Watches one connection: an idle one ends, one that shall not be idle sends pings.

    Sending counts as life once for each record that arrives. So a sender alone cannot keep a dead
    connection open.

    Args:
        call_later: Starts timers.
        on_idle: Nothing has arrived for the idle timeout.
        on_quiet: Nothing was sent for long enough: send a ping.

    Attributes:
        heard: A record has arrived since the timer fired last.
        sent: A record was sent since then.
        may_extend: A record has arrived since sending counted last.
    """

    __slots__ = (
        "_call_later",
        "_on_idle",
        "_on_quiet",
        "_parts",
        "_period",
        "_pings",
        "_quiet_for",
        "_silent_for",
        "_timer",
        "heard",
        "may_extend",
        "sent",
    )

    def __init__(
        self,
        call_later: CallLater,
        on_idle: Callable[[], object],
        on_quiet: Callable[[], object],
    ) -> None:
        self._call_later = call_later
        self._on_idle = on_idle
        self._on_quiet = on_quiet
        self._timer: TimerHandle | None = None
        self._period = 0.0
        self._parts = 0
        self._pings = False
        self._silent_for = self._quiet_for = 0
        self.heard = self.sent = self.may_extend = False

    def start(self, timeout: float, keep_alive: float) -> None:
        """Begin to watch.

        Args:
            timeout: Seconds; 0: a connection is never idle.
            keep_alive: Seconds; 0: no pings. With a timeout, they come after a third of it at the
                latest.
        """
        self.stop()
        self._parts = 0
        self._pings = keep_alive > 0
        if timeout <= 0 and not self._pings:
            return
        self._period = timeout / _PARTS if timeout > 0 else keep_alive / _QUIET
        if self._pings:
            self._period = min(self._period, keep_alive / _QUIET)
        if timeout > 0:
            self._parts = ceil(timeout / self._period)
        self._silent_for = self._quiet_for = 0
        self._timer = self._call_later(self._period, self._tick)

    def stop(self) -> None:
        """Stop watching. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """The connection has ended."""
        self.stop()
        self._on_idle = self._on_quiet = _nothing

    def record_sent(self) -> None:
        """A record was handed over."""
        self.sent = True
        if self.may_extend:
            self.may_extend = False
            self.heard = True

    def _tick(self) -> None:
        self._timer = self._call_later(self._period, self._tick)
        self._silent_for = 0 if self.heard else self._silent_for + 1
        self._quiet_for = 0 if self.sent else self._quiet_for + 1
        self.heard = self.sent = False
        if self._parts and self._silent_for >= self._parts:
            self.stop()
            self._on_idle()
        elif self._pings and self._quiet_for >= _QUIET:
            self._quiet_for = 0
            self._on_quiet()


def _nothing() -> None:
    pass
