"""Opens sessions of clients that keep them, by a function of the application or without one."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from .._states import URL
from ..exceptions import invalid_config
from ..session import WebTransportSession

__all__ = ["Connect", "open_session"]

Connect: TypeAlias = Callable[[Any, URL], Awaitable[WebTransportSession]]
"""``async def connect(client, url)``, with a ``WebTransportClient``."""


async def open_session(connect: Connect | None, client: Any, url: URL) -> WebTransportSession:
    """Open a session.

    Args:
        connect: Opens it; None: ``client.connect(url)``.
        client: The client below.
        url: The URL.

    Raises:
        ConfigurationError: ``connect`` is no coroutine function, or returns something else.
        Otherwise what ``connect`` raises.
    """
    made: Any = client.connect(url) if connect is None else connect(client, url)
    if not inspect.isawaitable(made):
        raise invalid_config(
            key="connect", value=connect, reason="expected 'async def connect(client, url)'"
        )
    session: Any = await made
    if not isinstance(session, WebTransportSession):
        raise invalid_config(
            key="connect",
            value=connect,
            reason=f"it returned a {type(session).__name__}, expected a WebTransportSession",
        )
    return session
