"""Compatibility name: a client with a history, like the tab of a browser."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from .._states import URL
from ..exceptions import ClientError
from ..utils._closing import AsyncCloseable
from ..utils.urls import parse_webtransport_url
from .client import WebTransportClient

if TYPE_CHECKING:
    from ..config import ClientConfig
    from ..session import WebTransportSession

__all__ = ["WebTransportBrowser"]

# URLs that the history remembers; the oldest is forgotten first.
_MAX_HISTORY = 50


class WebTransportBrowser(AsyncCloseable):
    """One session at a time, and the way back to where one was before.

    A new session is opened before the old one is closed, so that a navigation
    that fails, or is cancelled, changes nothing. Calls made at the same time
    run one after the other.
    """

    def __init__(self, config: ClientConfig | None = None) -> None:
        """A browser without a session.

        Args:
            config: Of the client below; default ``ClientConfig()``.

        Raises:
            ConfigurationError: A field of ``config`` is out of range.
        """
        self._client = WebTransportClient(config=config)
        self._session: WebTransportSession | None = None
        self._history: list[URL] = []
        self._position = -1
        self._lock = asyncio.Lock()

    @classmethod
    def create(cls, config: ClientConfig | None = None) -> Self:
        """As the constructor."""
        return cls(config=config)

    @property
    def current_session(self) -> WebTransportSession | None:
        """The session of the last navigation; None before the first and after ``close``.

        When the server or the network ended it, ``refresh`` opens it again.
        """
        return self._session

    @property
    def is_closed(self) -> bool:
        """``close`` was called."""
        return self._client.is_closed

    async def navigate(self, url: URL) -> WebTransportSession:
        """Open a session to ``url`` and close the one before.

        What was ahead in the history is forgotten.

        Args:
            url: ``https://host[:port]/path?query``.

        Returns:
            The new current session.

        Raises: as ``WebTransportClient.connect``; the old session then stays.

        Cancellation: safe; either the old or the new session is current, and no
        other is open.
        """
        parse_webtransport_url(url)
        self._client.home_loop.enter()
        async with self._lock:
            kept = [*self._history[: self._position + 1], url][-_MAX_HISTORY:]
            return await self._show(url, kept, len(kept) - 1)

    async def back(self) -> WebTransportSession | None:
        """Navigate to the URL before; None when there is none.

        Raises and cancellation: as ``navigate``.
        """
        return await self._go(-1)

    async def forward(self) -> WebTransportSession | None:
        """Navigate to the URL that ``back`` left; None when there is none.

        Raises and cancellation: as ``navigate``.
        """
        return await self._go(1)

    async def refresh(self) -> WebTransportSession | None:
        """Open a new session to the current URL; None before the first navigation.

        Raises and cancellation: as ``navigate``.
        """
        return await self._go(0)

    async def get_history(self) -> list[str]:
        """The URLs that were navigated to and those ahead, oldest first; at most 50.

        Cancellation: does not wait, so there is nothing to cancel.
        """
        return list(self._history)

    async def close(self) -> None:
        """Close the session; a navigation that is under way fails. Idempotent.

        Cancellation: everything is released all the same.
        """
        if not self._client.home_loop.is_gone:
            self._client.home_loop.enter()
        self._session = None
        await self._client.close()

    async def __aenter__(self) -> Self:
        if self._client.is_closed:
            raise ClientError("the browser is closed; make a new one")
        return self

    # ------------------------------------------------------------------ internal

    async def _go(self, step: int) -> WebTransportSession | None:
        self._client.home_loop.enter()
        async with self._lock:
            position = self._position + step
            if not 0 <= position < len(self._history):
                return None
            return await self._show(self._history[position], self._history, position)

    async def _show(self, url: URL, history: list[URL], position: int) -> WebTransportSession:
        session = await self._client.connect(url)
        old, self._session = self._session, session
        self._history, self._position = history, position
        if old is not None:
            await old.close()
        return session
