"""Time of day and durations."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Self

from ..exceptions import invalid_config
from ._checks import check_number

__all__ = [
    "Timer",
    "format_duration",
    "format_timestamp",
    "get_timestamp",
]


class Timer:
    """Measures a duration in seconds; also a context manager.

    Attributes:
        name: Name for logs.
        start_time: When it was started, on the clock of ``time.perf_counter``.
        end_time: When it was stopped; None while it runs.
    """

    def __init__(self, name: str = "timer") -> None:
        self.name = name
        self.start_time: float | None = None
        self.end_time: float | None = None

    @property
    def elapsed(self) -> float:
        """Seconds from start to stop, or until now; 0.0 before the start."""
        if self.start_time is None:
            return 0.0
        end = time.perf_counter() if self.end_time is None else self.end_time
        return end - self.start_time

    def start(self) -> None:
        """Start, or start again."""
        self.end_time = None
        self.start_time = time.perf_counter()

    def stop(self) -> float:
        """Stop and return the seconds.

        Raises:
            RuntimeError: It was not started.
        """
        if self.start_time is None:
            raise RuntimeError(f"timer {self.name!r} was not started")
        self.end_time = time.perf_counter()
        return self.elapsed

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()


def get_timestamp() -> float:
    """Return the time in seconds since the epoch."""
    return time.time()


def format_duration(seconds: float) -> str:
    """Format a duration (seconds) in suitable units: ``850.0us``, ``12.3ms``, ``1h 2m 3s``.

    Raises:
        ConfigurationError: It is not a finite number.
    """
    check_number("seconds", seconds)
    if seconds < 0:
        return "-" + format_duration(-seconds)
    if seconds < 1e-3:
        return f"{seconds * 1e6:.1f}us"
    if seconds < 1:
        return f"{seconds * 1e3:.1f}ms"
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes}m {rest}s" if hours else f"{minutes}m {rest}s"


def format_timestamp(timestamp: float) -> str:
    """Format a time (seconds since the epoch) as ISO 8601 in UTC, with milliseconds.

    Raises:
        ConfigurationError: It is not a number, or not in the years 1 to 9999.
    """
    check_number("timestamp", timestamp)
    try:
        return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="milliseconds")
    except (OSError, OverflowError, ValueError):
        raise invalid_config(
            key="timestamp", value=timestamp, reason="expected a time in the years 1 to 9999"
        ) from None
