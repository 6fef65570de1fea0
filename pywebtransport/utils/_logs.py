"""Loggers; the root logger is never touched."""

from __future__ import annotations

import logging
import math
import time
from typing import Any

from ..constants import DEFAULT_LOG_LEVEL, LOG_LEVELS
from ..exceptions import invalid_config

__all__ = [
    "SHARED_BURST",
    "BoundedLog",
    "apply_log_level",
    "get_logger",
    "setup_logging",
    "shared_log",
]


def get_logger(name: str) -> logging.Logger:
    """Return the logger with this name, without configuring anything."""
    return logging.getLogger(name)


def setup_logging(
    level: str = DEFAULT_LOG_LEVEL,
    *,
    format_string: str | None = None,
    logger_name: str = "pywebtransport",
) -> logging.Logger:
    """Print the messages of one logger to standard error.

    The root logger is never touched. Call it again to change level and format.

    Args:
        level: ``DEBUG``, ``INFO``, ``WARNING``, ``ERROR`` or ``CRITICAL``.
        format_string: A :mod:`logging` format; None: time, level, name, message.
        logger_name: The logger to configure.

    Raises:
        ConfigurationError: The level is unknown, or the logger is the root logger.
    """
    if not isinstance(level, str) or level.upper() not in LOG_LEVELS:
        raise invalid_config(
            key="level", value=level, reason=f"expected one of {', '.join(LOG_LEVELS)}"
        )
    if logger_name in ("", "root"):
        raise invalid_config(
            key="logger_name", value=logger_name, reason="the root logger belongs to the program"
        )
    global _applied
    _applied = None
    target = logging.getLogger(logger_name)
    for handler in [item for item in target.handlers if isinstance(item, _OwnHandler)]:
        target.removeHandler(handler)
        handler.close()
    own = _OwnHandler()
    own.setFormatter(logging.Formatter(format_string or _LOG_FORMAT))
    target.addHandler(own)
    target.setLevel(level.upper())
    # Otherwise a program that configures the root would see every line twice.
    target.propagate = False
    return target


class BoundedLog:
    """Logs events that peers cause: a few per kind and second. All are counted.

    So a peer that sends many packets cannot fill the disk. Skipped lines are reported: a line says
    how many of its kind were skipped since the last one.

    Args:
        logger: The logger.
        interval: Seconds after which one more line of a kind may be logged.
        burst: Lines of a kind that may be logged at once after a quiet time.

    Attributes:
        counts: How often each kind occurred, logged or not.
    """

    def __init__(self, logger: logging.Logger, *, interval: float = 1.0, burst: int = 1) -> None:
        self.counts: dict[str, int] = {}
        self._logger = logger
        self._interval = interval
        self._burst = burst
        self._kinds: dict[str, _Kind] = {}

    def tell(
        self,
        kind: str,
        level: int,
        message: str,
        *args: object,
        error: BaseException | None = None,
    ) -> None:
        """Count, and log unless there were too many lines of this kind recently.

        Args:
            kind: A short name from this package; there are only a few.
            level: Level of ``logging``.
            message: A format; text from outside in ``args`` must be escaped by ``printable``.
            *args: Arguments of the format.
            error: The exception whose traceback is logged.
        """
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if not self._logger.isEnabledFor(level):
            return
        note = self.admit(kind)
        if note is not None:
            self._logger.log(level, message + note, *args, exc_info=error, stacklevel=2)

    def admit(self, kind: str) -> str | None:
        """Whether a line may be logged, for callers that create the records themselves.

        Returns:
            The text to append to it: empty, or how many were skipped; None: do not log it.
        """
        now = time.monotonic()
        known = self._kinds.get(kind)
        if known is None:
            if len(self._kinds) >= _MAX_KINDS:
                oldest = next(iter(self._kinds))
                self._tell_hidden(oldest, self._kinds.pop(oldest), now)
                self.counts.pop(oldest, None)
            known = self._kinds[kind] = _Kind(self._burst, now)
        return known.admit(now, self._interval, self._burst)

    def flush(self) -> None:
        """Log how many were skipped since the last line of their kind."""
        now = time.monotonic()
        for kind, known in self._kinds.items():
            self._tell_hidden(kind, known, now)
        self._kinds.clear()

    def _tell_hidden(self, kind: str, known: _Kind, now: float) -> None:
        if known.hidden:
            self._logger.info(
                "%d more of kind %r in the last %d s were not shown",
                known.hidden,
                kind,
                known.seconds(now),
            )


class _Kind:
    """A token bucket of lines, and how many were skipped."""

    __slots__ = ("at", "hidden", "hidden_since", "left")

    def __init__(self, burst: int, now: float) -> None:
        self.left = float(burst)
        self.at = now
        self.hidden = 0
        self.hidden_since = now

    def admit(self, now: float, interval: float, burst: int) -> str | None:
        """As ``BoundedLog.admit``."""
        grown = (now - self.at) / interval if interval > 0 else burst
        self.left = min(self.left + grown, burst)
        self.at = now
        if self.left < 1:
            if not self.hidden:
                self.hidden_since = now
            self.hidden += 1
            return None
        self.left -= 1
        if not self.hidden:
            return ""
        hidden, self.hidden = self.hidden, 0
        return f" (and {hidden} more of these in the last {self.seconds(now)} s were not shown)"

    def seconds(self, now: float) -> int:
        """How long lines have been skipped, in whole seconds, at least 1."""
        return math.ceil(max(now - self.hidden_since, 1.0))


def shared_log(logger: logging.Logger) -> BoundedLog:
    """The shared ``BoundedLog`` of a logger, for objects that peers create in large numbers.

    An object that lives as long as a server should have its own, which it can flush at the end.
    """
    found = _shared.get(logger.name)
    if found is None:
        found = _shared[logger.name] = BoundedLog(logger, burst=SHARED_BURST)
    return found


def apply_log_level(level: str) -> None:
    """Give the logger ``pywebtransport`` the level of a configuration.

    The default leaves the level to the program. A level that the program has set for this logger is
    kept: a library must not change settings of its user.
    """
    global _applied
    logger = logging.getLogger(_PACKAGE)
    if level != DEFAULT_LOG_LEVEL and logger.level in (logging.NOTSET, _applied):
        logger.setLevel(level)
        _applied = logger.level


SHARED_BURST = 20
"""Lines of a kind that ``shared_log`` logs at once; then one per second."""

_PACKAGE = "pywebtransport"
_shared: dict[str, BoundedLog] = {}
# Kinds that one log remembers; the oldest is forgotten first.
_MAX_KINDS = 1000
# The level set last by apply_log_level; any other level was set by the program.
_applied: int | None = None
_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class _OwnHandler(logging.StreamHandler[Any]):
    """Marks the handler that :func:`setup_logging` added."""
