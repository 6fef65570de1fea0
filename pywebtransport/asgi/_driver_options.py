"""What the drivers of the TCP side need of a mounted application."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .._states import Address

__all__ = ["DriverOptions"]


@dataclass(kw_only=True, frozen=True)
class DriverOptions:
    """What drivers need of the application, besides ``FrontOptions``.

    Attributes:
        max_message: Bytes of the largest WebSocket message.
        ping_interval: Seconds between two pings, and for the answer to one; None: no pings.
        unreadable: A driver calls it before it answers a request that it could not read, with the
            address of the client, the port of this end, and the status. The result is the
            ``alt-svc`` header of the answer.
    """

    max_message: int
    ping_interval: float | None
    unreadable: Callable[[Address | None, int, int], tuple[bytes, bytes]]
