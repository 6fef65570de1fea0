"""Hearing at once that the peer stopped reading a stream."""

from __future__ import annotations

from collections.abc import Callable

from ..stream import WebTransportSendStream

__all__ = ["unwatch", "watch"]


class _Watch:
    """Calls a function; the engine wakes it like a future.

    A task that waits for this one fact, for each call and each subscription,
    would cost more than the call itself.
    """

    __slots__ = ("_callback",)

    def __init__(self, callback: Callable[[], object]) -> None:
        self._callback = callback

    def done(self) -> bool:
        return False

    def set_result(self, result: None, /) -> None:
        self._callback()


def watch(stream: WebTransportSendStream, callback: Callable[[], object]) -> None:
    """Call ``callback`` once, when the peer stops reading, or the sending half is over.

    At once if that is so already. It runs on the event loop and must not block.
    """
    stream._quic.set_acked_waiter(_Watch(callback))


def unwatch(stream: WebTransportSendStream) -> None:
    """Do not call back any more; needed before ``wait_acknowledged``."""
    stream._quic.set_acked_waiter(None)
