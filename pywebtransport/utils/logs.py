"""Loggers; the root logger is never touched."""

from __future__ import annotations

import logging
from typing import Any

from pywebtransport.constants import DEFAULT_LOG_LEVEL, LOG_LEVELS
from pywebtransport.exceptions import invalid_config

__all__ = [
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
