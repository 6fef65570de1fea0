"""Warns about certificates of the server that are not valid, or expire soon."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ..exceptions import CertificateError
from ..utils._certificates import certificate_hash
from ..utils._tls_files import certificate_validity, leaf_text

if TYPE_CHECKING:
    from ..config import ServerConfig

__all__ = ["CertificateWatch", "expiry_finding", "next_look", "with_certificates"]

# Warn in the last fifth of the validity, but not earlier than this before its end.
_SHARE = 5
_SOON = timedelta(days=30)
_DAY = timedelta(days=1)
_MARGIN = 0.002


class CertificateWatch:
    """Checks certificates now, daily, and when one of them becomes old or invalid.

    Each problem is logged as a warning when it begins.

    Attributes:
        hash: SHA-256 hash of the certificate in ``certfile``; None: it could not be read.
        texts: The certificates in PEM form, by server name; "" is that of ``certfile``.

    Args:
        config: Names the files. They are read once, since the files on disk may be replaced later
            without being loaded.
        logger: Logger of the server.
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
        try:
            self.hash: bytes | None = certificate_hash(config.certfile)
        except CertificateError:  # see above
            self.hash = None
        named = {name: pair[0] for name, pair in config.sni_certificates.items()}
        self.texts = {
            name.lower(): text
            for name, path in {"": config.certfile, **named}.items()
            if (text := leaf_text(path)) is not None
        }
        self._look()

    def text_for(self, server_name: str) -> str | None:
        """The certificate in PEM form that a client got for a name; None: it could not be read."""
        name = server_name.lower()
        _, dot, parent = name.partition(".")
        found = self.texts.get(name) or self.texts.get(f"*{dot}{parent}")
        return found or self.texts.get("")

    def findings(self) -> list[str]:
        """Current problems."""
        return [text for _, text in self._findings(datetime.now(UTC)).values()]

    def close(self) -> None:
        """Stop checking. Idempotent."""
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
        # The same time for both, or an expiry between the two would be noticed a day later.
        now = datetime.now(UTC)
        found = self._findings(now)
        for path, (kind, text) in found.items():
            if self._told.get(path) != kind:
                self._logger.warning("%s", text)
        self._told = {path: kind for path, (kind, _) in found.items()}
        delay = next_look(self._validity.values(), now).total_seconds()
        # A timer may fire a fraction of a millisecond early.
        self._timer = asyncio.get_running_loop().call_later(delay + _MARGIN, self._look)


def expiry_finding(
    path: str, start: datetime, end: datetime, now: datetime
) -> tuple[str, str] | None:
    """What is wrong with the validity of a certificate: a short name, and a sentence."""
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
    """Time until the next problem may begin or end; at most a day."""
    waits = [
        moment - now
        for start, end in validity
        for moment in (start, end - _notice(start, end), end)
        if moment > now
    ]
    return min([_DAY, *waits])


def _notice(start: datetime, end: datetime) -> timedelta:
    return min(_SOON, (end - start) / _SHARE)


def with_certificates(
    config: ServerConfig, certfile: str | None, keyfile: str | None
) -> ServerConfig:
    """A configuration with other certificate files; None: the same as before."""
    if certfile is None and keyfile is None:
        return config
    return config.update(certfile=certfile or config.certfile, keyfile=keyfile or config.keyfile)
