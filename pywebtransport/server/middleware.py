"""The chain of checks that a session request passes before it is accepted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..types import MiddlewareProtocol

if TYPE_CHECKING:
    from ..session import WebTransportSession

__all__ = ["MiddlewareManager"]


class MiddlewareManager:
    """Runs middleware in the order it was added; the first refusal ends the chain."""

    def __init__(self) -> None:
        """An empty chain."""
        self._chain: list[MiddlewareProtocol] = []

    def add_middleware(self, middleware: MiddlewareProtocol) -> None:
        """Append ``async def middleware(session) -> bool``."""
        self._chain.append(middleware)

    def remove_middleware(self, middleware: MiddlewareProtocol) -> None:
        """Remove it from the chain; nothing happens if it is not there."""
        if middleware in self._chain:
            self._chain.remove(middleware)

    def get_middleware_count(self) -> int:
        """Length of the chain."""
        return len(self._chain)

    async def process_request(self, session: WebTransportSession) -> bool:
        """Ask each in turn.

        Returns:
            False as soon as one returned a false value, else True.

        Raises:
            SessionRejectedError: A middleware refused with a status of its own.
            Exception: Whatever else a middleware raised.

        Cancellation: as safe as the middleware.
        """
        for middleware in tuple(self._chain):
            if not await middleware(session=session):
                return False
        return True
