"""Types of the ASGI interface."""

from __future__ import annotations

from ..server._protocols import AsgiApp, Message, Receive, Scope, Send

__all__ = ["AsgiApp", "Message", "Receive", "Scope", "Send"]
