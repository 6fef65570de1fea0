"""Callers that wait for news of a peer, and continue in the turn that brings it."""

from __future__ import annotations

import asyncio
from typing import Any

from .._quic import EagerTurn
from ..utils._waiters import Waiters

__all__ = ["EagerWaiters", "eager_future"]


def eager_future(loop: asyncio.AbstractEventLoop) -> asyncio.Future[Any]:
    """Create a future: if it is done while packets are read, its task continues in that turn."""
    return EagerTurn.of(loop).create_future(loop)


class EagerWaiters(Waiters):
    """As ``Waiters``, with futures of :func:`eager_future`."""

    __slots__ = ()

    def _create(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[bool]:
        return eager_future(loop)
