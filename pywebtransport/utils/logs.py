"""Loggers; the root logger is never touched."""

from __future__ import annotations

import logging
import time
from typing import Any

from pywebtransport.constants import DEFAULT_LOG_LEVEL, LOG_LEVELS
from pywebtransport.exceptions import invalid_config

__all__ = [
    "BoundedLog",
    "apply_log_level",
    "get_logger",
    "setup_logging",
]


def get_logger(name: str) -> logging.Logger:
    """Give the logger of a name; nothing is configured."""
    return logging.getLogger(name)


def setup_logging(
    level: str = DEFAULT_LOG_LEVEL,
    *,
    format_string: str | None = None,
    logger_name: str = "pywebtransport",
) -> logging.Logger:
    """Show the messages of one logger on standard error.

    The root logger is never touched. Called again, it changes level and format.

    Args:
        level: ``DEBUG``, ``INFO``, ``WARNING``, ``ERROR`` or ``CRITICAL``.
        format_string: A format of :mod:`logging`; None: time, level, name, message.
        logger_name: The logger to configure.

    Raises:
        ConfigurationError: The level is not known, or the logger is the root.
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
    """Log lines about what peers cause: at most one per kind and interval, and all are counted.

    Nobody who sends many packets can fill a disk, and nothing is left out without a word:
    a line says how many like it were not shown since the last one.

    Args:
        logger: Where to.
        interval: Seconds between two lines of a kind.

    Attributes:
        counts: How often each kind was told of, shown or not.
    """

    def __init__(self, logger: logging.Logger, *, interval: float = 1.0) -> None:
        self.counts: dict[str, int] = {}
        self._logger = logger
        self._interval = interval
        # When the last line of a kind was shown, and how many were not since then.
        self._shown: dict[str, tuple[float, int]] = {}

    def tell(self, kind: str, level: int, message: str, *args: object) -> None:
        """Count, and log unless a line of this kind was shown just now.

        Args:
            kind: A short name of the package's own; there are only a few.
            level: As of ``logging``.
            message: A format; text from outside among ``args`` is escaped by ``printable``.
            *args: For the format.
        """
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if not self._logger.isEnabledFor(level):
            return
        now = time.monotonic()
        shown_at, hidden = self._shown.get(kind, (None, 0))
        if shown_at is not None and now - shown_at < self._interval:
            self._shown[kind] = (shown_at, hidden + 1)
            return
        if hidden:
            message += f" (and {hidden} more that were not shown)"
        self._shown[kind] = (now, 0)
        self._logger.log(level, message, *args, stacklevel=2)

    def flush(self) -> None:
        """Say how many were not shown since the last line of their kind."""
        for kind, (_, hidden) in self._shown.items():
            if hidden:
                self._logger.info("%d more of kind %r were not shown", hidden, kind)
        self._shown.clear()


def apply_log_level(level: str) -> None:
    """Give the logger ``pywebtransport`` the level of a configuration.

    The default leaves the level to the program's own logging, and so does a logger
    that the program gave a level: a library must not undo what its user set.
    """
    global _applied
    logger = logging.getLogger(_PACKAGE)
    if level != DEFAULT_LOG_LEVEL and logger.level in (logging.NOTSET, _applied):
        logger.setLevel(level)
        _applied = logger.level


_PACKAGE = "pywebtransport"
# What apply_log_level set last; a logger with another level was configured by the program.
_applied: int | None = None
_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class _OwnHandler(logging.StreamHandler[Any]):
    """Marks the handler that :func:`setup_logging` added."""
