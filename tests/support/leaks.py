"""What a clean test leaves behind: nothing. Descriptors, threads, engine objects, error logs."""

from __future__ import annotations

import gc
import logging
import os
import re
import sys
import threading

LOGGERS = ("", "pywebtransport")
# A thread that was told to stop gets this many seconds to do so: libraries do not join theirs.
THREAD_END = 10.0


class ExpectedLogs:
    """Patterns of ERROR records that a test provokes; each must come, and no others may."""

    def __init__(self) -> None:
        self.patterns: list[re.Pattern[str]] = []

    def __call__(self, pattern: str) -> None:
        """Expect at least one ERROR record whose message contains ``pattern``."""
        self.patterns.append(re.compile(pattern))


class _Errors(logging.Handler):
    """Keeps ERROR records; a record that reaches it twice counts once.

    Records become text at once: an exception in one would keep every object of its frames.
    """

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            if not record.exc_text:
                record.exc_text = logging.Formatter().formatException(record.exc_info)
            record.exc_info = None
        record.msg, record.args = record.getMessage(), None
        if record.levelno >= logging.ERROR and record not in self.records:
            self.records.append(record)


class LeakCheck:
    """Takes stock when made; ``finish`` tells what is there that was not."""

    def __init__(self) -> None:
        self._descriptors = open_descriptors()
        self._threads = set(threading.enumerate())
        self._objects = engine_objects()
        self._errors = _Errors()
        # A client or server with a log_level sets the level for the whole process.
        self._level = logging.getLogger("pywebtransport").level
        for name in LOGGERS:
            logging.getLogger(name).addHandler(self._errors)

    def close(self) -> None:
        """Stop listening to logs."""
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(self._errors)
        logging.getLogger("pywebtransport").setLevel(self._level)

    def problems(self, expected: ExpectedLogs | None) -> list[str]:
        """One sentence per thing that was left behind or logged."""
        found = []
        if more_objects(self._objects, engine_objects()):
            gc.collect()
        if more := more_objects(self._objects, engine_objects()):
            found.append(f"engine objects left: {more}")
        descriptors = open_descriptors() - self._descriptors
        if descriptors:
            found.append(f"file descriptors left open: {sorted(descriptors)}")
        if threads := threads_left(self._threads):
            found.append(f"threads left: {threads}")
        return found + self._log_problems([] if expected is None else expected.patterns)

    def _log_problems(self, patterns: list[re.Pattern[str]]) -> list[str]:
        messages = [f"{record.name}: {record.getMessage()}" for record in self._errors.records]
        surprises = [
            f"ERROR log: {message}"
            for message in messages
            if not any(pattern.search(message) for pattern in patterns)
        ]
        missing = [
            f"expected an ERROR log like {pattern.pattern!r}"
            for pattern in patterns
            if not any(pattern.search(message) for message in messages)
        ]
        return surprises + missing


def engine_objects() -> dict[str, int]:
    """Live objects of the engine; none when it was never imported."""
    quic = sys.modules.get("pywebtransport._quic")
    return quic.live_objects() if quic is not None else {}


def more_objects(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """How many were added, by kind. Fewer are no problem: a failed test keeps some for a while."""
    growth = {kind: count - before.get(kind, 0) for kind, count in after.items()}
    return {kind: count for kind, count in growth.items() if count > 0}


def threads_left(before: set[threading.Thread]) -> list[threading.Thread]:
    """Threads that are there in addition and do not end."""
    threads = [thread for thread in threading.enumerate() if thread not in before]
    for thread in threads:
        thread.join(THREAD_END)
    return [thread for thread in threads if thread.is_alive()]


def open_descriptors() -> set[tuple[int, str]]:
    """(number, target) of every open file descriptor."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add((int(name), os.readlink(f"/proc/self/fd/{name}")))
        except FileNotFoundError:
            continue  # the one that listed the directory
    return found
