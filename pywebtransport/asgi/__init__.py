"""ASGI applications on HTTP/3: ``ServerApp.mount(app)`` serves one beside your routes."""

from __future__ import annotations

from ._attach import AttachedApp, attach
from ._errors import AsgiMessageError, ClientDisconnectedError, LifespanError
from ._router import WebTransportRouter
from ._session import Session

__all__ = [
    "AsgiMessageError",
    "AttachedApp",
    "ClientDisconnectedError",
    "LifespanError",
    "Session",
    "WebTransportRouter",
    "attach",
]
