"""Limits on frames that carry nothing."""

from __future__ import annotations

from ..h3._load import Load
from ._errors import QMuxConnectionError, QMuxError

__all__ = ["QMuxLoad"]


class QMuxLoad(Load):
    """As for HTTP/3, with the error of QMux."""

    __slots__ = ()

    def excessive(self, reason: str) -> Exception:
        return QMuxConnectionError(QMuxError.PROTOCOL_VIOLATION, f"too many {reason}")
