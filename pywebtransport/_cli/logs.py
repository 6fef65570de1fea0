"""The log of a verb, on standard error."""

from __future__ import annotations

import logging

from ..utils._logs import LOG_FORMAT, JsonFormatter

__all__ = ["configure_logging"]


def configure_logging(level: str, *, json_lines: bool) -> None:
    """Show the log of this package, and that of the application.

    This is a program, so it configures the root logger, unless the application has done so. Then
    only the lines of this package get a handler, if they have none.

    Args:
        level: Level of ``logging``.
        json_lines: See ``JsonFormatter``.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if json_lines else logging.Formatter(LOG_FORMAT))
    root, own = logging.getLogger(), logging.getLogger("pywebtransport")
    own.setLevel(level)
    if not root.handlers:
        root.addHandler(handler)
        root.setLevel(level)
    elif not own.handlers:
        own.addHandler(handler)
        own.propagate = False
