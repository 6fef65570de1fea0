"""HTTP exchanges of a server's connection: how they begin, and how they end before it does."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from .memory import takes_exchange
from .presence import LOOKS, Presence
from .waiting import EagerWaiters

if TYPE_CHECKING:
    from ..h3._connection import H3Connection
    from ..h3._exchange import H3Exchange
    from .connection import WebTransportConnection

__all__ = ["finish_exchanges", "serve_exchanges"]


def serve_exchanges(connection: WebTransportConnection) -> None:
    """Server: pass the HTTP requests of a connection to its ``on_exchange``, if it has one."""
    h3 = connection.h3
    if h3 is not None and connection.on_exchange is not None:
        h3.exchange_requested = partial(_requested, connection)


def _requested(connection: WebTransportConnection, exchange: H3Exchange) -> None:
    if connection.on_exchange is not None and takes_exchange(connection, exchange):
        connection.on_exchange(connection, exchange)


async def finish_exchanges(connection: WebTransportConnection, deadline: float) -> None:
    """Server: accept no more requests; wait until open ones are answered, and answers arrived.

    Args:
        connection: The connection.
        deadline: On the clock of the running loop.

    Cancellation: safe.
    """
    h3 = connection.h3
    if h3 is None or connection.on_exchange is None:
        return
    h3.finish_goaway()
    if not (h3.exchanges or h3.unacknowledged_responses()):
        return
    loop = asyncio.get_running_loop()
    waiters = EagerWaiters(loop)
    presence = Presence(connection)
    patience = presence.patience
    h3.when_quiet = waiters.wake
    try:
        while h3.exchanges or h3.unacknowledged_responses():
            left = deadline - loop.time()
            if left <= 0:
                return
            arm = partial(_arm_responses, h3, waiters)
            if await waiters.wait(min(left, patience), arm=arm):
                continue
            if presence.is_gone():
                return
            patience = presence.patience / LOOKS
    finally:
        h3.when_quiet = None
        for stream in h3.unacknowledged_responses():
            stream.set_acked_waiter(None)


def _arm_responses(h3: H3Connection, waiters: EagerWaiters) -> None:
    """Wake ``waiters`` when a response is acknowledged."""
    if not h3.exchanges:  # else the last of them wakes the caller
        for stream in h3.unacknowledged_responses():
            stream.set_acked_waiter(waiters)
