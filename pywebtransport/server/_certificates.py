"""Tells of a server's own certificates that are out of date, or will be soon."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ..exceptions import CertificateError
from ..utils._tls_files import certificate_validity

if TYPE_CHECKING:
    from ..config import ServerConfig

__all__ = ["CertificateWatch", "expiry_finding", "next_look"]

# Warn in the last fifth of the validity, but not earlier than this before its end.
_SHARE = 5
_SOON = timedelta(days=30)
_DAY = timedelta(days=1)
_MARGIN = 0.002


class CertificateWatch:
    """Looks at certificates now, daily, and when one of them becomes old or invalid.

    A finding is a warning in the log when it begins.

    Args:
        config: Names the files. They are the ones that are in use: what is on disk may have
            been replaced since then, so they are read once.
        logger: Of the server.
    """

    def __init__(self, config: ServerConfig, logger: logging.Logger) -> None:
        self._logger = logger
        self._validity: dict[str, tuple[datetime, datetime]] = {}
        self._told: dict[str, str] = {}
        self._timer: asyncio.TimerHandle | None = None
        files = [config.certfile, *(pair[0] for pair in config.sni_certificates.values())]
        for path in files:
            try:
                self._validity[str(path)] = certificate_validity(path)
            except CertificateError as error:  # replaced or removed since it was loaded
                logger.warning("%s", error)
        self._look()

    def findings(self) -> list[str]:
        """What is wrong now."""
        return [text for _, text in self._findings(datetime.now(UTC)).values()]

    def close(self) -> None:
        """Look no more. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _findings(self, now: datetime) -> dict[str, tuple[str, str]]:
        return {
            path: found
            for path, (start, end) in self._validity.items()
            if (found := expiry_finding(path, start, end, now)) is not None
        }

    def _look(self) -> None:
        # One moment for both, or an end between the two would be seen a day later.
        now = datetime.now(UTC)
        found = self._findings(now)
        for path, (kind, text) in found.items():
            if self._told.get(path) != kind:
                self._logger.warning("%s", text)
        self._told = {path: kind for path, (kind, _) in found.items()}
        delay = next_look(self._validity.values(), now).total_seconds()
        # A timer may be early by a part of a millisecond.
        self._timer = asyncio.get_running_loop().call_later(delay + _MARGIN, self._look)


def expiry_finding(
    path: str, start: datetime, end: datetime, now: datetime
) -> tuple[str, str] | None:
    """What is wrong with a certificate's time: a short name, and a sentence."""
    name = f"certificate {path!r}"
    if now < start:
        return "early", f"{name} is not valid before {start:%Y-%m-%d %H:%M} UTC"
    if now >= end:
        return "expired", (
            f"{name} expired on {end:%Y-%m-%d %H:%M} UTC; replace it and call reload_certificates()"
        )
    if now >= end - _notice(start, end):
        return "soon", f"{name} expires on {end:%Y-%m-%d %H:%M} UTC"
    return None


def next_look(validity: Iterable[tuple[datetime, datetime]], now: datetime) -> timedelta:
    """How long until the next finding may begin or end; a day at most."""
    waits = [
        moment - now
        for start, end in validity
        for moment in (start, end - _notice(start, end), end)
        if moment > now
    ]
    return min([_DAY, *waits])


def _notice(start: datetime, end: datetime) -> timedelta:
    return min(_SOON, (end - start) / _SHARE)
