"""The paths beside the metrics that say whether a process is alive and ready."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

__all__ = ["with_probes"]

_StartResponse = Callable[[str, list[tuple[str, str]]], object]
_WsgiApp = Callable[[dict[str, Any], _StartResponse], Iterable[bytes]]


def with_probes(app: _WsgiApp, why_unready: Callable[[], list[str] | None]) -> _WsgiApp:
    """Add ``/live`` and ``/ready`` to the WSGI application that serves the metrics.

    Args:
        app: The application.
        why_unready: As ``Metrics.why_unready``.
    """

    def serve(environ: dict[str, Any], start_response: _StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path not in ("/live", "/ready"):
            return app(environ, start_response)
        reasons = why_unready()
        if reasons is None:
            status, answer = HTTPStatus.SERVICE_UNAVAILABLE, {"live": False}
        elif path == "/live":
            status, answer = HTTPStatus.OK, {"live": True}
        else:
            status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
            answer = {"ready": not reasons, "reasons": reasons}  # type: ignore[dict-item]
        body = json.dumps(answer).encode()
        start_response(
            f"{status.value} {status.phrase}",
            [
                ("content-type", "application/json"),
                ("content-length", str(len(body))),
                ("cache-control", "no-store"),
            ],
        )
        return [b"" if environ.get("REQUEST_METHOD") == "HEAD" else body]

    return serve
