"""What ``send`` raises in an ASGI application, and what stops its start."""

from __future__ import annotations

from .._declared import declared
from ..exceptions import ConnectionError, ServerError, WebTransportError

__all__ = ["AsgiMessageError", "ClientDisconnectedError", "LifespanError"]


@declared
class AsgiMessageError(WebTransportError, RuntimeError, category="asgi"):
    """The application sent a message that is not allowed, or not at this time.

    ``receive`` raises it when two tasks of the application wait for messages of one session.
    """


class ClientDisconnectedError(ConnectionError):
    """The client is gone, or has cancelled the request: nothing more can be sent.

    It is an ``OSError``, as ASGI demands from version 2.4 on. When it leaves the application,
    nothing is logged.
    """


class LifespanError(ServerError):
    """The application did not start: it sent ``lifespan.startup.failed``, or took too long."""
