"""What is told on a logger of a test, record by record."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

__all__ = ["recorded"]


class _Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextlib.contextmanager
def recorded(logger: logging.Logger) -> Iterator[list[logging.LogRecord]]:
    """Collect the records of a logger unchanged: other handlers must not modify them."""
    handler = _Records()
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    try:
        yield handler.records
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
        logger.setLevel(logging.NOTSET)
