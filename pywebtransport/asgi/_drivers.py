"""The servers that can be a ``TcpFront``: imported when one is used."""

from __future__ import annotations

from ..server._front import FrontOptions, TcpFront
from ..utils._extras import require
from ._driver_options import DriverOptions
from ._types import AsgiApp

__all__ = ["make_front", "require_front"]


def require_front(*, http2: bool) -> None:
    """Check that the packages of a front are installed.

    Args:
        http2: As for ``make_front``.

    Raises:
        ConfigurationError: One is missing; the message has the command that installs it.
    """
    if http2:
        require("hypercorn", extra="http2")
        return
    require("uvicorn", extra="asgi")
    require("httptools", extra="asgi")
    require("wsproto", extra="asgi")


def make_front(
    app: AsgiApp, options: FrontOptions, driver_options: DriverOptions, *, http2: bool
) -> TcpFront:
    """Return a front that serves an application, in the running event loop.

    Args:
        app: Called with the scopes ``http`` and ``websocket``, not with ``lifespan``.
        options: Of the front.
        driver_options: Of the application.
        http2: Speak HTTP/2, too: by hypercorn instead of uvicorn.

    Raises:
        ConfigurationError: A package is missing.
    """
    require_front(http2=http2)
    if http2:
        from ._hypercorn import HypercornFront

        return HypercornFront(app, options, driver_options)
    from ._uvicorn import UvicornFront

    return UvicornFront(app, options, driver_options)
