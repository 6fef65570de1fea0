"""The access log: one line for each session and each HTTP request."""

from __future__ import annotations

import logging
from typing import Any

from .._states import Address
from ..utils._hosts import host_and_port
from ..utils._text import printable, printable_path
from ..utils._timing import get_timestamp

__all__ = ["access_logger", "log_access"]

access_logger = logging.getLogger("pywebtransport.access")


def log_access(
    client: Address | None,
    method: str,
    path: str,
    status: int,
    started: float,
    *,
    origin: str | None,
    version: str | None = None,
    **fields: Any,
) -> None:
    """Log that a request was answered.

    Args:
        client: Address of the client.
        method: Of the request.
        path: Path and query; the query is not logged.
        status: The status that the client got.
        started: When the request came, Unix time in seconds.
        origin: ``origin`` of the request.
        version: Version of HTTP for the line, such as ``HTTP/3``; ``WebSocket`` for a session over
            WebSocket; None: a session over QUIC.
        **fields: Further fields for ``JsonFormatter``.
    """
    # Also as fields for ``JsonFormatter``.
    shown = {
        "client": host_and_port(*client) if client else "-",
        "path": printable_path(path),
        "status": status,
        "duration_ms": round((get_timestamp() - started) * 1000, 1),
        "origin": printable(origin or "-"),
    }
    request = f"{printable(method)} {shown['path']}" + (f" {version}" if version else "")
    access_logger.info(
        '%s "%s" %d %.1fms origin=%s',
        shown["client"],
        request,
        status,
        shown["duration_ms"],
        shown["origin"],
        extra={**shown, "method": printable(method), **fields},
    )
