"""Loggers; the root logger is never touched."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from .._plain import plain
from ..constants import DEFAULT_LOG_LEVEL, LOG_LEVELS
from ..exceptions import invalid_config

__all__ = [
    "LOG_FORMAT",
    "SHARED_BURST",
    "BoundedLog",
    "JsonFormatter",
    "apply_log_level",
    "check_level",
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
    json_lines: bool = False,
) -> logging.Logger:
    """Print the messages of one logger to standard error.

    The root logger is never touched. Call it again to change level and format.

    Args:
        level: ``DEBUG``, ``INFO``, ``WARNING``, ``ERROR`` or ``CRITICAL``.
        format_string: A :mod:`logging` format; None: time, level, name, message.
        logger_name: The logger to configure.
        json_lines: Print each message as one line of JSON, see ``JsonFormatter``.

    Raises:
        ConfigurationError: The level is unknown, the logger is the root logger, or
            ``format_string`` is given together with ``json_lines``.
    """
    check_level(level)
    if not isinstance(json_lines, bool):
        raise invalid_config(key="json_lines", value=json_lines, reason="expected True or False")
    if json_lines and format_string is not None:
        raise invalid_config(
            key="format_string", value=format_string, reason="json_lines has a format of its own"
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
    own.setFormatter(
        JsonFormatter() if json_lines else logging.Formatter(format_string or LOG_FORMAT)
    )
    target.addHandler(own)
    target.setLevel(level.upper())
    # Otherwise a program that configures the root would see every line twice.
    target.propagate = False
    return target


class JsonFormatter(logging.Formatter):
    """Formats each log record as one line of JSON, for programs that collect logs.

    Each line has ``time`` (ISO 8601, UTC), ``level``, ``logger``, ``message`` and ``process``; with
    an exception, ``exception`` has the traceback. What a call passes as ``extra`` becomes further
    fields, for instance ``status`` and ``path`` in the access log. ::

        handler = logging.StreamHandler()
        handler.setFormatter(JsonFormatter())
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, in ASCII and without its end."""
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        for name, value in vars(record).items():
            if name not in _RECORD_FIELDS:
                fields.setdefault(name, plain(value))
        if record.exc_text:
            fields["exception"] = record.exc_text
        elif record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            fields["stack"] = record.stack_info
        return json.dumps(fields)


def check_level(level: object) -> None:
    """Check the name of a log level.

    Raises:
        ConfigurationError: There is no such level.
    """
    if not isinstance(level, str) or level.upper() not in LOG_LEVELS:
        raise invalid_config(
            key="level", value=level, reason=f"expected one of {', '.join(LOG_LEVELS)}"
        )


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
        extra: Mapping[str, object] | None = None,
    ) -> None:
        """Count, and log unless there were too many lines of this kind recently.

        Args:
            kind: A short name from this package; there are only a few.
            level: Level of ``logging``.
            message: A format; text from outside in ``args`` must be escaped by ``printable``.
            *args: Arguments of the format.
            error: The exception whose traceback is logged.
            extra: Fields of the record, see ``JsonFormatter``.
        """
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if not self._logger.isEnabledFor(level):
            return
        note = self.admit(kind)
        if note is not None:
            self._logger.log(
                level, message + note, *args, exc_info=error, stacklevel=2, extra=extra
            )

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
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
# What every record has; anything else was passed as ``extra``.
_RECORD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"asctime", "message", "taskName"}


class _OwnHandler(logging.StreamHandler[Any]):
    """Marks the handler that :func:`setup_logging` added."""
